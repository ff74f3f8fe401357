//! Brings one collected batch into the table: merge, deletes, manifests, swap; and again on each new head, until the ancestry says
//! done or moved.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{DataFile, TableMetadata};
use roaring::RoaringTreemap;

use crate::batch::{Collected, MergeColumns, key_index};
use crate::catalog::{Catalog, CommitOutcome, LoadedTable};
use crate::commit::{Draft, Prepared, prepare};
use crate::config::{MergeConfig, Mode, Unmapped};
use crate::counts::Counts;
use crate::deletes::write_deletes;
use crate::error::{BoxError, Error, Result};
use crate::job::retry::Retry;
use crate::job::{ATTEMPTS_PER_REDO, Job, Pulled, next_batch, rejects_ident};
use crate::live::files::LiveFiles;
use crate::memory::Budget;
use crate::merge::{MergeSet, StoredRows, merge};
use crate::names::FileNames;
use crate::observe::Phase;
use crate::progress::{BatchName, Kind, Progress, StateProperty, rfc3339};
use crate::report::{BatchReport, FilesReport, OffsetsReport};
use crate::rewrite::rewrite;
use crate::snapshot::{FileSet, set_property, snapshot_id};
use crate::source::{Cut, Reached, Source};
use crate::state;
use crate::table::fit::{MergeMode, id_fields};
use crate::watermark::{Advance, advance};
use crate::write::WriteTarget;

/// A batch that is pulled and written, on its way into the table.
pub(super) struct Batch<'a, S, C> {
    job: &'a Job<'a, S, C>,
    base: LoadedTable,
    pulled: Pulled,
    collected: Collected,
    reached: Reached,
    names: FileNames,
    began_ms: i64,
    /// State of the batch; the merge adds its counts on each attempt.
    progress: Progress,
    /// Snapshot ids of all attempts.
    attempts: Vec<i64>,
    /// Once any attempt was unclear, no file is deleted any more.
    unclear: bool,
    /// Nor one of the rejects table, which is not looked at, once an attempt on both tables was refused: it may be changed all the same.
    half_done: bool,
    /// Whether to commit the rejects together with the batch, where the catalog can.
    together: bool,
}

/// How it ended.
pub(super) enum Ending {
    /// The batch is in the table.
    Committed(Box<Committed>),
    /// Another run of the job was first; this batch has no effect.
    Moved,
    /// The table changed so that the batch must be pulled anew.
    Redo,
}

/// A batch in the table.
pub(super) struct Committed {
    pub(super) progress: Progress,
    pub(super) report: BatchReport,
    pub(super) remaining: u64,
}

/// What a fresh load says about the batch.
enum Place {
    Next,
    Done(i64),
    Moved,
}

impl<'a, S: Source, C: Catalog> Batch<'a, S, C> {
    pub(super) fn new(
        job: &'a Job<'a, S, C>,
        pulled: Pulled,
        collected: Collected,
        reached: Reached,
        names: FileNames,
        began_ms: i64,
    ) -> Self {
        let progress = progress(job, &pulled, &collected, &reached);
        let base = pulled.table.clone();
        Self {
            job,
            base,
            pulled,
            collected,
            reached,
            names,
            began_ms,
            progress,
            attempts: Vec::new(),
            unclear: false,
            half_done: false,
            together: true,
        }
    }

