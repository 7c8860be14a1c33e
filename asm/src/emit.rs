//! A thin layer over the encoder: instructions are encoded as they come, jumps
//! when the places of their labels are known.

use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};

use crate::regs::Reg;
use crate::unwind::{self, Row, State};

/// A condition, as jumps and `set` instructions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cond {
    /// Equal, or zero.
    Equal,
    /// Not equal, or not zero.
    NotEqual,
    /// Unsigned less.
    Below,
    /// Unsigned greater or equal.
    AboveOrEqual,
    /// Unsigned greater.
    Above,
    /// Unsigned less or equal.
    BelowOrEqual,
}

impl Cond {
    /// What holds when this does not.
    pub(crate) const fn negated(self) -> Cond {
        match self {
            Cond::Equal => Cond::NotEqual,
            Cond::NotEqual => Cond::Equal,
            Cond::Below => Cond::AboveOrEqual,
            Cond::AboveOrEqual => Cond::Below,
            Cond::Above => Cond::BelowOrEqual,
            Cond::BelowOrEqual => Cond::Above,
        }
    }

    /// What holds for `b, a` when this holds for `a, b`.
    pub(crate) const fn swapped(self) -> Cond {
        match self {
            Cond::Equal => Cond::Equal,
            Cond::NotEqual => Cond::NotEqual,
            Cond::Below => Cond::Above,
            Cond::Above => Cond::Below,
            Cond::AboveOrEqual => Cond::BelowOrEqual,
            Cond::BelowOrEqual => Cond::AboveOrEqual,
        }
    }

    /// The jump with a displacement of 8 bits, and that with 32.
    const fn jumps(self) -> [Code; 2] {
        match self {
            Cond::Equal => [Code::Je_rel8_64, Code::Je_rel32_64],
            Cond::NotEqual => [Code::Jne_rel8_64, Code::Jne_rel32_64],
            Cond::Below => [Code::Jb_rel8_64, Code::Jb_rel32_64],
            Cond::AboveOrEqual => [Code::Jae_rel8_64, Code::Jae_rel32_64],
            Cond::Above => [Code::Ja_rel8_64, Code::Ja_rel32_64],
            Cond::BelowOrEqual => [Code::Jbe_rel8_64, Code::Jbe_rel32_64],
        }
    }
}

/// What an address is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// What is in this register.
    Reg(Reg),
    /// The base of this thread's own storage.
    Thread,
}

/// Memory at `base + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// What it is counted from.
    pub(crate) base: Base,
    /// Bytes behind it.
    pub(crate) offset: i32,
}

impl At {
    /// So many bytes behind the address in a register.
    pub(crate) const fn new(base: Reg, offset: i32) -> At {
        At { base: Base::Reg(base), offset }
    }

    /// So many bytes behind the base of this thread's own storage, whose first
    /// word is that base.
    pub(crate) const fn thread(offset: i32) -> At {
        At { base: Base::Thread, offset }
    }
}

impl From<At> for MemoryOperand {
    fn from(at: At) -> MemoryOperand {
        let (none, offset) = (Register::None, at.offset.into());
        match at.base {
            Base::Reg(base) => MemoryOperand::with_base_displ(base.full(), offset),
            Base::Thread => MemoryOperand::new(none, none, 1, offset, 8, false, Register::FS),
        }
    }
}

/// A place in the code, which may be bound before or behind jumps to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// Where a label was bound.
#[derive(Clone, Copy)]
struct Bound {
    /// Its offset in the code without jumps.
    at: usize,
    /// How many jumps stand before it.
    jumps: usize,
}

impl Bound {
    /// Its offset in the code when jumps have these sizes.
    fn among(self, sizes: &[usize]) -> usize {
        self.at + sizes[..self.jumps].iter().sum::<usize>()
    }
}

/// A place that is not jumped to, but of which something is known.
struct Note {
    at: Bound,
    state: State,
}

/// A jump that will be inserted into the code, taken always if it has no condition.
struct Jump {
    at: usize,
    cond: Option<Cond>,
    label: Label,
}

impl Jump {
    /// The code with a displacement of 8 bits, and that with 32.
    fn codes(&self) -> [Code; 2] {
        self.cond.map_or([Code::Jmp_rel8_64, Code::Jmp_rel32_64], Cond::jumps)
    }

    /// The size with a displacement of 32 bits, in bytes.
    fn near(&self) -> usize {
        if self.cond.is_some() { 6 } else { 5 }
    }
}

/// What a well-typed instruction of ours never runs into.
const ENCODES: &str = "the operands are of the kinds that the code names";

