//! What programs do around their calls: fields of structures, items of arrays, the
//! instances that these and calls of classes give, `byref`, and the functions of a
//! library, made faster in place.
//!
//! Each function here stands in for one of ctypes, for the most common
//! arguments alone, and gives what that would give. All other arguments, and
//! all errors, go to the function that it stands in for.
//!
//! # Safety
//! CPython calls these functions as it would call ctypes' own, with the GIL
//! held and objects that stay alive.

#![allow(unsafe_code, reason = "reads ctypes objects by layout row")]

mod access;
mod byref;
mod constructors;
mod fields;
pub(crate) mod instances;
mod items;
mod kept;
mod libraries;

use std::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};

use pyo3::prelude::*;

use crate::capi;
use crate::hook::Place;
use crate::layout::{self, Int, Layout};
use crate::make::{self, Named};
use crate::raw::Object;
use crate::runtime::Runtime;
use crate::samples;
use crate::table::{Seen, Table};

/// What all functions of this module know.
struct Data {
    layout: Layout,
    /// `_ctypes._CData`: what is to be an instance of.
    base: u64,
    int: u64,
    float: u64,
    slice: u64,
    none: u64,
}

/// It is made once and lives as long as the process.
static DATA: AtomicPtr<Data> = AtomicPtr::new(std::ptr::null_mut());

/// The classes that were seen whose instances are those of ctypes.
static DERIVED: Table<Seen, 256> = Table::new();

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
        samples::free(py)?;
    }
    let mut places = Vec::new();
    if let Some(data) = data() {
        places.extend(fields::places(py)?);
        places.extend(byref::places(py)?);
        places.extend(items::places(py)?);
        if data.adopts() {
            places.extend(constructors::places(py)?);
            places.extend(instances::dying::places(py, data)?);
        }
        places.extend(instances::derived::places(py)?);
    }
    places.extend(libraries::places(py)?);
    Ok(places)
}

/// The class of all instances of ctypes, `_ctypes._CData`.
///
/// # Errors
/// What the look-up raised.
pub(crate) fn root(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    make::import(py, "_ctypes")?.attr("_SimpleCData")?.attr("__base__")
}

/// Patches what each class has for itself, of these classes and metaclasses, when
/// all places are patched; more is patched while it is used.
pub(crate) fn start(classes: impl Iterator<Item = Object>) {
    if let Some(data) = data() {
        instances::switch(data.adopts());
        classes.for_each(|class| {
            items::patch(class, true);
            instances::derived::patch(class, true);
        });
    }
}

/// Puts that back.
pub(crate) fn stop(classes: impl Iterator<Item = Object>) {
    instances::switch(false);
    for class in classes {
        items::patch(class, false);
        instances::derived::patch(class, false);
        constructors::put_back(class);
        instances::put_back(class);
    }
    access::forget();
    byref::clear();
}

/// Whether fields and references are made faster here.
pub(crate) fn is_on() -> bool {
    data().is_some()
}

/// None where a row does not hold.
fn read(py: Python<'_>, runtime: &Runtime) -> PyResult<Option<Data>> {
    let layout = &runtime.known.layout;
    let base = root(py)?.as_ptr() as u64;
    let rows_hold = fields::rows_hold(py)?
        && byref::rows_hold(py, layout)?
        && instances::rows_hold(py)?
        && instances::derived::rows_hold(py)?
        && items::rows_hold(py)?
        && constructors::rows_hold(py)?;
    if !rows_hold {
        return Ok(None);
    }
    let builtins = make::import(py, "builtins")?;
    Ok(Some(Data {
        layout: layout.clone(),
        base,
        int: builtins.attr("int")?.as_ptr() as u64,
        float: builtins.attr("float")?.as_ptr() as u64,
        slice: builtins.attr("slice")?.as_ptr() as u64,
        none: py.None().as_ptr() as u64,
    }))
}

impl Data {
    /// Whether classes are adopted (`instances`), and so called without their slot.
    fn adopts(&self) -> bool {
        !self.layout.compares_destructors
    }

    /// Whether an object is an instance of ctypes.
    #[inline]
    fn is_instance(&self, object: Object) -> bool {
        let class = object.class();
        let is_known = DERIVED.find(class.address()).is_some_and(|known| known.is(class));
        is_known || self.learn(class)
    }

    /// The value of an exact int of one digit.
    #[inline(always)]
    fn small_int(&self, object: Object) -> Option<i64> {
        if object.word(layout::OB_TYPE) != self.int {
            return None;
        }
        let size = object.word(layout::INT_SIZE);
        let digit = object.word(layout::INT_DIGIT);
        match self.layout.int {
            Int::Signed if size.wrapping_add(1) < 3 => Some(size.wrapping_mul(digit) as i64),
            Int::Tagged if size < 16 => Some(1_i64.wrapping_sub(size as i64 & 3) * digit as i64),
            _ => None,
        }
    }

    /// Whether a class derives from that of all instances.
    #[cold]
    fn learn(&self, class: Object) -> bool {
        // SAFETY: two classes.
        let derives = unsafe { capi::PyType_IsSubtype(class.address(), self.base) } != 0;
        if derives {
            DERIVED.room(class.address()).see(class);
        }
        derives
    }
}
