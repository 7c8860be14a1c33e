//! The state of a process: what is known of the interpreter, the code memory,
//! and the call sites of the functions that were seen.
//!
//! **Invariant.** Nothing here runs Python code while its lock is held. The
//! lock is taken with the GIL held and never kept across its release.

mod counts;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hotcall_asm::debug::Teller;
use hotcall_asm::{Jit, Stub};
use hotcall_tracer::{BuildWordHasher, Limits, Refusal, Site, Symbol};
use pyo3::prelude::*;

use crate::callbacks::Callbacks;
use crate::compare::Checks;
use crate::declare::{Declaration, Reader};
use crate::described;
use crate::gil::{self, Choice, Choices, Policy, SitePolicy};
use crate::heat;
use crate::helpers::keeping_errno;
use crate::hook;
use crate::known::Known;
use crate::lending;
use crate::loops::Loops;
use crate::observers;
use crate::options::{Check, Log, Options};
use crate::profile::Profile;
use crate::raw::{Object, Owned};

/// A declaration, or why ctypes makes its calls, and the site of its calls.
#[derive(Debug)]
pub(crate) struct CallSite {
    /// What logs call it: the first function with this declaration.
    pub(crate) name: String,
    /// The version that the function's class had.
    version: u32,
    pub(crate) declaration: Result<Declaration, Refusal>,
    /// Who has the GIL during its calls.
    pub(crate) gil: SitePolicy,
    pub(crate) site: Site<Stub>,
    pub(crate) loops: Loops,
}

type AddressMap<T> = HashMap<u64, T, BuildWordHasher>;

/// The call sites, by the address of what declares them.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    /// Of function objects.
    functions: AddressMap<Arc<CallSite>>,
    /// Of classes, for functions that leave the declaration to their class.
    classes: AddressMap<Arc<CallSite>>,
    /// The policies that the program has chosen for functions.
    choices: Choices,
    /// Functions whose declaration is being assigned right now.
    changing: Vec<u64>,
    /// How often each refusal was counted.
    refusals: BTreeMap<&'static str, u64>,
}

/// Sites that are to be dropped.
pub(crate) struct Forgotten {
    _sites: [AddressMap<Arc<CallSite>>; 2],
}

/// Everything that the hook and the entry points need.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) options: Options,
    pub(crate) known: Known,
    pub(crate) jit: Jit,
    pub(crate) teller: Teller,
    pub(crate) callbacks: Callbacks,
    /// The policy of functions for which the program has chosen none.
    pub(crate) gil: gil::Cell,
    /// What was timed, if calls are.
    pub(crate) profile: Option<Profile>,
    /// What was checked, if calls are.
    pub(crate) checks: Option<Checks>,
    sites: Mutex<Sites>,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Calls that ctypes made, if calls are counted.
pub(crate) static CTYPES_CALLS: AtomicU64 = AtomicU64::new(0);
/// Calls that the rules made, live or as a stub. Stubs add to it with the GIL held.
pub(crate) static RULE_CALLS: AtomicU64 = AtomicU64::new(0);
/// Sites that release the GIL since calls that lent it were long.
pub(crate) static DEMOTIONS: AtomicU64 = AtomicU64::new(0);
/// Calls that the rules made live.
pub(crate) static INTERPRETER_CALLS: AtomicU64 = AtomicU64::new(0);

