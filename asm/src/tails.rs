//! The ways out of a stub: returns, and the code behind them to which failed
//! guards and early returns jump. Equal ways out share their code.

use hotcall_tracer::{Op, Val};
use iced_x86::Code;

use crate::alloc::Home;
use crate::emit::Label;
use crate::lower::{Lower, Source};
use crate::regs::{CONSTANT, RESULT};

/// One way out of the stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// To the fallback, with the words that the stub was entered with.
    Fallback,
    /// To the caller, with this word.
    Return(Source),
}

impl Lower<'_> {
    /// The label of the way out that does `tail`.
    pub(crate) fn tail(&mut self, tail: Tail) -> Label {
        if let Some((_, label)) = self.tails.iter().find(|(known, _)| *known == tail) {
            return *label;
        }
        let label = self.asm.label();
        self.tails.push((tail, label));
        label
    }

    /// Returns `val`.
    pub(crate) fn ret(&mut self, val: Val) {
        let source = self.source(val);
        self.give_back(source);
    }

    /// Returns `val` if `condition` is not zero.
    pub(crate) fn ret_if(&mut self, condition: Val, val: Val) {
        let source = self.source(val);
        let label = self.tail(Tail::Return(source));
        let cond = self.is_not_zero(condition);
        self.asm.jump(cond, label);
    }

    fn give_back(&mut self, source: Source) {
        match source {
            Source::Reg(reg) => self.asm.mov(RESULT, reg),
            Source::Slot(at) => self.asm.load(RESULT, at),
            Source::Number(word) => self.asm.number(RESULT, word),
        }
        self.frame.leave(&mut self.asm);
        self.asm.op(Code::Retnq);
    }

    /// Emits the ways out that were asked for.
    pub(crate) fn tails(&mut self, fallback: u64) {
        for (tail, label) in std::mem::take(&mut self.tails) {
            self.asm.bind(label);
            match tail {
                Tail::Return(source) => self.give_back(source),
                Tail::Fallback => self.fall_back(fallback),
            }
        }
    }

    /// Parameters return to the registers that they came in. Those that moved
    /// are in registers or slots that no word enters in, so the order is free.
    fn fall_back(&mut self, fallback: u64) {
        let params = self.trace.insts.iter().filter(|inst| inst.op == Op::Param).count();
        for (home, index) in self.homes.of[..params].iter().zip(0..) {
            match (self.host.entry(index), *home) {
                (Some(entry), Home::Reg(reg)) => self.asm.mov(entry, reg),
                (Some(entry), Home::Slot(slot)) => self.asm.load(entry, self.frame.slot(slot)),
                _ => {}
            }
        }
        self.frame.leave(&mut self.asm);
        self.asm.number(CONSTANT, fallback);
        self.asm.r(Code::Jmp_rm64, CONSTANT.full());
    }
}
