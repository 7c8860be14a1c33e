//! Converters that give their argument back: calling one changes nothing unless
//! somebody watches Python code run, so rules leave the call out while nobody
//! does.
//!
//! Who may watch: trace and profile functions, `sys.monitoring`, and whoever
//! has put an evaluator of frames in place of CPython's. Where the interpreter
//! keeps the first of these is not known on every version, and a converter is
//! then called.
//!
//! # Safety
//! The thread state is the current one, and its fields are rows of data, as in
//! `layout`.

#![allow(unsafe_code, reason = "reads the thread state")]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use hotcall_tracer::{Effect, Entry, Field, Helper, Mem};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::capi;
use crate::kinds::handle;
use crate::layout;
use crate::make::{self, Named};
use crate::raw::Object;

/// Not 0 if somebody may watch Python code that runs in this thread.
pub(crate) static OBSERVED: Helper =
    Helper { name: "observed", entry: Entry::W(observed), effect: Effect::Read };

/// What `sys.monitoring` keeps of a code object, null if it never looked at it
/// (from 3.13).
pub(crate) const CODE_MONITORING: Field = Field::new("code.monitoring", 176, Mem::I64);
/// What was made of a code object on demand, as its bytes are.
const CODE_CACHED: Field = Field::new("code.cached", 160, Mem::I64);
/// The frame in the thread state (3.11).
const STATE_FRAME: Field = Field::new("thread_state.frame", 56, Mem::I64);
/// Whether that frame calls a trace or profile function.
const FRAME_TRACES: Field = Field::new("frame.traces", 0, Mem::U8);
/// The version of `sys.monitoring` in the thread state, in the bits above the
/// lowest 8 (from 3.13).
const STATE_EVENTS: Field = Field::new("thread_state.events", 24, Mem::I64);

/// How a function is called, by minor version.
const FUNCTION_VECTORCALL: [(u8, i32); 4] = [(11, 120), (13, 128), (14, 136), (15, 136)];

/// What an interpreter makes of functions that give their argument back.
struct Models {
    minor: u8,
    vectorcall: Field,
    /// The function `call` of every Python function.
    caller: u64,
    /// The classes of functions, and of bound methods.
    classes: [u64; 2],
    /// The code of a function that gives its first argument back, and of one
    /// that gives its second.
    codes: [Vec<u8>; 2],
}

static MODELS: PyOnceLock<Option<Models>> = PyOnceLock::new();

/// A converter that gives its argument back, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The function.
    pub(crate) function: u64,
    /// Its code, which lives as long as the process.
    pub(crate) code: u64,
}

/// Learns how functions look that give their argument back, and checks the
/// rows of this version on one.
///
/// # Errors
/// What Python raised.
pub(crate) fn learn(py: Python<'_>) -> PyResult<()> {
    // Not while it is locked: Python code may run, and the process be forked.
    let models = models(py)?;
    MODELS.get_or_init(py, || models);
    Ok(())
}

/// None where the rows are not known, or do not hold.
fn models(py: Python<'_>) -> PyResult<Option<Models>> {
    let minor = py.version_info().minor;
    let Some((_, offset)) = FUNCTION_VECTORCALL.iter().find(|(known, _)| *known == minor) else {
        return Ok(None);
    };
    let source =
        c"def first(a): return a\ndef second(a, b): return b\nmethod = second.__get__(1)\n";
    // No module: that would stand in for one of the program's of the same name.
    let names = make::dict(py)?;
    names.put("__name__", "hotcall._samples")?;
    py.run(source, Some(&names), None)?;
    let named = |name| names.as_any().item(name);
    let (first, second, method) = (named("first")?, named("second")?, named("method")?);
    let code = first.attr("__code__")?;
    let words = || (handle(&code).word(CODE_CACHED), handle(&code).word(CODE_MONITORING));
    let before = words();
    let codes = [bytes_of(&first)?, bytes_of(&second)?];
    let after = words();
    let holds = handle(&first).word(layout::FUNCTION_CODE) == code.as_ptr() as u64
        && handle(&method).word(layout::METHOD_FUNCTION) == second.as_ptr() as u64
        && (minor < 13 || before == (0, 0) && after.0 != 0 && after.1 == 0);
    let vectorcall = Field::new("function.vectorcall", *offset, Mem::I64);
    let caller = handle(&first).word(vectorcall);
    let classes = [first.get_type_ptr() as u64, method.get_type_ptr() as u64];
    let holds = holds && caller != 0 && caller == handle(&second).word(vectorcall);
    Ok(holds.then_some(Models { minor, vectorcall, caller, classes, codes }))
}

