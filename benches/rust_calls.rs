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

use hotcall::{Engine, Function, Options, Signature, Typed, Value};
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

/// A way to call a function: makes so many calls, and tells how long they took.
type Way<'a> = Box<dyn FnMut(u32) -> Duration + 'a>;

/// A loop of its own around `call`.
fn way<'a, T>(mut call: impl FnMut() -> T + 'a) -> Way<'a> {
    Box::new(move |calls| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed()
    })
}

/// A function of this signature in an engine with this `hot`.
fn function(hot: u32, target: *const c_void, signature: &str) -> Function {
    let engine = Engine::new(Options { hot, ..Options::default() });
    engine.function("f", target, signature).unwrap()
}

/// The ways in which only values or words go in, so that they are the same for
/// each signature. `types` are those of the signature for libffi, with 8 bytes
/// for the result.
fn dynamic_ways<'a>(
    target: *const c_void,
    signature: &str,
    types: (Vec<Type>, Type),
    args: &'a [Value],
) -> Vec<(&'static str, Way<'a>)> {
    let [stub, interpreter] = [1, 0].map(|hot| function(hot, target, signature));
    let prepared = PreparedCall::new(&signature.parse::<Signature>().unwrap()).unwrap();
    let cif = Cif::new(types.0, types.1);
    let words: Vec<u64> = args.iter().map(|arg| arg.word()).collect();
    let copy = words.clone();
    let mut pointers: Vec<*mut c_void> =
        copy.iter().map(|word| ptr::from_ref(word).cast_mut().cast()).collect();
    // SAFETY: a function's address is a function pointer; it is called by its
    // true type alone.
    let code = unsafe { std::mem::transmute::<*const c_void, unsafe extern "C" fn()>(target) };
    vec![
        // SAFETY: the fixture has this signature and takes any numbers.
        ("stub", way(move || unsafe { stub.call(black_box(args)) })),
        (
            "ffi_call",
            way(move || {
                let _alive = &copy;
                let mut result = 0_u64;
                // SAFETY: the description is that of the fixture, `pointers`
                // leads to its arguments, and the result fits 8 bytes.
                unsafe {
                    ffi_call(
                        cif.as_raw_ptr(),
                        Some(code),
                        (&raw mut result).cast(),
                        black_box(pointers.as_mut_ptr()),
                    );
                }
                result
            }),
        ),
        // SAFETY: the fixture has this signature and takes any numbers.
        ("PreparedCall", way(move || unsafe { prepared.call(target, black_box(&words)) })),
        // SAFETY: the fixture has this signature and takes any numbers.
        ("interpreter", way(move || unsafe { interpreter.call(black_box(args)) })),
    ]
}

/// Runs the ways in turn and prints their times and ratios to the first.
fn compare(title: &str, ways: &mut [(&'static str, Way<'_>)], effort: Effort) {
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for _ in 0..effort.rounds {
        let time = |way: &mut Way<'_>| way(effort.calls).as_secs_f64() / f64::from(effort.calls);
        rounds.push(ways.iter_mut().map(|(_, way)| time(way)).collect());
    }
    println!("{title}");
    for (index, (name, _)) in ways.iter().enumerate() {
        let least = rounds.iter().map(|round| round[index]).fold(f64::INFINITY, f64::min) * 1e9;
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[index] / round[0]).collect();
        ratios.sort_by(f64::total_cmp);
        let (min, median) = (ratios[0], ratios[ratios.len() / 2]);
        println!("  {name:<13} {least:6.2} ns   x {min:5.2} min   x {median:5.2} median");
    }
    let position = |name| ways.iter().position(|way| way.0 == name).unwrap();
    let (stub, ffi) = (position("stub"), position("ffi_call"));
    let mut gains: Vec<f64> = rounds.iter().map(|round| round[ffi] / round[stub]).collect();
    gains.sort_by(f64::total_cmp);
    println!("  ffi_call / stub: {:.2} min, {:.2} median", gains[0], gains[gains.len() / 2]);
}

/// Compares the ways to call `$fixture`, given its arguments as values.
macro_rules! case {
    ($effort:expr, $signature:literal, $fixture:ident: fn($($arg:ident: $variant:ident($rust:ty, $ffi:ident)),*)
        -> $result:ty, $ffi_result:ident, $args:expr) => {{
        let args = $args;
        let target = $fixture as *const c_void;
        let pointer: unsafe extern "C" fn($($rust),*) -> $result = black_box($fixture);
        let called = function(1, target, $signature);
        // SAFETY: the fixture has this signature.
        let typed: Typed<fn($($rust),*) -> $result> = unsafe { called.typed() }.unwrap();
        let mut ways = vec![
            ("direct", way(|| {
                let [$(Value::$variant($arg)),*] = *black_box(&args[..]) else { unreachable!() };
                // SAFETY: the fixture takes any numbers.
                unsafe { pointer($($arg),*) }
            })),
            ("typed", way(|| {
                let [$(Value::$variant($arg)),*] = *black_box(&args[..]) else { unreachable!() };
                // SAFETY: the fixture takes any numbers.
                unsafe { typed.call($($arg),*) }
            })),
        ];
        let types = (vec![$(Type::$ffi()),*], Type::$ffi_result());
        $(let _ = stringify!($arg);)*
        ways.extend(dynamic_ways(target, $signature, types, &args));
        compare($signature, &mut ways, $effort);
    }};
}

fn main() {
    let effort = match env::args().any(|arg| arg == "--test") {
        true => Effort { rounds: 3, calls: 100 },
        false => Effort { rounds: 201, calls: 20_000 },
    };
    case!(effort, "fn(i32, i32) -> i32", fix_add: fn(a: I32(i32, i32), b: I32(i32, i32)) -> i32, i32,
        [Value::I32(1), Value::I32(2)]);
    case!(effort, "fn(f64) -> f64", fix_half: fn(a: F64(f64, f64)) -> f64, f64, [Value::F64(1.5)]);
    case!(effort, "fn(i32, i32, i32, i32, i32, i32) -> i32",
        fix_six: fn(a: I32(i32, i32), b: I32(i32, i32), c: I32(i32, i32), d: I32(i32, i32),
            e: I32(i32, i32), f: I32(i32, i32)) -> i32, i32,
        [1, 2, 3, 4, 5, 6].map(Value::I32));
}
