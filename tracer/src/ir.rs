//! The trace: a straight line of typed instructions, in SSA form, and the one
//! table of operations that the printer, verifier, evaluator and lowering share.
//!
//! A value is named by the index of the instruction that defines it, so a
//! trace is one vector and needs no use-def chains. Control only ever leaves a
//! trace forwards: a guard that fails tail-calls the fallback with the words
//! that the stub was entered with.
//!
//! **Invariant.** No guard follows an effect, so an exit carries no state: the
//! fallback simply performs the whole call again.

use std::borrow::Cow;
use std::fmt;

use hotcall_core::{CType, Class};

use crate::data::Data;

/// The type of a value in a trace. Every value is carried as 64 bits: a word,
/// the bits of a double, or the bits of a float in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// An integer or an address.
    I64,
    /// A double.
    F64,
    /// A float.
    F32,
}

/// The type of a value in memory: its size, and how it widens to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it all: width in bits, signed or not")]
pub enum Mem {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F32,
    F64,
}

impl Mem {
    /// The type of the value that a load of this type gives.
    pub const fn ty(self) -> Ty {
        match self {
            Mem::F32 => Ty::F32,
            Mem::F64 => Ty::F64,
            _ => Ty::I64,
        }
    }

    /// How many bytes it occupies in memory.
    pub const fn size(self) -> u32 {
        match self {
            Mem::I8 | Mem::U8 => 1,
            Mem::I16 | Mem::U16 => 2,
            Mem::I32 | Mem::U32 | Mem::F32 => 4,
            Mem::I64 | Mem::F64 => 8,
        }
    }

    /// The widest unsigned type that has at most `size` bytes, which is not 0.
    pub const fn widest(size: usize) -> Mem {
        match size {
            8.. => Mem::I64,
            4.. => Mem::U32,
            2.. => Mem::U16,
            _ => Mem::U8,
        }
    }

    /// Widens the low bytes of `word` as a load of this type would.
    pub const fn widen(self, word: u64) -> u64 {
        match self {
            Mem::I8 => word as i8 as u64,
            Mem::U8 => word as u8 as u64,
            Mem::I16 => word as i16 as u64,
            Mem::U16 => word as u16 as u64,
            Mem::I32 => word as i32 as u64,
            Mem::U32 | Mem::F32 => word as u32 as u64,
            Mem::I64 | Mem::F64 => word,
        }
    }
}

/// A place in an object: a row of the host's layout data. Traces print its
/// name, so one golden text holds wherever the field lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// What the field is called, as in `float.value`.
    pub name: &'static str,
    /// The element, for a field that is an array, printed in brackets.
    pub index: Option<u32>,
    /// Bytes from the start of the object.
    pub offset: i32,
    /// The type of what is stored there.
    pub mem: Mem,
}

impl Field {
    /// The field `name` of type `mem`, `offset` bytes into its object.
    pub const fn new(name: &'static str, offset: i32, mem: Mem) -> Field {
        Field { name, index: None, offset, mem }
    }

    /// The `index`-th element of an array that starts at this field.
    pub const fn item(self, index: u32) -> Field {
        let offset = self.offset + (index * self.mem.size()) as i32;
        Field { index: Some(index), offset, ..self }
    }
}

/// An address that the host knows by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// How traces print it, behind an `@`.
    pub name: Cow<'static, str>,
    /// The address.
    pub address: u64,
}

/// What an instruction does besides giving a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing: it depends on its operands alone.
    Pure,
    /// It reads memory, which nothing changes before the first effect.
    Read,
    /// It may leave the trace.
    Exit,
    /// It changes the world: nothing may exit from here on.
    Effect,
    /// It ends the trace.
    End,
}

/// What an operation takes from the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operands {
    /// Exactly these.
    Fixed(&'static [Ty]),
    /// An address, then a value of the field's type.
    AddressAndField,
    /// What the helper declares.
    Helper,
    /// Two words, then what the helper declares.
    WordsAndHelper,
    /// The target's address, then what the signature declares.
    Signature,
}

