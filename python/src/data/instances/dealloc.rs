//! The destructor of adopted classes: frees or keeps what is bare, and leaves all
//! else to CPython's.

use super::*;
use crate::instance;
use crate::layout::OB_COUNT;

/// How many destructors may run within each other. Beyond them CPython's are
/// used, which know how to delay what nests too deep.
const DEPTH: u32 = 20;

/// How many destructors of ours run within each other.
static NESTED: AtomicU32 = AtomicU32::new(0);

impl Class {
    /// Whether an instance has no weak references, no attributes that cannot be
    /// given up here, and its class no finaliser.
    #[inline(always)]
    fn is_bare(&self, stock: &Stock, instance: Object, class: Object) -> bool {
        let weak = Field::new("weak", self.weak.load(Relaxed) as i32, Mem::I64);
        !instance::has_finaliser(class)
            && instance.word(weak) == 0
            && (instance.word(DICT) | instance.word(VALUES) == 0 || stock.clear_dict.is_some())
    }

    /// Whether there is nothing of attributes in an instance, nor has been.
    #[inline(always)]
    fn is_undressed(&self, instance: Object) -> bool {
        let values = Field::new("values", self.values.load(Relaxed) as i32, Mem::U32);
        instance.word(DICT) == 0
            && (values.offset == 0 || instance.word(values) & !0xff == NO_VALUES)
    }
}

/// The destructor of the classes that are adopted.
pub(super) unsafe extern "C-unwind" fn dealloc(this: u64) {
    // SAFETY: CPython calls with an object; it has a class.
    let instance = unsafe { Object::at(this) };
    let class = instance.class();
    let Some(stock) = stock() else { return };
    match known(class).filter(|place| place.is_bare(stock, instance, class)) {
        Some(place) if NESTED.load(Relaxed) < DEPTH && IS_ON.load(Relaxed) => {
            place.left.store(0, Relaxed);
            free(stock, place, instance, class);
        }
        _ => leave(stock, instance, class),
    }
}

/// Frees a bare instance, or keeps it.
#[inline(always)]
fn free(stock: &Stock, place: &Class, instance: Object, class: Object) {
    // SAFETY: an object of a class that the collector looks after.
    unsafe { capi::PyObject_GC_UnTrack(instance.address()) };
    let is_clear = place.is_undressed(instance) && instance.word(CDATA_OBJECTS) == 0;
    let place = if is_clear { Some(place) } else { clear(stock, place, instance, class) };
    let base = instance.word(CDATA_BASE);
    if instance.word(CDATA_NEEDS_FREE) != 0
        && instance.word(CDATA_POINTER) != instance.address() + CDATA_VALUE.offset as u64
    {
        // SAFETY: the memory that ctypes allocated for the instance.
        unsafe { capi::PyMem_Free(instance.word(CDATA_POINTER)) };
    }
    if !place.is_some_and(|place| place.kept.push(instance, class)) {
        // SAFETY: nobody refers to the object any more.
        unsafe { function(stock.free)(instance.address()) };
        // SAFETY: the instance's reference.
        unsafe { raw::release(class.address()) };
    }
    if base != 0 {
        give_up(base);
    }
}

/// Gives up the attributes of an instance, and what it keeps alive. What is known of
/// its class after that, as code may have run, if it may be kept.
#[inline(never)]
fn clear(stock: &Stock, place: &Class, instance: Object, class: Object) -> Option<&'static Class> {
    let dressed = !place.is_undressed(instance);
    if let Some(clear_dict) = stock.clear_dict.filter(|_| dressed) {
        // SAFETY: an object of a class with such a dictionary.
        unsafe { clear_dict(instance.address()) };
    }
    let objects = instance.word(CDATA_OBJECTS);
    if objects != 0 {
        // SAFETY: nobody refers to the instance any more.
        unsafe { instance.set(CDATA_OBJECTS, 0) };
        give_up(objects);
    }
    known(class).filter(|place| place.is_undressed(instance))
}

/// Gives up an instance's reference to another object.
#[inline(always)]
fn give_up(object: u64) {
    // SAFETY: the reference keeps it alive.
    if unsafe { Object::at(object) }.word(OB_COUNT) as i32 > 1 {
        // SAFETY: a reference of an instance that is being freed; not the last one.
        unsafe { raw::release(object) };
    } else {
        give_up_last(object);
    }
}

/// The same of what may be the last reference.
#[inline(never)]
fn give_up_last(object: u64) {
    NESTED.store(NESTED.load(Relaxed) + 1, Relaxed);
    // SAFETY: a reference of an instance that is being freed.
    unsafe { raw::release(object) };
    NESTED.store(NESTED.load(Relaxed) - 1, Relaxed);
}

/// Leaves an instance to CPython's destructor.
#[cold]
fn leave(stock: &Stock, instance: Object, class: Object) {
    if class.word(TYPE_DEALLOC) != ours() {
        return leave_derived(stock, instance, class);
    }
    // The class may die with its last instance, and Python code may run.
    raw::hold(class);
    // SAFETY: what stood there.
    unsafe { class.set(TYPE_DEALLOC, stock.of_classes) };
    // SAFETY: the destructor of this class, and what it was called with.
    unsafe { function(stock.of_classes)(instance.address()) };
    let is_deep = NESTED.load(Relaxed) >= DEPTH;
    if let Some(place) = CLASSES.find(class.address()).filter(|_| IS_ON.load(Relaxed)) {
        let left = place.left.load(Relaxed) + u32::from(!is_deep);
        place.left.store(left.min(PATIENCE), Relaxed);
        if left < PATIENCE && data().is_some_and(|data| is_usual(data, stock, class)) {
            // SAFETY: as in `adopt`.
            unsafe { class.set(TYPE_DEALLOC, ours()) };
        }
        if class.word(TYPE_DEALLOC) != ours() {
            place.kept.free(free_memory);
        }
    }
    // SAFETY: the reference from above.
    unsafe { raw::release(class.address()) };
}

/// Does for an instance of a class that derives from an adopted one what
/// CPython's destructor does when it has cleared what the derived class added:
/// the adopted class has only added what all of its instances have. There is such
/// a class only in another interpreter, made after the hook was taken out in this one.
fn leave_derived(stock: &Stock, instance: Object, class: Object) {
    let this = instance.address();
    // Callbacks of weak references may run the collector, which must not see it.
    // SAFETY: an object of a class that the collector looks after.
    unsafe { capi::PyObject_GC_UnTrack(this) };
    if class.word(TYPE_WEAK) != 0 {
        // SAFETY: an object that may have weak references.
        unsafe { capi::PyObject_ClearWeakRefs(this) };
    }
    // SAFETY: as above; the destructor expects it.
    unsafe { capi::PyObject_GC_Track(this) };
    // SAFETY: the destructor of all instances of ctypes.
    unsafe { function(stock.of_instances)(this) };
    if !stock.counts_class {
        // SAFETY: the instance's reference.
        unsafe { raw::release(class.address()) };
    }
}
