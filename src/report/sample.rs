//! Reports for the tests of this room.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::counts::Counts;
use crate::offsets::Offsets;
use crate::report::{BatchReport, ErrorReport, FilesReport, Head, OffsetsReport, Outcome, Report};
use crate::storage::Requests;

const TOPIC: &str = "articles.raw.v1";

/// A run that found nothing, with everything unknown that can be.
pub(super) fn nothing_new() -> Report {
    Report {
        head: Head { tidegate: "0.1.0", command: "run", job: "articles".into() },
        table: "demo.news.articles_raw".into(),
        branch: "main".into(),
        topic: TOPIC.into(),
        run_id: "6f9619ff-8b86-4d01-b42d-00cf4fc964ff".into(),
        outcome: Outcome::NothingNew,
        exit_code: 0,
        batches: vec![],
        records: Counts::default(),
        remaining: Some(0),
        lag_records: Some(0),
        lag_seconds: None,
        watermark: None,
        started_at: "2026-11-20T10:00:00.000000Z".into(),
        duration_ms: 312,
        requests: Requests { get: 3, put: 5, ..Requests::default() },
        warnings: vec![],
        error: None,
    }
}

/// A run of one batch over two partitions.
pub(super) fn committed() -> Report {
    committed_batches(&[12])
}

/// A run of batches with these numbers.
pub(super) fn committed_batches(numbers: &[u64]) -> Report {
    let batches: Vec<_> = (0..).zip(numbers).map(|(i, &number)| batch(i, number)).collect();
    let mut records = Counts::default();
    for batch in &batches {
        records += batch.records;
    }
    Report {
        outcome: Outcome::Committed,
        batches,
        records,
        lag_seconds: Some(12.5),
        watermark: Some("2026-11-20T07:59:47.500000Z".into()),
        duration_ms: 1_234,
        ..nothing_new()
    }
}

fn batch(i: i64, number: u64) -> BatchReport {
    let at = |i: i64| BTreeMap::from([(TOPIC.to_owned(), Offsets::from([(0, 1_000_000 * i), (1, 234_567 * i), (7, 99)]))]);
    BatchReport {
        batch: number,
        epoch: 0,
        batch_id: "ab".repeat(32),
        snapshot_id: 5_912_384_756_102_938_475,
        operation: "overwrite".into(),
        offsets: OffsetsReport { start: at(i), end: at(i + 1) },
        records: Counts { read: 1_234_567, duplicate: 34_567, updated: 1_000_000, inserted: 200_000, ..Counts::default() },
        watermark: Some("2026-11-20T07:59:47.500000Z".into()),
        attempts: 1,
        files: FilesReport {
            data_files: 3,
            data_bytes: 12_897_485,
            delete_files: 2,
            rewritten_files: 0,
            carried_rows: 0,
            table_files: 120,
            files_searched: 4,
            files_indexed: 3,
            search_requests: 14,
            search_bytes: 3_400_000,
        },
        cut: None,
        duration_ms: 1_100,
    }
}

/// Any report, some of them far too long for a result file.
pub(super) fn reports() -> impl Strategy<Value = Report> {
    let text = || prop_oneof![4 => ".{0,20}", 1 => "\\PC{0,300}", 1 => "[\\x00-\\x1f\"\\\\é]{0,1500}"];
    let texts = move || prop::collection::vec(text(), 0..12);
    let outcome = prop::sample::select(vec![
        Outcome::Committed,
        Outcome::NothingNew,
        Outcome::Skipped,
        Outcome::Overtaken,
        Outcome::Interrupted,
        Outcome::Failed,
    ]);
    let names = [text(), text(), text(), text(), text(), text()];
    let numbers = (any::<u8>(), prop::option::of(any::<u64>()), prop::option::of(any::<f64>()), any::<u64>());
    let error = prop::option::of((text(), texts(), prop::option::of(text())));
    (names, outcome, numbers, prop::collection::vec(batches(), 0..8), any::<[u32; 12]>(), texts(), prop::option::of(text()), error)
        .prop_map(|(names, outcome, numbers, batches, counts, warnings, watermark, error)| {
            let [job, table, branch, topic, run_id, started_at] = names;
            let (exit_code, remaining, lag_seconds, duration_ms) = numbers;
            Report {
                head: Head { job, ..nothing_new().head },
                table,
                branch,
                topic,
                run_id,
                outcome,
                exit_code,
                batches,
                records: records(counts),
                remaining,
                lag_records: remaining,
                lag_seconds,
                watermark,
                started_at,
                duration_ms,
                requests: Requests::default(),
                warnings,
                error: error.map(|(message, causes, hint)| ErrorReport { message, causes, hint }),
            }
        })
}

fn batches() -> impl Strategy<Value = BatchReport> {
    let offsets = || prop::collection::btree_map(0..9_999_i32, 0..i64::MAX, 0..150);
    (any::<[u64; 4]>(), any::<i64>(), offsets(), offsets(), any::<[u32; 12]>(), prop::option::of(".{0,40}")).prop_map(
        |(n, snapshot_id, start, end, counts, cut)| BatchReport {
            batch: n[0],
            epoch: n[1],
            batch_id: "ab".repeat(32),
            snapshot_id,
            operation: "append".into(),
            offsets: OffsetsReport {
                start: BTreeMap::from([(TOPIC.to_owned(), start)]),
                end: BTreeMap::from([(TOPIC.to_owned(), end)]),
            },
            records: records(counts),
            watermark: None,
            attempts: 1,
            files: FilesReport { data_bytes: n[2], ..FilesReport::default() },
            cut,
            duration_ms: n[3],
        },
    )
}

fn records(counts: [u32; 12]) -> Counts {
    let [rejected, late, filtered, duplicate, stale, inserted, updated, deleted, noop, collapsed, soft_deleted, _] =
        counts.map(u64::from);
    let records =
        Counts { rejected, late, filtered, duplicate, stale, inserted, updated, deleted, noop, collapsed, soft_deleted, read: 0 };
    Counts { read: records.sum(), ..records }
}
