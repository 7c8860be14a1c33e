//! A C caller of any signature: it puts words into all the registers and onto the
//! stack, calls, and notes what every register holds that may matter afterwards.

use std::arch::naked_asm;
use std::mem::offset_of;

use hotcall_core::{Abi, Place};

/// What a call is made with, and what it left.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// rdi, rsi, rdx, rcx, r8, r9.
    ints: [u64; 6],
    /// xmm0 to xmm7; the others get what xmm7 has.
    vectors: [u64; 8],
    stack: *const u64,
    words: usize,
    address: u64,
    /// Behind the call: rax, rdx, and xmm0, xmm1.
    ints_after: [u64; 2],
    vectors_after: [u64; 2],
    /// Behind the call: r12 to r15, rdi, rsi, and xmm6 to xmm15.
    kept: [u64; 16],
}

/// What r12 to r15 hold at the call.
const KEPT: [u64; 4] = [103, 104, 105, 106];

#[unsafe(naked)]
unsafe extern "sysv64" fn call(caller: *mut Caller) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov rbx, rdi",
        "mov rcx, [rbx + {words}]",
        "lea rax, [8 * rcx]",
        "sub rsp, rax",
        "mov rsi, [rbx + {stack}]",
        "mov rdi, rsp",
        "rep movsq",
        "movsd xmm0, [rbx + {vectors}]",
        "movsd xmm1, [rbx + {vectors} + 8]",
        "movsd xmm2, [rbx + {vectors} + 16]",
        "movsd xmm3, [rbx + {vectors} + 24]",
        "movsd xmm4, [rbx + {vectors} + 32]",
        "movsd xmm5, [rbx + {vectors} + 40]",
        "movsd xmm6, [rbx + {vectors} + 48]",
        "movsd xmm7, [rbx + {vectors} + 56]",
        "movaps xmm8, xmm7",
        "movaps xmm9, xmm7",
        "movaps xmm10, xmm7",
        "movaps xmm11, xmm7",
        "movaps xmm12, xmm7",
        "movaps xmm13, xmm7",
        "movaps xmm14, xmm7",
        "movaps xmm15, xmm7",
        "mov r12d, 103",
        "mov r13d, 104",
        "mov r14d, 105",
        "mov r15d, 106",
        "mov rdi, [rbx]",
        "mov rsi, [rbx + 8]",
        "mov rdx, [rbx + 16]",
        "mov rcx, [rbx + 24]",
        "mov r8, [rbx + 32]",
        "mov r9, [rbx + 40]",
        "call [rbx + {address}]",
        "mov [rbx + {ints_after}], rax",
        "mov [rbx + {ints_after} + 8], rdx",
        "movsd [rbx + {vectors_after}], xmm0",
        "movsd [rbx + {vectors_after} + 8], xmm1",
        "mov [rbx + {kept}], r12",
        "mov [rbx + {kept} + 8], r13",
        "mov [rbx + {kept} + 16], r14",
        "mov [rbx + {kept} + 24], r15",
        "mov [rbx + {kept} + 32], rdi",
        "mov [rbx + {kept} + 40], rsi",
        "movsd [rbx + {kept} + 48], xmm6",
        "movsd [rbx + {kept} + 56], xmm7",
        "movsd [rbx + {kept} + 64], xmm8",
        "movsd [rbx + {kept} + 72], xmm9",
        "movsd [rbx + {kept} + 80], xmm10",
        "movsd [rbx + {kept} + 88], xmm11",
        "movsd [rbx + {kept} + 96], xmm12",
        "movsd [rbx + {kept} + 104], xmm13",
        "movsd [rbx + {kept} + 112], xmm14",
        "movsd [rbx + {kept} + 120], xmm15",
        "lea rsp, [rbp - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        words = const offset_of!(Caller, words),
        stack = const offset_of!(Caller, stack),
        vectors = const offset_of!(Caller, vectors),
        address = const offset_of!(Caller, address),
        ints_after = const offset_of!(Caller, ints_after),
        vectors_after = const offset_of!(Caller, vectors_after),
        kept = const offset_of!(Caller, kept),
    )
}

/// The registers of the results: integers, then vectors.
pub(super) type Results = ([u64; 2], [u64; 2]);

impl Caller {
    /// A caller whose registers all hold `filler`.
    pub(super) fn new(filler: u64) -> Caller {
        Caller { ints: [filler; 6], vectors: [filler; 8], ..Caller::default() }
    }

    /// Puts a word where `place` says; `stack` is what lies above the stack pointer.
    pub(super) fn put(&mut self, abi: Abi, place: Place, word: u64, stack: &mut [u64]) {
        match place {
            Place::Gp(index) if abi == Abi::SystemV => self.ints[usize::from(index)] = word,
            Place::Gp(index) => self.ints[[3, 2, 4, 5][usize::from(index)]] = word,
            Place::Fp(index) => self.vectors[usize::from(index)] = word,
            Place::Stack(offset) => stack[offset as usize / 8] = word,
            Place::Copy { .. } => unreachable!("a struct is copied as its bytes"),
        }
    }

    /// Calls the function at `address`, and checks that it keeps what it has to.
    ///
    /// # Safety
    /// There is a function by the convention `abi`, of a signature to which the
    /// words suit.
    pub(super) unsafe fn call(mut self, abi: Abi, address: u64, stack: &[u64]) -> Results {
        assert_eq!(stack.len() % 2, 0, "the stack stays aligned");
        (self.stack, self.words, self.address) = (stack.as_ptr(), stack.len(), address);
        // SAFETY: the caller promises a function; what is pointed to are locals.
        unsafe { call(&mut self) };
        assert_eq!(self.kept[..4], KEPT, "a preserved register came back changed");
        if abi == Abi::Win64 {
            let [.., six, seven] = self.vectors;
            let mut want = [seven; 12];
            (want[0], want[1], want[2]) = (self.ints[0], self.ints[1], six);
            assert_eq!(self.kept[4..], want, "a preserved register came back changed");
        }
        (self.ints_after, self.vectors_after)
    }
}
