//! Random signatures of both conventions, called three ways: by a stub, by
//! libffi, and as the C compiler sees it, which records what arrived and
//! computes the result from it. Then C calls back, by a stub and by libffi.
//!
//! `HOTCALL_FUZZ_SIGNATURES` says how many signatures, or `HOTCALL_LONG` that
//! there are many; a failure prints the seed of its batch, and
//! `HOTCALL_FUZZ_SEED` runs that one again.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use hotcall::{Abi, CType, Engine, Function, Library, Options, Signature, StructType, Tier, Value};
use hotcall_core::PreparedCall;

#[path = "abi_fuzz/back.rs"]
mod back;
#[path = "abi_fuzz/given.rs"]
mod given;
#[path = "abi_fuzz/source.rs"]
mod source;

use given::Given;
use source::{FACTOR, HEAD, Row, TYPES, is_promoted, mixed, read, source};

/// Signatures that share one compilation of C.
const BATCH: usize = 200;
/// The largest struct in bytes: there are up to 20 of them in a call.
const LARGEST: usize = 512;
/// C calls back by one of so many signatures: to compile that takes as long as a call.
const BACK: usize = 3;
/// Arguments at most.
const MOST: usize = 20;
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

    /// A type: often one of `kinds`, else a struct of a few.
    fn ctype(&mut self, kinds: &[Row]) -> CType {
        match self.below(4) {
            0 => self.structure(kinds, 2),
            _ => self.pick(kinds).0,
        }
    }

    /// A struct, mostly of a size that is passed in registers, with structs in it.
    fn structure(&mut self, kinds: &[Row], depth: usize) -> CType {
        let most = self.pick(&[1, 2, 2, 3, 4, 6, 9]);
        let mut fields = Vec::new();
        for _ in 0..=self.below(most) {
            let field = match depth > 0 && self.below(5) == 0 {
                true => self.structure(kinds, depth - 1),
                false => self.pick(kinds).0,
            };
            // Arrays are fields that repeat.
            let times = self.pick(&[1, 1, 1, 1, 2, 3]);
            fields.extend(std::iter::repeat_n(field, times));
        }
        // A struct of which 8 bytes are padding has no place, and very large ones
        // are left to libffi.
        let mut made = CType::struct_of(&fields).ok();
        if self.below(4) == 0 {
            made = made.and_then(aligned);
        }
        made.filter(|made| made.size() <= LARGEST).unwrap_or(CType::F64)
    }

    fn signature(&mut self) -> Signature {
        let mut result = CType::Void;
        if self.below(16) > 0 {
            result = self.ctype(&TYPES);
        }
        // Often one kind of register is used up.
        let most = self.pick(&[4, 8, 14, MOST]);
        let kinds = self.pick(&[&TYPES[..], &TYPES[..], &TYPES[..10], &TYPES[10..]]);
        let args: Vec<CType> = (0..self.below(most + 1)).map(|_| self.ctype(kinds)).collect();
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

/// The same struct, aligned as much as one can be.
fn aligned(ctype: CType) -> Option<CType> {
    let of = ctype.as_struct()?;
    let size = of.size().next_multiple_of(16);
    StructType::with_layout(of.fields().to_vec(), size, 16).ok().map(CType::Struct)
}

/// Compiles a batch to a shared library in `folder`.
fn compile(folder: &Path, signatures: &[Signature]) -> std::path::PathBuf {
    let (c, so) = (folder.join("batch.c"), folder.join("batch.so"));
    let functions = signatures.iter().enumerate().map(|(index, s)| {
        let back = if index % BACK == 0 { back::source(index, s) } else { String::new() };
        source(index, s) + &back
    });
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
    fn observe(&self, count: usize, call: impl FnOnce() -> Vec<u64>) -> (Vec<u64>, Vec<u64>) {
        // SAFETY: `seen` of the library has this size, and only this thread
        // uses it.
        let seen = unsafe { std::slice::from_raw_parts_mut(self.seen, SEEN) };
        seen.fill(!0);
        let result = call();
        // SAFETY: as above; the call wrote to it.
        let seen = unsafe { std::slice::from_raw_parts(self.seen, count) };
        (seen.to_vec(), result)
    }

    /// Makes one call in each way. `tier` is where the first must be made.
    fn check(&self, random: &mut Random, tier: Tier) {
        let given: Vec<Given> =
            self.signature.args().iter().map(|arg| Given::new(random, *arg)).collect();
        let scalars: Vec<u64> = given.iter().flat_map(Given::scalars).collect();
        let want = (scalars.clone(), mixed(self.index, self.signature, &scalars));
        let promoted = is_promoted(self.index);

        let before = self.function.explain().interpreted;
        let got = self.observe(scalars.len(), || self.call_function(&given));
        let explanation = self.function.explain();
        let interpreted = explanation.interpreted - before;
        assert_eq!(interpreted, u64::from(tier == Tier::Interpreter), "{explanation}");
        if tier == Tier::Stub || !promoted {
            assert_eq!(got, want, "{given:?}\n{explanation}");
        }
        if !promoted {
            let got = self.observe(scalars.len(), || self.call_prepared(&given));
            assert_eq!(got, want, "libffi: {}\n{given:?}", self.signature);
        }
    }

    fn call_function(&self, given: &[Given]) -> Vec<u64> {
        // In Win64 a function may write to its structs: each call has its own.
        let given = given.to_vec();
        let args: Vec<Value> = given.iter().map(Given::value).collect();
        let result = self.signature.result();
        if result.as_struct().is_some() {
            let mut bytes = vec![0_u64; result.size().div_ceil(8)];
            let place = bytes.as_mut_ptr().cast();
            // SAFETY: the source was made for this signature, and takes any
            // values; there is memory for the result.
            unsafe { self.function.call_into(&args, place) }.unwrap();
            return read(result, &bytes.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
        }
        // SAFETY: as above.
        let value = unsafe { self.function.call(&args) }.unwrap();
        assert_eq!(value.ctype(), result);
        if result == CType::Void { Vec::new() } else { vec![value.word()] }
    }

    fn call_prepared(&self, given: &[Given]) -> Vec<u64> {
        let given = given.to_vec();
        let abi = self.signature.abi();
        let words: Vec<u64> = given.iter().flat_map(|given| given.words(abi)).collect();
        let (target, result) = (self.function.address(), self.signature.result());
        if result.as_struct().is_some() {
            let mut bytes = vec![0_u64; result.size().div_ceil(8)];
            let place = bytes.as_mut_ptr().cast();
            // SAFETY: as for `call_function`.
            unsafe { self.prepared.call_into(target, &words, place) };
            return read(result, &bytes.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
        }
        // SAFETY: as for `call_function`.
        let word = unsafe { self.prepared.call(target, &words) };
        if result == CType::Void { Vec::new() } else { vec![word] }
    }
}

/// Words that a function may record.
const SEEN: usize = 2000;

/// Compiles and compares the batch of a seed.
fn run(seed: u64, engines: [&Engine; 2], folder: &Path) {
    let mut random = Random::new(seed);
    let signatures: Vec<Signature> = (0..BATCH).map(|_| random.signature()).collect();
    // SAFETY: the library is our own and has no initialisers.
    let library = unsafe { Library::open_with(engines[0], compile(folder, &signatures)) }.unwrap();
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
        if index % BACK == 0 {
            back::check(engines, &library, &mut random, (index, signature), seen.cast());
        }
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
fn stubs_callbacks_libffi_and_c_agree() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let engine = Engine::new(Options { hot: 1, capacity: 1 << 28, ..Options::default() });
    let denied = Engine::new(Options { hot: 0, deny: true, ..Options::default() });
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
        run(seed, [&engine, &denied], &folder);
    }
    fs::remove_dir_all(&folder).unwrap();
}
