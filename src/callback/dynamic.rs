//! Closures that take values: what they get is made of the words of a call.

#![allow(unsafe_code, reason = "reads the words of a call")]

use std::ptr;

use hotcall_core::{CType, Handler, Signature, Value};
use smallvec::SmallVec;

use super::bound::{Calls, enter};

/// By values.
pub(super) struct Dynamic;

/// The handler of a closure that takes values, with that.
pub(super) fn gives_value<F>(closure: F) -> (Handler, Option<*const ()>, F)
where
    F: Fn(&[Value], &mut [u8]) -> Value + Send + Sync,
{
    (enter::<F, Dynamic>, None, closure)
}

/// A struct of two words that is aligned to more than a word.
#[repr(align(16))]
struct Aligned {
    _words: [u64; 2],
}

impl<F: Fn(&[Value], &mut [u8]) -> Value> Calls<F> for Dynamic {
    unsafe fn call(closure: &F, signature: &Signature, result: *mut u8, words: *const u64) -> u64 {
        let mut args = SmallVec::<[Value; 8]>::new();
        // Words are aligned like words; the structs that want more are moved here. There
        // is room for all, so that none is moved again.
        let count = signature.args().iter().filter(|arg| arg.align() > align_of::<u64>()).count();
        let mut moved = Vec::<Aligned>::with_capacity(count);
        let mut at = words;
        for arg in signature.args() {
            let classes = arg.classes(signature.abi());
            // SAFETY: the caller promises a word for each scalar, and for the address of
            // a struct in memory.
            let word = || unsafe { *at };
            args.push(match (arg.as_struct(), classes) {
                (Some(of), [_, _]) if of.align() > align_of::<u64>() => {
                    let place = moved.as_mut_ptr().wrapping_add(moved.len());
                    // SAFETY: the caller promises two words.
                    moved.push(Aligned { _words: unsafe { *at.cast() } });
                    Value::Pointer(place.cast())
                }
                (Some(_), [_, ..]) => Value::Pointer(at.cast_mut().cast()),
                (Some(_), []) => Value::Pointer(ptr::with_exposed_provenance_mut(word() as usize)),
                (None, _) => Value::from_word(*arg, word()).expect("a scalar is a value"),
            });
            at = at.wrapping_add(classes.len().max(1));
        }
        let (size, expected) = match signature.result() {
            CType::Struct(of) => (of.size(), CType::Void),
            scalar => (0, scalar),
        };
        let mut none = [];
        let bytes = match size {
            0 => &mut none[..],
            _ => {
                // SAFETY: the caller promises memory for a struct.
                unsafe { ptr::write_bytes(result, 0, size) };
                // SAFETY: as above; nobody else has it until this returns.
                unsafe { std::slice::from_raw_parts_mut(result, size) }
            }
        };
        let value = closure(&args, bytes);
        let given = value.ctype();
        assert!(given == expected, "a callback of type `{signature}` gave a value of type {given}");
        value.word()
    }
}
