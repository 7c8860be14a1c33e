//! Code memory under load: many threads, a fork, too little room, and systems
//! that refuse.

use std::fs;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hotcall_core::Abi;
use hotcall_tracer::{Backend, Op, Trace};

use super::enter::enter;
use super::{Builder, fuzz_ms};
use crate::refusals::{CODE_MEMORY_FULL, NO_EXECUTABLE_MEMORY};
use crate::{Jit, Options, Stub, Usage};

/// A trace that returns `word`; the larger `size`, the longer its code.
fn returns(word: u64, size: usize) -> Trace {
    let (mut b, [x]) = Builder::new();
    let mut sum = b.op(Op::Sub, &[x, x]);
    let none = b.number(0x1234_5678_9abc);
    for _ in 0..size {
        sum = b.op(Op::Shl, &[sum, none]);
    }
    let word = b.number(word);
    let sum = b.op(Op::Add, &[sum, word]);
    b.ret(sum)
}

fn run(stub: &Stub) -> u64 {
    // SAFETY: it is a stub of `returns`, which touches nothing.
    unsafe { enter(Abi::HOST, stub.entry(), &[5; 6]) }
}

/// Runs `child` in a forked process, and gives whether it said yes. Meanwhile
/// `parent` runs here.
pub(crate) fn forked(parent: impl FnOnce(), child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs on locks and memory that this thread alone uses,
    // and ends without returning from this function.
    let id = unsafe { libc::fork() };
    assert!(id >= 0, "no fork");
    if id == 0 {
        let yes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: it has no preconditions.
        unsafe { libc::_exit(if yes { 0 } else { 1 }) };
    }
    parent();
    let mut status = -1;
    // SAFETY: `status` is a local that may be written.
    let ended = unsafe { libc::waitpid(id, &mut status, 0) };
    assert_eq!(ended, id);
    status == 0
}

