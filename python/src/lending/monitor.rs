//! The monitor: the thread that takes the GIL away from calls that last.
//!
//! It is started by the first call that lends, and looks at the desk: soon
//! when a call has been seen under way, and ever more seldom while calls come and
//! go. At each look that finds new calls, it has their thread yield. When nothing
//! is lent for a while it sleeps until a call wakes it. It ends when none does, so
//! that an idle process has no thread more than others, and before a fork. The next
//! call that lends starts another one, in the parent as in the child.
//!
//! It knows no thread state of its own, and blocks all signals.
//!
//! # Safety
//! It acts for a thread state only between the theft, by which the owner waits
//! for the GIL before it uses the state, and the release.

#![allow(unsafe_code, reason = "makes system calls, and acts for thread states of others")]

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::record::{
    ASKED, CROWDED, DESK, NOTHING, RELEASED, Record, STOLEN, YIELD, deciding, lender,
};
use super::{LENDING, release_for};

/// There is no monitor.
pub(super) const ABSENT: u64 = 1;
/// It sleeps until it is called.
const ASLEEP: u64 = 2;
/// It is releasing a stolen GIL.
const BUSY: u64 = 3;
/// There can be none: the system gives no thread, or no barrier.
const DENIED: u64 = 4;

/// The time to the second look at a call.
const FIRST_LOOK: Duration = Duration::from_micros(50);
/// The time between looks while calls come and go.
const LATER_LOOK: Duration = Duration::from_millis(2);
/// The time between looks while nothing is lent.
const IDLE_LOOK: Duration = Duration::from_millis(4);
/// It falls asleep when nothing was lent for so long.
const IDLE: Duration = Duration::from_millis(20);
/// The same while other threads wait for the GIL, each of which has its turn.
const CROWDED_IDLE: Duration = Duration::from_millis(100);

/// It ends when it has slept for so long. To start it anew takes some 0.1 ms.
const SLEEP: Duration = Duration::from_millis(300);

/// The monitor's thread, if it was started in this process.
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);
/// What the monitor is to do; it waits for changes of this word.
pub(super) static COMMAND: AtomicU32 = AtomicU32::new(GO_ON);
/// Whether to behave as if the system gave no thread.
static DENY: AtomicBool = AtomicBool::new(false);
/// The number that the kernel gave its thread.
pub(super) static NUMBER: AtomicI32 = AtomicI32::new(0);
/// Whether it has ended.
pub(super) static ENDED: AtomicBool = AtomicBool::new(true);

pub(super) const GO_ON: u32 = 0;
const WAKE: u32 = 1;
pub(super) const END: u32 = 2;

/// Whether the system has denied a monitor.
pub(crate) fn is_denied() -> bool {
    DESK.away.load(Relaxed) == DENIED
}

/// Behaves from now on as if the system gave no thread, if `denied` says so.
pub(crate) fn deny(denied: bool) {
    DENY.store(denied, Relaxed);
}

pub(super) fn thread() -> MutexGuard<'static, Option<JoinHandle<()>>> {
    THREAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the monitor watch, if it sleeps or is not there: it will look at calls that
/// have lent by then. False if it cannot be had just now.
///
/// What the desk says is changed first. The caller has the GIL, and has lent it
/// already, so that nobody else lends before the monitor knows.
#[cold]
pub(super) fn call_back() -> bool {
    match DESK.away.load(SeqCst) {
        ASLEEP => wake(),
        ABSENT => start(),
        _ => false,
    }
}

/// Wakes the monitor; false if it is awake. If it has been told to end, it looks
/// once more before it does.
fn wake() -> bool {
    let asleep = DESK.away.compare_exchange(ASLEEP, 0, SeqCst, SeqCst).is_ok();
    if asleep && COMMAND.compare_exchange(GO_ON, WAKE, SeqCst, SeqCst).is_ok() {
        rouse();
    }
    asleep
}

/// Starts the monitor; false if it runs, or cannot be started.
fn start() -> bool {
    let mut thread = thread();
    if !ENDED.load(SeqCst) {
        return false;
    }
    drop(thread.take());
    ENDED.store(false, SeqCst);
    COMMAND.store(GO_ON, SeqCst);
    DESK.away.store(0, SeqCst);
    let started = register_barrier().and_then(|()| without_signals(spawn));
    match started {
        Ok(started) => *thread = Some(started),
        Err(_) => {
            ENDED.store(true, SeqCst);
            DESK.away.store(DENIED, SeqCst);
        }
    }
    thread.is_some()
}

fn spawn() -> io::Result<JoinHandle<()>> {
    if DENY.load(Relaxed) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let builder = std::thread::Builder::new().name("hotcall-monitor".into());
    builder.stack_size(256 << 10).spawn(run)
}

/// Runs `work` with all signals blocked, as the threads that it starts will be.
fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: it writes a signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a set that was filled, and room for another one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = work();
    // SAFETY: the set that was in force.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

/// Has the monitor look at its command at once.
pub(super) fn rouse() {
    let place = COMMAND.as_ptr();
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a word that lives as long as the process.
    unsafe { libc::syscall(libc::SYS_futex, place, operation, 1) };
}

