//! How to get out of a stub at each of its instructions: where the caller's
//! frame is, and where the registers are that the caller keeps. Debuggers,
//! exceptions and the end of a thread find their way through a stub by it.
//!
//! This file makes the text of it, in the form that the system reads. Source:
//! DWARF 5, section 6.4; Linux Standard Base, "Exception Frames".

use crate::regs::Reg;

/// What is known at an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The register from which the caller's frame is found.
    base: Reg,
    /// How many bytes above that register's address the caller's frame begins.
    offset: u32,
    /// The registers that were saved, and how far below the caller's frame.
    saved: Vec<(Reg, u32)>,
}

impl State {
    /// At the first instruction, and wherever there is no frame: only the
    /// return address is on the stack.
    pub(crate) fn entry() -> State {
        State { base: Reg::RSP, offset: 8, saved: Vec::new() }
    }

    /// The caller's frame is so many bytes above the address in `base`.
    pub(crate) fn new(base: Reg, offset: u32, saved: Vec<(Reg, u32)>) -> State {
        State { base, offset, saved }
    }
}

#[cfg(test)]
impl State {
    /// The register, the bytes above it, and what was saved.
    pub(crate) fn parts(&self) -> (Reg, u32, &[(Reg, u32)]) {
        (self.base, self.offset, &self.saved)
    }
}

/// From the byte `at` of a stub on, this is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) at: usize,
    pub(crate) state: State,
}

/// The rows of finished code: of several at one place the last one counts, and
/// one that says nothing new is left out.
pub(crate) fn rows(notes: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for note in notes {
        if rows.last().is_some_and(|last| last.at == note.at) {
            rows.pop();
        }
        let before = rows.last().map_or_else(State::entry, |last| last.state.clone());
        if before != note.state {
            rows.push(note);
        }
    }
    rows
}

