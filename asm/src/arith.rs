//! Lowering of what computes: memory accesses, arithmetic, and conversions.

use hotcall_tracer::{Data, Field, Inst, Mem, Op, Val};
use iced_x86::{Code, Register};

use crate::emit::{At, Cond};
use crate::lower::{Lower, Source};
use crate::plan::constant;
use crate::regs::{CONSTANT, PASSING, Reg};

impl Lower<'_> {
    /// `to` gets the value of type `mem` at `at`, widened to a word.
    pub(crate) fn load_widened(&mut self, to: Reg, mem: Mem, at: At) {
        self.forget(to);
        let (code, part) = widening(mem, to);
        self.asm.rm(code, part, at);
    }

    /// Reads the base of this thread's own storage.
    pub(crate) fn thread(&mut self, val: Val) {
        let to = self.target(val);
        self.forget(to);
        self.asm.load(to, At::thread(0));
        self.write(val, to);
    }

    /// The value of `val` is `field` of the object at `base`.
    pub(crate) fn load_field(&mut self, val: Val, base: Val, field: &Field) {
        let at = self.address(base, field, CONSTANT);
        match self.target(val) {
            to if to.is_vector() => {
                let single = field.mem == Mem::F32;
                let code = if single { Code::Movss_xmm_xmmm32 } else { Code::Movsd_xmm_xmmm64 };
                self.asm.rm(code, to.full(), at);
            }
            to => {
                self.load_widened(to, field.mem, at);
                self.write(val, to);
            }
        }
    }

    /// Writes `val` to `field` of the object at `base`.
    pub(crate) fn store_field(&mut self, base: Val, val: Val, field: &Field) {
        let at = self.address(base, field, CONSTANT);
        if let Some(number) = self.plan.added_in_place(self.trace, val) {
            let short = i8::try_from(number).is_ok();
            let code = if short { Code::Add_rm64_imm8 } else { Code::Add_rm64_imm32 };
            return self.asm.mi(code, at, number);
        }
        if let Some(word) = constant(self.trace, val)
            && self.store_number(field.mem, at, word)
        {
            return;
        }
        let from = self.read(val, PASSING);
        let (code, part) = match (field.mem.size(), from.is_vector()) {
            (4, true) => (Code::Movss_xmmm32_xmm, from.full()),
            (_, true) => (Code::Movsd_xmmm64_xmm, from.full()),
            (1, false) => (Code::Mov_rm8_r8, from.low8()),
            (2, false) => (Code::Mov_rm16_r16, from.low16()),
            (4, false) => (Code::Mov_rm32_r32, from.low32()),
            (_, false) => (Code::Mov_rm64_r64, from.full()),
        };
        self.asm.mr(code, at, part);
    }

    /// Writes the low bytes of `word`, unless no instruction has it as a number.
    fn store_number(&mut self, mem: Mem, at: At, word: u64) -> bool {
        let (code, number) = match (mem.size(), i32::try_from(word.cast_signed())) {
            // The encoder wants a number no wider than the memory.
            (1, _) => (Code::Mov_rm8_imm8, i32::from(word as u8)),
            (2, _) => (Code::Mov_rm16_imm16, i32::from(word as u16)),
            (4, _) => (Code::Mov_rm32_imm32, word as i32),
            (_, Ok(number)) => (Code::Mov_rm64_imm32, number),
            _ => return false,
        };
        self.asm.mi(code, at, number);
        true
    }

    /// Emits a pure operation on values.
    pub(crate) fn arith(&mut self, val: Val, inst: &Inst) {
        let first = inst.args[0];
        match (inst.op, &inst.data) {
            (Op::Extend, Data::Mem(mem)) => self.extend(val, first, *mem),
            (Op::ToF64, _) => self.int_to_double(val, first),
            (Op::Demote, _) => self.convert(val, first, Code::Cvtsd2ss_xmm_xmmm64),
            (Op::Promote, _) => self.convert(val, first, Code::Cvtss2sd_xmm_xmmm32),
            (Op::Bits | Op::Bits32, _) => self.bits(val, first, inst.op == Op::Bits32),
            (Op::Shl | Op::Shr, _) => self.shift(val, inst),
            (Op::Ne, _) => self.differ(val, first, inst.args[1]),
            _ => self.binary(val, inst),
        }
    }

    /// `out` gets the value of `val`.
    fn copy(&mut self, out: Reg, val: Val) {
        match self.source(val) {
            Source::Reg(reg) => self.asm.mov(out, reg),
            Source::Slot(at) => self.asm.load(out, at),
            Source::Number(word) => self.asm.number(out, word),
            Source::Address(at) => self.asm.lea(out, at),
        }
    }

    /// Two words to a word, by an instruction that overwrites its first operand.
    fn binary(&mut self, val: Val, inst: &Inst) {
        let (mut a, mut b) = (inst.args[0], inst.args[1]);
        let commutes = inst.op != Op::Sub;
        let mut out = self.target(val);
        let number = |val| constant(self.trace, val).map(u64::cast_signed);
        if let (Op::Sub, Some(Ok(from))) = (inst.op, number(a).map(i32::try_from)) {
            self.copy(out, b);
            self.asm.r(Code::Neg_rm64, out.full());
            self.add_number(Op::Add, out, from);
            return self.write(val, out);
        }
        if commutes && (constant(self.trace, a).is_some() || self.source(b) == Source::Reg(out)) {
            (a, b) = (b, a);
        }
        if let Some(Ok(number)) = number(b).map(i32::try_from) {
            self.binary_number(inst.op, out, a, number);
        } else {
            let b = self.read(b, CONSTANT);
            if b == out && self.source(a) != Source::Reg(out) {
                out = PASSING;
            }
            self.copy(out, a);
            let code = match inst.op {
                Op::Add => Code::Add_r64_rm64,
                Op::Sub => Code::Sub_r64_rm64,
                Op::Mul => Code::Imul_r64_rm64,
                Op::And => Code::And_r64_rm64,
                Op::Or => Code::Or_r64_rm64,
                _ => Code::Xor_r64_rm64,
            };
            self.asm.rr(code, out.full(), b.full());
        }
        self.write(val, out);
    }

    /// `out` gets `a op number`.
    fn binary_number(&mut self, op: Op, out: Reg, a: Val, number: i32) {
        if op == Op::Mul {
            let a = self.read(a, PASSING);
            return self.asm.rri(Code::Imul_r64_rm64_imm32, out.full(), a.full(), number);
        }
        if let (Op::Add, Source::Reg(from)) = (op, self.source(a))
            && from != out
        {
            return self.asm.lea(out, At::new(from, number));
        }
        self.copy(out, a);
        self.add_number(op, out, number);
    }

    /// `out` gets `out op number`, for an operation that is no multiplication.
    fn add_number(&mut self, op: Op, out: Reg, number: i32) {
        let [long, short] = match op {
            Op::Add => [Code::Add_rm64_imm32, Code::Add_rm64_imm8],
            Op::Sub => [Code::Sub_rm64_imm32, Code::Sub_rm64_imm8],
            Op::And => [Code::And_rm64_imm32, Code::And_rm64_imm8],
            Op::Or => [Code::Or_rm64_imm32, Code::Or_rm64_imm8],
            _ => [Code::Xor_rm64_imm32, Code::Xor_rm64_imm8],
        };
        let fits = i8::try_from(number).is_ok();
        self.asm.ri(if fits { short } else { long }, out.full(), number);
    }

    /// Shifts by a number, or by CL, which is borrowed.
    fn shift(&mut self, val: Val, inst: &Inst) {
        let left = inst.op == Op::Shl;
        let (a, count) = (inst.args[0], inst.args[1]);
        if let Some(word) = constant(self.trace, count) {
            let out = self.target(val);
            if let (Source::Reg(from), true, 1) = (self.source(a), left, word & 63)
                && from != out
            {
                self.asm.twice(out, from);
                return self.write(val, out);
            }
            self.copy(out, a);
            let code = if left { Code::Shl_rm64_imm8 } else { Code::Shr_rm64_imm8 };
            self.asm.ri(code, out.full(), (word & 63) as i32);
            return self.write(val, out);
        }
        self.copy(PASSING, a);
        let count = self.read(count, CONSTANT);
        if count == CONSTANT {
            self.forget(CONSTANT);
            self.asm.rr(Code::Xchg_rm64_r64, CONSTANT.full(), Register::RCX);
        } else if count != Reg::RCX {
            self.forget(CONSTANT);
            self.asm.mov(CONSTANT, Reg::RCX);
            self.asm.mov(Reg::RCX, count);
        }
        let code = if left { Code::Shl_rm64_CL } else { Code::Shr_rm64_CL };
        self.asm.rr(code, PASSING.full(), Register::CL);
        if count != Reg::RCX {
            self.asm.mov(Reg::RCX, CONSTANT);
        }
        self.write(val, PASSING);
    }

    /// The value of `val` is 1 if the words differ, else 0.
    fn differ(&mut self, val: Val, a: Val, b: Val) {
        self.compare(a, b, Cond::NotEqual);
        let out = self.target(val);
        self.asm.r(Code::Setne_rm8, out.low8());
        self.asm.rr(Code::Movzx_r32_rm8, out.low32(), out.low8());
        self.write(val, out);
    }

    fn extend(&mut self, val: Val, a: Val, mem: Mem) {
        let (from, out) = (self.read(a, PASSING), self.target(val));
        let (code, to) = widening(mem, out);
        self.asm.rr(code, to, low(from, mem));
        self.write(val, out);
    }

    /// `to` gets the low bytes of `from`, widened from this type.
    pub(crate) fn widen(&mut self, to: Reg, mem: Mem, from: Reg) {
        if mem != Mem::I64 {
            let (code, to) = widening(mem, to);
            self.asm.rr(code, to, low(from, mem));
        }
    }

    fn int_to_double(&mut self, val: Val, a: Val) {
        let (from, out) = (self.read(a, PASSING), self.vector_target(val));
        // The conversion keeps the upper half, so it would wait for the old value.
        self.asm.rr(Code::Xorps_xmm_xmmm128, out.full(), out.full());
        self.asm.rr(Code::Cvtsi2sd_xmm_rm64, out.full(), from.full());
        self.write(val, out);
    }

    /// A double or a float to the other.
    fn convert(&mut self, val: Val, a: Val, code: Code) {
        let (from, out) =
            (self.read(a, self.interface.convention.passing_vector), self.vector_target(val));
        self.asm.rr(code, out.full(), from.full());
        self.write(val, out);
    }

    /// The bits of a double, or of a float if `single`.
    fn bits(&mut self, val: Val, a: Val, single: bool) {
        let out = self.target(val);
        match (self.source(a), single) {
            (Source::Slot(at), true) => self.asm.rm(Code::Mov_r32_rm32, out.low32(), at),
            (_, true) => {
                let from = self.read(a, self.interface.convention.passing_vector);
                self.asm.rr(Code::Movd_rm32_xmm, out.low32(), from.full());
            }
            (_, false) => self.copy(out, a),
        }
        self.write(val, out);
    }
}

/// The low part of a register that a value of type `mem` takes.
fn low(reg: Reg, mem: Mem) -> Register {
    match mem.size() {
        1 => reg.low8(),
        2 => reg.low16(),
        4 => reg.low32(),
        _ => reg.full(),
    }
}

/// The instruction that widens a value of type `mem` to the word `to`, and the
/// part of `to` that it names.
fn widening(mem: Mem, to: Reg) -> (Code, Register) {
    match mem {
        Mem::I8 => (Code::Movsx_r64_rm8, to.full()),
        Mem::U8 => (Code::Movzx_r32_rm8, to.low32()),
        Mem::I16 => (Code::Movsx_r64_rm16, to.full()),
        Mem::U16 => (Code::Movzx_r32_rm16, to.low32()),
        Mem::I32 => (Code::Movsxd_r64_rm32, to.full()),
        Mem::U32 | Mem::F32 => (Code::Mov_r32_rm32, to.low32()),
        Mem::I64 | Mem::F64 => (Code::Mov_r64_rm64, to.full()),
    }
}
