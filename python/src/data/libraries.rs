//! `library.function`: a library has `__getattr__`, so that CPython 3.11 goes the
//! long way for each attribute of it, even for those that are there.
//!
//! What stands in for it looks for an attribute that the library's dictionary
//! has and its class has not, and leaves all others to the slot that it stands
//! in for. From 3.12 CPython does as much by itself.
//!
//! CPython sets the slot anew when somebody gives a class, or a base of it,
//! another `__getattr__` or `__getattribute__`, and sets that of each new class.
//! So what stands here is there for classes as they were when it was patched.
//!
//! # Safety
//! As for the module above.

use std::sync::OnceLock;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::capi;
use crate::hook::{Original, Place, with_subclasses};
use crate::kinds::handle;
use crate::layout::{OB_COUNT, OB_TYPE, TYPE_GETATTRO};
use crate::raw::Object;

type GetAttr = unsafe extern "C-unwind" fn(this: u64, name: u64) -> u64;
type FindInType = unsafe extern "C-unwind" fn(class: u64, name: u64) -> u64;
type FindDict = unsafe extern "C-unwind" fn(this: u64) -> *const u64;

static GETATTRO: Original = Original::new();

/// Functions of CPython that are looked up by name.
struct Finders {
    in_type: FindInType,
    dict: FindDict,
}

static FINDERS: OnceLock<Option<Finders>> = OnceLock::new();

fn finders() -> Option<&'static Finders> {
    let find = || {
        let in_type = capi::symbol(c"_PyType_Lookup")? as usize;
        let dict = capi::symbol(c"_PyObject_GetDictPtr")? as usize;
        // SAFETY: CPython 3.11 has these functions with these signatures.
        let in_type = unsafe { std::mem::transmute::<usize, FindInType>(in_type) };
        // SAFETY: see above.
        let dict = unsafe { std::mem::transmute::<usize, FindDict>(dict) };
        Some(Finders { in_type, dict })
    };
    FINDERS.get_or_init(find).as_ref()
}

/// The slots of the classes of libraries that are as ctypes made them.
pub(super) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    let Some(finders) = finders().filter(|_| py.version_info() < (3, 12)) else {
        return Ok(Vec::new());
    };
    // The slot of every class with a `__getattr__` in Python.
    let members = PyDict::new(py);
    members.set_item("__getattr__", py.import("builtins")?.getattr("print")?)?;
    let probe = py.get_type::<PyType>().call1(("Probe", (), members))?;
    let usual = handle(&probe).word(TYPE_GETATTRO);
    let ours = getattr as GetAttr as usize as u64;
    let name = pyo3::intern!(py, "__getattribute__").as_ptr() as u64;
    let plain = py.import("builtins")?.getattr("object")?.getattr("__getattribute__")?;
    let mut places = Vec::new();
    for class in classes(py)? {
        let class = handle(&class);
        // SAFETY: a class, which is held, and a str.
        let found = unsafe { (finders.in_type)(class.address(), name) };
        let slot = class.word(TYPE_GETATTRO);
        if (slot == usual || slot == ours) && found == plain.as_ptr() as u64 {
            places.push(Place::new(class, TYPE_GETATTRO, &GETATTRO, ours));
        }
    }
    Ok(places)
}

/// `CDLL` and the loader of libraries with all that derive from them.
fn classes(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let ctypes = py.import("ctypes")?;
    with_subclasses(vec![ctypes.getattr("CDLL")?, ctypes.getattr("LibraryLoader")?])
}

unsafe extern "C-unwind" fn getattr(this: u64, name: u64) -> u64 {
    if let Some(found) = in_dict(this, name) {
        // SAFETY: an object that the dictionary has.
        let object = unsafe { Object::at(found) };
        // SAFETY: one reference more, as the caller gets it; 3.11 counts them all.
        unsafe { object.set(OB_COUNT, object.word(OB_COUNT) + 1) };
        return found;
    }
    // SAFETY: kept from the slots in which this function stands.
    let original = unsafe { std::mem::transmute::<usize, GetAttr>(GETATTRO.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(this, name) }
}

/// The attribute that an object's dictionary has and its class has not.
#[inline(always)]
fn in_dict(this: u64, name: u64) -> Option<u64> {
    let finders = FINDERS.get()?.as_ref()?;
    // Others might run Python code when they are compared.
    // SAFETY: the name of an attribute, an object.
    if unsafe { ffi::PyUnicode_CheckExact(name as *mut PyObject) } == 0 {
        return None;
    }
    // SAFETY: the object whose attribute is asked for.
    let class = unsafe { Object::at(this) }.word(OB_TYPE);
    // SAFETY: its class, and a str.
    if unsafe { (finders.in_type)(class, name) } != 0 {
        return None;
    }
    // SAFETY: see above.
    let place = unsafe { (finders.dict)(this) };
    // SAFETY: null, or where the object keeps its dictionary.
    let dict = *unsafe { place.as_ref() }?;
    if dict == 0 {
        return None;
    }
    // SAFETY: a dictionary, and a str.
    let found = unsafe { capi::PyDict_GetItemWithError(dict, name) };
    // SAFETY: the GIL is held.
    if found == 0 && unsafe { capi::PyErr_Occurred() } != 0 {
        // SAFETY: the GIL is held. The original meets the error itself.
        unsafe { capi::PyErr_Clear() };
    }
    (found != 0).then_some(found)
}
