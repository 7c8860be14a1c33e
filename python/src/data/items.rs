//! Items of arrays, and what pointers point to: the subscript slots of
//! `_ctypes.Array` and `_ctypes._Pointer`, and `contents`.
//!
//! Each class has a copy of its slots. New classes take theirs from the slot
//! wrappers, through which iteration goes too; those that exist are patched one
//! by one.
//!
//! # Safety
//! As for the module above.

use std::ffi::c_int;

use hotcall_tracer::{Field, Mem};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PySlice;

use super::access::{self, Access, Holder, Value, access, word_of, write_word};
use super::{Data, data};
use crate::capi;
use crate::declare::info;
use crate::hook::{Original, Place};
use crate::kinds::handle;
use crate::layout::{self, CDATA_LENGTH, CDATA_POINTER, MEMORY_WORD, OB_TYPE};
use crate::make::{self, Named};
use crate::raw::Object;
use crate::samples;

/// The slots of a type for items.
const TYPE_AS_MAPPING: Field = Field::new("type.as_mapping", 112, Mem::I64);
/// What gives an item, and what assigns to one, among them.
const GET: Field = Field::new("mapping.subscript", 8, Mem::I64);
const SET: Field = Field::new("mapping.ass_subscript", 16, Mem::I64);
/// The getter in the C table entry of a get-set descriptor.
const GETSET_GET: Field = Field::new("getset.get", 8, Mem::I64);

type Get = unsafe extern "C-unwind" fn(this: u64, item: u64) -> u64;
type Set = unsafe extern "C-unwind" fn(this: u64, item: u64, value: u64) -> c_int;
type Getter = unsafe extern "C-unwind" fn(this: u64, closure: u64) -> u64;

static CONTENTS: Original = Original::new();

/// A slot that is patched in all classes that have it from one of ctypes'.
struct Slot {
    /// The class of ctypes.
    class: &'static str,
    /// The methods that Python code reaches it by.
    methods: &'static [&'static str],
    field: Field,
    original: Original,
    ours: fn() -> u64,
}

impl Slot {
    const fn new(
        class: &'static str,
        methods: &'static [&'static str],
        field: Field,
        ours: fn() -> u64,
    ) -> Slot {
        Slot { class, methods, field, original: Original::new(), ours }
    }
}

static SLOTS: [Slot; 3] = [
    Slot::new("Array", &["__getitem__"], GET, || get::<Array> as Get as usize as u64),
    Slot::new("Array", &["__setitem__", "__delitem__"], SET, || set as Set as usize as u64),
    Slot::new("_Pointer", &["__getitem__"], GET, || get::<Pointer> as Get as usize as u64),
];

/// What has items.
trait Container {
    /// What gave them.
    const GET: &'static Original;

    /// Where its items begin, and which one this is; none for what ctypes raises
    /// an exception for.
    fn find(container: Object, index: i64) -> Option<(u64, u64)>;

    /// Whether ctypes finds the items at distances of the present size of their
    /// class.
    fn has_present_size(data: &Data, holder: Object, class: Object) -> bool;

    /// What a slice gives; none for what ctypes makes.
    fn slice(data: &Data, container: Object, slice: Object) -> Option<u64>;
}

struct Array;
struct Pointer;

impl Container for Array {
    const GET: &'static Original = &SLOTS[0].original;

    #[inline(always)]
    fn find(array: Object, index: i64) -> Option<(u64, u64)> {
        let length = array.word(CDATA_LENGTH);
        let index = if index < 0 { length.wrapping_add_signed(index) } else { index as u64 };
        (index < length).then(|| (array.word(CDATA_POINTER), index))
    }

    /// The class of the items may have been incomplete when that of the array was made.
    fn has_present_size(data: &Data, holder: Object, class: Object) -> bool {
        let [of_array, of_item] = [holder, class].map(|class| info(&data.layout, class));
        let [size, length] =
            [data.layout.info_size, data.layout.info_length].map(|field| of_array.word(field));
        size == of_item.word(data.layout.info_size).wrapping_mul(length)
    }

    #[inline(always)]
    fn slice(data: &Data, array: Object, slice: Object) -> Option<u64> {
        self::slice(data, array, slice)
    }
}

impl Container for Pointer {
    const GET: &'static Original = &SLOTS[2].original;

    #[inline(always)]
    fn find(pointer: Object, index: i64) -> Option<(u64, u64)> {
        target(pointer).map(|memory| (memory, index as u64))
    }

    fn has_present_size(_: &Data, _: Object, _: Object) -> bool {
        true
    }

    fn slice(_: &Data, _: Object, _: Object) -> Option<u64> {
        None
    }
}

/// Where a pointer points to; none for null.
#[inline(always)]
fn target(pointer: Object) -> Option<u64> {
    let memory = pointer.object(CDATA_POINTER)?.word(MEMORY_WORD);
    (memory != 0).then_some(memory)
}

