//! Typed views: a foreign function under its Rust type. When the types are
//! known to the compiler, its own call sequence is the stub, and no other could
//! be faster: nothing is recorded, compiled or checked.

#![allow(unsafe_code, reason = "a foreign call cannot be checked")]

use std::error;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::mem;

use hotcall_core::{Abi, CType, Error, Position, StructError, StructType};

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
    /// The `...` of a variadic function, or the first type of `F` that is not the
    /// signature's.
    ///
    /// # Safety
    /// At the function's address is a function of its signature and convention.
    pub(crate) unsafe fn new(function: Function) -> Result<Typed<F>, Mismatch> {
        let signature = function.signature();
        let mismatch = |position, expected, given: Option<&Result<CType, Error>>| Mismatch {
            function: function.name().to_string(),
            position,
            expected,
            given: given.and_then(|given| given.as_ref().ok().copied()),
            refused: given.and_then(|given| match given {
                Err(Error::Struct(reason)) => Some(*reason),
                _ => None,
            }),
            variadic: signature.fixed().is_some(),
        };
        let args = F::args();
        let at = |index: usize| (signature.args().get(index).copied(), args.get(index));
        if let Some(fixed) = signature.fixed() {
            let (expected, given) = at(fixed);
            return Err(mismatch(Position::Argument(fixed), expected, given));
        }
        for index in 0..signature.args().len().max(args.len()) {
            match at(index) {
                (Some(expected), Some(Ok(given))) if expected == *given => {}
                (expected, given) => {
                    return Err(mismatch(Position::Argument(index), expected, given));
                }
            }
        }
        match (signature.result(), F::result()) {
            (expected, Ok(given)) if expected == given => {}
            (expected, given) => {
                return Err(mismatch(Position::Result, Some(expected), Some(&given)));
            }
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
    /// Where the first difference is; of a variadic function, the argument behind
    /// the fixed ones.
    pub position: Position,
    /// The type in the signature; none if it has no such argument.
    pub expected: Option<CType>,
    /// The C type of the Rust type there; none if there is no such argument, or it
    /// cannot be passed.
    pub given: Option<CType>,
    /// Why a struct that the Rust type has there cannot be passed by value.
    pub refused: Option<StructError>,
    /// Whether the function is variadic. Then no Rust type is its own, even if all
    /// types are equal: C calls such functions in another way.
    pub variadic: bool,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { function, position, expected, given, refused, variadic } = self;
        if *variadic {
            write!(f, "`{function}` has `...` before {position}, which no Rust type has; ")?;
            return f.write_str("call it with values");
        }
        let text = |ctype: &Option<CType>| {
            ctype.map_or_else(|| "missing".to_string(), |ctype| ctype.to_string())
        };
        write!(f, "{position} of `{function}` is {}; ", text(expected))?;
        match refused {
            Some(_) => f.write_str("in the Rust type it is a struct that cannot be passed"),
            None => write!(f, "in the Rust type it is {}", text(given)),
        }
    }
}

impl error::Error for Mismatch {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(self.refused.as_ref()?)
    }
}

pub(crate) mod sealed {
    /// Nobody else can implement the traits of this file.
    pub trait Sealed {
        /// Whether it is a struct.
        const IS_STRUCT: bool = false;
    }

    /// The same for what is implemented once for each function type `P`.
    pub trait SealedAs<P> {}
}

/// A Rust type that is passed like a C type: `i8` to `u64`, `isize`, `usize`,
/// `f32`, `f64`, `bool`, pointers, structs of [`c_struct!`](crate::c_struct), and
/// for results `()`.
pub trait Plain: Copy + sealed::Sealed {
    /// That C type.
    ///
    /// # Errors
    /// Why a struct cannot be passed by value.
    fn ctype() -> Result<CType, Error>;
}

/// A struct with the layout of C's, made by [`c_struct!`](crate::c_struct).
///
/// # Safety
/// The type is `#[repr(C)]`, and its fields are these, at these offsets.
pub unsafe trait CStruct: Copy {
    /// Its fields, each with its offset in bytes.
    ///
    /// # Errors
    /// Why a field cannot be passed by value.
    fn fields() -> Result<Vec<(usize, CType)>, Error>;
}

