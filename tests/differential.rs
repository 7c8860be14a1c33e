//! Random calls of one function made three ways: by the stub, by the
//! interpreter, and by the Rust compiler. They agree on results, on what the
//! function saw, and on errors.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::ffi::c_void;

use arbtest::arbitrary::{Result as Draw, Unstructured};
use arbtest::arbtest;
use common::fixture;
use hotcall::{CType, Engine, Function, Options, Tier, Typed, Value};

/// How the function is declared, in C's and in Rust's words.
const TEN: &str = "(i8, f32, u16, f64, bool, i64, ptr, f64, u8, i32) -> f64";
type Ten = fn(i8, f32, u16, f64, bool, i64, *mut c_void, f64, u8, i32) -> f64;

/// What the function received last: as many words as it takes.
type Seen = [u64; 10];

/// The ways to call the function, and to what it received.
struct Subject {
    stub: Function,
    interpreter: Function,
    typed: Typed<Ten>,
    seen: *const Seen,
}

impl Subject {
    /// The result or the error as a text, and what the function received.
    fn observe(&self, function: &Function, args: &[Value]) -> (String, Seen) {
        // SAFETY: the fixture has this signature and takes any values.
        match unsafe { function.call(args) } {
            Ok(value) => (format!("{:#x}", value.word()), self.seen()),
            Err(error) => (error.to_string(), Seen::default()),
        }
    }

    /// The same with the compiler's own call; none if the values do not suit.
    fn direct(&self, args: &[Value]) -> Option<(String, Seen)> {
        use Value::{Bool, F32, F64, I8, I32, I64, Pointer, U8, U16};
        let [I8(a), F32(b), U16(c), F64(d), Bool(e), I64(f), Pointer(g), F64(h), U8(i), I32(j)] =
            *args
        else {
            return None;
        };
        // SAFETY: the fixture has this signature and takes any values.
        let result = unsafe { self.typed.call(a, b, c, d, e, f, g, h, i, j) };
        Some((format!("{:#x}", result.to_bits()), self.seen()))
    }

    fn seen(&self) -> Seen {
        // SAFETY: the library's `fix_seen` is no smaller, and no other thread
        // calls the function.
        unsafe { self.seen.read_volatile() }
    }
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

/// Compares the ways to call the function `name`, whose recorded words are at
/// the address that `seen` gives.
fn check(name: &str, seen: &str, convention: &str) {
    let signature = format!("extern \"{convention}\" fn{TEN}");
    let [stub, interpreter] = [1, 0].map(|hot| {
        let engine = Engine::new(Options { hot, ..Options::default() });
        fixture(&engine, name, &signature)
    });
    let place = fixture(&Engine::default(), seen, "fn() -> ptr");
    // SAFETY: it gives the address of a static.
    let Ok(Value::Pointer(seen)) = (unsafe { place.call(&[]) }) else { unreachable!() };
    // SAFETY: the fixture has this signature.
    let typed: Typed<Ten> = unsafe { stub.typed() }.unwrap();
    let subject = Subject { stub, interpreter, typed, seen: seen.cast() };
    arbtest(|u| {
        let args = values(u, subject.stub.signature().args())?;
        let want = subject.observe(&subject.interpreter, &args);
        assert_eq!(subject.observe(&subject.stub, &args), want, "{args:?}");
        match subject.direct(&args) {
            Some(called) => assert_eq!(called, want, "{args:?}"),
            None => assert!(want.0.contains("pass"), "{args:?} were accepted: {want:?}"),
        }
        Ok(())
    });
    let tiers = [&subject.stub, &subject.interpreter].map(|function| function.explain().tier);
    assert_eq!(tiers, [Tier::Stub, Tier::Interpreter], "{}", subject.stub.explain());
}

#[test]
fn the_systems_convention() {
    check("fix_ten", "fix_ten_seen", "C");
}

#[test]
fn microsofts_convention() {
    check("fix_ms_ten", "fix_ms_ten_seen", "win64");
}
