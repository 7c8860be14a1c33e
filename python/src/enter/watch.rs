//! Watches calls: where they are timed or checked, functions keep this entry,
//! which goes on to their newest stub, and notes are taken of each call.
//!
//! # Safety
//! As for `enter`.

#![allow(unsafe_code, reason = "is called by CPython with raw objects")]

use super::slot::items;
use super::{Style, entry_of};
use crate::detour;
use crate::layout::{CDATA_POINTER, MEMORY_WORD};
use crate::profile::Notes;
use crate::raw::Object;
use crate::rules::Frame;
use crate::runtime::{Runtime, runtime};

/// Makes a call of `this` by `call`, with what `prepare` gives, and takes notes of it.
/// The calls of relays are parts of others.
pub(super) fn noted<T>(
    runtime: &Runtime,
    this: u64,
    prepare: impl FnOnce() -> T,
    call: impl FnOnce(T) -> u64,
) -> u64 {
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this) };
    if detour::is_relay(function) {
        return call(prepare());
    }
    let notes = Notes::start();
    let prepared = prepare();
    let target = function.object(CDATA_POINTER).map_or(0, |memory| memory.word(MEMORY_WORD));
    notes.begin();
    let result = call(prepared);
    let (frame, whole) = notes.stop();
    if let Some(checks) = &runtime.checks {
        checks.count(&frame);
    }
    if let Some(profile) = &runtime.profile {
        // The caller holds the function: it is alive.
        profile.add((&frame, whole), function, target, runtime.site(this).as_ref());
    }
    result
}

/// Checks a call that is about to be made, if calls are checked.
pub(super) fn check(runtime: &Runtime, call: &Frame<u64>) {
    if let Some(checks) = &runtime.checks
        && let Some(site) = runtime.site(call.this)
    {
        // SAFETY: the function object that is being called.
        let function = unsafe { Object::at(call.this) };
        detour::keep_aim(function, || checks.call(runtime, &site, call));
    }
}

/// Checks a call that came through the call slot, with its tuple of arguments.
pub(super) fn check_in_slot(runtime: &Runtime, this: u64, tuple: u64, style: Style) {
    let kwnames = if style == Style::Tuple { tuple } else { 0 };
    let (args, nargsf) = items(&runtime.known, tuple);
    check(runtime, &Frame { this, args, nargsf, kwnames });
}

/// The entry of functions whose calls are watched.
pub(super) unsafe extern "C-unwind" fn watched(
    this: u64,
    args: u64,
    nargsf: u64,
    kwnames: u64,
) -> u64 {
    let generic = Style::Vectorcall.generic();
    let Some(runtime) = runtime() else {
        // SAFETY: the arguments of this call.
        return unsafe { generic(this, args, nargsf, kwnames) };
    };
    let prepare = || {
        check(runtime, &Frame { this, args, nargsf, kwnames });
        // Checking may have run other threads: the site is looked up behind it.
        runtime.site(this).map_or(generic, |site| entry_of(&site))
    };
    // SAFETY: the arguments of this call; stubs are never freed.
    noted(runtime, this, prepare, |entry| unsafe { entry(this, args, nargsf, kwnames) })
}
