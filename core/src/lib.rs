//! What a foreign call is, and the generic way to make one: types,
//! signatures, calling conventions, values, libraries, and the libffi call.
//! Everything above this crate speaks of foreign calls in these words.
//!
//! A call goes through four of the types here. A [`Signature`] says what the
//! function takes and returns. A [`Library`] has its address. A
//! [`PreparedCall`] turns the signature into something that can be called any
//! number of times. What goes in and comes out are *canonical words*: one
//! `u64` for each value, defined by [`CType::canonical`]. [`Value`] is the
//! typed form of a word.
//!
//! ```
//! use hotcall_core::{CType, Library, PreparedCall, Signature, Value};
//!
//! let signature: Signature = "fn(double) -> double".parse()?;
//! # #[cfg(target_os = "linux")] {
//! // SAFETY: the initialisers of the C math library have no requirements.
//! let libm = unsafe { Library::open("libm.so.6") }?;
//! let cos = libm.symbol("cos")?;
//! let call = PreparedCall::new(&signature)?;
//! // SAFETY: `cos` has this signature and takes any double; `libm` is open.
//! let word = unsafe { call.call(cos, &[Value::from(0.0).word()]) };
//! assert_eq!(Value::from_word(CType::F64, word), Some(Value::F64(1.0)));
//! # }
//! # Ok::<(), hotcall_core::Error>(())
//! ```
//!
//! **Invariant.** Only `ffi` and `library` contain unsafe code; the rest of
//! the crate computes on plain data and can be used without either.

#![deny(unsafe_code)]

mod abi;
mod error;
mod ffi;
mod library;
mod parse;
mod signature;
mod structs;
mod types;
mod value;

pub use abi::{Abi, Place, Places, Unplaced};
pub use error::Error;
pub use ffi::{Closure, Handler, PreparedCall};
pub use library::Library;
pub use parse::ParseError;
pub use signature::{Position, Signature, SignatureBuilder};
pub use structs::{StructError, StructType};
pub use types::{CType, Class};
pub use value::Value;
