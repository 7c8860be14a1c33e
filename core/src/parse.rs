//! The parser of a signature's text, which takes both Rust's and C's names of
//! types. It never panics and never recurses, so any text may be given to it.

use std::error;
use std::fmt;
use std::str::FromStr;

use crate::{Abi, CType, Error, Signature, StructError};

mod names;
mod pointers;

use names::named;

/// Why a text is not a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseError {
    /// Where the text stops being a signature, in bytes from its start.
    pub offset: usize,
    /// What is there; empty at the end of the text.
    pub found: String,
    /// What would have been accepted there.
    pub expected: &'static str,
    /// Why a struct that is there cannot be passed by value.
    pub reason: Option<StructError>,
}

/// Parses `fn(i32, const char *) -> f64`, with or without `extern "win64"`
/// before it.
///
/// The convention is `extern "sysv64"`, `extern "win64"`, or `extern "C"`,
/// which is [`Abi::HOST`] and the same as none. A missing `->` means void.
/// Spaces are free, and a comma may follow the last argument. A variadic function
/// has `...` behind its fixed arguments, if any, and behind that those of a call.
/// A type is one of
/// - Rust's names `i8` to `u64`, `isize`, `usize`, `f32`, `f64`, `bool`, `()`,
/// - `ptr`, or `*const T` or `*mut T` with any sized `T`,
/// - C's arithmetic types in any order of words (`long`, `unsigned long int`,
///   `_Bool`, ...), `void`, `size_t`, `ssize_t`, `ptrdiff_t`, `intptr_t`,
///   `uintptr_t`, `wchar_t`, and `int8_t` to `uint64_t`; `char` is signed,
/// - `T *` with any C type `T`, qualified or not,
/// - `{T, U}` with types of fields, a struct by value that is laid out as C does.
///
/// In Win64 `long` has 32 bits and `wchar_t` is an unsigned 16-bit integer;
/// in System V `long` has 64 bits and `wchar_t` is a signed 32-bit integer.
impl FromStr for Signature {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Signature, ParseError> {
        Parser::new(text).signature()
    }
}

/// A text and its current token, which is `text[start..end]`; the last token
/// is empty and at the end of the text.
struct Parser<'t> {
    text: &'t str,
    start: usize,
    end: usize,
}

/// Words that are no names of types.
const KEYWORDS: [&str; 7] = ["struct", "union", "enum", "restrict", "__restrict", "fn", "mut"];