/// The bytes of a function's code.
fn bytes_of(function: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    bytes_of_code(&function.attr("__code__")?)
}

fn bytes_of_code(code: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    code.attr("co_code")?.extract()
}

fn known(py: Python<'_>) -> Option<&'static Models> {
    MODELS.get(py)?.as_ref()
}

/// Whether rules have to look at [`CODE_MONITORING`].
pub(crate) fn monitors_code() -> bool {
    // SAFETY: rules are read with the GIL held.
    let py = unsafe { Python::assume_attached() };
    known(py).is_some_and(|models| models.minor >= 13)
}

/// The codes of functions that give their argument back, and which argument.
/// They live as long as the process.
static KEPT: Mutex<BTreeMap<u64, usize>> = Mutex::new(BTreeMap::new());

fn kept() -> MutexGuard<'static, BTreeMap<u64, usize>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Python function behind a converter, and which argument of it is the
/// converter's: the second one of a bound method.
fn function_of(models: &Models, converter: Object) -> Option<(Object, usize)> {
    let [function, method] = models.classes;
    match converter.word(layout::OB_TYPE) {
        class if class == function => Some((converter, 0)),
        class if class == method => {
            let bound = converter.object(layout::METHOD_FUNCTION)?;
            (bound.word(layout::OB_TYPE) == function).then_some((bound, 1))
        }
        _ => None,
    }
}

/// Finds out whether a converter is a function, or a bound method, of Python
/// that gives its argument back. It may run Python code. The function is not asked
/// for its code, which audit hooks would be told of.
///
/// # Errors
/// What Python raised.
pub(crate) fn learn_converter(py: Python<'_>, converter: Object) -> PyResult<()> {
    let Some(models) = known(py) else { return Ok(()) };
    let Some((function, position)) = function_of(models, converter) else { return Ok(()) };
    let Some(code) = function.object(layout::FUNCTION_CODE) else { return Ok(()) };
    let code = code.bound(py);
    let number = |name: &str| code.attr(name)?.extract::<usize>();
    let is_identity = number("co_argcount")? == position + 1
        && number("co_nlocals")? == position + 1
        && number("co_kwonlyargcount")? == 0
        && bytes_of_code(&code)? == models.codes[position];
    if is_identity && kept().insert(code.as_ptr() as u64, position).is_none() {
        let _kept = code.into_ptr();
    }
    Ok(())
}

/// How rules leave out a call of the converter, if it was learned to give its
/// argument back.
pub(crate) fn identity(converter: Object) -> Option<Identity> {
    // SAFETY: rules are read with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let models = known(py)?;
    let (function, position) = function_of(models, converter)?;
    let code = function.word(layout::FUNCTION_CODE);
    let is_identity =
        kept().get(&code) == Some(&position) && function.word(models.vectorcall) == models.caller;
    is_identity.then_some(Identity { function: function.address(), code })
}

/// Whether the interpreter's own evaluator of frames is not in use, or
/// that cannot be found out.
fn has_other_evaluator() -> bool {
    type Get = unsafe extern "C-unwind" fn(interpreter: u64) -> u64;
    static EVALUATOR: OnceLock<Option<(Get, u64)>> = OnceLock::new();
    let found = EVALUATOR.get_or_init(|| {
        let get = capi::symbol(c"_PyInterpreterState_GetEvalFrameFunc")?;
        // SAFETY: CPython's function of this name has this signature.
        let get = unsafe { std::mem::transmute::<usize, Get>(get as usize) };
        Some((get, capi::symbol(c"_PyEval_EvalFrameDefault")?))
    });
    found.is_none_or(|(get, default)| {
        // SAFETY: the GIL is held.
        let interpreter = unsafe { capi::PyInterpreterState_Get() };
        // SAFETY: the current interpreter.
        unsafe { get(interpreter) != default }
    })
}

unsafe extern "C-unwind" fn observed() -> u64 {
    // SAFETY: rules and stubs run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let minor = known(py).map_or(0, |models| models.minor);
    // SAFETY: it may be asked at any time.
    let state = unsafe { (capi::current_thread_state())() };
    if minor == 0 || state == 0 || has_other_evaluator() {
        return 1;
    }
    // SAFETY: the state of this thread, whose rows were chosen by version.
    let state = unsafe { Object::at(state) };
    match minor {
        11 => state.object(STATE_FRAME).map_or(1, |frame| frame.word(FRAME_TRACES)),
        _ => state.word(STATE_EVENTS) >> 8,
    }
}
