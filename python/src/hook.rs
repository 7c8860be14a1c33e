//! The hook into ctypes, in place and, but for a flag of its classes, invisible
//! from Python: the call slot of
//! `_ctypes.CFuncPtr` and its subclasses, a vectorcall pointer in the padding
//! of each object, and the setters of `argtypes`, `restype` and `errcheck`.
//!
//! # Safety
//! Each patched slot keeps its C signature, and each of our functions ends in
//! the one that it replaced. The patches are made and unmade with the GIL held.

#![allow(unsafe_code, reason = "patches type slots")]

mod place;
mod setters;
mod stock;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub(crate) use place::{Original, Place};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use stock::derives;
pub(crate) use stock::{is_function, stock, with_subclasses};

use crate::audit;
use crate::boxes;
use crate::callbacks::thunks::Thunks;
use crate::data;
use crate::described;
use crate::enter::{Call, tp_call};
use crate::entries;
use crate::helpers::keeping_exception;
use crate::instance;
use crate::kinds::handle;
use crate::layout::{self, CDATA_ENTRY};
use crate::make::{self, Named};
use crate::raw::{Object, Owned};
use crate::runtime::{Runtime, runtime};

/// A type's flag that its instances have a vectorcall pointer.
pub(crate) const HAVE_VECTORCALL: u64 = 1 << 11;

pub(crate) type Destructor = unsafe extern "C-unwind" fn(u64);
pub(crate) type Visit = unsafe extern "C-unwind" fn(object: u64, closure: u64) -> c_int;
pub(crate) type Traverse =
    unsafe extern "C-unwind" fn(this: u64, visit: Visit, closure: u64) -> c_int;
type Inquiry = unsafe extern "C-unwind" fn(u64) -> c_int;

static CALL: Original = Original::new();
static DEALLOC: Original = Original::new();
static TRAVERSE: Original = Original::new();
static CLEAR: Original = Original::new();

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Whether the hook is in place.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Relaxed)
}

/// ctypes' own call slot.
pub(crate) fn ctypes_call() -> Call {
    // SAFETY: set from `CFuncPtr.tp_call` before `tp_call` could be called.
    unsafe { std::mem::transmute::<usize, Call>(CALL.address() as usize) }
}

/// What makes a call of an object of `class` where the rules do not: the
/// class's own call slot, or ctypes' if that is ours.
pub(crate) fn call_behind(class: u64) -> Call {
    // SAFETY: the class of an object that is being called.
    let class = unsafe { Object::at(class) };
    if is_hooked(class) {
        return ctypes_call();
    }
    // SAFETY: the call slot of a callable class.
    unsafe { std::mem::transmute::<usize, Call>(class.word(layout::TYPE_CALL) as usize) }
}

/// Whether the call slot of a class is ours.
pub(crate) fn is_hooked(class: Object) -> bool {
    class.word(layout::TYPE_CALL) == tp_call as Call as usize as u64
}

/// Whether CPython will call this function through its vectorcall pointer;
/// sets its class's flag if only that is missing.
pub(crate) fn accepts_vectorcall(function: Object) -> bool {
    let class = function.class();
    let ours =
        is_hooked(class) && class.word(layout::TYPE_VECTORCALL_OFFSET) == CDATA_ENTRY.offset as u64;
    if ours && class.word(layout::TYPE_FLAGS) & HAVE_VECTORCALL == 0 {
        set_flag(class, true);
    }
    ours
}

/// Sets or clears the flag that instances have a vectorcall pointer. CPython
/// looks at it, and at the slots, anew at each call, so the class keeps its
/// version: from 3.13 on a class that loses a thousand gets no more.
fn set_flag(class: Object, on: bool) {
    let flags = class.word(layout::TYPE_FLAGS);
    let flags = if on { flags | HAVE_VECTORCALL } else { flags & !HAVE_VECTORCALL };
    // SAFETY: with the flag, the offset names a word that is an entry or null.
    unsafe { class.set(layout::TYPE_FLAGS, flags) };
}

/// The `__name__` in a function's own dictionary, or else its class's name.
pub(crate) fn name(function: Object) -> String {
    own_name(function).unwrap_or_else(|| described::class(function))
}

