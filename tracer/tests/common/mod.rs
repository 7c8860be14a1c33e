//! What the tracer's tests share: a host that is a table, and random traces.

#![allow(dead_code, reason = "each test uses a part of it")]

use arbtest::arbitrary::{Result, Unstructured};
use hotcall_core::PreparedCall;
use hotcall_tracer::{Data, Effect, Entry, Field, Helper, Host, Mem, Op, Symbol, Trace, Ty, Val};

/// A host whose memory is a function of the address until it is written to,
/// and which writes down all that is asked of it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Stores, helper calls and foreign calls, in order.
    pub(crate) log: Vec<(String, Vec<u64>)>,
}

impl Host for Table {
    fn thread(&mut self) -> u64 {
        16
    }

    fn scratch(&mut self, _: u64) -> u64 {
        48
    }

    fn load(&mut self, mem: Mem, address: u64) -> u64 {
        // Small values, so that random guards hold now and then.
        mem.widen((address >> 3) % 4)
    }

    fn store(&mut self, mem: Mem, address: u64, word: u64) {
        self.log.push((format!("store {mem:?}"), vec![address, mem.widen(word)]));
    }

    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64 {
        if helper.effect == Effect::Effect {
            self.log.push((helper.name.to_owned(), args.to_vec()));
        }
        args.iter().fold(helper.name.len() as u64, |sum, arg| sum.wrapping_add(*arg))
    }

    fn call(&mut self, call: &PreparedCall, target: u64, args: &[u64]) -> u64 {
        let words = [&[target], args].concat();
        self.log.push((call.signature().to_string(), words));
        7
    }
}

unsafe extern "C-unwind" fn word(_: u64) -> u64 {
    unreachable!("the table does not call helpers")
}

/// A helper that reads, and one that has an effect.
pub(crate) static PEEK: Helper =
    Helper { name: "peek", entry: Entry::WW(word), effect: Effect::Read };
/// See [`PEEK`].
pub(crate) static POKE: Helper =
    Helper { name: "poke", entry: Entry::WW(word), effect: Effect::Effect };

/// The memory row `name`, at `offset`.
pub(crate) fn row(name: &'static str, offset: i32) -> Data {
    Data::Field(Field::new(name, offset, Mem::I64))
}

/// The symbol `name`, at `address`.
pub(crate) fn symbol(name: &'static str, address: u64) -> Data {
    Data::Symbol(Symbol { name: name.into(), address })
}

/// A well-formed trace of `params` parameters: pure operations, reads and
/// guards, then effects, then `ret`.
pub(crate) fn random_trace(u: &mut Unstructured<'_>, params: u64) -> Result<Trace> {
    let mut trace = Trace::default();
    for index in 0..params {
        trace.push(Op::Param, vec![], Data::Imm(index));
    }
    trace.push(Op::Const, vec![], Data::Imm(u.int_in_range(0..=3)?));
    for _ in 0..u.int_in_range(0..=30)? {
        random_inst(u, &mut trace, true)?;
    }
    for _ in 0..u.int_in_range(0..=6)? {
        random_inst(u, &mut trace, false)?;
    }
    let result = pick(u, &trace, Ty::I64)?.expect("parameters are words");
    trace.push(Op::Ret, vec![result], Data::None);
    Ok(trace)
}

/// A value of type `ty` that the trace defines, if there is one.
fn pick(u: &mut Unstructured<'_>, trace: &Trace, ty: Ty) -> Result<Option<Val>> {
    let values = (0..trace.insts.len()).filter(|&index| trace.insts[index].ty() == Some(ty));
    let values: Vec<usize> = values.collect();
    if values.is_empty() {
        return Ok(None);
    }
    Ok(Some(Val(*u.choose(&values)? as u32)))
}

const MEMS: [Mem; 9] =
    [Mem::I8, Mem::U8, Mem::I16, Mem::U16, Mem::I32, Mem::U32, Mem::I64, Mem::F32, Mem::F64];

/// Appends a random instruction; `early` ones have no effect, others may.
fn random_inst(u: &mut Unstructured<'_>, trace: &mut Trace, early: bool) -> Result<()> {
    let op = *u.choose(Op::ALL)?;
    let mem = *u.choose(&MEMS)?;
    let field = Field::new("row", u.int_in_range(-8..=64)?, mem);
    let (data, types) = match op {
        Op::Const => (Data::Imm(u.choose(&[0, 1, 2, 3, u64::MAX, 1 << 40]).copied()?), vec![]),
        Op::Sym => (symbol("somewhere", u.int_in_range(2..=4)?), vec![]),
        Op::Thread => (Data::None, vec![]),
        Op::Scratch => (Data::Imm(32), vec![]),
        Op::Load => (Data::Field(field), vec![Ty::I64]),
        Op::Store if !early => (Data::Field(field), vec![Ty::I64, mem.ty()]),
        Op::Extend if mem.ty() == Ty::I64 => (Data::Mem(mem), vec![Ty::I64]),
        Op::Help if early => (Data::Helper(&PEEK), vec![Ty::I64]),
        Op::Help => (Data::Helper(&POKE), vec![Ty::I64]),
        Op::HelpIf if early => (Data::Helper(&PEEK), vec![Ty::I64; 3]),
        Op::HelpIf => (Data::Helper(&POKE), vec![Ty::I64; 3]),
        Op::RetIf if !early => (Data::None, vec![Ty::I64, Ty::I64]),
        _ => match (op.operands(), op.effect()) {
            (hotcall_tracer::Operands::Fixed(types), Effect::Pure) if op != Op::Param => {
                if op == Op::Extend {
                    return Ok(());
                }
                (Data::None, types.to_vec())
            }
            (hotcall_tracer::Operands::Fixed(types), Effect::Exit) if early => {
                (Data::None, types.to_vec())
            }
            _ => return Ok(()),
        },
    };
    let mut args = Vec::new();
    for ty in types {
        match pick(u, trace, ty)? {
            Some(val) => args.push(val),
            None => return Ok(()),
        }
    }
    trace.push(op, args, data);
    Ok(())
}
