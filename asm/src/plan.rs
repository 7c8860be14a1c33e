//! What lowering has to know about a trace before it emits anything: which
//! instructions are emitted at all, which are folded into the one that uses
//! them, how long each value lives, and whether calls interrupt its life.

use hotcall_core::{Abi, CType, Place, Places, StructType, Unplaced};
use hotcall_tracer::{Data, Effect, Inst, Mem, Op, Refusal, Trace, Ty, Val};

use crate::fold::{addend, fates};
use crate::interface::{Interface, Returns};
use crate::refusals::{FRAME_TOO_LARGE, INVALID_TRACE, LONG_DOUBLE, WIN64_VARIADIC};
use crate::regs::{Convention, RESULT, Reg, convention};

/// What becomes of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: nobody needs it, or each use makes its constant afresh.
    Skip,
    /// Its one user does its work, as a memory operand or a test of bits.
    Fold,
    /// It is emitted where it stands.
    Emit,
}

/// A call, and where its arguments go.
#[derive(Debug)]
pub(crate) struct CallPlan {
    /// The index of the instruction.
    pub(crate) index: usize,
    /// The convention of the callee.
    pub(crate) callee: &'static Convention,
    /// The places of the arguments, without the target's address.
    pub(crate) places: Places,
    /// The struct that it returns, if it returns one.
    pub(crate) returned: Option<&'static StructType>,
}

/// The answers, for each instruction or its value.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What becomes of it.
    pub(crate) fates: Vec<Fate>,
    /// The last instruction that reads its value; 0 if none does.
    pub(crate) last: Vec<usize>,
    /// Whether its value lives across a call.
    pub(crate) across: Vec<bool>,
    /// The register in which its value is wanted.
    pub(crate) hints: Vec<Option<Reg>>,
    /// The calls, in order.
    pub(crate) calls: Vec<CallPlan>,
    /// The call that is the last thing that the stub does: a jump does for it.
    pub(crate) tail: Option<usize>,
    /// The bytes of the stub's own memory.
    pub(crate) scratch: u64,
}

/// The largest struct in bytes that a stub copies to the stack: the code has an
/// instruction or two for each word of it.
const MOST_COPIED: u32 = 1024;

/// The number that `val` always is: then each use makes it afresh.
pub(crate) fn constant(trace: &Trace, val: Val) -> Option<u64> {
    let inst = &trace.insts[val.index()];
    match &inst.data {
        Data::Imm(word) if inst.op == Op::Const => Some(*word),
        Data::Symbol(symbol) => Some(symbol.address),
        _ => None,
    }
}

/// The arguments of a call without what stands before them: the target's address,
/// or the words between which `help_if` chooses.
pub(crate) fn call_args(inst: &Inst) -> &[Val] {
    match inst.op {
        Op::Call => &inst.args[1..],
        Op::HelpIf => &inst.args[2..],
        _ => &inst.args,
    }
}

impl Plan {
    /// Studies a verified trace for a stub that is entered and left as
    /// `interface` says; `host` is the convention of helpers.
    ///
    /// # Errors
    /// [`LONG_DOUBLE`] and [`FRAME_TOO_LARGE`], for calls that cannot be placed;
    /// [`INVALID_TRACE`] if something stands before a parameter.
    pub(crate) fn new(
        trace: &Trace,
        interface: &Interface,
        host: &'static Convention,
    ) -> Result<Plan, Refusal> {
        if trace.insts[..trace.params()].iter().any(|inst| inst.op != Op::Param) {
            return Err(INVALID_TRACE);
        }
        let uses = count_uses(trace);
        let fates = fates(trace, &uses);
        let calls = place_calls(trace, &fates, host)?;
        let mut last = last_uses(trace, &fates);
        if let Returns::At(address) = interface.returns {
            last[address.index()] = trace.insts.len() - 1;
        }
        let across = lives_across(trace, &last, &calls);
        let hints = hints(trace, &last, &calls);
        let scratch = trace.insts.iter().find_map(|inst| match inst.data {
            Data::Imm(bytes) if inst.op == Op::Scratch => Some(bytes),
            _ => None,
        });
        let scratch = scratch.unwrap_or(0);
        let ends_alike = interface.returns == Returns::Word(Mem::I64)
            && interface.convention.abi == host.abi
            && scratch == 0;
        let tail = tail_call(trace, &calls).filter(|_| ends_alike);
        Ok(Plan { fates, last, across, hints, calls, scratch, tail })
    }
}

impl Plan {
    /// The number that is added in place, where `val` is a sum that its store makes.
    pub(crate) fn added_in_place(&self, trace: &Trace, val: Val) -> Option<i32> {
        let inst = &trace.insts[val.index()];
        let folded = inst.op == Op::Add && self.fates[val.index()] == Fate::Fold;
        folded.then(|| addend(trace, inst)).flatten()
    }
}

/// Why there is no stub where arguments have no place.
pub(crate) fn unplaced(unplaced: Unplaced) -> Refusal {
    match unplaced {
        Unplaced::LongDouble => LONG_DOUBLE,
        Unplaced::TooMany => FRAME_TOO_LARGE,
        _ => INVALID_TRACE,
    }
}

/// How many operands of needed instructions each value is; an instruction
/// that must happen counts as used once more.
fn count_uses(trace: &Trace) -> Vec<u32> {
    let mut uses = vec![0; trace.insts.len()];
    for (index, inst) in trace.insts.iter().enumerate().rev() {
        if !matches!(inst.effect(), Effect::Pure | Effect::Read) {
            uses[index] += 1;
        }
        if uses[index] > 0 {
            inst.args.iter().for_each(|arg| uses[arg.index()] += 1);
        }
    }
    uses
}

