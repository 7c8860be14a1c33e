//! The one door between a trace and the world: memory, the host's helpers,
//! and the foreign function itself.

use hotcall_core::PreparedCall;

use crate::ir::{Effect, Mem, Ty};

/// Performs what traces and rules ask of the world.
///
/// The tracer dereferences nothing; whoever implements this decides whether an
/// address is real memory (the machine) or a table (the tests).
pub trait Host {
    /// The base of this thread's own storage: what the processor's thread
    /// register points to (System V: the word at `fs:0`).
    fn thread(&mut self) -> u64;

    /// Memory of so many bytes for this run alone, at a multiple of 16. A run
    /// that asks again asks for as many, and gets the same.
    fn scratch(&mut self, bytes: u64) -> u64;

    /// Reads a value of type `mem` at `address`, widened to a word.
    fn load(&mut self, mem: Mem, address: u64) -> u64;

    /// Writes the low bytes of `word` at `address`.
    fn store(&mut self, mem: Mem, address: u64, word: u64);

    /// Calls `helper` with its arguments' words.
    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64;

    /// Calls the foreign function at `target` with canonical words. A struct is
    /// returned as the address of memory that stays until the next call.
    fn call(&mut self, call: &PreparedCall, target: u64, args: &[u64]) -> u64;
}

/// A function of the host that traces may call.
#[derive(Debug)]
pub struct Helper {
    /// How traces print it.
    pub name: &'static str,
    /// Its address, and with it its signature.
    pub entry: Entry,
    /// What it does besides giving a value.
    pub effect: Effect,
}

/// The address of a helper, typed by the signatures that helpers may have.
/// `W` is a word and `F` a double; parameters come first, the result last.
///
/// Helpers may unwind: a runtime may end a thread while it is in one.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// No parameter, a word back.
    W(unsafe extern "C-unwind" fn() -> u64),
    /// A word, nothing back.
    WV(unsafe extern "C-unwind" fn(u64)),
    /// A word, a word back.
    WW(unsafe extern "C-unwind" fn(u64) -> u64),
    /// Two words, a word back.
    WWW(unsafe extern "C-unwind" fn(u64, u64) -> u64),
    /// Three words, a word back.
    WWWW(unsafe extern "C-unwind" fn(u64, u64, u64) -> u64),
    /// Four words, a word back.
    WWWWW(unsafe extern "C-unwind" fn(u64, u64, u64, u64) -> u64),
    /// A double, a word back.
    FW(unsafe extern "C-unwind" fn(f64) -> u64),
    /// A word, a double back.
    WF(unsafe extern "C-unwind" fn(u64) -> f64),
}

impl Entry {
    /// The types of its parameters.
    pub const fn params(&self) -> &'static [Ty] {
        match self {
            Entry::W(_) => &[],
            Entry::WV(_) | Entry::WW(_) | Entry::WF(_) => &[Ty::I64],
            Entry::WWW(_) => &[Ty::I64, Ty::I64],
            Entry::WWWW(_) => &[Ty::I64, Ty::I64, Ty::I64],
            Entry::WWWWW(_) => &[Ty::I64, Ty::I64, Ty::I64, Ty::I64],
            Entry::FW(_) => &[Ty::F64],
        }
    }

    /// The type of its result.
    pub const fn result(&self) -> Option<Ty> {
        match self {
            Entry::WV(_) => None,
            Entry::WF(_) => Some(Ty::F64),
            _ => Some(Ty::I64),
        }
    }

    /// The address of its code.
    pub fn address(&self) -> u64 {
        let address = match *self {
            Entry::W(f) => f as usize,
            Entry::WV(f) => f as usize,
            Entry::WW(f) => f as usize,
            Entry::WWW(f) => f as usize,
            Entry::WWWW(f) => f as usize,
            Entry::WWWWW(f) => f as usize,
            Entry::FW(f) => f as usize,
            Entry::WF(f) => f as usize,
        };
        address as u64
    }
}
