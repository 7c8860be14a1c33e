//! Random traces. They are valid by construction, and most of their guards
//! hold for the memory and the words that they are made for.

use std::sync::Arc;

use arbtest::arbitrary::{Result, Unstructured};
use hotcall_core::{Abi, CType, PreparedCall, Signature};
use hotcall_tracer::{Data, Effect, Field, Helper, Host, Mem, Op, Trace, Ty, Val, pure};

use super::Builder;
use super::foreign::gate;
use super::world::{BYTES, TestHost, help};

/// The word of memory that has the address of the memory.
pub(super) const SELF: usize = 5;
/// The word of memory that has the address of the foreign function.
pub(super) const TARGET: usize = 6;

/// A trace that is being made, and what it has computed so far.
pub(super) struct Random<'a, 'u> {
    u: &'a mut Unstructured<'u>,
    builder: Builder,
    helpers: &'static [[Helper; 2]],
    /// The value of each instruction; 0 behind the first effect.
    words: Vec<u64>,
    /// The values that are addresses of the memory.
    pointers: Vec<Val>,
    /// The values that are the address of the foreign function.
    targets: Vec<Val>,
    affected: bool,
    /// The signatures of the foreign calls.
    pub(super) calls: Vec<Signature>,
}

const MEMS: [Mem; 9] =
    [Mem::I8, Mem::U8, Mem::I16, Mem::U16, Mem::I32, Mem::U32, Mem::I64, Mem::F32, Mem::F64];
const BINARY: [Op; 9] =
    [Op::Add, Op::Sub, Op::Mul, Op::And, Op::Or, Op::Xor, Op::Shl, Op::Shr, Op::Ne];
const GUARDS: [Op; 4] = [Op::GuardEq, Op::GuardNe, Op::GuardLt, Op::GuardGe];

impl<'a, 'u> Random<'a, 'u> {
    /// Makes a trace that is entered with `params`, the first of which is the
    /// address of the world's memory. Gives it with its foreign calls.
    pub(super) fn trace(
        u: &'a mut Unstructured<'u>,
        helpers: &'static [[Helper; 2]],
        params: &[u64],
    ) -> Result<(Trace, Vec<Signature>)> {
        let mut random = Random {
            u,
            builder: Builder::default(),
            helpers,
            words: Vec::new(),
            pointers: Vec::new(),
            targets: Vec::new(),
            affected: false,
            calls: Vec::new(),
        };
        for (index, word) in params.iter().enumerate() {
            random.push(Op::Param, vec![], Data::Imm(index as u64), *word);
        }
        random.pointers.push(Val(0));
        for _ in 0..random.u.int_in_range(0..=30)? {
            random.step()?;
        }
        let val = random.value(Ty::I64)?;
        let calls = random.calls;
        Ok((random.builder.ret(val), calls))
    }

    fn push(&mut self, op: Op, args: Vec<Val>, data: Data, word: u64) -> Val {
        self.words.push(word);
        self.builder.trace.push(op, args, data)
    }

    fn word(&self, val: Val) -> u64 {
        self.words[val.index()]
    }

    fn step(&mut self) -> Result<()> {
        match self.u.int_in_range(0..=11)? {
            0 => self.number().map(drop),
            1..=3 => self.load().map(drop),
            4 | 5 => self.compute().map(drop),
            6 => self.convert().map(drop),
            7 | 8 if !self.affected => self.guard(),
            7 if self.u.ratio(1, 3)? => self.add_in_memory(),
            7 => self.store(),
            8 => self.ret_if(),
            9 if self.u.ratio(1, 3)? => self.help_if(),
            9 => self.help(),
            // Effects end the guards, so they come late.
            10 if self.affected || self.u.ratio(1, 3)? => self.call(),
            _ => self.target(),
        }
    }

    /// Some value of type `ty`; a new one if there is none yet.
    fn value(&mut self, ty: Ty) -> Result<Val> {
        let insts = &self.builder.trace.insts;
        let of_type = |index: &usize| insts[*index].ty() == Some(ty);
        let known: Vec<usize> = (0..insts.len()).filter(of_type).collect();
        if !known.is_empty() {
            return Ok(Val(*self.u.choose(&known)? as u32));
        }
        let (op, from) = match ty {
            Ty::I64 => return self.number(),
            Ty::F64 => (Op::ToF64, Ty::I64),
            Ty::F32 => (Op::Demote, Ty::F64),
        };
        let from = self.value(from)?;
        Ok(self.pure(op, vec![from]))
    }

    fn pure(&mut self, op: Op, args: Vec<Val>) -> Val {
        let (a, b) = (self.word(args[0]), self.word(args[args.len() - 1]));
        self.push(op, args, Data::None, pure(op, Mem::I64, a, b))
    }

