//! Makes ctypes instances from C values, as ctypes does for a `restype` that
//! is a subclass of a simple type: `__new__` and `__init__` do not run.
//!
//! # Safety
//! The helper relies on the layout rows, which are checked at import.

#![allow(unsafe_code, reason = "writes into ctypes objects")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Effect, Entry, Helper};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::capi;
use crate::data::instances;
use crate::kinds::handle;
use crate::layout::{
    CDATA_POINTER, CDATA_SIZE, OB_TYPE, TYPE_DEL, TYPE_FINALIZE, TYPE_INIT, TYPE_NEW,
};
use crate::make::{self, Named};
use crate::raw::{Object, Owned};

/// Makes an instance of a class of 1 to 8 bytes: words are the class, the C
/// value's bits, and its size in bytes. It gives up the reference to the class
/// that [`crate::helpers::KEEP`] took before the call.
pub(crate) static NEW_INSTANCE: Helper =
    Helper { name: "new_instance", entry: Entry::WWWW(new_instance), effect: Effect::Effect };

/// Makes an instance of a structure class: words are the class, the address of
/// the bytes, and their number. It gives up the reference to the class too.
pub(crate) static NEW_RECORD: Helper =
    Helper { name: "new_record", entry: Entry::WWWW(new_record), effect: Effect::Effect };

type NewFunction = unsafe extern "C-unwind" fn(class: u64, args: u64, kwargs: u64) -> u64;

/// `_SimpleCData`'s `tp_new`, set before the first declaration is read.
static SIMPLE_NEW: AtomicU64 = AtomicU64::new(0);

/// Sets the constructor of `_ctypes._SimpleCData`.
pub(crate) fn set_constructor(tp_new: u64) {
    SIMPLE_NEW.store(tp_new, Relaxed);
}

unsafe extern "C-unwind" fn new_instance(class: u64, bits: u64, size: u64) -> u64 {
    let bytes = bits.to_le_bytes();
    // SAFETY: the bytes of a word, and a class of at most as many.
    unsafe { new_record(class, bytes.as_ptr() as u64, size) }
}

unsafe extern "C-unwind" fn new_record(class: u64, bytes: u64, size: u64) -> u64 {
    let instance = construct(class);
    if instance != 0 {
        // SAFETY: the ctypes object has just been made.
        let memory = unsafe { Object::at(instance) }.word(CDATA_POINTER) as *mut u8;
        // SAFETY: the class has `size` bytes, and so has its memory; as many are
        // at the address.
        unsafe { std::ptr::copy_nonoverlapping(bytes as *const u8, memory, size as usize) };
    }
    // SAFETY: the rule took this reference before the call.
    unsafe { capi::Py_DecRef(class) };
    instance
}

/// An instance of the same class with the same bytes, in memory of its own; none
/// with an exception set.
pub(crate) fn copy(instance: Object) -> Option<Owned> {
    let made = Owned::from_new(construct(instance.word(OB_TYPE)))?;
    let size = made.object().word(CDATA_SIZE).min(instance.word(CDATA_SIZE));
    let from = instance.word(CDATA_POINTER) as *const u8;
    let to = made.object().word(CDATA_POINTER) as *mut u8;
    // SAFETY: both instances have that many bytes, and one is new.
    unsafe { std::ptr::copy_nonoverlapping(from, to, size as usize) };
    Some(made)
}

/// Whether the end of an instance of `class` may run code of the program's.
#[inline(always)]
pub(crate) fn has_finaliser(class: Object) -> bool {
    class.word(TYPE_FINALIZE) | class.word(TYPE_DEL) != 0
}

/// The class of ctypes for each kind of class whose instances have memory.
pub(crate) const KINDS: [&str; 5] = ["_SimpleCData", "_Pointer", "Structure", "Union", "Array"];

/// The metaclass of each of them.
///
/// # Errors
/// What a look-up raised.
pub(crate) fn metaclasses(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
    let ctypes = make::import(py, "_ctypes")?;
    KINDS.iter().map(|name| Ok(ctypes.attr(*name)?.get_type())).collect()
}

/// The constructor and initialiser of each of them.
static STOCK: [[AtomicU64; 2]; KINDS.len()] =
    [const { [AtomicU64::new(0), AtomicU64::new(0)] }; KINDS.len()];

/// Learns them: without arguments the initialisers do nothing.
///
/// # Errors
/// What a look-up raised.
pub(crate) fn learn_stock(py: Python<'_>) -> PyResult<()> {
    let ctypes = make::import(py, "_ctypes")?;
    for (name, slots) in KINDS.into_iter().zip(&STOCK) {
        let class = ctypes.attr(name)?;
        for (slot, field) in slots.iter().zip([TYPE_NEW, TYPE_INIT]) {
            slot.store(handle(&class).word(field), Relaxed);
        }
    }
    Ok(())
}

/// Whether a class of ctypes has the constructor and initialiser of its kind.
#[inline(always)]
pub(crate) fn is_stock(class: Object) -> bool {
    let (new, init) = (class.word(TYPE_NEW), class.word(TYPE_INIT));
    STOCK
        .iter()
        .any(|[of_new, of_init]| of_new.load(Relaxed) == new && of_init.load(Relaxed) == init)
}

/// Whether a class that is stock is one of pointers.
#[inline(always)]
pub(crate) fn is_pointer(class: Object) -> bool {
    STOCK[1][0].load(Relaxed) == class.word(TYPE_NEW)
}

/// What a ctypes class, of a metaclass of ctypes, gives when it is called without
/// arguments: an object, or 0 with an exception set.
pub(crate) fn call(class: Object) -> u64 {
    match is_stock(class) {
        true => construct_by(class.word(TYPE_NEW), class.address()),
        // SAFETY: a class that the caller holds.
        false => unsafe { capi::PyObject_CallNoArgs(class.address()) },
    }
}

/// A zeroed instance of `class`, or 0 with an exception set.
fn construct(class: u64) -> u64 {
    construct_by(SIMPLE_NEW.load(Relaxed), class)
}

/// The same by a constructor that suits the class.
fn construct_by(tp_new: u64, class: u64) -> u64 {
    // SAFETY: a class.
    let of = unsafe { Object::at(class) };
    if let Some(kept) = instances::whole(of) {
        return kept.address();
    }
    // SAFETY: the GIL is held.
    let args = unsafe { capi::PyTuple_New(0) };
    if args == 0 {
        return 0;
    }
    // SAFETY: the slot of a type, which is a newfunc.
    let tp_new = unsafe { std::mem::transmute::<usize, NewFunction>(tp_new as usize) };
    // SAFETY: a class of ctypes, an empty tuple, and no keywords.
    let instance = unsafe { tp_new(class, args, 0) };
    // SAFETY: the tuple was made above.
    unsafe { capi::Py_DecRef(args) };
    if instance != 0 {
        instances::adopt(of);
    }
    instance
}
