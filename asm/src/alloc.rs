//! Register allocation: a linear scan over the trace gives each value one home
//! for its whole life.
//!
//! A value that lives across a call gets a register that every call of the
//! trace preserves, other values get any register, and what finds none free
//! gets a slot of the frame. Calls out of line do not count, since they are seldom
//! made: what they might change is kept in the frame meanwhile. Homes never
//! change, so every exit of a trace restores the parameters in the same way.

use hotcall_tracer::{Op, Trace, Ty, Val};

use crate::interface::{Arrival, Interface, Returns};
use crate::plan::{CallPlan, Fate, Plan};
use crate::regs::{LASTING, NUMBER, RESULT, Reg, RegSet, TABLE, VECTOR_RESULT};

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nowhere: nobody reads it, or it is a constant, or folded.
    Nowhere,
    /// In this register.
    Reg(Reg),
    /// In this 8-byte slot of the frame.
    Slot(u32),
    /// On the stack where the caller put it, so many bytes above the first argument.
    Passed(u32),
    /// Nowhere: it is the address of a part of the stack.
    Address(Part),
}

/// A part of the stack whose address is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A struct that the caller copied so many bytes above the first argument.
    Copied(u32),
    /// What the result is read from.
    Result,
    /// The stub's own memory.
    Scratch,
}

/// The homes of all values.
#[derive(Debug)]
pub(crate) struct Homes {
    /// For each instruction, where its value lives.
    pub(crate) of: Vec<Home>,
    /// How many slots the frame needs: homes, and behind them places to keep
    /// registers in during calls out of line.
    pub(crate) slots: u32,
    /// How many of them are homes.
    pub(crate) slot_homes: u32,
    /// The registers that are home to some value, or that the loop has.
    pub(crate) used: RegSet,
}

/// The scan, behind some instruction.
struct Scan<'a> {
    trace: &'a Trace,
    plan: &'a Plan,
    interface: &'a Interface,
    /// What all calls of the trace preserve.
    lasting: RegSet,
    free: RegSet,
    free_slots: Vec<u32>,
    /// The values that have a home now.
    active: Vec<Val>,
    homes: Homes,
}

/// Finds a home for each value.
pub(crate) fn allocate(trace: &Trace, plan: &Plan, interface: &Interface) -> Homes {
    let entered = interface.convention;
    let preserved =
        plan.calls.iter().fold(entered.preserved, |set, call| set.and(call.callee.preserved));
    let lasting = preserved.and(LASTING);
    let free = RegSet::of(entered.volatile).or(RegSet::of(entered.volatile_vectors)).or(lasting);
    let of = vec![Home::Nowhere; trace.insts.len()];
    let own = match interface.returns {
        Returns::Turn => RegSet::of(&[TABLE, NUMBER]),
        _ => RegSet::default(),
    };
    let (free, lasting) = (free.minus(own), lasting.minus(own));
    let homes = Homes { of, slots: 0, slot_homes: 0, used: own };
    let mut scan = Scan {
        trace,
        plan,
        interface,
        lasting,
        free,
        free_slots: Vec::new(),
        active: Vec::new(),
        homes,
    };
    scan.enter();
    for index in trace.params()..trace.insts.len() {
        scan.release(index);
        if plan.fates[index] == Fate::Emit && plan.last[index] > 0 {
            match trace.insts[index].op {
                Op::Scratch => scan.homes.of[index] = Home::Address(Part::Scratch),
                _ => scan.settle(Val(index as u32)),
            }
        }
    }
    let mut homes = scan.homes;
    homes.slot_homes = homes.slots;
    let out_of_line = plan.calls.iter().filter(|call| trace.insts[call.index].op == Op::HelpIf);
    let kept = out_of_line.map(|call| homes.lost(plan, call).count() as u32).max();
    homes.slots += kept.unwrap_or(0);
    homes
}

