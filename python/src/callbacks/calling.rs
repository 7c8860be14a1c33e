//! The helpers with which a callback makes objects of its arguments and calls
//! the Python callable.
//!
//! # Safety
//! Each helper's documentation says what its words are. The rule, which alone
//! calls them, sees to it, and the GIL is held.

#![allow(unsafe_code, reason = "calls into CPython with raw objects")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hotcall_tracer::{Effect, Entry, Helper};

use crate::callbacks::failures::{self, Stage};
use crate::capi;
use crate::declare::{USE_ERRNO, info};
use crate::errno;
use crate::helpers;
use crate::instance;
use crate::layout::{self, CDATA_POINTER, CDATA_SIZE, OB_TYPE};
use crate::levels;
use crate::raw::Object;
use crate::runtime::runtime;

/// Defines a [`Helper`] per row.
macro_rules! helpers {
    ($($(#[$doc:meta])* $name:ident $text:literal $kind:ident $function:ident;)*) => {
        $($(#[$doc])* pub(crate) static $name: Helper =
            Helper { name: $text, entry: Entry::$kind($function), effect: Effect::Effect };)*
    };
}

helpers! {
    /// A float of the bits of a double.
    FROM_DOUBLE_BITS "from_double_bits" WW from_double_bits;
    /// A float of the bits of a float.
    FROM_FLOAT_BITS "from_float_bits" WW from_float_bits;
    /// The next four take the object before, and make none if that is 0.
    /// A str of one wchar_t; ValueError if it is no code point.
    NEXT_WCHAR "next_wchar" WWW next_wchar;
    /// A bytes object of a C string, None of a null pointer.
    NEXT_CHAR_P "next_char_p" WWW next_char_p;
    /// A str of a wide C string, None of a null pointer.
    NEXT_WCHAR_P "next_wchar_p" WWW next_wchar_p;
    /// The object itself, to which a reference is taken; ValueError of null.
    NEXT_OBJECT "next_object" WWW next_object;
    /// The class of an argument: words are the thunk and the argument's index.
    CLASS_OF "class_of" WWW class_of;
    /// An instance that the class, the second word, gives when it is called, with
    /// the bytes of the third word, and of the fourth. None if the first is 0.
    NEW_FROM_WORDS "new_from_words" WWWWW new_from_words;
    /// The same with the bytes at the address in the third word.
    NEW_FROM_MEMORY "new_from_memory" WWWW new_from_memory;
    /// Calls the callable of a thunk: words are the thunk, the address of memory for
    /// one word and the arguments behind it, and their number. An argument may be 0,
    /// with an exception set by the first that is. Gives the result; 0 if there is
    /// none, which has been reported then.
    CALL "call_back" WWWW call_back;
    /// The same where that has to be counted as a level of recursion.
    CALL_DEEPER "call_back_deeper" WWWW call_back_deeper;
}

unsafe extern "C-unwind" fn from_double_bits(bits: u64) -> u64 {
    // SAFETY: the GIL is held.
    unsafe { capi::PyFloat_FromDouble(f64::from_bits(bits)) }
}

unsafe extern "C-unwind" fn from_float_bits(bits: u64) -> u64 {
    // SAFETY: the GIL is held.
    unsafe { capi::PyFloat_FromDouble(f32::from_bits(bits as u32).into()) }
}

/// Defines a helper that does something unless the word before is 0.
macro_rules! next {
    ($($name:ident $make:path;)*) => {$(
        unsafe extern "C-unwind" fn $name(previous: u64, word: u64) -> u64 {
            match previous {
                0 => 0,
                // SAFETY: a value of the declared C type, from C.
                _ => unsafe { $make(word) },
            }
        }
    )*};
}

next! {
    next_wchar helpers::from_wchar;
    next_char_p helpers::from_char_p;
    next_wchar_p helpers::from_wchar_p;
    next_object new_reference;
}

unsafe extern "C-unwind" fn new_reference(object: u64) -> u64 {
    if object != 0 {
        // SAFETY: C gave it as an object.
        unsafe { capi::Py_IncRef(object) };
    }
    // SAFETY: an object, or null.
    unsafe { helpers::from_object(object) }
}

unsafe extern "C-unwind" fn class_of(thunk: u64, index: u64) -> u64 {
    // SAFETY: the rule keeps the thunk.
    let converters = unsafe { Object::at(thunk) }.word(layout::THUNK_CONVERTERS);
    match converters {
        // The garbage collector has cleared the thunk.
        0 => 0,
        // SAFETY: a tuple with an item for each argument.
        _ => unsafe { capi::PyTuple_GetItem(converters, index as isize) },
    }
}

unsafe extern "C-unwind" fn new_from_words(previous: u64, class: u64, low: u64, high: u64) -> u64 {
    let words = [low, high];
    // SAFETY: two words, and a class of at most as many bytes.
    unsafe { new_from_memory(previous, class, words.as_ptr() as u64) }
}

unsafe extern "C-unwind" fn new_from_memory(previous: u64, class: u64, bytes: u64) -> u64 {
    let Some(runtime) = runtime().filter(|_| previous != 0 && class != 0) else { return 0 };
    // SAFETY: a class that the thunk keeps.
    let made = instance::call(unsafe { Object::at(class) });
    if made == 0 {
        return 0;
    }
    // SAFETY: an object that has just been made.
    let object = unsafe { Object::at(made) };
    // SAFETY: two classes.
    if unsafe { capi::PyType_IsSubtype(object.word(OB_TYPE), DATA.load(Relaxed)) } == 0 {
        failures::set_unexpected(class, object);
        // SAFETY: made above.
        unsafe { capi::Py_DecRef(made) };
        return 0;
    }
    let layout = &runtime.known.layout;
    // SAFETY: a concrete ctypes class, as the shape has it.
    let size = info(layout, unsafe { Object::at(class) }).word(layout.info_size);
    let size = size.min(object.word(CDATA_SIZE)) as usize;
    let to = object.word(CDATA_POINTER) as *mut u8;
    // SAFETY: the class's bytes as C gave them, and an object with as much memory.
    unsafe { std::ptr::copy_nonoverlapping(bytes as *const u8, to, size) };
    made
}

/// `_ctypes._CData`, from which all that has memory derives.
static DATA: AtomicU64 = AtomicU64::new(0);

/// Sets that class, before the first callback is adopted.
pub(crate) fn set_data_class(class: u64) {
    DATA.store(class, Relaxed);
}

unsafe extern "C-unwind" fn call_back(thunk: u64, memory: u64, count: u64) -> u64 {
    call(thunk, memory, count, |callable, args, nargsf| {
        // SAFETY: what `call` hands over.
        unsafe { capi::PyObject_Vectorcall(callable, args, nargsf, 0) }
    })
}

unsafe extern "C-unwind" fn call_back_deeper(thunk: u64, memory: u64, count: u64) -> u64 {
    call(thunk, memory, count, |callable, args, nargsf| {
        // SAFETY: what `call` hands over.
        unsafe { levels::call(callable, args, nargsf) }
    })
}

/// Has the callable of a thunk called by `vectorcall`, which is given it, with its
/// arguments, before which there is a word of memory, and their number as it says that.
#[inline(always)]
fn call(
    thunk: u64,
    memory: u64,
    count: u64,
    vectorcall: impl FnOnce(u64, *const u64, u64) -> u64,
) -> u64 {
    // SAFETY: the rule keeps the thunk.
    let thunk = unsafe { Object::at(thunk) };
    let objects = arguments(memory, count);
    let args = objects.as_ptr();
    let callable = thunk.word(layout::THUNK_CALLABLE);
    let failed = objects.iter().position(|object| *object == 0);
    match failed {
        // The garbage collector has cleared the thunk.
        _ if callable == 0 => 0,
        Some(index) => {
            failures::report_argument(thunk, index);
            0
        }
        None => {
            let work = || {
                let result = vectorcall(callable, args, count | capi::ARGUMENTS_OFFSET);
                if result == 0 {
                    failures::report(Stage::Calling, callable);
                }
                result
            };
            match thunk.word(layout::THUNK_FLAGS) & USE_ERRNO {
                0 => work(),
                _ => errno::exchanging(work),
            }
        }
    }
}

/// The arguments in the memory that [`CALL`] is given.
pub(super) fn arguments<'a>(memory: u64, count: u64) -> &'a [u64] {
    let first = (memory as *const u64).wrapping_add(1);
    // SAFETY: the rule has stored so many words there, which live until it ends.
    unsafe { std::slice::from_raw_parts(first, count as usize) }
}
