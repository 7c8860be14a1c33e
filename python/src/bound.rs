//! `bind`: a built-in function over a ctypes function. CPython's specialising
//! interpreter calls built-in functions directly, and this one goes straight to
//! the ctypes function's entry.
//!
//! **Invariant.** A call of the bound function is a call of the ctypes function,
//! whatever becomes of it: with every argument, keywords too, and every error.
//! So it follows what the function is declared as, and where there is no entry
//! CPython calls the function as it would without us.
//!
//! How the built-in function says that it takes its arguments is a hint for the
//! interpreter alone, which hands a single one over directly if that is what is
//! declared. Calls with more, fewer, or keywords come in by the vectorcall pointer,
//! which is ours too, so nobody but ctypes counts them.
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

use crate::capi::{self, FASTCALL_WITH_KEYWORDS, Method, ONE_ARGUMENT};
use crate::enter::Vectorcall;
use crate::hook;
use crate::layout::{CDATA_ENTRY, METHOD_SELF, METHOD_VECTORCALL};
use crate::raw::{Object, Owned};
use crate::report;
use crate::runtime::runtime;

/// The table entries of bound functions, by name, documentation and what they
/// call. An entry must outlive its functions, which nobody counts, so it lives as
/// long as the process; functions that look alike share one.
static ENTRIES: Mutex<Option<HashMap<Look, u64>>> = Mutex::new(None);

/// What an entry is made of.
type Look = (CString, Option<CString>, Way);

/// How a bound function is called by those that know what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// With one argument, to the function's entry.
    One,
    /// With any, to the function's entry.
    Any,
    /// With any, by CPython: no row of the layout is needed.
    Slow,
}

impl Way {
    /// The way to `function`, a ctypes function.
    fn to(function: &Bound<'_, PyAny>) -> Way {
        if runtime().is_none() {
            // Nobody has looked whether the rows hold.
            return Way::Slow;
        }
        match function.getattr("argtypes").and_then(|declared| declared.len()) {
            Ok(1) => Way::One,
            _ => Way::Any,
        }
    }

    /// What CPython calls, and the flags that say how.
    fn method(self) -> (u64, u64) {
        match self {
            Way::One => (enter_one as Single as usize as u64, ONE_ARGUMENT),
            Way::Any => (enter as Vectorcall as usize as u64, FASTCALL_WITH_KEYWORDS),
            Way::Slow => (call as Vectorcall as usize as u64, FASTCALL_WITH_KEYWORDS),
        }
    }
}

/// A C function that is called with an object and one argument.
type Single = unsafe extern "C-unwind" fn(u64, u64) -> u64;

/// A built-in function over a ctypes function.
///
/// # Errors
/// `TypeError` for anything else, and what a look-up raised.
pub(crate) fn bind<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let object = report::function("bind", function)?;
    let doc = function.getattr("__doc__")?.extract::<String>().ok();
    let way = Way::to(function);
    let look = (text(hook::name(object)), doc.map(text), way);
    // SAFETY: an entry that lives for ever, and the object to bind it to.
    let made = unsafe { capi::PyCFunction_NewEx(entry(look), object.address(), 0) };
    let made = Owned::from_new(made).ok_or_else(|| PyErr::fetch(py))?;
    if way != Way::Slow {
        // SAFETY: a built-in function that nobody has called yet.
        unsafe { made.object().set(METHOD_VECTORCALL, vectorcall as Vectorcall as usize as u64) };
    }
    Ok(made.object().bound(py))
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
    *entries.entry(look).or_insert_with_key(|(name, doc, way)| {
        let (function, flags) = way.method();
        let leaked = |text: &CString| text.clone().into_raw().expose_provenance() as u64;
        let method =
            Method { name: leaked(name), function, flags, doc: doc.as_ref().map_or(0, leaked) };
        std::ptr::from_ref(Box::leak(Box::new(method))).expose_provenance() as u64
    })
}

/// Whether a built-in function is one of these.
pub(crate) fn is_bound(function: Object) -> bool {
    function.word(METHOD_VECTORCALL) == vectorcall as Vectorcall as usize as u64
}

/// Calls the function that a built-in function, `this`, is bound to.
unsafe extern "C-unwind" fn vectorcall(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: a built-in function that `bind` made, which is alive.
    let function = unsafe { Object::at(this) }.word(METHOD_SELF);
    // SAFETY: what it is bound to is alive too; the arguments of this call.
    unsafe { enter(function, args, count, names) }
}

/// Calls a function with one argument.
unsafe extern "C-unwind" fn enter_one(this: u64, argument: u64) -> u64 {
    let arguments = [argument];
    // SAFETY: the function, and the argument of this call.
    unsafe { enter(this, arguments.as_ptr() as u64, 1, 0) }
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

/// Calls a function as CPython would. It is out of the way of those that have an entry.
#[cold]
#[inline(never)]
unsafe extern "C-unwind" fn call(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: the arguments of this call.
    unsafe { capi::PyObject_Vectorcall(this, args as *const u64, count, names) }
}
