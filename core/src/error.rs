//! The errors that a user of a foreign function can meet, from its
//! declaration to its call. Each way to fail has its own variant with the
//! values that were involved, and its text says what to do.

use std::error;
use std::fmt;

use crate::{Abi, CType, ParseError, Position, Signature, StructError, Unplaced};

/// Why a foreign call could not be declared, found, prepared or made.
///
/// The text does not repeat that of [`source`](error::Error::source).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The text of a signature does not parse.
    Parse(ParseError),
    /// An argument of a signature is void.
    VoidArgument {
        /// Which argument, the first being 0.
        index: usize,
    },
    /// Arguments were to be added to a function that is not variadic.
    NotVariadic {
        /// The whole signature.
        signature: Signature,
    },
    /// An argument behind the `...` of a variadic function is of a type that C
    /// widens there.
    Unpromoted {
        /// Which argument, the first being 0.
        index: usize,
        /// Its type.
        ctype: CType,
    },
    /// A function cannot be declared so.
    Declaration {
        /// The name of the function.
        function: String,
        /// Why not. The text has its text.
        error: Box<Error>,
    },
    /// A library could not be opened.
    Open {
        /// The name it was asked for by.
        library: String,
        /// What the system said.
        source: libloading::Error,
    },
    /// A library has no such symbol.
    Symbol {
        /// The name the library was opened by.
        library: String,
        /// The name of the symbol.
        symbol: String,
        /// What the system said.
        source: libloading::Error,
    },
    /// The name of a symbol contains a NUL, where C would end it.
    SymbolName {
        /// The name of the symbol.
        symbol: String,
        /// Where the NUL is, in bytes.
        offset: usize,
    },
    /// A library has the symbol, but its address is null.
    NullSymbol {
        /// The name the library was opened by.
        library: String,
        /// The name of the symbol.
        symbol: String,
    },
    /// The arguments have no places in a convention.
    Unplaced(Unplaced),
    /// A struct cannot be passed by value.
    Struct(StructError),
    /// A call has the wrong number of arguments.
    ArgumentCount {
        /// The name of the function.
        function: String,
        /// How many it takes.
        expected: usize,
        /// How many the call has.
        given: usize,
    },
    /// An argument of a call has the wrong type.
    ArgumentType {
        /// The name of the function.
        function: String,
        /// Which argument, the first being 0.
        index: usize,
        /// The type in the signature.
        expected: CType,
        /// The type of the value.
        given: CType,
    },
    /// A function that returns a struct was called for a value, or one that
    /// returns a value for a struct.
    StructResult {
        /// The name of the function.
        function: String,
    },
    /// A callback gives a struct where its closure gives a value, or a value where
    /// it writes a struct.
    CallbackResult {
        /// The whole signature.
        signature: Signature,
    },
    /// A signature with a long double was to be called.
    LongDouble {
        /// The whole signature.
        signature: Signature,
        /// Where in it the long double is.
        position: Position,
    },
    /// The generic call does not know this convention on this system.
    AbiUnavailable {
        /// The convention of the signature.
        abi: Abi,
    },
    /// A struct by value, or a variadic function, on a processor other than x86-64.
    OtherProcessor {
        /// The whole signature.
        signature: Signature,
    },
    /// libffi refused to prepare a call.
    Ffi {
        /// The whole signature.
        signature: Signature,
        /// The `ffi_status` it returned, which is not `FFI_OK`.
        status: u32,
    },
    /// libffi has no memory for the code of a callback.
    ClosureMemory,
}

