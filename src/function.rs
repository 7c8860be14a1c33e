//! A foreign function, ready to be called with [`Value`]s. Its record is what
//! stubs and the generic path get along with the values of a call.

#![allow(unsafe_code, reason = "a foreign call cannot be checked")]

use std::ffi::c_void;
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use hotcall_asm::Stub;
use hotcall_core::{CType, Error, Library, Position, PreparedCall, Signature, Unplaced, Value};
use hotcall_tracer::Site;

use crate::engine::Engine;
use crate::explain::Explanation;
use crate::generic::generic;
use crate::rules::{self, MOST_ARGS};
use crate::typed::{Mismatch, Prototype, Typed};

/// What a call enters: the function's newest stub, or the generic path. It
/// takes the values of the call and their number, what comes of it, and the
/// function's record. It returns a word whose low bytes are the payload of the
/// result.
pub(crate) type Entry =
    unsafe extern "C" fn(*const Value, usize, *mut Outcome, *const Record) -> u64;

/// What comes of a call besides its word.
#[repr(C)]
pub(crate) struct Outcome {
    /// Set if the call is refused.
    pub(crate) refused: bool,
    /// Where a struct that is returned is written; stubs read it.
    pub(crate) result: *mut u8,
}

/// The tag of results that are no values.
const STRUCT_TAG: u64 = u64::MAX;

/// The tag of pointers.
const POINTER_TAG: u64 = Value::tag_of(CType::Pointer).expect("pointers are values");

/// All that is known about one function. Its layout is fixed, so that stubs
/// have the same text with every compiler.
#[repr(C)]
pub(crate) struct Record {
    /// The address of the function; stubs read it.
    pub(crate) target: *const c_void,
    /// An [`Entry`]. Each that was ever here stays valid: stubs live as long as
    /// the process.
    entry: AtomicPtr<()>,
    /// The tag of its results.
    result_tag: u64,
    /// How often the generic path was entered.
    pub(crate) interpreted: AtomicU64,
    pub(crate) site: Site<Stub>,
    pub(crate) call: Arc<PreparedCall>,
    pub(crate) name: Box<str>,
    pub(crate) engine: Engine,
    /// Keeps `target` a function's address.
    library: Option<Library>,
}

// SAFETY: the one part that is not `Send` is `target`, an address that nobody
// writes through; who calls it vouches for the thread.
unsafe impl Send for Record {}
// SAFETY: as for `Send`; what changes is atomic or behind a lock.
unsafe impl Sync for Record {}

impl Record {
    /// From now on, calls enter `entry`.
    pub(crate) fn publish(&self, entry: *mut ()) {
        self.entry.store(entry, Ordering::Release);
    }

    #[inline]
    fn entry(&self) -> Entry {
        let entry = self.entry.load(Ordering::Acquire);
        // SAFETY: `Function::new` put `generic` there, and `publish` gets stubs
        // that were compiled to be entered like it.
        unsafe { mem::transmute::<*mut (), Entry>(entry) }
    }

    /// Why a call with these values was refused.
    #[cold]
    fn refusal(&self, args: &[Value]) -> Error {
        let expected = self.call.signature().args();
        let differs = |(given, expected): (&Value, CType)| {
            Value::tag_of(given.ctype()) != rules::tag_for(expected)
        };
        let function = self.name.to_string();
        match args.iter().zip(expected.iter().copied()).position(differs) {
            Some(index) if args.len() == expected.len() => {
                let (expected, given) = (expected[index], args[index].ctype());
                Error::ArgumentType { function, index, expected, given }
            }
            _ => Error::ArgumentCount { function, expected: expected.len(), given: args.len() },
        }
    }
}

/// A foreign function; cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Function {
    record: Arc<Record>,
}

impl Function {
    /// The function at `target`, which is one as long as `library` is open.
    ///
    /// # Errors
    /// If no function of this signature can be called here.
    pub(crate) fn new(
        engine: &Engine,
        library: Option<Library>,
        name: &str,
        target: *const c_void,
        signature: &Signature,
    ) -> Result<Function, Error> {
        if signature.args().len() > MOST_ARGS {
            return Err(Error::from(Unplaced::TooMany).of(name));
        }
        let unsupported =
            || Error::LongDouble { signature: signature.clone(), position: Position::Result };
        let result_tag = match signature.result().as_struct() {
            Some(_) => Some(STRUCT_TAG),
            None => Value::tag_of(signature.result()),
        };
        let record = Record {
            target,
            entry: AtomicPtr::new(generic as Entry as *mut ()),
            result_tag: result_tag.ok_or_else(|| unsupported().of(name))?,
            interpreted: AtomicU64::new(0),
            site: Site::new(engine.limits()),
            call: Arc::new(PreparedCall::new(signature).map_err(|error| error.of(name))?),
            name: name.into(),
            engine: engine.clone(),
            library,
        };
        Ok(Function { record: Arc::new(record) })
    }

