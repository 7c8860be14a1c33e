//! Shows the system how to unwind stubs: tables that grow as stubs are made.
//!
//! A table serves a block of addresses, and is shown once, when the block gets
//! its first stub. It has one entry, whose instructions run through the stubs of
//! the block in the order of their addresses. New ones are written behind those
//! that are there, and are said to be there by a longer length, which is stored
//! last. So the unwinder of another thread, which needs no lock of ours, reads
//! either length, and finds all instructions of it. Tables are never freed.
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
        let mut fresh = std::mem::take(&mut self.program.bytes);
        fresh.resize(fresh.len().next_multiple_of(WORD), 0);
        let end = self.entry + self.size + fresh.len();
        // The word behind them stays zero: it ends the table.
        if fresh.is_empty() || end + WORD > TABLE {
            return;
        }
        let address = self.memory.as_ptr().wrapping_add(self.entry + self.size).cast_mut();
        // SAFETY:
        // - The bytes lie within the memory, which is never unmapped.
        // - No unwinder reads them yet: they are behind the length.
        // - `self` is borrowed mutably, so nobody else writes.
        unsafe { std::ptr::copy_nonoverlapping(fresh.as_ptr(), address, fresh.len()) };
        self.size += fresh.len();
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
