//! The way back: C calls callbacks with values that it makes of words, and records
//! what they give.

use std::fmt::Write as _;
use std::sync::Mutex;

use hotcall::{Abi, CType, Callback, Engine, Library, Signature, Value};

use super::given::Given;
use super::source::{c_type, mixed, read, row, scalars};
use super::{Random, SEEN};

/// A C function that calls a callback of this signature with the scalars in `seen`,
/// and then records those of its result: `b3` has the index 3. The structs are
/// declared before it.
pub(super) fn source(index: usize, signature: &Signature) -> String {
    let mut declared = String::new();
    let mut name = |ctype: CType, prefix: String| match ctype {
        CType::Void => "void".to_string(),
        _ => c_type(ctype, &prefix, &mut declared),
    };
    let result = name(signature.result(), format!("r{index}"));
    let args: Vec<String> = (signature.args().iter().enumerate())
        .map(|(nth, arg)| name(*arg, format!("s{index}_{nth}")))
        .collect();
    let convention = if signature.abi() == Abi::Win64 { "__attribute__((ms_abi)) " } else { "" };
    let types = if args.is_empty() { "void".to_string() } else { args.join(", ") };
    let mut text = format!("void b{index}({convention}{result} (*back)({types})) {{\n");
    let (mut count, mut names) = (0, Vec::new());
    for ((nth, ctype), name) in signature.args().iter().enumerate().zip(&args) {
        let _ = writeln!(text, "{name} a{nth};");
        for (_, scalar, path) in scalars(*ctype) {
            let _ = writeln!(text, "a{nth}{path} = {};", value(scalar, &format!("seen[{count}]")));
            count += 1;
        }
        names.push(format!("a{nth}"));
    }
    let call = format!("back({})", names.join(", "));
    if signature.result() == CType::Void {
        return text + &call + ";\n}\n";
    }
    let _ = writeln!(text, "{result} r = {call};");
    for (nth, (_, scalar, path)) in scalars(signature.result()).into_iter().enumerate() {
        let widened = row(scalar).3.replace('x', &format!("r{path}"));
        let _ = writeln!(text, "seen[{nth}] = (word){widened};");
    }
    text + "}\n"
}

/// The value of a type that a word has, in C.
pub(super) fn value(ctype: CType, word: &str) -> String {
    match ctype {
        CType::F32 => format!("as32({word})"),
        CType::F64 => format!("as64({word})"),
        CType::Bool => format!("{word} & 1"),
        ctype => format!("({}){word}", row(ctype).1),
    }
}

/// The words of the scalars of a callback's argument.
fn words(ctype: CType, given: &Value) -> Vec<u64> {
    match given {
        Value::Pointer(at) if ctype.as_struct().is_some() => {
            assert_eq!(at.addr() % ctype.align(), 0, "{ctype}");
            // SAFETY: a callback gets the addresses of its structs.
            read(ctype, unsafe { std::slice::from_raw_parts(at.cast(), ctype.size()) })
        }
        value => vec![value.word()],
    }
}

/// The callback of this index, which notes the words of its arguments.
fn callback<'a>(
    engine: &Engine,
    index: usize,
    signature: &'a Signature,
    noted: &'a Mutex<Vec<u64>>,
) -> Callback<'a> {
    let result = signature.result();
    let give = move |args: &[Value]| {
        let types = signature.args().iter();
        let words: Vec<u64> = types.zip(args).flat_map(|(ctype, arg)| words(*ctype, arg)).collect();
        let given = mixed(index, signature, &words);
        *noted.lock().unwrap() = words;
        given
    };
    if result.as_struct().is_none() {
        let scalar = move |args: &[Value]| {
            let word = give(args).first().copied().unwrap_or(0);
            Value::from_word(result, word).unwrap()
        };
        return Callback::new_with(engine, signature, scalar).unwrap();
    }
    let fill = move |args: &[Value], bytes: &mut [u8]| {
        for ((offset, scalar, _), word) in scalars(result).into_iter().zip(give(args)) {
            let size = scalar.size();
            bytes[offset..offset + size].copy_from_slice(&word.to_le_bytes()[..size]);
        }
    };
    Callback::new_into_with(engine, signature, fill).unwrap()
}

/// Has C call the callback of this index, made by each of the engines: the first
/// compiles, the second does not.
pub(super) fn check(
    engines: [&Engine; 2],
    library: &Library,
    random: &mut Random,
    (index, signature): (usize, &Signature),
    seen: *mut u64,
) {
    let function = library.function(&format!("b{index}"), "fn(ptr)").unwrap();
    for (engine, compiles) in engines.into_iter().zip([true, false]) {
        let given: Vec<Given> =
            signature.args().iter().map(|arg| Given::new(random, *arg)).collect();
        let scalars: Vec<u64> = given.iter().flat_map(Given::scalars).collect();
        let noted = Mutex::new(Vec::new());
        let callback = callback(engine, index, signature, &noted);
        assert_eq!(callback.status().is_ok(), compiles, "{callback:?}");
        // SAFETY: `seen` of the library has this size, and only this thread uses it.
        let place = unsafe { std::slice::from_raw_parts_mut(seen, SEEN) };
        place[..scalars.len()].copy_from_slice(&scalars);
        // SAFETY: the function calls a callback of this signature.
        unsafe { function.call(&[callback.as_ptr().into()]) }.unwrap();
        assert_eq!(*noted.lock().unwrap(), scalars, "{callback:?}\n{given:?}");
        let want = mixed(index, signature, &scalars);
        // SAFETY: as above; the call wrote to it.
        let got = unsafe { std::slice::from_raw_parts(seen, want.len()) };
        assert_eq!(got, want, "{callback:?}\n{given:?}");
        assert!(callback.take_panic().is_none());
    }
}
