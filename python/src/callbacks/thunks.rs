//! Thunks of ctypes: how they are found, when they are made and when they die,
//! and what is patched in them.
//!
//! # Safety
//! The rows of thunks are checked at import. Everything here runs with the GIL
//! held.

#![allow(unsafe_code, reason = "patches type slots and thunks of ctypes")]

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hotcall_asm::Trampoline;
use hotcall_tracer::Refusal;
use pyo3::prelude::*;

use crate::callbacks::shape::Shape;
use crate::callbacks::{CallbackSite, Closure, closure, failures};
use crate::capi;
use crate::hook::{self, Original};
use crate::kinds::handle;
use crate::layout::{self, CDATA_POINTER, MEMORY_WORD, TYPE_VERSION};
use crate::make::{self, Named};
use crate::raw::{Object, Owned};
use crate::runtime::{Runtime, runtime};

type New = unsafe extern "C-unwind" fn(class: u64, args: u64, kwargs: u64) -> u64;
type Destructor = unsafe extern "C-unwind" fn(u64);
type Visitor = unsafe extern "C-unwind" fn(object: u64, seen: *mut c_void) -> c_int;
type VisitObjects = unsafe extern "C-unwind" fn(visit: Visitor, seen: *mut c_void);

/// `_ctypes.CFuncPtr`'s own constructor.
static NEW: Original = Original::new();
/// The thunk class's own destructor.
static DEALLOC: Original = Original::new();
/// Whether functions that are made get trampolines.
static ADOPTING: AtomicBool = AtomicBool::new(false);

/// The class of thunks, which is kept alive for the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thunks {
    pub(crate) class: u64,
    /// The constructor of `_ctypes.CFuncPtr`.
    pub(crate) new: u64,
}

impl Thunks {
    fn class(self) -> Object {
        // SAFETY: it is kept alive for the process.
        unsafe { Object::at(self.class) }
    }

    /// The thunks that there are.
    ///
    /// # Errors
    /// What Python raised.
    pub(crate) fn existing(self, py: Python<'_>) -> PyResult<Vec<Owned>> {
        let is_thunk = |object: Object| object.word(layout::OB_TYPE) == self.class;
        let Some(visit) = capi::symbol(c"PyUnstable_GC_VisitObjects") else {
            let objects = make::import(py, "gc")?.attr("get_objects")?.call0()?;
            let objects = objects.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            let thunks = objects.iter().map(handle).filter(|object| is_thunk(*object));
            return Ok(thunks.map(Owned::of).collect());
        };
        // SAFETY: CPython's function of this name has this signature.
        let visit = unsafe { std::mem::transmute::<usize, VisitObjects>(visit as usize) };
        let mut objects: (u64, Vec<u64>) = (self.class, Vec::new());
        // SAFETY: `note` takes what it is given here, and touches no object.
        unsafe { visit(note, (&raw mut objects).cast()) };
        // SAFETY: objects that were alive just now, and nothing has run since.
        let objects = objects.1.into_iter().map(|address| unsafe { Object::at(address) });
        Ok(objects.map(Owned::of).collect())
    }

    /// Begins to adopt functions, and redirects the thunks that there are.
    pub(crate) fn install(
        self,
        runtime: &Runtime,
        classes: impl Iterator<Item = Object>,
        existing: &[Owned],
    ) {
        hotcall_asm::give_zero_once(is_over);
        NEW.keep(self.new, tp_new as New as usize as u64);
        let ours = tp_dealloc as Destructor as usize as u64;
        DEALLOC.keep(self.class().word(layout::TYPE_DEALLOC), ours);
        // SAFETY: our slot has the same signature and ends in the one it replaces.
        unsafe { self.class().set(layout::TYPE_DEALLOC, ours) };
        for thunk in existing {
            let thunk = thunk.object();
            if !runtime.callbacks.wake(thunk.address()) {
                runtime.callbacks.add(thunk.address(), site_of(runtime, thunk), None);
            }
            redirect(thunk);
        }
        classes.for_each(hook_class);
        ADOPTING.store(true, Relaxed);
    }

    /// Puts everything back but what C was given: the function that it was given
    /// leads to ctypes from now on, and dies with its thunk.
    pub(crate) fn uninstall(
        self,
        runtime: &Runtime,
        classes: impl Iterator<Item = Object>,
        existing: &[Owned],
    ) {
        ADOPTING.store(false, Relaxed);
        classes.for_each(unhook_class);
        existing.iter().for_each(|thunk| restore(thunk.object()));
        // SAFETY: thunks are forgotten before they are freed.
        let exec = |thunk| unsafe { Object::at(thunk) }.word(layout::THUNK_EXEC);
        if !runtime.callbacks.rest(exec) {
            // SAFETY: the slot as it was.
            unsafe { self.class().set(layout::TYPE_DEALLOC, DEALLOC.address()) };
        }
    }
}

