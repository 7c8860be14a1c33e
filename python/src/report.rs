//! What users are shown: the tier, shapes, guards and refusals of a function,
//! its traces and code, and the figures of the process, as plain Python data.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use hotcall_asm::Stub;
use hotcall_tracer::{Refusal, Shape, Tier};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::callbacks;
use crate::declare::Declaration;
use crate::gil::Policy;
use crate::hook;
use crate::kinds::handle;
use crate::lending;
use crate::make::{self, Named};
use crate::profile::{Profile, Record};
use crate::raw::Object;
use crate::refusals;
use crate::runtime::{CTYPES_CALLS, CallSite, DEMOTIONS, INTERPRETER_CALLS, RULE_CALLS, Runtime};

/// What the words of a call are called.
pub(crate) const ENTRY_WORDS: [&str; 4] = ["function", "args", "nargsf", "kwnames"];

/// A function object as an argument of `caller`.
///
/// # Errors
/// `TypeError` for anything else.
pub(crate) fn function(caller: &str, object: &Bound<'_, PyAny>) -> PyResult<Object> {
    if hook::is_function(object)? {
        return Ok(handle(object));
    }
    let given = object.get_type().name()?;
    let text = format!("hotcall.{caller}: expected a ctypes function, not {given}");
    Err(make::error::<PyTypeError>(object.py(), &text))
}

/// Everything that is known of a function: `name`, `tier`, `signature`,
/// `refused` (a refusal or None), `refusals` (with counts), `shapes`, `loops`.
pub(crate) fn explain<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    function: Object,
) -> PyResult<Bound<'py, PyDict>> {
    let explanation = make::dict(py)?;
    explanation.put("name", hook::name(function))?;
    let site = runtime.site(function.address());
    let (declaration, refusals) = match &site {
        Some(site) => (site.declaration.clone(), site.site.refusals()),
        None => (read_cold(py, runtime, function), vec![]),
    };
    let shapes = shapes(runtime, function.address());
    let tier = match (&declaration, &site) {
        (Err(_), _) => "ctypes",
        (Ok(_), None) => "cold",
        (Ok(_), Some(site)) => match site.site.tier() {
            Tier::Declined => "ctypes",
            Tier::Interpreter => "interpreter",
            Tier::Stub => "stub",
        },
    };
    explanation.put("tier", if hook::is_installed() { tier } else { "ctypes" })?;
    explanation.put("gil", site.as_ref().map(|site| policy(runtime, site)))?;
    explanation.put("signature", declaration.as_ref().ok().map(signature))?;
    let uncompiled = site.as_ref().and_then(|site| site.site.uncompiled());
    let waits = (!hook::is_installed()).then_some(refusals::NOT_INSTALLED);
    let refused = waits.or(declaration.err()).or(uncompiled);
    explanation.put("refused", refused.map(|refusal| pair(&refusal)))?;
    let counted = refusals.iter().map(|(refusal, count)| (refusal.name, refusal.advice, *count));
    explanation.put("refusals", make::list(py, counted)?)?;
    let shown = |shape: &Shape<Stub>| compiled(py, shape.trace.guards(&ENTRY_WORDS), shape);
    explanation.put("shapes", shapes.iter().map(shown).collect::<PyResult<Vec<_>>>()?)?;
    let loops = site.iter().flat_map(|site| site.loops.shapes());
    let loops = loops.map(|(columns, shape)| compiled(py, columns, &shape));
    explanation.put("loops", loops.collect::<PyResult<Vec<_>>>()?)?;
    explanation.put("callback", callbacks::report::explain(py, runtime, function)?)?;
    Ok(explanation)
}

/// Who has the GIL during the calls of a site, in words.
fn policy(runtime: &Runtime, site: &CallSite) -> String {
    match runtime.lending_off() {
        Some(reason) if site.gil.get() == Policy::Lend => {
            format!("{}, since {reason}", Policy::Release.name())
        }
        _ => site.gil.describe(),
    }
}

/// What was compiled on these conditions.
fn compiled<'py>(
    py: Python<'py>,
    guards: Vec<String>,
    shape: &Shape<Stub>,
) -> PyResult<Bound<'py, PyDict>> {
    let item = make::dict(py)?;
    item.put("guards", guards)?;
    item.put("trace", shape.trace.to_string())?;
    item.put("code_bytes", shape.stub.len())?;
    item.put("disassembly", shape.stub.disassemble())?;
    Ok(item)
}

/// The compiled shapes of a function, and those of the relays that go on with
/// its calls behind a detour.
fn shapes(runtime: &Runtime, function: u64) -> Vec<Shape<Stub>> {
    let mut shapes = runtime.site(function).map_or(vec![], |site| site.site.shapes());
    let mut relays = Vec::new();
    runtime.visit_relays(function, |relay| relays.push(relay));
    for relay in relays {
        shapes.extend(self::shapes(runtime, relay));
    }
    shapes
}

/// The declaration of a function that has no site yet.
fn read_cold(py: Python<'_>, runtime: &Runtime, function: Object) -> Result<Declaration, Refusal> {
    let class = function.class();
    let version = runtime.known.classes.version(py, class);
    runtime.reader().read(function, version)
}

