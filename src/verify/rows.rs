//! Accounts balance: each record read has one outcome, and the table's rows move by what was inserted, deleted and collapsed.
//!
//! Rows are counted, not added up from summaries: for each batch the rows of every data file that it added, removed, or whose
//! deletes it changed, before and after.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::catalog::Catalog;
use crate::counts::Counts;
use crate::error::Result;
use crate::live::dead::{Suspects, dead_among};
use crate::live::files::LiveFiles;
use crate::source::Source;
use crate::storage::Store;
use crate::verify::Subject;
use crate::verify::chain::outcomes;
use crate::verify::findings::{Check, Findings, Place};

/// Data files whose deletes are read at once.
const FILES_AT_ONCE: usize = 64;

/// Judges the accounts of every batch that is still there.
pub(crate) async fn accounts<S: Source, C: Catalog>(subject: &Subject<'_, S, C>) -> Result<Check> {
    if subject.history.links.is_empty() {
        return Ok(Check::skip("no batch of the job is in the table"));
    }
    let mut findings = Findings::default();
    outcomes(&subject.history, &mut findings);
    let found = match count_batches(subject, &mut findings).await {
        Ok((1, 0)) => "rows counted before and after 1 batch".into(),
        Ok((counted, 0)) => format!("rows counted before and after {counted} batches"),
        Ok((counted, _)) => {
            format!("rows counted before and after {counted} batches; the snapshot before the first one is expired")
        }
        Err(error) if findings.total() == 0 => return Err(error),
        Err(error) => format!("rows could not be counted: {error}"),
    };
    Ok(Check::of(found, findings))
}

/// Numbers of batches whose rows were counted, and of those whose parent is gone.
async fn count_batches<S: Source, C: Catalog>(subject: &Subject<'_, S, C>, findings: &mut Findings) -> Result<(u64, u64)> {
    let (metadata, store) = (&subject.table.metadata, subject.doors.store);
    let (mut counted, mut unknown) = (0, 0);
    let mut last: Option<(i64, LiveFiles)> = None;
    for link in &subject.history.links {
        let parent = match link.snapshot.parent_snapshot_id() {
            None => None,
            Some(id) => match metadata.snapshot_by_id(id) {
                Some(parent) => Some(Arc::clone(parent)),
                None => {
                    unknown += 1;
                    continue;
                }
            },
        };
        let parent_id = parent.as_ref().map(|parent| parent.snapshot_id());
        let before = match last.take() {
            Some((id, live)) if Some(id) == parent_id => live,
            _ => LiveFiles::load(metadata, parent.as_ref(), store).await?,
        };
        let after = LiveFiles::load(metadata, Some(&link.snapshot), store).await?;
        let moved = moved(&before, &after, store).await?;
        let said = said(&link.progress.counts);
        if i128::from(moved) != said {
            let batch = link.progress.batch;
            let what = format!("batch {batch} moved the table's rows by {moved}, and its accounts say {said}");
            findings.add(what, Place::snapshot(link.id()));
        }
        counted += 1;
        last = Some((link.id(), after));
    }
    Ok((counted, unknown))
}

/// By how much the accounts say that the row count moves; what an edited summary says need not fit 64 bits.
fn said(counts: &Counts) -> i128 {
    i128::from(counts.inserted) - i128::from(counts.deleted) - i128::from(counts.collapsed)
}

/// By how much the number of live rows moved from one snapshot to another.
async fn moved(before: &LiveFiles, after: &LiveFiles, store: &Store) -> Result<i64> {
    let (old, new) = (by_path(before), by_path(after));
    let changed = |here: &ByPath<'_>, there: &ByPath<'_>| {
        let differs = |(path, (_, deletes)): &(&&str, &(usize, u128))| there.get(*path).is_none_or(|(_, other)| *other != *deletes);
        here.iter().filter(|entry| differs(entry)).map(|(_, (at, _))| *at).collect::<Vec<_>>()
    };
    let more = live_rows(after, changed(&new, &old), store).await?;
    let fewer = live_rows(before, changed(&old, &new), store).await?;
    Ok(more - fewer)
}

/// Data files by path: index, and what stands for the set of deletes that apply to it.
type ByPath<'a> = HashMap<&'a str, (usize, u128)>;

fn by_path(live: &LiveFiles) -> ByPath<'_> {
    let hash = |delete: &crate::live::files::LiveDelete| {
        let file = delete.file();
        // Several vectors share a file, each at a place of its own.
        xxh3_128_with_seed(file.file_path().as_bytes(), file.content_offset().unwrap_or(-1).cast_unsigned())
    };
    let hashes: Vec<u128> = live.deletes.iter().map(hash).collect();
    let deletes = |data: usize| {
        let of = live.deletes_of(data);
        let every = of.vector.iter().chain(&of.file_scoped).chain(&of.partition_scoped).chain(&of.equality);
        every.map(|&delete| hashes[delete]).fold(0, u128::wrapping_add)
    };
    live.data.iter().enumerate().map(|(at, data)| (data.file().file_path(), (at, deletes(at)))).collect()
}

/// Live rows of some data files.
async fn live_rows(live: &LiveFiles, files: Vec<usize>, store: &Store) -> Result<i64> {
    let mut rows = 0;
    for files in files.chunks(FILES_AT_ONCE) {
        let suspects: Vec<_> = files.iter().map(|&data| Suspects { data, positions: None }).collect();
        for (&data, dead) in files.iter().zip(dead_among(live, &suspects, store).await?) {
            let all = live.data[data].file().record_count();
            rows += i64::try_from(all - dead.range_cardinality(..all)).unwrap_or(i64::MAX);
        }
    }
    Ok(rows)
}
