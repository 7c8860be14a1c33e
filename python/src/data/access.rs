//! How values within instances are read and written: the fields of structures,
//! the items of arrays, and what pointers point to.
//!
//! # Safety
//! As for the module above.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use hotcall_core::CType;
use hotcall_tracer::{Field, Mem};

use super::{Data, instances};
use crate::capi;
use crate::declare::Kind;
use crate::helpers;
use crate::layout;
use crate::raw::Object;
use crate::runtime::runtime;
use crate::table::{Entry, Seen, Table};

/// What is known of a holder of values of a class. It is one that was freed, and
/// another one at its address, unless the class of its values is the same, of the
/// same version.
#[repr(align(64))]
pub(super) struct Known {
    holder: AtomicU64,
    /// Of its values.
    class: Seen,
    access: AtomicU8,
    /// That of the instance seen last, if the holder is a field: it is one of ctypes'.
    pub(super) instances: Seen,
}

impl Entry for Known {
    const EMPTY: Known = Known {
        holder: AtomicU64::new(0),
        class: Seen::EMPTY,
        access: AtomicU8::new(0),
        instances: Seen::EMPTY,
    };

    #[inline(always)]
    fn address(&self) -> &AtomicU64 {
        &self.holder
    }
}

/// What has values: a field, or a class of arrays or pointers. Ctypes gives the
/// values of fields and those of others in different ways, so they are told apart
/// even where one lies at the address of another that is gone.
#[derive(Clone, Copy)]
pub(super) struct Holder(u64);

impl Holder {
    #[inline(always)]
    pub(super) fn field(field: Object) -> Holder {
        Holder(field.address() | 1)
    }

    #[inline(always)]
    pub(super) fn class(class: Object) -> Holder {
        Holder(class.address())
    }
}

/// The holders that were seen.
static KNOWN: Table<Known, 512> = Table::new();

