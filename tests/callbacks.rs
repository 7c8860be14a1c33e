//! Callbacks, one property each: sorting and searching with Rust comparators, structs,
//! panics, recursion, threads, errno. Each holds with code of our own and with libffi.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::backtrace::Backtrace;
use std::cmp::Ordering;
use std::ffi::c_void;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use hotcall::{Callback, CallbackPtr, Engine, Error, Function, Library, Options, Typed, Value};

/// An engine that compiles, and one that cannot.
fn engines() -> [Engine; 2] {
    [false, true].map(|deny| Engine::new(Options { deny, ..Options::default() }))
}

/// A function of the C library.
fn libc(engine: &Engine, name: &str, signature: &str) -> Function {
    Library::this_with(engine).unwrap().function(name, signature).unwrap()
}

/// The function of a callback, as Rust sees one.
///
/// # Safety
/// `F` is the type of an unsafe C function of the callback's signature.
unsafe fn function<F: Copy>(callback: &Callback<'_>) -> F {
    let address = callback.as_ptr().address();
    assert_eq!(size_of::<F>(), size_of_val(&address));
    // SAFETY: the caller promises it.
    unsafe { std::mem::transmute_copy::<*const c_void, F>(&address) }
}

/// The order of what two pointers point to.
///
/// # Safety
/// They point to numbers.
unsafe fn order(a: *const i32, b: *const i32) -> Ordering {
    // SAFETY: the caller promises it.
    let [a, b] = [a, b].map(|number| unsafe { *number });
    a.cmp(&b)
}

/// What `qsort` is for numbers.
type Sort<'c> = fn(*mut i32, usize, usize, CallbackPtr<'c>);

#[test]
fn qsort_and_bsearch_with_typed_closures() {
    for engine in engines() {
        let calls = AtomicU32::new(0);
        let compare = Callback::typed_with(&engine, |a: *const i32, b: *const i32| {
            calls.fetch_add(1, SeqCst);
            // SAFETY: both functions pass addresses of numbers.
            unsafe { order(a, b) as i32 }
        })
        .unwrap();
        let mut numbers: Vec<i32> = (0..1000).map(|n| n * 7919 % 1000 - 500).collect();
        let qsort = libc(&engine, "qsort", "fn(void *, size_t, size_t, void *)");
        // SAFETY: `qsort` has this signature.
        let qsort: Typed<Sort<'_>> = unsafe { qsort.typed() }.unwrap();
        // SAFETY: there are as many numbers of 4 bytes.
        unsafe { qsort.call(numbers.as_mut_ptr(), numbers.len(), 4, compare.as_ptr()) };
        assert!(numbers.iter().copied().eq(-500..500), "{numbers:?}");
        assert!(calls.load(SeqCst) > 1000);

        let bsearch = libc(&engine, "bsearch", "fn(ptr, ptr, size_t, size_t, ptr) -> ptr");
        let find = |key: i32| {
            let args: [Value; 5] = [
                (&raw const key).into(),
                numbers.as_ptr().into(),
                numbers.len().into(),
                4_usize.into(),
                compare.as_ptr().into(),
            ];
            // SAFETY: as above.
            let Value::Pointer(at) = unsafe { bsearch.call(&args) }.unwrap() else { panic!() };
            (!at.is_null()).then(|| (at.addr() - numbers.as_ptr().addr()) / 4)
        };
        assert_eq!((find(-500), find(7), find(500)), (Some(0), Some(507), None));
    }
}

#[test]
fn qsort_with_values() {
    for engine in engines() {
        let compare = Callback::new_with(&engine, "fn(ptr, ptr) -> int", |args| match *args {
            // SAFETY: `qsort` passes addresses of numbers.
            [Value::Pointer(a), Value::Pointer(b)] => unsafe {
                Value::I32(order(a.cast(), b.cast()) as i32)
            },
            _ => unreachable!("the values are those of the signature"),
        })
        .unwrap();
        let mut numbers = [5, -3, 8, 0];
        let qsort = libc(&engine, "qsort", "fn(void *, size_t, size_t, void *)");
        let args =
            [(&raw mut numbers).into(), 4_usize.into(), 4_usize.into(), compare.as_ptr().into()];
        // SAFETY: there are 4 numbers of 4 bytes.
        unsafe { qsort.call(&args) }.unwrap();
        assert_eq!(numbers, [-3, 0, 5, 8]);
    }
}

hotcall::c_struct! {
    /// In registers of both kinds.
    #[derive(Debug, PartialEq)]
    struct Mixed {
        number: f64,
        count: i32,
    }
}

hotcall::c_struct! {
    /// In memory.
    #[derive(Debug, PartialEq)]
    struct Large {
        parts: Mixed,
        more: i64,
    }
}

