//! Callbacks of random signatures that run: each records the words that its trace
//! finds in its parameters, and gives back a result that the caller takes apart.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use hotcall_core::{Abi, CType, Class, Place, Signature};
use hotcall_tracer::{Data, Effect, Entry, Field, Helper, Mem, Op, Refusal, Trace, Val, verify};

use super::caller::{Caller, Results};
use super::{Builder, fuzz_ms};
use crate::refusals::{
    CALLBACK_EXITS, FRAME_TOO_LARGE, INVALID_TRACE, LONG_DOUBLE, VARIADIC_CALLBACK,
};
use crate::{Jit, Options};

/// What a callback is bound to.
#[derive(Default)]
struct Context {
    /// The words that it was given, once it was called.
    seen: Vec<u64>,
    /// How many there are.
    count: usize,
    /// What its result is made of.
    result: u64,
}

/// Notes the words at `words`, and gives the result.
extern "C-unwind" fn record(context: u64, words: u64) -> u64 {
    // SAFETY: the test bound the callback to a context that nobody else uses.
    let context = unsafe { &mut *(context as *mut Context) };
    // SAFETY: the trace has written as many words there.
    let words = unsafe { std::slice::from_raw_parts(words as *const u64, context.count) };
    context.seen = words.to_vec();
    context.result
}

/// Something that happens.
extern "C-unwind" fn happen(word: u64) -> u64 {
    static HAPPENED: AtomicU64 = AtomicU64::new(0);
    HAPPENED.fetch_add(word, SeqCst)
}

static RECORD: Helper =
    Helper { name: "record", entry: Entry::WWW(record), effect: Effect::Effect };
static HAPPEN: Helper = Helper { name: "happen", entry: Entry::WW(happen), effect: Effect::Effect };

const WORD: Field = Field::new("word", 0, Mem::I64);

/// Structs of all classes.
fn structs() -> Vec<CType> {
    use CType::{F32, F64, I8, I16, I32, I64, Pointer, U8};
    let all: [&[CType]; 14] = [
        &[U8],
        &[I16, I16],
        &[F32],
        &[F64],
        &[I8, I8, I8],
        &[F32, F32, F32],
        &[I64, F64],
        &[F64, I32],
        &[F64, F64],
        &[Pointer, I64],
        &[I32, I32, I32],
        &[I64, I64, I64],
        &[F32, F32, F32, F32, F32, F32],
        &[F64, F64, F64, F64, F64],
    ];
    all.iter().map(|fields| CType::struct_of(fields).expect("a struct with a place")).collect()
}

/// Some type of an argument; one time in `most`, a struct.
fn ctype(u: &mut Unstructured<'_>, structs: &[CType], most: u8) -> Result<CType> {
    if u.ratio(1, most)? {
        return Ok(*u.choose(structs)?);
    }
    Ok(match *u.choose(CType::ALL)? {
        CType::Void | CType::LongDouble => CType::F64,
        scalar => scalar,
    })
}

fn signature(u: &mut Unstructured<'_>, structs: &[CType]) -> Result<Signature> {
    let result = if u.ratio(1, 8)? { CType::Void } else { ctype(u, structs, 2)? };
    let most = u.int_in_range(1..=6)?;
    let mut args = Vec::new();
    for _ in 0..u.int_in_range(0..=14)? {
        args.push(ctype(u, structs, most)?);
    }
    let abi = *u.choose(&[Abi::SystemV, Abi::Win64])?;
    Ok(Signature::returning(result).args(args).with_abi(abi).build().expect("a signature"))
}

/// A value of an argument: the words of a scalar or of a struct's bytes.
struct Given {
    ctype: CType,
    words: Vec<u64>,
}

impl Given {
    fn new(u: &mut Unstructured<'_>, ctype: CType) -> Result<Given> {
        let mut words = Vec::new();
        for _ in 0..ctype.size().div_ceil(8) {
            words.push(u.arbitrary()?);
        }
        if ctype == CType::Bool {
            // What is above the byte is not defined.
            words[0] &= !0xfe;
        }
        Ok(Given { ctype, words })
    }

    /// What of `words` is defined: of a scalar all, of a struct its bytes.
    fn defined(&self, words: &[u64]) -> Vec<u64> {
        match self.ctype.as_struct() {
            None => words.to_vec(),
            Some(of) => mask(words, of.size()),
        }
    }

