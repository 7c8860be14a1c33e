//! Shadows of functions, which are called in their place to see what is passed,
//! and the host that reads rules without calling.
//!
//! # Safety
//! A shadow is a function object that nobody but us has seen: its fields are
//! written before it is first called.

#![allow(unsafe_code, reason = "writes fields of new function objects")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hotcall::Machine;
use hotcall_core::{CType, PreparedCall, Signature};
use hotcall_tracer::{BuildWordHasher, Helper, Host, Mem};
use pyo3::prelude::*;

use super::{CHECKS_RESULTS, FINALISES, NO_SHADOW, Reason, capture};
use crate::declare::{Declaration, Kind, ResultRule};
use crate::described;
use crate::detour;
use crate::hook;
use crate::instance;
use crate::kinds::handle;
use crate::layout;
use crate::make::Named;
use crate::raw::{Object, Owned};
use crate::runtime::{CallSite, Runtime};

/// A function object with another one's declaration.
#[derive(Clone, Debug)]
pub(super) struct Shadow(Arc<Owned>);

impl Shadow {
    pub(super) fn function(&self) -> Object {
        self.0.object()
    }
}

/// The shadows of sites, by the address of the site.
#[derive(Debug, Default)]
pub(super) struct Shadows(Mutex<HashMap<usize, (Weak<CallSite>, Shadow), BuildWordHasher>>);

/// As many are kept; then those of dead sites are given up.
const MANY: usize = 1000;

impl Shadows {
    /// The shadow of a site, made from `function`, which is of the site.
    pub(super) fn of(
        &self,
        py: Python<'_>,
        runtime: &Runtime,
        site: &Arc<CallSite>,
        function: Object,
    ) -> Result<Shadow, Reason> {
        let key = Arc::as_ptr(site).addr();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        // A site that lives is the one at its address.
        if let Some((of, shadow)) = known
            && of.upgrade().is_some()
        {
            return Ok(shadow);
        }
        let declaration = site.declaration.as_ref().map_err(|_| super::REFUSED)?;
        let shadow = Shadow(Arc::new(make(py, runtime, declaration, function)?));
        // The GIL is treated alike, so that the stubs are the same.
        let chosen = runtime.choose(&shadow.function().bound(py), Some(site.gil.get()));
        chosen.map_err(|_| NO_SHADOW)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = (Arc::downgrade(site), shadow.clone());
        let mut dead: Vec<_> = all.insert(key, entry).into_iter().collect();
        if all.len() > MANY {
            let gone = all.extract_if(|_, (of, _)| of.strong_count() == 0);
            dead.extend(gone.map(|(_, entry)| entry));
        }
        drop(all);
        // Objects die without the lock.
        drop(dead);
        Ok(shadow)
    }
}

/// Whether wrapping such a result runs code of the program, or looks into what
/// the function gives.
pub(super) fn is_quiet(result: &ResultRule) -> bool {
    match result {
        ResultRule::Callable(_) | ResultRule::Simple(Kind::Object) => false,
        ResultRule::Instance { class, .. } | ResultRule::Record { class, .. } => {
            // SAFETY: the function that declares it keeps it alive.
            !instance::has_finaliser(unsafe { Object::at(class.address) })
        }
        ResultRule::Void | ResultRule::Simple(_) => true,
    }
}

/// Makes a function object of the class of `function`, with its declaration
/// but for what would run code with the result.
fn make(
    py: Python<'_>,
    runtime: &Runtime,
    declaration: &Declaration,
    function: Object,
) -> Result<Owned, Reason> {
    let class = function.class();
    if instance::has_finaliser(class) {
        return Err(FINALISES);
    }
    let own = |field| function.object(field).map(Owned::of);
    let mut declared = vec![
        (layout::FUNC_CONVERTERS, own(layout::FUNC_CONVERTERS)),
        (layout::FUNC_ARGTYPES, own(layout::FUNC_ARGTYPES)),
    ];
    if declaration.checker.is_none() && is_quiet(&declaration.result) {
        declared.push((layout::FUNC_RESTYPE, own(layout::FUNC_RESTYPE)));
    } else if declaration.checker.is_some() && function.word(layout::FUNC_CHECKER) == 0 {
        return Err(CHECKS_RESULTS);
    } else {
        declared.push((layout::FUNC_RESTYPE, Some(Owned::from(py.None().into_bound(py)))));
    }
    let made = new(py, &class.bound(py)).map_err(|_| NO_SHADOW)?;
    for (field, object) in declared {
        if let Some(object) = object {
            // SAFETY: a field of a function object that nobody has called, and
            // that declares nothing; it takes the reference over.
            unsafe { handle(&made).set(field, object.into_address()) };
        }
    }
    debug_assert!(runtime.site(handle(&made).address()).is_none(), "nobody has called it");
    Ok(Owned::from(made))
}

/// A new instance of a function class that calls what captures; no code of the
/// class itself runs.
fn new<'py>(py: Python<'py>, class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let base = hook::stock(py)?.function.bind(py);
    base.attr("__new__")?.call_with((class, capture::address()))
}

/// A result of a shadow as text that is equal for equal results alone. No code of
/// the program runs.
pub(super) fn described(result: &Bound<'_, PyAny>) -> String {
    let object = handle(result);
    let name = described::class(object);
    if let Some(value) = described::value(result) {
        return format!("{name} {value}");
    }
    // An instance of a class of ctypes.
    let bytes = super::content(object, 0, object.word(layout::CDATA_SIZE) as usize);
    format!("{name} {bytes:02x?}")
}

/// A host that is the machine but for foreign calls, which it only notes, and
/// detours, which it does not take.
pub(super) struct Dry {
    machine: Machine,
    seen: Option<Signature>,
    detoured: bool,
    /// What a struct is returned in.
    returned: Vec<u64>,
}

impl Dry {
    /// # Safety
    /// As for [`Machine::new`], but for the foreign function.
    pub(super) unsafe fn new() -> Dry {
        // SAFETY: the caller promises it.
        let machine = unsafe { Machine::new() };
        Dry { machine, seen: None, detoured: false, returned: Vec::new() }
    }

    /// The signature of the call that was asked for; none if there was none.
    pub(super) fn signature(self) -> Option<Signature> {
        self.seen.filter(|_| !self.detoured)
    }
}

impl Host for Dry {
    fn thread(&mut self) -> u64 {
        self.machine.thread()
    }

    fn scratch(&mut self, bytes: u64) -> u64 {
        self.machine.scratch(bytes)
    }

    fn load(&mut self, mem: Mem, address: u64) -> u64 {
        self.machine.load(mem, address)
    }

    fn store(&mut self, mem: Mem, address: u64, word: u64) {
        self.machine.store(mem, address, word);
    }

    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64 {
        if std::ptr::eq(helper, &detour::TAKE) {
            self.detoured = true;
            return 0;
        }
        self.machine.help(helper, args)
    }

    fn call(&mut self, call: &PreparedCall, _: u64, _: &[u64]) -> u64 {
        self.seen = Some(call.signature().clone());
        match call.signature().result() {
            CType::Struct(of) => {
                self.returned.resize(of.size().div_ceil(8) + 2, 0);
                let place = self.returned.as_mut_ptr().cast::<u8>();
                let place = place.wrapping_add(place.align_offset(16));
                place.expose_provenance() as u64
            }
            _ => 0,
        }
    }
}
