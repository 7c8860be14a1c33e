//! Results without an allocation: small ints come from CPython's own table, and
//! other numbers are written into objects that were returned before and that
//! nobody else has any more.
//!
//! A *shelf* holds the two objects of one kind that were returned last, and a
//! reference to each. When that is the only one, the next value is written into
//! the object, which is returned again; else a new object takes the place of
//! the older one.
//!
//! **Invariant.** An object is written only while its count is exactly one, the
//! shelf's, with the GIL held: no variable, container, frame or C code owns it,
//! and what borrows it without a count borrows from an owner that has one. So
//! it is dead for all the world but the shelf, and what is returned is an object
//! that the program has never seen. ints and floats keep no hash, cannot be
//! weakly referenced, and are not the garbage collector's.
//!
//! # Safety
//! The helpers are called by the rules, with the GIL held.

#![allow(unsafe_code, reason = "writes the values of float and int objects")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Effect, Entry, Field, Helper, Symbol};
use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::capi;
use crate::helpers;
use crate::layout::{FLOAT_VALUE, INT_DIGIT, INT_SECOND_DIGIT, INT_SIZE, Int, Layout, OB_COUNT};
use crate::raw::Object;

/// The helpers by which numbers become objects.
#[derive(Debug)]
pub(crate) struct Boxing {
    /// A float.
    pub(crate) double: &'static Helper,
    /// An int of a signed word.
    pub(crate) signed: &'static Helper,
    /// An int of an unsigned word.
    pub(crate) unsigned: &'static Helper,
    /// An int of an address, None of a null pointer.
    pub(crate) address: &'static Helper,
}

/// New objects each time.
pub(crate) static PLAIN: Boxing = Boxing {
    double: &helpers::FROM_DOUBLE,
    signed: &helpers::FROM_SIGNED,
    unsigned: &helpers::FROM_UNSIGNED,
    address: &helpers::FROM_VOID_P,
};

/// Objects that were returned before, where they can be. [`prepare`] comes first.
pub(crate) static REUSING: Boxing = Boxing {
    double: &Helper { name: "box_double", entry: Entry::FW(box_double), effect: Effect::Effect },
    signed: &Helper { name: "box_signed", entry: Entry::WW(box_signed), effect: Effect::Effect },
    unsigned: &Helper {
        name: "box_unsigned",
        entry: Entry::WW(box_unsigned),
        effect: Effect::Effect,
    },
    address: &Helper { name: "box_address", entry: Entry::WW(box_address), effect: Effect::Effect },
};

/// What an empty place of a shelf refers to: a count that is never one.
static NOTHING: u64 = 0;

/// The objects of one kind that were returned last, the newest first.
struct Shelf([AtomicU64; 2]);

static FLOATS: Shelf = Shelf::new();
static ONE_DIGIT: Shelf = Shelf::new();
static TWO_DIGITS: Shelf = Shelf::new();

/// The address of the first small int, which is [`FIRST_SMALL`].
static SMALL_INTS: AtomicU64 = AtomicU64::new(0);
/// How many small ints there are.
static SMALL_COUNT: AtomicU64 = AtomicU64::new(0);
/// How an int's size word is written: one digit, and what a sign adds to it.
static DIGIT: AtomicU64 = AtomicU64::new(0);
/// Whether small ints count their references.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// False and True.
static TRUTHS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// The least int of CPython's table.
pub(crate) const FIRST_SMALL: i64 = -5;
/// Bytes from one to the next.
pub(crate) const STRIDE: u64 = 32;
/// More small ints than any version has.
const MOST_SMALL: u64 = 2048;
/// Bits of a digit.
const BITS: u32 = 30;

impl Shelf {
    const fn new() -> Shelf {
        Shelf([const { AtomicU64::new(0) }; 2])
    }

    /// An object that nobody else has, with a reference for the caller.
    #[inline(always)]
    fn reuse(&self) -> Option<Object> {
        self.0.iter().find_map(|place| {
            // SAFETY: a place refers to `NOTHING` or to an object that the
            // shelf owns a reference to; both begin with a count.
            let object = unsafe { Object::at(place.load(Relaxed)) };
            if object.word(OB_COUNT) != 1 {
                return None;
            }
            // SAFETY: one for the shelf, one for the caller.
            unsafe { object.set(OB_COUNT, 2) };
            Some(object)
        })
    }

    /// Puts a new object in the place of the older one; gives it on.
    fn put(&self, fresh: u64) -> u64 {
        if fresh != 0 {
            // SAFETY: a new object, whose other reference is the caller's.
            unsafe { capi::Py_IncRef(fresh) };
            let [newest, oldest] = &self.0;
            let previous = newest.swap(fresh, Relaxed);
            give_up(oldest.swap(previous, Relaxed));
        }
        fresh
    }

    /// Gives up both objects.
    fn clear(&self) {
        self.0.iter().for_each(|place| give_up(place.swap(nothing(), Relaxed)));
    }
}

fn nothing() -> u64 {
    &raw const NOTHING as u64
}

/// Gives up the reference of a place.
fn give_up(object: u64) {
    if object != 0 && object != nothing() {
        // SAFETY: the shelf owned this reference, and its place is taken.
        unsafe { capi::Py_DecRef(object) };
    }
}

/// Empties the shelves: nothing that was returned is kept any longer.
pub(crate) fn clear() {
    [&FLOATS, &ONE_DIGIT, &TWO_DIGITS].into_iter().for_each(Shelf::clear);
}

