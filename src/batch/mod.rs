//! One batch as it comes together: judged, deduped, and written as it fills.
//!
//! Owns the rows between decode and commit. Never commits anything; what it holds in memory is bounded, and it says when that
//! bound is near so that the pull can be cut.

mod buffer;
mod carry;
mod columns;
mod deletes;
mod flight;
pub(crate) mod pipeline;
mod rejects;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use roaring::RoaringTreemap;

use crate::catalog::{Catalog, LoadedTable};
use crate::config::{Config, Late, Mode};
use crate::counts::Counts;
use crate::decode::{Decoded, DeletedRows, RejectReason};
use crate::dedupe::{Dedupe, Offered, Place};
use crate::error::{Error, Result};
use crate::keys::{Keys, VersionCodec, Versions};
use crate::live::files::LiveFiles;
use crate::live::lookup::{Likely, Searched};
use crate::memory::Budget;
use crate::merge::{Effect, StoredRows, effect};
use crate::names::FileNames;
use crate::observe::{Observer, Phase};
use crate::offsets::Partition;
use crate::progress::PendingRejects;
use crate::source::Chunk;
use crate::storage::Store;
use crate::watermark::{Judge, Verdict};
use crate::write::{WriteTarget, WrittenFile};

use buffer::{Buffer, Buffered};
pub(crate) use columns::{MergeColumns, arrow_schema, key_index};
pub(crate) use deletes::deleted_rows;
pub(crate) use rejects::RejectSink;
use writing::{Landed, Load, Writing};

/// What a batch is judged and written by.
#[derive(Debug)]
pub(crate) struct BatchSpec<'a> {
    /// The job.
    pub(crate) config: &'a Config,
    /// The table as loaded.
    pub(crate) table: &'a LoadedTable,
    /// What is alive at its head.
    pub(crate) live: &'a Arc<LiveFiles>,
    /// Store of the table.
    pub(crate) store: &'a Store,
    /// Late and future.
    pub(crate) judge: Judge,
    /// How many of its ids the head is likely to hold.
    pub(crate) likely: Likely,
    /// Names of the run's files.
    pub(crate) names: FileNames,
    /// Whether only the rejects are wanted: those of an earlier batch whose file is gone.
    pub(crate) rejects_only: bool,
}

/// A batch that is pulled and written, ready to be merged.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Survivors by id; none in append mode.
    pub(crate) dedupe: Option<Dedupe>,
    /// Rows of the head that share their ids.
    pub(crate) stored: StoredRows,
    /// Data files written.
    pub(crate) data: Vec<WrittenFile>,
    /// Rows in them that lost to a later version.
    pub(crate) own_dead: BTreeMap<u32, RoaringTreemap>,
    /// Accounts so far: all but what the merge decides.
    pub(crate) counts: Counts,
    /// Highest event time per partition, µs.
    pub(crate) max_event_time: BTreeMap<Partition, i64>,
    /// Files of rejects.
    pub(crate) rejects: Option<PendingRejects>,
    /// What the search for ids cost.
    pub(crate) searched: Searched,
}

impl Collected {
    /// Every file that the batch wrote before its merge.
    pub(crate) fn paths(&self) -> Vec<String> {
        let data = self.data.iter().map(|file| file.data_file.file_path().to_owned());
        let rejects = self.rejects.iter().flat_map(|pending| &pending.files).map(|file| file.path.clone());
        data.chain(rejects).collect()
    }
}

/// Takes decoded chunks and makes a [`Collected`] of them.
pub(crate) struct Assembly<'a, C> {
    spec: &'a BatchSpec<'a>,
    columns: Option<MergeColumns<'a>>,
    /// Rows of soft deletes.
    deleted: Option<DeletedRows>,
    event_times: Option<(usize, VersionCodec)>,
    dedupe: Option<Dedupe>,
    buffer: Buffer,
    /// Ids below this ordinal have been searched in the head.
    probed: u32,
    stored: StoredRows,
    kept: Vec<RecordBatch>,
    /// For each row of `stored` the batch and row of `kept` that hold its values.
    kept_at: Vec<(usize, usize)>,
    writing: Writing,
    own_dead: BTreeMap<u32, RoaringTreemap>,
    counts: Counts,
    max_event_time: BTreeMap<Partition, i64>,
    rejects: RejectSink<'a, C>,
    searched: Searched,
    /// Compares at the precision of the event-time column.
    judge: Judge,
    observer: &'a dyn Observer,
}

/// Rows of a chunk, in the buffer and to be offered.
struct Rows {
    keys: Keys,
    versions: Versions,
    /// Index into `Chunk::records` per row, ascending.
    origins: Vec<u32>,
    /// Where they are in the buffer.
    batch: u32,
}

/// What to do with one decoded row.
enum Sorted {
    Take,
    Leave,
}

