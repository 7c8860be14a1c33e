//! The optimiser: golden texts for each kind of simplification, and random
//! traces that must mean the same before and after.

mod common;

use common::{Table, random_trace, row, symbol};
use expect_test::{Expect, expect};
use hotcall_tracer::{Data, Mem, Op, Outcome, Trace, Val, eval, optimize, verify};

/// Builds a trace, which must be well formed, and checks its optimised text.
fn check(build: impl FnOnce(&mut Trace) -> Val, expected: Expect) {
    let mut trace = Trace::default();
    trace.push(Op::Param, vec![], Data::Imm(0));
    trace.push(Op::Param, vec![], Data::Imm(1));
    let result = build(&mut trace);
    trace.push(Op::Ret, vec![result], Data::None);
    assert_eq!(verify(&trace), Ok(()), "{trace}");
    expected.assert_eq(&optimize(trace).to_string());
}

const A: Val = Val(0);
const B: Val = Val(1);

fn number(trace: &mut Trace, word: u64) -> Val {
    trace.push(Op::Const, vec![], Data::Imm(word))
}

#[test]
fn repeated_reads_and_guards_are_done_once() {
    check(
        |t| {
            let class = t.push(Op::Load, vec![A], row("type", 8));
            let float = t.push(Op::Sym, vec![], symbol("float", 64));
            t.push(Op::GuardEq, vec![class, float], Data::None);
            let again = t.push(Op::Load, vec![A], row("type", 8));
            let float = t.push(Op::Sym, vec![], symbol("float", 64));
            t.push(Op::GuardEq, vec![again, float], Data::None);
            t.push(Op::Load, vec![A], row("value", 16))
        },
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  load v0 type
            v3:i64 =  sym @float
                      guard_eq v2 v3
            v5:i64 =  load v0 value
                      ret v5
        "#]],
    );
}

#[test]
fn a_guard_implied_by_its_neighbour_goes() {
    check(
        |t| {
            let class = t.push(Op::Load, vec![A], row("type", 8));
            let int = t.push(Op::Sym, vec![], symbol("int", 64));
            t.push(Op::GuardNe, vec![class, int], Data::None);
            let bool = t.push(Op::Sym, vec![], symbol("bool", 128));
            t.push(Op::GuardEq, vec![class, bool], Data::None);
            B
        },
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  load v0 type
            v3:i64 =  sym @bool
                      guard_eq v2 v3
                      ret v1
        "#]],
    );
}

#[test]
fn a_guard_that_protects_a_read_stays() {
    check(
        |t| {
            let zero = number(t, 0);
            t.push(Op::GuardNe, vec![A, zero], Data::None);
            let read = t.push(Op::Load, vec![A], row("value", 16));
            let five = number(t, 5);
            t.push(Op::GuardEq, vec![A, five], Data::None);
            read
        },
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  const 0
                      guard_ne v0 v2
            v4:i64 =  load v0 value
            v5:i64 =  const 5
                      guard_eq v0 v5
                      ret v4
        "#]],
    );
}

#[test]
fn bounds_imply_wider_bounds() {
    check(
        |t| {
            let (two, nine) = (number(t, 2), number(t, 9));
            t.push(Op::GuardLt, vec![A, two], Data::None);
            t.push(Op::GuardLt, vec![A, nine], Data::None);
            t.push(Op::GuardNe, vec![A, nine], Data::None);
            t.push(Op::GuardGe, vec![B, nine], Data::None);
            t.push(Op::GuardGe, vec![B, two], Data::None);
            t.push(Op::GuardNe, vec![B, two], Data::None);
            B
        },
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  const 2
            v3:i64 =  const 9
                      guard_lt v0 v2
                      guard_ge v1 v3
                      ret v1
        "#]],
    );
}

#[test]
fn a_value_found_equal_to_a_constant_is_that_constant() {
    check(
        |t| {
            let three = number(t, 3);
            t.push(Op::GuardEq, vec![A, three], Data::None);
            let sum = t.push(Op::Add, vec![A, A], Data::None);
            let zero = number(t, 0);
            t.push(Op::Or, vec![sum, zero], Data::None)
        },
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  const 3
                      guard_eq v0 v2
            v4:i64 =  const 6
                      ret v4
        "#]],
    );
}

#[test]
fn widening_what_is_wide_already_goes() {
    check(
        |t| {
            let byte = t.push(Op::Load, vec![A], Data::Field(field("byte", Mem::U8)));
            let wide = t.push(Op::Extend, vec![byte], Data::Mem(Mem::I32));
            let narrow = t.push(Op::Extend, vec![wide], Data::Mem(Mem::I8));
            t.push(Op::Add, vec![wide, narrow], Data::None)
        },
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  load v0 byte
            v3:i64 =  extend v2 i8
            v4:i64 =  add v2 v3
                      ret v4
        "#]],
    );
}

fn field(name: &'static str, mem: Mem) -> hotcall_tracer::Field {
    hotcall_tracer::Field::new(name, 0, mem)
}

/// Whether a run ended by an exit, and the word that it returned if not.
fn ended(outcome: Outcome) -> Option<u64> {
    match outcome {
        Outcome::Done(word) => Some(word),
        Outcome::Exit(_) => None,
    }
}

#[test]
fn random_traces_mean_the_same_afterwards() {
    arbtest::arbtest(|u| {
        let trace = random_trace(u, 3)?;
        assert_eq!(verify(&trace), Ok(()), "{trace}");
        let params = [u.int_in_range(0..=4)?, u.int_in_range(0..=4)?, u.arbitrary()?];
        let (mut before, mut after) = (Table::default(), Table::default());
        let expected = ended(eval(&trace, &params, &mut before));
        let optimised = optimize(trace.clone());
        let found = ended(eval(&optimised, &params, &mut after));
        assert_eq!(found, expected, "{params:?}\n{trace}\n{optimised}");
        if expected.is_some() {
            assert_eq!(after.log, before.log, "{params:?}\n{trace}\n{optimised}");
        }
        Ok(())
    })
    .budget_ms(budget());
}

/// How long random tests run, in milliseconds.
fn budget() -> u64 {
    std::env::var("HOTCALL_FUZZ_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(400)
}
