//! The call, told once: what happens between the words of a vectorcall and
//! the object that it returns. Read live this is the interpreter; read by the
//! recorder it is the tracer.
//!
//! **Invariant.** Until the foreign call nothing has an effect, so a refusal
//! leaves no trace in the world; after it nothing refuses.

mod args;
pub(crate) mod callback;
mod copies;
mod gil;
mod given;
pub(crate) mod numbers;
mod results;
pub(crate) mod turns;

use std::sync::Arc;

use hotcall_core::{CType, PreparedCall};
use hotcall_tracer::{Field, Mem, Ops, Refusal, Symbol};
use smallvec::SmallVec;

use crate::checker::CHECK_RETVAL;
use crate::declare::{ArgRule, Declaration, Kind};
use crate::detour::{self, Ahead, Key};
use crate::errno::{self, Private};
use crate::gil::Policy;
use crate::helpers::{CHECK_RESULT, ERROR_PENDING, KEEP, RELEASE, RELEASE_IF};
use crate::known::Known;
use crate::layout;
use crate::profile;
use crate::refusals;
use crate::rules::args::Argument;
use crate::rules::copies::{Copied, Copies};

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

/// What has become of a call.
pub(crate) enum Made<W> {
    /// The foreign function was called: the result, an object or 0 with an
    /// exception set.
    Here(W),
    /// A relay was called, which gave this result.
    Elsewhere(W),
}

/// Why a call was not made.
pub(crate) enum Unmade {
    /// ctypes makes it.
    Refused(Refusal),
    /// A detour has to be made first.
    Lacks(Key),
}

impl From<Refusal> for Unmade {
    fn from(refusal: Refusal) -> Unmade {
        Unmade::Refused(refusal)
    }
}

/// Makes the call of `declaration` that `frame` asks for, with the GIL as
/// `policy` says.
pub(crate) fn call<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    policy: Policy,
    frame: Frame<O::Word>,
) -> Result<Made<O::Word>, Unmade> {
    let count = enter(o, declaration, frame)?;
    if let Some(parameters) = &declaration.parameters
        && (declaration.errcheck.is_some() || !parameters.are_plain(count))
    {
        let result = take_detour(o, declaration, frame, count, (0, Ahead::Build), 0)?;
        return Ok(Made::Elsewhere(result));
    }
    let mut taken = Words {
        words: SmallVec::new(),
        held: SmallVec::new(),
        copied: SmallVec::new(),
        call: None,
    };
    match take_all(o, known, declaration, frame, count, &mut taken)? {
        Taken::All => call_function(o, known, declaration, policy, frame, &mut taken)
            .map(Made::Here)
            .map_err(Unmade::Refused),
        Taken::UpTo { key, copied } => {
            take_detour(o, declaration, frame, count, key, copied).map(Made::Elsewhere)
        }
    }
}

/// Calls the foreign function and wraps its result.
fn call_function<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    policy: Policy,
    frame: Frame<O::Word>,
    taken: &mut Words<O::Word>,
) -> Result<O::Word, Refusal> {
    let around = gil::prepare(o, known, policy)?;
    let memory = o.load(frame.this, layout::CDATA_POINTER);
    let target = o.load(memory, layout::MEMORY_WORD);
    let errno = match declaration.use_errno {
        true => Some(errno::find_private(o, known)?),
        false => None,
    };
    let copies = copies::make(o, &taken.copied, &mut taken.words);
    if copies.are_missing() {
        return Ok(o.constant(0));
    }
    // The program may change the declaration during the call.
    let kept: SmallVec<[O::Word; 3]> = declaration.kept().map(|object| keep(o, object)).collect();
    if let Some(counter) = &known.counter {
        count(o, counter);
    }
    for &object in &taken.held {
        o.help(&KEEP, &[object]);
    }
    if let Some(errno) = errno {
        errno.hold(o);
    }
    let given = gil::give(o, around, frame.this);
    let call = taken.call.as_ref().unwrap_or(&declaration.call);
    let value = perform(o, known, call, target, &taken.words, errno);
    gil::take(o, given);
    if let Some(errno) = errno {
        errno.release(o);
    }
    for &object in &taken.held {
        o.help(&RELEASE, &[object]);
    }
    if declaration.python_api && failed(o, known, &kept, &copies) {
        return Ok(o.constant(0));
    }
    let mut result = results::wrap(o, known, &declaration.result, value);
    if let Some(checker) = &declaration.checker {
        let checker = o.symbol(checker);
        result = o.help(&CHECK_RETVAL, &[checker, result]);
    }
    copies.free(o);
    Ok(checked(o, declaration, frame, result))
}

/// What `errcheck`, which has been kept, makes of a result.
fn checked<O: Ops>(
    o: &mut O,
    declaration: &Declaration,
    frame: Frame<O::Word>,
    result: O::Word,
) -> O::Word {
    match &declaration.errcheck {
        None => result,
        Some(errcheck) => {
            let errcheck = o.symbol(errcheck);
            o.help(&CHECK_RESULT, &[errcheck, result, frame.this, frame.kwnames])
        }
    }
}

