//! Unwinding: from within functions that stubs call, by the system's own
//! unwinder, out of stubs of many shapes, and with what the caller keeps in
//! registers where it was.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hotcall_core::Abi;
use hotcall_tracer::{Backend, Effect, Entry, Helper, Op, Trace};

use super::Builder;
use crate::{Jit, Options, Stub};

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

thread_local! {
    /// The return addresses above the function that looked last.
    static SEEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

extern "C" fn visit(context: *mut c_void, _: *mut c_void) -> c_int {
    // SAFETY: the context that the unwinder has given.
    let place = unsafe { _Unwind_GetIP(context) };
    SEEN.with_borrow_mut(|seen| seen.push(place as u64));
    0
}

/// Looks at all frames above; gives its last argument.
unsafe extern "C-unwind" fn look(_: u64, _: u64, last: u64) -> u64 {
    SEEN.with_borrow_mut(Vec::clear);
    // SAFETY: the function takes what the unwinder gives.
    unsafe { _Unwind_Backtrace(visit, std::ptr::null_mut()) };
    last
}

/// Ends in an exception.
unsafe extern "C-unwind" fn throw(_: u64, _: u64, _: u64) -> u64 {
    resume_unwind(Box::new("thrown"))
}

static LOOK: Helper = Helper { name: "look", entry: Entry::WWWW(look), effect: Effect::Effect };
static THROW: Helper = Helper { name: "throw", entry: Entry::WWWW(throw), effect: Effect::Effect };

/// Calls a helper, as one of several calls, while so many values live on.
fn calls(helper: &'static Helper, living: usize) -> Trace {
    let (mut b, [x, y, z]) = Builder::new();
    let mut sum = b.op(Op::Add, &[x, y]);
    let values: Vec<_> = (0..living)
        .map(|index| {
            let number = b.number(index as u64);
            b.op(Op::Add, &[z, number])
        })
        .collect();
    let first = b.help(helper, &[x, y, z]);
    sum = b.op(Op::Add, &[sum, first]);
    for value in values {
        sum = b.op(Op::Add, &[sum, value]);
    }
    let second = b.help(helper, &[x, y, sum]);
    // So that the second call is no jump.
    let more = b.op(Op::Add, &[second, x]);
    b.ret(more)
}

fn enter(stub: &Stub, x: u64) -> u64 {
    type Entered = unsafe extern "C-unwind" fn(u64, u64, u64) -> u64;
    // SAFETY: a stub of three words, entered by the convention of the system.
    let entry = unsafe { std::mem::transmute::<usize, Entered>(stub.entry() as usize) };
    // SAFETY: it calls what `calls` has named.
    unsafe { entry(x, 2, 3) }
}

fn addresses(stub: &Stub) -> Range<u64> {
    stub.entry()..stub.entry() + stub.len() as u64
}

/// How far up the stack the frames of a call go without a stub in between.
#[inline(never)]
fn depth() -> usize {
    // SAFETY: it takes any words.
    let last = unsafe { look(1, 2, 3) };
    assert_eq!(black_box(last), 3);
    SEEN.with_borrow(Vec::len)
}

#[test]
fn frames_of_stubs_are_crossed() {
    let jit = Jit::new(Options::default());
    for living in 0..24 {
        let stub = jit.compile(&calls(&LOOK, living), 0).unwrap();
        let want = depth();
        let result = enter(&stub, 1);
        let living = living as u64;
        assert_eq!(result, 1 + 1 + 2 + 3 + living * 3 + living * living.saturating_sub(1) / 2);
        SEEN.with_borrow(|seen| {
            let inside: Vec<usize> = (0..seen.len())
                .filter(|&frame| addresses(&stub).contains(&(seen[frame].wrapping_sub(1))))
                .collect();
            assert_eq!(inside, [1], "one frame, above the function that looks: {seen:x?}");
            // The rest of the way is that of a call without a stub.
            assert!(seen.len() >= want, "{} frames, not {want}", seen.len());
        });
    }
}

#[test]
fn a_helper_that_is_jumped_to_has_the_caller_above_it() {
    let jit = Jit::new(Options::default());
    let (mut b, [x, y, z]) = Builder::new();
    let first = b.help(&LOOK, &[x, y, z]);
    let second = b.help(&LOOK, &[x, y, first]);
    let stub = jit.compile(&b.ret(second), 0).unwrap();
    let want = depth();
    assert_eq!(enter(&stub, 1), 3);
    SEEN.with_borrow(|seen| {
        assert!(!seen.iter().any(|place| addresses(&stub).contains(&(place.wrapping_sub(1)))));
        assert!(seen.len() >= want, "{} frames, not {want}", seen.len());
    });
}

#[test]
fn exceptions_leave_what_the_caller_keeps() {
    let jit = Jit::new(Options::default());
    for living in 0..24 {
        let stub = jit.compile(&calls(&THROW, living), 0).unwrap();
        let kept: [u64; 12] = std::array::from_fn(|index| black_box(index as u64 * 0x0101_0101));
        let thrown = catch_unwind(AssertUnwindSafe(|| enter(&stub, kept[0])));
        assert_eq!(*thrown.unwrap_err().downcast::<&str>().unwrap(), "thrown");
        for (index, value) in kept.into_iter().enumerate() {
            assert_eq!(value, black_box(index as u64 * 0x0101_0101));
        }
    }
}

#[test]
fn many_stubs_fill_many_blocks() {
    let jit = Jit::new(Options { capacity: 1 << 20, deny: false });
    let stubs: Vec<Stub> = (0..400)
        .map(|index| jit.compile(&calls(&LOOK, 20), 0x1000 + index).expect("there is room"))
        .collect();
    assert!(jit.usage().used_bytes > 64 * 1024);
    for stub in &stubs {
        enter(stub, 1);
        let frame = SEEN.with_borrow(|seen| seen[1]);
        assert!(addresses(stub).contains(&(frame - 1)));
        let above = SEEN.with_borrow(|seen| seen.len());
        assert!(above > 3, "{above} frames");
    }
}

#[test]
fn threads_unwind_while_stubs_are_added() {
    let jit = Jit::default();
    let first = jit.compile(&calls(&LOOK, 20), 0).unwrap();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            for index in 1..200 {
                jit.compile(&calls(&LOOK, 20), index).unwrap();
            }
        });
        while !adding.is_finished() {
            enter(&first, 1);
            let count = SEEN.with_borrow(|seen| {
                seen.iter()
                    .filter(|&&place| addresses(&first).contains(&(place.wrapping_sub(1))))
                    .count()
            });
            assert_eq!(count, 1);
            assert!(SEEN.with_borrow(Vec::len) > 3);
        }
    });
}

#[test]
fn stubs_of_the_other_convention_say_where_vectors_are() {
    let jit = Jit::entered_by(Abi::Win64, Options::default());
    let (mut b, [x]) = Builder::new();
    let target = b.symbol("none", 0x1000);
    let result = b.call("extern \"sysv64\" fn(i64) -> i64", target, &[x]);
    let stub = jit.compile(&b.ret(result), 0).unwrap();
    // Ten vectors, rsi and rdi are kept for the caller, and its rbp.
    let most = stub.rows.iter().map(|row| row.state.parts().2.len()).max();
    assert_eq!(most, Some(13));
}
