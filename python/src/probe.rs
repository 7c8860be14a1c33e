//! Looks at memory that nobody has promised: the words around a thread's base,
//! and those of the interpreter's own record. What is found there is for the
//! caller to check.
//!
//! # Safety
//! The kernel does the reading, so nothing is read that is not there.

#![allow(
    unsafe_code,
    reason = "asks the kernel for memory that may not be there, and for the GIL in another thread"
)]

use hotcall::Machine;
use hotcall_tracer::Host;
use pyo3::Python;

/// Bytes below or above a thread's base that are searched.
const SEARCHED: usize = 4096;
/// Memory is mapped by pages.
const PAGE: usize = 4096;

/// The base of this thread's own storage.
pub(crate) fn thread() -> u64 {
    // SAFETY: it is only asked for the thread's base.
    unsafe { Machine::new() }.thread()
}

/// Runs `test` in another thread; false if there can be none.
pub(crate) fn in_other_thread(test: impl FnOnce() -> bool + Send + 'static) -> bool {
    let other = std::thread::Builder::new().spawn(test);
    other.is_ok_and(|other| other.join().unwrap_or(false))
}

/// Runs `test` in another thread, with the GIL; false if there can be none.
pub(crate) fn in_other_thread_with_gil(
    py: Python<'_>,
    test: impl FnOnce(Python<'_>) -> bool + Send + 'static,
) -> bool {
    py.detach(|| in_other_thread(|| attached(test)))
}

/// Runs `test` with the GIL, in a thread that Python has not made. While `site` runs,
/// from 3.15 on the interpreter does not say yet that it is initialised.
pub(crate) fn attached<T>(test: impl FnOnce(Python<'_>) -> T) -> T {
    // SAFETY: hotcall is started by a thread of an interpreter that runs Python code.
    unsafe { Python::attach_unchecked(test) }
}

/// The words below `base`, with their distances, as far as memory is mapped
/// there: how large a thread's static storage is nobody says.
pub(crate) fn words_below(base: u64) -> Vec<(i32, u64)> {
    let mut words = Vec::new();
    let mut end = base as usize;
    while base as usize - end < SEARCHED {
        let start = (end - 1) & !(PAGE - 1);
        let Some(more) = words_between(base, start, end) else { break };
        words.extend(more);
        end = start;
    }
    words
}

/// The words above a thread's base, likewise.
pub(crate) fn words_above(base: u64) -> Vec<(i32, u64)> {
    words_from(base, SEARCHED)
}

/// The words of the `size` bytes from `base`, likewise.
pub(crate) fn words_from(base: u64, size: usize) -> Vec<(i32, u64)> {
    let mut words = Vec::new();
    let mut start = base as usize;
    while start - (base as usize) < size {
        let end = (start + PAGE) & !(PAGE - 1);
        let Some(more) = words_between(base, start, end) else { break };
        words.extend(more);
        start = end;
    }
    words
}

/// The words from `start` to `end`, with their distances from `base`.
fn words_between(base: u64, start: usize, end: usize) -> Option<Vec<(i32, u64)>> {
    let mut bytes = vec![0_u8; end - start];
    if !read(start, &mut bytes) {
        return None;
    }
    let distance = (start as u64).wrapping_sub(base).cast_signed() as i32;
    let (chunks, _) = bytes.as_chunks::<8>();
    let words = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
    Some((distance..).step_by(8).zip(words).collect())
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
