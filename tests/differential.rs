//! Random calls of one function made three ways: by the stub, by the
//! interpreter, and by the Rust compiler. They agree on results, on what the
//! function saw, and on errors.

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arbtest::arbitrary::{Result as Draw, Unstructured};
use arbtest::arbtest;
use hotcall::{CType, Engine, Function, Options, Tier, Typed, Value};
use hotcall_fixtures as fix;

const TEN: &str = "(i8, f32, u16, f64, bool, i64, ptr, f64, u8, i32) -> f64";
type Ten = fn(i8, f32, u16, f64, bool, i64, *mut c_void, f64, u8, i32) -> f64;

/// `fix_seen` is one for all tests.
static SEEN: Mutex<()> = Mutex::new(());

fn seen_is_ours() -> MutexGuard<'static, ()> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seen() -> [u64; 16] {
    let seen = &raw const fix::fix_seen;
    // SAFETY: it is as large, and only functions write it that are called
    // behind the lock.
    unsafe { seen.read_volatile() }
}

/// Values that nearly always suit the types.
fn values(u: &mut Unstructured<'_>, types: &[CType]) -> Draw<Vec<Value>> {
    let mut types = types.to_vec();
    if u.ratio(1, 8)? {
        let count = u.int_in_range(0..=types.len() + 2)?;
        types.resize(count, CType::I32);
    }
    if u.ratio(1, 8)? && !types.is_empty() {
        let index = u.choose_index(types.len())?;
        types[index] = *u.choose(CType::ALL)?;
    }
    let value = |ctype| Ok(Value::from_word(ctype, u.arbitrary()?).unwrap_or(Value::Void));
    types.into_iter().map(value).collect()
}

/// The result or the error as a text, and what the function saw.
fn observe(function: &Function, args: &[Value]) -> (String, [u64; 16]) {
    // SAFETY: the fixture has this signature and takes any values.
    match unsafe { function.call(args) } {
        Ok(value) => (format!("{:#x}", value.word()), seen()),
        Err(error) => (error.to_string(), [0; 16]),
    }
}

/// The same with the compiler's own call; none if the values do not suit.
fn direct(typed: &Typed<Ten>, args: &[Value]) -> Option<(String, [u64; 16])> {
    use Value::{Bool, F32, F64, I8, I32, I64, Pointer, U8, U16};
    let [I8(a), F32(b), U16(c), F64(d), Bool(e), I64(f), Pointer(g), F64(h), U8(i), I32(j)] = *args
    else {
        return None;
    };
    // SAFETY: the fixture has this signature and takes any values.
    let result = unsafe { typed.call(a, b, c, d, e, f, g, h, i, j) };
    Some((format!("{:#x}", result.to_bits()), seen()))
}

/// How long each test may run, in milliseconds.
fn fuzz_ms() -> u64 {
    std::env::var("HOTCALL_FUZZ_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

fn check(address: *const c_void, convention: &str) {
    let _guard = seen_is_ours();
    let signature = format!("extern \"{convention}\" fn{TEN}");
    let make = |hot| {
        let engine = Engine::new(Options { hot, ..Options::default() });
        engine.function("ten", address, signature.as_str()).unwrap()
    };
    let [stub, interpreter] = [make(1), make(0)];
    // SAFETY: the fixture has this signature.
    let typed: Typed<Ten> = unsafe { stub.typed() }.unwrap();
    arbtest(|u| {
        let args = values(u, stub.signature().args())?;
        let want = observe(&interpreter, &args);
        assert_eq!(observe(&stub, &args), want, "{args:?}\n{}", stub.explain());
        match direct(&typed, &args) {
            Some(called) => assert_eq!(called, want, "{args:?}"),
            None => assert!(want.0.contains("pass"), "{args:?} were accepted: {want:?}"),
        }
        Ok(())
    })
    .budget_ms(fuzz_ms());
    assert_eq!(stub.explain().tier, Tier::Stub, "{}", stub.explain());
    assert_eq!(interpreter.explain().tier, Tier::Interpreter);
}

#[test]
fn the_systems_convention() {
    check(fix::fix_ten as _, "C");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn microsofts_convention() {
    check(fix::fix_ms_ten as _, "win64");
}
