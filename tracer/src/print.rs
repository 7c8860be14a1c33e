//! The text of a trace: one line per instruction, free of addresses and of
//! offsets, so that it is the same on every machine and for every layout.

use std::fmt;

use crate::data::Data;
use crate::ir::{Field, Inst, Op, Trace, Ty, Val};

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ty::I64 => "i64",
            Ty::F64 => "f64",
            Ty::F32 => "f32",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::None => Ok(()),
            Data::Imm(word) if *word as i64 >= -9999 && (*word as i64) < 0 => {
                write!(f, " {}", *word as i64)
            }
            Data::Imm(word) if *word < 10_000 => write!(f, " {word}"),
            Data::Imm(word) => write!(f, " {word:#x}"),
            Data::Symbol(symbol) => write!(f, " @{}", symbol.name),
            Data::Field(field) => write!(f, " {field}"),
            Data::Mem(mem) => write!(f, " {}", format!("{mem:?}").to_lowercase()),
            Data::Helper(helper) => write!(f, " {}", helper.name),
            Data::Call(call) => write!(f, " \"{}\"", call.signature()),
        }
    }
}

/// One line: `v4:f64 = load v0 float.value`.
struct Line<'a>(Val, &'a Inst);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(val, inst) = self;
        let name = inst.ty().map(|ty| format!("{val}:{ty} = ")).unwrap_or_default();
        write!(f, "{name:<10}{}", inst.op.text())?;
        // What is called stands before its arguments, a field behind its object.
        let calls = matches!(inst.op, Op::Help | Op::HelpIf | Op::Call);
        if calls {
            write!(f, "{}", inst.data)?;
        }
        for arg in &inst.args {
            write!(f, " {arg}")?;
        }
        if !calls {
            write!(f, "{}", inst.data)?;
        }
        Ok(())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, inst) in self.insts.iter().enumerate() {
            writeln!(f, "{}", Line(Val(index as u32), inst))?;
        }
        Ok(())
    }
}
