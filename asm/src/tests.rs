//! What the tests of this crate share: short ways to write traces, and the
//! budget of the random tests.

mod callbacks;
mod caller;
mod differential;
mod enter;
mod foreign;
mod frames;
mod golden;
pub(crate) mod memory;
mod random;
mod stubs;
mod trampolines;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod unwind;
mod world;

use std::sync::Arc;

use hotcall_core::PreparedCall;
use hotcall_tracer::{Data, Field, Helper, Op, Symbol, Trace, Val};

/// How long each random test may run, in milliseconds. `HOTCALL_FUZZ_MS`
/// raises it.
pub(crate) fn fuzz_ms() -> u64 {
    std::env::var("HOTCALL_FUZZ_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// A trace under construction.
#[derive(Default)]
pub(crate) struct Builder {
    trace: Trace,
}

impl Builder {
    /// A trace with so many parameters, and their names.
    pub(crate) fn new<const N: usize>() -> (Builder, [Val; N]) {
        let mut builder = Builder::default();
        let mut index = 0;
        let params = [(); N].map(|()| {
            index += 1;
            builder.trace.push(Op::Param, vec![], Data::Imm(index - 1))
        });
        (builder, params)
    }

    pub(crate) fn number(&mut self, word: u64) -> Val {
        self.trace.push(Op::Const, vec![], Data::Imm(word))
    }

    fn symbol(&mut self, name: &'static str, address: u64) -> Val {
        self.trace.push(Op::Sym, vec![], Data::Symbol(Symbol { name: name.into(), address }))
    }

    fn load(&mut self, base: Val, field: Field) -> Val {
        self.trace.push(Op::Load, vec![base], Data::Field(field))
    }

    fn store(&mut self, base: Val, field: Field, val: Val) {
        self.trace.push(Op::Store, vec![base, val], Data::Field(field));
    }

    pub(crate) fn op(&mut self, op: Op, args: &[Val]) -> Val {
        self.trace.push(op, args.to_vec(), Data::None)
    }

    fn help(&mut self, helper: &'static Helper, args: &[Val]) -> Val {
        self.trace.push(Op::Help, args.to_vec(), Data::Helper(helper))
    }

    fn help_if(
        &mut self,
        [usual, unusual]: [Val; 2],
        helper: &'static Helper,
        args: &[Val],
    ) -> Val {
        let args = [&[usual, unusual], args].concat();
        self.trace.push(Op::HelpIf, args, Data::Helper(helper))
    }

    /// Calls the function at `target`, declared by the text of its signature.
    pub(crate) fn call(&mut self, signature: &str, target: Val, args: &[Val]) -> Val {
        let signature = signature.parse().expect("a valid signature");
        let call = PreparedCall::new(&signature).expect("a signature that libffi knows");
        let args = std::iter::once(target).chain(args.iter().copied()).collect();
        self.trace.push(Op::Call, args, Data::Call(Arc::new(call)))
    }

    pub(crate) fn ret(mut self, val: Val) -> Trace {
        self.trace.push(Op::Ret, vec![val], Data::None);
        self.trace
    }
}
