//! The checks at import: each layout row is compared with what Python itself
//! says of a live object. A row that fails is named, and hotcall stays off.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyFloat, PyInt, PyType};

use crate::declare::{ArgRule, Kind, Reader, ResultRule, info};
use crate::kinds::handle;
use crate::layout::{self, Int, Layout};
use crate::make::{self, Named};
use crate::samples;
use crate::starting::Failure;

/// Why hotcall is off.
pub(crate) type Reason = String;

/// The layout of this interpreter, checked.
///
/// # Errors
/// The interpreter that is not supported, the first row that does not hold, or what
/// Python raised.
pub(crate) fn layout(py: Python<'_>) -> Result<Layout, Failure> {
    let version = py.version_info();
    let implementation: String = look(py, "sys", "implementation")?.attr("name")?.extract()?;
    if implementation != "cpython" || cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return Err(format!("{implementation} on this platform is not supported").into());
    }
    let type_size = py.get_type::<PyType>().attr("__basicsize__")?.extract()?;
    let unknown = || format!("CPython {}.{} is not supported", version.major, version.minor);
    let layout = match version.major {
        3 => Layout::of(version.minor, type_size).ok_or_else(unknown)?,
        _ => return Err(unknown().into()),
    };
    objects(py, &layout)?;
    Ok(layout)
}

/// One row compared with the truth.
pub(crate) fn row<T: PartialEq + std::fmt::Debug>(
    name: &str,
    found: T,
    truth: T,
) -> Result<(), Reason> {
    match found == truth {
        true => Ok(()),
        false => Err(format!("layout row {name} does not hold: {found:?}, not {truth:?}")),
    }
}

fn look<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    make::import(py, module)?.attr(name)
}

/// Checks the rows of floats, ints, bytes objects and types.
fn objects(py: Python<'_>, layout: &Layout) -> Result<(), Failure> {
    let float = PyFloat::new(py, 1.5);
    let class = float.get_type_ptr() as u64;
    row("type", handle(&float).word(layout::OB_TYPE), class)?;
    row("count", handle(&float).word(layout::OB_COUNT), 1)?;
    let another = float.clone();
    row("count", handle(&another).word(layout::OB_COUNT), 2)?;
    row("float.value", handle(&float).word(layout::FLOAT_VALUE), 1.5f64.to_bits())?;
    let float_class = handle(float.get_type().as_any());
    row("type.name", float_class.text(layout::TYPE_NAME), "float".to_owned())?;
    row("type.base", float_class.word(layout::TYPE_BASE), base(py)?)?;
    row("type.del", float_class.word(layout::TYPE_DEL), 0)?;

    for value in [0i64, 1, -1, 5, -77, (1 << 30) - 1, 1 << 30, -(1 << 30), 1 << 59, 1 << 60] {
        let int = PyInt::new(py, value);
        let object = handle(&int);
        let magnitude = value.unsigned_abs();
        row("int.digit", object.word(layout::INT_DIGIT), magnitude & ((1 << 30) - 1))?;
        let digits = (64 - magnitude.leading_zeros()).div_ceil(30) as i64;
        if digits == 2 {
            row("int.second_digit", object.word(layout::INT_SECOND_DIGIT), magnitude >> 30)?;
        }
        let size = object.word(layout::INT_SIZE) as i64;
        match layout.int {
            Int::Signed => row("int.size", size, digits * value.signum())?,
            Int::Tagged => {
                row("int.size", size >> 3, digits)?;
                row("int.size", size & 3, 1 - value.signum())?;
            }
        }
    }
    let method = look(py, "_ctypes", "addressof")?;
    // Where another interpreter was first to import it, it is that one's module.
    let module = method.attr("__self__")?.as_ptr() as u64;
    let class = handle(method.get_type().as_any()).word(layout::TYPE_VECTORCALL_OFFSET);
    row("method.self", handle(&method).word(layout::METHOD_SELF), module)?;
    row("method.vectorcall", class, layout::METHOD_VECTORCALL.offset as u64)?;
    let method = look(py, "ctypes", "cdll")?.attr("LoadLibrary")?;
    let function = method.attr("__func__")?.as_ptr() as u64;
    row("method.function", handle(&method).word(layout::METHOD_FUNCTION), function)?;
    let capsule = PyCapsule::new_with_value(py, 7_u64, c"hotcall")?;
    let pointer = capsule.pointer_checked(Some(c"hotcall"))?.as_ptr() as u64;
    row("capsule.pointer", handle(&capsule).word(layout::CAPSULE_POINTER), pointer)?;
    let tuple = make::tuple(py, [&capsule])?;
    row("tuple.size", handle(tuple.as_any()).word(layout::TUPLE_SIZE), 1)?;
    row("tuple.first", handle(tuple.as_any()).word(layout.tuple_first), capsule.as_ptr() as u64)?;
    let bytes = PyBytes::new(py, b"xyz");
    row("bytes.size", handle(bytes.as_any()).word(layout::BYTES_SIZE), 3)?;
    row("bytes.first", handle(bytes.as_any()).word(layout::BYTES_FIRST), u64::from(b'x'))?;
    Ok(())
}

/// The base of `float`.
fn base(py: Python<'_>) -> PyResult<u64> {
    Ok(look(py, "builtins", "object")?.as_ptr() as u64)
}

/// Checks the rows of ctypes' objects, by way of what is read from them.
///
/// # Errors
/// The first row that does not hold, or what Python raised.
pub(crate) fn ctypes(py: Python<'_>, reader: &Reader<'_>) -> Result<(), Failure> {
    classes(py, reader.layout)??;
    references(py, reader.layout)??;
    functions(py, reader)??;
    Ok(())
}

