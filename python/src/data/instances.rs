//! Instances of the classes of programs, which make them and give them up by the
//! million: parts, which share the memory of another instance, as a field that is
//! a structure, an array or a pointer gives them; and those that have memory of
//! their own, as a call of the class or of a function gives them.
//!
//! A class whose instances are seen is *adopted*: its destructor is replaced. Ours
//! frees what has nothing but its memory, its attributes and what it refers to,
//! and keeps some, which serve again. CPython keeps objects of its own classes in
//! the same way.
//!
//! A replaced destructor is seen by classes that derive from that class: CPython
//! takes it for the destructor of a built-in base, and clears only what the
//! derived class has added. So it is put back when the class is derived from.
//!
//! # Safety
//! As for the module above. CPython calls a destructor with an object that has
//! no references left.

mod dealloc;
pub(super) mod derived;
pub(super) mod dying;
mod samples;

use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use hotcall_tracer::{Field, Mem};

use dealloc::dealloc;
pub(super) use samples::rows_hold;

use super::kept::{HEAP_TYPE, Kept, LINKS};
use super::{Data, data};
use crate::capi;
use crate::declare::info;
use crate::hook::Destructor;
use crate::layout::{
    CDATA_BASE, CDATA_INDEX, CDATA_LENGTH, CDATA_NEEDS_FREE, CDATA_OBJECTS, CDATA_POINTER,
    CDATA_SIZE, CDATA_VALUE, TYPE_BASE, TYPE_DEALLOC, TYPE_DEL, TYPE_FINALIZE, TYPE_FLAGS,
    TYPE_VERSION,
};
use crate::raw::{self, Object};
use crate::table::{Entry, Table};

/// An instance's attributes, which some versions keep in the other word.
const DICT: Field = Field::new("instance.dict", -24, Mem::I64);
/// Values of attributes up to 3.11, then weak references.
const VALUES: Field = Field::new("instance.values", -32, Mem::I64);
/// The second half of the small memory within an instance.
const CDATA_VALUE_END: Field = Field::new("cdata.value_end", 88, Mem::I64);
/// The size of that memory in bytes.
const VALUE_SIZE: u64 = 16;

/// What tells of the values of attributes that lie behind an instance, in some
/// versions: four bytes, of which the second one counts them. As they are while
/// there have been none, but for the first one, which says how many there may be.
const NO_VALUES: u64 = 0x0101_0000;

/// How many words of instances are declared by `__slots__`.
const TYPE_SLOTS: Field = Field::new("type.slots", 16, Mem::I64);
const TYPE_BASIC_SIZE: Field = Field::new("type.basic_size", 32, Mem::I64);
/// Where instances have their weak references, if not before them.
const TYPE_WEAK: Field = Field::new("type.weak", 208, Mem::I64);
pub(super) const TYPE_FREE: Field = Field::new("type.free", 320, Mem::I64);
const TYPE_IS_GC: Field = Field::new("type.is_gc", 328, Mem::I64);
const TYPE_SUBCLASSES: Field = Field::new("type.subclasses", 360, Mem::I64);

/// The dictionary of an instance lies before it.
const MANAGED_DICT: u64 = 1 << 4;
/// Values of attributes lie behind it.
const INLINE_VALUES: u64 = 1 << 2;
/// How many instances in a row may be left to CPython before a class is.
const PATIENCE: u32 = 16;
/// How many instances a class must have made where the values of attributes lie
/// behind them: CPython makes less room for them from one to the next, up to 30.
const SETTLED: u32 = 40;
/// How often an entry of the table may be taken from a class that lives: so many
/// classes that share an entry do not take it from each other for ever.
const CHANGES: u32 = 4;

/// What CPython does itself.
struct Stock {
    /// The destructor of classes that are made at run time.
    of_classes: u64,
    /// That of all instances of ctypes that are no functions.
    of_instances: u64,
    /// Whether that gives up the instance's reference to its class.
    counts_class: bool,
    /// What frees an instance's own memory.
    free: u64,
    /// What gives up an instance's attributes; none before 3.13.
    clear_dict: Option<Destructor>,
}

/// It is made once and lives as long as the process.
static STOCK: AtomicPtr<Stock> = AtomicPtr::new(std::ptr::null_mut());

#[inline(always)]
fn stock() -> Option<&'static Stock> {
    // SAFETY: null, or what `rows_hold` has leaked.
    unsafe { STOCK.load(Acquire).as_ref() }
}

