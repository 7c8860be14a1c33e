//! The rules of numbers and characters: from an int, float, bytes or str
//! object, whose class is known, to the word of a C value.

use hotcall_tracer::{Mem, Ops, Refusal};

use crate::classes::Family;
use crate::helpers::{INT_MASK, WCHAR_OF};
use crate::known::Known;
use crate::layout::{self, Int};
use crate::refusals;

/// An int modulo 2^64.
pub(crate) fn integer<O: Ops>(o: &mut O, known: &Known, object: O::Word) -> O::Word {
    let size = o.load(object, layout::INT_SIZE);
    match digit(o, known.layout.int, object, size) {
        Some(word) => word,
        // Right for every int, so no guard is needed here.
        None => any_integer(o, known.layout.int, object, size),
    }
}

/// Any int modulo 2^64. Those of one digit need no call, so that a function which
/// was once given a large one is not slower for it.
fn any_integer<O: Ops>(o: &mut O, int: Int, object: O::Word, size: O::Word) -> O::Word {
    let longer = match int {
        // The square is below 2 for one digit and none, whatever the sign.
        Int::Signed => {
            let square = o.mul(size, size);
            let one = o.constant(1);
            o.shr(square, one)
        }
        Int::Tagged => {
            let bits = o.constant(4);
            o.shr(size, bits)
        }
    };
    let word = short_value(o, int, object, size);
    o.help_if(longer, word, &INT_MASK, &[object])
}

/// An int of at most `bits` bits, between one digit and two, 30 and 60, exactly.
fn short_integer<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    bits: u32,
    refusal: Refusal,
) -> Result<O::Word, Refusal> {
    let size = o.load(object, layout::INT_SIZE);
    if let Some(word) = digit(o, known.layout.int, object, size) {
        return Ok(word);
    }
    let (biased, bound) = digits_below(o, known.layout.int, size, 3);
    if !o.test_lt(biased, bound) {
        return Err(refusal);
    }
    let word = any_integer(o, known.layout.int, object, size);
    let most = o.constant(1 << bits);
    let biased = o.add(word, most);
    let bound = o.constant((2 << bits) + 1);
    match o.test_lt(biased, bound) {
        true => Ok(word),
        false => Err(refusal),
    }
}

/// The value of an int of at most one digit, if it is one this time.
fn digit<O: Ops>(o: &mut O, int: Int, object: O::Word, size: O::Word) -> Option<O::Word> {
    let (biased, bound) = digits_below(o, int, size, 2);
    if o.peek(biased) >= o.peek(bound) {
        return None;
    }
    let small = o.test_lt(biased, bound);
    debug_assert!(small, "it has just been found to be so");
    Some(short_value(o, int, object, size))
}

/// The value of an int of at most one digit.
fn short_value<O: Ops>(o: &mut O, int: Int, object: O::Word, size: O::Word) -> O::Word {
    let digit = o.load(object, layout::INT_DIGIT);
    let sign = match int {
        Int::Signed => size,
        Int::Tagged => {
            let sign_bits = o.constant(3);
            let tag = o.and(size, sign_bits);
            let one = o.constant(1);
            o.sub(one, tag)
        }
    };
    o.mul(sign, digit)
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

/// An undeclared int: a C int, of which ctypes keeps the low bits.
pub(super) fn c_int<O: Ops>(o: &mut O, known: &Known, object: O::Word) -> Result<O::Word, Refusal> {
    // ctypes reports what does not fit in 64 bits.
    let word = short_integer(o, known, object, 60, refusals::LARGE_INT)?;
    Ok(o.extend(Mem::I32, word))
}

/// A float, or an int of at most 53 bits, as a double: those are exact, and
/// rounding others is for CPython, whatever the processor's rounding mode.
pub(super) fn double<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    family: Family,
) -> Result<O::Word, Refusal> {
    match family {
        Family::Float => Ok(o.load(object, layout::FLOAT_VALUE)),
        Family::Int => {
            let word = short_integer(o, known, object, 53, refusals::LARGE_INT)?;
            Ok(o.to_f64(word))
        }
        _ => Err(refusals::VALUE),
    }
}

/// The truth of an int, a float, a bytes object or None, as 0 or 1.
pub(super) fn truth<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    family: Family,
) -> Result<O::Word, Refusal> {
    let (word, falsehood) = match (family, known.layout.int) {
        (Family::Int, Int::Signed) => (o.load(object, layout::INT_SIZE), 0),
        // The two lowest bits are 1 for zero alone.
        (Family::Int, Int::Tagged) => {
            let size = o.load(object, layout::INT_SIZE);
            let sign_bits = o.constant(3);
            (o.and(size, sign_bits), 1)
        }
        // Shifting out the sign leaves 0 of both zeros, and of nothing else.
        (Family::Float, _) => {
            let value = o.load(object, layout::FLOAT_VALUE);
            let bits = o.bits(value);
            let one = o.constant(1);
            (o.shl(bits, one), 0)
        }
        (Family::Bytes, _) => (o.load(object, layout::BYTES_SIZE), 0),
        (Family::None, _) => return Ok(o.constant(0)),
        _ => return Err(refusals::VALUE),
    };
    let falsehood = o.constant(falsehood);
    Ok(o.ne(word, falsehood))
}

/// One byte, or an int from 0 to 255, as C's `char`.
pub(super) fn character<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    family: Family,
) -> Result<O::Word, Refusal> {
    match family {
        Family::Bytes => {
            let size = o.load(object, layout::BYTES_SIZE);
            match o.test_is(size, 1) {
                true => Ok(o.load(object, layout::BYTES_FIRST)),
                false => Err(refusals::CHAR),
            }
        }
        Family::Int | Family::IntSubclass => {
            let word = short_integer(o, known, object, 30, refusals::CHAR)?;
            let bound = o.constant(256);
            match o.test_lt(word, bound) {
                true => Ok(o.extend(Mem::I8, word)),
                false => Err(refusals::CHAR),
            }
        }
        _ => Err(refusals::VALUE),
    }
}

/// A str of one character.
pub(super) fn wide_character<O: Ops>(o: &mut O, object: O::Word) -> Result<O::Word, Refusal> {
    let word = o.help(&WCHAR_OF, &[object]);
    match o.test_is(word, u64::MAX) {
        true => Err(refusals::CHAR),
        false => Ok(word),
    }
}
