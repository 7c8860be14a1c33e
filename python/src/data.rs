//! What programs do around their calls: fields of structures, `byref`, and the
//! functions of a library, made faster in place.
//!
//! Each function here stands in for one of ctypes, for the most common
//! arguments alone, and gives what that would give. All other arguments, and
//! all errors, go to the function that it stands in for.
//!
//! # Safety
//! CPython calls these functions as it would call ctypes' own, with the GIL
//! held and objects that stay alive.

#![allow(unsafe_code, reason = "reads ctypes objects by layout row")]

mod byref;
mod fields;
mod libraries;

use std::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use pyo3::prelude::*;

use crate::capi;
use crate::hook::Place;
use crate::layout::{self, Layout};
use crate::raw::Object;
use crate::runtime::Runtime;

/// What all functions of this module know.
struct Data {
    layout: Layout,
    /// `_ctypes._CData`: what is to be an instance of.
    base: u64,
    int: u64,
    float: u64,
}

/// It is made once and lives as long as the process.
static DATA: AtomicPtr<Data> = AtomicPtr::new(std::ptr::null_mut());

/// Classes of instances of ctypes, by a hash of their addresses, with their
/// versions. No two classes ever have the same version.
static CLASSES: [(AtomicU64, AtomicU32); 256] =
    [const { (AtomicU64::new(0), AtomicU32::new(0)) }; 256];

#[inline(always)]
fn data() -> Option<&'static Data> {
    // SAFETY: null, or what `places` has leaked.
    unsafe { DATA.load(Acquire).as_ref() }
}

/// What is to be patched, if this interpreter is as expected.
///
/// # Errors
/// What a look-up raised.
pub(crate) fn places(py: Python<'_>, runtime: &Runtime) -> PyResult<Vec<Place>> {
    if !runtime.options.data {
        return Ok(Vec::new());
    }
    if data().is_none()
        && let Some(made) = read(py, runtime)?
    {
        DATA.store(Box::leak(Box::new(made)), Release);
    }
    let mut places = Vec::new();
    if data().is_some() {
        places.extend(fields::places(py)?);
        places.extend(byref::places(py)?);
    }
    places.extend(libraries::places(py)?);
    Ok(places)
}

/// Whether fields and references are made faster here.
pub(crate) fn is_on() -> bool {
    data().is_some()
}

/// None where a row does not hold.
fn read(py: Python<'_>, runtime: &Runtime) -> PyResult<Option<Data>> {
    let layout = &runtime.known.layout;
    let module = py.import("_ctypes")?;
    let simple = module.getattr("_SimpleCData")?;
    let base = simple.getattr("__base__")?.as_ptr() as u64;
    if !fields::rows_hold(py)? || !byref::rows_hold(py, layout)? {
        return Ok(None);
    }
    let builtins = py.import("builtins")?;
    Ok(Some(Data {
        layout: layout.clone(),
        base,
        int: builtins.getattr("int")?.as_ptr() as u64,
        float: builtins.getattr("float")?.as_ptr() as u64,
    }))
}

impl Data {
    /// Whether an object is an instance of ctypes.
    #[inline]
    fn is_instance(&self, object: Object) -> bool {
        let address = object.word(layout::OB_TYPE);
        // SAFETY: the class of an object that is alive.
        let class = unsafe { Object::at(address) };
        let version = class.word(layout::TYPE_VERSION) as u32;
        let (known, of) = &CLASSES[(address >> 5) as usize % CLASSES.len()];
        if known.load(Relaxed) == address && of.load(Relaxed) == version && version != 0 {
            return true;
        }
        self.learn(address, version)
    }

    /// The same of its class.
    #[cold]
    fn learn(&self, class: u64, version: u32) -> bool {
        // SAFETY: two classes.
        let derives = unsafe { capi::PyType_IsSubtype(class, self.base) } != 0;
        if derives {
            let (known, of) = &CLASSES[(class >> 5) as usize % CLASSES.len()];
            known.store(class, Relaxed);
            of.store(version, Relaxed);
        }
        derives
    }
}
