//! The host that is the machine itself: real memory, real helpers, and the
//! foreign function through its prepared libffi call.
//!
//! # Safety
//! A rule read live, or recorded, against [`Machine`] dereferences what it
//! names. Rules are trusted code: each loads from an object only what a test
//! of the object's type has shown to be there. Whoever makes a [`Machine`]
//! vouches for the rules that get it.

#![allow(unsafe_code, reason = "the one host that touches real memory")]

use std::ffi::c_void;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

use hotcall_core::{CType, PreparedCall};
use hotcall_tracer::{Entry, Helper, Host, Mem};

/// Performs loads, stores, helper calls and foreign calls for real.
#[derive(Debug)]
pub struct Machine {
    /// The memory of the last struct that a function returned.
    returned: Vec<u64>,
    /// The memory of the run.
    scratch: Vec<u128>,
}

impl Machine {
    /// The machine.
    ///
    /// # Safety
    /// Every rule that is read against it loads and stores only within objects
    /// that are alive for the whole call and calls each helper, and the foreign
    /// function, as their declarations ask.
    pub unsafe fn new() -> Machine {
        Machine { returned: Vec::new(), scratch: Vec::new() }
    }
}

impl Host for Machine {
    #[inline(always)]
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn thread(&mut self) -> u64 {
        let base;
        // SAFETY: System V's thread pointer is the first word of what it points to.
        unsafe {
            std::arch::asm!(
                "mov {}, fs:0",
                out(reg) base,
                options(nostack, preserves_flags, readonly)
            );
        }
        base
    }

    #[inline(always)]
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    fn thread(&mut self) -> u64 {
        unreachable!("rules ask for it where they have found something there")
    }

    fn scratch(&mut self, bytes: u64) -> u64 {
        if self.scratch.is_empty() {
            self.scratch.resize(bytes.div_ceil(16) as usize, 0);
        }
        self.scratch.as_mut_ptr().expose_provenance() as u64
    }

    #[inline(always)]
    fn load(&mut self, mem: Mem, address: u64) -> u64 {
        // SAFETY: `Machine::new` made the caller promise that rules load only
        // within live objects; ctypes data may lie unaligned.
        unsafe {
            match mem {
                Mem::I8 => (address as *const i8).read_unaligned() as u64,
                Mem::U8 => (address as *const u8).read_unaligned() as u64,
                Mem::I16 => (address as *const i16).read_unaligned() as u64,
                Mem::U16 => (address as *const u16).read_unaligned() as u64,
                Mem::I32 => (address as *const i32).read_unaligned() as u64,
                Mem::U32 | Mem::F32 => (address as *const u32).read_unaligned() as u64,
                Mem::I64 | Mem::F64 => (address as *const u64).read_unaligned(),
            }
        }
    }

    #[inline(always)]
    fn store(&mut self, mem: Mem, address: u64, word: u64) {
        // SAFETY: as for `load`, of stores.
        unsafe {
            match mem.size() {
                1 => (address as *mut u8).write_unaligned(word as u8),
                2 => (address as *mut u16).write_unaligned(word as u16),
                4 => (address as *mut u32).write_unaligned(word as u32),
                _ => (address as *mut u64).write_unaligned(word),
            }
        }
        // Other threads see what rules store in the order of the rules.
        compiler_fence(SeqCst);
    }

    #[inline(always)]
    fn help(&mut self, helper: &'static Helper, args: &[u64]) -> u64 {
        let word = |index: usize| args[index];
        // SAFETY: the variant is the helper's signature, and `Machine::new`
        // made the caller promise that rules pass what the helper asks for.
        unsafe {
            match helper.entry {
                Entry::W(f) => f(),
                Entry::WV(f) => {
                    f(word(0));
                    0
                }
                Entry::WW(f) => f(word(0)),
                Entry::WWW(f) => f(word(0), word(1)),
                Entry::WWWW(f) => f(word(0), word(1), word(2)),
                Entry::WWWWW(f) => f(word(0), word(1), word(2), word(3)),
                Entry::FW(f) => f(f64::from_bits(word(0))),
                Entry::WF(f) => f(word(0)).to_bits(),
            }
        }
    }

    #[inline(always)]
    fn call(&mut self, call: &PreparedCall, target: u64, args: &[u64]) -> u64 {
        let target = target as *const c_void;
        if let CType::Struct(of) = call.signature().result() {
            // Memory for a struct of any alignment that C has without asking.
            self.returned.resize(of.size().div_ceil(8) + 1, 0);
            let place = self.returned.as_mut_ptr().cast::<u8>();
            let place = place.wrapping_add(place.align_offset(of.align().min(16)));
            // SAFETY: as below; the memory has a word more than the struct.
            unsafe { call.call_into(target, args, place) };
            return place.expose_provenance() as u64;
        }
        // SAFETY: `Machine::new` made the caller promise that the target is a
        // function of the declared signature and that the words suit it.
        unsafe { call.call(target, args) }
    }
}
