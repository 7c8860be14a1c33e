//! Lowering of guards: comparisons and tests of bits, on memory and on numbers
//! where the processor allows it, and the jump out of the stub.

use hotcall_tracer::{Data, Field, Inst, Mem, Op, Val};
use iced_x86::Code;

use crate::emit::Cond;
use crate::lower::Lower;
use crate::plan::{Fate, constant};
use crate::regs::{CONSTANT, PASSING};
use crate::tails::Tail;

impl Lower<'_> {
    /// Goes to the fallback unless the guard's condition holds.
    pub(crate) fn guard(&mut self, inst: &Inst) {
        let holds = match inst.op {
            Op::GuardEq => Cond::Equal,
            Op::GuardNe => Cond::NotEqual,
            Op::GuardLt => Cond::Below,
            _ => Cond::AboveOrEqual,
        };
        let (a, b) = (inst.args[0], inst.args[1]);
        let holds = match [a, b].into_iter().find_map(|val| self.folded_and(val)) {
            Some((x, y)) => {
                self.test(x, y);
                holds
            }
            None => self.compare(a, b, holds),
        };
        let label = self.tail(Tail::Fallback { framed: self.framed });
        self.asm.jump(holds.negated(), label);
    }

    /// Compares a word with zero: gives the condition under which it is another.
    pub(crate) fn is_not_zero(&mut self, val: Val) -> Cond {
        let inst = &self.trace.insts[val.index()];
        match (self.plan.fates[val.index()], inst.op, &inst.data) {
            (Fate::Fold, Op::Ne, _) => self.compare(inst.args[0], inst.args[1], Cond::NotEqual),
            (Fate::Fold, _, Data::Field(field)) => {
                self.compare_memory(val, inst.args[0], field, 0);
                Cond::NotEqual
            }
            _ => {
                self.compare_number(val, 0);
                Cond::NotEqual
            }
        }
    }

    /// The operands of an `and` that its guard does.
    fn folded_and(&self, val: Val) -> Option<(Val, Val)> {
        let inst = &self.trace.insts[val.index()];
        let folded = self.plan.fates[val.index()] == Fate::Fold && inst.op == Op::And;
        folded.then(|| (inst.args[0], inst.args[1]))
    }

    /// The address and the field of a load that its guard does.
    fn folded_load(&self, val: Val) -> Option<(Val, Field)> {
        let inst = &self.trace.insts[val.index()];
        match (self.plan.fates[val.index()], &inst.data) {
            (Fate::Fold, Data::Field(field)) => Some((inst.args[0], *field)),
            _ => None,
        }
    }

    /// Compares two words, unsigned. Gives the condition under which `cond`
    /// holds for `a` and `b`: the operands may have changed places.
    pub(crate) fn compare(&mut self, a: Val, b: Val, cond: Cond) -> Cond {
        if constant(self.trace, a).is_some() && constant(self.trace, b).is_none() {
            return self.compare(b, a, cond.swapped());
        }
        match (constant(self.trace, b), self.folded_load(a), self.folded_load(b)) {
            (Some(word), Some((base, field)), _) => self.compare_memory(a, base, &field, word),
            (Some(word), None, _) => self.compare_number(a, word),
            (None, _, Some((base, field))) if field.mem == Mem::I64 => {
                let a = self.read(a, PASSING);
                let at = self.address(base, &field, CONSTANT);
                self.asm.rm(Code::Cmp_r64_rm64, a.full(), at);
            }
            (None, Some((base, field)), None) if field.mem == Mem::I64 => {
                let at = self.address(base, &field, PASSING);
                let b = self.read(b, CONSTANT);
                self.asm.mr(Code::Cmp_rm64_r64, at, b.full());
            }
            _ => {
                let (a, b) = (self.read(a, PASSING), self.read(b, CONSTANT));
                self.asm.rr(Code::Cmp_r64_rm64, a.full(), b.full());
            }
        }
        cond
    }

    fn compare_number(&mut self, a: Val, word: u64) {
        let a = self.read(a, PASSING);
        match i32::try_from(word.cast_signed()) {
            Ok(0) => self.asm.rr(Code::Test_rm64_r64, a.full(), a.full()),
            Ok(number) => {
                let short = i8::try_from(number).is_ok();
                let code = if short { Code::Cmp_rm64_imm8 } else { Code::Cmp_rm64_imm32 };
                self.asm.ri(code, a.full(), number);
            }
            Err(_) => {
                self.hold(word);
                self.asm.rr(Code::Cmp_r64_rm64, a.full(), CONSTANT.full());
            }
        }
    }

    /// Compares a field in memory with a number.
    ///
    /// Widening keeps the unsigned order of the narrow values, by zeros as by
    /// the sign. So a number that is itself a widened one is compared in the
    /// narrow width. Words of 16 bits are not: processors decode them slowly.
    fn compare_memory(&mut self, load: Val, base: Val, field: &Field, word: u64) {
        let wide = field.mem.widen(word) == word;
        let short = i8::try_from(word.cast_signed()).is_ok();
        let (code, number) = match (field.mem, i32::try_from(word.cast_signed())) {
            (Mem::I8 | Mem::U8, _) if wide => (Code::Cmp_rm8_imm8, i32::from(word as u8)),
            (Mem::I32 | Mem::U32, _) if wide && short => (Code::Cmp_rm32_imm8, word as i32),
            (Mem::I32 | Mem::U32, _) if wide => (Code::Cmp_rm32_imm32, word as i32),
            (Mem::I64, Ok(number)) if short => (Code::Cmp_rm64_imm8, number),
            (Mem::I64, Ok(number)) => (Code::Cmp_rm64_imm32, number),
            (Mem::I64, Err(_)) => {
                let at = self.address(base, field, PASSING);
                self.hold(word);
                return self.asm.mr(Code::Cmp_rm64_r64, at, CONSTANT.full());
            }
            _ => return self.compare_number(load, word),
        };
        let at = self.address(base, field, CONSTANT);
        self.asm.mi(code, at, number);
    }

    /// Sets the zero flag if the words have no bit in common.
    fn test(&mut self, x: Val, y: Val) {
        match (constant(self.trace, x), constant(self.trace, y)) {
            (Some(bits), None) => self.test_bits(y, bits),
            (_, Some(bits)) => self.test_bits(x, bits),
            (None, None) => {
                let (x, y) = (self.read(x, PASSING), self.read(y, CONSTANT));
                self.asm.rr(Code::Test_rm64_r64, x.full(), y.full());
            }
        }
    }

    /// Sets the zero flag if none of `bits` is set in `x`. Low bits are tested
    /// in a narrow width, which memory has at the same address.
    fn test_bits(&mut self, x: Val, bits: u64) {
        if let Some((base, field)) = self.folded_load(x) {
            let code = match (field.mem, u8::try_from(bits), u32::try_from(bits)) {
                (_, Ok(_), _) => Some(Code::Test_rm8_imm8),
                (Mem::I32 | Mem::U32 | Mem::I64, _, Ok(_)) => Some(Code::Test_rm32_imm32),
                _ => None,
            };
            if let Some(code) = code {
                let at = self.address(base, &field, CONSTANT);
                return self.asm.mi(code, at, bits as i32);
            }
        }
        let x = self.read(x, PASSING);
        match (u8::try_from(bits), u32::try_from(bits)) {
            (Ok(_), _) => self.asm.ri(Code::Test_rm8_imm8, x.low8(), bits as i32),
            (_, Ok(_)) => self.asm.ri(Code::Test_rm32_imm32, x.low32(), bits as i32),
            _ => {
                self.hold(bits);
                self.asm.rr(Code::Test_rm64_r64, x.full(), CONSTANT.full());
            }
        }
    }
}
