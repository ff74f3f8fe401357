//! The key index of a data file, and a batch of which a fifth is in that file.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tidegate::micro::{Asking, Building, Probing};

/// Bytes of an id.
const ID_BYTES: u32 = 16;
/// Ids of a batch.
const ASKED: u32 = 100_000;

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, ids: u32) -> Bencher<'a, 'b> {
    bencher.counter(ItemsCount::new(ids)).counter(BytesCount::new(ids * ID_BYTES))
}

#[divan::bench(args = [1_000_000], sample_size = 1, sample_count = 10)]
fn build(bencher: Bencher, rows: u32) {
    let building = Building::prepare(rows);
    counted(bencher, rows).bench(|| building.run());
}

/// What is done with a batch's ids once, before the first file.
#[divan::bench(args = [ASKED], sample_size = 1)]
fn sort(bencher: Bencher, ids: u32) {
    let asking = Asking::prepare(1_000_000, ids);
    counted(bencher, ids).bench(|| asking.run());
}

#[divan::bench(args = [1_000_000, 10_000_000], sample_size = 1, sample_count = 50)]
fn probe(bencher: Bencher, rows: u32) {
    let (probing, asked) = (Probing::prepare(rows), Asking::prepare(rows, ASKED).run());
    counted(bencher, ASKED).bench(|| probing.run(&asked));
}
