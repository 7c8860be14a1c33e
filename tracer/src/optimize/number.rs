//! Value numbering: a pure instruction, or a read that no effect precedes,
//! that stands in the trace already is not done again.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::hash::BuildWordHasher;
use crate::ir::{Effect, Trace, Val};
use crate::optimize::Rewriter;

pub(super) fn number(trace: Trace) -> Trace {
    let mut rewriter = Rewriter::new(trace.insts.len());
    let hasher = BuildWordHasher::default();
    // By the hash of an instruction: those of one hash are equal, or are done again.
    let mut seen: HashMap<u64, Val, BuildWordHasher> =
        HashMap::with_capacity_and_hasher(trace.insts.len(), hasher.clone());
    let mut affected = false;
    for inst in trace.insts {
        let inst = rewriter.renamed(inst);
        affected |= inst.effect() == Effect::Effect;
        let repeatable = match inst.effect() {
            Effect::Pure => true,
            Effect::Read => !affected,
            _ => false,
        };
        if !repeatable {
            rewriter.keep(inst);
            continue;
        }
        let hash = hasher.hash_one(&inst);
        match seen.get(&hash) {
            Some(&val) if rewriter.out.insts[val.index()] == inst => rewriter.replace(val),
            _ => {
                let val = rewriter.keep(inst);
                seen.insert(hash, val);
            }
        }
    }
    rewriter.out
}
