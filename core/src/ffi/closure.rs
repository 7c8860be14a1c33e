//! The generic way back: a C function of any signature, made by libffi, that hands
//! the words of its arguments to one handler. It serves wherever nothing faster can.
//!
//! # Safety
//! libffi's code leads to [`enter`] with the description of the prepared call, which
//! the closure owns, and with pointers to the arguments, each of which has as many
//! bytes as the description says. What the handler does with its context is up to
//! whoever makes the closure; for this [`Closure::new`] is unsafe.

#![allow(unsafe_code, reason = "libffi is a C library, and calls back with raw pointers")]

use std::ffi::c_void;
use std::fmt;
use std::mem;
use std::ptr;

use libffi::low::{closure_free, ffi_closure, try_closure_alloc};
use libffi::raw::{ffi_prep_closure_loc, ffi_status_FFI_OK};

use super::{PreparedCall, Slot, ffi_cif};
use crate::{CType, Class, Error, Signature};

/// What a closure calls: with its context, with memory for the result if that is a
/// struct, and with the words of the arguments, as [`PreparedCall::call`] takes
/// them. It gives the result, of which the low bytes count.
///
/// It may end its thread, which unwinds, but it does not throw.
pub type Handler =
    unsafe extern "C-unwind" fn(context: *const c_void, result: *mut u8, words: *const u64) -> u64;

/// A C function that is bound to a context. Dropping it ends the function.
pub struct Closure {
    raw: *mut ffi_closure,
    code: *const c_void,
    /// libffi knows its address.
    bound: *mut Bound,
}

/// What libffi gives back with each call.
struct Bound {
    call: PreparedCall,
    handler: Handler,
    context: *const c_void,
}

// SAFETY: the closure owns what it points to and changes none of it before it is
// dropped; `Closure::new` made its caller promise that any thread may use the context.
unsafe impl Send for Closure {}
// SAFETY: as for `Send`; `&Closure` gives an address, and no way to write.
unsafe impl Sync for Closure {}

/// Arguments of so many words need no allocation.
const FEW: usize = 32;

/// libffi's type of functions that closures lead to, which does not say that they
/// may end their thread.
type Entry = unsafe extern "C" fn(*mut ffi_cif, *mut c_void, *mut *mut c_void, *mut c_void);

impl Closure {
    /// A function of this signature that calls `handler` with `context`.
    ///
    /// # Errors
    /// Those of [`PreparedCall::new`], and [`Error::ClosureMemory`].
    ///
    /// # Safety
    /// As long as the closure lives, `handler` may be called with `context` on any
    /// thread that calls the function.
    pub unsafe fn new(
        signature: &Signature,
        handler: Handler,
        context: *const c_void,
    ) -> Result<Closure, Error> {
        let call = PreparedCall::new(signature)?;
        let (raw, code) = try_closure_alloc().ok_or(Error::ClosureMemory)?;
        let bound = Box::into_raw(Box::new(Bound { call, handler, context }));
        let closure = Closure { raw, code: code.as_ptr(), bound };
        // SAFETY: `enter` is a function, and this a type of functions of its arguments.
        let entry = unsafe {
            mem::transmute::<*const c_void, Entry>((enter as *const ()).cast::<c_void>())
        };
        // SAFETY: `bound` was made just now, and nobody else has it.
        let cif = unsafe { &raw mut (*bound).call.cif };
        // SAFETY:
        // - `raw` and `code` were allocated together, and are in no use yet.
        // - `cif` is prepared, and lives in `bound` until the closure is freed.
        let status =
            unsafe { ffi_prep_closure_loc(raw, cif, Some(entry), bound.cast(), code.as_mut_ptr()) };
        match status {
            status if status == ffi_status_FFI_OK => Ok(closure),
            status => Err(Error::Ffi { signature: signature.clone(), status }),
        }
    }

    /// The address of the function.
    pub fn address(&self) -> *const c_void {
        self.code
    }

    /// Its signature.
    pub fn signature(&self) -> &Signature {
        // SAFETY: `new` made it, and it lives as long as the closure.
        let bound = unsafe { &*self.bound };
        bound.call.signature()
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `new`, and is freed once.
        unsafe { closure_free(self.raw) };
        // SAFETY: as above; libffi has no way to it any more.
        drop(unsafe { Box::from_raw(self.bound) });
    }
}

/// Prints the signature.
impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Closure({})", self.signature())
    }
}

/// Where libffi leads each call of a closure.
///
/// # Safety
/// `bound` is that of a closure, `args` leads to the addresses of its arguments, and
/// `returned` to memory for its result.
unsafe extern "C-unwind" fn enter(
    _: *mut ffi_cif,
    returned: *mut c_void,
    args: *mut *mut c_void,
    bound: *mut c_void,
) {
    // SAFETY: the caller promises it.
    let bound = unsafe { &*bound.cast_const().cast::<Bound>() };
    let count = bound.call.signature().words();
    if count <= FEW {
        // SAFETY: the caller promises it, and there are at most `FEW` words.
        unsafe { bound.run(returned, args, &mut [0; FEW]) };
    } else {
        // SAFETY: as above.
        unsafe { bound.run(returned, args, &mut vec![0; count]) };
    }
}

impl Bound {
    /// Gathers the words of the arguments, and calls the handler.
    ///
    /// # Safety
    /// As for [`enter`]; and `words` has room for all of them.
    unsafe fn run(&self, returned: *mut c_void, args: *mut *mut c_void, words: &mut [u64]) {
        let signature = self.call.signature();
        let (abi, ctype) = (signature.abi(), signature.result());
        let mut registers = [0_u64; 2];
        let in_memory = ctype.is_returned_in_memory(abi);
        // SAFETY: the caller promises an address for each argument; only those of the
        // prepared call are asked for.
        let given = |position: usize| unsafe { *args.wrapping_add(position) };
        let address = || given(0).cast_const().cast::<*mut u8>();
        // SAFETY: the prepared call has a pointer there.
        let memory = in_memory.then(|| unsafe { address().read() });
        let result = memory.unwrap_or(registers.as_mut_ptr().cast());
        let mut at = 0;
        for (arg, position) in signature.args().iter().zip(usize::from(in_memory)..) {
            let (arg_at, taken) = (given(position), arg.words(abi));
            let slots = self.call.slots.as_ref();
            let is_copied = slots.is_some_and(|slots| matches!(slots[position], Slot::At(_)));
            if is_copied {
                words[at] = arg_at.expose_provenance() as u64;
            } else {
                let size = if arg.class() == Class::Float32 { 4 } else { 8 * taken };
                let to = words[at..at + taken].as_mut_ptr().cast();
                // SAFETY: the prepared call says that there are so many bytes: it has
                // words for integers, and for each word of a struct.
                unsafe { ptr::copy_nonoverlapping(arg_at.cast_const().cast::<u8>(), to, size) };
            }
            words[at] = arg.canonical(words[at]);
            at += taken;
        }
        // SAFETY: `new` made its caller promise that the handler can be called.
        let word = unsafe { (self.handler)(self.context, result, words.as_ptr()) };
        let (from, size) = match (ctype, memory) {
            (CType::Void, _) => return,
            (_, Some(memory)) => ([memory.expose_provenance() as u64, 0], 8),
            (CType::Struct(of), None) => (registers, 8 * of.words(abi).len()),
            (CType::F32, None) => ([word, 0], 4),
            (_, None) => ([ctype.canonical(word), 0], 8),
        };
        // SAFETY: the memory has a word for each register that the result is in, but
        // for a float no more than its bytes.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr().cast::<u8>(), returned.cast(), size) };
    }
}
