//! Calls of the fixtures, one property each: results in the interpreter and in
//! the stub, errno, alignment, memory, typed views, errors, sharing.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::io;

use common::fixture;
use hotcall::{
    CStruct, CType, Engine, Error, Function, Library, Options, Position, StructError, Tier, Typed,
    Value,
};

/// An engine that compiles a function at its second call.
fn eager() -> Engine {
    Engine::new(Options { hot: 2, ..Options::default() })
}

/// Calls a fixture that takes any values of its types.
fn call(function: &Function, args: &[Value]) -> Result<Value, Error> {
    // SAFETY: the fixtures of this file are declared with their own signatures
    // and have no requirements, unless a test says so.
    unsafe { function.call(args) }
}

/// Calls thrice, in the interpreter, recorded, and in the stub.
#[track_caller]
fn check(name: &str, signature: &str, args: &[Value], want: Value) {
    let function = fixture(&eager(), name, signature);
    for tier in [Tier::Interpreter, Tier::Interpreter, Tier::Stub] {
        assert_eq!(function.explain().tier, tier, "{signature}");
        assert_eq!(call(&function, args).unwrap(), want, "{signature} {tier:?}");
    }
    assert_eq!(function.explain().interpreted, 2, "the third call runs in the stub");
}

#[test]
fn results_are_the_same_in_every_tier() {
    use Value::{Bool, F64, I8, I16, I32, U8, U16, U32, U64, Void};
    check("fix_add", "fn(i32, i32) -> i32", &[I32(i32::MAX), I32(1)], I32(i32::MIN));
    check("fix_half", "fn(f64) -> f64", &[F64(-3.0)], F64(-1.5));
    check("fix_add_d", "fn(f64, f64) -> f64", &[F64(0.5), F64(0.25)], F64(0.75));
    check("fix_nothing", "fn()", &[], Void);
    let six = [1, 2, 3, 4, 5, 6].map(I32);
    check("fix_six", "fn(int, int, int, int, int, int) -> int", &six, I32(91));
    let text = c"hot".as_ptr().into();
    check("fix_length", "fn(const char *) -> size_t", &[text], U64(3));

    check("fix_dirty8", "fn(i8) -> i8", &[I8(-1)], I8(-1));
    check("fix_dirty8", "fn(u8) -> u8", &[U8(255)], U8(255));
    check("fix_dirty8", "fn(bool) -> bool", &[Bool(false)], Bool(false));
    check("fix_dirty8", "fn(u8) -> bool", &[U8(0x80)], Bool(true));
    check("fix_dirty16", "fn(i16) -> i16", &[I16(-2)], I16(-2));
    check("fix_dirty16", "fn(u16) -> u16", &[U16(0xfffe)], U16(0xfffe));
    check("fix_dirty32", "fn(i32) -> i32", &[I32(-3)], I32(-3));
    check("fix_dirty32", "fn(u32) -> u32", &[U32(u32::MAX)], U32(u32::MAX));

    check("fix_misalignment", "fn() -> u64", &[], U64(0));
}

/// Memory that only foreign code has named may be read and written.
#[test]
fn pointers_that_are_returned_lead_to_memory() {
    let libc = Library::this_with(&eager()).unwrap();
    let allocate = libc.function("calloc", "fn(size_t, size_t) -> void *").unwrap();
    let free = libc.function("free", "fn(void *)").unwrap();
    for tier in [Tier::Interpreter, Tier::Interpreter, Tier::Stub] {
        assert_eq!(allocate.explain().tier, tier);
        let Value::Pointer(memory) = call(&allocate, &[Value::U64(2), Value::U64(8)]).unwrap()
        else {
            panic!("no pointer");
        };
        let numbers = memory.cast::<[u64; 2]>();
        assert!(!numbers.is_null());
        // SAFETY: there are 16 bytes, aligned for anything, and nobody else has them.
        let numbers = unsafe { &mut *numbers };
        assert_eq!(*numbers, [0, 0]);
        numbers[1] = 7;
        assert_eq!(*numbers, [0, 7]);
        // `free` requires memory of `calloc` that nobody uses any more, as this is.
        call(&free, &[memory.into()]).unwrap();
    }
}

