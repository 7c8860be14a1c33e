//! The world in which random traces run: helpers, foreign functions and a
//! fallback that write down how they were called. The evaluator and the
//! machine code each run in it once, and it must look the same behind both.

use std::cell::RefCell;

use std::sync::atomic::Ordering::SeqCst;

use hotcall_core::{Abi, CType, Class, Place, PreparedCall, Signature};
use hotcall_tracer::{Helper, Host, Mem};

use super::foreign::{RAX, STACK, expect_next};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A helper was called with these words.
    Help(&'static str, Vec<u64>),
    /// The foreign function at this target was called with these words.
    Call(u64, Vec<u64>),
    /// The fallback was entered with these words.
    Fallback(Vec<u64>),
}

/// How many bytes the traces may read and write.
pub(super) const BYTES: usize = 256;

/// What happened so far, and what decides how it goes on.
#[derive(Default)]
pub(super) struct World {
    /// What happened.
    pub(super) events: Vec<Event>,
    /// Results and changes of memory depend on this.
    pub(super) seed: u64,
    /// The memory of the traces: 32 words.
    pub(super) memory: Box<[u64]>,
    /// The foreign calls to come, the last one first.
    pub(super) to_come: Vec<(u64, Signature)>,
    /// How many words the stub was entered with.
    pub(super) params: usize,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Does something with this thread's world.
pub(super) fn world<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(f)
}

/// What the fallback returns.
pub(super) const MISSED: u64 = 0x6d69_7373_6564;

/// Mixes two words.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

impl World {
    /// Notes an event, changes a byte of memory, and gives a result.
    fn happen(&mut self, event: Event) -> u64 {
        self.events.push(event);
        let word = mix(self.seed, self.events.len() as u64);
        let index = word as usize % self.memory.len();
        self.memory[index] ^= word & 0xff00;
        // A plain double, a plain float in its low half, often a small number.
        if word & 0x700 == 0 { word & 1 } else { word & 0x7fef_ffff_bf7f_ffff }
    }
}

/// What the helper `name` does. Those whose name starts with `pure` do nothing
/// but compute.
pub(super) fn help(name: &'static str, args: &[u64]) -> u64 {
    if name.starts_with("pure") {
        let word = args.iter().fold(7, |word, arg| mix(word, *arg));
        return word & 0x7fef_ffff_bf7f_ffff;
    }
    world(|world| world.happen(Event::Help(name, args.to_vec())))
}

/// What the foreign functions do.
fn foreign(target: u64, args: Vec<u64>) -> u64 {
    world(|world| world.happen(Event::Call(target, args)))
}

/// The host of the evaluator. Traces load and store within the world's memory.
pub(super) struct TestHost;

impl TestHost {
    fn bytes(address: u64) -> *mut u8 {
        let start = world(|world| world.memory.as_mut_ptr());
        let offset = address as usize - start.addr();
        assert!(offset <= BYTES - 8, "an access beyond the memory");
        start.cast::<u8>().wrapping_add(offset)
    }
}

impl Host for TestHost {
    fn thread(&mut self) -> u64 {
        let base;
        // SAFETY: the thread pointer is the first word of what it points to.
        unsafe { std::arch::asm!("mov {}, fs:0", out(reg) base, options(nostack, readonly)) };
        base
    }

    fn scratch(&mut self, _: u64) -> u64 {
        unreachable!("random traces have none: what is in it at first is not defined")
    }

    fn load(&mut self, mem: Mem, address: u64) -> u64 {
        let bytes: *const [u8; 8] = TestHost::bytes(address).cast();
        // SAFETY: `bytes` checked that 8 bytes of the world's memory are there.
        mem.widen(u64::from_le_bytes(unsafe { *bytes }))
    }

    fn store(&mut self, mem: Mem, address: u64, word: u64) {
        let size = mem.size() as usize;
        // SAFETY: `bytes` checked that 8 bytes of the world's memory are there,
        // and no other reference to them exists.
        let bytes = unsafe { std::slice::from_raw_parts_mut(TestHost::bytes(address), size) };
        bytes.copy_from_slice(&word.to_le_bytes()[..size]);
    }

    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64 {
        help(helper.name, args)
    }

    fn call(&mut self, call: &PreparedCall, target: u64, args: &[u64]) -> u64 {
        let words = args.iter().zip(call.signature().args());
        foreign(target, words.map(|(word, ctype)| defined(*ctype, *word)).collect())
    }
}

/// A value in a register of its kind.
pub(super) trait Word: Copy {
    /// Its bits.
    fn bits(self) -> u64;
    /// The value with these bits.
    fn of(bits: u64) -> Self;
}

impl Word for u64 {
    fn bits(self) -> u64 {
        self
    }

    fn of(bits: u64) -> u64 {
        bits
    }
}

impl Word for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn of(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
}

/// The part of an argument's word that a callee may look at. Of a float, no
/// convention defines what is above it.
fn defined(ctype: CType, word: u64) -> u64 {
    match ctype.class() {
        Class::Float32 => ctype.canonical(word),
        _ => word,
    }
}

/// What the next foreign call was given, read from the places of its signature.
pub(super) fn arrive(ints: &[u64], floats: &[u64], stack: &[u64]) -> u64 {
    let (target, signature) = world(|world| world.to_come.pop()).expect("a call to come");
    let places = signature
        .abi()
        .places(signature.args(), signature.result())
        .expect("arguments with places");
    let shadow = signature.abi().shadow_bytes() as usize;
    let words = places.args.iter().zip(signature.args()).map(|(place, ctype)| {
        let word = match *place {
            Place::Gp(index) => ints[usize::from(index)],
            Place::Fp(index) => floats[usize::from(index)],
            Place::Stack(offset) => stack[(offset as usize - shadow) / 8],
            Place::Copy { .. } => unreachable!("the traces have no structs"),
        };
        defined(*ctype, word)
    });
    let words = words.collect();
    assert_eq!(STACK.load(SeqCst) % 16, 8, "the stack was not aligned at the call");
    if signature.abi() == Abi::SystemV {
        assert_eq!(RAX.load(SeqCst) as u8, places.vector_registers, "{signature}");
    }
    expect_next();
    foreign(target, words)
}

/// Notes that the fallback was entered.
pub(super) fn miss(words: &[u64]) -> u64 {
    world(|world| {
        world.events.push(Event::Fallback(words[..world.params].to_vec()));
    });
    MISSED
}