/// Where the arguments of each call go.
fn place_calls(
    trace: &Trace,
    fates: &[Fate],
    host: &'static Convention,
) -> Result<Vec<CallPlan>, Refusal> {
    let mut calls = Vec::new();
    for (index, inst) in trace.insts.iter().enumerate() {
        if fates[index] != Fate::Emit {
            continue;
        }
        let mut returned = None;
        let (callee, places) = match &inst.data {
            Data::Call(call) => {
                let signature = call.signature();
                if signature.result() == CType::LongDouble {
                    return Err(LONG_DOUBLE);
                }
                returned = signature.result().as_struct();
                let is_float = |arg: &CType| matches!(arg, CType::F32 | CType::F64);
                let is_variadic = signature.fixed().is_some() && signature.abi() == Abi::Win64;
                if is_variadic && signature.args().iter().any(is_float) {
                    return Err(WIN64_VARIADIC);
                }
                let places = signature.abi().places(signature.args(), signature.result());
                (convention(signature.abi()), places)
            }
            Data::Helper(helper) => (host, helper_places(host.abi, helper.entry.params())),
            _ => continue,
        };
        let places = places.map_err(unplaced)?;
        let is_large =
            |place: &Place| matches!(place, Place::Copy { size, .. } if *size > MOST_COPIED);
        if places.args.iter().any(is_large) {
            return Err(FRAME_TOO_LARGE);
        }
        calls.push(CallPlan { index, callee, places, returned });
    }
    Ok(calls)
}

fn helper_places(abi: Abi, params: &[Ty]) -> Result<Places, Unplaced> {
    let ctypes: Vec<CType> = params
        .iter()
        .map(|ty| match ty {
            Ty::I64 => CType::U64,
            Ty::F64 => CType::F64,
            Ty::F32 => CType::F32,
        })
        .collect();
    abi.places(&ctypes, CType::Void)
}

/// The last call, if it is a helper whose result is returned, and that gets
/// nothing which lies in the frame.
fn tail_call(trace: &Trace, calls: &[CallPlan]) -> Option<usize> {
    let (last, ret) = (calls.last()?, trace.insts.last()?);
    let is_returned = ret.op == Op::Ret && ret.args[0].index() == last.index;
    let is_helper = trace.insts[last.index].op == Op::Help;
    let in_register = |place: &Place| matches!(place, Place::Gp(_) | Place::Fp(_));
    let apart = last.places.args.iter().all(in_register)
        && calls.iter().all(|call| call.returned.is_none());
    // What stands between would be done before the call.
    let next = last.index + 2 == trace.insts.len();
    (is_returned && is_helper && apart && next).then_some(last.index)
}

/// The last reader of each value. What is folded reads when its user does, and
/// a guard may need all parameters, to hand them to the fallback.
fn last_uses(trace: &Trace, fates: &[Fate]) -> Vec<usize> {
    let mut last = vec![0; trace.insts.len()];
    for (index, inst) in trace.insts.iter().enumerate().rev() {
        let reader = match fates[index] {
            Fate::Skip => continue,
            Fate::Emit => index,
            Fate::Fold => last[index],
        };
        for arg in &inst.args {
            last[arg.index()] = last[arg.index()].max(reader);
        }
    }
    let guard = trace.insts.iter().rposition(|inst| inst.op.effect() == Effect::Exit);
    for (inst, last) in trace.insts.iter().zip(&mut last) {
        if inst.op == Op::Param {
            *last = (*last).max(guard.unwrap_or(0));
        }
    }
    last
}

/// Whether a call stands between the definition and the last use of each value.
/// Calls out of line do not count: they keep what they may change.
fn lives_across(trace: &Trace, last: &[usize], calls: &[CallPlan]) -> Vec<bool> {
    let in_line = |call: &&CallPlan| trace.insts[call.index].op != Op::HelpIf;
    let calls: Vec<&CallPlan> = calls.iter().filter(in_line).collect();
    let interrupted = |(def, &last): (usize, &usize)| {
        let next = calls.partition_point(|call| call.index <= def);
        calls.get(next).is_some_and(|call| call.index < last)
    };
    last.iter().enumerate().map(interrupted).collect()
}

/// The registers in which values are wanted: those of a call's arguments, for
/// what the call is the last to use, and those of what is computed in place.
fn hints(trace: &Trace, last: &[usize], calls: &[CallPlan]) -> Vec<Option<Reg>> {
    let mut hints = vec![None; trace.insts.len()];
    let mut calls = calls.iter().rev().peekable();
    for (index, inst) in trace.insts.iter().enumerate().rev() {
        let own = hints[index];
        let mut want = |val: Val, reg: Option<Reg>| {
            if last[val.index()] == index && hints[val.index()].is_none() {
                hints[val.index()] = reg;
            }
        };
        match inst.op {
            Op::Ret => want(inst.args[0], Some(RESULT)),
            Op::Call | Op::Help | Op::HelpIf => {
                if inst.op == Op::HelpIf {
                    // The usual value needs no move if it is there already.
                    want(inst.args[0], own);
                }
                if let Some(call) = calls.next_if(|call| call.index == index) {
                    for (arg, place) in call_args(inst).iter().zip(&call.places.args) {
                        want(*arg, call.callee.register(*place));
                    }
                }
            }
            // A call has its own idea of where its result is.
            Op::Load | Op::Extend => {}
            _ if inst.op.effect() == Effect::Pure && !inst.args.is_empty() => {
                let reg = hints[index];
                if last[inst.args[0].index()] == index {
                    hints[inst.args[0].index()] = reg;
                }
            }
            _ => {}
        }
    }
    hints
}
