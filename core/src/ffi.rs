//! The generic foreign call: a signature prepared once for libffi, then called
//! any number of times with words. It needs no executable memory and serves
//! wherever nothing faster can.
//!
//! # Safety
//! libffi is given pointers of two kinds. Those in a prepared call (its type
//! descriptions) point to statics of libffi and to memory that the prepared
//! call owns. Those of one call point to words that outlive the call. What
//! cannot be checked is the foreign function itself; for this
//! [`PreparedCall::call`] is unsafe.

#![allow(unsafe_code, reason = "libffi is a C library, and a foreign call cannot be checked")]

use std::ffi::{c_uint, c_void};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ptr;

use libffi::low::{ffi_abi, ffi_cif, ffi_type, types};
use libffi::raw::{ffi_prep_cif, ffi_status_FFI_BAD_ARGTYPE, ffi_status_FFI_OK};

use crate::{Abi, CType, Class, Error, Position, Signature};

unsafe extern "C-unwind" {
    // libffi's own, declared anew: a foreign function may end its thread, and
    // the C library does that by unwinding.
    fn ffi_call(
        cif: *mut ffi_cif,
        function: Option<unsafe extern "C" fn()>,
        result: *mut c_void,
        args: *mut *mut c_void,
    );
}

/// A signature that is ready to be called; it can be shared between threads.
pub struct PreparedCall {
    /// What libffi has to know; its `arg_types` points into `_types`.
    cif: ffi_cif,
    /// A vector and not a box, so that moving it leaves pointers into it valid.
    _types: Vec<*mut ffi_type>,
    /// Whether the arguments are words in the first registers, and the result
    /// is one: such a function is called directly.
    fits_registers: bool,
    signature: Signature,
}

// SAFETY: the pointers in `cif` and `_types` lead to `_types` itself and to
// statics, and after `new` nobody writes through any of them: `ffi_call` only
// reads, and only `ffi_prep_cif` may write to a description, for long double.
// Source: libffi manual, "Thread Safety".
unsafe impl Send for PreparedCall {}
// SAFETY: as for `Send`; `&PreparedCall` gives no way to write.
unsafe impl Sync for PreparedCall {}

/// How many integer registers System V passes arguments in.
const REGISTERS: usize = 6;

/// A function that takes all of them.
#[cfg(target_arch = "x86_64")]
type InRegisters = unsafe extern "sysv64-unwind" fn(u64, u64, u64, u64, u64, u64) -> u64;
#[cfg(not(target_arch = "x86_64"))]
type InRegisters = unsafe extern "C-unwind" fn(u64, u64, u64, u64, u64, u64) -> u64;

/// The same address, of which the compiler knows nothing any more: where it saw
/// the function that is called, it would hold the types of caller and callee
/// against each other, and these differ though their calls are the same.
#[inline(always)]
fn unknown(target: *const c_void) -> *const c_void {
    #[cfg(target_arch = "x86_64")]
    {
        let mut target = target;
        // SAFETY: it does nothing.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) target, options(nostack, preserves_flags));
        }
        target
    }
    #[cfg(not(target_arch = "x86_64"))]
    target
}

/// Whether a function takes words in registers alone, and gives one or nothing.
fn fits_registers(signature: &Signature) -> bool {
    cfg!(target_arch = "x86_64")
        && signature.abi() == Abi::SystemV
        && signature.args().len() <= REGISTERS
        && signature.args().iter().all(|arg| arg.class() == Class::Int)
        && matches!(signature.result().class(), Class::Int | Class::None)
}

/// Up to so many arguments, a call needs 256 bytes of stack for pointers.
const FEW: usize = 32;

/// Up to so many arguments, a call needs 8 KiB of stack for pointers; above,
/// it allocates.
const MANY: usize = 1024;

