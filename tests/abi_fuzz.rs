//! Random signatures of both conventions, called three ways: by a stub, by
//! libffi, and as the C compiler sees it, which records what arrived and
//! computes the result from it.
//!
//! `HOTCALL_FUZZ_SIGNATURES` says how many signatures, or `HOTCALL_LONG` that
//! there are many; a failure prints the seed of its batch, and
//! `HOTCALL_FUZZ_SEED` runs that one again.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use hotcall::{Abi, CType, Engine, Function, Library, Options, Signature, Tier, Value};
use hotcall_core::PreparedCall;

/// Signatures that share one compilation of C.
const BATCH: usize = 200;
/// Arguments at most.
const MOST: usize = 20;
/// Seeds are mixed with this, and arguments to results; [`HEAD`] has it too.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What arguments and results may be, with its name in C, that of what it is
/// promoted to, and how C widens it to a word: from the variable `x`.
///
/// Callers extend narrow integers to 32 bits: no document says so, but clang
/// relies on it where it compiles the callee. A function with promoted types
/// sees whether they do. Stubs always do it; libffi does not in Win64, nor on
/// the stack.
#[rustfmt::skip] // One row per type.
const TYPES: [(CType, &str, &str, &str); 12] = [
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
const HEAD: &str = "
typedef unsigned long long word;
word seen[20];
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

/// xorshift64*: the tests need no more.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(FACTOR) | 1);
        // Similar seeds have similar first numbers.
        for _ in 0..16 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn signature(&mut self) -> Signature {
        let mut result = CType::Void;
        if self.below(16) > 0 {
            result = self.pick(&TYPES).0;
        }
        // Often one kind of register is used up.
        let most = self.pick(&[4, 8, 14, MOST]);
        let kinds = self.pick(&[&TYPES[..], &TYPES[..], &TYPES[..10], &TYPES[10..]]);
        let args: Vec<CType> = (0..self.below(most + 1)).map(|_| self.pick(kinds).0).collect();
        let abi = self.pick(&[Abi::SystemV, Abi::SystemV, Abi::Win64]);
        Signature::returning(result).args(args).with_abi(abi).build().unwrap()
    }

    /// Any bits, or those of an extreme.
    fn value(&mut self, ctype: CType) -> Value {
        let extremes =
            [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 0x8000_0000, 0x7fff_8080, 0x7ff8 << 48];
        let word = if self.below(3) == 0 { self.pick(&extremes) } else { self.next() };
        Value::from_word(ctype, word).unwrap()
    }
}

/// The row of a type that arguments have.
fn row(ctype: CType) -> (CType, &'static str, &'static str, &'static str) {
    *TYPES.iter().find(|row| row.0 == ctype).unwrap()
}

/// Whether the C function of this index has promoted types.
fn is_promoted(index: usize) -> bool {
    index % 2 == 1
}

/// A C function of this signature: `f3` has the index 3.
fn source(index: usize, signature: &Signature) -> String {
    let args: Vec<String> = (signature.args().iter().enumerate())
        .map(|(nth, arg)| (nth, row(*arg)))
        .map(|(nth, row)| format!("{} a{nth}", if is_promoted(index) { row.2 } else { row.1 }))
        .collect();
    let args = if args.is_empty() { "void".to_string() } else { args.join(", ") };
    let convention = if signature.abi() == Abi::Win64 { "__attribute__((ms_abi)) " } else { "" };
    let (result, give) = match signature.result() {
        CType::Void => ("void", "".to_string()),
        CType::F32 => ("float", "return as32(mix);".to_string()),
        CType::F64 => ("double", "return as64(mix);".to_string()),
        CType::Bool => ("_Bool", "return mix & 1;".to_string()),
        ctype => (row(ctype).1, format!("return ({})mix;", row(ctype).1)),
    };
    let mut text = format!("{convention}{result} f{index}({args}) {{\n");
    for (nth, arg) in signature.args().iter().enumerate() {
        let widened = row(*arg).3.replace('x', &format!("a{nth}"));
        let _ = writeln!(text, "seen[{nth}] = (word){widened};");
    }
    let _ = writeln!(text, "word mix = fold({index}, {});\n{give} }}", signature.args().len());
    text
}

/// What the C function returns, as a word.
fn mixed(index: usize, signature: &Signature, words: &[u64]) -> u64 {
    let mix =
        words.iter().fold(index as u64, |mix, word| mix.wrapping_mul(FACTOR).wrapping_add(*word));
    match signature.result() {
        CType::Bool => mix & 1,
        result => result.canonical(mix),
    }
}

