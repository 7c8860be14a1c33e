//! `bind`: a built-in function over a ctypes function. CPython's specialising
//! interpreter calls built-in functions directly, and this one goes straight to
//! the ctypes function's entry.
//!
//! **Invariant.** A call of the bound function is a call of the ctypes function,
//! whatever becomes of it: with every argument, keywords too, and every error.
//! So it follows what the function is declared as, and where there is no entry
//! CPython calls the function as it would without us.
//!
//! How the built-in function says that it takes its arguments is a hint for the
//! interpreter alone. Calls with other arguments, or keywords, come in by the
//! vectorcall pointer, which is ours too, so nobody but ctypes counts them.
//!
//! # Safety
//! CPython calls the functions of this file with a ctypes function, which the
//! built-in function is bound to and keeps alive, and with the arguments of a
//! call.

#![allow(unsafe_code, reason = "is called by CPython with raw objects")]

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hotcall_asm::Trampoline;
use pyo3::prelude::*;

use crate::capi::{self, FASTCALL_WITH_KEYWORDS, Method, ONE_ARGUMENT};
use crate::enter::Vectorcall;
use crate::hook;
use crate::kinds::handle;
use crate::layout::{CDATA_ENTRY, METHOD_SELF, METHOD_VECTORCALL};
use crate::raw::{Object, Owned};
use crate::report;
use crate::runtime::runtime;

/// What was bound, by the address of the ctypes function. It must outlive the built-in
/// functions, which nobody counts, so it stays for good: for the next function at
/// that address.
static BOUND: Mutex<Option<HashMap<u64, Target>>> = Mutex::new(None);
/// Whether anything was.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// A ctypes function that is bound.
#[derive(Default)]
struct Target {
    /// What CPython calls: it goes on to the entry of the function. The hash of a
    /// built-in function is made of the address, so that may not change.
    trampoline: Option<Trampoline>,
    /// The table entries of its built-in functions.
    methods: HashMap<Look, u64>,
}

/// What a table entry is made of.
type Look = (CString, Option<CString>, Way);

/// How a bound function is called by those that know what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// With one argument.
    One,
    /// With any.
    Any,
    /// With any, by CPython: no row of the layout is needed.
    Slow,
}

impl Way {
    /// The way to `function`, a ctypes function.
    fn to(function: &Bound<'_, PyAny>) -> Way {
        if runtime().is_none() {
            // Nobody has looked whether the rows hold.
            return Way::Slow;
        }
        let takes = || function.getattr("argtypes").and_then(|declared| declared.len());
        // From this version on CPython calls those fastest that take one.
        match function.py().version_info() >= (3, 14) && matches!(takes(), Ok(1)) {
            true => Way::One,
            false => Way::Any,
        }
    }
}

impl Target {
    /// What CPython calls, and the flags that say how.
    fn method(&mut self, way: Way) -> (u64, u64) {
        let function = match way {
            Way::One => return (enter_one as Single as usize as u64, ONE_ARGUMENT),
            Way::Any => self.trampoline().unwrap_or(enter as Vectorcall as usize as u64),
            Way::Slow => SLOW as usize as u64,
        };
        (function, FASTCALL_WITH_KEYWORDS)
    }

    /// The address of the trampoline; none where there is no code memory.
    fn trampoline(&mut self) -> Option<u64> {
        if self.trampoline.is_none() {
            self.trampoline = runtime()?.jit.trampoline(SLOW as usize as u64, 0).ok();
        }
        self.trampoline.as_ref().map(Trampoline::address)
    }

    /// Has the trampoline lead to this entry, if it is not null.
    fn follow(&self, entry: u64) {
        if let Some(trampoline) = &self.trampoline {
            trampoline.set_target(if entry == 0 { SLOW as usize as u64 } else { entry });
        }
    }

    /// The address of the table entry for `look`.
    fn entry(&mut self, look: Look) -> u64 {
        if let Some(method) = self.methods.get(&look) {
            return *method;
        }
        let (name, doc, way) = &look;
        let (function, flags) = self.method(*way);
        let leaked = |text: &CString| text.clone().into_raw().expose_provenance() as u64;
        let method =
            Method { name: leaked(name), function, flags, doc: doc.as_ref().map_or(0, leaked) };
        let method = std::ptr::from_ref(Box::leak(Box::new(method))).expose_provenance() as u64;
        self.methods.insert(look, method);
        method
    }
}

/// What CPython calls where the function has no entry.
const SLOW: Vectorcall = call;

