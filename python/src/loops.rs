//! Loops over columns, for `hotcall.map` and `hotcall.vectorize`: one foreign function,
//! called for each item, with the GIL released once for many calls. What cannot be done
//! so is left to the caller, who calls the function for one item after the other.
//!
//! **Invariant.** A loop gives the same results as these calls.
//!
//! # Safety
//! CPython calls `enter` with live objects, with the GIL held. The loop runs while
//! nothing with a destructor is on the stack, since CPython may end the thread in it:
//! what it needs is in one piece of memory, which an ended thread never gives back.

#![allow(unsafe_code, reason = "is called by CPython with raw objects")]

mod columns;
mod native;
mod shapes;

use std::ffi::CString;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use self::columns::{Column, View};
use self::native::Native;
pub(crate) use self::shapes::Loops;
use crate::capi::{self, FASTCALL, Method};
use crate::hook;
use crate::kinds::handle;
use crate::make::{self, Named};
use crate::raw::{Object, Owned};
use crate::report;
use crate::runtime::runtime;

/// `loop(caller, function, columns, same, count, out)`: the function's results for
/// `count` items of the tuple of columns, each of which is a buffer, a tuple, or, where
/// the tuple `same` says so, one object for all; as a list, or in the buffer `out`,
/// which is given back. `NotImplemented` if the calls have to be made one by one.
/// Errors name the function of hotcall that is the caller.
unsafe extern "C-unwind" fn enter(_: u64, args: *const u64, count: u64) -> u64 {
    // SAFETY: CPython calls it with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let made = match count {
        6 => {
            // SAFETY: CPython passes so many live objects.
            let given = std::array::from_fn(|index| unsafe { argument(args, index) }.bound(py));
            prepare(py, &given)
        }
        _ => Err(make::error::<PyTypeError>(py, "loop expected 6 arguments")),
    };
    let made = match made {
        Ok(Some(made)) => Box::into_raw(Box::new(made)),
        Ok(None) => return Owned::from(py.NotImplemented().into_bound(py)).into_address(),
        Err(error) => {
            error.restore(py);
            return 0;
        }
    };
    // SAFETY: made above, and nobody else has it.
    let outcome = unsafe { &mut *made }.run(py);
    // SAFETY: it was made by `Box`, and is not used any more.
    drop(unsafe { Box::from_raw(made) });
    match outcome {
        Ok(results) => results.into_address(),
        Err((next, error)) => {
            // SAFETY: there are arguments, which CPython keeps alive for the call.
            let caller = unsafe { argument(args, 0) }.bound(py);
            let note = format!("hotcall.{caller}: item {next}");
            // What has no notes is raised without one.
            let _ = error.value(py).attr("add_note").and_then(|add| add.call_with((note,)));
            error.restore(py);
            0
        }
    }
}

/// The argument at `index`.
///
/// # Safety
/// There is one, and it is alive.
unsafe fn argument(args: *const u64, index: usize) -> Object {
    // SAFETY: the caller vouches for the place.
    let address = unsafe { args.wrapping_add(index).read() };
    // SAFETY: the caller vouches for the object.
    unsafe { Object::at(address) }
}

/// The loop that is asked for; none if there is none.
///
/// # Errors
/// `TypeError` if an argument is of a wrong type.
fn prepare(py: Python<'_>, given: &[Bound<'_, PyAny>; 6]) -> PyResult<Option<Native>> {
    let [caller, function, columns, same, count, out] = given;
    report::function(&caller.extract::<String>()?, function)?;
    let function = handle(function);
    let Some(runtime) = runtime().filter(|_| hook::is_installed()) else { return Ok(None) };
    let count = count.extract::<usize>()?;
    let mut read = Vec::new();
    for (column, same) in columns.cast::<PyTuple>()?.iter().zip(same.cast::<PyTuple>()?) {
        match Column::of(&column, same.is_truthy()?) {
            Some(column) if column.has(py, count) => read.push(column),
            _ => return Ok(None),
        }
    }
    let view = match out.is_none() {
        true => None,
        false => match View::of(out).filter(|view| view.is_writable() && view.len() == count) {
            Some(view) => Some((out.clone().unbind(), view)),
            None => return Ok(None),
        },
    };
    // Else a `__call__` of its class makes the calls. Columns may have run Python code.
    if !hook::is_installed() || !hook::accepts_vectorcall(function) {
        return Ok(None);
    }
    Ok(Native::new(py, runtime, function, (read, count), view))
}

/// The built-in function `loop`.
///
/// # Errors
/// What Python raised, if there is no memory.
pub(crate) fn function(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let method = Method {
        name: CString::from(c"loop").into_raw().expose_provenance() as u64,
        function: enter as *const () as u64,
        flags: FASTCALL,
        doc: 0,
    };
    // SAFETY: an entry that lives for ever.
    match Owned::from_new(unsafe { capi::PyCFunction_NewEx(method.leak(), 0, 0) }) {
        Some(made) => Ok(made.object().bound(py)),
        None => Err(PyErr::fetch(py)),
    }
}