/// Compiles a batch to a shared library in `folder`.
fn compile(folder: &Path, signatures: &[Signature]) -> std::path::PathBuf {
    let (c, so) = (folder.join("batch.c"), folder.join("batch.so"));
    let functions = signatures.iter().enumerate().map(|(index, s)| source(index, s));
    fs::write(&c, HEAD.to_string() + &functions.collect::<String>()).unwrap();
    let cc = env::var("CC").unwrap_or_else(|_| "cc".to_string());
    let status = Command::new(cc)
        .args(["-O1", "-w", "-shared", "-fPIC", "-o"])
        .args([&so, &c])
        .status()
        .expect("there is a C compiler");
    assert!(status.success(), "{}", c.display());
    so
}

/// One function of a batch, and what it is compared with.
struct Subject<'a> {
    index: usize,
    function: Function,
    prepared: PreparedCall,
    seen: *mut u64,
    signature: &'a Signature,
}

impl Subject<'_> {
    /// Forgets what was seen, makes a call, and tells what it did: what C saw,
    /// and what came back.
    fn observe(&self, call: impl FnOnce() -> u64) -> (Vec<u64>, u64) {
        // SAFETY: `seen` of the library has this size, and only this thread
        // uses it.
        let seen = unsafe { std::slice::from_raw_parts_mut(self.seen, MOST) };
        seen.fill(!0);
        let result = call();
        // SAFETY: as above; the call wrote to it.
        let seen = unsafe { std::slice::from_raw_parts(self.seen, self.signature.args().len()) };
        (seen.to_vec(), result)
    }

    /// Makes one call in each way. `tier` is where the first must be made.
    fn check(&self, random: &mut Random, tier: Tier) {
        let args: Vec<Value> = self.signature.args().iter().map(|arg| random.value(*arg)).collect();
        let words: Vec<u64> = args.iter().map(|arg| arg.word()).collect();
        let want = (words.clone(), mixed(self.index, self.signature, &words));

        let before = self.function.explain().interpreted;
        let got = self.observe(|| {
            // SAFETY: the source was made for this signature, and takes any values.
            let result = unsafe { self.function.call(&args) }.unwrap();
            assert_eq!(result.ctype(), self.signature.result());
            result.word()
        });
        let explanation = self.function.explain();
        let interpreted = explanation.interpreted - before;
        assert_eq!(interpreted, u64::from(tier == Tier::Interpreter), "{explanation}");
        if tier == Tier::Stub || !is_promoted(self.index) {
            assert_eq!(got, want, "{args:?}\n{explanation}");
        }
        if !is_promoted(self.index) {
            // SAFETY: as above.
            let got =
                self.observe(|| unsafe { self.prepared.call(self.function.address(), &words) });
            assert_eq!(got, want, "libffi: {}\n{args:?}", self.signature);
        }
    }
}

/// Compiles and compares the batch of a seed.
fn run(seed: u64, engine: &Engine, folder: &Path) {
    let mut random = Random::new(seed);
    let signatures: Vec<Signature> = (0..BATCH).map(|_| random.signature()).collect();
    // SAFETY: the library is our own and has no initialisers.
    let library = unsafe { Library::open_with(engine, compile(folder, &signatures)) }.unwrap();
    let place = library.function("place", "fn() -> ptr").unwrap();
    // SAFETY: it gives the address of a static.
    let Value::Pointer(seen) = unsafe { place.call(&[]) }.unwrap() else { unreachable!() };
    for (index, signature) in signatures.iter().enumerate() {
        let name = format!("f{index}");
        let function = library.function(&name, signature).unwrap();
        let prepared = PreparedCall::new(signature).unwrap();
        let subject = Subject { index, function, prepared, seen: seen.cast(), signature };
        subject.check(&mut random, Tier::Interpreter);
        assert_eq!(subject.function.explain().tier, Tier::Stub, "{}", subject.function.explain());
        subject.check(&mut random, Tier::Stub);
        subject.check(&mut random, Tier::Stub);
    }
}

/// Names the seed when a batch fails.
struct Naming(u64);

impl Drop for Naming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run it again with HOTCALL_FUZZ_SEED={}", self.0);
        }
    }
}

#[test]
fn stubs_libffi_and_c_agree() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let engine = Engine::new(Options { hot: 1, capacity: 1 << 28, ..Options::default() });
    let folder = env::temp_dir().join(format!("hotcall-abi-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let seeds: Vec<u64> = match number("HOTCALL_FUZZ_SEED") {
        Some(seed) => vec![seed],
        None => {
            let usual = if env::var_os("HOTCALL_LONG").is_some() { 100_000 } else { 2_000 };
            let signatures = number("HOTCALL_FUZZ_SIGNATURES").unwrap_or(usual);
            let batches = signatures.div_ceil(BATCH as u64);
            let first = u64::from(std::process::id()) << 32;
            (first..first + batches).collect()
        }
    };
    for seed in seeds {
        let _naming = Naming(seed);
        run(seed, &engine, &folder);
    }
    fs::remove_dir_all(&folder).unwrap();
}
