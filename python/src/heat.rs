//! How warm functions are that have no call site yet, and which ones ctypes calls,
//! for good or for so many calls: tables of fixed size, indexed by a hash of the
//! function's address, so that a cold call costs little and nothing is allocated
//! for it.
//!
//! As in any such table a function may find itself warmed by another one, which
//! does no harm, or its entry taken by another one: then it is looked up.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

static HEAT: [AtomicU8; SLOTS] = [const { AtomicU8::new(0) }; SLOTS];
static DECLINED: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
/// How many more calls of a declined function ctypes makes.
static LEFT: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];
const SLOTS: usize = 4096;
/// What stands in [`LEFT`] where ctypes makes all calls.
pub(crate) const FOR_GOOD: u32 = u32::MAX;

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

/// Counts a call; true if ctypes makes it, as far as is known here.
pub(crate) fn is_declined(function: u64) -> bool {
    let slot = slot(function);
    if DECLINED[slot].load(Relaxed) != function {
        return false;
    }
    match LEFT[slot].load(Relaxed) {
        0 => false,
        FOR_GOOD => true,
        left => {
            LEFT[slot].store(left - 1, Relaxed);
            true
        }
    }
}

/// Whether ctypes has made all calls of a function that it was to make.
pub(crate) fn has_waited(function: u64) -> bool {
    let slot = slot(function);
    DECLINED[slot].load(Relaxed) == function && LEFT[slot].load(Relaxed) == 0
}

/// Notes that ctypes makes so many calls of a function, or all for [`FOR_GOOD`].
pub(crate) fn decline(function: u64, calls: u32) {
    let slot = slot(function);
    DECLINED[slot].store(function, Relaxed);
    LEFT[slot].store(calls, Relaxed);
}

/// Takes a function out of the table of those that ctypes calls.
pub(crate) fn undecline(function: u64) {
    let entry = &DECLINED[slot(function)];
    if entry.load(Relaxed) == function {
        entry.store(0, Relaxed);
    }
}

/// Takes all functions out of that table.
pub(crate) fn undecline_all() {
    DECLINED.iter().for_each(|entry| entry.store(0, Relaxed));
}
