//! Classes of ctypes to look at, which are hotcall's alone. Those of pointers, arrays
//! and functions ctypes keeps for all when it makes them on demand, under the name of
//! the module that asked first; so these are made as a `class` statement makes them,
//! of classes that stay: the garbage collector does not see all that refers to one.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::make::{self, Named};

/// A class that derives from `base`.
///
/// # Errors
/// What Python raised.
pub(crate) fn class<'py>(
    name: &str,
    base: &Bound<'py, PyAny>,
    members: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    base.get_type().call_with((name, (base,), members))
}

/// The class of pointers to `c_char`, the one that ctypes makes itself at import.
///
/// # Errors
/// What Python raised.
pub(crate) fn pointer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let ctypes = make::import(py, "ctypes")?;
    ctypes.attr("POINTER")?.call_with((ctypes.attr("c_char")?,))
}

/// A class of arrays.
///
/// # Errors
/// What Python raised.
pub(crate) fn array<'py>(item: &Bound<'py, PyAny>, length: u64) -> PyResult<Bound<'py, PyAny>> {
    let members = make::dict(item.py())?;
    members.put("_type_", item)?;
    members.put("_length_", length)?;
    let base = make::import(item.py(), "_ctypes")?.attr("Array")?;
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
    let ctypes = make::import(py, "_ctypes")?;
    let mut all: u64 = ctypes.attr("FUNCFLAG_CDECL")?.extract()?;
    for flag in flags {
        all |= ctypes.attr(*flag)?.extract::<u64>()?;
    }
    let members = make::dict(py)?;
    members.put("_flags_", all)?;
    members.put("_restype_", result)?;
    members.put("_argtypes_", make::tuple(py, arguments.iter().copied())?)?;
    class("Function", &ctypes.attr("CFuncPtr")?, &members)
}

/// Has the garbage collector free those that are not used any more, while they are
/// young, unless the program has switched it off: classes refer to themselves.
///
/// # Errors
/// What Python raised.
pub(crate) fn free(py: Python<'_>) -> PyResult<()> {
    let collector = make::import(py, "gc")?;
    if collector.attr("isenabled")?.call0()?.is_truthy()? {
        collector.attr("collect")?.call_with((1,))?;
    }
    Ok(())
}
