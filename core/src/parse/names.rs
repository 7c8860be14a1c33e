//! The names of scalar types in Rust's and in C's words, and what they mean in each
//! convention.

use crate::{Abi, CType};

/// The type that these words name; the order of C's keywords does not matter.
pub(super) fn named(words: &[&str], abi: Abi) -> Option<CType> {
    let mut words = words.to_vec();
    words.sort_unstable();
    let (long, unsigned_long, wchar) = match abi {
        Abi::SystemV => (CType::I64, CType::U64, CType::I32),
        Abi::Win64 => (CType::I32, CType::U32, CType::U16),
    };
    Some(match words[..] {
        ["void"] => CType::Void,
        ["bool"] | ["_Bool"] => CType::Bool,
        ["i8"] | ["int8_t"] | ["char"] | ["char", "signed"] => CType::I8,
        ["u8"] | ["uint8_t"] | ["char", "unsigned"] => CType::U8,
        ["i16"] | ["int16_t"] => CType::I16,
        ["short"] | ["int", "short"] | ["short", "signed"] => CType::I16,
        ["int", "short", "signed"] => CType::I16,
        ["u16"] | ["uint16_t"] => CType::U16,
        ["short", "unsigned"] | ["int", "short", "unsigned"] => CType::U16,
        ["i32"] | ["int32_t"] | ["int"] | ["signed"] | ["int", "signed"] => CType::I32,
        ["u32"] | ["uint32_t"] | ["unsigned"] | ["int", "unsigned"] => CType::U32,
        ["i64"] | ["int64_t"] | ["isize"] => CType::I64,
        ["ssize_t"] | ["intptr_t"] | ["ptrdiff_t"] => CType::I64,
        ["long", "long"] | ["int", "long", "long"] => CType::I64,
        ["long", "long", "signed"] | ["int", "long", "long", "signed"] => CType::I64,
        ["u64"] | ["uint64_t"] | ["usize"] | ["size_t"] | ["uintptr_t"] => CType::U64,
        ["long", "long", "unsigned"] | ["int", "long", "long", "unsigned"] => CType::U64,
        ["long"] | ["int", "long"] | ["long", "signed"] | ["int", "long", "signed"] => long,
        ["long", "unsigned"] | ["int", "long", "unsigned"] => unsigned_long,
        ["wchar_t"] => wchar,
        ["f32"] | ["float"] => CType::F32,
        ["f64"] | ["double"] => CType::F64,
        ["double", "long"] => CType::LongDouble,
        ["ptr"] => CType::Pointer,
        _ => return None,
    })
}
