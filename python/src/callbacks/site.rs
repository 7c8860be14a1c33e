//! The sites of callbacks: one for each shape, shared by all thunks that have it.
//! A site counts its callbacks, and gets a native entry when it is hot.
//!
//! **Invariant.** The lock guards bookkeeping, and is held with the GIL alone: no
//! Python code runs under it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hotcall::Machine;
use hotcall_asm::{Jit, Stub, Trampoline};
use hotcall_core::Signature;
use hotcall_tracer::{BuildWordHasher, Live, Recorder, Refusal, Symbol, Trace, optimize};

use crate::callbacks::shape::{Shape, Versions};
use crate::helpers;
use crate::options::{Log, Options};
use crate::raw::Object;
use crate::rules::callback::callback;
use crate::runtime::Runtime;

/// Callbacks that the rules made, live or as a native entry, if calls are
/// counted. Entries add to it with the GIL held.
pub(crate) static CALLBACKS: AtomicU64 = AtomicU64::new(0);
/// Callbacks that the rules made live.
pub(crate) static INTERPRETED: AtomicU64 = AtomicU64::new(0);

/// The counter of callbacks that the rules made, as traces see it.
pub(crate) fn counter(options: &Options) -> Option<Symbol> {
    let address = CALLBACKS.as_ptr() as u64;
    options.count.then(|| Symbol { name: "callbacks".into(), address })
}

/// Shapes, and classes of functions, that are remembered at most.
const MOST_SHAPES: usize = 10_000;
/// Trampolines that are kept at least before one is bound anew, and at most.
const FEWEST_LEFT: usize = 64;
const MOST_LEFT: usize = 256;

/// A trace, and the native entry that does what it says.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) trace: Trace,
    pub(crate) stub: Stub,
}

/// What callbacks of one shape have in common.
#[derive(Debug)]
pub(crate) struct CallbackSite {
    pub(crate) shape: Shape,
    pub(crate) signature: Signature,
    calls: AtomicU32,
    compiled: OnceLock<Result<Compiled, Refusal>>,
}

/// A thunk of ctypes that is known.
#[derive(Debug)]
struct Thunk {
    /// Its site, or why ctypes makes its callbacks.
    site: Result<Arc<CallbackSite>, Refusal>,
    /// The function that C was given, if that is ours.
    trampoline: Option<Trampoline>,
}

/// A class of functions whose site is known.
#[derive(Debug)]
struct Class {
    site: Arc<CallbackSite>,
    /// Those of the structures that its functions take.
    versions: Versions,
}

/// All callbacks of the process.
#[derive(Debug, Default)]
pub(crate) struct Callbacks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sites: HashMap<Shape, Arc<CallbackSite>, BuildWordHasher>,
    /// By their version, which no other class has, nor this one when it has changed.
    classes: HashMap<u64, Class, BuildWordHasher>,
    thunks: HashMap<u64, Thunk, BuildWordHasher>,
    /// Trampolines that their thunks have left, the oldest first.
    left: VecDeque<Trampoline>,
    /// How often each refusal was met by a new thunk.
    refusals: BTreeMap<&'static str, u64>,
}

