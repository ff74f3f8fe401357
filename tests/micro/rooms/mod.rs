//! The hot rooms as the benchmarks of `scripts/micro` drive them: each is set up once, then does a batch's work at every call.
//!
//! A part of the library in tests and in builds for benchmarks only, so that benchmarks reach rooms that the product keeps to
//! itself. Only calls into those rooms are here; what stands around them in a run (threads, waiting, the broker) is for
//! `scripts/bench`.

#![expect(clippy::unwrap_used, reason = "a benchmark ends with the first surprise")]

mod articles;
mod decode;
mod dedupe;
mod index;
mod write;

pub use articles::chunk;
pub use decode::Decoding;
pub use dedupe::{Deduping, Survivors};
pub use index::{Asked, Asking, Building, Probing};
pub use write::Writing;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_article_is_of_the_reference_size_and_becomes_a_row() {
        let chunk = chunk(100);
        assert!((60_000..65_000).contains(&chunk.arena.len()), "{} bytes", chunk.arena.len());
        assert_eq!(Decoding::prepare().run(&chunk).num_rows(), 100);
    }

    #[test]
    fn a_fifth_of_what_dedupe_is_offered_comes_again() {
        let ids: BTreeSet<u64> = articles::editions(10_000).iter().map(|edition| edition.number).collect();
        assert!((7_900..8_100).contains(&ids.len()), "{} ids", ids.len());
        assert_eq!(Deduping::prepare(10_000).run().count(), ids.len());
    }

    #[test]
    fn a_fifth_of_the_ids_asked_for_is_found_with_its_versions() {
        for rows in [1_000, 20_000] {
            let found = Probing::prepare(rows).run(&Asking::prepare(rows, 1_000).run());
            assert_eq!(found.iter().map(|version| version.len()).collect::<Vec<_>>(), [200, 200], "{rows} rows");
        }
    }

    #[test]
    fn written_files_are_smaller_than_their_articles() {
        for codec in ["zstd", "snappy"] {
            let bytes = Writing::prepare(1_000, codec).run();
            assert!((100_000..500_000).contains(&bytes), "{codec}: {bytes} bytes");
        }
    }
}
