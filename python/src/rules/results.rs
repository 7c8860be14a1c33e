//! The rules of results: from what the foreign function left in the result
//! register to the object that the caller gets.

use hotcall_core::CType;
use hotcall_tracer::{Mem, Ops};

use crate::boxes;
use crate::declare::{Kind, ResultRule};
use crate::helpers as help;
use crate::instance::{NEW_INSTANCE, NEW_RECORD};
use crate::known::Known;
use crate::layout;

/// The object for `value`, or 0 with an exception set.
pub(super) fn wrap<O: Ops>(
    o: &mut O,
    known: &Known,
    result: &ResultRule,
    value: O::Word,
) -> O::Word {
    match result {
        ResultRule::Void if known.layout.immortal_none => o.symbol(&known.none),
        ResultRule::Void => o.help(&help::NEW_NONE, &[]),
        ResultRule::Simple(kind) => simple(o, known, *kind, value),
        ResultRule::Callable(callable) => {
            let callable = o.symbol(callable);
            let word = o.extend(Mem::I32, value);
            let int = signed(o, known, word);
            o.help(&help::CALL_WITH, &[callable, int])
        }
        ResultRule::Record { class, of } => {
            let class = o.symbol(class);
            let size = o.constant(of.size() as u64);
            o.help(&NEW_RECORD, &[class, value, size])
        }
        ResultRule::Instance { kind, class } => {
            let bits = match kind {
                Kind::F64 => o.bits(value),
                Kind::F32 => o.bits32(value),
                _ => value,
            };
            let class = o.symbol(class);
            let size = o.constant(kind.field().mem.size().into());
            o.help(&NEW_INSTANCE, &[class, bits, size])
        }
    }
}

/// The Python value of a C value of `kind`.
fn simple<O: Ops>(o: &mut O, known: &Known, kind: Kind, value: O::Word) -> O::Word {
    match kind {
        // Narrower unsigned integers are positive as signed words.
        Kind::Int(CType::U64) => o.help(known.boxing.unsigned, &[value]),
        Kind::Int(_) => {
            let mem = kind.field().mem;
            let word = o.extend(mem, value);
            match mem.size() {
                // Longer ones are more often than not too large to be in the table.
                8 => o.help(known.boxing.signed, &[word]),
                _ => signed(o, known, word),
            }
        }
        Kind::Bool => {
            let byte = o.extend(Mem::U8, value);
            truth(o, known, byte)
        }
        Kind::F64 => o.help(known.boxing.double, &[value]),
        Kind::F32 => {
            let double = o.promote(value);
            o.help(known.boxing.double, &[double])
        }
        Kind::Char => o.help(&help::FROM_CHAR, &[value]),
        Kind::WChar => o.help(&help::FROM_WCHAR, &[value]),
        Kind::CharP => o.help(&help::FROM_CHAR_P, &[value]),
        Kind::WCharP => o.help(&help::FROM_WCHAR_P, &[value]),
        Kind::VoidP => o.help(known.boxing.address, &[value]),
        Kind::Object => o.help(&help::FROM_OBJECT, &[value]),
        Kind::LongDouble => unreachable!("declarations with long double are refused"),
    }
}

/// The int of a signed word. Where small ints count no references, the first 256
/// of them are found without a call.
fn signed<O: Ops>(o: &mut O, known: &Known, word: O::Word) -> O::Word {
    let Some(table) = &known.small_ints else {
        return o.help(known.boxing.signed, &[word]);
    };
    let before = o.constant(boxes::FIRST_SMALL.unsigned_abs());
    let index = o.add(word, before);
    let bits = o.constant(8);
    let beyond = o.shr(index, bits);
    let bits = o.constant(boxes::STRIDE.trailing_zeros().into());
    let offset = o.shl(index, bits);
    let table = o.symbol(table);
    let small = o.add(table, offset);
    o.help_if(beyond, small, known.boxing.signed, &[word])
}

/// False for 0, else True.
fn truth<O: Ops>(o: &mut O, known: &Known, word: O::Word) -> O::Word {
    let Some(truths) = &known.truths else {
        return o.help(&help::FROM_BOOL, &[word]);
    };
    let zero = o.constant(0);
    let index = o.ne(word, zero);
    let bits = o.constant(3);
    let offset = o.shl(index, bits);
    let truths = o.symbol(truths);
    let place = o.add(truths, offset);
    o.load(place, layout::MEMORY_WORD)
}
