//! The ways out of a stub: returns, and the code behind them to which failed
//! guards and early returns jump. Equal ways out share their code. A stub whose
//! last step is a helper has no return of its own: it jumps to the helper.

use hotcall_tracer::{Mem, Val};
use iced_x86::Code;

use crate::alloc::{Home, Part};
use crate::emit::{At, Label};
use crate::interface::{Arrival, Returns};
use crate::lower::{Lower, Source};
use crate::regs::{CONSTANT, RESULT, VECTOR_RESULT, result_registers};

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

    /// Returns `val`, unless the helper that makes it returns it; in a loop, goes on
    /// with the next turn first, if there is one.
    pub(crate) fn ret(&mut self, val: Val) {
        self.next_turn();
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
        match self.interface.returns {
            Returns::Word(mem) => self.give_word(source, mem),
            Returns::Vector => {
                self.give_word(source, Mem::I64);
                self.asm.mov(VECTOR_RESULT, RESULT);
            }
            Returns::Words(words) => {
                let start = self.frame.part(Part::Result);
                for (reg, nth) in result_registers(words).into_iter().zip(0..) {
                    self.asm.load(reg, At { offset: start.offset + 8 * nth, ..start });
                }
            }
            Returns::At(address) => {
                let source = self.source(address);
                self.give_word(source, Mem::I64);
            }
            Returns::Turn => {}
        }
        self.leave(framed);
        self.asm.op(Code::Retnq);
    }

    /// The result is the word from `source`, widened from its type.
    fn give_word(&mut self, source: Source, mem: Mem) {
        match source {
            Source::Reg(reg) if mem == Mem::I64 => self.asm.mov(RESULT, reg),
            Source::Reg(reg) => self.widen(RESULT, mem, reg),
            Source::Slot(at) => self.load_widened(RESULT, mem, at),
            Source::Number(word) => self.asm.number(RESULT, mem.widen(word)),
            Source::Address(at) => {
                self.asm.lea(RESULT, at);
                self.widen(RESULT, mem, RESULT);
            }
        }
    }

    /// Removes the frame, if it is there.
    pub(crate) fn leave(&mut self, framed: bool) {
        if framed {
            self.frame.leave(&mut self.asm);
        }
    }

    /// Emits the ways out that were asked for.
    pub(crate) fn tails(&mut self) {
        for (tail, label) in std::mem::take(&mut self.tails) {
            self.asm.bind(label);
            let (Tail::Return { framed, .. } | Tail::Fallback { framed }) = tail;
            self.frame.here(&mut self.asm, framed);
            match tail {
                Tail::Return { source, framed } => self.give_back(source, framed),
                Tail::Fallback { framed } => self.fall_back(framed),
            }
        }
    }

    /// Parameters return to the registers that they came in. Those that moved
    /// are in registers or slots that no word enters in, so the order is free.
    fn fall_back(&mut self, framed: bool) {
        let fallback = self.interface.fallback.expect("what has guards has a fallback");
        for (home, arrival) in self.homes.of.iter().zip(&self.interface.arrivals) {
            match (*arrival, *home) {
                (Arrival::Reg(entry, _), Home::Reg(reg)) => self.asm.mov(entry, reg),
                (Arrival::Reg(entry, _), Home::Slot(slot)) => {
                    self.asm.load(entry, self.frame.slot(slot));
                }
                _ => {}
            }
        }
        self.leave(framed);
        self.asm.number(CONSTANT, fallback);
        self.asm.r(Code::Jmp_rm64, CONSTANT.full());
    }
}
