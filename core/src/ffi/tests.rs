//! Tests of the generic call: functions of the system's libraries, and Rust
//! functions of both conventions that check what reaches them.

use super::*;
use crate::{Library, Value};
use std::io;

/// Calls `target` by a signature in text form with values of its types.
///
/// # Safety
/// As for [`PreparedCall::call`].
unsafe fn call(target: *const c_void, signature: &str, args: &[Value]) -> Value {
    let signature: Signature = signature.parse().unwrap();
    let types: Vec<CType> = args.iter().map(Value::ctype).collect();
    assert_eq!(types, signature.args());
    let words: Vec<u64> = args.iter().map(|arg| arg.word()).collect();
    let prepared = PreparedCall::new(&signature).unwrap();
    // SAFETY: the caller vouches for `target`; the words are of its types.
    let word = unsafe { prepared.call(target, &words) };
    assert_eq!(signature.result().canonical(word), word, "{prepared:?}");
    Value::from_word(signature.result(), word).unwrap()
}

fn libm(symbol: &str) -> *const c_void {
    // SAFETY: the initialisers of the C math library need nothing.
    let library = unsafe { Library::open("libm.so.6") }.unwrap();
    let address = library.symbol(symbol).unwrap();
    mem::forget(library);
    address
}

#[test]
fn functions_of_the_system() {
    // SAFETY: `cos` has this signature and takes any double.
    let cos = unsafe { call(libm("cos"), "fn(double) -> double", &[0.0.into()]) };
    assert_eq!(cos, Value::F64(1.0));
    let args = [2.0.into(), 10.0.into()];
    // SAFETY: `pow` has this signature and takes any doubles.
    let pow = unsafe { call(libm("pow"), "fn(f64, f64) -> f64", &args) };
    assert_eq!(pow, Value::F64(1024.0));
    // SAFETY: `sqrtf` has this signature and takes any float.
    let sqrtf = unsafe { call(libm("sqrtf"), "fn(float) -> float", &[2.25f32.into()]) };
    assert_eq!(sqrtf, Value::F32(1.5));
    let libc = Library::this().unwrap();
    let abs = libc.symbol("abs").unwrap();
    // SAFETY: `abs` has this signature, and the result fits an int.
    let five = unsafe { call(abs, "fn(int) -> int", &[(-5).into()]) };
    assert_eq!(five, Value::I32(5));
    let strlen = libc.symbol("strlen").unwrap();
    let text = [c"seven ch".as_ptr().into()];
    // SAFETY: `strlen` has this signature, and the text ends with a NUL.
    let length = unsafe { call(strlen, "fn(const char *) -> size_t", &text) };
    assert_eq!(length, Value::U64(8));
}

macro_rules! interleaved {
    ($($name:ident $abi:literal)*) => {$(
        /// Twelve integers and twelve doubles in turn, each weighted by its
        /// position.
        #[allow(clippy::too_many_arguments, reason = "the stack is to be reached")]
        extern $abi fn $name(
            a: i64, b: f64, c: i32, d: f64, e: i16, f: f64, g: i8, h: f64, i: u64, j: f64,
            k: u32, l: f64, m: u16, n: f64, o: u8, p: f64, q: bool, r: f32, s: i8, t: f32,
            u: i16, v: f32, w: i64, x: f64,
        ) -> f64 {
            let values = [
                a as f64, b, c.into(), d, e.into(), f, g.into(), h, i as f64, j, k.into(), l,
                m.into(), n, o.into(), p, u8::from(q).into(), r.into(), s.into(), t.into(),
                u.into(), v.into(), w as f64, x,
            ];
            (1..).zip(values).map(|(weight, value)| f64::from(weight) * value).sum()
        }
    )*};
}

interleaved! {
    interleaved_sysv64 "sysv64"
    interleaved_win64 "win64"
}

#[test]
fn many_arguments_of_both_kinds_in_both_conventions() {
    let args: [Value; 24] = [
        (-1_i64).into(),
        0.5.into(),
        (-2_i32).into(),
        1.5.into(),
        (-3_i16).into(),
        2.5.into(),
        (-4_i8).into(),
        3.5.into(),
        (1_u64 << 40).into(),
        4.5.into(),
        u32::MAX.into(),
        5.5.into(),
        u16::MAX.into(),
        6.5.into(),
        u8::MAX.into(),
        7.5.into(),
        true.into(),
        8.5_f32.into(),
        i8::MIN.into(),
        9.5_f32.into(),
        i16::MIN.into(),
        10.5_f32.into(),
        (-9_i64).into(),
        11.5.into(),
    ];
    let values = args.map(|arg| arg.to_string().replace("true", "1").parse::<f64>().unwrap());
    let want: f64 = (1..).zip(values).map(|(weight, value)| f64::from(weight) * value).sum();
    let types: Vec<&str> = args.iter().map(|arg| arg.ctype().name()).collect();
    let types = types.join(", ");
    let sysv64 = format!("extern \"sysv64\" fn({types}) -> f64");
    // SAFETY: the function has this signature and takes any values.
    let got = unsafe { call(interleaved_sysv64 as *const c_void, &sysv64, &args) };
    assert_eq!(got, Value::F64(want));
    let win64 = format!("extern \"win64\" fn({types}) -> f64");
    // SAFETY: the function has this signature and takes any values.
    let got = unsafe { call(interleaved_win64 as *const c_void, &win64, &args) };
    assert_eq!(got, Value::F64(want));
}

