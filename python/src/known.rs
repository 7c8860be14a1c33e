//! What the rules know besides the declaration: the interpreter's layout, its
//! classes, and the addresses that calls compare with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hotcall_core::{CType, PreparedCall};
use hotcall_tracer::{BuildWordHasher, Field, Refusal, Symbol};

use crate::boxes::Boxing;
use crate::callbacks::thunks::Thunks;
use crate::classes::Classes;
use crate::current::Current;
use crate::declare::{self, Kind};
use crate::kinds::Kinds;
use crate::layout::Layout;
use crate::lending::Lending;
use crate::raw::Object;

/// What the rules know besides the declaration.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) layout: Layout,
    pub(crate) kinds: Kinds,
    pub(crate) classes: Classes,
    /// Where a pending exception is seen without a call, if that is known.
    pub(crate) current: Option<Current>,
    /// How the GIL is lent, or why it cannot be.
    pub(crate) lending: Result<&'static Lending, String>,
    /// Where errno lies, from the base of a thread's storage, if that is known.
    pub(crate) errno: Option<Field>,
    /// How numbers become objects.
    pub(crate) boxing: &'static Boxing,
    pub(crate) none: Symbol,
    /// The table of small ints, where the first 256 of them need no look.
    pub(crate) small_ints: Option<Symbol>,
    /// A table of False and True, where returning them counts no reference.
    pub(crate) truths: Option<Symbol>,
    /// The counter of calls that the rules made, if calls are counted.
    pub(crate) counter: Option<Symbol>,
    /// Whether foreign calls are timed.
    pub(crate) timed: bool,
    /// The counter of callbacks, likewise.
    pub(crate) callback_counter: Option<Symbol>,
    /// What is known of thunks, or why callbacks are left to ctypes.
    pub(crate) thunks: Result<Thunks, String>,
    /// The prepared calls of functions that were given undeclared arguments.
    pub(crate) undeclared: Undeclared,
}

/// As many prepared calls are kept; then they are made anew.
const MOST_SIGNATURES: usize = 1000;

/// Prepared calls by the C types of their arguments, behind which is that of the result.
#[derive(Debug, Default)]
pub(crate) struct Undeclared(Mutex<HashMap<Box<[CType]>, Arc<PreparedCall>, BuildWordHasher>>);

impl Undeclared {
    /// The call of a function with these types, those of its arguments before that of
    /// its result.
    ///
    /// # Errors
    /// The refusal under which ctypes makes it.
    pub(crate) fn prepare(&self, types: &[CType]) -> Result<Arc<PreparedCall>, Refusal> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get(types) {
            return Ok(Arc::clone(call));
        }
        if calls.len() == MOST_SIGNATURES {
            calls.clear();
        }
        let (result, args) = types.split_last().unwrap_or((&CType::Void, &[]));
        let call = declare::prepare(args.to_vec(), *result)?;
        calls.insert(types.into(), Arc::clone(&call));
        Ok(call)
    }
}

impl Known {
    /// Whether the class at `address`, of which a living class is made, is a
    /// simple type of this kind.
    #[allow(unsafe_code, reason = "see SAFETY")]
    pub(crate) fn is_kind(&self, address: u64, kind: Kind) -> bool {
        // SAFETY: pointer and array classes own the class of their items.
        self.kinds.of_class(unsafe { Object::at(address) }) == Some(kind)
    }
}
