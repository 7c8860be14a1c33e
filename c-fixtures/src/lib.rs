//! Where the C functions are that tests and benches call. What each does, and
//! how it is declared, is said in `fixtures.c`.

/// The path of the shared library.
pub const SHARED: &str = env!("HOTCALL_FIXTURES");
