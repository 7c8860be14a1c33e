//! Holds what hotcall passes to foreign functions against what ctypes passes,
//! in the calls that a program makes.
//!
//! Each function that is called gets a *shadow*: a function object of its class
//! with its declaration, whose address is that of a function which keeps what
//! it is given. The shadow is called twice with the arguments of the call, by
//! ctypes and as hotcall calls the function: in a stub, which is the very stub of
//! the function since equal traces share one, or in the interpreter. Then the
//! program's call is made, once. Results are compared too, of bits that the
//! keeping function returns.
//!
//! **Invariant.** Neither call runs code of the program: a call that would, for
//! an argument or a result, is made without being checked, and counted so.
//!
//! # Safety
//! Calls are checked with the GIL held and before they are made: their objects
//! are alive.

#![allow(unsafe_code, reason = "calls ctypes and stubs with raw objects")]

mod capture;
mod shadow;

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotcall_core::{Abi, CType, Place, Places, Signature};
use hotcall_tracer::Live;
use pyo3::prelude::*;
use pyo3::types::PyString;

use self::capture::Capture;
use self::shadow::{Dry, Shadow, Shadows};
use crate::declare::{ArgRule, Declaration, Kind, ResultRule};
use crate::described;
use crate::enter::{self, Vectorcall};
use crate::helpers::keeping_errno;
use crate::hook;
use crate::layout::{CDATA_POINTER, MEMORY_WORD};
use crate::parameters;
use crate::profile::{self, MAKERS, Maker, Notes, Reason};
use crate::raw::{Bag, Object, Owned};
use crate::refusals;
use crate::rules::{self, Frame, Made, Unmade};
use crate::runtime::{CallSite, Runtime};
use crate::symbols;

const REFUSED: Reason = "ctypes had to make the call that it is compared with";
const NEW_CLASS: Reason = "the class of an argument is a new one";
const MEANWHILE: Reason = "it was declared anew meanwhile";
const RUNS_CODE: Reason = "Python code runs for an argument; what it gives is checked";
const CHECKS_RESULTS: Reason = "its class calls Python code for each result";
const FINALISES: Reason = "its class, or that of its results, has a finaliser";
const PARAMETERS: Reason = "its arguments are named by parameter flags";
const KEYWORDS: Reason = "it has keyword arguments";
const NO_SHADOW: Reason = "no function of its class can be made";

/// Why ctypes makes a call for which there is no refusal.
const COLD: &str = "cold";

/// Where a difference was found: the function, and what of its calls differs.
pub(crate) type Where = (String, String);

/// All that was found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Calls that were checked, by who makes them.
    pub(crate) checked: [u64; MAKERS],
    /// Calls that ctypes made, by the name of the refusal, or [`COLD`].
    pub(crate) by_ctypes: BTreeMap<&'static str, u64>,
    /// Calls that were not checked for other reasons.
    pub(crate) unchecked: BTreeMap<Reason, u64>,
    /// Differences: how the first one looks, and in how many calls there is one.
    pub(crate) differences: BTreeMap<Where, (String, u64)>,
}

/// Checks the calls of a process.
#[derive(Debug)]
pub(crate) struct Checks {
    shadows: Shadows,
    found: Mutex<Found>,
    /// Whether one bit is turned over.
    flip: bool,
}

/// One comparison.
struct Compared {
    maker: Maker,
    difference: Option<Difference>,
}

/// What differs, and how.
struct Difference {
    what: String,
    how: String,
}

impl Checks {
    pub(crate) fn new(flip: bool) -> Checks {
        Checks { shadows: Shadows::default(), found: Mutex::default(), flip }
    }

    pub(crate) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a call that is about to be made, and notes what came of it. `kwnames` is
    /// null, or the names of keyword arguments, or for `errcheck` the tuple of arguments.
    pub(crate) fn call(&self, runtime: &Runtime, site: &Arc<CallSite>, call: &Frame<u64>) {
        let outcome = keeping_errno(|| self.try_call(runtime, site, call));
        profile::checked(outcome.as_ref().map(drop).map_err(|reason| *reason));
        let Ok(Compared { maker, difference }) = outcome else { return };
        self.found().checked[maker as usize] += 1;
        if let Some(Difference { what, how }) = difference {
            // SAFETY: the function that is being called.
            let name = named(unsafe { Object::at(call.this) });
            self.found().differences.entry((name, what)).or_insert((how, 0)).1 += 1;
        }
    }

    /// Counts a call that has ended, unless it was checked.
    pub(crate) fn count(&self, call: &profile::Frame) {
        let mut found = self.found();
        let count = match call.check {
            Some(Ok(())) => return,
            _ if call.maker == Maker::Ctypes => {
                let why = call.refusal.map_or(COLD, |refusal| refusal.name);
                found.by_ctypes.entry(why).or_default()
            }
            Some(Err(reason)) => found.unchecked.entry(reason).or_default(),
            None => found.unchecked.entry(MEANWHILE).or_default(),
        };
        *count += 1;
    }

