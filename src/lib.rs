//! A tracing JIT for foreign calls: C functions whose signatures are known only
//! at run time, called at nearly the speed of a call that the compiler made.
//!
//! ```
//! use hotcall::{Library, Value};
//!
//! # #[cfg(target_os = "linux")] {
//! // SAFETY: the initialisers of the C math library need nothing.
//! let libm = unsafe { Library::open("libm.so.6") }?;
//! let cos = libm.function("cos", "fn(double) -> double")?;
//! // SAFETY: `cos` has this signature and accepts any double.
//! let one = unsafe { cos.call(&[Value::F64(0.0)]) }?;
//! assert_eq!(one, Value::F64(1.0));
//! # }
//! # Ok::<(), hotcall::Error>(())
//! ```
//!
//! # Why use this crate?
//! Language runtimes, plug-in hosts, debuggers and test tools learn a C
//! function's signature from a text or a table. The usual way to call it is
//! libffi, an interpreter: it walks the signature at each call. Here a function
//! starts in such an interpreter too. Once it is hot, one call is recorded, and
//! what was recorded is compiled to a stub of machine code that checks the
//! values' types, puts them where the convention wants them, calls, and stores
//! the result. Nothing is declared twice, and nothing is compiled for a
//! function that is rarely called. Where the system denies executable memory,
//! or the processor is not an x86-64, all calls stay in the interpreter.
//!
//! If the signature is known when the program is compiled, `extern` blocks are
//! the better tool.
//!
//! # Memory
//! Strings, buffers and out parameters are pointers to what the caller owns. A
//! struct by value is given as a pointer to it, and returned by
//! [`Function::call_into`]. errno is what the function left.
//!
//! ```
//! use hotcall::{Library, Value};
//!
//! # #[cfg(target_os = "linux")] {
//! let this = Library::this()?;
//! let strtol = this.function("strtol", "fn(const char *, char **, int) -> long")?;
//! let mut end = std::ptr::null::<u8>();
//! let text = c"42 and more";
//! let args = [text.as_ptr().into(), (&raw mut end).into(), Value::I32(10)];
//! // SAFETY: a C string, and a place for a pointer.
//! assert_eq!(unsafe { strtol.call(&args) }?, Value::I64(42));
//! assert_eq!(end.addr() - text.as_ptr().addr(), 2);
//!
//! let chdir = this.function("chdir", "fn(const char *) -> int")?;
//! // SAFETY: a C string.
//! assert_eq!(unsafe { chdir.call(&[c"/nowhere at all".as_ptr().into()]) }?, Value::I32(-1));
//! assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::NotFound);
//! # }
//! # Ok::<(), hotcall::Error>(())
//! ```
//!
//! # Signatures
//! A signature is a text in Rust's or in C's words, or built from [`CType`]s;
//! see [`Signature`]. Arguments and results are integers, floats, bools,
//! pointers, and structs by value; functions may be variadic. Long doubles are
//! not supported. Both conventions of x86-64 are, wherever the program runs
//! there; on other processors structs by value and variadic functions are not.
//!
//! ```
//! use hotcall::{CType, Library, Signature, Value};
//!
//! # #[cfg(target_os = "linux")] {
//! let this = Library::this()?;
//! let strlen = this.function("strlen", "fn(const char *) -> size_t")?;
//! let signature = Signature::new([CType::Pointer], CType::U64)?;
//! assert_eq!(strlen.signature(), &signature);
//!
//! let text = c"six times nine";
//! // SAFETY: `strlen` has this signature, and `text` ends with a NUL.
//! let length = unsafe { strlen.call(&[text.as_ptr().into()]) }?;
//! assert_eq!(length, Value::U64(14));
//! # }
//! # Ok::<(), hotcall::Error>(())
//! ```
//!
//! # Values are checked, C is not
//! The number and the types of the values must be exactly the signature's;
//! there is no conversion. What differs is an error that names the function
//! and the argument, and the function is not called. That the signature is the
//! function's own, and that the function accepts the values, nobody can check:
//! this is why calls are `unsafe`.
//!
//! ```
//! use std::ffi::c_void;
//! use hotcall::{Engine, Value};
//!
//! extern "C" fn sum(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32 {
//!     a + b + c + d + e + f
//! }
//!
//! let address = sum as *const c_void;
//! let sum = Engine::global().function("sum", address, "fn(int, int, int, int, int, int) -> int")?;
//! let mut values = [1, 2, 3, 4, 5, 6].map(Value::I32);
//! // SAFETY: the function above has this signature, and the sum is small.
//! assert_eq!(unsafe { sum.call(&values) }?, Value::I32(21));
//!
//! values[2] = Value::F64(3.0);
//! // SAFETY: as above.
//! let error = unsafe { sum.call(&values) }.unwrap_err();
//! assert_eq!(error.to_string(), "argument 3 of `sum` is i32; pass this, not f64");
//! # Ok::<(), hotcall::Error>(())
//! ```
//!
//! A function whose Rust types are known after all can be called without
//! [`Value`]s: see [`Function::typed`].
//!
//! # What happened to my function?
//! [`Function::explain`] says in which tier a function is and why: how many
//! calls were interpreted, what the recorded call does, how large its code is,
//! and which calls were refused.
//!
//! ```
//! use hotcall::{Engine, Library, Options, Tier, Value};
//!
//! # #[cfg(all(target_os = "linux", target_arch = "x86_64"))] {
//! let engine = Engine::new(Options { hot: 2, ..Options::default() });
//! let abs = Library::this_with(&engine)?.function("abs", "fn(int) -> int")?;
//! assert_eq!(abs.explain().tier, Tier::Interpreter);
//! for number in [-1, -2, -3] {
//!     // SAFETY: `abs` has this signature and takes these numbers.
//!     assert_eq!(unsafe { abs.call(&[Value::I32(number)]) }?, Value::I32(-number));
//! }
//! let explanation = abs.explain();
//! if engine.status().is_ok() {
//!     assert_eq!((explanation.tier, explanation.interpreted), (Tier::Stub, 2));
//!     let trace = explanation.shapes[0].trace.to_string();
//!     assert!(trace.contains(r#"call "fn(i32) -> i32""#), "{explanation}");
//! }
//! # }
//! # Ok::<(), hotcall::Error>(())
//! ```
//!
//! # Callbacks
//! A [`Callback`] is a C function that calls a closure: of Rust types, from which it
//! takes its signature, or of [`Value`]s and a signature that is known at run time. C
//! may call it on any thread. A closure that panics gives zero to C.
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
//! use hotcall::{Callback, Library, Value};
//!
//! # #[cfg(target_os = "linux")] {
//! let bsearch = Library::this()?.function("bsearch", "fn(ptr, ptr, size_t, size_t, ptr) -> ptr")?;
//! let looked = AtomicUsize::new(0);
//! let compare = Callback::new("fn(const void *, const void *) -> int", |args| match *args {
//!     [Value::Pointer(key), Value::Pointer(element)] => {
//!         looked.fetch_add(1, Relaxed);
//!         // SAFETY: `bsearch` passes the addresses of the key and of an element.
//!         let (key, element) = unsafe { (*key.cast::<u32>(), *element.cast::<u32>()) };
//!         Value::I32(key.cmp(&element) as i32)
//!     }
//!     _ => unreachable!("the values are those of the signature"),
//! })?;
//! let numbers: Vec<u32> = (0..1000).map(|n| n * n).collect();
//! let key = 361_u32;
//! let args = [
//!     (&raw const key).into(),
//!     numbers.as_ptr().into(),
//!     numbers.len().into(),
//!     size_of::<u32>().into(),
//!     compare.as_ptr().into(),
//! ];
//! // SAFETY: there are so many numbers of this size, and `compare` lives.
//! let Value::Pointer(found) = unsafe { bsearch.call(&args) }? else { unreachable!() };
//! assert_eq!(found.addr(), (&raw const numbers[19]).addr());
//! assert!((1..=10).contains(&looked.load(Relaxed)));
//! # }
//! # Ok::<(), hotcall::Error>(())
//! ```
//!
//! # Threads, errno
//! Everything here is [`Send`] and [`Sync`] but [`Value`], which may be a pointer, and
//! [`CallbackPtr`]. No lock is held while a foreign
//! function runs, so it may call back into Rust and make further calls, of
//! itself too. It must not unwind. `errno` is what it was when the function
//! starts, and right after a call it is what the function left; ask for it
//! with [`std::io::Error::last_os_error`].
//!
//! # Features
//! - `disasm`: explanations show the machine code as text. It costs compile
//!   time, so it is off by default.

#![deny(unsafe_code)]

mod callback;
mod engine;
mod errno;
mod explain;
mod function;
mod generic;
mod library;
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one operation runs, by size or signature"
)]
mod machine;
mod rules;
mod typed;

pub use callback::{Callback, CallbackPtr, TypedClosure};
pub use engine::{Engine, Options};
pub use explain::Explanation;
pub use function::Function;
pub use hotcall_asm::{Stub, Usage};
pub use hotcall_core::{
    Abi, CType, Error, ParseError, Position, Signature, SignatureBuilder, StructError, StructType,
    Unplaced, Value,
};
pub use hotcall_tracer::{Refusal, Shape, Tier, Trace};
pub use library::{IntoSignature, Library};
pub use machine::Machine;
pub use typed::{CStruct, Mismatch, Plain, Prototype, Typed};

#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct SamplesOfTheReadme;
