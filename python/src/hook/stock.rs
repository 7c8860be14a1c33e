//! Classes that are needed at any time: looked up once, when hotcall is first used.
//! A program may put others in their places, or what looks things up. And those that
//! derive from a class.

use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::capi;
use crate::kinds::handle;
use crate::make::{self, Named};
use crate::raw::Object;
use crate::starting;

/// The classes.
pub(crate) struct Stock {
    /// `_ctypes.CFuncPtr`, from which all classes of functions derive.
    pub(crate) function: Py<PyType>,
    pub(crate) c_int: Py<PyType>,
    pub(crate) c_byte: Py<PyType>,
    pub(crate) property: Py<PyType>,
}

static STOCK: PyOnceLock<Stock> = PyOnceLock::new();

/// The classes of the main interpreter, looked up now if they have not been.
///
/// # Errors
/// What a look-up raised.
pub(crate) fn stock(py: Python<'_>) -> PyResult<&'static Stock> {
    STOCK.get_or_try_init(py, || {
        let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
            Ok(make::import(py, module)?.attr(name)?.cast_into::<PyType>()?.unbind())
        };
        Ok(Stock {
            function: class("_ctypes", "CFuncPtr")?,
            c_int: class("ctypes", "c_int")?,
            c_byte: class("ctypes", "c_byte")?,
            property: class("builtins", "property")?,
        })
    })
}

/// Whether an object is a function of ctypes: its `__class__` may say anything.
/// Another interpreter may have a ctypes of its own.
///
/// # Errors
/// What a look-up raised.
pub(crate) fn is_function(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let base = match starting::elsewhere(py) {
        None => stock(py)?.function.bind(py).clone(),
        Some(_) => make::import(py, "_ctypes")?.attr("CFuncPtr")?.cast_into::<PyType>()?,
    };
    Ok(derives(handle(object).class(), handle(base.as_any())))
}

/// Whether a class is `base`, or derives from it.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(crate) fn derives(class: Object, base: Object) -> bool {
    // SAFETY: two classes.
    unsafe { capi::PyType_IsSubtype(class.address(), base.address()) != 0 }
}

/// Some classes with all that derive from them.
///
/// # Errors
/// What the look-up raised.
pub(crate) fn with_subclasses(
    mut classes: Vec<Bound<'_, PyAny>>,
) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let Some(first) = classes.first() else { return Ok(classes) };
    // Not the class's own attribute: a program may have put something there.
    let subclasses_of = first.py().get_type::<PyType>().attr("__subclasses__")?;
    let mut seen: HashSet<_> = classes.iter().map(|class| class.as_ptr()).collect();
    let mut next = 0;
    while next < classes.len() {
        for subclass in subclasses_of.call_with((&classes[next],))?.try_iter()? {
            let subclass = subclass?;
            if seen.insert(subclass.as_ptr()) {
                classes.push(subclass);
            }
        }
        next += 1;
    }
    Ok(classes)
}