    fn try_call(
        &self,
        runtime: &Runtime,
        site: &Arc<CallSite>,
        call: &Frame<u64>,
    ) -> Result<Compared, Reason> {
        // SAFETY: the GIL is held by who makes the call.
        let py = unsafe { Python::assume_attached() };
        let declaration = site.declaration.as_ref().map_err(|_| REFUSED)?;
        if declaration.errcheck.is_none() && call.kwnames != 0 {
            return Err(KEYWORDS);
        }
        if declaration.parameters.is_some() {
            return Err(PARAMETERS);
        }
        // SAFETY: the function that is being called.
        let function = unsafe { Object::at(call.this) };
        let shadow = self.shadows.of(py, runtime, site, function)?;
        let first = self.compare(py, runtime, &shadow, call)?;
        // Another thread may have changed an argument in between: what differs
        // once and not again is no difference.
        match first.difference {
            Some(_) => self.compare(py, runtime, &shadow, call),
            None => Ok(first),
        }
    }

    /// Calls the shadow both ways.
    fn compare(
        &self,
        py: Python<'_>,
        runtime: &Runtime,
        shadow: &Shadow,
        call: &Frame<u64>,
    ) -> Result<Compared, Reason> {
        let this = shadow.function().address();
        let site = runtime.adopt(py, shadow.function()).ok_or(NO_SHADOW)?;
        let declaration = site.declaration.as_ref().map_err(|_| REFUSED)?;
        // The class of results may have changed since the shadow was made.
        if !shadow::is_quiet(&declaration.result) {
            return Err(FINALISES);
        }
        let frame = Frame { this, kwnames: 0, ..*call };
        let signature = dry_run(py, runtime, &site, declaration, &frame)?;
        let places = signature.abi().places(signature.args(), signature.result());
        let places = places.map_err(|_| REFUSED)?;
        let args = arguments(call);
        let texts = texts(py, declaration, &signature, args);
        let bits = bits(&declaration.result, self.found().checked.iter().sum());

        let mut plain = Capture::new(&signature, &places, &texts, bits);
        // CPython may end the thread in the other call: then nobody gives this up.
        let by_ctypes = ManuallyDrop::new(plain.during(|| by_ctypes(py, this, args)));
        // Where there is no argument to turn a bit over in, it is one of the result.
        let turned = self.flip && signature.args().is_empty() && bits != [0; 4];
        let returned = bits.map(|word| word ^ u64::from(turned));
        let mut hot = Capture::new(&signature, &places, &texts, returned);
        let entry = enter::entry_of(&site);
        let (by_us, maker) = hot.during(|| by_entry(py, entry, &frame));
        let by_ctypes = ManuallyDrop::into_inner(by_ctypes);
        if self.flip
            && let Some(byte) = hot.words.first_mut().and_then(|word| word.first_mut())
        {
            *byte ^= 1;
        }
        if maker == Maker::Ctypes {
            return Err(REFUSED);
        }
        let difference = calls_differ(&plain, &hot)
            .or_else(|| words_differ(&plain, &hot, &signature, &places, args))
            .or_else(|| results_differ(py, by_ctypes, by_us));
        Ok(Compared { maker, difference })
    }
}

/// The name of a function, or of what it calls, or of its class.
fn named(function: Object) -> String {
    let target = function.object(CDATA_POINTER).map(|memory| memory.word(MEMORY_WORD));
    let symbol = || symbols::place(target?)?.symbol;
    hook::own_name(function).or_else(symbol).unwrap_or_else(|| hook::name(function))
}

/// The arguments of a call.
fn arguments(call: &Frame<u64>) -> &[u64] {
    let count = call.nargsf & (u64::MAX >> 1);
    match count {
        0 => &[],
        // SAFETY: the caller counted the arguments that it passes.
        _ => unsafe { std::slice::from_raw_parts(call.args as *const u64, count as usize) },
    }
}

/// Reads the rules without calling: the signature with which they would.
fn dry_run(
    py: Python<'_>,
    runtime: &Runtime,
    site: &CallSite,
    declaration: &Declaration,
    frame: &Frame<u64>,
) -> Result<Signature, Reason> {
    // SAFETY: as for the interpreter; the foreign function is not called.
    let mut host = unsafe { Dry::new() };
    let mut live = Live { host: &mut host };
    let policy = enter::make_ready(runtime, declaration, site.gil.get());
    match rules::call(&mut live, &runtime.known, declaration, policy, *frame) {
        Ok(Made::Here(0)) => drop(PyErr::take(py)),
        Ok(Made::Here(result)) => drop(Owned::from_new(result)),
        Ok(Made::Elsewhere(_)) | Err(Unmade::Lacks(_)) => return Err(RUNS_CODE),
        Err(Unmade::Refused(refusals::NEW_CLASS)) => return Err(NEW_CLASS),
        Err(Unmade::Refused(_)) => return Err(REFUSED),
    }
    host.signature().ok_or(REFUSED)
}