    /// What a callback must find.
    fn want(&self) -> Vec<u64> {
        match self.ctype.as_struct() {
            None => vec![self.ctype.canonical(self.words[0])],
            Some(_) => self.defined(&self.words),
        }
    }
}

/// The words without what is behind `size` bytes.
fn mask(words: &[u64], size: usize) -> Vec<u64> {
    let mut words = words.to_vec();
    if let (Some(last), bits @ 1..) = (words.last_mut(), size % 8 * 8) {
        *last &= (1 << bits) - 1;
    }
    words
}

/// A trace that records its words, those of structs as often as they have 8 bytes.
fn recorder(u: &mut Unstructured<'_>, signature: &Signature) -> Result<Trace> {
    let (abi, result) = (signature.abi(), signature.result());
    let mut b = Builder::default();
    let mut params = 0;
    let mut param = |b: &mut Builder| {
        params += 1;
        b.trace.push(Op::Param, vec![], Data::Imm(params - 1))
    };
    let context = param(&mut b);
    let memory = result.as_struct().map(|_| param(&mut b));
    let args: Vec<(CType, Vec<Val>)> = signature
        .args()
        .iter()
        .map(|arg| (*arg, (0..arg.words(abi)).map(|_| param(&mut b)).collect()))
        .collect();
    if u.arbitrary()? {
        b.help(&HAPPEN, &[context]);
    }
    let size: usize = signature.args().iter().map(|arg| arg.size().div_ceil(8)).sum();
    let place = b.trace.push(Op::Scratch, vec![], Data::Imm(8 * size as u64));
    let mut at = 0;
    for (arg, words) in args {
        for nth in 0..arg.size().div_ceil(8) as u32 {
            let word = match arg.classes(abi) {
                [] => b.load(words[0], WORD.item(nth)),
                _ => words[nth as usize],
            };
            b.store(place, WORD.item(at), word);
            at += 1;
            if u.ratio(1, 10)? {
                b.help(&HAPPEN, &[word]);
            }
        }
    }
    let word = b.help(&RECORD, &[context, place]);
    if let Some(memory) = memory {
        let mut word = word;
        for offset in (0..result.size()).step_by(8) {
            let size = (result.size() - offset).min(8);
            let mut done = 0;
            while done < size {
                let mem = Mem::widest(size - done);
                let bits = b.number(8 * done as u64);
                let part = b.op(Op::Shr, &[word, bits]);
                b.store(memory, Field::new("part", (offset + done) as i32, mem), part);
                done += mem.size() as usize;
            }
            let step = b.number(STEP);
            word = b.op(Op::Add, &[word, step]);
        }
        if u.arbitrary()? {
            // What lives now may take the registers of all that was needed before.
            let living = [1, 2, 3, 4, 5, 6].map(|number| {
                let number = b.number(number);
                b.op(Op::Mul, &[word, number])
            });
            b.help(&HAPPEN, &[word]);
            for word in living {
                b.help(&HAPPEN, &[word]);
            }
        }
    }
    Ok(b.ret(word))
}

/// What each further word of a struct that is returned is more than the one before.
const STEP: u64 = 0x0101_0101_0101_0101;

/// Calls a callback with these values, and gives what it gave back, as words.
fn call(signature: &Signature, address: u64, given: &[Given], filler: u64) -> Vec<u64> {
    let (abi, result) = (signature.abi(), signature.result());
    let places = abi.places(signature.args(), result).expect("places");
    let mut stack = vec![filler; places.stack_bytes as usize / 8];
    let mut caller = Caller::new(filler);
    let mut memory = vec![filler; result.size().div_ceil(8)];
    let memory_address = memory.as_mut_ptr().expose_provenance() as u64;
    if let Some(place) = places.result {
        caller.put(abi, place, memory_address, &mut stack);
    }
    let mut next = places.args.iter();
    for Given { ctype, words } in given {
        let passed: &[u64] = match ctype.classes(abi) {
            [] if abi == Abi::SystemV => {
                if let Some(Place::Copy { offset, .. }) = next.next() {
                    let at = *offset as usize / 8;
                    stack[at..at + words.len()].copy_from_slice(words);
                }
                continue;
            }
            [] => &[words.as_ptr().expose_provenance() as u64],
            _ => words,
        };
        for (word, place) in passed.iter().zip(&mut next) {
            caller.put(abi, *place, *word, &mut stack);
        }
    }
    // SAFETY: the callback has this signature, and takes any values.
    let results = unsafe { caller.call(abi, address, &stack) };
    if result.is_returned_in_memory(abi) {
        assert_eq!(results.0[0], memory_address, "the address of the result is given back");
        return memory;
    }
    from_registers(result, abi, results)
}

