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
use crate::capi::{self, PyEval_RestoreThread, PyEval_SaveThread, PyInterpreterState_Get};

/// How often calls have given other threads a chance.
pub(crate) static YIELDS: AtomicU64 = AtomicU64::new(0);

/// A release that takes longer has woken up a thread, most likely: it makes a
/// system call then.
const WAKING: Duration = Duration::from_nanos(1200);
/// A thread that gets the GIL back later than this has met one that computes.
const WAITING: Duration = Duration::from_micros(20);
/// The time in which a thread that was woken up takes the GIL.
const WOKEN: Duration = Duration::from_micros(30);
/// How long a thread has the GIL while others wait for it now and then. One that
/// computes has it for CPython's switch interval, 5 ms, and so for nearly all of
/// the time, as it does when each call releases the GIL.
const BURST: Duration = Duration::from_micros(200);
/// Others are taken to wait now and then for so long after the last one did.
const CROWD: Duration = Duration::from_millis(20);

/// When a thread was met last that waited for the GIL.
static MET: AtomicU64 = AtomicU64::new(0);

/// Releases the GIL and takes it back. If another thread waits for it, it is left
/// released until that has woken up and taken it: without that time the release
/// would do harm, since it has the other thread's patience begin anew.
pub(super) fn yield_gil(record: &Record, state: u64) {
    let Some(lending) = LENDING.get() else { return };
    // SAFETY: this thread's own state, which still holds the GIL.
    unsafe { lending.current.set(state) };
    if is_alone() {
        return crowded(false);
    }
    YIELDS.fetch_add(1, Relaxed);
    let started = Instant::now();
    // SAFETY: see above.
    unsafe { PyEval_SaveThread() };
    let is_awaited = started.elapsed() > WAKING;
    if is_awaited {
        std::thread::sleep(WOKEN);
    }
    let awake = Instant::now();
    // SAFETY: released just now.
    unsafe { PyEval_RestoreThread(state) };
    let waited = awake.elapsed() > WAITING;
    let now = now();
    let recently = now.saturating_sub(MET.load(Relaxed)) < nanos(CROWD);
    // One slow release may have been slow for another reason.
    crowded(waited || (recently && (is_awaited || DESK.away.load(Relaxed) == CROWDED)));
    if waited || is_awaited {
        MET.store(now, Relaxed);
    }
    record.until.store(now + nanos(BURST), Relaxed);
}

/// Whether the interpreter has no other thread. This one has the GIL.
fn is_alone() -> bool {
    type Step = unsafe extern "C-unwind" fn(u64) -> u64;
    static STEPS: OnceLock<Option<[Step; 2]>> = OnceLock::new();
    // They are not in the stable ABI, but in every version.
    let steps = STEPS.get_or_init(|| {
        let head = capi::symbol(c"PyInterpreterState_ThreadHead")?;
        let next = capi::symbol(c"PyThreadState_Next")?;
        // SAFETY: both take a pointer and give one.
        Some([head, next].map(|step| unsafe { std::mem::transmute::<usize, Step>(step as usize) }))
    });
    let Some([head, next]) = steps else { return false };
    // SAFETY: the GIL is held.
    let interpreter = unsafe { PyInterpreterState_Get() };
    // SAFETY: with the GIL held the list of threads stays as it is, but for
    // threads that are put before its head.
    let first = unsafe { head(interpreter) };
    // SAFETY: see above.
    unsafe { next(first) == 0 }
}

/// Notes whether other threads wait for the GIL now and then.
fn crowded(crowded: bool) {
    let (before, after) = if crowded { (0, CROWDED) } else { (CROWDED, 0) };
    // Whoever is away has a better reason.
    let _same = DESK.away.compare_exchange(before, after, SeqCst, SeqCst);
}

/// The time in nanoseconds, from a beginning that leaves room for a crowd before it.
pub(super) fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    nanos(BEGINNING.get_or_init(Instant::now).elapsed() + 2 * CROWD)
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