/// Code under construction.
pub(crate) struct Assembler {
    encoder: Encoder,
    /// The code so far, jumps left out.
    code: Vec<u8>,
    jumps: Vec<Jump>,
    /// What is known of frames, in the order of places.
    notes: Vec<Note>,
    /// For each label, its place, once it is known.
    labels: Vec<Option<Bound>>,
}

impl Assembler {
    /// No code yet.
    pub(crate) fn new() -> Assembler {
        let encoder = Encoder::new(64);
        let (code, jumps, notes, labels) = Default::default();
        Assembler { encoder, code, jumps, notes, labels }
    }

    /// Appends an instruction.
    fn put(&mut self, instruction: Result<Instruction, IcedError>) {
        let instruction = instruction.expect(ENCODES);
        self.encoder.encode(&instruction, 0).expect(ENCODES);
    }

    /// How many bytes there are, jumps left out.
    fn len(&mut self) -> usize {
        let mut fresh = self.encoder.take_buffer();
        self.code.append(&mut fresh);
        self.encoder.set_buffer(fresh);
        self.code.len()
    }

    /// Appends an instruction without operands.
    pub(crate) fn op(&mut self, code: Code) {
        self.put(Ok(Instruction::with(code)));
    }

    /// Appends an instruction on one register.
    pub(crate) fn r(&mut self, code: Code, a: Register) {
        self.put(Instruction::with1(code, a));
    }

    /// Appends an instruction on two registers.
    pub(crate) fn rr(&mut self, code: Code, a: Register, b: Register) {
        self.put(Instruction::with2(code, a, b));
    }

    /// Appends an instruction on a register and a number.
    pub(crate) fn ri(&mut self, code: Code, a: Register, number: i32) {
        self.put(Instruction::with2(code, a, number));
    }

    /// Appends an instruction on a register and memory.
    pub(crate) fn rm(&mut self, code: Code, a: Register, at: At) {
        self.put(Instruction::with2(code, a, MemoryOperand::from(at)));
    }

    /// `to` gets two times what `from` has.
    pub(crate) fn twice(&mut self, to: Reg, from: Reg) {
        let sum = MemoryOperand::with_base_index(from.full(), from.full());
        self.put(Instruction::with2(Code::Lea_r64_m, to.full(), sum));
    }

    /// Appends an instruction on memory.
    pub(crate) fn m(&mut self, code: Code, at: At) {
        self.put(Instruction::with1(code, MemoryOperand::from(at)));
    }

    /// Appends an instruction on memory and a register.
    pub(crate) fn mr(&mut self, code: Code, at: At, a: Register) {
        self.put(Instruction::with2(code, MemoryOperand::from(at), a));
    }

    /// Appends an instruction on memory and a number.
    pub(crate) fn mi(&mut self, code: Code, at: At, number: i32) {
        self.put(Instruction::with2(code, MemoryOperand::from(at), number));
    }

    /// Appends an instruction on two registers and a number.
    pub(crate) fn rri(&mut self, code: Code, a: Register, b: Register, number: i32) {
        self.put(Instruction::with3(code, a, b, number));
    }

    /// `to` gets what `from` has; both are of the same kind, or `to` is
    /// general purpose and `from` is not, or the other way round.
    pub(crate) fn mov(&mut self, to: Reg, from: Reg) {
        let code = match (to.is_vector(), from.is_vector()) {
            _ if to == from => return,
            (false, false) => Code::Mov_r64_rm64,
            (true, true) => Code::Movaps_xmm_xmmm128,
            (true, false) => Code::Movq_xmm_rm64,
            (false, true) => Code::Movq_rm64_xmm,
        };
        self.rr(code, to.full(), from.full());
    }

    /// `to` gets `word`, by the shortest instruction. It may change the flags.
    pub(crate) fn number(&mut self, to: Reg, word: u64) {
        match (u32::try_from(word), i32::try_from(word.cast_signed())) {
            (Ok(0), _) => self.rr(Code::Xor_r32_rm32, to.low32(), to.low32()),
            (Ok(short), _) => self.put(Instruction::with2(Code::Mov_r32_imm32, to.low32(), short)),
            (_, Ok(short)) => self.ri(Code::Mov_rm64_imm32, to.full(), short),
            _ => self.put(Instruction::with2(Code::Mov_r64_imm64, to.full(), word)),
        }
    }

    /// `to` gets the 8 bytes at `at`.
    pub(crate) fn load(&mut self, to: Reg, at: At) {
        let code = if to.is_vector() { Code::Movsd_xmm_xmmm64 } else { Code::Mov_r64_rm64 };
        self.rm(code, to.full(), at);
    }

