//! errno: ctypes keeps one for each thread that the program sees, and exchanges
//! it with C's around the calls of functions that ask for it.
//!
//! C's errno lies at one distance from each thread's base. Where that has been
//! found, rules exchange the two without a call.
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
use crate::lending::{ERRNO, OWNER};
use crate::probe;
use crate::raw::Object;
use crate::refusals;

/// The address of this thread's private errno, or 0 before ctypes made it.
static SPACE: Helper =
    Helper { name: "errno_space", entry: Entry::W(find_space), effect: Effect::Read };

/// Exchanges errno and the private errno at the address.
static SWAP: Helper =
    Helper { name: "swap_errno", entry: Entry::WV(swap_words), effect: Effect::Effect };

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
const COUNT: Field = Field { mem: Mem::I32, ..layout::OB_COUNT };

/// Keeps this thread's private errno where [`space`] finds it without a call.
pub(crate) fn keep(known: &Known) {
    let capsule = find_capsule();
    if let (Ok(lending), Some(capsule)) = (&known.lending, capsule) {
        lending.keep_errno(capsule);
    }
}

/// The address of this thread's private errno.
///
/// The record of the thread has it, if it was kept for this thread state. A state
/// that has the address of a dead one is told from that by the capsule, to which
/// nobody but the record has a reference by then.
pub(crate) fn space<O: Ops>(o: &mut O, known: &Known) -> Result<O::Word, Refusal> {
    if let Ok(lending) = &known.lending {
        let thread = o.thread();
        let record = o.load(thread, lending.slot.field);
        if !o.test_is(record, 0) {
            let owner = o.load(record, OWNER);
            let state = lending.current.load(o);
            if o.test_eq(owner, state) {
                let capsule = o.load(record, ERRNO);
                let references = o.load(capsule, COUNT);
                if !o.test_is(references, 1) {
                    return Ok(o.load(capsule, layout::CAPSULE_POINTER));
                }
            }
        }
    }
    let space = o.help(&SPACE, &[]);
    match o.test_is(space, 0) {
        true => Err(refusals::ERRNO),
        false => Ok(space),
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

/// Exchanges errno and the private errno at the address.
///
/// # Safety
/// The address is this thread's, see [`made_space`].
pub(crate) unsafe extern "C-unwind" fn swap_words(space: u64) {
    // SAFETY: `space` came from `find_space` in this thread, whose dictionary
    // keeps the capsule and its two ints alive.
    unsafe { std::ptr::swap(address() as *mut c_int, space as *mut c_int) };
}

unsafe extern "C-unwind" fn find_space() -> u64 {
    find_capsule().map_or(0, |capsule| capsule.word(layout::CAPSULE_POINTER))
}

/// The capsule of this thread's private errno, if ctypes has made one.
fn find_capsule() -> Option<Object> {
    // SAFETY: the GIL is held.
    let dict = unsafe { capi::PyThreadState_GetDict() };
    if dict == 0 {
        return None;
    }
    // SAFETY: a dict, and a str.
    let capsule = unsafe { capi::PyDict_GetItemWithError(dict, KEY.load(Relaxed)) };
    // SAFETY: ctypes alone puts an object there, a capsule; no Python code gets
    // at this dictionary.
    (capsule != 0).then(|| unsafe { Object::at(capsule) })
}

/// The address of this thread's private errno, which is made if it has none; none
/// if there is no memory.
pub(crate) fn made_space() -> Option<u64> {
    // SAFETY: the GIL is held.
    let found = match unsafe { find_space() } {
        0 => make_space(),
        found => found,
    };
    if found == 0 {
        // SAFETY: the GIL is held; without a place errno is not exchanged.
        unsafe { capi::PyErr_Clear() };
    }
    (found != 0).then_some(found)
}

/// The name by which ctypes knows capsules of a private errno.
const NAME: &CStr = c"_ctypes pymem";

/// Makes a private errno as ctypes does: two ints, which a capsule in the
/// thread's dictionary owns. Gives 0 if there is no memory.
fn make_space() -> u64 {
    // SAFETY: the GIL is held.
    let dict = unsafe { capi::PyThreadState_GetDict() };
    // SAFETY: the GIL is held.
    let space = unsafe { capi::PyMem_Calloc(2, size_of::<c_int>() as u64) };
    if dict == 0 || space == 0 {
        return 0;
    }
    // SAFETY: memory that the capsule owns from now on.
    let capsule = unsafe { capi::PyCapsule_New(space, NAME.as_ptr(), Some(free_space)) };
    if capsule == 0 {
        return 0;
    }
    // SAFETY: a dict, a str and an object.
    let status = unsafe { capi::PyDict_SetItem(dict, KEY.load(Relaxed), capsule) };
    // SAFETY: made above; the dict has a reference of its own.
    unsafe { capi::Py_DecRef(capsule) };
    if status == 0 { space } else { 0 }
}

unsafe extern "C-unwind" fn free_space(capsule: u64) {
    // SAFETY: a capsule that was made with this name.
    let space = unsafe { capi::PyCapsule_GetPointer(capsule, NAME.as_ptr()) };
    // SAFETY: the memory that was made for it.
    unsafe { capi::PyMem_Free(space) };
}