impl Callbacks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The site of a thunk; none if ctypes makes its callbacks.
    pub(crate) fn site(&self, thunk: u64) -> Option<Arc<CallbackSite>> {
        self.explained(thunk)?.ok()
    }

    /// The site of a thunk, or why it has none; none if it is not known.
    pub(crate) fn explained(&self, thunk: u64) -> Option<Result<Arc<CallbackSite>, Refusal>> {
        self.state().thunks.get(&thunk).map(|thunk| thunk.site.clone())
    }

    /// Whether C was given a function of ours for a thunk.
    pub(crate) fn has_trampoline(&self, thunk: u64) -> bool {
        self.state().thunks.get(&thunk).is_some_and(|thunk| thunk.trampoline.is_some())
    }

    /// The site of callbacks of a shape.
    ///
    /// # Errors
    /// The refusal of a type that fits in no word.
    pub(crate) fn site_of(&self, shape: Shape) -> Result<Arc<CallbackSite>, Refusal> {
        let mut state = self.state();
        if let Some(site) = state.sites.get(&shape) {
            return Ok(Arc::clone(site));
        }
        if state.sites.len() == MOST_SHAPES {
            // Those in use are kept by their thunks.
            state.sites.clear();
        }
        let signature = shape.signature()?;
        let site = Arc::new(CallbackSite {
            shape: shape.clone(),
            signature,
            calls: AtomicU32::new(0),
            compiled: OnceLock::new(),
        });
        state.sites.insert(shape, Arc::clone(&site));
        Ok(site)
    }

    /// The site of a new thunk, if its function is of a class with this version and
    /// those of that class are known.
    pub(crate) fn site_of_class(&self, version: u64, thunk: Object) -> Option<Arc<CallbackSite>> {
        let state = self.state();
        let Class { site, versions } = state.classes.get(&version)?;
        site.shape.is_of(thunk, versions).then(|| Arc::clone(site))
    }

    /// Remembers the site of functions of the class with this version, 0 for none.
    pub(crate) fn know_class(&self, version: u64, thunk: Object, site: &Arc<CallbackSite>) {
        let versions = site.shape.versions(thunk).filter(|_| version != 0);
        let Some(versions) = versions else { return };
        let mut state = self.state();
        if state.classes.len() == MOST_SHAPES {
            // Most of these versions are past. The others are learned again.
            state.classes.clear();
        }
        state.classes.insert(version, Class { site: Arc::clone(site), versions });
    }

    /// Remembers a thunk, with the function that C was given for it.
    pub(crate) fn add(
        &self,
        thunk: u64,
        site: Result<Arc<CallbackSite>, Refusal>,
        trampoline: Option<Trampoline>,
    ) {
        let mut state = self.state();
        if let Err(refusal) = &site {
            *state.refusals.entry(refusal.name).or_default() += 1;
        }
        // A site may have become hot before its thunk was there to be told.
        if let (Some(trampoline), Ok(site)) = (&trampoline, &site)
            && let Some(entry) = site.entry()
        {
            trampoline.set_target(entry);
        }
        let previous = state.thunks.insert(thunk, Thunk { site, trampoline });
        drop(state);
        drop(previous);
    }

    /// Sends a known thunk back to its native entry; false if it is not known.
    pub(crate) fn wake(&self, thunk: u64) -> bool {
        let state = self.state();
        let Some(thunk) = state.thunks.get(&thunk) else { return false };
        if let (Some(trampoline), Ok(site)) = (&thunk.trampoline, &thunk.site)
            && let Some(entry) = site.entry()
        {
            trampoline.set_target(entry);
        }
        true
    }

    /// Forgets a thunk that is about to be freed.
    pub(crate) fn forget(&self, thunk: u64) {
        let mut state = self.state();
        let Some(mut gone) = state.thunks.remove(&thunk) else { return };
        if let Some(trampoline) = gone.trampoline.take_if(|_| state.left.len() < MOST_LEFT) {
            trampoline.unbind();
            state.left.push_back(trampoline);
        }
        drop(state);
        drop(gone);
    }

    /// A trampoline that leads to `target`; none where there is no code memory.
    pub(crate) fn trampoline(&self, jit: &Jit, target: u64, thunk: u64) -> Option<Trampoline> {
        let mut state = self.state();
        // A pointer that outlived its thunk does not find another one soon.
        let left = state.left.len() >= FEWEST_LEFT;
        let trampoline = left.then(|| state.left.pop_front()).flatten();
        drop(state);
        match trampoline {
            Some(trampoline) => {
                trampoline.bind(target, thunk);
                Some(trampoline)
            }
            None => jit.trampoline(target, thunk).ok(),
        }
    }

    /// Sends all callbacks to where `closure_of` says for each thunk. What C was
    /// given stays; true if that is anything.
    pub(crate) fn rest(&self, closure_of: impl Fn(u64) -> u64) -> bool {
        let mut state = self.state();
        for (thunk, known) in &state.thunks {
            let closure = closure_of(*thunk);
            if let Some(trampoline) = &known.trampoline {
                trampoline.set_target(closure);
            }
        }
        state.thunks.retain(|_, thunk| thunk.trampoline.is_some());
        !state.thunks.is_empty()
    }

    /// How many thunks and shapes are known, and how many shapes have an entry.
    pub(crate) fn totals(&self) -> [usize; 3] {
        let state = self.state();
        let entries = state.sites.values().filter(|site| site.entry().is_some()).count();
        [state.thunks.len(), state.sites.len(), entries]
    }

    /// The refusals by name, each with the number of thunks that met it.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.state().refusals.clone()
    }
}

