//! A trace in words for people: each guard as one condition on the words that
//! the stub is entered with.

use crate::ir::{Data, Effect, Op, Trace, Val};

impl Trace {
    /// The conditions under which a call stays in this trace, in order, as in
    /// `arg[0].type == @float`.
    pub fn guards(&self) -> Vec<String> {
        let guards = self.insts.iter().filter(|inst| inst.effect() == Effect::Exit);
        guards
            .map(|guard| {
                let sign = match guard.op {
                    Op::GuardEq => "==",
                    Op::GuardNe => "!=",
                    Op::GuardLt => "<",
                    _ => ">=",
                };
                format!("{} {sign} {}", self.words(guard.args[0]), self.words(guard.args[1]))
            })
            .collect()
    }

    /// How a value comes about, written as an expression.
    fn words(&self, val: Val) -> String {
        let inst = &self.insts[val.index()];
        let args: Vec<String> = inst.args.iter().map(|&arg| self.words(arg)).collect();
        match (&inst.data, inst.op) {
            (Data::Imm(index), Op::Param) => format!("word{index}"),
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
