//! errno: ctypes keeps one for each thread that the program sees, and exchanges
//! it with C's around the calls of functions that ask for it.
//!
//! C's errno lies at one distance from each thread's base. Where that has been
//! found, rules exchange the two without a call.
//!
//! The private one is in a capsule in the dictionary of the thread state. A program
//! can get at that, so nothing is taken for a capsule that has not been tested, and
//! whoever uses one has a reference to it, as ctypes does.
//!
//! # Safety
//! Each helper's documentation says what its words are. The rules, which alone
//! call them, have tested it.

#![allow(unsafe_code, reason = "calls into CPython and the C library")]

use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Effect, Entry, Field, Helper, Mem, Ops, Refusal};

use crate::capi;
use crate::known::Known;
use crate::layout;
use crate::lending::{DICT, ERRNO};
use crate::probe;
use crate::raw::{Object, Owned};
use crate::refusals;

/// The capsule of this thread's private errno, or 0 before ctypes made it.
static CAPSULE: Helper =
    Helper { name: "errno_capsule", entry: Entry::W(capsule_or_null), effect: Effect::Read };

/// Exchanges errno and the private errno at the address.
static SWAP: Helper =
    Helper { name: "swap_errno", entry: Entry::WV(swap_words), effect: Effect::Effect };

/// Frees a capsule to which there is no reference. Gives 0.
static FREE: Helper =
    Helper { name: "free_capsule", entry: Entry::WW(free_capsule), effect: Effect::Effect };

/// The private errno in its memory.
const PRIVATE: Field = Field::new("private_errno", 0, Mem::I32);

/// The string under which ctypes keeps a thread's private errno.
static KEY: AtomicU64 = AtomicU64::new(0);

/// Sets that string, which must live as long as the process.
pub(crate) fn set_key(key: u64) {
    KEY.store(key, Relaxed);
}

/// Where errno lies, from the base of a thread's storage; none if that is not
/// the same in another thread.
pub(crate) fn find() -> Option<Field> {
    let distance = || address().wrapping_sub(probe::thread()).cast_signed();
    let here = distance();
    let offset = i32::try_from(here).ok()?;
    let agrees = probe::in_other_thread(move || distance() == here);
    agrees.then_some(Field::new("errno", offset, Mem::I32))
}

/// The references to an object. From 3.12 on they are counted in the low bits.
const COUNT: Field = Field { mem: Mem::U32, ..layout::OB_COUNT };

/// A thread's private errno, as a call has it.
#[derive(Clone, Copy)]
pub(crate) struct Private<W> {
    capsule: W,
    /// The address of the number.
    pub(crate) space: W,
}

/// Keeps this thread's private errno where [`find_private`] finds it without a call.
pub(crate) fn keep(known: &Known) {
    if let (Ok(lending), Some((dict, capsule))) = (&known.lending, find_capsule()) {
        lending.keep_errno(dict, capsule);
    }
}

/// This thread's private errno.
///
/// The record of the thread has its capsule, if that was kept for the dictionary of
/// this thread state. A state that is being cleared has no dictionary any more. A
/// dictionary that has the address of a dead one is told from that by the capsule, to
/// which nobody but the record has a reference by then.
pub(crate) fn find_private<O: Ops>(o: &mut O, known: &Known) -> Result<Private<O::Word>, Refusal> {
    let capsule = match kept_capsule(o, known) {
        Some(capsule) => capsule,
        None => {
            let found = o.help(&CAPSULE, &[]);
            if o.test_is(found, 0) {
                return Err(refusals::ERRNO);
            }
            found
        }
    };
    Ok(Private { capsule, space: o.load(capsule, layout::CAPSULE_POINTER) })
}

/// The capsule that the record of the thread has, if it is that of this thread state.
fn kept_capsule<O: Ops>(o: &mut O, known: &Known) -> Option<O::Word> {
    let lending = known.lending.as_ref().ok()?;
    let place = lending.current.dict?;
    let thread = o.thread();
    let record = o.load(thread, lending.slot.field);
    if o.test_is(record, 0) {
        return None;
    }
    let kept = o.load(record, DICT);
    let state = lending.current.load(o);
    let dict = o.load(state, place);
    if !o.test_eq(kept, dict) {
        return None;
    }
    let capsule = o.load(record, ERRNO);
    let references = o.load(capsule, COUNT);
    (!o.test_is(references, 1)).then_some(capsule)
}

impl<W: Copy> Private<W> {
    /// Takes a reference: the program may drop the capsule during the call.
    pub(crate) fn hold<O: Ops<Word = W>>(self, o: &mut O) {
        self.count(o, 1);
    }

    /// Gives it up. The GIL is held.
    pub(crate) fn release<O: Ops<Word = W>>(self, o: &mut O) {
        self.count(o, -1);
        let left = o.load(self.capsule, COUNT);
        let (one, nothing, sign) = (o.constant(1), o.constant(0), o.constant(63));
        let less = o.sub(left, one);
        let is_gone = o.shr(less, sign);
        o.help_if(is_gone, nothing, &FREE, &[self.capsule]);
    }

