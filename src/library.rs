//! Shared libraries: where functions with names come from. A function keeps
//! its library open.

#![allow(unsafe_code, reason = "opening a library runs its initialisers")]

use std::ffi::OsStr;
use std::fmt;

use hotcall_core::{Error, Signature};

use crate::engine::Engine;
use crate::function::Function;

/// An open shared library, and the engine of its functions; cloning it gives
/// another handle to the same one.
#[derive(Clone)]
pub struct Library {
    library: hotcall_core::Library,
    engine: Engine,
}

impl Library {
    /// Opens a shared library by its path, or by its name for the system to
    /// search for, with [`Engine::global`].
    ///
    /// # Errors
    /// [`Error::Open`] with the system's reason.
    ///
    /// # Safety
    /// The initialisers of the library, and of those it depends on, run now,
    /// and their finalisers at the latest when the program ends. The caller
    /// vouches for what they need.
    pub unsafe fn open(name: impl AsRef<OsStr>) -> Result<Library, Error> {
        // SAFETY: the caller vouches for the initialisers and finalisers.
        unsafe { Library::open_with(Engine::global(), name) }
    }

    /// [`Library::open`] with this engine.
    ///
    /// # Errors
    /// As for `open`.
    ///
    /// # Safety
    /// As for `open`.
    pub unsafe fn open_with(engine: &Engine, name: impl AsRef<OsStr>) -> Result<Library, Error> {
        // SAFETY: the caller vouches for the initialisers and finalisers.
        let library = unsafe { hotcall_core::Library::open(name) }?;
        Ok(Library { library, engine: engine.clone() })
    }

    /// The running program itself, with [`Engine::global`]: its own symbols
    /// and, on Unix, those of the libraries that it was linked with, libc among
    /// them.
    ///
    /// # Errors
    /// [`Error::Open`] where the system has no handle of the program.
    pub fn this() -> Result<Library, Error> {
        Library::this_with(Engine::global())
    }

    /// [`Library::this`] with this engine.
    ///
    /// # Errors
    /// As for `this`.
    pub fn this_with(engine: &Engine) -> Result<Library, Error> {
        Ok(Library { library: hotcall_core::Library::this()?, engine: engine.clone() })
    }

    /// The function `name`, declared to have this signature. Nobody can check
    /// that it has, which is why [`Function::call`] is unsafe.
    ///
    /// # Errors
    /// [`Error::Symbol`], [`Error::SymbolName`] or [`Error::NullSymbol`] if the
    /// library has no such function, and [`Error::Declaration`] as for
    /// [`Engine::function`].
    pub fn function(&self, name: &str, signature: impl IntoSignature) -> Result<Function, Error> {
        let signature = signature.into_signature().map_err(|error| error.of(name))?;
        let target = self.library.symbol(name)?;
        Function::new(&self.engine, Some(self.library.clone()), name, target, &signature)
    }
}

/// Prints the name that the library was opened by.
impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.library.fmt(f)
    }
}

/// What a signature can be given as.
pub trait IntoSignature {
    /// The signature.
    ///
    /// # Errors
    /// [`Error::Parse`] if it is a text, and no signature.
    fn into_signature(self) -> Result<Signature, Error>;
}

impl IntoSignature for Signature {
    fn into_signature(self) -> Result<Signature, Error> {
        Ok(self)
    }
}

impl IntoSignature for &Signature {
    fn into_signature(self) -> Result<Signature, Error> {
        Ok(self.clone())
    }
}

impl IntoSignature for String {
    fn into_signature(self) -> Result<Signature, Error> {
        Ok(self.parse()?)
    }
}

impl IntoSignature for &String {
    fn into_signature(self) -> Result<Signature, Error> {
        Ok(self.parse()?)
    }
}

impl IntoSignature for &str {
    fn into_signature(self) -> Result<Signature, Error> {
        Ok(self.parse()?)
    }
}
