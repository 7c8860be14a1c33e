//! Where CPython's objects keep what marshalling needs: rows of data, one per
//! field, chosen by version at run time and checked on live objects at import.
//!
//! No other file has an offset. Traces print a row's name, so one golden text
//! holds for every version.

use hotcall_tracer::{Field, Mem};

/// How many references to an object are counted.
pub(crate) const OB_COUNT: Field = Field::new("count", 0, Mem::I64);
/// The type of an object.
pub(crate) const OB_TYPE: Field = Field::new("type", 8, Mem::I64);
/// The value of a float.
pub(crate) const FLOAT_VALUE: Field = Field::new("float.value", 16, Mem::F64);
/// The length of a bytes object.
pub(crate) const BYTES_SIZE: Field = Field::new("bytes.size", 16, Mem::I64);
/// The first byte of a bytes object, as C's `char`.
pub(crate) const BYTES_FIRST: Field = Field::new("bytes.first", 32, Mem::I8);
/// How many items a tuple has.
pub(crate) const TUPLE_SIZE: Field = Field::new("tuple.size", 16, Mem::I64);
/// The size word of an int; [`Int`] says how to read it.
pub(crate) const INT_SIZE: Field = Field::new("int.size", 16, Mem::I64);
/// The least significant digit of an int, 30 bits.
pub(crate) const INT_DIGIT: Field = Field::new("int.digit", 24, Mem::U32);
/// The digit above that, if there is one.
pub(crate) const INT_SECOND_DIGIT: Field = Field::new("int.second_digit", 28, Mem::U32);

/// The vectorcall pointer: 8 bytes of padding in every ctypes object.
pub(crate) const CDATA_ENTRY: Field = Field::new("cdata.entry", 72, Mem::I64);
/// The address of a ctypes object's memory.
pub(crate) const CDATA_POINTER: Field = Field::new("cdata.pointer", 16, Mem::I64);
/// Whether a ctypes object has memory of its own.
pub(crate) const CDATA_NEEDS_FREE: Field = Field::new("cdata.needs_free", 24, Mem::I32);
/// The ctypes object whose memory it shares.
pub(crate) const CDATA_BASE: Field = Field::new("cdata.base", 32, Mem::I64);
/// How many items an array has.
pub(crate) const CDATA_LENGTH: Field = Field::new("cdata.length", 48, Mem::I64);
/// Which of that one's parts it is.
pub(crate) const CDATA_INDEX: Field = Field::new("cdata.index", 56, Mem::I64);
/// What a ctypes object keeps alive for its memory.
pub(crate) const CDATA_OBJECTS: Field = Field::new("cdata.objects", 64, Mem::I64);
/// Small memory within a ctypes object.
pub(crate) const CDATA_VALUE: Field = Field::new("cdata.value", 80, Mem::I64);
/// The size of a ctypes object's memory in bytes.
pub(crate) const CDATA_SIZE: Field = Field::new("cdata.size", 40, Mem::I64);
/// A word in the memory of a ctypes object.
pub(crate) const MEMORY_WORD: Field = Field::new("memory", 0, Mem::I64);
/// An argument of a vectorcall.
pub(crate) const ARGUMENT: Field = Field::new("arg", 0, Mem::I64);

/// What `byref` gives: the kind of the value, which is `P` for an address.
pub(crate) const REFERENCE_TAG: Field = Field::new("byref.tag", 24, Mem::U8);
/// The same as a C string (from 3.15).
pub(crate) const REFERENCE_TAG_TEXT: Field = Field::new("byref.tag_text", 24, Mem::I64);
/// The first character of a C string.
pub(crate) const TEXT_FIRST: Field = Field::new("text.first", 0, Mem::U8);
/// The address that `byref` gives.
pub(crate) const REFERENCE_VALUE: Field = Field::new("byref.value", 32, Mem::I64);

/// The size of a value in libffi's description of a type, in bytes.
pub(crate) const FFI_SIZE: Field = Field::new("ffi.size", 0, Mem::I64);
/// The alignment there.
pub(crate) const FFI_ALIGN: Field = Field::new("ffi.align", 8, Mem::U16);
/// The kind of type, as libffi numbers them.
pub(crate) const FFI_KIND: Field = Field::new("ffi.kind", 10, Mem::U16);
/// The descriptions of the elements of a struct, with null at the end.
pub(crate) const FFI_ELEMENTS: Field = Field::new("ffi.elements", 16, Mem::I64);

