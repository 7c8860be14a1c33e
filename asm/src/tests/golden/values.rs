//! Arithmetic, guards and ways out, as texts.

use super::*;

#[test]
fn a_float_is_demoted_and_promoted() {
    let (mut b, [object]) = Builder::new();
    let target = b.symbol("cosf", 0x7fff_0000_2000);
    let x = b.load(object, VALUE);
    let x = b.op(Op::Demote, &[x]);
    let y = b.call("fn(f32) -> f32", target, &[x]);
    let y = b.op(Op::Promote, &[y]);
    let result = b.help(&BOX_FLOAT, &[y]);
    check(
        &b.ret(result),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  sym @cosf
        v2:f64 =  load v0 float.value
        v3:f32 =  demote v2
        v4:f32 =  call "fn(f32) -> f32" v1 v3
        v5:f64 =  promote v4
        v6:i64 =  help box_float v5
                  ret v6

            endbr64
            movsd xmm0, [rdi+0x10]
            cvtsd2ss xmm0, xmm0
            push rbp
            mov rbp, rsp
            mov r11, @cosf
            mov eax, 1
            call r11
            cvtss2sd xmm0, xmm0
            mov r11, @box_float
            pop rbp
            jmp r11
        53 bytes
    "#]],
    );
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
    check(
        &b.ret(out),
        expect![[r#"
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
            ret
        94 bytes
    "#]],
    );
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
    check(
        &b.ret(word),
        expect![[r#"
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
            ret
        L1:
            mov r11, @fallback
            jmp r11
        79 bytes
    "#]],
    );
}

#[test]
fn a_constant_is_made_once_while_it_is_at_hand() {
    let (mut b, [left, right]) = Builder::new();
    let int = b.symbol("int", 0x7fff_0000_1000);
    for object in [left, right] {
        let class = b.load(object, TYPE);
        b.op(Op::GuardEq, &[int, class]);
    }
    check(
        &b.ret(left),
        expect![[r#"
        v0:i64 =  param 0
        v1:i64 =  param 1
        v2:i64 =  sym @int
        v3:i64 =  load v0 object.type
                  guard_eq v2 v3
        v5:i64 =  load v1 object.type
                  guard_eq v2 v5
                  ret v0

            endbr64
            mov r11, @int
            cmp [rdi+8], r11
            jne L1
            cmp [rsi+8], r11
            jne L1
            mov rax, rdi
            ret
        L1:
            mov r11, @fallback
            jmp r11
        43 bytes
    "#]],
    );
}

#[test]
fn parameters_that_moved_return_at_an_exit() {
    static PURE: Helper =
        Helper { name: "pure", entry: Entry::WW(nothing_ww), effect: Effect::Read };
    let (mut b, [x, y]) = Builder::new();
    let word = b.help(&PURE, &[x]);
    b.op(Op::GuardNe, &[word, y]);
    check(
        &b.ret(x),
        expect![[r#"
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
    "#]],
    );
}

#[test]
fn early_returns_share_their_code() {
    let (mut b, [x, y]) = Builder::new();
    let null = b.number(0);
    for word in [x, y] {
        let failed = b.help(&BOX_INT, &[word]);
        b.op(Op::RetIf, &[failed, null]);
    }
    check(
        &b.ret(y),
        expect![[r#"
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
    "#]],
    );
}
