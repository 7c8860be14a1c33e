//! Lowering: from a planned and allocated trace to machine code. This file has
//! the walk over the trace and the way to operands; what one operation becomes
//! is in `arith`, `guards` and `calls`, how a stub is left is in `tails`.

use hotcall_tracer::{Data, Field, Op, Refusal, Trace, Val};

use crate::alloc::{Home, Homes, allocate};
use crate::calls::Detached;
use crate::emit::{Assembler, At, Label};
use crate::frame::Frame;
use crate::interface::{Entry, Interface};
use crate::plan::{Fate, Plan, constant};
use crate::regs::{CONSTANT, Convention, PASSING, Reg};
use crate::tails::Tail;
use crate::unwind::Row;

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This register.
    Reg(Reg),
    /// This slot of the frame.
    Slot(At),
    /// It is this number.
    Number(u64),
    /// It is the address of this place in the frame.
    Address(At),
}

/// The state of lowering.
pub(crate) struct Lower<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) plan: &'a Plan,
    pub(crate) homes: &'a Homes,
    pub(crate) frame: &'a Frame,
    pub(crate) interface: &'a Interface,
    pub(crate) asm: Assembler,
    /// The number that [`CONSTANT`] is known to have.
    held: Option<u64>,
    /// Where a turn of a loop begins.
    pub(crate) turn: Option<Label>,
    /// The ways out of the stub so far, each with its label.
    pub(crate) tails: Vec<(Tail, Label)>,
    /// Whether the frame is there.
    pub(crate) framed: bool,
    /// The calls that stand out of line.
    pub(crate) detached: Vec<Detached<'a>>,
    /// How many calls have been emitted.
    pub(crate) called: usize,
}

/// Gives the machine code of a verified trace, which runs at any address, and
/// what is known of its frame.
///
/// The code is entered as `entry` says, with the trace's parameters; `host` is
/// the convention of helpers, and of stubs that are entered with words. A failed
/// guard of those jumps to the fallback with the argument registers and the stack
/// pointer that the stub was entered with.
///
/// # Errors
/// What [`Interface::new`], [`Plan::new`] and [`Frame::new`] refuse.
pub(crate) fn assemble(
    trace: &Trace,
    entry: &Entry,
    host: &'static Convention,
) -> Result<(Vec<u8>, Vec<Row>), Refusal> {
    let interface = Interface::new(trace, entry, host)?;
    let plan = Plan::new(trace, &interface, host)?;
    let homes = allocate(trace, &plan, &interface);
    let frame = Frame::new(&plan, &homes, &interface)?;
    let mut lower = Lower {
        trace,
        plan: &plan,
        homes: &homes,
        frame: &frame,
        interface: &interface,
        asm: Assembler::new(),
        held: None,
        turn: None,
        tails: Vec::new(),
        framed: false,
        detached: Vec::new(),
        called: 0,
    };
    lower.enter();
    for index in trace.params()..trace.insts.len() {
        if plan.fates[index] == Fate::Emit {
            lower.build_frame(index);
            lower.inst(index);
        }
    }
    lower.detached();
    lower.tails();
    Ok(lower.asm.finish())
}

