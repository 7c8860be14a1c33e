//! Lowering of calls: arguments go to their places all at once, then the call,
//! then the result goes home.

use hotcall_core::{Class, Place};
use hotcall_tracer::{Data, Helper, Ty, Val};
use iced_x86::Code;

use crate::alloc::Home;
use crate::emit::{At, Base, Label};
use crate::lower::{Lower, Source};
use crate::parmove::{Move, sequence};
use crate::plan::{CallPlan, Fate, call_args};
use crate::regs::{CONSTANT, PASSING, RESULT, Reg, VECTOR_RESULT, result_registers};

/// A call of a helper that is seldom made, and so stands behind the rest.
pub(crate) struct Detached<'a> {
    /// Its instruction.
    val: Val,
    call: &'a CallPlan,
    /// Where it stands.
    here: Label,
    /// Where it goes on.
    back: Label,
}

/// The address that is called.
#[derive(Clone, Copy)]
enum Target {
    /// It is this.
    Is(Source),
    /// The call loads it.
    Load(Val),
}

impl<'a> Lower<'a> {
    /// The plan of the next call. Calls are emitted in the order of the plan.
    fn next_call(&mut self) -> &'a CallPlan {
        self.called += 1;
        &self.plan.calls[self.called - 1]
    }

    /// Calls a helper; `val` is its result.
    pub(crate) fn help(&mut self, val: Val, helper: &Helper) {
        let call = self.next_call();
        if self.plan.tail != Some(val.index()) {
            return self.call_helper(call, val, helper);
        }
        // It returns to the stub's caller.
        let args = call_args(&self.trace.insts[val.index()]);
        self.pass(call, args, Target::Is(Source::Number(helper.entry.address())));
        self.leave(self.framed);
        self.asm.r(Code::Jmp_rm64, CONSTANT.full());
    }

    fn call_helper(&mut self, call: &CallPlan, val: Val, helper: &Helper) {
        let args = call_args(&self.trace.insts[val.index()]);
        self.pass(call, args, Target::Is(Source::Number(helper.entry.address())));
        self.asm.r(Code::Call_rm64, CONSTANT.full());
        self.receive(val);
    }

    /// Gives the usual word to `val`, or what the helper gives, out of line.
    pub(crate) fn help_if(&mut self, val: Val) {
        let args = &self.trace.insts[val.index()].args;
        let (usual, unusual) = (args[0], args[1]);
        let (call, here, back) = (self.next_call(), self.asm.label(), self.asm.label());
        let cond = self.is_not_zero(unusual);
        self.asm.jump(cond, here);
        if self.homes.of[val.index()] != Home::Nowhere {
            let target = self.target(val);
            let reg = self.read(usual, target);
            self.write(val, reg);
        }
        self.asm.bind(back);
        // The helper may have changed it.
        self.forget(CONSTANT);
        self.detached.push(Detached { val, call, here, back });
    }

    /// Emits the calls that stand out of line.
    pub(crate) fn detached(&mut self) {
        for Detached { val, call, here, back } in std::mem::take(&mut self.detached) {
            self.asm.bind(here);
            self.frame.here(&mut self.asm, true);
            self.forget(CONSTANT);
            let Data::Helper(helper) = &self.trace.insts[val.index()].data else {
                unreachable!("the table says that its data is a helper");
            };
            let lost: Vec<Reg> = self.homes.lost(self.plan, call).collect();
            let place = |nth| self.frame.slot(self.homes.slot_homes + nth);
            let kept: Vec<(Reg, At)> = lost.into_iter().zip((0..).map(place)).collect();
            kept.iter().for_each(|(reg, at)| self.asm.store(*at, *reg));
            self.call_helper(call, val, helper);
            kept.iter().for_each(|(reg, at)| self.asm.load(*reg, *at));
            self.asm.go(back);
        }
    }

    /// Makes the foreign call; `val` is its result.
    pub(crate) fn call(&mut self, val: Val) {
        let call = self.next_call();
        let inst = &self.trace.insts[val.index()];
        let target = match self.plan.fates[inst.args[0].index()] {
            Fate::Fold => Target::Load(inst.args[0]),
            _ => Target::Is(self.source(inst.args[0])),
        };
        let at = self.pass(call, call_args(inst), target);
        if call.callee.abi == hotcall_core::Abi::SystemV {
            // The function may be variadic. No argument is in this register.
            self.asm.number(Reg::RAX, call.places.vector_registers.into());
        }
        match at {
            Some(at) => self.asm.m(Code::Call_rm64, at),
            None => self.asm.r(Code::Call_rm64, CONSTANT.full()),
        }
        match call.returned {
            Some(of) => self.receive_struct(val, of.words(call.callee.abi)),
            None => self.receive(val),
        }
    }

    /// A struct that was returned in registers goes to the frame; its address
    /// goes home.
    fn receive_struct(&mut self, val: Val, words: &[Class]) {
        self.forget(CONSTANT);
        let place = self.frame.returned();
        for (from, nth) in result_registers(words).into_iter().zip(0..) {
            self.asm.store(At { offset: place.offset + 8 * nth, ..place }, from);
        }
        self.asm.lea(RESULT, place);
        self.write(val, RESULT);
    }

    /// Moves the arguments to their places, and the target to [`CONSTANT`] if it
    /// is not called where it lies in memory, which this gives.
    ///
    /// The stack comes first, as it overwrites nothing that is still to be
    /// read; then registers, in parallel; then what is in no register.
    fn pass(&mut self, call: &CallPlan, args: &[Val], target: Target) -> Option<At> {
        let (mut moves, mut fills) = (Vec::new(), Vec::new());
        let mut to_register = |to: Reg, source: Source| match source {
            Source::Reg(from) => moves.push(Move { to, from }),
            other => fills.push((to, other)),
        };
        if let Target::Is(source) = target {
            to_register(CONSTANT, source);
        }
        for (arg, place) in args.iter().zip(&call.places.args) {
            let source = self.source(*arg);
            match (call.callee.register(*place), *place) {
                (Some(to), _) => to_register(to, source),
                (None, Place::Stack(offset)) => self.pass_on_stack(source, offset),
                (None, Place::Copy { offset, size }) => self.copy_to_stack(source, offset, size),
                (None, _) => unreachable!("a place is a register or on the stack"),
            }
        }
        let at = match target {
            Target::Load(val) => self.load_target(val),
            Target::Is(_) => None,
        };
        let mut steps = Vec::with_capacity(moves.len());
        sequence(&moves, PASSING, &mut steps);
        for Move { to, from } in steps {
            self.asm.mov(to, from);
        }
        for (to, source) in fills {
            match source {
                Source::Number(word) if to.is_vector() => {
                    self.asm.number(PASSING, word);
                    self.asm.mov(to, PASSING);
                }
                Source::Number(word) => self.asm.number(to, word),
                Source::Slot(at) => self.asm.load(to, at),
                Source::Address(at) if to.is_vector() => {
                    self.asm.lea(PASSING, at);
                    self.asm.mov(to, PASSING);
                }
                Source::Address(at) => self.asm.lea(to, at),
                Source::Reg(_) => unreachable!("registers are moved in parallel"),
            }
        }
        if let Some(to) = call.places.result.and_then(|place| call.callee.register(place)) {
            self.asm.lea(to, self.frame.returned());
        }
        at
    }

    /// Where the target lies, if no argument overwrites the way there; else it
    /// is loaded.
    fn load_target(&mut self, val: Val) -> Option<At> {
        let inst = &self.trace.insts[val.index()];
        let Data::Field(field) = &inst.data else { unreachable!("only loads are folded") };
        let at = self.address(inst.args[0], field, CONSTANT);
        if at.base == Base::Reg(CONSTANT) {
            return Some(at);
        }
        self.forget(CONSTANT);
        self.asm.load(CONSTANT, at);
        None
    }

    /// Copies the bytes of a struct, and none behind them, to the stack.
    fn copy_to_stack(&mut self, source: Source, offset: u32, size: u32) {
        let start = match source {
            Source::Reg(base) => At::new(base, 0),
            Source::Number(word) => {
                self.hold(word);
                At::new(CONSTANT, 0)
            }
            Source::Slot(slot) => {
                self.forget(CONSTANT);
                self.asm.load(CONSTANT, slot);
                At::new(CONSTANT, 0)
            }
            Source::Address(at) => at,
        };
        let mut done = 0;
        while done < size {
            let from = At { offset: start.offset + done.cast_signed(), ..start };
            let to = At::new(Reg::RSP, (offset + done).cast_signed());
            done += self.asm.copy_part(to, from, PASSING, size - done);
        }
    }

    fn pass_on_stack(&mut self, source: Source, offset: u32) {
        let at = At::new(Reg::RSP, offset.cast_signed());
        let from = match source {
            Source::Reg(reg) => reg,
            Source::Number(word) => match i32::try_from(word.cast_signed()) {
                Ok(number) => return self.asm.mi(Code::Mov_rm64_imm32, at, number),
                Err(_) => {
                    self.asm.number(PASSING, word);
                    PASSING
                }
            },
            Source::Slot(slot) => {
                self.asm.load(PASSING, slot);
                PASSING
            }
            Source::Address(at) => {
                self.asm.lea(PASSING, at);
                PASSING
            }
        };
        self.asm.store(at, from);
    }

    /// The result goes home. The callee may have changed [`CONSTANT`].
    fn receive(&mut self, val: Val) {
        self.forget(CONSTANT);
        match self.trace.insts[val.index()].ty() {
            Some(Ty::I64) => self.write(val, RESULT),
            Some(_) => self.write(val, VECTOR_RESULT),
            None => {}
        }
    }
}
