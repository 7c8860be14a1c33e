//! Lending the GIL: a call does not release it, which costs more than all the
//! rest of a stub, but says that it may be taken away. A monitor thread does so,
//! on the caller's behalf, when the call lasts.
//!
//! Each thread has a record (`lending/record.rs`). Around the call, with plain stores:
//!
//! | the thread lends | the thread comes back | the monitor steals turn `n` |
//! |---|---|---|
//! | current thread state = none | turn = even | request = asked |
//! | turn = odd | *if request: [`TAKE_BACK`]* | barrier in every thread |
//! | *if nobody watches: [`LEND_SLOWLY`]* | current thread state = own | if turn is still `n`: the GIL is released for the thread; else request = nothing |
//!
//! A store may be seen late, but not behind a barrier. So of the thread, which
//! writes `turn` and then reads `request`, and the monitor, which writes
//! `request` and then reads `turn`, at least one sees what the other wrote. A
//! thread that sees a request waits, in the helper, until the monitor has
//! decided: the monitor decides with `DECIDING` locked. A monitor that goes
//! away proceeds alike with `away`. `tests/lending.rs` goes through every
//! interleaving of both.
//!
//! With no current thread state, foreign code that asks for the GIL
//! (`PyGILState_Ensure`) waits for it, as if it had been released.
//!
//! The machine code reads and writes records and the desk by their rows.
//!
//! # Safety
//! The helpers are called between a rule's lending and its coming back, in the
//! thread whose record they get. Records are never freed.

#![allow(unsafe_code, reason = "acts on thread states and records of other threads")]

mod crowd;
mod fork;
mod monitor;
mod record;
mod slot;

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    compiler_fence,
};
use std::sync::{Arc, OnceLock};

use hotcall_tracer::{Effect, Entry, Helper, Symbol};
use pyo3::Python;

use crate::capi::{self, PyEval_RestoreThread, PyEval_SaveThread};
use crate::current::Current;
use crate::gil;
use crate::helpers::keeping_errno;
use crate::probe;
use crate::raw::Object;

use self::crowd::{now, yield_gil};
use self::record::{
    CROWDED, DESK, NOTHING, RELEASED, Record, STOLEN, YIELD, deciding, record_at, retire,
};

pub(crate) use self::crowd::YIELDS;
pub(crate) use self::monitor::{deny, is_denied};
pub(crate) use self::record::{AWAY, DICT, ERRNO, FUNCTION, LENDER, REQUEST, STATE, TURN};
pub(crate) use self::slot::Slot;

/// How often the monitor has taken the GIL away from a call.
pub(crate) static THEFTS: AtomicU64 = AtomicU64::new(0);
/// A call site whose calls are stolen twice within this many calls of the
/// thread is long.
const CALLS_BETWEEN_THEFTS: u64 = 1000;

/// Called by a thread that has just lent the GIL while nobody watches: has the
/// monitor watch, or else releases the GIL; and has the thread yield, when others
/// wait. The word is its record. Gives 0.
pub(crate) static LEND_SLOWLY: Helper =
    Helper { name: "lend_slowly", entry: Entry::WW(lend_slowly), effect: Effect::Effect };
/// Does what is asked of a thread that comes back, which has the GIL then: the
/// word is its record. Gives 0.
pub(crate) static TAKE_BACK: Helper =
    Helper { name: "take_back", entry: Entry::WW(take_back), effect: Effect::Effect };

/// What rules need to lend the GIL.
#[derive(Debug)]
pub(crate) struct Lending {
    pub(crate) current: Current,
    pub(crate) slot: Slot,
    pub(crate) desk: Symbol,
}

static LENDING: OnceLock<Lending> = OnceLock::new();

/// Finds out whether the GIL of this interpreter can be lent.
///
/// # Errors
/// Why not, in words.
pub(crate) fn prepare(
    py: Python<'_>,
    current: Option<&Current>,
) -> Result<&'static Lending, String> {
    if let Some(lending) = LENDING.get() {
        return Ok(lending);
    }
    let current = current.ok_or("the current thread state was not found in this interpreter")?;
    let missing = "no word of a thread's own was found in this C library";
    let slot = Slot::new(retire).ok_or(missing)?;
    monitor::register_barrier().map_err(|error| format!("membarrier is not available: {error}"))?;
    let desk = Symbol { name: "desk".into(), address: &raw const DESK as u64 };
    let lending = Lending { current: current.clone(), slot, desk };
    lending.try_out(py)?;
    fork::watch()?;
    Ok(LENDING.get_or_init(|| lending))
}

