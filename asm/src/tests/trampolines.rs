//! Trampolines: each leads to its own target with its own context, and one that is
//! given back leads nowhere until it is somebody else's.

use std::thread;

use hotcall_tracer::{Op, Trace};

use super::Builder;
use super::memory::forked;
use crate::refusals::{CODE_MEMORY_FULL, NO_EXECUTABLE_MEMORY};
use crate::{Jit, Options, Stub, Trampoline, give_zero_once};

/// A callback that gives the sum of its context and its argument, times a number.
fn times(number: u64) -> Trace {
    let (mut b, [context, x]) = Builder::new();
    let number = b.number(number);
    let sum = b.op(Op::Add, &[context, x]);
    let product = b.op(Op::Mul, &[sum, number]);
    b.ret(product)
}

fn stub(jit: &Jit, number: u64) -> Stub {
    jit.compile_callback(&times(number), &"fn(i64) -> i64".parse().unwrap()).unwrap()
}

fn call(trampoline: &Trampoline, x: i64) -> i64 {
    // SAFETY: trampolines live as long as the process, and these lead to stubs of
    // this signature.
    let function: extern "C" fn(i64) -> i64 = unsafe { std::mem::transmute(trampoline.address()) };
    function(x)
}

#[test]
fn each_has_its_own_context_and_target() {
    let jit = Jit::default();
    let [once, twice] = [1, 2].map(|number| stub(&jit, number));
    assert_eq!(stub(&jit, 2).entry(), twice.entry(), "equal callbacks share their code");
    let all: Vec<Trampoline> =
        (0..300).map(|context| jit.trampoline(once.entry(), context).unwrap()).collect();
    for (trampoline, context) in all.iter().zip(0..) {
        assert_eq!(call(trampoline, 1000), 1000 + context);
        trampoline.set_target(twice.entry());
        assert_eq!(call(trampoline, 1000), 2 * (1000 + context));
    }
    let usage = jit.usage();
    assert_eq!((usage.trampolines, usage.trampoline_slots), (300, 320));
}

#[test]
fn slots_are_used_again_the_oldest_first() {
    let jit = Jit::default();
    let once = stub(&jit, 1);
    let first = jit.trampoline(once.entry(), 1).unwrap().address();
    let others: Vec<u64> =
        (0..64).map(|_| jit.trampoline(once.entry(), 1).unwrap().address()).collect();
    assert!(!others[..63].contains(&first));
    assert_eq!(others[63], first);
    let used = jit.usage().used_bytes;
    for _ in 0..1000 {
        drop(jit.trampoline(once.entry(), 1).unwrap());
    }
    let usage = jit.usage();
    assert_eq!((usage.used_bytes, usage.trampolines, usage.trampoline_slots), (used, 0, 64));
}

#[test]
fn threads_make_and_drop_them() {
    let jit = Jit::default();
    let once = stub(&jit, 1);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (jit, once) = (&jit, &once);
            scope.spawn(move || {
                for round in 0..500 {
                    let context = 1000 * thread + round;
                    let mine: Vec<Trampoline> = (0..10)
                        .map(|nth| jit.trampoline(once.entry(), context + nth).unwrap())
                        .collect();
                    for (trampoline, nth) in mine.iter().zip(0..) {
                        assert_eq!(call(trampoline, 7), (context + nth + 7) as i64);
                    }
                }
            });
        }
    });
    assert_eq!(jit.usage().trampolines, 0);
}

#[test]
fn a_child_has_its_own() {
    let jit = Jit::default();
    let [once, twice] = [1, 2].map(|number| stub(&jit, number));
    let trampoline = jit.trampoline(once.entry(), 5).unwrap();
    let child = || {
        trampoline.set_target(twice.entry());
        let other = jit.trampoline(once.entry(), 6).unwrap();
        call(&trampoline, 1) == 12 && call(&other, 1) == 7
    };
    assert!(forked(|| (), child));
    assert_eq!(call(&trampoline, 1), 6);
}

#[test]
fn there_are_as_many_as_fit_the_memory() {
    let jit = Jit::new(Options { capacity: 4096, ..Options::default() });
    let mut all = Vec::new();
    let refusal = loop {
        match jit.trampoline(0, 0) {
            Ok(trampoline) => all.push(trampoline),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal, all.len()), (CODE_MEMORY_FULL, 128));
    all.pop();
    assert!(jit.trampoline(0, 0).is_ok());
    let denied = Jit::new(Options { deny: true, ..Options::default() });
    assert_eq!(denied.trampoline(0, 0).unwrap_err(), NO_EXECUTABLE_MEMORY);
}

#[test]
fn one_that_was_given_back_ends_the_process() {
    let jit = Jit::default();
    let once = stub(&jit, 1);
    let trampoline = jit.trampoline(once.entry(), 5).unwrap();
    let address = trampoline.address();
    drop(trampoline);
    // The child is aborted before it can say that all is well.
    let child = || {
        // SAFETY: what is called there takes and gives nothing.
        let function: extern "C" fn() = unsafe { std::mem::transmute(address) };
        function();
        true
    };
    assert!(!forked(|| (), child));
}

#[test]
fn one_that_was_given_back_gives_zero_once_the_host_is_over() {
    let jit = Jit::default();
    let once = stub(&jit, 1);
    let trampoline = jit.trampoline(once.entry(), 5).unwrap();
    let address = trampoline.address();
    let child = || {
        give_zero_once(|| true);
        drop(trampoline);
        // SAFETY: what is called there takes any arguments, and gives any number.
        let integer: extern "C" fn(i64, f64) -> i64 = unsafe { std::mem::transmute(address) };
        // SAFETY: as above.
        let double: extern "C" fn(i64, f64) -> f64 = unsafe { std::mem::transmute(address) };
        integer(3, 1.5) == 0 && double(3, 1.5) == 0.0
    };
    assert!(forked(|| (), child));
}
