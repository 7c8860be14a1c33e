//! The call site: counts calls until a function is hot, keeps the chain of
//! stubs for the argument shapes that it has seen, and remembers why calls
//! were refused.
//!
//! Stubs never change. A new shape gets a new stub whose fallback is the head
//! of the chain: newest -> older -> generic. The cap on the chain bounds
//! compilation; behind it the generic path serves what is left.
//!
//! **Invariant.** The lock is held for bookkeeping alone, never while a rule,
//! a foreign function or the backend runs.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ir::Trace;
use crate::optimize::optimize;
use crate::refusal::Refusal;

/// Turns traces into machine code.
pub trait Backend {
    /// A finished stub. Its code stays where it is as long as the process lives
    /// or the stub does, whichever the backend can promise.
    type Stub: Clone;

    /// Compiles `trace`. A failed guard jumps to the address `fallback` with
    /// the words that the stub was entered with.
    ///
    /// # Errors
    /// A named refusal; the caller stays on the generic path.
    fn compile(&self, trace: &Trace, fallback: u64) -> Result<Self::Stub, Refusal>;

    /// The address at which `stub` is entered.
    fn entry(&self, stub: &Self::Stub) -> u64;
}

/// The numbers that bound a site's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Generic calls before a shape is recorded; 0 never compiles.
    pub hot: u32,
    /// Stubs in the chain at most.
    pub shapes: usize,
    /// Refused calls in a row before the site stops trying its rules, for a while.
    pub refusals: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { hot: 100, shapes: 8, refusals: 16 }
    }
}

/// How often a full chain is dropped at most, so that a new one may be made of
/// the shapes that the site sees by then.
pub const MOST_RENEWALS: u32 = 4;
/// How often a site that was refused gets another chance at most.
pub const MOST_CHANCES: u32 = 4;
/// A chain is dropped when it has been full for so many times [`Limits::hot`]
/// calls that none of its stubs took; the next one lasts four times as long. And
/// so with a site that was refused: it is tried again after as many calls.
const FULL: u32 = 16;
/// How often a trace is compiled at most while other threads change the chain.
const ATTEMPTS: u32 = 3;

/// What the generic path does with the call at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Read the rules live.
    Interpret,
    /// Read the rules with the recorder, then hand the trace to [`Site::add`].
    Record,
    /// Do not try: this site has been refused too often in a row.
    Decline,
}

/// Where a site's calls run, as far as the site knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The host's own path makes the calls.
    Declined,
    /// The interpreter makes the calls.
    Interpreter,
    /// Stubs make the calls of the shapes that they were compiled for.
    Stub,
}

/// One shape of arguments that the site has compiled.
#[derive(Clone, Debug)]
pub struct Shape<S> {
    /// What a call of this shape does, optimised.
    pub trace: Trace,
    /// Its code.
    pub stub: S,
}

#[derive(Debug)]
struct State<S> {
    shapes: Vec<Shape<S>>,
    refusals: Vec<(Refusal, u64)>,
    /// The newest refusal.
    last_refusal: Option<Refusal>,
    /// Set when the backend refused: it is not asked again for this site.
    uncompiled: Option<Refusal>,
    /// How many calls would have been recorded while the chain was full.
    full: u32,
    /// How often the chain was dropped.
    renewals: u32,
}

/// A call site: one declaration of one foreign function.
#[derive(Debug)]
pub struct Site<S> {
    limits: Limits,
    /// Generic calls since the last shape was added.
    calls: AtomicU32,
    /// Refused calls since the last one that was not.
    refused_in_row: AtomicU32,
    /// How many calls the host made by itself since then.
    declined: AtomicU32,
    /// How many it was told to make before it asks again.
    told: AtomicU32,
    /// How many chances the site has had.
    chances: AtomicU32,
    /// Whether the call at hand would have been recorded, were there room.
    met_full: AtomicBool,
    /// The entry of the newest stub; 0 if there is none.
    head: AtomicU64,
    state: Mutex<State<S>>,
}