/// Defines [`Access`] and its numbers.
macro_rules! accesses {
    ($($name:ident $kind:pat => $mem:ident;)*) => {
        /// How a value of a class is read and written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Access {
            /// By ctypes.
            None,
            /// By ctypes, which has not yet shown what it gives.
            Unseen,
            /// As a part of the instance that has it.
            Part,
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

            /// Whether values are those of a simple type.
            #[inline(always)]
            pub(super) fn is_simple(self) -> bool {
                self as u8 > Access::Part as u8
            }

            /// Whether values are those of a simple type of integers.
            #[inline(always)]
            fn is_int(self) -> bool {
                (Access::I8 as u8..=Access::U64 as u8).contains(&(self as u8))
            }

            /// The size of the value in bytes; none if ctypes has to do it.
            pub(super) const fn size(self) -> Option<u64> {
                match self {
                    Access::None | Access::Unseen | Access::Part => None,
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

/// Forgets what was seen.
pub(super) fn forget() {
    KNOWN.iter().for_each(|known| known.holder.store(0, Relaxed));
}

/// What is known of a holder whose values are of this class.
#[inline(always)]
pub(super) fn known(holder: Holder, class: Object) -> Option<&'static Known> {
    KNOWN.find(holder.0).filter(|known| known.class.is(class))
}

/// How its values are accessed, if that is known.
#[inline(always)]
pub(super) fn access(holder: Holder, class: Object) -> Option<Access> {
    known(holder, class).map(Known::access)
}

/// The same where it is not known yet.
#[cold]
pub(super) fn learn(holder: Holder, class: Object) -> Access {
    let Some(runtime) = runtime() else { return Access::None };
    let kinds = &runtime.known.kinds;
    let kind = kinds.of_class(class).filter(|_| kinds.is_direct(class));
    let access = kind.map_or(Access::Unseen, Access::of);
    put(holder, class, access);
    access
}

/// From now on a holder's values are accessed so.
pub(super) fn put(holder: Holder, class: Object, access: Access) {
    let known = KNOWN.room(holder.0);
    known.holder.store(holder.0, Relaxed);
    known.class.see(class);
    known.instances.forget();
    known.access.store(access as u8, Relaxed);
}

impl Known {
    /// How the holder's values are accessed.
    #[inline(always)]
    pub(super) fn access(&self) -> Access {
        // SAFETY: what is stored there is the number of an access.
        unsafe { std::mem::transmute::<u8, Access>(self.access.load(Relaxed)) }
    }
}

/// A value that an instance has at a place of its memory.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) holder: Holder,
    pub(super) class: Object,
    pub(super) instance: Object,
    /// Which of the instance's values it is.
    pub(super) index: u64,
    /// Where it is.
    pub(super) place: u64,
}

impl Value {
    /// What Python gets: an object, or 0 with an exception set, as from `ctypes`,
    /// which is asked for what is not known.
    #[inline(always)]
    pub(super) fn get(self, access: Access, ctypes: impl FnOnce() -> u64) -> u64 {
        match access {
            Access::None => ctypes(),
            Access::Unseen => self.look(ctypes()),
            Access::Part => self.part(ctypes),
            _ => value(access, self.place),
        }
    }

    /// The same of what is a part of the instance.
    #[inline(always)]
    pub(super) fn part(self, ctypes: impl FnOnce() -> u64) -> u64 {
        match instances::part(self.class, self.instance, self.place, self.index) {
            0 => {
                let given = ctypes();
                self.adopt(given);
                given
            }
            part => part,
        }
    }

    /// Adopts the class of what ctypes has given, an object or 0, if that is a part
    /// of the instance, and tells whether it is.
    #[cold]
    fn adopt(self, given: u64) -> bool {
        if given == 0 {
            return false;
        }
        // SAFETY: an object that ctypes has just given.
        let part = unsafe { Object::at(given) };
        let is_part = part.word(layout::OB_TYPE) == self.class.address()
            && part.word(layout::CDATA_POINTER) == self.place
            && instances::is_part(part, self.instance, self.index);
        if is_part {
            instances::adopt(self.class);
        }
        is_part
    }

    /// Learns from what ctypes has given how values of this holder are accessed.
    #[cold]
    fn look(self, given: u64) -> u64 {
        let is_part = self.adopt(given);
        if let Some(known) = KNOWN.find(self.holder.0).filter(|_| given != 0) {
            let access = if is_part { Access::Part } else { Access::None };
            known.access.store(access as u8, Relaxed);
        }
        given
    }
}

/// The Python value of this access, which is that of a simple type, at its place
/// in an instance; 0 with an exception set if there is no memory.
#[inline(always)]
pub(super) fn value(access: Access, place: u64) -> u64 {
    // SAFETY: the memory of an instance, at a value of its; ctypes reads
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
        Access::None | Access::Unseen | Access::Part | Access::I64 => int(read(Mem::I64)),
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

/// Writes the bytes of a value of this access, which is that of a simple type, to
/// a place.
#[inline(always)]
pub(super) fn write_word(access: Access, place: u64, word: u64) {
    match access.size() {
        Some(1) => write(place, word as u8),
        Some(2) => write(place, word as u16),
        Some(4) => write(place, word as u32),
        Some(_) => write(place, word),
        None => {}
    }
}

#[inline(always)]
fn write<T>(place: u64, value: T) {
    // SAFETY: the memory of an instance, at a value of its; ctypes writes
    // it in the same way.
    unsafe { (place as *mut T).write_unaligned(value) };
}

/// The bytes of an exact int or float as a value of this access; none for what
/// ctypes converts itself.
#[inline(always)]
pub(super) fn word_of(data: &Data, value: Object, access: Access) -> Option<u64> {
    small_word_of(data, value, access).or_else(|| large_word_of(data, value, access))
}

/// The same of an int of one digit, or a float.
#[inline(always)]
pub(super) fn small_word_of(data: &Data, value: Object, access: Access) -> Option<u64> {
    let class = value.word(layout::OB_TYPE);
    if class == data.int && access.is_int() {
        return Some(data.small_int(value)? as u64);
    }
    if class != data.float {
        return None;
    }
    let word = value.word(layout::FLOAT_VALUE);
    match access {
        Access::F64 => Some(word),
        Access::F32 => Some((f64::from_bits(word) as f32).to_bits().into()),
        _ => None,
    }
}

/// The same of an int of any size.
#[inline(never)]
fn large_word_of(data: &Data, value: Object, access: Access) -> Option<u64> {
    let is_int = access.is_int() && value.word(layout::OB_TYPE) == data.int;
    // SAFETY: an exact int, and the GIL is held; it is taken modulo 2^64.
    is_int.then(|| unsafe { capi::PyLong_AsUnsignedLongLongMask(value.address()) })
}
