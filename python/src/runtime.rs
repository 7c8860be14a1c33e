//! The state of a process: what is known of the interpreter, the code memory,
//! and the call sites of the functions that were seen.
//!
//! **Invariant.** Nothing here runs Python code while its lock is held. The
//! lock is taken with the GIL held and never kept across its release.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hotcall_asm::{Jit, Stub};
use hotcall_tracer::{BuildWordHasher, Data, Limits, Refusal, Site, Symbol};
use pyo3::prelude::*;

use crate::declare::{Declaration, Reader};
use crate::known::Known;
use crate::options::{Log, Options};
use crate::raw::Object;

/// A declaration, or why ctypes makes its calls, and the site of its calls.
#[derive(Debug)]
pub(crate) struct CallSite {
    /// What logs call it: the first function with this declaration.
    pub(crate) name: String,
    pub(crate) declaration: Result<Declaration, Refusal>,
    pub(crate) site: Site<Stub>,
}

impl CallSite {
    /// Whether a stub of this site has the address of `class` in it.
    fn mentions(&self, class: u64) -> bool {
        let shapes = self.site.shapes();
        let mut insts = shapes.iter().flat_map(|shape| &shape.trace.insts);
        insts.any(|inst| matches!(&inst.data, Data::Symbol(symbol) if symbol.address == class))
    }
}

type AddressMap<T> = HashMap<u64, T, BuildWordHasher>;

/// The call sites, by the address of what declares them.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    /// Of function objects.
    functions: AddressMap<Arc<CallSite>>,
    /// Of classes, for functions that leave the declaration to their class.
    classes: AddressMap<Arc<CallSite>>,
    /// Weak references to the classes that anything here has the address of:
    /// each makes the runtime forget its class when that dies.
    watched: AddressMap<Py<PyAny>>,
    /// Functions whose declaration is being assigned right now.
    changing: Vec<u64>,
    /// How often each refusal was counted.
    refusals: BTreeMap<&'static str, u64>,
}

/// Everything that the hook and the entry points need.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) options: Options,
    pub(crate) known: Known,
    pub(crate) jit: Jit,
    sites: Mutex<Sites>,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Calls that ctypes made, if calls are counted.
pub(crate) static CTYPES_CALLS: AtomicU64 = AtomicU64::new(0);
/// Calls that the rules made, live or as a stub. Stubs add to it with the GIL held.
pub(crate) static RULE_CALLS: AtomicU64 = AtomicU64::new(0);
/// Calls that the rules made live.
pub(crate) static INTERPRETER_CALLS: AtomicU64 = AtomicU64::new(0);

/// How warm functions are, by a hash of their address: as in any such table a
/// function may find itself warmed by another one, which does no harm.
static HEAT: [AtomicU8; SLOTS] = [const { AtomicU8::new(0) }; SLOTS];
/// Functions whose calls all go to ctypes, by the same hash: a function that is
/// not found here is looked up.
static DECLINED: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
const SLOTS: usize = 4096;

/// The slot of a function in these tables.
fn slot(function: u64) -> usize {
    (function.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % SLOTS
}

/// Takes a function out of the table of those that ctypes calls.
fn undecline(function: u64) {
    let entry = &DECLINED[slot(function)];
    if entry.load(Relaxed) == function {
        entry.store(0, Relaxed);
    }
}

/// The runtime, once the interpreter has passed the checks.
pub(crate) fn runtime() -> Option<&'static Runtime> {
    RUNTIME.get()
}

/// Makes `runtime` the process's; the first one stays.
pub(crate) fn set(runtime: Runtime) -> &'static Runtime {
    RUNTIME.get_or_init(|| runtime)
}

impl Runtime {
    pub(crate) fn new(options: Options, known: Known) -> Runtime {
        let jit = hotcall_asm::Options { capacity: options.code, deny: options.deny };
        Runtime { options, known, jit: Jit::new(jit), sites: Mutex::default() }
    }

    fn sites(&self) -> MutexGuard<'_, Sites> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls of a function that go to ctypes before it gets a site: an eighth
    /// of the threshold, at most 16.
    pub(crate) fn warm(&self) -> u8 {
        (self.options.threshold / 8).min(16) as u8
    }

    /// Counts a call that came through the call slot; true if the function is
    /// warm, unless ctypes makes all its calls.
    pub(crate) fn is_warm(&self, function: u64) -> bool {
        let slot = slot(function);
        let count = HEAT[slot].load(Relaxed);
        if count < self.warm() {
            HEAT[slot].store(count + 1, Relaxed);
            return false;
        }
        DECLINED[slot].load(Relaxed) != function
    }

    /// Notes that ctypes makes all calls of a function, until it is forgotten.
    /// While calls are counted it is looked up each time, for the refusal.
    pub(crate) fn decline(&self, function: u64) {
        if !self.options.count {
            DECLINED[slot(function)].store(function, Relaxed);
        }
    }

    fn limits(&self) -> Limits {
        let hot = match self.options.jit {
            true => (self.options.threshold - u32::from(self.warm())).max(1),
            false => 0,
        };
        Limits { hot, shapes: self.options.shapes, ..Limits::default() }
    }

