//! hotcall is started by one thread at a time. Python code runs meanwhile, so
//! others may want to start it too: they wait, with the GIL released.
//!
//! It works for the main interpreter. What it knows, objects of ctypes among it, is
//! that interpreter's and the process's, so no other one has it started.
//!
//! # Safety
//! CPython is asked for what every thread may ask that has the GIL.

#![allow(unsafe_code, reason = "asks for interpreters and thread states")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::exceptions::{PyException, PyMemoryError, PyRecursionError};
use pyo3::prelude::*;

use crate::capi;
use crate::check::Reason;
use crate::described;

/// Why hotcall does not start.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is off, as long as the process lives.
    Off(Reason),
    /// The exception tells nothing of ctypes: it interrupts the program, or is for want
    /// of memory or stack. The next use of hotcall tries again.
    Raised(PyErr),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Failure {
        Failure::Off(reason)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Python::attach(|py| {
            let is_of_program = !error.is_instance_of::<PyException>(py)
                || error.is_instance_of::<PyMemoryError>(py)
                || error.is_instance_of::<PyRecursionError>(py);
            match is_of_program {
                true => Failure::Raised(error),
                false => Failure::Off(described::error(py, &error)),
            }
        })
    }
}

/// Why hotcall is off for an interpreter that is not the main one, whatever it is there.
pub(crate) fn elsewhere(_py: Python<'_>) -> Option<&'static str> {
    // SAFETY: the GIL is held.
    let interpreter = unsafe { capi::PyInterpreterState_Get() };
    // SAFETY: the current interpreter. The main one has the number 0.
    let number = unsafe { capi::PyInterpreterState_GetID(interpreter) };
    (number != 0).then_some("it works for the main interpreter, and this is another one")
}

/// Why hotcall cannot be started by this thread: callbacks act for the thread state
/// that CPython keeps for a thread, and would wait for the GIL that another one has.
pub(crate) fn not_by_this_thread(_py: Python<'_>) -> Option<&'static str> {
    // SAFETY: the GIL is held.
    let current = unsafe { capi::current_thread_state()() };
    // SAFETY: it may be asked at any time.
    let kept = unsafe { capi::PyGILState_GetThisThreadState() };
    (current != kept).then_some("this thread acts for a thread state that is not its own")
}

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
