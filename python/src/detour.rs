//! Arguments that Python code has to run for: a `from_param` that is not
//! ctypes' own, and `_as_parameter_`.
//!
//! A call with such an argument takes a *detour*. The rules take the arguments
//! before it, so that it is sure that ctypes would convert them. Then Python
//! converts the one argument, and the call goes on with the outcome through a
//! *relay*: a function object with the address, the result type and the
//! converters of the function at hand, but for those that have run. Relays have
//! sites and stubs like other functions, so that each further argument of the
//! kind is one more detour.
//!
//! What fails, fails in ctypes: a relay is given a stand-in for the argument.
//!
//! # Safety
//! The helper is called by a trace, or by the rules, with the words of a call:
//! its objects stay alive until it returns, and the GIL is held.

#![allow(unsafe_code, reason = "passes raw objects to Python code and to ctypes")]

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

use hotcall_tracer::{Effect, Entry, Helper, Symbol};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use smallvec::SmallVec;

use crate::capi;
use crate::declare::{FUNCTION_FLAGS, info};
use crate::hook;
use crate::instance;
use crate::kinds::handle;
use crate::layout::{self, CDATA_POINTER, MEMORY_WORD};
use crate::levels;
use crate::make::{self, Make, Named};
use crate::parameters::{self, Parameters};
use crate::profile;
use crate::raw::{Bag, Object, Owned};
use crate::refusals;
use crate::runtime::runtime;
use crate::stand_in;

/// What Python code does with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ahead {
    /// The converter at this address is called with it.
    Convert(u64),
    /// Its `_as_parameter_` is looked up. If there is a class at the address,
    /// which is not 0, the value has to be an instance of it or a reference.
    LookUp(u64),
    /// All arguments are built as the function's parameters say.
    Build,
}

/// Which argument, and what is done with it.
pub(crate) type Key = (usize, Ahead);

/// One way round: the argument, and the relay that goes on behind it.
#[derive(Debug)]
pub(crate) struct Detour {
    key: Key,
    relay: Owned,
    /// For [`Ahead::Build`].
    parameters: Parameters,
}

/// What makes the rest of one call.
#[derive(Clone, Copy)]
struct Behind {
    /// All calls of the function that take the detour share it.
    relay: Object,
    /// The address that the function had when this call began.
    target: u64,
}

/// The detours of a function that have been made. The function owns the
/// relays: the garbage collector is shown them as the function's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detours(Arc<Mutex<BTreeMap<Key, Arc<Detour>>>>);

/// Takes a detour: words are the [`Detour`], the function, its arguments, and
/// the number of arguments in the low 16 bits below a bit for each argument
/// whose value lies in memory that Python code may change. Gives the result.
pub(crate) static TAKE: Helper =
    Helper { name: "detour", entry: Entry::WWWWW(take), effect: Effect::Effect };

/// The bit of the first argument in the last word of [`TAKE`].
pub(crate) const FIRST_COPIED: usize = 16;
/// As many arguments have a bit there.
pub(crate) const MOST_COPIED: usize = 48;

impl Detours {
    /// The detour of this key as rules see it, if it has been made.
    pub(crate) fn find(&self, key: Key) -> Option<Symbol> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = Arc::as_ptr(made.get(&key)?) as u64;
        Some(Symbol { name: "detour".into(), address })
    }

    /// Makes the detour of this key for `function`.
    ///
    /// # Errors
    /// What Python raised.
    pub(crate) fn make(
        &self,
        py: Python<'_>,
        function: Object,
        parameters: Parameters,
        key: Key,
    ) -> PyResult<()> {
        let relay = relay(py, function, key)?;
        let runtime = runtime().expect("there are rules");
        if let Some(policy) = runtime.chosen(py, function) {
            runtime.choose(&relay.object().bound(py), Some(policy))?;
        }
        let detour = Arc::new(Detour { key, relay, parameters });
        // Another thread may have made it meanwhile, and stubs that lead to it.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(key).or_insert_with(|| Arc::clone(&detour));
        drop(made);
        drop(detour);
        Ok(())
    }

    /// Shows `visit` each relay.
    pub(crate) fn visit(&self, mut visit: impl FnMut(u64)) {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.values().for_each(|detour| visit(detour.relay.object().address()));
    }
}

/// A function object that goes on where `function` takes the detour.
fn relay(py: Python<'_>, function: Object, (index, ahead): Key) -> PyResult<Owned> {
    let reader = runtime().expect("there are rules").reader();
    let rows = reader.layout;
    let of = |own, of_class| reader.own_or(function, own, of_class).map(Owned::of);
    let mut declared = vec![
        (layout::FUNC_RESTYPE, of(layout::FUNC_RESTYPE, rows.info_restype)),
        (layout::FUNC_CHECKER, of(layout::FUNC_CHECKER, rows.info_checker)),
    ];
    let converters = of(layout::FUNC_CONVERTERS, rows.info_converters);
    let class = function.class();
    let flags = info(rows, class).word(rows.info_flags) & FUNCTION_FLAGS;
    let name = hook::name(function);
    let done = if ahead == Ahead::Build { 0 } else { index + 1 };
    // All that is needed of the function has been taken: Python code may run.
    if let Some(converters) = converters {
        let behind = Owned::from(converters_behind(py, converters.object(), done)?);
        declared.push((layout::FUNC_ARGTYPES, Some(Owned::of(behind.object()))));
        declared.push((layout::FUNC_CONVERTERS, Some(behind)));
    }
    let made = relay_class(py, flags)?.call_with((0,))?;
    made.set_attr("__name__", name)?;
    for (field, object) in declared {
        if let Some(object) = object {
            // SAFETY: a field of a function object that nobody has called, and
            // that declares nothing; it takes the reference over.
            unsafe { handle(&made).set(field, object.into_address()) };
        }
    }
    Ok(Owned::from(made))
}

