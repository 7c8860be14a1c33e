//! Python objects, and look-ups by name, that give an error where there is no
//! memory: pyo3's own panic there, and a panic must not reach CPython, which ends
//! the process. `clippy.toml` forbids those.
//!
//! # Safety
//! CPython makes new objects with the GIL held, of which `py` is the proof.

#![allow(unsafe_code, reason = "calls CPython's makers of objects")]
#![allow(clippy::disallowed_methods, reason = "calls them with objects")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::PyTypeInfo;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule, PyString, PyTuple};

use crate::parameters::tuple_of;
use crate::raw::{Object, Owned};

/// What a Python object can be made of.
pub(crate) trait Make<'py> {
    /// The object.
    ///
    /// # Errors
    /// `MemoryError`.
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// What CPython gave: a new reference, or null with an exception set.
fn owned(py: Python<'_>, made: *mut ffi::PyObject) -> PyResult<Bound<'_, PyAny>> {
    let made = Owned::from_new(made as u64).ok_or_else(|| PyErr::fetch(py))?;
    Ok(made.object().bound(py))
}

/// A dictionary without items.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the GIL is held.
    let made = unsafe { ffi::PyDict_New() };
    Ok(owned(py, made)?.cast_into()?)
}

/// A list of what there is.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn list<'py>(
    py: Python<'py>,
    items: impl IntoIterator<Item = impl Make<'py>>,
) -> PyResult<Bound<'py, PyList>> {
    // SAFETY: the GIL is held.
    let made = unsafe { ffi::PyList_New(0) };
    let made = owned(py, made)?.cast_into::<PyList>()?;
    for item in items {
        made.append(item.make(py)?)?;
    }
    Ok(made)
}

/// A tuple of what there is.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn tuple<'py>(
    py: Python<'py>,
    items: impl IntoIterator<Item = impl Make<'py>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let items = items.into_iter().map(|item| item.make(py)).collect::<PyResult<Vec<_>>>()?;
    let addresses: Vec<u64> = items.iter().map(|item| item.as_ptr() as u64).collect();
    let made = tuple_of(&addresses).ok_or_else(|| PyErr::fetch(py))?;
    Ok(made.object().bound(py).cast_into()?)
}

/// A text.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    let (start, length) = (text.as_ptr().cast(), text.len() as isize);
    // SAFETY: so many bytes of UTF-8.
    let made = unsafe { ffi::PyUnicode_FromStringAndSize(start, length) };
    Ok(owned(py, made)?.cast_into()?)
}

/// A text that lives as long as the process, the only one of its value where CPython
/// has the memory to see to that.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn interned(py: Python<'_>, text: &str) -> PyResult<u64> {
    let mut made = self::text(py, text)?.into_ptr();
    // SAFETY: a str, and the reference to it, which is exchanged.
    unsafe { ffi::PyUnicode_InternInPlace(&mut made) };
    Ok(made as u64)
}

/// An exception of this class that says this; another one if there is no memory.
pub(crate) fn error<E: PyTypeInfo>(py: Python<'_>, text: &str) -> PyErr {
    let made = py.get_type::<E>().call_with((text,));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// A module.
///
/// # Errors
/// What the import raised.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(text(py, name)?)
}

/// A name that is looked up in what calls bring: made at the start.
pub(crate) struct Name(&'static str, AtomicU64);

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) static $name: Name = Name($text, AtomicU64::new(0));)*
        static NAMES: &[&Name] = &[$(&$name),*];
    };
}

names! {
    AS_PARAMETER = "_as_parameter_";
    CLASS = "__class__";
    FLOAT = "__float__";
    FROM_OUTPARAM = "__ctypes_from_outparam__";
    GETATTRIBUTE = "__getattribute__";
    INDEX = "__index__";
    INIT = "__init__";
    INT = "__int__";
}

impl Name {
    /// The address of the str, once the names are made.
    pub(crate) fn address(&self) -> u64 {
        self.1.load(Relaxed)
    }
}

/// Makes the names that are not, before anything is learned.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn names(py: Python<'_>) -> PyResult<()> {
    for Name(name, made) in NAMES.iter().filter(|name| name.address() == 0) {
        made.store(interned(py, name)?, Relaxed);
    }
    Ok(())
}