    /// `to` gets the address `at`.
    pub(crate) fn lea(&mut self, to: Reg, at: At) {
        self.rm(Code::Lea_r64_m, to.full(), at);
    }

    /// `to` gets `base + index * scale`, for a scale of 1, 2, 4 or 8.
    pub(crate) fn lea_item(&mut self, to: Reg, base: Reg, index: Reg, scale: u32) {
        let item = MemoryOperand::with_base_index_scale(base.full(), index.full(), scale);
        self.put(Instruction::with2(Code::Lea_r64_m, to.full(), item));
    }

    /// The 8 bytes at `at` get what `from` has.
    pub(crate) fn store(&mut self, at: At, from: Reg) {
        let code = if from.is_vector() { Code::Movsd_xmmm64_xmm } else { Code::Mov_rm64_r64 };
        self.mr(code, at, from.full());
    }

    /// Copies the largest part of at most `size` bytes that a register takes, by
    /// way of `passing`; gives its size.
    pub(crate) fn copy_part(&mut self, to: At, from: At, passing: Reg, size: u32) -> u32 {
        let (load, store, part, bytes) = match size {
            8.. => (Code::Mov_r64_rm64, Code::Mov_rm64_r64, passing.full(), 8),
            4.. => (Code::Mov_r32_rm32, Code::Mov_rm32_r32, passing.low32(), 4),
            2.. => (Code::Mov_r16_rm16, Code::Mov_rm16_r16, passing.low16(), 2),
            _ => (Code::Mov_r8_rm8, Code::Mov_rm8_r8, passing.low8(), 1),
        };
        self.rm(load, part, from);
        self.mr(store, to, part);
        bytes
    }

    /// Goes to the address that is at `at`.
    pub(crate) fn jump_to(&mut self, at: At) {
        self.put(Instruction::with1(Code::Jmp_rm64, MemoryOperand::from(at)));
    }

    /// A label whose place is not known yet.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The place of `label` is here.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(Bound { at: self.len(), jumps: self.jumps.len() });
    }

    /// From here on, `state` is known.
    pub(crate) fn note(&mut self, state: State) {
        let at = Bound { at: self.len(), jumps: self.jumps.len() };
        self.notes.push(Note { at, state });
    }

    /// Goes to `label` if `cond` holds.
    pub(crate) fn jump(&mut self, cond: Cond, label: Label) {
        let at = self.len();
        self.jumps.push(Jump { at, cond: Some(cond), label });
    }

    /// Goes to `label`.
    pub(crate) fn go(&mut self, label: Label) {
        let at = self.len();
        self.jumps.push(Jump { at, cond: None, label });
    }

    /// Inserts the jumps and gives the finished code, which runs at any address,
    /// and what is known of its frames.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<Row>) {
        let plain = self.len();
        let sizes = self.jump_sizes();
        let mut out = Vec::with_capacity(plain + sizes.iter().sum::<usize>());
        let mut copied = 0;
        for (jump, &size) in self.jumps.iter().zip(&sizes) {
            out.extend_from_slice(&self.code[copied..jump.at]);
            copied = jump.at;
            let ip = out.len();
            let target = self.place(jump.label, &sizes);
            let code = jump.codes()[usize::from(size != SHORT)];
            let branch = Instruction::with_branch(code, target as u64).expect(ENCODES);
            self.encoder.encode(&branch, ip as u64).expect(ENCODES);
            out.append(&mut self.encoder.take_buffer());
        }
        out.extend_from_slice(&self.code[copied..]);
        let notes = std::mem::take(&mut self.notes).into_iter();
        let rows =
            unwind::rows(notes.map(|Note { at, state }| Row { at: at.among(&sizes), state }));
        (out, rows)
    }

    /// Where a label lies when jumps have these sizes.
    fn place(&self, label: Label, sizes: &[usize]) -> usize {
        self.labels[label.0].expect("every label is bound").among(sizes)
    }

    /// The size of each jump in bytes: as short as can be. All begin short, and
    /// grow until each reaches its label.
    fn jump_sizes(&self) -> Vec<usize> {
        let mut sizes = vec![SHORT; self.jumps.len()];
        loop {
            let (mut grown, mut before) = (false, 0);
            for (index, jump) in self.jumps.iter().enumerate() {
                before += sizes[index];
                let distance = self.place(jump.label, &sizes) as i64 - (jump.at + before) as i64;
                if sizes[index] == SHORT && i8::try_from(distance).is_err() {
                    sizes[index] = jump.near();
                    grown = true;
                }
            }
            if !grown {
                return sizes;
            }
        }
    }
}

/// The size of a jump with a displacement of 8 bits.
const SHORT: usize = 2;
