//! Where the entries of functions are kept. That of most lies in the function
//! object, where CPython finds it as the vectorcall pointer. A function with
//! `errcheck` is entered through the call slot, which finds its entry in a table of
//! fixed size (`table`); one whose place is taken by another function is looked up the
//! long way.
//!
//! # Safety
//! The functions are alive, and the GIL is held: it guards the table. Functions leave
//! the table when their declaration ends, at the latest before they are freed.

#![allow(unsafe_code, reason = "writes entries into raw objects")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bound;
use crate::enter::{Style, Vectorcall};
use crate::layout::CDATA_ENTRY;
use crate::raw::Object;
use crate::table::{Entry, Table};

/// A function, and its entry.
struct Kept {
    function: AtomicU64,
    entry: AtomicU64,
}

impl Entry for Kept {
    const EMPTY: Kept = Kept { function: AtomicU64::new(0), entry: AtomicU64::new(0) };

    #[inline(always)]
    fn address(&self) -> &AtomicU64 {
        &self.function
    }
}

static TABLE: Table<Kept, 512> = Table::new();

/// The entry that the table has for a function.
#[inline(always)]
pub(crate) fn kept(function: u64) -> Option<Vectorcall> {
    let entry = TABLE.find(function)?.entry.load(Relaxed) as usize;
    // SAFETY: what is kept for a function is an entry of its site.
    Some(unsafe { std::mem::transmute::<usize, Vectorcall>(entry) })
}

/// The entry that a function of this style has, if any.
pub(crate) fn of(function: Object, style: Style) -> Option<u64> {
    let word = match style {
        Style::Vectorcall => function.word(CDATA_ENTRY),
        Style::Tuple => kept(function.address()).map_or(0, |entry| entry as usize as u64),
    };
    (word != 0).then_some(word)
}

/// Gives a function of this style an entry, which is one of its site's.
pub(crate) fn keep(function: Object, style: Style, entry: Vectorcall) {
    let word = entry as usize as u64;
    match style {
        Style::Vectorcall => set(function, word),
        Style::Tuple => {
            let kept = TABLE.room(function.address());
            kept.function.store(function.address(), Relaxed);
            kept.entry.store(word, Relaxed);
        }
    }
}

/// Empties the table.
pub(crate) fn clear_all() {
    TABLE.iter().for_each(|kept| kept.function.store(0, Relaxed));
}

/// Takes a function's entry away, so that CPython calls the call slot, and that
/// looks at the function anew.
pub(crate) fn clear(function: Object) {
    set(function, 0);
    if let Some(kept) = TABLE.find(function.address()) {
        kept.function.store(0, Relaxed);
    }
}

/// Sets the vectorcall pointer of a function to an entry, or to null, which sends
/// CPython to the call slot.
fn set(function: Object, word: u64) {
    // SAFETY: null, or an entry for objects of this class.
    unsafe { function.set(CDATA_ENTRY, word) };
    bound::follow(function, word);
}
