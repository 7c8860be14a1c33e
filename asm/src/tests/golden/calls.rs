//! Calls, as texts: what goes where, and what is kept.

use super::*;

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
    check(
        &b.ret(result),
        expect![[r#"
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
            mov r11, @float
            cmp [rdi+8], r11
            jne L1
            push rbp
            mov rbp, rsp
            push rbx
            sub rsp, 8
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
            add rsp, 8
            pop rbx
            pop rbp
            jmp r11
        L1:
            mov r11, @fallback
            jmp r11
        134 bytes
    "#]],
    );
}

#[test]
fn arguments_change_places() {
    let (mut b, [x, y, z]) = Builder::new();
    let target = b.symbol("rotate", 0x7fff_0000_2000);
    let result = b.call("fn(i64, i64, i64, i64) -> i64", target, &[y, z, x, x]);
    check(
        &b.ret(result),
        expect![[r#"
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
    "#]],
    );
}

#[test]
fn arguments_go_to_the_stack() {
    let (mut b, [x]) = Builder::new();
    let target = b.load(x, Field::new("address", 0, Mem::I64));
    let d = b.load(x, VALUE);
    let large = b.number(0x1234_5678_9abc);
    let signature = "fn(i64, i64, i64, i64, i64, i64, i64, i64, f64) -> i64";
    let result = b.call(signature, target, &[x, x, x, x, x, x, x, large, d]);
    check(
        &b.ret(result),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  load v0 address
        v2:f64 =  load v0 float.value
        v3:i64 =  const 0x123456789abc
        v4:i64 =  call "fn(i64, i64, i64, i64, i64, i64, i64, i64, f64) -> i64" v1 v0 v0 v0 v0 v0 v0 v0 v3 v2
                  ret v4

            endbr64
            movsd xmm0, [rdi+0x10]
            push rbp
            mov rbp, rsp
            sub rsp, 0x10
            mov [rsp], rdi
            mov r10, 0x123456789abc
            mov [rsp+8], r10
            mov r11, [rdi]
            mov rsi, rdi
            mov r9, rdi
            mov r8, rdi
            mov rcx, rdi
            mov rdx, rdi
            mov eax, 1
            call r11
            add rsp, 0x10
            pop rbp
            ret
        70 bytes
    "#]],
    );
}

#[test]
fn a_call_by_the_other_convention() {
    let (mut b, [x]) = Builder::new();
    let target = b.symbol("f", 0x7fff_0000_2000);
    let five = b.number(5);
    let d = b.load(x, VALUE);
    let signature = "extern \"win64\" fn(i64, f64, i64, i64, i64) -> i64";
    let result = b.call(signature, target, &[x, d, five, x, five]);
    check(
        &b.ret(result),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  sym @f
        v2:i64 =  const 5
        v3:f64 =  load v0 float.value
        v4:i64 =  call "extern "win64" fn(i64, f64, i64, i64, i64) -> i64" v1 v0 v3 v2 v0 v2
                  ret v4

            endbr64
            movsd xmm1, [rdi+0x10]
            push rbp
            mov rbp, rsp
            sub rsp, 0x30
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
    "#]],
    );
}

#[test]
fn a_system_v_call_entered_by_win64_saves_vectors() {
    let (mut b, [x]) = Builder::new();
    let target = b.symbol("f", 0x7fff_0000_2000);
    let result = b.call("extern \"sysv64\" fn(i64) -> i64", target, &[x]);
    check_entered_by(
        Abi::Win64,
        &b.ret(result),
        expect![[r#"
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
    "#]],
    );
}

#[test]
fn an_unusual_case_is_helped_out_of_line() {
    let (mut b, [object]) = Builder::new();
    let state = b.help(&SAVE, &[]);
    let flag = b.load(object, TYPE);
    let state = b.help_if([state, flag], &BOX_INT, &[object]);
    let other = b.load(object, SIZE);
    let differs = b.op(Op::Ne, &[other, state]);
    let zero = b.number(0);
    let result = b.help_if([zero, differs], &BOX_INT, &[state]);
    check(
        &b.ret(result),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  help save
        v2:i64 =  load v0 object.type
        v3:i64 =  help_if box_int v1 v2 v0
        v4:i64 =  load v0 int.size
        v5:i64 =  ne v4 v3
        v6:i64 =  const 0
        v7:i64 =  help_if box_int v6 v5 v3
                  ret v7

            endbr64
            push rbp
            mov rbp, rsp
            push rbx
            sub rsp, 8
            mov rbx, rdi
            mov r11, @save
            call r11
            cmp qword ptr [rbx+8], 0
            jne L3
            mov rdi, rax
        L1:
            mov rax, [rbx+0x10]
            cmp rax, rdi
            jne L4
            xor eax, eax
        L2:
            add rsp, 8
            pop rbx
            pop rbp
            ret
        L3:
            mov rdi, rbx
            mov r11, @box_int
            call r11
            mov rdi, rax
            jmp L1
        L4:
            mov r11, @box_int
            call r11
            jmp L2
        93 bytes
    "#]],
    );
}

#[test]
fn a_call_loads_its_target_and_a_load_the_base_of_the_thread() {
    let (mut b, [object, args]) = Builder::new();
    let word = b.load(args, ARGS);
    let memory = b.load(object, SIZE);
    let target = b.load(memory, ARGS);
    let result = b.call("fn(i64) -> i64", target, &[word]);
    let thread = b.op(Op::Thread, &[]);
    let state = b.load(thread, Field::new("state", -48, Mem::I64));
    let error = b.load(state, Field::new("state.error", 112, Mem::I64));
    let zero = b.number(0);
    b.op(Op::RetIf, &[error, zero]);
    // Now something may have changed the address, so it is kept.
    let kept = b.load(memory, ARGS);
    b.store(memory, ARGS, result);
    let result = b.call("fn() -> i64", kept, &[]);
    let one = b.number(1);
    let twice = b.op(Op::Shl, &[result, one]);
    let rest = b.op(Op::Sub, &[one, twice]);
    check(
        &b.ret(rest),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  load v1 args
        v3:i64 =  load v0 int.size
        v4:i64 =  load v3 args
        v5:i64 =  call "fn(i64) -> i64" v4 v2
        v6:i64 =  thread
        v7:i64 =  load v6 state
        v8:i64 =  load v7 state.error
        v9:i64 =  const 0
                  ret_if v8 v9
        v11:i64 = load v3 args
                  store v3 v5 args
        v13:i64 = call "fn() -> i64" v11
        v14:i64 = const 1
        v15:i64 = shl v13 v14
        v16:i64 = sub v14 v15
                  ret v16

            endbr64
            mov rax, [rsi]
            push rbp
            mov rbp, rsp
            push rbx
            sub rsp, 8
            mov rbx, [rdi+0x10]
            mov r11, [rbx]
            mov rdi, rax
            xor eax, eax
            call r11
            mov r9, fs:[0xffffffffffffffd0]
            cmp qword ptr [r9+0x70], 0
            jne L1
            mov r9, [rbx]
            mov [rbx], rax
            mov r11, r9
            xor eax, eax
            call r11
            shl rax, 1
            neg rax
            add rax, 1
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
        92 bytes
    "#]],
    );
}
