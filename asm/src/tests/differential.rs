//! Random traces, by the evaluator and by machine code: both must return the
//! same word, call the same functions with the same words, and leave the same
//! memory behind.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use hotcall_core::{Abi, CType, Signature};
use hotcall_tracer::{Backend, Data, Effect, Inst, Op, Outcome, Trace, eval, verify};

use super::enter::enter;
use super::foreign::{expect_next, fallback_system_v, fallback_win64, gate, helpers};
use super::random::{Random, SELF, TARGET};
use super::world::{BYTES, Event, MISSED, TestHost, world};
use super::{frames, fuzz_ms};
use crate::{Jit, Options};

/// The gate notes what it sees in statics, so one test at a time goes through it.
static GATE: Mutex<()> = Mutex::new(());

/// The address of the function that is behind the gate.
fn target() -> u64 {
    (gate as *const ()).addr() as u64
}

/// Random memory with the words that traces rely on.
fn memory(u: &mut Unstructured<'_>) -> Result<Vec<u64>> {
    let mut memory = Vec::with_capacity(BYTES / 8);
    for _ in 0..BYTES / 8 {
        memory.push(match u.int_in_range(0..=2)? {
            0 => u.arbitrary::<i8>()? as u64,
            _ => u.arbitrary()?,
        });
    }
    Ok(memory)
}

/// Puts the world back to its beginning.
fn begin(memory: &[u64], calls: &[Signature]) {
    world(|world| {
        world.events.clear();
        world.memory.copy_from_slice(memory);
        world.memory[SELF] = world.memory.as_ptr().addr() as u64;
        world.memory[TARGET] = target();
        world.to_come = calls.iter().rev().map(|call| (target(), call.clone())).collect();
    });
    expect_next();
}

/// What is left of the world.
fn end() -> (Vec<Event>, Vec<u64>) {
    world(|world| (std::mem::take(&mut world.events), world.memory.to_vec()))
}

/// Runs `trace` in both ways from equal worlds.
fn compare(
    jit: &Jit,
    abi: Abi,
    trace: &Trace,
    calls: &[Signature],
    words: [u64; 6],
    start: &[u64],
) {
    let params = trace.params();
    begin(start, calls);
    let outcome = eval(trace, &words[..params], &mut TestHost);
    let (mut want_events, want_memory) = end();
    let want = match outcome {
        Outcome::Done(word) => word,
        Outcome::Exit(_) => {
            want_events.push(Event::Fallback(words[..params].to_vec()));
            MISSED
        }
    };

    let fallback = match abi {
        Abi::SystemV => fallback_system_v as *const (),
        Abi::Win64 => fallback_win64 as *const (),
    };
    let stub = jit.compile(trace, fallback.addr() as u64).expect("a stub");
    frames::check(&stub);
    begin(start, calls);
    world(|world| world.params = params);
    // SAFETY: the stub was made for `abi`, and the world has its memory, its
    // helpers, and as many foreign calls as the trace makes.
    let got = unsafe { enter(abi, stub.entry(), &words) };
    let (events, memory) = end();
    let text = || format!("{words:x?}\n{trace}\n{}", stub.disassemble());
    assert_eq!(events, want_events, "\n{}", text());
    assert_eq!(got, want, "{got:x} for {want:x}\n{}", text());
    assert_eq!(memory, want_memory, "\n{}", text());
}

/// Runs `trace` without its guards in both ways: as a callback that `entered` has, of
/// as many words as fit its registers. The first word is the context.
fn compare_callback(
    jit: &Jit,
    entered: Abi,
    trace: &Trace,
    calls: &[Signature],
    words: [u64; 6],
    start: &[u64],
) {
    let args = vec![CType::I64; trace.params() - 1];
    if args.len() > usize::from(entered.gp_registers()) {
        return;
    }
    let trace = without(trace, |inst| (inst.op.effect() == Effect::Exit).then_some(0));
    begin(start, calls);
    let want = eval(&trace, &words[..trace.params()], &mut TestHost);
    let (want_events, want_memory) = end();

    let signature = Signature::new(args, CType::U64).expect("no void").with_abi(entered);
    let stub = jit.compile_callback(&trace, &signature).expect("a stub");
    let trampoline = jit.trampoline(stub.entry(), words[0]).expect("a trampoline");
    let mut args = [0; 6];
    args[..5].copy_from_slice(&words[1..]);
    begin(start, calls);
    // SAFETY: the stub was made for `entered`, and the world has its memory, its
    // helpers, and as many foreign calls as the trace makes.
    let got = unsafe { enter(entered, trampoline.address(), &args) };
    let (events, memory) = end();
    let text = || format!("{words:x?}\n{trace}\n{}", stub.disassemble());
    assert_eq!(Outcome::Done(got), want, "\n{}", text());
    assert_eq!(events, want_events, "\n{}", text());
    assert_eq!(memory, want_memory, "\n{}", text());
}

