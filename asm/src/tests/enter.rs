//! Entering a stub as its convention says, and checking that it keeps what the
//! convention says it keeps.

use std::arch::naked_asm;

use hotcall_core::Abi;

/// Enters the stub at `entry` with the six words at `words` by System V. Adds
/// 1 to `lost` for each preserved register that comes back changed.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_system_v(entry: u64, words: *const u64, lost: *mut u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "mov r11, rdi",
        "mov r10, rsi",
        "mov rdi, [r10]",
        "mov rsi, [r10 + 8]",
        "mov rdx, [r10 + 16]",
        "mov rcx, [r10 + 24]",
        "mov r8, [r10 + 32]",
        "mov r9, [r10 + 40]",
        "mov ebx, 101",
        "mov ebp, 102",
        "mov r12d, 103",
        "mov r13d, 104",
        "mov r14d, 105",
        "mov r15d, 106",
        "call r11",
        "pop rdx",
        "sub rbx, 101",
        "sub rbp, 102",
        "sub r12, 103",
        "sub r13, 104",
        "sub r14, 105",
        "sub r15, 106",
        "or rbx, rbp",
        "or r12, r13",
        "or r14, r15",
        "or rbx, r12",
        "or rbx, r14",
        "or [rdx], rbx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// The same by Win64, with four words.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_win64(entry: u64, words: *const u64, lost: *mut u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "sub rsp, 32",
        "mov r11, rdi",
        "mov r10, rsi",
        "mov rcx, [r10]",
        "mov rdx, [r10 + 8]",
        "mov r8, [r10 + 16]",
        "mov r9, [r10 + 24]",
        "mov ebx, 101",
        "mov ebp, 102",
        "mov r12d, 103",
        "mov r13d, 104",
        "mov r14d, 105",
        "mov r15d, 106",
        "mov esi, 107",
        "mov edi, 108",
        "movq xmm6, rsi",
        "movq xmm7, rdi",
        "movq xmm8, rsi",
        "movq xmm9, rdi",
        "movq xmm10, rsi",
        "movq xmm11, rdi",
        "movq xmm12, rsi",
        "movq xmm13, rdi",
        "movq xmm14, rsi",
        "movq xmm15, rdi",
        "call r11",
        "add rsp, 32",
        "pop rdx",
        "sub rbx, 101",
        "sub rbp, 102",
        "sub r12, 103",
        "sub r13, 104",
        "sub r14, 105",
        "sub r15, 106",
        "or rbx, rbp",
        "or r12, r13",
        "or r14, r15",
        "or rbx, r12",
        "or rbx, r14",
        "or [rdx], rbx",
        "sub rsi, 107",
        "sub rdi, 108",
        "or rsi, rdi",
        "or [rdx], rsi",
        // All even vectors are equal, and all odd ones.
        "pxor xmm6, xmm8",
        "pxor xmm10, xmm12",
        "pxor xmm8, xmm14",
        "por xmm6, xmm10",
        "por xmm6, xmm8",
        "pxor xmm7, xmm9",
        "pxor xmm11, xmm13",
        "pxor xmm9, xmm15",
        "por xmm7, xmm11",
        "por xmm7, xmm9",
        "por xmm6, xmm7",
        "movq rsi, xmm6",
        "or [rdx], rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Enters the stub at `entry` by the convention `abi` and gives its result.
///
/// # Safety
/// There is a stub for `abi`, and the world is ready for what it does.
pub(super) unsafe fn enter(abi: Abi, entry: u64, words: &[u64; 6]) -> u64 {
    let mut lost = 0;
    let result = match abi {
        // SAFETY: the caller promises a stub; the pointers are to locals.
        Abi::SystemV => unsafe { enter_system_v(entry, words.as_ptr(), &mut lost) },
        // SAFETY: as before.
        Abi::Win64 => unsafe { enter_win64(entry, words.as_ptr(), &mut lost) },
    };
    assert_eq!(lost, 0, "a preserved register came back changed");
    result
}
