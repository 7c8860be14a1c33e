//! Fields of structures and unions: the get and set slots of `_ctypes.CField`.
//!
//! # Safety
//! As for the module above.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use hotcall_core::CType;
use hotcall_tracer::{Field, Mem};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use super::{Data, data};
use crate::capi;
use crate::declare::Kind;
use crate::helpers;
use crate::hook::{Original, Place};
use crate::kinds::handle;
use crate::layout::{self, CDATA_POINTER, Int};
use crate::raw::Object;
use crate::runtime::runtime;

/// The field's distance from the start of the structure, in bytes.
const OFFSET: Field = Field::new("field.offset", 16, Mem::I64);
/// The field's size in bytes, and more than that for a bit field up to 3.13.
const SIZE: Field = Field::new("field.size", 24, Mem::I64);
/// The field's class.
const CLASS: Field = Field::new("field.class", 40, Mem::I64);
/// A getter and a setter of the field's own, as arrays of characters have.
const GETTER: Field = Field::new("field.getter", 48, Mem::I64);
const SETTER: Field = Field::new("field.setter", 56, Mem::I64);
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
    let dict = class.getattr("__dict__")?;
    let (get, set) = (get as Get as usize as u64, set as Set as usize as u64);
    let mut places = vec![
        Place::new(handle(class.as_any()), TYPE_DESCR_GET, &GET, get),
        Place::new(handle(class.as_any()), TYPE_DESCR_SET, &SET, set),
    ];
    for (name, original, ours) in
        [("__get__", &GET, get), ("__set__", &SET, set), ("__delete__", &SET, set)]
    {
        let wrapper = dict.get_item(name)?;
        places.push(Place::new(handle(&wrapper), layout::WRAPPER_WRAPPED, original, ours));
    }
    Ok(places)
}

/// Whether the rows hold for a plain field, a bit field, an anonymous field and
/// an array of characters.
pub(super) fn rows_hold(py: Python<'_>) -> PyResult<bool> {
    let ctypes = py.import("ctypes")?;
    let (c_short, c_char) = (ctypes.getattr("c_short")?, ctypes.getattr("c_char")?);
    let inner = PyDict::new(py);
    inner.set_item("_fields_", [("i", &c_short)])?;
    let structure = ctypes.getattr("Structure")?;
    let make = structure.get_type();
    let inner = make.call1(("Inner", (&structure,), inner))?;
    let attributes = PyDict::new(py);
    let list = pyo3::types::PyList::empty(py);
    list.append(("a", &c_short))?;
    list.append(("plain", &c_short))?;
    list.append(("bits", &c_short, 3))?;
    list.append(("text", c_char.mul(4)?))?;
    list.append(("inner", &inner))?;
    attributes.set_item("_fields_", list)?;
    attributes.set_item("_anonymous_", ["inner"])?;
    let outer = make.call1(("Outer", (structure,), attributes))?;
    let field = |name: &str| outer.getattr(name);
    let plain = handle(&field("plain")?).is_plain_field(Some(2));
    let special = ["bits", "text", "inner"].map(field);
    let class = field("plain")?.get_type().unbind();
    CLASS_OF_FIELDS.get_or_init(py, || class);
    let mut holds = plain && handle(&field("plain")?).word(OFFSET) == 2;
    holds &= handle(&field("plain")?).word(CLASS) == c_short.as_ptr() as u64;
    for field in special {
        let field = field?;
        let size = field.getattr("size")?.extract().unwrap_or(0);
        holds &= !handle(&field).is_plain_field(Some(size)) || size > 1 << 16;
    }
    Ok(holds)
}

impl Object {
    /// Whether this field is a plain one of so many bytes.
    #[inline(always)]
    fn is_plain_field(self, size: Option<u64>) -> bool {
        size.is_none_or(|size| self.word(SIZE) == size)
            && self.word(GETTER) | self.word(SETTER) | self.word(SPECIAL) == 0
    }
}

/// What is known of a field. It is one that was freed, and another one at its
/// address, unless its class is the same, of the same version.
#[repr(align(32))]
struct Known {
    field: AtomicU64,
    class: AtomicU64,
    version: AtomicU32,
    access: AtomicU8,
}