/// What an operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResultKind {
    /// Nothing.
    None,
    /// A value of this type.
    Is(Ty),
    /// A value of the field's type.
    Field,
    /// What the helper declares.
    Helper,
    /// What the signature declares.
    Signature,
}

/// The kind of an instruction's immediate data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kinds are the variants of `Data`")]
pub enum DataKind {
    None,
    Imm,
    Symbol,
    Field,
    Mem,
    Helper,
    Call,
}

/// Defines [`Op`] and its columns from one row per operation.
macro_rules! op_table {
    ($($name:ident $text:literal $data:ident $operands:expr, $result:expr, $effect:ident, $doc:literal;)*) => {
        /// An operation of the IR.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op { $(#[doc = $doc] $name,)* }

        impl Op {
            /// Every operation, in the order of the table.
            pub const ALL: &[Op] = &[$(Op::$name,)*];

            /// How the operation is written in a trace.
            pub const fn text(self) -> &'static str {
                match self { $(Op::$name => $text,)* }
            }

            /// The kind of its immediate data.
            pub const fn data(self) -> DataKind {
                match self { $(Op::$name => DataKind::$data,)* }
            }

            /// What it takes.
            pub const fn operands(self) -> Operands {
                match self { $(Op::$name => $operands,)* }
            }

            /// What it gives.
            pub const fn result(self) -> ResultKind {
                match self { $(Op::$name => $result,)* }
            }

            /// What it does besides; a helper's own effect overrides it.
            pub const fn effect(self) -> Effect {
                match self { $(Op::$name => Effect::$effect,)* }
            }
        }
    };
}

const NOTHING: Operands = Operands::Fixed(&[]);
const WORD: Operands = Operands::Fixed(&[Ty::I64]);
const WORDS: Operands = Operands::Fixed(&[Ty::I64, Ty::I64]);
const DOUBLE: Operands = Operands::Fixed(&[Ty::F64]);
const FLOAT: Operands = Operands::Fixed(&[Ty::F32]);

#[rustfmt::skip] // One row per operation.
mod table {
    use super::*;
    use super::Operands::{AddressAndField, Signature, WordsAndHelper};
    use super::ResultKind::{Is, None};
    use super::Ty::{F32, F64, I64};