fn pair(refusal: &Refusal) -> (&'static str, &'static str) {
    (refusal.name, refusal.advice)
}

/// A declaration in words, as in `fn(c_double) -> f64`.
pub(crate) fn signature(declaration: &Declaration) -> String {
    let args: Vec<&str> = declaration.args.iter().map(|arg| &*arg.class.name).collect();
    let result = declaration.call.signature().result();
    format!("fn({}) -> {result}", args.join(", "))
}

/// What was timed: `timed` (whether anything is), `functions`, and the `calls`
/// of each maker over time in `buckets` of as many `nanoseconds`.
pub(crate) fn profiled<'py>(py: Python<'py>, runtime: &Runtime) -> PyResult<Bound<'py, PyDict>> {
    let all = make::dict(py)?;
    all.put("timed", runtime.profile.is_some())?;
    let (records, timeline) = runtime.profile.as_ref().map(Profile::read).unzip();
    let functions = records.iter().flatten().map(|(target, record)| timed(py, *target, record));
    all.put("functions", functions.collect::<PyResult<Vec<_>>>()?)?;
    all.put("nanoseconds", timeline.as_ref().map_or(0, |timeline| timeline.width))?;
    all.put("buckets", timeline.map_or(vec![], |timeline| timeline.buckets))?;
    Ok(all)
}

/// What was timed of one foreign function.
fn timed<'py>(py: Python<'py>, target: u64, record: &Record) -> PyResult<Bound<'py, PyDict>> {
    let one = make::dict(py)?;
    one.put("address", target)?;
    one.put("name", record.name.as_deref())?;
    let place = record.place.as_ref();
    one.put("library", place.map(|place| &place.library))?;
    one.put("symbol", place.and_then(|place| place.symbol.as_ref()))?;
    one.put("offset", place.map(|place| place.offset))?;
    let site = record.site.upgrade();
    let declaration = site.as_ref().and_then(|site| site.declaration.as_ref().ok());
    one.put("signature", declaration.map(signature))?;
    one.put("gil", site.as_ref().map(|site| site.gil.describe()))?;
    one.put("calls", record.calls)?;
    one.put("whole", record.whole)?;
    one.put("inside", record.inside)?;
    let counted =
        record.refusals.iter().map(|(refusal, count)| (refusal.name, refusal.advice, *count));
    one.put("refusals", make::list(py, counted)?)?;
    one.put("last", ["stub", "interpreter", "ctypes"][record.last as usize])?;
    Ok(one)
}

/// What came of the calls that were checked: whether they are, how many of each
/// maker were, how many ctypes made and why, why others were not, and the differences.
pub(crate) fn checked<'py>(py: Python<'py>, runtime: &Runtime) -> PyResult<Bound<'py, PyDict>> {
    let all = make::dict(py)?;
    all.put("checking", runtime.checks.is_some())?;
    let Some(checks) = &runtime.checks else { return Ok(all) };
    let found = checks.found();
    let checked = found.checked;
    let listed = |counts: &BTreeMap<&'static str, u64>| -> Vec<(&'static str, u64)> {
        counts.iter().map(|(why, count)| (*why, *count)).collect()
    };
    let (by_ctypes, unchecked) = (listed(&found.by_ctypes), listed(&found.unchecked));
    let differences: Vec<(String, String, String, u64)> = found
        .differences
        .iter()
        .map(|((name, what), (how, count))| (name.clone(), what.clone(), how.clone(), *count))
        .collect();
    drop(found);
    all.put("checked", checked)?;
    all.put("by_ctypes", by_ctypes)?;
    all.put("unchecked", unchecked)?;
    all.put("differences", differences)?;
    Ok(all)
}

/// The figures of the process.
pub(crate) fn stats<'py>(py: Python<'py>, runtime: &Runtime) -> PyResult<Bound<'py, PyDict>> {
    let stats = make::dict(py)?;
    let interpreted = INTERPRETER_CALLS.load(Relaxed);
    stats.put("counting", runtime.options.count)?;
    stats.put("stub_calls", RULE_CALLS.load(Relaxed) - interpreted)?;
    stats.put("interpreter_calls", interpreted)?;
    stats.put("ctypes_calls", CTYPES_CALLS.load(Relaxed))?;
    stats.put("refusals", runtime.refusals())?;
    let [functions, shapes, full, renewals] = runtime.totals();
    stats.put("functions", functions)?;
    stats.put("shapes", shapes)?;
    stats.put("full_chains", full)?;
    stats.put("renewals", renewals)?;
    stats.put("thefts", lending::THEFTS.load(Relaxed))?;
    stats.put("yields", lending::YIELDS.load(Relaxed))?;
    stats.put("demotions", DEMOTIONS.load(Relaxed))?;
    let usage = runtime.jit.usage();
    stats.put("stubs", usage.stubs)?;
    stats.put("code_bytes", usage.used_bytes)?;
    stats.put("code_capacity", usage.capacity)?;
    callbacks::report::stats(&stats, runtime)?;
    Ok(stats)
}
