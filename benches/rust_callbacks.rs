//! What a callback costs, in ratios to a C function that does the same, called through
//! a pointer. `typed` and `values` are closures with code of our own, `generic` is a
//! typed closure where there is no executable memory, and `libffi` is libffi's own
//! closure.
//!
//! `cargo bench` prints for each way the least time of a call, then its ratio
//! by the least times and in the median of the rounds. With `--test` it only
//! shows that it runs.

mod ways;

use std::ffi::c_void;
use std::hint::black_box;
use std::time::Instant;

use hotcall::{Callback, Engine, Options, Value};
use libffi::low::ffi_cif;
use libffi::middle::{Cif, Closure, Type};

use ways::{Way, compare};

/// Compares the ways to call back a function whose arguments `$arg`, and result, are
/// all of one type.
macro_rules! case {
    (@ $arg:ident $($rust:tt)*) => { $($rust)* };
    (# $($arg:ident)*) => { [$(stringify!($arg)),*].len() };
    ($criterion:expr, fn($($arg:ident)*), $variant:ident $rust:ident, $body:expr) => {{
        type Function = unsafe extern "C" fn($(case!(@ $arg $rust)),*) -> $rust;
        extern "C" fn direct($($arg: $rust),*) -> $rust {
            $body
        }
        unsafe extern "C" fn raw(
            _: &ffi_cif,
            result: &mut $rust,
            args: *const *const c_void,
            _: &(),
        ) {
            // SAFETY: there are as many arguments, of this type.
            let [$($arg),*] = unsafe { *args.cast::<[*const $rust; case!(# $($arg)*)]>() };
            // SAFETY: as above.
            $(let $arg = unsafe { *$arg };)*
            *result = $body;
        }
        let denied = Engine::new(Options { deny: true, ..Options::default() });
        let typed = Callback::typed(|$($arg: $rust),*| -> $rust { $body }).unwrap();
        let generic =
            Callback::typed_with(&denied, |$($arg: $rust),*| -> $rust { $body }).unwrap();
        let values = Callback::new(typed.signature(), |args| {
            let [$(Value::$variant($arg)),*] = *args else { unreachable!() };
            Value::$variant($body)
        })
        .unwrap();
        let cif = Cif::new([$(case!(@ $arg Type::$rust())),*], Type::$rust());
        let libffi = Closure::new(cif, raw, &());
        let run = |name, address: *const c_void| {
            // SAFETY: all are addresses of functions of this type.
            let function: Function = unsafe { std::mem::transmute(black_box(address)) };
            let run = move |calls: u64| {
                let start = Instant::now();
                let mut last = 0 as $rust;
                for index in 0..calls {
                    $(let $arg = index as $rust;)*
                    // SAFETY: they take any numbers.
                    last = unsafe { function($($arg),*) };
                }
                black_box(last);
                start.elapsed()
            };
            Way { name, run: Box::new(run) }
        };
        let mut ways = [
            run("direct", direct as *const c_void),
            run("typed", typed.as_ptr().address()),
            run("values", values.as_ptr().address()),
            run("generic", generic.as_ptr().address()),
            run("libffi", *libffi.code_ptr() as *const c_void),
        ];
        let gains = [("libffi", "typed"), ("libffi", "values")];
        compare($criterion, typed.signature(), &mut ways, &gains);
    }};
}

fn main() {
    let criterion = &mut ways::criterion();
    case!(criterion, fn(a), I32 i32, a.wrapping_add(1));
    case!(criterion, fn(a b), I64 i64, i64::from(a > b) - i64::from(a < b));
    case!(criterion, fn(a), F64 f64, a * 0.5);
    case!(criterion, fn(a b c d e f), I32 i32, a ^ b ^ c ^ d ^ e ^ f);
}
