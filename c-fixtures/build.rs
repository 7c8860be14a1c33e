//! Compiles `fixtures.c` into a shared library, which is where foreign
//! functions live. `pyfix.c` is not part of it: the tests in Python compile
//! that themselves.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/fixtures.c");
    let shared = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("fixtures.so");
    let status = cc::Build::new()
        .opt_level(2)
        .pic(true)
        .get_compiler()
        .to_command()
        .args(["-shared", "src/fixtures.c", "-o"])
        .arg(&shared)
        .status()
        .expect("the C compiler starts");
    assert!(status.success(), "{} was not made", shared.display());
    println!("cargo::rustc-env=HOTCALL_FIXTURES={}", shared.display());
}
