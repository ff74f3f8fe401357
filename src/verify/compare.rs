//! Compares a batch that was judged again with the table as of its snapshot, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use iceberg::spec::SnapshotRef;

use crate::batch::MergeColumns;
use crate::catalog::LoadedTable;
use crate::config::{MatchScope, Ties};
use crate::counts::Counts;
use crate::dedupe::{Dedupe, Entry, Place as RowPlace};
use crate::error::Result;
use crate::live::adapt::Columns;
use crate::live::files::LiveFiles;
use crate::live::lookup::Stored;
use crate::live::rows::{FileReader, Rows};
use crate::merge::{Effect, StoredRows, effect};
use crate::offsets::{Offset, Partition};
use crate::storage::Store;
use crate::verify::findings::{Findings, Place};
use crate::verify::replay::Replay;
use crate::verify::scan::{Part, Scan};

/// The table as of one batch.
pub(crate) struct AsOf<'a> {
    pub(crate) table: &'a LoadedTable,
    pub(crate) store: &'a Store,
    pub(crate) snapshot: &'a SnapshotRef,
    pub(crate) before: Before,
    /// Watermark that the batch was judged by.
    pub(crate) judged_by: Option<i64>,
    /// Whether every record of the batch is still in the topic.
    pub(crate) complete: bool,
}

/// What the batch was merged into.
pub(crate) enum Before {
    /// Nothing: it is the first snapshot.
    Empty,
    /// This snapshot.
    There(SnapshotRef),
    /// A snapshot that is expired.
    Gone,
}

/// Accounts of the batch by the rules.
pub(crate) struct Judged {
    pub(crate) counts: Counts,
    /// Whether what was inserted is told from what was updated, and so on.
    pub(crate) effects_known: bool,
}

/// A stored row that must be the row of an entry.
struct Expected {
    data: usize,
    position: u64,
    entry: u32,
}

