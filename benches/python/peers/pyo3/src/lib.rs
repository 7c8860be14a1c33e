//! The functions of functions.h, wrapped with PyO3. They hold the GIL, as PyO3's
//! functions do unless told otherwise.

#![allow(unsafe_code, reason = "calls C functions, none of which asks for anything")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_double, c_int, c_long, c_void};

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[repr(C)]
#[derive(Clone, Copy)]
struct RawPoint {
    x: c_double,
    y: c_double,
}

mod c {
    use super::*;

    #[link(name = "functions.so", kind = "dylib", modifiers = "+verbatim")]
    unsafe extern "C" {
        pub safe fn answer() -> c_int;
        pub safe fn add(a: c_int, b: c_int) -> c_int;
        pub safe fn negate(a: c_int) -> c_int;
        pub safe fn large(a: c_long) -> c_long;
        pub safe fn half(a: c_double) -> c_double;
        pub safe fn scale(a: c_double, b: c_double) -> c_double;
        pub fn length(text: *const c_char) -> usize;
        pub safe fn name(index: c_int) -> *const c_char;
        pub safe fn is_even(a: c_int) -> bool;
        pub safe fn is_null(address: *mut c_void) -> c_int;
        pub safe fn nothing(a: c_int);
        pub safe fn six(a: c_int, b: c_int, c: c_int, d: c_int, e: c_int, f: c_int) -> c_int;
        pub safe fn ten(
            a: c_int, b: c_double, c: c_int, d: c_double, e: c_int,
            f: c_double, g: c_int, h: c_double, i: c_int, j: c_double,
        ) -> c_double;
        pub safe fn norm(p: RawPoint) -> c_double;
        pub safe fn shift(p: &mut RawPoint, by: c_double);
        pub fn total(bytes: *const c_char, size: usize) -> c_long;
        pub fn sum(items: *const c_double, size: usize) -> c_double;
        pub fn sum_ints(count: c_int, ...) -> c_int;
        pub safe fn split(a: c_double, whole: &mut c_int) -> c_double;
        pub safe fn count(call: extern "C" fn(c_int) -> c_int, times: c_int) -> c_long;
    }
}

#[pyclass]
struct Point(RawPoint);

#[pymethods]
impl Point {
    #[new]
    fn new(x: f64, y: f64) -> Point {
        Point(RawPoint { x, y })
    }
}

thread_local! {
    static CALLABLE: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

extern "C" fn call_counter(number: c_int) -> c_int {
    Python::attach(|py| {
        CALLABLE.with_borrow(|callable| {
            let result = callable.as_ref().map(|callable| callable.call1(py, (number,)));
            result.and_then(|result| result.ok()?.extract(py).ok()).unwrap_or(0)
        })
    })
}

#[pymodule]
mod wrapped_pyo3 {
    use super::*;

    #[pymodule_export]
    use super::Point;

    #[pyfunction]
    fn answer() -> i32 {
        c::answer()
    }

    #[pyfunction]
    fn add(a: i32, b: i32) -> i32 {
        c::add(a, b)
    }

    #[pyfunction]
    fn negate(a: i32) -> i32 {
        c::negate(a)
    }

    #[pyfunction]
    fn large(a: i64) -> i64 {
        c::large(a)
    }

    #[pyfunction]
    fn half(a: f64) -> f64 {
        c::half(a)
    }

    #[pyfunction]
    fn scale(a: f64, b: f64) -> f64 {
        c::scale(a, b)
    }

    #[pyfunction]
    fn length(text: &Bound<'_, PyBytes>) -> usize {
        // SAFETY: CPython's bytes end with a null byte.
        unsafe { c::length(text.as_bytes().as_ptr().cast()) }
    }

    #[pyfunction]
    fn name<'py>(py: Python<'py>, index: i32) -> Bound<'py, PyBytes> {
        // SAFETY: the function gives a string that lives for ever.
        PyBytes::new(py, unsafe { CStr::from_ptr(c::name(index)) }.to_bytes())
    }

    #[pyfunction]
    fn is_even(a: i32) -> bool {
        c::is_even(a)
    }

    #[pyfunction]
    #[pyo3(signature = (address))]
    fn is_null(address: Option<usize>) -> i32 {
        c::is_null(address.unwrap_or(0) as *mut c_void)
    }

    #[pyfunction]
    fn nothing(a: i32) {
        c::nothing(a);
    }

    #[pyfunction]
    fn six(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) -> i32 {
        c::six(a, b, c, d, e, f)
    }

    #[pyfunction]
    #[allow(clippy::too_many_arguments, reason = "as many as the C function has")]
    fn ten(a: i32, b: f64, c: i32, d: f64, e: i32, f: f64, g: i32, h: f64, i: i32, j: f64) -> f64 {
        c::ten(a, b, c, d, e, f, g, h, i, j)
    }

    #[pyfunction]
    fn norm(p: &Point) -> f64 {
        c::norm(p.0)
    }

    #[pyfunction]
    fn shift(p: &mut Point, by: f64) {
        c::shift(&mut p.0, by);
    }

    #[pyfunction]
    fn total(text: &[u8]) -> i64 {
        // SAFETY: the address and size of the bytes.
        unsafe { c::total(text.as_ptr().cast(), text.len()) }
    }

    #[pyfunction]
    fn sum(items: PyBuffer<f64>) -> f64 {
        // SAFETY: the buffer has so many doubles.
        unsafe { c::sum(items.buf_ptr().cast(), items.item_count()) }
    }

    #[pyfunction]
    fn sum_ints(a: i32, b: i32, c: i32) -> i32 {
        // SAFETY: three ints follow.
        unsafe { c::sum_ints(3, a, b, c) }
    }

    #[pyfunction]
    fn split(a: f64) -> (f64, i32) {
        let mut whole = 0;
        let half = c::split(a, &mut whole);
        (half, whole)
    }

    #[pyfunction]
    fn count(call: Py<PyAny>, times: i32) -> i64 {
        CALLABLE.set(Some(call));
        c::count(call_counter, times)
    }
}
