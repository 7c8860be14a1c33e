//! Classes of ctypes to look at, which are hotcall's alone. Those of pointers, arrays
//! and functions ctypes keeps for all when it makes them on demand, under the name of
//! the module that asked first; so these are made as a `class` statement makes them,
//! of classes that stay: the garbage collector does not see all that refers to one.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyTuple};

/// A class that derives from `base`.
///
/// # Errors
/// What Python raised.
pub(crate) fn class<'py>(
    name: &str,
    base: &Bound<'py, PyAny>,
    members: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    base.get_type().call1((name, (base,), members))
}

/// The class of pointers to `c_char`, the one that ctypes makes itself at import.
///
/// # Errors
/// What Python raised.
pub(crate) fn pointer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let ctypes = py.import("ctypes")?;
    ctypes.getattr("POINTER")?.call1((ctypes.getattr("c_char")?,))
}

/// A class of arrays.
///
/// # Errors
/// What Python raised.
pub(crate) fn array<'py>(item: &Bound<'py, PyAny>, length: u64) -> PyResult<Bound<'py, PyAny>> {
    let members = [("_type_", item)].into_py_dict(item.py())?;
    members.set_item("_length_", length)?;
    let base = item.py().import("_ctypes")?.getattr("Array")?;
    class("Array", &base, &members)
}

/// A class of functions that are called as C functions are, with further flags.
///
/// # Errors
/// What Python raised.
pub(crate) fn function<'py>(
    flags: &[&str],
    result: &Bound<'py, PyAny>,
    arguments: &[&Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let py = result.py();
    let ctypes = py.import("_ctypes")?;
    let mut all: u64 = ctypes.getattr("FUNCFLAG_CDECL")?.extract()?;
    for flag in flags {
        all |= ctypes.getattr(*flag)?.extract::<u64>()?;
    }
    let members = PyDict::new(py);
    members.set_item("_flags_", all)?;
    members.set_item("_restype_", result)?;
    members.set_item("_argtypes_", PyTuple::new(py, arguments)?)?;
    class("Function", &ctypes.getattr("CFuncPtr")?, &members)
}

/// Has the garbage collector free those that are not used any more, while they are
/// young, unless the program has switched it off: classes refer to themselves.
///
/// # Errors
/// What Python raised.
pub(crate) fn free(py: Python<'_>) -> PyResult<()> {
    let collector = py.import("gc")?;
    if collector.call_method0("isenabled")?.is_truthy()? {
        collector.call_method1("collect", (1,))?;
    }
    Ok(())
}
