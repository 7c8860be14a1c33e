//! Functions at the other end of stubs, by both conventions: each takes all
//! that a call can pass, and hands it to the world. The gates in front of them
//! note what no Rust function sees: the stack pointer, and AL.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use hotcall_core::{Abi, Class, Place, Signature};
use hotcall_tracer::{Effect, Entry, Helper};

use super::world::{Word, arrive, help, miss, world};

/// The stack pointer at the last foreign call, on arrival.
pub(super) static STACK: AtomicU64 = AtomicU64::new(0);
/// RAX at the last foreign call.
pub(super) static RAX: AtomicU64 = AtomicU64::new(0);
/// Where the gate leads.
static BEHIND: AtomicU64 = AtomicU64::new(0);

/// Makes the gate lead to the recorder for the next foreign call, if one comes.
pub(super) fn expect_next() {
    if let Some(behind) = world(|world| world.to_come.last().map(|(_, next)| recorder(next))) {
        BEHIND.store(behind, SeqCst);
    }
}

/// What every foreign call of a random trace calls.
#[unsafe(naked)]
pub(super) extern "sysv64" fn gate() {
    naked_asm!(
        "mov [rip + {stack}], rsp",
        "mov [rip + {rax}], rax",
        "jmp [rip + {behind}]",
        stack = sym STACK,
        rax = sym RAX,
        behind = sym BEHIND,
    )
}

/// Defines a recorder: a function with these named registers and many words
/// of stack.
macro_rules! recorder {
    ($name:ident $abi:literal [$($int:ident)*] [$($float:ident)*] <$($ty:ident)*> [$($reg:ident: $kind:ty),*]) => {
        #[allow(clippy::too_many_arguments, reason = "as many as there are places")]
        extern $abi fn $name<R: Word $(, $ty: Word)*>(
            $($reg: $kind,)*
            s0: u64, s1: u64, s2: u64, s3: u64, s4: u64, s5: u64, s6: u64, s7: u64, s8: u64,
            s9: u64, s10: u64, s11: u64, s12: u64, s13: u64, s14: u64, s15: u64, s16: u64,
            s17: u64, s18: u64, s19: u64,
        ) -> R {
            let stack = [
                s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17,
                s18, s19,
            ];
            R::of(arrive(&[$($int.bits()),*], &[$($float.bits()),*], &stack))
        }
    };
}

recorder! {
    system_v "sysv64" [i0 i1 i2 i3 i4 i5] [f0 f1 f2 f3 f4 f5 f6 f7] <>
    [i0: u64, i1: u64, i2: u64, i3: u64, i4: u64, i5: u64,
     f0: f64, f1: f64, f2: f64, f3: f64, f4: f64, f5: f64, f6: f64, f7: f64]
}

recorder! {
    win64 "win64" [r0 r1 r2 r3] [r0 r1 r2 r3] <A B C D> [r0: A, r1: B, r2: C, r3: D]
}

/// The recorder for calls of this signature, as an address.
fn recorder(signature: &Signature) -> u64 {
    let float = matches!(signature.result().class(), Class::Float32 | Class::Float64);
    let address = match (signature.abi(), float) {
        (Abi::SystemV, false) => system_v::<u64> as *const (),
        (Abi::SystemV, true) => system_v::<f64> as *const (),
        (Abi::Win64, false) => win64_recorder::<u64>(signature),
        (Abi::Win64, true) => win64_recorder::<f64>(signature),
    };
    address.addr() as u64
}

/// In Win64 a register's position says which of two registers it is.
fn win64_recorder<R: Word>(signature: &Signature) -> *const () {
    let places = signature
        .abi()
        .places(signature.args(), signature.result())
        .expect("arguments with places");
    let float = |index| places.args.contains(&Place::Fp(index));
    match float(0) {
        true => second::<R, f64>([float(1), float(2), float(3)]),
        false => second::<R, u64>([float(1), float(2), float(3)]),
    }
}

