//! Traces and the machine code they become, as texts. To write the texts anew,
//! run the tests with `UPDATE_EXPECT=1`.

mod callbacks;
mod calls;
mod loops;
mod values;

use expect_test::{Expect, expect};
use hotcall_core::Abi;
use hotcall_tracer::{Backend, Data, Effect, Entry, Field, Helper, Mem, Op, Trace};

use super::Builder;
use crate::{Jit, Options};

/// The single place that knows how to show what a trace becomes.
fn check(trace: &Trace, code: Expect) {
    check_entered_by(Abi::HOST, trace, code);
}

fn check_entered_by(host: Abi, trace: &Trace, code: Expect) {
    let jit = Jit::entered_by(host, Options::default());
    let stub = jit.compile(trace, 0x7fff_1111_2222).unwrap();
    assert_eq!(Ok(()), hotcall_tracer::verify(trace));
    code.assert_eq(&format!("{trace}\n{}{} bytes\n", stub.disassemble(), stub.len()));
}

unsafe extern "C-unwind" fn nothing_w() -> u64 {
    1
}

unsafe extern "C-unwind" fn nothing_wv(_: u64) {}

unsafe extern "C-unwind" fn nothing_ww(word: u64) -> u64 {
    word
}

unsafe extern "C-unwind" fn nothing_fw(_: f64) -> u64 {
    3
}

static SAVE: Helper = Helper { name: "save", entry: Entry::W(nothing_w), effect: Effect::Effect };
static RESTORE: Helper =
    Helper { name: "restore", entry: Entry::WV(nothing_wv), effect: Effect::Effect };
static BOX_INT: Helper =
    Helper { name: "box_int", entry: Entry::WW(nothing_ww), effect: Effect::Effect };
static BOX_FLOAT: Helper =
    Helper { name: "box_float", entry: Entry::FW(nothing_fw), effect: Effect::Effect };

const TYPE: Field = Field::new("object.type", 8, Mem::I64);
const SIZE: Field = Field::new("int.size", 16, Mem::I64);
const DIGIT: Field = Field::new("int.digit", 24, Mem::U32);
const VALUE: Field = Field::new("float.value", 16, Mem::F64);
const FLAGS: Field = Field::new("type.flags", 168, Mem::U32);
const ARGS: Field = Field::new("args", 0, Mem::I64);

/// What a call of a function of two ints becomes: two checked and unboxed
/// arguments, the call between two helpers, and a boxed result.
pub(super) fn two_ints() -> Trace {
    let (mut b, [_, args, count]) = Builder::new();
    let two = b.number(2);
    b.op(Op::GuardEq, &[count, two]);
    let int = b.symbol("int", 0x7fff_0000_1000);
    let mut words = Vec::new();
    for index in 0..2 {
        let object = b.load(args, ARGS.item(index));
        let class = b.load(object, TYPE);
        b.op(Op::GuardEq, &[class, int]);
        let size = b.load(object, SIZE);
        let limit = b.number(16);
        b.op(Op::GuardLt, &[size, limit]);
        words.push(b.load(object, DIGIT));
    }
    let state = b.help(&SAVE, &[]);
    let target = b.symbol("add", 0x7fff_0000_2000);
    let result = b.call("fn(i32, i32) -> i32", target, &words);
    b.help(&RESTORE, &[state]);
    let result = b.trace.push(Op::Extend, vec![result], Data::Mem(Mem::I32));
    let object = b.help(&BOX_INT, &[result]);
    b.ret(object)
}

#[test]
fn a_call_of_two_ints() {
    check(
        &two_ints(),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:i64 =  const 2
                  guard_eq v2 v3
        v5:i64 =  sym @int
        v6:i64 =  load v1 args[0]
        v7:i64 =  load v6 object.type
                  guard_eq v7 v5
        v9:i64 =  load v6 int.size
        v10:i64 = const 16
                  guard_lt v9 v10
        v12:i64 = load v6 int.digit
        v13:i64 = load v1 args[1]
        v14:i64 = load v13 object.type
                  guard_eq v14 v5
        v16:i64 = load v13 int.size
        v17:i64 = const 16
                  guard_lt v16 v17
        v19:i64 = load v13 int.digit
        v20:i64 = help save
        v21:i64 = sym @add
        v22:i64 = call "fn(i32, i32) -> i32" v21 v12 v19
                  help restore v20
        v24:i64 = extend v22 i32
        v25:i64 = help box_int v24
                  ret v25

            endbr64
            cmp rdx, 2
            jne L1
            mov rax, [rsi]
            mov r11, @int
            cmp [rax+8], r11
            jne L1
            cmp qword ptr [rax+0x10], 0x10
            jae L1
            push rbp
            mov rbp, rsp
            push rbx
            push r12
            push r13
            sub rsp, 8
            mov ebx, [rax+0x18]
            mov rax, [rsi+8]
            cmp [rax+8], r11
            jne L2
            cmp qword ptr [rax+0x10], 0x10
            jae L2
            mov r12d, [rax+0x18]
            mov r11, @save
            call r11
            mov r13, rax
            mov rdi, rbx
            mov rsi, r12
            mov r11, @add
            xor eax, eax
            call r11
            mov rbx, rax
            mov rdi, r13
            mov r11, @restore
            call r11
            movsxd rdi, ebx
            mov r11, @box_int
            add rsp, 8
            pop r13
            pop r12
            pop rbx
            pop rbp
            jmp r11
        L1:
            mov r11, @fallback
            jmp r11
        L2:
            add rsp, 8
            pop r13
            pop r12
            pop rbx
            pop rbp
            mov r11, @fallback
            jmp r11
        200 bytes
    "#]],
    );
}

