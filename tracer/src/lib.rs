//! What a hot foreign call does, as a trace: recorded, checked, optimised,
//! printed, evaluated, and chained at its call site.
//!
//! A marshalling rule is a function generic over [`Ops`]. Read by [`Live`] it
//! acts at once, and is the interpreter. Read by [`Recorder`] it acts at once
//! and also writes down what it did as a [`Trace`], in which each test became
//! a guard. Both readings, the optimiser's folding and the evaluator share one
//! meaning for each operation ([`pure`]).
//!
//! This crate knows no register and no language runtime. It dereferences
//! nothing: all that touches memory goes through the trait [`Host`].

#![forbid(unsafe_code)]

mod data;
mod eval;
mod hash;
mod host;
mod ir;
mod ops;
mod optimize;
mod print;
mod record;
mod refusal;
mod semantics;
mod shape;
mod site;
mod verify;

pub use data::Data;
pub use eval::{Outcome, eval};
pub use hash::{BuildWordHasher, WordHasher};
pub use host::{Entry, Helper, Host};
pub use ir::{DataKind, Effect, Field, Inst, Mem, Op, Operands, Symbol, Trace, Ty, Val};
pub use ops::{Live, Ops};
pub use optimize::optimize;
pub use record::{Recorder, Traced};
pub use refusal::Refusal;
pub use semantics::pure;
pub use site::{Backend, Limits, MOST_CHANCES, MOST_RENEWALS, Plan, Shape, Site, Tier};
pub use verify::{Invalid, verify};
