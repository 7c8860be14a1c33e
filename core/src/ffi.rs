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

mod closure;
mod describe;

pub use closure::{Closure, Handler};
use describe::description;

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
    /// Where libffi finds each argument, if one of them, or the result, is a
    /// struct; else each argument is one word.
    slots: Option<Box<[Slot]>>,
    /// Whether the arguments are words in the first registers, and the result
    /// is one: such a function is called directly.
    fits_registers: bool,
    signature: Signature,
}

/// Where libffi finds an argument.
#[derive(Clone, Copy, Debug)]
enum Slot {
    /// In the words from this one on.
    Words(usize),
    /// At the address that is this word.
    At(usize),
    /// It is the address of the memory for the result.
    Result,
}

// SAFETY: the pointers in `cif` and `_types` lead to `_types` itself and to
// statics, or to what lives as long, and after `new` nobody writes through any of them: `ffi_call` only
// reads, and only `ffi_prep_cif` may write to a description, for long double.
// Source: libffi manual, "Thread Safety".
unsafe impl Send for PreparedCall {}
// SAFETY: as for `Send`; `&PreparedCall` gives no way to write.
unsafe impl Sync for PreparedCall {}

/// How many integer registers System V passes arguments in.
const REGISTERS: usize = 6;

/// A function that takes all of them. It may be variadic, and then looks up in
/// a register how many arguments are in vector registers.
type InRegisters = unsafe extern "C-unwind" fn(u64, ...) -> u64;

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
    cfg!(all(target_arch = "x86_64", not(windows)))
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
    /// [`Error::OtherProcessor`] for structs and variadic functions off x86-64,
    /// [`Error::Ffi`] if it refuses the signature.
    pub fn new(signature: &Signature) -> Result<PreparedCall, Error> {
        describe::check(signature)?;
        let abi = signature.abi();
        let long_double = |position| Error::LongDouble { signature: signature.clone(), position };
        let in_memory = signature.result().is_returned_in_memory(abi);
        let returned = if in_memory { CType::Pointer } else { signature.result() };
        let result = description(returned, abi).ok_or_else(|| long_double(Position::Result))?;
        let mut types = Vec::with_capacity(signature.args().len());
        let mut slots = Vec::new();
        if in_memory {
            types.push(&raw mut types::pointer);
            slots.push(Slot::Result);
        }
        let mut word = 0;
        for (index, arg) in signature.args().iter().enumerate() {
            let exact =
                description(*arg, abi).ok_or_else(|| long_double(Position::Argument(index)))?;
            // A canonical word is wide already: the callee finds it widened to
            // a whole register or stack slot, whatever it expects of its caller.
            types.push(if arg.class() == Class::Int { &raw mut types::uint64 } else { exact });
            let is_copied = arg.is_returned_in_memory(abi) && abi == Abi::SystemV;
            slots.push(if is_copied { Slot::At(word) } else { Slot::Words(word) });
            word += arg.words(abi);
        }
        let slots = signature.has_structs().then(|| slots.into());
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
        let signature = signature.clone();
        Ok(PreparedCall { cif, _types: types, slots, fits_registers, signature })
    }

    /// The signature that was prepared.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Calls the function at `target` and returns its result.
    ///
    /// `args` has one canonical word for each argument, and the result is one,
    /// see [`CType::canonical`]; a struct among the arguments has as many words
    /// as [`CType::words`] says: its bytes, or its address. Up to 1024 arguments nothing is allocated, and
    /// `errno` is what it was when the function starts and what the function
    /// left when this returns.
    ///
    /// # Safety
    /// - `target` is the address of a function of the prepared signature and
    ///   convention, and stays so during the call.
    /// - `args` has as many words as the signature's arguments take, each
    ///   canonical for the argument's type.
    /// - The result is no struct; see [`PreparedCall::call_into`].
    /// - What the function requires of its arguments holds.
    /// - The function does not throw. It may end its thread: that runs what is
    ///   to be dropped on the way.
    #[inline]
    pub unsafe fn call(&self, target: *const c_void, args: &[u64]) -> u64 {
        debug_assert_eq!(args.len(), self.signature.words(), "the words of the arguments");
        debug_assert_eq!(self.signature.result().as_struct(), None, "a result that is a word");
        if self.fits_registers {
            // SAFETY: the caller vouches for the call, and `new` has looked at
            // the signature.
            unsafe { self.call_in_registers(target, args) }
        } else {
            let mut word = 0_u64;
            // SAFETY: the caller vouches for the call; the result is at most a
            // whole register, which libffi writes.
            unsafe { self.call_by_libffi(target, args, (&raw mut word).cast()) };
            self.signature.result().canonical(word)
        }
    }

    /// Calls the function at `target`, whose result is a struct, and writes that
    /// to `result`.
    ///
    /// # Safety
    /// - As for [`PreparedCall::call`], but that the result is a struct.
    /// - As many bytes as the struct has may be written at `result`.
    pub unsafe fn call_into(&self, target: *const c_void, args: &[u64], result: *mut u8) {
        let CType::Struct(of) = self.signature.result() else {
            unreachable!("the caller has looked at the result");
        };
        if self.signature.result().is_returned_in_memory(self.signature.abi()) {
            // SAFETY: the caller vouches for the call and for `result`.
            return unsafe { self.call_by_libffi(target, args, result.cast()) };
        }
        let mut words = [0_u64; 2];
        // SAFETY: the caller vouches for the call; the result is in at most two
        // registers, which libffi writes as a whole.
        unsafe { self.call_by_libffi(target, args, words.as_mut_ptr().cast()) };
        // SAFETY: the struct has at most 16 bytes, and the caller vouches for
        // `result`.
        unsafe { ptr::copy_nonoverlapping(words.as_ptr().cast(), result, of.size()) };
    }

    /// Calls `target` by libffi.
    ///
    /// # Safety
    /// As for `call`; and `result` is memory for the result, at least a word.
    #[inline]
    unsafe fn call_by_libffi(&self, target: *const c_void, args: &[u64], result: *mut c_void) {
        if self._types.len() <= FEW {
            // SAFETY: the caller vouches for the call, and there are at most
            // `FEW` arguments.
            unsafe { self.call_on_stack::<FEW>(target, args, result) }
        } else {
            // SAFETY: the caller vouches for the call.
            unsafe { self.call_with_many(target, args, result) }
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
    /// As for `call_by_libffi`; and there are at most `N` arguments.
    #[inline]
    unsafe fn call_on_stack<const N: usize>(
        &self,
        target: *const c_void,
        args: &[u64],
        result: *mut c_void,
    ) {
        let mut pointers = [const { MaybeUninit::<*mut c_void>::uninit() }; N];
        match &self.slots {
            None => {
                for (pointer, arg) in pointers.iter_mut().zip(args) {
                    pointer.write(word_pointer(arg));
                }
            }
            Some(slots) => {
                for (pointer, slot) in pointers.iter_mut().zip(slots) {
                    pointer.write(slot.pointer(args, &result));
                }
            }
        }
        // SAFETY:
        // - The caller vouches for `target` and `result`.
        // - There are at most `N` arguments, so a loop wrote a pointer to each.
        unsafe { self.call_with_pointers(target, pointers.as_mut_ptr().cast(), result) }
    }

    /// [`Self::call_by_libffi`] for any number of arguments.
    ///
    /// # Safety
    /// As for `call_by_libffi`.
    #[cold]
    #[inline(never)]
    unsafe fn call_with_many(&self, target: *const c_void, args: &[u64], result: *mut c_void) {
        if self._types.len() <= MANY {
            // SAFETY: the caller vouches for the call, and there are at most
            // `MANY` arguments.
            return unsafe { self.call_on_stack::<MANY>(target, args, result) };
        }
        let mut pointers: Vec<*mut c_void> = match &self.slots {
            None => args.iter().map(word_pointer).collect(),
            Some(slots) => slots.iter().map(|slot| slot.pointer(args, &result)).collect(),
        };
        // SAFETY: the caller vouches for `target` and `result`; `pointers` has a
        // pointer to each argument.
        unsafe { self.call_with_pointers(target, pointers.as_mut_ptr(), result) }
    }

    /// Calls `target` with what `pointers` point to.
    ///
    /// # Safety
    /// As for `call_by_libffi`; and `pointers` is the first of as many pointers
    /// as libffi was told of arguments, each to the argument's bytes.
    #[inline]
    unsafe fn call_with_pointers(
        &self,
        target: *const c_void,
        pointers: *mut *mut c_void,
        result: *mut c_void,
    ) {
        // SAFETY: an optional function pointer is a pointer or null; `target`
        // is a function's address, and only libffi calls it, by its true type.
        let function =
            unsafe { mem::transmute::<*const c_void, Option<unsafe extern "C" fn()>>(target) };
        // What returns in memory gives its address back: no caller needs it.
        let mut address = 0_u64;
        let ctype = self.signature.result();
        let result = match ctype.is_returned_in_memory(self.signature.abi()) {
            true => (&raw mut address).cast(),
            false => result,
        };
        let cif = ptr::from_ref(&self.cif).cast_mut();
        // SAFETY:
        // - `cif` was prepared by `new`, which owns its descriptions;
        //   `ffi_call` does not write to it.
        // - The caller vouches for `function`.
        // - `result` has a whole register for each that the result is in, as
        //   libffi requires.
        // - Each of `pointers` leads to 8 bytes, or to a whole struct: no less
        //   than the size of its argument. `ffi_call` only reads them.
        unsafe { ffi_call(cif, function, result, pointers) };
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

impl Slot {
    /// The address of an argument's bytes, among the words of a call or behind
    /// one, or of the address of its result.
    #[inline]
    fn pointer(self, args: &[u64], result: &*mut c_void) -> *mut c_void {
        match self {
            Slot::Words(word) => word_pointer(&args[word]),
            Slot::At(word) => ptr::with_exposed_provenance_mut(args[word] as usize),
            Slot::Result => ptr::from_ref(result).cast_mut().cast(),
        }
    }
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
