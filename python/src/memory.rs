//! Memory for copies of arguments: of texts, which ctypes gives C in wide
//! characters, and of structures.
//!
//! # Safety
//! Each helper's documentation says what its words are. The rules, which alone
//! call them, have tested it, and the GIL is held.

#![allow(unsafe_code, reason = "calls into CPython")]

use hotcall_tracer::{Effect, Entry, Helper};

use crate::capi;

/// The bytes of an exact str as wide characters with their end; 0 if it has a
/// character that ends it early.
pub(crate) static WIDE_SIZE: Helper =
    Helper { name: "wide_size", entry: Entry::WW(wide_size), effect: Effect::Read };

/// Memory of so many bytes, or 0 with an exception set.
pub(crate) static NEW_MEMORY: Helper =
    Helper { name: "new_memory", entry: Entry::WW(new_memory), effect: Effect::Effect };

/// Writes a str to the address of the second word; gives the address behind it.
pub(crate) static COPY_WIDE: Helper =
    Helper { name: "copy_wide", entry: Entry::WWW(copy_wide), effect: Effect::Effect };

/// Copies so many bytes, the third word, from the first address to the second.
pub(crate) static COPY_BYTES: Helper =
    Helper { name: "copy_bytes", entry: Entry::WWWW(copy_bytes), effect: Effect::Effect };

/// Gives memory back.
pub(crate) static FREE_MEMORY: Helper =
    Helper { name: "free_memory", entry: Entry::WV(capi::PyMem_Free), effect: Effect::Effect };

/// Gives memory, the second word, back if the first word is not 0.
pub(crate) static FREE_MEMORY_IF: Helper =
    Helper { name: "free_memory_if", entry: Entry::WWW(free_memory_if), effect: Effect::Effect };

/// The size of C's `wchar_t` in bytes.
const UNIT: u64 = size_of::<libc::wchar_t>() as u64;

unsafe extern "C-unwind" fn wide_size(text: u64) -> u64 {
    // SAFETY: the rule has tested that it is an exact str.
    let length = unsafe { capi::PyUnicode_GetLength(text) };
    // SAFETY: the same str, and a range within it.
    match unsafe { capi::PyUnicode_FindChar(text, 0, 0, length, 1) } {
        -1 => (length as u64 + 1) * UNIT,
        _ => 0,
    }
}

unsafe extern "C-unwind" fn new_memory(size: u64) -> u64 {
    // SAFETY: the GIL is held.
    match unsafe { capi::PyMem_Malloc(size) } {
        // SAFETY: the GIL is held; it gives null.
        0 => unsafe { capi::PyErr_NoMemory() },
        memory => memory,
    }
}

unsafe extern "C-unwind" fn copy_wide(text: u64, to: u64) -> u64 {
    // SAFETY: the rule has tested that it is an exact str.
    let units = unsafe { capi::PyUnicode_GetLength(text) } + 1;
    // SAFETY: the memory was made to hold what `wide_size` counted.
    unsafe { capi::PyUnicode_AsWideChar(text, to as *mut u32, units) };
    to + units as u64 * UNIT
}

unsafe extern "C-unwind" fn copy_bytes(from: u64, to: u64, size: u64) -> u64 {
    // SAFETY: the bytes of a structure, and memory that was made for them.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, size as usize) };
    0
}

unsafe extern "C-unwind" fn free_memory_if(condition: u64, memory: u64) -> u64 {
    if condition != 0 {
        // SAFETY: the rule made it before the foreign call.
        unsafe { capi::PyMem_Free(memory) };
    }
    0
}
