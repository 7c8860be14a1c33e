//! Which instructions are folded into the one that uses them: memory that a guard or
//! a call reads, bits that are tested, what is added in place.

use hotcall_tracer::{Data, Effect, Inst, Mem, Op, Trace, Ty, Val};

use crate::plan::{Fate, constant};

/// What becomes of each instruction, where each value is an operand so many times.
pub(crate) fn fates(trace: &Trace, uses: &[u32]) -> Vec<Fate> {
    let mut fates: Vec<Fate> = (0..trace.insts.len())
        .map(|index| match uses[index] == 0 || constant(trace, Val(index as u32)).is_some() {
            true => Fate::Skip,
            false => Fate::Emit,
        })
        .collect();
    let loads_word = |val: Val| match &trace.insts[val.index()].data {
        Data::Field(field) => field.mem.ty() == Ty::I64 && uses[val.index()] == 1,
        _ => false,
    };
    // No effect stands before a guard, so a load may wait for its guard.
    for inst in trace.insts.iter().filter(|inst| inst.op.effect() == Effect::Exit) {
        for (arg, other) in [(0, 1), (1, 0)].map(|(a, b)| (inst.args[a], inst.args[b])) {
            if loads_word(arg) {
                fates[arg.index()] = Fate::Fold;
            }
            let masked = &trace.insts[arg.index()];
            if masked.op == Op::And
                && uses[arg.index()] == 1
                && matches!(inst.op, Op::GuardEq | Op::GuardNe)
                && constant(trace, other) == Some(0)
            {
                fates[arg.index()] = Fate::Fold;
                for bits in masked.args.iter().filter(|bits| loads_word(**bits)) {
                    fates[bits.index()] = Fate::Fold;
                }
            }
        }
    }
    for (index, inst) in trace.insts.iter().enumerate() {
        let condition = match inst.op {
            Op::RetIf => inst.args[0],
            Op::HelpIf if fates[index] == Fate::Emit => inst.args[1],
            _ => continue,
        };
        // What it reads may change with the next effect.
        let pure = |inst: &Inst| matches!(inst.effect(), Effect::Pure | Effect::Read);
        let waits = uses[condition.index()] == 1
            && match trace.insts[condition.index()].op {
                Op::Ne => true,
                Op::Load => {
                    loads_word(condition)
                        && trace.insts[condition.index() + 1..index].iter().all(pure)
                }
                _ => false,
            };
        if waits {
            fates[condition.index()] = Fate::Fold;
        }
    }
    fold_addresses(trace, uses, &mut fates);
    fold_sums(trace, uses, &mut fates);
    fates
}

/// Folds the sum of a word in memory and a number into the store that puts it back
/// there, if nothing that stands between has an effect: it is added in place.
fn fold_sums(trace: &Trace, uses: &[u32], fates: &mut [Fate]) {
    let alone = |val: Val, op: Op| {
        let inst = &trace.insts[val.index()];
        (inst.op == op && uses[val.index()] == 1).then_some(inst)
    };
    let is_pure = |inst: &Inst| matches!(inst.effect(), Effect::Pure | Effect::Read);
    for (index, store) in trace.insts.iter().enumerate().filter(|(_, inst)| inst.op == Op::Store) {
        let (base, sum) = (store.args[0], store.args[1]);
        if let Some(add) = alone(sum, Op::Add)
            && addend(trace, add).is_some()
            && let Some(load) = alone(add.args[0], Op::Load)
            && load.args[0] == base
            && load.data == store.data
            && matches!(&load.data, Data::Field(field) if field.mem == Mem::I64)
            && trace.insts[add.args[0].index() + 1..index].iter().all(is_pure)
        {
            fates[sum.index()] = Fate::Fold;
            fates[add.args[0].index()] = Fate::Fold;
        }
    }
}

/// The number that an addition adds, if an instruction has it as a number.
pub(crate) fn addend(trace: &Trace, add: &Inst) -> Option<i32> {
    i32::try_from(constant(trace, add.args[1])?.cast_signed()).ok()
}

/// Folds what gives an address: the loads of a target into its call, if nothing
/// that stands between can change what they read, and the base of this thread's
/// own storage, if nothing but that is needed of it, into all that use it.
fn fold_addresses(trace: &Trace, uses: &[u32], fates: &mut [Fate]) {
    let is_pure = |inst: &Inst| matches!(inst.effect(), Effect::Pure | Effect::Read);
    for (index, inst) in trace.insts.iter().enumerate() {
        let mut user = index;
        // The target is in the function object's memory, whose address is in the object.
        let depth = if inst.op == Op::Call { 2 } else { 0 };
        for _ in 0..depth {
            let address = trace.insts[user].args[0].index();
            let is_word =
                matches!(&trace.insts[address].data, Data::Field(field) if field.mem == Mem::I64);
            let waits = is_word
                && uses[address] == 1
                && trace.insts[address + 1..index].iter().all(is_pure);
            if !waits {
                break;
            }
            fates[address] = Fate::Fold;
            user = address;
        }
        if inst.op == Op::Thread && fates[index] == Fate::Emit {
            let base = Val(index as u32);
            // Those that nobody needs are not among its uses.
            let needed = trace.insts.iter().zip(uses).filter(|(_, uses)| **uses > 0);
            let is_base =
                |user: &&Inst| matches!(user.op, Op::Load | Op::Store) && user.args[0] == base;
            let others = |user: &Inst| user.args.iter().filter(|arg| **arg == base).count() > 1;
            let users: Vec<_> = needed.map(|(inst, _)| inst).filter(is_base).collect();
            if users.len() as u32 == uses[index] && !users.into_iter().any(others) {
                fates[index] = Fate::Fold;
            }
        }
    }
}