/// Waits for a command, for so long at most.
fn wait(time: Duration) -> u32 {
    let limit = libc::timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    };
    let place = COMMAND.as_ptr();
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a word that lives as long as the process, and a time.
    unsafe { libc::syscall(libc::SYS_futex, place, operation, GO_ON, &raw const limit) };
    let woken = COMMAND.compare_exchange(WAKE, GO_ON, SeqCst, SeqCst);
    woken.unwrap_or_else(|other| other)
}

/// Has the kernel run a barrier in every running thread of the process.
fn barrier() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// Announces that barriers will be asked for.
pub(super) fn register_barrier() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: it reads and writes no memory.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the monitor remembers between looks.
struct Watch {
    /// The record and the turn of the last look.
    seen: (usize, u64),
    /// When something was lent last.
    active: Instant,
    /// The time to the next look.
    pause: Duration,
}

/// What the monitor's thread does.
fn run() {
    // SAFETY: it may be asked at any time.
    NUMBER.store(unsafe { libc::gettid() }, SeqCst);
    let away = if watch() { ABSENT } else { DENIED };
    DESK.away.store(away, SeqCst);
    // Somebody may have lent meanwhile, and nobody watches any more.
    if barrier().is_ok()
        && let Some((record, turn)) = under_way()
    {
        steal(record, turn, away);
    }
    ENDED.store(true, SeqCst);
}

/// Looks at the desk until it is told to end, or was not needed for long; false if
/// it can watch no more.
fn watch() -> bool {
    let mut watch = Watch { seen: (0, 0), active: Instant::now(), pause: FIRST_LOOK };
    loop {
        if wait(watch.pause) == END {
            return true;
        }
        watch.look();
        let idle = if DESK.away.load(SeqCst) == CROWDED { CROWDED_IDLE } else { IDLE };
        if watch.active.elapsed() > idle {
            match sleep() {
                Ok(WAKE) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
            watch.active = Instant::now();
            watch.pause = FIRST_LOOK;
        }
    }
}

/// The call that has lent the GIL, if one has.
fn under_way() -> Option<(&'static Record, u64)> {
    let record = lender()?;
    let turn = record.turn.load(SeqCst);
    let lent = turn & 1 == 1 && !matches!(record.request.load(SeqCst), STOLEN | RELEASED);
    lent.then_some((record, turn))
}

/// Sleeps until it is given a command, unless a call is under way, which wakes it
/// like one that comes. Nobody has woken it if it is to go on.
fn sleep() -> io::Result<u32> {
    DESK.away.store(ASLEEP, SeqCst);
    barrier()?;
    let command = if under_way().is_none() { wait(SLEEP) } else { WAKE };
    if command == WAKE {
        DESK.away.store(0, SeqCst);
    }
    Ok(command)
}

impl Watch {
    /// One look at the desk.
    fn look(&mut self) {
        let Some(record) = lender() else { return };
        let now = (std::ptr::from_ref(record).addr(), record.turn.load(SeqCst));
        if now != self.seen {
            self.seen = now;
            self.active = Instant::now();
            self.lengthen(LATER_LOOK);
            match under_way() {
                // It is looked at again soon.
                Some(_) => {
                    wait(FIRST_LOOK);
                    self.steal_if_still(now);
                }
                None => ask_to_yield(record),
            }
        } else if under_way().is_some() {
            self.steal_if_still(now);
        } else {
            self.lengthen(IDLE_LOOK);
        }
    }

    /// Has the next look be later, up to a limit.
    fn lengthen(&mut self, limit: Duration) {
        self.pause = (2 * self.pause).min(limit);
    }

    /// Steals from the call that was seen, if it is still under way; else it
    /// yields.
    fn steal_if_still(&mut self, (address, turn): (usize, u64)) {
        match under_way() {
            Some((record, now)) if std::ptr::from_ref(record).addr() == address && now == turn => {
                steal(record, turn, 0);
                self.active = Instant::now();
            }
            _ => {
                if let Some(record) = lender() {
                    ask_to_yield(record);
                }
            }
        }
    }
}

/// Asks the thread of a record to give others a chance when its call is over.
fn ask_to_yield(record: &Record) {
    let _decided = deciding();
    if record.request.load(SeqCst) == NOTHING {
        record.request.store(YIELD, SeqCst);
    }
}

/// Takes the GIL away from a call, if it is still under way. Says on the desk
/// that nobody watches meanwhile, and `afterwards` what is so then.
fn steal(record: &Record, turn: u64, afterwards: u64) {
    let Some(lending) = LENDING.get() else { return };
    let decided = deciding();
    if record.turn.load(SeqCst) != turn || !matches!(record.request.load(SeqCst), NOTHING | YIELD) {
        return;
    }
    record.request.store(ASKED, SeqCst);
    let stolen = barrier().is_ok() && record.turn.load(SeqCst) == turn;
    record.request.store(if stolen { STOLEN } else { NOTHING }, SeqCst);
    let state = record.state.load(SeqCst);
    if stolen {
        // The release may have to wait for another thread to take the GIL.
        DESK.away.store(BUSY, SeqCst);
    }
    drop(decided);
    if stolen {
        // SAFETY: the owner sees the request, and waits for the GIL.
        unsafe { release_for(&lending.current, state) };
        DESK.away.store(afterwards, SeqCst);
    }
}