impl PreparedCall {
    /// Prepares calls of functions with this signature.
    ///
    /// # Errors
    /// [`Error::LongDouble`] if an argument or the result is one,
    /// [`Error::AbiUnavailable`] if libffi does not know the convention here,
    /// [`Error::Ffi`] if it refuses the signature.
    pub fn new(signature: &Signature) -> Result<PreparedCall, Error> {
        let describe = |position, ctype| {
            description(ctype)
                .ok_or_else(|| Error::LongDouble { signature: signature.clone(), position })
        };
        let result = describe(Position::Result, signature.result())?;
        let mut types = Vec::with_capacity(signature.args().len());
        for (index, arg) in signature.args().iter().enumerate() {
            let exact = describe(Position::Argument(index), *arg)?;
            // A canonical word is wide already: the callee finds it widened to
            // a whole register or stack slot, whatever it expects of its caller.
            types.push(if arg.class() == Class::Int { &raw mut types::uint64 } else { exact });
        }
        let abi = signature.abi();
        let convention = convention(abi).ok_or(Error::AbiUnavailable { abi })?;
        let refused = |status| Error::Ffi { signature: signature.clone(), status };
        let count =
            c_uint::try_from(types.len()).map_err(|_| refused(ffi_status_FFI_BAD_ARGTYPE))?;
        let mut cif = ffi_cif::default();
        // SAFETY:
        // - `cif` is ours and may be written.
        // - `result` and each of the `count` entries of `types` is the
        //   address of one of libffi's own type descriptions.
        // - `types` moves into the same struct as `cif` and lives as long.
        let status =
            unsafe { ffi_prep_cif(&mut cif, convention, count, result, types.as_mut_ptr()) };
        if status != ffi_status_FFI_OK {
            return Err(refused(status));
        }
        let fits_registers = fits_registers(signature);
        Ok(PreparedCall { cif, _types: types, fits_registers, signature: signature.clone() })
    }

    /// The signature that was prepared.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Calls the function at `target` and returns its result.
    ///
    /// `args` has one canonical word for each argument, and the result is one,
    /// see [`CType::canonical`]. Up to 1024 arguments nothing is allocated, and
    /// `errno` is what it was when the function starts and what the function
    /// left when this returns.
    ///
    /// # Safety
    /// - `target` is the address of a function of the prepared signature and
    ///   convention, and stays so during the call.
    /// - `args` has as many words as the signature has arguments, each
    ///   canonical for the argument's type.
    /// - What the function requires of its arguments holds.
    /// - The function does not throw. It may end its thread: that runs what is
    ///   to be dropped on the way.
    #[inline]
    pub unsafe fn call(&self, target: *const c_void, args: &[u64]) -> u64 {
        debug_assert_eq!(args.len(), self.signature.args().len(), "one word for each argument");
        if self.fits_registers {
            // SAFETY: the caller vouches for the call, and `new` has looked at
            // the signature.
            unsafe { self.call_in_registers(target, args) }
        } else if args.len() <= FEW {
            // SAFETY: the caller vouches for the call, and `args` has at most
            // `FEW` words.
            unsafe { self.call_on_stack::<FEW>(target, args) }
        } else {
            // SAFETY: the caller vouches for the call.
            unsafe { self.call_with_many(target, args) }
        }
    }

    /// [`PreparedCall::call`] without libffi, of a System V function that takes
    /// at most six words and gives one or nothing.
    ///
    /// # Safety
    /// As for `call`; and `fits_registers` is set.
    #[inline]
    unsafe fn call_in_registers(&self, target: *const c_void, args: &[u64]) -> u64 {
        let mut words = [0; REGISTERS];
        words[..args.len()].copy_from_slice(args);
        let [a, b, c, d, e, f] = words;
        // SAFETY: registers that a function takes no argument from are its to
        // change, so to pass more words than it takes is to call it as declared.
        // The compiler does not know which function this is (see `unknown`).
        // Source: System V ABI, AMD64 supplement, section 3.2.3.
        let function = unsafe { mem::transmute::<*const c_void, InRegisters>(unknown(target)) };
        // SAFETY: the caller vouches for the call.
        let word = unsafe { function(a, b, c, d, e, f) };
        self.signature.result().canonical(word)
    }

    /// [`PreparedCall::call`] with an array of `N` pointers on the stack.
    ///
    /// # Safety
    /// As for `call`; and `args` has at most `N` words.
    #[inline]
    unsafe fn call_on_stack<const N: usize>(&self, target: *const c_void, args: &[u64]) -> u64 {
        let mut pointers = [const { MaybeUninit::<*mut c_void>::uninit() }; N];
        for (pointer, arg) in pointers.iter_mut().zip(args) {
            pointer.write(word_pointer(arg));
        }
        // SAFETY:
        // - The caller vouches for `target`.
        // - `args` has at most `N` words, so the loop wrote a pointer to each.
        unsafe { self.call_with_pointers(target, pointers.as_mut_ptr().cast()) }
    }

