//! What a call costs, in ratios to a direct call through a function pointer
//! that reads its arguments from the same values. The ways to call take turns
//! in one process, so that each round compares them under equal conditions.
//!
//! `cargo bench` prints for each way the least time of a call, and the least
//! and the median ratio of the rounds; `--test` only shows that it runs.

#![allow(clippy::print_stdout, reason = "this program prints a table")]

use std::env;
use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::time::{Duration, Instant};

use hotcall::{CType, Engine, Function, Options, Signature, Typed, Value};
use hotcall_core::PreparedCall;
use hotcall_fixtures::{fix_add, fix_half, fix_six};
use libffi::middle::{Cif, Type};
use libffi::raw::ffi_call;

/// How many rounds, and how many calls of each way in a round.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    calls: u32,
}

/// A way to call a function.
struct Way<'a> {
    name: &'static str,
    /// Makes so many calls, and tells how long they took.
    run: Box<dyn FnMut(u32) -> Duration + 'a>,
}

/// The way that is a loop of its own around `call`.
fn way<'a, T>(name: &'static str, mut call: impl FnMut() -> T + 'a) -> Way<'a> {
    let run = move |calls| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed()
    };
    Way { name, run: Box::new(run) }
}

/// A function in an engine with this `hot`.
fn function(hot: u32, target: *const c_void, signature: &Signature) -> Function {
    let engine = Engine::new(Options { hot, ..Options::default() });
    engine.function("f", target, signature).unwrap()
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

/// Runs the ways in turn, and prints their times and ratios to the first.
fn compare(signature: &Signature, ways: &mut [Way<'_>], effort: Effort) {
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for _ in 0..effort.rounds {
        let time = |way: &mut Way<'_>| (way.run)(effort.calls).as_secs_f64();
        rounds.push(ways.iter_mut().map(time).collect());
    }
    println!("{signature}");
    for (index, way) in ways.iter().enumerate() {
        let least = rounds.iter().map(|round| round[index]).fold(f64::INFINITY, f64::min);
        let least = least / f64::from(effort.calls) * 1e9;
        let (min, median) = ratios(&rounds, index, 0);
        println!("  {:<13} {least:6.2} ns   x {min:5.2} min   x {median:5.2} median", way.name);
    }
    let position = |name| ways.iter().position(|way| way.name == name).unwrap();
    let (min, median) = ratios(&rounds, position("ffi_call"), position("stub"));
    println!("  ffi_call / stub           x {min:5.2} min   x {median:5.2} median");
}

/// The least and the median of the rounds' ratios of two ways.
fn ratios(rounds: &[Vec<f64>], of: usize, to: usize) -> (f64, f64) {
    let mut ratios: Vec<f64> = rounds.iter().map(|round| round[of] / round[to]).collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[0], ratios[ratios.len() / 2])
}

/// The type, once for each argument.
macro_rules! for_each {
    ($arg:ident $($rust:tt)*) => { $($rust)* };
}

/// Compares the ways to call a fixture whose arguments `$arg`, and result, are
/// all of one type. All but libffi read the arguments from values, and all of
/// them end with the result in a register.
macro_rules! case {
    ($effort:expr, $fixture:ident($($arg:ident)*), $variant:ident $rust:ident) => {{
        type Prototype = fn($(for_each!($arg $rust)),*) -> $rust;
        let target = $fixture as *const c_void;
        let $fixture: unsafe extern "C" fn($(for_each!($arg $rust)),*) -> $rust = black_box($fixture);
        let args = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|number: f64| Value::$variant(number as $rust));
        let args = &args[..[$(stringify!($arg)),*].len()];
        let types = vec![CType::$variant; args.len()];
        let signature = Signature::new(types, CType::$variant).unwrap();
        let [stub, interpreter] = [1, 0].map(|hot| function(hot, target, &signature));
        let types = Cif::new([$(for_each!($arg Type::$rust())),*], Type::$rust());
        let [ffi_call, prepared] = libffi_ways(&stub, types, args);
        // SAFETY: the fixture has this signature.
        let typed: Typed<Prototype> = unsafe { stub.typed() }.unwrap();
        let mut ways = [
            way("direct", || {
                let [$(Value::$variant($arg)),*] = *black_box(args) else { unreachable!() };
                // SAFETY: the fixture takes any numbers.
                unsafe { $fixture($($arg),*) }
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
        compare(&signature, &mut ways, $effort);
    }};
}

fn main() {
    let effort = match env::args().any(|arg| arg == "--test") {
        true => Effort { rounds: 3, calls: 100 },
        false => Effort { rounds: 201, calls: 20_000 },
    };
    case!(effort, fix_add(a b), I32 i32);
    case!(effort, fix_half(a), F64 f64);
    case!(effort, fix_six(a b c d e f), I32 i32);
}
