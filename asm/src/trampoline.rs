//! Trampolines: functions that differ in what they are bound to. Each loads a word
//! of context and a target from a slot of its own, and goes there.
//!
//! Code is made for a block of them at once, and never changes; slots are data. One
//! that is given back waits at the end of the line, so that it is long before a
//! pointer which outlived its trampoline finds it bound to something else.

use std::collections::VecDeque;
use std::io::Write;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use iced_x86::Code;

use crate::emit::{Assembler, At};
use crate::guarded::Guarded;
use crate::regs::{CONSTANT, CONTEXT};

/// What a trampoline reads.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    context: AtomicU64,
    target: AtomicU64,
}

/// Where the target lies in a slot.
const TARGET: i32 = 8;
/// How many trampolines are made at once.
const BLOCK: usize = 64;
/// Their distance in bytes: a line of the processor's cache has two.
const SIZE: usize = 32;
/// What fills it up: a breakpoint in each byte.
const FILLER: u8 = 0xcc;

/// Slots that live as long as the process, and the code of their trampolines,
/// which runs at any address.
pub(crate) fn block() -> (&'static [Slot], Vec<u8>) {
    let gone = || AtomicU64::new((gone as *const ()).addr() as u64);
    let slot = || Slot { context: AtomicU64::new(0), target: gone() };
    let slots: &'static [Slot] = Box::leak((0..BLOCK).map(|_| slot()).collect());
    let code = slots.iter().flat_map(code).collect();
    (slots, code)
}

/// The code of one trampoline.
fn code(slot: &'static Slot) -> Vec<u8> {
    let mut asm = Assembler::new();
    asm.op(Code::Endbr64);
    asm.number(CONSTANT, (&raw const *slot).expose_provenance() as u64);
    asm.load(CONTEXT, At::new(CONSTANT, 0));
    asm.jump_to(At::new(CONSTANT, TARGET));
    let (mut code, _) = asm.finish();
    code.resize(SIZE, FILLER);
    code
}

/// Says whether the host is over.
static IS_OVER: OnceLock<fn() -> bool> = OnceLock::new();

/// Has `is_over` asked, on whatever thread, when a function is called that was given
/// back. A host that ends gives back what other threads still call: once it is over,
/// such a call gives zero, and goes no further. The first who says so decides.
pub fn give_zero_once(is_over: fn() -> bool) {
    IS_OVER.get_or_init(|| is_over);
}

/// Zero in each register in which a scalar is returned. By Win64 a second one would
/// make it a struct in memory.
#[derive(Default)]
#[repr(C)]
struct Zero(u64, #[cfg(not(windows))] f64);

/// Where a trampoline leads that was given back. There is no result to go on with
/// before the host is over.
///
/// Stores are seen in their order here: whoever is led here by a host that is over
/// sees that it is.
extern "C" fn gone() -> Zero {
    if IS_OVER.get().is_some_and(|is_over| is_over()) {
        return Zero::default();
    }
    let _ = std::io::stderr()
        .write_all(b"hotcall: a function pointer was called after its callback had been dropped\n");
    process::abort()
}

/// The trampolines of a compiler.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Those that are free, with the address of their code; the next one is first.
    free: VecDeque<(&'static Slot, u64)>,
    /// How many there are.
    made: usize,
}

impl Slots {
    /// Whether none is free.
    pub(crate) fn is_used_up(&self) -> bool {
        self.free.is_empty()
    }

    /// How many are in use, and how many there are.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.made - self.free.len(), self.made)
    }

    /// Adds a block whose code was put at `address`.
    pub(crate) fn add(&mut self, slots: &'static [Slot], address: u64) {
        let addresses = (address..).step_by(SIZE);
        self.free.extend(slots.iter().zip(addresses));
        self.made += slots.len();
    }

    /// Takes the next free one, which there is; `home` is where these are.
    pub(crate) fn take(
        &mut self,
        home: &Arc<Guarded<Slots>>,
        target: u64,
        context: u64,
    ) -> Trampoline {
        let (slot, address) = self.free.pop_front().expect("a block was added");
        slot.context.store(context, Relaxed);
        slot.target.store(target, Relaxed);
        Trampoline { slot, address, home: Arc::clone(home) }
    }
}

/// A C function that is bound to a context, made by
/// [`Jit::trampoline`](crate::Jit::trampoline). Dropping it ends the function:
/// whoever calls it behind that aborts the process, unless the host is over (see
/// [`give_zero_once`]), or calls a later one that was given its place.
#[derive(Debug)]
pub struct Trampoline {
    slot: &'static Slot,
    address: u64,
    home: Arc<Guarded<Slots>>,
}

impl Trampoline {
    /// The address of the function.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Ends the function without giving its place back: until it is bound anew, calls
    /// that begin from now on are those of a function that was dropped.
    pub fn unbind(&self) {
        self.slot.target.store((gone as *const ()).addr() as u64, Relaxed);
        self.slot.context.store(0, Relaxed);
    }

    /// Binds a function that was unbound.
    pub fn bind(&self, target: u64, context: u64) {
        self.slot.context.store(context, Relaxed);
        self.slot.target.store(target, Relaxed);
    }

    /// Calls that begin from now on go to `target`.
    pub fn set_target(&self, target: u64) {
        self.slot.target.store(target, Relaxed);
    }
}

impl Drop for Trampoline {
    fn drop(&mut self) {
        self.unbind();
        // In a child of fork the lock may be lost, and the slot is then too.
        if let Ok(mut slots) = self.home.lock() {
            slots.free.push_back((self.slot, self.address));
        }
    }
}
