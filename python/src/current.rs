//! Where the interpreter keeps the current thread state, and in it a pending
//! exception: found at import by looking, and checked by trying.
//!
//! CPython 3.11 keeps the current thread state in its one record of itself;
//! later versions keep it in a thread-local variable that no symbol names. What
//! lies there is searched for the thread state; the one word that makes CPython
//! see none while it is null is the variable.
//!
//! # Safety
//! What is written, and put back, is a word that holds the thread state, with
//! the GIL held.

#![allow(unsafe_code, reason = "probes the interpreter's variables")]

use hotcall_tracer::{Field, Mem, Ops, Symbol};
use pyo3::prelude::*;

use crate::capi;
use crate::probe;

/// How much of CPython 3.11's record of itself is searched, in bytes.
const SEARCHED: usize = 64 << 10;
/// The bytes of a thread state that are searched: fewer than any version's has.
const STATE: i32 = 256;

/// What the variable's distance is measured from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// The base of each thread's own storage.
    Thread,
    /// One address for all threads.
    Static(Symbol),
}

/// The rows for a look at the thread state without a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    base: Base,
    /// The thread state, from the base.
    state: Field,
    /// The pending exception, in the thread state.
    error: Field,
    /// The dictionary of the thread state, in it, if that was found: 0 before there
    /// is one, and from when the thread state is cleared.
    pub(crate) dict: Option<Field>,
}

/// Finds the current thread state of CPython 3.`minor`; none where it is not
/// found beyond doubt. Rules then ask CPython.
pub(crate) fn find(py: Python<'_>, minor: u8) -> Option<Current> {
    let error = match minor {
        11 | 12 => 96,
        13 | 14 => 112,
        15 => 136,
        _ => return None,
    };
    let error = Field::new("thread_state.error", error, Mem::I64);
    let base = match minor {
        11 => {
            Base::Static(Symbol { name: "runtime".into(), address: capi::symbol(c"_PyRuntime")? })
        }
        _ => Base::Thread,
    };
    let offset = search(&base)?;
    let state = Field::new("thread_state", offset, Mem::I64);
    let dict = search_dict();
    let dict = dict.filter(|_| probe::in_other_thread_with_gil(py, move |_| search_dict() == dict));
    let current = Current { base, state, error, dict };
    // Another thread must agree, and the row of the exception must hold.
    let other = current.clone();
    let agrees = probe::in_other_thread_with_gil(py, move |_| other.get() == thread_state());
    (agrees && current.sees_errors()).then_some(current)
}

/// The thread state as CPython's API gives it; 0 if there is none.
fn thread_state() -> u64 {
    // SAFETY: it may be asked at any time.
    unsafe { (capi::current_thread_state())() }
}

/// The distance of the variable from its base.
fn search(base: &Base) -> Option<i32> {
    let state = thread_state();
    let words = match base {
        Base::Thread => probe::words_below(base.address()),
        Base::Static(_) => probe::words_from(base.address(), SEARCHED),
    };
    let mut found = None;
    for (offset, word) in words {
        if word != state || state == 0 {
            continue;
        }
        let place = base.address().wrapping_add_signed(offset.into()) as *mut u64;
        // SAFETY: a variable with the thread state in it. If it is this thread's
        // nobody else uses it; else it is the holder of the GIL who writes it.
        // It is put back at once.
        unsafe { place.write_volatile(0) };
        let unseen = thread_state() == 0;
        // SAFETY: as above.
        unsafe { place.write_volatile(state) };
        if unseen && found.replace(offset).is_some() {
            return None;
        }
    }
    found
}

/// Where the thread state has its dictionary, which is made if there is none.
fn search_dict() -> Option<Field> {
    // SAFETY: the GIL is held.
    let dict = unsafe { capi::PyThreadState_GetDict() };
    let words = probe::words_from(thread_state(), STATE as usize);
    let mut found = words.into_iter().filter(|&(at, word)| at < STATE && word == dict && dict != 0);
    match (found.next(), found.next()) {
        (Some((offset, _)), None) => Some(Field::new("thread_state.dict", offset, Mem::I64)),
        _ => None,
    }
}

impl Base {
    /// What it is in this thread.
    fn address(&self) -> u64 {
        match self {
            Base::Thread => probe::thread(),
            Base::Static(symbol) => symbol.address,
        }
    }
}

impl Current {
    /// Whether this thread has the GIL.
    pub(crate) fn is_held_here(&self) -> bool {
        match (self.get(), self.is_shared()) {
            (0, _) => false,
            (_, false) => true,
            // SAFETY: it may be asked at any time.
            (state, true) => state == unsafe { capi::PyGILState_GetThisThreadState() },
        }
    }

    /// Whether the variable is the same for all threads.
    pub(crate) fn is_shared(&self) -> bool {
        self.base != Base::Thread
    }

    /// The base of the variable, as rules see it.
    fn base<O: Ops>(&self, o: &mut O) -> O::Word {
        match &self.base {
            Base::Thread => o.thread(),
            Base::Static(symbol) => o.symbol(symbol),
        }
    }

    /// The current thread state, as rules see it.
    pub(crate) fn load<O: Ops>(&self, o: &mut O) -> O::Word {
        let base = self.base(o);
        o.load(base, self.state)
    }

    /// Makes `state` the current thread state, or none if it is 0.
    pub(crate) fn store<O: Ops>(&self, o: &mut O, state: O::Word) {
        let base = self.base(o);
        o.store(base, self.state, state);
    }

    /// The pending exception, as rules see it: 0 if there is none.
    pub(crate) fn pending<O: Ops>(&self, o: &mut O) -> O::Word {
        let state = self.load(o);
        o.load(state, self.error)
    }

    fn place(&self) -> *mut u64 {
        self.base.address().wrapping_add_signed(self.state.offset.into()) as *mut u64
    }

    /// This thread's state by these rows.
    pub(crate) fn get(&self) -> u64 {
        // SAFETY: the variable was found there.
        unsafe { self.place().read_volatile() }
    }

    /// Makes `state` this thread's.
    ///
    /// # Safety
    /// It is 0, or a thread state that holds the GIL, for which this thread acts.
    pub(crate) unsafe fn set(&self, state: u64) {
        // SAFETY: the variable was found there; the caller says what may stand in it.
        unsafe { self.place().write_volatile(state) };
    }

    /// The pending exception by these rows.
    fn error(&self) -> u64 {
        let place = self.get().wrapping_add_signed(self.error.offset.into());
        // SAFETY: a field of the thread state, which is far larger.
        unsafe { (place as *const u64).read() }
    }

    /// Whether the row of the exception is null without one, and not with one.
    fn sees_errors(&self) -> bool {
        let before = self.error();
        // SAFETY: the GIL is held, and the text is a C string.
        unsafe { capi::PyErr_SetString(capi::PyExc_ValueError, c"probe".as_ptr()) };
        let during = self.error();
        // SAFETY: the GIL is held.
        unsafe { capi::PyErr_Clear() };
        before == 0 && during != 0 && self.error() == 0
    }
}
