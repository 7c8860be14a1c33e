//! Single stubs that run: chains of stubs, calls too large for a page of
//! stack, and what is refused.

use std::arch::naked_asm;

use hotcall_core::Abi;
use hotcall_tracer::{Backend, Field, Mem, Op, Refusal, Trace, Val};

use super::Builder;
use super::enter::enter;
use super::foreign::{fallback_system_v, fallback_win64};
use super::world::{Event, MISSED, world};
use crate::refusals::{FRAME_TOO_LARGE, INVALID_TRACE, TOO_MANY_PARAMETERS};
use crate::{Jit, Options};

/// Returns its 1024th argument.
#[unsafe(naked)]
extern "sysv64" fn last_of_1024() {
    naked_asm!("mov rax, [rsp + 8 * 1018]", "ret")
}

/// A call with so many arguments: `x`, then each one more than the one before.
fn call_with(count: usize) -> Trace {
    let (mut b, [x]) = Builder::new();
    let one = b.number(1);
    let mut args = vec![x];
    for index in 1..count {
        args.push(b.op(Op::Add, &[args[index - 1], one]));
    }
    let target = b.symbol("last", (last_of_1024 as *const ()).addr() as u64);
    let types = vec!["i64"; count].join(", ");
    let result = b.call(&format!("extern \"sysv64\" fn({types}) -> i64"), target, &args);
    b.ret(result)
}

#[test]
fn a_thousand_arguments_and_values() {
    for host in [Abi::SystemV, Abi::Win64] {
        let jit = Jit::entered_by(host, Options::default());
        let stub = jit.compile(&call_with(1024), 0).unwrap();
        // SAFETY: it was made for `host`, and calls a function that reads what it is given.
        let result = unsafe { enter(host, stub.entry(), &[5; 6]) };
        assert_eq!(result, 5 + 1023);
    }
}

#[test]
fn a_chain_hands_on_what_it_was_entered_with() {
    for host in [Abi::SystemV, Abi::Win64] {
        let jit = Jit::entered_by(host, Options::default());
        let mut head = match host {
            Abi::SystemV => fallback_system_v as *const (),
            Abi::Win64 => fallback_win64 as *const (),
        }
        .addr() as u64;
        for want in 0..4 {
            let (mut b, [x, y, _, z]) = Builder::new();
            let want = b.number(want);
            b.op(Op::GuardEq, &[y, want]);
            let sum = b.op(Op::Add, &[x, want]);
            let sum = b.op(Op::Add, &[sum, z]);
            head = jit.compile(&b.ret(sum), head).unwrap().entry();
        }
        world(|world| world.params = 4);
        // SAFETY: the stubs were made for `host` and touch nothing.
        let run = |word| unsafe { enter(host, head, &[100, word, 7, 1000, 0, 0]) };
        assert_eq!([0, 1, 2, 3].map(run), [1100, 1101, 1102, 1103]);
        assert_eq!(run(4), MISSED);
        let events = world(|world| std::mem::take(&mut world.events));
        assert_eq!(events, [Event::Fallback(vec![100, 4, 7, 1000])]);
    }
}

#[test]
fn a_word_is_added_in_place_unless_something_comes_between() {
    const WORD: Field = Field::new("word", 8, Mem::I64);
    type Between = fn(&mut Builder, Val);
    let nothing: Between = |_, _| {};
    let reads: Between = |b, memory| {
        b.load(memory, WORD);
    };
    let writes: Between = |b, memory| {
        let hundred = b.number(100);
        b.store(memory, WORD, hundred);
    };
    for (between, in_place) in [(nothing, true), (reads, true), (writes, false)] {
        for number in [1, 1000, -5, 1 << 40] {
            // The second parameter is the address as well, which the code does not know.
            let (mut b, [memory, same]) = Builder::new();
            let word = b.load(memory, WORD);
            let added = b.number(i64::cast_unsigned(number));
            let sum = b.op(Op::Add, &[word, added]);
            between(&mut b, same);
            b.store(memory, WORD, sum);
            let stub = Jit::default().compile(&b.ret(same), 0).unwrap();
            let mut words = [0_i64, 7, 0];
            let address = words.as_mut_ptr().expose_provenance() as u64;
            // SAFETY: the stub writes the second word at this address.
            unsafe { enter(Abi::HOST, stub.entry(), &[address, address, 0, 0, 0, 0]) };
            // SAFETY: the word is there; the stub has written it.
            let after = unsafe { words.as_ptr().wrapping_add(1).read_volatile() };
            assert_eq!(after, 7 + number);
            let fits = i32::try_from(number).is_ok();
            let text = stub.disassemble();
            assert_eq!(text.contains("add qword ptr [rdi+8]"), in_place && fits, "{text}");
        }
    }
}

#[test]
fn what_is_refused() {
    let check = |host, trace: &Trace, want: Refusal| {
        let jit = Jit::entered_by(host, Options::default());
        assert_eq!(jit.compile(trace, 0).unwrap_err(), want);
    };
    let (b, [x, ..]) = Builder::new::<7>();
    check(Abi::SystemV, &b.ret(x), TOO_MANY_PARAMETERS);
    let (b, [x, ..]) = Builder::new::<5>();
    check(Abi::Win64, &b.ret(x), TOO_MANY_PARAMETERS);
    check(Abi::HOST, &call_with(9000), FRAME_TOO_LARGE);
    check(Abi::HOST, &Trace::default(), INVALID_TRACE);
    let (mut b, [x]) = Builder::new();
    b.number(7);
    b.trace.push(Op::Param, vec![], hotcall_tracer::Data::Imm(2));
    check(Abi::HOST, &b.ret(x), INVALID_TRACE);
    let (mut b, [x]) = Builder::new();
    b.op(Op::ToF64, &[hotcall_tracer::Val(9)]);
    check(Abi::HOST, &b.ret(x), INVALID_TRACE);
}

#[test]
fn what_nobody_needs_of_a_thread_does_not_fold_its_base() {
    let (mut b, [x]) = Builder::new();
    let thread = b.op(Op::Thread, &[]);
    b.load(thread, Field::new("unneeded", 0, Mem::I64));
    let sum = b.op(Op::Add, &[thread, x]);
    let (trace, jit) = (b.ret(sum), Jit::default());
    let entry = jit.compile(&trace, 0).unwrap().entry();
    // SAFETY: it adds its first word to the thread's base.
    let [none, five] = [0, 5].map(|x| unsafe { enter(Abi::HOST, entry, &[x; 6]) });
    assert_eq!(five, none + 5);
}
