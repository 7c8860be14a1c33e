//! The GIL around a foreign call, by policy: see `lending` for how it is lent.

use hotcall_tracer::{Ops, Refusal};

use crate::gil::Policy;
use crate::helpers::{RESTORE_THREAD, SAVE_THREAD};
use crate::known::Known;
use crate::lending::{
    AWAY, FUNCTION, LEND_SLOWLY, LENDER, Lending, REQUEST, STATE, TAKE_BACK, TURN,
};
use crate::refusals;

/// What is to be done with the GIL around a call.
pub(super) enum Around<'a, W> {
    /// It is released.
    Release,
    /// This thread lends it, by its record, which says this turn now.
    Lend { lending: &'a Lending, record: W, turn: W },
    /// It is kept.
    Hold,
}

/// What has been done with it.
pub(super) enum Given<'a, W> {
    /// It was released by this thread state.
    Released(W),
    /// This record has lent it.
    Lent(&'a Lending, W),
    /// It was kept.
    Kept,
}

/// Gets ready to give the GIL away. Nothing has an effect yet.
pub(super) fn prepare<'a, O: Ops>(
    o: &mut O,
    known: &'a Known,
    policy: Policy,
) -> Result<Around<'a, O::Word>, Refusal> {
    let lending = match (policy, &known.lending) {
        (Policy::Hold, _) => return Ok(Around::Hold),
        (Policy::Lend, Ok(lending)) => lending,
        _ => return Ok(Around::Release),
    };
    let thread = o.thread();
    let record = o.load(thread, lending.slot.field);
    if o.test_is(record, 0) {
        return Err(refusals::THREAD);
    }
    let turn = o.load(record, TURN);
    let one = o.constant(1);
    let odd = o.and(turn, one);
    if !o.test_is(odd, 0) {
        return Err(refusals::THREAD);
    }
    Ok(Around::Lend { lending, record, turn })
}

/// Gives the GIL away before the call of `function`.
pub(super) fn give<'a, O: Ops>(
    o: &mut O,
    around: Around<'a, O::Word>,
    function: O::Word,
) -> Given<'a, O::Word> {
    let (lending, record, turn) = match around {
        Around::Hold => return Given::Kept,
        Around::Release => return Given::Released(o.help(&SAVE_THREAD, &[])),
        Around::Lend { lending, record, turn } => (lending, record, turn),
    };
    let state = lending.current.load(o);
    o.store(record, STATE, state);
    o.store(record, FUNCTION, function);
    let none = o.constant(0);
    lending.current.store(o, none);
    let desk = o.symbol(&lending.desk);
    o.store(desk, LENDER, record);
    let one = o.constant(1);
    let lent = o.add(turn, one);
    o.store(record, TURN, lent);
    let away = o.load(desk, AWAY);
    o.help_if(away, none, &LEND_SLOWLY, &[record]);
    Given::Lent(lending, record)
}

/// Takes the GIL back behind the call.
pub(super) fn take<O: Ops>(o: &mut O, given: Given<'_, O::Word>) {
    let (lending, record) = match given {
        Given::Kept => return,
        Given::Released(state) => {
            o.help(&RESTORE_THREAD, &[state]);
            return;
        }
        Given::Lent(lending, record) => (lending, record),
    };
    let turn = o.load(record, TURN);
    let one = o.constant(1);
    let back = o.add(turn, one);
    o.store(record, TURN, back);
    let request = o.load(record, REQUEST);
    let none = o.constant(0);
    o.help_if(request, none, &TAKE_BACK, &[record]);
    let state = o.load(record, STATE);
    lending.current.store(o, state);
}
