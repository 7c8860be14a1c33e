//! How a call is made from [`Value`]s: the marshalling rules, written once and
//! read in two ways. Read live they are the interpreter; recorded they are what
//! is compiled.

use std::mem::offset_of;
use std::sync::Arc;

use hotcall_core::{CType, Error, PreparedCall, Signature, Unplaced, Value};
use hotcall_tracer::{Field, Mem, Ops, Refusal};
use smallvec::SmallVec;

use crate::function::Record;

/// What a stub, and the generic path, return when the call was made.
pub(crate) const DONE: u64 = 0;
/// What they return when it was refused, and the function was not called.
pub(crate) const REFUSED: u64 = 1;

/// A call has too many values, or too few.
const VALUE_COUNT: Refusal =
    Refusal::new("value-count", "pass one value for each argument of the signature");
/// A value is not of its argument's type.
const VALUE_TYPE: Refusal =
    Refusal::new("value-type", "pass values of the signature's types; nothing is converted");

/// The address of the foreign function.
const TARGET: Field = Field::new("function.target", offset_of!(Record, target) as i32, Mem::I64);

/// Calls a function with an array of `count` values at `args`, and writes its
/// result to the value at `out`. The last word is the address of the function's
/// [`Record`]; that the target comes from there makes stubs of equal signatures
/// equal.
///
/// All checks come before all payloads, so that no payload waits in a register
/// for the check of another.
///
/// # Errors
/// What refuses the call. The function was not called then.
#[inline(always)]
pub(crate) fn call<O: Ops>(
    ops: &mut O,
    call: &Arc<PreparedCall>,
    [args, count, out, record]: [O::Word; 4],
) -> Result<O::Word, Refusal> {
    let signature = call.signature();
    if !ops.test_is(count, signature.args().len() as u64) {
        return Err(VALUE_COUNT);
    }
    for (index, ctype) in signature.args().iter().enumerate() {
        let tag = ops.load(args, tag("arg.tag").of_value(index));
        if !ops.test_is(tag, Value::tag_of(*ctype).ok_or(VALUE_TYPE)?) {
            return Err(VALUE_TYPE);
        }
    }
    let mut words: SmallVec<[O::Word; 16]> = SmallVec::new();
    for (index, ctype) in signature.args().iter().enumerate() {
        let field = payload("arg.value", *ctype).ok_or(VALUE_TYPE)?;
        words.push(ops.load(args, field.of_value(index)));
    }
    let target = ops.load(record, TARGET);
    let result = ops.call(call, target, &words);
    store_result(ops, signature.result(), out, result);
    Ok(ops.constant(DONE))
}
