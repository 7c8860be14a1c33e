//! How a stub is entered and left: with words in registers, as a C function of a
//! signature, or again and again, for the items of columns. Where each word arrives
//! and how the result is given back is plain data here, and everything behind it is
//! the same for all.

use hotcall_core::{CType, Class, Place, Signature};
use hotcall_tracer::{Effect, Inst, Mem, Op, Refusal, Trace, Val};

use crate::plan::unplaced;
use crate::refusals::{
    CALLBACK_EXITS, INVALID_TRACE, LONG_DOUBLE, LOOP_EXITS, TOO_MANY_PARAMETERS, VARIADIC_CALLBACK,
};
use crate::regs::{CONTEXT, Convention, Reg, convention};

/// How a stub is entered, which with its trace is all that makes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// With words in the argument registers of the host's convention. Failed
    /// guards hand them to `fallback`.
    Words {
        /// The address of what is entered in the same way.
        fallback: u64,
    },
    /// As a C function of this signature, with a word more in [`CONTEXT`].
    Callback(Signature),
    /// With a table of columns, and the number of the first turn of a loop. A
    /// column's items are as many bytes apart as it says here.
    Loop(Vec<i32>),
}

/// Where the word of a parameter is when the stub is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// In a register, as a value of this type; what is above it is undefined.
    Reg(Reg, Mem),
    /// The same on the stack, so many bytes above the first argument there.
    Stack(u32, Mem),
    /// It is the address of what lies so many bytes above the first argument.
    Copied(u32),
    /// It is the address of the memory in the frame that the result is read from.
    Result,
    /// It is the address of a column's item in this turn: the `nth` word of the
    /// table, and so many bytes for each turn before.
    Item { nth: u32, stride: i32 },
}

/// How the stub gives back its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    /// As a word that is widened from this type.
    Word(Mem),
    /// As bits in a vector register.
    Vector,
    /// In registers of these classes, which are read from memory in the frame.
    Words(&'static [Class]),
    /// In memory whose address is this parameter, which is given back.
    At(Val),
    /// Not at all: the next turn of the loop begins.
    Turn,
}

/// The way in and the way out of one stub.
#[derive(Debug)]
pub(crate) struct Interface {
    /// What the stub preserves, and which registers it may use.
    pub(crate) convention: &'static Convention,
    /// For each parameter, where it is.
    pub(crate) arrivals: Vec<Arrival>,
    /// How the result is given back.
    pub(crate) returns: Returns,
    /// Where failed guards go; a callback has none.
    pub(crate) fallback: Option<u64>,
}

impl Interface {
    /// How a stub for `trace` is entered by `entry`; `host` is the convention of
    /// words.
    ///
    /// # Errors
    /// [`TOO_MANY_PARAMETERS`] if there are too few registers, and what
    /// [`Interface::callback`] refuses.
    pub(crate) fn new(
        trace: &Trace,
        entry: &Entry,
        host: &'static Convention,
    ) -> Result<Interface, Refusal> {
        match entry {
            Entry::Callback(signature) => Interface::callback(trace, signature),
            Entry::Loop(strides) => Interface::turns(trace, strides, host),
            Entry::Words { fallback } => {
                let arrival = |index| Some(Arrival::Reg(host.entry(index)?, Mem::I64));
                let arrivals = (0..trace.params()).map(arrival).collect::<Option<_>>();
                Ok(Interface {
                    convention: host,
                    arrivals: arrivals.ok_or(TOO_MANY_PARAMETERS)?,
                    returns: Returns::Word(Mem::I64),
                    fallback: Some(*fallback),
                })
            }
        }
    }

