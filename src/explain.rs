//! Explanations: in which tier a function's calls are made, and why. They are
//! data that prints as a text.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use hotcall_asm::Stub;
use hotcall_core::Signature;
use hotcall_tracer::{Refusal, Shape, Tier};

use crate::function::Record;

/// What is known about a function; made by
/// [`Function::explain`](crate::Function::explain).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Its name.
    pub function: String,
    /// Its declared signature.
    pub signature: Signature,
    /// Where its calls are made now.
    pub tier: Tier,
    /// How many calls the interpreter made, those that it refused included. Of
    /// calls on several threads at once it may miss some.
    pub interpreted: u64,
    /// How many calls the interpreter makes before the function is compiled;
    /// 0 if it never is.
    pub hot: u32,
    /// What was compiled, oldest first: the recorded call, and its code.
    pub shapes: Vec<Shape<Stub>>,
    /// Why calls were refused, and how often.
    pub refusals: Vec<(Refusal, u64)>,
    /// Why it was not compiled, although it was hot.
    pub uncompiled: Option<Refusal>,
}

impl Explanation {
    /// What is known about the function of this record.
    pub(crate) fn of(record: &Record) -> Explanation {
        Explanation {
            function: record.name.to_string(),
            signature: record.call.signature().clone(),
            tier: record.site.tier(),
            interpreted: record.interpreted.load(Relaxed),
            hot: record.engine.limits().hot,
            shapes: record.site.shapes(),
            refusals: record.site.refusals(),
            uncompiled: record.site.uncompiled(),
        }
    }
}

/// Prints a few lines, then each trace with its size in code; with the feature
/// `disasm` also the code.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = match self.tier {
            Tier::Stub => "compiled",
            Tier::Interpreter | Tier::Declined => "interpreted",
        };
        writeln!(f, "`{}`, {}: {tier}", self.function, self.signature)?;
        write!(f, "calls interpreted: {}; ", self.interpreted)?;
        match (self.hot, self.uncompiled) {
            (_, Some(refusal)) => writeln!(f, "not compiled, {refusal}")?,
            (0, None) => writeln!(f, "never compiled, as the engine's `hot` is 0")?,
            (hot, None) => writeln!(f, "compiled when there are {hot}")?,
        }
        for (refusal, count) in &self.refusals {
            writeln!(f, "calls refused: {count}, {refusal}")?;
        }
        for Shape { trace, stub } in &self.shapes {
            writeln!(f, "a stub of {} bytes:", stub.len())?;
            indent(f, &trace.to_string())?;
            #[cfg(feature = "disasm")]
            indent(f, &stub.disassemble())?;
        }
        Ok(())
    }
}

/// Prints the lines of a text, indented.
fn indent(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| writeln!(f, "    {line}"))
}
