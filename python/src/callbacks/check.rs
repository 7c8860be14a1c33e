//! The check of thunks and closures at import: each layout row is compared with
//! what ctypes itself says of a live callback. A row that fails is named, and
//! callbacks stay with ctypes.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::callbacks::thunks::Thunks;
use crate::callbacks::{calling, failures};
use crate::check::{Reason, row};
use crate::declare::info;
use crate::instance;
use crate::kinds::handle;
use crate::layout::{self, Layout};
use crate::raw::{Object, Owned};

/// What is known of thunks, checked.
///
/// # Errors
/// What Python raised, as where the system denies ctypes the memory for closures;
/// and the first row that does not hold.
pub(crate) fn thunks(py: Python<'_>, layout: &Layout) -> PyResult<Result<Thunks, Reason>> {
    instance::learn_stock(py)?;
    let base = py.import("_ctypes")?.getattr("CFuncPtr")?;
    let ctypes = py.import("ctypes")?;
    let (c_int, c_double) = (ctypes.getattr("c_int")?, ctypes.getattr("c_double")?);
    let class = ctypes.getattr("CFUNCTYPE")?.call1((&c_int, &c_double))?;
    let callable = py.import("builtins")?.getattr("len")?;
    let function = class.call1((&callable,))?;
    let thunk = function.getattr("_objects")?.get_item("0")?;
    let name: String = thunk.get_type().name()?.extract()?;
    let data_class = c_int.getattr("__mro__")?.cast_into::<PyTuple>()?.get_item(2)?;
    let data_name: String = data_class.getattr("__name__")?.extract()?;
    let initialised = PyDict::new(py);
    initialised.set_item("__init__", &callable)?;
    let other = c_int.get_type().call1(("Initialised", (&c_int,), initialised))?;
    let init_of = |class: &Bound<'_, PyAny>| handle(class).word(layout::TYPE_INIT);
    let inits = [&c_int, &c_double, &other].map(init_of);
    let function = handle(&function);
    let memory = function.object(layout::CDATA_POINTER);
    let found = (|| {
        row("type.init", inits[0] != 0 && inits[0] == inits[1] && inits[0] != inits[2], true)?;
        row("func.thunk", function.word(layout::FUNC_THUNK), thunk.as_ptr() as u64)?;
        row("thunk class", name.as_str(), "CThunkObject")?;
        row("data class", data_name.as_str(), "_CData")?;
        let thunk = handle(&thunk);
        let known = info(layout, handle(&class));
        let result = info(layout, handle(&c_int));
        row("thunk.callable", thunk.word(layout::THUNK_CALLABLE), callable.as_ptr() as u64)?;
        let converters = known.word(layout.info_argtypes);
        row("thunk.converters", thunk.word(layout::THUNK_CONVERTERS), converters)?;
        row("thunk.restype", thunk.word(layout::THUNK_RESTYPE), c_int.as_ptr() as u64)?;
        let setfunc = result.word(layout.info_setfunc);
        row("thunk.setfunc", thunk.word(layout::THUNK_SETFUNC), setfunc)?;
        let flags = known.word(layout.info_flags);
        row("thunk.flags", thunk.word(layout::THUNK_FLAGS), flags)?;
        let address = memory.map(|memory| memory.word(layout::MEMORY_WORD));
        row("thunk.exec", Some(thunk.word(layout::THUNK_EXEC)), address)?;
        let closure = closure(thunk)?;
        let references = thunk.word(layout::OB_COUNT) as u32;
        let kept = Owned::of(thunk);
        row("references", thunk.word(layout::OB_COUNT) as u32, references + 1)?;
        drop(kept);
        calling::set_data_class(data_class.as_ptr() as u64);
        failures::set_closure(closure.word(layout::CLOSURE_FUNCTION));
        let class = thunk.word(layout::OB_TYPE);
        // The class is not freed as long as the process lives.
        let kept = Owned::of(handle(data_class.as_any()));
        kept.into_address();
        if let Some(class) = thunk.object(layout::OB_TYPE) {
            Owned::of(class).into_address();
        }
        Ok(Thunks { class, new: handle(&base).word(layout::TYPE_NEW) })
    })();
    if found.is_ok() {
        failures::learn_wordings(py);
    }
    Ok(found)
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
