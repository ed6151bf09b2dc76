//! The `orx` program.
fn main() {}
