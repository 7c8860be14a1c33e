//! Callbacks: C functions that call Rust closures. A callback is a trampoline to a
//! stub that gathers the words of the arguments, or libffi's closure where there is
//! no executable memory; behind both stands one handler.
//!
//! # Safety
//! A handler is entered with the address of the [`Bound`] that it was made for: the
//! callback owns it, at an address that does not change, and gives back the code that
//! leads there before it drops it. That C calls the function only as long as the
//! callback lives, and as its signature says, cannot be checked; whoever makes C call
//! it, in an unsafe call, vouches for it.

#![allow(unsafe_code, reason = "is entered by C with raw pointers")]

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use hotcall_asm::Trampoline;
use hotcall_core::{Closure, Error, Handler, Signature, Value};
use hotcall_tracer::Refusal;

use crate::engine::Engine;
use crate::library::IntoSignature;

mod bound;
mod dynamic;
mod entry;
mod typed;

use bound::{Bound, Owned, Shared, enter};
use dynamic::gives_value;
use typed::Typed;
pub use typed::TypedClosure;

/// A C function that calls a Rust closure, as long as this lives.
///
/// C may call it on any thread, on several at once, and again while it runs. So the
/// closure is an [`Fn`] that is [`Send`] and [`Sync`]: what it changes is an atomic, or
/// behind a [`Mutex`].
///
/// The closure may borrow, and the callback then lives no longer than what it borrows.
/// A [`CallbackPtr`] in turn borrows the callback. Calling it is what C does in an
/// unsafe call, whose caller vouches that the callback lives until C has forgotten it.
/// A function with code of its own (see [`Callback::status`]) that is called behind that
/// aborts the process, or is another one by then; with libffi, anything may happen.
///
/// ```
/// use hotcall::{Callback, Library, Value};
///
/// # #[cfg(target_os = "linux")] {
/// let qsort = Library::this()?.function("qsort", "fn(void *, size_t, size_t, void *)")?;
/// let less = Callback::typed(|a: *const i32, b: *const i32| {
///     // SAFETY: `qsort` passes addresses of elements.
///     let (a, b) = unsafe { (*a, *b) };
///     a.cmp(&b) as i32
/// })?;
/// let mut numbers = [3, 1, 2];
/// let args = [(&raw mut numbers).into(), 3_usize.into(), 4_usize.into(), less.as_ptr().into()];
/// // SAFETY: there are 3 elements of 4 bytes, and `less` lives.
/// unsafe { qsort.call(&args) }?;
/// assert_eq!(numbers, [1, 2, 3]);
/// # }
/// # Ok::<(), hotcall::Error>(())
/// ```
///
/// ```compile_fail,E0597
/// let callback = {
///     let text = String::from("gone too early");
///     hotcall::Callback::typed(|| text.len())?
/// };
/// # Ok::<(), hotcall::Error>(())
/// ```
///
/// # Panics
/// A closure that panics gives zero to C: nothing unwinds through C's frames. The
/// panic is reported by the panic hook as always, and kept for
/// [`Callback::take_panic`].
///
/// # What a callback costs
/// A call of a typed closure is a few moves and jumps more than one through a function
/// pointer; one with values is in between that and libffi. Where code cannot be made,
/// [`Callback::status`] says why, and libffi does it.
pub struct Callback<'a> {
    /// Dropped first: then nothing leads to `bound` any more.
    code: Code,
    bound: Owned<'a>,
    refusal: Option<Refusal>,
}

/// What C calls.
enum Code {
    Stub(Trampoline),
    Generic(Closure),
}

impl<'a> Callback<'a> {
    /// A function of this signature that calls `closure` with one value for each
    /// argument: for a struct by value, a [`Value::Pointer`] to it, which holds
    /// until the closure returns.
    ///
    /// What the closure gives must be of the type of the result, else it counts as a
    /// panic.
    ///
    /// ```
    /// use hotcall::{Callback, Engine, Value};
    ///
    /// let plus = Callback::new("fn(i32, double) -> double", |args| match *args {
    ///     [Value::I32(a), Value::F64(b)] => Value::F64(f64::from(a) + b),
    ///     _ => unreachable!("the values are those of the signature"),
    /// })?;
    /// let plus = Engine::global().function("plus", plus.as_ptr().address(), plus.signature())?;
    /// # Ok::<(), hotcall::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the signature, as for [`Engine::function`] but without a name;
    /// [`Error::CallbackResult`] if it returns a struct, see [`Callback::new_into`];
    /// and [`Error::ClosureMemory`].
    pub fn new<F>(signature: impl IntoSignature, closure: F) -> Result<Callback<'a>, Error>
    where
        F: Fn(&[Value]) -> Value + Send + Sync + 'a,
    {
        Callback::new_with(Engine::global(), signature, closure)
    }

    /// The same, by the compiler of an engine.
    ///
    /// # Errors
    /// As for [`Callback::new`].
    pub fn new_with<F>(
        engine: &Engine,
        signature: impl IntoSignature,
        closure: F,
    ) -> Result<Callback<'a>, Error>
    where
        F: Fn(&[Value]) -> Value + Send + Sync + 'a,
    {
        let signature = signature.into_signature()?;
        if signature.result().as_struct().is_some() {
            return Err(Error::CallbackResult { signature });
        }
        let into = move |args: &[Value], _: &mut [u8]| closure(args);
        Callback::bind(engine, signature, gives_value(into))
    }

