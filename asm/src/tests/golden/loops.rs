//! Loops: the way from one turn to the next.

use expect_test::{Expect, expect};
use hotcall_tracer::{Field, Mem, Op, Trace, verify};

use super::super::Builder;
use super::BOX_INT;
use crate::Jit;
use crate::refusals::{INVALID_TRACE, LOOP_EXITS};

fn check(trace: &Trace, strides: &[i32], code: Expect) {
    let stub = Jit::default().compile_loop(trace, strides).unwrap();
    assert_eq!(Ok(()), verify(trace));
    code.assert_eq(&format!("{trace}\n{}{} bytes\n", stub.disassemble(), stub.len()));
}

const DOUBLE: Field = Field::new("double", 0, Mem::F64);
const INT: Field = Field::new("int", 0, Mem::I32);

#[test]
fn a_column_of_doubles_to_another() {
    let (mut b, [target, from, to]) = Builder::new();
    let double = b.load(from, DOUBLE);
    let result = b.call("fn(f64) -> f64", target, &[double]);
    b.store(to, DOUBLE, result);
    let end = b.number(0);
    check(
        &b.ret(end),
        &[0, 8, 8],
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:f64 =  load v1 double
        v4:f64 =  call "fn(f64) -> f64" v0 v3
                  store v2 v4 double
        v6:i64 =  const 0
                  ret v6

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            push r12
            push r13
            sub rsp, 8
            mov rbx, rdi
            mov r12, rsi
        L1:
            mov rax, [rbx]
            mov r9, [rbx+8]
            lea r9, [r9+r12*8]
            mov r13, [rbx+0x10]
            lea r13, [r13+r12*8]
            movsd xmm0, [r9]
            mov r11, rax
            mov eax, 1
            call r11
            movsd [r13], xmm0
            inc r12
            cmp r12, [rbx+0x18]
            jb L1
            add rsp, 8
            pop r13
            pop r12
            pop rbx
            pop rbp
            ret
        87 bytes
    "#]],
    );
}

#[test]
fn strides_that_no_address_has_and_homes_in_the_frame() {
    let (mut b, [target, one, two, three, four, five]) = Builder::new();
    let args = [one, two, three].map(|item| b.load(item, INT));
    let result = b.call("fn(i32, i32, i32) -> i32", target, &args);
    for item in [five, four, three] {
        b.store(item, INT, result);
    }
    b.help(&BOX_INT, &[one]);
    let end = b.number(0);
    check(
        &b.ret(end),
        &[0, 4, -4, 12, 24, 1],
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:i64 =  param 3
        v4:i64 =  param 4
        v5:i64 =  param 5
        v6:i64 =  load v1 int
        v7:i64 =  load v2 int
        v8:i64 =  load v3 int
        v9:i64 =  call "fn(i32, i32, i32) -> i32" v0 v6 v7 v8
                  store v5 v9 int
                  store v4 v9 int
                  store v3 v9 int
        v13:i64 = help box_int v1
        v14:i64 = const 0
                  ret v14

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            push r12
            push r13
            push r14
            push r15
            sub rsp, 8
            mov rbx, rdi
            mov r12, rsi
        L1:
            mov rax, [rbx]
            mov r13, [rbx+8]
            lea r13, [r13+r12*4]
            mov r9, [rbx+0x10]
            imul r10, r12, 0xfffffffffffffffc
            add r9, r10
            mov r14, [rbx+0x18]
            imul r10, r12, 0xc
            add r14, r10
            mov r15, [rbx+0x20]
            imul r10, r12, 0x18
            add r15, r10
            mov r10, [rbx+0x28]
            lea r10, [r10+r12]
            mov [rbp-0x30], r10
            movsxd rdi, [r13]
            movsxd rsi, [r9]
            movsxd rdx, [r14]
            mov r11, rax
            xor eax, eax
            call r11
            mov r11, [rbp-0x30]
            mov [r11], eax
            mov [r15], eax
            mov [r14], eax
            mov rdi, r13
            mov r11, @box_int
            call r11
            inc r12
            cmp r12, [rbx+0x30]
            jb L1
            add rsp, 8
            pop r15
            pop r14
            pop r13
            pop r12
            pop rbx
            pop rbp
            ret
        170 bytes
    "#]],
    );
}

#[test]
fn what_may_end_before_its_end_is_no_turn() {
    let jit = Jit::default();
    let (mut b, [one]) = Builder::new();
    b.op(Op::GuardEq, &[one, one]);
    let guarded = b.ret(one);
    assert_eq!(jit.compile_loop(&guarded, &[0]).unwrap_err(), LOOP_EXITS);
    let (mut b, [one]) = Builder::new();
    b.op(Op::RetIf, &[one, one]);
    let returning = b.ret(one);
    assert_eq!(jit.compile_loop(&returning, &[0]).unwrap_err(), LOOP_EXITS);
    let (b, [one, _]) = Builder::new();
    let of_two = b.ret(one);
    assert_eq!(jit.compile_loop(&of_two, &[0]).unwrap_err(), INVALID_TRACE);
    assert!(jit.compile_loop(&of_two, &[0, 0]).is_ok());
}