const A_TYPE: &str = "a type such as `i32`, `double`, `ptr` or `char *`";
const A_SIZED_TYPE: &str = "a type of known size, to which a pointer is one word";
const A_STRUCT: &str = "a struct that can be passed by value";
const AN_ARGUMENT: &str = "the type of an argument (without arguments, write `fn()`)";
const ANOTHER_ARGUMENT: &str = "the type of an argument (`...` stands once)";
const PROMOTED: &str =
    "types behind `...` as C promotes them (`int` or `double` for narrower ones)";

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parser<'t> {
        let mut parser = Parser { text, start: 0, end: 0 };
        parser.bump();
        parser
    }

    fn token(&self) -> &'t str {
        &self.text[self.start..self.end]
    }

    /// Whether the token is a name or a keyword.
    fn at_word(&self) -> bool {
        self.token().starts_with(|c: char| c == '_' || c.is_alphabetic())
    }

    /// Moves to the next token: a word or number, a quoted text, an operator
    /// of several characters, or a single character.
    fn bump(&mut self) {
        let rest = self.text[self.end..].trim_start();
        self.start = self.text.len() - rest.len();
        let in_word = |c: char| c == '_' || c.is_alphanumeric();
        let length = match rest.chars().next() {
            None => 0,
            Some('"') => rest[1..].find('"').map_or(rest.len(), |close| close + 2),
            Some(c) if in_word(c) => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
            Some(c) => ["->", "::", "..."]
                .into_iter()
                .find(|operator| rest.starts_with(operator))
                .map_or(c.len_utf8(), str::len),
        };
        self.end = self.start + length;
    }

    /// The error that the text from `offset` to `end` is not `expected`.
    fn error_at(&self, offset: usize, end: usize, expected: &'static str) -> ParseError {
        let found = self.text[offset..end].to_string();
        ParseError { offset, found, expected, reason: None }
    }

    fn error(&self, expected: &'static str) -> ParseError {
        self.error_at(self.start, self.end, expected)
    }

    /// Moves past `token`, or reports that `expected` is missing.
    fn take(&mut self, token: &str, expected: &'static str) -> Result<(), ParseError> {
        if self.token() != token {
            return Err(self.error(expected));
        }
        self.bump();
        Ok(())
    }

    fn signature(mut self) -> Result<Signature, ParseError> {
        let mut abi = Abi::HOST;
        if self.token() == "extern" {
            self.bump();
            abi = self.convention()?;
            self.take("fn", "`fn`")?;
        } else {
            self.take("fn", "`fn` or `extern`")?;
        }
        self.take("(", "`(`")?;
        let mut builder = Signature::returning(CType::Void).with_abi(abi);
        let mut variadic = false;
        let mut arguments = Vec::new();
        while self.token() != ")" {
            if self.token() == "..." && !variadic {
                self.bump();
                variadic = true;
                builder = builder.variadic();
            } else {
                let start = self.start;
                builder = builder.arg(self.argument(abi)?);
                arguments.push((start, self.text[..self.start].trim_end().len()));
            }
            if self.token() != "," {
                break;
            }
            self.bump();
        }
        self.take(")", "`,` or `)`")?;
        if self.token() == "->" {
            self.bump();
            builder = builder.with_result(self.ctype(abi)?);
            self.take("", "the end of the text")?;
        } else {
            self.take("", "`->` or the end of the text")?;
        }
        builder.build().map_err(|error| {
            let Error::Unpromoted { index, .. } = error else {
                unreachable!("`argument` refuses void arguments");
            };
            let (start, end) = arguments[index];
            self.error_at(start, end, PROMOTED)
        })
    }

    fn convention(&mut self) -> Result<Abi, ParseError> {
        let abi = match self.token() {
            "\"C\"" => Abi::HOST,
            "\"sysv64\"" => Abi::SystemV,
            "\"win64\"" => Abi::Win64,
            _ => return Err(self.error("`\"C\"`, `\"sysv64\"` or `\"win64\"`")),
        };
        self.bump();
        Ok(abi)
    }

    fn argument(&mut self, abi: Abi) -> Result<CType, ParseError> {
        if self.token() == "..." {
            return Err(self.error(ANOTHER_ARGUMENT));
        }
        let (start, end) = (self.start, self.end);
        match self.ctype(abi)? {
            CType::Void => Err(self.error_at(start, end, AN_ARGUMENT)),
            ctype => Ok(ctype),
        }
    }

    /// Types of fields in braces, which may stand within others.
    fn structure(&mut self, abi: Abi) -> Result<CType, ParseError> {
        let mut open: Vec<(usize, Vec<CType>)> = Vec::new();
        loop {
            while self.token() == "{" {
                open.push((self.start, Vec::new()));
                self.bump();
            }
            if self.token() != "}" {
                let field = self.scalar(abi)?;
                open.last_mut().expect("a brace is open").1.push(field);
            }
            while self.token() == "}" {
                let (start, fields) = open.pop().expect("a brace is open");
                let refused = self.error_at(start, self.end, A_STRUCT);
                let made = CType::struct_of(&fields).map_err(|error| match error {
                    Error::Struct(reason) => ParseError { reason: Some(reason), ..refused },
                    _ => refused,
                })?;
                self.bump();
                match open.last_mut() {
                    Some((_, outer)) => outer.push(made),
                    None => return Ok(made),
                }
            }
            self.take(",", "`,` or `}`")?;
        }
    }

    fn ctype(&mut self, abi: Abi) -> Result<CType, ParseError> {
        match self.token() {
            "{" => self.structure(abi),
            _ => self.scalar(abi),
        }
    }

    fn scalar(&mut self, abi: Abi) -> Result<CType, ParseError> {
        match self.token() {
            "*" => self.rust_pointer(),
            "(" => {
                self.bump();
                self.take(")", "`)`")?;
                Ok(CType::Void)
            }
            _ => self.c_type(abi),
        }
    }

    /// The words of a C type or a Rust name, then the stars of a C pointer.
    fn c_type(&mut self, abi: Abi) -> Result<CType, ParseError> {
        let (start, mut end) = (self.start, self.end);
        let mut words = Vec::new();
        while self.at_word() {
            if !matches!(self.token(), "const" | "volatile") {
                words.push(self.token());
            }
            end = self.end;
            self.bump();
        }
        if words.is_empty() {
            return Err(self.error(A_TYPE));
        }
        let ctype = named(&words, abi);
        if self.token() != "*" {
            return ctype.ok_or_else(|| self.error_at(start, end, A_TYPE));
        }
        let is_name = match words[..] {
            [name] | ["struct" | "union" | "enum", name] => !KEYWORDS.contains(&name),
            _ => false,
        };
        if ctype.is_none() && !is_name {
            return Err(self.error_at(start, end, A_TYPE));
        }
        while matches!(self.token(), "*" | "const" | "volatile" | "restrict" | "__restrict") {
            self.bump();
        }
        Ok(CType::Pointer)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError { offset, found, expected, .. } = self;
        if found.is_empty() {
            write!(f, "expected {expected}, found the end of the text at byte {offset}")
        } else {
            write!(f, "expected {expected}, found `{found}` at byte {offset}")
        }
    }
}

impl error::Error for ParseError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(self.reason.as_ref()?)
    }
}

#[cfg(test)]
mod tests;