    /// A function of a signature that returns a struct: the closure writes the bytes
    /// of it, which are zero at first.
    ///
    /// # Errors
    /// As for [`Callback::new`], but [`Error::CallbackResult`] if it returns no
    /// struct.
    pub fn new_into<F>(signature: impl IntoSignature, closure: F) -> Result<Callback<'a>, Error>
    where
        F: Fn(&[Value], &mut [u8]) + Send + Sync + 'a,
    {
        Callback::new_into_with(Engine::global(), signature, closure)
    }

    /// The same, by the compiler of an engine.
    ///
    /// # Errors
    /// As for [`Callback::new_into`].
    pub fn new_into_with<F>(
        engine: &Engine,
        signature: impl IntoSignature,
        closure: F,
    ) -> Result<Callback<'a>, Error>
    where
        F: Fn(&[Value], &mut [u8]) + Send + Sync + 'a,
    {
        let signature = signature.into_signature()?;
        if signature.result().as_struct().is_none() {
            return Err(Error::CallbackResult { signature });
        }
        let into = move |args: &[Value], result: &mut [u8]| {
            closure(args, result);
            Value::Void
        };
        Callback::bind(engine, signature, gives_value(into))
    }

    /// A function that calls `closure` with the arguments that it takes: up to 12 of
    /// [`Plain`](crate::Plain) types, which also make the signature.
    ///
    /// ```
    /// use hotcall::{Callback, Value};
    ///
    /// let offset = 10;
    /// let plus = Callback::typed(|a: i32, b: f64| f64::from(a + offset) + b)?;
    /// assert_eq!(plus.signature().to_string(), "fn(i32, f64) -> f64");
    /// # Ok::<(), hotcall::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Callback::new`].
    pub fn typed<P, F: TypedClosure<P> + 'a>(closure: F) -> Result<Callback<'a>, Error> {
        Callback::typed_with(Engine::global(), closure)
    }

    /// The same, by the compiler of an engine.
    ///
    /// # Errors
    /// As for [`Callback::typed`].
    pub fn typed_with<P, F: TypedClosure<P> + 'a>(
        engine: &Engine,
        closure: F,
    ) -> Result<Callback<'a>, Error> {
        let handler = enter::<F, Typed<P>>;
        Callback::bind(engine, F::signature()?, (handler, F::direct(), closure))
    }

    /// Makes the code that leads to `handler`, or to what takes the arguments directly,
    /// and to the closure.
    fn bind<F: Send + Sync + 'a>(
        engine: &Engine,
        signature: Signature,
        (handler, direct, closure): (Handler, Option<*const ()>, F),
    ) -> Result<Callback<'a>, Error> {
        let shared = Shared { handler, direct, signature, panic: Mutex::new(None) };
        let bound = Box::into_raw(Box::new(Bound { shared, closure }));
        let context: *const c_void = bound.cast_const().cast();
        // SAFETY: a box is nowhere null.
        let bound: Owned<'a> = Owned(unsafe { NonNull::new_unchecked(bound) });
        let Shared { signature, .. } = bound.shared();
        let (code, refusal) = match entry::bind(engine.jit(), bound.shared(), context) {
            Ok(trampoline) => (Code::Stub(trampoline), None),
            // SAFETY: the closure is `Send` and `Sync`; the handler is one for it, and
            // the code is dropped before it.
            Err(refusal) => match unsafe { Closure::new(signature, handler, context) } {
                Ok(closure) => (Code::Generic(closure), Some(refusal)),
                Err(error) => return Err(error),
            },
        };
        Ok(Callback { code, bound, refusal })
    }

    /// The function. It is one as long as the callback lives.
    pub fn as_ptr(&self) -> CallbackPtr<'_> {
        let address = match &self.code {
            Code::Stub(trampoline) => ptr::with_exposed_provenance(trampoline.address() as usize),
            Code::Generic(closure) => closure.address(),
        };
        CallbackPtr { address, callback: PhantomData }
    }

    /// Its signature.
    pub fn signature(&self) -> &Signature {
        &self.bound.shared().signature
    }

    /// Whether it has code of its own.
    ///
    /// # Errors
    /// Why it is libffi that gathers the arguments.
    pub fn status(&self) -> Result<(), Refusal> {
        self.refusal.map_or(Ok(()), Err)
    }

    /// What the first closure that panicked panicked with, since this was asked last.
    pub fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.bound.shared().panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Prints signature and status.
impl fmt::Debug for Callback<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.refusal.is_some() { " by libffi" } else { "" };
        write!(f, "Callback({}{by})", self.signature())
    }
}

/// The address of a [`Callback`]'s function, which holds as long as that is borrowed.
///
/// It is [`Plain`](crate::Plain), so a [`Typed`](crate::Typed) function can take it,
/// and it can be made a [`Value`]. From then on nobody checks that C forgets it in time.
///
/// ```compile_fail,E0597
/// let pointer = {
///     let callback = hotcall::Callback::typed(|| ())?;
///     callback.as_ptr()
/// };
/// pointer.address();
/// # Ok::<(), hotcall::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct CallbackPtr<'c> {
    address: *const c_void,
    callback: PhantomData<&'c ()>,
}

impl CallbackPtr<'_> {
    /// The address alone.
    pub fn address(self) -> *const c_void {
        self.address
    }
}

impl From<CallbackPtr<'_>> for Value {
    fn from(ptr: CallbackPtr<'_>) -> Value {
        Value::Pointer(ptr.address.cast_mut())
    }
}