/// Whether the interpreter ends or has ended. Then it drops function objects that
/// threads of C still call: with ctypes, these threads end where they ask for the GIL.
fn is_over() -> bool {
    // SAFETY: it may be called at any time, by any thread.
    let initialized = unsafe { capi::Py_IsInitialized() };
    initialized == 0
}

/// Notes an object if it is a thunk.
unsafe extern "C-unwind" fn note(object: u64, seen: *mut c_void) -> c_int {
    // SAFETY: what `existing` hands over.
    let (class, found) = unsafe { &mut *seen.cast::<(u64, Vec<u64>)>() };
    // SAFETY: a live object.
    if unsafe { Object::at(object) }.word(layout::OB_TYPE) == *class {
        found.push(object);
    }
    1
}

/// Has a class of functions, whose constructor is ctypes' own, make them by ours.
fn hook_class(class: Object) {
    let ours = tp_new as New as usize as u64;
    if class.word(layout::TYPE_NEW) == NEW.address() {
        // SAFETY: our slot has the same signature and begins with the one it
        // replaces.
        unsafe { class.set(layout::TYPE_NEW, ours) };
    }
}

/// Gives a class its constructor back.
fn unhook_class(class: Object) {
    if class.word(layout::TYPE_NEW) == tp_new as New as usize as u64 {
        // SAFETY: the slot as it was.
        unsafe { class.set(layout::TYPE_NEW, NEW.address()) };
    }
}

/// Where a closure of libffi has what it calls.
fn closure_of(thunk: Object) -> Option<Object> {
    thunk.object(layout::THUNK_WRITE)
}

/// Has a thunk's closure call ours.
fn redirect(thunk: Object) {
    if let Some(place) = closure_of(thunk)
        && place.word(layout::CLOSURE_FUNCTION) == failures::closure() as usize as u64
    {
        // SAFETY: our function has the same signature and does the same.
        unsafe { place.set(layout::CLOSURE_FUNCTION, closure as Closure as usize as u64) };
    }
}

/// Has it call ctypes' own again.
fn restore(thunk: Object) {
    if let Some(place) = closure_of(thunk)
        && place.word(layout::CLOSURE_FUNCTION) == closure as Closure as usize as u64
    {
        // SAFETY: what stood there.
        unsafe { place.set(layout::CLOSURE_FUNCTION, failures::closure() as usize as u64) };
    }
}

unsafe extern "C-unwind" fn tp_new(class: u64, args: u64, kwargs: u64) -> u64 {
    // SAFETY: kept from the slot that this function replaced.
    let original = unsafe { std::mem::transmute::<usize, New>(NEW.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    let made = unsafe { original(class, args, kwargs) };
    if let Some(runtime) = runtime()
        && made != 0
        && ADOPTING.load(Relaxed)
        && hook::is_installed()
    {
        // SAFETY: ctypes has just made it.
        adopt(runtime, unsafe { Object::at(made) });
    }
    made
}

/// Gives a function that ctypes has just made for a callable another address.
fn adopt(runtime: &Runtime, function: Object) {
    let Some(thunk) = function.object(layout::FUNC_THUNK) else { return };
    let version = function.class().word(TYPE_VERSION);
    let site = match runtime.callbacks.site_of_class(version, thunk) {
        Some(site) => Ok(site),
        None => site_of(runtime, thunk).inspect(|site| {
            runtime.callbacks.know_class(version, thunk, site);
        }),
    };
    let trampoline = site.is_ok().then(|| trampoline(runtime, function, thunk)).flatten();
    runtime.callbacks.add(thunk.address(), site, trampoline);
    redirect(thunk);
}

/// The site of a thunk, from what ctypes says of its classes.
fn site_of(runtime: &Runtime, thunk: Object) -> Result<Arc<CallbackSite>, Refusal> {
    Shape::of(&runtime.reader(), thunk).and_then(|shape| runtime.callbacks.site_of(shape))
}

/// A trampoline for a thunk, whose address the function gets; none where there is
/// no code memory for it.
fn trampoline(runtime: &Runtime, function: Object, thunk: Object) -> Option<Trampoline> {
    if !runtime.options.jit {
        return None;
    }
    let exec = thunk.word(layout::THUNK_EXEC);
    let memory = function.object(CDATA_POINTER)?;
    if memory.word(MEMORY_WORD) != exec {
        return None;
    }
    let trampoline = runtime.callbacks.trampoline(&runtime.jit, exec, thunk.address())?;
    // SAFETY: a function that does what the one that stands there does.
    unsafe { memory.set(MEMORY_WORD, trampoline.address()) };
    Some(trampoline)
}

unsafe extern "C-unwind" fn tp_dealloc(this: u64) {
    if let Some(runtime) = runtime() {
        runtime.callbacks.forget(this);
    }
    // SAFETY: kept from the slot that this function replaced.
    let original = unsafe { std::mem::transmute::<usize, Destructor>(DEALLOC.address() as usize) };
    // SAFETY: the argument that CPython gave us.
    unsafe { original(this) };
}