impl AsOf<'_> {
    /// Adds a finding for each row that is not as it should be, and answers what the accounts should be.
    pub(crate) async fn compare(&self, replay: &mut Replay<'_>, findings: &mut Findings) -> Result<Judged> {
        match (replay.columns.take(), replay.dedupe.take()) {
            (Some(columns), Some(dedupe)) => self.merged(replay, &columns, dedupe, findings).await,
            _ => self.appended(replay, findings).await,
        }
    }

    async fn rows_of(
        &self,
        live: &Arc<LiveFiles>,
        columns: &MergeColumns<'_>,
        dedupe: &mut Dedupe,
        watermark: Option<i64>,
    ) -> Result<StoredRows> {
        let mut stored = StoredRows::default();
        stored.extend(columns.lookup(live, self.table, dedupe, 0, self.store, watermark).await?.rows);
        Ok(stored)
    }

    async fn merged(
        &self,
        replay: &Replay<'_>,
        columns: &MergeColumns<'_>,
        mut dedupe: Dedupe,
        findings: &mut Findings,
    ) -> Result<Judged> {
        let metadata = &self.table.metadata;
        let live = Arc::new(LiveFiles::load(metadata, Some(self.snapshot), self.store).await?);
        let after = self.rows_of(&live, columns, &mut dedupe, None).await?;
        let before = match &self.before {
            Before::Empty => Some(StoredRows::default()),
            Before::Gone => None,
            Before::There(parent) => {
                let live = Arc::new(LiveFiles::load(metadata, Some(parent), self.store).await?);
                Some(self.rows_of(&live, columns, &mut dedupe, self.judged_by).await?)
            }
        };
        let mut counts = replay.counts;
        let mut expected = Vec::new();
        for (at, entry) in (0..).zip(dedupe.entries()) {
            let rows: Vec<&Stored> = after.of(at).collect();
            let known = before.as_ref().map(|before| {
                let highest = before.highest(at).map(|i| &before.rows()[i]);
                (highest, before.of(at).count())
            });
            let written = counts.inserted + counts.updated;
            let judged = judge(entry, &rows, known, columns, self.complete, &mut counts);
            if dedupe.deleted().contains_key(&at) {
                counts.soft_deleted += counts.inserted + counts.updated - written;
            }
            match judged {
                Ok(Some(row)) => expected.push(Expected { data: row.data, position: row.position, entry: at }),
                Ok(None) => {}
                Err(what) => {
                    let id = columns.keys.text(dedupe.keys().key(at))?.join(", ");
                    let (partition, offset) = entry.arrival;
                    findings.add(what, Place::snapshot(self.snapshot.snapshot_id()).record(partition, offset).id(id));
                }
            }
        }
        self.contents(&live, replay, columns, &dedupe, expected, findings).await?;
        Ok(Judged { counts, effects_known: before.is_some() })
    }

    /// The stored rows hold what the records say, in every column.
    async fn contents(
        &self,
        live: &LiveFiles,
        replay: &Replay<'_>,
        columns: &MergeColumns<'_>,
        dedupe: &Dedupe,
        expected: Vec<Expected>,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut by_file: BTreeMap<usize, Vec<Expected>> = BTreeMap::new();
        for row in expected {
            by_file.entry(row.data).or_default().push(row);
        }
        let wanted = Columns::named(self.table.metadata.current_schema(), replay.hasher.names())?;
        for (data, mut rows) in by_file {
            let file = &live.data[data];
            rows.sort_unstable_by_key(|row| row.position);
            let positions: Vec<u64> = rows.iter().map(|row| row.position).collect();
            let mut reader = FileReader::open(live, file.file(), file.spec_id, self.store).await?;
            let mut stream = reader.read(&wanted, Rows::At(&positions)).await?;
            let mut rows = rows.into_iter();
            while let Some(batch) = stream.next().await? {
                let flags = columns.config.deleted_column().and_then(|name| batch.column_by_name(name));
                let flagged = |at: usize| flags.and_then(|flags| flags.as_boolean_opt()).is_some_and(|flags| is_true(flags, at));
                for (at, (hash, row)) in replay.hasher.hash(&batch)?.into_iter().zip(rows.by_ref()).enumerate() {
                    let fits = match replay.hashes[row.entry as usize] {
                        Some(expected) => expected == hash,
                        // A deleted row kept values of versions before the batch; its flag is the delete's.
                        None => !dedupe.deleted().contains_key(&row.entry) || flagged(at),
                    };
                    if fits {
                        continue;
                    }
                    let (partition, offset) = dedupe.entries()[row.entry as usize].arrival;
                    let id = columns.keys.text(dedupe.keys().key(row.entry))?.join(", ");
                    let what = format!("the stored row, at position {}, differs from the record", row.position);
                    let place = Place::snapshot(self.snapshot.snapshot_id()).record(partition, offset).id(id);
                    findings.add(what, place.file(file.file().file_path()));
                }
            }
        }
        Ok(())
    }

    /// Append mode: the rows that the snapshot added are the records, as often as they came.
    async fn appended(&self, replay: &mut Replay<'_>, findings: &mut Findings) -> Result<Judged> {
        let live = LiveFiles::load(&self.table.metadata, Some(self.snapshot), self.store).await?;
        let scan = Scan::open(Arc::new(live), self.store).await?;
        let wanted = Columns::named(self.table.metadata.current_schema(), replay.hasher.names())?;
        let id = self.snapshot.snapshot_id();
        let added = scan.files().filter(|&data| scan.live.data[data].entry.snapshot_id() == Some(id));
        let mut stored: Vec<(u128, u32, u64)> = Vec::with_capacity(replay.appended.len());
        let hasher = &replay.hasher;
        let mut take = |part: &Part<'_>| {
            let hashes = hasher.hash(part.rows)?;
            let data = u32::try_from(part.data).expect("files of a snapshot fit");
            stored.extend(part.alive().map(|(row, position)| (hashes[row], data, position)));
            Ok(())
        };
        scan.each(added, &wanted, &mut take).await?;
        stored.sort_unstable();
        replay.appended.sort_unstable();
        differences(&replay.appended, &stored, &mut |side| {
            let place = Place::snapshot(id);
            match side {
                Side::Record(partition, offset) => {
                    findings.add("the record is no row of the batch", place.record(partition, offset));
                }
                Side::Row(data, position) if self.complete => {
                    let path = scan.live.data[data as usize].file().file_path();
                    findings.add(format!("the row at position {position} is no record of the batch"), place.file(path));
                }
                Side::Row(..) => {}
            }
        });
        Ok(Judged { counts: replay.counts, effects_known: true })
    }
}

