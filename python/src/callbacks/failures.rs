//! What becomes of exceptions in callbacks: there is nobody to raise them in, so
//! ctypes reports them. Its wording differs by version: it is learned at import,
//! from two callbacks of ctypes that fail.
//!
//! # Safety
//! The GIL is held, and objects are alive: see each function.

#![allow(unsafe_code, reason = "calls into CPython and ctypes")]

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::capi;
use crate::hook;
use crate::kinds::handle;
use crate::layout;
use crate::make::{self, Named};
use crate::probe;
use crate::raw::Object;
use crate::samples;
use crate::stand_in::Failed;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The callable raised.
    Calling,
    /// Its result is none of the declared type.
    Converting,
}

/// The function that libffi calls for a closure.
pub(crate) type Closure =
    unsafe extern "C-unwind" fn(cif: u64, result: *mut u64, args: *const *const u8, thunk: u64);

/// ctypes' own.
static CLOSURE: AtomicU64 = AtomicU64::new(0);

/// Sets that function, before the first callback is adopted.
pub(crate) fn set_closure(address: u64) {
    CLOSURE.store(address, Relaxed);
}

/// ctypes' own function for closures.
pub(crate) fn closure() -> Closure {
    // SAFETY: set from a closure of ctypes before any could be called.
    unsafe { std::mem::transmute::<usize, Closure>(CLOSURE.load(Relaxed) as usize) }
}

/// How a version of ctypes reports an exception.
#[derive(Debug)]
enum Wording {
    /// The callable is the object of the report (up to 3.12).
    About(Message, CString),
    /// Its representation is part of the text.
    Formatted(Format, CString),
    /// It is not known.
    Unknown,
}

type Message = unsafe extern "C-unwind" fn(text: *const c_char, object: u64);
type Format = unsafe extern "C-unwind" fn(format: *const c_char, ...);

static WORDINGS: PyOnceLock<[Wording; 2]> = PyOnceLock::new();

/// Reports the exception that is set.
pub(crate) fn report(stage: Stage, callable: u64) {
    // SAFETY: callbacks run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    match wording(py, stage) {
        // SAFETY: CPython's function of this name takes a C string and an object.
        Wording::About(function, text) => unsafe { function(text.as_ptr(), callable) },
        // SAFETY: the format has one place, for an object.
        Wording::Formatted(function, text) => unsafe { function(text.as_ptr(), callable) },
        // SAFETY: an object.
        Wording::Unknown => unsafe { capi::PyErr_WriteUnraisable(callable) },
    }
}

/// Warns that an object is kept forever.
pub(crate) fn warn_of_leak(callable: u64) {
    // SAFETY: CPython sets it before any extension module runs.
    let class = unsafe { capi::PyExc_RuntimeWarning };
    let text = c"memory leak in callback function.".as_ptr();
    // SAFETY: a class of warnings and a C string.
    if unsafe { capi::PyErr_WarnEx(class, text, 1) } < 0 {
        report(Stage::Converting, callable);
    }
}

/// Sets the exception for a class that gave no instance of ctypes.
pub(crate) fn set_unexpected(class: u64, object: Object) {
    // SAFETY: callbacks run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the thunk keeps the class.
    let class = unsafe { Object::at(class) }.bound(py);
    let of = full_name(object.bound(py).get_type().as_any()).unwrap_or_default();
    let error = match class.repr() {
        Ok(class) => {
            let text = format!("{class} returned unexpected result of type {of}");
            make::error::<PyTypeError>(py, &text)
        }
        // Its metaclass raised it, or a handler of a signal.
        Err(error) => error,
    };
    error.restore(py);
}

/// The name of a class with its module's, as CPython tells it.
fn full_name(class: &Bound<'_, PyAny>) -> PyResult<String> {
    let module: String = class.attr("__module__")?.extract()?;
    let name: String = class.attr("__qualname__")?.extract()?;
    let is_short = ["builtins", "__main__"].contains(&module.as_str());
    Ok(if is_short { name } else { format!("{module}.{name}") })
}

/// Has ctypes report the exception in which the making of an argument ended: it
/// is given a thunk whose argument of this index raises just that.
pub(crate) fn report_argument(thunk: Object, index: usize) {
    // SAFETY: callbacks run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let error = PyErr::take(py).unwrap_or_else(|| make::error::<PyTypeError>(py, "no argument"));
    if let Err(other) = report_argument_as(py, thunk, index, error) {
        other.write_unraisable(py, None);
    }
}

