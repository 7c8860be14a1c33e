//! What threads that lend the GIL and the monitor tell each other: a record for
//! each thread, and the desk on which the last record lies.
//!
//! # Safety
//! Records are never freed, so whoever finds one may read it at any time.

#![allow(unsafe_code, reason = "records are found by their addresses")]

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::atomic::{
    AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotcall_tracer::{Field, Mem};

use super::monitor;

/// What a thread tells the monitor, and the monitor the thread.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Odd while the thread lends, or has been told by [`super::LEND_SLOWLY`] that it
    /// released the GIL. Written by the thread.
    pub(super) turn: AtomicU64,
    /// The thread state whose GIL is lent. Written by the thread.
    pub(super) state: AtomicU64,
    /// The function that is called. Written by the thread.
    pub(super) function: AtomicU64,
    /// Why the thread has to call [`super::TAKE_BACK`]: one of the numbers below.
    /// Written with [`DECIDING`] locked, but that the thread, when it has done
    /// what was asked, sets it to nothing.
    pub(super) request: AtomicU64,
    /// Until when the thread need not yield to others that wait for the GIL, in
    /// nanoseconds. Written by the thread.
    pub(super) until: AtomicU64,
    /// The dictionary of the thread state whose private errno is kept, or
    /// [`NOWHERE`]. Written by the thread.
    pub(super) dict: AtomicU64,
    /// The capsule in it, to which the record has a reference: it may outlive the
    /// thread state, until the record is another thread's. Written by the thread.
    pub(super) errno: AtomicU64,
    /// The next record in [`FREE`], if this one is there.
    next: AtomicPtr<Record>,
    /// The functions in whose calls the GIL was stolen of late, with the turn.
    pub(super) thefts: [[AtomicU64; 2]; 8],
}

/// Nothing: the thread goes on by itself.
pub(super) const NOTHING: u64 = 0;
/// The monitor is about to steal.
pub(super) const ASKED: u64 = 1;
/// The monitor has released, or is releasing, the GIL for the thread.
pub(super) const STOLEN: u64 = 2;
/// The thread has released the GIL.
pub(super) const RELEASED: u64 = 3;
/// Other threads are to have a chance.
pub(super) const YIELD: u64 = 4;

/// The address of no dictionary: a thread state that has none yet has 0 there.
const NOWHERE: u64 = u64::MAX;

/// The monitor watches, but other threads wait for the GIL, so that each call
/// has to look at the time. What else may stand on the desk is in `monitor`.
pub(super) const CROWDED: u64 = 5;

/// Where the threads meet the monitor.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Desk {
    /// The record of the last thread that lent.
    pub(super) record: AtomicU64,
    /// Why nobody watches, or why calls have to call
    /// [`super::LEND_SLOWLY`] all the same; else 0.
    pub(super) away: AtomicU64,
}

pub(super) static DESK: Desk =
    Desk { record: AtomicU64::new(0), away: AtomicU64::new(monitor::ABSENT) };

/// Held while the monitor decides whether to steal, and while a thread finds
/// out what was decided. Nothing waits for the GIL with it.
pub(super) static DECIDING: Mutex<()> = Mutex::new(());

/// The record of the last thread that has ended, or null; each leads to the one
/// before it. Threads that end add theirs at any time, also amid a fork, so there
/// is no lock. They are taken with the GIL held, by one thread at a time: a record
/// that is seen here is here until that thread has taken it.
static FREE: AtomicPtr<Record> = AtomicPtr::new(null_mut());

/// The turn of a record.
pub(crate) const TURN: Field = Field::new("record.turn", offset_of!(Record, turn) as i32, Mem::I64);
/// The thread state in a record.
pub(crate) const STATE: Field =
    Field::new("record.state", offset_of!(Record, state) as i32, Mem::I64);
/// The function in a record.
pub(crate) const FUNCTION: Field =
    Field::new("record.function", offset_of!(Record, function) as i32, Mem::I64);
/// The request in a record.
pub(crate) const REQUEST: Field =
    Field::new("record.request", offset_of!(Record, request) as i32, Mem::I64);
/// The dictionary whose private errno is in a record.
pub(crate) const DICT: Field = Field::new("record.dict", offset_of!(Record, dict) as i32, Mem::I64);
/// The capsule of the private errno in a record.
pub(crate) const ERRNO: Field =
    Field::new("record.errno", offset_of!(Record, errno) as i32, Mem::I64);
/// The record on the desk.
pub(crate) const LENDER: Field =
    Field::new("desk.record", offset_of!(Desk, record) as i32, Mem::I64);
/// Why nobody watches the desk.
pub(crate) const AWAY: Field = Field::new("desk.away", offset_of!(Desk, away) as i32, Mem::I64);

impl Record {
    /// A record for a thread that has none. The GIL is held.
    pub(super) fn new() -> &'static Record {
        let record = Record::take_free().unwrap_or_else(|| Box::leak(Box::default()));
        // Its last thread may have been ended while it waited for the GIL.
        record.request.store(NOTHING, SeqCst);
        record.dict.store(NOWHERE, Relaxed);
        record
    }

    /// The record of a thread that has ended, if there is one. The GIL is held.
    fn take_free() -> Option<&'static Record> {
        let next = |record: *mut Record| {
            // SAFETY: null or a record, which is never freed.
            let record = unsafe { record.as_ref() };
            record.map(|record| record.next.load(Relaxed))
        };
        let taken = FREE.fetch_update(AcqRel, Acquire, next).ok()?;
        // SAFETY: as above.
        unsafe { taken.as_ref() }
    }

    /// Leaves it to a later thread.
    fn give_up(&'static self) {
        let this = std::ptr::from_ref(self).cast_mut();
        let mut head = FREE.load(Relaxed);
        loop {
            self.next.store(head, Relaxed);
            match FREE.compare_exchange_weak(head, this, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Its address.
    pub(super) fn address(&self) -> u64 {
        std::ptr::from_ref(self).expose_provenance() as u64
    }

    /// Whether its thread is in a call that has lent the GIL.
    pub(super) fn is_out(&self) -> bool {
        self.turn.load(Relaxed) & 1 == 1
    }
}

/// Takes the record of a thread that ends. A thread that ends within a call
/// leaves it to the monitor.
pub(super) extern "C" fn retire(record: *mut c_void) {
    // SAFETY: the value of our key is a record, which is never freed.
    let record = unsafe { &*(record as *const Record) };
    if !record.is_out() {
        record.give_up();
    }
}

/// Waits until the monitor has decided.
pub(super) fn deciding() -> MutexGuard<'static, ()> {
    DECIDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The record at `address`.
pub(super) fn record_at(address: u64) -> &'static Record {
    // SAFETY: helpers get the thread's record, and records are never freed.
    unsafe { &*(address as *const Record) }
}

/// The record on the desk, if there is one.
pub(super) fn lender() -> Option<&'static Record> {
    let address = DESK.record.load(Acquire);
    (address != 0).then(|| record_at(address))
}