impl Error {
    /// The same of the declaration of a function.
    #[must_use]
    pub fn of(self, function: &str) -> Error {
        Error::Declaration { function: function.to_string(), error: Box::new(self) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Parse(_) => write!(f, "the text is not a signature such as `fn(i32) -> f64`"),
            Error::VoidArgument { index } => {
                let position = Position::Argument(*index);
                write!(f, "{position} is void, which only a result can be; leave it out")
            }
            Error::NotVariadic { signature } => {
                write!(f, "`{signature}` is not variadic; add `...` behind its fixed arguments")
            }
            Error::Unpromoted { index, ctype } => {
                let position = Position::Argument(*index);
                write!(f, "{position} is {ctype} behind `...`; pass an i32, or an f64 for an f32")
            }
            Error::Declaration { function, error } => {
                write!(f, "`{function}` cannot be declared so: {error}")
            }
            Error::Open { library, .. } => {
                let library = library.escape_debug();
                write!(f, "cannot open the library `{library}`; check its name and search path")
            }
            Error::Symbol { library, symbol, .. } => {
                write!(f, "no symbol `{symbol}` in `{library}`; check its spelling")
            }
            Error::SymbolName { symbol, offset } => {
                let symbol = symbol.escape_debug();
                write!(f, "the symbol name `{symbol}` has a NUL at byte {offset}; remove it")
            }
            Error::NullSymbol { library, symbol } => {
                write!(f, "the address of `{symbol}` in `{library}` is null; it cannot be called")
            }
            Error::Struct(_) => {
                write!(f, "the struct cannot be passed by value; pass its address")
            }
            Error::Unplaced(_) => {
                write!(f, "the arguments have no place in registers or words; change their types")
            }
            Error::ArgumentCount { function, expected, given } => {
                let plural = if *expected == 1 { "" } else { "s" };
                write!(f, "`{function}` takes {expected} argument{plural}; pass these, not {given}")
            }
            Error::ArgumentType { function, index, expected, given } => {
                let position = Position::Argument(*index);
                let pass = if expected.as_struct().is_some() { "a pointer to one" } else { "this" };
                write!(f, "{position} of `{function}` is {expected}; pass {pass}, not {given}")
            }
            Error::StructResult { function } => {
                write!(f, "`{function}` was called in the wrong way; use `call_into` if the ")?;
                write!(f, "result is a struct, and `call` if not")
            }
            Error::CallbackResult { signature } => {
                let (what, how) = match signature.result().as_struct() {
                    Some(_) => ("a struct", "new_into"),
                    None => ("no struct", "new"),
                };
                write!(f, "a callback of type `{signature}` gives {what}; use `Callback::{how}`")
            }
            Error::LongDouble { signature, position } => write!(
                f,
                "{position} of `{signature}` is a long double, which cannot be called with; \
                 call a C function that converts it to a double"
            ),
            Error::AbiUnavailable { abi } => {
                write!(f, "{abi} functions cannot be called on this system; use another convention")
            }
            Error::OtherProcessor { signature } => {
                write!(f, "`{signature}` has a struct by value or `...`, which can be called on ")?;
                write!(f, "x86-64 alone; call a C function without")
            }
            Error::Ffi { signature, status } => {
                write!(f, "libffi refused `{signature}` with status {status}; change its types")
            }
            Error::ClosureMemory => {
                write!(f, "there is no memory for the code of another callback; drop some")
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Parse(source) => Some(source),
            Error::Declaration { error, .. } => error.source(),
            Error::Open { source, .. } | Error::Symbol { source, .. } => Some(source),
            Error::Unplaced(source) => Some(source),
            Error::Struct(source) => Some(source),
            Error::VoidArgument { .. }
            | Error::NotVariadic { .. }
            | Error::Unpromoted { .. }
            | Error::SymbolName { .. }
            | Error::NullSymbol { .. }
            | Error::ArgumentCount { .. }
            | Error::ArgumentType { .. }
            | Error::StructResult { .. }
            | Error::CallbackResult { .. }
            | Error::LongDouble { .. }
            | Error::AbiUnavailable { .. }
            | Error::OtherProcessor { .. }
            | Error::Ffi { .. }
            | Error::ClosureMemory => None,
        }
    }
}

impl From<ParseError> for Error {
    fn from(source: ParseError) -> Error {
        Error::Parse(source)
    }
}

impl From<StructError> for Error {
    fn from(source: StructError) -> Error {
        Error::Struct(source)
    }
}

impl From<Unplaced> for Error {
    fn from(source: Unplaced) -> Error {
        Error::Unplaced(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::error::Error as _;

    fn check(error: Error, want: Expect) {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            text.push_str(&format!("\n{source}"));
            next = source.source();
        }
        want.assert_eq(&text);
    }

    #[test]
    fn texts_name_what_failed_and_what_to_do() {
        let signature = Signature::new([CType::LongDouble], CType::Void).unwrap();
        let pow = || "pow".to_string();
        check(
            "fn(x)".parse::<Signature>().unwrap_err().into(),
            expect![[r#"
            the text is not a signature such as `fn(i32) -> f64`
            expected a type such as `i32`, `double`, `ptr` or `char *`, found `x` at byte 3"#]],
        );
        check(
            Error::VoidArgument { index: 0 },
            expect!["argument 1 is void, which only a result can be; leave it out"],
        );
        check(
            Unplaced::LongDouble.into(),
            expect![[r#"
            the arguments have no place in registers or words; change their types
            an argument is a long double, which has no place in a word"#]],
        );
        check(
            Error::ArgumentCount { function: pow(), expected: 2, given: 3 },
            expect!["`pow` takes 2 arguments; pass these, not 3"],
        );
        check(
            Error::ArgumentType {
                function: pow(),
                index: 1,
                expected: CType::F64,
                given: CType::I32,
            },
            expect!["argument 2 of `pow` is f64; pass this, not i32"],
        );
        let pair = CType::struct_of(&[CType::I32; 2]).unwrap();
        check(
            Error::ArgumentType { function: pow(), index: 0, expected: pair, given: CType::I32 },
            expect!["argument 1 of `pow` is {i32, i32}; pass a pointer to one, not i32"],
        );
        check(
            Error::CallbackResult { signature: Signature::new([], pair).unwrap() },
            expect![
                "a callback of type `fn() -> {i32, i32}` gives a struct; use `Callback::new_into`"
            ],
        );
        check(
            Error::LongDouble { signature: signature.clone(), position: Position::Argument(0) },
            expect![
                "argument 1 of `fn(long double)` is a long double, which cannot be called with; call a C function that converts it to a double"
            ],
        );
        check(
            Error::AbiUnavailable { abi: Abi::Win64 },
            expect!["win64 functions cannot be called on this system; use another convention"],
        );
        check(
            Error::Ffi { signature, status: 1 },
            expect!["libffi refused `fn(long double)` with status 1; change its types"],
        );
    }
}
