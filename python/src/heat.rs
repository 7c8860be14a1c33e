//! How warm functions are that have no call site yet, and which ones ctypes calls
//! for good: two tables of fixed size, indexed by a hash of the function's address,
//! so that a cold call costs little and nothing is allocated for it.
//!
//! As in any such table a function may find itself warmed by another one, which
//! does no harm, or its entry taken by another one: then it is looked up.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

static HEAT: [AtomicU8; SLOTS] = [const { AtomicU8::new(0) }; SLOTS];
static DECLINED: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
const SLOTS: usize = 4096;

/// The slot of a function in these tables.
fn slot(function: u64) -> usize {
    (function.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % SLOTS
}

/// Counts a call; true if the function has had `warm` of them before.
pub(crate) fn is_warm(function: u64, warm: u8) -> bool {
    let entry = &HEAT[slot(function)];
    let count = entry.load(Relaxed);
    if count < warm {
        entry.store(count + 1, Relaxed);
    }
    count >= warm
}

/// Has a function begin cold again.
pub(crate) fn cool(function: u64) {
    HEAT[slot(function)].store(0, Relaxed);
}

/// Whether ctypes makes all calls of a function, as far as is known here.
pub(crate) fn is_declined(function: u64) -> bool {
    DECLINED[slot(function)].load(Relaxed) == function
}

/// Notes that ctypes makes all calls of a function.
pub(crate) fn decline(function: u64) {
    DECLINED[slot(function)].store(function, Relaxed);
}

/// Takes a function out of the table of those that ctypes calls.
pub(crate) fn undecline(function: u64) {
    if is_declined(function) {
        DECLINED[slot(function)].store(0, Relaxed);
    }
}

/// Takes all functions out of that table.
pub(crate) fn undecline_all() {
    DECLINED.iter().for_each(|entry| entry.store(0, Relaxed));
}