    /// Tries until the ancestry says done or moved, or the attempts are used up.
    pub(super) async fn commit(mut self, mut live: Arc<LiveFiles>, warnings: &mut Vec<String>) -> Result<Ending> {
        let mut retry = Retry::of(&self.base.metadata);
        let run = self.job.run.id;
        let mut attempts = 0;
        let ending = loop {
            let attempt = attempts;
            attempts += 1;
            let Some((tried, outcome)) = Box::pin(self.attempt(&live, attempt)).await? else { break Ok(Ending::Redo) };
            let (cause, refused) = match outcome {
                CommitOutcome::Committed if !tried.together => {
                    self.delete(&self.unused(&tried.files)).await;
                    return Ok(self.done(tried.snapshot_id, &tried, attempt + 1, &live));
                }
                // Of several tables at once Iceberg's own server can say yes with none of them changed, and no with the first one
                // changed: only the table's word counts.
                CommitOutcome::Committed => (BoxError::from("the catalog said yes, and the table does not show it"), false),
                CommitOutcome::Refused(cause) => {
                    tracing::info!(attempt, %cause, "the commit was refused");
                    (cause, true)
                }
                CommitOutcome::Unclear(cause) => {
                    tracing::warn!(attempt, %cause, "no answer to the commit; looking at the table");
                    self.unclear = true;
                    (cause, false)
                }
            };
            let table = self.job.load().await?;
            match self.place(&table, warnings).await? {
                Place::Done(snapshot) => {
                    if snapshot == tried.snapshot_id {
                        self.delete(&self.unused(&tried.files)).await;
                    }
                    return Ok(self.done(snapshot, &tried, attempt + 1, &live));
                }
                place => {
                    self.unclear |= !refused;
                    self.half_done |= tried.together;
                    self.delete(&tried.written).await;
                    if let Place::Moved = place {
                        break Ok(Ending::Moved);
                    }
                }
            }
            // Some servers have the endpoint for several tables and not the will, and a gateway before one may know no answer for it:
            // that is no attempt at the table yet.
            let alone = tried.together && (!refused || !Error::is_temporary(&cause));
            if table.metadata_location == self.base.metadata_location {
                if alone {
                    self.together = false;
                    continue;
                }
                // A catalog may call it a conflict before it shows what was first; a server that is busy now may not be in a moment.
                if (self.unclear || Error::is_temporary(&cause)) && retry.again(run.as_bytes()).await {
                    continue;
                }
                break Err(if self.unclear { self.used_up(attempts) } else { Error::of_refusal(&self.base.ident, cause) });
            }
            self.together &= refused;
            if self.must_redo(&table.metadata) {
                break Ok(Ending::Redo);
            }
            live = self.rebase(table).await?;
            if !retry.again(run.as_bytes()).await {
                break Err(self.used_up(attempts));
            }
        };
        if self.half_done {
            self.collected.rejects = None;
        }
        self.delete(&self.collected.paths()).await;
        ending
    }

    fn used_up(&self, attempts: u32) -> Error {
        match self.unclear {
            true => Error::unavailable(
                format!("learn whether the commit to table `{}` went in", self.base.ident),
                BoxError::from("no attempt was answered, and none of their snapshots is in the table yet"),
            ),
            false => Error::Contended { table: self.base.ident.to_string(), attempts },
        }
    }

    /// One attempt on the current base; none where a row is missing that was dropped against an earlier head.
    async fn attempt(&mut self, live: &LiveFiles, attempt: u32) -> Result<Option<(Tried, CommitOutcome)>> {
        let set = self.merge();
        if set.row_missing {
            return Ok(None);
        }
        let attempt = self.pulled.redo * ATTEMPTS_PER_REDO + attempt;
        let names = self.names.attempt(attempt);
        self.job.observer.phase(Phase::Write);
        let mut own_dead = self.collected.own_dead.clone();
        for (file, positions) in &set.own_dead {
            *own_dead.entry(*file).or_default() |= positions;
        }
        let (files, old_rows) = self.write(live, &names, &set.dead, &own_dead).await?;
        self.progress.counts = self.collected.counts;
        self.progress.counts += set.counts;
        self.check(&files, old_rows, set.dead.values().map(RoaringTreemap::len).sum());

        self.job.observer.phase(Phase::Commit);
        let after = self.base.metadata.last_sequence_number();
        let snapshot_id = snapshot_id(self.job.run.id, &self.progress.batch_id, after, attempt);
        self.attempts.push(snapshot_id);
        let summary = self.progress.encode();
        let property = StateProperty {
            table_uuid: self.base.metadata.uuid().to_string(),
            snapshot_id,
            summary: summary.clone().into_iter().collect(),
        };
        let branch = &self.job.config.table.branch;
        let prepared = prepare(Draft {
            base: &self.base,
            live,
            branch,
            files: &files,
            summary,
            snapshot_id,
            now_ms: (self.job.run.now_ms)(),
            names: &names,
            updates: vec![set_property(StateProperty::key(&self.job.config.name, branch), property.encode())],
        })
        .await?;
        let mut written = prepared.written;
        let own: HashSet<&str> = self.collected.data.iter().map(|file| file.data_file.file_path()).collect();
        let new = files.data.iter().chain(files.deletes.iter().map(|(_, file)| file)).map(DataFile::file_path);
        written.extend(new.filter(|path| !own.contains(path)).map(str::to_owned));
        let (outcome, together) = match self.rejects(attempt).await? {
            Some(rejects) => (self.job.catalog.swap_together(&[prepared.change, rejects.change]).await, true),
            None => (self.job.catalog.swap(&prepared.change).await, false),
        };
        Ok(Some((Tried { snapshot_id, written, files, together }, outcome)))
    }

