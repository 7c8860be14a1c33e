//! Parameter flags: functions of a prototype, some of whose arguments are made
//! for the call, and given back as its result.
//!
//! Such a call takes a detour too: the arguments are built, in the order in
//! which ctypes builds them, a relay makes the call, and the result is built.
//!
//! # Safety
//! Called by `detour`, with a call's objects; the GIL is held.

#![allow(unsafe_code, reason = "passes raw objects to CPython")]

use std::mem::ManuallyDrop;

use hotcall_tracer::Refusal;
use smallvec::SmallVec;

use crate::capi;
use crate::classes::{Classes, Family};
use crate::declare::info;
use crate::kinds::Kinds;
use crate::layout::{self, Layout};
use crate::levels;
use crate::make;
use crate::raw::{Bag, Object, Owned};
use crate::refusals;
use crate::runtime::runtime;

const IN: u64 = 1;
const OUT: u64 = 2;
const LOCALE: u64 = 4;

/// As many parameters have a bit in the masks that ctypes makes of them.
const MOST_PARAMETERS: usize = 31;

/// Where an argument comes from, and where it goes. Addresses are of objects
/// that the function's parameter flags and argument types hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    /// The caller gives it, unless it has a default.
    In { default: Option<u64> },
    /// The same, and it is a result.
    InOut { default: Option<u64> },
    /// It is always this object, or 0 if there is none.
    Fixed(Option<u64>),
    /// It is this object, whose value is a result.
    Given(u64),
    /// It is a new instance of this array class, whose value is a result.
    Array(u64),
    /// It is a new instance of what this pointer class points to, whose value
    /// is a result.
    Target(u64),
}

/// The parameters of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Reads the parameters of a function with these argument types.
    ///
    /// # Errors
    /// The refusal of those that ctypes handles itself.
    pub(crate) fn read(
        (classes, kinds, layout): (&Classes, &Kinds, &Layout),
        flags: Object,
        argtypes: Object,
    ) -> Result<Parameters, Refusal> {
        let (flags, argtypes) = (flags.items(), argtypes.items());
        if flags.len() != argtypes.len() || flags.len() > MOST_PARAMETERS {
            return Err(refusals::PARAMFLAGS);
        }
        let read = |(flags, argtype): (Object, Object)| {
            let family = || classes.family(kinds, layout, argtype);
            let is_int = |object: Object| classes.is_exact_int(object);
            Parameter::read(&flags.items(), argtype, family, is_int)
        };
        let all = flags.into_iter().zip(argtypes).map(read).collect::<Option<_>>();
        all.map(Parameters).ok_or(refusals::PARAMFLAGS)
    }

    /// Whether a call with `count` arguments has what it needs.
    pub(crate) fn accept(&self, count: usize) -> bool {
        let given = || {
            self.0.iter().filter_map(|parameter| match parameter {
                Parameter::In { default } | Parameter::InOut { default } => Some(default),
                _ => None,
            })
        };
        count <= given().count() && given().skip(count).all(Option::is_some)
    }

    /// Whether the caller gives all arguments, and gets none of them back.
    pub(crate) fn are_plain(&self, count: usize) -> bool {
        let is_in = |parameter: &Parameter| matches!(parameter, Parameter::In { .. });
        count == self.0.len() && self.0.iter().all(is_in)
    }

    /// Makes a call by way of `call`, which is given the arguments; none with
    /// an exception set. What is held meanwhile is in `bag`.
    pub(crate) fn call(
        &self,
        this: Object,
        given: &[u64],
        bag: &mut Bag,
        call: impl FnOnce(&[u64]) -> Option<Owned>,
    ) -> Option<Owned> {
        let errcheck = this.object(layout::FUNC_ERRCHECK);
        let errcheck = errcheck.map(|errcheck| bag.hold(Owned::of(errcheck)));
        let args = self.build(given, bag)?;
        let errcheck = match errcheck {
            Some(errcheck) => Some((errcheck, bag.hold(tuple_of(&args)?))),
            None => None,
        };
        // As a bag, it has no destructor.
        let result = ManuallyDrop::new(call(&args)?);
        if let Some((errcheck, tuple)) = errcheck {
            let checked = check(errcheck, result.object(), this, tuple);
            if checked.as_ref().map(Owned::object) != Some(tuple) {
                drop(ManuallyDrop::into_inner(result));
                return checked;
            }
        }
        self.result(ManuallyDrop::into_inner(result), &args, bag)
    }

    /// The arguments of the foreign function, which `bag` holds.
    fn build(&self, given: &[u64], bag: &mut Bag) -> Option<SmallVec<[u64; 8]>> {
        // SAFETY: arguments of the call, and objects that the function holds.
        let held = |address: u64| Owned::of(unsafe { Object::at(address) });
        // Python code that makes one argument may change the function: all that
        // is needed of it is held before.
        for parameter in &self.0 {
            if let Some(needed) = parameter.needed() {
                bag.hold(held(needed));
            }
        }
        let mut given = given.iter();
        let mut args = SmallVec::new();
        for parameter in &self.0 {
            let made = match *parameter {
                Parameter::In { default } | Parameter::InOut { default } => {
                    held(given.next().copied().or(default)?)
                }
                // SAFETY: the GIL is held.
                Parameter::Fixed(None) => Owned::from_new(unsafe { capi::PyLong_FromLong(0) })?,
                Parameter::Fixed(Some(object)) | Parameter::Given(object) => held(object),
                Parameter::Array(class) => instantiate(held(class), bag)?,
                Parameter::Target(class) => instantiate(target(held(class).object())?, bag)?,
            };
            args.push(bag.hold(made).address());
        }
        Some(args)
    }

    /// The arguments that are results, one by itself or a tuple; the result if
    /// there are none. ctypes gives the result up before it asks for them.
    fn result(&self, result: Owned, args: &[u64], bag: &mut Bag) -> Option<Owned> {
        let are_results = |(parameter, _): &(&Parameter, &u64)| {
            !matches!(parameter, Parameter::In { .. } | Parameter::Fixed(_))
        };
        let results: SmallVec<[(&Parameter, &u64); 8]> =
            self.0.iter().zip(args).filter(are_results).collect();
        if results.is_empty() {
            return Some(result);
        }
        drop(result);
        let mut outcomes = SmallVec::<[u64; 8]>::new();
        for &(parameter, &arg) in &results {
            // SAFETY: an argument, which the bag holds.
            let arg = unsafe { Object::at(arg) };
            let outcome = match parameter {
                Parameter::InOut { .. } => Owned::of(arg),
                _ => value_of(arg)?,
            };
            match results.len() {
                1 => return Some(outcome),
                _ => outcomes.push(bag.hold(outcome).address()),
            }
        }
        tuple_of(&outcomes)
    }
}