    fn number(&mut self) -> Result<Val> {
        let word = match self.u.int_in_range(0..=5)? {
            0 => 0,
            1 => self.u.arbitrary::<i8>()? as u64,
            2 => self.u.arbitrary::<u32>()?.into(),
            3 => self.u.arbitrary::<i32>()? as u64,
            4 => self.u.arbitrary()?,
            // What some guard may be after.
            _ if self.words.is_empty() => 1,
            _ => *self.u.choose(&self.words)?,
        };
        Ok(self.push(Op::Const, vec![], Data::Imm(word), word))
    }

    fn pointer(&mut self) -> Result<Val> {
        if self.u.ratio(1, 8)? {
            let address = self.word(Val(0));
            let val = self.builder.symbol("memory", address);
            self.words.push(address);
            self.pointers.push(val);
        }
        Ok(*self.u.choose(&self.pointers)?)
    }

    /// Some field that lies within the memory.
    fn field(&mut self) -> Result<Field> {
        let offset = self.u.int_in_range(0..=BYTES as i32 - 8)?;
        Ok(Field::new("field", offset, *self.u.choose(&MEMS)?))
    }

    fn load(&mut self) -> Result<Val> {
        let (base, mut field) = (self.pointer()?, self.field()?);
        let special = !self.affected && self.u.ratio(1, 6)?;
        if special {
            let index = *self.u.choose(&[SELF, TARGET])?;
            field = Field::new("special", 8 * index as i32, Mem::I64);
        }
        let address = self.word(base).wrapping_add_signed(field.offset.into());
        let word = if self.affected { 0 } else { TestHost.load(field.mem, address) };
        let val = self.push(Op::Load, vec![base], Data::Field(field), word);
        match (special, field.offset as usize / 8) {
            (true, SELF) => self.pointers.push(val),
            (true, _) => self.targets.push(val),
            _ => {}
        }
        Ok(val)
    }

    fn compute(&mut self) -> Result<Val> {
        if self.u.ratio(1, 20)? {
            let word = TestHost.thread();
            return Ok(self.push(Op::Thread, vec![], Data::None, word));
        }
        let op = *self.u.choose(&BINARY)?;
        let args = vec![self.value(Ty::I64)?, self.value(Ty::I64)?];
        Ok(self.pure(op, args))
    }

    fn convert(&mut self) -> Result<Val> {
        let (op, ty) = match self.u.int_in_range(0..=6)? {
            0 => (Op::ToF64, Ty::I64),
            1 => (Op::Demote, Ty::F64),
            2 => (Op::Promote, Ty::F32),
            3 => (Op::Bits, Ty::F64),
            4 => (Op::Bits32, Ty::F32),
            _ => {
                let (arg, mem) = (self.value(Ty::I64)?, *self.u.choose(&MEMS)?);
                let word = mem.widen(self.word(arg));
                return Ok(self.push(Op::Extend, vec![arg], Data::Mem(mem), word));
            }
        };
        let arg = self.value(ty)?;
        Ok(self.pure(op, vec![arg]))
    }

    /// A guard, nearly always one that holds.
    fn guard(&mut self) -> Result<()> {
        let mut args = vec![self.value(Ty::I64)?, self.value(Ty::I64)?];
        if self.u.arbitrary()? {
            args[0] = self.fresh()?;
        }
        if self.u.ratio(1, 3)? {
            let word = if self.u.arbitrary()? { 0 } else { self.word(args[0]) };
            args[1] = self.push(Op::Const, vec![], Data::Imm(word), word);
        }
        if self.u.ratio(1, 4)? {
            args.swap(0, 1);
        }
        let (a, b) = (self.word(args[0]), self.word(args[1]));
        let holds = |op: &Op| match op {
            Op::GuardEq => a == b,
            Op::GuardNe => a != b,
            Op::GuardLt => a < b,
            _ => a >= b,
        };
        let mut ops = GUARDS.to_vec();
        if !self.u.ratio(1, 40)? {
            ops.retain(holds);
        }
        let op = *self.u.choose(&ops)?;
        self.push(op, args, Data::None, 0);
        Ok(())
    }

    /// A word that nobody has used yet, of a kind that guards can do the work
    /// of: a load, or some of its bits.
    fn fresh(&mut self) -> Result<Val> {
        let val = self.load()?;
        let inst = &self.builder.trace.insts[val.index()];
        if inst.ty() != Some(Ty::I64) {
            return self.value(Ty::I64);
        }
        match self.u.arbitrary()? {
            true => Ok(val),
            false => {
                let mask = if self.u.ratio(7, 8)? { self.number()? } else { self.value(Ty::I64)? };
                Ok(self.pure(Op::And, vec![val, mask]))
            }
        }
    }