    /// Adds to the number of references.
    fn count<O: Ops<Word = W>>(self, o: &mut O, number: i64) {
        let references = o.load(self.capsule, layout::OB_COUNT);
        let number = o.constant(number.cast_unsigned());
        let sum = o.add(references, number);
        o.store(self.capsule, layout::OB_COUNT, sum);
    }
}

/// Exchanges errno, which lies at `place` if that is known, and the private one.
pub(crate) fn swap<O: Ops>(o: &mut O, place: Option<Field>, space: O::Word) {
    let Some(place) = place else {
        o.help(&SWAP, &[space]);
        return;
    };
    let thread = o.thread();
    let errno = o.load(thread, place);
    let private = o.load(space, PRIVATE);
    o.store(thread, place, private);
    o.store(space, PRIVATE, errno);
}

/// The address of this thread's errno.
fn address() -> u64 {
    // SAFETY: the C library gives a valid address for as long as the thread runs.
    let place = unsafe { libc::__errno_location() };
    place as u64
}

/// Runs `work`, within a callback, with the private errno as C's.
pub(crate) fn exchanging<T>(work: impl FnOnce() -> T) -> T {
    // Python code may unwind here, so nothing owns the reference.
    let Some(capsule) = made().map(Owned::into_address) else { return work() };
    // SAFETY: a capsule to which there is a reference.
    let space = unsafe { Object::at(capsule) }.word(layout::CAPSULE_POINTER);
    // SAFETY: it is this thread's.
    unsafe { swap_words(space) };
    let result = work();
    // SAFETY: as before.
    unsafe { swap_words(space) };
    // SAFETY: the reference that was taken above.
    unsafe { capi::Py_DecRef(capsule) };
    result
}

unsafe extern "C-unwind" fn swap_words(space: u64) {
    // SAFETY: `space` is in a capsule of this thread, to which there is a reference,
    // and which owns two ints there.
    unsafe { std::ptr::swap(address() as *mut c_int, space as *mut c_int) };
}

unsafe extern "C-unwind" fn free_capsule(capsule: u64) -> u64 {
    // SAFETY: an object that nobody else knows any more.
    unsafe { capi::Py_IncRef(capsule) };
    // SAFETY: the reference that was made just now.
    unsafe { capi::Py_DecRef(capsule) };
    0
}

unsafe extern "C-unwind" fn capsule_or_null() -> u64 {
    find_capsule().map_or(0, |(_, capsule)| capsule.address())
}

/// The dictionary of this thread state, and the capsule in it, if ctypes has made one.
fn find_capsule() -> Option<(u64, Object)> {
    // SAFETY: the GIL is held.
    let dict = unsafe { capi::PyThreadState_GetDict() };
    let item = item(dict)?;
    // SAFETY: an object and a C string.
    let is_ours = unsafe { capi::PyCapsule_IsValid(item.address(), NAME.as_ptr()) } != 0;
    is_ours.then_some((dict, item))
}

/// What is in the dictionary of a thread state where the capsule should be.
fn item(dict: u64) -> Option<Object> {
    if dict == 0 {
        return None;
    }
    // SAFETY: a dict, and a str.
    let item = unsafe { capi::PyDict_GetItemWithError(dict, KEY.load(Relaxed)) };
    // SAFETY: the dict has a reference to it.
    (item != 0).then(|| unsafe { Object::at(item) })
}

/// The capsule of this thread's private errno, which is made if it has none; none if
/// there is no memory, or if something else is in its place.
pub(crate) fn made() -> Option<Owned> {
    if let Some((_, capsule)) = find_capsule() {
        return Some(Owned::of(capsule));
    }
    let made = make();
    if made.is_none() {
        // SAFETY: the GIL is held; without a place errno is not exchanged.
        unsafe { capi::PyErr_Clear() };
    }
    made
}

/// The name by which ctypes knows capsules of a private errno.
const NAME: &CStr = c"_ctypes pymem";

/// Makes a private errno as ctypes does: two ints, which a capsule in the
/// thread's dictionary owns.
fn make() -> Option<Owned> {
    // SAFETY: the GIL is held.
    let dict = unsafe { capi::PyThreadState_GetDict() };
    if dict == 0 || item(dict).is_some() {
        return None;
    }
    // SAFETY: the GIL is held.
    let space = unsafe { capi::PyMem_Calloc(2, size_of::<c_int>() as u64) };
    if space == 0 {
        return None;
    }
    // SAFETY: memory that the capsule owns from now on.
    let capsule = unsafe { capi::PyCapsule_New(space, NAME.as_ptr(), Some(free_space)) };
    let capsule = Owned::from_new(capsule)?;
    let (key, value) = (KEY.load(Relaxed), capsule.object().address());
    // SAFETY: a dict, a str and an object.
    let status = unsafe { capi::PyDict_SetItem(dict, key, value) };
    (status == 0).then_some(capsule)
}

unsafe extern "C-unwind" fn free_space(capsule: u64) {
    // SAFETY: a capsule that was made with this name.
    let space = unsafe { capi::PyCapsule_GetPointer(capsule, NAME.as_ptr()) };
    // SAFETY: the memory that was made for it.
    unsafe { capi::PyMem_Free(space) };
}