    /// A C function of this signature: its parameters are the context, the
    /// address of the result if that is a struct, and the words of the arguments.
    ///
    /// # Errors
    /// [`CALLBACK_EXITS`], [`VARIADIC_CALLBACK`], [`LONG_DOUBLE`]; and
    /// [`INVALID_TRACE`] if the trace takes other parameters.
    fn callback(trace: &Trace, signature: &Signature) -> Result<Interface, Refusal> {
        if trace.insts.iter().any(|inst| inst.effect() == Effect::Exit) {
            return Err(CALLBACK_EXITS);
        }
        if signature.fixed().is_some() {
            return Err(VARIADIC_CALLBACK);
        }
        let (abi, result) = (signature.abi(), signature.result());
        let convention = convention(abi);
        let places = abi.places(signature.args(), result).map_err(unplaced)?;
        let arrival = |place, mem| match (convention.register(place), place) {
            (Some(reg), _) => Arrival::Reg(reg, mem),
            (None, Place::Stack(offset)) => Arrival::Stack(offset, mem),
            (None, Place::Copy { offset, .. }) => Arrival::Copied(offset),
            (None, _) => unreachable!("a place is a register or on the stack"),
        };
        let mut arrivals = vec![Arrival::Reg(CONTEXT, Mem::I64)];
        let returns = match (result, result.as_struct()) {
            (CType::LongDouble, _) => return Err(LONG_DOUBLE),
            (CType::F32 | CType::F64, _) => Returns::Vector,
            (_, None) => Returns::Word(mem(result)),
            (_, Some(of)) => {
                let memory = places.result.map(|place| arrival(place, Mem::I64));
                arrivals.push(memory.unwrap_or(Arrival::Result));
                if memory.is_some() { Returns::At(Val(1)) } else { Returns::Words(of.words(abi)) }
            }
        };
        let types = signature.args().iter().flat_map(|arg| {
            let part = if arg.as_struct().is_some() { Mem::I64 } else { mem(*arg) };
            std::iter::repeat_n(part, arg.words(abi))
        });
        arrivals.extend(places.args.iter().zip(types).map(|(place, mem)| arrival(*place, mem)));
        if trace.params() != arrivals.len() {
            return Err(INVALID_TRACE);
        }
        Ok(Interface { convention, arrivals, returns, fallback: None })
    }

    /// A loop over columns whose items are `strides` bytes apart.
    ///
    /// # Errors
    /// [`LOOP_EXITS`]; and [`INVALID_TRACE`] if there are not as many columns as
    /// parameters.
    fn turns(
        trace: &Trace,
        strides: &[i32],
        host: &'static Convention,
    ) -> Result<Interface, Refusal> {
        let leaves = |inst: &Inst| inst.effect() == Effect::Exit || inst.op == Op::RetIf;
        if trace.insts.iter().any(leaves) {
            return Err(LOOP_EXITS);
        }
        if trace.params() != strides.len() {
            return Err(INVALID_TRACE);
        }
        let item = |(nth, &stride)| Arrival::Item { nth, stride };
        Ok(Interface {
            convention: host,
            arrivals: (0..).zip(strides).map(item).collect(),
            returns: Returns::Turn,
            fallback: None,
        })
    }
}

/// The type of a scalar in memory, which widens it to its canonical word.
fn mem(ctype: CType) -> Mem {
    match (ctype, ctype.size(), ctype.is_signed()) {
        (CType::F32, ..) => Mem::F32,
        (_, 1, true) => Mem::I8,
        (_, 1, false) => Mem::U8,
        (_, 2, true) => Mem::I16,
        (_, 2, false) => Mem::U16,
        (_, 4, true) => Mem::I32,
        (_, 4, false) => Mem::U32,
        _ => Mem::I64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_gives_canonical_words() {
        for ctype in CType::ALL.iter().filter(|ctype| !matches!(ctype, CType::Void)) {
            for word in [1, 0x80, 0xffff_ffff_0000_8001, 0x8000_0000, 0x1234_5678_9abc_def0] {
                // A bool is 0 or 1 wherever C keeps one.
                let word = if *ctype == CType::Bool { word & !0xfe } else { word };
                assert_eq!(mem(*ctype).widen(word), ctype.canonical(word), "{ctype} {word:#x}");
            }
        }
    }
}
