//! The call slot of function classes: counts cold calls, which ctypes makes, and
//! sends warm functions through their entry from then on.
//!
//! # Safety
//! As for `enter`.

#![allow(unsafe_code, reason = "is called by CPython with raw objects")]

use super::{Style, Vectorcall, warm_entry, warm_site, watch};
use crate::capi;
use crate::entries;
use crate::hook;
use crate::known::Known;
use crate::layout;
use crate::raw::Object;
use crate::refusals;
use crate::runtime::{Runtime, runtime};

/// The call slot.
pub(crate) unsafe extern "C-unwind" fn tp_call(this: u64, args: u64, kwargs: u64) -> u64 {
    let Some(runtime) = runtime() else {
        // SAFETY: the arguments that CPython gave us.
        return unsafe { hook::ctypes_call()(this, args, kwargs) };
    };
    match runtime.is_watched() {
        true => watch::noted(runtime, this, || (), |()| call_slot(runtime, this, args, kwargs)),
        false => call_slot(runtime, this, args, kwargs),
    }
}

/// What the call slot does.
#[inline]
fn call_slot(runtime: &Runtime, this: u64, args: u64, kwargs: u64) -> u64 {
    let entry = match hook::is_installed() {
        true if has_no_keywords(kwargs) => entry_in_slot(runtime, this, args),
        true => {
            refuse_keywords(runtime, this);
            None
        }
        // A class that was not found when the slots of the others were put back.
        false => None,
    };
    if let Some((entry, style)) = entry {
        let (items, count) = items(&runtime.known, args);
        let last = if style == Style::Tuple { args } else { 0 };
        // SAFETY: the arguments of this call, held by their tuple.
        return unsafe { entry(this, items, count, last) };
    }
    runtime.count_ctypes();
    // SAFETY: the arguments that CPython gave us.
    unsafe { hook::ctypes_call()(this, args, kwargs) }
}

/// What a call without keywords that came through the call slot enters; none if
/// ctypes makes it.
fn entry_in_slot(runtime: &Runtime, this: u64, args: u64) -> Option<(Vectorcall, Style)> {
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this) };
    if let Some(entry) = entries::kept(this)
        && hook::is_hooked(function.class())
        && runtime.checks.is_none()
    {
        return Some((entry, Style::Tuple));
    }
    if !runtime.is_warm(this) {
        return None;
    }
    let (entry, style) = warm_entry(runtime, this)?;
    if runtime.checks.is_none() {
        return Some((entry, style));
    }
    watch::check_in_slot(runtime, this, args, style);
    // Checking may have run other threads: the entry is looked up behind it.
    warm_entry(runtime, this)
}

/// Counts a call with keyword arguments, which ctypes makes.
#[cold]
fn refuse_keywords(runtime: &Runtime, this: u64) {
    if runtime.is_warm(this)
        && let Some(site) = warm_site(runtime, this)
    {
        site.site.refuse(refusals::KEYWORDS);
        runtime.count_refusal(refusals::KEYWORDS);
    }
}

/// Whether a call's keyword arguments, null or a dict, are none. A wrapper with
/// `**keywords` passes an empty dict.
fn has_no_keywords(kwargs: u64) -> bool {
    // SAFETY: CPython passes an exact dict.
    kwargs == 0 || unsafe { capi::PyDict_Size(kwargs) } == 0
}

/// Where the items of a call's tuple of arguments are, and how many.
pub(super) fn items(known: &Known, tuple: u64) -> (u64, u64) {
    // SAFETY: CPython passes an exact tuple.
    let tuple = unsafe { Object::at(tuple) };
    let first = tuple.address().wrapping_add_signed(known.layout.tuple_first.offset.into());
    (first, tuple.word(layout::TUPLE_SIZE))
}
