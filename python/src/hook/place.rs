//! Words that the hook writes to, and what stood there before.
//!
//! # Safety
//! As for the module above.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hotcall_tracer::Field;

use crate::raw::Object;

/// The function that stood in a slot before the hook was made. It is set once
/// and kept, since another thread may be on its way to it.
pub(crate) struct Original(AtomicU64);

impl Original {
    pub(crate) const fn new() -> Original {
        Original(AtomicU64::new(0))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Keeps what stands in the slot, unless that is ours.
    pub(crate) fn keep(&self, found: u64, ours: u64) {
        if found != ours {
            self.0.store(found, Relaxed);
        }
    }
}

/// A word that the hook writes to: what stood there is kept in `original`.
pub(crate) struct Place {
    pub(super) object: Object,
    pub(super) field: Field,
    pub(super) original: &'static Original,
    pub(super) ours: u64,
}

impl Place {
    /// The place for a function of ours that has the signature of the one that
    /// stands there, and ends in it, or for data that is used alike.
    pub(crate) fn new(
        object: Object,
        field: Field,
        original: &'static Original,
        ours: u64,
    ) -> Place {
        Place { object, field, original, ours }
    }

    /// Whether one of these words stands there.
    pub(crate) fn holds(&self, expected: u64, ours: u64) -> bool {
        [expected, ours].contains(&self.object.word(self.field))
    }
}
