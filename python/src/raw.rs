//! Handles on CPython's objects, which are opaque under the stable ABI: their
//! fields are read and written by layout row.
//!
//! # Safety
//! Whoever makes a handle vouches that the object lives while the handle is
//! used, that the GIL is held, and that the rows used on it belong to its
//! type. The rows themselves are checked at import.

#![allow(unsafe_code, reason = "reads and writes fields of opaque objects")]

use std::ffi::CStr;
use std::mem::ManuallyDrop;

use hotcall_tracer::{Field, Mem};
use pyo3::ffi;
use pyo3::prelude::*;
use smallvec::SmallVec;

use crate::capi;
use crate::layout::{OB_COUNT, OB_TYPE, TYPE_FLAGS, TYPE_MRO};

/// An object, or another structure of CPython's, at a known address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object(u64);

impl Object {
    /// The object at `address`.
    ///
    /// # Safety
    /// A live object is at `address`. It stays alive, and the GIL held, while
    /// the handle is used; the rows used on it belong to its type.
    pub(crate) unsafe fn at(address: u64) -> Object {
        debug_assert_ne!(address, 0, "a handle is never null");
        Object(address)
    }

    /// Its address.
    pub(crate) fn address(self) -> u64 {
        self.0
    }

    /// The object as pyo3 sees it.
    pub(crate) fn bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        // SAFETY: the maker of the handle promised a live object.
        unsafe { Bound::from_borrowed_ptr(py, self.0 as *mut ffi::PyObject) }
    }

    /// A field's word.
    #[inline(always)]
    pub(crate) fn word(self, field: Field) -> u64 {
        let place = self.0.wrapping_add_signed(field.offset.into());
        let mut bytes = [0; 8];
        let size = field.mem.size() as usize;
        // SAFETY: the maker of the handle promised a live object of this row's
        // type; rows are at most 8 bytes.
        unsafe { std::ptr::copy_nonoverlapping(place as *const u8, bytes.as_mut_ptr(), size) };
        field.mem.widen(u64::from_le_bytes(bytes))
    }

    /// Its class.
    #[inline(always)]
    pub(crate) fn class(self) -> Object {
        Object(self.word(OB_TYPE))
    }

    /// The object that a field refers to, if any.
    #[inline(always)]
    pub(crate) fn object(self, field: Field) -> Option<Object> {
        let address = self.word(field);
        (address != 0).then_some(Object(address))
    }

    /// Its first words, as many as there surely are.
    pub(crate) fn words<const N: usize>(self) -> [u64; N] {
        std::array::from_fn(|at| self.word(Field::new("word", 8 * at as i32, Mem::I64)))
    }

    /// Writes a field that is a word.
    ///
    /// # Safety
    /// The word is one that every reader of the field expects.
    pub(crate) unsafe fn set(self, field: Field, word: u64) {
        let place = self.0.wrapping_add_signed(field.offset.into());
        // SAFETY: as for `word`; fields that are words are aligned.
        unsafe { (place as *mut u64).write(word) };
    }

    /// The C string that a field points to.
    pub(crate) fn text(self, field: Field) -> String {
        let text = self.word(field) as *const std::ffi::c_char;
        // SAFETY: the row is one that holds a C string, never null.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// The method resolution order of a class, which holds the classes as long as it
    /// is that.
    pub(crate) fn order(self) -> Objects {
        self.object(TYPE_MRO).map(Object::items).unwrap_or_default()
    }

    /// Whether it is a class.
    pub(crate) fn is_type(self) -> bool {
        self.class().word(TYPE_FLAGS) & TYPE_SUBCLASS != 0
    }

    /// Whether it is an int, or of a class that derives from that, as CPython asks
    /// for it: a method resolution order of a class's own may tell another tale.
    pub(crate) fn is_int(self) -> bool {
        self.class().word(TYPE_FLAGS) & INT_SUBCLASS != 0
    }

    /// Whether it is a tuple, or of a class that derives from that.
    pub(crate) fn is_tuple(self) -> bool {
        self.class().word(TYPE_FLAGS) & TUPLE_SUBCLASS != 0
    }

    /// The items of a tuple.
    pub(crate) fn items(self) -> Objects {
        let tuple = self.0 as *mut ffi::PyObject;
        // SAFETY: the row that gave this handle holds a tuple.
        let size = unsafe { ffi::PyTuple_Size(tuple) };
        (0..size)
            // SAFETY: the index is within the tuple's size.
            .map(|index| Object(unsafe { ffi::PyTuple_GetItem(tuple, index) } as u64))
            .collect()
    }
}

