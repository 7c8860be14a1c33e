//! Fairness: calls that lend the GIL never release it, so now and then they have
//! to give other threads a chance, and more often while others wait.
//!
//! # Safety
//! All of it runs in a thread that comes back from a call that has lent the GIL,
//! and has it still.

#![allow(unsafe_code, reason = "releases the GIL, and takes it back")]

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::{Duration, Instant};

use super::LENDING;
use super::record::{CROWDED, DESK, Record};
use crate::capi::{
    PyEval_RestoreThread, PyEval_SaveThread, PyInterpreterState_Get, PyInterpreterState_ThreadHead,
    PyThreadState_Next,
};
use crate::helpers::keeping_errno;

/// How often calls have given other threads a chance.
pub(crate) static YIELDS: AtomicU64 = AtomicU64::new(0);

/// A thread that got the GIL back later than this has met another one.
const CONTENTION: Duration = Duration::from_micros(20);
/// How long a thread has the GIL while others wait for it. They have it for
/// CPython's switch interval, 5 ms, so they have nearly all of the time, as they
/// do when each call releases the GIL.
const BURST: Duration = Duration::from_micros(200);
/// The time in which a thread that waits for the GIL wakes up.
const WAKE_UP: Duration = Duration::from_micros(30);

/// Releases the GIL for long enough that a thread which waits for it wakes up and
/// takes it, and takes it back. Without that time the release would do harm: it
/// has the other thread's patience begin anew.
pub(super) fn yield_gil(record: &Record, state: u64) {
    let Some(lending) = LENDING.get() else { return };
    // SAFETY: this thread's own state, which still holds the GIL.
    unsafe { lending.current.set(state) };
    if is_alone() {
        crowded(false);
        return;
    }
    YIELDS.fetch_add(1, Relaxed);
    keeping_errno(|| {
        // SAFETY: see above.
        unsafe { PyEval_SaveThread() };
        std::thread::sleep(WAKE_UP);
    });
    let awake = Instant::now();
    // SAFETY: released just now.
    unsafe { PyEval_RestoreThread(state) };
    crowded(awake.elapsed() > CONTENTION);
    record.until.store(now() + BURST.as_nanos() as u64, Relaxed);
}

/// Notes whether other threads wait for the GIL.
fn crowded(crowded: bool) {
    let (before, after) = if crowded { (0, CROWDED) } else { (CROWDED, 0) };
    // Whoever is away has a better reason.
    let _same = DESK.away.compare_exchange(before, after, SeqCst, SeqCst);
}

/// The time in nanoseconds, from some beginning.
pub(super) fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    BEGINNING.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Whether the interpreter has no other thread. This one has the GIL.
fn is_alone() -> bool {
    // SAFETY: the GIL is held.
    let interpreter = unsafe { PyInterpreterState_Get() };
    // SAFETY: with the GIL held the list of threads stays as it is, but for
    // threads that are put before its head.
    let first = unsafe { PyInterpreterState_ThreadHead(interpreter) };
    // SAFETY: see above.
    unsafe { PyThreadState_Next(first) == 0 }
}
