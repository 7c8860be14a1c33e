//! The traces of a few signatures, and their machine code: what a call costs is
//! read here. `UPDATE_EXPECT=1` writes the texts anew.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::fixture;
use expect_test::{Expect, expect};
use hotcall::{Engine, Options, Shape, Value};

/// Records a call of a function that does nothing, with values of zero.
fn check(signature: &str, trace: Expect, code: Expect) {
    let engine = Engine::new(Options { hot: 1, ..Options::default() });
    let function = fixture(&engine, "fix_nothing", signature);
    let zero = |ctype: &hotcall::CType| Value::from_word(*ctype, 0).unwrap();
    let args: Vec<Value> = function.signature().args().iter().map(zero).collect();
    // SAFETY: this function may be called with any arguments, and as one with a
    // result, which is then whatever a register has.
    unsafe { function.call(&args) }.unwrap();
    let shapes = function.explain().shapes;
    let [Shape { trace: got, stub }] = &shapes[..] else { panic!("{}", function.explain()) };
    trace.assert_eq(&got.to_string());
    code.assert_eq(&stub.disassemble());
}

#[test]
fn a_double_of_a_double() {
    check(
        "fn(f64) -> f64",
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  param 3
            v4:i64 =  const 1
                      guard_eq v1 v4
            v6:i64 =  load v0 arg.tag[0]
            v7:i64 =  const 11
                      guard_eq v6 v7
            v9:f64 =  load v0 arg.value[0]
            v10:i64 = load v3 function.target
            v11:f64 = call "fn(f64) -> f64" v10 v9
            v12:i64 = bits v11
                      ret v12
        "#]],
        expect![[r#"
                endbr64
                cmp rsi, 1
                jne L1
                cmp qword ptr [rdi], 0xb
                jne L1
                movsd xmm0, [rdi+8]
                push rbp
                mov rbp, rsp
                mov r11, [rcx]
                mov eax, 1
                call r11
                movq rax, xmm0
                pop rbp
                ret
            L1:
                mov r11, @fallback
                jmp r11
        "#]],
    );
}

#[test]
fn a_bool_of_narrow_integers() {
    check(
        "fn(i8, u16) -> bool",
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  param 3
            v4:i64 =  const 2
                      guard_eq v1 v4
            v6:i64 =  load v0 arg.tag[0]
                      guard_eq v6 v4
            v8:i64 =  load v0 arg.tag[1]
            v9:i64 =  const 5
                      guard_eq v8 v9
            v11:i64 = load v0 arg.value[0]
            v12:i64 = load v0 arg.value[1]
            v13:i64 = load v3 function.target
            v14:i64 = call "fn(i8, u16) -> bool" v13 v11 v12
            v15:i64 = extend v14 u8
            v16:i64 = const 0
            v17:i64 = ne v15 v16
                      ret v17
        "#]],
        expect![[r#"
                endbr64
                cmp rsi, 2
                jne L1
                cmp qword ptr [rdi], 2
                jne L1
                cmp qword ptr [rdi+0x10], 5
                jne L1
                movsx rax, byte ptr [rdi+8]
                movzx esi, word ptr [rdi+0x18]
                push rbp
                mov rbp, rsp
                mov r11, [rcx]
                mov rdi, rax
                xor eax, eax
                call r11
                movzx eax, al
                test rax, rax
                setne al
                movzx eax, al
                pop rbp
                ret
            L1:
                mov r11, @fallback
                jmp r11
        "#]],
    );
}

#[test]
fn six_integers() {
    check(
        "fn(int, int, int, int, int, int) -> int",
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  param 3
            v4:i64 =  const 6
                      guard_eq v1 v4
            v6:i64 =  load v0 arg.tag[0]
                      guard_eq v6 v4
            v8:i64 =  load v0 arg.tag[1]
                      guard_eq v8 v4
            v10:i64 = load v0 arg.tag[2]
                      guard_eq v10 v4
            v12:i64 = load v0 arg.tag[3]
                      guard_eq v12 v4
            v14:i64 = load v0 arg.tag[4]
                      guard_eq v14 v4
            v16:i64 = load v0 arg.tag[5]
                      guard_eq v16 v4
            v18:i64 = load v0 arg.value[0]
            v19:i64 = load v0 arg.value[1]
            v20:i64 = load v0 arg.value[2]
            v21:i64 = load v0 arg.value[3]
            v22:i64 = load v0 arg.value[4]
            v23:i64 = load v0 arg.value[5]
            v24:i64 = load v3 function.target
            v25:i64 = call "fn(i32, i32, i32, i32, i32, i32) -> i32" v24 v18 v19 v20 v21 v22 v23
                      ret v25
        "#]],
        expect![[r#"
                endbr64
                cmp rsi, 6
                jne L1
                cmp qword ptr [rdi], 6
                jne L1
                cmp qword ptr [rdi+0x10], 6
                jne L1
                cmp qword ptr [rdi+0x20], 6
                jne L1
                cmp qword ptr [rdi+0x30], 6
                jne L1
                cmp qword ptr [rdi+0x40], 6
                jne L1
                cmp qword ptr [rdi+0x50], 6
                jne L1
                movsxd rax, [rdi+8]
                movsxd rsi, [rdi+0x18]
                movsxd rdx, [rdi+0x28]
                movsxd r9, [rdi+0x38]
                movsxd r8, [rdi+0x48]
                movsxd rdi, [rdi+0x58]
                push rbp
                mov rbp, rsp
                mov r11, [rcx]
                mov rcx, r9
                mov r9, rdi
                mov rdi, rax
                xor eax, eax
                call r11
                pop rbp
                ret
            L1:
                mov r11, @fallback
                jmp r11
        "#]],
    );
}

#[test]
fn microsofts_convention() {
    check(
        r#"extern "win64" fn(f32, ptr, i32, f64, f64)"#,
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  param 3
            v4:i64 =  const 5
                      guard_eq v1 v4
            v6:i64 =  load v0 arg.tag[0]
            v7:i64 =  const 10
                      guard_eq v6 v7
            v9:i64 =  load v0 arg.tag[1]
            v10:i64 = const 12
                      guard_eq v9 v10
            v12:i64 = load v0 arg.tag[2]
            v13:i64 = const 6
                      guard_eq v12 v13
            v15:i64 = load v0 arg.tag[3]
            v16:i64 = const 11
                      guard_eq v15 v16
            v18:i64 = load v0 arg.tag[4]
                      guard_eq v18 v16
            v20:f32 = load v0 arg.value[0]
            v21:i64 = load v0 arg.value[1]
            v22:i64 = load v0 arg.value[2]
            v23:f64 = load v0 arg.value[3]
            v24:f64 = load v0 arg.value[4]
            v25:i64 = load v3 function.target
                      call "extern "win64" fn(f32, ptr, i32, f64, f64)" v25 v20 v21 v22 v23 v24
            v27:i64 = const 0
                      ret v27
        "#]],
        expect![[r#"
                endbr64
                cmp rsi, 5
                jne L1
                cmp qword ptr [rdi], 0xa
                jne L1
                cmp qword ptr [rdi+0x10], 0xc
                jne L1
                cmp qword ptr [rdi+0x20], 6
                jne L1
                cmp qword ptr [rdi+0x30], 0xb
                jne L1
                cmp qword ptr [rdi+0x40], 0xb
                jne L1
                movss xmm0, [rdi+8]
                mov rdx, [rdi+0x18]
                movsxd r8, [rdi+0x28]
                movsd xmm3, [rdi+0x38]
                movsd xmm14, [rdi+0x48]
                push rbp
                mov rbp, rsp
                sub rsp, 0x30
                movsd [rsp+0x20], xmm14
                mov r11, [rcx]
                call r11
                xor eax, eax
                add rsp, 0x30
                pop rbp
                ret
            L1:
                mov r11, @fallback
                jmp r11
        "#]],
    );
}
