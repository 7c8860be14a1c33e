//! The call site: when it records, how it chains, and what it remembers; and
//! that the two readings of a rule do the same.

mod common;

use std::cell::RefCell;

use common::{Table, symbol};
use expect_test::expect;
use hotcall_tracer::{
    Backend, Data, Field, Limits, Live, MOST_CHANCES, MOST_RENEWALS, Mem, Op, Ops, Outcome, Plan,
    Recorder, Refusal, Site, Symbol, Tier, Trace, eval,
};

const TOO_BIG: Refusal = Refusal::new("too-big", "It is too big.");
const FULL: Refusal = Refusal::new("full", "There is no room.");

/// Compiles to a number, and writes down the fallbacks.
#[derive(Default)]
struct Numbers {
    fallbacks: RefCell<Vec<u64>>,
    room: usize,
}

impl Backend for Numbers {
    type Stub = u64;

    fn compile(&self, _trace: &Trace, fallback: u64) -> Result<u64, Refusal> {
        let mut fallbacks = self.fallbacks.borrow_mut();
        if fallbacks.len() == self.room {
            return Err(FULL);
        }
        fallbacks.push(fallback);
        Ok(100 + fallbacks.len() as u64)
    }

    fn entry(&self, stub: &u64) -> u64 {
        *stub
    }
}

/// A trace that returns `word`.
fn returns(word: u64) -> Trace {
    let mut trace = Trace::default();
    let val = trace.push(Op::Const, vec![], Data::Imm(word));
    trace.push(Op::Ret, vec![val], Data::None);
    trace
}

fn site(hot: u32, shapes: usize) -> Site<u64> {
    Site::new(Limits { hot, shapes, refusals: 3 })
}

#[test]
fn a_site_records_when_it_is_hot_until_the_chain_is_full() {
    let site = site(3, 2);
    let backend = Numbers { room: 9, ..Numbers::default() };
    let plans: Vec<Plan> = (0..3).map(|_| site.plan()).collect();
    assert_eq!(plans, [Plan::Interpret, Plan::Interpret, Plan::Record]);
    assert_eq!(site.tier(), Tier::Interpreter);
    assert_eq!(site.add(returns(1), &backend, 7), Ok(101));
    assert_eq!(site.tier(), Tier::Stub);
    assert_eq!((0..3).filter(|_| site.plan() == Plan::Record).count(), 1);
    assert_eq!(site.add(returns(2), &backend, 7), Ok(102));
    assert_eq!(*backend.fallbacks.borrow(), [7, 101], "newest, older, generic");
    assert!((0..100).all(|_| site.plan() == Plan::Interpret), "the chain is full");
    for _ in 0..1000 {
        assert_eq!(site.plan(), Plan::Interpret);
        site.refuse(TOO_BIG);
        site.accept();
    }
    assert_eq!(site.renewals(), 0, "refused calls do not count");
}

#[test]
fn a_full_chain_that_no_call_takes_is_made_anew_a_few_times() {
    let site = site(1, 2);
    let backend = Numbers { room: 1000, ..Numbers::default() };
    let mut recorded = Vec::new();
    for call in 0..1_000_000_u64 {
        if site.plan() == Plan::Record {
            recorded.push(call);
            site.add(returns(call), &backend, 7).unwrap();
        }
        site.accept();
    }
    assert_eq!(site.renewals(), MOST_RENEWALS);
    assert_eq!(recorded.len(), 2 * (1 + MOST_RENEWALS as usize));
    assert_eq!(recorded[..4], [0, 1, 18, 19], "two shapes, sixteen calls, and two again");
    let fallbacks = backend.fallbacks.borrow();
    assert!(fallbacks.chunks(2).all(|chain| chain[0] == 7), "each chain ends in the generic path");
}

#[test]
fn the_same_shape_is_chained_once() {
    let site = site(1, 4);
    let backend = Numbers { room: 9, ..Numbers::default() };
    assert_eq!(site.add(returns(1), &backend, 7), Ok(101));
    assert_eq!(site.add(returns(1), &backend, 7), Ok(101));
    assert_eq!(site.shapes().len(), 1);
}