    /// The append of the batch's rejects, where the catalog can commit it together with the batch.
    async fn rejects(&self, attempt: u32) -> Result<Option<Prepared>> {
        let Some(pending) = self.progress.rejects.as_ref().filter(|_| self.together) else { return Ok(None) };
        if !self.job.catalog.swaps_together().await? {
            return Ok(None);
        }
        let door = self.job.rejects(&self.base, rejects_ident(self.job.config), &self.names);
        door.change(&self.progress, pending, attempt).await
    }

    fn merge(&self) -> MergeSet {
        match (&self.collected.dedupe, &self.job.config.mode) {
            (Some(dedupe), Mode::Merge(config)) => merge(dedupe, &self.collected.stored, config.ties),
            _ => MergeSet::default(),
        }
    }

    /// Takes dead rows out as the table wants it. Also answers how many rows of the data files added are not new live ones.
    async fn write(
        &self,
        live: &LiveFiles,
        names: &FileNames,
        dead: &BTreeMap<usize, RoaringTreemap>,
        own_dead: &BTreeMap<u32, RoaringTreemap>,
    ) -> Result<(FileSet, u64)> {
        let metadata = Arc::clone(&self.base.metadata);
        let copies = MergeMode::of(&metadata) == Ok(MergeMode::CopyOnWrite);
        let memory_max = if copies { Budget::of(self.job.config.limits.memory_limit).writer } else { 16 << 20 };
        let index = match &self.job.config.mode {
            Mode::Merge(merge) => key_index(merge, metadata.current_schema()).map(Arc::new),
            Mode::Append { .. } => None,
        };
        let target = WriteTarget { metadata, store: self.job.store.clone(), names: names.clone(), memory_max, index };
        let own = &self.collected.data;
        if copies {
            let new = Box::pin(rewrite(&target, live, dead, own, own_dead)).await?;
            let data = new.own.into_iter().chain(new.added).collect();
            let (removed, superseded, carried_rows) = (new.removed, new.void, new.carried_rows);
            return Ok((FileSet { data, deletes: Vec::new(), removed, superseded, carried_rows }, carried_rows));
        }
        let deletes = write_deletes(&target, live, dead, own, own_dead).await?;
        let data = own.iter().map(|file| file.data_file.clone()).collect();
        let files = FileSet { data, deletes: deletes.added, superseded: deletes.superseded, ..FileSet::default() };
        Ok((files, own_dead.values().map(RoaringTreemap::len).sum()))
    }

    /// The laws that guard the commit: a batch that breaks one never reaches the table.
    fn check(&self, files: &FileSet, old_rows: u64, dead_rows: u64) {
        let (counts, plan) = (&self.progress.counts, &self.pulled.plan);
        assert_eq!(counts.read, counts.sum(), "each record read has one outcome: {counts:?}");
        let written: u64 = files.data.iter().map(DataFile::record_count).sum();
        assert_eq!(written - old_rows, counts.inserted + counts.updated, "each insert and update is one live new row");
        let replaced = counts.updated + counts.deleted + counts.collapsed;
        assert_eq!(dead_rows, replaced, "each update and delete takes out the rows of its id");
        for (partition, start) in &plan.starts {
            let end = self.progress.end[partition];
            assert!(*start <= end, "partition {partition} goes back from {start} to {end}");
            assert!(
                plan.ranges.get(partition).map_or(*start, |at| at.range.end()) >= end,
                "partition {partition} was read past its plan"
            );
        }
    }

