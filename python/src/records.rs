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

/// A larger structure is in memory, whatever its elements are.
const MOST_IN_REGISTERS: u64 = 16;
const EIGHTBYTE: u64 = 8;

/// Structures may be nested so deeply.
const DEEPEST: usize = 16;

/// How values of a structure or union are passed and returned; none for what
/// versions of libffi may see differently, or refuse.
pub(crate) fn passing(
    layout: &Layout,
    class: Object,
    is_union: bool,
) -> Option<&'static StructType> {
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
        true if is_union => return None,
        true => {
            let mut words = vec![None; size.div_ceil(EIGHTBYTE) as usize];
            // Packing and bit fields may leave an end that is not the size.
            let _end = classify(description, 0, &mut words, DEEPEST)?;
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
/// are floats. `offset` is where the structure begins in the first of them.
/// Gives where the elements end. None for what is neither, and for unions.
fn classify(
    description: Object,
    mut offset: u64,
    words: &mut [Option<bool>],
    deepest: usize,
) -> Option<u64> {
    let mut place = description.object(layout::FFI_ELEMENTS)?;
    while let Some(element) = place.object(layout::MEMORY_WORD) {
        let (size, align) = (element.word(layout::FFI_SIZE), element.word(layout::FFI_ALIGN));
        offset = offset.next_multiple_of(align.max(1));
        let behind = words.get_mut((offset / EIGHTBYTE) as usize..).unwrap_or_default();
        let is_integer = match element.word(layout::FFI_KIND) {
            FLOAT | DOUBLE => Some(false),
            POINTER => Some(true),
            kind if INTEGERS.contains(&kind) => Some(true),
            STRUCT if deepest > 0 => {
                let start = offset % EIGHTBYTE;
                let most = (start + size).div_ceil(EIGHTBYTE) as usize;
                let own = behind.len().min(most);
                let end = classify(element, start, &mut behind[..own], deepest - 1)?;
                // What ends elsewhere is a union, or its fields are not where
                // its elements are.
                if (end - start).next_multiple_of(align.max(1)) != size {
                    return None;
                }
                None
            }
            _ => return None,
        };
        if let (Some(word), Some(is_integer)) = (behind.first_mut(), is_integer) {
            *word = Some(word.unwrap_or(false) | is_integer);
        }
        offset += size;
        // SAFETY: elements end with a null, which has not been met.
        place = unsafe { Object::at(place.address() + 8) };
    }
    Some(offset)
}