    op_table! {
        // name   text        data    operands          result       effect
        Param    "param"      Imm     NOTHING,          Is(I64),     Pure,   "The n-th word that the stub was entered with.";
        Const    "const"      Imm     NOTHING,          Is(I64),     Pure,   "A number.";
        Sym      "sym"        Symbol  NOTHING,          Is(I64),     Pure,   "An address that has a name.";
        Thread   "thread"     None    NOTHING,          Is(I64),     Read,   "The base of this thread's own storage.";
        Scratch  "scratch"    Imm     NOTHING,          Is(I64),     Pure,   "The address of so many bytes, a multiple of 16, that are the stub's own until it returns. A trace has one such piece of memory.";
        Load     "load"       Field   WORD,             ResultKind::Field, Read, "The field's value, in the object at the operand.";
        Store    "store"      Field   AddressAndField,  None,        Effect, "Writes the second operand to the field of the object at the first.";
        Add      "add"        None    WORDS,            Is(I64),     Pure,   "The sum, modulo 2^64.";
        Sub      "sub"        None    WORDS,            Is(I64),     Pure,   "The difference, modulo 2^64.";
        Mul      "mul"        None    WORDS,            Is(I64),     Pure,   "The product, modulo 2^64.";
        And      "and"        None    WORDS,            Is(I64),     Pure,   "Bitwise and.";
        Or       "or"         None    WORDS,            Is(I64),     Pure,   "Bitwise or.";
        Xor      "xor"        None    WORDS,            Is(I64),     Pure,   "Bitwise exclusive or.";
        Shl      "shl"        None    WORDS,            Is(I64),     Pure,   "Shifts left by the second operand modulo 64.";
        Shr      "shr"        None    WORDS,            Is(I64),     Pure,   "Shifts right, filling with zeros, by the second operand modulo 64.";
        Ne       "ne"         None    WORDS,            Is(I64),     Pure,   "1 if the operands differ, else 0.";
        Extend   "extend"     Mem     WORD,             Is(I64),     Pure,   "Widens the low bytes as a load of that type would.";
        ToF64    "to_f64"     None    WORD,             Is(F64),     Pure,   "The nearest double to a signed integer; ties go to even.";
        Demote   "demote"     None    DOUBLE,           Is(F32),     Pure,   "The nearest float to a double.";
        Promote  "promote"    None    FLOAT,            Is(F64),     Pure,   "The double equal to a float.";
        Bits     "bits"       None    DOUBLE,           Is(I64),     Pure,   "The bits of a double.";
        Bits32   "bits32"     None    FLOAT,            Is(I64),     Pure,   "The bits of a float, in the low half of a word.";
        GuardEq  "guard_eq"   None    WORDS,            None,        Exit,   "Leaves the trace unless both words are equal.";
        GuardNe  "guard_ne"   None    WORDS,            None,        Exit,   "Leaves the trace unless the words differ.";
        GuardLt  "guard_lt"   None    WORDS,            None,        Exit,   "Leaves the trace unless the first word is below the second, unsigned.";
        GuardGe  "guard_ge"   None    WORDS,            None,        Exit,   "Leaves the trace unless the first word is at least the second, unsigned.";
        Help     "help"       Helper  Operands::Helper, ResultKind::Helper, Effect, "Calls a helper of the host by the host's own C convention.";
        HelpIf   "help_if"    Helper  WordsAndHelper,   Is(I64),     Effect, "The first word; but if the second is not 0, what the helper gives, called out of line with the rest.";
        Call     "call"       Call    Signature,        ResultKind::Signature, Effect, "The foreign call: canonical words in; the result's bytes above its width are undefined. A struct is returned as the address of memory that is the call's until the next one.";
        RetIf    "ret_if"     None    WORDS,            None,        Effect, "Returns the second word to the caller of the stub if the first is not 0.";
        Ret      "ret"        None    WORD,             None,        End,    "Returns a word to the caller of the stub.";
    }
}
pub use table::Op;

/// A value: the index of the instruction that defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val(pub u32);

impl Val {
    /// The index of the defining instruction.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// The values it takes.
    pub args: Vec<Val>,
    /// Its immediate data, of the kind that the table names.
    pub data: Data,
}

impl Inst {
    /// The type of the value it gives, if it gives one.
    pub fn ty(&self) -> Option<Ty> {
        match (self.op.result(), &self.data) {
            (ResultKind::Is(ty), _) => Some(ty),
            (ResultKind::Field, Data::Field(field)) => Some(field.mem.ty()),
            (ResultKind::Helper, Data::Helper(helper)) => helper.entry.result(),
            (ResultKind::Signature, Data::Call(call)) => carrier(call.signature().result()),
            _ => None,
        }
    }

    /// What it does besides giving a value.
    pub fn effect(&self) -> Effect {
        match &self.data {
            Data::Helper(helper) => helper.effect,
            _ => self.op.effect(),
        }
    }
}

/// The IR type that carries a value of the C type `ty`; none for `void`, and
/// for what does not fit in a word. A struct is carried by its words or by its
/// address, which are words alike.
pub(crate) fn carrier(ty: CType) -> Option<Ty> {
    match ty.class() {
        Class::None | Class::X87 => None,
        Class::Struct => Some(Ty::I64),
        Class::Int => Some(Ty::I64),
        Class::Float32 => Some(Ty::F32),
        Class::Float64 => Some(Ty::F64),
    }
}

/// What one run of a call did, as straight-line code.
///
/// Two traces are equal when they do the same: then their stubs may be shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The instructions, in order of execution.
    pub insts: Vec<Inst>,
}

impl Trace {
    /// Appends an instruction and names its value.
    pub fn push(&mut self, op: Op, args: Vec<Val>, data: Data) -> Val {
        self.insts.push(Inst { op, args, data });
        Val(self.insts.len() as u32 - 1)
    }

    /// How many words the stub is entered with.
    pub fn params(&self) -> usize {
        self.insts.iter().filter(|inst| inst.op == Op::Param).count()
    }
}