    /// [`PreparedCall::call`] for any number of arguments.
    ///
    /// # Safety
    /// As for `call`.
    #[cold]
    #[inline(never)]
    unsafe fn call_with_many(&self, target: *const c_void, args: &[u64]) -> u64 {
        if args.len() <= MANY {
            // SAFETY: the caller vouches for the call, and `args` has at most
            // `MANY` words.
            return unsafe { self.call_on_stack::<MANY>(target, args) };
        }
        let mut pointers: Vec<*mut c_void> = args.iter().map(word_pointer).collect();
        // SAFETY: the caller vouches for `target`; `pointers` has a pointer
        // to each word of `args`.
        unsafe { self.call_with_pointers(target, pointers.as_mut_ptr()) }
    }

    /// Calls `target` with the words that `pointers` point to.
    ///
    /// # Safety
    /// As for `call`; and `pointers` is the first of as many pointers as the
    /// signature has arguments, each to a word that may be read.
    #[inline]
    unsafe fn call_with_pointers(&self, target: *const c_void, pointers: *mut *mut c_void) -> u64 {
        // SAFETY: an optional function pointer is a pointer or null; `target`
        // is a function's address, and only libffi calls it, by its true type.
        let function =
            unsafe { mem::transmute::<*const c_void, Option<unsafe extern "C" fn()>>(target) };
        let mut word = 0_u64;
        let cif = ptr::from_ref(&self.cif).cast_mut();
        // SAFETY:
        // - `cif` was prepared by `new`, which owns its descriptions;
        //   `ffi_call` does not write to it.
        // - The caller vouches for `function`.
        // - `word` is 8 bytes: a whole register, as libffi requires of the
        //   result, and no result type of ours is larger.
        // - Each of `pointers` leads to 8 bytes, no less than the size of its
        //   argument. `ffi_call` only reads them: it replaces pointers to
        //   large structs alone, and we have none.
        unsafe { ffi_call(cif, function, (&raw mut word).cast(), pointers) };
        self.signature.result().canonical(word)
    }
}

/// Prints the signature.
impl fmt::Debug for PreparedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedCall({})", self.signature)
    }
}

/// The address of a word in the form in which libffi takes it, for reading.
#[inline]
fn word_pointer(word: &u64) -> *mut c_void {
    ptr::from_ref(word).cast_mut().cast()
}

/// libffi's description of a type; `None` if its values do not fit in a word.
fn description(ctype: CType) -> Option<*mut ffi_type> {
    Some(match ctype {
        CType::Void => &raw mut types::void,
        CType::Bool | CType::U8 => &raw mut types::uint8,
        CType::I8 => &raw mut types::sint8,
        CType::I16 => &raw mut types::sint16,
        CType::U16 => &raw mut types::uint16,
        CType::I32 => &raw mut types::sint32,
        CType::U32 => &raw mut types::uint32,
        CType::I64 => &raw mut types::sint64,
        CType::U64 => &raw mut types::uint64,
        CType::F32 => &raw mut types::float,
        CType::F64 => &raw mut types::double,
        CType::Pointer => &raw mut types::pointer,
        CType::LongDouble => return None,
    })
}

/// libffi's number of a convention; `None` if it has none on this system.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", unix))]
fn convention(abi: Abi) -> Option<ffi_abi> {
    Some(match abi {
        Abi::SystemV => libffi::raw::ffi_abi_FFI_UNIX64,
        Abi::Win64 => libffi::raw::ffi_abi_FFI_WIN64,
    })
}

/// libffi's number of a convention; `None` if it has none on this system.
///
/// Words are passed by the address of their low bytes, and pointers are words.
#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", unix)))]
fn convention(abi: Abi) -> Option<ffi_abi> {
    let words_fit = cfg!(all(target_endian = "little", target_pointer_width = "64"));
    (words_fit && abi == Abi::HOST).then_some(libffi::low::ffi_abi_FFI_DEFAULT_ABI)
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests;
