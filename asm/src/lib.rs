//! x86-64 machine code for traces of foreign calls: calling conventions,
//! register allocation, lowering, code memory, and the stubs that come out.
//!
//! A trace goes through this crate once, from top to bottom:
//!
//! | stage | file | question |
//! |---|---|---|
//! | interface | `interface` | How is it entered and left? |
//! | plan | `plan`, `fold` | What is emitted, what is folded, how long does each value live? |
//! | allocation | `alloc` | In which register or slot does each value live? |
//! | frame | `frame` | What is saved, and where? |
//! | lowering | `lower`, `entrance`, `turns`, `arith`, `guards`, `calls`, `parmove`, `tails` | Which instructions? |
//! | encoding | `emit` | Which bytes? |
//! | placing | `memory` | At which address? |
//! | unwinding | `unwind`, `tables` | How does one get out of it, at each instruction? |
//!
//! [`Jit`] drives them and keeps the [`Stub`]s. What cannot be compiled is
//! refused by name, see [`refusals`]; nothing here panics on a verified trace.
//!
//! **Invariant.** Only `memory`, `tables` and `debug` contain unsafe code. The other files compute
//! bytes, and can be read and tested without running any.

#![deny(unsafe_code)]

mod alloc;
mod arith;
mod calls;
#[expect(unsafe_code, reason = "is read by other programs")]
pub mod debug;
#[cfg(any(test, feature = "disasm"))]
mod disasm;
mod emit;
mod entrance;
mod fold;
mod frame;
mod guarded;
mod guards;
mod interface;
mod jit;
mod lower;
#[expect(unsafe_code, reason = "moves pages into place, and keeps errno")]
mod memory;
mod parmove;
mod plan;
pub mod refusals;
mod regs;
mod stub;
#[expect(unsafe_code, reason = "shows tables to the unwinder")]
mod tables;
mod tails;
#[cfg(test)]
#[expect(unsafe_code, reason = "runs the machine code")]
mod tests;
mod trampoline;
mod turns;
mod unwind;

pub use jit::{Jit, Options, Usage};
pub use stub::Stub;
pub use trampoline::{Trampoline, give_zero_once};