    /// Looks for the snapshots of all attempts before judging anything. The same batch id under another run's name is a rival's.
    async fn place(&self, table: &LoadedTable, warnings: &mut Vec<String>) -> Result<Place> {
        if table.metadata.uuid() != self.base.metadata.uuid() {
            return Err(replaced(table));
        }
        let state = state::find(table, &self.job.config.table.branch, &self.job.config.name).await?;
        // Another run may have committed on top of ours before we looked, so every ancestor counts, not only the newest of the job.
        if let Some(ours) = state::ancestor_among(&table.metadata, state.head.as_ref(), &self.attempts) {
            return Ok(Place::Done(ours));
        }
        if state.snapshot_id() != self.pulled.state.snapshot_id() {
            return Ok(Place::Moved);
        }
        // A rival's batch may have come and been rolled back since, and its rejects have the number that ours are to have.
        self.job.undo_rejects(&self.names, table, &state, warnings).await?;
        Ok(Place::Next)
    }

    /// What was decoded and written fits the schema, the spec and the format it was made for, and values carried over their head.
    fn must_redo(&self, now: &TableMetadata) -> bool {
        let base = &self.base.metadata;
        let keeps = matches!(&self.job.config.mode, Mode::Merge(MergeConfig { unmapped: Unmapped::Keep, .. }));
        now.current_schema_id() != base.current_schema_id()
            || now.default_partition_spec_id() != base.default_partition_spec_id()
            || now.format_version() != base.format_version()
            || (keeps && !self.pulled.supplied.unmapped.is_empty())
            || self.collected.dedupe.as_ref().is_some_and(|dedupe| !dedupe.deleted().is_empty())
    }

    /// Takes the new head as base and searches the ids in it.
    async fn rebase(&mut self, table: LoadedTable) -> Result<Arc<LiveFiles>> {
        let branch = &self.job.config.table.branch;
        let live = self.job.live_files(&table.metadata, table.metadata.snapshot_for_ref(branch)).await?;
        if let (Some(dedupe), Mode::Merge(config)) = (&mut self.collected.dedupe, &self.job.config.mode) {
            self.job.observer.phase(Phase::Match);
            let columns = MergeColumns::of_table(config, &table, Vec::new(), self.job.config.limits.memory_limit)?;
            let min_event_time = self.pulled.state.progress().and_then(|p| p.watermark);
            let matches = columns.lookup(&live, &table, dedupe, 0, self.job.store, min_event_time).await?;
            self.collected.stored = StoredRows::default();
            self.collected.stored.extend(matches.rows);
            self.collected.searched += matches.searched;
        }
        self.base = table;
        Ok(live)
    }

    /// The batch's own data files that are not among `files`: they were rewritten.
    fn unused(&self, files: &FileSet) -> Vec<String> {
        let used: HashSet<&str> = files.data.iter().map(DataFile::file_path).collect();
        let own = self.collected.data.iter().map(|file| file.data_file.file_path());
        own.filter(|path| !used.contains(path)).map(str::to_owned).collect()
    }

    /// Deletes files that no snapshot names, after a known answer.
    async fn delete(&self, paths: &[String]) {
        if !self.unclear {
            self.job.delete(paths).await;
        }
    }

    fn done(self, snapshot_id: i64, tried: &Tried, attempts: u32, live: &LiveFiles) -> Ending {
        let remaining = self.pulled.plan.remaining(&self.progress.end);
        let topic = &self.progress.topic;
        let report = BatchReport {
            batch: self.progress.batch,
            epoch: self.progress.epoch,
            batch_id: self.progress.batch_id.clone(),
            snapshot_id,
            operation: tried.files.operation().as_str().to_owned(),
            offsets: OffsetsReport {
                start: BTreeMap::from([(topic.clone(), self.progress.start.clone())]),
                end: BTreeMap::from([(topic.clone(), self.progress.end.clone())]),
            },
            records: self.progress.counts,
            watermark: self.progress.watermark.map(rfc3339),
            attempts,
            files: FilesReport {
                data_files: count(tried.files.data.len()),
                data_bytes: tried.files.data.iter().map(DataFile::file_size_in_bytes).sum(),
                delete_files: count(tried.files.deletes.len()),
                rewritten_files: count(tried.files.removed.len()),
                carried_rows: tried.files.carried_rows,
                table_files: live.data_files(),
                files_searched: self.collected.searched.files,
                files_indexed: self.collected.searched.indexed,
                search_requests: self.collected.searched.requests,
                search_bytes: self.collected.searched.bytes,
            },
            cut: self.reached.cut.map(|cut| cut_name(cut).to_owned()),
            duration_ms: u64::try_from((self.job.run.now_ms)() - self.began_ms).unwrap_or(0),
        };
        Ending::Committed(Box::new(Committed { progress: self.progress, report, remaining }))
    }
}

