//! Closures of Rust types as callbacks, in the convention of the host: they are called
//! with the arguments themselves, or with what is read from the words of a call.

#![allow(unsafe_code, reason = "reads the words of a call, and is entered by C")]

use std::ffi::c_void;
use std::marker::PhantomData;

use hotcall_core::{Abi, CType, Error, Signature};

use super::CallbackPtr;
use super::bound::{Bound, Calls, guarded};
use crate::typed::{Plain, sealed};

/// A closure of a Rust function type `P`, such as `fn(i32, f64) -> f64`, with up to
/// 12 [`Plain`] arguments and a plain result. C may call it on any thread.
///
/// What it says of itself is trusted, so nobody else can implement it:
///
/// ```compile_fail,E0277
/// use hotcall::{CType, Error, Signature, TypedClosure};
///
/// struct Forged;
///
/// impl TypedClosure<fn()> for Forged {
///     fn signature() -> Result<Signature, Error> {
///         Signature::new([], CType::Void)
///     }
///
///     unsafe fn call(&self, _: *mut u8, _: *const u64) -> u64 {
///         0
///     }
///
///     fn direct() -> Option<*const ()> {
///         Some(std::ptr::without_provenance(1))
///     }
/// }
/// ```
pub trait TypedClosure<P>: Send + Sync + Sized + sealed::SealedAs<P> {
    /// Its signature.
    ///
    /// # Errors
    /// Why a function of this type cannot be called.
    fn signature() -> Result<Signature, Error>;

    /// Calls it with the words of a call.
    ///
    /// # Safety
    /// `words` has the words of the arguments of its signature, and `result` is
    /// memory for its result, if that is a struct.
    #[doc(hidden)]
    unsafe fn call(&self, result: *mut u8, words: *const u64) -> u64;

    /// The address of a C function that takes the arguments, and the context where
    /// trampolines put it. All of the arguments must be in registers, and one register
    /// be left over.
    #[doc(hidden)]
    fn direct() -> Option<*const ()>;
}

impl<P, F: TypedClosure<P>> Calls<F> for Typed<P> {
    #[inline]
    unsafe fn call(closure: &F, _: &Signature, result: *mut u8, words: *const u64) -> u64 {
        // SAFETY: the caller promises it.
        unsafe { closure.call(result, words) }
    }
}

/// By its Rust type, which `P` says.
pub(super) struct Typed<P>(PhantomData<P>);

/// The words of a call, one argument after the other.
struct Words<'w> {
    next: *const u64,
    call: PhantomData<&'w [u64]>,
}

/// Whether a struct of this size is in words, and not behind an address, by the
/// convention of the host: as [`StructType::words`](crate::StructType::words) says.
const fn is_in_words(size: usize) -> bool {
    match Abi::HOST {
        Abi::SystemV => size <= 16,
        Abi::Win64 => matches!(size, 1 | 2 | 4 | 8),
    }
}

impl Words<'_> {
    /// The next argument.
    ///
    /// # Safety
    /// The next argument is of this type.
    #[inline]
    unsafe fn take<T: Plain>(&mut self) -> T {
        let at = self.next;
        let (from, words) = match (T::IS_STRUCT, is_in_words(size_of::<T>())) {
            // SAFETY: the word of a struct in memory is its address.
            (true, false) => (std::ptr::with_exposed_provenance(unsafe { *at } as usize), 1),
            _ => (at.cast::<T>(), size_of::<T>().div_ceil(8)),
        };
        self.next = at.wrapping_add(words);
        // SAFETY: the low bytes of a word are the scalar, the first of its words the
        // struct. Nothing says that they are aligned for `T`.
        unsafe { from.read_unaligned() }
    }
}

