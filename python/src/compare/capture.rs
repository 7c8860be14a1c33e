//! A foreign function of every signature: it keeps the registers and the stack
//! that it is called with, and returns the bits that it is told to.
//!
//! # Safety
//! It reads as much of the caller's stack as was asked for, which is what the
//! signature of the call has there.

#![allow(unsafe_code, reason = "is called as any signature, in machine code")]

use std::arch::naked_asm;
use std::cell::Cell;
use std::ptr;

use hotcall_core::{Place, Places, Signature};

/// What a call left in registers, and what it is to find in them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Registers {
    gp: [u64; 6],
    fp: [u64; 8],
    rax: u64,
    /// rax, rdx, xmm0, xmm1 at the return.
    result: [u64; 4],
    /// Keeps the size a multiple of 16.
    pad: u64,
}

/// What a call of one signature passed, word by word.
#[derive(Debug)]
pub(super) struct Capture<'a> {
    signature: &'a Signature,
    places: &'a Places,
    /// For each word, whether it is the address of wide characters.
    texts: &'a [bool],
    /// What is returned.
    result: [u64; 4],
    /// For each word of the arguments, the bytes that are passed.
    pub(super) words: Vec<Vec<u8>>,
    /// How many vector registers the caller says that it uses.
    pub(super) vectors: u8,
    /// How often the function was called.
    pub(super) calls: u32,
}

thread_local! {
    /// What the next call on this thread is kept in.
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

/// The address of the function.
pub(super) fn address() -> u64 {
    capture as *const () as u64
}

/// Longer texts are compared up to here.
const MOST_CHARACTERS: usize = 1 << 16;

impl<'a> Capture<'a> {
    pub(super) fn new(
        signature: &'a Signature,
        places: &'a Places,
        texts: &'a [bool],
        result: [u64; 4],
    ) -> Capture<'a> {
        Capture { signature, places, texts, result, words: Vec::new(), vectors: 0, calls: 0 }
    }

    /// Runs `call`, which calls the function with this signature.
    pub(super) fn during<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(ptr::from_mut(self).cast());
        let result = call();
        CURRENT.set(outer);
        result
    }

    /// How many bytes of each word mean something. Integers in registers are
    /// widened to a whole one; elsewhere what lies behind a value is undefined.
    fn sizes(&self) -> impl Iterator<Item = usize> {
        let (places, abi) = (&self.places.args, self.signature.abi());
        let words = self.signature.args().iter().flat_map(move |arg| {
            (0..arg.words(abi)).map(move |word| (arg, arg.size().saturating_sub(8 * word)))
        });
        words.zip(places).map(|((arg, left), place)| match place {
            Place::Copy { size, .. } => *size as usize,
            Place::Gp(_) if arg.as_struct().is_none() => 8,
            _ => left.min(8),
        })
    }

    /// Fills the memory for a struct that is returned.
    fn fill(&self, memory: *mut u8) {
        for index in 0..self.signature.result().size() {
            let byte = self.result[index / 8 % 4].to_ne_bytes()[index % 8];
            let place = memory.wrapping_add(index);
            // SAFETY: the caller gives memory for a struct of the result's size.
            unsafe { place.write(byte) };
        }
    }

    /// The bytes of all words. `stack` is the caller's.
    fn read(&mut self, registers: &Registers, stack: *const u8) {
        let at = |offset: u32, size: usize| {
            let place = stack.wrapping_add(offset as usize);
            // SAFETY: arguments of this call are there, as the signature says.
            unsafe { std::slice::from_raw_parts(place, size) }.to_vec()
        };
        let mut words = Vec::new();
        for (index, (place, size)) in self.places.args.iter().zip(self.sizes()).enumerate() {
            let mut bytes = match *place {
                Place::Gp(register) => registers.gp[usize::from(register)].to_ne_bytes().to_vec(),
                Place::Fp(register) => registers.fp[usize::from(register)].to_ne_bytes().to_vec(),
                Place::Stack(offset) => at(offset, 8),
                Place::Copy { offset, size } => at(offset, size as usize),
            };
            if self.texts[index] && bytes[..] != [0; 8] {
                bytes = text(&bytes);
            }
            if !self.texts[index] {
                bytes.truncate(size);
            }
            words.push(bytes);
        }
        self.words = words;
        self.vectors = registers.rax as u8;
    }
}

/// The wide characters at the address in `word`, up to the end of the text.
fn text(word: &[u8]) -> Vec<u8> {
    let address = word.try_into().map_or(0, u64::from_ne_bytes) as *const u32;
    let mut bytes = Vec::new();
    for index in 0..MOST_CHARACTERS {
        let place = address.wrapping_add(index);
        // SAFETY: a text that ends in a zero, which was not seen so far.
        let character = unsafe { place.read_unaligned() };
        bytes.extend(character.to_ne_bytes());
        if character == 0 {
            break;
        }
    }
    bytes
}

/// Keeps what the call has passed.
unsafe extern "C" fn keep(registers: *mut Registers, stack: *const u8) {
    let capture = CURRENT.get().cast::<Capture<'_>>();
    // SAFETY: the registers that `capture` has saved in its frame.
    let registers = unsafe { &mut *registers };
    if capture.is_null() {
        return;
    }
    // SAFETY: it lives in `during`, which has called what calls us.
    let capture = unsafe { &mut *capture };
    capture.calls += 1;
    capture.read(registers, stack);
    registers.result = capture.result;
    if capture.places.result.is_some() {
        registers.result[0] = registers.gp[0];
        capture.fill(registers.gp[0] as *mut u8);
    }
}

/// The function.
///
/// # Safety
/// The caller's stack has the arguments of the signature that is captured.
#[unsafe(naked)]
unsafe extern "C" fn capture() {
    naked_asm!(
        "endbr64",
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, 160",
        "mov [rsp], rdi",
        "mov [rsp + 8], rsi",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], rcx",
        "mov [rsp + 32], r8",
        "mov [rsp + 40], r9",
        "movsd [rsp + 48], xmm0",
        "movsd [rsp + 56], xmm1",
        "movsd [rsp + 64], xmm2",
        "movsd [rsp + 72], xmm3",
        "movsd [rsp + 80], xmm4",
        "movsd [rsp + 88], xmm5",
        "movsd [rsp + 96], xmm6",
        "movsd [rsp + 104], xmm7",
        "mov [rsp + 112], rax",
        "mov rdi, rsp",
        "lea rsi, [rbp + 16]",
        "call {keep}",
        "mov rax, [rsp + 120]",
        "mov rdx, [rsp + 128]",
        "movsd xmm0, [rsp + 136]",
        "movsd xmm1, [rsp + 144]",
        "leave",
        "ret",
        keep = sym keep,
    )
}