/// Finds CPython's small ints and sets the shelves up; false if they do not lie
/// in one table, as they do in every version that is known.
pub(crate) fn prepare(layout: &Layout) -> bool {
    clear();
    let address = |value: i64| {
        // SAFETY: the GIL is held.
        let int = unsafe { capi::PyLong_FromLong(value.cast_unsigned()) };
        give_up(int);
        int
    };
    let first = address(FIRST_SMALL);
    let in_table =
        |index: &u64| address(FIRST_SMALL.wrapping_add_unsigned(*index)) == first + STRIDE * index;
    let count = (0..MOST_SMALL).take_while(in_table).count() as u64;
    SMALL_INTS.store(first, Relaxed);
    SMALL_COUNT.store(count, Relaxed);
    DIGIT.store(if layout.int == Int::Signed { 1 } else { 8 }, Relaxed);
    COUNTED.store(u64::from(!layout.immortal_none), Relaxed);
    (1..MOST_SMALL).contains(&count)
}

/// The table of small ints, if they count no references and there are enough:
/// from the first one, 256.
pub(crate) fn small_ints() -> Option<Symbol> {
    let address = SMALL_INTS.load(Relaxed);
    let fits = COUNTED.load(Relaxed) == 0 && SMALL_COUNT.load(Relaxed) >= 256;
    fits.then(|| Symbol { name: "small_ints".into(), address })
}

/// The table of False and True.
pub(crate) fn truths(py: Python<'_>) -> Symbol {
    for (place, value) in TRUTHS.iter().zip([false, true]) {
        place.store(PyBool::new(py, value).as_ptr() as u64, Relaxed);
    }
    Symbol { name: "truths".into(), address: TRUTHS.as_ptr() as u64 }
}

unsafe extern "C-unwind" fn box_double(value: f64) -> u64 {
    match FLOATS.reuse() {
        Some(float) => {
            // SAFETY: nobody else has this float.
            unsafe { float.set(FLOAT_VALUE, value.to_bits()) };
            float.address()
        }
        None => new_float(value),
    }
}

/// A new float on its shelf. What is seldom done is a function of its own, so
/// that the rest needs no frame.
#[cold]
#[inline(never)]
fn new_float(value: f64) -> u64 {
    // SAFETY: the GIL is held.
    FLOATS.put(unsafe { capi::PyFloat_FromDouble(value) })
}

/// A new int on a shelf, of a word that has no more digits signed than unsigned.
#[cold]
#[inline(never)]
fn new_int(shelf: &Shelf, word: u64) -> u64 {
    // SAFETY: the GIL is held.
    shelf.put(unsafe { capi::PyLong_FromLong(word) })
}

unsafe extern "C-unwind" fn box_signed(word: u64) -> u64 {
    match box_magnitude(word, word.cast_signed() < 0) {
        Some(int) => int,
        // SAFETY: the GIL is held.
        None => unsafe { capi::PyLong_FromLong(word) },
    }
}

unsafe extern "C-unwind" fn box_unsigned(word: u64) -> u64 {
    match box_magnitude(word, false) {
        Some(int) => int,
        // SAFETY: the GIL is held.
        None => unsafe { capi::PyLong_FromUnsignedLong(word) },
    }
}

unsafe extern "C-unwind" fn box_address(address: u64) -> u64 {
    match address {
        // SAFETY: no precondition.
        0 => unsafe { helpers::new_none() },
        // SAFETY: as for this function.
        _ => unsafe { box_unsigned(address) },
    }
}

/// The int of a word of at most two digits.
#[inline(always)]
fn box_magnitude(word: u64, negative: bool) -> Option<u64> {
    let index = word.wrapping_sub(FIRST_SMALL.cast_unsigned());
    // An unsigned word that looks like a negative one is far too large.
    if index < SMALL_COUNT.load(Relaxed) && (negative || word.cast_signed() >= 0) {
        return Some(small(index));
    }
    let magnitude = if negative { word.wrapping_neg() } else { word };
    let (shelf, digits) = match magnitude {
        magnitude if magnitude >> BITS == 0 => (&ONE_DIGIT, 1),
        magnitude if magnitude >> (2 * BITS) == 0 => (&TWO_DIGITS, 2),
        _ => return None,
    };
    let Some(int) = shelf.reuse() else {
        return Some(new_int(shelf, word));
    };
    let digit = DIGIT.load(Relaxed);
    let size = match (negative, digit) {
        (false, _) => digits * digit,
        (true, 1) => digits.wrapping_neg(),
        (true, _) => digits * digit + 2,
    };
    // SAFETY: nobody else has this int.
    unsafe { int.set(INT_SIZE, size) };
    set_digit(int, INT_DIGIT, magnitude);
    if digits == 2 {
        set_digit(int, INT_SECOND_DIGIT, magnitude >> BITS);
    }
    Some(int.address())
}

/// Writes the low 30 bits of `word` as a digit.
#[inline(always)]
fn set_digit(int: Object, field: Field, word: u64) {
    let place = int.address().wrapping_add_signed(field.offset.into()) as *mut u32;
    // SAFETY: nobody else has this int, which has the digit.
    unsafe { place.write(word as u32 & ((1 << BITS) - 1)) };
}

/// The small int at an index of the table, with a reference for the caller.
#[inline(always)]
fn small(index: u64) -> u64 {
    let address = SMALL_INTS.load(Relaxed) + STRIDE * index;
    if COUNTED.load(Relaxed) != 0 {
        // SAFETY: `prepare` has found a small int there, which lives for ever.
        let int = unsafe { Object::at(address) };
        // SAFETY: one reference more, as the caller gets it.
        unsafe { int.set(OB_COUNT, int.word(OB_COUNT) + 1) };
    }
    address
}