impl<'a, C: Catalog> Assembly<'a, C> {
    /// An empty batch. `unsupplied`: columns of the table that the job does not fill.
    pub(crate) fn new(
        spec: &'a BatchSpec<'a>,
        unsupplied: Vec<String>,
        rejects: RejectSink<'a, C>,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        let schema = arrow_schema(spec.table)?;
        let (columns, event_times) = match &spec.config.mode {
            Mode::Merge(merge) => (Some(MergeColumns::new(merge, &schema, unsupplied, spec.config.limits.memory_limit)?), None),
            Mode::Append { event_time: None } => (None, None),
            Mode::Append { event_time: Some(name) } => {
                let at = schema.index_of(name).map_err(|_| {
                    Error::setup(format!("the table has no column `{name}`"), "see `merge.event_time` in the job file")
                })?;
                (None, Some((at, VersionCodec::new(schema.field(at).data_type().clone(), &[])?)))
            }
        };
        let (mut columns, deleted) = (columns, deleted_rows(spec.config, spec.table)?);
        if let Some(columns) = &mut columns {
            columns.likely = spec.likely;
            columns.carried = deleted.as_ref().map_or_else(Vec::new, |deleted| deleted.carried().to_vec());
        }
        let codec = columns.as_ref().map(|columns| columns.versions.as_ref()).or(event_times.as_ref().map(|(_, codec)| codec));
        let floor = |micros| codec.map_or(micros, |codec| codec.micros(codec.at_micros(micros)));
        let judge = Judge { watermark: spec.judge.watermark.map(floor), ..spec.judge };
        let dedupe = columns.as_ref().map(|columns| Dedupe::new(columns.config.ties));
        Ok(Self {
            spec,
            columns,
            deleted,
            event_times,
            dedupe,
            buffer: Buffer::default(),
            probed: 0,
            stored: StoredRows::default(),
            kept: Vec::new(),
            kept_at: Vec::new(),
            writing: Writing::default(),
            own_dead: BTreeMap::new(),
            counts: Counts::default(),
            max_event_time: BTreeMap::new(),
            rejects,
            searched: Searched::default(),
            judge,
            observer,
        })
    }

    /// Judges and dedupes one chunk.
    pub(crate) fn take(&mut self, chunk: &Chunk, decoded: Decoded) -> Result<()> {
        self.counts.read += u64::try_from(chunk.records.len()).expect("records fit");
        self.counts.filtered += decoded.filtered;
        for reject in &decoded.rejects {
            self.reject(chunk, reject.record, reject.reason, &reject.detail);
        }
        let mut tombstones = self.tombstones(chunk, &decoded.tombstones)?;
        let rows = self.rows(chunk, decoded)?;
        // In the order in which the records stand in the topic: a delete keeps the values of what came before it.
        if let Some(rows) = &rows {
            for (row, &at) in rows.origins.iter().enumerate() {
                self.offer_deletes_before(at, chunk, &mut tombstones)?;
                self.offer_row(chunk, rows, row);
            }
        }
        self.offer_deletes_before(u32::MAX, chunk, &mut tombstones)?;
        Ok(())
    }

    /// Takes the rows of a chunk into the buffer. In merge mode they are still to be offered.
    fn rows(&mut self, chunk: &Chunk, decoded: Decoded) -> Result<Option<Rows>> {
        let rows = decoded.rows;
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let Some(columns) = &self.columns else {
            let mut buffered = Buffered::all(rows);
            self.append_rows(chunk, &decoded.origins, &mut buffered)?;
            self.buffer.push(buffered);
            return Ok(None);
        };
        let pick = |at: &[usize]| at.iter().map(|&i| Arc::clone(rows.column(i))).collect::<Vec<ArrayRef>>();
        let keys = columns.keys.encode(&pick(&columns.id))?;
        let versions = columns.versions.encode(rows.column(columns.event_time), &pick(&columns.order_by))?;
        let batch = self.buffer.push(Buffered::all(rows));
        Ok(Some(Rows { keys, versions, origins: decoded.origins, batch }))
    }

    /// Judges one row and offers it; rows of a chunk come in their order.
    fn offer_row(&mut self, chunk: &Chunk, rows: &Rows, row: usize) {
        let at = rows.origins[row];
        let entry = match (rows.keys.get(row), rows.versions.event_time(row)) {
            (None, _) => {
                self.reject(chunk, at, RejectReason::NoId, "an id column is null or NaN");
                None
            }
            (_, None) => {
                self.reject(chunk, at, RejectReason::NoEventTime, "the event time is null");
                None
            }
            (Some(key), Some(time)) => {
                let micros = self.columns.as_ref().map_or(time, |columns| columns.versions.micros(time));
                match self.judge(chunk, at, micros) {
                    Sorted::Take if !self.spec.rejects_only => {
                        let place = Place::Buffered { batch: rows.batch, row: u32::try_from(row).expect("rows of a chunk fit") };
                        let dedupe = self.dedupe.as_mut().expect("only merge mode has versions");
                        let record = &chunk.records[at as usize];
                        let offered = dedupe.offer(key, rows.versions.get(row), (record.partition, record.offset), place);
                        self.drop_beaten(offered)
                    }
                    Sorted::Take | Sorted::Leave => None,
                }
            }
        };
        self.buffer.push_entry(rows.batch, row, entry);
    }