/// The result, from the registers that it was given back in.
fn from_registers(result: CType, abi: Abi, (ints, vectors): Results) -> Vec<u64> {
    let (mut ints, mut vectors) = (ints.into_iter(), vectors.into_iter());
    let next = |class: &Class| match class {
        Class::Int => ints.next(),
        _ => vectors.next(),
    };
    result.classes(abi).iter().filter_map(next).collect()
}

#[test]
fn a_callback_sees_the_words_of_its_arguments() {
    let structs = structs();
    let mut jit = Jit::default();
    arbtest(|u| {
        if jit.usage().used_bytes * 2 > jit.usage().capacity {
            jit = Jit::new(Options::default());
        }
        let signature = signature(u, &structs)?;
        let trace = recorder(u, &signature)?;
        assert_eq!(verify(&trace), Ok(()), "\n{trace}");
        let mut given = Vec::new();
        for arg in signature.args() {
            given.push(Given::new(u, *arg)?);
        }
        let count = given.iter().map(|given| given.words.len()).sum();
        let mut context = Context { seen: vec![], count, result: u.arbitrary()? };
        let stub = jit.compile_callback(&trace, &signature).expect("a stub");
        let bound = (&raw mut context).expose_provenance() as u64;
        let trampoline = jit.trampoline(stub.entry(), bound).expect("a trampoline");
        let got = call(&signature, trampoline.address(), &given, u.arbitrary()?);

        let text = || format!("{signature}\n{trace}\n{}", stub.disassemble());
        let mut seen = context.seen.iter().copied();
        for (index, given) in given.iter().enumerate() {
            let words: Vec<u64> = seen.by_ref().take(given.words.len()).collect();
            assert_eq!(given.defined(&words), given.want(), "argument {index} of {}", text());
        }
        let result = signature.result();
        let step = |nth| context.result.wrapping_add(STEP.wrapping_mul(nth));
        let words: Vec<u64> = (0..result.size().div_ceil(8) as u64).map(step).collect();
        match result.as_struct() {
            Some(of) => assert_eq!(mask(&got, of.size()), mask(&words, of.size()), "{}", text()),
            None if result == CType::F32 => {
                assert_eq!(got[0] as u32, words[0] as u32, "{}", text())
            }
            None if result == CType::Bool => assert_eq!(got[0], words[0] & 0xff, "{}", text()),
            None if result == CType::Void => {}
            None => assert_eq!(got, [result.canonical(words[0])], "{}", text()),
        }
        Ok(())
    })
    .budget_ms(fuzz_ms());
}

#[test]
fn what_is_refused() {
    let check = |build: &dyn Fn(&mut Builder, Val) -> Val, text: &str, want: Refusal| {
        let (mut b, [context]) = Builder::new();
        let result = build(&mut b, context);
        let signature = text.parse().expect("a signature");
        let got = Jit::default().compile_callback(&b.ret(result), &signature);
        assert_eq!(got.map(|_| ()), Err(want), "{text}");
    };
    let plain = |_: &mut Builder, context| context;
    let guard = |b: &mut Builder, context| {
        b.op(Op::GuardNe, &[context, context]);
        context
    };
    let large = |b: &mut Builder, _| b.trace.push(Op::Scratch, vec![], Data::Imm(1 << 20));
    let two = |b: &mut Builder, context| {
        b.trace.push(Op::Scratch, vec![], Data::Imm(16));
        b.trace.push(Op::Scratch, vec![], Data::Imm(32));
        context
    };
    check(&guard, "fn()", CALLBACK_EXITS);
    check(&plain, "fn(i32)", INVALID_TRACE);
    check(&plain, "fn() -> {i32}", INVALID_TRACE);
    check(&plain, "fn(i32, ...)", VARIADIC_CALLBACK);
    check(&plain, "fn() -> long double", LONG_DOUBLE);
    check(&plain, "fn(long double)", LONG_DOUBLE);
    check(&large, "fn()", FRAME_TOO_LARGE);
    check(&two, "fn()", INVALID_TRACE);
}