fn report_argument_as(py: Python<'_>, thunk: Object, index: usize, error: PyErr) -> PyResult<()> {
    let byte = hook::stock(py)?.c_byte.bind(py);
    let attributes = make::dict(py)?;
    attributes.put("__new__", Failed::of(py, error)?)?;
    let failing = byte.get_type().call_with(("Failing", (byte,), attributes))?;
    let mut classes = vec![byte.as_any().clone(); index];
    classes.push(failing);
    let classes = make::tuple(py, &classes)?;
    let mut copy = thunk.words::<{ layout::THUNK_WORDS }>();
    copy[layout::THUNK_CONVERTERS.offset as usize / 8] = classes.as_ptr() as u64;
    let (zero, mut result) = (0_u64, 0);
    let args = vec![(&raw const zero).cast::<u8>(); index + 1];
    let cif = thunk.address().wrapping_add_signed(layout::THUNK_CIF.offset.into());
    // SAFETY: a thunk as ctypes' own function reads it, whose class of the last
    // argument raises before anything else happens; and as many arguments.
    unsafe { closure()(cif, &mut result, args.as_ptr(), copy.as_ptr() as u64) };
    Ok(())
}

/// The wording for a stage.
fn wording(py: Python<'_>, stage: Stage) -> &Wording {
    WORDINGS.get(py).map_or(&Wording::Unknown, |wordings| &wordings[stage as usize])
}

/// Learns how ctypes reports failures. Nothing is left of it, but that an audit
/// hook sees two reports.
///
/// It is done in another thread, if there can be one: handlers of signals do not run
/// there, and what they raise while CPython makes up a report is lost.
pub(crate) fn learn_wordings(py: Python<'_>) {
    fn learned(py: Python<'_>) -> bool {
        let wordings = [c_len, c_list].map(|of| learn(py, of).unwrap_or(Wording::Unknown));
        WORDINGS.get_or_init(py, || wordings);
        true
    }
    if WORDINGS.get(py).is_none() {
        let _learned = probe::in_other_thread_with_gil(py, learned) || learned(py);
    }
}

/// A callable without Python code, which fails for lack of an argument.
fn c_len(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    make::import(py, "builtins")?.attr("len")
}

/// One that gives what is no int.
fn c_list(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    make::import(py, "builtins")?.attr("list")
}

/// Learns how ctypes reports the failure of a callback with this callable.
fn learn(
    py: Python<'_>,
    callable: fn(Python<'_>) -> PyResult<Bound<'_, PyAny>>,
) -> PyResult<Wording> {
    let callable = callable(py)?;
    let class = samples::function(&[], &make::import(py, "ctypes")?.attr("c_int")?, &[])?;
    let function = class.call_with((&callable,))?;
    let thunk = handle(&function).word(layout::FUNC_THUNK);
    let seen = make::list(py, [""; 0])?;
    let sys = make::import(py, "sys")?;
    let hook = sys.attr("unraisablehook")?;
    // Until it is put back no Python code runs, and so no other thread.
    sys.set_attr("unraisablehook", seen.attr("append")?)?;
    let mut result = 0;
    let cif = thunk.wrapping_add_signed(layout::THUNK_CIF.offset.into());
    // SAFETY: a thunk of a function without arguments, which `function` keeps.
    unsafe { closure()(cif, &mut result, std::ptr::null(), thunk) };
    sys.set_attr("unraisablehook", hook)?;
    let seen = seen.item(0)?;
    let text: String = seen.attr("err_msg")?.extract()?;
    parse(&text, &callable, seen.attr("object")?.is(&callable))
}

/// The wording of a text about a callable.
fn parse(text: &str, callable: &Bound<'_, PyAny>, is_about: bool) -> PyResult<Wording> {
    let known = match is_about {
        true => text.strip_prefix("Exception ignored ").map(str::to_owned),
        false => {
            let before = text.strip_suffix(callable.repr()?.to_str()?);
            before.map(|before| before.replace('%', "%%") + "%R")
        }
    };
    let (Some(text), Some(function)) = (known, reporter(is_about)) else {
        return Ok(Wording::Unknown);
    };
    let text = CString::new(text)?;
    Ok(if is_about {
        // SAFETY: CPython's function of this name has this signature.
        let function = unsafe { std::mem::transmute::<usize, Message>(function) };
        Wording::About(function, text)
    } else {
        // SAFETY: CPython's function of this name has this signature.
        let function = unsafe { std::mem::transmute::<usize, Format>(function) };
        Wording::Formatted(function, text)
    })
}

/// The function that ctypes reports with.
fn reporter(is_about: bool) -> Option<usize> {
    let name = if is_about { c"_PyErr_WriteUnraisableMsg" } else { c"PyErr_FormatUnraisable" };
    capi::symbol(name).map(|address| address as usize)
}
