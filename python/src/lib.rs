//! hotcall for CPython: ctypes calls, unchanged, at the speed of an extension
//! module. This is the native half of the Python package `hotcall`.
//!
//! A call flows through the files in this order: `hook` makes CPython enter
//! `enter`; `runtime` finds the call site; `declare` has read the function's
//! declaration, by the rows of `layout` and the types of `kinds`; `rules` says
//! what the call does, read live or recorded; `helpers`, `boxes`, `errno` and
//! `instance` are what rules and stubs call; `detour` runs Python code for
//! arguments that need it, unless `observers` says that nobody could see it.
//! `report` shows it all. Before the first call, `check` compares the layout with
//! `samples`, once, as `starting` sees to.
//!
//! Beside calls, `bound` makes built-in functions of ctypes functions, `loops` calls
//! them for whole columns of arguments, and `data` makes what is around calls faster:
//! fields and items, `byref`, calls of classes, and attributes of libraries.
//! `callbacks` is the other direction, from C to Python, with `gil_entry` for how
//! the GIL is got there.

#![deny(unsafe_code)]

mod audit;
mod bound;
mod boxes;
mod callbacks;
mod capi;
mod check;
mod checker;
mod classes;
mod compare;
mod current;
mod data;
mod declare;
mod described;
mod detour;
mod enter;
mod entries;
mod errno;
mod gil;
mod gil_entry;
mod heat;
mod helpers;
mod hook;
mod instance;
mod kinds;
mod known;
mod layout;
mod lending;
mod levels;
mod loops;
mod make;
mod memory;
mod observers;
mod options;
mod parameters;
mod probe;
mod profile;
mod raw;
mod records;
mod refusals;
mod report;
mod rules;
mod runtime;
mod samples;
mod stand_in;
mod starting;
mod symbols;
mod table;

