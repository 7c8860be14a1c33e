//! The rules of arguments: from an object, and the type declared for it, to
//! the canonical word that the foreign function gets.
//!
//! A rule accepts exact types alone. For anything else ctypes asks
//! `isinstance`, which may run Python code: that is refused.

use hotcall_tracer::{Mem, Ops, Refusal};

use crate::declare::{Arg, Kind};
use crate::layout::{self, Int};
use crate::refusals;
use crate::rules::Known;

/// The word for `object` as an argument declared as `arg`.
pub(super) fn take<O: Ops>(
    o: &mut O,
    known: &Known,
    arg: &Arg,
    object: O::Word,
) -> Result<O::Word, Refusal> {
    let class = o.load(object, layout::OB_TYPE);
    let word = match arg.kind {
        Kind::Int(_) => {
            let mem = arg.kind.field().mem;
            integer(o, known, object, class).map(|word| o.extend(mem, word))
        }
        Kind::Bool => truth(o, known, object, class),
        Kind::Char => character(o, known, object, class)?,
        Kind::WChar => wide_character(o, known, object, class)?,
        Kind::F64 => double(o, known, object, class)?,
        Kind::F32 => double(o, known, object, class)?.map(|double| o.demote(double)),
        Kind::CharP => char_pointer(o, known, object, class),
        Kind::WCharP => null(o, known, object),
        Kind::VoidP => void_pointer(o, known, object, class),
        Kind::LongDouble | Kind::Object => None,
    };
    match word {
        Some(word) => Ok(word),
        None => instance(o, arg, object, class),
    }
}

/// The value of an instance of the declared type itself.
fn instance<O: Ops>(
    o: &mut O,
    arg: &Arg,
    object: O::Word,
    class: O::Word,
) -> Result<O::Word, Refusal> {
    if !o.is(class, &arg.class) {
        return Err(refusals::VALUE);
    }
    let memory = o.load(object, layout::CDATA_POINTER);
    Ok(o.load(memory, arg.kind.field()))
}

/// Whether the class is int or bool, whose objects have one layout.
fn is_int<O: Ops>(o: &mut O, known: &Known, class: O::Word) -> bool {
    o.is(class, &known.symbols.int) || o.is(class, &known.symbols.bool)
}

/// An int or bool, modulo 2^64.
fn integer<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Option<O::Word> {
    if !is_int(o, known, class) {
        return None;
    }
    let size = o.load(object, layout::INT_SIZE);
    Some(match small_int(o, known.layout.int, object, size) {
        Some(word) => word,
        // Right for every int, so no guard is needed here.
        None => o.help(&crate::helpers::INT_MASK, &[object]),
    })
}

/// The value of an int of at most one digit, if it is one this time.
fn small_int<O: Ops>(o: &mut O, int: Int, object: O::Word, size: O::Word) -> Option<O::Word> {
    let (biased, bound) = digits_below(o, int, size, 2);
    if !(o.hint_lt(biased, bound) && o.test_lt(biased, bound)) {
        return None;
    }
    let digit = o.load(object, layout::INT_DIGIT);
    let sign = match int {
        Int::Signed => size,
        Int::Tagged => {
            let three = o.constant(3);
            let tag = o.and(size, three);
            let one = o.constant(1);
            o.sub(one, tag)
        }
    };
    Some(o.mul(sign, digit))
}

/// Two words, the first of which is below the second, unsigned, if and only if
/// the int has fewer than `count` digits.
fn digits_below<O: Ops>(o: &mut O, int: Int, size: O::Word, count: u64) -> (O::Word, O::Word) {
    match int {
        Int::Signed => {
            let bias = o.constant(count - 1);
            (o.add(size, bias), o.constant(2 * count - 1))
        }
        Int::Tagged => (size, o.constant(8 * count)),
    }
}