impl<T: CStruct> sealed::Sealed for T {
    const IS_STRUCT: bool = true;
}
impl<T: CStruct> Plain for T {
    fn ctype() -> Result<CType, Error> {
        StructType::with_layout(T::fields()?, size_of::<T>(), align_of::<T>()).map(CType::Struct)
    }
}

/// Defines a struct with C's layout that foreign functions take and return by
/// value.
///
/// ```
/// use hotcall::{CType, Plain};
///
/// hotcall::c_struct! {
///     /// What `div` gives.
///     #[derive(Debug, PartialEq)]
///     pub struct Div {
///         pub quotient: i32,
///         pub remainder: i32,
///     }
/// }
///
/// assert_eq!(Div::ctype()?, CType::struct_of(&[CType::I32, CType::I32])?);
///
/// # #[cfg(target_os = "linux")] {
/// // SAFETY: the C library needs nothing.
/// let libc = unsafe { hotcall::Library::open("libc.so.6") }?;
/// let div = libc.function("div", "fn(int, int) -> {int, int}")?;
/// // SAFETY: `div` has this signature.
/// let div: hotcall::Typed<fn(i32, i32) -> Div> = unsafe { div.typed() }?;
/// // SAFETY: 5 is not 0.
/// assert_eq!(unsafe { div.call(17, 5) }, Div { quotient: 3, remainder: 2 });
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Attributes of the struct and of its fields must leave them as they are written: what
/// takes one away, as `#[cfg(..)]` may, stands before the macro instead.
///
/// ```
/// #[cfg(windows)]
/// hotcall::c_struct! {
///     struct Handle {
///         index: u32,
///     }
/// }
/// ```
///
/// So another struct is never taken for the one that is described:
///
/// ```compile_fail,E0308
/// #[derive(Clone, Copy)]
/// struct Forged {
///     at: &'static u8,
/// }
///
/// hotcall::c_struct! {
///     #[cfg(any())]
///     struct Forged {
///         at: u64,
///     }
/// }
/// ```
#[macro_export]
macro_rules! c_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(::core::clone::Clone, ::core::marker::Copy)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $ty,)*
        }

        // SAFETY: the type has these fields, and no others: `fields` looks at them.
        unsafe impl $crate::CStruct for $name {
            fn fields() -> ::core::result::Result<
                ::std::vec::Vec<(::core::primitive::usize, $crate::CType)>,
                $crate::Error,
            > {
                // Attributes may take away what is defined above, and leave the name to
                // something else.
                let _ = |whole: &$name| {
                    let _ = $name { ..*whole };
                    let $name { $($field: _,)* } = whole;
                    $(let _: *const $ty = &raw const whole.$field;)*
                };
                ::core::result::Result::Ok(::std::vec![$((
                    ::core::mem::offset_of!($name, $field),
                    <$ty as $crate::Plain>::ctype()?,
                ),)*])
            }
        }
    };
}

/// One row for each Rust type: the C type that it is passed like.
macro_rules! plain {
    ($($rust:ty => $ctype:ident,)*) => {$(
        impl sealed::Sealed for $rust {}
        impl Plain for $rust {
            fn ctype() -> Result<CType, Error> {
                Ok(CType::$ctype)
            }
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
    fn ctype() -> Result<CType, Error> {
        Ok(CType::Pointer)
    }
}

impl<T> sealed::Sealed for *mut T {}
impl<T> Plain for *mut T {
    fn ctype() -> Result<CType, Error> {
        Ok(CType::Pointer)
    }
}

/// A Rust function type with up to 12 [`Plain`] arguments and a plain result.
pub trait Prototype: sealed::Sealed {
    /// The C types of its arguments, as [`Plain::ctype`] gives them.
    fn args() -> Vec<Result<CType, Error>>;
    /// The C type of its result.
    ///
    /// # Errors
    /// Why a struct cannot be returned by value.
    fn result() -> Result<CType, Error>;
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
            fn args() -> Vec<Result<CType, Error>> {
                vec![$($arg::ctype()),*]
            }

            fn result() -> Result<CType, Error> {
                Z::ctype()
            }
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
