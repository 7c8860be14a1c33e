//! A model of how the GIL is lent (`python/src/lending.rs`): the steps of a
//! thread that makes calls and of the monitor, in every interleaving, on a
//! processor whose stores are seen late (x86-64's total store order).
//!
//! What must never happen: the thread is in Python without the GIL; the monitor
//! releases a GIL that is not lent; the monitor sleeps, or has ended, while a call
//! has lent the GIL, or both wait for ever. Without the monitor's barriers some of it does.

use std::collections::HashSet;

/// Calls that the thread makes.
const CALLS: u8 = 2;

/// What stands in the record's `request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Request {
    Nothing,
    Asked,
    Stolen,
    Released,
}

/// What the thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Thread {
    InPython,
    LookForAway,
    LendSlowly,
    InCall,
    ComeBack,
    LookForRequest,
    TakeBack,
    Retake,
}

/// What the monitor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Monitor {
    Looks,
    /// It has seen this turn under way.
    Decides(u8),
    Asks(u8),
    StealBarrier(u8),
    Concludes(u8),
    Releases,
    Watches,
    SleepBarrier,
    LooksOnceMore,
    Sleeps,
    WakesUp,
    /// It has slept for long, whether it was called just now or not.
    Ends,
    EndBarrier,
    LooksForTheLastTime,
    HasEnded,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    thread: Thread,
    monitor: Monitor,
    calls: u8,
    /// Turns that the thread has stored and nobody else sees yet, oldest first.
    unseen: Vec<u8>,
    /// The turn that others see.
    turn: u8,
    request: Request,
    /// Whether nobody watches.
    away: bool,
    /// Whether that is because the monitor sleeps, or is about to.
    asleep: bool,
    /// Whether the monitor has been called since.
    called: bool,
    /// Whether the monitor has decided to end.
    ending: bool,
    /// Whether the monitor has the lock of decisions. The thread takes it and
    /// gives it back in one step.
    deciding: bool,
    /// Whether the thread has the GIL, lent or not.
    has_gil: bool,
}

impl State {
    fn new() -> State {
        State {
            thread: Thread::InPython,
            monitor: Monitor::Looks,
            calls: 0,
            unseen: Vec::new(),
            turn: 0,
            request: Request::Nothing,
            away: false,
            asleep: false,
            called: false,
            ending: false,
            deciding: false,
            has_gil: true,
        }
    }

    /// The turn as the thread itself sees it.
    fn own_turn(&self) -> u8 {
        self.unseen.last().copied().unwrap_or(self.turn)
    }

    /// All that the thread has stored is seen now.
    fn flush(&mut self) {
        self.turn = self.own_turn();
        self.unseen.clear();
    }

    fn is_under_way(&self) -> bool {
        self.turn % 2 == 1 && !matches!(self.request, Request::Stolen | Request::Released)
    }

    /// The next state if the oldest store is seen.
    fn seen(&self) -> Option<State> {
        let mut next = self.clone();
        (!self.unseen.is_empty()).then(|| {
            next.turn = next.unseen.remove(0);
            next
        })
    }

    /// The next state if the thread goes on; none if it waits or has finished.
    fn thread_step(&self) -> Option<State> {
        let mut next = self.clone();
        next.thread = match self.thread {
            Thread::InPython if self.calls == CALLS => return None,
            Thread::InPython => {
                next.calls += 1;
                next.unseen.push(self.own_turn() + 1);
                Thread::LookForAway
            }
            Thread::LookForAway if self.away => Thread::LendSlowly,
            Thread::LookForAway => Thread::InCall,
            Thread::LendSlowly if self.deciding => return None,
            Thread::LendSlowly => {
                next.flush();
                if self.asleep {
                    // It has the GIL still; the monitor will look at its call.
                    next.asleep = false;
                    next.away = false;
                    next.called = true;
                } else if self.monitor == Monitor::HasEnded {
                    next.monitor = Monitor::Looks;
                    next.away = false;
                    next.called = false;
                    next.ending = false;
                } else if self.request != Request::Stolen {
                    next.request = Request::Released;
                    next.has_gil = false;
                }
                Thread::InCall
            }
            Thread::InCall => Thread::ComeBack,
            Thread::ComeBack => {
                next.unseen.push(self.own_turn() + 1);
                Thread::LookForRequest
            }
            Thread::LookForRequest if self.request != Request::Nothing => Thread::TakeBack,
            Thread::LookForRequest => Thread::InPython,
            Thread::TakeBack if self.deciding => return None,
            Thread::TakeBack => {
                next.flush();
                match self.request {
                    Request::Stolen | Request::Released => Thread::Retake,
                    _ => {
                        next.request = Request::Nothing;
                        Thread::InPython
                    }
                }
            }
            // The GIL is free once it was released.
            Thread::Retake if self.has_gil => return None,
            Thread::Retake => {
                next.has_gil = true;
                next.request = Request::Nothing;
                Thread::InPython
            }
        };
        Some(next)
    }

