//! Calls of classes: `c_int(5)`, `Point()`, `(c_int * 3)()`.
//!
//! The call slot of ctypes' metaclasses is patched. When it has made an instance
//! of a class, the class is adopted (`instances`) and gets a vectorcall pointer of
//! its own, so that CPython does not make a tuple of arguments. A call without
//! arguments, of a simple type with an exact int or float, or of a pointer with an
//! instance to point to, is served by an instance that was kept; all others go to
//! the slot. New classes have no such pointer, and those of other metaclasses,
//! which may have their own way of being called, get none.
//!
//! # Safety
//! As for the module above.

use std::ffi::CStr;

use hotcall_tracer::{Field, Mem};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::access::{Holder, access, learn, word_of, write_word};
use super::{Data, data, instances};
use crate::capi::{self, ARGUMENTS_OFFSET};
use crate::declare::info;
use crate::enter::Vectorcall;
use crate::hook::{HAVE_VECTORCALL, Original, Place};
use crate::instance;
use crate::kinds::handle;
use crate::layout::{
    CDATA_BASE, CDATA_LENGTH, CDATA_OBJECTS, CDATA_POINTER, MEMORY_WORD, OB_TYPE, TYPE_CALL,
    TYPE_FLAGS, TYPE_VECTORCALL_OFFSET,
};
use crate::make::{self, Named};
use crate::raw::{self, Object, Owned};

/// The vectorcall pointer of a class, where its metaclass says that it is.
const TYPE_VECTORCALL: Field = Field::new("type.vectorcall", 400, Mem::I64);

type Call = unsafe extern "C-unwind" fn(class: u64, args: u64, names: u64) -> u64;

static CALL: Original = Original::new();

/// The call slots of the metaclasses.
pub(super) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    let place = |metaclass: Bound<'_, PyType>| {
        Place::new(handle(metaclass.as_any()), TYPE_CALL, &CALL, ours())
    };
    Ok(instance::metaclasses(py)?.into_iter().map(place).collect())
}

/// Whether the rows hold: all metaclasses have one call slot, that of `type`, and
/// a class of ctypes' metaclass no vectorcall pointer where `type` has one.
pub(super) fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let of_type = handle(py.get_type::<PyType>().as_any());
    let slots = places(py)?.iter().all(|place| place.holds(of_type.word(TYPE_CALL), ours()));
    let c_int = make::import(py, "ctypes")?.attr("c_int")?;
    let offset = TYPE_VECTORCALL.offset as u64;
    Ok(slots
        && of_type.word(TYPE_VECTORCALL_OFFSET) == offset
        && of_type.word(TYPE_VECTORCALL) != 0
        && handle(c_int.get_type().as_any()).word(TYPE_VECTORCALL_OFFSET) == offset
        && [0, vectorcall()].contains(&handle(&c_int).word(TYPE_VECTORCALL)))
}

fn ours() -> u64 {
    call as Call as usize as u64
}

fn vectorcall() -> u64 {
    construct as Vectorcall as usize as u64
}

/// Takes a class's vectorcall pointer away, if it is ours.
pub(super) fn put_back(class: Object) {
    if class.word(TYPE_VECTORCALL) == vectorcall() {
        // SAFETY: without it CPython calls the slot.
        unsafe { class.set(TYPE_VECTORCALL, 0) };
    }
}

/// The call slot of the metaclasses.
unsafe extern "C-unwind" fn call(class: u64, args: u64, names: u64) -> u64 {
    // SAFETY: the arguments that CPython gave us.
    let made = unsafe { by_slot(class, args, names) };
    // SAFETY: CPython calls with a class, and the slot has given an object.
    if made != 0 && unsafe { Object::at(made) }.word(OB_TYPE) == class {
        // SAFETY: as above.
        look(unsafe { Object::at(class) });
    }
    made
}

/// What stood in the slot.
unsafe fn by_slot(class: u64, args: u64, names: u64) -> u64 {
    // SAFETY: kept from the slots in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Call>(CALL.address() as usize) };
    // SAFETY: the caller vouches for the arguments.
    unsafe { original(class, args, names) }
}