#[test]
fn functions_of_microsofts_convention() {
    use Value::{I32, U8, U64};
    let sum = r#"extern "win64" fn(i32, i32) -> i32"#;
    check("fix_ms_add", sum, &[I32(7), I32(-9)], I32(-2));
    check("fix_ms_dirty8", r#"extern "win64" fn(u8) -> u8"#, &[U8(200)], U8(200));
    check("fix_ms_misalignment", r#"extern "win64" fn() -> u64"#, &[], U64(0));
}

/// The function finds the errno of before, and the caller that of after, in
/// every tier and while compiling.
#[test]
fn errno_passes_both_ways() {
    let swap = fixture(&eager(), "fix_swap_errno", "fn(i32) -> i32");
    // SAFETY: the function has this signature.
    let direct: Typed<fn(i32) -> i32> = unsafe { swap.typed() }.unwrap();
    for round in 1..6 {
        // SAFETY: it takes any number.
        unsafe { direct.call(100 + round) };
        let found = call(&swap, &[Value::I32(200 + round)]);
        let left = io::Error::last_os_error().raw_os_error();
        assert_eq!((found.unwrap(), left), (Value::I32(100 + round), Some(200 + round)));
    }
    assert_eq!(swap.explain().tier, Tier::Stub);
}

#[test]
fn wrong_values_are_refused_by_name_in_every_tier() {
    let add = fixture(&eager(), "fix_add", "fn(i32, i32) -> i32");
    let good = [Value::I32(1), Value::I32(2)];
    for _ in 0..4 {
        let wrong = [Value::I32(1), Value::U32(2)];
        let error = call(&add, &wrong).unwrap_err();
        assert_eq!(error.to_string(), "argument 2 of `fix_add` is i32; pass this, not u32");
        let error = call(&add, &good[..1]).unwrap_err();
        assert_eq!(error.to_string(), "`fix_add` takes 2 arguments; pass these, not 1");
        assert_eq!(call(&add, &good).unwrap(), Value::I32(3));
    }
    let explanation = add.explain();
    let counts: Vec<_> = explanation.refusals.iter().map(|(r, n)| (r.name, *n)).collect();
    assert_eq!(counts, [("value-type", 4), ("value-count", 4)], "{explanation}");
}

/// Values that make a function hot but are refused do not compile it, and do
/// not keep it from being compiled.
#[test]
fn a_refused_call_is_not_recorded() {
    let half = fixture(&eager(), "fix_half", "fn(f64) -> f64");
    for _ in 0..50 {
        assert!(call(&half, &[Value::F32(1.0)]).is_err());
    }
    assert_eq!(half.explain().tier, Tier::Interpreter);
    for _ in 0..2 {
        assert_eq!(call(&half, &[Value::F64(1.0)]).unwrap(), Value::F64(0.5));
    }
    assert_eq!(half.explain().tier, Tier::Stub);
}

#[test]
fn without_executable_memory_calls_are_interpreted() {
    for options in [
        Options { hot: 1, deny: true, ..Options::default() },
        Options { hot: 0, ..Options::default() },
    ] {
        let engine = Engine::new(options);
        let add = fixture(&engine, "fix_add", "fn(i32, i32) -> i32");
        for _ in 0..100 {
            assert_eq!(call(&add, &[Value::I32(1), Value::I32(2)]).unwrap(), Value::I32(3));
        }
        let explanation = add.explain();
        assert_eq!(engine.status().is_err(), options.deny);
        assert_eq!(explanation.uncompiled.is_some(), options.deny, "{explanation}");
    }
}

/// In one page there is room for some stubs; then the next functions say what
/// keeps them from being compiled, and work.
#[test]
fn when_code_memory_is_full_calls_are_interpreted() {
    let engine = Engine::new(Options { hot: 1, capacity: 1, ..Options::default() });
    let refusal = (0..40).find_map(|count| {
        // A function may be called with more arguments than it takes.
        let signature = format!("fn({})", "i32, ".repeat(count));
        let nothing = fixture(&engine, "fix_nothing", &signature);
        let args = vec![Value::I32(0); count];
        assert_eq!(call(&nothing, &args).unwrap(), Value::Void);
        assert_eq!(call(&nothing, &args).unwrap(), Value::Void);
        nothing.explain().uncompiled
    });
    assert_eq!(refusal.map(|refusal| refusal.name), Some("code-memory-full"));
    assert!(engine.usage().stubs > 1, "{:?}", engine.usage());
}

#[test]
fn equal_signatures_share_their_code() {
    let engine = eager();
    let add = fixture(&engine, "fix_add", "fn(i32, i32) -> i32");
    let back = fixture(&engine, "fix_six", "fn(int, int) -> int");
    for _ in 0..3 {
        call(&add, &[Value::I32(1), Value::I32(2)]).unwrap();
        call(&back, &[Value::I32(1), Value::I32(2)]).unwrap();
    }
    assert_eq!((add.explain().tier, back.explain().tier), (Tier::Stub, Tier::Stub));
    assert_eq!(engine.usage().stubs, 1);
    assert_ne!(add, back);
    assert_eq!(add.clone(), add);
}

#[test]
fn typed_views_call_by_the_signatures_convention() {
    let engine = eager();
    let add = fixture(&engine, "fix_add", "fn(i32, i32) -> i32");
    // SAFETY: `fix_add` has this signature.
    let typed: Typed<fn(i32, i32) -> i32> = unsafe { add.typed() }.unwrap();
    drop(add);
    // SAFETY: it takes any numbers.
    assert_eq!(unsafe { typed.call(40, 2) }, 42);

    let add = fixture(&engine, "fix_ms_add", r#"extern "win64" fn(i32, i32) -> i32"#);
    // SAFETY: `fix_ms_add` has this signature.
    let typed: Typed<fn(i32, i32) -> i32> = unsafe { add.typed() }.unwrap();
    // SAFETY: it takes any numbers.
    assert_eq!(unsafe { typed.call(40, 2) }, 42);
    assert_eq!(typed.function(), &add);
}

#[test]
fn types_that_do_not_fit_are_named() {
    let add = fixture(&eager(), "fix_add", "fn(i32, i32) -> i32");
    macro_rules! check {
        ($prototype:ty, $want:literal) => {
            // SAFETY: `fix_add` has the signature that it was declared with.
            let mismatch = unsafe { add.typed::<$prototype>() }.unwrap_err();
            assert_eq!(mismatch.to_string(), $want);
        };
    }
    check!(fn(i32, u32) -> i32, "argument 2 of `fix_add` is i32; in the Rust type it is u32");
    check!(fn(i32) -> i32, "argument 2 of `fix_add` is i32; in the Rust type it is missing");
    check!(
        fn(i32, i32, *const u8) -> i32,
        "argument 3 of `fix_add` is missing; in the Rust type it is ptr"
    );
    check!(fn(i32, i32), "the result of `fix_add` is i32; in the Rust type it is void");
}

/// The fixed arguments may be all that the Rust type has: a call still needs to be a
/// variadic one.
#[test]
fn variadic_functions_have_no_rust_type() {
    let engine = eager();
    macro_rules! check {
        ($signature:literal, $prototype:ty, $position:expr) => {
            let print =
                Library::this_with(&engine).unwrap().function("printf", $signature).unwrap();
            // SAFETY: `printf` may be called with this signature.
            let mismatch = unsafe { print.typed::<$prototype>() }.unwrap_err();
            assert_eq!((mismatch.position, mismatch.variadic), ($position, true));
            let want = "`printf` has `...` before argument 2, which no Rust type has; \
                        call it with values";
            assert_eq!(mismatch.to_string(), want);
        };
    }
    let behind = Position::Argument(1);
    check!("fn(ptr, ...) -> i32", fn(*const u8) -> i32, behind);
    check!("fn(ptr, ..., f64) -> i32", fn(*const u8, f64) -> i32, behind);
    check!("fn(ptr, ..., f64) -> i32", fn(*const u8, i32) -> i32, behind);
}

/// The macro names nothing that a program could mean something else by.
mod bare {
    #![no_implicit_prelude]

    ::hotcall::c_struct! {
        pub(super) struct Pair {
            pub(super) left: i32,
            pub(super) right: f64,
        }
    }
}

#[test]
fn structs_are_defined_where_no_name_is_known() {
    let fields = <bare::Pair as CStruct>::fields().unwrap();
    assert_eq!(fields, [(0, CType::I32), (8, CType::F64)]);
    let pair = bare::Pair { left: 1, right: 0.5 };
    assert_eq!((pair.left, pair.right), (1, 0.5));
}

#[test]
fn structs_that_cannot_be_passed_say_why() {
    hotcall::c_struct! {
        #[repr(packed)]
        struct Packed {
            first: u8,
            second: u64,
        }
    }
    let add = fixture(&eager(), "fix_add", "fn(i32, i32) -> i32");
    // SAFETY: the fixture has this signature.
    let mismatch = unsafe { add.typed::<fn(i32, Packed) -> i32>() }.unwrap_err();
    let want =
        "argument 2 of `fix_add` is i32; in the Rust type it is a struct that cannot be passed";
    assert_eq!(mismatch.to_string(), want);
    assert_eq!(mismatch.refused, Some(StructError::Odd { offset: 1 }));
    let Packed { first, second } = Packed { first: 1, second: 2 };
    assert_eq!((first, second), (1, 2));
}

#[test]
fn signatures_are_texts_of_any_kind() {
    let text = "fn(i32, i32) -> i32".to_string();
    let this = Library::this().unwrap();
    let signature = this.function("abs", &text).unwrap().signature().clone();
    assert_eq!(this.function("abs", text.as_str()).unwrap().signature(), &signature);
    assert_eq!(this.function("abs", text).unwrap().signature(), &signature);
}

#[test]
fn errors_name_the_function_that_is_declared() {
    let this = Library::this().unwrap();
    let check = |declared: Result<Function, Error>, want: &str| {
        assert_eq!(declared.unwrap_err().to_string(), want);
    };
    check(
        this.function("cos", "fn(doubl)"),
        "`cos` cannot be declared so: the text is not a signature such as `fn(i32) -> f64`",
    );
    check(
        Engine::global().function("strtold", std::ptr::null(), "fn(ptr, ptr) -> long double"),
        "`strtold` cannot be declared so: the result of `fn(ptr, ptr) -> long double` is a long \
         double, which cannot be called with; call a C function that converts it to a double",
    );
    check(
        this.function("printf", "fn(ptr, ...)").unwrap().with_variadic([CType::F32]),
        "`printf` cannot be declared so: argument 2 is f32 behind `...`; pass an i32, or an f64 \
         for an f32",
    );
}
