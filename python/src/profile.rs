//! Takes notes of calls, by the foreign function that they call: how long it ran, how
//! long the way there and back took, who made the call, and why, and what became of
//! its check.
//!
//! A call is timed from where CPython enters hotcall to its result, and the
//! foreign function within it, where the rules call it, live or in a stub. Of
//! a call that ctypes makes only the whole is known. What reading the clock
//! takes is measured once and taken off.
//!
//! # Safety
//! The two helpers are called by rules and stubs, on either side of a call.

#![allow(unsafe_code, reason = "is called by stubs")]

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use hotcall_tracer::{BuildWordHasher, Effect, Entry, Helper, Refusal};

use crate::hook;
use crate::raw::Object;
use crate::runtime::CallSite;
use crate::symbols::{self, Place};

/// Notes that the foreign function begins.
pub(crate) static BEGIN: Helper =
    Helper { name: "profile_begin", entry: Entry::W(begin), effect: Effect::Effect };
/// Notes that it has ended.
pub(crate) static END: Helper =
    Helper { name: "profile_end", entry: Entry::W(end), effect: Effect::Effect };

/// Who made a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Maker {
    #[default]
    Stub,
    Interpreter,
    Ctypes,
}

/// How many kinds of makers there are.
pub(crate) const MAKERS: usize = 3;

/// Why a call is not checked.
pub(crate) type Reason = &'static str;

/// A call that is being made by this thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    started: u64,
    begun: u64,
    /// Nanoseconds that the foreign function took.
    inside: u64,
    pub(crate) maker: Maker,
    /// Why ctypes makes it, if it is not cold.
    pub(crate) refusal: Option<Refusal>,
    /// What came of its check, or why there was none; none if nobody asked.
    pub(crate) check: Option<Result<(), Reason>>,
}

const NO_FRAME: Frame =
    Frame { started: 0, begun: 0, inside: 0, maker: Maker::Stub, refusal: None, check: None };

thread_local! {
    /// The innermost call of this thread; without a destructor.
    static CURRENT: Cell<Frame> = const { Cell::new(NO_FRAME) };
}

/// What is known of one foreign function. Arrays have an entry for each maker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// The `__name__` of the function object that called it first, if it has one.
    pub(crate) name: Option<String>,
    /// Where it lies, as far as the linker knows.
    pub(crate) place: Option<Place>,
    /// How the newest call was declared.
    pub(crate) site: Weak<CallSite>,
    pub(crate) calls: [u64; MAKERS],
    /// Nanoseconds from entry to result.
    pub(crate) whole: [u64; MAKERS],
    /// Nanoseconds in the foreign function; 0 where ctypes made the call.
    pub(crate) inside: [u64; MAKERS],
    /// Why ctypes made calls, and how many.
    pub(crate) refusals: Vec<(Refusal, u64)>,
    /// Who made the newest call.
    pub(crate) last: Maker,
}

/// Calls by maker, over time.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// Nanoseconds of one bucket.
    pub(crate) width: u64,
    pub(crate) buckets: Vec<[u64; MAKERS]>,
}

/// As many buckets there are at most; then two become one.
const MOST_BUCKETS: usize = 256;

#[derive(Debug)]
struct State {
    records: HashMap<u64, Record, BuildWordHasher>,
    timeline: Timeline,
}

/// What reading the clock adds, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    whole: u64,
    inside: u64,
}

/// All that was timed so far.
#[derive(Debug)]
pub(crate) struct Profile {
    state: Mutex<State>,
    cost: Cost,
}

/// Nanoseconds since the clock was first read.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

unsafe extern "C-unwind" fn begin() -> u64 {
    let mut frame = CURRENT.get();
    frame.begun = now();
    CURRENT.set(frame);
    0
}

unsafe extern "C-unwind" fn end() -> u64 {
    let time = now();
    let mut frame = CURRENT.get();
    frame.inside += time.saturating_sub(frame.begun);
    CURRENT.set(frame);
    0
}

/// Notes who makes the call at hand.
pub(crate) fn made_by(maker: Maker) {
    CURRENT.set(Frame { maker, ..CURRENT.get() });
}

/// Notes why ctypes makes the call at hand.
pub(crate) fn refused(refusal: Refusal) {
    CURRENT.set(Frame { refusal: Some(refusal), ..CURRENT.get() });
}

