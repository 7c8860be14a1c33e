//! The optimiser: passes from a trace to a trace that does the same in fewer
//! instructions. Each pass is one file; all go through [`Rewriter`].

mod dead;
mod fold;
mod guards;
mod number;

use crate::ir::{Inst, Trace, Val};
use crate::verify::verify;

/// Runs every pass once, in the order in which they feed each other.
pub fn optimize(trace: Trace) -> Trace {
    let passes: [fn(&Trace) -> Trace; 4] = [number::number, guards::guards, fold::fold, dead::dead];
    passes.iter().fold(trace, |trace, pass| {
        let next = pass(&trace);
        debug_assert_eq!(verify(&next), Ok(()), "a pass broke the trace\n{trace}\n{next}");
        next
    })
}

/// Copies a trace instruction by instruction, renaming operands on the way.
struct Rewriter {
    out: Trace,
    /// For each old value, what it is called in `out`.
    names: Vec<Val>,
}

impl Rewriter {
    fn new() -> Rewriter {
        Rewriter { out: Trace::default(), names: Vec::new() }
    }

    /// The next old instruction, with its operands renamed.
    fn renamed(&self, inst: &Inst) -> Inst {
        let args = inst.args.iter().map(|arg| self.names[arg.index()]).collect();
        Inst { op: inst.op, args, data: inst.data.clone() }
    }

    /// Copies the next old instruction, renamed by [`Self::renamed`].
    fn keep(&mut self, inst: Inst) -> Val {
        let val = self.out.push(inst.op, inst.args, inst.data);
        self.names.push(val);
        val
    }

    /// Leaves the next old instruction out; its uses get `val`.
    fn replace(&mut self, val: Val) {
        self.names.push(val);
    }

    /// Leaves the next old instruction out; it has no uses.
    fn drop(&mut self) {
        self.names.push(Val(u32::MAX));
    }
}
