//! The call, told once: what happens between the words of a vectorcall and
//! the object that it returns. Read live this is the interpreter; read by the
//! recorder it is the tracer.
//!
//! **Invariant.** Until the foreign call nothing has an effect, so a refusal
//! leaves no trace in the world; after it nothing refuses.

mod args;
mod results;

use hotcall_tracer::{Field, Mem, Ops, Refusal, Symbol};

use crate::declare::Declaration;
use crate::helpers::{
    ERRNO_SPACE, ERROR_PENDING, KEEP, RESTORE_THREAD, SAVE_THREAD, SWAP_ERRNO,
};
use crate::layout::{self, Layout};
use crate::refusals;

/// The words that a vectorcall is entered with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<W> {
    pub(crate) this: W,
    pub(crate) args: W,
    pub(crate) nargsf: W,
    pub(crate) kwnames: W,
}

impl<W> Frame<W> {
    /// The words in the order in which a stub takes them.
    pub(crate) fn words(self) -> [W; 4] {
        [self.this, self.args, self.nargsf, self.kwnames]
    }
}

/// What the rules know besides the declaration.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) layout: Layout,
    pub(crate) symbols: Symbols,
    /// The counter of calls that the rules made, if calls are counted.
    pub(crate) counter: Option<Symbol>,
}

/// The addresses that the rules compare with.
#[derive(Debug)]
pub(crate) struct Symbols {
    pub(crate) int: Symbol,
    pub(crate) bool: Symbol,
    pub(crate) float: Symbol,
    pub(crate) bytes: Symbol,
    pub(crate) str: Symbol,
    pub(crate) none: Symbol,
    /// The call slot that the hook puts into function classes.
    pub(crate) tp_call: Symbol,
}

/// Makes the call of `declaration` that `frame` asks for. Gives the result,
/// an object or 0 with an exception set.
pub(crate) fn call<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    frame: Frame<O::Word>,
) -> Result<O::Word, Refusal> {
    enter(o, known, declaration, frame)?;
    let mut words = smallvec::SmallVec::<[O::Word; 16]>::new();
    for (index, arg) in declaration.args.iter().enumerate() {
        let object = o.load(frame.args, layout::ARGUMENT.item(index as u32));
        words.push(args::take(o, known, arg, object)?);
    }
    let memory = o.load(frame.this, layout::CDATA_POINTER);
    let target = o.load(memory, layout::MEMORY_WORD);
    let errno = match declaration.use_errno {
        true => Some(errno_space(o)?),
        false => None,
    };
    Ok(perform(o, known, declaration, target, &words, errno))
}

/// Tests that the call is of the kind that was declared.
fn enter<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    frame: Frame<O::Word>,
) -> Result<(), Refusal> {
    let class = o.load(frame.this, layout::OB_TYPE);
    if !o.is(class, &declaration.class) {
        return Err(refusals::CLASS);
    }
    if known.layout.flag_outlives_call {
        let tp_call = o.load(class, layout::TYPE_CALL);
        if !o.is(tp_call, &known.symbols.tp_call) {
            return Err(refusals::CALL);
        }
    }
    if !o.test_is(frame.kwnames, 0) {
        return Err(refusals::KEYWORDS);
    }
    // The highest bit says whether the caller lends the slot before the first
    // argument; the rest is the count.
    let one = o.constant(1);
    let twice = o.shl(frame.nargsf, one);
    match o.test_is(twice, 2 * declaration.args.len() as u64) {
        true => Ok(()),
        false if declaration.declared => Err(refusals::EXTRA),
        false => Err(refusals::UNDECLARED),
    }
}

/// The address of this thread's private errno.
fn errno_space<O: Ops>(o: &mut O) -> Result<O::Word, Refusal> {
    let space = o.help(&ERRNO_SPACE, &[]);
    match o.test_is(space, 0) {
        true => Err(refusals::ERRNO),
        false => Ok(space),
    }
}

/// Makes the foreign call and wraps its result; nothing refuses from here on.
fn perform<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    target: O::Word,
    words: &[O::Word],
    errno: Option<O::Word>,
) -> O::Word {
    if let Some(counter) = &known.counter {
        count(o, counter);
    }
    let class = declaration.result.instance_class().map(|class| o.symbol(class));
    if let Some(class) = class {
        o.help(&KEEP, &[class]);
    }
    let thread = (!declaration.python_api).then(|| o.help(&SAVE_THREAD, &[]));
    if let Some(space) = errno {
        o.help(&SWAP_ERRNO, &[space]);
    }
    let value = o.call(&declaration.call, target, words);
    if let Some(space) = errno {
        o.help(&SWAP_ERRNO, &[space]);
    }
    if let Some(thread) = thread {
        o.help(&RESTORE_THREAD, &[thread]);
    }
    if declaration.python_api {
        let pending = o.help(&ERROR_PENDING, &[]);
        let null = o.constant(0);
        if o.return_if(pending, null) {
            return null;
        }
    }
    results::wrap(o, known, &declaration.result, value)
}

/// Adds one to a counter.
fn count<O: Ops>(o: &mut O, counter: &Symbol) {
    const COUNT: Field = Field::new("count", 0, Mem::I64);
    let counter = o.symbol(counter);
    let count = o.load(counter, COUNT);
    let one = o.constant(1);
    let more = o.add(count, one);
    o.store(counter, COUNT, more);
}
