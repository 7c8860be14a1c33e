//! Value numbering: a pure instruction, or a read that no effect precedes,
//! that stands in the trace already is not done again.

use std::collections::HashMap;

use crate::hash::BuildWordHasher;
use crate::ir::{Effect, Inst, Trace, Val};
use crate::optimize::Rewriter;

pub(super) fn number(trace: &Trace) -> Trace {
    let mut rewriter = Rewriter::new();
    let mut seen: HashMap<Inst, Val, BuildWordHasher> = HashMap::default();
    let mut affected = false;
    for inst in &trace.insts {
        let inst = rewriter.renamed(inst);
        affected |= inst.effect() == Effect::Effect;
        let repeatable = match inst.effect() {
            Effect::Pure => true,
            Effect::Read => !affected,
            _ => false,
        };
        match seen.get(&inst) {
            Some(&val) if repeatable => rewriter.replace(val),
            _ => {
                let val = rewriter.keep(inst.clone());
                seen.insert(inst, val);
            }
        }
    }
    rewriter.out
}
