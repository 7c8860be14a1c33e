//! The entry points that CPython calls: the call slot, and the generic path
//! at the end of each chain of stubs.
//!
//! # Safety
//! Both are called by CPython, or by a stub, with the arguments of a call of a
//! ctypes function object: its references stay alive for the call, and the GIL
//! is held.

#![allow(unsafe_code, reason = "called by CPython with raw objects")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hotcall::Machine;
use hotcall_tracer::{Live, Plan, Recorder, Refusal, Tier, Trace};
use pyo3::ffi::{self, PyObject};
use smallvec::SmallVec;

use crate::declare::Declaration;
use crate::helpers;
use crate::hook;
use crate::layout::{self, CDATA_ENTRY};
use crate::options::Log;
use crate::raw::Object;
use crate::rules::{self, Frame};
use crate::runtime::{CallSite, INTERPRETER_CALLS, Runtime, runtime};

/// A function that CPython calls through an object's vectorcall pointer.
pub(crate) type Vectorcall = unsafe extern "C" fn(
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    kwnames: *mut PyObject,
) -> *mut PyObject;

/// A type's call slot.
pub(crate) type Call = unsafe extern "C" fn(
    this: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject;

/// The call slot of function classes: counts cold calls, which ctypes makes,
/// and sends warm functions through their entry from then on.
pub(crate) unsafe extern "C" fn tp_call(
    this: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject {
    if let Some(runtime) = runtime()
        && kwargs.is_null()
        && runtime.heat(this as u64)
        && let Some(entry) = warm_entry(runtime, this)
    {
        let items = items(args);
        // SAFETY: the arguments of this call, held by their tuple.
        return unsafe { entry(this, items.as_ptr(), items.len(), std::ptr::null_mut()) };
    }
    if let Some(runtime) = runtime() {
        runtime.count_ctypes();
    }
    // SAFETY: the arguments that CPython gave us.
    unsafe { hook::ctypes_call()(this, args, kwargs) }
}

/// The entry of a warm function, set now if it has none; none if ctypes makes
/// its calls.
fn warm_entry(runtime: &Runtime, this: *mut PyObject) -> Option<Vectorcall> {
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this as u64) };
    let site = runtime.adopt(function)?;
    if let Some(refusal) = declined(&site) {
        runtime.count_refusal(refusal);
        // SAFETY: without an entry CPython calls the call slot.
        unsafe { function.set(CDATA_ENTRY, 0) };
        return None;
    }
    let entry = entry_of(runtime, &site);
    if hook::accepts_vectorcall(function) {
        // SAFETY: an entry for objects of this class.
        unsafe { function.set(CDATA_ENTRY, entry as usize as u64) };
    }
    Some(entry)
}

/// Why ctypes makes all calls of this site, if it does.
fn declined(site: &CallSite) -> Option<Refusal> {
    match &site.declaration {
        Err(refusal) => Some(*refusal),
        Ok(_) if site.site.tier() == Tier::Declined => site.site.last_refusal(),
        Ok(_) => None,
    }
}

/// What a call of this site enters: the newest stub, or the generic path.
fn entry_of(runtime: &Runtime, site: &CallSite) -> Vectorcall {
    match site.site.head(&runtime.jit) {
        // SAFETY: stubs are compiled from traces of `generic`, and are entered
        // like it.
        Some(head) => unsafe { std::mem::transmute::<usize, Vectorcall>(head as usize) },
        None => generic,
    }
}

/// The generic path: behind the last guard of a function's stubs, or in place
/// of a stub that is not there yet.
pub(crate) unsafe extern "C" fn generic(
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    let call = Arguments { this, args, nargsf, kwnames };
    let Some(runtime) = runtime() else { return call.forward() };
    let Some(site) = runtime.site(this as u64) else {
        runtime.count_ctypes();
        return call.forward();
    };
    if let Some(newer) = newer_entry(runtime, &site, this) {
        // SAFETY: the arguments of this call; this entry leads back here only
        // when it is the one that the function has.
        return unsafe { newer(this, args, nargsf, kwnames) };
    }
    let outcome = match &site.declaration {
        Ok(declaration) => attempt(runtime, &site, declaration, &call),
        Err(refusal) => Err(*refusal),
    };
    outcome.unwrap_or_else(|refusal| {
        runtime.count_refusal(refusal);
        runtime.count_ctypes();
        call.forward()
    })
}