/// One attempt.
struct Tried {
    snapshot_id: i64,
    /// Files that only this attempt named.
    written: Vec<String>,
    files: FileSet,
    /// Whether the batch's rejects were part of it.
    together: bool,
}

/// The state that the batch will leave, but for the counts of its merge.
fn progress<S: Source, C: Catalog>(job: &Job<'_, S, C>, pulled: &Pulled, collected: &Collected, reached: &Reached) -> Progress {
    let before = pulled.state.progress();
    let (epoch, batch) = next_batch(before.map(|p| (p.epoch, p.batch)));
    let mut end = pulled.plan.starts.clone();
    end.extend(reached.ends.iter().map(|(&p, &offset)| (p, offset)));
    let mut start = pulled.plan.starts.clone();
    for (&partition, &(lost_from, _)) in &pulled.plan.skipped {
        start.insert(partition, lost_from);
    }
    let mut leader_epochs = before.map(|p| p.leader_epochs.clone()).unwrap_or_default();
    // An epoch belongs to its offset: beside a later one, an election in between would look like a truncated log.
    leader_epochs.retain(|partition, _| before.is_some_and(|before| before.end.get(partition) == end.get(partition)));
    leader_epochs.extend(&reached.leader_epochs);
    let mut max_event_time = before.map(|p| p.max_event_time.clone()).unwrap_or_default();
    for (&partition, &time) in &collected.max_event_time {
        let highest = max_event_time.entry(partition).or_insert(time);
        *highest = time.max(*highest);
    }
    let watermark = advance(&Advance {
        watermark: before.and_then(|p| p.watermark),
        max_event_time: &max_event_time,
        ends: &end,
        high_watermarks: &pulled.plan.high_watermarks,
        delay: job.config.watermark.delay,
    });
    let topic_id = pulled.bounds.topic_id.clone().or_else(|| before.and_then(|p| p.topic_id.clone()));
    let batch_id = BatchName {
        table_uuid: &pulled.table.metadata.uuid().to_string(),
        branch: &job.config.table.branch,
        job: &job.config.name,
        started_from: pulled.state.snapshot_id(),
        epoch,
        batch,
        topic: &pulled.bounds.topic,
        topic_id: topic_id.as_deref(),
        start: &start,
        end: &end,
    }
    .id();
    Progress {
        job: job.config.name.clone(),
        kind: Kind::Batch,
        epoch,
        batch,
        batch_id,
        topic: pulled.bounds.topic.clone(),
        topic_id,
        cluster_id: pulled.bounds.cluster_id.clone(),
        start,
        end,
        skipped: pulled.plan.skipped.clone(),
        leader_epochs,
        // Rows that were merged stay so while a job appends.
        id: id_fields(job.config, pulled.table.metadata.current_schema()).or_else(|| before?.id.clone()),
        watermark,
        // A watermark that waits out a job without an event time stays that column's.
        event_time_id: state::event_time_id(job.config, &pulled.table).or(before.and_then(|p| p.event_time_id)),
        max_event_time,
        planned_at: job.run.started_at,
        run_id: job.run.id.to_string(),
        counts: Counts::default(),
        rejects: collected.rejects.clone(),
    }
}

/// A table under the same name that is not the one that the run began with.
pub(super) fn replaced(table: &LoadedTable) -> Error {
    Error::refused(
        format!("table `{}` was replaced by another one while the run was under way", table.ident),
        "nothing was committed to the new table; `tidegate status` shows where the job stands in it",
    )
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("counts fit")
}

fn cut_name(cut: Cut) -> &'static str {
    match cut {
        Cut::Bytes => "max_bytes_per_trigger",
        Cut::Duration => "max_duration",
        Cut::Memory => "memory_limit",
        Cut::Signal => "signal",
    }
}
