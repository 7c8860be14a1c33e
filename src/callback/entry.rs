//! The code of a callback: what the trampoline that is bound to its record leads to.
//!
//! There are two kinds. Where all arguments are in registers, and the context fits
//! before them, a function of their types takes them as they are. In all other cases a
//! stub puts their words into its frame and calls the handler that the record names;
//! one serves all callbacks of a signature.

use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::Arc;

use hotcall_asm::{Jit, Trampoline};
use hotcall_core::{CType, Place, PreparedCall, Signature};
use hotcall_tracer::{Data, Field, Mem, Op, Refusal, Trace, Val};

use super::bound::Shared;

/// What takes the words of the arguments.
const HANDLER: Field = Field::new("callback.handler", offset_of!(Shared, handler) as i32, Mem::I64);
/// The words of the arguments.
const WORDS: Field = Field::new("words", 0, Mem::I64);
/// The size of a word in bytes.
const WORD: usize = size_of::<u64>();

/// libffi does not describe what the stub calls.
const HANDLER_TYPE: Refusal =
    Refusal::new("handler-type", "the type of callback handlers is unknown here; this is a bug");

/// A function that leads to what `shared` names, whose address is `context`.
///
/// # Errors
/// Why there is no code for it.
pub(super) fn bind(
    jit: &Jit,
    shared: &Shared,
    context: *const c_void,
) -> Result<Trampoline, Refusal> {
    let signature = &shared.signature;
    let target = match shared.direct.filter(|_| is_in_registers(signature)) {
        Some(direct) => direct.addr() as u64,
        None => jit.compile_callback(&trace(signature)?, signature)?.entry(),
    };
    jit.trampoline(target, context.expose_provenance() as u64)
}

/// Whether all arguments are scalars in registers, of which one is left over.
fn is_in_registers(signature: &Signature) -> bool {
    let args: Vec<CType> = [CType::Pointer].iter().chain(signature.args()).copied().collect();
    let places = signature.abi().places(&args, signature.result());
    let in_register = |place: &Place| matches!(place, Place::Gp(_) | Place::Fp(_));
    !signature.has_structs() && places.is_ok_and(|places| places.args.iter().all(in_register))
}

/// What a stub does that gathers the words.
fn trace(signature: &Signature) -> Result<Trace, Refusal> {
    let handler = Signature::new([CType::Pointer; 3], CType::U64);
    let handler = handler.and_then(|handler| PreparedCall::new(&handler));
    let handler = Arc::new(handler.map_err(|_| HANDLER_TYPE)?);

    let mut trace = Trace::default();
    let memory = usize::from(signature.result().as_struct().is_some());
    let words = 1 + memory + signature.words();
    let params: Vec<Val> =
        (0..words as u64).map(|index| trace.push(Op::Param, vec![], Data::Imm(index))).collect();
    let (context, params) = (params[0], &params[1..]);
    let (memory, words) = params.split_at(memory);
    let bytes = (words.len() * WORD).next_multiple_of(16).max(16);
    let place = trace.push(Op::Scratch, vec![], Data::Imm(bytes as u64));
    for (word, index) in words.iter().zip(0..) {
        trace.push(Op::Store, vec![place, *word], Data::Field(WORDS.item(index)));
    }
    let result = match memory {
        [memory] => *memory,
        _ => trace.push(Op::Const, vec![], Data::Imm(0)),
    };
    let target = trace.push(Op::Load, vec![context], Data::Field(HANDLER));
    let args = vec![target, context, result, place];
    let word = trace.push(Op::Call, args, Data::Call(handler));
    trace.push(Op::Ret, vec![word], Data::None);
    Ok(trace)
}
