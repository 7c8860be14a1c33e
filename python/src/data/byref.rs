//! `byref`: the built-in function gets a table entry of its own, with a cheaper
//! calling convention where ctypes takes a tuple of arguments: CPython hands a
//! single argument over as it is, and all other calls come in by the vectorcall
//! pointer, as for functions that are bound (`bound`). Where CPython makes a
//! signature of that convention (3.13), arguments are handed over as an array.
//!
//! # Safety
//! As for the module above.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Field, Mem};
use pyo3::prelude::*;

use super::instances::TYPE_FREE;
use super::kept::{self, Kept};
use super::{Data, data};
use crate::capi::{self, ARGUMENTS_OFFSET, FASTCALL, Method, ONE_ARGUMENT};
use crate::enter::Vectorcall;
use crate::hook::{Destructor, Original, Place};
use crate::kinds::handle;
use crate::layout::{
    self, CDATA_POINTER, Layout, METHOD_DEF, METHOD_MODULE, METHOD_SELF, METHOD_VECTORCALL,
    TYPE_DEALLOC,
};
use crate::make::{self, Named};
use crate::raw::{self, Object, Owned};

static DEFINITION: Original = Original::new();
static DEALLOC: Original = Original::new();
static CALL: Original = Original::new();

/// The function as it was, as an object of its own.
static PLAIN: AtomicU64 = AtomicU64::new(0);
/// The class of what it gives, and the words that all of these have.
static REFERENCE: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// References that were freed.
static KEPT: Kept = Kept::new();

const FFI_TYPE: Field = Field::new("byref.ffi", 16, Mem::I64);
const TAG: Field = Field::new("byref.tag_word", 24, Mem::I64);

/// Whether a reference has the words that `byref` is to write.
pub(super) fn rows_hold(py: Python<'_>, layout: &Layout) -> PyResult<bool> {
    let ctypes = make::import(py, "ctypes")?;
    let instance = ctypes.attr("c_int")?.call0()?;
    let reference = ctypes.attr("byref")?.call_with((&instance,))?;
    let words = handle(&reference);
    let class = words.word(layout::OB_TYPE);
    let made = [class, words.word(FFI_TYPE), words.word(TAG)];
    for (place, word) in REFERENCE.iter().zip(made) {
        place.store(word, Relaxed);
    }
    Ok(words.word(layout.reference_object) == instance.as_ptr() as u64
        && words.word(layout::REFERENCE_VALUE) == handle(&instance).word(CDATA_POINTER))
}

/// The places in the built-in function, if it is one still.
pub(super) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    static BYREF: OnceLock<Option<Py<PyAny>>> = OnceLock::new();
    let ctypes = make::import(py, "_ctypes")?;
    let found = ctypes.attr("byref")?;
    let another = ctypes.attr("addressof")?;
    let byref = BYREF.get_or_init(|| {
        let is_builtin = found.get_type_ptr() == another.get_type_ptr();
        is_builtin.then(|| found.unbind())
    });
    let Some(byref) = byref.as_ref().map(|byref| handle(byref.bind(py))) else {
        return Ok(Vec::new());
    };
    static OURS: OnceLock<u64> = OnceLock::new();
    let ours = match OURS.get() {
        Some(ours) => *ours,
        None => {
            let made = entry(py, plain(py, byref)?)?;
            *OURS.get_or_init(|| made)
        }
    };
    // SAFETY: the class of all references, which lives as long as its module.
    let class = unsafe { Object::at(REFERENCE[0].load(Relaxed)) };
    Ok(vec![
        Place::new(class, TYPE_DEALLOC, &DEALLOC, dealloc as Destructor as usize as u64),
        Place::new(byref, METHOD_DEF, &DEFINITION, ours),
        Place::new(byref, METHOD_VECTORCALL, &CALL, call as Vectorcall as usize as u64),
    ])
}

/// The function as it is before it is patched for the first time, as an object of its own.
fn plain(py: Python<'_>, byref: Object) -> PyResult<Object> {
    let [definition, this, module] =
        [METHOD_DEF, METHOD_SELF, METHOD_MODULE].map(|field| byref.word(field));
    // SAFETY: the function's own table entry, and what it was made with.
    let made = Owned::from_new(unsafe { capi::PyCFunction_NewEx(definition, this, module) });
    let made = made.ok_or_else(|| PyErr::fetch(py))?;
    // Another thread may have made one meanwhile, as an object was made.
    if PLAIN.load(Relaxed) == 0 {
        PLAIN.store(made.into_address(), Relaxed);
    }
    // SAFETY: the object that was stored, which lives for ever.
    Ok(unsafe { Object::at(PLAIN.load(Relaxed)) })
}

