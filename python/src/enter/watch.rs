//! Watches calls: where they are timed or checked, functions keep this entry,
//! which goes on to their newest stub.
//!
//! # Safety
//! As for `enter`.

#![allow(unsafe_code, reason = "is called by CPython with raw objects")]

use super::slot::items;
use super::{Style, entry_of, warm_entry};
use crate::detour;
use crate::enter::Vectorcall;
use crate::layout::{CDATA_POINTER, MEMORY_WORD};
use crate::profile::Timing;
use crate::raw::Object;
use crate::rules::Frame;
use crate::runtime::{Runtime, runtime};

/// Makes a call of `this` by `call`, and times it if calls are timed. The calls
/// of relays are parts of others.
pub(super) fn timed(runtime: &Runtime, this: u64, call: impl FnOnce() -> u64) -> u64 {
    let Some(profile) = &runtime.profile else { return call() };
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this) };
    if detour::is_relay(function) {
        return call();
    }
    let target = function.object(CDATA_POINTER).map_or(0, |memory| memory.word(MEMORY_WORD));
    let timing = Timing::start();
    let result = call();
    // The caller holds the function: it is alive.
    profile.add(timing, function, target, runtime.site(this).as_ref());
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
pub(super) fn check_warm(runtime: &Runtime, this: u64, tuple: u64) {
    if let Some((_, style)) = warm_entry(runtime, this) {
        let kwnames = if style == Style::Tuple { tuple } else { 0 };
        let (args, nargsf) = items(&runtime.known, tuple);
        check(runtime, &Frame { this, args, nargsf, kwnames });
    }
}

/// The entry of functions whose calls are watched.
pub(super) unsafe extern "C-unwind" fn watched(
    this: u64,
    args: u64,
    nargsf: u64,
    kwnames: u64,
) -> u64 {
    if let Some(runtime) = runtime() {
        check(runtime, &Frame { this, args, nargsf, kwnames });
    }
    // Checking may have run other threads: the site is looked up behind it.
    let site = runtime().and_then(|runtime| Some((runtime, runtime.site(this)?)));
    let Some((runtime, site)) = site else {
        let generic: Vectorcall = Style::Vectorcall.generic();
        // SAFETY: the arguments of this call.
        return unsafe { generic(this, args, nargsf, kwnames) };
    };
    let entry = entry_of(&site);
    drop(site);
    // SAFETY: the arguments of this call; stubs are never freed.
    timed(runtime, this, || unsafe { entry(this, args, nargsf, kwnames) })
}
