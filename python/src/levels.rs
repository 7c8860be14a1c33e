//! Levels of recursion, which CPython counts, so that one without end raises before
//! the stack is used up. A vectorcall counts itself, or what it calls does; stubs do
//! not, for what it costs. So whoever calls a callable of the program on behalf of a
//! stub counts for it: a recursion through stubs, without Python functions, comes by.
//!
//! # Safety
//! The GIL is held, and handles are of live objects.

#![allow(unsafe_code, reason = "calls into CPython with raw objects")]

use std::sync::OnceLock;

use crate::bound;
use crate::capi;
use crate::enter;
use crate::hook;
use crate::layout::{METHOD_FUNCTION, OB_TYPE};
use crate::raw::Object;

/// Runs `call` one level deeper; 0, with an exception set, if there is none.
pub(crate) fn deeper(call: impl FnOnce() -> u64) -> u64 {
    // SAFETY: the text is a C string.
    let refused =
        unsafe { capi::Py_EnterRecursiveCall(c" while calling a Python object".as_ptr()) };
    if refused != 0 {
        return 0;
    }
    let result = call();
    // SAFETY: entered above.
    unsafe { capi::Py_LeaveRecursiveCall() };
    result
}

/// Whether there are so many.
fn are_left(levels: u32) -> bool {
    fn down(levels: u32) -> u64 {
        if levels == 0 { 1 } else { deeper(|| down(levels - 1)) }
    }
    let are_left = down(levels) != 0;
    if !are_left {
        // SAFETY: there is the exception that was set just now.
        unsafe { capi::PyErr_Clear() };
    }
    are_left
}

/// As many levels as ctypes needs at most to convert an argument.
const CONVERTING: u32 = 4;

/// Calls a callable one level deeper. Its own functions ctypes calls itself where
/// it might not convert their arguments: that fails in its words.
///
/// # Safety
/// The arguments are those of a vectorcall.
pub(crate) unsafe fn call(callable: u64, args: *const u64, nargsf: u64) -> u64 {
    // SAFETY: the caller has a callable.
    if hook::is_hooked(unsafe { Object::at(callable) }.class()) && !are_left(CONVERTING) {
        // SAFETY: a function object, and the arguments of this call.
        return unsafe { enter::call_ctypes(callable, args, nargsf) };
    }
    // SAFETY: the caller's callable and arguments.
    deeper(|| unsafe { capi::PyObject_Vectorcall(callable, args, nargsf, 0) })
}

/// Calls a callable with one argument, likewise.
///
/// # Safety
/// Both are objects.
pub(crate) unsafe fn call_one(callable: u64, argument: u64) -> u64 {
    let mut args = [0, argument];
    let first = args.as_mut_ptr().wrapping_add(1);
    // SAFETY: there is one argument, with the slot before it to lend.
    unsafe { call(callable, first, 1 | capi::ARGUMENTS_OFFSET) }
}

/// Whether calls of a callable count themselves: it is a Python function, a method
/// over one, or a built-in function that is not [`bound`].
pub(crate) fn counts_itself(callable: Object) -> bool {
    static CLASSES: OnceLock<[u64; 3]> = OnceLock::new();
    let names = [c"PyFunction_Type", c"PyMethod_Type", c"PyCFunction_Type"];
    let classes = CLASSES.get_or_init(|| names.map(|name| capi::symbol(name).unwrap_or_default()));
    let class = callable.word(OB_TYPE);
    match classes.iter().position(|known| *known == class) {
        Some(0) => true,
        Some(1) => callable
            .object(METHOD_FUNCTION)
            .is_some_and(|function| function.word(OB_TYPE) == classes[0]),
        Some(_) => !bound::is_bound(callable),
        None => false,
    }
}
