//! The C types that a foreign call can take and return, with their sizes and
//! classes. The canonical word of a value is defined here, and every tier
//! keeps to it.

use std::fmt;

use crate::StructType;

/// A C type, named after the Rust type of the same width and signedness.
///
/// Sizes are those of the two conventions in [`Abi`](crate::Abi), both of
/// which are for 64-bit processors. C's own names (`int`, `long`, ...) depend
/// on the convention, so only the parser of a signature knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CType {
    /// No value. Only a result can have this type.
    Void,
    /// C's `_Bool`: one byte that is 0 or 1.
    Bool,
    /// A signed integer of 8 bits.
    I8,
    /// An unsigned integer of 8 bits.
    U8,
    /// A signed integer of 16 bits.
    I16,
    /// An unsigned integer of 16 bits.
    U16,
    /// A signed integer of 32 bits.
    I32,
    /// An unsigned integer of 32 bits.
    U32,
    /// A signed integer of 64 bits.
    I64,
    /// An unsigned integer of 64 bits.
    U64,
    /// An IEEE 754 number of 32 bits.
    F32,
    /// An IEEE 754 number of 64 bits.
    F64,
    /// An x87 number of 80 bits in 16 bytes. It does not fit in a word, so
    /// it can be declared but not yet called with.
    LongDouble,
    /// A pointer to anything.
    Pointer,
    /// A struct by value.
    Struct(&'static StructType),
}

/// Where a value of a type travels, whatever the convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nowhere: there is no value.
    None,
    /// In an integer register.
    Int,
    /// In the low 32 bits of a vector register.
    Float32,
    /// In the low 64 bits of a vector register.
    Float64,
    /// In memory as an argument, on the x87 stack as a result.
    X87,
    /// In words or in memory, as [`StructType::words`] says.
    Struct,
}

impl CType {
    /// Every type but structs, in the order of the declaration.
    pub const ALL: &'static [CType] = &[
        CType::Void,
        CType::Bool,
        CType::I8,
        CType::U8,
        CType::I16,
        CType::U16,
        CType::I32,
        CType::U32,
        CType::I64,
        CType::U64,
        CType::F32,
        CType::F64,
        CType::LongDouble,
        CType::Pointer,
    ];

    /// The size of a value in bytes; 0 for [`CType::Void`].
    pub const fn size(self) -> usize {
        match self {
            CType::Void => 0,
            CType::Bool | CType::I8 | CType::U8 => 1,
            CType::I16 | CType::U16 => 2,
            CType::I32 | CType::U32 | CType::F32 => 4,
            CType::I64 | CType::U64 | CType::F64 | CType::Pointer => 8,
            CType::LongDouble => 16,
            CType::Struct(of) => of.size(),
        }
    }

    /// The alignment of a value in bytes: its size, but for structs, and 1 for
    /// [`CType::Void`].
    ///
    /// Source: System V ABI, AMD64 supplement, figure 3.1.
    pub const fn align(self) -> usize {
        match self {
            CType::Void => 1,
            CType::Struct(of) => of.align(),
            _ => self.size(),
        }
    }

    /// Where a value of this type travels.
    pub const fn class(self) -> Class {
        match self {
            CType::Void => Class::None,
            CType::Bool
            | CType::I8
            | CType::U8
            | CType::I16
            | CType::U16
            | CType::I32
            | CType::U32
            | CType::I64
            | CType::U64
            | CType::Pointer => Class::Int,
            CType::F32 => Class::Float32,
            CType::F64 => Class::Float64,
            CType::LongDouble => Class::X87,
            CType::Struct(_) => Class::Struct,
        }
    }

    /// Whether this is a signed integer, which a word sign-extends.
    pub const fn is_signed(self) -> bool {
        matches!(self, CType::I8 | CType::I16 | CType::I32 | CType::I64)
    }

    /// The name of the type in the text of a signature, e.g. `i32`, `ptr`. A
    /// struct is written by its fields, see [`StructType`], and named `struct`.
    pub fn name(self) -> &'static str {
        match self {
            CType::Void => "void",
            CType::Bool => "bool",
            CType::I8 => "i8",
            CType::U8 => "u8",
            CType::I16 => "i16",
            CType::U16 => "u16",
            CType::I32 => "i32",
            CType::U32 => "u32",
            CType::I64 => "i64",
            CType::U64 => "u64",
            CType::F32 => "f32",
            CType::F64 => "f64",
            CType::LongDouble => "long double",
            CType::Pointer => "ptr",
            CType::Struct(_) => "struct",
        }
    }

    /// The canonical word of the value whose bytes are the low bytes of `word`.
    ///
    /// The low [`size`](CType::size) bytes are kept. Narrow integers are
    /// extended to 64 bits, by their sign if they have one. A bool is 0, or 1
    /// if any bit of its byte is set. A float has its bits in the low 32 and
    /// zeros above. The word of void is 0. A long double and a struct have no
    /// word, and `word` comes back as it is.
    #[inline]
    pub const fn canonical(self, word: u64) -> u64 {
        match self {
            CType::Void => 0,
            CType::Bool => (word as u8 != 0) as u64,
            CType::I8 => word as i8 as u64,
            CType::U8 => word as u8 as u64,
            CType::I16 => word as i16 as u64,
            CType::U16 => word as u16 as u64,
            CType::I32 => word as i32 as u64,
            CType::U32 | CType::F32 => word as u32 as u64,
            CType::I64 | CType::U64 | CType::F64 | CType::Pointer => word,
            CType::LongDouble | CType::Struct(_) => word,
        }
    }
}

