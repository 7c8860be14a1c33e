//! Fields of structures and unions: the get and set slots of `_ctypes.CField`.
//!
//! # Safety
//! As for the module above.

use std::ffi::c_int;

use hotcall_tracer::{Field, Mem};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::access::{self, Access, Holder, Value, small_word_of, word_of, write_word};
use super::data;
use crate::hook::{Original, Place};
use crate::kinds::handle;
use crate::layout::{self, CDATA_POINTER};
use crate::make::{self, Named};
use crate::raw::Object;
use crate::samples;

/// The field's distance from the start of the structure, in bytes.
const OFFSET: Field = Field::new("field.offset", 16, Mem::I64);
/// The field's size in bytes, and for a bit field up to 3.13 at least [`BITS`].
const SIZE: Field = Field::new("field.size", 24, Mem::I64);
const BITS: u64 = 1 << 16;
/// Which field of its structure it is.
const INDEX: Field = Field::new("field.index", 32, Mem::I64);
/// The field's class.
const CLASS: Field = Field::new("field.class", 40, Mem::I64);
/// What makes a field special: it is anonymous, or a bit field from 3.14 on.
const SPECIAL: Field = Field::new("field.special", 64, Mem::U32);

/// The slots of a type for attributes that are its instances.
const TYPE_DESCR_GET: Field = Field::new("type.descr_get", 272, Mem::I64);
const TYPE_DESCR_SET: Field = Field::new("type.descr_set", 280, Mem::I64);

type Get = unsafe extern "C-unwind" fn(field: u64, instance: u64, class: u64) -> u64;
type Set = unsafe extern "C-unwind" fn(field: u64, instance: u64, value: u64) -> c_int;

/// The class of fields, which has no name in 3.11 to 3.13.
static CLASS_OF_FIELDS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

static GET: Original = Original::new();
static SET: Original = Original::new();

/// The slots, and the wrappers through which Python code calls them.
pub(super) fn places(py: Python<'_>) -> PyResult<Vec<Place>> {
    let Some(class) = CLASS_OF_FIELDS.get(py) else { return Ok(Vec::new()) };
    let class = class.bind(py);
    let dict = class.attr("__dict__")?;
    let (get, set) = (get as Get as usize as u64, set as Set as usize as u64);
    let mut places = vec![
        Place::new(handle(class.as_any()), TYPE_DESCR_GET, &GET, get),
        Place::new(handle(class.as_any()), TYPE_DESCR_SET, &SET, set),
    ];
    for (name, original, ours) in
        [("__get__", &GET, get), ("__set__", &SET, set), ("__delete__", &SET, set)]
    {
        let wrapper = dict.item(name)?;
        places.push(Place::new(handle(&wrapper), layout::WRAPPER_WRAPPED, original, ours));
    }
    Ok(places)
}

/// Whether the rows hold for a plain field, a bit field and an anonymous field.
pub(super) fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let ctypes = make::import(py, "ctypes")?;
    let c_short = ctypes.attr("c_short")?;
    let inner = make::dict(py)?;
    inner.put("_fields_", [("i", &c_short)])?;
    let structure = ctypes.attr("Structure")?;
    let inner = samples::class("Inner", &structure, &inner)?;
    let attributes = make::dict(py)?;
    let fields = (("a", &c_short), ("plain", &c_short), ("bits", &c_short, 3), ("inner", &inner));
    attributes.put("_fields_", fields)?;
    attributes.put("_anonymous_", ["inner"])?;
    let outer = samples::class("Outer", &structure, &attributes)?;
    let field = |name: &str| outer.attr(name);
    let plain = handle(&field("plain")?).is_plain_field();
    let special = ["bits", "inner"].map(field);
    let class = field("plain")?.get_type().unbind();
    CLASS_OF_FIELDS.get_or_init(py, || class);
    let mut holds = plain && handle(&field("plain")?).word(OFFSET) == 2;
    holds &= handle(&field("plain")?).word(CLASS) == c_short.as_ptr() as u64;
    for field in special {
        holds &= !handle(&field?).is_plain_field();
    }
    Ok(holds)
}

impl Object {
    /// Whether this field is none of bits, nor anonymous.
    #[inline(always)]
    fn is_plain_field(self) -> bool {
        self.word(SIZE) < BITS && self.word(SPECIAL) == 0
    }
}

/// A field's value in an instance, and how it is accessed, if all that is known.
#[inline(always)]
fn find(field: Object, instance: Object) -> Option<(Value, Access)> {
    let class = field.object(CLASS)?;
    let known = access::known(Holder::field(field), class)?;
    if !known.instances.is(instance.class()) {
        return None;
    }
    let access = if field.is_plain_field() { known.access() } else { Access::None };
    Some((value(field, class, instance), access))
}

