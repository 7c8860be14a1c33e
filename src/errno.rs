//! errno, kept for the program: around a foreign call there may be allocation,
//! locking and compiling, and none of them may be noticed there.

#![allow(unsafe_code, reason = "errno is behind a pointer of the C library")]

use std::ffi::c_int;

/// A value of this thread's errno. On systems where we do not know the place
/// of errno it is none, and nothing is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errno(Option<c_int>);

impl Errno {
    /// The value now.
    pub(crate) fn now() -> Errno {
        // SAFETY: it points to this thread's errno, which lives as long as the thread.
        Errno(place().map(|place| unsafe { *place }))
    }

    /// This value.
    #[cfg(test)]
    pub(crate) fn of(value: c_int) -> Errno {
        Errno(Some(value))
    }

    /// Writes it back.
    pub(crate) fn restore(self) {
        if let (Some(place), Some(value)) = (place(), self.0) {
            // SAFETY: as in `now`.
            unsafe { *place = value };
        }
    }
}

/// Where this thread's errno is.
fn place() -> Option<*mut c_int> {
    #[cfg(target_os = "linux")]
    // SAFETY: it has no preconditions.
    let place = Some(unsafe { libc::__errno_location() });
    #[cfg(target_vendor = "apple")]
    // SAFETY: it has no preconditions.
    let place = Some(unsafe { libc::__error() });
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    let place = None;
    place
}
