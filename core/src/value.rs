//! A value of a foreign call with its type, and the way to and from its
//! canonical word. Its layout in memory is part of the interface, so that
//! machine code can read and write values without a conversion.

use std::ffi::c_void;
use std::fmt;

use crate::CType;

/// A typed argument or result of a foreign call.
///
/// The layout is a tag of 8 bytes at [`Value::TAG_OFFSET`], then the payload
/// at [`Value::PAYLOAD_OFFSET`] in the width of its own type; the bytes above
/// a narrow payload are undefined. The tag of each type is
/// [`Value::tag_of`]. A long double has no value.
///
/// Source: Rust reference, "Type layout", primitive representation of enums
/// with fields.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u64)]
pub enum Value {
    /// No value: what a void function returns.
    Void = 0,
    /// A [`CType::Bool`].
    Bool(bool) = 1,
    /// A [`CType::I8`].
    I8(i8) = 2,
    /// A [`CType::U8`].
    U8(u8) = 3,
    /// A [`CType::I16`].
    I16(i16) = 4,
    /// A [`CType::U16`].
    U16(u16) = 5,
    /// A [`CType::I32`].
    I32(i32) = 6,
    /// A [`CType::U32`].
    U32(u32) = 7,
    /// A [`CType::I64`].
    I64(i64) = 8,
    /// A [`CType::U64`].
    U64(u64) = 9,
    /// A [`CType::F32`].
    F32(f32) = 10,
    /// A [`CType::F64`].
    F64(f64) = 11,
    /// A [`CType::Pointer`].
    Pointer(*mut c_void) = 12,
}

const _: () = assert!(size_of::<Value>() == 16 && align_of::<Value>() == 8);

impl Value {
    /// The offset of the tag in bytes; it is a `u64`.
    pub const TAG_OFFSET: usize = 0;

    /// The offset of the payload in bytes, for every type that has one.
    pub const PAYLOAD_OFFSET: usize = 8;

    /// The type of this value.
    pub const fn ctype(&self) -> CType {
        match self {
            Value::Void => CType::Void,
            Value::Bool(_) => CType::Bool,
            Value::I8(_) => CType::I8,
            Value::U8(_) => CType::U8,
            Value::I16(_) => CType::I16,
            Value::U16(_) => CType::U16,
            Value::I32(_) => CType::I32,
            Value::U32(_) => CType::U32,
            Value::I64(_) => CType::I64,
            Value::U64(_) => CType::U64,
            Value::F32(_) => CType::F32,
            Value::F64(_) => CType::F64,
            Value::Pointer(_) => CType::Pointer,
        }
    }

    /// The tag of the values of a type; `None` if the type has no values.
    pub const fn tag_of(ctype: CType) -> Option<u64> {
        Some(match ctype {
            CType::Void => 0,
            CType::Bool => 1,
            CType::I8 => 2,
            CType::U8 => 3,
            CType::I16 => 4,
            CType::U16 => 5,
            CType::I32 => 6,
            CType::U32 => 7,
            CType::I64 => 8,
            CType::U64 => 9,
            CType::F32 => 10,
            CType::F64 => 11,
            CType::Pointer => 12,
            CType::LongDouble | CType::Struct(_) => return None,
        })
    }

    /// The canonical word of this value; see [`CType::canonical`].
    ///
    /// The provenance of a pointer is exposed.
    #[inline]
    pub fn word(self) -> u64 {
        match self {
            Value::Void => 0,
            Value::Bool(value) => u64::from(value),
            Value::I8(value) => value as u64,
            Value::U8(value) => u64::from(value),
            Value::I16(value) => value as u64,
            Value::U16(value) => u64::from(value),
            Value::I32(value) => value as u64,
            Value::U32(value) => u64::from(value),
            Value::I64(value) => value as u64,
            Value::U64(value) => value,
            Value::F32(value) => u64::from(value.to_bits()),
            Value::F64(value) => value.to_bits(),
            Value::Pointer(value) => value.expose_provenance() as u64,
        }
    }

    /// The value of a type whose bytes are the low bytes of `word`.
    ///
    /// `word` need not be canonical. `None` if the type has no values.
    #[inline]
    pub fn from_word(ctype: CType, word: u64) -> Option<Value> {
        Some(match ctype {
            CType::Void => Value::Void,
            CType::Bool => Value::Bool(word as u8 != 0),
            CType::I8 => Value::I8(word as i8),
            CType::U8 => Value::U8(word as u8),
            CType::I16 => Value::I16(word as i16),
            CType::U16 => Value::U16(word as u16),
            CType::I32 => Value::I32(word as i32),
            CType::U32 => Value::U32(word as u32),
            CType::I64 => Value::I64(word as i64),
            CType::U64 => Value::U64(word),
            CType::F32 => Value::F32(f32::from_bits(word as u32)),
            CType::F64 => Value::F64(f64::from_bits(word)),
            CType::Pointer => Value::Pointer(std::ptr::with_exposed_provenance_mut(word as usize)),
            CType::LongDouble | CType::Struct(_) => return None,
        })
    }
}