/// The value of a field of this class in an instance.
#[inline(always)]
fn value(field: Object, class: Object, instance: Object) -> Value {
    let place = instance.word(CDATA_POINTER).wrapping_add(field.word(OFFSET));
    Value { holder: Holder::field(field), class, instance, index: field.word(INDEX), place }
}

/// The same, where some of it has to be learned.
#[cold]
fn learn(field: Object, instance: Object) -> Option<(Value, Access)> {
    let class = field.object(CLASS)?;
    // Other objects may be smaller than what is read of an instance.
    if !data()?.is_instance(instance) {
        return None;
    }
    if access::known(Holder::field(field), class).is_none() {
        access::learn(Holder::field(field), class);
    }
    access::known(Holder::field(field), class)?.instances.see(instance.class());
    find(field, instance)
}

unsafe extern "C-unwind" fn get(field: u64, instance: u64, class: u64) -> u64 {
    // SAFETY: the arguments that CPython gave us.
    match unsafe { with(field, instance, find) } {
        Some((value, access)) if access.is_simple() => access::value(access, value.place),
        // SAFETY: as above.
        Some((_, Access::Part)) => unsafe { get_part(field, instance, class) },
        // SAFETY: as above.
        Some((_, Access::None)) => unsafe { by_ctypes(field, instance, class) },
        // SAFETY: as above.
        _ => unsafe { get_unknown(field, instance, class) },
    }
}

/// Gives a field and an object, unless that is null, to a function.
#[inline(always)]
unsafe fn with<T>(
    field: u64,
    instance: u64,
    find: impl FnOnce(Object, Object) -> Option<T>,
) -> Option<T> {
    if instance == 0 {
        return None;
    }
    // SAFETY: the caller vouches for the field and the object.
    let [field, instance] = [field, instance].map(|one| unsafe { Object::at(one) });
    find(field, instance)
}

/// What ctypes gives.
#[inline(always)]
unsafe fn by_ctypes(field: u64, instance: u64, class: u64) -> u64 {
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Get>(GET.address() as usize) };
    // SAFETY: the caller vouches for the arguments.
    unsafe { original(field, instance, class) }
}

/// The value of a field that is a part. Not inlined: what is simple needs no frame.
#[inline(never)]
unsafe fn get_part(field: u64, instance: u64, class: u64) -> u64 {
    // SAFETY: the caller vouches for the arguments.
    let ctypes = || unsafe { by_ctypes(field, instance, class) };
    // SAFETY: as above.
    let [field, instance] = [field, instance].map(|one| unsafe { Object::at(one) });
    match field.object(CLASS) {
        Some(class) => value(field, class, instance).part(ctypes),
        None => ctypes(),
    }
}

/// The value of a field that is not known yet.
#[cold]
unsafe fn get_unknown(field: u64, instance: u64, class: u64) -> u64 {
    // SAFETY: the caller vouches for the arguments.
    let ctypes = || unsafe { by_ctypes(field, instance, class) };
    // SAFETY: as above.
    match unsafe { with(field, instance, learn) } {
        Some((value, access)) => value.get(access, ctypes),
        None => ctypes(),
    }
}

unsafe extern "C-unwind" fn set(field: u64, instance: u64, value: u64) -> c_int {
    if value != 0
        // SAFETY: the arguments that CPython gave us.
        && let [known, object, assigned] = [field, instance, value].map(|one| unsafe { Object::at(one) })
        && let Some((value, access)) = find(known, object)
        && let Some(data) = data()
        && let Some(word) = small_word_of(data, assigned, access)
    {
        write_word(access, value.place, word);
        return 0;
    }
    // SAFETY: the arguments that CPython gave us.
    unsafe { set_otherwise(field, instance, value) }
}

/// Assigns what is no small value, or to a field that is not known yet.
#[inline(never)]
unsafe fn set_otherwise(field: u64, instance: u64, value: u64) -> c_int {
    if value != 0
        && let Some(data) = data()
        // SAFETY: the caller vouches for the arguments.
        && let Some((place, access)) = unsafe { with(field, instance, find_or_learn) }
        // SAFETY: as above.
        && let Some(word) = word_of(data, unsafe { Object::at(value) }, access)
    {
        write_word(access, place, word);
        return 0;
    }
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Set>(SET.address() as usize) };
    // SAFETY: the caller vouches for the arguments.
    unsafe { original(field, instance, value) }
}

/// The place and the access of a field's value.
fn find_or_learn(field: Object, instance: Object) -> Option<(u64, Access)> {
    let (value, access) = find(field, instance).or_else(|| learn(field, instance))?;
    Some((value.place, access))
}