/// An adopted class.
struct Class {
    address: AtomicU64,
    /// What dies with it.
    witness: AtomicU64,
    /// The size of its instances' memory in bytes, and how many values these have.
    size: AtomicU64,
    length: AtomicU64,
    /// Where its instances have their weak references.
    weak: AtomicU64,
    /// Where they have what tells of values behind them; 0 if they have none.
    values: AtomicU64,
    /// Instances that were freed.
    kept: Kept,
    /// The version of the class when it was adopted last.
    version: AtomicU32,
    /// How many instances in a row were left to CPython.
    left: AtomicU32,
    /// How many instances were seen before it was adopted.
    seen: AtomicU32,
    changes: AtomicU32,
}

impl Entry for Class {
    const EMPTY: Class = Class {
        address: AtomicU64::new(0),
        witness: AtomicU64::new(0),
        size: AtomicU64::new(0),
        length: AtomicU64::new(0),
        weak: AtomicU64::new(0),
        values: AtomicU64::new(0),
        kept: Kept::new(),
        version: AtomicU32::new(0),
        left: AtomicU32::new(0),
        seen: AtomicU32::new(0),
        changes: AtomicU32::new(0),
    };

    #[inline(always)]
    fn address(&self) -> &AtomicU64 {
        &self.address
    }
}

/// The classes that are adopted. What is said of a class is true while the class
/// has our destructor.
static CLASSES: Table<Class, 256> = Table::new();

/// Whether destructors are replaced.
static IS_ON: AtomicBool = AtomicBool::new(false);

fn ours() -> u64 {
    dealloc as Destructor as usize as u64
}

/// What is known of a class, if its destructor is ours.
#[inline(always)]
fn known(class: Object) -> Option<&'static Class> {
    if class.word(TYPE_DEALLOC) == ours() { CLASSES.find(class.address()) } else { None }
}

/// Starts or stops to replace destructors. When it is stopped, that of a class
/// is put back when the next of its instances dies, if not before.
pub(super) fn switch(on: bool) {
    IS_ON.store(on, Relaxed);
}

/// Puts a class's destructor back, if it is ours.
pub(super) fn put_back(class: Object) {
    if let Some(stock) = stock().filter(|_| class.word(TYPE_DEALLOC) == ours()) {
        if let Some(place) = known(class) {
            place.kept.free(free_memory);
        }
        // SAFETY: what stood there.
        unsafe { class.set(TYPE_DEALLOC, stock.of_classes) };
    }
}

/// Adopts the class of an instance that ctypes has made, if our destructor does
/// the same for instances that are bare.
#[cold]
pub(crate) fn adopt(class: Object) {
    let known = CLASSES.find(class.address());
    let version = class.word(TYPE_VERSION) as u32;
    let is_same = known.is_some_and(|place| place.version.load(Relaxed) == version);
    let is_left = known.is_some_and(|place| is_same && place.left.load(Relaxed) == PATIENCE);
    if is_left || !IS_ON.load(Relaxed) {
        return;
    }
    let (Some(data), Some(stock)) = (data(), stock()) else { return };
    if !is_usual(data, stock, class) {
        return;
    }
    let place = known.unwrap_or_else(|| CLASSES.room(class.address()));
    if ![0, class.address()].contains(&place.address.load(Relaxed)) {
        let changes = place.changes.load(Relaxed);
        if changes == CHANGES {
            return;
        }
        place.changes.store(changes + 1, Relaxed);
    }
    // What was kept of another class, or of one that was at this address before.
    place.kept.free(free_memory);
    let seen = if is_same { place.seen.load(Relaxed) + 1 } else { 1 };
    place.seen.store(seen, Relaxed);
    place.left.store(0, Relaxed);
    place.address.store(class.address(), Relaxed);
    place.witness.store(dying::witness(&data.layout, class).address(), Relaxed);
    place.version.store(version, Relaxed);
    let info = info(&data.layout, class);
    place.size.store(info.word(data.layout.info_size), Relaxed);
    place.length.store(info.word(data.layout.info_length), Relaxed);
    place.weak.store(class.word(TYPE_WEAK), Relaxed);
    let has_values = class.word(TYPE_FLAGS) & INLINE_VALUES != 0;
    place.values.store(if has_values { class.word(TYPE_BASIC_SIZE) } else { 0 }, Relaxed);
    if !has_values || seen >= SETTLED {
        // SAFETY: ours ends in the destructor that it replaces, or does the same.
        unsafe { class.set(TYPE_DEALLOC, ours()) };
    }
}

