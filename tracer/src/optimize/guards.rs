//! Guards that another guard makes superfluous.
//!
//! A guard is implied if it holds whenever another one does. The other may
//! stand before it; or behind it, if nothing but guards and pure operations
//! lies between, since then no read relies on the earlier one alone. A value
//! that a guard found equal to a constant is that constant from there on.

use crate::ir::{Effect, Inst, Op, Trace, Val};
use crate::optimize::Rewriter;
use crate::optimize::fold::known;
use crate::semantics::holds;

pub(super) fn guards(trace: Trace) -> Trace {
    let is_implied = |index| is_guard(&trace.insts[index]) && implied(&trace, index);
    let implied: Vec<bool> = (0..trace.insts.len()).map(is_implied).collect();
    let mut rewriter = Rewriter::new(trace.insts.len());
    for (inst, implied) in trace.insts.into_iter().zip(implied) {
        if implied {
            rewriter.drop();
            continue;
        }
        let kept = rewriter.renamed(inst);
        if let Some(from) = equal_to_constant(&rewriter.out, &kept) {
            let to = kept.args[1];
            rewriter.keep(kept);
            rename(&mut rewriter, from, to);
        } else {
            rewriter.keep(kept);
        }
    }
    rewriter.out
}

fn is_guard(inst: &Inst) -> bool {
    inst.effect() == Effect::Exit
}

/// The value that `inst` found equal to a constant, its second operand.
fn equal_to_constant(trace: &Trace, inst: &Inst) -> Option<Val> {
    let found = inst.op == Op::GuardEq
        && known(trace, inst.args[0]).is_none()
        && known(trace, inst.args[1]).is_some();
    found.then(|| inst.args[0])
}

/// From here on, uses of `from` become uses of `to`.
fn rename(rewriter: &mut Rewriter, from: Val, to: Val) {
    rewriter.names.iter_mut().filter(|name| **name == from).for_each(|name| *name = to);
}

/// Whether the guard at `index` is implied by an earlier one, or by a later
/// one of the same run.
fn implied(trace: &Trace, index: usize) -> bool {
    let guard = &trace.insts[index];
    let earlier = trace.insts[..index].iter().filter(|inst| is_guard(inst));
    let run = trace.insts[index + 1..]
        .iter()
        .take_while(|inst| matches!(inst.effect(), Effect::Pure | Effect::Exit))
        .filter(|inst| is_guard(inst));
    // Of two equal guards the earlier one stays, so a later one must imply strictly.
    earlier.into_iter().any(|by| implies(trace, by, guard))
        || run.into_iter().any(|by| implies(trace, by, guard) && !implies(trace, guard, by))
}

/// Whether `guard` holds whenever `by` does.
fn implies(trace: &Trace, by: &Inst, guard: &Inst) -> bool {
    if by.args[0] != guard.args[0] {
        return false;
    }
    if by.op == guard.op && by.args[1] == guard.args[1] {
        return true;
    }
    let (Some(fact), Some(bound)) = (known(trace, by.args[1]), known(trace, guard.args[1])) else {
        return false;
    };
    match (by.op, guard.op) {
        (Op::GuardEq, op) => holds(op, fact, bound),
        (Op::GuardLt, Op::GuardLt) => fact <= bound,
        (Op::GuardLt, Op::GuardNe) => bound >= fact,
        (Op::GuardGe, Op::GuardGe) => fact >= bound,
        (Op::GuardGe, Op::GuardNe) => bound < fact,
        _ => by.op == guard.op && fact == bound,
    }
}
