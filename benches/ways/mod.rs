//! What the benches of this folder share: ways to do the same, which take turns in one
//! process, so that each round compares them under equal conditions. Criterion then
//! measures each by itself, and compares it with what it was in an earlier run.

#![allow(clippy::print_stdout, reason = "these programs print tables")]

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use hotcall::Signature;

/// How many rounds, and how many calls of each way in a round.
struct Effort {
    rounds: usize,
    calls: u64,
}

/// With `--test`, as much as shows that it runs.
fn effort() -> Effort {
    match env::args().any(|arg| arg == "--test") {
        true => Effort { rounds: 3, calls: 100 },
        false => Effort { rounds: 201, calls: 20_000 },
    }
}

/// Criterion as the command line has it, for calls that take nanoseconds.
pub(crate) fn criterion() -> Criterion {
    let short = Criterion::default().warm_up_time(Duration::from_millis(200));
    short.measurement_time(Duration::from_secs(1)).configure_from_args()
}

/// A way to call a function.
pub(crate) struct Way<'a> {
    pub(crate) name: &'static str,
    /// Makes so many calls, and tells how long they took.
    pub(crate) run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

/// The way that is a loop of its own around `call`.
#[allow(dead_code, reason = "some loops are written out")]
pub(crate) fn way<'a, T>(name: &'static str, mut call: impl FnMut() -> T + 'a) -> Way<'a> {
    let run = move |calls| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed()
    };
    Way { name, run: Box::new(run) }
}

/// Runs the ways in turn, and prints their times and ratios to the first; then how
/// many times as long the first of each pair of `gains` takes as the second. Criterion
/// has the last word.
pub(crate) fn compare(
    criterion: &mut Criterion,
    signature: &Signature,
    ways: &mut [Way<'_>],
    gains: &[(&str, &str)],
) {
    let effort = effort();
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for _ in 0..effort.rounds {
        let time = |way: &mut Way<'_>| (way.run)(effort.calls).as_secs_f64();
        rounds.push(ways.iter_mut().map(time).collect());
    }
    println!("{signature}");
    for (index, way) in ways.iter().enumerate() {
        let nanoseconds = least(&rounds, index) / effort.calls as f64 * 1e9;
        println!("  {:<15} {nanoseconds:6.2} ns   {}", way.name, ratios(&rounds, index, 0));
    }
    let position = |name: &str| ways.iter().position(|way| way.name == name).unwrap();
    for (of, to) in gains {
        let gain = ratios(&rounds, position(of), position(to));
        println!("  {:<27} {gain}", format!("{of} / {to}"));
    }
    let mut group = criterion.benchmark_group(signature.to_string());
    for way in ways {
        group.bench_function(way.name, |bencher| bencher.iter_custom(&mut way.run));
    }
    group.finish();
}

/// The least time that a way took in a round.
fn least(rounds: &[Vec<f64>], way: usize) -> f64 {
    rounds.iter().map(|round| round[way]).fold(f64::INFINITY, f64::min)
}

/// How many times as long one way takes as another: by their least times, and
/// in the median of the rounds.
fn ratios(rounds: &[Vec<f64>], of: usize, to: usize) -> String {
    let mut ratios: Vec<f64> = rounds.iter().map(|round| round[of] / round[to]).collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    format!("x {:5.2} least, {median:5.2} median", least(rounds, of) / least(rounds, to))
}
