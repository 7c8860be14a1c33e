//! The meaning of each pure operation on words. The interpreter, the recorder,
//! the evaluator and constant folding all ask here.

use crate::ir::{Mem, Op};

/// The value of the pure operation `op` on the words `a` and `b`, `b` unused
/// where it takes one operand, and `mem` used by `extend` alone.
///
/// # Panics
/// If `op` is not a pure operation on values: the caller has checked the table.
#[inline(always)]
pub fn pure(op: Op, mem: Mem, a: u64, b: u64) -> u64 {
    match op {
        Op::Add => a.wrapping_add(b),
        Op::Sub => a.wrapping_sub(b),
        Op::Mul => a.wrapping_mul(b),
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Shl => a << (b & 63),
        Op::Shr => a >> (b & 63),
        Op::Ne => u64::from(a != b),
        Op::Extend => mem.widen(a),
        Op::ToF64 => (a as i64 as f64).to_bits(),
        Op::Demote => u64::from((f64::from_bits(a) as f32).to_bits()),
        Op::Promote => f64::from(f32::from_bits(a as u32)).to_bits(),
        Op::Bits => a,
        Op::Bits32 => a as u32 as u64,
        _ => unreachable!("{} is not a pure operation on values", op.text()),
    }
}

/// Whether the guard `op` lets the words `a` and `b` pass.
///
/// # Panics
/// If `op` is not a guard.
#[inline(always)]
pub(crate) fn holds(op: Op, a: u64, b: u64) -> bool {
    match op {
        Op::GuardEq => a == b,
        Op::GuardNe => a != b,
        Op::GuardLt => a < b,
        Op::GuardGe => a >= b,
        _ => unreachable!("{} is not a guard", op.text()),
    }
}
