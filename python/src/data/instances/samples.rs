//! Finds out what CPython's own destructors are, and checks the rows of instances
//! and of their classes on samples.

use std::sync::atomic::Ordering::Release;

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::*;
use crate::data::root;
use crate::kinds::handle;
use crate::make::{self, Named};
use crate::samples;

/// Whether the rows hold, for an instance and a part of it. What CPython does
/// itself is kept.
///
/// # Errors
/// What a look-up raised.
pub(in crate::data) fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let samples = Samples::make(py)?;
    let holds = samples.rows_hold();
    if holds && stock().is_none() {
        STOCK.store(Box::leak(Box::new(samples.stock(py)?)), Release);
    }
    Ok(holds)
}

/// Objects that show where what is.
struct Samples<'py> {
    /// A class at run time that adds nothing.
    plain: Bound<'py, PyAny>,
    /// A structure class, and one of three fields: a number, and two of the other class.
    inner: Bound<'py, PyAny>,
    outer: Bound<'py, PyAny>,
    /// A class that has a finaliser, slots, and a base that is `plain`.
    special: Bound<'py, PyAny>,
    /// An instance of `outer`, and its last field.
    whole: Bound<'py, PyAny>,
    part: Bound<'py, PyAny>,
    /// An instance of `inner` with an attribute, and a weak reference to it.
    dressed: Bound<'py, PyAny>,
    _weak: Bound<'py, PyAny>,
}

impl<'py> Samples<'py> {
    fn make(py: Python<'py>) -> PyResult<Samples<'py>> {
        let structure = make::import(py, "ctypes")?.attr("Structure")?;
        let c_long = make::import(py, "ctypes")?.attr("c_long")?;
        let class = |name: &str, base: &Bound<'py, PyAny>, attribute: &str, value| {
            let members = make::dict(py)?;
            members.put(attribute, value)?;
            samples::class(name, base, &members)
        };
        let object = make::import(py, "builtins")?.attr("object")?;
        let fields =
            |fields: Vec<(&str, &Bound<'py, PyAny>)>| make::list(py, fields).map(Bound::into_any);
        let plain = class("Plain", &object, "member", py.None().into_bound(py))?;
        let inner = class("Inner", &structure, "_fields_", fields(vec![("only", &c_long)])?)?;
        let three = fields(vec![("number", &c_long), ("first", &inner), ("last", &inner)])?;
        let outer = class("Outer", &structure, "_fields_", three)?;
        let members = make::dict(py)?;
        members.put("__slots__", ("slot",))?;
        members.put("__del__", make::import(py, "builtins")?.attr("id")?)?;
        let special = py.get_type::<PyType>().call_with(("Special", (&plain,), members))?;
        let whole = outer.call0()?;
        let part = whole.attr("last")?;
        let dressed = inner.call0()?;
        dressed.set_attr("attribute", &py.None())?;
        let weak = make::import(py, "weakref")?.attr("ref")?.call_with((&dressed,))?;
        Ok(Samples { plain, inner, outer, special, whole, part, dressed, _weak: weak })
    }

    /// What CPython does itself.
    fn stock(&self, py: Python<'py>) -> PyResult<Stock> {
        let root = root(py)?;
        Ok(Stock {
            of_classes: handle(&self.plain).word(TYPE_DEALLOC),
            of_instances: handle(&root).word(TYPE_DEALLOC),
            free: handle(&self.inner).word(TYPE_FREE),
            counts_class: handle(&root).word(TYPE_FLAGS) & HEAP_TYPE != 0,
            clear_dict: capi::symbol(c"PyObject_ClearManagedDict").map(function),
        })
    }

    fn rows_hold(&self) -> bool {
        let [plain, inner, special] = [&self.plain, &self.inner, &self.special].map(handle);
        let [whole, part, dressed] = [&self.whole, &self.part, &self.dressed].map(handle);
        let value = |object: Object| object.address() + CDATA_VALUE.offset as u64;
        let lists = |object: Object| {
            let weak = Field::new("weak", inner.word(TYPE_WEAK) as i32, Mem::I64);
            [DICT, VALUES, weak].map(|field| object.word(field) != 0)
        };
        let instances = whole.word(CDATA_NEEDS_FREE) == 1
            && part.word(CDATA_NEEDS_FREE) == 0
            && [whole, dressed].iter().all(|whole| whole.word(CDATA_BASE) == 0)
            && part.word(CDATA_BASE) == whole.address()
            && part.word(CDATA_INDEX) == 2
            && part.word(CDATA_OBJECTS) == 0
            && dressed.word(CDATA_POINTER) == value(dressed)
            && whole.word(CDATA_POINTER) != value(whole);
        let classes = special.word(TYPE_SLOTS) == 1
            && [plain, inner].iter().all(|class| class.word(TYPE_SLOTS) == 0)
            && special.word(TYPE_FINALIZE) != 0
            && plain.word(TYPE_FINALIZE) | inner.word(TYPE_FINALIZE) | inner.word(TYPE_DEL) == 0
            && plain.word(TYPE_SUBCLASSES) != 0
            && inner.word(TYPE_SUBCLASSES) == 0
            && inner.word(TYPE_FREE) == plain.word(TYPE_FREE);
        instances
            && classes
            && handle(&self.outer).word(TYPE_BASE) == inner.word(TYPE_BASE)
            && lists(part) == [false; 3]
            && (lists(dressed)[0] || lists(dressed)[1])
            && lists(dressed)[2]
            && LINKS.iter().all(|link| part.word(*link) != 0)
            && self.values_hold()
            && self.memory_begins().is_ok_and(|size| size == -i64::from(VALUES.offset))
    }

    /// How many bytes before an instance its memory begins, as CPython counts its size.
    fn memory_begins(&self) -> PyResult<i64> {
        let size_of = make::import(self.part.py(), "sys")?.attr("getsizeof")?;
        let whole = size_of.call_with((&self.part,))?.extract::<i64>()?;
        Ok(whole - self.part.attr("__sizeof__")?.call0()?.extract::<i64>()?)
    }

    /// Whether values behind instances are told of as expected, if they are there.
    fn values_hold(&self) -> bool {
        let inner = handle(&self.inner);
        let values = Field::new("values", inner.word(TYPE_BASIC_SIZE) as i32, Mem::U32);
        let of = |object: &Bound<'_, PyAny>| handle(object).word(values) & !0xff;
        let basic_size = self.inner.attr("__basicsize__").and_then(|size| size.extract::<u64>());
        basic_size.is_ok_and(|size| size == inner.word(TYPE_BASIC_SIZE))
            && (inner.word(TYPE_FLAGS) & INLINE_VALUES == 0
                || of(&self.part) == NO_VALUES && of(&self.dressed) == NO_VALUES | 1 << 8)
    }
}