#[test]
fn structs_by_value_come_and_go() {
    for engine in engines() {
        let grow = |small: Mixed, by: u8, large: Large, nothing: bool| Large {
            parts: Mixed { number: small.number + large.parts.number, count: i32::from(by) },
            more: large.more + i64::from(nothing),
        };
        let grow = Callback::typed_with(&engine, grow).unwrap();
        type Grow = unsafe extern "C" fn(Mixed, u8, Large, bool) -> Large;
        // SAFETY: that is its type.
        let grow_function: Grow = unsafe { function(&grow) };
        let small = Mixed { number: 1.5, count: 7 };
        let large = Large { parts: small, more: 40 };
        // SAFETY: it takes any values.
        let got = unsafe { grow_function(small, 200, large, true) };
        assert_eq!(got, Large { parts: Mixed { number: 3.0, count: 200 }, more: 41 });

        let swap = Callback::typed_with(&engine, |large: Large| large.parts).unwrap();
        // SAFETY: that is its type.
        let swap: unsafe extern "C" fn(Large) -> Mixed = unsafe { function(&swap) };
        // SAFETY: it takes any values.
        assert_eq!(unsafe { swap(large) }, small);
    }
}

#[test]
#[rustfmt::skip] // Twelve types in a row.
fn twelve_arguments_of_all_kinds() {
    type F = unsafe extern "C" fn(
        i8, f32, u16, f64, bool, i64, *const u8, isize, f32, u32, i16, usize,
    ) -> f32;
    for engine in engines() {
        let all = |a: i8, b: f32, c: u16, d: f64, e: bool, f: i64,
                   g: *const u8, h: isize, i: f32, j: u32, k: i16, l: usize| {
            let first = f32::from(a) + b + f32::from(c) + d as f32 + f32::from(u8::from(e)) + f as f32;
            first + g.addr() as f32 + h as f32 + i + j as f32 + f32::from(k) + l as f32
        };
        let all = Callback::typed_with(&engine, all).unwrap();
        // SAFETY: that is its type.
        let all: F = unsafe { function(&all) };
        let at = std::ptr::without_provenance(2048);
        // SAFETY: it takes any values.
        let got = unsafe { all(-1, 0.5, 2, 4.25, true, 16, at, -32, 0.125, 64, -128, 256) };
        assert_eq!(got, 2230.875);
    }
}

#[test]
fn a_panic_gives_zero_and_is_kept() {
    for engine in engines() {
        let half = Callback::typed_with(&engine, |n: i32| {
            assert!(n % 2 == 0, "{n} is odd");
            n / 2
        })
        .unwrap();
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn(i32) -> i32 = unsafe { function(&half) };
        // SAFETY: it takes any numbers.
        let got = [8, 7, 5, 6].map(|n| unsafe { call(n) });
        assert_eq!(got, [4, 0, 0, 3]);
        let panic = half.take_panic().unwrap();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "7 is odd");
        assert!(half.take_panic().is_none());

        let fill = |_: &[Value], bytes: &mut [u8]| {
            bytes.fill(7);
            panic!("filled");
        };
        let signature = "fn() -> {i64, i64, i64}";
        let fill = Callback::new_into_with(&engine, signature, fill).unwrap();
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn() -> [u64; 3] = unsafe { function(&fill) };
        // SAFETY: it takes nothing.
        assert_eq!(unsafe { call() }, [0; 3]);
        assert_eq!(*fill.take_panic().unwrap().downcast_ref::<&str>().unwrap(), "filled");
    }
}

#[test]
fn a_value_of_another_type_is_a_panic() {
    for engine in engines() {
        let wrong = Callback::new_with(&engine, "fn() -> i32", |_| Value::F64(1.0)).unwrap();
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn() -> i32 = unsafe { function(&wrong) };
        // SAFETY: it takes nothing.
        assert_eq!(unsafe { call() }, 0);
        let panic = wrong.take_panic().unwrap();
        let text = panic.downcast_ref::<String>().unwrap();
        assert_eq!(text, "a callback of type `fn() -> i32` gave a value of type f64");
    }
}

