//! What ctypes is given for an argument that Python code has been run for
//! already: it finds the outcome by its own means, and makes every error.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyType};

use crate::hook;
use crate::make::{self, Named};

/// The exception in which a conversion ended, to be raised in its place. pyo3 makes
/// the class at its first use, so the module has it: later there may be no memory.
#[pyclass(frozen, name = "_Failed")]
pub(crate) struct Failed(PyErr);

#[pymethods]
impl Failed {
    /// Raises it: so a `property` of it is an attribute that raises.
    fn __call__(&self, py: Python<'_>, _owner: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(self.0.clone_ref(py))
    }
}

impl Failed {
    /// A stand-in for an argument whose `from_param` raised `error`.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn of(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, Failed(error))?.into_any())
    }
}

/// A converter that takes an argument as it is, or raises what stands for it.
#[pyfunction]
fn passed(argument: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    match argument.cast::<Failed>() {
        Ok(failed) => Err(failed.get().0.clone_ref(argument.py())),
        Err(_) => Ok(argument),
    }
}

static PASSED: PyOnceLock<Py<PyCFunction>> = PyOnceLock::new();

/// The converter that takes an argument as it is, one for the process.
///
/// # Errors
/// `MemoryError`, the first time.
pub(crate) fn converter(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let made = PASSED.get_or_try_init(py, || Ok(wrap_pyfunction!(passed, py)?.unbind()));
    made.map(|function| function.bind(py).as_any())
}

/// A stand-in for an object whose `_as_parameter_` was looked up, with this
/// outcome. Its class has the names that the object's class has, since ctypes
/// may speak of it.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn with_parameter<'py>(
    py: Python<'py>,
    like: &Bound<'py, PyAny>,
    outcome: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let attributes = make::dict(py)?;
    if let Err(error) = &outcome {
        let raise = Failed::of(py, error.clone_ref(py))?;
        let property = hook::stock(py)?.property.bind(py).call_with((raise,))?;
        attributes.put("_as_parameter_", property)?;
    }
    let type_class = py.get_type::<PyType>();
    let like = like.get_type();
    // Not the class's own attributes, which its metaclass may have a say in.
    let name_of = |name: &str| -> PyResult<Bound<'py, PyAny>> {
        let descriptor = type_class.attr("__dict__")?.item(name)?;
        descriptor.attr("__get__")?.call_with((&like,))
    };
    attributes.put("__module__", name_of("__module__")?)?;
    attributes.put("__qualname__", name_of("__qualname__")?)?;
    let class = type_class.call_with((name_of("__name__")?, (), attributes))?;
    let instance = class.call0()?;
    if let Ok(value) = outcome {
        instance.set_attr("_as_parameter_", value)?;
    }
    Ok(instance)
}
