//! Classes that die: what was kept of their instances is freed, and their entries are
//! given up.
//!
//! A *witness* tells: an object that dies with its class, and whose destructor is replaced.
//! From 3.13 on it is the class, whose metaclass derives from one that all of ctypes' have
//! in common. Before that there is none but `type`, and CPython compares the destructors of
//! metaclasses when `__class__` of a class is assigned to. So it is the class's dictionary,
//! which is of a class of ctypes' own. Where a program keeps the dictionary, the entry may
//! be another class's before: nobody looks at a class for what was kept of it.

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::*;
use crate::hook::{self, Original, Place};
use crate::kinds::handle;
use crate::layout::{InfoHome, Layout, TYPE_DICT};

static DEALLOC: Original = Original::new();

/// The witness of a class of ctypes.
pub(super) fn witness(layout: &Layout, class: Object) -> Object {
    match layout.info_home {
        InfoHome::Dict => class.object(TYPE_DICT).unwrap_or(class),
        _ => class,
    }
}

/// The slot of the destructor that witnesses have in common. None if it is everybody's.
///
/// # Errors
/// What a look-up raised.
pub(in super::super) fn places(py: Python<'_>, data: &Data) -> PyResult<Option<Place>> {
    let Some(stock) = stock() else { return Ok(None) };
    let of_all = handle(py.get_type::<PyType>().as_any());
    let c_int = handle(hook::stock(py)?.c_int.bind(py).as_any());
    let class = witness(&data.layout, c_int).class();
    let owner = std::iter::successors(Some(class), |base| base.object(TYPE_BASE))
        .find(|base| base.word(TYPE_DEALLOC) != stock.of_classes)
        .filter(|owner| owner.word(TYPE_DEALLOC) != of_all.word(TYPE_DEALLOC));
    let ours = dealloc as Destructor as usize as u64;
    Ok(owner.map(|owner| Place::new(owner, TYPE_DEALLOC, &DEALLOC, ours)))
}

/// The destructor of witnesses.
unsafe extern "C-unwind" fn dealloc(witness: u64) {
    let is_its = |place: &&Class| place.witness.load(Relaxed) == witness;
    for place in CLASSES.iter().filter(is_its) {
        place.kept.free(free_memory);
        place.address.store(0, Relaxed);
        place.witness.store(0, Relaxed);
    }
    // SAFETY: kept from the slot in which ours stands.
    let original = unsafe { std::mem::transmute::<usize, Destructor>(DEALLOC.address() as usize) };
    // SAFETY: the argument that CPython gave us.
    unsafe { original(witness) };
}