/// Checks the rows of what `byref` gives, and of classes of pointers and arrays.
fn references(py: Python<'_>, layout: &Layout) -> PyResult<Result<(), Reason>> {
    let c_int = look(py, "ctypes", "c_int")?;
    let instance = c_int.call_with((7,))?;
    let address: u64 = look(py, "ctypes", "addressof")?.call_with((&instance,))?.extract()?;
    let reference = look(py, "ctypes", "byref")?.call_with((&instance, 3))?;
    let c_char = look(py, "ctypes", "c_char")?;
    let (pointer, array) = (samples::pointer(py)?, samples::array(&c_char, 3)?);
    let class = py.get_type::<PyType>().call_with(("Modified", (), make::dict(py)?))?;
    class.attr("__init__")?;
    let before = handle(&class).word(layout::TYPE_VERSION);
    let finaliser = || handle(&class).word(layout::TYPE_FINALIZE);
    let had_finaliser = finaliser() != 0;
    class.set_attr("__del__", 1)?;
    let has_finaliser = finaliser() != 0;
    let after = handle(&class).word(layout::TYPE_VERSION);
    let mro = handle(&c_int).object(layout::TYPE_MRO).map(|mro| mro.items().len());
    let reference = handle(&reference);
    Ok((|| {
        match layout.reference_tag_is_text {
            false => row("byref.tag", reference.word(layout::REFERENCE_TAG), u64::from(b'P'))?,
            // The text is read when the others have shown that this is 3.15's layout.
            true => row("byref.tag_text", reference.word(layout::REFERENCE_TAG_TEXT) != 0, true)?,
        }
        row("byref.value", reference.word(layout::REFERENCE_VALUE), address + 3)?;
        row("byref.object", reference.word(layout.reference_object), instance.as_ptr() as u64)?;
        if layout.reference_tag_is_text {
            row("byref.tag_text", reference.text(layout::REFERENCE_TAG_TEXT), "P".to_owned())?;
        }
        for class in [&pointer, &array] {
            let target = info(layout, handle(class)).word(layout.info_proto);
            row("info.proto", target, c_char.as_ptr() as u64)?;
        }
        row("info.length", info(layout, handle(&array)).word(layout.info_length), 3)?;
        row("type.mro", mro, Some(4))?;
        row("type.finalize", (had_finaliser, has_finaliser), (false, true))?;
        row("type.version", before != 0 && before != after, true)
    })())
}

/// Checks what ctypes knows of a simple type and of its instances.
fn classes(py: Python<'_>, layout: &Layout) -> PyResult<Result<(), Reason>> {
    let c_short = look(py, "ctypes", "c_short")?;
    let known = info(layout, handle(&c_short));
    let instance = c_short.call_with((-2,))?;
    let memory = handle(&instance).object(layout::CDATA_POINTER);
    let simple = look(py, "_ctypes", "_SimpleCData")?;
    Ok((|| {
        row("info.size", known.word(layout.info_size), 2)?;
        row("info.setfunc", known.word(layout.info_setfunc) != 0, true)?;
        row("info.getfunc", known.word(layout.info_getfunc) != 0, true)?;
        row("cdata.entry", handle(&instance).word(layout::CDATA_ENTRY), 0)?;
        let kind = Kind::Int(hotcall_core::CType::I16);
        row("cdata.pointer", memory.map(|memory| memory.word(kind.field()) as i64), Some(-2))?;
        row("type.new", handle(&simple).word(layout::TYPE_NEW) != 0, true)
    })())
}

/// Checks the rows of function objects and of their classes.
fn functions(py: Python<'_>, reader: &Reader<'_>) -> PyResult<Result<(), Reason>> {
    let layout = reader.layout;
    let ctypes = make::import(py, "ctypes")?;
    let (c_int, c_double) = (ctypes.attr("c_int")?, ctypes.attr("c_double")?);
    let class = samples::function(&[], &c_int, &[&c_double])?;
    let with_errno = samples::function(&["FUNCFLAG_USE_ERRNO"], &c_int, &[&c_double])?;
    let function = class.call_with((0,))?;
    let declared = make::tuple(py, [&c_double])?;
    let size: u64 = look(py, "_ctypes", "CFuncPtr")?.attr("__basicsize__")?.extract()?;
    let version = reader.classes.version(py, handle(&class));
    let of_class = reader.read(handle(&function), version);
    let inherited = reader.is_of_class(handle(&function));
    function.set_attr("restype", &py.None())?;
    function.set_attr("argtypes", &declared)?;
    let own = reader.read(handle(&function), version);
    let known = info(layout, handle(&class));
    let flags = info(layout, handle(&with_errno)).word(layout.info_flags);
    Ok((|| {
        row("function size", size, layout::FUNC_PARAMFLAGS.offset as u64 + 8)?;
        row("info.restype", known.word(layout.info_restype), c_int.as_ptr() as u64)?;
        row("info.argtypes", known.object(layout.info_argtypes).map(|t| t.items().len()), Some(1))?;
        row("info.flags", (known.word(layout.info_flags) & 0xff, flags & 0xff), (1, 9))?;
        let of_class = of_class.map_err(|refusal| refusal.to_string())?;
        row("info.converters", of_class.args.len(), 1)?;
        row("info.converters", of_class.args[0].rule, ArgRule::Simple(Kind::F64))?;
        row("info.inherited", inherited, true)?;
        let function = handle(&function);
        row("func.argtypes", function.word(layout::FUNC_ARGTYPES) != 0, true)?;
        let own = own.map_err(|refusal| refusal.to_string())?;
        row("func.converters", own.args.len(), 1)?;
        row("func.restype", matches!(own.result, ResultRule::Void), true)?;
        row("func.inherited", reader.is_of_class(function), false)
    })())
}