/// Adopts a class that has made an instance, and gives it a vectorcall pointer.
fn look(class: Object) {
    instances::adopt(class);
    let metaclass = class.class();
    if instances::is_adopted(class)
        && metaclass.word(TYPE_CALL) == ours()
        && metaclass.word(TYPE_FLAGS) & HAVE_VECTORCALL != 0
        && class.word(TYPE_VECTORCALL) == 0
        && instance::is_stock(class)
    {
        // SAFETY: ours ends in the call slot, as the lack of one does.
        unsafe { class.set(TYPE_VECTORCALL, vectorcall()) };
    }
}

/// The vectorcall pointer of adopted classes.
unsafe extern "C-unwind" fn construct(class: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: CPython calls with a class.
    let called = unsafe { Object::at(class) };
    if names == 0 && instance::is_stock(called) {
        let argument = match count & !ARGUMENTS_OFFSET {
            0 => Some(0),
            // SAFETY: there is one argument.
            1 => Some(unsafe { *(args as *const u64) }),
            _ => None,
        };
        if let Some(made) = argument.and_then(|argument| make(called, argument)) {
            return made.address();
        }
    }
    // Without the pointer CPython calls the slot, which sets it again.
    put_back(called);
    // SAFETY: the arguments that CPython gave us.
    unsafe { capi::PyObject_Vectorcall(class, args as *const u64, count, names) }
}

/// An instance of a class with stock slots, of one argument unless that is 0; none
/// if the slot has to make it.
#[inline(always)]
fn make(class: Object, argument: u64) -> Option<Object> {
    if argument == 0 {
        return instances::whole(class);
    }
    // SAFETY: an argument of this call.
    let argument = unsafe { Object::at(argument) };
    let data = data()?;
    if instance::is_pointer(class) {
        return pointer(data, class, argument);
    }
    // A simple type is the class of its one value.
    let holder = Holder::class(class);
    let access = access(holder, class).unwrap_or_else(|| learn(holder, class));
    let word = word_of(data, argument, access)?;
    let made = instances::whole(class)?;
    write_word(access, made.word(CDATA_POINTER), word);
    Some(made)
}

/// A pointer to an instance of the very class that it is for.
fn pointer(data: &Data, class: Object, target: Object) -> Option<Object> {
    if target.word(OB_TYPE) != info(&data.layout, class).word(data.layout.info_proto) {
        return None;
    }
    let made = instances::whole(class)?;
    let memory = made.object(CDATA_POINTER)?;
    // SAFETY: the memory of a pointer is a word.
    unsafe { memory.set(MEMORY_WORD, target.word(CDATA_POINTER)) };
    if keep(data, made, target).is_none() {
        // SAFETY: the GIL is held; the call slot will meet the error itself.
        unsafe { capi::PyErr_Clear() };
        // SAFETY: made above.
        unsafe { raw::release(made.address()) };
        return None;
    }
    Some(made)
}

/// Lets a new pointer keep alive what it points to, and what that keeps alive, as
/// ctypes does: under the keys "1" and "0". None with an exception set.
fn keep(data: &Data, pointer: Object, target: Object) -> Option<()> {
    let objects = container(data, pointer)?;
    insert(objects, c"1", target)?;
    let mut root = target;
    while let Some(base) = root.object(CDATA_BASE) {
        root = base;
    }
    let kept = container(data, root)?;
    if kept.address() == data.none { Some(()) } else { insert(objects, c"0", kept) }
}

/// What an instance that is no part keeps alive: a dictionary, or None where there
/// is never anything, and made if it is not there yet.
fn container(data: &Data, instance: Object) -> Option<Object> {
    if let Some(objects) = instance.object(CDATA_OBJECTS) {
        return Some(objects);
    }
    let made = match instance.word(CDATA_LENGTH) {
        0 => {
            // SAFETY: an object that lives as long as the process.
            raw::hold(unsafe { Object::at(data.none) });
            data.none
        }
        // SAFETY: the GIL is held.
        _ => unsafe { capi::PyDict_New() },
    };
    // SAFETY: null, or an object whose reference the instance takes.
    unsafe { instance.set(CDATA_OBJECTS, made) };
    instance.object(CDATA_OBJECTS)
}

fn insert(dict: Object, key: &CStr, value: Object) -> Option<()> {
    // SAFETY: a C string of one character.
    let key = Owned::from_new(unsafe { capi::PyUnicode_FromStringAndSize(key.as_ptr(), 1) })?;
    // SAFETY: a dictionary and two objects.
    let status =
        unsafe { capi::PyDict_SetItem(dict.address(), key.object().address(), value.address()) };
    (status == 0).then_some(())
}
