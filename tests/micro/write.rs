//! Rows to Parquet, on as many threads as a run would use.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tidegate::micro::{Writing, chunk};

/// Rows of one call.
const ARTICLES: u32 = 100_000;

#[divan::bench(args = ["zstd", "snappy"], sample_size = 1, sample_count = 10)]
fn parquet(bencher: Bencher, codec: &str) {
    let writing = Writing::prepare(ARTICLES, codec);
    let bytes = chunk(ARTICLES).arena.len();
    bencher.counter(ItemsCount::new(ARTICLES)).counter(BytesCount::new(bytes)).bench(|| writing.run());
}
