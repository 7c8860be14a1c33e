//! Hands a call to ctypes itself, with its arguments as ctypes takes them: a
//! tuple, and a dict of keywords.
//!
//! # Safety
//! As for `enter`: the arguments are those of a call that is being made.

#![allow(unsafe_code, reason = "packs raw objects")]

use super::Style;
use crate::capi;
use crate::hook;
use crate::layout;
use crate::levels;
use crate::raw::Object;
use crate::rules::Frame;

/// Lets ctypes make the call, as CPython does for a class without vectorcall.
pub(super) fn forward(call: &Frame<u64>, style: Style) -> u64 {
    if style == Style::Tuple {
        // SAFETY: the arguments that the call slot was given.
        return unsafe { hook::ctypes_call()(call.this, call.kwnames, 0) };
    }
    let Some((args, kwargs)) = packed(call) else { return 0 };
    // SAFETY: the function object that is being called.
    let class = unsafe { Object::at(call.this) }.word(layout::OB_TYPE);
    let tp_call = hook::call_behind(class);
    // SAFETY: a function object, an exact tuple, and a dict or null.
    let result = levels::deeper(|| unsafe { tp_call(call.this, args, kwargs) });
    release(args);
    release(kwargs);
    result
}

/// Lets ctypes make a call of a function object that has no stub in it.
///
/// # Safety
/// The arguments are those of a vectorcall without keywords.
pub(crate) unsafe fn call_ctypes(this: u64, args: *const u64, nargsf: u64) -> u64 {
    forward(&Frame { this, args: args as u64, nargsf, kwnames: 0 }, Style::Vectorcall)
}

/// Gives up a reference that this file made; null is allowed.
fn release(object: u64) {
    if object != 0 {
        // SAFETY: the caller owns it.
        unsafe { capi::Py_DecRef(object) };
    }
}

/// The arguments as a tuple and a dict, null if there are no keywords; none
/// with an exception set.
fn packed(call: &Frame<u64>) -> Option<(u64, u64)> {
    let count = (call.nargsf & (u64::MAX >> 1)) as usize;
    // SAFETY: the GIL is held.
    let tuple = unsafe { capi::PyTuple_New(count as isize) };
    if tuple == 0 {
        return None;
    }
    for index in 0..count {
        let item = argument(call, index);
        // SAFETY: an argument of this call.
        unsafe { capi::Py_IncRef(item) };
        // SAFETY: a new tuple, an index within it, and a reference for it.
        unsafe { capi::PyTuple_SetItem(tuple, index as isize, item) };
    }
    let kwargs = keywords(call, count);
    if kwargs.is_none() {
        release(tuple);
    }
    Some((tuple, kwargs?))
}

/// The keyword arguments as a dict, null if there are none; none with an
/// exception set.
fn keywords(call: &Frame<u64>, count: usize) -> Option<u64> {
    if call.kwnames == 0 {
        return Some(0);
    }
    // SAFETY: `kwnames` is a tuple of the keywords' names.
    let names = unsafe { capi::PyTuple_Size(call.kwnames) };
    // SAFETY: the GIL is held.
    let kwargs = unsafe { capi::PyDict_New() };
    if kwargs == 0 {
        return None;
    }
    for index in 0..names {
        // SAFETY: the index is within the tuple.
        let name = unsafe { capi::PyTuple_GetItem(call.kwnames, index) };
        let value = argument(call, count + index as usize);
        // SAFETY: a dict, a str and an argument of this call.
        if unsafe { capi::PyDict_SetItem(kwargs, name, value) } != 0 {
            release(kwargs);
            return None;
        }
    }
    Some(kwargs)
}

/// The `index`-th of the positional and keyword arguments.
pub(super) fn argument(call: &Frame<u64>, index: usize) -> u64 {
    let args = call.args as *const u64;
    // SAFETY: the caller counted the arguments that it passes.
    let place = unsafe { args.add(index) };
    // SAFETY: see above.
    unsafe { *place }
}
