//! Callbacks: Python callables that C calls. ctypes makes a function object whose
//! *thunk* has a libffi closure; C is given the closure's address.
//!
//! A function that is made while hotcall is installed gets another address before
//! anyone has read it: that of a trampoline, which leads to the closure at first,
//! and to a native entry once callbacks of its shape are hot. The closure of every
//! thunk, older ones too, leads to [`closure`], which reads the rules.
//!
//! **Invariant.** A thunk is the context of its trampoline. Whoever keeps a
//! function pointer alive, by ctypes' own rules, keeps the thunk; the trampoline
//! lives as long.
//!
//! # Safety
//! Thunks are forgotten before they are freed, and the GIL is held but where C
//! enters.

#![allow(unsafe_code, reason = "is called by C, and patches thunks of ctypes")]

pub(crate) mod calling;
pub(crate) mod check;
pub(crate) mod failures;
pub(crate) mod report;
pub(crate) mod shape;
mod site;
pub(crate) mod thunks;
pub(crate) mod unboxing;

use std::sync::Arc;

use hotcall::Machine;
use hotcall_core::{Abi, CType};
use hotcall_tracer::{Host, Mem};

use crate::gil_entry;
use crate::runtime::runtime;

pub(crate) use self::failures::Closure;
pub(crate) use self::site::{CallbackSite, Callbacks, counter};

/// What libffi calls for each closure of ctypes: an argument is a place where the
/// value lies, and the result is a word.
pub(crate) unsafe extern "C-unwind" fn closure(
    cif: u64,
    result: *mut u64,
    args: *const *const u8,
    thunk: u64,
) {
    // SAFETY: what it gives is handed back below.
    let entered = unsafe { gil_entry::enter() };
    let runtime = runtime();
    let site = runtime.and_then(|runtime| runtime.callbacks.site(thunk));
    match (runtime, site) {
        (Some(runtime), Some(site)) => {
            let words = words(&site, args);
            let word = site.run(runtime, thunk, &words);
            if site.shape.result.is_some() {
                // SAFETY: libffi has room for a word there.
                unsafe { result.write(word) };
            }
        }
        // SAFETY: the arguments that libffi gave us.
        _ => unsafe { failures::closure()(cif, result, args, thunk) },
    }
    // SAFETY: what was got above.
    unsafe { gil_entry::leave(entered) };
}

/// The words of the arguments at these places.
fn words(site: &Arc<CallbackSite>, args: *const *const u8) -> Vec<u64> {
    // SAFETY: only memory of the arguments is loaded from.
    let mut machine = unsafe { Machine::new() };
    let mut words = Vec::new();
    for (index, ctype) in site.signature.args().iter().enumerate() {
        // SAFETY: there is a place for each argument.
        let place = unsafe { args.wrapping_add(index).read() } as u64;
        match ctype {
            CType::Struct(of) if of.words(Abi::HOST).is_empty() => words.push(place),
            CType::Struct(of) => {
                for start in (0..of.size()).step_by(8) {
                    words.push(low_bytes(&mut machine, place + start as u64, of.size() - start));
                }
            }
            scalar => {
                let word = low_bytes(&mut machine, place, scalar.size());
                words.push(scalar.canonical(word));
            }
        }
    }
    words
}

/// The bytes at an address, at most 8 and none behind `size`, as a word.
fn low_bytes(machine: &mut Machine, address: u64, size: usize) -> u64 {
    let size = size.min(8);
    let byte = |at: usize| machine.load(Mem::U8, address + at as u64) << (8 * at);
    match size {
        8 => machine.load(Mem::I64, address),
        _ => (0..size).map(byte).fold(0, |word, byte| word | byte),
    }
}