fn second<R: Word, A: Word>([b, c, d]: [bool; 3]) -> *const () {
    match b {
        true => last::<R, A, f64>([c, d]),
        false => last::<R, A, u64>([c, d]),
    }
}

fn last<R: Word, A: Word, B: Word>(floats: [bool; 2]) -> *const () {
    match floats {
        [false, false] => win64::<R, A, B, u64, u64> as *const (),
        [false, true] => win64::<R, A, B, u64, f64> as *const (),
        [true, false] => win64::<R, A, B, f64, u64> as *const (),
        [true, true] => win64::<R, A, B, f64, f64> as *const (),
    }
}

/// The fallback of stubs that are entered by System V.
pub(super) extern "sysv64" fn fallback_system_v(
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
) -> u64 {
    miss(&[a, b, c, d, e, f])
}

/// The fallback of stubs that are entered by Win64.
pub(super) extern "win64" fn fallback_win64(a: u64, b: u64, c: u64, d: u64) -> u64 {
    miss(&[a, b, c, d])
}

/// Defines a helper of one signature by both conventions, and its descriptions:
/// with an effect and without.
macro_rules! helper {
    ($module:ident $kind:ident $name:literal $pure:literal ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        mod $module {
            use super::*;

            extern "sysv64" fn system_v($($arg: $ty),*) $(-> $ret)? {
                let _word = help($name, &[$($arg.bits()),*]);
                $(<$ret as Word>::of(_word))?
            }

            extern "win64" fn win64($($arg: $ty),*) $(-> $ret)? {
                let _word = help($name, &[$($arg.bits()),*]);
                $(<$ret as Word>::of(_word))?
            }

            extern "sysv64" fn pure_system_v($($arg: $ty),*) $(-> $ret)? {
                let _word = help($pure, &[$($arg.bits()),*]);
                $(<$ret as Word>::of(_word))?
            }

            extern "win64" fn pure_win64($($arg: $ty),*) $(-> $ret)? {
                let _word = help($pure, &[$($arg.bits()),*]);
                $(<$ret as Word>::of(_word))?
            }

            /// Only the address of an entry counts for a stub, which calls it
            /// by the convention that it is itself entered by.
            fn describe(name: &'static str, effect: Effect, entry: *const ()) -> Helper {
                type Function = unsafe extern "C-unwind" fn($($ty),*) $(-> $ret)?;
                // SAFETY: both are addresses of functions, and nobody calls
                // through this one.
                let entry = unsafe { std::mem::transmute::<*const (), Function>(entry) };
                Helper { name, entry: Entry::$kind(entry), effect }
            }

            pub(super) fn all() -> [[Helper; 2]; 2] {
                [
                    [
                        describe($name, Effect::Effect, system_v as *const ()),
                        describe($pure, Effect::Read, pure_system_v as *const ()),
                    ],
                    [
                        describe($name, Effect::Effect, win64 as *const ()),
                        describe($pure, Effect::Read, pure_win64 as *const ()),
                    ],
                ]
            }
        }
    };
}

helper!(w W "w" "pure_w" () -> u64);
helper!(wv WV "wv" "pure_wv" (a: u64));
helper!(ww WW "ww" "pure_ww" (a: u64) -> u64);
helper!(www WWW "www" "pure_www" (a: u64, b: u64) -> u64);
helper!(wwww WWWW "wwww" "pure_wwww" (a: u64, b: u64, c: u64) -> u64);
helper!(fw FW "fw" "pure_fw" (a: f64) -> u64);
helper!(wf WF "wf" "pure_wf" (a: u64) -> f64);

/// One helper of each kind that stubs entered by `host` can call, with an
/// effect, and one without. They live as long as the process.
pub(super) fn helpers(host: Abi) -> &'static [[Helper; 2]] {
    let all = [w::all(), wv::all(), ww::all(), www::all(), wwww::all(), fw::all(), wf::all()];
    let of_host = all.map(|[system_v, win64]| match host {
        Abi::SystemV => system_v,
        Abi::Win64 => win64,
    });
    Box::leak(Box::new(of_host))
}
