//! The signature of a foreign function: its convention, the types of its
//! arguments, and the type of its result. A signature is valid by
//! construction, so nothing behind it has to check for a void argument.

use std::fmt;

use crate::{Abi, CType, Class, Error};

/// The convention, argument types and result type of a foreign function.
///
/// It is made from types by [`Signature::new`] or [`Signature::returning`],
/// or parsed from a text such as `extern "win64" fn(i32, const char *) -> f64`
/// whose grammar is described at [`Signature::from_str`]. It prints as a text
/// that parses back to an equal signature, but for structs that are not laid out
/// as C does: these print with sizes and offsets, which nothing parses.
///
/// **Invariant.** No argument is [`CType::Void`].
///
/// [`Signature::from_str`]: #method.from_str
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    args: Box<[CType]>,
    result: CType,
    abi: Abi,
    /// How many arguments stand before the `...` of a variadic function.
    fixed: Option<usize>,
}

/// A signature under construction; made by [`Signature::returning`].
#[derive(Clone, Debug)]
#[must_use = "a builder makes a signature only when `build` is called"]
pub struct SignatureBuilder {
    args: Vec<CType>,
    result: CType,
    abi: Abi,
    fixed: Option<usize>,
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
        SignatureBuilder { args: Vec::new(), result, abi: Abi::HOST, fixed: None }
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

    /// How many arguments stand before the `...` of a variadic function; none if
    /// it is not variadic.
    #[inline]
    pub fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    /// The signature of calls with these arguments behind the fixed ones of a
    /// variadic function.
    ///
    /// # Errors
    /// [`Error::NotVariadic`] if it is not, [`Error::Unpromoted`] if C passes no
    /// argument of such a type there, [`Error::VoidArgument`].
    pub fn with_variadic(&self, args: impl Into<Vec<CType>>) -> Result<Signature, Error> {
        let Some(fixed) = self.fixed else {
            return Err(Error::NotVariadic { signature: self.clone() });
        };
        let builder = Signature::returning(self.result).with_abi(self.abi);
        builder.args(&self.args[..fixed]).variadic().args(args).build()
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

    /// The arguments that are there are those before the `...` of a variadic
    /// function.
    pub fn variadic(mut self) -> SignatureBuilder {
        self.fixed = Some(self.args.len());
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
    /// [`Error::VoidArgument`] if an argument is [`CType::Void`];
    /// [`Error::Unpromoted`] if one behind the `...` is of a type that C widens
    /// there.
    pub fn build(self) -> Result<Signature, Error> {
        let SignatureBuilder { args, result, abi, fixed } = self;
        if let Some(index) = args.iter().position(|arg| *arg == CType::Void) {
            return Err(Error::VoidArgument { index });
        }
        let is_narrow = |arg: &CType| {
            let is_int = arg.class() == Class::Int && arg.size() < 4;
            is_int || *arg == CType::F32
        };
        let first = fixed.unwrap_or(args.len());
        match args[first..].iter().position(is_narrow) {
            Some(index) => {
                let index = first + index;
                Err(Error::Unpromoted { index, ctype: args[index] })
            }
            None => Ok(Signature { args: args.into(), result, abi, fixed }),
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
            let dots = if self.fixed == Some(index) { "..., " } else { "" };
            write!(f, "{comma}{dots}{arg}")?;
        }
        f.write_str(match self.fixed {
            Some(0) if self.args.is_empty() => "...)",
            Some(fixed) if fixed == self.args.len() => ", ...)",
            _ => ")",
        })?;
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

    #[test]
    fn variadic_signatures_take_promoted_arguments() {
        let printf: Signature = "fn(ptr, ...) -> i32".parse().unwrap();
        assert_eq!((printf.args().len(), printf.fixed()), (1, Some(1)));
        let call = printf.with_variadic([CType::I32, CType::F64]).unwrap();
        assert_eq!(call.to_string(), "fn(ptr, ..., i32, f64) -> i32");
        assert_eq!(call, "fn(const char *, ..., int, double) -> int".parse().unwrap());
        assert_eq!(call.with_variadic([]).unwrap(), printf);
        let narrow = printf.with_variadic([CType::I64, CType::F32]).unwrap_err();
        assert!(matches!(narrow, Error::Unpromoted { index: 2, ctype: CType::F32 }), "{narrow}");
        let fixed: Signature = "fn(ptr)".parse().unwrap();
        assert!(matches!(fixed.with_variadic([]), Err(Error::NotVariadic { .. })));
        for text in ["fn(...)", "fn(..., i32) -> f64"] {
            let signature: Signature = text.parse().unwrap();
            assert_eq!((signature.fixed(), signature.to_string().as_str()), (Some(0), text));
        }
        let texts = [
            "fn(... ...)",
            "fn(..., ...)",
            "fn(ptr, ..., ...)",
            "fn(ptr, ..., short)",
            "fn(ptr, ..., float)",
        ];
        assert!(texts.iter().all(|text| text.parse::<Signature>().is_err()));
    }
}
