//! Learns the classes of arguments that a call has shown for the first time.
//!
//! # Safety
//! As for `enter`: the arguments are those of a call that is being made.

#![allow(unsafe_code, reason = "looks at raw objects")]

use pyo3::Python;

use super::forward::argument;
use crate::raw::Object;
use crate::rules::Frame;
use crate::runtime::Runtime;

/// Learns the classes of a call's arguments, and of what references refer to;
/// true if that says more than was known.
pub(super) fn learn(runtime: &Runtime, call: &Frame<u64>) -> bool {
    // SAFETY: the GIL is held by who makes the call.
    let py = unsafe { Python::assume_attached() };
    let mut news = false;
    for index in 0..(call.nargsf & (u64::MAX >> 1)) as usize {
        // SAFETY: an argument of this call.
        let object = unsafe { Object::at(argument(call, index)) };
        news |= learn_of(runtime, py, object);
        if runtime.known.classes.is_reference(object)
            && let Some(referent) = object.object(runtime.known.layout.reference_object)
        {
            news |= learn_of(runtime, py, referent);
        }
    }
    news
}

/// Learns an object's class.
fn learn_of(runtime: &Runtime, py: Python<'_>, object: Object) -> bool {
    runtime.learn(py, object.class())
}
