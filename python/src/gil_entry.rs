//! How a callback gets the GIL, and gives it back: by the cheapest of three ways.
//!
//! | the thread | on its way in | on its way out |
//! |---|---|---|
//! | holds the GIL | nothing | nothing |
//! | has lent it, by the state that calls back | takes it back | lends it anew |
//! | neither | `PyGILState_Ensure` | `PyGILState_Release` |
//!
//! # Safety
//! What the way in gives is handed to the way out in the same thread, once.

#![allow(unsafe_code, reason = "takes and releases the GIL")]

use hotcall_tracer::{Effect, Entry, Helper, Mem, Op, Ops};

use crate::capi;
use crate::known::Known;
use crate::runtime::runtime;

/// Gets the GIL for a callback; gives a word for [`LEAVE`].
static ENTER: Helper = Helper { name: "enter", entry: Entry::W(enter), effect: Effect::Effect };
/// Gives the GIL back, by the word that [`ENTER`] gave. Gives 0.
static LEAVE: Helper = Helper { name: "leave", entry: Entry::WW(leave), effect: Effect::Effect };

/// The thread holds the GIL anyway.
const HELD: u64 = 0;
/// What `PyGILState_Ensure` gave is one of the two numbers from here on. Greater
/// ones are the address of the record that had lent the GIL.
const ENSURED: u64 = 2;

/// Gets the GIL, as rules do it: without a call where the thread has it.
pub(crate) fn enter_by_rule<O: Ops>(o: &mut O, known: &Known) -> O::Word {
    let Some(current) = known.current.as_ref().filter(|current| !current.is_shared()) else {
        return o.help(&ENTER, &[]);
    };
    let state = current.load(o);
    let held = o.constant(HELD);
    let is_there = o.ne(state, held);
    let one = o.constant(1);
    let is_missing = o.pure(Op::Xor, Mem::I64, is_there, one);
    o.help_if(is_missing, held, &ENTER, &[])
}

/// Gives the GIL back, likewise.
pub(crate) fn leave_by_rule<O: Ops>(o: &mut O, entered: O::Word) {
    let nothing = o.constant(0);
    o.help_if(entered, nothing, &LEAVE, &[entered]);
}

/// Gets the GIL, in a thread that may or may not have it.
///
/// # Safety
/// The caller hands what it gives to [`leave`], or ends with the thread.
pub(crate) unsafe extern "C-unwind" fn enter() -> u64 {
    if let Some(runtime) = runtime() {
        if runtime.known.current.as_ref().is_some_and(|current| current.is_held_here()) {
            return HELD;
        }
        if let Ok(lending) = &runtime.known.lending
            && let Some(record) = lending.come_back()
        {
            return record;
        }
    }
    // SAFETY: it may be called in any thread, as ctypes does here.
    ENSURED + u64::from(unsafe { capi::PyGILState_Ensure() }.cast_unsigned())
}

/// Gives back what [`enter`] got.
///
/// # Safety
/// The word is what [`enter`] gave in this thread, and nothing that it got has
/// been given back since.
pub(crate) unsafe extern "C-unwind" fn leave(entered: u64) -> u64 {
    match entered {
        HELD => {}
        2 | 3 => {
            let state = (entered - ENSURED) as i32;
            // SAFETY: what `PyGILState_Ensure` gave in this thread.
            unsafe { capi::PyGILState_Release(state) };
        }
        record => {
            if let Some(Ok(lending)) = runtime().map(|runtime| &runtime.known.lending) {
                lending.lend_again(record);
            }
        }
    }
    0
}
