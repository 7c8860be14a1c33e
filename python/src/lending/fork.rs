//! Forks: the monitor ends before each fork of the process, so that a program with
//! one thread forks as such, and no lock of ours is held in the child by a thread
//! that is not there.
//!
//! # Safety
//! The handlers are called by the C library in the thread that forks.

#![allow(unsafe_code, reason = "registers fork handlers, and looks for a thread")]

use std::cell::RefCell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::monitor::{ABSENT, COMMAND, END, ENDED, GO_ON, NUMBER, rouse, thread};
use super::record::{DESK, deciding};
use crate::helpers::keeping_errno;

/// How long a fork waits at most for the monitor to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// Arranges that the monitor ends before each fork of the process.
pub(super) fn watch() -> Result<(), &'static str> {
    static STATUS: OnceLock<libc::c_int> = OnceLock::new();
    let status = STATUS.get_or_init(|| {
        // SAFETY: functions that may be called around a fork in any thread.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) }
    });
    match status {
        0 => Ok(()),
        _ => Err("the C library takes no fork handlers"),
    }
}

thread_local! {
    /// The locks that this thread holds while it forks.
    static FORKING: RefCell<Option<Locks>> = const { RefCell::new(None) };
}

/// The monitor's thread, and the lock of decisions.
type Locks = (MutexGuard<'static, Option<JoinHandle<()>>>, MutexGuard<'static, ()>);

unsafe extern "C" fn before_fork() {
    keeping_errno(end_monitor);
}

/// Ends the monitor, and sees to it that no other thread is in the middle of
/// anything of ours. Once is enough, however often it is called for one fork.
fn end_monitor() {
    if FORKING.with_borrow(Option::is_some) {
        return;
    }
    let mut thread = thread();
    if let Some(running) = thread.take() {
        COMMAND.store(END, SeqCst);
        rouse();
        let asked = Instant::now();
        while !running.is_finished() && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(20));
        }
        match running.is_finished() {
            true => {
                drop(running.join());
                wait_until_gone(asked);
            }
            // It waits for another thread to take a GIL that it released.
            false => *thread = Some(running),
        }
    }
    let locks = (thread, deciding());
    FORKING.with_borrow_mut(|held| *held = Some(locks));
}

/// Waits until the kernel counts the monitor's thread no more, which is a little
/// after it has ended: CPython warns when a process with threads forks.
fn wait_until_gone(asked: Instant) {
    let thread = NUMBER.load(SeqCst);
    // SAFETY: it may be asked at any time.
    let process = unsafe { libc::getpid() };
    // SAFETY: no signal is sent.
    let is_there = || unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) } == 0;
    while is_there() && asked.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
}

unsafe extern "C" fn in_parent() {
    FORKING.with_borrow_mut(|held| drop(held.take()));
}

unsafe extern "C" fn in_child() {
    let held = FORKING.with_borrow_mut(Option::take);
    if let Some((mut thread, _deciding)) = held {
        // The records of other threads are of no use here, and there is no
        // monitor, even if its handle is there.
        std::mem::forget(thread.take());
        DESK.record.store(0, SeqCst);
        DESK.away.store(ABSENT, SeqCst);
        COMMAND.store(GO_ON, SeqCst);
        ENDED.store(true, SeqCst);
    }
}