#[test]
fn a_call_of_two_ints_entered_by_win64() {
    check_entered_by(
        Abi::Win64,
        &two_ints(),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:i64 =  const 2
                  guard_eq v2 v3
        v5:i64 =  sym @int
        v6:i64 =  load v1 args[0]
        v7:i64 =  load v6 object.type
                  guard_eq v7 v5
        v9:i64 =  load v6 int.size
        v10:i64 = const 16
                  guard_lt v9 v10
        v12:i64 = load v6 int.digit
        v13:i64 = load v1 args[1]
        v14:i64 = load v13 object.type
                  guard_eq v14 v5
        v16:i64 = load v13 int.size
        v17:i64 = const 16
                  guard_lt v16 v17
        v19:i64 = load v13 int.digit
        v20:i64 = help save
        v21:i64 = sym @add
        v22:i64 = call "fn(i32, i32) -> i32" v21 v12 v19
                  help restore v20
        v24:i64 = extend v22 i32
        v25:i64 = help box_int v24
                  ret v25

            endbr64
            cmp r8, 2
            jne L1
            mov rax, [rdx]
            mov r11, @int
            cmp [rax+8], r11
            jne L1
            cmp qword ptr [rax+0x10], 0x10
            jae L1
            push rbp
            mov rbp, rsp
            push rbx
            push rsi
            push rdi
            push r12
            push r13
            sub rsp, 0xc8
            movups [rbp-0x38], xmm6
            movups [rbp-0x48], xmm7
            movups [rbp-0x58], xmm8
            movups [rbp-0x68], xmm9
            movups [rbp-0x78], xmm10
            movups [rbp-0x88], xmm11
            movups [rbp-0x98], xmm12
            movups [rbp-0xa8], xmm13
            movups [rbp-0xb8], xmm14
            movups [rbp-0xc8], xmm15
            mov ebx, [rax+0x18]
            mov rax, [rdx+8]
            cmp [rax+8], r11
            jne L2
            cmp qword ptr [rax+0x10], 0x10
            jae L2
            mov r12d, [rax+0x18]
            mov r11, @save
            call r11
            mov r13, rax
            mov rdi, rbx
            mov rsi, r12
            mov r11, @add
            xor eax, eax
            call r11
            mov rbx, rax
            mov rcx, r13
            mov r11, @restore
            call r11
            movsxd rcx, ebx
            mov r11, @box_int
            movups xmm6, [rbp-0x38]
            movups xmm7, [rbp-0x48]
            movups xmm8, [rbp-0x58]
            movups xmm9, [rbp-0x68]
            movups xmm10, [rbp-0x78]
            movups xmm11, [rbp-0x88]
            movups xmm12, [rbp-0x98]
            movups xmm13, [rbp-0xa8]
            movups xmm14, [rbp-0xb8]
            movups xmm15, [rbp-0xc8]
            add rsp, 0xc8
            pop r13
            pop r12
            pop rdi
            pop rsi
            pop rbx
            pop rbp
            jmp r11
        L1:
            mov r11, @fallback
            jmp r11
        L2:
            movups xmm6, [rbp-0x38]
            movups xmm7, [rbp-0x48]
            movups xmm8, [rbp-0x58]
            movups xmm9, [rbp-0x68]
            movups xmm10, [rbp-0x78]
            movups xmm11, [rbp-0x88]
            movups xmm12, [rbp-0x98]
            movups xmm13, [rbp-0xa8]
            movups xmm14, [rbp-0xb8]
            movups xmm15, [rbp-0xc8]
            add rsp, 0xc8
            pop r13
            pop r12
            pop rdi
            pop rsi
            pop rbx
            pop rbp
            mov r11, @fallback
            jmp r11
        416 bytes
    "#]],
    );
}
