//! Structures by value: what libffi makes of the description that ctypes gives
//! it, which is not always what a C compiler makes of the declaration.
//!
//! libffi lays the elements out one behind the other, whatever packing and bit
//! fields do to the fields, and looks at 8 bytes at a time. Of 8 bytes in which
//! it finds a float alone it passes 4 and leaves the others undefined; here all
//! are passed. Source: System V
//! ABI, AMD64 supplement, section 3.2.3, for how it merges their classes.
//!
//! # Safety
//! A description belongs to a class that lives; the rows are checked at import.

#![allow(unsafe_code, reason = "follows pointers between libffi's descriptions")]

use hotcall_core::{CType, StructType};

use crate::declare::info;
use crate::layout::{self, Layout};
use crate::raw::Object;

/// libffi's numbers of the kinds of types.
const FLOAT: u64 = 2;
const DOUBLE: u64 = 3;
const INTEGERS: std::ops::RangeInclusive<u64> = 5..=12;
const STRUCT: u64 = 13;
const POINTER: u64 = 14;

/// The flag of what ctypes knows of a type that has a union among its fields.
const HAS_UNION: u64 = 0x400;
/// A larger structure is in memory, whatever its elements are.
const MOST_IN_REGISTERS: u64 = 16;
const EIGHTBYTE: u64 = 8;

/// Structures may be nested so deeply.
const DEEPEST: usize = 16;

/// How values of a structure or union are passed and returned; none for what
/// versions of libffi may see differently, or refuse.
pub(crate) fn passing(layout: &Layout, class: Object) -> Option<&'static StructType> {
    let known = info(layout, class);
    let description = known.address().wrapping_add_signed(layout.info_ffi.offset.into());
    // SAFETY: a part of what ctypes keeps of the class.
    let description = unsafe { Object::at(description) };
    let size = description.word(layout::FFI_SIZE);
    let align = description.word(layout::FFI_ALIGN);
    let described = description.word(layout::FFI_KIND) == STRUCT
        && description.word(layout::FFI_ELEMENTS) != 0
        && known.word(layout.info_size) == size;
    if !described || size == 0 {
        return None;
    }
    let fields = match size <= MOST_IN_REGISTERS {
        false => vec![(0, CType::U8)],
        true if known.word(layout.info_flags) & HAS_UNION != 0 => return None,
        true => {
            let mut words = vec![None; size.div_ceil(EIGHTBYTE) as usize];
            classify(description, 0, &mut words, DEEPEST)?;
            words
                .into_iter()
                .enumerate()
                .map(|(word, is_integer)| part(EIGHTBYTE as usize * word, is_integer?, size))
                .collect::<Option<_>>()?
        }
    };
    StructType::with_layout(fields, size as usize, align as usize).ok()
}

/// A field that stands for 8 bytes at `offset` of a structure of `size` bytes.
fn part(offset: usize, is_integer: bool, size: u64) -> Option<(usize, CType)> {
    match (is_integer, size as usize - offset) {
        (true, _) => Some((offset, CType::U8)),
        (false, 8..) => Some((offset, CType::F64)),
        (false, 4) => Some((offset, CType::F32)),
        (false, _) => None,
    }
}

/// Says of each 8 bytes whether an element in them is an integer, or else all
/// are floats. `offset` is where the structure begins. None for what is neither.
fn classify(
    description: Object,
    mut offset: u64,
    words: &mut [Option<bool>],
    deepest: usize,
) -> Option<()> {
    let mut place = description.object(layout::FFI_ELEMENTS)?;
    while let Some(element) = place.object(layout::MEMORY_WORD) {
        offset = offset.next_multiple_of(element.word(layout::FFI_ALIGN).max(1));
        let is_integer = match element.word(layout::FFI_KIND) {
            FLOAT | DOUBLE => false,
            POINTER => true,
            kind if INTEGERS.contains(&kind) => true,
            STRUCT if deepest > 0 => {
                classify(element, offset, words, deepest - 1)?;
                offset += element.word(layout::FFI_SIZE);
                // SAFETY: elements end with a null, which has not been met.
                place = unsafe { Object::at(place.address() + 8) };
                continue;
            }
            _ => return None,
        };
        if let Some(word) = words.get_mut((offset / EIGHTBYTE) as usize) {
            *word = Some(word.unwrap_or(false) | is_integer);
        }
        offset += element.word(layout::FFI_SIZE);
        // SAFETY: as above.
        place = unsafe { Object::at(place.address() + 8) };
    }
    Some(())
}