/// The word of a result; a struct is written to `result`.
///
/// # Safety
/// There is memory for a struct.
#[inline]
unsafe fn give<T: Plain>(value: T, result: *mut u8) -> u64 {
    if T::IS_STRUCT {
        // SAFETY: the caller promises it; nothing says that it is aligned.
        unsafe { result.cast::<T>().write_unaligned(value) };
        return 0;
    }
    let mut word = 0_u64;
    assert!(size_of::<T>() <= size_of::<u64>(), "a scalar fits a word");
    // SAFETY: just checked.
    unsafe { (&raw mut word).cast::<T>().write(value) };
    word
}

/// `closure!` with these arguments, with all but the first, and so on.
macro_rules! closures {
    () => { closure!(); };
    ($first:ident $($arg:ident)*) => {
        closure!($first $($arg)*);
        closures!($($arg)*);
    };
}

/// Makes callbacks of closures with these arguments.
macro_rules! closure {
    ($($arg:ident)*) => {
        impl<Closure, $($arg: Plain,)* Z: Plain> sealed::SealedAs<fn($($arg),*) -> Z> for Closure
        where
            Closure: Fn($($arg),*) -> Z,
        {
        }
        impl<Closure, $($arg: Plain,)* Z: Plain> TypedClosure<fn($($arg),*) -> Z> for Closure
        where
            Closure: Fn($($arg),*) -> Z + Send + Sync,
        {
            fn signature() -> Result<Signature, Error> {
                let args: Vec<CType> = vec![$($arg::ctype()?),*];
                Signature::new(args, Z::ctype()?)
            }

            #[inline]
            #[allow(non_snake_case, reason = "the arguments are named like their types")]
            #[allow(unused_mut, unused_variables, reason = "there may be no arguments")]
            unsafe fn call(&self, result: *mut u8, words: *const u64) -> u64 {
                let mut words = Words { next: words, call: PhantomData };
                // SAFETY: the caller promises words of these types, in this order.
                $(let $arg = unsafe { words.take::<$arg>() };)*
                let value = self($($arg),*);
                // SAFETY: the caller promises memory for a struct.
                unsafe { give(value, result) }
            }

            fn direct() -> Option<*const ()> {
                /// Calls the closure of the callback at `context`, which lives.
                #[allow(non_snake_case, reason = "the arguments are named like their types")]
                #[allow(clippy::too_many_arguments, reason = "C functions have as many")]
                unsafe extern "C" fn direct<Closure, $($arg: Plain,)* Z: Plain>(
                    context: *const c_void,
                    $($arg: $arg),*
                ) -> Z
                where
                    Closure: Fn($($arg),*) -> Z,
                {
                    // SAFETY: trampolines pass the address that they are bound to.
                    let bound = unsafe { &*context.cast::<Bound<Closure>>() };
                    let result = guarded(&bound.shared, || (bound.closure)($($arg),*));
                    // SAFETY: zero is a value of all plain types.
                    result.unwrap_or_else(|| unsafe { std::mem::zeroed() })
                }

                /// Moves the arguments on by one, and goes there with the context.
                #[cfg(all(target_arch = "x86_64", not(windows)))]
                #[unsafe(naked)]
                unsafe extern "C" fn shifted<Closure, $($arg: Plain,)* Z: Plain>()
                where
                    Closure: Fn($($arg),*) -> Z,
                {
                    std::arch::naked_asm!(
                        "endbr64",
                        "mov r9, r8",
                        "mov r8, rcx",
                        "mov rcx, rdx",
                        "mov rdx, rsi",
                        "mov rsi, rdi",
                        "mov rdi, r10",
                        "jmp {direct}",
                        direct = sym direct::<Closure, $($arg,)* Z>,
                    )
                }

                #[cfg(all(target_arch = "x86_64", not(windows)))]
                return Some(shifted::<Closure, $($arg,)* Z> as *const ());
                #[cfg(not(all(target_arch = "x86_64", not(windows))))]
                return None;
            }
        }
    };
}

closures!(A B C D E F G H I J K L);

impl sealed::Sealed for CallbackPtr<'_> {}
impl Plain for CallbackPtr<'_> {
    fn ctype() -> Result<CType, Error> {
        Ok(CType::Pointer)
    }
}
