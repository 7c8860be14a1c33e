//! Constant folding and the identities of arithmetic.
//!
//! Requirements on a rule: it looks at one instruction and the definitions of
//! its operands, it gives a value that stands in the trace already or a
//! constant, and it is right for every value of what is not constant.

use crate::data::Data;
use crate::ir::{Effect, Inst, Mem, Op, Trace, Val};
use crate::optimize::Rewriter;
use crate::semantics::{holds, pure};

pub(super) fn fold(trace: Trace) -> Trace {
    let mut rewriter = Rewriter::new(trace.insts.len());
    for inst in trace.insts {
        let inst = rewriter.renamed(inst);
        match simplify(&rewriter.out, &inst) {
            Some(Folded::Constant(word)) => {
                rewriter.keep(Inst { op: Op::Const, args: vec![], data: Data::Imm(word) });
            }
            Some(Folded::Value(val)) => rewriter.replace(val),
            Some(Folded::Nothing) => rewriter.drop(),
            None => {
                rewriter.keep(inst);
            }
        }
    }
    rewriter.out
}

/// What an instruction amounts to.
enum Folded {
    Constant(u64),
    Value(Val),
    /// A guard that always holds.
    Nothing,
}

/// The number that `val` is known to be. The address of a symbol counts: a
/// trace holds for the addresses that it was recorded with.
pub(super) fn known(trace: &Trace, val: Val) -> Option<u64> {
    match &trace.insts[val.index()].data {
        Data::Imm(word) if trace.insts[val.index()].op == Op::Const => Some(*word),
        Data::Symbol(symbol) => Some(symbol.address),
        _ => None,
    }
}

fn simplify(trace: &Trace, inst: &Inst) -> Option<Folded> {
    let constant = |index: usize| inst.args.get(index).and_then(|&arg| known(trace, arg));
    let (a, b) = (constant(0), constant(1));
    match (inst.op.effect(), inst.op) {
        (Effect::Exit, op) => {
            let same = inst.args[0] == inst.args[1] && holds(op, 0, 0);
            (same || holds(op, a?, b?)).then_some(Folded::Nothing)
        }
        (Effect::Pure, Op::ToF64 | Op::Demote | Op::Promote | Op::Bits | Op::Bits32) => None,
        (Effect::Pure, Op::Extend) => extend(trace, inst, a),
        (Effect::Pure, op) if inst.args.len() == 2 => match (a, b) {
            (Some(a), Some(b)) => Some(Folded::Constant(pure(op, Mem::I64, a, b))),
            _ => identity(op, inst, b),
        },
        _ => None,
    }
}

/// Operations that give their first operand, or a constant, whatever that operand is.
fn identity(op: Op, inst: &Inst, b: Option<u64>) -> Option<Folded> {
    let (first, second) = (inst.args[0], inst.args[1]);
    match (op, b) {
        (Op::Add | Op::Sub | Op::Or | Op::Xor | Op::Shl | Op::Shr, Some(0))
        | (Op::Mul, Some(1))
        | (Op::And, Some(u64::MAX)) => Some(Folded::Value(first)),
        (Op::And | Op::Mul, Some(0)) => Some(Folded::Constant(0)),
        (Op::Sub | Op::Xor | Op::Ne, _) if first == second => Some(Folded::Constant(0)),
        _ => None,
    }
}

/// Widening what is wide already: a constant, a narrower load, a widened value.
fn extend(trace: &Trace, inst: &Inst, a: Option<u64>) -> Option<Folded> {
    let Data::Mem(mem) = inst.data else { return None };
    if let Some(word) = a {
        return Some(Folded::Constant(mem.widen(word)));
    }
    let operand = &trace.insts[inst.args[0].index()];
    let from = match (&operand.data, operand.op) {
        (Data::Field(field), Op::Load) => field.mem,
        (Data::Mem(mem), Op::Extend) => *mem,
        (_, Op::Ne) => Mem::U8,
        _ => Mem::I64,
    };
    let unchanged = mem == Mem::I64 || from == mem || (from.size() < mem.size() && fits(from, mem));
    unchanged.then_some(Folded::Value(inst.args[0]))
}

/// Whether every word widened from `from` is one that widening to the larger
/// type `mem` leaves alone.
fn fits(from: Mem, mem: Mem) -> bool {
    let signed = |mem| matches!(mem, Mem::I8 | Mem::I16 | Mem::I32);
    !signed(from) || signed(mem)
}
