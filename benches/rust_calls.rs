//! What a call costs, in ratios to a direct call through a function pointer
//! that reads its arguments from the same values. The ways to call take turns
//! in one process, so that each round compares them under equal conditions.
//!
//! `cargo bench` prints for each way the least time of a call, then its ratio
//! by the least times and in the median of the rounds, and what criterion says of
//! it, also of changes since an earlier run. With `--test` it only
//! shows that it runs.

mod ways;

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;

use hotcall::{CType, Engine, Function, Library, Options, Signature, Typed, Value};
use hotcall_core::PreparedCall;
use libffi::middle::{Cif, Type};
use libffi::raw::ffi_call;

use ways::{Way, compare, way};

/// A fixture, with an engine of this `hot`. It is the one in the shared library,
/// which is as far away as foreign functions are.
fn function(hot: u32, name: &str, signature: &Signature) -> Function {
    let engine = Engine::new(Options { hot, ..Options::default() });
    // SAFETY: the fixtures have no initialisers.
    let library = unsafe { Library::open_with(&engine, hotcall_fixtures::SHARED) }.unwrap();
    library.function(name, signature).unwrap()
}

/// The ways of libffi, to which words go in. `types` are those of the
/// signature, and 8 bytes are enough for its result.
fn libffi_ways<'a>(function: &Function, types: Cif, args: &[Value]) -> [Way<'a>; 2] {
    let target = function.address();
    let prepared = PreparedCall::new(function.signature()).unwrap();
    let words: Vec<u64> = args.iter().map(|arg| arg.word()).collect();
    let copy = words.clone();
    let mut pointers: Vec<*mut c_void> =
        copy.iter().map(|word| ptr::from_ref(word).cast_mut().cast()).collect();
    // SAFETY: the target is a function, and is called by its true type alone.
    let code = unsafe { std::mem::transmute::<*const c_void, unsafe extern "C" fn()>(target) };
    let raw = move || {
        let _alive = &copy;
        let pointers = black_box(pointers.as_mut_ptr());
        let mut result = 0_u64;
        let place = (&raw mut result).cast();
        // SAFETY: these are the types of the fixture, `pointers` leads to its
        // arguments, and the result fits 8 bytes.
        unsafe { ffi_call(types.as_raw_ptr(), Some(code), place, pointers) };
        result
    };
    // SAFETY: the fixture has this signature and takes any numbers.
    let prepared = move || unsafe { prepared.call(target, black_box(&words)) };
    [way("ffi_call", raw), way("PreparedCall", prepared)]
}

/// The type, once for each argument.
macro_rules! for_each {
    ($arg:ident $($rust:tt)*) => { $($rust)* };
}

/// Compares the ways to call a fixture whose arguments `$arg`, and result, are
/// all of one type. All but libffi read the arguments from values, and all of
/// them end with the result in a register.
macro_rules! case {
    ($criterion:expr, $fixture:ident($($arg:ident)*), $variant:ident $rust:ident) => {{
        type Prototype = fn($(for_each!($arg $rust)),*) -> $rust;
        let args = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|number: f64| Value::$variant(number as $rust));
        let args = &args[..[$(stringify!($arg)),*].len()];
        let types = vec![CType::$variant; args.len()];
        let signature = Signature::new(types, CType::$variant).unwrap();
        let [stub, interpreter] = [1, 0].map(|hot| function(hot, stringify!($fixture), &signature));
        let types = Cif::new([$(for_each!($arg Type::$rust())),*], Type::$rust());
        let [ffi_call, prepared] = libffi_ways(&stub, types, args);
        // SAFETY: the fixture has this signature.
        let pointer = unsafe {
            std::mem::transmute::<
                *const c_void,
                unsafe extern "C" fn($(for_each!($arg $rust)),*) -> $rust,
            >(black_box(stub.address()))
        };
        // SAFETY: as above.
        let typed: Typed<Prototype> = unsafe { stub.typed() }.unwrap();
        let mut ways = [
            way("direct", || {
                let [$(Value::$variant($arg)),*] = *black_box(args) else { unreachable!() };
                // SAFETY: the fixture takes any numbers.
                unsafe { pointer($($arg),*) }
            }),
            way("typed", || {
                let [$(Value::$variant($arg)),*] = *black_box(args) else { unreachable!() };
                // SAFETY: the fixture takes any numbers.
                unsafe { typed.call($($arg),*) }
            }),
            way("stub", || {
                // SAFETY: the fixture has this signature and takes any numbers.
                let result = unsafe { stub.call(black_box(args)) };
                let Ok(Value::$variant(result)) = result else { unreachable!() };
                result
            }),
            ffi_call,
            prepared,
            way("interpreter", || {
                // SAFETY: the fixture has this signature and takes any numbers.
                let result = unsafe { interpreter.call(black_box(args)) };
                let Ok(Value::$variant(result)) = result else { unreachable!() };
                result
            }),
        ];
        compare($criterion, &signature, &mut ways, &[("ffi_call", "stub")]);
    }};
}

fn main() {
    let criterion = &mut ways::criterion();
    case!(criterion, fix_add(a b), I32 i32);
    case!(criterion, fix_half(a), F64 f64);
    case!(criterion, fix_six(a b c d e f), I32 i32);
}
