//! A lock that a child of `fork` cannot wait for in vain: if it was held by
//! another thread of the parent, nobody will ever release it in the child.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{process, thread};

use hotcall_tracer::Refusal;

use crate::refusals::FORKED_WHILE_COMPILING;

/// A thread that has just locked the value says in which process within this time.
const PATIENCE: Duration = Duration::from_millis(100);

/// A value behind a lock.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    value: Mutex<T>,
    /// The process that locked it last.
    locked_by: AtomicU32,
    /// The process in which it is never released.
    lost_in: AtomicU32,
}

impl<T> Guarded<T> {
    /// Locks the value. What is kept here is whole after every step, so a panic of
    /// another thread that held the lock did no harm.
    ///
    /// # Errors
    /// [`FORKED_WHILE_COMPILING`], where the lock is never released.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>, Refusal> {
        let mut since = None;
        let guard = loop {
            match self.value.try_lock() {
                Ok(guard) => break guard,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if self.locked_by.load(Relaxed) == process::id() => {
                    break self.value.lock().unwrap_or_else(PoisonError::into_inner);
                }
                Err(TryLockError::WouldBlock) if self.lost_in.load(Relaxed) == process::id() => {
                    return Err(FORKED_WHILE_COMPILING);
                }
                Err(TryLockError::WouldBlock) => {
                    if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        self.lost_in.store(process::id(), Relaxed);
                        return Err(FORKED_WHILE_COMPILING);
                    }
                    thread::yield_now();
                }
            }
        };
        self.locked_by.store(process::id(), Relaxed);
        Ok(guard)
    }
}

impl<T: Default> Default for Guarded<T> {
    fn default() -> Guarded<T> {
        Guarded {
            value: Mutex::default(),
            locked_by: AtomicU32::new(process::id()),
            lost_in: AtomicU32::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory::forked;

    #[test]
    fn threads_of_a_child_that_lock_it_at_once_are_not_refused() {
        for _ in 0..20 {
            let value = Guarded::<u8>::default();
            let child = || {
                thread::scope(|scope| {
                    let lock = || value.lock().map(|mut value| *value += 1).is_ok();
                    let threads: Vec<_> = (0..4).map(|_| scope.spawn(lock)).collect();
                    threads.into_iter().all(|thread| thread.join().is_ok_and(|locked| locked))
                })
            };
            assert!(forked(|| (), child));
        }
    }

    #[test]
    fn a_child_that_was_forked_while_it_was_locked_is_refused() {
        let value = Guarded::<u8>::default();
        let held = value.lock();
        let child = || value.lock().err() == Some(FORKED_WHILE_COMPILING);
        assert!(forked(|| drop(held), child));
        assert_eq!(value.lock().map(|_| ()), Ok(()));
    }
}