/// Compiles to a number while another thread does something at the site.
struct Meanwhile<'a> {
    numbers: Numbers,
    other: &'a dyn Fn(&Numbers),
}

impl Backend for Meanwhile<'_> {
    type Stub = u64;

    fn compile(&self, trace: &Trace, fallback: u64) -> Result<u64, Refusal> {
        (self.other)(&self.numbers);
        self.numbers.compile(trace, fallback)
    }

    fn entry(&self, stub: &u64) -> u64 {
        *stub
    }
}

/// The stubs from the head to the generic path at 7.
fn chain(site: &Site<u64>, backend: &Numbers) -> Vec<u64> {
    let fallbacks = backend.fallbacks.borrow();
    let next = |stub: &u64| Some(fallbacks[*stub as usize - 101]).filter(|next| *next != 7);
    std::iter::successors(site.head(), next).collect()
}

fn stubs(site: &Site<u64>) -> Vec<u64> {
    site.shapes().iter().rev().map(|shape| shape.stub).collect()
}

#[test]
fn shapes_that_are_compiled_at_once_are_all_in_the_chain() {
    let site = site(1, 8);
    let words = RefCell::new(vec![2]);
    let other = |numbers: &Numbers| {
        if let Some(word) = words.borrow_mut().pop() {
            site.add(returns(word), numbers, 7).unwrap();
        }
    };
    let backend = Meanwhile { numbers: Numbers { room: 9, ..Numbers::default() }, other: &other };
    assert_eq!(site.add(returns(1), &backend, 7), Ok(103), "the second attempt");
    assert_eq!(stubs(&site), [103, 101]);
    assert_eq!(chain(&site, &backend.numbers), stubs(&site));

    words.borrow_mut().push(3);
    assert_eq!(site.add(returns(3), &backend, 7), Ok(104), "the other thread's");
    assert_eq!(chain(&site, &backend.numbers), stubs(&site));
}

#[test]
fn a_chain_that_is_dropped_while_a_shape_is_compiled_does_not_return() {
    let site = site(1, 2);
    let numbers = Numbers { room: 9, ..Numbers::default() };
    assert_eq!(site.add(returns(1), &numbers, 7), Ok(101));
    let backend = Meanwhile { numbers, other: &|_| site.start_over() };
    site.add(returns(2), &backend, 7).unwrap();
    assert_eq!(chain(&site, &backend.numbers), stubs(&site));
    assert_eq!(site.shapes().len(), 1);
    assert_eq!(site.plan(), Plan::Record, "the next call is recorded");
}

#[test]
fn a_shape_is_left_for_later_while_others_are_added_without_end() {
    let site = site(1, 99);
    let word = RefCell::new(100);
    let other = |numbers: &Numbers| {
        *word.borrow_mut() += 1;
        site.add(returns(*word.borrow()), numbers, 7).unwrap();
    };
    let backend = Meanwhile { numbers: Numbers { room: 99, ..Numbers::default() }, other: &other };
    let head = site.add(returns(1), &backend, 7).unwrap();
    assert_eq!(site.head(), Some(head));
    assert!(site.shapes().iter().all(|shape| shape.trace != returns(1)));
    assert_eq!(chain(&site, &backend.numbers), stubs(&site));
    assert_eq!(site.plan(), Plan::Record);
    site.add(returns(1), &backend.numbers, 7).unwrap();
    assert_eq!(site.shapes().last().map(|shape| shape.trace.clone()), Some(returns(1)));
}

#[test]
fn a_backend_that_refused_is_not_asked_again() {
    let site = site(1, 4);
    let backend = Numbers::default();
    assert_eq!(site.plan(), Plan::Record);
    assert_eq!(site.add(returns(1), &backend, 7), Err(FULL));
    assert_eq!(site.plan(), Plan::Interpret);
    assert_eq!(site.uncompiled(), Some(FULL));
}

#[test]
fn refusals_are_counted_and_a_row_of_them_ends_the_attempts() {
    let site = site(0, 4);
    for _ in 0..2 {
        site.refuse(TOO_BIG);
    }
    assert_eq!(site.plan(), Plan::Interpret);
    site.accept();
    for _ in 0..3 {
        site.refuse(TOO_BIG);
    }
    assert_eq!(site.plan(), Plan::Decline);
    assert_eq!(site.refusals(), [(TOO_BIG, 5)]);
    assert_eq!(site.last_refusal(), Some(TOO_BIG));
    assert_eq!(site.tier(), Tier::Declined);
}