/// Prints [`CType::name`], or the fields of a struct.
impl fmt::Display for CType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CType::Struct(of) => fmt::Display::fmt(of, f),
            _ => f.pad(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbtest;

    #[test]
    fn all_lists_each_type_once_in_order() {
        for (index, ctype) in CType::ALL.iter().enumerate() {
            let position = CType::ALL.iter().position(|other| other == ctype);
            assert_eq!(position, Some(index));
        }
        assert_eq!(CType::ALL.last(), Some(&CType::Pointer));
    }

    #[test]
    fn sizes_are_those_of_rust() {
        let rust = [
            (CType::Bool, size_of::<bool>(), align_of::<bool>()),
            (CType::I16, size_of::<i16>(), align_of::<i16>()),
            (CType::U32, size_of::<u32>(), align_of::<u32>()),
            (CType::I64, size_of::<i64>(), align_of::<i64>()),
            (CType::F32, size_of::<f32>(), align_of::<f32>()),
            (CType::F64, size_of::<f64>(), align_of::<f64>()),
            (CType::Pointer, size_of::<*const u8>(), align_of::<*const u8>()),
            (CType::Void, size_of::<()>(), align_of::<()>()),
        ];
        for (ctype, size, align) in rust {
            assert_eq!((ctype.size(), ctype.align()), (size, align), "{ctype}");
        }
    }

    #[test]
    fn canonical_words() {
        let check = |ctype: CType, word: u64, want: u64| {
            assert_eq!(ctype.canonical(word), want, "{ctype} {word:#x}");
        };
        check(CType::Void, 7, 0);
        check(CType::Bool, 0xff00, 0);
        check(CType::Bool, 0xff02, 1);
        check(CType::I8, 0xabcd_ef80, 0xffff_ffff_ffff_ff80);
        check(CType::U8, 0xabcd_ef80, 0x80);
        check(CType::I16, 0x1_7fff, 0x7fff);
        check(CType::I32, 0x1_8000_0000, 0xffff_ffff_8000_0000);
        check(CType::U32, 0x1_8000_0000, 0x8000_0000);
        check(CType::F32, 0xdead_beef_3f80_0000, 0x3f80_0000);
        check(CType::F64, u64::MAX, u64::MAX);
        check(CType::Pointer, u64::MAX, u64::MAX);
    }

    /// The definition again, by shifts: what is above the value's own bits
    /// is a copy of its sign bit or zero.
    #[test]
    fn canonical_agrees_with_shifts_and_is_idempotent() {
        arbtest(|u| {
            let word: u64 = u.arbitrary()?;
            let ctype = *u.choose(CType::ALL)?;
            let got = ctype.canonical(word);
            assert_eq!(ctype.canonical(got), got, "{ctype} {word:#x}");
            if ctype.class() != Class::X87 && ctype != CType::Void && ctype != CType::Bool {
                let unused = 64 - 8 * ctype.size();
                let high = word << unused;
                let want = if ctype.is_signed() {
                    (high.cast_signed() >> unused).cast_unsigned()
                } else {
                    high >> unused
                };
                assert_eq!(got, want, "{ctype} {word:#x}");
            }
            Ok(())
        })
        .budget_ms(200);
    }
}