#[test]
fn what_cannot_be_declared() {
    let zero = |_: &[Value]| Value::Void;
    let error = |signature: &str| Callback::new(signature, zero).unwrap_err();
    assert!(matches!(error("fn() -> {i32}"), Error::CallbackResult { .. }));
    assert!(matches!(error("fn(long double)"), Error::LongDouble { .. }));
    assert!(matches!(error("fn(f32"), Error::Parse(_)));
    let error = Callback::new_into("fn() -> i32", |_, _| ()).unwrap_err();
    let text = "a callback of type `fn() -> i32` gives no struct; use `Callback::new`";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_thousand_deep() {
    for engine in engines() {
        // Each level calls the next through the same function of C.
        let this: Mutex<Option<usize>> = Mutex::new(None);
        let apply = Engine::global();
        let down = Callback::typed_with(&engine, |n: i32| {
            let address = this.lock().unwrap().unwrap() as *const c_void;
            let next = apply.function("down", address, "fn(i32) -> i32").unwrap();
            // SAFETY: this callback has that signature, and lives.
            let below = (n > 0).then(|| unsafe { next.call(&[Value::I32(n - 1)]) }.unwrap());
            below.map_or(0, |below| below.word() as i32 + 1)
        })
        .unwrap();
        *this.lock().unwrap() = Some(down.as_ptr().address().addr());
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn(i32) -> i32 = unsafe { function(&down) };
        // SAFETY: it goes down, and ends.
        assert_eq!(unsafe { call(1000) }, 1000);
    }
}

#[test]
fn any_thread_may_call() {
    for engine in engines() {
        let sum = Mutex::new(0);
        let add = Callback::typed_with(&engine, |n: i64| {
            *sum.lock().unwrap() += n;
            thread::current().id() == thread::current().id()
        })
        .unwrap();
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn(i64) -> bool = unsafe { function(&add) };
        thread::scope(|scope| {
            for _ in 0..4 {
                // SAFETY: it takes any numbers.
                scope.spawn(move || (1..=1000).for_each(|n| assert!(unsafe { call(n) })));
            }
        });
        assert_eq!(*sum.lock().unwrap(), 4 * 500_500);
    }
}

#[test]
fn callbacks_come_and_go_while_others_live() {
    for engine in engines() {
        let call = |callback: &Callback<'_>| {
            // SAFETY: that is its type.
            let call: unsafe extern "C" fn(usize) -> usize = unsafe { function(callback) };
            // SAFETY: it takes any number.
            unsafe { call(1) }
        };
        let make = |base: usize| Callback::typed_with(&engine, move |n: usize| n + base).unwrap();
        let kept: Vec<Callback<'static>> = (0..100).map(make).collect();
        for round in 0..20 {
            let passing: Vec<Callback<'static>> = (0..50).map(|n| make(n * round)).collect();
            for (n, callback) in passing.iter().enumerate() {
                assert_eq!(call(callback), 1 + n * round);
            }
        }
        for (base, callback) in kept.iter().enumerate() {
            assert_eq!(call(callback), 1 + base);
        }
        let compiles = engine.status().is_ok();
        assert_eq!(engine.usage().trampolines, if compiles { 100 } else { 0 });
    }
}

#[test]
fn callbacks_of_a_signature_share_their_code() {
    let [engine, _] = engines();
    let make = |signature: &str| Callback::new_with(&engine, signature, |args| args[0]).unwrap();
    let all: Vec<Callback<'static>> =
        ["fn(i32) -> i32", "fn(f64) -> f64"].into_iter().cycle().take(100).map(make).collect();
    assert_eq!(engine.usage().stubs, 2);
    // SAFETY: that is its type.
    let int: unsafe extern "C" fn(i32) -> i32 = unsafe { function(&all[98]) };
    // SAFETY: that is its type.
    let double: unsafe extern "C" fn(f64) -> f64 = unsafe { function(&all[99]) };
    // SAFETY: it takes any number.
    assert_eq!(unsafe { int(-7) }, -7);
    // SAFETY: it takes any number.
    assert_eq!(unsafe { double(0.5) }, 0.5);
}

fn set_errno(value: i32) {
    // SAFETY: it has no preconditions.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's errno.
    unsafe { *errno = value };
}

#[test]
fn errno_goes_past() {
    for engine in engines() {
        let read = Callback::typed_with(&engine, |set: i32| {
            let found = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            set_errno(set);
            found
        })
        .unwrap();
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn(i32) -> i32 = unsafe { function(&read) };
        set_errno(11);
        // SAFETY: it takes any number.
        let found = unsafe { call(22) };
        assert_eq!((found, io::Error::last_os_error().raw_os_error()), (11, Some(22)));
    }
}

#[test]
fn what_the_closure_owns_is_dropped_once() {
    for engine in engines() {
        let owned = std::sync::Arc::new(());
        let mine = owned.clone();
        let callback = Callback::typed_with(&engine, move || {
            let _mine = &mine;
        })
        .unwrap();
        // SAFETY: that is its type.
        let call: unsafe extern "C" fn() = unsafe { function(&callback) };
        // SAFETY: it takes nothing.
        unsafe { call() };
        assert_eq!(std::sync::Arc::strong_count(&owned), 2);
        drop(callback);
        assert_eq!(std::sync::Arc::strong_count(&owned), 1);
    }
}

#[test]
fn unwinders_find_their_way_through_callbacks() {
    for engine in engines() {
        let seen = Mutex::new(Vec::new());
        let look = || {
            seen.lock().unwrap().push(Backtrace::force_capture().to_string());
            0
        };
        let typed = Callback::typed_with(&engine, |_: *const i32, _: *const i32| look()).unwrap();
        let values =
            Callback::new_with(&engine, typed.signature(), |_| Value::I32(look())).unwrap();
        let qsort = libc(&engine, "qsort", "fn(void *, size_t, size_t, void *)");
        for callback in [typed, values] {
            let mut pair = [2, 1];
            let at = (&raw mut pair).into();
            let args = [at, 2_usize.into(), 4_usize.into(), callback.as_ptr().into()];
            // SAFETY: there are 2 numbers of 4 bytes.
            unsafe { qsort.call(&args) }.unwrap();
        }
        for seen in seen.into_inner().unwrap() {
            // What called this test is behind the callback and behind C.
            assert!(seen.contains("__rust_begin_short_backtrace"), "{seen}");
        }
    }
}

#[test]
fn callbacks_go_to_other_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Callback::typed(|| ()).unwrap());
}
