//! The recording reading of a rule: it acts at once, through [`Live`], and
//! appends what it did to a trace.

use std::sync::Arc;

use hotcall_core::PreparedCall;

use crate::data::Data;
use crate::host::{Helper, Host};
use crate::ir::{Field, Mem, Op, Operands, Symbol, Trace, Val};
use crate::ops::{Live, Ops};

/// A word, and the value that carries it in the trace.
#[derive(Clone, Copy, Debug)]
pub struct Traced {
    /// What it was in this run.
    pub word: u64,
    /// What it is called in the trace.
    pub val: Val,
}

/// Acts, and writes down what it did.
#[derive(Debug)]
pub struct Recorder<'h, H> {
    live: Live<'h, H>,
    trace: Trace,
    /// Set when the run returned early: what follows was not seen.
    returned: bool,
}

impl<'h, H: Host> Recorder<'h, H> {
    /// Starts a trace that is entered with `words`; gives their names, in order.
    pub fn enter<const N: usize>(host: &'h mut H, words: [u64; N]) -> (Self, [Traced; N]) {
        let (recorder, params) = Recorder::enter_with(host, &words);
        (recorder, std::array::from_fn(|index| params[index]))
    }

    /// The same with as many words as there are.
    pub fn enter_with(host: &'h mut H, words: &[u64]) -> (Self, Vec<Traced>) {
        let mut trace = Trace::default();
        let params = words.iter().zip(0..).map(|(&word, index)| {
            let val = trace.push(Op::Param, vec![], Data::Imm(index));
            Traced { word, val }
        });
        let params = params.collect();
        (Recorder { live: Live { host }, trace, returned: false }, params)
    }

    /// Ends the trace: the stub returns `result`. There is no trace of a run
    /// that returned early, since nobody saw the rest of it.
    pub fn finish(mut self, result: Traced) -> Option<Trace> {
        self.trace.push(Op::Ret, vec![result.val], Data::None);
        (!self.returned).then_some(self.trace)
    }

    fn append(&mut self, word: u64, op: Op, args: &[Traced], data: Data) -> Traced {
        let args = args.iter().map(|arg| arg.val).collect();
        Traced { word, val: self.trace.push(op, args, data) }
    }

    /// Appends the guard that stands for a test which came out as `outcome`.
    fn guard(&mut self, outcome: bool, [yes, no]: [Op; 2], a: Traced, b: Traced) -> bool {
        let op = if outcome { yes } else { no };
        self.append(0, op, &[a, b], Data::None);
        outcome
    }
}

impl<H: Host> Ops for Recorder<'_, H> {
    type Word = Traced;

    fn constant(&mut self, word: u64) -> Traced {
        self.append(word, Op::Const, &[], Data::Imm(word))
    }

    fn symbol(&mut self, symbol: &Symbol) -> Traced {
        self.append(symbol.address, Op::Sym, &[], Data::Symbol(symbol.clone()))
    }

    fn pure(&mut self, op: Op, mem: Mem, a: Traced, b: Traced) -> Traced {
        let word = self.live.pure(op, mem, a.word, b.word);
        match op.operands() {
            Operands::Fixed([_]) if op == Op::Extend => self.append(word, op, &[a], Data::Mem(mem)),
            Operands::Fixed([_]) => self.append(word, op, &[a], Data::None),
            _ => self.append(word, op, &[a, b], Data::None),
        }
    }

    fn thread(&mut self) -> Traced {
        let word = self.live.thread();
        self.append(word, Op::Thread, &[], Data::None)
    }

    fn scratch(&mut self, bytes: u64) -> Traced {
        let word = self.live.scratch(bytes);
        self.append(word, Op::Scratch, &[], Data::Imm(bytes))
    }

    fn load(&mut self, base: Traced, field: Field) -> Traced {
        let word = self.live.load(base.word, field);
        self.append(word, Op::Load, &[base], Data::Field(field))
    }

    fn store(&mut self, base: Traced, field: Field, value: Traced) {
        self.live.store(base.word, field, value.word);
        self.append(0, Op::Store, &[base, value], Data::Field(field));
    }

    fn test_eq(&mut self, a: Traced, b: Traced) -> bool {
        let outcome = self.live.test_eq(a.word, b.word);
        self.guard(outcome, [Op::GuardEq, Op::GuardNe], a, b)
    }

    fn test_lt(&mut self, a: Traced, b: Traced) -> bool {
        let outcome = self.live.test_lt(a.word, b.word);
        self.guard(outcome, [Op::GuardLt, Op::GuardGe], a, b)
    }

    fn return_if(&mut self, condition: Traced, value: Traced) -> bool {
        self.append(0, Op::RetIf, &[condition, value], Data::None);
        let returned = self.live.return_if(condition.word, value.word);
        self.returned |= returned;
        returned
    }

    fn peek(&self, a: Traced) -> u64 {
        a.word
    }

    fn help(&mut self, helper: &'static Helper, args: &[Traced]) -> Traced {
        let words: Vec<u64> = args.iter().map(|arg| arg.word).collect();
        let word = self.live.help(helper, &words);
        self.append(word, Op::Help, args, Data::Helper(helper))
    }

    fn help_if(
        &mut self,
        unusual: Traced,
        usual: Traced,
        helper: &'static Helper,
        args: &[Traced],
    ) -> Traced {
        let words: Vec<u64> = args.iter().map(|arg| arg.word).collect();
        let word = self.live.help_if(unusual.word, usual.word, helper, &words);
        let operands = [&[usual, unusual], args].concat();
        self.append(word, Op::HelpIf, &operands, Data::Helper(helper))
    }

    fn call(&mut self, call: &Arc<PreparedCall>, target: Traced, args: &[Traced]) -> Traced {
        let words: Vec<u64> = args.iter().map(|arg| arg.word).collect();
        let word = self.live.call(call, target.word, &words);
        let mut operands = vec![target];
        operands.extend_from_slice(args);
        self.append(word, Op::Call, &operands, Data::Call(Arc::clone(call)))
    }
}