/// The converters of a relay: of the first `done`, those that are not ctypes'
/// own have run.
fn converters_behind<'py>(
    py: Python<'py>,
    converters: Object,
    done: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let kinds = &runtime().expect("there are rules").known.kinds;
    let passed = stand_in::converter(py)?;
    let behind = converters.items().into_iter().enumerate().map(|(place, converter)| {
        match place < done && kinds.of_converter(converter).is_none() {
            true => passed.clone(),
            false => converter.bound(py),
        }
    });
    Ok(make::tuple(py, behind)?.into_any())
}

/// The classes of relays, which live as long as the process.
static RELAY_CLASSES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Whether a function is a relay: its calls are part of another one's.
pub(crate) fn is_relay(function: Object) -> bool {
    let known = RELAY_CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    known.contains(&function.word(layout::OB_TYPE))
}

/// The class of relays with these flags. It is not the function's own, so that
/// a relay keeps nothing of the program alive but what the function does.
pub(crate) fn relay_class(py: Python<'_>, flags: u64) -> PyResult<Bound<'_, PyAny>> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || make::dict(py).map(Bound::unbind))?.bind(py);
    if let Some(class) = classes.get_item(flags.make(py)?)? {
        return Ok(class);
    }
    let attributes = make::dict(py)?;
    attributes.put("_flags_", flags)?;
    let stock = hook::stock(py)?;
    attributes.put("_restype_", &stock.c_int)?;
    let base = stock.function.bind(py);
    let class = base.get_type().call_with(("Relay", (base,), attributes))?;
    let mut known = RELAY_CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    known.push(handle(&class).address());
    drop(known);
    classes.put(flags, &class)?;
    Ok(class)
}

unsafe extern "C-unwind" fn take(detour: u64, this: u64, args: u64, packed: u64) -> u64 {
    let detour = detour as *const Detour;
    // SAFETY: the declaration whose rules name the detour is in force, and
    // keeps it until Python code runs.
    unsafe { Arc::increment_strong_count(detour) };
    // SAFETY: the count that was added.
    let detour = ManuallyDrop::new(unsafe { Arc::from_raw(detour) });
    let count = packed & ((1 << FIRST_COPIED) - 1);
    // SAFETY: the rules counted the arguments of this call.
    let args = unsafe { std::slice::from_raw_parts(args as *const u64, count as usize) };
    // SAFETY: the function that is being called.
    let this = unsafe { Object::at(this) };
    let (mut copies, mut bag) = (Bag::default(), Bag::default());
    let copied = packed >> FIRST_COPIED;
    let result = go_round(&detour, this, args, copied, &mut copies, &mut bag);
    // The class may have got a finaliser meanwhile, which is not for copies.
    copies.empty_but(|copy| instance::has_finaliser(copy.class()));
    bag.empty();
    drop(ManuallyDrop::into_inner(detour));
    result.map_or(0, Owned::into_address)
}

/// Converts the detour's argument and calls its relay; none with an exception
/// set. What is held meanwhile is in `bag`, but for the `copies` of arguments.
fn go_round(
    detour: &Detour,
    this: Object,
    args: &[u64],
    copied: u64,
    copies: &mut Bag,
    bag: &mut Bag,
) -> Option<Owned> {
    let (index, ahead) = detour.key;
    // The program may point the function elsewhere, and call it, meanwhile.
    let behind = Behind { relay: detour.relay.object(), target: memory(this).word(MEMORY_WORD) };
    let needed = match ahead {
        Ahead::Build => {
            return detour.parameters.call(this, args, bag, |args| behind.enter(args));
        }
        Ahead::Convert(needed) | Ahead::LookUp(needed) => needed,
    };
    if needed != 0 {
        // SAFETY: the declaration keeps it until Python code runs.
        bag.hold(Owned::of(unsafe { Object::at(needed) }));
    }
    let mut items = SmallVec::<[u64; 16]>::from_slice(args);
    let bits = 0..args.len().min(MOST_COPIED);
    for index in bits.filter(|index| copied >> index & 1 != 0) {
        // SAFETY: an argument of this call, a ctypes instance.
        let copy = instance::copy(unsafe { Object::at(args[index]) })?;
        items[index] = copies.hold(copy).address();
    }
    // SAFETY: an argument of this call.
    let argument = unsafe { Object::at(args[index]) };
    let (value, by_rules) = outcome(argument, ahead)?;
    let is_number = matches!(ahead, Ahead::Convert(_)) && is_odd_int(value.object());
    items[index] = if is_number { number(value, bag)? } else { bag.hold(value) }.address();
    match by_rules {
        true => behind.enter(&items),
        false => behind.leave_to_ctypes(&items, bag),
    }
}