    /// Calls the function with one value for each argument: for a struct by
    /// value, a [`Value::Pointer`] to it.
    ///
    /// `errno` is what it was when the function starts, and what the function
    /// left when this returns.
    ///
    /// # Errors
    /// [`Error::ArgumentCount`] or [`Error::ArgumentType`] if the values are
    /// not those of the signature, [`Error::StructResult`] if the result is no
    /// value; then nothing was called.
    ///
    /// # Safety
    /// - At this address is a function of this signature and convention.
    /// - What the function requires of its arguments, and of the thread that
    ///   calls it, holds.
    /// - At the address that is given for a struct is one, which may be read. In
    ///   Win64 the function may also write to one of other than 1, 2, 4 or 8
    ///   bytes, as C's functions may to their arguments.
    /// - The function does not unwind into this one.
    #[inline]
    pub unsafe fn call(&self, args: &[Value]) -> Result<Value, Error> {
        if self.record.result_tag == STRUCT_TAG {
            return Err(Error::StructResult { function: self.name().to_string() });
        }
        // SAFETY: the caller vouches for the call, and the result is no struct.
        let word = unsafe { self.enter(args, ptr::null_mut()) }?;
        if self.record.result_tag == POINTER_TAG {
            // Transmuted, the address would be one that nothing may be read at.
            return Ok(Value::Pointer(ptr::with_exposed_provenance_mut(word as usize)));
        }
        // SAFETY: the tag is that of the result's type, which is no pointer. The low
        // bytes of the word are a payload of this type, which for a bool means 0 or 1.
        Ok(unsafe { mem::transmute::<[u64; 2], Value>([self.record.result_tag, word]) })
    }

    /// Calls a function that returns a struct, which is written to `result`.
    ///
    /// ```no_run
    /// # use std::mem::MaybeUninit;
    /// # use hotcall::{Function, Value};
    /// # fn divide(div: &Function) -> Result<(), hotcall::Error> {
    /// // div: fn(int, int) -> {int, int}
    /// let mut parts = MaybeUninit::<[i32; 2]>::uninit();
    /// // SAFETY: `div` has this signature, and 5 is not 0.
    /// unsafe { div.call_into(&[Value::I32(17), Value::I32(5)], parts.as_mut_ptr().cast()) }?;
    /// // SAFETY: the call wrote both.
    /// assert_eq!(unsafe { parts.assume_init() }, [3, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Function::call`], and [`Error::StructResult`] if the result is
    /// no struct.
    ///
    /// # Safety
    /// As for [`Function::call`]; and as many bytes as the struct has may be
    /// written at `result`, which has its alignment.
    #[inline]
    pub unsafe fn call_into(&self, args: &[Value], result: *mut u8) -> Result<(), Error> {
        if self.record.result_tag != STRUCT_TAG {
            return Err(Error::StructResult { function: self.name().to_string() });
        }
        // SAFETY: the caller vouches for the call and for `result`.
        unsafe { self.enter(args, result) }.map(drop)
    }

    /// Enters the stub, or the generic path.
    ///
    /// # Safety
    /// As for [`Function::call`]; and `result` is memory for a struct that the
    /// function returns.
    #[inline]
    unsafe fn enter(&self, args: &[Value], result: *mut u8) -> Result<u64, Error> {
        let record = &*self.record;
        let mut outcome = Outcome { refused: false, result };
        let entry = record.entry();
        // SAFETY:
        // - `args` and `outcome` are what an entry asks for, and `record` is
        //   this function's own.
        // - The caller vouches for the foreign call.
        let word = unsafe { entry(args.as_ptr(), args.len(), &raw mut outcome, record) };
        match outcome.refused {
            true => Err(record.refusal(args)),
            false => Ok(word),
        }
    }

    /// The same function for calls with these arguments behind the fixed ones.
    ///
    /// ```
    /// use hotcall::{CType, Library, Value};
    ///
    /// # #[cfg(target_os = "linux")] {
    /// // SAFETY: the C library needs nothing.
    /// let libc = unsafe { Library::open("libc.so.6") }?;
    /// let snprintf = libc.function("snprintf", "fn(char *, size_t, const char *, ...) -> int")?;
    /// let price = snprintf.with_variadic([CType::I32, CType::F64])?;
    /// let mut text = [0_u8; 32];
    /// let args = [
    ///     text.as_mut_ptr().into(),
    ///     text.len().into(),
    ///     c"%d for %.2f".as_ptr().into(),
    ///     Value::I32(3),
    ///     Value::F64(9.5),
    /// ];
    /// // SAFETY: the text takes 32 bytes, and the format an int and a double.
    /// let written = unsafe { price.call(&args) }?;
    /// assert_eq!(written, Value::I32(10));
    /// assert_eq!(&text[..10], b"3 for 9.50");
    /// # }
    /// # Ok::<(), hotcall::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Declaration`] with those of [`Signature::with_variadic`].
    pub fn with_variadic(&self, args: impl Into<Vec<CType>>) -> Result<Function, Error> {
        let record = &*self.record;
        let signature =
            self.signature().with_variadic(args).map_err(|error| error.of(self.name()))?;
        let library = record.library.clone();
        Function::new(&record.engine, library, &record.name, record.target, &signature)
    }

    /// The function as one of the Rust type `F`, e.g. `fn(i32, f64) -> f64`,
    /// with up to 12 arguments. The types are checked now, against the
    /// signature, and never again.
    ///
    /// Variadic functions have no such type; [`Function::call`] calls them.
    ///
    /// # Errors
    /// [`Mismatch`] names the `...` of a variadic function, or the first type that
    /// is not the signature's.
    ///
    /// # Safety
    /// At this address is a function of this signature and convention.
    pub unsafe fn typed<F: Prototype>(&self) -> Result<Typed<F>, Mismatch> {
        // SAFETY: the caller vouches for the function.
        unsafe { Typed::new(self.clone()) }
    }

    /// Which tier makes the calls of this function, and why.
    pub fn explain(&self) -> Explanation {
        Explanation::of(&self.record)
    }

    /// The name in errors and explanations.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The declared signature.
    pub fn signature(&self) -> &Signature {
        self.record.call.signature()
    }

    /// The address that is called.
    pub fn address(&self) -> *const c_void {
        self.record.target
    }
}

/// Prints name and signature.
impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({}: {})", self.name(), self.signature())
    }
}

/// Functions are equal if they are handles to the same one.
impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        ptr::eq(&raw const *self.record, &raw const *other.record)
    }
}

impl Eq for Function {}
