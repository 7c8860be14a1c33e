//! The parts of CPython's API that calls use, declared by words, as traces
//! see objects, and as `C-unwind`: any of them may run Python code, and CPython
//! ends threads, at finalisation, by unwinding them.

#![allow(unsafe_code, reason = "declares foreign functions")]

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

unsafe extern "C-unwind" {
    pub(crate) fn PyEval_SaveThread() -> u64;
    pub(crate) fn PyEval_RestoreThread(state: u64);
    pub(crate) fn PyThreadState_GetDict() -> u64;
    pub(crate) fn PyErr_Occurred() -> u64;
    pub(crate) fn PyErr_Clear();
    pub(crate) fn PyErr_Fetch(class: &mut u64, value: &mut u64, traceback: &mut u64);
    pub(crate) fn PyErr_Restore(class: u64, value: u64, traceback: u64);
    pub(crate) fn PyErr_WriteUnraisable(object: u64);
    pub(crate) fn PyErr_WarnEx(class: u64, text: *const c_char, level: isize) -> c_int;
    pub(crate) fn Py_IsInitialized() -> c_int;
    pub(crate) fn PyGILState_Ensure() -> c_int;
    pub(crate) fn PyGILState_Release(state: c_int);
    pub(crate) fn PyGILState_GetThisThreadState() -> u64;
    pub(crate) fn PyErr_SetString(class: u64, text: *const c_char);
    pub(crate) fn Py_EnterRecursiveCall(place: *const c_char) -> c_int;
    pub(crate) fn Py_LeaveRecursiveCall();
    pub(crate) fn Py_IncRef(object: u64);
    pub(crate) fn Py_DecRef(object: u64);
    pub(crate) fn PyFloat_FromDouble(value: f64) -> u64;
    pub(crate) fn PyLong_FromLong(value: u64) -> u64;
    pub(crate) fn PyLong_FromUnsignedLong(value: u64) -> u64;
    pub(crate) fn PyLong_AsUnsignedLongLongMask(int: u64) -> u64;
    pub(crate) fn PyLong_AsLongAndOverflow(int: u64, overflow: *mut c_int) -> u64;
    pub(crate) fn PyBool_FromLong(value: u64) -> u64;
    pub(crate) fn PyBytes_FromString(text: u64) -> u64;
    pub(crate) fn PyBytes_FromStringAndSize(text: *const c_char, size: isize) -> u64;
    pub(crate) fn PyUnicode_FromWideChar(text: *const u32, size: isize) -> u64;
    pub(crate) fn PyUnicode_FromStringAndSize(text: *const c_char, size: isize) -> u64;
    pub(crate) fn PyUnicode_GetLength(text: u64) -> isize;
    pub(crate) fn PyUnicode_ReadChar(text: u64, index: isize) -> u32;
    pub(crate) fn PyUnicode_FindChar(
        text: u64,
        char: u32,
        start: isize,
        end: isize,
        direction: c_int,
    ) -> isize;
    pub(crate) fn PyObject_CallFunctionObjArgs(callable: u64, ...) -> u64;
    pub(crate) fn PyObject_CallMethodObjArgs(object: u64, name: u64, ...) -> u64;
    pub(crate) fn PyObject_CallNoArgs(callable: u64) -> u64;
    pub(crate) fn PyObject_ClearWeakRefs(object: u64);
    pub(crate) fn PyObject_GC_Track(object: u64);
    pub(crate) fn PyObject_GC_UnTrack(object: u64);
    pub(crate) fn PyObject_Free(memory: u64);
    pub(crate) fn PyObject_GetAttr(object: u64, name: u64) -> u64;
    pub(crate) fn PyType_GenericAlloc(class: u64, items: isize) -> u64;
    pub(crate) fn PyCFunction_NewEx(definition: u64, this: u64, module: u64) -> u64;
    pub(crate) fn PyCFunction_GetFunction(function: u64) -> u64;
    pub(crate) fn PyCFunction_GetSelf(function: u64) -> u64;
    pub(crate) fn PyType_IsSubtype(class: u64, base: u64) -> c_int;
    pub(crate) fn PyInterpreterState_Get() -> u64;
    pub(crate) fn PyInterpreterState_GetID(interpreter: u64) -> i64;
    pub(crate) fn PyMem_Malloc(size: u64) -> u64;
    pub(crate) fn PyMem_Calloc(count: u64, size: u64) -> u64;
    pub(crate) fn PyMem_Free(memory: u64);
    pub(crate) fn PyErr_NoMemory() -> u64;
    pub(crate) fn PyUnicode_AsWideChar(text: u64, to: *mut u32, size: isize) -> isize;
    pub(crate) fn PyDict_New() -> u64;
    pub(crate) fn PyDict_Size(dict: u64) -> isize;
    pub(crate) fn PyDict_GetItemWithError(dict: u64, key: u64) -> u64;
    pub(crate) fn PyDict_SetItem(dict: u64, key: u64, value: u64) -> c_int;
    pub(crate) fn PyList_New(size: isize) -> u64;
    pub(crate) fn PyList_SetItem(list: u64, index: isize, item: u64) -> c_int;
    pub(crate) fn PySlice_Unpack(
        slice: u64,
        start: &mut isize,
        stop: &mut isize,
        step: &mut isize,
    ) -> c_int;
    pub(crate) fn PySlice_AdjustIndices(
        length: isize,
        start: &mut isize,
        stop: &mut isize,
        step: isize,
    ) -> isize;
    pub(crate) fn PyTuple_New(size: isize) -> u64;
    pub(crate) fn PyTuple_Size(tuple: u64) -> isize;
    pub(crate) fn PyTuple_GetItem(tuple: u64, index: isize) -> u64;
    pub(crate) fn PyTuple_SetItem(tuple: u64, index: isize, item: u64) -> c_int;
    pub(crate) fn PyCapsule_New(
        pointer: u64,
        name: *const c_char,
        destructor: Option<unsafe extern "C-unwind" fn(u64)>,
    ) -> u64;
    pub(crate) fn PyCapsule_IsValid(capsule: u64, name: *const c_char) -> c_int;
    pub(crate) fn PyCapsule_GetPointer(capsule: u64, name: *const c_char) -> u64;

    pub(crate) static PyExc_ValueError: u64;
    pub(crate) static PyExc_RuntimeWarning: u64;
    pub(crate) static PyFloat_Type: u8;
    pub(crate) static PyLong_Type: u8;
    pub(crate) static _Py_NoneStruct: u8;
}

