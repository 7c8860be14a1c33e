//! Has a recorded call compiled, and tells of it whoever wants to know.

use hotcall_asm::Stub;
use hotcall_tracer::{Shape, Trace};

use super::Style;
use crate::options::Log;
use crate::report::ENTRY_WORDS;
use crate::runtime::{CallSite, Runtime};

/// Adds a stub for `trace` to the site's chain.
pub(super) fn compile(runtime: &Runtime, site: &CallSite, trace: Trace) {
    runtime.log(Log::Trace, || format!("{}: trace\n{trace}", site.name));
    let generic = Style::of(site).generic() as usize as u64;
    match site.site.add(trace, &runtime.jit, generic) {
        Err(refusal) => runtime.log(Log::Events, || format!("{}: no stub, {refusal}", site.name)),
        Ok(_) if runtime.teller.tells() || runtime.options.log >= Log::Events => {
            let shapes = site.site.shapes();
            if let Some(shape) = shapes.last() {
                tell(runtime, site, shapes.len(), shape);
            }
        }
        Ok(_) => {}
    }
}

/// Tells of the `number`-th stub of a site.
fn tell(runtime: &Runtime, site: &CallSite, number: usize, shape: &Shape<Stub>) {
    let Shape { trace, stub } = shape;
    runtime.log(Log::Events, || {
        let guards = trace.guards(&ENTRY_WORDS);
        let on_arguments: Vec<String> =
            guards.into_iter().filter(|guard| guard.starts_with("arg[")).collect();
        let shape = match on_arguments.is_empty() {
            true => "any arguments".to_owned(),
            false => on_arguments.join(" and "),
        };
        format!("{}: stub {number}, {} bytes of code, for {shape}", site.name, stub.len())
    });
    let name = match number {
        1 => site.name.clone(),
        _ => format!("{} ({number})", site.name),
    };
    runtime.tell(&name, stub);
}
