//! Register allocation: a linear scan over the trace gives each value one home
//! for its whole life.
//!
//! A value that lives across a call gets a register that every call of the
//! trace preserves, other values get any register, and what finds none free
//! gets a slot of the frame. Calls out of line do not count, since they are seldom
//! made: what they might change is kept in the frame meanwhile. Homes never
//! change, so every exit of a trace restores the parameters in the same way.

use hotcall_tracer::{Op, Refusal, Trace, Ty, Val};

use crate::plan::{Fate, Plan};
use crate::refusals::TOO_MANY_PARAMETERS;
use crate::regs::{Convention, LASTING, RESULT, Reg, RegSet, VECTOR_RESULT};

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nowhere: nobody reads it, or it is a constant, or folded.
    Nowhere,
    /// In this register.
    Reg(Reg),
    /// In this 8-byte slot of the frame.
    Slot(u32),
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
    /// The registers that are home to some value.
    pub(crate) used: RegSet,
}

/// The scan, behind some instruction.
struct Scan<'a> {
    trace: &'a Trace,
    plan: &'a Plan,
    host: &'static Convention,
    /// What all calls of the trace preserve.
    lasting: RegSet,
    free: RegSet,
    free_slots: Vec<u32>,
    /// The values that have a home now.
    active: Vec<Val>,
    homes: Homes,
}

/// Finds a home for each value.
///
/// # Errors
/// [`TOO_MANY_PARAMETERS`] if the stub cannot be entered with so many words.
pub(crate) fn allocate(
    trace: &Trace,
    plan: &Plan,
    host: &'static Convention,
) -> Result<Homes, Refusal> {
    let preserved =
        plan.calls.iter().fold(host.preserved, |set, call| set.and(call.callee.preserved));
    let lasting = preserved.and(LASTING);
    let free = RegSet::of(host.volatile).or(RegSet::of(host.volatile_vectors)).or(lasting);
    let of = vec![Home::Nowhere; trace.insts.len()];
    let homes = Homes { of, slots: 0, slot_homes: 0, used: RegSet::default() };
    let mut scan = Scan {
        trace,
        plan,
        host,
        lasting,
        free,
        free_slots: Vec::new(),
        active: Vec::new(),
        homes,
    };
    scan.enter()?;
    for index in trace.params()..trace.insts.len() {
        scan.release(index);
        if plan.fates[index] == Fate::Emit && plan.last[index] > 0 {
            scan.settle(Val(index as u32));
        }
    }
    let mut homes = scan.homes;
    homes.slot_homes = homes.slots;
    let out_of_line = plan.calls.iter().filter(|call| trace.insts[call.index].op == Op::HelpIf);
    let kept = out_of_line.map(|call| homes.lost(plan, host, call.index).count() as u32).max();
    homes.slots += kept.unwrap_or(0);
    Ok(homes)
}

impl Homes {
    /// The registers with values that live on behind the instruction at `index`,
    /// and that a call by the convention `host` does not preserve.
    pub(crate) fn lost(
        &self,
        plan: &Plan,
        host: &Convention,
        index: usize,
    ) -> impl Iterator<Item = Reg> {
        self.of[..index].iter().zip(&plan.last).filter_map(move |(home, last)| match home {
            Home::Reg(reg) if *last > index && !host.preserved.contains(*reg) => Some(*reg),
            _ => None,
        })
    }
}

impl Scan<'_> {
    /// Parameters come first, all at once: those that no call interrupts stay
    /// where they are.
    fn enter(&mut self) -> Result<(), Refusal> {
        let params = self.trace.params();
        for index in 0..params {
            let entry = self.host.entry(index).ok_or(TOO_MANY_PARAMETERS)?;
            if self.plan.last[index] > 0 && !self.plan.across[index] {
                self.occupy(Val(index as u32), entry);
            }
        }
        for index in (0..params).filter(|&index| self.plan.across[index]) {
            self.settle(Val(index as u32));
        }
        Ok(())
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
        let volatile = if vector { self.host.volatile_vectors } else { self.host.volatile };
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
