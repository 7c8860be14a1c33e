//! Rust's raw pointers. What they lead to counts only so far as it has a known size: a
//! pointer to a slice, a text or a trait object has a second word, which C has no type
//! for.

use super::{A_SIZED_TYPE, ParseError, Parser};
use crate::CType;

/// A bracket that is open.
struct Bracket<'t> {
    start: usize,
    opener: &'t str,
    /// Whether a type begins with it whose size counts.
    is_sized: bool,
    /// Whether a semicolon is directly within, as in an array that says its length.
    has_length: bool,
}

impl Bracket<'_> {
    /// What closes it, and how errors call that.
    fn closer(&self) -> (&'static str, &'static str) {
        match self.opener {
            "(" => (")", "`)`"),
            "[" => ("]", "`]`"),
            _ => (">", "`>`"),
        }
    }
}

impl<'t> Parser<'t> {
    /// Any number of `*const`, `*mut` and `&`, then what they lead to.
    pub(super) fn rust_pointer(&mut self) -> Result<CType, ParseError> {
        let mut is_sized = true;
        loop {
            match self.token() {
                "*" => {
                    self.bump();
                    if !matches!(self.token(), "const" | "mut") {
                        return Err(self.error("`const` or `mut`"));
                    }
                    self.bump();
                }
                "&" => {
                    // It may be two words itself, but to it leads one.
                    is_sized = false;
                    self.bump();
                    if self.token() == "'" {
                        self.bump();
                        self.bump();
                    }
                    if self.token() == "mut" {
                        self.bump();
                    }
                }
                "(" | "[" => {
                    self.group(is_sized)?;
                    return Ok(CType::Pointer);
                }
                _ if self.at_word() => {
                    if !self.path(is_sized)? {
                        return Ok(CType::Pointer);
                    }
                    // The result of a function.
                    is_sized = false;
                    self.bump();
                }
                _ => return Err(self.error("the type that is pointed to")),
            }
        }
    }

    /// Words such as `std::vec::Vec<u8>`, `unsigned char` or `extern "C" fn(u8)`. Whether
    /// it is a function, and a result follows.
    fn path(&mut self, is_sized: bool) -> Result<bool, ParseError> {
        while self.at_word() {
            if is_sized && self.is_unsized() {
                return Err(self.error(A_SIZED_TYPE));
            }
            let word = self.token();
            self.bump();
            match (word, self.token()) {
                ("fn" | "Fn" | "FnMut" | "FnOnce", "(") => {
                    self.group(false)?;
                    return Ok(self.token() == "->");
                }
                ("extern", convention) if convention.starts_with('"') => self.bump(),
                (_, "<") => self.group(false)?,
                _ => {}
            }
            if self.token() == "::" {
                self.bump();
                if !self.at_word() {
                    return Err(self.error("the rest of a path"));
                }
            }
        }
        Ok(false)
    }

    /// Whether a type that begins with this word has no known size. Modules may be
    /// called `str`.
    fn is_unsized(&self) -> bool {
        let is_module = || self.text[self.end..].trim_start().starts_with("::");
        matches!(self.token(), "dyn" | "impl") || self.token() == "str" && !is_module()
    }

    /// Moves past the bracket at the current token and the one that closes it. If the
    /// size counts, so does that of each part of a tuple.
    fn group(&mut self, is_sized: bool) -> Result<(), ParseError> {
        let mut open: Vec<Bracket<'t>> = Vec::new();
        let mut begins = true;
        loop {
            let in_tuple = |outer: &Bracket<'_>| outer.is_sized && outer.opener == "(";
            let is_sized = begins && open.last().map_or(is_sized, in_tuple);
            if is_sized && self.is_unsized() {
                return Err(self.error(A_SIZED_TYPE));
            }
            let token = self.token();
            begins = matches!(token, "(" | ",");
            match (token, open.last_mut()) {
                ("(" | "[" | "<", _) => {
                    let (start, opener) = (self.start, token);
                    open.push(Bracket { start, opener, is_sized, has_length: false });
                }
                (";", Some(bracket)) => bracket.has_length = true,
                (token, Some(bracket)) if token == bracket.closer().0 => {
                    if bracket.is_sized && bracket.opener == "[" && !bracket.has_length {
                        return Err(self.error_at(bracket.start, self.end, A_SIZED_TYPE));
                    }
                    open.pop();
                }
                ("" | ")" | "]" | ">", Some(bracket)) => {
                    return Err(self.error(bracket.closer().1));
                }
                _ => {}
            }
            self.bump();
            if open.is_empty() {
                return Ok(());
            }
        }
    }
}
