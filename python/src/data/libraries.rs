//! `library.function`: a library has `__getattr__`, so that CPython 3.11 goes the
//! long way for each attribute of it, even for those that are there.
//!
//! What stands in for it looks for an attribute that the library's dictionary
//! has and its class has not, and leaves all others to the slot that it stands
//! in for. What it finds stays true as long as neither class nor dictionary gets
//! another version ([PEP 509](https://peps.python.org/pep-0509/)), so it is
//! remembered by the name. From 3.12 CPython does as much by itself.
//!
//! CPython sets the slot anew when somebody gives a class, or a base of it,
//! another `__getattr__` or `__getattribute__`, and sets that of each new class.
//! So what stands here is there for classes as they were when it was patched.
//!
//! # Safety
//! As for the module above.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Field, Mem};
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::capi;
use crate::hook::{Original, Place, with_subclasses};
use crate::kinds::handle;
use crate::layout::{TYPE_GETATTRO, TYPE_VERSION};
use crate::make::{self, Named};
use crate::raw::{self, Object};
use crate::table::{Entry, Table};

type GetAttr = unsafe extern "C-unwind" fn(this: u64, name: u64) -> u64;
type FindInType = unsafe extern "C-unwind" fn(class: u64, name: u64) -> u64;
type FindDict = unsafe extern "C-unwind" fn(this: u64) -> *const u64;

/// The keys of a dictionary, and what kind they are.
const DICT_KEYS: Field = Field::new("dict.keys", 32, Mem::I64);
const KEYS_KIND: Field = Field::new("keys.kind", 10, Mem::U8);
/// The kind of keys that are not all of them exact strs.
const GENERAL: u64 = 0;
/// The version of a dictionary, which no other dictionary has, nor this one when it
/// has changed.
const DICT_VERSION: Field = Field::new("dict.version", 24, Mem::I64);

/// An attribute that was found.
struct Attribute {
    /// Its name, which is held: another one may not get its address.
    name: AtomicU64,
    /// The version of the class, which does not have it.
    class: AtomicU32,
    /// The version of the dictionary, which does, and holds it.
    dict: AtomicU64,
    value: AtomicU64,
}

impl Entry for Attribute {
    const EMPTY: Attribute = Attribute {
        name: AtomicU64::new(0),
        class: AtomicU32::new(0),
        dict: AtomicU64::new(0),
        value: AtomicU64::new(0),
    };

    #[inline(always)]
    fn address(&self) -> &AtomicU64 {
        &self.name
    }
}

static ATTRIBUTES: Table<Attribute, 256> = Table::new();

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
    if !rows_hold(py)? {
        return Ok(Vec::new());
    }
    // The slot of every class with a `__getattr__` in Python.
    let members = make::dict(py)?;
    members.put("__getattr__", make::import(py, "builtins")?.attr("print")?)?;
    let probe = py.get_type::<PyType>().call_with(("Probe", (), members))?;
    let usual = handle(&probe).word(TYPE_GETATTRO);
    let ours = getattr as GetAttr as usize as u64;
    let name = make::GETATTRIBUTE.address();
    let plain = make::import(py, "builtins")?.attr("object")?.attr("__getattribute__")?;
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

/// `CDLL` and the loader of libraries, as they were at first, with all that derive from
/// them: a program may put something else in their place.
fn classes(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    static ROOTS: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();
    let roots = ROOTS.get_or_try_init(py, || -> PyResult<_> {
        let ctypes = make::import(py, "ctypes")?;
        let named = [ctypes.attr("CDLL")?, ctypes.attr("LibraryLoader")?];
        let classes = named.into_iter().filter(|named| handle(named).is_type());
        Ok(classes.map(Bound::unbind).collect())
    })?;
    with_subclasses(roots.iter().map(|root| root.bind(py).clone()).collect())
}

