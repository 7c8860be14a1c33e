//! Shared libraries: opening them by name and finding the addresses of their
//! symbols. A library stays open as long as one of its handles is alive.
//!
//! # Safety
//! Opening a library runs its initialisers, and that is why
//! [`Library::open`] is unsafe. A symbol is only an address here: whoever
//! calls it says what it points to and that the library is still open.

#![allow(unsafe_code, reason = "the system's loader can only be called so")]

use std::ffi::{OsStr, c_void};
use std::fmt;
use std::sync::Arc;

use crate::Error;

/// An open shared library; cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    library: libloading::Library,
}

impl Library {
    /// Opens a shared library by its path, or by its name for the system to
    /// search for.
    ///
    /// # Errors
    /// [`Error::Open`] with the system's reason.
    ///
    /// # Safety
    /// The initialisers of the library, and of those it depends on, run now,
    /// and their finalisers at the latest when the program ends. The caller
    /// vouches for what they need.
    pub unsafe fn open(name: impl AsRef<OsStr>) -> Result<Library, Error> {
        let file = name.as_ref();
        let name = file.to_string_lossy().into_owned();
        // SAFETY: the caller vouches for the initialisers and finalisers.
        match unsafe { libloading::Library::new(file) } {
            Ok(library) => Ok(Library { inner: Arc::new(Inner { name, library }) }),
            Err(source) => Err(Error::Open { library: name, source }),
        }
    }

    /// The running program itself: its own symbols and, on Unix, those of the
    /// libraries that it was linked with, libc among them.
    ///
    /// # Errors
    /// [`Error::Open`] where the system has no handle of the program.
    pub fn this() -> Result<Library, Error> {
        let name = "the running program".to_string();
        #[cfg(unix)]
        let library = libloading::os::unix::Library::this().into();
        #[cfg(windows)]
        let library = match libloading::os::windows::Library::this() {
            Ok(library) => library.into(),
            Err(source) => return Err(Error::Open { library: name, source }),
        };
        Ok(Library { inner: Arc::new(Inner { name, library }) })
    }

    /// The address of a symbol, never null.
    ///
    /// It is valid while a handle of this library is alive.
    ///
    /// # Errors
    /// [`Error::SymbolName`] if `name` contains a NUL, [`Error::Symbol`] if
    /// there is no such symbol, [`Error::NullSymbol`] if its address is null.
    pub fn symbol(&self, name: &str) -> Result<*const c_void, Error> {
        let Inner { name: library, library: handle } = &*self.inner;
        if let Some(offset) = name.find('\0') {
            return Err(Error::SymbolName { symbol: name.to_string(), offset });
        }
        // SAFETY: the type of the symbol is a pointer to nothing in
        // particular, which every address is; nothing is read through it.
        match unsafe { handle.get::<*const c_void>(name) } {
            Ok(symbol) if symbol.is_null() => {
                Err(Error::NullSymbol { library: library.clone(), symbol: name.to_string() })
            }
            Ok(symbol) => Ok(*symbol),
            Err(source) => {
                Err(Error::Symbol { library: library.clone(), symbol: name.to_string(), source })
            }
        }
    }
}

/// Prints the name that the library was opened by.
impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").field(&self.inner.name).finish()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn libm() -> Library {
        // SAFETY: the initialisers of the C math library need nothing.
        unsafe { Library::open("libm.so.6") }.unwrap()
    }

    #[test]
    fn symbols_of_a_library_and_of_the_program() {
        let libm = libm();
        let cos = libm.symbol("cos").unwrap();
        assert_eq!(libm.clone().symbol("cos").unwrap(), cos);
        assert!(!Library::this().unwrap().symbol("malloc").unwrap().is_null());
        assert_eq!(format!("{libm:?}"), r#"Library("libm.so.6")"#);
        assert_eq!(format!("{:?}", Library::this().unwrap()), r#"Library("the running program")"#);
    }

    #[test]
    fn a_library_that_is_not_there() {
        // SAFETY: there is no such library, so nothing of it runs.
        let error = unsafe { Library::open("libnowhere.so.7") }.unwrap_err();
        assert!(matches!(&error, Error::Open { library, .. } if library == "libnowhere.so.7"));
        assert!(error.to_string().contains("`libnowhere.so.7`"), "{error}");
        assert!(error.source().is_some());
        // SAFETY: as above.
        let error = unsafe { Library::open("a\0b") }.unwrap_err();
        assert!(error.to_string().contains(r"`a\0b`"), "{error}");
    }

    #[test]
    fn symbols_that_are_not_there() {
        let error = libm().symbol("nowhere").unwrap_err();
        assert_eq!(error.to_string(), "no symbol `nowhere` in `libm.so.6`; check its spelling");
        assert!(error.source().is_some());
        let error = libm().symbol("co\0s").unwrap_err();
        assert_eq!(error.to_string(), r"the symbol name `co\0s` has a NUL at byte 2; remove it");
        assert!(matches!(libm().symbol("").unwrap_err(), Error::Symbol { .. }));
    }
}
