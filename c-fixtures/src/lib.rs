//! C functions that tests and benches call.
