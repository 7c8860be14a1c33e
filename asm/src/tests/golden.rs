//! Traces and the machine code they become, as texts. To write the texts anew,
//! run the tests with `UPDATE_EXPECT=1`.

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

unsafe extern "C" fn nothing_w() -> u64 {
    1
}

unsafe extern "C" fn nothing_wv(_: u64) {}

unsafe extern "C" fn nothing_ww(word: u64) -> u64 {
    word
}

unsafe extern "C" fn nothing_fw(_: f64) -> u64 {
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
    check(&two_ints(), expect![[r#"
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
            push rbp
            mov rbp, rsp
            push rbx
            push r12
            push r13
            sub rsp, 8
            cmp rdx, 2
            jne L1
            mov rax, [rsi]
            mov r11, @int
            cmp [rax+8], r11
            jne L1
            cmp qword ptr [rax+0x10], 0x10
            jae L1
            mov ebx, [rax+0x18]
            mov rax, [rsi+8]
            cmp [rax+8], r11
            jne L1
            cmp qword ptr [rax+0x10], 0x10
            jae L1
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
            call r11
            add rsp, 8
            pop r13
            pop r12
            pop rbx
            pop rbp
            ret
        L1:
            add rsp, 8
            pop r13
            pop r12
            pop rbx
            pop rbp
            mov r11, @fallback
            jmp r11
        184 bytes
    "#]]);
}

#[test]
fn a_call_of_two_ints_entered_by_win64() {
    check_entered_by(Abi::Win64, &two_ints(), expect![[r#"
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
            cmp r8, 2
            jne L1
            mov rax, [rdx]
            mov r11, @int
            cmp [rax+8], r11
            jne L1
            cmp qword ptr [rax+0x10], 0x10
            jae L1
            mov ebx, [rax+0x18]
            mov rax, [rdx+8]
            cmp [rax+8], r11
            jne L1
            cmp qword ptr [rax+0x10], 0x10
            jae L1
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
            call r11
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
            ret
        L1:
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
        404 bytes
    "#]]);
}

#[test]
fn a_double_lives_in_the_frame_across_a_call() {
    let (mut b, [object]) = Builder::new();
    let class = b.load(object, TYPE);
    let float = b.symbol("float", 0x7fff_0000_1000);
    b.op(Op::GuardEq, &[class, float]);
    let x = b.load(object, VALUE);
    let state = b.help(&SAVE, &[]);
    let target = b.symbol("cos", 0x7fff_0000_2000);
    let y = b.call("fn(f64) -> f64", target, &[x]);
    b.help(&RESTORE, &[state]);
    let result = b.help(&BOX_FLOAT, &[y]);
    check(&b.ret(result), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  load v0 object.type
        v2:i64 =  sym @float
                  guard_eq v1 v2
        v4:f64 =  load v0 float.value
        v5:i64 =  help save
        v6:i64 =  sym @cos
        v7:f64 =  call "fn(f64) -> f64" v6 v4
                  help restore v5
        v9:i64 =  help box_float v7
                  ret v9

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            sub rsp, 8
            mov r11, @float
            cmp [rdi+8], r11
            jne L1
            mov r10, [rdi+0x10]
            mov [rbp-0x10], r10
            mov r11, @save
            call r11
            mov rbx, rax
            mov r11, @cos
            movsd xmm0, [rbp-0x10]
            mov eax, 1
            call r11
            movsd [rbp-0x10], xmm0
            mov rdi, rbx
            mov r11, @restore
            call r11
            mov r11, @box_float
            movsd xmm0, [rbp-0x10]
            call r11
            add rsp, 8
            pop rbx
            pop rbp
            ret
        L1:
            add rsp, 8
            pop rbx
            pop rbp
            mov r11, @fallback
            jmp r11
        141 bytes
    "#]]);
}

#[test]
fn a_float_is_demoted_and_promoted() {
    let (mut b, [object]) = Builder::new();
    let target = b.symbol("cosf", 0x7fff_0000_2000);
    let x = b.load(object, VALUE);
    let x = b.op(Op::Demote, &[x]);
    let y = b.call("fn(f32) -> f32", target, &[x]);
    let y = b.op(Op::Promote, &[y]);
    let result = b.help(&BOX_FLOAT, &[y]);
    check(&b.ret(result), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  sym @cosf
        v2:f64 =  load v0 float.value
        v3:f32 =  demote v2
        v4:f32 =  call "fn(f32) -> f32" v1 v3
        v5:f64 =  promote v4
        v6:i64 =  help box_float v5
                  ret v6

            endbr64
            push rbp
            mov rbp, rsp
            movsd xmm0, [rdi+0x10]
            cvtsd2ss xmm0, xmm0
            mov r11, @cosf
            mov eax, 1
            call r11
            cvtss2sd xmm0, xmm0
            mov r11, @box_float
            call r11
            pop rbp
            ret
        54 bytes
    "#]]);
}

#[test]
fn guards_fold_loads_and_numbers() {
    let (mut b, [object, word]) = Builder::new();
    let class = b.load(object, TYPE);
    let null = b.number(0);
    b.op(Op::GuardNe, &[class, null]);
    let flags = b.load(class, FLAGS);
    let mask = b.number(1 << 28);
    let masked = b.op(Op::And, &[flags, mask]);
    b.op(Op::GuardNe, &[masked, null]);
    let kind = b.load(object, Field::new("kind", 32, Mem::U8));
    let three = b.number(3);
    b.op(Op::GuardEq, &[three, kind]);
    let limit = b.number(1000);
    b.op(Op::GuardGe, &[limit, word]);
    let one = b.number(1);
    let odd = b.op(Op::And, &[word, one]);
    b.op(Op::GuardEq, &[odd, null]);
    let large = b.number(1 << 40);
    let size = b.load(object, SIZE);
    b.op(Op::GuardLt, &[size, large]);
    check(&b.ret(word), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  load v0 object.type
        v3:i64 =  const 0
                  guard_ne v2 v3
        v5:i64 =  load v2 type.flags
        v6:i64 =  const 0x10000000
        v7:i64 =  and v5 v6
                  guard_ne v7 v3
        v9:i64 =  load v0 kind
        v10:i64 = const 3
                  guard_eq v10 v9
        v12:i64 = const 1000
                  guard_ge v12 v1
        v14:i64 = const 1
        v15:i64 = and v1 v14
                  guard_eq v15 v3
        v17:i64 = const 0x10000000000
        v18:i64 = load v0 int.size
                  guard_lt v18 v17
                  ret v1

            endbr64
            push rbp
            mov rbp, rsp
            mov rax, [rdi+8]
            test rax, rax
            je L1
            test dword ptr [rax+0xa8], 0x10000000
            je L1
            cmp byte ptr [rdi+0x20], 3
            jne L1
            cmp rsi, 0x3e8
            ja L1
            test sil, 1
            jne L1
            mov r11, 0x10000000000
            cmp [rdi+0x10], r11
            jae L1
            mov rax, rsi
            pop rbp
            ret
        L1:
            pop rbp
            mov r11, @fallback
            jmp r11
        85 bytes
    "#]]);
}

#[test]
fn a_constant_is_made_once_while_it_is_at_hand() {
    let (mut b, [left, right]) = Builder::new();
    let int = b.symbol("int", 0x7fff_0000_1000);
    for object in [left, right] {
        let class = b.load(object, TYPE);
        b.op(Op::GuardEq, &[int, class]);
    }
    check(&b.ret(left), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  sym @int
        v3:i64 =  load v0 object.type
                  guard_eq v2 v3
        v5:i64 =  load v1 object.type
                  guard_eq v2 v5
                  ret v0

            endbr64
            push rbp
            mov rbp, rsp
            mov r11, @int
            cmp [rdi+8], r11
            jne L1
            cmp [rsi+8], r11
            jne L1
            mov rax, rdi
            pop rbp
            ret
        L1:
            pop rbp
            mov r11, @fallback
            jmp r11
        49 bytes
    "#]]);
}

#[test]
fn arguments_change_places() {
    let (mut b, [x, y, z]) = Builder::new();
    let target = b.symbol("rotate", 0x7fff_0000_2000);
    let result = b.call("fn(i64, i64, i64, i64) -> i64", target, &[y, z, x, x]);
    check(&b.ret(result), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  param 2
        v3:i64 =  sym @rotate
        v4:i64 =  call "fn(i64, i64, i64, i64) -> i64" v3 v1 v2 v0 v0
                  ret v4

            endbr64
            push rbp
            mov rbp, rsp
            mov rcx, rdi
            mov r10, rsi
            mov rsi, rdx
            mov rdx, rdi
            mov rdi, r10
            mov r11, @rotate
            xor eax, eax
            call r11
            pop rbp
            ret
        40 bytes
    "#]]);
}

#[test]
fn arguments_go_to_the_stack() {
    let (mut b, [x]) = Builder::new();
    let target = b.load(x, Field::new("address", 0, Mem::I64));
    let d = b.load(x, VALUE);
    let large = b.number(0x1234_5678_9abc);
    let signature = "fn(i64, i64, i64, i64, i64, i64, i64, i64, f64) -> i64";
    let result = b.call(signature, target, &[x, x, x, x, x, x, x, large, d]);
    check(&b.ret(result), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  load v0 address
        v2:f64 =  load v0 float.value
        v3:i64 =  const 0x123456789abc
        v4:i64 =  call "fn(i64, i64, i64, i64, i64, i64, i64, i64, f64) -> i64" v1 v0 v0 v0 v0 v0 v0 v0 v3 v2
                  ret v4

            endbr64
            push rbp
            mov rbp, rsp
            sub rsp, 0x10
            mov rax, [rdi]
            movsd xmm0, [rdi+0x10]
            mov [rsp], rdi
            mov r10, 0x123456789abc
            mov [rsp+8], r10
            mov r11, rax
            mov r9, rdi
            mov r8, rdi
            mov rcx, rdi
            mov rdx, rdi
            mov rsi, rdi
            mov eax, 1
            call r11
            add rsp, 0x10
            pop rbp
            ret
        73 bytes
    "#]]);
}

#[test]
fn a_call_by_the_other_convention() {
    let (mut b, [x]) = Builder::new();
    let target = b.symbol("f", 0x7fff_0000_2000);
    let five = b.number(5);
    let d = b.load(x, VALUE);
    let signature = "extern \"win64\" fn(i64, f64, i64, i64, i64) -> i64";
    let result = b.call(signature, target, &[x, d, five, x, five]);
    check(&b.ret(result), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  sym @f
        v2:i64 =  const 5
        v3:f64 =  load v0 float.value
        v4:i64 =  call "extern "win64" fn(i64, f64, i64, i64, i64) -> i64" v1 v0 v3 v2 v0 v2
                  ret v4

            endbr64
            push rbp
            mov rbp, rsp
            sub rsp, 0x30
            movsd xmm1, [rdi+0x10]
            mov qword ptr [rsp+0x20], 5
            mov rcx, rdi
            mov r9, rdi
            mov r11, @f
            mov r8d, 5
            call r11
            add rsp, 0x30
            pop rbp
            ret
        57 bytes
    "#]]);
}

#[test]
fn a_system_v_call_entered_by_win64_saves_vectors() {
    let (mut b, [x]) = Builder::new();
    let target = b.symbol("f", 0x7fff_0000_2000);
    let result = b.call("extern \"sysv64\" fn(i64) -> i64", target, &[x]);
    check_entered_by(Abi::Win64, &b.ret(result), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  sym @f
        v2:i64 =  call "fn(i64) -> i64" v1 v0
                  ret v2

            endbr64
            push rbp
            mov rbp, rsp
            push rsi
            push rdi
            sub rsp, 0xa0
            movups [rbp-0x20], xmm6
            movups [rbp-0x30], xmm7
            movups [rbp-0x40], xmm8
            movups [rbp-0x50], xmm9
            movups [rbp-0x60], xmm10
            movups [rbp-0x70], xmm11
            movups [rbp-0x80], xmm12
            movups [rbp-0x90], xmm13
            movups [rbp-0xa0], xmm14
            movups [rbp-0xb0], xmm15
            mov rdi, rcx
            mov r11, @f
            xor eax, eax
            call r11
            movups xmm6, [rbp-0x20]
            movups xmm7, [rbp-0x30]
            movups xmm8, [rbp-0x40]
            movups xmm9, [rbp-0x50]
            movups xmm10, [rbp-0x60]
            movups xmm11, [rbp-0x70]
            movups xmm12, [rbp-0x80]
            movups xmm13, [rbp-0x90]
            movups xmm14, [rbp-0xa0]
            movups xmm15, [rbp-0xb0]
            add rsp, 0xa0
            pop rdi
            pop rsi
            pop rbp
            ret
        160 bytes
    "#]]);
}

#[test]
fn parameters_that_moved_return_at_an_exit() {
    static PURE: Helper =
        Helper { name: "pure", entry: Entry::WW(nothing_ww), effect: Effect::Read };
    let (mut b, [x, y]) = Builder::new();
    let word = b.help(&PURE, &[x]);
    b.op(Op::GuardNe, &[word, y]);
    check(&b.ret(x), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  help pure v0
                  guard_ne v2 v1
                  ret v0

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            push r12
            mov rbx, rdi
            mov r12, rsi
            mov rdi, rbx
            mov r11, @pure
            call r11
            cmp rax, r12
            je L1
            mov rax, rbx
            pop r12
            pop rbx
            pop rbp
            ret
        L1:
            mov rdi, rbx
            mov rsi, r12
            pop r12
            pop rbx
            pop rbp
            mov r11, @fallback
            jmp r11
        69 bytes
    "#]]);
}

#[test]
fn early_returns_share_their_code() {
    let (mut b, [x, y]) = Builder::new();
    let null = b.number(0);
    for word in [x, y] {
        let failed = b.help(&BOX_INT, &[word]);
        b.op(Op::RetIf, &[failed, null]);
    }
    check(&b.ret(y), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  const 0
        v3:i64 =  help box_int v0
                  ret_if v3 v2
        v5:i64 =  help box_int v1
                  ret_if v5 v2
                  ret v1

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            sub rsp, 8
            mov rbx, rsi
            mov r11, @box_int
            call r11
            test rax, rax
            jne L1
            mov rdi, rbx
            mov r11, @box_int
            call r11
            test rax, rax
            jne L1
            mov rax, rbx
            add rsp, 8
            pop rbx
            pop rbp
            ret
        L1:
            xor eax, eax
            add rsp, 8
            pop rbx
            pop rbp
            ret
        74 bytes
    "#]]);
}

#[test]
fn arithmetic() {
    let (mut b, [x, y]) = Builder::new();
    let three = b.number(3);
    let sum = b.op(Op::Add, &[x, y]);
    let difference = b.op(Op::Sub, &[y, sum]);
    let product = b.op(Op::Mul, &[difference, three]);
    let left = b.op(Op::Shl, &[product, three]);
    let right = b.op(Op::Shr, &[left, x]);
    let differ = b.op(Op::Ne, &[right, three]);
    let double = b.op(Op::ToF64, &[differ]);
    let bits = b.op(Op::Bits, &[double]);
    let out = b.op(Op::Xor, &[bits, right]);
    b.store(x, Field::new("byte", 4, Mem::U8), out);
    b.store(x, VALUE, double);
    b.store(y, DIGIT, three);
    check(&b.ret(out), expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  const 3
        v3:i64 =  add v0 v1
        v4:i64 =  sub v1 v3
        v5:i64 =  mul v4 v2
        v6:i64 =  shl v5 v2
        v7:i64 =  shr v6 v0
        v8:i64 =  ne v7 v2
        v9:f64 =  to_f64 v8
        v10:i64 = bits v9
        v11:i64 = xor v10 v7
                  store v0 v11 byte
                  store v0 v9 float.value
                  store v1 v2 int.digit
                  ret v11

            endbr64
            push rbp
            mov rbp, rsp
            mov rax, rdi
            add rax, rsi
            mov r10, rsi
            sub r10, rax
            mov rax, r10
            imul rax, 3
            shl rax, 3
            mov r10, rax
            mov r11, rcx
            mov rcx, rdi
            shr r10, cl
            mov rcx, r11
            mov rax, r10
            cmp rax, 3
            setne r9b
            movzx r9d, r9b
            xorps xmm14, xmm14
            cvtsi2sd xmm14, r9
            movq r9, xmm14
            xor rax, r9
            mov [rdi+4], al
            movsd [rdi+0x10], xmm14
            mov dword ptr [rsi+0x18], 3
            pop rbp
            ret
        99 bytes
    "#]]);
}
