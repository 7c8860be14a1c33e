//! The signature of a foreign function: its convention, the types of its
//! arguments, and the type of its result. A signature is valid by
//! construction, so nothing behind it has to check for a void argument.

use std::fmt;

use crate::{Abi, CType, Error};

/// The convention, argument types and result type of a foreign function.
///
/// It is made from types by [`Signature::new`] or [`Signature::returning`],
/// or parsed from a text such as `extern "win64" fn(i32, const char *) -> f64`
/// whose grammar is described at [`Signature::from_str`]. It prints as a text
/// that parses back to an equal signature.
///
/// **Invariant.** No argument is [`CType::Void`].
///
/// [`Signature::from_str`]: #method.from_str
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    args: Box<[CType]>,
    result: CType,
    abi: Abi,
}

/// A signature under construction; made by [`Signature::returning`].
#[derive(Clone, Debug)]
#[must_use = "a builder makes a signature only when `build` is called"]
pub struct SignatureBuilder {
    args: Vec<CType>,
    result: CType,
    abi: Abi,
}

/// A place in a signature that an error speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// The argument of this index, the first being 0. It prints as a number
    /// that starts at 1.
    Argument(usize),
    /// The result.
    Result,
}

impl Signature {
    /// A signature with the convention of the host, [`Abi::HOST`].
    ///
    /// # Errors
    /// [`Error::VoidArgument`] if one of `args` is [`CType::Void`].
    pub fn new(args: impl Into<Vec<CType>>, result: CType) -> Result<Signature, Error> {
        Signature::returning(result).args(args).build()
    }

    /// Starts a signature with this result, no arguments, and [`Abi::HOST`].
    ///
    /// ```
    /// use hotcall_core::{CType, Signature};
    ///
    /// let pow = Signature::returning(CType::F64).arg(CType::F64).arg(CType::F64).build()?;
    /// assert_eq!(pow, "fn(f64, f64) -> f64".parse()?);
    /// # Ok::<(), hotcall_core::Error>(())
    /// ```
    pub fn returning(result: CType) -> SignatureBuilder {
        SignatureBuilder { args: Vec::new(), result, abi: Abi::HOST }
    }

    /// The same arguments and result under another convention.
    ///
    /// Types stay as they are: a C `long` that was parsed for one convention
    /// keeps the width it had there.
    #[must_use]
    pub fn with_abi(self, abi: Abi) -> Signature {
        Signature { abi, ..self }
    }

    /// The types of the arguments, in order; none is [`CType::Void`].
    #[inline]
    pub fn args(&self) -> &[CType] {
        &self.args
    }

    /// How many words a call takes: see [`CType::words`].
    pub fn words(&self) -> usize {
        self.args.iter().map(|arg| arg.words(self.abi)).sum()
    }

    /// Whether an argument or the result is a struct.
    pub fn has_structs(&self) -> bool {
        self.args.iter().chain([&self.result]).any(|ctype| ctype.as_struct().is_some())
    }

    /// The type of the result.
    #[inline]
    pub fn result(&self) -> CType {
        self.result
    }

    /// The calling convention.
    #[inline]
    pub fn abi(&self) -> Abi {
        self.abi
    }
}

impl SignatureBuilder {
    /// Adds an argument behind those that are there.
    pub fn arg(mut self, ctype: CType) -> SignatureBuilder {
        self.args.push(ctype);
        self
    }

    /// Adds arguments, in order, behind those that are there.
    pub fn args(mut self, ctypes: impl Into<Vec<CType>>) -> SignatureBuilder {
        self.args.append(&mut ctypes.into());
        self
    }

    /// Sets the type of the result.
    pub(crate) fn with_result(mut self, result: CType) -> SignatureBuilder {
        self.result = result;
        self
    }

    /// Sets the calling convention.
    pub fn with_abi(mut self, abi: Abi) -> SignatureBuilder {
        self.abi = abi;
        self
    }

    /// The finished signature.
    ///
    /// # Errors
    /// [`Error::VoidArgument`] if an argument is [`CType::Void`].
    pub fn build(self) -> Result<Signature, Error> {
        match self.args.iter().position(|arg| *arg == CType::Void) {
            Some(index) => Err(Error::VoidArgument { index }),
            None => Ok(Signature { args: self.args.into(), result: self.result, abi: self.abi }),
        }
    }
}

/// Prints the text form, e.g. `fn(i32, ptr) -> f64`.
///
/// The convention is printed when it is not that of the host, the result when
/// it is not void.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.abi != Abi::HOST {
            write!(f, "extern \"{}\" ", self.abi)?;
        }
        f.write_str("fn(")?;
        for (index, arg) in self.args.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{arg}")?;
        }
        f.write_str(")")?;
        match self.result {
            CType::Void => Ok(()),
            result => write!(f, " -> {result}"),
        }
    }
}

/// Prints `argument 1` for the first argument, or `the result`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Argument(index) => write!(f, "argument {}", index.saturating_add(1)),
            Position::Result => f.write_str("the result"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_is_not_the_default() {
        let check = |signature: Result<Signature, Error>, want: &str| {
            assert_eq!(signature.unwrap().to_string(), want);
        };
        let other = if Abi::HOST == Abi::SystemV { Abi::Win64 } else { Abi::SystemV };
        check(Signature::new([], CType::Void), "fn()");
        check(Signature::new([CType::I32, CType::Pointer], CType::Void), "fn(i32, ptr)");
        check(Signature::new([CType::Bool].as_slice(), CType::F64), "fn(bool) -> f64");
        check(
            Signature::returning(CType::LongDouble).arg(CType::U8).with_abi(other).build(),
            &format!("extern \"{other}\" fn(u8) -> long double"),
        );
    }

    #[test]
    fn the_builder_and_new_agree() {
        let built = Signature::returning(CType::I32)
            .arg(CType::I8)
            .args([CType::F32, CType::Pointer])
            .build()
            .unwrap();
        let new = Signature::new(vec![CType::I8, CType::F32, CType::Pointer], CType::I32).unwrap();
        assert_eq!(built, new);
        assert_eq!(built.args(), [CType::I8, CType::F32, CType::Pointer]);
        assert_eq!((built.result(), built.abi()), (CType::I32, Abi::HOST));
        assert_eq!(built.with_abi(Abi::Win64).abi(), Abi::Win64);
    }

    #[test]
    fn a_void_argument_is_refused_by_index() {
        let error = Signature::new([CType::I32, CType::Void], CType::Void).unwrap_err();
        assert!(matches!(error, Error::VoidArgument { index: 1 }), "{error}");
    }
}
