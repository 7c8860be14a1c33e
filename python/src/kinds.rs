//! The simple types of ctypes, recognised by what they do: the C functions
//! that get and set their values, and ctypes' own `from_param`.
//!
//! A class is known by its getter and setter, not by its `_type_`, which a
//! program may assign; a swapped byte order has functions of its own.

use hotcall_core::CType;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::declare::{Kind, info};
use crate::layout::{self, Layout};
use crate::make::{self, Named};
use crate::raw::Object;
use crate::stand_in;

/// The simple types by their names in the module `ctypes`.
const SIMPLE_TYPES: &[(&str, Kind)] = &[
    ("c_bool", Kind::Bool),
    ("c_char", Kind::Char),
    ("c_wchar", Kind::WChar),
    ("c_byte", Kind::Int(CType::I8)),
    ("c_ubyte", Kind::Int(CType::U8)),
    ("c_short", Kind::Int(CType::I16)),
    ("c_ushort", Kind::Int(CType::U16)),
    ("c_int", Kind::Int(CType::I32)),
    ("c_uint", Kind::Int(CType::U32)),
    ("c_long", Kind::Int(CType::I64)),
    ("c_ulong", Kind::Int(CType::U64)),
    ("c_longlong", Kind::Int(CType::I64)),
    ("c_ulonglong", Kind::Int(CType::U64)),
    ("c_float", Kind::F32),
    ("c_double", Kind::F64),
    ("c_longdouble", Kind::LongDouble),
    ("c_char_p", Kind::CharP),
    ("c_wchar_p", Kind::WCharP),
    ("c_void_p", Kind::VoidP),
    ("py_object", Kind::Object),
];

/// What a stock `from_param` is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Converter {
    /// That of a simple type.
    Simple(Kind),
    /// That of a pointer type.
    Pointer,
    /// That of arrays, functions, structures and unions.
    Data,
}

/// What identifies a simple type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    setfunc: u64,
    getfunc: u64,
    size: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    mark: Mark,
    /// The method table entry of `from_param`.
    from_param: u64,
    kind: Kind,
}

/// The simple types of this interpreter.
#[derive(Debug)]
pub(crate) struct Kinds {
    layout: Layout,
    rows: Vec<Row>,
    /// The metaclass of simple types.
    metaclass: u64,
    /// `_SimpleCData`.
    base: u64,
    /// The class of bound built-in methods.
    method: u64,
    /// The method table entries of `from_param` of pointers, and of arrays and
    /// functions.
    pointer_from_param: u64,
    data_from_param: [u64; 2],
    /// The converter that takes what has been converted as it is.
    passed: u64,
    /// None.
    pub(crate) none: u64,
}

impl Kinds {
    /// Reads the module `ctypes`.
    ///
    /// # Errors
    /// What the import or a look-up raised.
    pub(crate) fn read(py: Python<'_>, layout: &Layout) -> PyResult<Kinds> {
        let ctypes = make::import(py, "ctypes")?;
        let c_int = ctypes.attr("c_int")?;
        let address = |object: &Bound<'_, PyAny>| object.as_ptr() as u64;
        let method_of = |class: &Bound<'_, PyAny>| -> PyResult<u64> {
            Ok(handle(&class.attr("from_param")?).word(layout::METHOD_DEF))
        };
        // Of the classes that others derive from, which have it already.
        let [pointer, array, function] =
            ["_Pointer", "Array", "_CFuncPtr"].map(|name| method_of(&ctypes.attr(name)?));
        let mut kinds = Kinds {
            layout: layout.clone(),
            pointer_from_param: pointer?,
            data_from_param: [array?, function?],
            rows: Vec::new(),
            metaclass: c_int.get_type_ptr() as u64,
            base: address(&ctypes.attr("_SimpleCData")?),
            method: c_int.attr("from_param")?.get_type_ptr() as u64,
            passed: stand_in::converter(py)?.as_ptr() as u64,
            none: py.None().as_ptr() as u64,
        };
        for &(name, kind) in SIMPLE_TYPES {
            let class = ctypes.attr(name)?.cast_into::<PyType>()?;
            let from_param = method_of(class.as_any())?;
            let mark = kinds.mark(handle(class.as_any()));
            kinds.rows.push(Row { mark, from_param, kind });
        }
        Ok(kinds)
    }

    fn mark(&self, class: Object) -> Mark {
        let info = info(&self.layout, class);
        Mark {
            setfunc: info.word(self.layout.info_setfunc),
            getfunc: info.word(self.layout.info_getfunc),
            size: info.word(self.layout.info_size),
        }
    }

    fn row(&self, class: Object) -> Option<&Row> {
        // The base itself is abstract: ctypes knows nothing of it.
        if class.word(layout::OB_TYPE) != self.metaclass || class.address() == self.base {
            return None;
        }
        let mark = self.mark(class);
        self.rows.iter().find(|row| row.mark == mark)
    }

    /// Whether a converter is the one that takes what has been converted.
    pub(crate) fn passes(&self, converter: Object) -> bool {
        converter.address() == self.passed
    }

    /// The kind of a class, if it is a simple type or a subclass of one.
    pub(crate) fn of_class(&self, class: Object) -> Option<Kind> {
        self.row(class).map(|row| row.kind)
    }

    /// The class whose instances a converter gives, and how, if it is ctypes'
    /// own `from_param`.
    pub(crate) fn of_converter(&self, converter: Object) -> Option<(Converter, Object)> {
        if converter.word(layout::OB_TYPE) != self.method {
            return None;
        }
        let class = converter.object(layout::METHOD_SELF)?;
        let method = converter.word(layout::METHOD_DEF);
        let simple = self.row(class).filter(|row| row.from_param == method);
        let converter = match simple {
            Some(row) => Converter::Simple(row.kind),
            None if method == self.pointer_from_param => Converter::Pointer,
            None if self.data_from_param.contains(&method) => Converter::Data,
            None => return None,
        };
        Some((converter, class))
    }

    /// Whether a simple type stands directly below `_SimpleCData`, so that
    /// results become Python values, not instances.
    pub(crate) fn is_direct(&self, class: Object) -> bool {
        class.word(layout::TYPE_BASE) == self.base
    }
}

/// A handle on an object that the caller holds.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(crate) fn handle(object: &Bound<'_, PyAny>) -> Object {
    // SAFETY: `object` keeps it alive and shows that the GIL is held; callers
    // use rows of the type that they have looked up by name.
    unsafe { Object::at(object.as_ptr() as u64) }
}