/// Whether dictionaries have their versions, and the kind of their keys, where they
/// are expected.
fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let dict = make::dict(py)?;
    let version = || handle(dict.as_any()).word(DICT_VERSION);
    let mut versions = vec![version()];
    for value in 0..4 {
        dict.put("a", value)?;
        versions.push(version());
    }
    let is_new =
        versions.is_sorted_by(|one, next| one < next) && versions.last() == Some(&version());
    let has_strs = is_of_strs(handle(dict.as_any()));
    dict.put(1, 1)?;
    Ok(is_new && has_strs && !is_of_strs(handle(dict.as_any())))
}

/// Whether all keys of a dictionary are exact strs: to compare them with one runs no
/// Python code.
fn is_of_strs(dict: Object) -> bool {
    dict.object(DICT_KEYS).is_some_and(|keys| keys.word(KEYS_KIND) != GENERAL)
}

unsafe extern "C-unwind" fn getattr(this: u64, name: u64) -> u64 {
    // SAFETY: the object whose attribute is asked for.
    if let Some(found) = look_up(unsafe { Object::at(this) }, name) {
        return found;
    }
    // SAFETY: kept from the slots in which this function stands.
    let original = unsafe { std::mem::transmute::<usize, GetAttr>(GETATTRO.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(this, name) }
}

/// A reference to the attribute that an object's dictionary has and its class has not.
#[inline(always)]
fn look_up(object: Object, name: u64) -> Option<u64> {
    let finders = FINDERS.get()?.as_ref()?;
    let dict = dictionary(finders, object)?;
    if let Some(known) = ATTRIBUTES.find(name)
        && known.class.load(Relaxed) == object.class().word(TYPE_VERSION) as u32
        && known.dict.load(Relaxed) == dict.word(DICT_VERSION)
    {
        let value = known.value.load(Relaxed);
        // SAFETY: the dictionary, unchanged, holds it.
        raw::hold(unsafe { Object::at(value) });
        return Some(value);
    }
    find(finders, object, name)
}

/// The dictionary of an object, which may have none.
#[inline(always)]
fn dictionary(finders: &Finders, object: Object) -> Option<Object> {
    // SAFETY: an object.
    let place = unsafe { (finders.dict)(object.address()) };
    // SAFETY: null, or where the object keeps its dictionary.
    let dict = *unsafe { place.as_ref() }?;
    // SAFETY: the object's dictionary, unless it is null.
    (dict != 0).then(|| unsafe { Object::at(dict) })
}

/// Looks for an attribute, and remembers it. No Python code runs that would run again
/// where it is looked for once more.
#[cold]
#[inline(never)]
fn find(finders: &Finders, object: Object, name: u64) -> Option<u64> {
    // SAFETY: the name of an attribute, an object.
    if unsafe { ffi::PyUnicode_CheckExact(name as *mut PyObject) } == 0 {
        return None;
    }
    let class = object.class();
    // SAFETY: a class, and a str.
    if unsafe { (finders.in_type)(class.address(), name) } != 0 {
        return None;
    }
    let version = class.word(TYPE_VERSION) as u32;
    let dict = dictionary(finders, object).filter(|dict| is_of_strs(*dict))?;
    // SAFETY: a dictionary, and a str: it cannot fail.
    let found = unsafe { capi::PyDict_GetItemWithError(dict.address(), name) };
    if found == 0 {
        return None;
    }
    // SAFETY: what the dictionary holds.
    let found = unsafe { Object::at(found) };
    if version != 0 {
        remember(version, dict, name, found);
    }
    raw::hold(found);
    Some(found.address())
}

/// Remembers an attribute that a class of this version does not have and a
/// dictionary has.
fn remember(class: u32, dict: Object, name: u64, found: Object) {
    let place = ATTRIBUTES.room(name);
    let before = place.name.swap(name, Relaxed);
    place.class.store(class, Relaxed);
    place.dict.store(dict.word(DICT_VERSION), Relaxed);
    place.value.store(found.address(), Relaxed);
    // SAFETY: the name that was asked for.
    raw::hold(unsafe { Object::at(name) });
    if before != 0 {
        // SAFETY: it was held while it stood in the table.
        unsafe { raw::release(before) };
    }
}