impl Parameter {
    /// The object of the function's that the parameter is made of, if any.
    fn needed(&self) -> Option<u64> {
        match *self {
            Parameter::In { default } | Parameter::InOut { default } => default,
            Parameter::Fixed(object) => object,
            Parameter::Given(object) | Parameter::Array(object) | Parameter::Target(object) => {
                Some(object)
            }
        }
    }

    /// One parameter: a tuple of flags, a name, and a default; none for what
    /// ctypes handles itself.
    fn read(
        item: &[Object],
        argtype: Object,
        family: impl Fn() -> Family,
        is_int: impl Fn(Object) -> bool,
    ) -> Option<Parameter> {
        let flags = item.first().copied().filter(|flags| is_int(*flags))?;
        // SAFETY: an int.
        let flags = unsafe { capi::PyLong_AsUnsignedLongLongMask(flags.address()) };
        let default = item.get(2).map(|object| object.address());
        Some(match (flags & (IN | OUT | LOCALE), default) {
            (0 | IN, default) => Parameter::In { default },
            (flags, default) if flags == IN | OUT => Parameter::InOut { default },
            (flags, default) if flags == IN | LOCALE => Parameter::Fixed(default),
            (OUT, Some(default)) => Parameter::Given(default),
            (OUT, None) => match family() {
                Family::Array(_) => Parameter::Array(argtype.address()),
                Family::Pointer(_) => Parameter::Target(argtype.address()),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// What a pointer class points to; none, with an exception set, if it is not
/// one any more.
fn target(class: Object) -> Option<Owned> {
    let layout = &runtime()?.known.layout;
    info(layout, class).object(layout.info_proto).map(Owned::of)
}

/// An instance of a class, made without arguments; none with an exception set.
fn instantiate(class: Owned, bag: &mut Bag) -> Option<Owned> {
    let class = bag.hold(class).address();
    // SAFETY: a callable, and the end.
    let made = unsafe { capi::PyObject_CallFunctionObjArgs(class, 0_u64) };
    Owned::from_new(made)
}

/// What ctypes makes of an argument that is a result; none with an exception
/// set.
fn value_of(arg: Object) -> Option<Owned> {
    let name = make::FROM_OUTPARAM.address();
    // SAFETY: an object, a str, and the end.
    let ask = || unsafe { capi::PyObject_CallMethodObjArgs(arg.address(), name, 0_u64) };
    Owned::from_new(levels::deeper(ask))
}

/// What `errcheck` gives; none with an exception set.
fn check(errcheck: Object, result: Object, this: Object, args: Object) -> Option<Owned> {
    let [errcheck, result, args] = [errcheck, result, args].map(Object::address);
    // SAFETY: a callable, three objects, and the end.
    Owned::from_new(unsafe {
        capi::PyObject_CallFunctionObjArgs(errcheck, result, this.address(), args, 0_u64)
    })
}

/// A tuple of objects; none with an exception set.
pub(crate) fn tuple_of(objects: &[u64]) -> Option<Owned> {
    // SAFETY: the GIL is held.
    let tuple = Owned::from_new(unsafe { capi::PyTuple_New(objects.len() as isize) })?;
    for (index, &object) in objects.iter().enumerate() {
        // SAFETY: an object that the caller holds.
        unsafe { capi::Py_IncRef(object) };
        // SAFETY: a new tuple, an index within it, and a reference for it.
        unsafe { capi::PyTuple_SetItem(tuple.object().address(), index as isize, object) };
    }
    Some(tuple)
}