/// Sites of classes that are kept at most.
const MOST_CLASSES: usize = 10_000;

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
        let gil = gil::Cell::new(options.gil);
        let profile = options.profile.then(Profile::new);
        let checks = match options.check {
            Check::Off => None,
            check => Some(Checks::new(check == Check::Flip)),
        };
        let (jit, sites) = (Jit::new(jit), Mutex::default());
        let teller = Teller::new(options.tell);
        let callbacks = Callbacks::default();
        Runtime { options, known, jit, teller, callbacks, gil, profile, checks, sites }
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
        heat::is_warm(function, self.warm()) && !heat::is_declined(function)
    }

    /// Notes that ctypes makes so many calls of a function, unless it is forgotten.
    /// While calls are counted or watched it is looked up each time, for the refusal.
    pub(crate) fn decline(&self, function: u64, calls: u32) {
        if !self.options.count && !self.is_watched() {
            heat::decline(function, calls);
        }
    }

    fn limits(&self) -> Limits {
        let hot = match self.options.jit {
            true => (self.options.threshold - u32::from(self.warm())).max(1),
            false => 0,
        };
        Limits { hot, shapes: self.options.shapes, ..Limits::default() }
    }

    /// Whether calls are timed or checked.
    pub(crate) fn is_watched(&self) -> bool {
        self.profile.is_some() || self.checks.is_some()
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
    /// while that is being assigned, and where the hook has been taken out.
    pub(crate) fn adopt(&self, py: Python<'_>, function: Object) -> Option<Arc<CallSite>> {
        let address = function.address();
        if let Some(site) = self.site(address) {
            return Some(site);
        }
        let is_named = self.options.log > Log::Off || self.teller.tells();
        let name = if is_named { hook::name(function) } else { String::new() };
        self.learn_converters(py, function);
        // What has run may have given the function another class.
        let held = Owned::of(function.class());
        let class = held.object();
        let version = self.known.classes.version(py, class);
        // From here on no Python code runs: what is read now stays true until
        // a setter says otherwise. Without the hook nobody would say so.
        if !hook::is_installed() || self.sites().changing.contains(&address) {
            return None;
        }
        if let Some(site) = self.site(address) {
            return Some(site);
        }
        let chosen = self.chosen(py, function);
        let site = match self.reader().is_of_class(function) && chosen.is_none() {
            true => {
                self.adopt_class(class, version, || self.make_site(name, function, version, None))
            }
            false => Arc::new(self.make_site(name, function, version, chosen)),
        };
        self.sites().functions.insert(address, Arc::clone(&site));
        Some(site)
    }

    /// Learns the converters of a function. What cannot be learned is not known
    /// then: the rules do without.
    fn learn_converters(&self, py: Python<'_>, function: Object) {
        let converters = self.reader().converters(function).into_iter().map(Owned::of);
        let converters: Vec<Owned> = converters.collect();
        // All that is needed of the function has been taken: Python code may run.
        for converter in &converters {
            if let Err(error) = observers::learn_converter(py, converter.object()) {
                let why = || described::error(py, &error);
                self.log(Log::Events, || format!("a converter cannot be learned: {}", why()));
            }
        }
    }

    /// The site that the functions of a class share, made if there is none for
    /// this version of the class.
    fn adopt_class(
        &self,
        class: Object,
        version: u32,
        make: impl FnOnce() -> CallSite,
    ) -> Arc<CallSite> {
        let known = self.sites().classes.get(&class.address()).cloned();
        known.filter(|site| site.version == version).unwrap_or_else(|| {
            let site = Arc::new(make());
            let mut sites = self.sites();
            if sites.classes.len() == MOST_CLASSES {
                // Some of them may be dead. They are made anew when needed.
                sites.classes.clear();
            }
            sites.classes.insert(class.address(), Arc::clone(&site));
            site
        })
    }

    fn make_site(
        &self,
        name: String,
        function: Object,
        version: u32,
        chosen: Option<Policy>,
    ) -> CallSite {
        let declaration = self.reader().read(function, version);
        if let Err(refusal) = &declaration {
            self.log(Log::Events, || format!("{name}: refused, {refusal}"));
        }
        let gil = self.policy(chosen, &declaration);
        let site = Site::new(self.limits());
        CallSite { name, version, declaration, gil, site, loops: Loops::default() }
    }

    /// Why no call lends the GIL; none if calls may.
    pub(crate) fn lending_off(&self) -> Option<String> {
        match &self.known.lending {
            Err(reason) => Some(reason.clone()),
            Ok(_) => lending::is_denied().then(|| "the system gives no thread for it".to_owned()),
        }
    }

    /// Whether this thread may lend the GIL in the call at hand.
    pub(crate) fn may_lend(&self) -> bool {
        self.known.lending.as_ref().is_ok_and(|lending| lending.may_lend())
    }

    /// The policy that the program has chosen for a function.
    pub(crate) fn chosen(&self, py: Python<'_>, function: Object) -> Option<Policy> {
        self.sites().choices.find(py, function.address())
    }

    /// Chooses a policy for a function, or takes the choice back.
    ///
    /// # Errors
    /// What Python raised, if there is no memory.
    pub(crate) fn choose(
        &self,
        function: &Bound<'_, PyAny>,
        policy: Option<Policy>,
    ) -> PyResult<()> {
        let choice = policy.map(|policy| Choice::new(function, policy)).transpose()?;
        let before = self.sites().choices.put(function, choice);
        drop(before);
        Ok(())
    }

    /// The policy of a function with this declaration.
    fn policy(
        &self,
        chosen: Option<Policy>,
        declaration: &Result<Declaration, Refusal>,
    ) -> SitePolicy {
        if declaration.as_ref().is_ok_and(|declaration| declaration.python_api) {
            return SitePolicy::python_api();
        }
        SitePolicy::new(match chosen.unwrap_or_else(|| self.gil.get()) {
            Policy::Lend if self.lending_off().is_some() => Policy::Release,
            policy => policy,
        })
    }

    /// Forgets the site of a function; true if it had one.
    pub(crate) fn forget(&self, function: u64) -> bool {
        heat::undecline(function);
        let site = self.sites().functions.remove(&function);
        // Functions that share a site are new ones again and again, and warm at
        // once. Others begin cold, so that few calls of each stay cheap.
        if site.as_ref().is_some_and(|site| Arc::strong_count(site) == 1) {
            heat::cool(function);
        }
        site.is_some()
    }

    /// Learns the class of an argument; true if that says more than was known, which it
    /// does not where there is no memory.
    pub(crate) fn learn(&self, py: Python<'_>, class: Object) -> bool {
        let Known { layout, kinds, classes, .. } = &self.known;
        classes.learn(py, kinds, layout, class).unwrap_or(false)
    }

    /// Forgets all sites, after `each` has seen the functions that have one. Some
    /// of these are relays, which die with what this gives: then Python code may run.
    pub(crate) fn forget_all(&self, each: impl FnMut(u64)) -> Forgotten {
        let classes = std::mem::take(&mut self.sites().classes);
        let functions = std::mem::take(&mut self.sites().functions);
        functions.keys().copied().for_each(each);
        heat::undecline_all();
        Forgotten { _sites: [classes, functions] }
    }

    /// Notes that an attribute of a function is about to be assigned: it gets no site
    /// until [`Self::changed`], which follows.
    pub(crate) fn changing(&self, function: u64) {
        self.sites().changing.push(function);
    }

    /// Ends what [`Self::changing`] began.
    pub(crate) fn changed(&self, function: u64) {
        let mut sites = self.sites();
        if let Some(index) = sites.changing.iter().rposition(|&address| address == function) {
            sites.changing.swap_remove(index);
        }
    }

    /// Ends the declaration of a function, which begins cold.
    pub(crate) fn redeclare(&self, function: u64) {
        heat::undecline(function);
        heat::cool(function);
        self.drop_site(function);
    }

    /// Gives up the site of a function. What is dropped with it, objects too,
    /// is dropped without the lock.
    fn drop_site(&self, function: u64) {
        let site = self.sites().functions.remove(&function);
        drop(site);
    }

    /// Shows `visit` the relays that a function owns.
    pub(crate) fn visit_relays(&self, function: u64, visit: impl FnMut(u64)) {
        if let Some(site) = self.site(function)
            && let Ok(Declaration { detours: Some(detours), .. }) = &site.declaration
        {
            detours.visit(visit);
        }
    }

    /// Tells profilers and debuggers of a stub, if they asked for it.
    pub(crate) fn tell(&self, name: &str, stub: &Stub) {
        if let Err(error) = self.teller.tell(name, stub) {
            self.log(Log::Off, || format!("tools are not told of stubs: {error}"));
        }
    }

    /// Writes a line to standard error if `level` is logged, and if it can be:
    /// a program may have closed it. errno is kept.
    pub(crate) fn log(&self, level: Log, line: impl FnOnce() -> String) {
        if self.options.log >= level {
            keeping_errno(|| drop(writeln!(std::io::stderr(), "hotcall: {}", line())));
        }
    }
}

/// The counter of calls that the rules made, as traces see it.
pub(crate) fn counter(options: &Options) -> Option<Symbol> {
    let address = RULE_CALLS.as_ptr() as u64;
    options.count.then(|| Symbol { name: "rule_calls".into(), address })
}
