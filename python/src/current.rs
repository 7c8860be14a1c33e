//! Where the interpreter keeps the current thread state, and in it a pending
//! exception: found at import by looking, and checked by trying.
//!
//! From 3.12 CPython keeps the current thread state in a thread-local variable
//! that no symbol names. It lies at one distance from each thread's base. The
//! words below the base, as far as there are any, are searched for the thread
//! state; the one that makes CPython see none while it is null is the variable.
//!
//! # Safety
//! The kernel does the reading, so nothing is read that is not there. What is
//! written, and put back, is a word of this thread that holds the thread state.

#![allow(unsafe_code, reason = "reads and probes thread-local storage")]

use hotcall::Machine;
use hotcall_tracer::{Field, Host, Mem};
use pyo3::prelude::*;

use crate::capi;

/// Bytes below a thread's base that are searched.
const SEARCHED: usize = 4096;
/// Memory is mapped by pages.
const PAGE: usize = 4096;

/// The rows for a look at the pending exception without a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    /// The thread state, from the base of the thread's storage.
    pub(crate) state: Field,
    /// The pending exception, in the thread state.
    pub(crate) error: Field,
}

/// Finds the current thread state of CPython 3.`minor`; none where it is not
/// in thread-local storage, or not found beyond doubt. Rules then ask CPython.
pub(crate) fn find(py: Python<'_>, minor: u8) -> Option<Current> {
    let error = match minor {
        12 => 96,
        13 | 14 => 112,
        15 => 136,
        _ => return None,
    };
    let error = Field::new("thread_state.error", error, Mem::I64);
    let offset = search()?;
    let state = Field::new("thread_state", offset, Mem::I64);
    let current = Current { state, error };
    // Another thread must agree, and the row of the exception must hold.
    let agrees = move || Python::attach(|_| current.thread_state() == thread_state());
    let agrees = py.detach(|| {
        let other = std::thread::Builder::new().spawn(agrees);
        other.is_ok_and(|other| other.join().unwrap_or(false))
    });
    (agrees && current.sees_errors()).then_some(current)
}

/// The thread state as CPython's API gives it; 0 if there is none.
fn thread_state() -> u64 {
    // SAFETY: it may be asked at any time.
    unsafe { (capi::current_thread_state())() }
}

/// The distance of the variable from the thread's base.
fn search() -> Option<i32> {
    let state = thread_state();
    let mut found = None;
    for (offset, word) in words_below_base() {
        if word != state || state == 0 {
            continue;
        }
        let place = place(offset);
        // SAFETY: a variable with the thread state in it; nobody else uses
        // this thread's variables, and it is put back at once.
        unsafe { place.write_volatile(0) };
        let unseen = thread_state() == 0;
        // SAFETY: as above.
        unsafe { place.write_volatile(state) };
        if unseen && found.replace(offset).is_some() {
            return None;
        }
    }
    found
}

/// The words below this thread's base, with their distances, as far as memory
/// is mapped there: how large the static storage is nobody says.
fn words_below_base() -> Vec<(i32, u64)> {
    let base = place(0).addr();
    let mut words = Vec::new();
    let mut end = base;
    while base - end < SEARCHED {
        let start = (end - 1) & !(PAGE - 1);
        let mut bytes = vec![0_u8; end - start];
        if !read(start, &mut bytes) {
            break;
        }
        let distance = (start.wrapping_sub(base)) as isize as i32;
        let (chunks, _) = bytes.as_chunks::<8>();
        let offsets = (distance..).step_by(8);
        words.extend(offsets.zip(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk))));
        end = start;
    }
    words
}

/// Copies memory that may not be there; false if it is not.
fn read(address: usize, to: &mut [u8]) -> bool {
    let size = to.len();
    let here = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: size };
    let there = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: size };
    // SAFETY: it may be asked at any time.
    let process = unsafe { libc::getpid() };
    // SAFETY: the kernel writes to `to` alone, and checks the other address.
    let read = unsafe { libc::process_vm_readv(process, &here, 1, &there, 1, 0) };
    usize::try_from(read) == Ok(size)
}

/// The word at a distance from this thread's base.
fn place(offset: i32) -> *mut u64 {
    // SAFETY: it is only asked for the thread's base.
    let base = unsafe { Machine::new() }.thread();
    base.wrapping_add_signed(offset.into()) as *mut u64
}

impl Current {
    /// This thread's state by these rows.
    fn thread_state(&self) -> u64 {
        // SAFETY: the variable was found at this distance.
        unsafe { place(self.state.offset).read_volatile() }
    }

    /// The pending exception by these rows.
    fn error(&self) -> u64 {
        let place = self.thread_state().wrapping_add_signed(self.error.offset.into());
        // SAFETY: a field of the thread state, which is far larger.
        unsafe { (place as *const u64).read() }
    }

    /// Whether the row of the exception is null without one, and not with one.
    fn sees_errors(&self) -> bool {
        let before = self.error();
        // SAFETY: the GIL is held, and the text is a C string.
        unsafe { capi::PyErr_SetString(capi::PyExc_ValueError, c"probe".as_ptr()) };
        let during = self.error();
        // SAFETY: the GIL is held.
        unsafe { capi::PyErr_Clear() };
        before == 0 && during != 0 && self.error() == 0
    }
}