impl Lending {
    /// Has another thread release the GIL on behalf of this one, once.
    fn try_out(&self, _py: Python<'_>) -> Result<(), &'static str> {
        let state = self.current.get();
        let current = self.current.clone();
        // Where all threads share the variable it tells nothing: whoever has
        // the GIL by then writes it.
        let is_released = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&is_released);
        // SAFETY: this thread acts for no thread state while another one does,
        // and takes its own back below.
        unsafe { self.current.set(0) };
        let is_free = probe::in_other_thread(move || {
            // SAFETY: the owner waits for this thread.
            unsafe { release_for(&current, state) };
            noted.store(true, SeqCst);
            // Only a GIL that was released can be taken.
            probe::attached(|_| true)
        });
        if is_released.load(SeqCst) {
            // SAFETY: the thread state was released above.
            unsafe { PyEval_RestoreThread(state) };
        } else {
            // SAFETY: nothing was released.
            unsafe { self.current.set(state) };
        }
        is_free.then_some(()).ok_or("another thread could not release the GIL for this one")
    }

    /// Whether this thread may lend the GIL in the call at hand: it has a
    /// record, and is not in a call that has lent it already.
    pub(crate) fn may_lend(&self) -> bool {
        match self.slot.get() {
            0 => self.enroll(),
            address => !record_at(address).is_out(),
        }
    }

    /// Takes the GIL back in the middle of the call that has lent it, since that
    /// calls back; none if this thread has not lent it, or calls back for another
    /// state. The GIL is held then, and what is given is for [`Self::lend_again`].
    pub(crate) fn come_back(&self) -> Option<u64> {
        let address = self.slot.get();
        if address == 0 || !record_at(address).is_out() {
            return None;
        }
        let record = record_at(address);
        if !self.calls_back_as(record.state.load(Relaxed)) {
            return None;
        }
        record.turn.store(record.turn.load(Relaxed) + 1, Relaxed);
        // The processor may see the request before the others see the turn; the
        // barrier that the monitor asks for is for that.
        compiler_fence(SeqCst);
        if record.request.load(Relaxed) != NOTHING {
            // SAFETY: this thread's record, which has come back.
            unsafe { take_back(address) };
        }
        // SAFETY: the state that lent the GIL has it again.
        unsafe { self.current.set(record.state.load(Relaxed)) };
        Some(address)
    }

    /// Whether callbacks of this thread act for `state`, which has lent the GIL. In
    /// CPython 3.11, where all threads share the variable, those of a subinterpreter
    /// act for a state of the main one, as `PyGILState_Ensure` has it.
    fn calls_back_as(&self, state: u64) -> bool {
        // SAFETY: it may be asked at any time.
        !self.current.is_shared() || state == unsafe { capi::PyGILState_GetThisThreadState() }
    }

    /// Lends the GIL again, until the call is over: the reverse.
    pub(crate) fn lend_again(&self, address: u64) {
        let record = record_at(address);
        record.state.store(self.current.get(), Relaxed);
        // Calls that were made meanwhile have put their functions there. A call
        // that calls back is nobody's to demote.
        record.function.store(0, Relaxed);
        DESK.record.store(address, Relaxed);
        // SAFETY: without a state this thread does nothing that needs one.
        unsafe { self.current.set(0) };
        compiler_fence(SeqCst);
        record.turn.store(record.turn.load(Relaxed) + 1, Relaxed);
        compiler_fence(SeqCst);
        if DESK.away.load(Relaxed) != 0 {
            // SAFETY: this thread's record, which has just lent.
            unsafe { lend_slowly(address) };
        }
    }

    /// Keeps the capsule of a private errno, which lies in this thread state's `dict`, in
    /// the thread's record, where rules find it without a call. The GIL is held.
    pub(crate) fn keep_errno(&self, dict: u64, capsule: Object) {
        if self.slot.get() == 0 && !self.enroll() {
            return;
        }
        let record = record_at(self.slot.get());
        let capsule = capsule.address();
        record.dict.store(dict, Relaxed);
        let before = record.errno.load(Relaxed);
        if before == capsule {
            return;
        }
        // SAFETY: a live object, by which the record has a reference.
        unsafe { capi::Py_IncRef(capsule) };
        record.errno.store(capsule, Relaxed);
        if before != 0 {
            // SAFETY: the reference that the record had.
            unsafe { capi::Py_DecRef(before) };
        }
    }