#[test]
fn a_refused_site_gets_a_few_more_chances() {
    let site = site(10, 4);
    let refuse = |site: &Site<u64>| (0..3).for_each(|_| site.refuse(TOO_BIG));
    let mut waited = Vec::new();
    for _ in 0..MOST_CHANCES {
        refuse(&site);
        assert_eq!(site.tier(), Tier::Declined);
        // The host makes single calls, and then all that it is told to make.
        assert_eq!(site.plan(), Plan::Decline);
        waited.push(site.decline(false).unwrap() + 2);
        assert_eq!(site.decline(true), None);
        assert_eq!(site.tier(), Tier::Interpreter);
        assert_eq!(site.plan(), Plan::Interpret);
    }
    assert_eq!(waited, [160, 640, 2560, 10240]);
    refuse(&site);
    assert_eq!(site.decline(false), Some(u32::MAX));
    assert_eq!(site.plan(), Plan::Decline);
}

/// A rule with a decision: the double of a small word, else the word itself.
fn rule<O: Ops>(o: &mut O, word: O::Word) -> O::Word {
    const ROW: Field = Field::new("row", 8, Mem::U32);
    let bound = o.constant(100);
    if !o.test_lt(word, bound) {
        return word;
    }
    let counter = o.symbol(&Symbol { name: "counter".into(), address: 64 });
    let count = o.load(counter, ROW);
    o.store(counter, ROW, word);
    let one = o.constant(1);
    let double = o.shl(word, one);
    o.add(double, count)
}

#[test]
fn both_readings_and_the_evaluator_agree() {
    for word in [0, 3, 99, 100, u64::MAX] {
        let (mut live, mut recorded, mut evaluated) =
            (Table::default(), Table::default(), Table::default());
        let expected = rule(&mut Live { host: &mut live }, word);
        let (mut recorder, [param]) = Recorder::enter(&mut recorded, [word]);
        let result = rule(&mut recorder, param);
        assert_eq!(result.word, expected);
        let trace = recorder.finish(result).expect("it did not return early");
        assert_eq!(eval(&trace, &[word], &mut evaluated), Outcome::Done(expected));
        assert_eq!(recorded.log, live.log);
        assert_eq!(evaluated.log, live.log);
    }
}

#[test]
fn a_test_becomes_a_guard_in_its_direction() {
    let mut host = Table::default();
    let (mut recorder, [param]) = Recorder::enter(&mut host, [100]);
    let result = rule(&mut recorder, param);
    let trace = recorder.finish(result).expect("it did not return early");
    expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  const 100
                  guard_ge v0 v1
                  ret v0
    "#]]
    .assert_eq(&trace.to_string());
    assert_eq!(eval(&trace, &[3], &mut host), Outcome::Exit(2));
    assert_eq!(trace.guards(&["count"]), ["count >= 100"]);
}

#[test]
fn a_run_that_returned_early_leaves_no_trace() {
    let mut host = Table::default();
    for (condition, traced) in [(0, true), (1, false)] {
        let (mut recorder, [param]) = Recorder::enter(&mut host, [condition]);
        assert_eq!(recorder.return_if(param, param), !traced);
        assert_eq!(recorder.finish(param).is_some(), traced);
    }
}

#[test]
fn guards_read_as_conditions() {
    let mut trace = Trace::default();
    let args = trace.push(Op::Param, vec![], Data::Imm(0));
    let item = Field::new("arg", 0, Mem::I64).item(2);
    let object = trace.push(Op::Load, vec![args], Data::Field(item));
    let class = trace.push(Op::Load, vec![object], common::row("type", 8));
    let float = trace.push(Op::Sym, vec![], symbol("float", 64));
    trace.push(Op::GuardEq, vec![class, float], Data::None);
    trace.push(Op::Ret, vec![object], Data::None);
    assert_eq!(trace.guards(&[]), ["arg[2].type == @float"]);
}