/// The thunk of a function that was made for a Python callable.
pub(crate) const FUNC_THUNK: Field = Field::new("func.thunk", 96, Mem::I64);
/// The converters of a function with its own `argtypes`.
pub(crate) const FUNC_CONVERTERS: Field = Field::new("func.converters", 112, Mem::I64);
/// The function's own `argtypes`.
pub(crate) const FUNC_ARGTYPES: Field = Field::new("func.argtypes", 120, Mem::I64);
/// The function's own `restype`.
pub(crate) const FUNC_RESTYPE: Field = Field::new("func.restype", 128, Mem::I64);
/// The `_check_retval_` of the function's own `restype`.
pub(crate) const FUNC_CHECKER: Field = Field::new("func.checker", 136, Mem::I64);
/// The function's `errcheck`.
pub(crate) const FUNC_ERRCHECK: Field = Field::new("func.errcheck", 144, Mem::I64);
/// The parameter flags of a function made by a prototype.
pub(crate) const FUNC_PARAMFLAGS: Field = Field::new("func.paramflags", 152, Mem::I64);

/// A thunk's closure, where it can be written to: see [`CLOSURE_FUNCTION`].
pub(crate) const THUNK_WRITE: Field = Field::new("thunk.write", 24, Mem::I64);
/// The address of a thunk's closure as a function.
pub(crate) const THUNK_EXEC: Field = Field::new("thunk.exec", 32, Mem::I64);
/// What libffi is told of a thunk's function, a record within the thunk.
pub(crate) const THUNK_CIF: Field = Field::new("thunk.cif", 40, Mem::I64);
/// The flags of a thunk's function.
pub(crate) const THUNK_FLAGS: Field = Field::new("thunk.flags", 72, Mem::I32);
/// The classes of a thunk's arguments, a tuple.
pub(crate) const THUNK_CONVERTERS: Field = Field::new("thunk.converters", 80, Mem::I64);
/// What a thunk calls.
pub(crate) const THUNK_CALLABLE: Field = Field::new("thunk.callable", 88, Mem::I64);
/// The class of a thunk's result, or None.
pub(crate) const THUNK_RESTYPE: Field = Field::new("thunk.restype", 96, Mem::I64);
/// The setter of a thunk's result.
pub(crate) const THUNK_SETFUNC: Field = Field::new("thunk.setfunc", 104, Mem::I64);
/// The words of a thunk up to its argument types.
pub(crate) const THUNK_WORDS: usize = 16;
/// A closure's record of its function, which is the thunk's.
pub(crate) const CLOSURE_CIF: Field = Field::new("closure.cif", 32, Mem::I64);
/// What libffi calls for a closure.
pub(crate) const CLOSURE_FUNCTION: Field = Field::new("closure.function", 40, Mem::I64);
/// What libffi hands over besides, which is the thunk.
pub(crate) const CLOSURE_DATA: Field = Field::new("closure.data", 48, Mem::I64);

/// The code of a Python function.
pub(crate) const FUNCTION_CODE: Field = Field::new("function.code", 48, Mem::I64);
/// The function of a bound method.
pub(crate) const METHOD_FUNCTION: Field = Field::new("method.function", 16, Mem::I64);

/// A type's name, as a C string.
pub(crate) const TYPE_NAME: Field = Field::new("type.name", 24, Mem::I64);
/// A type's destructor.
pub(crate) const TYPE_DEALLOC: Field = Field::new("type.dealloc", 48, Mem::I64);
/// Where instances of a type keep their vectorcall pointer.
pub(crate) const TYPE_VECTORCALL_OFFSET: Field = Field::new("type.vectorcall_offset", 56, Mem::I64);
/// A type's call slot.
pub(crate) const TYPE_CALL: Field = Field::new("type.call", 128, Mem::I64);
/// A type's flags.
pub(crate) const TYPE_FLAGS: Field = Field::new("type.flags", 168, Mem::I64);
/// How attributes of a type's instances are looked up.
pub(crate) const TYPE_GETATTRO: Field = Field::new("type.getattro", 144, Mem::I64);
/// How the garbage collector goes through a type's instances.
pub(crate) const TYPE_TRAVERSE: Field = Field::new("type.traverse", 184, Mem::I64);
/// A type's clear slot.
pub(crate) const TYPE_CLEAR: Field = Field::new("type.clear", 192, Mem::I64);
/// A type's base.
pub(crate) const TYPE_BASE: Field = Field::new("type.base", 256, Mem::I64);
/// A type's dictionary.
pub(crate) const TYPE_DICT: Field = Field::new("type.dict", 264, Mem::I64);
/// A type's initialiser.
pub(crate) const TYPE_INIT: Field = Field::new("type.init", 296, Mem::I64);
/// A type's constructor.
pub(crate) const TYPE_NEW: Field = Field::new("type.new", 312, Mem::I64);
/// A type's method resolution order, a tuple.
pub(crate) const TYPE_MRO: Field = Field::new("type.mro", 344, Mem::I64);
/// A number that a type loses when it, or a base of it, is modified.
pub(crate) const TYPE_VERSION: Field = Field::new("type.version", 384, Mem::U32);
/// A type's finaliser in C, of old.
pub(crate) const TYPE_DEL: Field = Field::new("type.del", 376, Mem::I64);
/// A type's finaliser, which may be a program's `__del__`.
pub(crate) const TYPE_FINALIZE: Field = Field::new("type.finalize", 392, Mem::I64);
/// What a capsule holds.
pub(crate) const CAPSULE_POINTER: Field = Field::new("capsule.pointer", 16, Mem::I64);
/// The definition of a built-in method.
pub(crate) const METHOD_DEF: Field = Field::new("method.def", 16, Mem::I64);
/// What a built-in method is bound to.
pub(crate) const METHOD_SELF: Field = Field::new("method.self", 24, Mem::I64);
/// The module of a built-in function.
pub(crate) const METHOD_MODULE: Field = Field::new("method.module", 32, Mem::I64);
/// The vectorcall pointer of a built-in function.
pub(crate) const METHOD_VECTORCALL: Field = Field::new("method.vectorcall", 48, Mem::I64);
/// The C table entry of a get-set descriptor.
pub(crate) const GETSET_DEF: Field = Field::new("getset.def", 40, Mem::I64);
/// The setter in such an entry.
pub(crate) const GETSET_SET: Field = Field::new("getset.set", 16, Mem::I64);
/// The C function of a slot wrapper.
pub(crate) const WRAPPER_WRAPPED: Field = Field::new("wrapper.wrapped", 48, Mem::I64);

