//! The list of object files that debuggers read, and the function at which
//! they stop to do so. Source: GDB manual, "JIT Compilation Interface".
//!
//! # Safety
//! The list is changed under a lock, and what is on it is never freed.

use std::ptr;
use std::sync::{Mutex, PoisonError};

/// A file on the list.
#[repr(C)]
struct CodeEntry {
    next: *mut CodeEntry,
    previous: *mut CodeEntry,
    file: *const u8,
    size: u64,
}

/// The head of the list.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut CodeEntry,
    first: *mut CodeEntry,
}

/// A file was added.
const REGISTER: u32 = 1;

#[unsafe(no_mangle)]
static mut __jit_debug_descriptor: Descriptor =
    Descriptor { version: 1, action: 0, relevant: ptr::null_mut(), first: ptr::null_mut() };

/// Debuggers stop here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn __jit_debug_register_code() {
    // A function that does nothing would be left out.
    std::hint::black_box(());
}

static LOCK: Mutex<()> = Mutex::new(());

/// Puts a file on the list, where it stays.
pub(super) fn register(file: Vec<u8>) {
    let file = Vec::leak(file);
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let descriptor = &raw mut __jit_debug_descriptor;
    // SAFETY: the lock is held, so nobody else changes it.
    let mut head = unsafe { descriptor.read() };
    let entry = Box::leak(Box::new(CodeEntry {
        next: head.first,
        previous: ptr::null_mut(),
        file: file.as_ptr(),
        size: file.len() as u64,
    }));
    // SAFETY: entries on the list are never freed.
    if let Some(next) = unsafe { head.first.as_mut() } {
        next.previous = entry;
    }
    head.first = entry;
    head.relevant = entry;
    head.action = REGISTER;
    // SAFETY: as for reading. The debugger, which has stopped this process then, finds it whole.
    unsafe { descriptor.write_volatile(head) };
    __jit_debug_register_code();
}