    /// The next states if the monitor goes on.
    fn monitor_steps(&self, barriers: bool) -> Vec<State> {
        let mut next = self.clone();
        next.monitor = match self.monitor {
            Monitor::Looks if self.ending => Monitor::HasEnded,
            Monitor::Looks => {
                let mut sleepy = self.clone();
                sleepy.monitor = Monitor::SleepBarrier;
                sleepy.away = true;
                sleepy.asleep = true;
                let mut choices = vec![sleepy];
                if self.is_under_way() {
                    next.monitor = Monitor::Decides(self.turn);
                    choices.push(next);
                }
                return choices;
            }
            Monitor::Decides(turn) if self.turn != turn || self.request != Request::Nothing => {
                Monitor::Looks
            }
            Monitor::Decides(turn) => {
                next.deciding = true;
                Monitor::Asks(turn)
            }
            Monitor::Asks(turn) => {
                next.request = Request::Asked;
                Monitor::StealBarrier(turn)
            }
            Monitor::StealBarrier(turn) => {
                if barriers {
                    next.flush();
                }
                Monitor::Concludes(turn)
            }
            Monitor::Concludes(turn) => {
                let stolen = self.turn == turn;
                next.request = if stolen { Request::Stolen } else { Request::Nothing };
                next.away |= stolen;
                next.deciding = false;
                if stolen { Monitor::Releases } else { Monitor::Looks }
            }
            Monitor::Releases => {
                next.has_gil = false;
                Monitor::Watches
            }
            Monitor::Watches => {
                next.away = self.ending;
                Monitor::Looks
            }
            Monitor::SleepBarrier => {
                if barriers {
                    next.flush();
                }
                Monitor::LooksOnceMore
            }
            Monitor::LooksOnceMore if self.is_under_way() => Monitor::WakesUp,
            Monitor::LooksOnceMore => Monitor::Sleeps,
            Monitor::Sleeps => {
                let mut woken = self.clone();
                woken.monitor = Monitor::WakesUp;
                next.monitor = Monitor::Ends;
                return if self.called { vec![woken, next] } else { vec![next] };
            }
            Monitor::Ends => {
                next.away = true;
                next.asleep = false;
                next.ending = true;
                Monitor::EndBarrier
            }
            Monitor::EndBarrier => {
                if barriers {
                    next.flush();
                }
                Monitor::LooksForTheLastTime
            }
            Monitor::LooksForTheLastTime if self.is_under_way() => Monitor::Decides(self.turn),
            Monitor::LooksForTheLastTime => Monitor::HasEnded,
            Monitor::HasEnded => return vec![],
            Monitor::WakesUp => {
                next.away = false;
                next.asleep = false;
                next.called = false;
                Monitor::Looks
            }
        };
        vec![next]
    }

    /// What is wrong with this state, if anything.
    fn fault(&self) -> Option<&'static str> {
        let lends = !matches!(self.thread, Thread::InPython);
        if self.thread == Thread::InPython && !self.has_gil {
            return Some("the thread is in Python without the GIL");
        }
        if self.monitor == Monitor::Releases && !(lends && self.has_gil) {
            return Some("the monitor releases a GIL that is not lent");
        }
        let asleep = self.monitor == Monitor::Sleeps && !self.called;
        let unwatched = asleep || self.monitor == Monitor::HasEnded;
        if unwatched && self.thread == Thread::InCall && self.has_gil {
            return Some("nobody watches a call that has lent the GIL");
        }
        None
    }
}

/// Goes through all states; gives how many there are, or the first fault.
fn explore(barriers: bool) -> Result<usize, &'static str> {
    let mut known = HashSet::from([State::new()]);
    let mut ahead = vec![State::new()];
    while let Some(state) = ahead.pop() {
        if let Some(fault) = state.fault() {
            return Err(fault);
        }
        let mut nexts = state.monitor_steps(barriers);
        nexts.extend(state.thread_step());
        nexts.extend(state.seen());
        let finished = state.thread == Thread::InPython && state.calls == CALLS;
        if nexts.is_empty() && !finished {
            return Err("both wait for ever");
        }
        ahead.extend(nexts.into_iter().filter(|next| known.insert(next.clone())));
    }
    Ok(known.len())
}

#[test]
fn every_interleaving_is_right() {
    let states = explore(true).expect("no fault");
    assert!(states > 300, "{states} states are too few to mean anything");
}

#[test]
fn without_barriers_some_are_wrong() {
    explore(false).expect_err("a fault");
}