impl CallbackSite {
    /// What was compiled for it, or why nothing was; none before it is hot.
    pub(crate) fn compiled(&self) -> Option<&Result<Compiled, Refusal>> {
        self.compiled.get()
    }

    /// Its native entry, if it has one.
    pub(crate) fn entry(&self) -> Option<u64> {
        let compiled = self.compiled.get()?.as_ref().ok()?;
        Some(compiled.stub.entry())
    }

    /// Makes a callback, by the rules, with the words of the arguments. The GIL is
    /// held. Gives the word of the result.
    pub(crate) fn run(self: &Arc<Self>, runtime: &Runtime, thunk: u64, words: &[u64]) -> u64 {
        if runtime.options.count {
            INTERPRETED.fetch_add(1, Relaxed);
        }
        if runtime.options.jit && self.compiled.get().is_none() {
            let calls = self.calls.fetch_add(1, Relaxed);
            if calls + 1 >= runtime.options.threshold {
                return self.record(runtime, thunk, words);
            }
        }
        let mut machine = machine();
        let mut live = Live { host: &mut machine };
        callback(&mut live, &runtime.known, &self.shape, thunk, words)
    }

    /// Reads the rules with the recorder, and makes an entry of what they did.
    fn record(self: &Arc<Self>, runtime: &Runtime, thunk: u64, words: &[u64]) -> u64 {
        let mut machine = machine();
        let entered: Vec<u64> = [&[thunk], words].concat();
        let (mut recorder, params) = Recorder::enter_with(&mut machine, &entered);
        let shape = &self.shape;
        let result = callback(&mut recorder, &runtime.known, shape, params[0], &params[1..]);
        if let Some(trace) = recorder.finish(result) {
            // The callable's errno is for C to see.
            helpers::keeping_errno(|| self.compile(runtime, optimize(trace)));
        }
        result.word
    }

    /// Compiles the entry, and leads all that C was given there.
    fn compile(self: &Arc<Self>, runtime: &Runtime, trace: Trace) {
        runtime.log(Log::Trace, || format!("callback {}: trace\n{trace}", self.signature));
        let stub = runtime.jit.compile_callback(&trace, &self.signature);
        runtime.log(Log::Events, || match &stub {
            Ok(_) => format!("callback {}: native entry", self.signature),
            Err(refusal) => format!("callback {}: no native entry, {refusal}", self.signature),
        });
        if let Ok(stub) = &stub
            && let Err(error) = runtime.teller.tell(&format!("callback {}", self.signature), stub)
        {
            runtime.log(Log::Off, || format!("tools are not told of stubs: {error}"));
        }
        let compiled = self.compiled.get_or_init(|| stub.map(|stub| Compiled { trace, stub }));
        let Ok(Compiled { stub, .. }) = compiled else { return };
        for thunk in runtime.callbacks.state().thunks.values() {
            if let (Some(trampoline), Ok(site)) = (&thunk.trampoline, &thunk.site)
                && Arc::ptr_eq(site, self)
            {
                trampoline.set_target(stub.entry());
            }
        }
    }
}

/// The machine that callbacks run on.
#[allow(unsafe_code, reason = "see SAFETY")]
fn machine() -> Machine {
    // SAFETY: the rule of callbacks stores to memory that the machine gives it, and
    // loads and calls what belongs to the thunk, which it keeps.
    unsafe { Machine::new() }
}
