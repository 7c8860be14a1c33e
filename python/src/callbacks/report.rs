//! What users are shown of callbacks, as plain Python data.

use std::sync::atomic::Ordering::Relaxed;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::callbacks::site::{CALLBACKS, Compiled, INTERPRETED};
use crate::layout;
use crate::make::{self, Named};
use crate::raw::Object;
use crate::runtime::Runtime;

/// What is known of a function's callbacks: `tier`, `signature`, `refused` (name
/// and advice, or None), `trace`, `code_bytes` and `disassembly` (or None). None
/// for a function that no Python callable was given for, or that is not known.
pub(crate) fn explain<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    function: Object,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let thunk = function.word(layout::FUNC_THUNK);
    let Some(site) = runtime.callbacks.explained(thunk) else { return Ok(None) };
    let explanation = make::dict(py)?;
    let (compiled, refused) = match &site {
        Err(refusal) => (None, Some(*refusal)),
        Ok(site) => match site.compiled() {
            Some(Err(refusal)) => (None, Some(*refusal)),
            Some(Ok(compiled)) => (Some(compiled), None),
            None => (None, None),
        },
    };
    let tier = match (&site, runtime.callbacks.has_trampoline(thunk), compiled) {
        (Err(_), _, _) => "ctypes",
        (Ok(_), true, Some(_)) => "stub",
        _ => "interpreter",
    };
    explanation.put("tier", tier)?;
    let signature = site.as_ref().ok().map(|site| site.signature.to_string());
    explanation.put("signature", signature)?;
    explanation.put("refused", refused.map(|refusal| (refusal.name, refusal.advice)))?;
    let shown = compiled.filter(|_| tier == "stub");
    explanation.put("trace", shown.map(|Compiled { trace, .. }| trace.to_string()))?;
    explanation.put("code_bytes", shown.map_or(0, |Compiled { stub, .. }| stub.len()))?;
    let disassembly = shown.map(|Compiled { stub, .. }| stub.disassemble());
    explanation.put("disassembly", disassembly)?;
    Ok(Some(explanation))
}

/// Adds the figures of callbacks to those of the process.
pub(crate) fn stats(stats: &Bound<'_, PyDict>, runtime: &Runtime) -> PyResult<()> {
    let interpreted = INTERPRETED.load(Relaxed);
    stats.put("stub_callbacks", CALLBACKS.load(Relaxed) - interpreted)?;
    stats.put("interpreter_callbacks", interpreted)?;
    let [thunks, shapes, entries] = runtime.callbacks.totals();
    stats.put("callbacks", thunks)?;
    stats.put("callback_shapes", shapes)?;
    stats.put("callback_stubs", entries)?;
    stats.put("trampolines", runtime.jit.usage().trampolines)?;
    stats.put("callback_refusals", runtime.callbacks.refusals())
}
