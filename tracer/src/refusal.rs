//! A refusal: why a call, or a function, stays on the slower path.

use std::fmt;

/// A reason with a name. It is counted and shown, and never raised: the
/// slower path makes the call, with its own results and its own errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The name under which it is counted, in lower case with hyphens.
    pub name: &'static str,
    /// What it means, and what the user can do about it.
    pub advice: &'static str,
}

impl Refusal {
    /// The refusal `name`, explained by `advice`.
    pub const fn new(name: &'static str, advice: &'static str) -> Refusal {
        Refusal { name, advice }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.advice)
    }
}