impl<S: Clone> Site<S> {
    /// A site that has seen no call.
    pub fn new(limits: Limits) -> Site<S> {
        Site {
            limits,
            calls: AtomicU32::new(0),
            refused_in_row: AtomicU32::new(0),
            declined: AtomicU32::new(0),
            told: AtomicU32::new(0),
            chances: AtomicU32::new(0),
            met_full: AtomicBool::new(false),
            head: AtomicU64::new(0),
            state: Mutex::new(State {
                shapes: Vec::new(),
                refusals: Vec::new(),
                last_refusal: None,
                uncompiled: None,
                full: 0,
                renewals: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        // A panic while it was held left no half-made state: each critical
        // section is one push or one read.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that arrived on the generic path and says what to do.
    #[inline]
    pub fn plan(&self) -> Plan {
        let refused = self.refused_in_row.load(Relaxed) >= self.limits.refusals;
        if refused && self.decline(false).is_some() {
            return Plan::Decline;
        }
        let calls = self.calls.load(Relaxed).saturating_add(1);
        self.calls.store(calls, Relaxed);
        if self.limits.hot == 0 || calls < self.limits.hot {
            return Plan::Interpret;
        }
        self.calls.store(0, Relaxed);
        let state = self.state();
        match state.shapes.len() < self.limits.shapes && state.uncompiled.is_none() {
            true => Plan::Record,
            false => {
                self.met_full.store(state.uncompiled.is_none(), Relaxed);
                Plan::Interpret
            }
        }
    }

    /// Drops a chain that has been full for long while other shapes were called.
    #[cold]
    fn renew(&self) {
        self.met_full.store(false, Relaxed);
        let mut state = self.state();
        state.full += 1;
        if state.renewals < MOST_RENEWALS && state.full >= FULL << (2 * state.renewals) {
            // Stubs are never freed: who is in one goes on in it.
            state.shapes.clear();
            state.full = 0;
            state.renewals += 1;
            self.head.store(0, Release);
        }
    }

    /// Drops the chain, and has the next call recorded: what the host knows of
    /// the function has changed.
    pub fn start_over(&self) {
        let mut state = self.state();
        state.shapes.clear();
        state.full = 0;
        self.calls.store(self.limits.hot.saturating_sub(1), Relaxed);
        self.head.store(0, Release);
    }

    /// How often the chain was dropped since it was full, at most [`MOST_RENEWALS`] times.
    pub fn renewals(&self) -> u32 {
        self.state().renewals
    }

    /// Notes that the rules accepted the call at hand.
    pub fn accept(&self) {
        if self.refused_in_row.load(Relaxed) != 0 {
            self.refused_in_row.store(0, Relaxed);
        }
        if self.met_full.load(Relaxed) {
            self.renew();
        }
    }

    /// Counts calls of a declined site, which the host made by itself: all that it
    /// was told to make if `all`, else one. Gives how many it should make before it
    /// asks again, `u32::MAX` for ever; none if the site gets another chance with
    /// the call at hand.
    ///
    /// A function may be called in a way that is refused before it is called in
    /// others; that should not stay with it.
    pub fn decline(&self, all: bool) -> Option<u32> {
        let chances = self.chances.load(Relaxed);
        if chances >= MOST_CHANCES {
            return Some(u32::MAX);
        }
        let made = if all { self.told.load(Relaxed) } else { 1 };
        let declined = self.declined.load(Relaxed).saturating_add(made);
        let most = FULL.saturating_mul(self.limits.hot.max(1)).saturating_mul(1 << (2 * chances));
        if declined >= most {
            self.declined.store(0, Relaxed);
            self.chances.store(chances + 1, Relaxed);
            self.refused_in_row.store(0, Relaxed);
            return None;
        }
        self.declined.store(declined, Relaxed);
        self.told.store(most - declined, Relaxed);
        Some(most - declined)
    }

    /// Counts a refused call under its name.
    pub fn refuse(&self, refusal: Refusal) {
        self.refused_in_row.store(self.refused_in_row.load(Relaxed).saturating_add(1), Relaxed);
        self.met_full.store(false, Relaxed);
        let mut state = self.state();
        state.last_refusal = Some(refusal);
        match state.refusals.iter_mut().find(|(known, _)| *known == refusal) {
            Some((_, count)) => *count += 1,
            None => state.refusals.push((refusal, 1)),
        }
    }

    /// Optimises and compiles a recorded trace, and puts its stub at the head
    /// of the chain, in front of `generic`, the address of the generic path.
    /// Gives the new head. Where other threads change the chain again and again,
    /// the shape is left for a later call.
    ///
    /// # Errors
    /// The backend's refusal, which is also remembered.
    pub fn add<B>(&self, trace: Trace, backend: &B, generic: u64) -> Result<u64, Refusal>
    where
        B: Backend<Stub = S>,
    {
        let trace = optimize(trace);
        let head = || self.head().unwrap_or(generic);
        let known = |state: &State<S>| state.shapes.iter().any(|shape| shape.trace == trace);
        for _ in 0..ATTEMPTS {
            // Another thread may have compiled the same shape.
            if known(&self.state()) {
                break;
            }
            let fallback = head();
            let stub = match backend.compile(&trace, fallback) {
                Ok(stub) => stub,
                Err(refusal) => {
                    self.state().uncompiled = Some(refusal);
                    return Err(refusal);
                }
            };
            // Another one may have changed the chain meanwhile: in front of what it
            // is now the stub would lead past new stubs, or to those that were dropped.
            let mut state = self.state();
            if head() == fallback && !known(&state) {
                self.head.store(backend.entry(&stub), Release);
                state.shapes.push(Shape { trace, stub });
                break;
            }
        }
        Ok(head())
    }

    /// The entry of the newest stub, if there is one.
    pub fn head(&self) -> Option<u64> {
        let head = self.head.load(Acquire);
        (head != 0).then_some(head)
    }

    /// Where this site's calls run now.
    pub fn tier(&self) -> Tier {
        if self.head().is_some() {
            Tier::Stub
        } else if self.refused_in_row.load(Relaxed) >= self.limits.refusals {
            Tier::Declined
        } else {
            Tier::Interpreter
        }
    }

    /// The compiled shapes, oldest first.
    pub fn shapes(&self) -> Vec<Shape<S>> {
        self.state().shapes.clone()
    }

    /// The refusals and how often each was counted, in order of first sight.
    pub fn refusals(&self) -> Vec<(Refusal, u64)> {
        self.state().refusals.clone()
    }

    /// The refusal that was counted last.
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.state().last_refusal
    }

    /// Why the backend did not compile this site, if it was asked and refused.
    pub fn uncompiled(&self) -> Option<Refusal> {
        self.state().uncompiled
    }
}
