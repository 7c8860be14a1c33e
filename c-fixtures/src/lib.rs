//! C functions that tests and benches call, with their Rust declarations; what
//! each does is said in `fixtures.c`. A test that wants one by its address
//! casts it: `fix_add as *const c_void`.

#![allow(missing_docs, reason = "described beside the definitions in C")]
#![allow(clippy::too_many_arguments, reason = "some fixtures are there to have many")]

use std::ffi::{c_char, c_void};

unsafe extern "C" {
    pub static fix_seen: [u64; 16];

    pub fn fix_add(a: i32, b: i32) -> i32;
    pub fn fix_half(a: f64) -> f64;
    pub fn fix_add_d(a: f64, b: f64) -> f64;
    pub fn fix_six(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32;
    pub fn fix_nothing();
    pub fn fix_length(text: *const c_char) -> usize;
    pub fn fix_ten(
        a: i8,
        b: f32,
        c: u16,
        d: f64,
        e: bool,
        f: i64,
        g: *mut c_void,
        h: f64,
        i: u8,
        j: i32,
    ) -> f64;
    pub fn fix_dirty8(a: u64) -> u64;
    pub fn fix_dirty16(a: u64) -> u64;
    pub fn fix_dirty32(a: u64) -> u64;
    pub fn fix_swap_errno(value: i32) -> i32;
    pub fn fix_misalignment() -> u64;
    pub fn fix_call_back(callback: extern "C" fn(i32) -> i32, value: i32) -> i32;
}

// The functions of Microsoft's convention.
#[cfg(target_arch = "x86_64")]
unsafe extern "win64" {
    pub fn fix_ms_add(a: i32, b: i32) -> i32;
    pub fn fix_ms_ten(
        a: i8,
        b: f32,
        c: u16,
        d: f64,
        e: bool,
        f: i64,
        g: *mut c_void,
        h: f64,
        i: u8,
        j: i32,
    ) -> f64;
    pub fn fix_ms_dirty8(a: u64) -> u64;
    pub fn fix_ms_misalignment() -> u64;
}
