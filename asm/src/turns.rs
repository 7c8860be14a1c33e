//! Lowering of loops: each turn begins with the addresses of its items, and ends
//! with a jump to the next one. The table of columns and the number of the turn
//! have a register each, which no value gets and every call preserves.

use hotcall_tracer::{Mem, Val};
use iced_x86::Code;

use crate::alloc::Home;
use crate::emit::{At, Cond};
use crate::interface::{Arrival, Returns};
use crate::lower::Lower;
use crate::regs::{CONSTANT, NUMBER, PASSING, TABLE};

impl Lower<'_> {
    /// The way into a loop.
    pub(crate) fn first_turn(&mut self) {
        let entry = |index| self.interface.convention.entry(index).expect("two words of each");
        let (table, first) = (entry(0), entry(1));
        self.asm.mov(TABLE, table);
        self.asm.mov(NUMBER, first);
        let turn = self.asm.label();
        self.asm.bind(turn);
        self.turn = Some(turn);
        // Whatever it had in the turn before.
        self.forget(CONSTANT);
        for (val, arrival) in (0..).map(Val).zip(&self.interface.arrivals) {
            if let Arrival::Item { nth, stride } = *arrival
                && self.homes.of[val.index()] != Home::Nowhere
            {
                self.item(val, nth, stride);
            }
        }
    }

    /// `val` is the `nth` word of the table, and `stride` for each turn before.
    fn item(&mut self, val: Val, nth: u32, stride: i32) {
        let to = self.target(val);
        self.load_widened(to, Mem::I64, word(nth));
        match stride {
            0 => {}
            1 | 2 | 4 | 8 => self.asm.lea_item(to, to, NUMBER, stride.cast_unsigned()),
            _ => {
                let product = if to == PASSING { CONSTANT } else { PASSING };
                self.forget(product);
                self.asm.rri(Code::Imul_r64_rm64_imm32, product.full(), NUMBER.full(), stride);
                self.asm.rr(Code::Add_r64_rm64, to.full(), product.full());
            }
        }
        self.write(val, to);
    }

    /// Goes on with the next turn, if this is a loop: the last word of the table says
    /// which turn is none any more.
    pub(crate) fn next_turn(&mut self) {
        if self.interface.returns != Returns::Turn {
            return;
        }
        let turn = self.turn.expect("a loop begins with its first turn");
        let end = word(self.interface.arrivals.len() as u32);
        self.asm.r(Code::Inc_rm64, NUMBER.full());
        self.asm.rm(Code::Cmp_r64_rm64, NUMBER.full(), end);
        self.asm.jump(Cond::Below, turn);
    }
}

/// A word of the table.
fn word(nth: u32) -> At {
    At::new(TABLE, 8 * nth.cast_signed())
}