/// The fields that were seen, by a hash of their addresses.
static KNOWN: [Known; 512] = [const {
    Known {
        field: AtomicU64::new(0),
        class: AtomicU64::new(0),
        version: AtomicU32::new(0),
        access: AtomicU8::new(0),
    }
}; 512];

/// Defines [`Access`] and its numbers.
macro_rules! accesses {
    ($($name:ident $kind:pat => $mem:ident;)*) => {
        /// How the value of a field of a simple type is read and written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        enum Access {
            /// By ctypes.
            None,
            $($name,)*
        }

        impl Access {
            /// That of a simple type whose values are Python values.
            fn of(kind: Kind) -> Access {
                match kind {
                    $($kind => Access::$name,)*
                    _ => Access::None,
                }
            }

            /// The access of this number.
            #[inline(always)]
            const fn from_number(number: u8) -> Access {
                match number {
                    $(number if number == Access::$name as u8 => Access::$name,)*
                    _ => Access::None,
                }
            }

            /// The size of the value in bytes; none if ctypes has to do it.
            const fn size(self) -> Option<u64> {
                match self {
                    Access::None => None,
                    $(Access::$name => Some(Mem::$mem.size() as u64),)*
                }
            }
        }
    };
}

accesses! {
    I8 Kind::Int(CType::I8) => I8;
    U8 Kind::Int(CType::U8) => U8;
    I16 Kind::Int(CType::I16) => I16;
    U16 Kind::Int(CType::U16) => U16;
    I32 Kind::Int(CType::I32) => I32;
    U32 Kind::Int(CType::U32) => U32;
    I64 Kind::Int(CType::I64) => I64;
    U64 Kind::Int(CType::U64) => I64;
    F32 Kind::F32 => F32;
    F64 Kind::F64 => F64;
    Bool Kind::Bool => U8;
    VoidP Kind::VoidP => I64;
}

/// How a field's value is accessed.
#[inline(always)]
fn access(field: Object) -> Access {
    let Some(class) = field.object(CLASS) else { return Access::None };
    let version = class.word(layout::TYPE_VERSION) as u32;
    let known = &KNOWN[(field.address() >> 4) as usize % KNOWN.len()];
    let is_known = known.field.load(Relaxed) == field.address()
        && known.class.load(Relaxed) == class.address()
        && known.version.load(Relaxed) == version
        && version != 0;
    let access = match is_known {
        true => Access::from_number(known.access.load(Relaxed)),
        false => learn(known, field, class, version),
    };
    match field.is_plain_field(access.size()) {
        true => access,
        false => Access::None,
    }
}

#[cold]
fn learn(known: &Known, field: Object, class: Object, version: u32) -> Access {
    let Some(runtime) = runtime() else { return Access::None };
    let kinds = &runtime.known.kinds;
    let kind = kinds.of_class(class).filter(|_| kinds.is_direct(class));
    let access = kind.map_or(Access::None, Access::of);
    known.field.store(field.address(), Relaxed);
    known.class.store(class.address(), Relaxed);
    known.version.store(version, Relaxed);
    known.access.store(access as u8, Relaxed);
    access
}

/// The place of a field in an instance, if it is one of ctypes.
#[inline(always)]
fn place(data: &Data, field: Object, instance: Object) -> Option<u64> {
    // Other objects may be smaller than what is read here.
    let is_instance = data.is_instance(instance);
    is_instance.then(|| instance.word(CDATA_POINTER).wrapping_add(field.word(OFFSET)))
}