/// How an int's size word is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Int {
    /// The count of digits, negative for a negative int (3.11).
    Signed,
    /// The count of digits times 8, plus 0 for a positive int, 1 for zero and
    /// 2 for a negative one (from 3.12).
    Tagged,
}

/// Where ctypes keeps what it knows of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InfoHome {
    /// In an extended dictionary that is the type's own (up to 3.12).
    Dict,
    /// In the type object, this many bytes from its start (from 3.13).
    Type(i32),
}

/// The rows that differ between versions.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) int: Int,
    /// The first item of a tuple; from 3.14 on its hash is kept before that.
    pub(crate) tuple_first: Field,
    pub(crate) info_home: InfoHome,
    /// Whether the kind of a reference is a C string.
    pub(crate) reference_tag_is_text: bool,
    /// The object that `byref` was given.
    pub(crate) reference_object: Field,
    pub(crate) info_size: Field,
    pub(crate) info_length: Field,
    /// What libffi is told of a type: a record of its own, see [`FFI_SIZE`].
    pub(crate) info_ffi: Field,
    pub(crate) info_proto: Field,
    pub(crate) info_setfunc: Field,
    pub(crate) info_getfunc: Field,
    pub(crate) info_argtypes: Field,
    pub(crate) info_converters: Field,
    pub(crate) info_restype: Field,
    pub(crate) info_checker: Field,
    pub(crate) info_flags: Field,
    /// Whether an instance can be given another class only if both have one
    /// destructor.
    pub(crate) compares_destructors: bool,
    /// Whether None is immortal, so that returning it counts no reference.
    pub(crate) immortal_none: bool,
}

impl Layout {
    /// The rows for CPython 3.`minor`; none for a version that nobody checked.
    /// `type_size` is `type.__basicsize__`.
    pub(crate) fn of(minor: u8, type_size: i32) -> Option<Layout> {
        // From `size` to `checker` the fields are neighbours in every version.
        let (home, first, flags) = match minor {
            11 | 12 => (InfoHome::Dict, 48, 160),
            13 => (InfoHome::Type((type_size + 15) & !15), 8, 128),
            14 | 15 => (InfoHome::Type((type_size + 15) & !15), 8, 136),
            _ => return None,
        };
        let word = |name, offset| Field::new(name, first + offset, Mem::I64);
        Some(Layout {
            int: if minor == 11 { Int::Signed } else { Int::Tagged },
            tuple_first: Field::new("tuple.first", if minor < 14 { 24 } else { 32 }, Mem::I64),
            info_home: home,
            reference_tag_is_text: minor >= 15,
            // The value before it has had room for complex numbers since 3.14.
            reference_object: Field::new(
                "byref.object",
                if minor < 14 { 48 } else { 64 },
                Mem::I64,
            ),
            info_size: word("info.size", 0),
            info_length: word("info.length", 16),
            info_ffi: word("info.ffi", 24),
            info_proto: word("info.proto", 48),
            info_setfunc: word("info.setfunc", 56),
            info_getfunc: word("info.getfunc", 64),
            info_argtypes: word("info.argtypes", 80),
            info_converters: word("info.converters", 88),
            info_restype: word("info.restype", 96),
            info_checker: word("info.checker", 104),
            info_flags: Field::new("info.flags", flags, Mem::I32),
            compares_destructors: minor >= 15,
            immortal_none: minor >= 12,
        })
    }
}