macro_rules! identities {
    ($($test:ident $abi:literal)*) => {$(
        /// Values of every type go in and come out unchanged.
        #[test]
        fn $test() {
            fn check<T: Into<Value>>(target: *const c_void, values: impl IntoIterator<Item = T>) {
                for value in values {
                    let value = value.into();
                    let ctype = value.ctype();
                    let text = format!("extern \"{}\" fn({ctype}) -> {ctype}", $abi);
                    // SAFETY: the callers below pass the identity of the type.
                    assert_eq!(unsafe { call(target, &text, &[value]) }, value, "{text}");
                }
            }
            extern $abi fn same<T>(value: T) -> T {
                value
            }
            check(same::<bool> as *const c_void, [false, true]);
            check(same::<i8> as *const c_void, [i8::MIN, -1, 0, i8::MAX]);
            check(same::<u8> as *const c_void, [0, u8::MAX]);
            check(same::<i16> as *const c_void, [i16::MIN, -1, 0, i16::MAX]);
            check(same::<u16> as *const c_void, [0, u16::MAX]);
            check(same::<i32> as *const c_void, [i32::MIN, -1, 0, i32::MAX]);
            check(same::<u32> as *const c_void, [0, u32::MAX]);
            check(same::<i64> as *const c_void, [i64::MIN, -1, 0, i64::MAX]);
            check(same::<u64> as *const c_void, [0, u64::MAX]);
            check(same::<f32> as *const c_void, [-0.5_f32, f32::MAX, f32::INFINITY]);
            check(same::<f64> as *const c_void, [-0.5, f64::MIN_POSITIVE, f64::INFINITY]);
            check(same::<*mut u8> as *const c_void, [ptr::null_mut(), ptr::dangling_mut::<u8>()]);
        }
    )*};
}

identities! {
    identities_sysv64 "sysv64"
    identities_win64 "win64"
}

#[test]
fn a_void_function_returns_the_word_of_void() {
    extern "C" fn noise(at: *mut u64) -> u64 {
        // SAFETY: the test passes the address of a local.
        unsafe { at.write(7) };
        u64::MAX
    }
    let mut local = 0_u64;
    let args = [Value::from(&raw mut local)];
    // SAFETY: the function takes a pointer; its result may be ignored.
    let result = unsafe { call(noise as *const c_void, "fn(ptr)", &args) };
    assert_eq!((result, local), (Value::Void, 7));
}

/// The function reads its first 7 arguments only. This is sound for any number
/// of further ones: in both conventions the caller reserves and frees them.
#[test]
fn any_number_of_arguments() {
    #[allow(clippy::many_single_char_names, reason = "they are all alike")]
    extern "C" fn seven(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64) -> u64 {
        [a, b, c, d, e, f, g].into_iter().fold(0, |sum, word| 10 * sum + word)
    }
    for count in [7, FEW, FEW + 1, MANY, MANY + 1, 3000] {
        let signature = Signature::new(vec![CType::U64; count], CType::U64).unwrap();
        let prepared = PreparedCall::new(&signature).unwrap();
        let words: Vec<u64> = (1..).take(count).collect();
        // SAFETY: see the head of this test; `words` has `count` words.
        let got = unsafe { prepared.call(seven as *const c_void, &words) };
        assert_eq!(got, 1_234_567, "{count} arguments");
    }
}

#[test]
fn errno_is_the_functions_own() {
    extern "C" fn errno() -> i32 {
        io::Error::last_os_error().raw_os_error().unwrap()
    }
    let libc = Library::this().unwrap();
    let close = libc.symbol("close").unwrap();
    // SAFETY: there is no descriptor -1, so nothing is closed.
    let failed = unsafe { call(close, "fn(int) -> int", &[(-1).into()]) };
    assert_eq!((failed, errno()), (Value::I32(-1), 9));

    let prepared = PreparedCall::new(&"fn() -> i32".parse().unwrap()).unwrap();
    let location = libc.symbol("__errno_location").unwrap();
    let location_call = PreparedCall::new(&"fn() -> int *".parse().unwrap()).unwrap();
    // SAFETY: `__errno_location` has this signature.
    let address = unsafe { location_call.call(location, &[]) };
    let address = ptr::with_exposed_provenance_mut::<i32>(address as usize);
    // SAFETY: this is the address of the thread's own errno.
    unsafe { address.write(77) };
    // SAFETY: `errno` has this signature.
    let seen = unsafe { prepared.call(errno as *const c_void, &[]) };
    assert_eq!((seen, errno()), (77, 77));
}

