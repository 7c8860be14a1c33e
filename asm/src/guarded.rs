//! A lock that a child of `fork` cannot wait for in vain: if it was held by
//! another thread of the parent, nobody will ever release it in the child.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use hotcall_tracer::Refusal;

use crate::refusals::FORKED_WHILE_COMPILING;

/// A value behind a lock.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    value: Mutex<T>,
    /// The process that locked it last.
    locked_by: AtomicU32,
}

impl<T> Guarded<T> {
    /// Locks the value. What is kept here is whole after every step, so a panic of
    /// another thread that held the lock did no harm.
    ///
    /// # Errors
    /// [`FORKED_WHILE_COMPILING`], where the lock is never released.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>, Refusal> {
        let guard = match self.value.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.locked_by.load(Relaxed) != process::id() => {
                return Err(FORKED_WHILE_COMPILING);
            }
            Err(TryLockError::WouldBlock) => {
                self.value.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        self.locked_by.store(process::id(), Relaxed);
        Ok(guard)
    }
}

impl<T: Default> Default for Guarded<T> {
    fn default() -> Guarded<T> {
        Guarded { value: Mutex::default(), locked_by: AtomicU32::new(process::id()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory::forked;

    #[test]
    fn a_child_that_was_forked_while_it_was_locked_is_refused() {
        let value = Guarded::<u8>::default();
        let held = value.lock();
        let child = || value.lock().err() == Some(FORKED_WHILE_COMPILING);
        assert!(forked(|| drop(held), child));
        assert_eq!(value.lock().map(|_| ()), Ok(()));
    }
}