use std::sync::{Mutex, OnceLock, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use hotcall_tracer::Symbol;

use crate::classes::Classes;
use crate::declare::Reader;
use crate::gil::Policy;
use crate::kinds::{Kinds, handle};
use crate::known::{Known, Undeclared};
use crate::make::Named;
use crate::options::Options;
use crate::runtime::{Runtime, runtime};
use crate::starting::Failure;

/// Why there is no runtime, once that is known.
static OFF: OnceLock<String> = OnceLock::new();

/// Reads and checks this interpreter.
fn make_runtime(py: Python<'_>, options: Options) -> Result<Runtime, Failure> {
    make::names(py)?;
    let layout = check::layout(py)?;
    let kinds = Kinds::read(py, &layout)?;
    let classes = Classes::read(py)?;
    check::ctypes(py, &Reader { layout: &layout, kinds: &kinds, classes: &classes })?;
    let simple = make::import(py, "_ctypes")?.attr("_SimpleCData")?;
    instance::set_constructor(handle(&simple).word(layout::TYPE_NEW));
    let key = make::interned(py, "ctypes.error_object")?;
    errno::set_key(key);
    observers::learn(py)?;
    let current = current::find(py, py.version_info().minor);
    let lending = lending::prepare(py, current.as_ref());
    lending::deny(options.deny_monitor);
    let boxing = match options.reuse && boxes::prepare(&layout) {
        true => &boxes::REUSING,
        false => &boxes::PLAIN,
    };
    let small_ints = boxes::small_ints().filter(|_| std::ptr::eq(boxing, &boxes::REUSING));
    let truths = layout.immortal_none.then(|| boxes::truths(py));
    let thunks = match options.callbacks {
        true => match callbacks::check::thunks(py, &layout).map_err(Failure::from) {
            Ok(found) => found,
            Err(Failure::Off(reason)) => Err(callbacks::check::none_here(&reason)),
            Err(raised) => return Err(raised),
        },
        false => Err("switched off by callbacks=off".to_owned()),
    };
    let known = Known {
        thunks,
        callback_counter: callbacks::counter(&options),
        errno: errno::find(),
        boxing,
        small_ints,
        truths,
        current,
        lending,
        layout,
        kinds,
        classes,
        none: Symbol { name: "None".into(), address: py.None().as_ptr() as u64 },
        counter: runtime::counter(&options),
        timed: options.profile,
        undeclared: Undeclared::default(),
    };
    checker::learn(py)?;
    samples::free(py)?;
    Ok(Runtime::new(options, known))
}

/// What the process is set up with when hotcall is first used.
static OPTIONS: Mutex<Option<Options>> = Mutex::new(None);

/// Chooses the options of the process; the last choice before hotcall is first
/// used holds, and false says that this one came later, and to nothing.
///
/// Raises ValueError for what is not an option; the text begins with `source`, where the
/// options are from.
#[pyfunction]
fn configure(py: Python<'_>, options: &str, source: &str) -> PyResult<bool> {
    let options = Options::parse(options)
        .map_err(|bad| make::error::<PyValueError>(py, &format!("{source}: {bad}")))?;
    if starting::elsewhere(py).is_some() {
        return Ok(true);
    }
    let mut chosen = OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_decided() {
        *chosen = Some(options);
    }
    Ok(*chosen == Some(options))
}

/// The runtime, made now if hotcall was not used yet; none if it is off. An
/// interpreter that is not supported is no error: `status` says so.
///
/// # Errors
/// What of the program's own came in between ([`Failure::Raised`]).
fn start(py: Python<'_>) -> PyResult<Option<&'static Runtime>> {
    if off_here(py).is_some() {
        return Ok(None);
    }
    if !is_decided() {
        // Python code that this thread runs in the middle of it does without.
        let Some(_alone) = starting::alone(py) else { return Ok(None) };
        if !is_decided() {
            decide(py)?;
        }
    }
    Ok(runtime())
}

/// Why there is no runtime for the caller, whatever there is for others.
fn off_here(py: Python<'_>) -> Option<&'static str> {
    let cannot_start = || starting::not_by_this_thread(py).filter(|_| !is_decided());
    starting::elsewhere(py).or_else(cannot_start)
}

/// Why there is no runtime for the caller, once that is known.
fn off(py: Python<'_>) -> Option<&'static str> {
    off_here(py).or_else(|| OFF.get().map(String::as_str))
}

/// Whether it is known if there is a runtime.
fn is_decided() -> bool {
    runtime().is_some() || OFF.get().is_some()
}

/// Makes the runtime, or notes why there is none.
fn decide(py: Python<'_>) -> PyResult<()> {
    let options = *OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    match make_runtime(py, options.unwrap_or_default()) {
        Ok(made) => drop(runtime::set(made)),
        Err(Failure::Off(reason)) => drop(OFF.set(reason)),
        Err(Failure::Raised(error)) => return Err(error),
    }
    Ok(())
}

/// The runtime, or a RuntimeError that says why there is none.
fn ready(py: Python<'_>) -> PyResult<&'static Runtime> {
    start(py)?.ok_or_else(|| {
        let reason = off(py).unwrap_or("hotcall is not configured");
        make::error::<PyRuntimeError>(py, &format!("hotcall is off: {reason}"))
    })
}

/// Puts the hook in place, and sets the policy of the GIL if one is named.
/// False if hotcall is off.
#[pyfunction]
#[pyo3(signature = (gil=None))]
fn install(py: Python<'_>, gil: Option<&str>) -> PyResult<bool> {
    let policy = gil.map(|name| policy(py, name)).transpose()?;
    let Some(runtime) = start(py)? else { return Ok(false) };
    if let Some(policy) = policy.filter(|&policy| policy != runtime.gil.get()) {
        runtime.gil.set(policy);
        runtime.forget_all(hook::clear_entry);
    }
    hook::install(py, runtime).map(|()| true)
}

/// The policy of this name.
fn policy(py: Python<'_>, name: &str) -> PyResult<Policy> {
    Policy::named(name).ok_or_else(|| {
        let known = "expected 'release', 'lend' or 'hold'";
        let text = format!("hotcall: {name:?} is no policy of the GIL; {known}");
        make::error::<PyValueError>(py, &text)
    })
}

/// Sets the options of a function: the policy of the GIL in its calls, or that of
/// the process if none is named.
#[pyfunction]
#[pyo3(signature = (function, gil=None))]
fn set_options(function: &Bound<'_, PyAny>, gil: Option<&str>) -> PyResult<()> {
    let object = report::function("options", function)?;
    let policy = gil.map(|name| policy(function.py(), name)).transpose()?;
    let Some(runtime) = start(function.py())? else { return Ok(()) };
    runtime.choose(function, policy)?;
    hook::forget(object.address());
    Ok(())
}

/// Puts everything back.
#[pyfunction]
fn uninstall(py: Python<'_>) -> PyResult<()> {
    match runtime().filter(|_| off_here(py).is_none()) {
        Some(runtime) => hook::uninstall(py, runtime),
        None => Ok(()),
    }
}

/// Adds an audit hook for events of one name, other than calls, which go on as they are.
#[pyfunction]
fn listen(event: String, hook: &Bound<'_, PyAny>) -> PyResult<()> {
    audit::add_ours(event, hook)
}

/// A built-in function over a ctypes function.
#[pyfunction]
fn bind<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    start(function.py())?;
    bound::bind(function)
}

/// The ctypes function that a built-in function is bound to; anything else as it is.
#[pyfunction]
fn unbound<'py>(function: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    bound::bound_to(function).unwrap_or_else(|| function.clone())
}

/// What is known of a ctypes function.
#[pyfunction]
fn explain<'py>(
    py: Python<'py>,
    caller: &str,
    function: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let object = report::function(caller, function)?;
    report::explain(py, ready(py)?, object)
}

/// The figures of the process.
#[pyfunction]
fn stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    report::stats(py, ready(py)?)
}

/// What was timed of each foreign function, if calls are.
#[pyfunction]
fn profiled(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    report::profiled(py, ready(py)?)
}

/// What came of the calls that were checked, if they are.
#[pyfunction]
fn checked(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    report::checked(py, ready(py)?)
}

/// What is on and off: `installed`, `off` (why there is no runtime, or None)
/// and `stubs_off` (why no stubs are compiled, or None).
#[pyfunction]
fn status(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let runtime = start(py)?;
    let status = make::dict(py)?;
    status.put("installed", runtime.is_some() && hook::is_installed())?;
    status.put("off", off(py))?;
    let stubs_off = runtime.and_then(|runtime| match runtime.options.jit {
        false => Some("switched off by jit=off".to_owned()),
        true => runtime.jit.status().err().map(|refusal| refusal.to_string()),
    });
    status.put("stubs_off", stubs_off)?;
    status.put("data", runtime.is_some() && data::is_on())?;
    let callbacks_off = runtime.and_then(|runtime| runtime.known.thunks.as_ref().err());
    status.put("callbacks_off", callbacks_off)?;
    status.put("gil", runtime.map(|runtime| runtime.gil.get().name()))?;
    status.put("lending_off", runtime.and_then(Runtime::lending_off))?;
    if let Some(runtime) = runtime {
        status.put("options", format!("{:?}", runtime.options))?;
    }
    Ok(status)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<stand_in::Failed>()?;
    module.add_function(wrap_pyfunction!(configure, module)?)?;
    module.add_function(wrap_pyfunction!(install, module)?)?;
    module.add_function(wrap_pyfunction!(uninstall, module)?)?;
    module.add_function(wrap_pyfunction!(set_options, module)?)?;
    module.add_function(wrap_pyfunction!(bind, module)?)?;
    module.add_function(wrap_pyfunction!(unbound, module)?)?;
    module.add_function(wrap_pyfunction!(listen, module)?)?;
    module.add("loop", loops::function(module.py())?)?;
    module.add_function(wrap_pyfunction!(explain, module)?)?;
    module.add_function(wrap_pyfunction!(stats, module)?)?;
    module.add_function(wrap_pyfunction!(profiled, module)?)?;
    module.add_function(wrap_pyfunction!(checked, module)?)?;
    module.add_function(wrap_pyfunction!(status, module)?)
}