/// The site's entry, if the function still has an older one; it gets it now.
fn newer_entry(runtime: &Runtime, site: &CallSite, this: *mut PyObject) -> Option<Vectorcall> {
    let entry = entry_of(runtime, site);
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this as u64) };
    let current = function.word(CDATA_ENTRY);
    if current == 0 || current == entry as usize as u64 {
        return None;
    }
    // SAFETY: an entry for objects of this class.
    unsafe { function.set(CDATA_ENTRY, entry as usize as u64) };
    (entry as usize != generic as Vectorcall as usize).then_some(entry)
}

/// Makes the call by the rules, or says why ctypes makes it.
fn attempt(
    runtime: &Runtime,
    site: &Arc<CallSite>,
    declaration: &Declaration,
    call: &Arguments,
) -> Result<*mut PyObject, Refusal> {
    let outcome = match site.site.plan() {
        Plan::Decline => {
            let refusal = site.site.last_refusal();
            return Err(refusal.unwrap_or(crate::refusals::VALUE));
        }
        Plan::Interpret => interpret(runtime, declaration, call),
        Plan::Record => record(runtime, site, declaration, call),
    };
    match outcome {
        Ok(_) => {
            site.site.accept();
            if runtime.options.count {
                INTERPRETER_CALLS.fetch_add(1, Relaxed);
            }
        }
        Err(refusal) => site.site.refuse(refusal),
    }
    outcome
}

/// Reads the rules live.
fn interpret(
    runtime: &Runtime,
    declaration: &Declaration,
    call: &Arguments,
) -> Result<*mut PyObject, Refusal> {
    // SAFETY: the rules load from objects what they have tested to be there,
    // and the objects of this call stay alive until it returns.
    let mut machine = unsafe { Machine::new() };
    let mut live = Live { host: &mut machine };
    let result = rules::call(&mut live, &runtime.known, declaration, call.frame())?;
    Ok(result as *mut PyObject)
}

/// Reads the rules with the recorder, and adds a stub for what they did.
fn record(
    runtime: &Runtime,
    site: &Arc<CallSite>,
    declaration: &Declaration,
    call: &Arguments,
) -> Result<*mut PyObject, Refusal> {
    // SAFETY: as in `interpret`.
    let mut machine = unsafe { Machine::new() };
    let (mut recorder, [this, args, nargsf, kwnames]) =
        Recorder::enter(&mut machine, call.frame().words());
    let frame = Frame { this, args, nargsf, kwnames };
    let result = rules::call(&mut recorder, &runtime.known, declaration, frame)?;
    if let Some(trace) = recorder.finish(result) {
        // The foreign function's errno is for the program to see.
        helpers::keeping_errno(|| compile(runtime, site, trace));
    }
    Ok(result.word as *mut PyObject)
}

/// Adds a stub for `trace` to the site's chain.
fn compile(runtime: &Runtime, site: &CallSite, trace: Trace) {
    runtime.log(Log::Trace, || format!("{}: trace\n{trace}", site.name));
    let added = site.site.add(trace, &runtime.jit, generic as Vectorcall as usize as u64);
    runtime.log(Log::Events, || match added {
        Ok(_) => format!("{}: stub {}", site.name, site.site.shapes().len()),
        Err(refusal) => format!("{}: no stub, {refusal}", site.name),
    });
}

/// The arguments of a vectorcall.
struct Arguments {
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    kwnames: *mut PyObject,
}

