//! JSON to columns, one chunk of the pull at a time; and what other decoders make of the same bytes.
//!
//! Only ours and `arrow_json` end in Arrow columns. The others fill a struct whose texts are borrowed and whose time is still a text:
//! what they take is less than a decoder on top of them would.

use std::sync::LazyLock;

use arrow_json::ReaderBuilder;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use serde::Deserialize;
use tidegate::micro::{Decoding, chunk};
use tidegate::source::Chunk;

/// About 1 MiB, as the pull cuts them.
const RECORDS: u32 = 1_700;

static CHUNK: LazyLock<Chunk> = LazyLock::new(|| chunk(RECORDS));

#[derive(Deserialize)]
#[expect(dead_code, reason = "filled to be measured, never read")]
struct Article<'a> {
    id: &'a str,
    title: &'a str,
    source: &'a str,
    url: &'a str,
    content: &'a str,
    published_at: &'a str,
    version: i64,
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>) -> Bencher<'a, 'b> {
    bencher.counter(ItemsCount::new(RECORDS)).counter(BytesCount::new(CHUNK.arena.len()))
}

/// Calls `parse` with each record.
fn each(mut parse: impl FnMut(&'static [u8])) {
    for record in &CHUNK.records {
        parse(CHUNK.bytes(record.value.expect("every record has a value")));
    }
}

#[divan::bench]
fn tidegate(bencher: Bencher) {
    let mut decoding = Decoding::prepare();
    counted(bencher).bench_local(|| decoding.run(&CHUNK));
}

#[divan::bench]
fn arrow_json(bencher: Bencher) {
    let records = usize::try_from(RECORDS).expect("32 bits fit");
    let mut decoder = ReaderBuilder::new(Decoding::schema()).with_batch_size(records).build_decoder().expect("it knows the types");
    let mut decode = || {
        each(|record| assert_eq!(decoder.decode(record).expect("it is JSON"), record.len()));
        decoder.flush().expect("every value fits")
    };
    assert_eq!(decode(), Some(Decoding::prepare().run(&CHUNK)), "both make the same rows");
    counted(bencher).bench_local(decode);
}

#[divan::bench]
fn serde_json(bencher: Bencher) {
    counted(bencher).bench(|| {
        each(|record| {
            black_box(serde_json::from_slice::<Article>(record).expect("it is JSON"));
        });
    });
}

#[divan::bench]
fn sonic_rs(bencher: Bencher) {
    counted(bencher).bench(|| {
        each(|record| {
            black_box(sonic_rs::from_slice::<Article>(record).expect("it is JSON"));
        });
    });
}

/// It writes over its input, so that each round gets a copy, which is not measured.
#[divan::bench]
fn simd_json(bencher: Bencher) {
    let mut buffers = simd_json::Buffers::default();
    counted(bencher).with_inputs(|| CHUNK.arena.clone()).bench_local_values(|mut arena| {
        for record in &CHUNK.records {
            let value = &mut arena[record.value.expect("every record has a value").range()];
            black_box(simd_json::serde::from_slice_with_buffers::<Article>(value, &mut buffers).expect("it is JSON"));
        }
        arena
    });
}
