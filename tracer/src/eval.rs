//! The evaluator: what a trace means, one instruction after the other. It is
//! the oracle that machine code and the optimiser are tested against.

use crate::data::Data;
use crate::host::Host;
use crate::ir::{Effect, Inst, Mem, Op, Trace};
use crate::semantics::{holds, pure};

/// How a run of a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this word.
    Done(u64),
    /// The guard at this index failed; the fallback makes the whole call.
    Exit(usize),
}

/// Runs `trace`, entered with `params`, against `host`.
///
/// # Panics
/// If the trace would not pass [`crate::verify()`].
pub fn eval(trace: &Trace, params: &[u64], host: &mut impl Host) -> Outcome {
    let mut words = vec![0; trace.insts.len()];
    for (index, inst) in trace.insts.iter().enumerate() {
        let args: Vec<u64> = inst.args.iter().map(|arg| words[arg.index()]).collect();
        if inst.op == Op::Ret {
            return Outcome::Done(args[0]);
        }
        if inst.op == Op::RetIf {
            if args[0] != 0 {
                return Outcome::Done(args[1]);
            }
            continue;
        }
        if inst.op.effect() == Effect::Exit {
            if !holds(inst.op, args[0], args[1]) {
                return Outcome::Exit(index);
            }
            continue;
        }
        words[index] = step(inst, &args, params, host);
    }
    unreachable!("a verified trace ends with ret")
}

/// The word that `inst` gives, zero if none.
fn step(inst: &Inst, args: &[u64], params: &[u64], host: &mut impl Host) -> u64 {
    match (&inst.data, inst.op) {
        (Data::Imm(index), Op::Param) => params[*index as usize],
        (Data::Imm(bytes), Op::Scratch) => host.scratch(*bytes),
        (Data::Imm(word), _) => *word,
        (Data::Symbol(symbol), _) => symbol.address,
        (Data::Field(field), op) => {
            let address = args[0].wrapping_add_signed(field.offset.into());
            if op == Op::Load {
                return host.load(field.mem, address);
            }
            host.store(field.mem, address, args[1]);
            0
        }
        (Data::Helper(helper), Op::HelpIf) if args[1] != 0 => host.help(helper, &args[2..]),
        (Data::Helper(_), Op::HelpIf) => args[0],
        (Data::Helper(helper), _) => host.help(helper, args),
        (Data::Call(call), _) => host.call(call, args[0], &args[1..]),
        (Data::None, Op::Thread) => host.thread(),
        (Data::Mem(mem), op) => pure(op, *mem, args[0], args[0]),
        (Data::None, op) => pure(op, Mem::I64, args[0], *args.last().unwrap_or(&0)),
    }
}