    /// Append mode: every row stays unless its event time is late or in the future.
    fn append_rows(&mut self, chunk: &Chunk, origins: &[u32], buffered: &mut Buffered) -> Result<()> {
        let event_times = self.event_times.take();
        if let Some((column, codec)) = &event_times {
            let versions = codec.encode(buffered.rows.column(*column), &[])?;
            for (row, &at) in origins.iter().enumerate() {
                let Some(time) = versions.event_time(row) else {
                    self.reject(chunk, at, RejectReason::NoEventTime, "the event time is null");
                    buffered.drop_row(row);
                    continue;
                };
                if let Sorted::Leave = self.judge(chunk, at, codec.micros(time)) {
                    buffered.drop_row(row);
                }
            }
        }
        self.event_times = event_times;
        self.counts.inserted += buffered.alive();
        Ok(())
    }

    /// Late, future, or in time; only what is not in the future moves the watermark.
    fn judge(&mut self, chunk: &Chunk, at: u32, micros: i64) -> Sorted {
        let record = &chunk.records[at as usize];
        let broker_time = record.timestamp_ms.filter(|_| record.broker_time).map(|ms| ms.saturating_mul(1_000));
        match self.judge.judge(micros, broker_time) {
            Verdict::Future => {
                let detail = format!("event time {} is too far ahead of the clock", crate::progress::rfc3339(micros));
                self.reject(chunk, at, RejectReason::Future, &detail);
                return Sorted::Leave;
            }
            Verdict::Late if self.spec.config.watermark.late != Late::Merge => {
                self.counts.late += 1;
                if self.spec.config.watermark.late == Late::Reject {
                    let watermark = self.spec.judge.watermark.map_or_else(String::new, crate::progress::rfc3339);
                    let detail = format!("event time {} is older than watermark {watermark}", crate::progress::rfc3339(micros));
                    self.rejects.push(chunk, at, RejectReason::Late, &detail);
                }
                return Sorted::Leave;
            }
            Verdict::Late | Verdict::InTime => {}
        }
        let highest = self.max_event_time.entry(record.partition).or_insert(micros);
        *highest = micros.max(*highest);
        Sorted::Take
    }

    /// Drops the row that lost; answers the entry of the version offered if it survives for now.
    fn drop_beaten(&mut self, offered: Offered) -> Option<u32> {
        match offered {
            Offered::First(entry) => Some(entry),
            Offered::Beaten => {
                self.counts.duplicate += 1;
                None
            }
            Offered::Beats(entry, beaten) => {
                self.counts.duplicate += 1;
                match beaten {
                    Place::Buffered { batch, row } => self.buffer.drop_row(batch, row),
                    Place::Written(place) => {
                        self.own_dead.entry(place.file).or_default().insert(u64::from(place.position));
                    }
                    Place::Stale | Place::Delete => {}
                }
                Some(entry)
            }
        }
    }

    fn reject(&mut self, chunk: &Chunk, record: u32, reason: RejectReason, detail: &str) {
        self.counts.rejected += 1;
        self.rejects.push(chunk, record, reason, detail);
    }

