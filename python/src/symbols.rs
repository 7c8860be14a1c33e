//! The names of foreign functions by their addresses, as the dynamic linker
//! knows them. A function that it does not export is named by its place.
//!
//! # Safety
//! The linker is asked about addresses that are not looked into.

#![allow(unsafe_code, reason = "asks the dynamic linker")]

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

/// Where an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The name of the file that it was loaded from, without folders.
    pub(crate) library: String,
    /// The exported function that begins there, if one does.
    pub(crate) symbol: Option<String>,
    /// Bytes behind the beginning of the library.
    pub(crate) offset: u64,
}

/// Where `address` lies, if that is in a library or in the program.
pub(crate) fn place(address: u64) -> Option<Place> {
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: the linker does not look into the address, and writes to `found`.
    let known = unsafe { libc::dladdr(address as *const c_void, found.as_mut_ptr()) };
    if known == 0 {
        return None;
    }
    // SAFETY: it was written, since the linker knows the address.
    let found = unsafe { found.assume_init() };
    let path = text(found.dli_fname)?;
    let begins_there = found.dli_saddr as u64 == address;
    Some(Place {
        library: path.rsplit('/').next().unwrap_or_default().to_owned(),
        symbol: text(found.dli_sname).filter(|_| begins_there),
        offset: address - found.dli_fbase as u64,
    })
}

/// A name that the linker gave, null if there is none.
fn text(name: *const c_char) -> Option<String> {
    // SAFETY: a C string that lives as long as its library, which is open: the
    // program is calling a function of it.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
    name.map(|name| name.to_string_lossy().into_owned())
}