/// One row for each Rust type: the variant, and the conversion into its field.
macro_rules! from_rust {
    ($($rust:ty => $variant:ident as $field:ty,)*) => {$(
        impl From<$rust> for Value {
            #[inline]
            fn from(value: $rust) -> Value {
                Value::$variant(value as $field)
            }
        }
    )*};
}

from_rust! {
    bool => Bool as bool,
    i8 => I8 as i8,
    u8 => U8 as u8,
    i16 => I16 as i16,
    u16 => U16 as u16,
    i32 => I32 as i32,
    u32 => U32 as u32,
    i64 => I64 as i64,
    u64 => U64 as u64,
    isize => I64 as i64,
    usize => U64 as u64,
    f32 => F32 as f32,
    f64 => F64 as f64,
}

impl From<()> for Value {
    #[inline]
    fn from((): ()) -> Value {
        Value::Void
    }
}

impl<T> From<*mut T> for Value {
    #[inline]
    fn from(value: *mut T) -> Value {
        Value::Pointer(value.cast())
    }
}

impl<T> From<*const T> for Value {
    #[inline]
    fn from(value: *const T) -> Value {
        Value::Pointer(value.cast_mut().cast())
    }
}

/// Prints the value without its type: `-1`, `0.5`, `true`, `0x7f00`, `()`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Void => f.pad("()"),
            Value::Bool(value) => value.fmt(f),
            Value::I8(value) => value.fmt(f),
            Value::U8(value) => value.fmt(f),
            Value::I16(value) => value.fmt(f),
            Value::U16(value) => value.fmt(f),
            Value::I32(value) => value.fmt(f),
            Value::U32(value) => value.fmt(f),
            Value::I64(value) => value.fmt(f),
            Value::U64(value) => value.fmt(f),
            Value::F32(value) => value.fmt(f),
            Value::F64(value) => value.fmt(f),
            Value::Pointer(value) => fmt::Pointer::fmt(value, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbtest;

    #[test]
    fn words_and_values_are_two_forms_of_the_same() {
        arbtest(|u| {
            let word: u64 = u.arbitrary()?;
            let ctype = *u.choose(CType::ALL)?;
            match Value::from_word(ctype, word) {
                Some(value) => {
                    assert_eq!(value.ctype(), ctype);
                    assert_eq!(value.word(), ctype.canonical(word), "{ctype} {word:#x}");
                    assert!(Value::tag_of(ctype).is_some());
                }
                None => assert_eq!((ctype, Value::tag_of(ctype)), (CType::LongDouble, None)),
            }
            Ok(())
        })
        .budget_ms(200);
    }

    /// The address of a payload is where machine code expects it.
    #[test]
    fn payloads_are_at_their_offset() {
        fn offset<T>(value: &Value, payload: &T) -> usize {
            std::ptr::from_ref(payload).addr() - std::ptr::from_ref(value).addr()
        }
        for ctype in CType::ALL.iter().filter(|ctype| **ctype != CType::LongDouble) {
            let value = Value::from_word(*ctype, 1).unwrap();
            let got = match &value {
                Value::Void => continue,
                Value::Bool(payload) => offset(&value, payload),
                Value::I8(payload) => offset(&value, payload),
                Value::U8(payload) => offset(&value, payload),
                Value::I16(payload) => offset(&value, payload),
                Value::U16(payload) => offset(&value, payload),
                Value::I32(payload) => offset(&value, payload),
                Value::U32(payload) => offset(&value, payload),
                Value::I64(payload) => offset(&value, payload),
                Value::U64(payload) => offset(&value, payload),
                Value::F32(payload) => offset(&value, payload),
                Value::F64(payload) => offset(&value, payload),
                Value::Pointer(payload) => offset(&value, payload),
            };
            assert_eq!(got, Value::PAYLOAD_OFFSET, "{ctype}");
        }
    }

    #[test]
    fn rust_values_convert_and_print() {
        let check = |value: Value, ctype: CType, text: &str| {
            assert_eq!((value.ctype(), value.to_string()), (ctype, text.to_string()));
        };
        check(().into(), CType::Void, "()");
        check(true.into(), CType::Bool, "true");
        check((-1i8).into(), CType::I8, "-1");
        check(65_535u16.into(), CType::U16, "65535");
        check(usize::MAX.into(), CType::U64, "18446744073709551615");
        check((-1isize).into(), CType::I64, "-1");
        check(0.5f32.into(), CType::F32, "0.5");
        check(1.0f64.into(), CType::F64, "1");
        check(std::ptr::null::<u8>().into(), CType::Pointer, "0x0");
        check(std::ptr::without_provenance_mut::<u32>(0x7f00).into(), CType::Pointer, "0x7f00");
    }
}
