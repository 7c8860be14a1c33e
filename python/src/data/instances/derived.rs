//! Classes that come to derive from others, by a `class` statement or by assignment
//! to `__bases__`: the destructors of their bases are put back before that.
//!
//! CPython's destructor goes up the bases of an instance's class to the first
//! destructor that is not itself, twice, and between that runs the finaliser. It has
//! to find the same one.

use std::ffi::c_int;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::*;
use crate::hook::{self, Original, Place};
use crate::instance::{KINDS, metaclasses};
use crate::kinds::handle;
use crate::layout::{GETSET_DEF, GETSET_SET, TYPE_INIT, TYPE_NEW, WRAPPER_WRAPPED};
use crate::make::{self, Named};

type Init = unsafe extern "C-unwind" fn(class: u64, args: u64, names: u64) -> c_int;
type New = unsafe extern "C-unwind" fn(metaclass: u64, args: u64, names: u64) -> u64;
type Setter = unsafe extern "C-unwind" fn(class: u64, value: u64, closure: u64) -> c_int;

/// The slots in which ctypes' metaclasses do their work: `tp_new` up to 3.12, then
/// `tp_init`.
static MAKE: [Original; KINDS.len()] = [const { Original::new() }; KINDS.len()];
static SET_BASES: Original = Original::new();

/// What stands in for them.
static NEW: [New; KINDS.len()] = [new::<0>, new::<1>, new::<2>, new::<3>, new::<4>];
static INIT: [Init; KINDS.len()] = [init::<0>, init::<1>, init::<2>, init::<3>, init::<4>];

/// The slot of a metaclass of ctypes that `type` has not, and what stands in for
/// that of this kind.
fn slot(py: Python<'_>, metaclass: Object, kind: usize) -> (Field, u64) {
    let of_type = handle(py.get_type::<PyType>().as_any());
    if metaclass.word(TYPE_INIT) == of_type.word(TYPE_INIT) {
        (TYPE_NEW, NEW[kind] as usize as u64)
    } else {
        (TYPE_INIT, INIT[kind] as usize as u64)
    }
}

/// The slots of the metaclasses, the wrappers of initialisers, and the setter.
pub(in super::super) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    let of_type = py.get_type::<PyType>();
    let missing = || make::error::<PyRuntimeError>(py, "type.__bases__ has no C table");
    let bases = of_type.attr("__dict__")?.item("__bases__")?;
    let bases = handle(&bases).object(GETSET_DEF).ok_or_else(missing)?;
    let ours = set_bases as Setter as usize as u64;
    let mut places = vec![Place::new(bases, GETSET_SET, &SET_BASES, ours)];
    for (kind, (metaclass, original)) in metaclasses(py)?.into_iter().zip(&MAKE).enumerate() {
        let (field, ours) = slot(py, handle(metaclass.as_any()), kind);
        places.push(Place::new(handle(metaclass.as_any()), field, original, ours));
        if field == TYPE_INIT {
            // A metaclass that derives from it may call it so.
            let wrapper = metaclass.attr("__dict__")?.item("__init__")?;
            places.push(Place::new(handle(&wrapper), WRAPPER_WRAPPED, original, ours));
        }
    }
    Ok(places)
}

/// Whether the rows hold.
pub(in super::super) fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let of_type = py.get_type::<PyType>();
    let mut holds = true;
    for (kind, metaclass) in metaclasses(py)?.into_iter().enumerate() {
        let (field, ours) = slot(py, handle(metaclass.as_any()), kind);
        let found = handle(metaclass.as_any()).word(field);
        holds &= found != handle(of_type.as_any()).word(field);
        if field == TYPE_INIT {
            let wrapper = metaclass.attr("__dict__")?.item("__init__")?;
            holds &= [found, ours].contains(&handle(&wrapper).word(WRAPPER_WRAPPED));
        }
    }
    Ok(holds)
}

/// Patches a metaclass that has inherited the slot of one of ctypes', or puts that
/// back. Other classes have no such slot.
pub(in super::super) fn patch(metaclass: Object, on: bool) {
    for (kind, original) in MAKE.iter().enumerate() {
        let ours = [(TYPE_NEW, NEW[kind] as usize), (TYPE_INIT, INIT[kind] as usize)];
        for (field, ours) in ours {
            let (original, ours) = (original.address(), ours as u64);
            let (from, to) = if on { (original, ours) } else { (ours, original) };
            if from != 0 && metaclass.word(field) == from {
                // SAFETY: ours has the same signature and ends in the one that it stands in for.
                unsafe { metaclass.set(field, to) };
            }
        }
    }
}

/// Initialises a class: there are no instances of it before.
unsafe extern "C-unwind" fn init<const KIND: usize>(class: u64, args: u64, names: u64) -> c_int {
    // SAFETY: CPython calls with a class.
    put_back_bases(unsafe { Object::at(class) });
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Init>(MAKE[KIND].address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(class, args, names) }
}

/// Makes a class, of which there are no instances yet.
unsafe extern "C-unwind" fn new<const KIND: usize>(metaclass: u64, args: u64, names: u64) -> u64 {
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, New>(MAKE[KIND].address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    let made = unsafe { original(metaclass, args, names) };
    if made != 0 {
        // SAFETY: the slot of a metaclass has made a class.
        put_back_bases(unsafe { Object::at(made) });
    }
    made
}

/// Assigns to the bases of a class. It may have instances, one of which may be in
/// the middle of its destructor; what is adopted meanwhile is put back behind. What
/// functions return whose result type it is depends on its bases.
unsafe extern "C-unwind" fn set_bases(class: u64, value: u64, closure: u64) -> c_int {
    if value != 0 {
        // SAFETY: CPython calls with a class and an object, or null to delete.
        let value = unsafe { Object::at(value) };
        let bases = if value.is_tuple() { value.items() } else { raw::Objects::new() };
        bases.into_iter().filter(|base| base.is_type()).for_each(put_back);
    }
    // SAFETY: kept from the table in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Setter>(SET_BASES.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    let status = unsafe { original(class, value, closure) };
    // SAFETY: as above.
    put_back_bases(unsafe { Object::at(class) });
    let is_of_ctypes = |data: &Data| {
        // SAFETY: two classes.
        let derives = unsafe { capi::PyType_IsSubtype(class, data.base) };
        derives != 0
    };
    if status == 0 && data().is_some_and(is_of_ctypes) {
        hook::forget_all();
    }
    status
}

/// Puts the destructors of all bases of a class back: of those that are looked at
/// for attributes, and of those that destructors go up, which a method resolution
/// order of the class's own may leave out.
fn put_back_bases(class: Object) {
    class.order().into_iter().filter(|base| *base != class).for_each(put_back);
    let above = |base: &Object| base.object(TYPE_BASE);
    std::iter::successors(class.object(TYPE_BASE), above).for_each(put_back);
}
