//! Shows the system how to unwind stubs: tables that grow as stubs are made.
//!
//! A table serves a block of addresses, and is shown once, when the block gets
//! its first stub. It has one entry, whose instructions run through the stubs of
//! the block in the order of their addresses. New ones are written behind those
//! that are there, and are said to be there by a longer length, which is stored
//! last. So the unwinder of another thread, which needs no lock of ours, reads
//! either length, and finds all instructions of it, and behind them the zero word
//! that ends the table. Tables are never freed.
//!
//! Showing a table takes memory and time in whoever unwinds anything, so there
//! are few; running through a long one takes time too, so blocks are small.
//!
//! This file has unsafe code: the tables are read by others.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Release};

use memmap2::MmapMut;

use crate::unwind::{Program, Row, State, common, entry};

/// The size of a block in bytes.
const BLOCK: u64 = 32 * 1024;
/// The size of a table: an instruction of code never needs more than so many
/// times its size to be described. The pages that are not reached cost nothing.
const TABLE: usize = 8 * BLOCK as usize;
/// Tables are made of whole words.
const WORD: usize = 8;
/// The bytes of the zero word that ends a table. As instructions they say nothing.
const END: usize = 4;

/// The tables of a compiler. Code addresses only grow within a block.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    tables: Vec<Table>,
}

/// The table of one block.
#[derive(Debug)]
struct Table {
    block: Range<u64>,
    memory: ManuallyDrop<MmapMut>,
    /// The entry begins here.
    entry: usize,
    /// Its bytes so far, the length included.
    size: usize,
    program: Program,
}

impl Tables {
    /// Tells how to unwind the code at these addresses, with code memory around
    /// it. Where there is no memory for a table, nobody is told.
    pub(crate) fn add(&mut self, code: Range<u64>, around: &Range<u64>, rows: &[Row]) {
        let mut start = code.start;
        let mut state = State::entry();
        while start < code.end {
            let first = start - (start - around.start) % BLOCK;
            let block = first..around.end.min(first + BLOCK);
            let stop = code.end.min(block.end);
            let within = |row: &&Row| (start..stop).contains(&(code.start + row.at as u64));
            let rows: Vec<&Row> = rows.iter().filter(within).collect();
            if let Some(table) = self.table(&block) {
                table.program.say((start - first) as usize, &state);
                for row in &rows {
                    let place = code.start + row.at as u64 - first;
                    table.program.say(place as usize, &row.state);
                }
                table.publish();
            }
            if let Some(last) = rows.last() {
                state = last.state.clone();
            }
            start = stop;
        }
    }

    /// The table of a block, made and shown if there is none.
    fn table(&mut self, block: &Range<u64>) -> Option<&mut Table> {
        let known = self.tables.iter().rposition(|table| table.block == *block);
        let index = match known {
            Some(index) => index,
            None => {
                self.tables.push(Table::new(block)?);
                self.tables.len() - 1
            }
        };
        self.tables.get_mut(index)
    }
}

impl Table {
    fn new(block: &Range<u64>) -> Option<Table> {
        let mut memory = ManuallyDrop::new(MmapMut::map_anon(TABLE).ok()?);
        let head = common();
        let part = entry(block.start, (block.end - block.start) as usize, head.len(), &[]);
        memory[..head.len()].copy_from_slice(&head);
        memory[head.len()..][..part.len()].copy_from_slice(&part);
        show(&memory);
        let (entry, size) = (head.len(), part.len());
        let block = block.clone();
        Some(Table { block, memory, entry, size, program: Program::new() })
    }

    /// Writes the instructions that are new, and then says so.
    fn publish(&mut self) {
        let fresh = std::mem::take(&mut self.program.bytes);
        if fresh.is_empty() {
            return;
        }
        // Who goes by the old length finds the end where it was: new instructions
        // begin behind it. The word behind them is the end for all others.
        let start = self.size + END;
        let size = (start + fresh.len()).next_multiple_of(WORD);
        if self.entry + size + WORD > TABLE {
            return;
        }
        let address = self.memory.as_ptr().wrapping_add(self.entry + start).cast_mut();
        // SAFETY:
        // - The bytes lie within the memory, which is never unmapped.
        // - No unwinder reads them yet: they are behind the end.
        // - `self` is borrowed mutably, so nobody else writes.
        unsafe { std::ptr::copy_nonoverlapping(fresh.as_ptr(), address, fresh.len()) };
        self.size = size;
        let length = self.memory.as_ptr().wrapping_add(self.entry).cast_mut();
        // SAFETY: it is aligned, since what is common is whole words long, and
        // is written through atomics alone once the table is shown.
        let length = unsafe { AtomicU32::from_ptr(length.cast()) };
        length.store((self.size - 4) as u32, Release);
    }
}

/// Shows a table to the system's unwinder.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn show(table: &[u8]) {
    unsafe extern "C" {
        fn __register_frame(begin: *const u8);
    }
    // SAFETY: a table of this form that ends in a zero word, and is never freed.
    unsafe { __register_frame(table.as_ptr()) };
}

/// Other systems have other ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn show(_: &[u8]) {}

#[cfg(test)]
mod tests {
    use hotcall_core::Abi;
    use hotcall_tracer::{Backend, Op};

    use super::*;
    use crate::regs::Reg;
    use crate::tests::Builder;
    use crate::{Jit, Options};

    fn word(table: &Table, at: usize) -> usize {
        u32::from_ne_bytes(table.memory[at..at + 4].try_into().unwrap()) as usize
    }

    #[test]
    fn who_goes_by_an_old_length_meets_the_end_of_the_table() {
        let mut table = Table::new(&(0x7000_0000..0x7000_8000)).unwrap();
        let framed = |saved| State::new(Reg::RBP, 16, saved);
        let mut lengths = vec![word(&table, table.entry)];
        for place in (0..4000).step_by(10) {
            let saved = [(Reg::RBP, 16), (Reg::RBX, 24), (Reg::R12, 32)];
            // Additions of several sizes.
            table.program.say(place, &framed(saved[..place / 10 % 4].to_vec()));
            table.program.say(place + 9, &State::entry());
            table.publish();
            lengths.push(word(&table, table.entry));
            for length in &lengths {
                assert_eq!(word(&table, table.entry + 4 + length), 0, "behind {length} bytes");
            }
        }
        assert!(lengths.is_sorted_by(|one, next| one < next));
        table.publish();
        assert_eq!(Some(&word(&table, table.entry)), lengths.last(), "nothing was new");
    }

    #[test]
    fn a_table_has_room_for_a_block_of_the_smallest_stubs() {
        for host in [Abi::SystemV, Abi::Win64] {
            let jit = Jit::entered_by(host, Options::default());
            for living in 0..24 {
                let (mut b, [x, y]) = Builder::new();
                let values: Vec<_> = (0..living).map(|_| b.op(Op::Add, &[x, y])).collect();
                let mut sum = b.call("extern \"sysv64\" fn() -> i64", y, &[]);
                for value in values {
                    sum = b.op(Op::Add, &[sum, value]);
                }
                let stub = jit.compile(&b.ret(sum), 0).unwrap();
                let mut program = Program::new();
                stub.rows.iter().for_each(|row| program.say(row.at, &row.state));
                let most = END + program.bytes.len() + WORD;
                assert!(most <= TABLE / BLOCK as usize * stub.len(), "{most}: {stub:?}");
            }
        }
    }
}
