//! Callbacks: parameters from everywhere that a convention puts them.

use expect_test::{Expect, expect};
use hotcall_core::Signature;
use hotcall_tracer::{Data, Field, Mem, Op, Trace, verify};

use super::super::Builder;
use super::{BOX_INT, SAVE};
use crate::Jit;

fn check(signature: &str, trace: &Trace, code: Expect) {
    let signature: Signature = signature.parse().unwrap();
    let stub = Jit::default().compile_callback(trace, &signature).unwrap();
    assert_eq!(Ok(()), verify(trace));
    code.assert_eq(&format!("{trace}\n{}{} bytes\n", stub.disassemble(), stub.len()));
}

const WORD: Field = Field::new("word", 0, Mem::I64);

/// Calls a function that is bound to the context, with the arguments behind it.
#[test]
fn a_comparator_of_two_pointers() {
    let (mut b, [context, x, y]) = Builder::new();
    let target = b.load(context, WORD);
    let result = b.call("fn(ptr, ptr, ptr) -> i32", target, &[context, x, y]);
    check(
        "fn(ptr, ptr) -> i32",
        &b.ret(result),
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  load v0 word
            v4:i64 =  call "fn(ptr, ptr, ptr) -> i32" v3 v0 v1 v2
                      ret v4

                endbr64
                mov rax, r10
                push rbp
                mov rbp, rsp
                mov r11, [rax]
                mov rdx, rsi
                mov rsi, rdi
                mov rdi, rax
                xor eax, eax
                call r11
                movsxd rax, eax
                pop rbp
                ret
            34 bytes
        "#]],
    );
}

#[test]
fn narrow_words_doubles_and_structs_in_memory() {
    let (mut b, [context, byte, double, single, one, two]) = Builder::new();
    let place = b.trace.push(Op::Scratch, vec![], Data::Imm(48));
    for (val, index) in [byte, double, single, two].into_iter().zip(0..) {
        b.store(place, WORD.item(index), val);
    }
    let inside = b.load(one, WORD.item(1));
    b.store(place, WORD.item(4), inside);
    b.help(&BOX_INT, &[place]);
    let result = b.help(&BOX_INT, &[one]);
    let sum = b.op(Op::Add, &[result, context]);
    check(
        "extern \"sysv64\" fn(i8, f64, f32, {i64, i64, i64}, u16) -> f32",
        &b.ret(sum),
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  param 3
            v4:i64 =  param 4
            v5:i64 =  param 5
            v6:i64 =  scratch 48
                      store v6 v1 word[0]
                      store v6 v2 word[1]
                      store v6 v3 word[2]
                      store v6 v5 word[3]
            v11:i64 = load v4 word[1]
                      store v6 v11 word[4]
            v13:i64 = help box_int v6
            v14:i64 = help box_int v4
            v15:i64 = add v14 v0
                      ret v15

                endbr64
                push rbp
                mov rbp, rsp
                push rbx
                sub rsp, 0x38
                movsx rdi, dil
                movzx esi, si
                mov rbx, r10
                movq rax, xmm0
                movd r9d, xmm1
                mov [rsp], rdi
                mov [rsp+8], rax
                mov [rsp+0x10], r9
                mov [rsp+0x18], rsi
                mov rax, [rbp+0x18]
                mov [rsp+0x20], rax
                mov r11, @box_int
                lea rdi, [rsp]
                call r11
                mov r11, @box_int
                lea rdi, [rbp+0x10]
                call r11
                add rax, rbx
                movq xmm0, rax
                add rsp, 0x38
                pop rbx
                pop rbp
                ret
            112 bytes
        "#]],
    );
}