/// The `__name__` in a function's own dictionary, if it is there. An exception that is
/// set, as behind a call that has failed, stays.
pub(crate) fn own_name(function: Object) -> Option<String> {
    // SAFETY: functions are called, and asked for their names, with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let object = function.address() as *mut PyObject;
    keeping_exception(py, || {
        // SAFETY: an object with a dictionary; the null context is the usual one.
        let dict = unsafe { ffi::PyObject_GenericGetDict(object, std::ptr::null_mut()) };
        // SAFETY: a new reference or null with an exception set.
        let dict = unsafe { Bound::from_owned_ptr_or_err(py, dict) };
        let dict = dict.ok()?.cast_into::<PyDict>().ok()?;
        dict.get_item(make::text(py, "__name__").ok()?).ok()??.extract().ok()
    })
}

/// Puts the hook in place; nothing happens if it is.
///
/// # Errors
/// What a look-up in `_ctypes` raised.
pub(crate) fn install(py: Python<'_>, runtime: &Runtime) -> PyResult<()> {
    if is_installed() {
        return Ok(());
    }
    // Without the hook nobody says when a function dies.
    drop(runtime.forget_all(|_| {}));
    entries::clear_all();
    let base = stock(py)?.function.bind(py).as_any();
    let (patches, classes) = prepare(py, runtime)?;
    let thunks = thunks(py, runtime)?;
    audit::look(py)?;
    // Another thread may have done it meanwhile.
    if is_installed() {
        return Ok(());
    }
    // From here on nothing fails, and no Python code runs.
    patches.keep_originals();
    patches.apply();
    let functions = classes.iter().map(handle).filter(|&class| derives(class, handle(base)));
    functions.for_each(hook_class);
    if let Some((thunks, existing)) = &thunks {
        thunks.install(runtime, classes.iter().map(handle), existing);
    }
    data::start(classes.iter().map(handle));
    INSTALLED.store(true, Relaxed);
    Ok(())
}

/// Puts everything back; nothing happens if the hook is not in place.
///
/// # Errors
/// What a look-up in `_ctypes` raised.
pub(crate) fn uninstall(py: Python<'_>, runtime: &Runtime) -> PyResult<()> {
    if !is_installed() {
        return Ok(());
    }
    let (patches, classes) = prepare(py, runtime)?;
    let thunks = thunks(py, runtime)?;
    // Another thread may have done it meanwhile.
    if !is_installed() {
        return Ok(());
    }
    // From here on nothing fails, and no Python code runs. Functions lose
    // their entries while those that die are still taken out of the table.
    INSTALLED.store(false, Relaxed);
    let forgotten = runtime.forget_all(clear_entry);
    classes.iter().for_each(|class| unhook_class(handle(class)));
    patches.undo();
    data::stop(classes.iter().map(handle));
    boxes::clear();
    if let Some((thunks, existing)) = &thunks {
        thunks.uninstall(runtime, classes.iter().map(handle), existing);
    }
    drop(forgotten);
    Ok(())
}

/// What is to be patched: the places of ctypes, and all classes of its instances,
/// functions among them, and all metaclasses, which are held so that none dies meanwhile.
fn prepare<'py>(py: Python<'py>, runtime: &Runtime) -> PyResult<(Patches, Vec<Bound<'py, PyAny>>)> {
    let class = stock(py)?.function.bind(py);
    let mut others = data::places(py, runtime)?;
    others.extend(audit::places(py)?);
    let patches = Patches::of(class, others)?;
    let mut roots = vec![data::root(py)?];
    roots.extend(instance::metaclasses(py)?.into_iter().map(Bound::into_any));
    Ok((patches, with_subclasses(roots)?))
}

/// The thunks of callbacks, unless these are left to ctypes.
fn thunks(py: Python<'_>, runtime: &Runtime) -> PyResult<Option<(Thunks, Vec<Owned>)>> {
    match &runtime.known.thunks {
        Ok(thunks) => Ok(Some((*thunks, thunks.existing(py)?))),
        Err(_) => Ok(None),
    }
}

/// Hooks a class of functions. One with a `__call__` of its own gets the offset alone,
/// as if it had been derived now: its functions may get another class, and it another
/// `__call__`.
fn hook_class(class: Object) {
    if class.word(layout::TYPE_VECTORCALL_OFFSET) != 0 {
        return;
    }
    // SAFETY: the hole is a word in every ctypes object, null until we set it.
    unsafe { class.set(layout::TYPE_VECTORCALL_OFFSET, CDATA_ENTRY.offset as u64) };
    if class.word(layout::TYPE_CALL) == CALL.address() {
        // SAFETY: our slot has the same signature and ends in the one it replaces.
        unsafe { class.set(layout::TYPE_CALL, tp_call as Call as usize as u64) };
        set_flag(class, true);
    }
}

