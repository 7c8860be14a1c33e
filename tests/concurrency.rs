//! Functions under use from several sides at once: threads while they warm up,
//! callbacks that call them again, and forks.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::sync::{Barrier, OnceLock};
use std::thread;

use common::fixture;
use hotcall::{Engine, Function, Options, Tier, Value};

/// Calls `fix_add`, or a function like it.
fn add(function: &Function, a: i32, b: i32) -> i32 {
    // SAFETY: the function has this signature and takes any numbers.
    match unsafe { function.call(&[Value::I32(a), Value::I32(b)]) } {
        Ok(Value::I32(sum)) => sum,
        other => panic!("{other:?}"),
    }
}

#[test]
fn threads_warm_the_same_function() {
    const THREADS: i32 = 8;
    for round in 0..20 {
        let engine = Engine::new(Options { hot: 10, ..Options::default() });
        let function = fixture(&engine, "fix_add", "fn(i32, i32) -> i32");
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (function, start) = (function.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    for call in 0..1000 {
                        assert_eq!(add(&function, thread, call), thread + call, "round {round}");
                    }
                });
            }
        });
        let explanation = function.explain();
        assert_eq!((explanation.tier, explanation.shapes.len()), (Tier::Stub, 1), "{explanation}");
    }
}

/// `fix_call_back`, hot at its third call.
fn call_back() -> &'static Function {
    static FUNCTION: OnceLock<Function> = OnceLock::new();
    FUNCTION.get_or_init(|| {
        let engine = Engine::new(Options { hot: 3, ..Options::default() });
        let signature = "fn(ptr, i32) -> i32";
        fixture(&engine, "fix_call_back", signature)
    })
}

/// The sum of the numbers up to this one: each step is a foreign call of the
/// same function, which calls back here.
extern "C" fn sum(number: i32) -> i32 {
    if number == 0 {
        return 0;
    }
    let args = [(sum as *const ()).into(), Value::I32(number - 1)];
    // SAFETY: the function has this signature, and takes a callback like `sum`.
    match unsafe { call_back().call(&args) } {
        Ok(Value::I32(rest)) => number + rest,
        _ => -1,
    }
}

/// The function becomes hot, is recorded and compiled while frames of it are
/// on the stack, in each of its tiers.
#[test]
fn a_callback_calls_the_same_function() {
    for number in [1, 2, 50, 3, 0] {
        assert_eq!(sum(number), number * (number + 1) / 2);
    }
    assert_eq!(call_back().explain().tier, Tier::Stub);
}

/// Parent and child both go on with old stubs, and each with a new one, which
/// is put into the same page of code.
#[test]
fn a_fork_has_code_of_its_own() {
    let engine = Engine::new(Options { hot: 1, ..Options::default() });
    let old = fixture(&engine, "fix_add", "fn(i32, i32) -> i32");
    assert_eq!(add(&old, 1, 2), 3);
    let third = [Value::I32(0), Value::F64(0.0)];
    let new = third.map(|value| {
        fixture(&engine, "fix_add", &format!("fn(i32, i32, {}) -> i32", value.ctype()))
    });

    // SAFETY: the child calls functions that are there already, and ends
    // without running anything else.
    let child = unsafe { libc::fork() };
    let mine = usize::from(child == 0);
    let works = std::panic::catch_unwind(|| {
        for count in 0..100 {
            let args = [Value::I32(count), Value::I32(1), third[mine]];
            // SAFETY: a function may be called with more arguments than it takes.
            let sum = unsafe { new[mine].call(&args) };
            assert_eq!(sum.unwrap(), Value::I32(count + 1));
            assert_eq!(add(&old, count, 1), count + 1);
        }
        assert_eq!(new[mine].explain().interpreted, 1);
    });
    if child == 0 {
        // SAFETY: it has no preconditions.
        unsafe { libc::_exit(i32::from(works.is_err())) };
    }
    let mut status = 0;
    // SAFETY: `status` may be written.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    works.unwrap();
}