/// The number of a register. Source: System V ABI, AMD64 supplement, figure 3.36.
fn number(reg: Reg) -> u8 {
    const GENERAL: [u8; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
    match reg.vector_index() {
        Some(index) => 17 + index,
        None => GENERAL[usize::from(reg.encoding())],
    }
}

/// The return address, as if it were a register.
const RETURN_ADDRESS: u8 = 16;
/// Saved registers lie at multiples of this below the caller's frame.
const FACTOR: u32 = 8;

const ADVANCE: u8 = 0x40;
const ADVANCE_1: u8 = 0x02;
const ADVANCE_2: u8 = 0x03;
const ADVANCE_4: u8 = 0x04;
const OFFSET: u8 = 0x80;
const RESTORE: u8 = 0xc0;
const DEF_CFA: u8 = 0x0c;
const NOP: u8 = 0x00;

/// A number in groups of seven bits. Source: DWARF 5, section 7.6.
fn uleb(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Instructions that lead from one place and state to others.
#[derive(Debug)]
pub(crate) struct Program {
    at: usize,
    state: State,
    pub(crate) bytes: Vec<u8>,
}

impl Program {
    /// Nothing was said so far, and the place is the first byte.
    pub(crate) fn new() -> Program {
        Program { at: 0, state: State::entry(), bytes: Vec::new() }
    }

    /// From the place `at` on, which is not before the last one, `state` holds.
    pub(crate) fn say(&mut self, at: usize, state: &State) {
        if self.state == *state {
            return;
        }
        self.advance(at - self.at);
        self.at = at;
        let State { base, offset, saved } = state;
        if (self.state.base, self.state.offset) != (*base, *offset) {
            self.bytes.extend([DEF_CFA, number(*base)]);
            uleb(&mut self.bytes, *offset);
        }
        for (reg, _) in self.state.saved.iter().filter(|old| !saved.contains(old)) {
            self.bytes.push(RESTORE | number(*reg));
        }
        for (reg, below) in saved.iter().filter(|new| !self.state.saved.contains(new)) {
            self.bytes.push(OFFSET | number(*reg));
            uleb(&mut self.bytes, below / FACTOR);
        }
        self.state = state.clone();
    }

    fn advance(&mut self, distance: usize) {
        match (distance, u16::try_from(distance)) {
            (0, _) => {}
            (1..ADVANCE_LIMIT, _) => self.bytes.push(ADVANCE | distance as u8),
            (..0x100, _) => self.bytes.extend([ADVANCE_1, distance as u8]),
            (_, Ok(distance)) => {
                self.bytes.push(ADVANCE_2);
                self.bytes.extend(distance.to_le_bytes());
            }
            (_, Err(_)) => {
                self.bytes.push(ADVANCE_4);
                self.bytes.extend((distance as u32).to_le_bytes());
            }
        }
    }
}

const ADVANCE_LIMIT: usize = 0x40;

/// Tables are made of words; what is left of one says nothing.
const WORD: usize = 8;

/// The beginning of a table: what all its entries have in common.
pub(crate) fn common() -> Vec<u8> {
    let mut body = vec![0; 4];
    body.push(1);
    body.extend(b"zR\0");
    // Places are counted by bytes; -8 in groups of seven bits.
    body.extend([1, 0x78, RETURN_ADDRESS]);
    // One byte follows: addresses are absolute.
    body.extend([1, 0]);
    body.extend([DEF_CFA, number(Reg::RSP), 8, OFFSET | RETURN_ADDRESS, 1]);
    with_length(body)
}

/// An entry for `size` bytes of code at `entry`, `behind` so many bytes of the
/// table, which begins with [`common`].
pub(crate) fn entry(entry: u64, size: usize, behind: usize, program: &[u8]) -> Vec<u8> {
    let mut body = ((behind + 4) as u32).to_le_bytes().to_vec();
    body.extend(entry.to_le_bytes());
    body.extend((size as u64).to_le_bytes());
    body.push(0);
    body.extend(program);
    with_length(body)
}

/// A part of a table: its length, and its content filled up to whole words.
fn with_length(mut body: Vec<u8>) -> Vec<u8> {
    body.resize((body.len() + 4).next_multiple_of(WORD) - 4, NOP);
    let mut part = (body.len() as u32).to_le_bytes().to_vec();
    part.append(&mut body);
    part
}

/// A table for one piece of code, with its end.
pub(crate) fn table(address: u64, size: usize, rows: &[Row]) -> Vec<u8> {
    let mut program = Program::new();
    for row in rows {
        program.say(row.at, &row.state);
    }
    let mut table = common();
    let entry = entry(address, size, table.len(), &program.bytes);
    table.extend(entry);
    table.extend([0; 4]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_distances_are_as_short_as_can_be() {
        let mut program = Program::new();
        let far = |offset| State::new(Reg::RBP, offset, vec![(Reg::RBX, 24), (Reg::RBP, 16)]);
        program.say(1, &far(16));
        program.say(100, &far(300));
        program.say(1000, &State::entry());
        program.say(1_000_000, &far(16));
        let want: Vec<u8> = [
            &[0x41, DEF_CFA, 6, 16, OFFSET | 3, 3, OFFSET | 6, 2][..],
            &[ADVANCE_1, 99, DEF_CFA, 6, 0xac, 2],
            &[ADVANCE_2, 0x84, 3, DEF_CFA, 7, 8, RESTORE | 3, RESTORE | 6],
            &[ADVANCE_4, 0x58, 0x3e, 0x0f, 0, DEF_CFA, 6, 16, OFFSET | 3, 3, OFFSET | 6, 2],
        ]
        .concat();
        assert_eq!(program.bytes, want);
    }

    #[test]
    fn what_says_nothing_new_is_left_out() {
        let framed = State::new(Reg::RBP, 16, vec![]);
        let note = |at, state: &State| Row { at, state: state.clone() };
        let entry = State::entry();
        let notes = [
            note(0, &entry),
            note(4, &framed),
            note(4, &entry),
            note(5, &framed),
            note(9, &framed),
            note(12, &entry),
        ];
        assert_eq!(rows(notes.into_iter()), [note(5, &framed), note(12, &entry)]);
    }

    #[test]
    fn parts_are_whole_words() {
        let common = common();
        assert_eq!(common.len() % WORD, 0);
        for size in 0..20 {
            let part = entry(0x1000, 16, common.len(), &vec![NOP; size]);
            assert_eq!(part.len() % WORD, 0);
            assert_eq!(u32::from_le_bytes(part[..4].try_into().unwrap()) as usize, part.len() - 4);
        }
    }
}