/// A table entry that stands in for that of the plain function, and gives an object that
/// is made of it the same signature.
fn entry(py: Python<'_>, plain: Object) -> PyResult<u64> {
    let one = of_one as unsafe extern "C-unwind" fn(u64, u64) -> u64 as usize as u64;
    let array = of_array as unsafe extern "C-unwind" fn(u64, u64, u64) -> u64 as usize as u64;
    // SAFETY: the table entry of a built-in function.
    let definition = unsafe { *(plain.word(METHOD_DEF) as *const Method) };
    let entry = |function, flags| Method { function, flags, ..definition }.leak();
    let of_one = entry(one, ONE_ARGUMENT);
    // SAFETY: a table entry that lives for ever.
    let sample = Owned::from_new(unsafe { capi::PyCFunction_NewEx(of_one, 0, 0) });
    let sample = sample.ok_or_else(|| PyErr::fetch(py))?;
    let signature = |function: Object| function.bound(py).attr("__text_signature__");
    let is_same = signature(sample.object())?.eq(signature(plain)?)?;
    Ok(if is_same { of_one } else { entry(array, FASTCALL) })
}

/// What CPython calls where it knows that a built-in function of one argument gets one.
unsafe extern "C-unwind" fn of_one(_module: u64, argument: u64) -> u64 {
    // SAFETY: an argument of this call.
    match reference(unsafe { Object::at(argument) }) {
        // SAFETY: as above.
        0 => unsafe { plainly(&raw const argument as u64, 1, 0) },
        reference => reference,
    }
}

/// What CPython calls where it knows that a built-in function takes an array.
unsafe extern "C-unwind" fn of_array(_module: u64, args: u64, count: u64) -> u64 {
    // SAFETY: the arguments of this call.
    unsafe { call(0, args, count, 0) }
}

/// What everybody else calls.
unsafe extern "C-unwind" fn call(_byref: u64, args: u64, count: u64, names: u64) -> u64 {
    let count = count & !ARGUMENTS_OFFSET;
    if count == 1 && names == 0 {
        // SAFETY: there is one argument.
        let argument = unsafe { *(args as *const u64) };
        // SAFETY: an argument of this call.
        return unsafe { of_one(0, argument) };
    }
    // SAFETY: the arguments of this call.
    unsafe { plainly(args, count, names) }
}

/// Calls the function as it was.
unsafe fn plainly(args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: a built-in function, and the arguments of a call.
    unsafe { capi::PyObject_Vectorcall(PLAIN.load(Relaxed), args as *const u64, count, names) }
}

/// A reference to an instance of ctypes; 0 if it is none, or without memory.
#[inline]
fn reference(instance: Object) -> u64 {
    let Some(data) = data().filter(|data| data.is_instance(instance)) else { return 0 };
    let [class, ffi_type, tag] = words();
    let fields = [
        (FFI_TYPE, ffi_type),
        (TAG, tag),
        (layout::REFERENCE_VALUE, instance.word(CDATA_POINTER)),
        (data.layout.reference_object, instance.address()),
    ];
    let Some(made) = KEPT.wake(|_| fields).or_else(|| allocate(class, fields)) else { return 0 };
    raw::hold(instance);
    made.address()
}

/// The class of references, and the words that all of them have.
#[inline(always)]
fn words() -> [u64; 3] {
    [REFERENCE[0].load(Relaxed), REFERENCE[1].load(Relaxed), REFERENCE[2].load(Relaxed)]
}

/// A new object with these words; none without memory.
#[inline(never)]
fn allocate(class: u64, fields: [(Field, u64); 4]) -> Option<Object> {
    // SAFETY: the class of references, which takes no items.
    let made = unsafe { capi::PyType_GenericAlloc(class, 0) };
    if made == 0 {
        // SAFETY: the GIL is held; the plain function will meet the error.
        unsafe { capi::PyErr_Clear() };
        return None;
    }
    // SAFETY: a new object.
    let reference = unsafe { Object::at(made) };
    for (field, word) in fields {
        // SAFETY: a word that the field of every such object has, or its own.
        unsafe { reference.set(field, word) };
    }
    Some(reference)
}

/// The destructor of references and of other arguments that ctypes converts.
unsafe extern "C-unwind" fn dealloc(this: u64) {
    // SAFETY: CPython calls with an object that has no references left.
    let reference = unsafe { Object::at(this) };
    let [class, ffi_type, tag] = words();
    let is_one = reference.word(layout::OB_TYPE) == class
        && reference.word(FFI_TYPE) == ffi_type
        && reference.word(TAG) == tag;
    if let Some(data) = data().filter(|_| is_one)
        && free(data, reference)
    {
        return;
    }
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Destructor>(DEALLOC.address() as usize) };
    // SAFETY: the argument that CPython gave us.
    unsafe { original(this) };
}

/// Gives up what a reference refers to, and keeps it if there is room.
#[inline(always)]
fn free(data: &Data, reference: Object) -> bool {
    let class = reference.class();
    let instance = reference.word(data.layout.reference_object);
    kept::untrack(reference, class);
    // SAFETY: nobody refers to the reference any more.
    unsafe { reference.set(data.layout.reference_object, 0) };
    if instance != 0 {
        // SAFETY: the reference's own.
        unsafe { raw::release(instance) };
    }
    KEPT.push(reference, class)
}

/// Frees what was kept.
pub(super) fn clear() {
    let [class, ..] = words();
    if class != 0 {
        // SAFETY: the class of references, which lives as long as its module.
        let free = unsafe { Object::at(class) }.word(TYPE_FREE);
        // SAFETY: the slot of a type, which frees its instances.
        KEPT.free(unsafe { std::mem::transmute::<usize, Destructor>(free as usize) });
    }
}