    /// The reader of declarations.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let Known { layout, kinds, classes, .. } = &self.known;
        Reader { layout, kinds, classes }
    }

    /// The site of a function, if it has one.
    pub(crate) fn site(&self, function: u64) -> Option<Arc<CallSite>> {
        self.sites().functions.get(&function).cloned()
    }

    /// The site of a function, made from its declaration if it has none; none
    /// while that is being assigned.
    pub(crate) fn adopt(&self, function: Object) -> Option<Arc<CallSite>> {
        let address = function.address();
        if let Some(site) = self.site(address) {
            return Some(site);
        }
        if self.sites().changing.contains(&address) {
            return None;
        }
        let site = match function.object(crate::layout::OB_TYPE) {
            Some(class) if self.reader().is_of_class(function) => self.adopt_class(class, function),
            _ => Arc::new(self.make_site(function)),
        };
        self.sites().functions.insert(address, Arc::clone(&site));
        Some(site)
    }

    /// The site that the functions of a class share, made if there is none.
    fn adopt_class(&self, class: Object, function: Object) -> Arc<CallSite> {
        let known = self.sites().classes.get(&class.address()).cloned();
        known.unwrap_or_else(|| {
            let site = Arc::new(self.make_site(function));
            if self.watch(class) {
                self.sites().classes.insert(class.address(), Arc::clone(&site));
            }
            site
        })
    }

    /// Sees to it that a class is forgotten when it dies; false if it cannot be.
    fn watch(&self, class: Object) -> bool {
        if self.sites().watched.contains_key(&class.address()) {
            return true;
        }
        let Ok(watch) = crate::hook::watch(class) else { return false };
        let replaced = self.sites().watched.insert(class.address(), watch);
        // Dropped here, since the lock is free again.
        drop(replaced);
        true
    }

    fn make_site(&self, function: Object) -> CallSite {
        let name = match self.options.log {
            Log::Off => String::new(),
            _ => crate::hook::name(function),
        };
        let declaration = self.reader().read(function);
        if let Err(refusal) = &declaration {
            self.log(Log::Events, || format!("{name}: refused, {refusal}"));
        }
        CallSite { name, declaration, site: Site::new(self.limits()) }
    }

    /// Forgets the site of a function; true if it had one.
    pub(crate) fn forget(&self, function: u64) -> bool {
        undecline(function);
        self.sites().functions.remove(&function).is_some()
    }

    /// Forgets a class that dies: its site, what was learned of it, and the
    /// sites that have its address in a stub. Gives the functions concerned.
    pub(crate) fn forget_class(&self, class: u64) -> Vec<u64> {
        self.known.classes.forget(class);
        let mut sites = self.sites();
        let watch = sites.watched.remove(&class);
        sites.classes.retain(|&of, site| of != class && !site.mentions(class));
        let functions = sites.functions.extract_if(|_, site| site.mentions(class));
        let functions = functions.map(|(function, _)| function).collect();
        drop(sites);
        // Dropped here, since the lock is free again.
        drop(watch);
        functions
    }

    /// Learns the class of an argument; true if that says more than was known.
    pub(crate) fn learn(&self, py: Python<'_>, class: Object) -> bool {
        let Known { layout, kinds, classes, .. } = &self.known;
        self.watch(class) && classes.learn(py, kinds, layout, class)
    }

    /// Forgets all sites; gives the functions that had one.
    pub(crate) fn forget_all(&self) -> Vec<u64> {
        self.sites().classes.clear();
        let functions = self.sites().functions.drain().map(|(function, _)| function).collect();
        DECLINED.iter().for_each(|entry| entry.store(0, Relaxed));
        functions
    }

    /// Notes that the declaration of a function begins to change: it gets no
    /// site until [`Self::changed`].
    pub(crate) fn changing(&self, function: u64) {
        undecline(function);
        let mut sites = self.sites();
        sites.functions.remove(&function);
        sites.changing.push(function);
    }

    /// Ends what [`Self::changing`] began.
    pub(crate) fn changed(&self, function: u64) {
        undecline(function);
        let mut sites = self.sites();
        sites.functions.remove(&function);
        if let Some(index) = sites.changing.iter().rposition(|&address| address == function) {
            sites.changing.swap_remove(index);
        }
    }

    /// Counts a refusal by its name, if calls are counted.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        if self.options.count {
            *self.sites().refusals.entry(refusal.name).or_default() += 1;
        }
    }

    /// Counts a call that goes to ctypes, if calls are counted.
    pub(crate) fn count_ctypes(&self) {
        if self.options.count {
            CTYPES_CALLS.fetch_add(1, Relaxed);
        }
    }

    /// The counted refusals by name.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.sites().refusals.clone()
    }

    /// How many functions have a site.
    pub(crate) fn functions(&self) -> usize {
        self.sites().functions.len()
    }

    /// Writes a line to standard error if `level` is logged.
    pub(crate) fn log(&self, level: Log, line: impl FnOnce() -> String) {
        if self.options.log >= level {
            eprintln!("hotcall: {}", line());
        }
    }
}

/// The counter of calls that the rules made, as traces see it.
pub(crate) fn counter(options: &Options) -> Option<Symbol> {
    let address = RULE_CALLS.as_ptr() as u64;
    options.count.then(|| Symbol { name: "rule_calls".into(), address })
}