/// For each word, whether it is the address of a copy of a text.
fn texts(
    py: Python<'_>,
    declaration: &Declaration,
    signature: &Signature,
    args: &[u64],
) -> Vec<bool> {
    let each = signature.args().iter().zip(args).enumerate().flat_map(|(index, (ty, arg))| {
        let rule = declaration.args.get(index).map(|arg| &arg.rule);
        // SAFETY: an argument of this call.
        let is_text = unsafe { Object::at(*arg) }.bound(py).is_instance_of::<PyString>()
            && *ty == CType::Pointer
            && rule != Some(&ArgRule::Simple(Kind::Object));
        std::iter::repeat_n(is_text, ty.words(Abi::HOST))
    });
    each.collect()
}

/// Bits for a result whose wrapping looks at them alone; zeros for others.
fn bits(result: &ResultRule, seed: u64) -> [u64; 4] {
    let looks_behind = |kind: &Kind| {
        matches!(kind, Kind::CharP | Kind::WCharP | Kind::WChar | Kind::Object | Kind::LongDouble)
    };
    match result {
        ResultRule::Simple(kind) if looks_behind(kind) => [0; 4],
        ResultRule::Void | ResultRule::Callable(_) => [0; 4],
        _ => std::array::from_fn(|index| mixed(4 * seed + index as u64)),
    }
}

/// The `index`-th of a sequence of numbers whose bits look random.
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
fn mixed(index: u64) -> u64 {
    let word = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// What a call gave: an object or an exception.
type Outcome = PyResult<Owned>;

/// Has ctypes call a function.
fn by_ctypes(py: Python<'_>, this: u64, args: &[u64]) -> Outcome {
    let mut bag = Bag::default();
    let tuple = bag.hold(parameters::tuple_of(args).ok_or_else(|| PyErr::fetch(py))?);
    // SAFETY: a function object and an exact tuple.
    let result = unsafe { hook::ctypes_call()(this, tuple.address(), 0) };
    let outcome = Owned::from_new(result).ok_or_else(|| PyErr::fetch(py));
    bag.empty();
    outcome
}

/// Enters a function as CPython does, and tells who made the call.
fn by_entry(py: Python<'_>, entry: Vectorcall, frame: &Frame<u64>) -> (Outcome, Maker) {
    let notes = Notes::start();
    // SAFETY: the entry of the function, and the arguments of the call.
    let result = unsafe { entry(frame.this, frame.args, frame.nargsf, 0) };
    let maker = notes.stop().0.maker;
    (Owned::from_new(result).ok_or_else(|| PyErr::fetch(py)), maker)
}

fn calls_differ(plain: &Capture<'_>, hot: &Capture<'_>) -> Option<Difference> {
    let said = |calls| if calls == 0 { "does not call the function" } else { "calls it" };
    (plain.calls != hot.calls).then(|| Difference {
        what: "the call".to_owned(),
        how: format!("ctypes {}, hotcall {}", said(plain.calls), said(hot.calls)),
    })
}

fn words_differ(
    plain: &Capture<'_>,
    hot: &Capture<'_>,
    signature: &Signature,
    places: &Places,
    args: &[u64],
) -> Option<Difference> {
    let abi = signature.abi();
    let owners = signature
        .args()
        .iter()
        .enumerate()
        .flat_map(|(index, ty)| (0..ty.words(abi)).map(move |word| (index, ty, word)));
    let both = plain.words.iter().zip(&hot.words);
    for (((index, ty, word), place), (a, b)) in owners.zip(&places.args).zip(both) {
        let is_float = || {
            ty.as_struct().is_some() && matches!(place, Place::Fp(_)) && a.get(..4) == b.get(..4)
        };
        // SAFETY: an argument of this call.
        let argument = unsafe { Object::at(args[index]) };
        // Of 8 bytes with a float alone libffi passes 4, and leaves undefined what
        // hotcall takes from the structure.
        if a != b && !(is_float() && b[..] == content(argument, 8 * word, b.len())[..]) {
            let (a, b) = (hexadecimal(a), hexadecimal(b));
            return Some(Difference {
                what: format!("argument {}", index + 1),
                how: format!("{ty} in {place:?}: ctypes passes {a}, hotcall {b}"),
            });
        }
    }
    (plain.vectors != hot.vectors).then(|| Difference {
        what: "vector registers".to_owned(),
        how: format!("ctypes says {}, hotcall {}", plain.vectors, hot.vectors),
    })
}

/// Bytes of an instance of a class of ctypes.
fn content(instance: Object, offset: usize, size: usize) -> Vec<u8> {
    let memory = instance.word(CDATA_POINTER) as *const u8;
    // SAFETY: the instance has these bytes.
    unsafe { std::slice::from_raw_parts(memory.wrapping_add(offset), size) }.to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().take(64).rev().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

fn results_differ(py: Python<'_>, plain: Outcome, hot: Outcome) -> Option<Difference> {
    let text = |outcome: &Outcome| match outcome {
        Ok(object) => shadow::described(&object.object().bound(py)),
        Err(error) => described::error(py, error),
    };
    let (a, b) = (text(&plain), text(&hot));
    (a != b).then(|| Difference {
        what: "result".to_owned(),
        how: format!("ctypes gives {a}, hotcall {b}"),
    })
}