/// A C function that is called with an object and one argument.
type Single = unsafe extern "C-unwind" fn(u64, u64) -> u64;

/// A built-in function over a ctypes function.
///
/// # Errors
/// `TypeError` for anything else, and what a look-up raised.
pub(crate) fn bind<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let object = report::function("bind", function)?;
    let doc = function.getattr("__doc__")?.extract::<String>().ok();
    let way = Way::to(function);
    let look = (text(hook::name(object)), doc.map(text), way);
    let entry = with_target(object, |target| target.entry(look));
    // SAFETY: an entry that lives for ever, and the object to bind it to.
    let made = unsafe { capi::PyCFunction_NewEx(entry, object.address(), 0) };
    let made = Owned::from_new(made).ok_or_else(|| PyErr::fetch(py))?;
    if way != Way::Slow {
        follow(object, object.word(CDATA_ENTRY));
        // SAFETY: a built-in function that nobody has called yet.
        unsafe { made.object().set(METHOD_VECTORCALL, vectorcall as Vectorcall as usize as u64) };
    }
    Ok(made.object().bound(py))
}

/// A C string: a null character would end it, so there is none.
fn text(mut text: String) -> CString {
    text.retain(|char| char != '\0');
    CString::new(text).unwrap_or_default()
}

/// Runs `work` on what is bound to a function.
fn with_target<T>(function: Object, work: impl FnOnce(&mut Target) -> T) -> T {
    let mut bound = BOUND.lock().unwrap_or_else(PoisonError::into_inner);
    IS_USED.store(true, Relaxed);
    work(bound.get_or_insert_default().entry(function.address()).or_default())
}

/// Has the built-in functions over a function follow its entry, which is a new one,
/// or null.
pub(crate) fn follow(function: Object, entry: u64) {
    if IS_USED.load(Relaxed) {
        let bound = BOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = bound.as_ref().and_then(|bound| bound.get(&function.address())) {
            target.follow(entry);
        }
    }
}

/// Whether a built-in function is one of these.
pub(crate) fn is_bound(function: Object) -> bool {
    function.word(METHOD_VECTORCALL) == vectorcall as Vectorcall as usize as u64
}

/// The ctypes function that `object` is bound to; none if `bind` did not give it.
pub(crate) fn target<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let builtin = handle(object);
    if Some(builtin.class().address()) != capi::symbol(c"PyCFunction_Type") {
        return None;
    }
    // SAFETY: a built-in function.
    let function = unsafe { capi::PyCFunction_GetFunction(builtin.address()) };
    if function != SLOW as usize as u64 && !(runtime().is_some() && is_bound(builtin)) {
        return None;
    }
    // SAFETY: a built-in function.
    let target = unsafe { capi::PyCFunction_GetSelf(builtin.address()) };
    // SAFETY: what it is bound to, which it keeps alive.
    Some(unsafe { Object::at(target) }.bound(object.py()))
}

/// Calls the function that a built-in function, `this`, is bound to.
unsafe extern "C-unwind" fn vectorcall(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: a built-in function that `bind` made, which is alive.
    let function = unsafe { Object::at(this) }.word(METHOD_SELF);
    // SAFETY: what it is bound to is alive too; the arguments of this call.
    unsafe { enter(function, args, count, names) }
}

/// Calls a function with one argument.
unsafe extern "C-unwind" fn enter_one(this: u64, argument: u64) -> u64 {
    let arguments = [argument];
    // SAFETY: the function, and the argument of this call.
    unsafe { enter(this, arguments.as_ptr() as u64, 1, 0) }
}

/// Calls a function through its entry, if it has one.
unsafe extern "C-unwind" fn enter(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: the ctypes function, which is alive.
    let entry = unsafe { Object::at(this) }.word(CDATA_ENTRY);
    if entry == 0 {
        // SAFETY: the arguments of this call.
        return unsafe { call(this, args, count, names) };
    }
    // SAFETY: what stands there is null or an entry of this function.
    let entry = unsafe { std::mem::transmute::<usize, Vectorcall>(entry as usize) };
    // SAFETY: the arguments of this call.
    unsafe { entry(this, args, count, names) }
}

/// Calls a function as CPython would. It is out of the way of those that have an entry.
#[cold]
#[inline(never)]
unsafe extern "C-unwind" fn call(this: u64, args: u64, count: u64, names: u64) -> u64 {
    // SAFETY: the arguments of this call.
    unsafe { capi::PyObject_Vectorcall(this, args as *const u64, count, names) }
}
