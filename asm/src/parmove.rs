//! Parallel moves: many registers get new contents at the same moment, and no
//! old content may be lost. The answer is a sequence of single moves.

use crate::regs::Reg;

/// Register `to` gets what register `from` had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// The target.
    pub(crate) to: Reg,
    /// The source.
    pub(crate) from: Reg,
}

/// Appends to `out` moves that, one after the other, do what `moves` ask for
/// all at once. No two of `moves` have the same target. Cycles go through
/// `passing`, which is neither a target nor a source of `moves`.
///
/// A move whose target nobody still has to read can be done now. When none is
/// left, each remaining target is read by exactly one remaining move: they are
/// cycles, and setting one source aside opens one of them.
pub(crate) fn sequence(moves: &[Move], passing: Reg, out: &mut Vec<Move>) {
    let mut pending: Vec<Move> = moves.iter().copied().filter(|m| m.to != m.from).collect();
    while !pending.is_empty() {
        let free = pending.iter().position(|m| pending.iter().all(|other| other.from != m.to));
        match free {
            Some(index) => out.push(pending.swap_remove(index)),
            None => {
                let from = pending[0].from;
                out.push(Move { to: passing, from });
                pending[0].from = passing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regs::PASSING;
    use crate::tests::fuzz_ms;
    use arbtest::arbtest;
    use std::collections::HashMap;

    /// What the registers hold behind `moves`, done one after the other.
    /// Before them, each holds its own name.
    fn run(moves: &[Move]) -> HashMap<Reg, Reg> {
        let mut holds = HashMap::new();
        for m in moves {
            let content = holds.get(&m.from).copied().unwrap_or(m.from);
            holds.insert(m.to, content);
        }
        holds
    }

    #[test]
    fn a_cycle_goes_through_the_passing_register() {
        let [a, b] = [Reg::RDI, Reg::RSI];
        let mut out = Vec::new();
        sequence(&[Move { to: a, from: b }, Move { to: b, from: a }], PASSING, &mut out);
        let want = [(PASSING, b), (b, a), (a, PASSING)].map(|(to, from)| Move { to, from });
        assert_eq!(out, want);
    }

    #[test]
    fn random_moves_arrive_and_disturb_nothing_else() {
        let regs: Vec<Reg> = (0..9).map(Reg::xmm).collect();
        arbtest(|u| {
            let mut moves = Vec::new();
            for &to in &regs {
                if u.ratio(3, 4)? {
                    moves.push(Move { to, from: *u.choose(&regs)? });
                }
            }
            let mut out = Vec::new();
            sequence(&moves, PASSING, &mut out);
            let holds = run(&out);
            for &reg in &regs {
                let asked = moves.iter().find(|m| m.to == reg).map_or(reg, |m| m.from);
                assert_eq!(holds.get(&reg).copied().unwrap_or(reg), asked, "{moves:?} {out:?}");
            }
            assert!(out.len() <= moves.len() + moves.len() / 2, "{moves:?} {out:?}");
            Ok(())
        })
        .budget_ms(fuzz_ms());
    }
}
