//! The setters that stand in for those of `argtypes`, `restype` and `errcheck`:
//! an assignment ends what is known of a function.
//!
//! # Safety
//! As for the module above.

use std::ffi::c_int;
use std::sync::Arc;

use hotcall_tracer::Field;

use super::{Original, clear_entry};
use crate::layout::{self, CDATA_ENTRY};
use crate::raw::Object;
use crate::runtime::{CallSite, Runtime, runtime};

pub(super) type Setter = unsafe extern "C-unwind" fn(this: u64, value: u64, closure: u64) -> c_int;

static SET_ARGTYPES: Original = Original::new();
static SET_RESTYPE: Original = Original::new();
static SET_ERRCHECK: Original = Original::new();

/// Each of them, with what it stands in for.
pub(super) static ALL: [(&str, &Original, Setter); 3] = [
    ("argtypes", &SET_ARGTYPES, set_argtypes),
    ("restype", &SET_RESTYPE, set_restype),
    ("errcheck", &SET_ERRCHECK, set_errcheck),
];

/// Runs a setter of ctypes between the end of the old declaration and the
/// earliest moment at which a new one may be read. A value that is there already,
/// as in programs that declare a function before each call, ends nothing.
///
/// `field` is where a function keeps what is assigned, unless it keeps something made
/// of it.
///
/// # Safety
/// As for the setter itself.
unsafe fn set(
    original: &Original,
    field: Option<Field>,
    this: u64,
    value: u64,
    closure: u64,
) -> c_int {
    // SAFETY: kept from the table in which ours stands.
    let setter = unsafe { std::mem::transmute::<usize, Setter>(original.address() as usize) };
    // SAFETY: the setter's object is a function object.
    let function = unsafe { Object::at(this) };
    // Another interpreter shares the table, but its classes are not ours.
    let ours = function.class().word(layout::TYPE_VECTORCALL_OFFSET) == CDATA_ENTRY.offset as u64;
    let Some(runtime) = runtime().filter(|_| ours) else {
        // SAFETY: the arguments that CPython gave us.
        return unsafe { setter(this, value, closure) };
    };
    runtime.changing(this);
    let is_there = field.is_some_and(|field| keeps(function, field, value));
    let site = runtime.site(this).filter(|_| is_there);
    let before = assigned(function);
    if !is_there {
        redeclare(runtime, this);
    }
    // SAFETY: the arguments that CPython gave us.
    let status = unsafe { setter(this, value, closure) };
    // Python code may have run, and have declared the function anew meanwhile.
    let address = |site: &Option<Arc<CallSite>>| site.as_ref().map(Arc::as_ptr);
    let is_same = || address(&runtime.site(this)) == address(&site) && assigned(function) == before;
    if !is_there || !is_same() {
        redeclare(runtime, this);
    }
    runtime.changed(this);
    status
}

/// Ends the declaration of a function, and what calls of it enter.
fn redeclare(runtime: &Runtime, function: u64) {
    runtime.redeclare(function);
    clear_entry(function);
}

/// Whether a function stays as it is where this value is assigned to a field. ctypes
/// looks the checker of results up anew, and gives an older one up, which may run
/// Python code while calls would still refer to it.
fn keeps(function: Object, field: Field, value: u64) -> bool {
    value != 0 && function.word(field) == value && function.word(layout::FUNC_CHECKER) == 0
}

/// What assignments to `restype` and `errcheck` leave in a function object.
fn assigned(function: Object) -> [u64; 3] {
    [layout::FUNC_RESTYPE, layout::FUNC_CHECKER, layout::FUNC_ERRCHECK]
        .map(|field| function.word(field))
}

/// Defines the setter that stands in for an attribute's own.
macro_rules! setter {
    ($name:ident, $original:ident, $field:expr) => {
        unsafe extern "C-unwind" fn $name(this: u64, value: u64, closure: u64) -> c_int {
            // SAFETY: the arguments that CPython gave us.
            unsafe { set(&$original, $field, this, value, closure) }
        }
    };
}

setter!(set_argtypes, SET_ARGTYPES, None);
setter!(set_restype, SET_RESTYPE, Some(layout::FUNC_RESTYPE));
setter!(set_errcheck, SET_ERRCHECK, Some(layout::FUNC_ERRCHECK));
