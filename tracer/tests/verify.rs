//! The verifier names what is wrong with a trace that is not well formed.

mod common;

use common::{POKE, row};
use hotcall_tracer::{Data, Op, Trace, Val, verify};

/// Checks the reason for which a trace is refused.
fn check(build: impl FnOnce(&mut Trace), reason: &str) {
    let mut trace = Trace::default();
    build(&mut trace);
    let invalid = verify(&trace).expect_err("the trace is not well formed");
    assert!(invalid.to_string().contains(reason), "{invalid}\n{trace}");
}

fn param(trace: &mut Trace) -> Val {
    trace.push(Op::Param, vec![], Data::Imm(0))
}

fn ret(trace: &mut Trace, val: Val) {
    trace.push(Op::Ret, vec![val], Data::None);
}

#[test]
fn a_guard_may_not_follow_an_effect() {
    let build = |t: &mut Trace| {
        let a = param(t);
        t.push(Op::Help, vec![a], Data::Helper(&POKE));
        t.push(Op::GuardEq, vec![a, a], Data::None);
        ret(t, a);
    };
    check(build, "a guard follows an effect");
}

#[test]
fn values_are_defined_first_and_typed() {
    let early = |t: &mut Trace| {
        param(t);
        t.push(Op::Add, vec![Val(0), Val(1)], Data::None);
    };
    check(early, "before it is defined");
    let mistyped = |t: &mut Trace| {
        let a = param(t);
        t.push(Op::Demote, vec![a], Data::None);
    };
    check(mistyped, "wrong type");
    let valueless = |t: &mut Trace| {
        let a = param(t);
        let guard = t.push(Op::GuardEq, vec![a, a], Data::None);
        ret(t, guard);
    };
    check(valueless, "wrong type");
    let missing = |t: &mut Trace| {
        let a = param(t);
        t.push(Op::Add, vec![a], Data::None);
    };
    check(missing, "wrong number of operands");
}

#[test]
fn data_is_of_the_kind_in_the_table() {
    let build = |t: &mut Trace| {
        param(t);
        t.push(Op::Const, vec![], row("type", 8));
    };
    check(build, "kind that the table names");
}

#[test]
fn parameters_come_first_and_ret_last() {
    let late = |t: &mut Trace| {
        t.push(Op::Const, vec![], Data::Imm(1));
        param(t);
    };
    check(late, "the parameters are not the first");
    let apart = |t: &mut Trace| {
        let a = param(t);
        t.push(Op::Const, vec![], Data::Imm(1));
        t.push(Op::Param, vec![], Data::Imm(2));
        ret(t, a);
    };
    check(apart, "the parameters are not the first");
    let unfinished = |t: &mut Trace| {
        param(t);
    };
    check(unfinished, "does not end with ret");
    let twice = |t: &mut Trace| {
        let a = param(t);
        ret(t, a);
        ret(t, a);
    };
    check(twice, "not the last");
    check(|_| {}, "does not end with ret");
}