    /// Bytes held in memory.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.bytes()
            + self.dedupe.as_ref().map_or(0, Dedupe::memory)
            + self.writing.memory()
            + self.rejects.memory()
            + self.stored.memory()
            + self.kept.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
    }

    /// Whether there is nothing to search.
    pub(crate) fn head_is_empty(&self) -> bool {
        self.columns.is_none() || self.spec.live.data.is_empty()
    }

    /// Whether no row may be written before the batch is whole.
    pub(crate) fn holds_rows(&self) -> bool {
        self.deleted.is_some() && !self.spec.rejects_only
    }

    /// Bytes of rows that wait to be written.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.bytes()
    }

    /// Writes the rejects alone.
    pub(crate) async fn flush_rejects(&mut self) -> Result<()> {
        self.rejects.flush().await
    }

    /// Bytes of rejects that wait to be written.
    pub(crate) fn rejects_buffered(&self) -> usize {
        self.rejects.waiting()
    }

    /// Whether what goes on beside the assembly has failed.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.writing.check()
    }

    /// Whether all rows of a flush are joined, to be sorted.
    pub(crate) fn joins_rows(&self) -> bool {
        !self.spec.table.metadata.default_sort_order().is_unsorted()
    }

    /// Begins to write the buffered rows that the head does not beat. Waits for the rows before them.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.rejects.flush().await?;
        if self.spec.rejects_only {
            self.buffer.take();
            return Ok(());
        }
        self.match_new_ids().await?;
        self.observer.phase(Phase::Write);
        self.settle_rows().await?;
        let (first, mut batches) = self.buffer.take();
        if batches.is_empty() {
            return Ok(());
        }
        batches.iter_mut().for_each(|batch| self.drop_stale(batch));
        self.carry_values(&mut batches)?;
        // Rows are in order only within one write, and each write of a sorted table makes files of its own.
        let load = Load { first, row_ids: self.row_ids(&batches), batches, whole: self.joins_rows() };
        let target = self.target();
        self.writing.begin(load, target)
    }

    /// Waits for the rows on their way to files, and takes account of where they went.
    async fn settle_rows(&mut self) -> Result<()> {
        for Landed { entry, from: (batch, row), to } in self.writing.settle().await? {
            let Some(dedupe) = &mut self.dedupe else { continue };
            if dedupe.entries()[entry as usize].place == (Place::Buffered { batch, row }) {
                dedupe.place(entry, Place::Written(to));
            } else {
                // Beaten on its way.
                self.own_dead.entry(to.file).or_default().insert(u64::from(to.position));
            }
        }
        Ok(())
    }

    /// Searches the ids that have come since the last flush in the head.
    async fn match_new_ids(&mut self) -> Result<()> {
        let (Some(columns), Some(dedupe)) = (&self.columns, &mut self.dedupe) else { return Ok(()) };
        let ids = u32::try_from(dedupe.keys().len()).expect("checked on insert");
        if ids > self.probed && !self.spec.live.data.is_empty() {
            self.observer.phase(Phase::Match);
            let spec = self.spec;
            let watermark = spec.judge.watermark;
            let matches = columns.lookup(spec.live, spec.table, dedupe, self.probed, spec.store, watermark).await?;
            self.searched += matches.searched;
            if let Some(kept) = matches.kept {
                // In the order of `stored`.
                self.kept_at.extend((0..kept.num_rows()).map(|row| (self.kept.len(), row)));
                self.kept.push(kept);
            }
            self.stored.extend(matches.rows);
        }
        self.probed = ids;
        Ok(())
    }

    fn drop_stale(&mut self, batch: &mut Buffered) {
        let (Some(columns), Some(dedupe)) = (&self.columns, &mut self.dedupe) else { return };
        for row in 0..batch.rows.num_rows() {
            let Some(entry) = batch.entry(row) else { continue };
            let Some(highest) = self.stored.highest(entry) else { continue };
            let version = &dedupe.entries()[entry as usize].version;
            if effect(version, false, Some(&self.stored.rows()[highest].version), columns.config.ties) == Effect::Stale {
                batch.drop_row(row);
                dedupe.place(entry, Place::Stale);
            }
        }
    }

    /// v3: the row ids of the stored rows that the rows of each batch take the place of.
    fn row_ids(&self, batches: &[Buffered]) -> Option<Vec<Int64Array>> {
        self.stored.rows().iter().any(|row| row.row_id.is_some()).then(|| {
            let id = |entry| self.stored.highest(entry).and_then(|at| self.stored.rows()[at].row_id);
            batches.iter().map(|batch| (0..batch.rows.num_rows()).map(|row| batch.entry(row).and_then(id)).collect()).collect()
        })
    }

    fn target(&self) -> WriteTarget {
        let schema = self.spec.table.metadata.current_schema();
        WriteTarget {
            metadata: Arc::clone(&self.spec.table.metadata),
            store: self.spec.store.clone(),
            names: self.spec.names.clone(),
            memory_max: Budget::of(self.spec.config.limits.memory_limit).writer,
            index: self.columns.as_ref().and_then(|columns| key_index(columns.config, schema)).map(Arc::new),
        }
    }

    /// Writes what is left and closes the files.
    pub(crate) async fn finish(mut self) -> Result<Collected> {
        let data = match self.end().await {
            Ok(data) => data,
            Err(error) => {
                self.give_up().await;
                return Err(error);
            }
        };
        Ok(Collected {
            dedupe: self.dedupe,
            stored: self.stored,
            data,
            own_dead: self.own_dead,
            counts: self.counts,
            max_event_time: self.max_event_time,
            rejects: self.rejects.finish(self.spec.judge.watermark).await?,
            searched: self.searched,
        })
    }

    async fn end(&mut self) -> Result<Vec<WrittenFile>> {
        self.flush().await?;
        self.settle_rows().await?;
        self.writing.finish().await
    }

    /// Ends what still goes on for a batch that has failed.
    pub(crate) async fn give_up(&mut self) {
        self.writing.give_up().await;
    }
}