/// A float, or an int of at most two digits, as a double.
fn double<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Result<Option<O::Word>, Refusal> {
    if o.is(class, &known.symbols.float) {
        return Ok(Some(o.load(object, layout::FLOAT_VALUE)));
    }
    if !is_int(o, known, class) {
        return Ok(None);
    }
    let size = o.load(object, layout::INT_SIZE);
    if let Some(word) = small_int(o, known.layout.int, object, size) {
        return Ok(Some(o.to_f64(word)));
    }
    // Two digits are 60 bits: they fit a signed word, and rounding is the same.
    let (biased, bound) = digits_below(o, known.layout.int, size, 3);
    if !o.test_lt(biased, bound) {
        return Err(refusals::LARGE_INT);
    }
    let word = o.help(&crate::helpers::INT_MASK, &[object]);
    Ok(Some(o.to_f64(word)))
}

/// The truth of an int, float, bytes object, or None, as 0 or 1.
fn truth<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Option<O::Word> {
    if is_int(o, known, class) {
        let size = o.load(object, layout::INT_SIZE);
        return Some(match known.layout.int {
            Int::Signed => {
                let zero = o.constant(0);
                o.ne(size, zero)
            }
            // The two lowest bits are 1 for zero alone.
            Int::Tagged => {
                let three = o.constant(3);
                let sign = o.and(size, three);
                let one = o.constant(1);
                o.ne(sign, one)
            }
        });
    }
    if o.is(class, &known.symbols.float) {
        // Shifting out the sign leaves 0 of both zeros, and of nothing else.
        let value = o.load(object, layout::FLOAT_VALUE);
        let bits = o.bits(value);
        let one = o.constant(1);
        let magnitude = o.shl(bits, one);
        let zero = o.constant(0);
        return Some(o.ne(magnitude, zero));
    }
    if o.is(class, &known.symbols.bytes) {
        let size = o.load(object, layout::BYTES_SIZE);
        let zero = o.constant(0);
        return Some(o.ne(size, zero));
    }
    null(o, known, object)
}

/// One byte, or an int from 0 to 255, as C's `char`.
fn character<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Result<Option<O::Word>, Refusal> {
    if o.is(class, &known.symbols.bytes) {
        let size = o.load(object, layout::BYTES_SIZE);
        return match o.test_is(size, 1) {
            true => Ok(Some(o.load(object, layout::BYTES_FIRST))),
            false => Err(refusals::CHAR),
        };
    }
    if !is_int(o, known, class) {
        return Ok(None);
    }
    let size = o.load(object, layout::INT_SIZE);
    let Some(word) = small_int(o, known.layout.int, object, size) else {
        return Err(refusals::CHAR);
    };
    let bound = o.constant(256);
    match o.test_lt(word, bound) {
        true => Ok(Some(o.extend(Mem::I8, word))),
        false => Err(refusals::CHAR),
    }
}

/// A str of one character.
fn wide_character<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Result<Option<O::Word>, Refusal> {
    if !o.is(class, &known.symbols.str) {
        return Ok(None);
    }
    let word = o.help(&crate::helpers::WCHAR_OF, &[object]);
    match o.test_is(word, u64::MAX) {
        true => Err(refusals::CHAR),
        false => Ok(Some(word)),
    }
}

/// None as a null pointer.
fn null<O: Ops>(o: &mut O, known: &Known, object: O::Word) -> Option<O::Word> {
    match o.is(object, &known.symbols.none) {
        true => Some(o.constant(0)),
        false => None,
    }
}

/// None, or the address of the first byte of a bytes object.
fn char_pointer<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Option<O::Word> {
    if !o.is(class, &known.symbols.bytes) {
        return null(o, known, object);
    }
    let first = o.constant(layout::BYTES_FIRST.offset as u64);
    Some(o.add(object, first))
}

/// None, an int as an address, or a bytes object.
fn void_pointer<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    class: O::Word,
) -> Option<O::Word> {
    match integer(o, known, object, class) {
        Some(word) => Some(word),
        None => char_pointer(o, known, object, class),
    }
}
