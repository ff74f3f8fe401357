//! The records of one batch judged a second time: what each became, by the rules alone.
//!
//! Pure. Writes nothing and searches nothing; holds one version of each id, a hash of its row, and the places of the rejects, as
//! the run did that committed the batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;

use crate::batch::MergeColumns;
use crate::config::{Config, Late, Mode};
use crate::counts::Counts;
use crate::decode::{Decoded, DeletedRows, KeyDecoder, RejectReason};
use crate::dedupe::{Dedupe, Offered, Place};
use crate::error::{Error, Result};
use crate::keys::{Version, VersionCodec};
use crate::offsets::{Offset, Partition};
use crate::source::Chunk;
use crate::verify::rowhash::RowHasher;
use crate::watermark::{Judge, Verdict};

/// Bytes of one reject or appended row held.
const PLACE_BYTES: usize = 48;

/// A batch judged again.
pub(crate) struct Replay<'a> {
    config: &'a Config,
    /// Merge mode: its columns.
    pub(crate) columns: Option<MergeColumns<'a>>,
    /// Append mode: the event-time column, where there is one.
    event_time: Option<(usize, VersionCodec)>,
    tombstones: Option<KeyDecoder>,
    /// Soft deletes: what makes their rows, which says whether one is fit.
    deleted: Option<DeletedRows>,
    judge: Judge,
    /// Survivors by id.
    pub(crate) dedupe: Option<Dedupe>,
    /// Hash of each survivor's row, by entry; none for a delete, whose row may hold values that no record of the batch says.
    pub(crate) hashes: Vec<Option<u128>>,
    /// Append mode: every row, and the record that it came from.
    pub(crate) appended: Vec<(u128, Partition, Offset)>,
    /// Records that belong into the rejects table, with their reason.
    pub(crate) rejects: Vec<(Partition, Offset, &'static str)>,
    /// Accounts: all but what depends on the table.
    pub(crate) counts: Counts,
    /// Highest event time per partition, µs.
    pub(crate) max_event_time: BTreeMap<Partition, i64>,
    /// Hashes rows.
    pub(crate) hasher: RowHasher,
}

impl<'a> Replay<'a> {
    /// An empty batch. `unsupplied`: columns that the job does not fill.
    pub(crate) fn new(config: &'a Config, schema: &ArrowSchemaRef, unsupplied: Vec<String>, judge: Judge) -> Result<Self> {
        let all = schema.fields().iter().map(|field| field.name().clone());
        let (mut columns, mut event_time, mut names) = (None, None, all.collect::<Vec<_>>());
        match &config.mode {
            Mode::Merge(merge) => {
                let mut merge = MergeColumns::new(merge, schema, unsupplied, config.limits.memory_limit)?;
                // What an update carried over is the stored row's, and no record says what it was.
                names.retain(|name| !merge.kept.contains(name));
                merge.kept.clear();
                columns = Some(merge);
            }
            Mode::Append { event_time: None } => {}
            Mode::Append { event_time: Some(name) } => {
                let at = schema.index_of(name).map_err(|_| Error::setup(format!("the table has no column `{name}`"), ""))?;
                event_time = Some((at, VersionCodec::new(schema.field(at).data_type().clone(), &[])?));
            }
        }
        let codec = columns.as_ref().map(|columns| columns.versions.as_ref()).or(event_time.as_ref().map(|(_, codec)| codec));
        let floor = |micros| codec.map_or(micros, |codec| codec.micros(codec.at_micros(micros)));
        let judge = Judge { watermark: judge.watermark.map(floor), ..judge };
        Ok(Self {
            config,
            dedupe: columns.as_ref().map(|columns| Dedupe::new(columns.config.ties)),
            columns,
            event_time,
            tombstones: None,
            deleted: None,
            judge,
            hashes: Vec::new(),
            appended: Vec::new(),
            rejects: Vec::new(),
            counts: Counts::default(),
            max_event_time: BTreeMap::new(),
            hasher: RowHasher::new(schema, names)?,
        })
    }

    /// Takes deletes, where the job has them; `deleted` where their rows stay.
    pub(crate) fn with_tombstones(self, tombstones: Option<KeyDecoder>, deleted: Option<DeletedRows>) -> Self {
        Self { tombstones, deleted, ..self }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.dedupe.as_ref().map_or(0, Dedupe::memory)
            + self.hashes.capacity() * size_of::<Option<u128>>()
            + (self.appended.capacity() + self.rejects.capacity()) * PLACE_BYTES
    }

    /// Judges one chunk.
    pub(crate) fn take(&mut self, chunk: &Chunk, decoded: &Decoded) -> Result<()> {
        self.counts.read += u64::try_from(chunk.records.len()).expect("records fit");
        self.counts.filtered += decoded.filtered;
        for reject in &decoded.rejects {
            self.reject(chunk, reject.record, reject.reason);
        }
        if !decoded.tombstones.is_empty() {
            self.deletes(chunk, &decoded.tombstones)?;
        }
        if decoded.rows.num_rows() > 0 {
            match self.columns.is_some() {
                true => self.versions(chunk, &decoded.rows, &decoded.origins)?,
                false => self.append(chunk, &decoded.rows, &decoded.origins)?,
            }
        }
        Ok(())
    }

