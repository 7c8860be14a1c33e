//! The helpers that end a callback: they make the C value of what the callable
//! gave, and give up the references to that, to the arguments and to the thunk.
//! The usual objects are read at once, others by the setter of the type itself.
//!
//! # Safety
//! The rule, which alone calls them, gives the words of `CALL` and its result, and
//! the GIL is held.

#![allow(unsafe_code, reason = "calls into ctypes with raw objects")]

use std::iter;

use hotcall::Machine;
use hotcall_tracer::{Effect, Entry, Helper, Live};

use crate::callbacks::calling::arguments;
use crate::callbacks::failures::{self, Stage};
use crate::capi;
use crate::declare::{Kind, info};
use crate::layout::{self, OB_TYPE};
use crate::raw::{self, Object};
use crate::rules::numbers;
use crate::runtime::runtime;

/// Defines a [`Helper`] per row: words are the thunk, the memory of the arguments,
/// their number, and the result, or 0. It gives the word of the result; 0 of 0.
macro_rules! helpers {
    ($($(#[$doc:meta])* $name:ident $text:literal $function:ident $unbox:ident;)*) => {$(
        $(#[$doc])* static $name: Helper =
            Helper { name: $text, entry: Entry::WWWWW($function), effect: Effect::Effect };

        unsafe extern "C-unwind" fn $function(
            thunk: u64,
            memory: u64,
            count: u64,
            result: u64,
        ) -> u64 {
            // SAFETY: the rule holds a reference to the thunk.
            let word = $unbox(unsafe { Object::at(thunk) }, result);
            settle(thunk, memory, count, result);
            word
        }
    )*};
}

helpers! {
    /// Nothing is made of it.
    NOTHING "settle" settle_nothing nothing;
    /// An integer.
    INT "settle_int" settle_int int;
    /// A double.
    DOUBLE "settle_double" settle_double double;
    /// A value of any simple type.
    OTHER "settle_other" settle_other other;
}

/// The helper for results of a kind.
pub(crate) fn helper(kind: Option<Kind>) -> &'static Helper {
    match kind {
        None => &NOTHING,
        Some(Kind::Int(_)) => &INT,
        Some(Kind::F64) => &DOUBLE,
        Some(_) => &OTHER,
    }
}

/// Gives up the references that a callback has.
fn settle(thunk: u64, memory: u64, count: u64, result: u64) {
    let made = arguments(memory, count).iter().copied();
    for object in iter::once(result).chain(made).filter(|object| *object != 0) {
        // SAFETY: the callable gave the result, and the rule made the others.
        unsafe { raw::release(object) };
    }
    // SAFETY: the rule took this reference.
    unsafe { raw::release(thunk) };
}

fn nothing(_: Object, _: u64) -> u64 {
    0
}

fn int(thunk: Object, result: u64) -> u64 {
    match runtime() {
        Some(runtime) if is_exactly(result, &raw const capi::PyLong_Type) => {
            // SAFETY: the rule of integers reads an exact int.
            let mut machine = unsafe { Machine::new() };
            numbers::integer(&mut Live { host: &mut machine }, &runtime.known, result)
        }
        _ => other(thunk, result),
    }
}

fn double(thunk: Object, result: u64) -> u64 {
    match is_exactly(result, &raw const capi::PyFloat_Type) {
        // SAFETY: an exact float.
        true => unsafe { Object::at(result) }.word(layout::FLOAT_VALUE),
        false => other(thunk, result),
    }
}

/// Whether a result, which may be 0, is of just this class.
fn is_exactly(result: u64, class: *const u8) -> bool {
    // SAFETY: the callable gave it.
    result != 0 && unsafe { Object::at(result) }.word(OB_TYPE) == class as u64
}

/// A setter of ctypes: writes an object's value of so many bytes to an address.
/// Gives an object to be kept while the value is used, or 0 with an exception set.
type Setter = unsafe extern "C-unwind" fn(to: *mut u64, value: u64, size: isize) -> u64;

fn other(thunk: Object, result: u64) -> u64 {
    let restype = thunk.object(layout::THUNK_RESTYPE).filter(|_| result != 0);
    let (Some(runtime), Some(restype)) = (runtime(), restype) else { return 0 };
    let known = &runtime.known;
    let size = info(&known.layout, restype).word(known.layout.info_size);
    let setter = thunk.word(layout::THUNK_SETFUNC) as usize;
    // SAFETY: the row has a setter of ctypes, since the class is a simple type.
    let setter = unsafe { std::mem::transmute::<usize, Setter>(setter) };
    let mut word = 0;
    // SAFETY: a simple type has at most 8 bytes: long doubles are refused.
    let kept = unsafe { setter(&mut word, result, size as isize) };
    let is_object = known.kinds.of_class(restype) == Some(Kind::Object);
    dispose(thunk.word(layout::THUNK_CALLABLE), kept, is_object);
    if kept == 0 { 0 } else { word }
}

/// Does with what has to be kept as ctypes does: C gets the reference to an object
/// that it is given; other objects are lost, which is said.
fn dispose(callable: u64, kept: u64, is_object: bool) {
    match kept {
        0 => failures::report(Stage::Converting, callable),
        _ if is_object => {}
        // SAFETY: the setter gave a reference.
        _ if kept == &raw const capi::_Py_NoneStruct as u64 => unsafe { capi::Py_DecRef(kept) },
        _ => failures::warn_of_leak(callable),
    }
}