/// Has Python code run for an argument, and a relay make the call.
fn take_detour<O: Ops>(
    o: &mut O,
    declaration: &Declaration,
    frame: Frame<O::Word>,
    count: usize,
    key: Key,
    copied: u64,
) -> Result<O::Word, Unmade> {
    let detours = declaration.detours.as_ref().ok_or(match key.1 {
        Ahead::Convert(_) => refusals::FROM_PARAM,
        Ahead::LookUp(_) => refusals::PARAMETER,
        Ahead::Build => refusals::PARAMFLAGS,
    })?;
    let detour = detours.find(key).ok_or(Unmade::Lacks(key))?;
    // What builds the arguments has `errcheck` see them.
    let builds = key.1 == Ahead::Build;
    if let Some(errcheck) = &declaration.errcheck
        && !builds
    {
        keep(o, errcheck);
    }
    let detour = o.symbol(&detour);
    let packed = o.constant(copied << detour::FIRST_COPIED | count as u64);
    let result = o.help(&detour::TAKE, &[detour, frame.this, frame.args, packed]);
    Ok(if builds { result } else { checked(o, declaration, frame, result) })
}

/// What has become of the arguments.
enum Taken {
    /// All of them are taken.
    All,
    /// Python code has to run for one. Those before it are sure to be
    /// converted; `copied` has the bits of those whose value it might change.
    UpTo { key: Key, copied: u64 },
}

/// The arguments as the foreign function gets them.
struct Words<W> {
    words: SmallVec<[W; 16]>,
    /// Objects that are passed as such: ctypes holds a reference to each during
    /// the call, and C code can see how many there are.
    held: SmallVec<[W; 4]>,
    /// The places of words that say what is copied, to become addresses.
    copied: SmallVec<[(usize, Copied<W>); 2]>,
    /// How the function is called this time, if not as it is declared.
    call: Option<Arc<PreparedCall>>,
}

/// Takes the declared arguments and those behind them into `taken`.
fn take_all<O: Ops>(
    o: &mut O,
    known: &Known,
    declaration: &Declaration,
    frame: Frame<O::Word>,
    count: usize,
    taken: &mut Words<O::Word>,
) -> Result<Taken, Refusal> {
    let declared = declaration.call.signature();
    let mut types = SmallVec::<[CType; 8]>::new();
    let mut observed = None;
    let (mut copied, mut finalises) = (0, false);
    for index in 0..count {
        let arg = declaration.args.get(index);
        let object = o.load(frame.args, layout::ARGUMENT.item(index as u32));
        let passed = match args::take(o, known, &mut observed, arg, object)? {
            Argument::Passed(passed) => passed,
            Argument::Ahead(_) if copied >> detour::MOST_COPIED != 0 => {
                return Err(refusals::PARAMETER);
            }
            // The end of a copy would be taken for that of an instance.
            Argument::Ahead(_) if finalises => return Err(refusals::FINALISER),
            Argument::Ahead(ahead) => return Ok(Taken::UpTo { key: (index, ahead), copied }),
        };
        copied |= u64::from(passed.is_copied) << index.min(detour::MOST_COPIED);
        finalises |= passed.is_copied && passed.has_finaliser;
        taken.copied.extend(passed.copy.map(|copy| (taken.words.len(), copy)));
        match passed.words[..] {
            [word] => taken.words.push(word),
            ref words => taken.words.extend_from_slice(words),
        }
        types.push(passed.ctype);
        if arg.is_some_and(|arg| arg.rule == ArgRule::Simple(Kind::Object)) {
            taken.held.push(object);
        }
    }
    let is_variadic = (1..count).contains(&declaration.args.len());
    if is_variadic && types.iter().skip(1).any(is_narrow) {
        return Err(refusals::NARROW);
    }
    if types[..] != *declared.args() {
        types.push(declared.result());
        taken.call = Some(known.undeclared.prepare(&types)?);
    }
    Ok(Taken::All)
}

/// Whether libffi calls no variadic function with an argument of this type, since C
/// would have promoted it. Some versions look at all arguments but the first one.
fn is_narrow(ctype: &CType) -> bool {
    let narrow = [CType::Bool, CType::I8, CType::U8, CType::I16, CType::U16, CType::F32];
    narrow.contains(ctype)
}

/// Takes a reference to what is needed after the call.
fn keep<O: Ops>(o: &mut O, object: &Symbol) -> O::Word {
    let object = o.symbol(object);
    o.help(&KEEP, &[object]);
    object
}

/// Returns null to the caller of the stub if the function left an exception.
fn failed<O: Ops>(o: &mut O, known: &Known, kept: &[O::Word], copies: &Copies<O::Word>) -> bool {
    let pending = match &known.current {
        Some(current) => current.pending(o),
        None => o.help(&ERROR_PENDING, &[]),
    };
    for &object in kept {
        o.help(&RELEASE_IF, &[pending, object]);
    }
    copies.free_if(o, pending);
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
        Ok(count) if declaration.accepts(count) => Ok(count),
        _ => Err(refusals::COUNT),
    }
}

/// Whether a class has the version under which it is known.
fn has_version<O: Ops>(o: &mut O, class: O::Word, version: u32) -> bool {
    let current = o.load(class, layout::TYPE_VERSION);
    // A name keeps the number, which is another one each time, out of texts.
    o.is(current, &Symbol { name: "version".into(), address: version.into() })
}

/// Makes the foreign call, with errno as the program asked for.
fn perform<O: Ops>(
    o: &mut O,
    known: &Known,
    call: &Arc<PreparedCall>,
    target: O::Word,
    words: &[O::Word],
    errno: Option<Private<O::Word>>,
) -> O::Word {
    if let Some(errno) = errno {
        errno::swap(o, known.errno, errno.space);
    }
    if known.timed {
        o.help(&profile::BEGIN, &[]);
    }
    let value = o.call(call, target, words);
    if known.timed {
        o.help(&profile::END, &[]);
    }
    if let Some(errno) = errno {
        errno::swap(o, known.errno, errno.space);
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
