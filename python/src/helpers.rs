//! The helpers that traces of Python calls may call: CPython's own API where
//! its C signature fits, and thin functions around it where it does not.
//!
//! # Safety
//! Each helper's documentation says what its words are. The rules, which alone
//! call them, have tested it. All of them run with the GIL held but those
//! that are entered between `save_thread` and `restore_thread`.

#![allow(unsafe_code, reason = "calls into CPython")]

use std::ffi::c_char;

use hotcall_tracer::{Effect, Entry, Helper};
use pyo3::Python;

use crate::capi::{
    _Py_NoneStruct, Py_DecRef, Py_IncRef, PyBool_FromLong, PyBytes_FromString,
    PyBytes_FromStringAndSize, PyErr_Clear, PyErr_Fetch, PyErr_Occurred, PyErr_Restore,
    PyErr_SetString, PyEval_RestoreThread, PyEval_SaveThread, PyExc_ValueError, PyFloat_FromDouble,
    PyLong_AsUnsignedLongLongMask, PyLong_FromLong, PyLong_FromUnsignedLong,
    PyObject_CallFunctionObjArgs, PyUnicode_FromWideChar, PyUnicode_GetLength, PyUnicode_ReadChar,
};
use crate::levels;

/// Defines a [`Helper`] per row.
macro_rules! helpers {
    ($($(#[$doc:meta])* $name:ident $text:literal $kind:ident $function:ident $effect:ident;)*) => {
        $($(#[$doc])* pub(crate) static $name: Helper =
            Helper { name: $text, entry: Entry::$kind($function), effect: Effect::$effect };)*
    };
}

helpers! {
    /// Releases the GIL; gives the thread state.
    SAVE_THREAD "save_thread" W PyEval_SaveThread Effect;
    /// Takes the GIL back for the thread state. errno is kept.
    RESTORE_THREAD "restore_thread" WV PyEval_RestoreThread Effect;
    /// Not 0 if a Python exception is set.
    ERROR_PENDING "error_pending" W PyErr_Occurred Effect;
    /// The value of an exact int or bool modulo 2^64.
    INT_MASK "int_mask" WW PyLong_AsUnsignedLongLongMask Read;
    /// The one character of an exact str as C's wchar_t, or -1.
    WCHAR_OF "wchar_of" WW wchar_of Read;
    /// An int of a signed word.
    FROM_SIGNED "from_signed" WW PyLong_FromLong Effect;
    /// An int of an unsigned word.
    FROM_UNSIGNED "from_unsigned" WW PyLong_FromUnsignedLong Effect;
    /// A float.
    FROM_DOUBLE "from_double" FW PyFloat_FromDouble Effect;
    /// True or False.
    FROM_BOOL "from_bool" WW PyBool_FromLong Effect;
    /// A bytes object of one char.
    FROM_CHAR "from_char" WW from_char Effect;
    /// A str of one wchar_t; ValueError if it is no code point.
    FROM_WCHAR "from_wchar" WW from_wchar Effect;
    /// A bytes object of a C string, None of a null pointer.
    FROM_CHAR_P "from_char_p" WW from_char_p Effect;
    /// A str of a wide C string, None of a null pointer.
    FROM_WCHAR_P "from_wchar_p" WW from_wchar_p Effect;
    /// An int of an address, None of a null pointer.
    FROM_VOID_P "from_void_p" WW from_void_p Effect;
    /// The object itself, whose reference is taken over; ValueError of null.
    FROM_OBJECT "from_object" WW from_object Effect;
    /// None.
    NEW_NONE "new_none" W new_none Effect;
    /// What a callable gives for an object; it gives up the reference to both.
    CALL_WITH "call_with" WWW call_with Effect;
    /// What `errcheck` makes of a result: words are the callable, the result, the
    /// function and the tuple of arguments. It gives up the references to the
    /// first two; the result may be 0 with an exception set.
    CHECK_RESULT "check_result" WWWWW check_result Effect;
    /// Takes a reference, so that the object outlives the call.
    KEEP "keep" WV Py_IncRef Effect;
    /// Gives up that reference.
    RELEASE "release" WV Py_DecRef Effect;
    /// Gives up that reference if the first word is not 0.
    RELEASE_IF "release_if" WWW release_if Effect;
}

unsafe extern "C-unwind" fn release_if(condition: u64, object: u64) -> u64 {
    if condition != 0 {
        // SAFETY: the rule took this reference before the foreign call.
        unsafe { Py_DecRef(object) };
    }
    0
}

unsafe extern "C-unwind" fn wchar_of(text: u64) -> u64 {
    // SAFETY: the rule has tested that it is an exact str.
    match unsafe { PyUnicode_GetLength(text) } {
        // SAFETY: the index is within the length.
        1 => u64::from(unsafe { PyUnicode_ReadChar(text, 0) }),
        length => {
            if length < 0 {
                // SAFETY: the GIL is held; ctypes will meet the error itself.
                unsafe { PyErr_Clear() };
            }
            u64::MAX
        }
    }
}

unsafe extern "C-unwind" fn from_char(char: u64) -> u64 {
    let byte = char as c_char;
    // SAFETY: one byte, which is copied.
    unsafe { PyBytes_FromStringAndSize(&raw const byte, 1) }
}

pub(crate) unsafe extern "C-unwind" fn from_wchar(wchar: u64) -> u64 {
    let unit = wchar as u32;
    // SAFETY: one unit, which is copied.
    unsafe { PyUnicode_FromWideChar(&raw const unit, 1) }
}

pub(crate) unsafe extern "C-unwind" fn from_char_p(text: u64) -> u64 {
    match text {
        // SAFETY: no precondition.
        0 => unsafe { new_none() },
        // SAFETY: the function is declared to return a C string.
        _ => unsafe { PyBytes_FromString(text) },
    }
}

pub(crate) unsafe extern "C-unwind" fn from_wchar_p(text: u64) -> u64 {
    if text == 0 {
        // SAFETY: no precondition.
        return unsafe { new_none() };
    }
    // SAFETY: the function is declared to return a wide C string.
    let length = unsafe { libc::wcslen(text as *const libc::wchar_t) };
    // SAFETY: that many units have just been read.
    unsafe { PyUnicode_FromWideChar(text as *const u32, length as isize) }
}

pub(crate) unsafe extern "C-unwind" fn from_void_p(address: u64) -> u64 {
    match address {
        // SAFETY: no precondition.
        0 => unsafe { new_none() },
        // SAFETY: the GIL is held.
        _ => unsafe { PyLong_FromUnsignedLong(address) },
    }
}

pub(crate) unsafe extern "C-unwind" fn from_object(object: u64) -> u64 {
    // SAFETY: the GIL is held.
    if object == 0 && unsafe { PyErr_Occurred() } == 0 {
        // SAFETY: CPython sets it before any extension module runs.
        let class = unsafe { PyExc_ValueError };
        // SAFETY: an exception class and a C string.
        unsafe { PyErr_SetString(class, c"PyObject is NULL".as_ptr()) };
    }
    object
}

unsafe extern "C-unwind" fn call_with(callable: u64, object: u64) -> u64 {
    let mut result = 0;
    if object != 0 {
        // SAFETY: a callable that the rule keeps, and an object.
        result = unsafe { levels::call_one(callable, object) };
        // SAFETY: the rule made it for this call.
        unsafe { Py_DecRef(object) };
    }
    // SAFETY: the rule took this reference before the foreign call.
    unsafe { Py_DecRef(callable) };
    result
}

unsafe extern "C-unwind" fn check_result(errcheck: u64, result: u64, this: u64, args: u64) -> u64 {
    let mut checked = 0;
    if result != 0 {
        // SAFETY: a callable that the rule keeps, three objects, and the end.
        checked = unsafe { PyObject_CallFunctionObjArgs(errcheck, result, this, args, 0_u64) };
    }
    // SAFETY: the rule took this reference before the foreign call.
    unsafe { Py_DecRef(errcheck) };
    // Giving the arguments back means that the result stands.
    let (kept, dropped) = if checked == args { (result, checked) } else { (checked, result) };
    if dropped != 0 {
        // SAFETY: the rule made the result, and the callable gave the other.
        unsafe { Py_DecRef(dropped) };
    }
    kept
}

pub(crate) unsafe extern "C-unwind" fn new_none() -> u64 {
    let none = &raw const _Py_NoneStruct as u64;
    // SAFETY: None is an object.
    unsafe { Py_IncRef(none) };
    none
}

/// Runs `work` without the exception that is set, if one is, which is set again behind
/// it; what `work` leaves set is dropped. The GIL is held.
pub(crate) fn keeping_exception<T>(_py: Python<'_>, work: impl FnOnce() -> T) -> T {
    let (mut class, mut value, mut traceback) = (0, 0, 0);
    // SAFETY: the GIL is held; it writes references, or zeros, to the three places.
    unsafe { PyErr_Fetch(&mut class, &mut value, &mut traceback) };
    let result = work();
    // SAFETY: the GIL is held; the references that it gave, taken over again.
    unsafe { PyErr_Restore(class, value, traceback) };
    result
}

/// Runs `work` between reading errno and putting it back.
pub(crate) fn keeping_errno<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the C library gives a valid address for as long as the thread runs.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: see above.
    let errno = unsafe { *place };
    let result = work();
    // SAFETY: see above.
    unsafe { *place = errno };
    result
}
