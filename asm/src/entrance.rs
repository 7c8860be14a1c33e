//! Lowering of the way in: parameters go home from where
//! the stub's caller put them.

use hotcall_tracer::{Mem, Val};
use iced_x86::Code;

use crate::alloc::Home;
use crate::interface::{Arrival, Returns};
use crate::lower::Lower;
use crate::regs::{CONTEXT, PASSING, Reg};

impl Lower<'_> {
    /// The way in: parameters go home.
    ///
    /// First move those in argument registers, to where no parameter comes in.
    /// Then all of these registers may be home to others, and so the context is
    /// next; then nothing is left in the register that words pass through.
    pub(crate) fn enter(&mut self) {
        self.asm.op(Code::Endbr64);
        self.build_frame(self.trace.params().saturating_sub(1));
        if self.interface.returns == Returns::Turn {
            return self.first_turn();
        }
        let (homes, interface) = (self.homes, self.interface);
        let params = || {
            let all = (0..).map(Val).zip(&interface.arrivals);
            all.filter(|(val, _)| homes.of[val.index()] != Home::Nowhere)
        };
        for (val, arrival) in params() {
            match *arrival {
                Arrival::Reg(reg, mem) if !reg.is_vector() && reg != CONTEXT => {
                    self.widen(reg, mem, reg);
                    self.write(val, reg);
                }
                _ => {}
            }
        }
        for (val, arrival) in params() {
            if *arrival == Arrival::Reg(CONTEXT, Mem::I64) {
                self.write(val, CONTEXT);
            }
        }
        for (val, arrival) in params() {
            match *arrival {
                Arrival::Reg(reg, mem) if reg.is_vector() => self.write_bits(val, mem, reg),
                Arrival::Stack(offset, mem) if mem != Mem::I64 => {
                    let at = self.frame.passed(offset);
                    self.load_widened(PASSING, mem, at);
                    self.asm.store(at, PASSING);
                }
                _ => {}
            }
        }
    }

    /// The word of `val` is the bits of the double, or of the float, in `from`.
    fn write_bits(&mut self, val: Val, mem: Mem, from: Reg) {
        let to = self.target(val);
        match mem {
            Mem::F32 => self.asm.rr(Code::Movd_rm32_xmm, to.low32(), from.full()),
            _ => self.asm.mov(to, from),
        }
        self.write(val, to);
    }
}