/// The bit of a vectorcall's count that lends the slot before the arguments.
/// Source: PEP 590.
pub(crate) const ARGUMENTS_OFFSET: u64 = 1 << 63;

/// One argument, by itself. Source: CPython's methodobject.h.
pub(crate) const ONE_ARGUMENT: u64 = 0x8;

/// Arguments as an array. Source: CPython's methodobject.h.
pub(crate) const FASTCALL: u64 = 0x80;

/// Arguments as an array, and names of keywords. Source: CPython's methodobject.h.
pub(crate) const FASTCALL_WITH_KEYWORDS: u64 = 0x82;

/// An entry of a table of built-in functions.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Method {
    pub(crate) name: u64,
    pub(crate) function: u64,
    pub(crate) flags: u64,
    pub(crate) doc: u64,
}

impl Method {
    /// The address of an entry that lives as long as the process: nobody counts the
    /// functions that refer to it.
    pub(crate) fn leak(self) -> u64 {
        std::ptr::from_ref(Box::leak(Box::new(self))).expose_provenance() as u64
    }
}

/// `PyObject_Vectorcall`, which every supported version exports, but which is in
/// the stable ABI from 3.12 on: so it is looked up.
///
/// # Safety
/// As for CPython's function.
#[allow(non_snake_case, reason = "CPython's name")]
pub(crate) unsafe fn PyObject_Vectorcall(
    callable: u64,
    args: *const u64,
    nargsf: u64,
    names: u64,
) -> u64 {
    type Function = unsafe extern "C-unwind" fn(u64, *const u64, u64, u64) -> u64;
    static FOUND: OnceLock<Function> = OnceLock::new();
    let function = FOUND.get_or_init(|| {
        let address = symbol(c"PyObject_Vectorcall").expect("CPython 3.9 and later have it");
        // SAFETY: CPython's function of this name has this signature.
        unsafe { std::mem::transmute::<usize, Function>(address as usize) }
    });
    // SAFETY: the caller vouches for the call.
    unsafe { function(callable, args, nargsf, names) }
}

/// Makes the one reference to an object whose memory served before:
/// `_Py_NewReference`, which every supported version exports, but which is not in
/// the stable ABI.
///
/// # Safety
/// As for CPython's function.
#[inline(always)]
pub(crate) unsafe fn new_reference(object: u64) {
    type Function = unsafe extern "C-unwind" fn(u64);
    static FOUND: OnceLock<Function> = OnceLock::new();
    let function = FOUND.get_or_init(|| {
        let address = symbol(c"_Py_NewReference").expect("CPython 3.9 and later have it");
        // SAFETY: CPython's function of this name has this signature.
        unsafe { std::mem::transmute::<usize, Function>(address as usize) }
    });
    // SAFETY: the caller vouches for the object.
    unsafe { function(object) }
}

/// The address of a symbol that CPython exports, if it does.
pub(crate) fn symbol(name: &CStr) -> Option<u64> {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address as u64)
}

/// A function that gives the current thread state, or 0.
pub(crate) type CurrentThreadState = unsafe extern "C-unwind" fn() -> u64;

/// CPython's look at the current thread state, which does not insist that
/// there is one. Its name changed in 3.13.
pub(crate) fn current_thread_state() -> CurrentThreadState {
    static FUNCTION: OnceLock<CurrentThreadState> = OnceLock::new();
    unsafe extern "C-unwind" fn none() -> u64 {
        0
    }
    *FUNCTION.get_or_init(|| {
        let names = [c"PyThreadState_GetUnchecked", c"_PyThreadState_UncheckedGet"];
        match names.into_iter().find_map(symbol) {
            // SAFETY: both take nothing and give a pointer.
            Some(address) => unsafe {
                std::mem::transmute::<usize, CurrentThreadState>(address as usize)
            },
            None => none,
        }
    })
}