/// `trace` with numbers in place of some instructions.
fn without(trace: &Trace, number: impl Fn(&Inst) -> Option<u64>) -> Trace {
    let mut trace = trace.clone();
    for inst in &mut trace.insts {
        if let Some(word) = number(inst) {
            *inst = Inst { op: Op::Const, args: vec![], data: Data::Imm(word) };
        }
    }
    trace
}

/// Runs `trace` in both ways as a loop of some turns: its first parameter stays, the
/// others go on by `strides`.
fn compare_loop(
    jit: &Jit,
    trace: &Trace,
    calls: &[Signature],
    words: [u64; 6],
    start: &[u64],
    (strides, turns): ([i32; 6], Range<u64>),
) {
    let params = trace.params();
    let trace = without(trace, |inst| match (&inst.data, inst.op.effect()) {
        (_, Effect::Exit) => Some(0),
        _ if inst.op == Op::RetIf => Some(0),
        // What it reads has changed by the second turn.
        (Data::Field(field), Effect::Read) if field.name == "special" => {
            Some(if field.offset as usize == 8 * SELF { words[0] } else { target() })
        }
        _ => None,
    });
    let all: Vec<Signature> = turns.clone().flat_map(|_| calls.iter().cloned()).collect();
    begin(start, &all);
    for turn in turns.clone() {
        let item = |nth: usize| words[nth].wrapping_add(turn.wrapping_mul(strides[nth] as u64));
        let items: Vec<u64> = (0..params).map(item).collect();
        assert!(matches!(eval(&trace, &items, &mut TestHost), Outcome::Done(_)));
    }
    let (want_events, want_memory) = end();

    let stub = jit.compile_loop(&trace, &strides[..params]).expect("a stub");
    frames::check(&stub);
    let mut table = words[..params].to_vec();
    table.push(turns.end);
    begin(start, &all);
    let entered = [table.as_ptr().addr() as u64, turns.start, 0, 0, 0, 0];
    // SAFETY: the stub was made for this convention, the table has a word for each
    // column and the end, and the world has what the trace needs.
    unsafe { enter(jit.host(), stub.entry(), &entered) };
    let (events, memory) = end();
    let text = || format!("{words:x?} {strides:?}\n{trace}\n{}", stub.disassemble());
    assert_eq!(events, want_events, "\n{}", text());
    assert_eq!(memory, want_memory, "\n{}", text());
}

/// How far apart the items of columns are.
const STRIDES: [i32; 9] = [0, 1, 2, 4, 8, 24, -8, 3, i32::MIN];

fn random_traces(abi: Abi) {
    let _gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    let helpers = helpers(abi);
    let mut jit = Jit::entered_by(abi, Options::default());
    world(|world| world.memory = vec![0; BYTES / 8].into());
    arbtest(|u| {
        if jit.usage().used_bytes * 2 > jit.usage().capacity {
            jit = Jit::entered_by(abi, Options::default());
        }
        let start = memory(u)?;
        let mut words = [0; 6];
        for word in &mut words {
            *word = if u.arbitrary()? { u.arbitrary::<u8>()?.into() } else { u.arbitrary()? };
        }
        words[0] = world(|world| world.memory.as_ptr().addr() as u64);
        world(|world| world.seed = words[1]);
        let params = u.int_in_range(1..=usize::from(abi.gp_registers()))?;
        begin(&start, &[]);
        let (trace, calls) = Random::trace(u, helpers, &words[..params])?;
        assert_eq!(verify(&trace), Ok(()), "\n{trace}");
        compare(&jit, abi, &trace, &calls, words, &start);
        // Once more with another beginning: other guards fail now.
        let other = memory(u)?;
        for word in &mut words[1..] {
            *word ^= u.arbitrary::<u64>()? & u.arbitrary::<u64>()?;
        }
        compare(&jit, abi, &trace, &calls, words, &other);
        // Helpers are of the host's convention, whoever enters.
        let entered = *u.choose(&[Abi::SystemV, Abi::Win64])?;
        compare_callback(&jit, entered, &trace, &calls, words, &other);
        let mut strides = [0; 6];
        for stride in &mut strides[1..] {
            *stride = *u.choose(&STRIDES)?;
        }
        let first = u.int_in_range(0..=3)?;
        let turns = first..first + u.int_in_range(1..=4)?;
        compare_loop(&jit, &trace, &calls, words, &other, (strides, turns));
        Ok(())
    })
    .budget_ms(fuzz_ms());
}

#[test]
fn traces_entered_by_system_v() {
    random_traces(Abi::SystemV);
}

#[test]
fn traces_entered_by_win64() {
    random_traces(Abi::Win64);
}
