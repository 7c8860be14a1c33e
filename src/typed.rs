//! Typed views: a foreign function under its Rust type. When the types are
//! known to the compiler, its own call sequence is the stub, and no other could
//! be faster: nothing is recorded, compiled or checked.

#![allow(unsafe_code, reason = "a foreign call cannot be checked")]

use std::error;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::mem;

use hotcall_core::{Abi, CType, Position};

use crate::function::Function;

/// A foreign function as one of the Rust type `F`; made by [`Function::typed`].
///
/// Its method `call` takes the arguments of `F`, returns its result, and is a
/// direct call by the convention of the signature. The function's library
/// stays open as long as this lives.
///
/// ```
/// use hotcall::{Library, Typed};
///
/// # #[cfg(target_os = "linux")] {
/// // SAFETY: the initialisers of the C math library need nothing.
/// let libm = unsafe { Library::open("libm.so.6") }?;
/// let pow = libm.function("pow", "fn(double, double) -> double")?;
/// // SAFETY: `pow` has this signature.
/// let pow: Typed<fn(f64, f64) -> f64> = unsafe { pow.typed() }?;
/// // SAFETY: `pow` takes any doubles.
/// assert_eq!(unsafe { pow.call(2.0, 10.0) }, 1024.0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Typed<F> {
    /// Called by its true type only.
    target: unsafe extern "C" fn(),
    abi: Abi,
    function: Function,
    prototype: PhantomData<F>,
}

impl<F: Prototype> Typed<F> {
    /// The view of `function`.
    ///
    /// # Errors
    /// The first type of `F` that is not the signature's.
    ///
    /// # Safety
    /// At the function's address is a function of its signature and convention.
    pub(crate) unsafe fn new(function: Function) -> Result<Typed<F>, Mismatch> {
        let signature = function.signature();
        let mismatch = |position, expected, given| Mismatch {
            function: function.name().to_string(),
            position,
            expected,
            given,
        };
        let count = signature.args().len().max(F::ARGS.len());
        for index in 0..count {
            let [expected, given] =
                [signature.args(), F::ARGS].map(|args| args.get(index).copied());
            if expected != given {
                return Err(mismatch(Position::Argument(index), expected, given));
            }
        }
        if signature.result() != F::RESULT {
            let types = [signature.result(), F::RESULT].map(Some);
            return Err(mismatch(Position::Result, types[0], types[1]));
        }
        // SAFETY: the caller vouches that this is the address of a function,
        // and a function's address is not null.
        let target =
            unsafe { mem::transmute::<*const c_void, unsafe extern "C" fn()>(function.address()) };
        Ok(Typed { target, abi: signature.abi(), function, prototype: PhantomData })
    }

    /// The function that this is a view of.
    pub fn function(&self) -> &Function {
        &self.function
    }
}

/// Why a Rust type is not that of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The name of the function.
    pub function: String,
    /// Where the first difference is.
    pub position: Position,
    /// The type in the signature; none if it has no such argument.
    pub expected: Option<CType>,
    /// The C type of the Rust type there; none if there is no such argument.
    pub given: Option<CType>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { function, position, expected, given } = self;
        let text = |ctype: &Option<CType>| ctype.map_or("missing", CType::name);
        write!(f, "{position} of `{function}` is {}; ", text(expected))?;
        write!(f, "in the Rust type it is {}", text(given))
    }
}

impl error::Error for Mismatch {}

mod sealed {
    /// Nobody else can implement the traits of this file.
    pub trait Sealed {}
}

/// A Rust type that is passed like a C type: `i8` to `u64`, `isize`, `usize`,
/// `f32`, `f64`, `bool`, pointers, and for results `()`.
pub trait Plain: Copy + sealed::Sealed {
    /// That C type.
    const CTYPE: CType;
}

/// One row for each Rust type: the C type that it is passed like.
macro_rules! plain {
    ($($rust:ty => $ctype:ident,)*) => {$(
        impl sealed::Sealed for $rust {}
        impl Plain for $rust {
            const CTYPE: CType = CType::$ctype;
        }
    )*};
}

plain! {
    () => Void,
    bool => Bool,
    i8 => I8,
    u8 => U8,
    i16 => I16,
    u16 => U16,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    u64 => U64,
    isize => I64,
    usize => U64,
    f32 => F32,
    f64 => F64,
}

impl<T> sealed::Sealed for *const T {}
impl<T> Plain for *const T {
    const CTYPE: CType = CType::Pointer;
}

impl<T> sealed::Sealed for *mut T {}
impl<T> Plain for *mut T {
    const CTYPE: CType = CType::Pointer;
}

/// A Rust function type with up to 12 [`Plain`] arguments and a plain result.
pub trait Prototype: sealed::Sealed {
    /// The C types of its arguments.
    const ARGS: &'static [CType];
    /// The C type of its result.
    const RESULT: CType;
}

/// Calls `target` as a function of this type and convention.
macro_rules! direct {
    ($convention:literal, $target:expr, fn($($arg:ident),*) -> $result:ident) => {{
        // SAFETY: `Typed::new` compared these types with the signature, whose
        // convention this is, and for which its caller vouched.
        let function = unsafe {
            mem::transmute::<
                unsafe extern "C" fn(),
                unsafe extern $convention fn($($arg),*) -> $result,
            >($target)
        };
        // SAFETY: the caller of `call` vouches for the arguments.
        unsafe { function($($arg),*) }
    }};
}

/// `prototype!` with these arguments, with all but the first, and so on.
macro_rules! prototypes {
    () => { prototype!(); };
    ($first:ident $($arg:ident)*) => {
        prototype!($first $($arg)*);
        prototypes!($($arg)*);
    };
}

/// Makes function types with these arguments callable.
macro_rules! prototype {
    ($($arg:ident)*) => {
        impl<$($arg: Plain,)* Z: Plain> sealed::Sealed for fn($($arg),*) -> Z {}
        impl<$($arg: Plain,)* Z: Plain> Prototype for fn($($arg),*) -> Z {
            const ARGS: &'static [CType] = &[$($arg::CTYPE),*];
            const RESULT: CType = Z::CTYPE;
        }

        impl<$($arg: Plain,)* Z: Plain> Typed<fn($($arg),*) -> Z> {
            /// Calls the function.
            ///
            /// # Safety
            /// What the function requires of its arguments, and of the thread
            /// that calls it, holds; and it does not unwind into this one.
            #[inline]
            #[allow(non_snake_case, reason = "the arguments are named like their types")]
            #[allow(clippy::too_many_arguments, reason = "C functions have as many")]
            pub unsafe fn call(&self, $($arg: $arg),*) -> Z {
                #[cfg(target_arch = "x86_64")]
                match self.abi {
                    Abi::SystemV => direct!("sysv64", self.target, fn($($arg),*) -> Z),
                    Abi::Win64 => direct!("win64", self.target, fn($($arg),*) -> Z),
                }
                #[cfg(not(target_arch = "x86_64"))]
                {
                    debug_assert_eq!(self.abi, Abi::HOST, "others are unavailable here");
                    direct!("C", self.target, fn($($arg),*) -> Z)
                }
            }
        }
    };
}

prototypes!(A B C D E F G H I J K L);
