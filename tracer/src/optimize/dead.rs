//! Dead code: what gives a value that nobody uses, and does nothing else, goes.

use crate::ir::{Effect, Op, Trace};
use crate::optimize::Rewriter;

pub(super) fn dead(trace: Trace) -> Trace {
    let mut live = vec![false; trace.insts.len()];
    for (index, inst) in trace.insts.iter().enumerate().rev() {
        // Parameters are the stub's entry: they stay, used or not.
        let needed = live[index]
            || inst.op == Op::Param
            || !matches!(inst.effect(), Effect::Pure | Effect::Read);
        live[index] = needed;
        if needed {
            inst.args.iter().for_each(|arg| live[arg.index()] = true);
        }
    }
    let mut rewriter = Rewriter::new(trace.insts.len());
    for (inst, live) in trace.insts.into_iter().zip(live) {
        match live {
            true => {
                rewriter.keep(rewriter.renamed(inst));
            }
            false => rewriter.drop(),
        }
    }
    rewriter.out
}