/// Notes what came of the check of the call at hand. That of a relay, which is part of
/// the call, comes second and says nothing of the whole.
pub(crate) fn checked(outcome: Result<(), Reason>) {
    let frame = CURRENT.get();
    CURRENT.set(Frame { check: frame.check.or(Some(outcome)), ..frame });
}

/// A call of which notes are taken. Dropped before its end, by a thread that is
/// unwound, it is as if it had not been.
pub(crate) struct Notes {
    outer: Frame,
}

impl Notes {
    /// Notes are for this call from now on.
    pub(crate) fn start() -> Notes {
        Notes { outer: CURRENT.replace(NO_FRAME) }
    }

    /// The call begins.
    pub(crate) fn begin(&self) {
        CURRENT.set(Frame { started: now(), ..CURRENT.get() });
    }

    /// It has ended: gives what was noted, and the nanoseconds it took.
    pub(crate) fn stop(self) -> (Frame, u64) {
        let time = now();
        let frame = CURRENT.get();
        (frame, time.saturating_sub(frame.started))
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// Times calls of nothing; the median is what timing costs.
fn measure_cost() -> Cost {
    let once = || {
        let notes = Notes::start();
        notes.begin();
        // SAFETY: helpers without words.
        unsafe { begin() };
        // SAFETY: as above.
        unsafe { end() };
        let (frame, whole) = notes.stop();
        (whole, frame.inside)
    };
    let mut all: Vec<(u64, u64)> = (0..999).map(|_| once()).collect();
    all.sort_unstable();
    let (whole, inside) = all[all.len() / 2];
    Cost { whole, inside }
}

impl Profile {
    /// Nothing was timed yet.
    pub(crate) fn new() -> Profile {
        let timeline = Timeline { width: 1_000_000, buckets: Vec::new() };
        let state = State { records: HashMap::default(), timeline };
        Profile { state: Mutex::new(state), cost: measure_cost() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of `function`, which calls `target`, has ended after so many nanoseconds.
    pub(crate) fn add(
        &self,
        (frame, whole): (&Frame, u64),
        function: Object,
        target: u64,
        site: Option<&Arc<CallSite>>,
    ) {
        let mut state = self.state();
        if !state.records.contains_key(&target) {
            drop(state);
            // This may run Python code, so the lock is not held.
            let name = hook::own_name(function);
            let place = symbols::place(target);
            state = self.state();
            let record = Record { name, place, ..Record::default() };
            state.records.entry(target).or_insert(record);
        }
        let State { records, timeline } = &mut *state;
        let record = records.entry(target).or_default();
        if let Some(site) = site {
            record.site = Arc::downgrade(site);
        }
        record.add(frame, whole.saturating_sub(self.cost.whole), self.cost.inside);
        timeline.add(now(), frame.maker);
    }

    /// What is known of each function by its address, and of all over time.
    pub(crate) fn read(&self) -> (Vec<(u64, Record)>, Timeline) {
        let state = self.state();
        let records = state.records.iter().map(|(target, record)| (*target, record.clone()));
        (records.collect(), state.timeline.clone())
    }
}

impl Record {
    fn add(&mut self, frame: &Frame, whole: u64, cost: u64) {
        let maker = frame.maker as usize;
        self.calls[maker] += 1;
        self.whole[maker] += whole;
        self.inside[maker] += frame.inside.saturating_sub(cost);
        self.last = frame.maker;
        if let Some(refusal) = frame.refusal {
            match self.refusals.iter_mut().find(|(known, _)| *known == refusal) {
                Some((_, count)) => *count += 1,
                None => self.refusals.push((refusal, 1)),
            }
        }
    }
}

impl Timeline {
    fn add(&mut self, time: u64, maker: Maker) {
        while (time / self.width) as usize >= MOST_BUCKETS {
            self.width *= 2;
            let pairs = self.buckets.chunks(2);
            self.buckets = pairs
                .map(|pair| std::array::from_fn(|at| pair.iter().map(|bucket| bucket[at]).sum()))
                .collect();
        }
        let index = (time / self.width) as usize;
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, [0; MAKERS]);
        }
        self.buckets[index][maker as usize] += 1;
    }
}