impl Arguments {
    fn frame(&self) -> Frame<u64> {
        Frame {
            this: self.this as u64,
            args: self.args as u64,
            nargsf: self.nargsf as u64,
            kwnames: self.kwnames as u64,
        }
    }

    /// Lets ctypes make the call, as CPython does for a class without vectorcall.
    fn forward(&self) -> *mut PyObject {
        let Some((args, kwargs)) = self.packed() else { return std::ptr::null_mut() };
        // SAFETY: the function object that is being called.
        let class = unsafe { Object::at(self.this as u64) }.word(layout::OB_TYPE);
        let call = hook::call_behind(class);
        // SAFETY: the text is a C string.
        let entered =
            unsafe { ffi::Py_EnterRecursiveCall(c" while calling a Python object".as_ptr()) };
        let mut result = std::ptr::null_mut();
        if entered == 0 {
            // SAFETY: a function object, an exact tuple, and a dict or null.
            result = unsafe { call(self.this, args, kwargs) };
            // SAFETY: entered above.
            unsafe { ffi::Py_LeaveRecursiveCall() };
        }
        // SAFETY: `packed` made it.
        unsafe { ffi::Py_DecRef(args) };
        // SAFETY: `packed` made it; null is allowed.
        unsafe { ffi::Py_DecRef(kwargs) };
        result
    }

    /// The arguments as a tuple and a dict, null if there are no keywords;
    /// none with an exception set.
    fn packed(&self) -> Option<(*mut PyObject, *mut PyObject)> {
        let count = self.nargsf & (usize::MAX >> 1);
        // SAFETY: the GIL is held.
        let tuple = unsafe { ffi::PyTuple_New(count as isize) };
        if tuple.is_null() {
            return None;
        }
        for index in 0..count {
            let item = self.item(index);
            // SAFETY: an argument of this call.
            unsafe { ffi::Py_IncRef(item) };
            // SAFETY: a new tuple, an index within it, and a reference for it.
            unsafe { ffi::PyTuple_SetItem(tuple, index as isize, item) };
        }
        match self.keywords(count) {
            Some(kwargs) => Some((tuple, kwargs)),
            None => {
                // SAFETY: made above.
                unsafe { ffi::Py_DecRef(tuple) };
                None
            }
        }
    }

    /// The keyword arguments as a dict, null if there are none; none with an
    /// exception set.
    fn keywords(&self, count: usize) -> Option<*mut PyObject> {
        if self.kwnames.is_null() {
            return Some(std::ptr::null_mut());
        }
        // SAFETY: `kwnames` is a tuple of the keywords' names.
        let names = unsafe { ffi::PyTuple_Size(self.kwnames) };
        // SAFETY: the GIL is held.
        let kwargs = unsafe { ffi::PyDict_New() };
        if names == 0 || kwargs.is_null() {
            return (names == 0).then_some(kwargs);
        }
        for index in 0..names {
            // SAFETY: the index is within the tuple.
            let name = unsafe { ffi::PyTuple_GetItem(self.kwnames, index) };
            let value = self.item(count + index as usize);
            // SAFETY: a dict, a str and an argument of this call.
            if unsafe { ffi::PyDict_SetItem(kwargs, name, value) } != 0 {
                // SAFETY: made above.
                unsafe { ffi::Py_DecRef(kwargs) };
                return None;
            }
        }
        Some(kwargs)
    }

    fn item(&self, index: usize) -> *mut PyObject {
        // SAFETY: the caller counted the positional and keyword arguments.
        unsafe { *self.args.add(index) }
    }
}

/// The items of a call's tuple of arguments.
fn items(tuple: *mut PyObject) -> SmallVec<[*mut PyObject; 8]> {
    // SAFETY: CPython passes an exact tuple.
    let size = unsafe { ffi::PyTuple_Size(tuple) };
    // SAFETY: the index is within the tuple's size.
    (0..size).map(|index| unsafe { ffi::PyTuple_GetItem(tuple, index) }).collect()
}
