//! Objects without references that are kept to serve again, as CPython keeps
//! those of some of its own classes.
//!
//! # Safety
//! As for the module above. Nobody else knows of an object that is kept.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Field, Mem};

use crate::capi;
use crate::hook::Destructor;
use crate::layout::TYPE_FLAGS;
use crate::raw::{self, Object};

/// What names the object that was kept before: any word that is written anew.
const BEFORE: Field = Field::new("kept.before", 16, Mem::I64);
/// The links of the garbage collector, which are null while it does not know the
/// object, but for a mark that it has been finalised.
pub(super) const LINKS: [Field; 2] =
    [Field::new("gc.next", -16, Mem::I64), Field::new("gc.previous", -8, Mem::I64)];

/// The class was made at run time, and its instances count as references to it.
pub(super) const HEAP_TYPE: u64 = 1 << 9;
/// The garbage collector looks after instances.
const HAVE_GC: u64 = 1 << 14;

/// How many objects of a class are kept.
const MOST: u32 = 32;

/// Objects of one class, the last one first.
pub(super) struct Kept {
    last: AtomicU64,
    count: AtomicU32,
}

impl Kept {
    pub(super) const fn new() -> Kept {
        Kept { last: AtomicU64::new(0), count: AtomicU32::new(0) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.last.load(Relaxed) == 0
    }

    /// Frees the objects.
    pub(super) fn free(&self, free: Destructor) {
        while let Some(object) = self.pop() {
            // SAFETY: an object that nobody refers to, and what frees such objects.
            unsafe { free(object.address()) };
        }
    }

    /// Takes an object that the garbage collector does not know any more, and
    /// whose reference to its class is given up here. It must be as when it was
    /// made, but for what [`Kept::wake`] and its caller set. False if there is no
    /// room, or the collector has left a mark.
    #[inline(always)]
    pub(super) fn push(&self, object: Object, class: Object) -> bool {
        let count = self.count.load(Relaxed);
        let flags = class.word(TYPE_FLAGS);
        let is_marked = flags & HAVE_GC != 0 && object.word(LINKS[0]) | object.word(LINKS[1]) != 0;
        if count >= MOST || is_marked {
            return false;
        }
        // SAFETY: nobody else looks at the object.
        unsafe { object.set(BEFORE, self.last.load(Relaxed)) };
        self.last.store(object.address(), Relaxed);
        self.count.store(count + 1, Relaxed);
        if flags & HEAP_TYPE != 0 {
            // SAFETY: the object's reference.
            unsafe { raw::release(class.address()) };
        }
        true
    }

    #[inline(always)]
    fn pop(&self) -> Option<Object> {
        let last = self.last.load(Relaxed);
        if last == 0 {
            return None;
        }
        // SAFETY: memory that is kept as an object.
        let object = unsafe { Object::at(last) };
        self.last.store(object.word(BEFORE), Relaxed);
        self.count.store(self.count.load(Relaxed) - 1, Relaxed);
        Some(object)
    }

    /// Gives an object again, with one reference, and with those words that the
    /// caller says.
    #[inline(always)]
    pub(super) fn wake<const N: usize>(
        &self,
        words: impl FnOnce(Object) -> [(Field, u64); N],
    ) -> Option<Object> {
        let object = self.pop()?;
        // SAFETY: an object without references.
        unsafe { capi::new_reference(object.address()) };
        for (field, word) in words(object) {
            // SAFETY: the caller's promise.
            unsafe { object.set(field, word) };
        }
        let class = object.class();
        let flags = class.word(TYPE_FLAGS);
        if flags & HEAP_TYPE != 0 {
            raw::hold(class);
        }
        if flags & HAVE_GC != 0 {
            // SAFETY: an object of a class that the collector looks after.
            unsafe { capi::PyObject_GC_Track(object.address()) };
        }
        Some(object)
    }
}

/// Tells the garbage collector to forget an object, if it knows those of its class.
#[inline(always)]
pub(super) fn untrack(object: Object, class: Object) {
    if class.word(TYPE_FLAGS) & HAVE_GC != 0 {
        // SAFETY: an object of a class that the collector looks after.
        unsafe { capi::PyObject_GC_UnTrack(object.address()) };
    }
}
