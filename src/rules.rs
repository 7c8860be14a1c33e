//! How a call is made from [`Value`]s: the marshalling rules, written once and
//! read in two ways. Read live they are the interpreter; recorded they are what
//! is compiled.

use std::mem::offset_of;
use std::sync::Arc;

use hotcall_core::{CType, PreparedCall, Value};
use hotcall_tracer::{Field, Mem, Ops, Refusal};
use smallvec::SmallVec;

use crate::function::{Outcome, Record};

/// A call has too many values, or too few.
const VALUE_COUNT: Refusal =
    Refusal::new("value-count", "pass one value for each argument of the signature");
/// A value is not of its argument's type.
const VALUE_TYPE: Refusal =
    Refusal::new("value-type", "pass values of the signature's types; nothing is converted");

/// How many arguments a function may have: offsets into its values fit an `i32`.
pub(crate) const MOST_ARGS: usize = i32::MAX as usize / size_of::<Value>() - 1;

/// The address of the foreign function.
const TARGET: Field = Field::new("function.target", offset_of!(Record, target) as i32, Mem::I64);

/// The tag of the `index`-th value of an array.
fn tag(index: usize) -> Field {
    nth(index, Field::new("arg.tag", Value::TAG_OFFSET as i32, Mem::I64))
}

/// The payload of the `index`-th value of an array, which is of type `mem`.
fn payload(index: usize, mem: Mem) -> Field {
    nth(index, Field::new("arg.value", Value::PAYLOAD_OFFSET as i32, mem))
}

/// A field of the first value, in the `index`-th value. [`MOST_ARGS`] lets it fit.
fn nth(index: usize, field: Field) -> Field {
    let offset = field.offset + (index * size_of::<Value>()) as i32;
    Field { index: Some(index as u32), offset, ..field }
}

/// The field of the memory for a struct that a function returns.
const RESULT: Field = Field::new("result", offset_of!(Outcome, result) as i32, Mem::I64);

/// The tag of a value that is given for an argument: a struct is given by its
/// address. None for a type without values.
pub(crate) fn tag_for(ctype: CType) -> Option<u64> {
    Value::tag_of(if ctype.as_struct().is_some() { CType::Pointer } else { ctype })
}

/// How a value of type `ctype` lies in memory; none for void and long double.
const fn mem(ctype: CType) -> Option<Mem> {
    Some(match ctype {
        CType::I8 => Mem::I8,
        CType::Bool | CType::U8 => Mem::U8,
        CType::I16 => Mem::I16,
        CType::U16 => Mem::U16,
        CType::I32 => Mem::I32,
        CType::U32 => Mem::U32,
        CType::I64 | CType::U64 | CType::Pointer | CType::Struct(_) => Mem::I64,
        CType::F32 => Mem::F32,
        CType::F64 => Mem::F64,
        _ => return None,
    })
}

/// Calls a function with the array of `count` values at `args`, and gives the
/// word of its result. The last word is the address of the function's
/// [`Record`]: as the target is read there, equal signatures have equal traces.
/// The word before it is the address of the call's [`Outcome`].
///
/// All checks come before all payloads, so that no payload waits in a register
/// for the check of another.
///
/// # Errors
/// What refuses the call; the function was not called then.
#[inline(always)]
pub(crate) fn call<O: Ops>(
    ops: &mut O,
    call: &Arc<PreparedCall>,
    [args, count, outcome, record]: [O::Word; 4],
) -> Result<O::Word, Refusal> {
    let signature = call.signature();
    if !ops.test_is(count, signature.args().len() as u64) {
        return Err(VALUE_COUNT);
    }
    for (index, ctype) in signature.args().iter().enumerate() {
        let given = ops.load(args, tag(index));
        if !ops.test_is(given, tag_for(*ctype).ok_or(VALUE_TYPE)?) {
            return Err(VALUE_TYPE);
        }
    }
    let mut words: SmallVec<[O::Word; 16]> = SmallVec::new();
    for (index, ctype) in signature.args().iter().enumerate() {
        let word = ops.load(args, payload(index, mem(*ctype).ok_or(VALUE_TYPE)?));
        match ctype {
            CType::Struct(of) if !of.words(signature.abi()).is_empty() => {
                for offset in (0..of.size()).step_by(8) {
                    words.push(ops.load_bytes(word, offset, (of.size() - offset).min(8)));
                }
            }
            _ => words.push(word),
        }
    }
    let target = ops.load(record, TARGET);
    let result = ops.call(call, target, &words);
    if let CType::Struct(of) = signature.result() {
        let place = ops.load(outcome, RESULT);
        copy(ops, result, place, of.size());
        return Ok(ops.constant(0));
    }
    Ok(payload_of(ops, signature.result(), result))
}

/// Copies the bytes of a struct.
fn copy<O: Ops>(ops: &mut O, from: O::Word, to: O::Word, size: usize) {
    let mut done = 0;
    while done < size {
        let mem = Mem::widest(size - done);
        let field = Field::new("bytes", done as i32, mem);
        let part = ops.load(from, field);
        ops.store(to, field, part);
        done += mem.size() as usize;
    }
}

/// The word of a result: its low bytes are the payload of a value. A bool has
/// to be 0 or 1 there; the bits above other payloads are free.
#[inline(always)]
fn payload_of<O: Ops>(ops: &mut O, ctype: CType, result: O::Word) -> O::Word {
    match ctype {
        CType::Void => ops.constant(0),
        CType::Bool => {
            let byte = ops.extend(Mem::U8, result);
            let zero = ops.constant(0);
            ops.ne(byte, zero)
        }
        CType::F32 => ops.bits32(result),
        CType::F64 => ops.bits(result),
        _ => result,
    }
}
