//! The check of thunks and closures at import: each layout row is compared with
//! what ctypes itself says of a live callback. A row that fails is named, and
//! callbacks stay with ctypes.

use std::fmt::Display;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::callbacks::thunks::Thunks;
use crate::callbacks::{calling, failures};
use crate::check::{Reason, row};
use crate::declare::info;
use crate::described;
use crate::instance;
use crate::kinds::handle;
use crate::layout::{self, Layout};
use crate::make::{self, Named};
use crate::raw::{Object, Owned};
use crate::samples;

/// What is known of thunks, checked; or why callbacks are left to ctypes: it can
/// make none, or a row does not hold.
///
/// # Errors
/// What Python raised.
pub(crate) fn thunks(py: Python<'_>, layout: &Layout) -> PyResult<Result<Thunks, Reason>> {
    instance::learn_stock(py)?;
    let base = make::import(py, "_ctypes")?.attr("CFuncPtr")?;
    let ctypes = make::import(py, "ctypes")?;
    let (c_int, c_double) = (ctypes.attr("c_int")?, ctypes.attr("c_double")?);
    let class = samples::function(&[], &c_int, &[&c_double])?;
    // With its first instance a class is final, as its flags say from then on.
    class.call0()?;
    let callable = make::import(py, "builtins")?.attr("len")?;
    let function = match class.call_with((&callable,)) {
        // The system denies ctypes the memory for closures.
        Err(error) if error.is_instance_of::<PyMemoryError>(py) => {
            return Ok(Err(none_here(&described::error(py, &error))));
        }
        made => made?,
    };
    let thunk = function.attr("_objects")?.item("0")?;
    let initialisers = initialisers(&c_int, &c_double, &callable)?;
    let name: String = thunk.get_type().name()?.extract()?;
    let data_class = c_int.attr("__mro__")?.cast_into::<PyTuple>()?.item(2)?;
    let data_name: String = data_class.attr("__name__")?.extract()?;
    let found = initialisers.and_then(|()| {
        row("thunk class", name.as_str(), "CThunkObject")?;
        row("data class", data_name.as_str(), "_CData")?;
        row("thunk.callable", handle(&thunk).word(layout::THUNK_CALLABLE), address(&callable))?;
        of_class(layout, &class, &c_int, handle(&thunk))?;
        let closure = of_function(handle(&function), handle(&thunk))?;
        calling::set_data_class(kept(&data_class));
        failures::set_closure(closure.word(layout::CLOSURE_FUNCTION));
        let class = kept(thunk.get_type().as_any());
        Ok(Thunks { class, new: handle(&base).word(layout::TYPE_NEW) })
    });
    if found.is_ok() {
        failures::learn_wordings(py);
    }
    Ok(found)
}

/// That ctypes makes no callbacks.
pub(crate) fn none_here(why: &impl Display) -> Reason {
    format!("ctypes makes none here, {why}")
}

fn address(object: &Bound<'_, PyAny>) -> u64 {
    object.as_ptr() as u64
}

/// The address of a class that is not freed as long as the process lives.
fn kept(class: &Bound<'_, PyAny>) -> u64 {
    Owned::of(handle(class)).into_address()
}

/// Checks the row of initialisers: of two classes it is ctypes' own, of one that
/// has its own it is another.
fn initialisers(
    c_int: &Bound<'_, PyAny>,
    c_double: &Bound<'_, PyAny>,
    callable: &Bound<'_, PyAny>,
) -> PyResult<Result<(), Reason>> {
    let attributes = make::dict(c_int.py())?;
    attributes.put("__init__", callable)?;
    // Not a class that programs use: it would have a subclass for some time.
    let structure = make::import(c_int.py(), "ctypes")?.attr("Structure")?;
    let other = samples::class("Initialised", &structure, &attributes)?;
    let of = |class: &Bound<'_, PyAny>| handle(class).word(layout::TYPE_INIT);
    let (stock, own) = (of(c_int), of(&other));
    let differs = ![stock, of(&structure)].contains(&own);
    Ok(row("type.init", stock != 0 && stock == of(c_double) && differs, true))
}

/// Checks what a thunk has of the class of its function, whose result is `result`.
fn of_class(
    layout: &Layout,
    class: &Bound<'_, PyAny>,
    result: &Bound<'_, PyAny>,
    thunk: Object,
) -> Result<(), Reason> {
    let known = info(layout, handle(class));
    let setfunc = info(layout, handle(result)).word(layout.info_setfunc);
    let converters = known.word(layout.info_argtypes);
    row("thunk.converters", thunk.word(layout::THUNK_CONVERTERS), converters)?;
    row("thunk.restype", thunk.word(layout::THUNK_RESTYPE), address(result))?;
    row("thunk.setfunc", thunk.word(layout::THUNK_SETFUNC), setfunc)?;
    row("thunk.flags", thunk.word(layout::THUNK_FLAGS), known.word(layout.info_flags))
}

/// Checks how a function, its thunk and the thunk's closure refer to each other;
/// gives the closure.
fn of_function(function: Object, thunk: Object) -> Result<Object, Reason> {
    row("func.thunk", function.word(layout::FUNC_THUNK), thunk.address())?;
    let memory = function.object(layout::CDATA_POINTER);
    let target = memory.map(|memory| memory.word(layout::MEMORY_WORD));
    row("thunk.exec", Some(thunk.word(layout::THUNK_EXEC)), target)?;
    let count = || thunk.word(layout::OB_COUNT) as u32;
    let before = count();
    let held = Owned::of(thunk);
    row("count", count(), before + 1)?;
    drop(held);
    closure(thunk)
}

/// The closure of a thunk, checked.
fn closure(thunk: Object) -> Result<Object, Reason> {
    let missing = || "layout row thunk.write does not hold: it is null".to_owned();
    let closure = thunk.object(layout::THUNK_WRITE).ok_or_else(missing)?;
    let cif = thunk.address().wrapping_add_signed(layout::THUNK_CIF.offset.into());
    row("closure.cif", closure.word(layout::CLOSURE_CIF), cif)?;
    row("closure.data", closure.word(layout::CLOSURE_DATA), thunk.address())?;
    row("closure.function", closure.word(layout::CLOSURE_FUNCTION) != 0, true)?;
    Ok(closure)
}
