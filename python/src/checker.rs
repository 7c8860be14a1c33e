//! `_check_retval_`: the method of a result type that ctypes calls with each
//! result. Where it fails ctypes adds an entry to the traceback that names a
//! line of its own source; the line is learned from a call that fails.
//!
//! # Safety
//! The helper is called with the objects that its documentation names.

#![allow(unsafe_code, reason = "calls into CPython")]

use std::ffi::{CStr, c_char, c_int};

use hotcall_tracer::{Effect, Entry, Helper};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::capi;
use crate::declare::CDECL;
use crate::detour;
use crate::hook;
use crate::levels;
use crate::raw::{Bag, Owned};

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

/// Learns what ctypes adds to tracebacks. It runs Python code.
///
/// # Errors
/// What Python raised.
pub(crate) fn learn(py: Python<'_>) -> PyResult<()> {
    PLACE.get_or_try_init(py, || place(py)).map(drop)
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
    let code = entry.getattr("tb_frame")?.getattr("f_code")?;
    let text = |name: &str| code.getattr(name)?.extract::<String>();
    let line = entry.getattr("tb_lineno")?.extract()?;
    let is_known = Ok(text("co_name")?.as_str()) == FUNCTION.to_str()
        && Ok(text("co_filename")?.as_str()) == FILE.to_str();
    Ok(is_known.then_some(Place { add, line }))
}

/// The exception of a call of ctypes whose result has no length.
fn failed_check(py: Python<'_>) -> PyResult<PyErr> {
    extern "C" fn zero() -> c_int {
        0
    }
    let c_int = py.import("ctypes")?.getattr("c_int")?;
    let attributes = PyDict::new(py);
    attributes.set_item("_check_retval_", py.import("builtins")?.getattr("len")?)?;
    let class = c_int.get_type().call1(("Checked", (c_int,), attributes))?;
    let address = zero as extern "C" fn() -> c_int as usize;
    let function = detour::relay_class(py, CDECL)?.call1((address,))?;
    function.setattr("restype", class)?;
    let args = PyTuple::empty(py);
    // SAFETY: a function object and an empty tuple.
    let result = unsafe { hook::ctypes_call()(function.as_ptr() as u64, args.as_ptr() as u64, 0) };
    drop(Owned::from_new(result));
    Ok(PyErr::fetch(py))
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
