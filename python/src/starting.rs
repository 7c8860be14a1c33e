//! hotcall is started by one thread at a time. Python code runs meanwhile, so
//! others may want to start it too: they wait, with the GIL released.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::Python;

/// The thread that starts hotcall, and its process: a child that was forked
/// meanwhile is without that thread.
static STARTER: Mutex<Option<(u32, ThreadId)>> = Mutex::new(None);

/// How long a thread waits before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

/// Keeps other threads from starting hotcall until it is dropped.
pub(crate) struct Alone(());

/// Waits until no other thread starts hotcall; none if this one does.
pub(crate) fn alone(py: Python<'_>) -> Option<Alone> {
    let this = (std::process::id(), std::thread::current().id());
    loop {
        let mut starter = starter();
        match *starter {
            Some(known) if known == this => return None,
            Some((process, _)) if process == this.0 => {}
            _ => {
                *starter = Some(this);
                return Some(Alone(()));
            }
        }
        drop(starter);
        py.detach(|| std::thread::sleep(PAUSE));
    }
}

fn starter() -> MutexGuard<'static, Option<(u32, ThreadId)>> {
    STARTER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Alone {
    fn drop(&mut self) {
        *starter() = None;
    }
}
