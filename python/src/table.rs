//! What is known of objects, by their addresses, in tables of fixed size: what
//! there is no room for is learned anew. Two objects whose addresses have one
//! hash are known side by side.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::layout::TYPE_VERSION;
use crate::raw::Object;

/// What is known of one object.
pub(crate) trait Entry {
    /// An entry of no object.
    const EMPTY: Self;

    /// The object's address; 0 in an entry that is empty.
    fn address(&self) -> &AtomicU64;
}

/// A class as it was seen. Its address may be another one's later, but no two
/// classes ever have the same version.
pub(crate) struct Seen {
    address: AtomicU64,
    version: AtomicU32,
}

impl Seen {
    /// Whether it is this class, unchanged since it was seen.
    #[inline(always)]
    pub(crate) fn is(&self, class: Object) -> bool {
        self.address.load(Relaxed) == class.address()
            && self.version.load(Relaxed) == class.word(TYPE_VERSION) as u32
    }

    /// It is this class from now on, unless that has no version.
    pub(crate) fn see(&self, class: Object) {
        let version = class.word(TYPE_VERSION) as u32;
        self.version.store(version, Relaxed);
        self.address.store(if version == 0 { 0 } else { class.address() }, Relaxed);
    }

    /// It is no class.
    pub(crate) fn forget(&self) {
        self.address.store(0, Relaxed);
    }
}

impl Entry for Seen {
    const EMPTY: Seen = Seen { address: AtomicU64::new(0), version: AtomicU32::new(0) };

    #[inline(always)]
    fn address(&self) -> &AtomicU64 {
        &self.address
    }
}

/// `PAIRS` pairs of entries, each of which two objects share.
pub(crate) struct Table<T, const PAIRS: usize> {
    entries: [[T; 2]; PAIRS],
    /// Which of two entries was taken last for another object.
    turn: AtomicU32,
}

impl<T: Entry, const PAIRS: usize> Table<T, PAIRS> {
    const SHIFT: u32 = u64::BITS - PAIRS.ilog2();

    /// An empty table. `PAIRS` is a power of two.
    pub(crate) const fn new() -> Table<T, PAIRS> {
        const { assert!(PAIRS.is_power_of_two()) };
        Table { entries: [const { [T::EMPTY, T::EMPTY] }; PAIRS], turn: AtomicU32::new(0) }
    }

    /// The entries that an object may have, by Fibonacci hashing (Knuth, The Art
    /// of Computer Programming 6.4): objects are aligned and often lie side by side.
    #[inline(always)]
    fn pair(&self, address: u64) -> &[T; 2] {
        &self.entries[((address >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> Self::SHIFT) as usize]
    }

    /// An object's entry.
    #[inline(always)]
    pub(crate) fn find(&self, address: u64) -> Option<&T> {
        let [first, second] = self.pair(address);
        let is_its = |entry: &&T| entry.address().load(Relaxed) == address;
        Some(first).filter(is_its).or_else(|| Some(second).filter(is_its))
    }

    /// The entry that an object has or, if it has none, may take.
    pub(crate) fn room(&self, address: u64) -> &T {
        let pair = self.pair(address);
        let free = || pair.iter().find(|entry| entry.address().load(Relaxed) == 0);
        self.find(address).or_else(free).unwrap_or_else(|| {
            let turn = self.turn.load(Relaxed) ^ 1;
            self.turn.store(turn, Relaxed);
            &pair[turn as usize]
        })
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }
}
