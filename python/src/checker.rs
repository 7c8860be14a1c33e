//! `_check_retval_`: the method of a result type that ctypes calls with each
//! result. Where it fails ctypes adds an entry to the traceback that names a
//! line of its own source; the line is learned from a call that fails.
//!
//! # Safety
//! The helper is called with the objects that its documentation names.

#![allow(unsafe_code, reason = "calls into CPython")]

use std::ffi::{CStr, c_char, c_int};

use hotcall_tracer::{Effect, Entry, Helper};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTraceback;

use crate::capi;
use crate::hook::Traverse;
use crate::kinds::handle;
use crate::layout;
use crate::levels;
use crate::make::{self, Named};
use crate::raw::{Bag, Object, Owned};
use crate::samples;
use crate::starting::Failure;

/// What `_check_retval_` makes of a result: words are the callable and the
/// result. It gives up the references to both; the result may be 0 with an
/// exception set.
pub(crate) static CHECK_RETVAL: Helper =
    Helper { name: "check_retval", entry: Entry::WWW(check_retval), effect: Effect::Effect };

type AddEntry = unsafe extern "C-unwind" fn(*const c_char, *const c_char, c_int);

/// The entry that ctypes adds to tracebacks.
struct Place {
    add: AddEntry,
    line: c_int,
}

const FUNCTION: &CStr = c"GetResult";
const FILE: &CStr = c"_ctypes/callproc.c";

static PLACE: PyOnceLock<Option<Place>> = PyOnceLock::new();

/// Learns what ctypes adds to tracebacks, before the hook is in place. Where that
/// fails it is not known, and ctypes makes the calls.
///
/// # Errors
/// What of the program's own came in between.
pub(crate) fn learn(py: Python<'_>) -> Result<(), Failure> {
    let found = PLACE.get_or_try_init(py, || match place(py).map_err(Failure::from) {
        Ok(found) => Ok(found),
        Err(Failure::Off(_)) => Ok(None),
        Err(raised) => Err(raised),
    });
    found.map(drop)
}

/// Whether that is known.
pub(crate) fn is_known() -> bool {
    // SAFETY: declarations are read with the GIL held.
    let py = unsafe { Python::assume_attached() };
    PLACE.get(py).is_some_and(Option::is_some)
}

fn place(py: Python<'_>) -> PyResult<Option<Place>> {
    let Some(add) = capi::symbol(c"_PyTraceback_Add") else { return Ok(None) };
    // SAFETY: CPython's function of this name has this signature.
    let add = unsafe { std::mem::transmute::<usize, AddEntry>(add as usize) };
    let error = failed_check(py)?;
    let Some(entry) = error.traceback(py) else { return Ok(None) };
    let Some(code) = code_of(&entry) else { return Ok(None) };
    let text = |name: &str| code.attr(name)?.extract::<String>();
    let line = entry.attr("tb_lineno")?.extract()?;
    let is_known = Ok(text("co_name")?.as_str()) == FUNCTION.to_str()
        && Ok(text("co_filename")?.as_str()) == FILE.to_str();
    Ok(is_known.then_some(Place { add, line }))
}

/// The code that an entry of a traceback names, the last one. The attributes that lead
/// there raise audit events, so the frame is what the garbage collector is shown.
fn code_of<'py>(entry: &Bound<'py, PyTraceback>) -> Option<Bound<'py, PyAny>> {
    unsafe extern "C-unwind" fn note(object: u64, seen: u64) -> c_int {
        // SAFETY: the place that is handed over below.
        unsafe { *(seen as *mut u64) = object };
        0
    }
    let object = handle(entry.as_any());
    let mut frame = 0_u64;
    let traverse = object.class().word(layout::TYPE_TRAVERSE) as usize;
    // SAFETY: the slot of tracebacks, which the garbage collector looks after.
    let traverse = unsafe { std::mem::transmute::<usize, Traverse>(traverse) };
    // SAFETY: a traceback, and a place for the last object that it refers to.
    unsafe { traverse(object.address(), note, (&raw mut frame) as u64) };
    let of_frames = capi::symbol(c"PyFrame_Type")?;
    // SAFETY: null, or an object that the traceback keeps.
    if frame == 0 || unsafe { Object::at(frame) }.class().address() != of_frames {
        return None;
    }
    // SAFETY: a frame.
    let code = unsafe { ffi::PyFrame_GetCode(frame as *mut ffi::PyFrameObject) };
    // SAFETY: a reference to its code.
    Some(unsafe { Bound::from_owned_ptr(entry.py(), code.cast()) })
}

/// The exception of a call of ctypes whose result has no length.
fn failed_check(py: Python<'_>) -> PyResult<PyErr> {
    extern "C" fn zero() -> c_int {
        0
    }
    // It derives from none of the classes whose instances are many (`data`). It is one of
    // bytes, for which ctypes makes no class of the other order, which would keep it.
    let simple = make::import(py, "_ctypes")?.attr("_SimpleCData")?;
    let attributes = make::dict(py)?;
    attributes.put("_type_", "b")?;
    attributes.put("_check_retval_", make::import(py, "builtins")?.attr("len")?)?;
    let class = samples::class("Checked", &simple, &attributes)?;
    let address = zero as extern "C" fn() -> c_int as usize;
    let c_int = make::import(py, "ctypes")?.attr("c_int")?;
    let function = samples::function(&[], &c_int, &[])?.call_with((address,))?;
    function.set_attr("restype", class)?;
    match function.call0() {
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Ok(error),
        Err(error) => Err(error),
        Ok(_) => Err(make::error::<PyRuntimeError>(py, "an int has a length")),
    }
}

unsafe extern "C-unwind" fn check_retval(checker: u64, result: u64) -> u64 {
    let mut bag = Bag::default();
    for reference in [checker, result].into_iter().filter_map(Owned::from_new) {
        bag.hold(reference);
    }
    let mut checked = 0;
    if result != 0 {
        // SAFETY: a callable that the rule keeps, and an object.
        checked = unsafe { levels::call_one(checker, result) };
        if checked == 0 {
            add_entry();
        }
    }
    bag.empty();
    checked
}

/// Adds to the traceback of the exception that is set what ctypes adds.
fn add_entry() {
    // SAFETY: rules and stubs run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    if let Some(Some(Place { add, line })) = PLACE.get(py) {
        // SAFETY: two C strings; an exception is set.
        unsafe { add(FUNCTION.as_ptr(), FILE.as_ptr(), *line) };
    }
}
