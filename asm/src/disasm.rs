//! The text of a stub's code, free of addresses: it is the same wherever the
//! stub, the fallback, the helpers and the symbols lie.

use std::collections::HashMap;

use hotcall_tracer::{Data, Trace};
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, OpKind, SymbolResolver,
    SymbolResult,
};

use crate::stub::Stub;

impl Stub {
    /// Its code, one instruction a line, in Intel's syntax. Known addresses are
    /// names behind an `@`; targets of jumps are labels, numbered in order.
    pub fn disassemble(&self) -> String {
        text(self.code(), names(&self.trace, self.fallback))
    }
}

/// The names of the addresses that the code of a trace may contain.
fn names(trace: &Trace, fallback: Option<u64>) -> HashMap<u64, String> {
    let fallback = fallback.map(|address| (address, "@fallback".to_owned()));
    let mut names: HashMap<u64, String> = fallback.into_iter().collect();
    for inst in &trace.insts {
        let (address, name) = match &inst.data {
            Data::Symbol(symbol) => (symbol.address, symbol.name.as_ref()),
            Data::Helper(helper) => (helper.entry.address(), helper.name),
            _ => continue,
        };
        names.insert(address, format!("@{name}"));
    }
    names
}

/// Answers the formatter's questions for names.
struct Names {
    /// Of addresses.
    known: HashMap<u64, String>,
    /// Of the targets of jumps, by offset.
    labels: HashMap<u64, String>,
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        operand: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        let name = match instruction.op_kind(operand?) {
            OpKind::NearBranch64 => self.labels.get(&address)?,
            OpKind::Immediate64 | OpKind::Immediate32 | OpKind::Immediate32to64 => {
                self.known.get(&address)?
            }
            _ => return None,
        };
        Some(SymbolResult::with_str(address, name))
    }
}

/// The text of `code`.
fn text(code: &[u8], known: HashMap<u64, String>) -> String {
    let instructions: Vec<Instruction> =
        Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect();
    let mut targets: Vec<u64> = instructions
        .iter()
        .filter(|instruction| instruction.op0_kind() == OpKind::NearBranch64)
        .map(Instruction::near_branch_target)
        .collect();
    targets.sort_unstable();
    targets.dedup();
    let labels: HashMap<u64, String> =
        targets.into_iter().zip(1..).map(|(target, nth)| (target, format!("L{nth}"))).collect();

    let names = Names { known, labels: labels.clone() };
    let mut formatter = IntelFormatter::with_options(Some(Box::new(names)), None);
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.options_mut().set_show_branch_size(false);
    let mut out = String::new();
    for instruction in &instructions {
        if let Some(label) = labels.get(&instruction.ip()) {
            out += &format!("{label}:\n");
        }
        out += "    ";
        formatter.format(instruction, &mut out);
        out += "\n";
    }
    out
}