impl Homes {
    /// The registers with values that live on behind a call, and that it does not
    /// preserve.
    pub(crate) fn lost(&self, plan: &Plan, call: &CallPlan) -> impl Iterator<Item = Reg> {
        let (index, preserved) = (call.index, call.callee.preserved);
        self.of[..index].iter().zip(&plan.last).filter_map(move |(home, last)| match home {
            Home::Reg(reg) if *last > index && !preserved.contains(*reg) => Some(*reg),
            _ => None,
        })
    }
}

impl Scan<'_> {
    /// Parameters come first, all at once: those that no call interrupts stay
    /// in their registers, and those on the stack stay there.
    fn enter(&mut self) {
        let mut moved = Vec::new();
        for (index, arrival) in self.interface.arrivals.iter().enumerate() {
            let val = Val(index as u32);
            match *arrival {
                _ if self.plan.last[index] == 0 => {}
                Arrival::Stack(offset, _) => self.homes.of[index] = Home::Passed(offset),
                Arrival::Copied(offset) => {
                    self.homes.of[index] = Home::Address(Part::Copied(offset));
                }
                Arrival::Result => self.homes.of[index] = Home::Address(Part::Result),
                Arrival::Reg(reg, _) if self.free.contains(reg) && !self.is_moved(val, reg) => {
                    self.occupy(val, reg);
                }
                Arrival::Reg(..) | Arrival::Item { .. } => moved.push(val),
            }
        }
        moved.into_iter().for_each(|val| self.settle(val));
    }

    /// Whether a parameter cannot stay in the register that it comes in.
    fn is_moved(&self, val: Val, reg: Reg) -> bool {
        self.plan.across[val.index()] || reg.is_vector()
    }

    /// Frees the homes of values whose last use is at `index`. The result of
    /// that instruction may have one of them.
    fn release(&mut self, index: usize) {
        let (plan, homes) = (self.plan, &self.homes);
        let (free, free_slots) = (&mut self.free, &mut self.free_slots);
        self.active.retain(|val| {
            let alive = plan.last[val.index()] > index;
            match homes.of[val.index()] {
                Home::Reg(reg) if !alive => free.insert(reg),
                Home::Slot(slot) if !alive => free_slots.push(slot),
                _ => {}
            }
            alive
        });
    }

    /// Finds the home of a value.
    fn settle(&mut self, val: Val) {
        match self.choose(val) {
            Some(reg) => self.occupy(val, reg),
            None => {
                let slot = self.free_slots.pop().unwrap_or(self.homes.slots);
                self.homes.slots = self.homes.slots.max(slot + 1);
                self.homes.of[val.index()] = Home::Slot(slot);
                self.active.push(val);
            }
        }
    }

    /// The best free register for a value, if there is one.
    fn choose(&self, val: Val) -> Option<Reg> {
        let inst = &self.trace.insts[val.index()];
        let vector = inst.ty() != Some(Ty::I64);
        let across = self.plan.across[val.index()];
        let fits = |reg: &Reg| {
            self.free.contains(*reg)
                && reg.is_vector() == vector
                && (!across || self.lasting.contains(*reg))
        };
        let volatile = if vector {
            self.interface.convention.volatile_vectors
        } else {
            self.interface.convention.volatile
        };
        let is_call = matches!(inst.op, Op::Help | Op::Call);
        let result = is_call.then_some(if vector { VECTOR_RESULT } else { RESULT });
        let wanted = result.into_iter().chain(self.plan.hints[val.index()]);
        let same = inst.args.first().and_then(|arg| self.in_place(inst.op, *arg));
        let others = volatile.iter().copied().chain(self.lasting.iter());
        wanted.chain(same).chain(others).find(fits)
    }

    /// The register of an operation's first operand, if it saves a move that
    /// the result is made there.
    fn in_place(&self, op: Op, first: Val) -> Option<Reg> {
        match self.homes.of[first.index()] {
            Home::Reg(reg) if !matches!(op, Op::Load | Op::Extend) => Some(reg),
            _ => None,
        }
    }

    fn occupy(&mut self, val: Val, reg: Reg) {
        self.free.remove(reg);
        self.homes.used.insert(reg);
        self.homes.of[val.index()] = Home::Reg(reg);
        self.active.push(val);
    }
}