impl Lower<'_> {
    /// Builds the frame, unless it is there or the instruction at `index` does
    /// not need it: what a call may change is saved.
    pub(crate) fn build_frame(&mut self, index: usize) {
        if !self.framed && self.frame.begin.is_some_and(|begin| begin <= index) {
            self.frame.enter(&mut self.asm);
            self.framed = true;
        }
    }

    /// Emits what one instruction does.
    fn inst(&mut self, index: usize) {
        let inst = &self.trace.insts[index];
        let val = Val(index as u32);
        match (inst.op, &inst.data) {
            (Op::Thread, _) => self.thread(val),
            // Its address is known wherever it is used.
            (Op::Scratch, _) => {}
            (Op::Load, Data::Field(field)) => self.load_field(val, inst.args[0], field),
            (Op::Store, Data::Field(field)) => self.store_field(inst.args[0], inst.args[1], field),
            (Op::GuardEq | Op::GuardNe | Op::GuardLt | Op::GuardGe, _) => self.guard(inst),
            (Op::Help, Data::Helper(helper)) => self.help(val, helper),
            (Op::HelpIf, _) => self.help_if(val),
            (Op::Call, _) => self.call(val),
            (Op::RetIf, _) => self.ret_if(inst.args[0], inst.args[1]),
            (Op::Ret, _) => self.ret(inst.args[0]),
            _ => self.arith(val, inst),
        }
    }

    /// Where the value of `val` comes from.
    pub(crate) fn source(&self, val: Val) -> Source {
        match (constant(self.trace, val), self.homes.of[val.index()]) {
            (Some(word), _) => Source::Number(word),
            (None, Home::Reg(reg)) => Source::Reg(reg),
            (None, Home::Slot(slot)) => Source::Slot(self.frame.slot(slot)),
            (None, Home::Passed(offset)) => Source::Slot(self.frame.passed(offset)),
            (None, Home::Address(part)) => Source::Address(self.frame.part(part)),
            (None, Home::Nowhere) => unreachable!("{val} is read, so it has a home"),
        }
    }

    /// A register with the value of `val`: its home, or else `passing`, or
    /// [`CONSTANT`] for a number if that is what `passing` is.
    pub(crate) fn read(&mut self, val: Val, passing: Reg) -> Reg {
        if let (Fate::Fold, Data::Field(field)) =
            (self.plan.fates[val.index()], &self.trace.insts[val.index()].data)
        {
            let at = self.address(self.trace.insts[val.index()].args[0], field, passing);
            self.load_widened(passing, field.mem, at);
            return passing;
        }
        match self.source(val) {
            Source::Reg(reg) => return reg,
            Source::Number(word) if passing == CONSTANT => self.hold(word),
            Source::Number(word) => self.asm.number(passing, word),
            Source::Slot(at) => {
                self.forget(passing);
                self.asm.load(passing, at);
            }
            Source::Address(at) => {
                self.forget(passing);
                self.asm.lea(passing, at);
            }
        }
        passing
    }

    /// Puts `word` in [`CONSTANT`], unless it is there.
    pub(crate) fn hold(&mut self, word: u64) {
        if self.held != Some(word) {
            self.asm.number(CONSTANT, word);
            self.held = Some(word);
        }
    }

    /// `reg` gets a new content: what it held is no longer there.
    pub(crate) fn forget(&mut self, reg: Reg) {
        if reg == CONSTANT {
            self.held = None;
        }
    }

    /// The memory of `field` in the object at `base`, whose address may go
    /// through `passing`.
    pub(crate) fn address(&mut self, base: Val, field: &Field, passing: Reg) -> At {
        if let Home::Address(part) = self.homes.of[base.index()] {
            let start = self.frame.part(part);
            if let Some(offset) = start.offset.checked_add(field.offset) {
                return At { offset, ..start };
            }
        }
        match (self.plan.fates[base.index()], self.trace.insts[base.index()].op) {
            (Fate::Fold, Op::Thread) => At::thread(field.offset),
            _ => At::new(self.read(base, passing), field.offset),
        }
    }

    /// The register in which a word, the value of `val`, is to be made:
    /// [`Self::write`] must follow.
    pub(crate) fn target(&self, val: Val) -> Reg {
        match self.homes.of[val.index()] {
            Home::Reg(reg) => reg,
            _ => PASSING,
        }
    }

    /// The same for a double or a float.
    pub(crate) fn vector_target(&self, val: Val) -> Reg {
        match self.homes.of[val.index()] {
            Home::Reg(reg) => reg,
            _ => self.interface.convention.passing_vector,
        }
    }

    /// The value of `val` is in `reg` now, and goes home.
    pub(crate) fn write(&mut self, val: Val, reg: Reg) {
        match self.homes.of[val.index()] {
            Home::Reg(home) => self.asm.mov(home, reg),
            Home::Slot(slot) => self.asm.store(self.frame.slot(slot), reg),
            Home::Nowhere | Home::Passed(_) | Home::Address(_) => {}
        }
    }
}