/// The flags of classes that derive from `int`, from `tuple`, and from `type`.
pub(crate) const INT_SUBCLASS: u64 = 1 << 24;
const TUPLE_SUBCLASS: u64 = 1 << 26;
const TYPE_SUBCLASS: u64 = 1 << 31;

/// A few objects, as the items of a tuple.
pub(crate) type Objects = SmallVec<[Object; 8]>;

/// Takes a reference to an object, which somebody gives up with [`release`].
#[inline(always)]
pub(crate) fn hold(object: Object) {
    let references = object.word(OB_COUNT);
    // Those of immortal objects are not counted.
    if references as i32 > 0 {
        // SAFETY: one reference more.
        unsafe { object.set(OB_COUNT, references + 1) };
    }
}

/// Gives up a reference to the object at `address`, for which no handle is used
/// any more.
///
/// # Safety
/// The reference is the caller's. The GIL is held.
#[inline(always)]
pub(crate) unsafe fn release(address: u64) {
    // SAFETY: the caller's reference keeps it alive.
    let object = unsafe { Object::at(address) };
    let references = object.word(OB_COUNT);
    // From 3.12 the number has 32 bits, and is negative for immortal objects.
    match references as i32 {
        // SAFETY: others hold it.
        2.. => unsafe { object.set(OB_COUNT, references - 1) },
        // SAFETY: the caller's reference.
        _ => unsafe { capi::Py_DecRef(address) },
    }
}

/// References that are held while Python code, or a foreign function, runs.
///
/// CPython ends threads, at finalisation, by unwinding them, without the GIL. A
/// bag has no destructor: what such a thread holds is never given up.
#[derive(Debug, Default)]
pub(crate) struct Bag(ManuallyDrop<SmallVec<[Owned; 8]>>);

impl Bag {
    /// Holds a reference until the bag is emptied.
    pub(crate) fn hold(&mut self, object: Owned) -> Object {
        let handle = object.object();
        self.0.push(object);
        handle
    }

    /// Gives up all references.
    pub(crate) fn empty(self) {
        self.empty_but(|_| false);
    }

    /// Gives up all references but those to objects that are to live for good.
    pub(crate) fn empty_but(self, lives_on: impl Fn(Object) -> bool) {
        for object in ManuallyDrop::into_inner(self.0) {
            if lives_on(object.object()) {
                object.into_address();
            }
        }
    }
}

/// A reference to an object, which it gives up at the end; the GIL is held then.
#[derive(Debug)]
pub(crate) struct Owned(Object);

impl Owned {
    /// Takes a reference of its own.
    pub(crate) fn of(object: Object) -> Owned {
        // SAFETY: the maker of the handle promised a live object.
        unsafe { capi::Py_IncRef(object.0) };
        Owned(object)
    }

    /// Takes over what CPython's API gave: a reference, or null with an
    /// exception set.
    pub(crate) fn from_new(address: u64) -> Option<Owned> {
        (address != 0).then_some(Owned(Object(address)))
    }

    /// The object, for as long as the reference is held.
    pub(crate) fn object(&self) -> Object {
        self.0
    }

    /// Hands the reference on.
    pub(crate) fn into_address(self) -> u64 {
        let address = self.0.0;
        std::mem::forget(self);
        address
    }
}

impl From<Bound<'_, PyAny>> for Owned {
    fn from(object: Bound<'_, PyAny>) -> Owned {
        Owned(Object(object.into_ptr() as u64))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: this reference is given up once.
        unsafe { capi::Py_DecRef(self.0.0) };
    }
}
