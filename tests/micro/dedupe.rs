//! Versions offered to an empty batch; a fifth of them are of ids that came before.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tidegate::micro::Deduping;

/// Bytes of an id.
const ID_BYTES: u32 = 16;

#[divan::bench(args = [100_000, 1_000_000], sample_size = 1, sample_count = 20)]
fn offer(bencher: Bencher, versions: u32) {
    let deduping = Deduping::prepare(versions);
    let bencher = bencher.counter(ItemsCount::new(versions)).counter(BytesCount::new(versions * ID_BYTES));
    bencher.bench(|| deduping.run());
}