/// What a slice is made of: start, stop and step.
const SLICE: [Field; 3] = [
    Field::new("slice.start", 16, Mem::I64),
    Field::new("slice.stop", 24, Mem::I64),
    Field::new("slice.step", 32, Mem::I64),
];

/// The slots of the base classes, their wrappers, and the getter.
pub(super) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    let ctypes = make::import(py, "_ctypes")?;
    let mut places = Vec::new();
    for Slot { class, methods, field, original, ours } in &SLOTS {
        let of_class = ctypes.attr(*class)?;
        let missing =
            || make::error::<PyRuntimeError>(py, &format!("{class} has no slots for items"));
        let slots = handle(&of_class).object(TYPE_AS_MAPPING).ok_or_else(missing)?;
        places.push(Place::new(slots, *field, original, ours()));
        for method in *methods {
            let wrapper = of_class.attr("__dict__")?.item(*method)?;
            places.push(Place::new(handle(&wrapper), layout::WRAPPER_WRAPPED, original, ours()));
        }
    }
    let descriptor = ctypes.attr("_Pointer")?.attr("__dict__")?.item("contents")?;
    if let Some(table) = handle(&descriptor).object(layout::GETSET_DEF) {
        places.push(Place::new(table, GETSET_GET, &CONTENTS, contents as Getter as usize as u64));
    }
    Ok(places)
}

/// Whether the rows hold.
pub(super) fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let ctypes = make::import(py, "_ctypes")?;
    let mut holds = true;
    for Slot { class, methods, field, .. } in &SLOTS {
        let class = ctypes.attr(*class)?;
        let slot = handle(&class).object(TYPE_AS_MAPPING).map(|slots| slots.word(*field));
        for method in *methods {
            let wrapper = class.attr("__dict__")?.item(*method)?;
            holds &= slot == Some(handle(&wrapper).word(layout::WRAPPER_WRAPPED));
        }
    }
    let slice = PySlice::new(py, 300, 700, 500);
    for (field, name) in SLICE.into_iter().zip(["start", "stop", "step"]) {
        holds &= handle(&slice).word(field) == slice.attr(name)?.as_ptr() as u64;
    }
    let array = samples::array(&make::import(py, "ctypes")?.attr("c_short")?, 5)?.call0()?;
    Ok(holds && handle(&array).word(CDATA_LENGTH) == 5)
}

/// Patches a class that exists, or puts its slots back.
pub(super) fn patch(class: Object, on: bool) {
    let Some(slots) = class.object(TYPE_AS_MAPPING) else { return };
    for Slot { field, original, ours, .. } in &SLOTS {
        let (from, to) =
            if on { (original.address(), ours()) } else { (ours(), original.address()) };
        if from != 0 && slots.word(*field) == from {
            // SAFETY: ours has the same signature and ends in the one that it stands in for.
            unsafe { slots.set(*field, to) };
        }
    }
}

/// Item `index` of the values that begin at `memory`.
#[inline(always)]
fn item<C: Container>(
    data: &Data,
    instance: Object,
    memory: u64,
    index: u64,
) -> Option<(Value, Access)> {
    let of = instance.class();
    let class = info(&data.layout, of).object(data.layout.info_proto)?;
    let holder = Holder::class(of);
    let seen = access(holder, class).filter(|access| *access != Access::Unseen);
    let access = seen.unwrap_or_else(|| learn::<C>(data, of, class));
    let size = || info(&data.layout, class).word(data.layout.info_size);
    let place = memory.wrapping_add(index.wrapping_mul(access.size().unwrap_or_else(size)));
    Some((Value { holder, class, instance, index, place }, access))
}

/// How the items of a class are accessed that is not known yet, or of which ctypes
/// has given none: its class may have become another size since, which in 3.11 changes
/// no version of a union's.
#[cold]
fn learn<C: Container>(data: &Data, of: Object, class: Object) -> Access {
    let holder = Holder::class(of);
    if C::has_present_size(data, of, class) {
        return access::learn(holder, class);
    }
    access::put(holder, class, Access::None);
    Access::None
}

/// The value at a subscript, if it can be found here.
#[inline(always)]
fn find<C: Container>(data: &Data, container: Object, item: Object) -> Option<(Value, Access)> {
    let (memory, index) = C::find(container, data.small_int(item)?)?;
    self::item::<C>(data, container, memory, index)
}

unsafe extern "C-unwind" fn get<C: Container>(this: u64, item: u64) -> u64 {
    // SAFETY: kept from the slots in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Get>(C::GET.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    let ctypes = || unsafe { original(this, item) };
    // SAFETY: CPython calls with an instance and an object.
    let [container, item] = [this, item].map(|address| unsafe { Object::at(address) });
    let Some(data) = data() else { return ctypes() };
    match find::<C>(data, container, item) {
        Some((value, access)) => value.get(access, ctypes),
        None => C::slice(data, container, item).unwrap_or_else(ctypes),
    }
}