#[test]
fn one_prepared_call_serves_many_threads() {
    let prepared = PreparedCall::new(&"fn(f64, f64) -> f64".parse().unwrap()).unwrap();
    let pow = libm("pow").expose_provenance();
    std::thread::scope(|scope| {
        for base in [2.0_f64, 3.0, 5.0, 7.0] {
            let prepared = &prepared;
            scope.spawn(move || {
                for exponent in 0..1000 {
                    let args = [Value::from(base).word(), Value::from(f64::from(exponent)).word()];
                    let pow = ptr::with_exposed_provenance(pow);
                    // SAFETY: `pow` has this signature and takes any doubles.
                    let word = unsafe { prepared.call(pow, &args) };
                    assert_eq!(f64::from_bits(word), base.powf(f64::from(exponent)));
                }
            });
        }
    });
}

#[test]
fn a_long_double_is_refused_by_position() {
    let refusal = |text: &str| PreparedCall::new(&text.parse().unwrap()).unwrap_err().to_string();
    let argument = refusal("fn(i32, long double) -> f64");
    assert!(argument.starts_with("argument 2 of `fn(i32, long double) -> f64`"), "{argument}");
    let result = refusal("fn(f64) -> long double");
    assert!(result.starts_with("the result of `fn(f64) -> long double`"), "{result}");
}

/// Reads tags as machine code does, and checks them with the table of tags.
#[test]
fn tags_are_in_memory_where_they_are_said_to_be() {
    for ctype in CType::ALL {
        let Some(value) = Value::from_word(*ctype, 0) else { continue };
        let tag = (&raw const value).cast::<u64>().wrapping_byte_add(Value::TAG_OFFSET);
        // SAFETY: a `repr(u64)` enum starts with its tag, an initialised u64.
        let tag = unsafe { tag.read() };
        assert_eq!(Some(tag), Value::tag_of(*ctype), "{ctype}");
    }
}

/// Notes the words behind the first, which says how many there are, and gives their sum.
unsafe extern "C-unwind" fn record(
    context: *const c_void,
    result: *mut u8,
    words: *const u64,
) -> u64 {
    // SAFETY: the context of the closures below.
    let seen = unsafe { &*context.cast::<std::sync::Mutex<Vec<u64>>>() };
    // SAFETY: they have an argument.
    let count = unsafe { *words } as usize;
    // SAFETY: the first says how many words there are.
    let words = unsafe { std::slice::from_raw_parts(words, count) };
    *seen.lock().unwrap() = words.to_vec();
    // SAFETY: a struct that they return has 3 words or less.
    unsafe { ptr::copy_nonoverlapping([1_u64, 2, 3].as_ptr().cast(), result, 16) };
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[test]
fn a_closure_gets_the_words_of_a_call() {
    let pair = [7_u64, 8];
    let large = [1_u64, 2, 3];
    let at = large.as_ptr().expose_provenance() as u64;
    let check = |signature: &str, words: &[u64]| {
        let seen = std::sync::Mutex::new(Vec::new());
        let context = (&raw const seen).cast();
        let signature: Signature = signature.parse().unwrap();
        // SAFETY: the context outlives the closure, which is called here.
        let closure = unsafe { Closure::new(&signature, record, context) }.unwrap();
        let call = PreparedCall::new(&signature).unwrap();
        let mut result = [0_u64; 3];
        if signature.result().as_struct().is_some() {
            let place = result.as_mut_ptr().cast();
            // SAFETY: it has this signature, and there is memory for a struct.
            unsafe { call.call_into(closure.address(), words, place) };
        } else {
            // SAFETY: it has this signature.
            result[0] = unsafe { call.call(closure.address(), words) };
        }
        (seen.into_inner().unwrap(), result)
    };
    let narrow = 0_u64.wrapping_sub(5);
    let words = [4, narrow, 1.5_f64.to_bits(), 2.5_f32.to_bits().into()];
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
    for abi in ["sysv64", "win64"] {
        let (seen, [word, ..]) =
            check(&format!("extern \"{abi}\" fn(u8, i8, f64, f32) -> u16"), &words);
        assert_eq!((&seen[..], word), (&words[..], sum & 0xffff), "{abi}");
    }
    let words = [4, pair[0], pair[1], at];
    let text = "extern \"sysv64\" fn(u64, {i64, i64}, {i64, i64, i64}) -> {i64, f64}";
    let (seen, result) = check(text, &words);
    assert_eq!((&seen[..3], result), (&words[..3], [1, 2, 0]));
    assert_ne!(seen[3], at, "a struct in memory is copied");
    let (seen, ..) = check("extern \"win64\" fn(u64, {i64}, {i8, i8, i8}) -> i64", &[3, 9, at]);
    assert_eq!(seen, [3, 9, at]);
}