    /// Gives this thread a record; false if there is no memory.
    #[cold]
    fn enroll(&self) -> bool {
        let record = Record::new();
        let enrolled = self.slot.set(record.address());
        if !enrolled {
            retire(record.address() as *mut _);
        }
        enrolled
    }
}

/// Releases the GIL that `state` holds, from a thread that has no state itself.
///
/// # Safety
/// The owner of the state has made no state current, and does not use it before
/// it has taken the GIL anew.
unsafe fn release_for(current: &Current, state: u64) {
    // Where all threads share the variable, the owner would take the state for
    // its own if it looked just now. CPython 3.11 needs no more of a state that
    // releases the GIL than its first words, so a copy of those stands in.
    let mut stand_in = [0_u64; 512];
    if !current.is_shared() {
        // SAFETY: this thread has no state, and the caller vouches for this one.
        unsafe { current.set(state) };
    } else {
        // SAFETY: a thread state is far larger than this.
        let first = unsafe { std::slice::from_raw_parts(state as *const u64, 8) };
        stand_in[..8].copy_from_slice(first);
        // SAFETY: no state is current, and this one lives until it is no more.
        unsafe { current.set(stand_in.as_ptr() as u64) };
    }
    // SAFETY: a state that holds the GIL is current.
    unsafe { PyEval_SaveThread() };
}

unsafe extern "C-unwind" fn lend_slowly(record: u64) -> u64 {
    let Some(lending) = LENDING.get() else { return 0 };
    let record = record_at(record);
    keeping_errno(|| {
        if monitor::call_back() {
            return;
        }
        let guard = deciding();
        let request = record.request.load(SeqCst);
        let is_crowded = DESK.away.load(SeqCst) == CROWDED;
        if is_crowded && request == NOTHING && now() > record.until.load(Relaxed) {
            record.request.store(YIELD, SeqCst);
        }
        // The monitor may have been on its way to sleep, and seen this call.
        if is_crowded || request == STOLEN {
            return;
        }
        record.request.store(RELEASED, SeqCst);
        drop(guard);
        let state = record.state.load(Relaxed);
        // SAFETY: this thread's own state, which holds the GIL: nobody steals
        // from a record whose request says that it was released.
        unsafe { lending.current.set(state) };
        // SAFETY: see above.
        unsafe { PyEval_SaveThread() };
    });
    0
}

unsafe extern "C-unwind" fn take_back(record: u64) -> u64 {
    keeping_errno(|| do_as_asked(record_at(record)));
    0
}

/// Does what the request of this thread's record says.
fn do_as_asked(record: &Record) {
    // It may have to wait for the monitor.
    let guard = deciding();
    let request = record.request.load(SeqCst);
    if request == YIELD {
        record.request.store(RELEASED, SeqCst);
    }
    drop(guard);
    let state = record.state.load(Relaxed);
    match request {
        STOLEN | RELEASED => {
            // SAFETY: the thread's own state, released by it or for it.
            unsafe { PyEval_RestoreThread(state) };
        }
        YIELD => yield_gil(record, state),
        // The monitor has seen that the call was over.
        _ => {}
    }
    // Nothing is asked of a thread before it has the GIL again.
    record.request.store(NOTHING, SeqCst);
    if request == STOLEN {
        robbed(record);
    }
}

/// Notes a theft; a function that is robbed again and again is to release the
/// GIL itself.
fn robbed(record: &Record) {
    THEFTS.fetch_add(1, Relaxed);
    let function = record.function.load(Relaxed);
    let turn = record.turn.load(Relaxed);
    let known = record.thefts.iter().find(|[known, _]| known.load(Relaxed) == function);
    match known {
        Some([_, last]) => {
            if turn - last.swap(turn, Relaxed) < 2 * CALLS_BETWEEN_THEFTS {
                gil::demote(function);
            }
        }
        None => {
            let oldest = record.thefts.iter().min_by_key(|[_, turn]| turn.load(Relaxed));
            let [known, last] = oldest.expect("there is room for some");
            known.store(function, Relaxed);
            last.store(turn, Relaxed);
        }
    }
}
