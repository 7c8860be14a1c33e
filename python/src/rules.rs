//! The call, told once: what happens between the words of a vectorcall and
//! the object that it returns. Read live this is the interpreter; read by the
//! recorder it is the tracer.
//!
//! **Invariant.** Until the foreign call nothing has an effect, so a refusal
//! leaves no trace in the world; after it nothing refuses.

mod args;
mod numbers;
mod results;

use std::sync::Arc;

use hotcall_core::PreparedCall;
use hotcall_tracer::{Field, Mem, Ops, Refusal, Symbol};
use smallvec::SmallVec;

use crate::declare::{ArgRule, Declaration, Kind, MOST_ARGUMENTS};
use crate::helpers::{
    CHECK_RESULT, ERRNO_SPACE, ERROR_PENDING, KEEP, RELEASE, RELEASE_IF, RESTORE_THREAD,
    SAVE_THREAD, SWAP_ERRNO,
};
use crate::known::Known;
use crate::layout;
use crate::refusals;

/// The words that a call is entered with: those of a vectorcall, but that for
/// a function with `errcheck` the last one is the tuple of its arguments.
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

/// Makes the call of `declaration` that `frame` asks for. Gives the result,
/// an object or 0 with an exception set.
pub(crate) fn call<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    frame: Frame<O::Word>,
) -> Result<O::Word, Refusal> {
    let count = enter(o, declaration, frame)?;
    let taken = take_all(o, known, declaration, frame, count)?;
    let memory = o.load(frame.this, layout::CDATA_POINTER);
    let target = o.load(memory, layout::MEMORY_WORD);
    let errno = match declaration.use_errno {
        true => Some(errno_space(o)?),
        false => None,
    };
    // The program may change the declaration during the call.
    let kept: SmallVec<[O::Word; 2]> = declaration.kept().map(|object| keep(o, object)).collect();
    let value = perform(o, known, declaration, target, &taken, errno);
    if declaration.python_api && failed(o, known, &kept) {
        return Ok(o.constant(0));
    }
    let result = results::wrap(o, known, &declaration.result, value);
    Ok(match &declaration.errcheck {
        None => result,
        Some(errcheck) => {
            let errcheck = o.symbol(errcheck);
            o.help(&CHECK_RESULT, &[errcheck, result, frame.this, frame.kwnames])
        }
    })
}

/// The arguments as the foreign function gets them.
struct Taken<W> {
    words: SmallVec<[W; 16]>,
    /// Objects that are passed as such: ctypes holds a reference to each during
    /// the call, and C code can see how many there are.
    held: SmallVec<[W; 4]>,
    /// How the function is called this time.
    call: Arc<PreparedCall>,
}

/// Takes the declared arguments and those behind them.
fn take_all<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    frame: Frame<O::Word>,
    count: usize,
) -> Result<Taken<O::Word>, Refusal> {
    let call = Arc::clone(&declaration.call);
    let mut taken = Taken { words: SmallVec::new(), held: SmallVec::new(), call };
    for (index, arg) in declaration.args.iter().enumerate() {
        let object = o.load(frame.args, layout::ARGUMENT.item(index as u32));
        taken.words.push(args::take(o, known, arg, object)?);
        if arg.rule == ArgRule::Simple(Kind::Object) {
            taken.held.push(object);
        }
    }
    if count > declaration.args.len() {
        let mut types = declaration.call.signature().args().to_vec();
        for index in declaration.args.len()..count {
            let object = o.load(frame.args, layout::ARGUMENT.item(index as u32));
            let (word, ctype) = args::take_undeclared(o, known, object)?;
            taken.words.push(word);
            types.push(ctype);
        }
        let result = declaration.call.signature().result();
        taken.call = known.undeclared.prepare(types, result)?;
    }
    Ok(taken)
}

/// Takes a reference to what is needed after the call.
fn keep<O: Ops>(o: &mut O, object: &Symbol) -> O::Word {
    let object = o.symbol(object);
    o.help(&KEEP, &[object]);
    object
}

/// Returns null to the caller of the stub if the function left an exception.
fn failed<O: Ops>(o: &mut O, known: &Known, kept: &[O::Word]) -> bool {
    let pending = match known.current {
        Some(current) => {
            let thread = o.thread();
            let state = o.load(thread, current.state);
            o.load(state, current.error)
        }
        None => o.help(&ERROR_PENDING, &[]),
    };
    for &object in kept {
        o.help(&RELEASE_IF, &[pending, object]);
    }
    let null = o.constant(0);
    o.return_if(pending, null)
}

/// Tests that the call is of the kind that was declared; gives the number of
/// arguments.
fn enter<O: Ops>(
    o: &mut O,
    declaration: &Declaration,
    frame: Frame<O::Word>,
) -> Result<usize, Refusal> {
    let class = o.load(frame.this, layout::OB_TYPE);
    if !o.is(class, &declaration.class) {
        return Err(refusals::CLASS);
    }
    if !has_version(o, class, declaration.version) {
        return Err(refusals::CLASS);
    }
    // Keyword arguments, unless it is the tuple for `errcheck`.
    if o.test_is(frame.kwnames, 0) == declaration.errcheck.is_some() {
        return Err(refusals::KEYWORDS);
    }
    // The highest bit says whether the caller lends the slot before the first
    // argument; the rest is the count.
    let one = o.constant(1);
    let twice = o.shl(frame.nargsf, one);
    let count = o.peek(twice) / 2;
    let same = o.test_is(twice, 2 * count);
    debug_assert!(same, "the count was read from this word");
    match usize::try_from(count) {
        Ok(count) if (declaration.args.len()..=MOST_ARGUMENTS).contains(&count) => Ok(count),
        _ => Err(refusals::COUNT),
    }
}

/// Whether a class has the version under which it is known.
fn has_version<O: Ops>(o: &mut O, class: O::Word, version: u32) -> bool {
    let current = o.load(class, layout::TYPE_VERSION);
    // A name keeps the number, which is another one each time, out of texts.
    o.is(current, &Symbol { name: "version".into(), address: version.into() })
}

/// The address of this thread's private errno.
fn errno_space<O: Ops>(o: &mut O) -> Result<O::Word, Refusal> {
    let space = o.help(&ERRNO_SPACE, &[]);
    match o.test_is(space, 0) {
        true => Err(refusals::ERRNO),
        false => Ok(space),
    }
}

/// Makes the foreign call; nothing refuses from here on.
fn perform<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    target: O::Word,
    taken: &Taken<O::Word>,
    errno: Option<O::Word>,
) -> O::Word {
    if let Some(counter) = &known.counter {
        count(o, counter);
    }
    for &object in &taken.held {
        o.help(&KEEP, &[object]);
    }
    let thread = (!declaration.python_api).then(|| o.help(&SAVE_THREAD, &[]));
    if let Some(space) = errno {
        o.help(&SWAP_ERRNO, &[space]);
    }
    let value = o.call(&taken.call, target, &taken.words);
    if let Some(space) = errno {
        o.help(&SWAP_ERRNO, &[space]);
    }
    if let Some(thread) = thread {
        o.help(&RESTORE_THREAD, &[thread]);
    }
    for &object in &taken.held {
        o.help(&RELEASE, &[object]);
    }
    value
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