/// What an argument has become, and whether rules may go on with it. None, with
/// an exception set, if there is no memory.
fn outcome(argument: Object, ahead: Ahead) -> Option<(Owned, bool)> {
    // SAFETY: the GIL is held by who makes the call.
    let py = unsafe { Python::assume_attached() };
    let stand_in = match ahead {
        Ahead::Convert(converter) => match call_one(converter, argument) {
            Some(value) => return Some((value, true)),
            None => stand_in::Failed::of(py, PyErr::fetch(py)),
        },
        Ahead::LookUp(class) => {
            let outcome = match parameter_of(argument) {
                Some(value) if is_accepted(value.object(), class) => return Some((value, true)),
                Some(value) => Ok(value.object().bound(py)),
                None => Err(PyErr::fetch(py)),
            };
            stand_in::with_parameter(py, &argument.bound(py), outcome)
        }
        Ahead::Build => return None,
    };
    stand_in.map_err(|error| error.restore(py)).ok().map(|made| (Owned::from(made), false))
}

/// Calls a converter; none with an exception set.
fn call_one(converter: u64, argument: Object) -> Option<Owned> {
    // SAFETY: a callable, and an argument of this call.
    Owned::from_new(unsafe { levels::call_one(converter, argument.address()) })
}

/// Whether an object is of a class that derives from int.
fn is_odd_int(object: Object) -> bool {
    object.is_int() && runtime().is_some_and(|runtime| !runtime.known.classes.is_exact_int(object))
}

/// The number of an int, which is given up, as ctypes gives it up once it has read
/// it; the int itself if there may be an error. None if there is no memory.
fn number(int: Owned, bag: &mut Bag) -> Option<Object> {
    let mut overflow = 0;
    // SAFETY: an int, whose class is not asked.
    let value = unsafe { capi::PyLong_AsLongAndOverflow(int.object().address(), &mut overflow) };
    if overflow != 0 {
        return Some(bag.hold(int));
    }
    // SAFETY: the GIL is held.
    let number = Owned::from_new(unsafe { capi::PyLong_FromLong(value) })?;
    Some(bag.hold(number))
}

/// Looks `_as_parameter_` up; none with an exception set.
fn parameter_of(argument: Object) -> Option<Owned> {
    let name = make::AS_PARAMETER.address();
    let look = || {
        // SAFETY: an object and a str.
        unsafe { capi::PyObject_GetAttr(argument.address(), name) }
    };
    // A property may call anything.
    Owned::from_new(levels::deeper(look))
}

/// Whether rules may take `value` as ctypes takes what it has looked up.
fn is_accepted(value: Object, required: u64) -> bool {
    let Some(runtime) = runtime() else { return false };
    let class = value.class();
    let classes = &runtime.known.classes;
    if required == 0 {
        return classes.is_familiar(class);
    }
    // SAFETY: a class, and the class of an argument type in force.
    let is_instance = unsafe { capi::PyType_IsSubtype(class.address(), required) } != 0;
    is_instance || classes.is_reference(value)
}

/// The memory of a function object.
fn memory(function: Object) -> Object {
    function.object(CDATA_POINTER).expect("it has memory")
}

/// Does what may run Python code while a call of `function` is under way: if that
/// is a relay, others of its calls may have it go elsewhere.
pub(crate) fn keep_aim<R>(function: Object, act: impl FnOnce() -> R) -> R {
    let behind = Behind { relay: function, target: memory(function).word(MEMORY_WORD) };
    let outcome = act();
    if is_relay(function) {
        behind.aim();
    }
    outcome
}

impl Behind {
    /// Points the relay at the function: no Python code runs from here until it is called.
    fn aim(self) {
        // SAFETY: the memory of a function object is the address of a function.
        unsafe { memory(self.relay).set(MEMORY_WORD, self.target) };
    }

    /// Calls the relay as CPython does; none with an exception set.
    fn enter(self, items: &[u64]) -> Option<Owned> {
        let (relay, count) = (self.relay.address(), items.len() as u64);
        self.aim();
        // SAFETY: a callable and its arguments.
        Owned::from_new(unsafe { capi::PyObject_Vectorcall(relay, items.as_ptr(), count, 0) })
    }

    /// Has ctypes make the relay's call; none with an exception set.
    fn leave_to_ctypes(self, items: &[u64], bag: &mut Bag) -> Option<Owned> {
        if let Some(runtime) = runtime() {
            if runtime.is_watched() {
                profile::refused(refusals::VALUE);
            }
            runtime.count_ctypes();
        }
        let tuple = bag.hold(parameters::tuple_of(items)?).address();
        self.aim();
        // SAFETY: a function object and an exact tuple.
        let call = || unsafe { hook::ctypes_call()(self.relay.address(), tuple, 0) };
        Owned::from_new(levels::deeper(call))
    }
}
