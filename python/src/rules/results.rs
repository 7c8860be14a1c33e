//! The rules of results: from what the foreign function left in the result
//! register to the object that the caller gets.

use hotcall_core::CType;
use hotcall_tracer::{Mem, Ops};

use crate::declare::{Kind, ResultRule};
use crate::helpers as help;
use crate::instance::{NEW_INSTANCE, NEW_RECORD};
use crate::known::Known;

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
        ResultRule::Simple(kind) => simple(o, *kind, value),
        ResultRule::Callable(callable) => {
            let callable = o.symbol(callable);
            let word = o.extend(Mem::I32, value);
            let int = o.help(&help::FROM_SIGNED, &[word]);
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
fn simple<O: Ops>(o: &mut O, kind: Kind, value: O::Word) -> O::Word {
    match kind {
        // Narrower unsigned integers are positive as signed words.
        Kind::Int(CType::U64) => o.help(&help::FROM_UNSIGNED, &[value]),
        Kind::Int(_) => {
            let word = o.extend(kind.field().mem, value);
            o.help(&help::FROM_SIGNED, &[word])
        }
        Kind::Bool => {
            let byte = o.extend(Mem::U8, value);
            o.help(&help::FROM_BOOL, &[byte])
        }
        Kind::F64 => o.help(&help::FROM_DOUBLE, &[value]),
        Kind::F32 => {
            let double = o.promote(value);
            o.help(&help::FROM_DOUBLE, &[double])
        }
        Kind::Char => o.help(&help::FROM_CHAR, &[value]),
        Kind::WChar => o.help(&help::FROM_WCHAR, &[value]),
        Kind::CharP => o.help(&help::FROM_CHAR_P, &[value]),
        Kind::WCharP => o.help(&help::FROM_WCHAR_P, &[value]),
        Kind::VoidP => o.help(&help::FROM_VOID_P, &[value]),
        Kind::Object => o.help(&help::FROM_OBJECT, &[value]),
        Kind::LongDouble => unreachable!("declarations with long double are refused"),
    }
}
