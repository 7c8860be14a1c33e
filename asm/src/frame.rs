//! The frame of a stub: what lies where between the saved frame pointer and the
//! stack pointer, and the code that builds and removes it.
//!
//! From high to low addresses: the arguments that the caller put on the stack,
//! the return address, the caller's rbp (rbp points here), saved registers,
//! slots, saved vectors, the stub's own memory, what its result is read from, the
//! struct that a call returns, arguments of the calls made (rsp points here).
//! Frame-pointer unwinders find their way through a stub.
//!
//! Guards that come before the first call need no frame, so it is built behind them.

use hotcall_core::StructType;
use hotcall_tracer::Refusal;
use iced_x86::Code;

use crate::alloc::{Home, Homes, Part};
use crate::emit::{Assembler, At};
use crate::interface::{Interface, Returns};
use crate::plan::Plan;
use crate::refusals::FRAME_TOO_LARGE;
use crate::regs::{Reg, RegSet};
use crate::unwind::State;

/// The layout of one stub's frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The general purpose registers that are saved.
    saved: RegSet,
    /// The vector registers that are saved.
    saved_vectors: RegSet,
    /// 8-byte slots for values.
    slots: u32,
    /// Bytes below the saved registers. Keeps rsp a multiple of 16.
    below: u32,
    /// The bytes for arguments: a struct that is returned lies above them.
    outgoing: u32,
    /// The instruction before which it is built; none if nothing needs it.
    pub(crate) begin: Option<usize>,
    /// The bytes up to what the stub's result is read from.
    result: u32,
    /// The bytes up to the stub's own memory.
    scratch: u32,
}

/// The size of a page. A larger frame touches each page that it spans, in
/// order, so that the system sees the stack grow.
const PAGE: u32 = 4096;
/// The largest struct in bytes that is returned in registers.
const IN_REGISTERS: u64 = 16;
/// The largest frame in bytes.
const LIMIT: u64 = 64 * 1024;

impl Frame {
    /// Lays out the frame of a stub that is entered as `interface` says.
    ///
    /// # Errors
    /// [`FRAME_TOO_LARGE`] beyond 64 KiB.
    pub(crate) fn new(plan: &Plan, homes: &Homes, interface: &Interface) -> Result<Frame, Refusal> {
        let entered = interface.convention.preserved;
        let mut changed = homes.used;
        let (mut outgoing, mut returned) = (0, 0);
        for call in plan.calls.iter().filter(|call| plan.tail != Some(call.index)) {
            // What the callee may change must be kept for our caller here.
            changed = changed.or(entered.minus(call.callee.preserved));
            outgoing = outgoing.max(u64::from(call.places.stack_bytes));
            let bytes = call.returned.map_or(0, StructType::size) as u64;
            returned = returned.max(bytes.next_multiple_of(16));
        }
        let kept = changed.and(entered);
        let (vectors, saved): (Vec<Reg>, Vec<Reg>) = kept.iter().partition(|reg| reg.is_vector());
        let wide = 16 * vectors.len() as u64;
        let pushed = 8 * saved.len() as u64;
        let result = outgoing + returned;
        let in_registers = matches!(interface.returns, Returns::Words(_));
        let scratch = result + if in_registers { IN_REGISTERS } else { 0 };
        let from_start = in_registers || interface.returns == Returns::Turn;
        let own = plan.scratch.min(LIMIT + 1).next_multiple_of(16);
        let below = 8 * u64::from(homes.slots) + wide + own + scratch;
        // Behind `push rbp` the stack pointer is a multiple of 16.
        let below = (pushed + below).next_multiple_of(16) - pushed;
        if below > LIMIT {
            return Err(FRAME_TOO_LARGE);
        }
        let needs_it = |home: &Home| match home {
            Home::Reg(reg) => kept.contains(*reg),
            Home::Slot(_) | Home::Passed(_) | Home::Address(_) => true,
            Home::Nowhere => false,
        };
        let home = homes.of.iter().position(needs_it);
        let call = plan.calls.iter().map(|call| call.index).find(|call| plan.tail != Some(*call));
        Ok(Frame {
            begin: home.into_iter().chain(call).chain(from_start.then_some(0)).min(),
            saved: RegSet::of(&saved),
            saved_vectors: RegSet::of(&vectors),
            slots: homes.slots,
            below: below as u32,
            outgoing: outgoing as u32,
            result: result as u32,
            scratch: scratch as u32,
        })
    }

