//! Values and exceptions as text, read from the objects themselves.
//!
//! `str` and `repr` do more than that: CPython runs handlers of signals in them, and
//! what these raise would be lost with the text. Here no code of the program runs.
//!
//! # Safety
//! Objects are looked into by what their exact classes say of them.

#![allow(unsafe_code, reason = "asks CPython about raw objects")]

use std::ffi::c_int;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

use crate::capi;
use crate::kinds::handle;
use crate::layout;
use crate::make::Named;
use crate::raw::Object;

/// The name of an object's class.
pub(crate) fn class(object: Object) -> String {
    object.class().text(layout::TYPE_NAME)
}

/// A value of one of Python's own types as text that is equal for equal values alone;
/// none for other objects. Of ints it tells those apart that 64 bits do.
pub(crate) fn value(object: &Bound<'_, PyAny>) -> Option<String> {
    let raw = handle(object);
    Some(if object.is_none() {
        "None".to_owned()
    } else if let Ok(bool) = object.cast_exact::<PyBool>() {
        bool.is_true().to_string()
    } else if object.is_exact_instance_of::<PyInt>() {
        int(raw)
    } else if object.is_exact_instance_of::<PyFloat>() {
        let bits = raw.word(layout::FLOAT_VALUE);
        format!("{:?} ({bits:#018x})", f64::from_bits(bits))
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        format!("b\"{}\"", bytes.as_bytes().escape_ascii())
    } else if object.is_exact_instance_of::<PyString>() {
        format!("\"{}\"", text(raw))
    } else {
        return None;
    })
}

/// An int in decimal, but for those of more than 64 bits.
fn int(int: Object) -> String {
    let mut overflow: c_int = 0;
    // SAFETY: an int.
    let value = unsafe { capi::PyLong_AsLongAndOverflow(int.address(), &mut overflow) };
    if overflow == 0 {
        return value.cast_signed().to_string();
    }
    // SAFETY: an int.
    let low = unsafe { capi::PyLong_AsUnsignedLongLongMask(int.address()) };
    if overflow > 0 { low.to_string() } else { format!("-{}", low.wrapping_neg()) }
}

/// The characters of a str, those that have no place in a text by their numbers.
fn text(str: Object) -> String {
    // SAFETY: a str.
    let length = unsafe { capi::PyUnicode_GetLength(str.address()) };
    let character = |index| {
        // SAFETY: a str, and an index within it.
        let number = unsafe { capi::PyUnicode_ReadChar(str.address(), index) };
        char::from_u32(number)
            .map_or_else(|| format!("\\u{{{number:x}}}"), |char| char.escape_debug().to_string())
    };
    (0..length).map(character).collect()
}

/// An exception of CPython's or ctypes' own: its class, and what it says.
pub(crate) fn error(py: Python<'_>, error: &PyErr) -> String {
    let exception = error.value(py);
    let name = class(handle(exception.as_any()));
    let args = args(exception.as_any());
    let said = args.iter().flat_map(|args| args.iter());
    let said: Vec<String> = said.map(|item| said_by(&item)).collect();
    if said.is_empty() { name } else { format!("{name}: {}", said.join(", ")) }
}

/// What an exception was made with, as the class of all exceptions tells it: its own
/// class has no say.
fn args<'py>(exception: &Bound<'py, PyAny>) -> Option<Bound<'py, PyTuple>> {
    let py = exception.py();
    let teller = py.get_type::<PyBaseException>().attr("args").ok()?;
    let args = teller.attr("__get__").ok()?.call_with((exception,));
    args.ok()?.cast_into_exact().ok()
}

/// An item of what an exception was made with: a text as it is.
fn said_by(item: &Bound<'_, PyAny>) -> String {
    match item.cast_exact::<PyString>() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => value(item).unwrap_or_else(|| class(handle(item))),
    }
}
