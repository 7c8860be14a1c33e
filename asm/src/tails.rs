//! The ways out of a stub: returns, and the code behind them to which failed
//! guards and early returns jump. Equal ways out share their code. A stub whose
//! last step is a helper has no return of its own: it jumps to the helper.

use hotcall_tracer::{Op, Val};
use iced_x86::Code;

use crate::alloc::Home;
use crate::emit::Label;
use crate::lower::{Lower, Source};
use crate::regs::{CONSTANT, RESULT};

/// One way out of the stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// To the fallback, with the words that the stub was entered with, from a
    /// place where the frame is there or not.
    Fallback { framed: bool },
    /// To the caller, with this word.
    Return { source: Source, framed: bool },
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

    /// Returns `val`, unless the helper that makes it returns it.
    pub(crate) fn ret(&mut self, val: Val) {
        if self.plan.tail.is_none() {
            let source = self.source(val);
            self.give_back(source, self.framed);
        }
    }

    /// Returns `val` if `condition` is not zero.
    pub(crate) fn ret_if(&mut self, condition: Val, val: Val) {
        let source = self.source(val);
        let label = self.tail(Tail::Return { source, framed: self.framed });
        let cond = self.is_not_zero(condition);
        self.asm.jump(cond, label);
    }

    fn give_back(&mut self, source: Source, framed: bool) {
        match source {
            Source::Reg(reg) => self.asm.mov(RESULT, reg),
            Source::Slot(at) => self.asm.load(RESULT, at),
            Source::Number(word) => self.asm.number(RESULT, word),
        }
        self.leave(framed);
        self.asm.op(Code::Retnq);
    }

    /// Removes the frame, if it is there.
    pub(crate) fn leave(&mut self, framed: bool) {
        if framed {
            self.frame.leave(&mut self.asm);
        }
    }

    /// Emits the ways out that were asked for.
    pub(crate) fn tails(&mut self, fallback: u64) {
        for (tail, label) in std::mem::take(&mut self.tails) {
            self.asm.bind(label);
            let (Tail::Return { framed, .. } | Tail::Fallback { framed }) = tail;
            self.frame.here(&mut self.asm, framed);
            match tail {
                Tail::Return { source, framed } => self.give_back(source, framed),
                Tail::Fallback { framed } => self.fall_back(fallback, framed),
            }
        }
    }

    /// Parameters return to the registers that they came in. Those that moved
    /// are in registers or slots that no word enters in, so the order is free.
    fn fall_back(&mut self, fallback: u64, framed: bool) {
        let params = self.trace.insts.iter().filter(|inst| inst.op == Op::Param).count();
        for (home, index) in self.homes.of[..params].iter().zip(0..) {
            match (self.host.entry(index), *home) {
                (Some(entry), Home::Reg(reg)) => self.asm.mov(entry, reg),
                (Some(entry), Home::Slot(slot)) => self.asm.load(entry, self.frame.slot(slot)),
                _ => {}
            }
        }
        self.leave(framed);
        self.asm.number(CONSTANT, fallback);
        self.asm.r(Code::Jmp_rm64, CONSTANT.full());
    }
}
