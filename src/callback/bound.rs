//! What a callback is bound to, and the handler that is entered with its address.
//!
//! # Safety
//! As for [`Callback`](crate::Callback): what is bound lives at one address until the
//! code that leads there is gone.

#![allow(unsafe_code, reason = "is entered by C with raw pointers")]

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use hotcall_core::{CType, Handler, Signature};

/// What a handler is entered with. Stubs read the fields of its first field.
#[repr(C)]
pub(super) struct Bound<F> {
    pub(super) shared: Shared,
    pub(super) closure: F,
}

/// What is known of each callback.
#[repr(C)]
pub(super) struct Shared {
    /// Takes the words of the arguments.
    pub(super) handler: Handler,
    /// Takes the arguments as they are, and the context where trampolines put it, if
    /// there is such a function. It is right only for arguments in registers.
    pub(super) direct: Option<*const ()>,
    pub(super) signature: Signature,
    /// What the first closure that panicked panicked with.
    pub(super) panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: the one part that is not `Send` is `direct`, the address of a function.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`; what changes is behind a lock.
unsafe impl Sync for Shared {}

/// A [`Bound`] whose closure borrows for `'a` at most.
pub(super) trait Kept: Send + Sync {
    fn shared(&self) -> &Shared;
}

impl<F: Send + Sync> Kept for Bound<F> {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Owns what C has the address of: a box would claim that nobody else has.
pub(super) struct Owned<'a>(pub(super) NonNull<dyn Kept + 'a>);

// SAFETY: it owns what may be sent to another thread, and shared.
unsafe impl Send for Owned<'_> {}
// SAFETY: as for `Send`; `&Owned` gives `&dyn Kept`.
unsafe impl Sync for Owned<'_> {}

impl Owned<'_> {
    pub(super) fn shared(&self) -> &Shared {
        // SAFETY: it was made from a box, and is dropped with `self`.
        unsafe { self.0.as_ref() }.shared()
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // SAFETY: it was made from a box, of which nothing else knows any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// How a closure is called with the words of a call.
pub(super) trait Calls<F> {
    /// Calls `closure`; a struct that it gives is written to `result`.
    ///
    /// # Safety
    /// `words` has the words of the arguments of this signature, and `result` is
    /// memory for its result, if that is a struct.
    unsafe fn call(closure: &F, signature: &Signature, result: *mut u8, words: *const u64) -> u64;
}

/// Where each call of a callback ends up.
///
/// # Safety
/// `context` is the address of a `Bound<F>` that lives until this returns; the others
/// are as [`Handler`] says.
pub(super) unsafe extern "C-unwind" fn enter<F, C: Calls<F>>(
    context: *const c_void,
    result: *mut u8,
    words: *const u64,
) -> u64 {
    // SAFETY: the caller promises it.
    let Bound { shared, closure } = unsafe { &*context.cast::<Bound<F>>() };
    let run = || {
        // SAFETY: the caller promises it.
        unsafe { C::call(closure, &shared.signature, result, words) }
    };
    guarded(shared, run).unwrap_or_else(|| {
        if let CType::Struct(of) = shared.signature.result() {
            // SAFETY: a handler gets memory for a struct.
            unsafe { ptr::write_bytes(result, 0, of.size()) };
        }
        0
    })
}

/// What `run` gives, unless it panics: then that is kept.
#[inline]
pub(super) fn guarded<T>(shared: &Shared, run: impl FnOnce() -> T) -> Option<T> {
    // A closure that panics has left what it shares as it wanted that to be seen.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| keep(shared, panic)).ok()
}

/// Keeps what a closure panicked with, if it is the first.
#[cold]
fn keep(shared: &Shared, panic: Box<dyn Any + Send>) {
    let mut kept = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
    let other = match &mut *kept {
        first @ None => first.replace(panic),
        Some(_) => Some(panic),
    };
    // What runs when the other one is dropped may ask for the first.
    drop(kept);
    if let Err(worse) = catch_unwind(AssertUnwindSafe(|| drop(other))) {
        // It may panic again and again.
        std::mem::forget(worse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotcall_core::Signature;
    use std::sync::Arc;

    #[test]
    fn what_is_thrown_away_may_ask_for_what_is_kept() {
        /// Takes what is kept when it is dropped.
        struct Asks(Arc<Shared>);

        impl Drop for Asks {
            fn drop(&mut self) {
                // What is taken asks in turn, and finds nothing.
                let kept = self.0.panic.try_lock().expect("nobody holds the lock").take();
                drop(kept);
            }
        }

        unsafe extern "C-unwind" fn handler(_: *const c_void, _: *mut u8, _: *const u64) -> u64 {
            0
        }
        let signature = Signature::new([], CType::Void).unwrap();
        let shared = Shared { handler, direct: None, signature, panic: Mutex::new(None) };
        let shared = Arc::new(shared);
        for _ in 0..2 {
            keep(&shared, Box::new(Asks(shared.clone())));
        }
        assert!(shared.panic.lock().unwrap().is_none());
    }
}
