//! The entry points that CPython calls: the call slot (`slot`), and the generic
//! path at the end of each chain of stubs.
//!
//! A thread that CPython ends, at finalisation, is unwound through whatever
//! it is in. So all that CPython calls here, and all that is called from here,
//! is `C-unwind`.
//!
//! # Safety
//! Both are called by CPython, or by a stub, with the arguments of a call of a
//! ctypes function object: its references stay alive for the call, and the GIL
//! is held.

#![allow(unsafe_code, reason = "called by CPython with raw objects")]

mod compile;
mod forward;
mod learn;
mod slot;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hotcall::Machine;
use hotcall_tracer::{Live, Plan, Recorder, Refusal, Tier};
use pyo3::Python;

use self::compile::compile;
pub(crate) use self::forward::call_ctypes;
use self::forward::forward;
use self::learn::learn;
pub(crate) use self::slot::tp_call;
use crate::declare::Declaration;
use crate::described;
use crate::detour::{self, Key};
use crate::entries;
use crate::errno;
use crate::gil::Policy;
use crate::heat;
use crate::helpers;
use crate::hook;
use crate::options::Log;
use crate::profile::{self, Maker};
use crate::raw::Object;
use crate::refusals;
use crate::rules::{self, Frame, Made, Unmade};
use crate::runtime::{CallSite, INTERPRETER_CALLS, Runtime, runtime};

/// A function that CPython calls through an object's vectorcall pointer.
pub(crate) type Vectorcall =
    unsafe extern "C-unwind" fn(this: u64, args: u64, nargsf: u64, kwnames: u64) -> u64;

/// A type's call slot.
pub(crate) type Call = unsafe extern "C-unwind" fn(this: u64, args: u64, kwargs: u64) -> u64;

/// What the last word is that an entry gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// The names of keyword arguments, or null.
    Vectorcall,
    /// The tuple of arguments, for `errcheck`. CPython never enters such a
    /// function but through the call slot.
    Tuple,
}

impl Style {
    /// The style of a site's entries.
    fn of(site: &CallSite) -> Style {
        match &site.declaration {
            Ok(declaration) if declaration.errcheck.is_some() => Style::Tuple,
            _ => Style::Vectorcall,
        }
    }

    /// The generic path for entries of this style.
    fn generic(self) -> Vectorcall {
        match self {
            Style::Vectorcall => generic,
            Style::Tuple => generic_with_tuple,
        }
    }
}

/// The entry of a warm function, set now if it has none; none if ctypes makes
/// its calls.
fn warm_entry(runtime: &Runtime, this: u64) -> Option<(Vectorcall, Style)> {
    let site = warm_site(runtime, this)?;
    let entry = entry_of(&site);
    let style = Style::of(&site);
    let is_watched = style == Style::Vectorcall && runtime.is_watched();
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this) };
    entries::keep(function, style, if is_watched { watch::watched } else { entry });
    Some((entry, style))
}

/// The site of a warm function; none if ctypes makes its calls.
fn warm_site(runtime: &Runtime, this: u64) -> Option<Arc<CallSite>> {
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this) };
    if !hook::accepts_vectorcall(function) {
        // A `__call__` of its class has sent the call here.
        runtime.count_refusal(refusals::CALL);
        return None;
    }
    // SAFETY: the GIL is held by who makes the call.
    let py = unsafe { Python::assume_attached() };
    let site = detour::keep_aim(function, || runtime.adopt(py, function))?;
    if let Some((refusal, calls)) = still_declined(&site, this) {
        runtime.count_refusal(refusal);
        runtime.decline(this, calls);
        entries::clear(function);
        return None;
    }
    Some(site)
}

/// Why ctypes makes the call of this site at hand, and how many more; none if it
/// does not, or not any more.
fn still_declined(site: &CallSite, function: u64) -> Option<(Refusal, u32)> {
    let refusal = declined(site)?;
    match &site.declaration {
        Err(_) => Some((refusal, heat::FOR_GOOD)),
        Ok(_) => Some((refusal, site.site.decline(heat::has_waited(function))?)),
    }
}

/// Why ctypes makes the calls of this site, if it does.
fn declined(site: &CallSite) -> Option<Refusal> {
    match &site.declaration {
        Err(refusal) => Some(*refusal),
        Ok(_) if site.site.tier() == Tier::Declined => site.site.last_refusal(),
        Ok(_) => None,
    }
}

