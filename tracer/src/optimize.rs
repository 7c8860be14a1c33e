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
    let passes: [fn(Trace) -> Trace; 4] = [number::number, guards::guards, fold::fold, dead::dead];
    passes.iter().fold(trace, |trace, pass| {
        let before = cfg!(debug_assertions).then(|| trace.to_string());
        let next = pass(trace);
        debug_assert_eq!(verify(&next), Ok(()), "a pass broke the trace\n{before:?}\n{next}");
        next
    })
}

/// Takes a trace over instruction by instruction, renaming operands on the way.
struct Rewriter {
    out: Trace,
    /// For each old value, what it is called in `out`.
    names: Vec<Val>,
}

impl Rewriter {
    /// A rewriter of so many instructions.
    fn new(insts: usize) -> Rewriter {
        let out = Trace { insts: Vec::with_capacity(insts) };
        Rewriter { out, names: Vec::with_capacity(insts) }
    }

    /// The next old instruction, with its operands renamed.
    fn renamed(&self, mut inst: Inst) -> Inst {
        inst.args.iter_mut().for_each(|arg| *arg = self.names[arg.index()]);
        inst
    }

    /// Keeps the next old instruction, renamed by [`Self::renamed`].
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
