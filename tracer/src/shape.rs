//! A trace in words for people: each guard as one condition on the words that
//! the stub is entered with.

use crate::data::Data;
use crate::ir::{Effect, Op, Trace, Val};

impl Trace {
    /// The conditions under which a call stays in this trace, in order, as in
    /// `arg[0].type == @float`. `params` names the words that the stub is
    /// entered with.
    pub fn guards(&self, params: &[&str]) -> Vec<String> {
        let guards = self.insts.iter().filter(|inst| inst.effect() == Effect::Exit);
        guards
            .map(|guard| {
                let sign = match guard.op {
                    Op::GuardEq => "==",
                    Op::GuardNe => "!=",
                    Op::GuardLt => "<",
                    _ => ">=",
                };
                let [a, b] = [0, 1].map(|index| self.words(guard.args[index], params));
                format!("{a} {sign} {b}")
            })
            .collect()
    }

    /// How a value comes about, written as an expression.
    fn words(&self, val: Val, params: &[&str]) -> String {
        let inst = &self.insts[val.index()];
        let args: Vec<String> = inst.args.iter().map(|&arg| self.words(arg, params)).collect();
        match (&inst.data, inst.op) {
            (Data::Imm(index), Op::Param) => params
                .get(*index as usize)
                .map_or_else(|| format!("word{index}"), |&name| name.into()),
            (Data::None, Op::Thread) | (Data::Imm(_), Op::Scratch) => inst.op.text().to_owned(),
            (Data::Symbol(symbol), _) => format!("@{}", symbol.name),
            // What a parameter points to goes by the field's name alone.
            (Data::Field(field), _) => match self.insts[inst.args[0].index()].op {
                Op::Param => field.to_string(),
                _ => format!("{}.{field}", args[0]),
            },
            (Data::Helper(helper), _) => format!("{}({})", helper.name, args.join(", ")),
            (Data::Imm(_), _) => inst.data.to_string().trim_start().to_owned(),
            _ => format!("{}({})", inst.op.text(), args.join(", ")),
        }
    }
}
