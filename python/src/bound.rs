//! `bind`: a built-in function over a ctypes function. CPython's specialising
//! interpreter calls built-in functions directly, and this one goes straight to
//! the ctypes function's entry.
//!
//! **Invariant.** A call of the bound function is a call of the ctypes function,
//! whatever becomes of it: with every argument, keywords too, and every error.
//! So it follows what the function is declared as, and where there is no entry
//! CPython calls the function as it would without us.
//!
//! # Safety
//! CPython calls the functions of this file with a ctypes function, which the
//! built-in function is bound to and keeps alive, and with the arguments of a
//! call.

#![allow(unsafe_code, reason = "is called by CPython with raw objects")]

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::capi::{self, FASTCALL_WITH_KEYWORDS, Method};
use crate::enter::Vectorcall;
use crate::hook;
use crate::layout::CDATA_ENTRY;
use crate::raw::{Object, Owned};
use crate::report;
use crate::runtime::runtime;

/// The table entries of bound functions, by name, documentation and what they
/// call. An entry must outlive its functions, which nobody counts, so it lives as
/// long as the process; functions that look alike share one.
static ENTRIES: Mutex<Option<HashMap<Look, u64>>> = Mutex::new(None);

/// What an entry is made of.
type Look = (CString, Option<CString>, u64);

/// A built-in function over a ctypes function.
///
/// # Errors
/// `TypeError` for anything else, and what a look-up raised.
pub(crate) fn bind<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let object = report::function("bind", function)?;
    let doc = function.getattr("__doc__")?.extract::<String>().ok();
    // Without a runtime nobody has looked whether the row of the entry holds.
    let call: Vectorcall = if runtime().is_some() { enter } else { call };
    let look = (text(hook::name(object)), doc.map(text), call as usize as u64);
    // SAFETY: an entry that lives for ever, and the object to bind it to.
    let made = unsafe { capi::PyCFunction_NewEx(entry(look), object.address(), 0) };
    match Owned::from_new(made) {
        Some(made) => Ok(made.object().bound(py)),
        None => Err(PyErr::fetch(py)),
    }
}

/// A C string: a null character would end it, so there is none.
fn text(mut text: String) -> CString {
    text.retain(|char| char != '\0');
    CString::new(text).unwrap_or_default()
}

/// The address of the table entry for `look`.
fn entry(look: Look) -> u64 {
    let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = entries.get_or_insert_default();
    *entries.entry(look).or_insert_with_key(|(name, doc, function)| {
        let leaked = |text: &CString| text.clone().into_raw().expose_provenance() as u64;
        let method = Method {
            name: leaked(name),
            function: *function,
            flags: FASTCALL_WITH_KEYWORDS,
            doc: doc.as_ref().map_or(0, leaked),
        };
        std::ptr::from_ref(Box::leak(Box::new(method))).expose_provenance() as u64
    })
}

/// Calls a function through its entry, if it has one.
unsafe extern "C-unwind" fn enter(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: the ctypes function, which is alive.
    let entry = unsafe { Object::at(this) }.word(CDATA_ENTRY);
    if entry == 0 {
        // SAFETY: the arguments of this call.
        return unsafe { call(this, args, count, names) };
    }
    // SAFETY: what stands there is null or an entry of this function.
    let entry = unsafe { std::mem::transmute::<usize, Vectorcall>(entry as usize) };
    // SAFETY: the arguments of this call.
    unsafe { entry(this, args, count, names) }
}

/// Calls a function as CPython would.
unsafe extern "C-unwind" fn call(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: the arguments of this call.
    unsafe { capi::PyObject_Vectorcall(this, args as *const u64, count, names) }
}
