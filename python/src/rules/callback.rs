//! A callback, told once: what happens between the words that C gives, and the
//! word that it gets. Read live this is the interpreter; read by the recorder it
//! is the native entry.
//!
//! **Invariant.** Nothing is guarded: there is nobody who could take over. What
//! fails gives 0 instead of an object, and whoever gets that goes no further.

use hotcall_core::{Abi, CType};
use hotcall_tracer::Ops;

use crate::callbacks::shape::{Boxing, Shape};
use crate::callbacks::{calling, unboxing};
use crate::declare::Kind;
use crate::gil_entry;
use crate::helpers as help;
use crate::known::Known;
use crate::layout;
use crate::rules::count;

/// Calls the Python callable of `thunk` with the words of the arguments; gives
/// the word of the result.
pub(crate) fn callback<O: Ops>(
    o: &mut O,
    known: &Known,
    shape: &Shape,
    thunk: O::Word,
    words: &[O::Word],
) -> O::Word {
    let entered = gil_entry::enter_by_rule(o, known);
    if let Some(counter) = &known.callback_counter {
        count(o, counter);
    }
    // The program may drop it during the call.
    let one = o.constant(1);
    let references = o.load(thunk, layout::OB_COUNT);
    let more = o.add(references, one);
    o.store(thunk, layout::OB_COUNT, more);
    let args = o.scratch(8 * (1 + shape.args.len() as u64));
    let mut words = words.iter().copied();
    let mut previous = thunk;
    for (boxing, index) in shape.args.iter().zip(0..) {
        let object = object(o, known, *boxing, previous, thunk, index, &mut words);
        o.store(args, layout::ARGUMENT.item(1 + index), object);
        previous = object;
    }
    let number = o.constant(shape.args.len() as u64);
    let call = if shape.counts_itself { &calling::CALL } else { &calling::CALL_DEEPER };
    let result = o.help(call, &[thunk, args, number]);
    let settle = unboxing::helper(shape.result);
    let word = o.help(settle, &[thunk, args, number, result]);
    gil_entry::leave_by_rule(o, entered);
    word
}

/// The object for an argument, made if `previous` is not 0: the object before it.
fn object<O: Ops>(
    o: &mut O,
    known: &Known,
    boxing: Boxing,
    previous: O::Word,
    thunk: O::Word,
    index: u32,
    words: &mut impl Iterator<Item = O::Word>,
) -> O::Word {
    let mut next = || words.next().expect("a signature's words are as many as its types ask for");
    match boxing {
        Boxing::Value(kind) => {
            let word = next();
            value(o, known, kind, previous, word)
        }
        Boxing::Instance(ctype) => {
            let index = o.constant(index.into());
            let class = o.help(&calling::CLASS_OF, &[thunk, index]);
            match (ctype, ctype.words(Abi::HOST)) {
                (CType::Struct(of), 1) if of.words(Abi::HOST).is_empty() => {
                    let address = next();
                    o.help(&calling::NEW_FROM_MEMORY, &[previous, class, address])
                }
                (_, count) => {
                    let low = next();
                    let high = if count == 2 { next() } else { o.constant(0) };
                    o.help(&calling::NEW_FROM_WORDS, &[previous, class, low, high])
                }
            }
        }
    }
}

/// The Python value of a C value.
fn value<O: Ops>(
    o: &mut O,
    known: &Known,
    kind: Kind,
    previous: O::Word,
    word: O::Word,
) -> O::Word {
    match kind {
        // Narrower unsigned integers are positive as signed words.
        Kind::Int(CType::U64) => o.help(known.boxing.unsigned, &[word]),
        Kind::Int(_) => o.help(known.boxing.signed, &[word]),
        Kind::Bool => o.help(&help::FROM_BOOL, &[word]),
        Kind::F64 => o.help(&calling::FROM_DOUBLE_BITS, &[word]),
        Kind::F32 => o.help(&calling::FROM_FLOAT_BITS, &[word]),
        Kind::Char => o.help(&help::FROM_CHAR, &[word]),
        Kind::VoidP => o.help(known.boxing.address, &[word]),
        // These read memory, or may refuse their value.
        Kind::WChar => o.help(&calling::NEXT_WCHAR, &[previous, word]),
        Kind::CharP => o.help(&calling::NEXT_CHAR_P, &[previous, word]),
        Kind::WCharP => o.help(&calling::NEXT_WCHAR_P, &[previous, word]),
        Kind::Object => o.help(&calling::NEXT_OBJECT, &[previous, word]),
        Kind::LongDouble => unreachable!("callbacks with long double are refused"),
    }
}
