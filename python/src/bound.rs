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
use pyo3::types::PyCFunction;

use crate::capi::{self, FASTCALL_WITH_KEYWORDS, Method, ONE_ARGUMENT};
use crate::enter::Vectorcall;
use crate::hook;
use crate::kinds::handle;
use crate::layout::{CDATA_ENTRY, METHOD_SELF, METHOD_VECTORCALL};
use crate::make::Named;
use crate::raw::{Object, Owned};
use crate::report;
use crate::runtime::runtime;

/// The table entries of bound functions, by what they are made of. An entry must
/// outlive its functions, which nobody counts, so it lives as long as the process;
/// functions that look alike share one.
static ENTRIES: Mutex<Option<HashMap<Look, u64>>> = Mutex::new(None);

/// What an entry is made of: the name, the documentation, and the C function with the
/// flags that say how it is called.
type Look = (CString, Option<CString>, (u64, u64));

/// What CPython calls for functions that are bound, by their addresses: it leads to the
/// entry of the function. They too stay for good, for the next function at an address.
static TRAMPOLINES: Mutex<Option<HashMap<u64, Trampoline>>> = Mutex::new(None);
/// Whether there are any.
static IS_USED: AtomicBool = AtomicBool::new(false);
/// How many there are at most: they take code memory.
const MOST: usize = 4096;

/// How a bound function is called by those that know what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let takes = || function.attr("argtypes").and_then(|declared| declared.len());
        // From this version on CPython calls those fastest that take one.
        match function.py().version_info() >= (3, 14) && matches!(takes(), Ok(1)) {
            true => Way::One,
            false => Way::Any,
        }
    }

    /// What CPython calls, and the flags that say how. The hash of a built-in function
    /// is made of that address, so it stays what it is.
    fn method(self, function: Object) -> (u64, u64) {
        let function = match self {
            Way::One => return (enter_one as Single as usize as u64, ONE_ARGUMENT),
            Way::Any => trampoline(function).unwrap_or(enter as Vectorcall as usize as u64),
            Way::Slow => SLOW as usize as u64,
        };
        (function, FASTCALL_WITH_KEYWORDS)
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
    let doc = function.attr("__doc__")?.extract::<String>().ok();
    let way = Way::to(function);
    let look = (text(hook::name(object)), doc.map(text), way.method(object));
    // SAFETY: an entry that lives for ever, and the object to bind it to.
    let made = unsafe { capi::PyCFunction_NewEx(entry(look), object.address(), 0) };
    let made = Owned::from_new(made).ok_or_else(|| PyErr::fetch(py))?;
    if way != Way::Slow {
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

/// The address of the table entry for `look`.
fn entry(look: Look) -> u64 {
    let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = entries.get_or_insert_default();
    *entries.entry(look).or_insert_with_key(|(name, doc, (function, flags))| {
        let leaked = |text: &CString| text.clone().into_raw().expose_provenance() as u64;
        let (function, flags, doc) = (*function, *flags, doc.as_ref().map_or(0, leaked));
        Method { name: leaked(name), function, flags, doc }.leak()
    })
}

/// The address of a function's trampoline; none where there is no code memory, or too
/// many functions are bound.
fn trampoline(function: Object) -> Option<u64> {
    let mut trampolines = TRAMPOLINES.lock().unwrap_or_else(PoisonError::into_inner);
    let trampolines = trampolines.get_or_insert_default();
    let known = trampolines.contains_key(&function.address());
    if !known && trampolines.len() < MOST {
        let made = runtime()?.jit.trampoline(SLOW as usize as u64, 0).ok()?;
        trampolines.insert(function.address(), made);
        IS_USED.store(true, Relaxed);
    }
    let trampoline = trampolines.get(&function.address())?;
    trampoline.set_target(target_of(function.word(CDATA_ENTRY)));
    Some(trampoline.address())
}

/// Where the trampoline of a function with this entry leads.
fn target_of(entry: u64) -> u64 {
    if entry == 0 { SLOW as usize as u64 } else { entry }
}

/// Has the built-in functions over a function follow its entry, which is a new one,
/// or null.
pub(crate) fn follow(function: Object, entry: u64) {
    if IS_USED.load(Relaxed) {
        let trampolines = TRAMPOLINES.lock().unwrap_or_else(PoisonError::into_inner);
        let of_all = trampolines.as_ref();
        if let Some(trampoline) = of_all.and_then(|all| all.get(&function.address())) {
            trampoline.set_target(target_of(entry));
        }
    }
}

/// Whether a built-in function is one of these.
pub(crate) fn is_bound(function: Object) -> bool {
    function.word(METHOD_VECTORCALL) == vectorcall as Vectorcall as usize as u64
}

/// The ctypes function that `object` is bound to; none if `bind` did not give it.
pub(crate) fn bound_to<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if !object.is_exact_instance_of::<PyCFunction>() {
        return None;
    }
    let builtin = handle(object);
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
