//! The edge of the program.
fn main() {}