/// Whether a class is adopted.
pub(super) fn is_adopted(class: Object) -> bool {
    known(class).is_some()
}

/// Whether a class has added to one of ctypes' own a dictionary, and nothing
/// else that its destructor would have to look after. Other interpreters may have
/// a ctypes of their own, with the same functions.
///
/// What has added no dictionary is refused for another reason too: whether
/// `__class__` can be assigned depends on its destructor.
fn is_usual(data: &Data, stock: &Stock, class: Object) -> bool {
    let flags = |class: Object| class.word(TYPE_FLAGS) & (HEAP_TYPE | MANAGED_DICT);
    let unusual = [TYPE_SLOTS, TYPE_IS_GC, TYPE_DEL, TYPE_FINALIZE, TYPE_SUBCLASSES];
    let mut base = class.object(TYPE_BASE);
    if class.word(TYPE_DEALLOC) != stock.of_classes
        || flags(class) != HEAP_TYPE | MANAGED_DICT
        || class.word(TYPE_WEAK) == 0
        || class.word(TYPE_FREE) != stock.free
        || unusual.iter().any(|field| class.word(*field) != 0)
        || base.is_none_or(|base| flags(base) & MANAGED_DICT != 0)
    {
        return false;
    }
    while let Some(above) = base {
        if above.word(TYPE_DEALLOC) != stock.of_classes {
            let is_of_ctypes = [above.address(), above.word(TYPE_BASE)].contains(&data.base);
            return above.word(TYPE_DEALLOC) == stock.of_instances
                && above.word(TYPE_WEAK) == 0
                && is_of_ctypes;
        }
        if above.word(TYPE_SLOTS) != 0 {
            return false;
        }
        base = above.object(TYPE_BASE);
    }
    false
}

/// Whether an instance of ctypes is this part of another one, and nothing else.
pub(super) fn is_part(part: Object, instance: Object, index: u64) -> bool {
    part.word(CDATA_BASE) == instance.address()
        && part.word(CDATA_INDEX) == index
        && part.word(CDATA_NEEDS_FREE) | part.word(CDATA_OBJECTS) == 0
}

/// A part of an instance, made of one that was kept; 0 if there is none.
#[inline]
pub(super) fn part(class: Object, instance: Object, pointer: u64, index: u64) -> u64 {
    let Some(place) = known(class) else { return 0 };
    let part = place.kept.wake(|_| {
        [
            (CDATA_POINTER, pointer),
            (CDATA_NEEDS_FREE, 0),
            (CDATA_BASE, instance.address()),
            (CDATA_SIZE, place.size.load(Relaxed)),
            (CDATA_LENGTH, place.length.load(Relaxed)),
            (CDATA_INDEX, index),
        ]
    });
    match part {
        Some(part) => {
            raw::hold(instance);
            part.address()
        }
        None => 0,
    }
}

/// An instance with zeroed memory of its own, made of one that was kept; none if
/// there is none, or no memory.
#[inline]
pub(crate) fn whole(class: Object) -> Option<Object> {
    let place = known(class).filter(|place| !place.kept.is_empty())?;
    let size = place.size.load(Relaxed);
    let memory = match size {
        0..=VALUE_SIZE => 0,
        // SAFETY: the GIL is held.
        _ => Some(unsafe { capi::PyMem_Calloc(1, size) }).filter(|memory| *memory != 0)?,
    };
    place.kept.wake(|whole| {
        let value = whole.address() + CDATA_VALUE.offset as u64;
        [
            (CDATA_POINTER, if memory == 0 { value } else { memory }),
            (CDATA_NEEDS_FREE, 1),
            (CDATA_BASE, 0),
            (CDATA_SIZE, size),
            (CDATA_LENGTH, place.length.load(Relaxed)),
            (CDATA_INDEX, 0),
            (CDATA_VALUE, 0),
            (CDATA_VALUE_END, 0),
        ]
    })
}

/// Frees an instance of a class that was adopted and may be dead: all of them begin in
/// memory at the words before the instance, of which the first is that of values.
unsafe extern "C-unwind" fn free_memory(instance: u64) {
    // SAFETY: what CPython allocated for an instance that nobody refers to.
    unsafe { capi::PyObject_Free(instance.wrapping_add_signed(VALUES.offset.into())) };
}

/// A destructor, or what frees an object.
fn function(address: u64) -> Destructor {
    // SAFETY: kept from a slot of this signature, or the address of such a function.
    unsafe { std::mem::transmute::<usize, Destructor>(address as usize) }
}