#[test]
fn words_on_the_stack_stay_there() {
    let (mut b, params) = Builder::new::<9>();
    let [context, .., wide, narrow] = params;
    b.help(&BOX_INT, &[context]);
    let sum = b.op(Op::Add, &[wide, narrow]);
    let given = b.help(&BOX_INT, &[narrow]);
    let sum = b.op(Op::Add, &[sum, given]);
    check(
        "extern \"sysv64\" fn(i64, i64, i64, i64, i64, i64, u64, i16) -> u8",
        &b.ret(sum),
        expect![[r#"
            v0:i64 =  param 0
            v1:i64 =  param 1
            v2:i64 =  param 2
            v3:i64 =  param 3
            v4:i64 =  param 4
            v5:i64 =  param 5
            v6:i64 =  param 6
            v7:i64 =  param 7
            v8:i64 =  param 8
            v9:i64 =  help box_int v0
            v10:i64 = add v7 v8
            v11:i64 = help box_int v8
            v12:i64 = add v10 v11
                      ret v12

                endbr64
                push rbp
                mov rbp, rsp
                push rbx
                sub rsp, 8
                mov rdi, r10
                movsx r10, word ptr [rbp+0x18]
                mov [rbp+0x18], r10
                mov r11, @box_int
                call r11
                mov r11, [rbp+0x18]
                mov rbx, [rbp+0x10]
                add rbx, r11
                mov r11, @box_int
                mov rdi, [rbp+0x18]
                call r11
                add rax, rbx
                movzx eax, al
                add rsp, 8
                pop rbx
                pop rbp
                ret
            79 bytes
        "#]],
    );
}

#[test]
fn a_struct_in_registers_is_read_from_the_frame() {
    let (mut b, [context, memory]) = Builder::new();
    let word = b.help(&BOX_INT, &[context]);
    b.store(memory, WORD, word);
    b.store(memory, WORD.item(1), context);
    check(
        "extern \"sysv64\" fn() -> {f64, i32}",
        &b.ret(context),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  help box_int v0
                  store v1 v2 word
                  store v1 v0 word[1]
                  ret v0

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            sub rsp, 0x18
            mov rbx, r10
            mov rdi, rbx
            mov r11, @box_int
            call r11
            mov [rsp], rax
            mov [rsp+8], rbx
            movsd xmm0, [rsp]
            mov rax, [rsp+8]
            add rsp, 0x18
            pop rbx
            pop rbp
            ret
        60 bytes
    "#]],
    );
}

#[test]
fn a_struct_in_memory_is_where_the_caller_wants_it() {
    let (mut b, [_, memory, x]) = Builder::new();
    let state = b.help(&SAVE, &[]);
    b.store(memory, WORD, x);
    b.op(Op::RetIf, &[state, state]);
    b.store(memory, WORD.item(2), x);
    check(
        "extern \"sysv64\" fn(u32) -> {i64, i64, i64}",
        &b.ret(state),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:i64 =  help save
                  store v1 v2 word
                  ret_if v3 v3
                  store v1 v2 word[2]
                  ret v3

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            push r12
            mov rbx, rdi
            mov esi, esi
            mov r12, rsi
            mov r11, @save
            call r11
            mov [rbx], r12
            test rax, rax
            jne L1
            mov [rbx+0x10], r12
            mov rax, rbx
            pop r12
            pop rbx
            pop rbp
            ret
        L1:
            mov rax, rbx
            pop r12
            pop rbx
            pop rbp
            ret
        61 bytes
    "#]],
    );
}

#[test]
fn a_win64_callback_keeps_what_its_helper_may_change() {
    let (mut b, [context, x, y]) = Builder::new();
    let result = b.help(&BOX_INT, &[context]);
    let sum = b.op(Op::Add, &[x, y]);
    let sum = b.op(Op::Add, &[sum, result]);
    check(
        "extern \"win64\" fn(f64, i32) -> f64",
        &b.ret(sum),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:i64 =  help box_int v0
        v4:i64 =  add v1 v2
        v5:i64 =  add v4 v3
                  ret v5

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            push rsi
            push rdi
            push r12
            sub rsp, 0xa0
            movups [rbp-0x30], xmm6
            movups [rbp-0x40], xmm7
            movups [rbp-0x50], xmm8
            movups [rbp-0x60], xmm9
            movups [rbp-0x70], xmm10
            movups [rbp-0x80], xmm11
            movups [rbp-0x90], xmm12
            movups [rbp-0xa0], xmm13
            movups [rbp-0xb0], xmm14
            movups [rbp-0xc0], xmm15
            movsxd rdx, edx
            mov r12, rdx
            mov rax, r10
            movq rbx, xmm0
            mov rdi, rax
            mov r11, @box_int
            call r11
            add rbx, r12
            add rax, rbx
            movq xmm0, rax
            movups xmm6, [rbp-0x30]
            movups xmm7, [rbp-0x40]
            movups xmm8, [rbp-0x50]
            movups xmm9, [rbp-0x60]
            movups xmm10, [rbp-0x70]
            movups xmm11, [rbp-0x80]
            movups xmm12, [rbp-0x90]
            movups xmm13, [rbp-0xa0]
            movups xmm14, [rbp-0xb0]
            movups xmm15, [rbp-0xc0]
            add rsp, 0xa0
            pop r12
            pop rdi
            pop rsi
            pop rbx
            pop rbp
            ret
        195 bytes
    "#]],
    );
}
