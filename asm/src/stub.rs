//! A stub: finished machine code at an address that stays valid. It is
//! cheap to copy, and knows its own bytes for whoever wants to look at them.

use std::fmt;
use std::sync::Arc;

use hotcall_tracer::Trace;

use crate::interface::Entry;
use crate::unwind::Row;

/// Machine code for a trace.
///
/// A stub is entered as a C function of the trace's parameters that returns a
/// word; or, as the target of a [`Trampoline`](crate::Trampoline), as one of the
/// signature that it was compiled for; or as a loop, see
/// [`Jit::compile_loop`](crate::Jit::compile_loop). Its code stays where it is as long as the
/// process lives.
#[derive(Clone)]
pub struct Stub {
    entry: u64,
    code: Arc<[u8]>,
    /// How to unwind it.
    pub(crate) rows: Arc<[Row]>,
    /// What the code was made from, for the names of its addresses.
    #[cfg_attr(not(any(test, feature = "disasm")), expect(dead_code, reason = "read by disasm"))]
    pub(crate) trace: Arc<Trace>,
    /// Where failed guards go, if there can be any.
    #[cfg_attr(not(any(test, feature = "disasm")), expect(dead_code, reason = "read by disasm"))]
    pub(crate) fallback: Option<u64>,
}

impl Stub {
    /// The stub whose `code` was put at `address`, to be entered as `entry` says.
    pub(crate) fn new(
        address: u64,
        (code, rows): (Vec<u8>, Vec<Row>),
        trace: Arc<Trace>,
        entry: &Entry,
    ) -> Stub {
        let fallback = match entry {
            Entry::Words { fallback } => Some(*fallback),
            Entry::Callback(_) | Entry::Loop(_) => None,
        };
        Stub { entry: address, code: code.into(), rows: rows.into(), trace, fallback }
    }

    /// The address at which it is entered.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// A copy of its machine code.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// The size of its code in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no stub is empty")]
    pub fn len(&self) -> usize {
        self.code.len()
    }
}

impl fmt::Debug for Stub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stub({} bytes at {:#x})", self.len(), self.entry)
    }
}
