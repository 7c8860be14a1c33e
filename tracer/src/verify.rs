//! The verifier: what every trace must satisfy, before and after each pass.

use std::fmt;

use hotcall_core::CType;

use crate::data::Data;
use crate::ir::{Effect, Inst, Op, Operands, Trace, Ty, carrier};

/// Why a trace is not well formed: the instruction's index, and the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which instruction.
    pub index: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {}", self.index, self.reason)
    }
}

impl std::error::Error for Invalid {}

/// Checks that each value is defined before it is used and has the type that
/// its use asks for, that data is of the table's kind, that parameters come
/// first, in order, that no guard and no read that guards rely on follows an
/// effect, and that the trace ends with its one `ret`.
///
/// # Errors
/// The first instruction that breaks a rule.
pub fn verify(trace: &Trace) -> Result<(), Invalid> {
    let mut affected = false;
    for (index, inst) in trace.insts.iter().enumerate() {
        let fail = |reason| Err(Invalid { index, reason });
        if inst.data.kind() != inst.op.data() {
            return fail("its data is not of the kind that the table names");
        }
        if let Some(reason) = misplaced(trace, index, inst) {
            return fail(reason);
        }
        match operand_types(inst) {
            None => return fail("the signature has a type that traces do not carry"),
            Some(types) if types.len() != inst.args.len() => {
                return fail("it has a wrong number of operands");
            }
            Some(types) => {
                for (arg, ty) in inst.args.iter().zip(types) {
                    if arg.index() >= index {
                        return fail("an operand is used before it is defined");
                    }
                    if trace.insts[arg.index()].ty() != Some(ty) {
                        return fail("an operand has a wrong type");
                    }
                }
            }
        }
        match inst.effect() {
            Effect::Exit if affected => return fail("a guard follows an effect"),
            Effect::Effect => affected = true,
            _ => {}
        }
    }
    match trace.insts.last() {
        Some(last) if last.op == Op::Ret => Ok(()),
        _ => Err(Invalid { index: trace.insts.len(), reason: "the trace does not end with ret" }),
    }
}

/// What is wrong with the place of `inst`, if anything.
fn misplaced(trace: &Trace, index: usize, inst: &Inst) -> Option<&'static str> {
    let behind_others = index > 0 && trace.insts[index - 1].op != Op::Param;
    match (inst.op, &inst.data) {
        (Op::Param, Data::Imm(number)) if behind_others || *number != index as u64 => {
            Some("the parameters are not the first instructions, in order")
        }
        (Op::Scratch, _) => {
            let other =
                |inst: &&Inst| inst.op == Op::Scratch && inst.data != trace.insts[index].data;
            let found = trace.insts[..index].iter().find(other);
            found.map(|_| "it asks for scratch memory of another size than before")
        }
        (Op::Ret, _) if index + 1 != trace.insts.len() => Some("ret is not the last instruction"),
        (Op::HelpIf, Data::Helper(helper)) if helper.entry.result() != Some(Ty::I64) => {
            Some("the helper does not give a word")
        }
        _ => None,
    }
}

/// The types that `inst` takes; none if the signature cannot be carried.
fn operand_types(inst: &Inst) -> Option<Vec<Ty>> {
    match (inst.op.operands(), &inst.data) {
        (Operands::Fixed(types), _) => Some(types.to_vec()),
        (Operands::AddressAndField, Data::Field(field)) => Some(vec![Ty::I64, field.mem.ty()]),
        (Operands::Helper, Data::Helper(helper)) => Some(helper.entry.params().to_vec()),
        (Operands::WordsAndHelper, Data::Helper(helper)) => {
            Some([&[Ty::I64; 2], helper.entry.params()].concat())
        }
        (Operands::Signature, Data::Call(call)) => {
            let signature = call.signature();
            let words = |&ty| std::iter::repeat_n(carrier(ty), CType::words(&ty, signature.abi()));
            let args = signature.args().iter().flat_map(words);
            std::iter::once(Some(Ty::I64)).chain(args).collect()
        }
        _ => None,
    }
}