    fn store(&mut self) -> Result<()> {
        let (base, field) = (self.pointer()?, self.field()?);
        let val = self.value(field.mem.ty())?;
        self.builder.store(base, field, val);
        self.words.push(0);
        Ok(())
    }

    /// Adds to a word in memory; now and then something else comes between.
    fn add_in_memory(&mut self) -> Result<()> {
        let (base, field) = (self.pointer()?, self.field()?);
        let field = Field { mem: Mem::I64, ..field };
        let word = self.push(Op::Load, vec![base], Data::Field(field), 0);
        let number = self.number()?;
        let sum = self.pure(Op::Add, vec![word, number]);
        if self.u.ratio(1, 3)? {
            self.step()?;
        }
        self.builder.store(base, field, sum);
        self.words.push(0);
        Ok(())
    }

    fn ret_if(&mut self) -> Result<()> {
        let args = [self.value(Ty::I64)?, self.value(Ty::I64)?];
        let bit = match self.u.ratio(3, 4)? {
            true => self.pure(Op::Ne, vec![args[0], args[0]]),
            false => args[0],
        };
        self.builder.op(Op::RetIf, &[bit, args[1]]);
        self.words.push(0);
        Ok(())
    }

    fn help(&mut self) -> Result<()> {
        let [with_effect, without] = self.u.choose(self.helpers)?;
        let helper = if self.affected && self.u.arbitrary()? { with_effect } else { without };
        let mut args = Vec::new();
        for ty in helper.entry.params() {
            args.push(self.value(*ty)?);
        }
        let words: Vec<u64> = args.iter().map(|arg| self.word(*arg)).collect();
        let word = if helper.effect == Effect::Read { help(helper.name, &words) } else { 0 };
        self.builder.help(helper, &args);
        self.words.push(word);
        Ok(())
    }

    fn help_if(&mut self) -> Result<()> {
        let [with_effect, without] = self.u.choose(self.helpers)?;
        let helper = if self.affected && self.u.arbitrary()? { with_effect } else { without };
        if helper.entry.result() != Some(Ty::I64) {
            return self.help();
        }
        let usual = self.value(Ty::I64)?;
        let unusual = match self.u.int_in_range(0..=3)? {
            0 => self.load()?,
            1 => self.value(Ty::I64)?,
            2 => self.pure(Op::Ne, vec![usual, usual]),
            _ => {
                let args = vec![self.value(Ty::I64)?, self.value(Ty::I64)?];
                self.pure(Op::Ne, args)
            }
        };
        let unusual = match self.builder.trace.insts[unusual.index()].ty() {
            Some(Ty::I64) => unusual,
            _ => usual,
        };
        let mut args = Vec::new();
        for ty in helper.entry.params() {
            args.push(self.value(*ty)?);
        }
        let words: Vec<u64> = args.iter().map(|arg| self.word(*arg)).collect();
        let word = match (helper.effect, self.word(unusual)) {
            (Effect::Read, 0) => self.word(usual),
            (Effect::Read, _) => help(helper.name, &words),
            _ => 0,
        };
        self.builder.help_if([usual, unusual], helper, &args);
        self.words.push(word);
        Ok(())
    }

    /// The address of the foreign function, in one way or another.
    fn target(&mut self) -> Result<()> {
        let address = (gate as *const ()).addr() as u64;
        let val = match self.u.arbitrary()? {
            true => self.push(Op::Const, vec![], Data::Imm(address), address),
            false => {
                self.words.push(address);
                self.builder.symbol("gate", address)
            }
        };
        self.targets.push(val);
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let mut ctypes = Vec::new();
        for _ in 0..self.u.int_in_range(0..=20)? {
            ctypes.push(*self.u.choose(CType::ALL)?);
        }
        ctypes.retain(|ctype| !matches!(ctype, CType::Void | CType::LongDouble));
        let result = *self.u.choose(CType::ALL)?;
        let result = if result == CType::LongDouble { CType::F32 } else { result };
        let abi = *self.u.choose(&[Abi::SystemV, Abi::Win64])?;
        let signature = Signature::new(ctypes, result).expect("no void").with_abi(abi);
        if self.targets.is_empty() {
            self.target()?;
        }
        let mut args = vec![*self.u.choose(&self.targets)?];
        for ctype in signature.args() {
            args.push(self.value(match ctype {
                CType::F32 => Ty::F32,
                CType::F64 => Ty::F64,
                _ => Ty::I64,
            })?);
        }
        let call = PreparedCall::new(&signature).expect("a signature that libffi knows");
        self.push(Op::Call, args, Data::Call(Arc::new(call)), 0);
        self.calls.push(signature);
        self.affected = true;
        Ok(())
    }
}
