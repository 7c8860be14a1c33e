//! A word of each thread's own that machine code reads at a fixed distance from
//! the thread's base: the value of a pthread key.
//!
//! The C library keeps the values of its first keys in the thread's descriptor.
//! Where is found at import by looking, and checked by trying; where it is not
//! found beyond doubt there is no slot.
//!
//! # Safety
//! The key is made once and never deleted, so its value is the thread's alone.

#![allow(unsafe_code, reason = "makes a pthread key and reads thread descriptors")]

use std::ffi::c_void;

use hotcall_tracer::{Field, Mem};

use crate::probe;

/// What is called with the value when a thread ends, if it is not 0.
pub(super) type Destructor = unsafe extern "C" fn(*mut c_void);

/// The word, by its key and by its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    key: libc::pthread_key_t,
    /// The word, from the base of the thread's storage.
    pub(crate) field: Field,
}

/// Values that nothing else in a thread's descriptor has.
const MARKS: [u64; 2] = [0x7a5e_c3d1_9b24_e608, 0x1c9f_04b7_6ad8_35e2];

impl Slot {
    /// Makes a slot that is 0 in every thread; none if its place is not found.
    pub(super) fn new(destructor: Destructor) -> Option<Slot> {
        let mut key = 0;
        // SAFETY: the key is written to a variable; the function is one that the
        // C library may call with a value of this key.
        if unsafe { libc::pthread_key_create(&mut key, Some(destructor)) } != 0 {
            return None;
        }
        let found = Slot::search(key);
        Slot::assign(key, 0);
        let slot = Slot { key, field: Field::new("thread.record", found?, Mem::I64) };
        let agrees = move || {
            let before = slot.get();
            let after = MARKS.map(|mark| slot.set(mark) && slot.get() == mark);
            slot.set(0) && before == 0 && after == [true; 2]
        };
        probe::in_other_thread(agrees).then_some(slot)
    }

    /// The distance of the key's value from this thread's base.
    fn search(key: libc::pthread_key_t) -> Option<i32> {
        let [first, second] = MARKS.map(|mark| {
            Slot::assign(key, mark);
            let words = probe::words_above(probe::thread());
            words.into_iter().filter(|(_, word)| *word == mark).collect::<Vec<_>>()
        });
        match (&first[..], &second[..]) {
            ([(a, _)], [(b, _)]) if a == b => Some(*a),
            _ => None,
        }
    }

    fn assign(key: libc::pthread_key_t, word: u64) -> bool {
        // SAFETY: the key was made; values are ours to interpret.
        unsafe { libc::pthread_setspecific(key, word as *const c_void) == 0 }
    }

    /// This thread's word, read as machine code reads it.
    pub(super) fn get(&self) -> u64 {
        let place = probe::thread().wrapping_add_signed(self.field.offset.into());
        // SAFETY: the place was found in a thread's descriptor.
        unsafe { (place as *const u64).read_volatile() }
    }

    /// Sets this thread's word; false if there is no memory.
    pub(super) fn set(&self, word: u64) -> bool {
        Slot::assign(self.key, word)
    }
}