    fn versions(&mut self, chunk: &Chunk, rows: &RecordBatch, origins: &[u32]) -> Result<()> {
        let Some(columns) = self.columns.take() else { return Ok(()) };
        let pick = |at: &[usize]| at.iter().map(|&i| Arc::clone(rows.column(i))).collect::<Vec<ArrayRef>>();
        let keys = columns.keys.encode(&pick(&columns.id))?;
        let versions = columns.versions.encode(rows.column(columns.event_time), &pick(&columns.order_by))?;
        let hashes = self.hasher.hash(rows)?;
        for (row, &at) in origins.iter().enumerate() {
            let Some(key) = keys.get(row) else {
                self.reject(chunk, at, RejectReason::NoId);
                continue;
            };
            let Some(time) = versions.event_time(row) else {
                self.reject(chunk, at, RejectReason::NoEventTime);
                continue;
            };
            if self.in_time(chunk, at, columns.versions.micros(time)) {
                // No row is written; the place only tells a row from a delete.
                self.offer(chunk, at, key, versions.get(row), Some(hashes[row]), Place::Stale);
            }
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn deletes(&mut self, chunk: &Chunk, records: &[u32]) -> Result<()> {
        let (Some(columns), Some(mut decoder)) = (self.columns.take(), self.tombstones.take()) else {
            return Err(Error::broken("a tombstone was taken as a delete in a job without deletes"));
        };
        let decoded = decoder.decode(chunk, records);
        for reject in &decoded.rejects {
            self.reject(chunk, reject.record, reject.reason);
        }
        let keys = columns.keys.encode(&decoded.columns)?;
        let mut unfit = Vec::new();
        if let Some(deleted) = &mut self.deleted {
            let event_times = columns.versions.column(vec![0; decoded.origins.len()])?;
            (_, unfit) = deleted.rows(chunk, &decoded.origins, &decoded.columns, &event_times)?;
        }
        let mut unfit = unfit.into_iter().peekable();
        for (row, &at) in decoded.origins.iter().enumerate() {
            let unfit = unfit.next_if(|reject| reject.record == at);
            let timestamp_ms = chunk.records[at as usize].timestamp_ms;
            match (keys.get(row), timestamp_ms, unfit) {
                (None, ..) => self.reject(chunk, at, RejectReason::NoId),
                (_, None, _) => self.reject(chunk, at, RejectReason::NoEventTime),
                (.., Some(reject)) => self.reject(chunk, at, reject.reason),
                (Some(key), Some(timestamp_ms), None) => {
                    let micros = timestamp_ms.saturating_mul(1_000);
                    if self.in_time(chunk, at, micros) {
                        let version = columns.versions.lowest_at(columns.versions.at_micros(micros))?;
                        self.offer(chunk, at, key, version, None, Place::Delete);
                    }
                }
            }
        }
        (self.columns, self.tombstones) = (Some(columns), Some(decoder));
        Ok(())
    }

    fn offer(&mut self, chunk: &Chunk, at: u32, key: &[u8], version: Version, hash: Option<u128>, place: Place) {
        let record = &chunk.records[at as usize];
        let dedupe = self.dedupe.as_mut().expect("only merge mode has versions");
        let arrival = (record.partition, record.offset);
        let offered = match (&self.deleted, place) {
            (Some(_), Place::Delete) => dedupe.offer_deleted(key, version, arrival, Place::Stale),
            _ => dedupe.offer(key, version, arrival, place),
        };
        match offered {
            Offered::First(_) => self.hashes.push(hash),
            Offered::Beats(entry, _) => {
                self.counts.duplicate += 1;
                self.hashes[entry as usize] = hash;
            }
            Offered::Beaten => self.counts.duplicate += 1,
        }
    }

    fn append(&mut self, chunk: &Chunk, rows: &RecordBatch, origins: &[u32]) -> Result<()> {
        let hashes = self.hasher.hash(rows)?;
        let event_time = self.event_time.take();
        let times = match &event_time {
            Some((column, codec)) => Some((codec.encode(rows.column(*column), &[])?, codec)),
            None => None,
        };
        for (row, &at) in origins.iter().enumerate() {
            if let Some((times, codec)) = &times {
                let Some(time) = times.event_time(row) else {
                    self.reject(chunk, at, RejectReason::NoEventTime);
                    continue;
                };
                if !self.in_time(chunk, at, codec.micros(time)) {
                    continue;
                }
            }
            let record = &chunk.records[at as usize];
            self.appended.push((hashes[row], record.partition, record.offset));
            self.counts.inserted += 1;
        }
        self.event_time = event_time;
        Ok(())
    }

    /// Whether a record is neither late nor in the future; counts it where it is.
    fn in_time(&mut self, chunk: &Chunk, at: u32, micros: i64) -> bool {
        let record = &chunk.records[at as usize];
        let broker_time = record.timestamp_ms.filter(|_| record.broker_time).map(|ms| ms.saturating_mul(1_000));
        match (self.judge.judge(micros, broker_time), self.config.watermark.late) {
            (Verdict::Future, _) => {
                self.reject(chunk, at, RejectReason::Future);
                return false;
            }
            (Verdict::Late, late @ (Late::Reject | Late::Drop)) => {
                self.counts.late += 1;
                if late == Late::Reject {
                    self.rejects.push((record.partition, record.offset, RejectReason::Late.as_str()));
                }
                return false;
            }
            (Verdict::Late | Verdict::InTime, _) => {}
        }
        let highest = self.max_event_time.entry(record.partition).or_insert(micros);
        *highest = micros.max(*highest);
        true
    }

    fn reject(&mut self, chunk: &Chunk, at: u32, reason: RejectReason) {
        let record = &chunk.records[at as usize];
        self.counts.rejected += 1;
        self.rejects.push((record.partition, record.offset, reason.as_str()));
    }
}