    /// Where slot `index` lies.
    pub(crate) fn slot(&self, index: u32) -> At {
        let words = self.saved.iter().count() as u32 + index + 1;
        At::new(Reg::RBP, -8 * words.cast_signed())
    }

    /// Where a struct lies that a call returns.
    pub(crate) fn returned(&self) -> At {
        At::new(Reg::RSP, self.outgoing.cast_signed())
    }

    /// Where an argument lies that the caller put on the stack: behind rbp and
    /// the return address.
    pub(crate) fn passed(&self, offset: u32) -> At {
        At::new(Reg::RBP, 16 + offset.cast_signed())
    }

    /// Where a part of the stack begins whose address is a value.
    pub(crate) fn part(&self, part: Part) -> At {
        match part {
            Part::Copied(offset) => self.passed(offset),
            Part::Result => At::new(Reg::RSP, self.result.cast_signed()),
            Part::Scratch => At::new(Reg::RSP, self.scratch.cast_signed()),
        }
    }

    /// The saved vectors, and where they lie.
    fn vectors(&self) -> impl Iterator<Item = (Reg, At)> {
        let last_slot = self.slot(self.slots).offset + 8;
        self.saved_vectors
            .iter()
            .zip(1..)
            .map(move |(reg, nth)| (reg, At::new(Reg::RBP, last_slot - 16 * nth)))
    }

    /// Builds the frame.
    pub(crate) fn enter(&self, asm: &mut Assembler) {
        asm.r(Code::Push_r64, Reg::RBP.full());
        asm.note(State::new(Reg::RSP, 16, self.kept(0, false)));
        asm.mov(Reg::RBP, Reg::RSP);
        asm.note(State::new(Reg::RBP, 16, self.kept(0, false)));
        for (count, reg) in (1..).zip(self.saved.iter()) {
            asm.r(Code::Push_r64, reg.full());
            asm.note(State::new(Reg::RBP, 16, self.kept(count, false)));
        }
        let mut below = self.below;
        while below > PAGE {
            asm.ri(Code::Sub_rm64_imm32, Reg::RSP.full(), PAGE.cast_signed());
            asm.mi(Code::Or_rm64_imm8, At::new(Reg::RSP, 0), 0);
            below -= PAGE;
        }
        move_stack_pointer(asm, [Code::Sub_rm64_imm8, Code::Sub_rm64_imm32], below);
        for (reg, at) in self.vectors() {
            asm.mr(Code::Movups_xmmm128_xmm, at, reg.full());
        }
        self.here(asm, true);
    }

    /// Tells whether the frame is there, in code that stands behind other code.
    pub(crate) fn here(&self, asm: &mut Assembler, framed: bool) {
        asm.note(match framed {
            true => State::new(Reg::RBP, 16, self.kept(self.saved.iter().count(), true)),
            false => State::entry(),
        });
    }

    /// Where the caller's rbp is kept, the first `count` of the saved registers,
    /// and the vectors: how far below the caller's frame.
    fn kept(&self, count: usize, vectors: bool) -> Vec<(Reg, u32)> {
        let pushed = self.saved.iter().take(count).zip(1..).map(|(reg, nth)| (reg, 16 + 8 * nth));
        let vectors = self.vectors().filter(|_| vectors);
        let vectors = vectors.map(|(reg, at)| (reg, (16 - at.offset).cast_unsigned()));
        [(Reg::RBP, 16)].into_iter().chain(pushed).chain(vectors).collect()
    }

    /// Removes the frame: only the return address is left.
    pub(crate) fn leave(&self, asm: &mut Assembler) {
        for (reg, at) in self.vectors() {
            asm.rm(Code::Movups_xmm_xmmm128, reg.full(), at);
        }
        move_stack_pointer(asm, [Code::Add_rm64_imm8, Code::Add_rm64_imm32], self.below);
        let mut left = self.saved.iter().count();
        for reg in self.saved.iter().rev() {
            asm.r(Code::Pop_r64, reg.full());
            left -= 1;
            asm.note(State::new(Reg::RBP, 16, self.kept(left, false)));
        }
        asm.r(Code::Pop_r64, Reg::RBP.full());
        asm.note(State::entry());
    }
}

/// Adds `bytes` to the stack pointer, or subtracts them, by the shorter of two codes.
fn move_stack_pointer(asm: &mut Assembler, [short, long]: [Code; 2], bytes: u32) {
    match i8::try_from(bytes) {
        Ok(0) => {}
        Ok(_) => asm.ri(short, Reg::RSP.full(), bytes.cast_signed()),
        Err(_) => asm.ri(long, Reg::RSP.full(), bytes.cast_signed()),
    }
}
