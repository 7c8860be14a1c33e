//! Compiles `fixtures.c` into a static library that the crate is linked with.
//! `pyfix.c` is not part of it: the tests in Python compile that themselves.

fn main() {
    println!("cargo::rerun-if-changed=src/fixtures.c");
    cc::Build::new().file("src/fixtures.c").opt_level(2).compile("hotcall_fixtures");
}
