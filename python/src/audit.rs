//! Audit hooks ([PEP 578](https://peps.python.org/pep-0578/)). From 3.14 on ctypes
//! raises an event for each call, which a hook sees and may refuse. So where there is
//! a hook, ctypes makes all calls. A hook is never taken out again. Those that are
//! there are looked for when hotcall is installed, and `sys.addaudithook` tells of
//! those that come later.
//!
//! # Safety
//! CPython's functions are called as its documentation says, with the GIL held. What
//! stands in for `sys.addaudithook` has its signature and ends in it.

#![allow(unsafe_code, reason = "calls CPython's API, and is called by it")]

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hotcall_tracer::{Field, Mem, Refusal};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyString, PyTuple};

use crate::capi::{self, FASTCALL_WITH_KEYWORDS, Method};
use crate::hook::{self, Original, Place};
use crate::kinds::handle;
use crate::layout::METHOD_DEF;
use crate::make::{self, Named};
use crate::raw::Object;
use crate::refusals;

type Audit = unsafe extern "C" fn(event: *const c_char, format: *const c_char, ...) -> c_int;
type Convert = unsafe extern "C" fn(seen: *mut c_void) -> u64;
type Add = unsafe extern "C-unwind" fn(module: u64, args: u64, count: u64, names: u64) -> u64;

/// The function of a table entry.
const FUNCTION: Field = Field::new("method.function", 8, Mem::I64);

/// Whether hooks see the calls of ctypes.
static IS_ON: AtomicBool = AtomicBool::new(false);
/// Whether a hook is added that makes no difference.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static ADD: Original = Original::new();

/// Whether no hook sees the calls of ctypes.
///
/// # Errors
/// The refusal of all calls.
pub(crate) fn is_silent() -> Result<(), Refusal> {
    if IS_ON.load(Relaxed) { Err(refusals::AUDITED) } else { Ok(()) }
}

/// Whether this version of ctypes raises an event for each call.
fn is_asked(py: Python<'_>) -> bool {
    py.version_info() >= (3, 14)
}

/// Looks whether there are hooks, right before `sys.addaudithook` is patched: where
/// there is none, no Python code runs in between that could add one.
///
/// # Errors
/// What a hook raised for the event `hotcall.install`.
pub(crate) fn look(py: Python<'_>) -> PyResult<()> {
    if is_asked(py) && (entry(py)?.is_none() || is_heard(py)?) {
        IS_ON.store(true, Relaxed);
    }
    Ok(())
}

/// Whether anybody hears an event: only then its arguments are made.
fn is_heard(py: Python<'_>) -> PyResult<bool> {
    unsafe extern "C" fn note(seen: *mut c_void) -> u64 {
        // SAFETY: the place that is handed over below.
        unsafe { *seen.cast::<bool>() = true };
        // SAFETY: the GIL is held; the caller gets the reference.
        unsafe { capi::PyTuple_New(0) }
    }
    let Some(audit) = capi::symbol(c"PySys_Audit") else { return Ok(true) };
    // SAFETY: CPython's function of this name has this signature.
    let audit = unsafe { std::mem::transmute::<usize, Audit>(audit as usize) };
    let mut seen = false;
    let place = (&raw mut seen).cast::<c_void>();
    // SAFETY: the format asks for a converter and what that is given.
    let status =
        unsafe { audit(c"hotcall.install".as_ptr(), c"O&".as_ptr(), note as Convert, place) };
    if status != 0 { Err(PyErr::fetch(py)) } else { Ok(seen) }
}

/// The table entry of `sys.addaudithook`; none if that is not as expected.
fn entry(py: Python<'_>) -> PyResult<Option<Object>> {
    let add = make::import(py, "sys")?.attr("addaudithook")?;
    let builtin = make::import(py, "builtins")?.attr("len")?;
    if add.get_type_ptr() != builtin.get_type_ptr() {
        return Ok(None);
    }
    // SAFETY: the table entry of a built-in function, which lives as long as the process.
    let entry = unsafe { Object::at(handle(&add).word(METHOD_DEF)) };
    // SAFETY: the same.
    let flags = unsafe { (*(entry.address() as *const Method)).flags } & u64::from(u32::MAX);
    Ok((flags == FASTCALL_WITH_KEYWORDS).then_some(entry))
}

/// What is to be patched.
///
/// # Errors
/// What a look-up raised.
pub(crate) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    let entry = if is_asked(py) { entry(py)? } else { None };
    let ours = add as Add as usize as u64;
    Ok(entry.map(|entry| Place::new(entry, FUNCTION, &ADD, ours)).into_iter().collect())
}

/// Adds a hook of hotcall's own, which has events of one name, other than calls. Where
/// there is no other one, no Python code runs meanwhile, nor for other events: CPython
/// would run handlers of signals in it.
///
/// # Errors
/// What `sys.addaudithook` raised.
pub(crate) fn add_ours(name: String, hook: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, hook) = (hook.py(), hook.clone().unbind());
    let filter = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        let is_it = args.get_item(0)?.cast::<PyString>()?.to_str()? == name;
        if is_it { hook.bind(args.py()).call1(args).map(drop) } else { Ok(()) }
    };
    let filter = PyCFunction::new_closure(py, None, None, filter)?;
    IS_OURS.store(true, Relaxed);
    let added =
        make::import(py, "sys").and_then(|sys| sys.attr("addaudithook")?.call_with((filter,)));
    IS_OURS.store(false, Relaxed);
    added.map(drop)
}

/// Adds a hook, and leaves all calls to ctypes from then on.
unsafe extern "C-unwind" fn add(module: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: kept from the entry in which this function stands.
    let original = unsafe { std::mem::transmute::<usize, Add>(ADD.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    let result = unsafe { original(module, args, count, names) };
    if result != 0 && !IS_OURS.load(Relaxed) {
        IS_ON.store(true, Relaxed);
        hook::forget_all();
    }
    result
}