/// The Python value of a field of this access, which is not by ctypes, at its
/// place in an instance; 0 with an exception set if there is no memory.
#[inline(always)]
fn value(access: Access, place: u64) -> u64 {
    // SAFETY: the memory of an instance, at a field of its class; ctypes reads
    // it in the same way.
    let memory = unsafe { Object::at(place) };
    // Of a type that is known here, so that each is one load.
    let read = |mem: Mem| memory.word(Field::new("value", 0, mem));
    // SAFETY: what makes an object of a word needs the GIL, which is held.
    let int = |word: u64| unsafe { capi::PyLong_FromLong(word) };
    // SAFETY: as above.
    let float = |value: f64| unsafe { capi::PyFloat_FromDouble(value) };
    match access {
        Access::I8 => int(read(Mem::I8)),
        Access::U8 => int(read(Mem::U8)),
        Access::I16 => int(read(Mem::I16)),
        Access::U16 => int(read(Mem::U16)),
        Access::I32 => int(read(Mem::I32)),
        Access::U32 => int(read(Mem::U32)),
        Access::None | Access::I64 => int(read(Mem::I64)),
        // SAFETY: as above.
        Access::U64 => unsafe { capi::PyLong_FromUnsignedLong(read(Mem::I64)) },
        Access::F64 => float(f64::from_bits(read(Mem::F64))),
        Access::F32 => float(f32::from_bits(read(Mem::F32) as u32).into()),
        // SAFETY: as above.
        Access::Bool => unsafe { capi::PyBool_FromLong(read(Mem::U8)) },
        // SAFETY: as above.
        Access::VoidP => unsafe { helpers::from_void_p(read(Mem::I64)) },
    }
}

unsafe extern "C-unwind" fn get(field: u64, instance: u64, class: u64) -> u64 {
    if instance != 0
        && let Some(data) = data()
    {
        // SAFETY: CPython calls with a field, and an object unless it is null.
        let [descriptor, object] = [field, instance].map(|one| unsafe { Object::at(one) });
        let access = access(descriptor);
        if access != Access::None
            && let Some(place) = place(data, descriptor, object)
        {
            return value(access, place);
        }
    }
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Get>(GET.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(field, instance, class) }
}

/// Assigns to a field; none for what ctypes does itself.
#[inline(always)]
fn assign(field: Object, instance: Object, value: Object) -> Option<()> {
    let access = access(field);
    let data = data()?;
    let word = word_of(data, value, access)?;
    let place = place(data, field, instance)?;
    match access.size()? {
        1 => write(place, word as u8),
        2 => write(place, word as u16),
        4 => write(place, word as u32),
        _ => write(place, word),
    }
    Some(())
}

#[inline(always)]
fn write<T>(place: u64, value: T) {
    // SAFETY: the memory of an instance, at a field of its class; ctypes writes
    // it in the same way.
    unsafe { (place as *mut T).write_unaligned(value) };
}

unsafe extern "C-unwind" fn set(field: u64, instance: u64, value: u64) -> c_int {
    if instance != 0 && value != 0 {
        // SAFETY: CPython calls with a field, and two objects unless one is null.
        let [descriptor, object, assigned] =
            [field, instance, value].map(|address| unsafe { Object::at(address) });
        if assign(descriptor, object, assigned).is_some() {
            return 0;
        }
    }
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Set>(SET.address() as usize) };
    // SAFETY: the arguments that CPython gave us.
    unsafe { original(field, instance, value) }
}

/// The bytes of an exact int or float as the value of a field; none for what
/// ctypes converts itself.
#[inline(always)]
fn word_of(data: &Data, value: Object, access: Access) -> Option<u64> {
    let class = value.word(layout::OB_TYPE);
    match access {
        Access::None | Access::Bool | Access::VoidP => None,
        Access::F64 if class == data.float => Some(value.word(layout::FLOAT_VALUE)),
        Access::F32 if class == data.float => {
            let double = f64::from_bits(value.word(layout::FLOAT_VALUE));
            Some((double as f32).to_bits().into())
        }
        Access::F64 | Access::F32 => None,
        _ if class == data.int => Some(integer(data, value)),
        _ => None,
    }
}

/// An exact int modulo 2^64.
#[inline]
fn integer(data: &Data, value: Object) -> u64 {
    let size = value.word(layout::INT_SIZE);
    let digit = value.word(layout::INT_DIGIT);
    match data.layout.int {
        Int::Signed if size.wrapping_add(1) < 3 => size.wrapping_mul(digit),
        Int::Tagged if size < 16 => 1_u64.wrapping_sub(size & 3).wrapping_mul(digit),
        // SAFETY: an exact int, and the GIL is held.
        _ => unsafe { capi::PyLong_AsUnsignedLongLongMask(value.address()) },
    }
}