/// What a call of this site enters: the newest stub, or the generic path.
pub(crate) fn entry_of(site: &CallSite) -> Vectorcall {
    match site.site.head() {
        // SAFETY: stubs are compiled from traces of `generic`, and are entered
        // like it.
        Some(head) => unsafe { std::mem::transmute::<usize, Vectorcall>(head as usize) },
        None => Style::of(site).generic(),
    }
}

/// The generic path: behind the last guard of a function's stubs, or in place
/// of a stub that is not there yet.
unsafe extern "C-unwind" fn generic(this: u64, args: u64, nargsf: u64, kwnames: u64) -> u64 {
    go_on(&Frame { this, args, nargsf, kwnames }, Style::Vectorcall, LESSONS)
}

/// The same, for a function with `errcheck`.
unsafe extern "C-unwind" fn generic_with_tuple(
    this: u64,
    args: u64,
    nargsf: u64,
    tuple: u64,
) -> u64 {
    go_on(&Frame { this, args, nargsf, kwnames: tuple }, Style::Tuple, LESSONS)
}

/// How often the classes of a call's arguments are learned: they may change as they
/// are, each time.
const LESSONS: u32 = 4;

/// Makes a call by the rules, or lets ctypes make it.
fn go_on(call: &Frame<u64>, style: Style, lessons: u32) -> u64 {
    let Some(runtime) = runtime() else { return forward(call, style) };
    let Some(site) = runtime.site(call.this) else {
        runtime.count_ctypes();
        return forward(call, style);
    };
    if Style::of(&site) != style {
        // The function was declared anew while a class was learned.
        runtime.count_ctypes();
        return forward(call, style);
    }
    if let Some(newer) = newer_entry(&site, call.this) {
        // SAFETY: the arguments of this call; this entry leads back here only
        // when it is the one that the function has.
        return unsafe { newer(call.this, call.args, call.nargsf, call.kwnames) };
    }
    let outcome = match &site.declaration {
        Ok(declaration) => attempt(runtime, &site, declaration, call),
        Err(refusal) => Err(Unmade::Refused(*refusal)),
    };
    let outcome = match outcome {
        Ok(result) => Ok(result),
        Err(Unmade::Refused(refusal)) => Err(refusal),
        Err(Unmade::Lacks(key)) => {
            if make_detour(runtime, &site, call, key) {
                return go_on(call, style, lessons);
            }
            Err(refusals::PARAMETER)
        }
    };
    if outcome == Err(refusals::NEW_CLASS) {
        // SAFETY: the function object that is being called.
        let function = unsafe { Object::at(call.this) };
        if lessons > 0 && detour::keep_aim(function, || learn(runtime, call)) {
            // Learning may have run Python code: the call begins anew.
            return go_on(call, style, lessons - 1);
        }
        site.site.refuse(refusals::NEW_CLASS);
    }
    outcome.unwrap_or_else(|refusal| {
        if declined(&site).is_some() {
            // SAFETY: the function object that is being called.
            entries::clear(unsafe { Object::at(call.this) });
        }
        if refusal == refusals::CLASS {
            // The declaration is another one now: the next call reads it.
            hook::forget(call.this);
        }
        runtime.count_refusal(refusal);
        runtime.count_ctypes();
        forward(call, style)
    })
}

/// Has a function enter its site anew, which has no stubs any more.
pub(crate) fn start_over(site: &CallSite, function: u64) {
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(function) };
    let style = Style::of(site);
    if stub_entry(function, style).is_some() {
        entries::keep(function, style, style.generic());
    }
}

/// The entry that a function has, but for the one that watches it.
fn stub_entry(function: Object, style: Style) -> Option<u64> {
    entries::of(function, style)
        .filter(|&word| word != watch::watched as Vectorcall as usize as u64)
}

/// Makes a detour that the rules lack; false if there is no memory.
fn make_detour(runtime: &Runtime, site: &CallSite, call: &Frame<u64>, key: Key) -> bool {
    // SAFETY: the GIL is held by who makes the call.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(call.this) };
    let Ok(Declaration { detours: Some(detours), parameters, .. }) = &site.declaration else {
        return false;
    };
    let parameters = parameters.clone().unwrap_or_default();
    let made = detour::keep_aim(function, || detours.make(py, function, parameters, key));
    runtime.log(Log::Events, || match &made {
        Ok(()) => format!("{}: detour at argument {}", site.name, key.0 + 1),
        Err(error) => format!("{}: no detour, {}", site.name, described::error(py, error)),
    });
    made.is_ok()
}

