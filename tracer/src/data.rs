//! The immediate data of instructions. Equal data makes equal instructions do
//! the same, so helpers count by identity and calls by signature.

use std::sync::Arc;

use hotcall_core::PreparedCall;

use crate::host::Helper;
use crate::ir::{DataKind, Field, Mem, Symbol};

/// The immediate data of an instruction.
#[derive(Clone, Debug)]
pub enum Data {
    /// There is none.
    None,
    /// A number.
    Imm(u64),
    /// A named address.
    Symbol(Symbol),
    /// A place in an object.
    Field(Field),
    /// A width.
    Mem(Mem),
    /// A helper of the host.
    Helper(&'static Helper),
    /// The declaration of the foreign function, prepared.
    Call(Arc<PreparedCall>),
}

impl Data {
    /// Which kind of data this is.
    pub const fn kind(&self) -> DataKind {
        match self {
            Data::None => DataKind::None,
            Data::Imm(_) => DataKind::Imm,
            Data::Symbol(_) => DataKind::Symbol,
            Data::Field(_) => DataKind::Field,
            Data::Mem(_) => DataKind::Mem,
            Data::Helper(_) => DataKind::Helper,
            Data::Call(_) => DataKind::Call,
        }
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        match (self, other) {
            (Data::None, Data::None) => true,
            (Data::Imm(a), Data::Imm(b)) => a == b,
            (Data::Symbol(a), Data::Symbol(b)) => a == b,
            (Data::Field(a), Data::Field(b)) => a == b,
            (Data::Mem(a), Data::Mem(b)) => a == b,
            (Data::Helper(a), Data::Helper(b)) => std::ptr::eq(*a, *b),
            (Data::Call(a), Data::Call(b)) => a.signature() == b.signature(),
            _ => false,
        }
    }
}

impl Eq for Data {}

impl std::hash::Hash for Data {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match self {
            Data::None => {}
            Data::Imm(word) => word.hash(state),
            Data::Symbol(symbol) => symbol.hash(state),
            Data::Field(field) => field.hash(state),
            Data::Mem(mem) => mem.hash(state),
            Data::Helper(helper) => std::ptr::hash(*helper, state),
            Data::Call(call) => call.signature().hash(state),
        }
    }
}