/// What the rules make of one survivor: the stored row that must be its row, none where nothing is to be compared, or what is wrong.
fn judge<'r>(
    entry: &Entry,
    rows: &[&'r Stored],
    before: Option<(Option<&Stored>, usize)>,
    columns: &MergeColumns<'_>,
    complete: bool,
    counts: &mut Counts,
) -> Result<Option<&'r Stored>, String> {
    let delete = entry.place == RowPlace::Delete;
    let ties = columns.config.ties;
    let highest = rows.iter().max_by(|a, b| a.version.cmp(&b.version)).copied();
    // A search bounded by the watermark may leave older rows of the id where they are.
    let everywhere = columns.config.match_scope == MatchScope::Table;
    let Some((stored, stored_rows)) = before.filter(|_| complete) else {
        return at_least(entry, delete, highest, ties, everywhere);
    };
    let effect = effect(&entry.version, delete, stored.map(|stored| &stored.version), ties);
    match effect {
        Effect::Insert => counts.inserted += 1,
        Effect::Update => counts.updated += 1,
        Effect::Stale => counts.stale += 1,
        Effect::Delete => counts.deleted += 1,
        Effect::Noop => counts.noop += 1,
    }
    if matches!(effect, Effect::Update | Effect::Delete) {
        counts.collapsed += u64::try_from(stored_rows).expect("rows fit") - 1;
    }
    match (effect, highest) {
        (Effect::Insert | Effect::Update, None) => Err("the record's row is not in the table".into()),
        (Effect::Insert | Effect::Update, Some(_)) if rows.len() > 1 && everywhere => {
            Err(format!("{} rows have the record's id", rows.len()))
        }
        (Effect::Insert | Effect::Update, Some(row)) if row.version != entry.version && everywhere => {
            Err("the table holds another version of the record's id".into())
        }
        (Effect::Insert | Effect::Update, Some(_)) => Ok(rows.iter().find(|row| row.version == entry.version).copied()),
        (Effect::Delete | Effect::Noop, Some(_)) if everywhere => {
            Err("the record deletes its id, and the id is in the table".into())
        }
        (Effect::Stale, found) if found.map(|row| &row.version) != stored.map(|row| &row.version) && everywhere => {
            Err("the stored version beats the record, and is not in the table any more".into())
        }
        _ => Ok(None),
    }
}

/// What holds whatever the table held before: the stored version is the record's or a higher one.
fn at_least<'r>(
    entry: &Entry,
    delete: bool,
    highest: Option<&'r Stored>,
    ties: Ties,
    everywhere: bool,
) -> Result<Option<&'r Stored>, String> {
    match highest {
        None if delete => Ok(None),
        None => Err("the record's id is not in the table".into()),
        Some(row)
            if delete && everywhere && (row.version < entry.version || row.version == entry.version && ties == Ties::Replace) =>
        {
            Err("the record deletes its id, and the id is in the table".into())
        }
        Some(row) if !delete && row.version < entry.version => Err("the table holds an older version than the record's".into()),
        // With `keep` an equal version may be the one that was there before.
        Some(row) if !delete && row.version == entry.version && ties == Ties::Replace => Ok(Some(row)),
        Some(_) => Ok(None),
    }
}

fn is_true(flags: &BooleanArray, row: usize) -> bool {
    flags.is_valid(row) && flags.value(row)
}

/// One that has no partner on the other side.
enum Side {
    /// A record, by partition and offset.
    Record(Partition, Offset),
    /// A stored row, by data file and position.
    Row(u32, u64),
}

/// What two sorted lists of hashes do not share, each as often as it is on one side only.
fn differences(records: &[(u128, Partition, Offset)], rows: &[(u128, u32, u64)], found: &mut dyn FnMut(Side)) {
    let (mut record, mut row) = (0, 0);
    while record < records.len() || row < rows.len() {
        let order = match (records.get(record), rows.get(row)) {
            (Some(record), Some(row)) => record.0.cmp(&row.0),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        if order.is_le() {
            if order.is_lt() {
                found(Side::Record(records[record].1, records[record].2));
            }
            record += 1;
        }
        if order.is_ge() {
            if order.is_gt() {
                found(Side::Row(rows[row].1, rows[row].2));
            }
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_side_and_as_often_as_they_are() {
        let records = [(1, 0, 10), (2, 0, 11), (2, 0, 12), (4, 1, 0)];
        let rows = [(2, 7, 0), (3, 7, 1), (4, 7, 2), (4, 8, 0)];
        let mut found = Vec::new();
        differences(&records, &rows, &mut |side| {
            found.push(match side {
                Side::Record(partition, offset) => format!("record {partition}:{offset}"),
                Side::Row(data, position) => format!("row {data}:{position}"),
            });
        });
        assert_eq!(found, ["record 0:10", "record 0:12", "row 7:1", "row 8:0"]);
    }
}
