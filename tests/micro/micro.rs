//! Micro benchmarks of the hot rooms, run by `scripts/micro`.
//!
//! Items are records, ids or rows. Bytes are those of the articles' JSON, and of the ids where only they are looked at.

mod decode;
mod dedupe;
mod index;
mod write;

fn main() {
    divan::main();
}
