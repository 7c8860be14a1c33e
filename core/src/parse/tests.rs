//! Tests of the parser: what it accepts in either language, where it stops
//! and what it says then, and that a printed signature parses back.

use super::*;
use arbtest::arbtest;
use expect_test::{Expect, expect};

/// The text parses, and means the same as `want`, which is printed for the
/// convention of Linux.
fn check(text: &str, want: &str) {
    let signature: Signature = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let abi = signature.abi();
    let printed = format!("{abi} {}", signature.with_abi(Abi::HOST));
    assert_eq!(printed, want, "{text}");
}

fn check_error(text: &str, want: Expect) {
    let error = text.parse::<Signature>().unwrap_err();
    assert!(text[error.offset..].starts_with(&error.found), "{text}: {error:?}");
    want.assert_eq(&error.to_string());
}

#[test]
fn rust_names() {
    let host = Abi::HOST;
    check("fn()", &format!("{host} fn()"));
    check("fn() -> ()", &format!("{host} fn()"));
    check(" fn ( i32 ,f64, ) ->f64 ", &format!("{host} fn(i32, f64) -> f64"));
    check(r#"extern "C" fn(bool, usize)"#, &format!("{host} fn(bool, u64)"));
    check(r#"extern "sysv64" fn(isize)"#, "sysv64 fn(i64)");
    check(
        r#"extern "win64" fn(i8, u8, i16, u16, u32, i64)"#,
        "win64 fn(i8, u8, i16, u16, u32, i64)",
    );
}

#[test]
fn rust_pointers() {
    for pointer in [
        "ptr",
        "*const u8",
        "*mut *const *mut i32",
        "*mut std::ffi::c_void",
        "*const Vec<Box<[u8; 4]>, A>",
        "*const (u8, fn(i32) -> i32)",
        "*const fn(i32) -> i32",
        "*mut unsafe extern \"C\" fn([u8; 2], &str) -> *const fn() -> (i32, u8)",
        "*const &u8",
        "*const &'a mut [u8]",
        "*const &dyn Fn(i32) -> i32",
        "*const (i32, &[u8], *const [u8], Box<[u8]>, [u8; 2])",
        "*mut [unknown; 3]",
        "*const std::str::Utf8Error",
        "*const (&str, *const dyn A)",
        "*const unsigned char",
        "*mut ()",
        "*mut a::b<c>::d",
    ] {
        let text = format!(r#"extern "sysv64" fn(i8, {pointer}, u8) -> {pointer}"#);
        check(&text, "sysv64 fn(i8, ptr, u8) -> ptr");
    }
}

#[test]
fn c_names() {
    let texts = [
        ("char", "i8"),
        ("signed char", "i8"),
        ("unsigned char", "u8"),
        ("short", "i16"),
        ("unsigned short", "u16"),
        ("int", "i32"),
        ("unsigned", "u32"),
        ("unsigned int", "u32"),
        ("long long", "i64"),
        ("long long unsigned int", "u64"),
        ("const int", "i32"),
        ("int const volatile", "i32"),
        ("float", "f32"),
        ("double", "f64"),
        ("long double", "long double"),
        ("_Bool", "bool"),
        ("size_t", "u64"),
        ("ssize_t", "i64"),
        ("intptr_t", "i64"),
        ("uintptr_t", "u64"),
        ("int8_t", "i8"),
        ("uint8_t", "u8"),
        ("int16_t", "i16"),
        ("uint16_t", "u16"),
        ("int32_t", "i32"),
        ("uint32_t", "u32"),
        ("int64_t", "i64"),
        ("uint64_t", "u64"),
    ];
    for (text, want) in texts {
        check(&format!("extern \"sysv64\" fn({text})"), &format!("sysv64 fn({want})"));
        check(&format!("extern \"win64\" fn({text})"), &format!("win64 fn({want})"));
    }
    check(r#"extern "win64" fn(void *) -> void"#, "win64 fn(ptr)");
    let by_convention = "fn(long, unsigned long, long int, wchar_t)";
    check(&format!("extern \"sysv64\" {by_convention}"), "sysv64 fn(i64, u64, i64, i32)");
    check(&format!("extern \"win64\" {by_convention}"), "win64 fn(i32, u32, i32, u16)");
}

#[test]
fn c_pointers() {
    for pointer in [
        "void *",
        "const char *",
        "char const*const*",
        "struct stat *restrict",
        "FILE*",
        "unsigned long long **",
        "const void * volatile",
    ] {
        let text = format!(r#"extern "sysv64" fn({pointer}) -> {pointer}"#);
        check(&text, "sysv64 fn(ptr) -> ptr");
    }
}

#[test]
fn errors() {
    check_error("", expect!["expected `fn` or `extern`, found the end of the text at byte 0"]);
    check_error("int(int)", expect!["expected `fn` or `extern`, found `int` at byte 0"]);
    check_error("fn i32", expect!["expected `(`, found `i32` at byte 3"]);
    check_error(
        "fn(i32, strange) -> i32",
        expect![
            "expected a type such as `i32`, `double`, `ptr` or `char *`, found `strange` at byte 8"
        ],
    );
    check_error(
        "fn(int x)",
        expect![
            "expected a type such as `i32`, `double`, `ptr` or `char *`, found `int x` at byte 3"
        ],
    );
    check_error(
        "fn(two words *)",
        expect![
            "expected a type such as `i32`, `double`, `ptr` or `char *`, found `two words` at byte 3"
        ],
    );
    check_error(
        "fn(,)",
        expect!["expected a type such as `i32`, `double`, `ptr` or `char *`, found `,` at byte 3"],
    );
    check_error(
        "fn(const *)",
        expect!["expected a type such as `i32`, `double`, `ptr` or `char *`, found `*` at byte 9"],
    );
    check_error("fn(i32", expect!["expected `,` or `)`, found the end of the text at byte 6"]);
    check_error("fn(i32; i32)", expect!["expected `,` or `)`, found `;` at byte 6"]);
    check_error(
        "fn(..., ...) -> i32",
        expect!["expected the type of an argument (`...` stands once), found `...` at byte 8"],
    );
    check_error(
        "fn(ptr, ..., int, const float , ptr)",
        expect![
            "expected types behind `...` as C promotes them (`int` or `double` for narrower ones), found `const float` at byte 18"
        ],
    );
    check_error(
        "fn({})",
        expect!["expected a struct that can be passed by value, found `{}` at byte 3"],
    );
    check_error("fn({i32; i32})", expect!["expected `,` or `}`, found `;` at byte 7"]);
    check_error("fn({i32, {f64})", expect!["expected `,` or `}`, found `)` at byte 14"]);
    check_error(
        "fn(void)",
        expect![
            "expected the type of an argument (without arguments, write `fn()`), found `void` at byte 3"
        ],
    );
    check_error(
        "fn() -> ",
        expect![
            "expected a type such as `i32`, `double`, `ptr` or `char *`, found the end of the text at byte 8"
        ],
    );
    check_error("fn() i32", expect!["expected `->` or the end of the text, found `i32` at byte 5"]);
    check_error("fn() -> i32, x", expect!["expected the end of the text, found `,` at byte 11"]);
    check_error("fn(*u8)", expect!["expected `const` or `mut`, found `u8` at byte 4"]);
    check_error("fn(*mut)", expect!["expected the type that is pointed to, found `)` at byte 7"]);
    check_error("fn(*mut a::)", expect!["expected the rest of a path, found `)` at byte 11"]);
    check_error("fn(*mut [u8)", expect!["expected `]`, found `)` at byte 11"]);
    let texts = ["[u8]", "[[u8; 3]]", "str", "dyn Fn()", "(dyn Fn() + Send)", "impl Copy", "(str)"];
    for text in texts.into_iter().chain(["(i32, [u8])", "((i32, (u8, [u8])), i32)"]) {
        let error = format!("fn(*const *mut {text}, i32)").parse::<Signature>().unwrap_err();
        assert!(error.to_string().contains("a type of known size"), "{text}: {error}");
    }
    check_error("fn(*const u8 -> i32)", expect!["expected `,` or `)`, found `->` at byte 13"]);
    for text in ["struct", "enum union", "restrict", "fn", "long struct"] {
        let error = format!("fn({text} *)").parse::<Signature>().unwrap_err();
        assert_eq!((error.found.as_str(), error.expected), (text, A_TYPE));
    }
    check_error("fn(*mut (", expect!["expected `)`, found the end of the text at byte 9"]);
    check_error(
        r#"extern "rust" fn()"#,
        expect![[r#"expected `"C"`, `"sysv64"` or `"win64"`, found `"rust"` at byte 7"#]],
    );
    check_error(
        r#"extern "C fn()"#,
        expect![[r#"expected `"C"`, `"sysv64"` or `"win64"`, found `"C fn()` at byte 7"#]],
    );
    check_error(
        "fn(é)",
        expect!["expected a type such as `i32`, `double`, `ptr` or `char *`, found `é` at byte 3"],
    );
}

#[test]
fn a_long_text_needs_no_deep_stack() {
    let deep = format!("fn({}u8, *mut [u8; 1])", "*const ".repeat(100_000));
    assert_eq!(deep.parse::<Signature>().unwrap().args(), [CType::Pointer; 2]);
    let brackets = format!("fn(*mut {}u8{})", "[".repeat(100_000), ";1]".repeat(100_000));
    assert_eq!(brackets.parse::<Signature>().unwrap().args(), [CType::Pointer]);
}

#[test]
fn what_is_printed_parses_back() {
    arbtest(|u| {
        let result = *u.choose(CType::ALL)?;
        let abi = *u.choose(&[Abi::SystemV, Abi::Win64])?;
        let mut args = Vec::new();
        for _ in 0..u.int_in_range(0..=20)? {
            args.push(*u.choose(CType::ALL)?);
        }
        args.retain(|arg| *arg != CType::Void);
        let mut builder = Signature::returning(result).with_abi(abi).args(args);
        if u.arbitrary()? {
            builder = builder.variadic().args([CType::F64; 2][..u.int_in_range(0..=2)?].to_vec());
        }
        let signature = builder.build().unwrap();
        assert_eq!(signature.to_string().parse(), Ok(signature));
        Ok(())
    })
    .budget_ms(300);
}

/// Random tokens make texts that get past the first few checks.
#[test]
fn any_text_gives_a_signature_or_a_place_in_the_text() {
    const TOKENS: &[&str] = &[
        "fn", "(", ")", ",", "->", "*", "const", "mut", "i32", "long", "double", "void", "...",
        "[", "]", "<", ">", "::", "\"", "extern", "\"C\"", " ", "é", "T", ";", "4",
    ];
    arbtest(|u| {
        let mut text = String::from(*u.choose(&["", "fn(", "fn() ->", "fn(*mut "])?);
        for _ in 0..u.int_in_range(0..=12)? {
            text.push_str(u.choose(TOKENS)?);
            text.push_str(u.choose(&["", " "])?);
        }
        match text.parse::<Signature>() {
            Ok(signature) => assert_eq!(signature.to_string().parse(), Ok(signature)),
            Err(error) => {
                let rest = text.get(error.offset..).expect("the offset is in the text");
                assert!(rest.starts_with(&error.found), "{text:?}: {error:?}");
            }
        }
        Ok(())
    })
    .budget_ms(300);
}

#[test]
fn structs_stand_in_braces() {
    let pair = CType::struct_of(&[CType::I32, CType::F64]).unwrap();
    let nested = CType::struct_of(&[pair, CType::Pointer]).unwrap();
    let parsed: Signature = "fn({ int, {i32, double}, }) -> {{i32, f64}, char *}".parse().unwrap();
    assert_eq!(parsed.args(), [CType::struct_of(&[CType::I32, pair]).unwrap()]);
    assert_eq!(parsed.result(), nested);
    assert_eq!(parsed.to_string(), "fn({i32, {i32, f64}}) -> {{i32, f64}, ptr}");
    assert_eq!(parsed.to_string().parse(), Ok(parsed));
    let deep = |depth: usize| format!("fn({}i64{})", "{".repeat(depth), "}".repeat(depth));
    assert!(deep(64).parse::<Signature>().is_ok());
    for (text, reason) in [
        (deep(65).as_str(), StructError::Deep),
        ("fn({})", StructError::Empty),
        ("fn({long double})", StructError::LongDouble),
        ("fn({i8, {void, i8}})", StructError::Void),
    ] {
        assert_eq!(text.parse::<Signature>().unwrap_err().reason, Some(reason), "{text}");
    }
    assert!(deep(100_000).parse::<Signature>().is_err(), "no deep stack is needed");
}