/// The site's entry, if the function still has an older one; it gets it now.
fn newer_entry(site: &CallSite, this: u64) -> Option<Vectorcall> {
    let (entry, style) = (entry_of(site), Style::of(site));
    // SAFETY: the function object that is being called.
    let function = unsafe { Object::at(this) };
    if stub_entry(function, style)? == entry as usize as u64 {
        return None;
    }
    entries::keep(function, style, entry);
    (entry as usize != style.generic() as usize).then_some(entry)
}

/// Readies this thread for a call by the rules, with what they find of the thread; gives
/// the policy that the call has where this one is usual.
pub(crate) fn make_ready(runtime: &Runtime, declaration: &Declaration, usual: Policy) -> Policy {
    if declaration.use_errno {
        errno::keep(&runtime.known);
    }
    match usual {
        Policy::Lend if !runtime.may_lend() => Policy::Release,
        _ => usual,
    }
}

/// Makes the call by the rules, or says why ctypes makes it.
fn attempt(
    runtime: &Runtime,
    site: &Arc<CallSite>,
    declaration: &Declaration,
    call: &Frame<u64>,
) -> Result<u64, Unmade> {
    let plan = site.site.plan();
    let usual = site.gil.get();
    let policy = make_ready(runtime, declaration, usual);
    let outcome = match plan {
        Plan::Decline => {
            let refusal = site.site.last_refusal();
            return Err(refusal.unwrap_or(refusals::VALUE).into());
        }
        // A call within one that has lent the GIL is no example for others.
        Plan::Record if policy == usual => {
            site.gil.measure(|| record(runtime, site, declaration, policy, call))
        }
        _ => site.gil.measure(|| interpret(runtime, declaration, policy, call)),
    };
    match outcome {
        Ok(Made::Here(result)) => {
            site.site.accept();
            if runtime.options.count {
                INTERPRETER_CALLS.fetch_add(1, Relaxed);
            }
            if runtime.is_watched() {
                profile::made_by(Maker::Interpreter);
            }
            Ok(result)
        }
        Ok(Made::Elsewhere(result)) => {
            site.site.accept();
            Ok(result)
        }
        Err(Unmade::Refused(refusal)) => {
            if refusal != refusals::NEW_CLASS {
                site.site.refuse(refusal);
            }
            Err(Unmade::Refused(refusal))
        }
        Err(lacks) => Err(lacks),
    }
}

/// Reads the rules live.
fn interpret(
    runtime: &Runtime,
    declaration: &Declaration,
    policy: Policy,
    call: &Frame<u64>,
) -> Result<Made<u64>, Unmade> {
    // SAFETY: the rules load from objects what they have tested to be there,
    // and the objects of this call stay alive until it returns.
    let mut machine = unsafe { Machine::new() };
    let mut live = Live { host: &mut machine };
    rules::call(&mut live, &runtime.known, declaration, policy, *call)
}

/// Reads the rules with the recorder, and adds a stub for what they did.
fn record(
    runtime: &Runtime,
    site: &Arc<CallSite>,
    declaration: &Declaration,
    policy: Policy,
    call: &Frame<u64>,
) -> Result<Made<u64>, Unmade> {
    // SAFETY: as in `interpret`.
    let mut machine = unsafe { Machine::new() };
    let (mut recorder, [this, args, nargsf, kwnames]) = Recorder::enter(&mut machine, call.words());
    let frame = Frame { this, args, nargsf, kwnames };
    let made = rules::call(&mut recorder, &runtime.known, declaration, policy, frame)?;
    let (Made::Here(result) | Made::Elsewhere(result)) = made;
    // The policy may have changed during the call.
    if let Some(trace) = recorder.finish(result).filter(|_| site.gil.get() == policy) {
        // The foreign function's errno is for the program to see.
        helpers::keeping_errno(|| compile(runtime, site, trace));
    }
    Ok(match made {
        Made::Here(result) => Made::Here(result.word),
        Made::Elsewhere(result) => Made::Elsewhere(result.word),
    })
}