fn unhook_class(class: Object) {
    if class.word(layout::TYPE_VECTORCALL_OFFSET) != CDATA_ENTRY.offset as u64 {
        return;
    }
    set_flag(class, false);
    // SAFETY: without the flag nobody reads the offset.
    unsafe { class.set(layout::TYPE_VECTORCALL_OFFSET, 0) };
    if class.word(layout::TYPE_CALL) == tp_call as Call as usize as u64 {
        // SAFETY: the slot as it was.
        unsafe { class.set(layout::TYPE_CALL, CALL.address()) };
    }
}

/// The places outside the classes' own slots that the hook writes to.
struct Patches(Vec<Place>);

impl Patches {
    /// Those of function objects, and others.
    fn of(class: &Bound<'_, PyType>, others: Vec<Place>) -> PyResult<Patches> {
        let (py, dict) = (class.py(), class.attr("__dict__")?);
        // New subclasses take their slot from the slot wrapper.
        let wrapper = handle(&dict.item("__call__")?);
        let tp_call = tp_call as Call as usize as u64;
        let tp_dealloc = tp_dealloc as Destructor as usize as u64;
        let tp_traverse = tp_traverse as Traverse as usize as u64;
        let tp_clear = tp_clear as Inquiry as usize as u64;
        let class = handle(class.as_any());
        let mut places = vec![
            Place::new(wrapper, layout::WRAPPER_WRAPPED, &CALL, tp_call),
            Place::new(class, layout::TYPE_DEALLOC, &DEALLOC, tp_dealloc),
            Place::new(class, layout::TYPE_TRAVERSE, &TRAVERSE, tp_traverse),
            Place::new(class, layout::TYPE_CLEAR, &CLEAR, tp_clear),
        ];
        for (name, original, ours) in setters::ALL {
            let table = handle(&dict.item(name)?).object(layout::GETSET_DEF);
            let missing = || make::error::<PyRuntimeError>(py, &format!("{name} has no C table"));
            let table = table.ok_or_else(missing)?;
            places.push(Place::new(table, layout::GETSET_SET, original, ours as usize as u64));
        }
        places.extend(others);
        Ok(Patches(places))
    }

    fn keep_originals(&self) {
        for Place { object, field, original, ours } in &self.0 {
            original.keep(object.word(*field), *ours);
        }
    }

    fn apply(&self) {
        for Place { object, field, ours, .. } in &self.0 {
            // SAFETY: what the place was made for.
            unsafe { object.set(*field, *ours) };
        }
    }

    fn undo(&self) {
        for Place { object, field, original, .. } in &self.0 {
            // SAFETY: what stood there.
            unsafe { object.set(*field, original.address()) };
        }
    }
}

/// Takes the entry of the function at this address away.
pub(crate) fn clear_entry(function: u64) {
    // SAFETY: functions leave the runtime's table before they are freed.
    entries::clear(unsafe { Object::at(function) });
}

/// Forgets what is known of all functions.
pub(crate) fn forget_all() {
    if let Some(runtime) = runtime() {
        runtime.forget_all(clear_entry);
    }
}

/// Forgets what is known of a function whose declaration is gone.
pub(crate) fn forget(this: u64) {
    if let Some(runtime) = runtime()
        && runtime.forget(this)
    {
        clear_entry(this);
    }
}

unsafe extern "C-unwind" fn tp_dealloc(this: u64) {
    forget(this);
    // SAFETY: kept from the slot that this function replaced.
    let original = unsafe { std::mem::transmute::<usize, Destructor>(DEALLOC.address() as usize) };
    // SAFETY: the argument that CPython gave us.
    unsafe { original(this) };
}

/// Shows the garbage collector a function's relays too.
unsafe extern "C-unwind" fn tp_traverse(this: u64, visit: Visit, closure: u64) -> c_int {
    let mut status = 0;
    if let Some(runtime) = runtime() {
        runtime.visit_relays(this, |relay| {
            if status == 0 {
                // SAFETY: the collector's own function, closure, and an object.
                status = unsafe { visit(relay, closure) };
            }
        });
    }
    if status != 0 {
        return status;
    }
    // SAFETY: kept from the slot that this function replaced.
    let original = unsafe { std::mem::transmute::<usize, Traverse>(TRAVERSE.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(this, visit, closure) }
}

unsafe extern "C-unwind" fn tp_clear(this: u64) -> c_int {
    forget(this);
    // SAFETY: kept from the slot that this function replaced.
    let original = unsafe { std::mem::transmute::<usize, Inquiry>(CLEAR.address() as usize) };
    // SAFETY: the argument that CPython gave us.
    unsafe { original(this) }
}