/// What pyo3 does with objects of its own making.
pub(crate) trait Named<'py> {
    /// The attribute of this name.
    fn attr(&self, name: impl Make<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// Sets the attribute of this name.
    fn set_attr(&self, name: &str, value: impl Make<'py>) -> PyResult<()>;
    /// The item for this key.
    fn item(&self, key: impl Make<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// Sets the item for this key.
    fn put(&self, key: impl Make<'py>, value: impl Make<'py>) -> PyResult<()>;
    /// Calls it with these arguments.
    fn call_with(&self, args: impl Make<'py>) -> PyResult<Bound<'py, PyAny>>;
}

impl<'py, T> Named<'py> for Bound<'py, T> {
    fn attr(&self, name: impl Make<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_any().getattr(name.make(self.py())?.cast_into::<PyString>()?)
    }

    fn set_attr(&self, name: &str, value: impl Make<'py>) -> PyResult<()> {
        self.as_any().setattr(text(self.py(), name)?, value.make(self.py())?)
    }

    fn item(&self, key: impl Make<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_any().get_item(key.make(self.py())?)
    }

    fn put(&self, key: impl Make<'py>, value: impl Make<'py>) -> PyResult<()> {
        self.as_any().set_item(key.make(self.py())?, value.make(self.py())?)
    }

    fn call_with(&self, args: impl Make<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_any().call1(args.make(self.py())?.cast_into::<PyTuple>()?)
    }
}

impl<'py, T> Make<'py> for Bound<'py, T> {
    fn make(self, _: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.into_any())
    }
}

impl<'py, T> Make<'py> for &Bound<'py, T> {
    fn make(self, _: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.as_any().clone())
    }
}

impl<'py, T> Make<'py> for &Py<T> {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.bind(py).as_any().clone())
    }
}

impl<'py> Make<'py> for &Name {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: it lives as long as the process.
        Ok(unsafe { Object::at(self.address()) }.bound(py))
    }
}

impl<'py> Make<'py> for &str {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        text(py, self).map(Bound::into_any)
    }
}

impl<'py> Make<'py> for String {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_str().make(py)
    }
}

impl<'py> Make<'py> for &String {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_str().make(py)
    }
}

impl<'py> Make<'py> for bool {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the GIL is held.
        owned(py, unsafe { ffi::PyBool_FromLong(self.into()) })
    }
}

impl<'py> Make<'py> for i32 {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the GIL is held.
        owned(py, unsafe { ffi::PyLong_FromLong(self.into()) })
    }
}

impl<'py> Make<'py> for u64 {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the GIL is held.
        owned(py, unsafe { ffi::PyLong_FromUnsignedLongLong(self) })
    }
}

impl<'py> Make<'py> for usize {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        (self as u64).make(py)
    }
}

impl<'py, T: Make<'py>> Make<'py> for Option<T> {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.map_or_else(|| Ok(py.None().into_bound(py)), |value| value.make(py))
    }
}

impl<'py> Make<'py> for BTreeMap<&str, u64> {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = dict(py)?;
        for (key, value) in self {
            made.put(key, value)?;
        }
        Ok(made.into_any())
    }
}

/// Lists, as pyo3 makes them of these.
impl<'py, T: Make<'py>> Make<'py> for Vec<T> {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list(py, self).map(Bound::into_any)
    }
}

impl<'py, T: Make<'py>, const N: usize> Make<'py> for [T; N] {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list(py, self).map(Bound::into_any)
    }
}

impl<'py> Make<'py> for () {
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        tuple(py, [""; 0]).map(Bound::into_any)
    }
}

macro_rules! tuples {
    ($(($($item:ident),*);)*) => {$(
        #[allow(non_snake_case, reason = "an item is named like its type")]
        impl<'py, $($item: Make<'py>),*> Make<'py> for ($($item,)*) {
            fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let ($($item,)*) = self;
                tuple(py, [$($item.make(py)?),*]).map(Bound::into_any)
            }
        }
    )*};
}

tuples! {
    (A);
    (A, B);
    (A, B, C);
    (A, B, C, D);
}
