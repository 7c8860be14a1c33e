//! What the integration tests share: the way to a function of the fixtures.

use hotcall::{Engine, Function, Library};

/// The function `name` of `c-fixtures/src/fixtures.c`, declared like this.
pub(crate) fn fixture(engine: &Engine, name: &str, signature: &str) -> Function {
    // SAFETY: the fixtures have no initialisers.
    let library = unsafe { Library::open_with(engine, hotcall_fixtures::SHARED) }.unwrap();
    library.function(name, signature).unwrap()
}