/// A list of the items of an array that a slice of ints names; none where they
/// are not known, are text, and for what raises an exception.
#[inline(never)]
fn slice(data: &Data, array: Object, slice: Object) -> Option<u64> {
    let is_plain = |field: Field| {
        slice
            .object(field)
            .is_some_and(|bound| bound.address() == data.none || bound.word(OB_TYPE) == data.int)
    };
    if slice.word(OB_TYPE) != data.slice || !SLICE.into_iter().all(is_plain) {
        return None;
    }
    let (value, access) = item::<Array>(data, array, 0, 0)?;
    let size = access.size().unwrap_or_default();
    // What derives from a class of characters is text here, though its items are parts.
    let is_text = info(&data.layout, value.class).word(data.layout.info_getfunc) != 0;
    if access == Access::None || is_text && !access.is_simple() {
        return None;
    }
    let (mut start, mut stop, mut step) = (0, 0, 0);
    // SAFETY: a slice whose bounds run no code; what it gives is ours.
    if unsafe { capi::PySlice_Unpack(slice.address(), &mut start, &mut stop, &mut step) } != 0 {
        // SAFETY: the GIL is held; ctypes will meet the error itself.
        unsafe { capi::PyErr_Clear() };
        return None;
    }
    let length = array.word(CDATA_LENGTH) as isize;
    // SAFETY: places of ours.
    let count = unsafe { capi::PySlice_AdjustIndices(length, &mut start, &mut stop, step) };
    // For each item anew: the collector may run code that resizes the array.
    let memory = || array.word(CDATA_POINTER);
    if access.is_simple() {
        let place = |index: isize| memory().wrapping_add_signed(index as i64 * size as i64);
        return Some(list_of(start, step, count, |index| access::value(access, place(index))));
    }
    Some(list_of(start, step, count, |index| {
        let found = item::<Array>(data, array, memory(), index as u64);
        found.map_or(0, |(value, access)| value.get(access, || by_index(array, index)))
    }))
}

/// A list of what `item` gives for so many indices; 0 with an exception set.
#[inline(always)]
fn list_of(start: isize, step: isize, count: isize, item: impl Fn(isize) -> u64) -> u64 {
    // SAFETY: the GIL is held.
    let list = unsafe { capi::PyList_New(count) };
    for at in 0..if list == 0 { 0 } else { count } {
        let item = item(start + at * step);
        if item == 0 {
            // SAFETY: made above.
            unsafe { capi::Py_DecRef(list) };
            return 0;
        }
        // SAFETY: a new list, an index within it, and a reference, which it takes.
        unsafe { capi::PyList_SetItem(list, at, item) };
    }
    list
}

/// An item of an array, as ctypes gives it.
fn by_index(array: Object, index: isize) -> u64 {
    // SAFETY: the GIL is held.
    let index = unsafe { capi::PyLong_FromLong(index as u64) };
    if index == 0 {
        return 0;
    }
    // SAFETY: kept from the slots in which ours stands.
    let original =
        unsafe { std::mem::transmute::<usize, Get>(SLOTS[0].original.address() as usize) };
    // SAFETY: an array and an int.
    let item = unsafe { original(array.address(), index) };
    // SAFETY: made above.
    unsafe { capi::Py_DecRef(index) };
    item
}

/// Assigns to an item of an array. CPython assigns to what a pointer points to
/// by another slot.
unsafe extern "C-unwind" fn set(array: u64, item: u64, value: u64) -> c_int {
    if value != 0
        && let Some(data) = data()
    {
        // SAFETY: CPython calls with an array and two objects, or null to delete.
        let [container, item, assigned] =
            [array, item, value].map(|address| unsafe { Object::at(address) });
        if let Some((value, access)) = find::<Array>(data, container, item)
            && let Some(word) = word_of(data, assigned, access)
        {
            write_word(access, value.place, word);
            return 0;
        }
    }
    // SAFETY: kept from the slots in which ours stands.
    let original =
        unsafe { std::mem::transmute::<usize, Set>(SLOTS[1].original.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(array, item, value) }
}

/// The contents of a pointer are an instance, of whatever class they are.
unsafe extern "C-unwind" fn contents(this: u64, closure: u64) -> u64 {
    // SAFETY: kept from the table in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Getter>(CONTENTS.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    let ctypes = || unsafe { original(this, closure) };
    // SAFETY: CPython calls with a pointer.
    let pointer = unsafe { Object::at(this) };
    match data().and_then(|data| pointed(data, pointer)) {
        Some(value) => value.part(ctypes),
        None => ctypes(),
    }
}

#[inline(always)]
fn pointed(data: &Data, pointer: Object) -> Option<Value> {
    let of = pointer.class();
    let class = info(&data.layout, of).object(data.layout.info_proto)?;
    let holder = Holder::class(of);
    Some(Value { holder, class, instance: pointer, index: 0, place: target(pointer)? })
}
