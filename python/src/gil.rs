//! Who has the GIL during a foreign call: the three policies, which of them a
//! call site follows, and how a site loses the one that it began with.
//!
//! **Invariant.** A site that has been demoted stays demoted until its function
//! is declared anew, so that no program makes it flap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hotcall_tracer::BuildWordHasher;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::enter;
use crate::kinds::handle;
use crate::options::Log;
use crate::raw::Owned;
use crate::runtime::runtime;

/// Who has the GIL during a foreign call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Policy {
    /// Nobody: it is released, as ctypes does.
    Release,
    /// The caller, until the monitor or foreign code takes it away.
    Lend,
    /// The caller.
    Hold,
}

impl Policy {
    const ALL: [Policy; 3] = [Policy::Release, Policy::Lend, Policy::Hold];

    /// How users name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Release => "release",
            Policy::Lend => "lend",
            Policy::Hold => "hold",
        }
    }

    /// The policy that users call `name`.
    pub(crate) fn named(name: &str) -> Option<Policy> {
        Policy::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// A policy that may change while calls are made.
#[derive(Debug)]
pub(crate) struct Cell(AtomicU8);

impl Cell {
    pub(crate) const fn new(policy: Policy) -> Cell {
        Cell(AtomicU8::new(policy as u8))
    }

    pub(crate) fn get(&self) -> Policy {
        Policy::ALL[usize::from(self.0.load(Relaxed))]
    }

    pub(crate) fn set(&self, policy: Policy) {
        self.0.store(policy as u8, Relaxed);
    }
}

/// The policy of one call site.
#[derive(Debug)]
pub(crate) struct SitePolicy {
    now: Cell,
    /// What it began with.
    first: Policy,
    /// Whether the GIL is held because the user says that calls are short.
    promised: bool,
    /// The longest call that was measured under the GIL, in nanoseconds.
    longest: AtomicU64,
}

/// A call under the GIL that lasts longer breaks the user's word.
const LONG: Duration = Duration::from_millis(1);

impl SitePolicy {
    pub(crate) fn new(policy: Policy) -> SitePolicy {
        let promised = policy == Policy::Hold;
        let longest = AtomicU64::new(0);
        SitePolicy { now: Cell::new(policy), first: policy, promised, longest }
    }

    /// The policy of functions that hold the GIL in ctypes too.
    pub(crate) fn python_api() -> SitePolicy {
        SitePolicy { promised: false, ..SitePolicy::new(Policy::Hold) }
    }

    pub(crate) fn get(&self) -> Policy {
        self.now.get()
    }

    /// Makes a call, and measures it if it holds the GIL by the user's word.
    pub(crate) fn measure<T>(&self, call: impl FnOnce() -> T) -> T {
        if !self.promised {
            return call();
        }
        let started = Instant::now();
        let result = call();
        let taken = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.longest.fetch_max(taken, Relaxed);
        result
    }

    /// The policy in words, with why it is not the first one, and with the
    /// longest call if that was too long to hold the GIL.
    pub(crate) fn describe(&self) -> String {
        let longest = Duration::from_nanos(self.longest.load(Relaxed));
        let name = self.get().name();
        match self.get() == self.first {
            false => format!("{name}, since calls that lent it were long"),
            true if longest > LONG => format!("{name}, for up to {longest:.1?} at a time"),
            true => name.to_owned(),
        }
    }
}

/// The policy that a program has chosen for a function, which may have died since.
#[derive(Debug)]
pub(crate) struct Choice {
    policy: Policy,
    /// A weak reference to it.
    function: Owned,
}

impl Choice {
    /// The choice of `policy` for `function`.
    ///
    /// # Errors
    /// What Python raised, if there is no memory.
    pub(crate) fn new(function: &Bound<'_, PyAny>, policy: Policy) -> PyResult<Choice> {
        let function = PyWeakrefReference::new(function)?.into_any().into();
        Ok(Choice { policy, function })
    }

    fn is_alive(&self, py: Python<'_>) -> bool {
        let function = self.function.object().bound(py);
        function.cast::<PyWeakrefReference>().is_ok_and(|function| function.upgrade().is_some())
    }
}

/// Choices by the addresses of functions.
#[derive(Debug, Default)]
pub(crate) struct Choices(HashMap<u64, Choice, BuildWordHasher>);

impl Choices {
    /// The policy that was chosen for the function at this address. Another
    /// function may have got the address of a dead one.
    pub(crate) fn find(&self, py: Python<'_>, function: u64) -> Option<Policy> {
        self.0.get(&function).filter(|choice| choice.is_alive(py)).map(|choice| choice.policy)
    }

    /// Puts a choice in place of that before, which it gives back.
    pub(crate) fn put(
        &mut self,
        function: &Bound<'_, PyAny>,
        choice: Option<Choice>,
    ) -> Option<Choice> {
        let address = handle(function).address();
        let Some(choice) = choice else { return self.0.remove(&address) };
        if self.0.len().is_power_of_two() {
            // Choices of dead functions are dropped before they are too many.
            self.0.retain(|_, choice| choice.is_alive(function.py()));
        }
        self.0.insert(address, choice)
    }
}

/// Has the calls of a function release the GIL from now on: those that lent it
/// turned out long.
#[cold]
pub(crate) fn demote(function: u64) {
    let Some(runtime) = runtime() else { return };
    let Some(site) = runtime.site(function) else { return };
    if site.gil.get() == Policy::Lend {
        site.gil.now.set(Policy::Release);
        runtime.count_demotion();
        runtime.log(Log::Events, || format!("{}: releases the GIL from now on", site.name));
    }
    site.site.start_over();
    enter::start_over(&site, function);
}
