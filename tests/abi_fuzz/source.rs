//! What the C compiler gets: functions that record each scalar of their
//! arguments, and give values that are made of them.

use std::fmt::Write as _;

use hotcall::{Abi, CType, Signature};

use super::back::value;

/// Seeds are mixed with this, and arguments to results; [`HEAD`] has it too.
pub(super) const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A row of [`TYPES`].
pub(super) type Row = (CType, &'static str, &'static str, &'static str);

/// What arguments and results may be, with its name in C, that of what it is
/// promoted to, and how C widens it to a word: from the variable `x`.
///
/// Callers extend narrow integers to 32 bits: no document says so, but clang
/// relies on it where it compiles the callee. A function with promoted types
/// sees whether they do. Stubs always do it; libffi does not in Win64, nor on
/// the stack.
#[rustfmt::skip] // One row per type.
pub(super) const TYPES: [Row; 12] = [
    (CType::Bool,    "_Bool",              "unsigned",           "x"),
    (CType::I8,      "signed char",        "int",                "x"),
    (CType::U8,      "unsigned char",      "unsigned",           "x"),
    (CType::I16,     "short",              "int",                "x"),
    (CType::U16,     "unsigned short",     "unsigned",           "x"),
    (CType::I32,     "int",                "int",                "x"),
    (CType::U32,     "unsigned",           "unsigned",           "x"),
    (CType::I64,     "long long",          "long long",          "x"),
    (CType::U64,     "unsigned long long", "unsigned long long", "x"),
    (CType::Pointer, "void *",             "void *",             "(word)x"),
    (CType::F32,     "float",              "float",              "bits32(x)"),
    (CType::F64,     "double",             "double",             "bits64(x)"),
];

/// The head of each batch's source.
pub(super) const HEAD: &str = "
typedef unsigned long long word;
word seen[2000];
word *place(void) { return seen; }
static word bits32(float x) { union { float f; unsigned w; } u = { x }; return u.w; }
static word bits64(double x) { union { double f; word w; } u = { x }; return u.w; }
static float as32(word x) { union { unsigned w; float f; } u = { (unsigned)x }; return u.f; }
static double as64(word x) { union { word w; double f; } u = { x }; return u.f; }
__attribute__((noinline)) static word fold(word mix, int count)
{
    for (int i = 0; i < count; i++) mix = mix * 0x9e3779b97f4a7c15u + seen[i];
    return mix;
}
";

/// The scalars of a value, in order, each with its offset in bytes and the way
/// to it in C.
pub(super) fn scalars(ctype: CType) -> Vec<(usize, CType, String)> {
    let Some(of) = ctype.as_struct() else { return vec![(0, ctype, String::new())] };
    let inner = |(index, (offset, field)): (usize, &(usize, CType))| {
        let name = format!(".m{index}");
        let within = |(inner, scalar, path)| (offset + inner, scalar, format!("{name}{path}"));
        scalars(*field).into_iter().map(within).collect::<Vec<_>>()
    };
    of.fields().iter().enumerate().flat_map(inner).collect()
}

/// A type in C; structs are declared in `head`, by names that begin with `prefix`.
pub(super) fn c_type(ctype: CType, prefix: &str, head: &mut String) -> String {
    let Some(of) = ctype.as_struct() else { return row(ctype).1.to_string() };
    let mut body = String::new();
    for (index, (_, field)) in of.fields().iter().enumerate() {
        let inner = c_type(*field, &format!("{prefix}_{index}"), head);
        let _ = write!(body, "{inner} m{index}; ");
    }
    // Natural alignment, if it is no more.
    let aligned = format!("__attribute__((aligned({})))", of.align());
    let _ = writeln!(head, "struct {aligned} {prefix} {{ {body}}};");
    format!("struct {prefix}")
}

/// The row of a type that arguments have.
pub(super) fn row(ctype: CType) -> Row {
    *TYPES.iter().find(|row| row.0 == ctype).unwrap()
}

/// Whether the C function of this index has promoted types.
pub(super) fn is_promoted(index: usize) -> bool {
    index % 2 == 1
}

/// A C function of this signature: `f3` has the index 3. It records each scalar
/// of its arguments, and gives a value that is made of them.
pub(super) fn source(index: usize, signature: &Signature) -> String {
    let mut head = String::new();
    let args: Vec<String> = (signature.args().iter().enumerate())
        .map(|(nth, arg)| match arg.as_struct() {
            Some(_) => c_type(*arg, &format!("s{index}_{nth}"), &mut head) + &format!(" a{nth}"),
            None if is_promoted(index) => format!("{} a{nth}", row(*arg).2),
            None => format!("{} a{nth}", row(*arg).1),
        })
        .collect();
    let args = if args.is_empty() { "void".to_string() } else { args.join(", ") };
    let convention = if signature.abi() == Abi::Win64 { "__attribute__((ms_abi)) " } else { "" };
    let result = match signature.result() {
        CType::Void => "void".to_string(),
        ctype => c_type(ctype, &format!("r{index}"), &mut head),
    };
    let mut text = format!("{head}{convention}{result} f{index}({args}) {{\n");
    let mut count = 0;
    for (nth, arg) in signature.args().iter().enumerate() {
        for (_, scalar, path) in scalars(*arg) {
            let widened = row(scalar).3.replace('x', &format!("a{nth}{path}"));
            let _ = writeln!(text, "seen[{count}] = (word){widened};");
            count += 1;
        }
    }
    let _ = writeln!(text, "word mix = fold({index}, {count});");
    if signature.result() != CType::Void {
        let _ = writeln!(text, "{result} r;");
        for (_, scalar, path) in scalars(signature.result()) {
            let value = value(scalar, "mix");
            let _ = writeln!(text, "r{path} = {value}; mix = mix * 0x9e3779b97f4a7c15u + 1;");
        }
        text.push_str("return r;\n");
    }
    text + "}\n"
}

/// What the C function returns: the words of the result's scalars.
pub(super) fn mixed(index: usize, signature: &Signature, words: &[u64]) -> Vec<u64> {
    let mut mix =
        words.iter().fold(index as u64, |mix, word| mix.wrapping_mul(FACTOR).wrapping_add(*word));
    if signature.result() == CType::Void {
        return Vec::new();
    }
    let word = |(_, scalar, _): (usize, CType, String)| {
        let word = if scalar == CType::Bool { mix & 1 } else { scalar.canonical(mix) };
        mix = mix.wrapping_mul(FACTOR).wrapping_add(1);
        word
    };
    scalars(signature.result()).into_iter().map(word).collect()
}

/// The words of the scalars in the bytes of a value.
pub(super) fn read(ctype: CType, bytes: &[u8]) -> Vec<u64> {
    let word = |(offset, scalar, _): (usize, CType, String)| {
        let mut word = [0; 8];
        let size = scalar.size();
        word[..size].copy_from_slice(&bytes[offset..offset + size]);
        scalar.canonical(u64::from_le_bytes(word))
    };
    scalars(ctype).into_iter().map(word).collect()
}