#[test]
fn stubs_run_while_others_are_installed() {
    let jit = Jit::default();
    let stubs = RwLock::new(vec![(jit.compile(&returns(7, 0), 0).unwrap(), 7)]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for first in 0..3 {
            let (stubs, done) = (&stubs, &done);
            scope.spawn(move || {
                let mut index: usize = first;
                while !done.load(Relaxed) {
                    let known: Vec<(Stub, u64)> = stubs.read().unwrap().clone();
                    // The newest page is the one that is replaced.
                    for (stub, word) in known.iter().rev().take(50) {
                        assert_eq!(run(stub), *word);
                    }
                    let (stub, word) = &known[index % known.len()];
                    assert_eq!(run(stub), *word);
                    index += 7919;
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(fuzz_ms());
        let mut word = 1 << 40;
        while Instant::now() < end {
            match jit.compile(&returns(word, word as usize % 50), 0) {
                Ok(stub) => stubs.write().unwrap().push((stub, word)),
                Err(refusal) => {
                    assert_eq!(refusal, CODE_MEMORY_FULL);
                    break;
                }
            }
            word += 1;
        }
        done.store(true, Relaxed);
    });
    let stubs = stubs.into_inner().unwrap();
    assert!(stubs.iter().all(|(stub, word)| run(stub) == *word));
    let usage = jit.usage();
    assert_eq!(usage.stubs, stubs.len());
    assert!(usage.pages * 4096 < usage.used_bytes + 4096, "{usage:?}");
    let bytes: usize = stubs.iter().map(|(stub, _)| stub.len().next_multiple_of(16)).sum();
    assert!((usage.used_bytes..usage.used_bytes + 16).contains(&bytes), "{usage:?}");
}

#[test]
fn no_memory_is_writable_and_executable() {
    let jit = Jit::default();
    for word in 0..100 {
        let stub = jit.compile(&returns(word, 10), 0).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.lines().any(|line| line.contains(" rwx")), "{maps}");
        let of_stub = maps.lines().find(|line| {
            let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let bound = |text| u64::from_str_radix(text, 16).unwrap();
            (bound(from)..bound(to)).contains(&stub.entry())
        });
        assert!(of_stub.unwrap().contains(" r-xp "), "{of_stub:?}");
    }
}

#[test]
fn parent_and_child_of_a_fork_compile_on_their_own() {
    let jit = Jit::default();
    let before = jit.compile(&returns(1, 0), 0).unwrap();
    let both = |word: u64| {
        let mut entries = Vec::new();
        for index in 0..200 {
            let stub = jit.compile(&returns(word + index, 5), 0).unwrap();
            assert_eq!(run(&before), 1);
            entries.push((stub, word + index));
        }
        entries.iter().all(|(stub, word)| run(stub) == *word)
    };
    assert!(forked(|| assert!(both(1 << 50)), || both(1 << 51)));
    assert!(both(1 << 52));
}

#[test]
fn a_system_that_stops_giving_executable_memory() {
    let jit = Jit::default();
    let before = jit.compile(&returns(1, 0), 0).unwrap();
    let child = || {
        const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
        // SAFETY: it changes nothing but what this process may do from now on.
        let denied = unsafe { libc::prctl(libc::PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) } == 0;
        // Old kernels do not know this.
        !denied
            || jit.compile(&returns(2, 0), 0).unwrap_err() == NO_EXECUTABLE_MEMORY
                && run(&jit.compile(&returns(1, 0), 0).unwrap()) == 1
                && run(&before) == 1
                && Jit::default().probe() == Err(NO_EXECUTABLE_MEMORY)
    };
    assert!(forked(|| {}, child));
}

#[test]
fn what_is_denied_is_refused_by_name() {
    let jit = Jit::new(Options { deny: true, ..Options::default() });
    assert_eq!(jit.status(), Err(NO_EXECUTABLE_MEMORY));
    assert_eq!(jit.compile(&returns(1, 0), 0).unwrap_err(), NO_EXECUTABLE_MEMORY);
    assert_eq!(jit.usage(), Usage { capacity: 4 << 20, ..Usage::default() });
}

#[test]
fn memory_is_bounded_and_accounted() {
    let jit = Jit::new(Options { capacity: 5000, deny: false });
    assert_eq!(jit.usage(), Usage { capacity: 5000, ..Usage::default() });
    assert_eq!(jit.status(), Ok(()));
    assert_eq!(jit.usage(), Usage { capacity: 8192, ..Usage::default() });
    let mut stubs = Vec::new();
    let refusal = loop {
        match jit.compile(&returns(stubs.len() as u64, 0), 0) {
            Ok(stub) => stubs.push(stub),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, CODE_MEMORY_FULL);
    assert!(stubs.iter().zip(0..).all(|(stub, word)| run(stub) == word));
    let usage = jit.usage();
    assert_eq!((usage.capacity, usage.pages, usage.stubs), (8192, 2, stubs.len()));
    // What exists is still found, and a large stub is not put where it does not fit.
    assert_eq!(jit.compile(&returns(0, 0), 0).unwrap().entry(), stubs[0].entry());
    let small = Jit::new(Options { capacity: 1, deny: false });
    assert_eq!(small.compile(&returns(0, 2000), 0).unwrap_err(), CODE_MEMORY_FULL);
    assert_eq!(run(&small.compile(&returns(9, 0), 0).unwrap()), 9);
}

#[test]
fn equal_traces_with_equal_fallbacks_share_a_stub() {
    let jit = Jit::default();
    let guarded = || {
        let (mut b, [x]) = Builder::new();
        let one = b.number(1);
        b.op(Op::GuardEq, &[x, one]);
        b.ret(x)
    };
    let [a, b] = [0x1000, 0x1000].map(|fallback| jit.compile(&guarded(), fallback).unwrap());
    let c = jit.compile(&guarded(), 0x2000).unwrap();
    assert_eq!(a.entry(), b.entry());
    assert_ne!(a.entry(), c.entry());
    assert_eq!(jit.usage().stubs, 2);
    assert_eq!(a.disassemble(), c.disassemble());
}

#[test]
fn errno_stays() {
    let jit = Jit::new(Options { capacity: 4096, deny: false });
    for index in 0..10 {
        // SAFETY: it has no preconditions.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: it points to this thread's errno.
        unsafe { *errno = 77 };
        let size = if index == 9 { 2000 } else { index };
        let _ = jit.compile(&returns(index as u64, size), 0);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(77));
    }
}
