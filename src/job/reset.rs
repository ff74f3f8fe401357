//! A reset: the one commit that moves a job's state without a row.
//!
//! It follows the protocol of a batch's commit, but takes every attempt from the start: on each fresh load the state is looked at,
//! the moves are judged and the change is made anew, so that a run or another engine that was first is taken in, never overwritten.
//! A run that was under way finds another state than it began from, and ends without effect.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, CommitOutcome, LoadedTable};
use crate::commit::{Draft, prepare};
use crate::config::Mode;
use crate::counts::Counts;
use crate::error::{BoxError, Error, Result};
use crate::job::commit::replaced;
use crate::job::retry::Retry;
use crate::job::settle::{Gone, group};
use crate::job::{Job, rejects_ident, table_ident};
use crate::live::files::LiveFiles;
use crate::names::FileNames;
use crate::observe::Phase;
use crate::offsets::{Offsets, Partition, TopicBounds};
use crate::plan::other_topic;
use crate::progress::{BatchName, Kind, Progress, StateProperty};
use crate::reset::{Before, Move, To, may_repeat, moves};
use crate::snapshot::{FileSet, set_property, snapshot_id};
use crate::source::Source;
use crate::state::{self, Look, State};
use crate::table::fit::id_fields;

/// What the user wants.
#[derive(Debug, Clone)]
pub struct ResetOptions {
    /// Where the job is to go on.
    pub to: To,
    /// Watermark from then on, µs; none until a batch makes one.
    pub watermark: Option<i64>,
    /// The user's word that in append mode rows may come twice.
    pub allow_duplicates: bool,
    /// Whether to do it, and not only to say what it would do.
    pub execute: bool,
}

/// What a reset did, or would do.
#[derive(Debug)]
pub struct Judged {
    /// What every partition's move is.
    pub moves: BTreeMap<Partition, Move>,
    /// Why the offsets before mean nothing, where that is so.
    pub why_unknown: Option<String>,
    /// Partitions of the state that the topic does not have.
    pub dropped: Vec<Partition>,
    /// Topic.
    pub topic: String,
    /// Epoch that begins.
    pub epoch: u64,
    /// Number of the job's last batch, 0 before the first.
    pub batch: u64,
    /// Snapshot that carries the reset; none where nothing was done.
    pub snapshot_id: Option<i64>,
    /// What went wrong without failing the reset.
    pub warnings: Vec<String>,
    standing: Standing,
    bounds: TopicBounds,
}

/// Where the job stands before the reset.
#[derive(Debug)]
struct Standing {
    state: State,
    /// Epoch and batch above which nothing of the job lies.
    last: Option<(u64, u64)>,
    /// Why the state cannot be trusted, where the table may hold batches of the job all the same.
    doubt: Option<String>,
}

/// All attempts of this reset.
#[derive(Debug, Default)]
struct Attempts {
    /// Each with what it would do; an unclear one may turn out to be in.
    tried: Vec<Judged>,
    unclear: bool,
    /// Metadata that refused the last one, and why.
    refused: Option<(String, BoxError)>,
}

impl<S: Source, C: Catalog> Job<'_, S, C> {
    /// Resets the job, or says what a reset would do.
    pub async fn reset(&self, options: &ResetOptions) -> Result<Judged> {
        let names = FileNames::new(&self.config.name, self.run.id);
        let mut warnings = Vec::new();
        self.observer.phase(Phase::Plan);
        let first = self.load().await?;
        let mut retry = Retry::of(&first.metadata);
        let mut attempts = Attempts::default();
        let mut table = first.clone();
        let mut attempt = 0;
        loop {
            if attempt > 0 {
                table = self.load().await?;
                if let Some(done) = attempts.settled(&table, &first, &self.config.table.branch)? {
                    return Ok(self.after_reset(done, warnings));
                }
            }
            let judged = self.judge_reset(options, &table, &names).await?;
            if !options.execute {
                return Ok(judged);
            }
            // Which rejects belong to rows of the table is known only where the state is; else they stay.
            if judged.standing.doubt.is_none() {
                self.settle_rejects(&names, &table, &judged.standing.state, Gone::GiveUp, &mut warnings).await?;
            }
            if let Some(done) = self.try_reset(options, &table, judged, &names.attempt(attempt), &mut attempts).await? {
                return Ok(self.after_reset(done, warnings));
            }
            attempt += 1;
            if !retry.again(self.run.id.as_bytes()).await {
                break;
            }
        }
        let table = self.load().await?;
        if let Some(done) = attempts.settled(&table, &first, &self.config.table.branch)? {
            return Ok(self.after_reset(done, warnings));
        }
        Err(match attempts.unclear {
            true => Error::unavailable(
                format!("learn whether the reset of table `{}` went in", table.ident),
                BoxError::from("no attempt was answered, and none of their snapshots is in the table yet"),
            ),
            false => Error::Contended { table: table_ident(self.config).to_string(), attempts: attempt },
        })
    }

    /// What the reset does to the table as it is now.
    async fn judge_reset(&self, options: &ResetOptions, table: &LoadedTable, names: &FileNames) -> Result<Judged> {
        let standing = self.standing(table, names).await?;
        let bounds = self.bounds(true).await?;
        let at_time = match options.to {
            To::Time(millis) => tokio::task::block_in_place(|| self.source.offsets_at(millis))?,
            To::Earliest | To::Latest | To::Offsets(_) => Offsets::new(),
        };
        let progress = standing.state.progress();
        let before = match (&standing.doubt, progress) {
            (Some(why), _) => Before::Unknown(why.clone()),
            (None, Some(progress)) => match other_topic(progress, &bounds) {
                Some(other) => Before::OtherTopic(other.to_string()),
                None => Before::Offsets(&progress.end),
            },
            (None, None) => Before::Never,
        };
        let moves = moves(&options.to, &before, &bounds, &at_time)?;
        if matches!(self.config.mode, Mode::Append { .. }) && !options.allow_duplicates {
            may_repeat(&before, &moves)?;
        }
        let (epoch, batch) = standing.last.map_or((1, 0), |(epoch, batch)| (epoch + 1, batch));
        let gone = |partition: &&Partition| !bounds.partitions.contains_key(partition);
        Ok(Judged {
            moves,
            why_unknown: before.why_unknown().map(str::to_owned),
            dropped: progress.map(|p| p.end.keys().filter(gone).copied().collect()).unwrap_or_default(),
            topic: bounds.topic.clone(),
            epoch,
            batch,
            snapshot_id: None,
            warnings: Vec::new(),
            standing,
            bounds,
        })
    }

    async fn standing(&self, table: &LoadedTable, names: &FileNames) -> Result<Standing> {
        let (branch, job) = (&self.config.table.branch, &self.config.name);
        let (state, doubt) = match state::look(table, branch, job).await? {
            Look::Known(state) => {
                let lost = || format!("table `{}` has lost its oldest snapshots, and no state of the job is left", table.ident);
                let doubt = (state.found.is_none() && !state.whole).then(lost);
                (state, doubt)
            }
            Look::Doubtful { state, why } => {
                let doubt = (!state.whole).then(|| why.to_string());
                (state, doubt)
            }
        };
        let last = match state.progress() {
            Some(progress) => Some((progress.epoch, progress.batch)),
            // The new epoch must lie above every trace of the job: rejects of a batch below the rejects table's would be lost.
            None => {
                let rejects = self.rejects(table, rejects_ident(self.config), names).last().await?;
                state::last_trace(table, branch, job).max(rejects)
            }
        };
        Ok(Standing { state, last, doubt })
    }

    /// One attempt; none asks for another one.
    async fn try_reset(
        &self,
        options: &ResetOptions,
        table: &LoadedTable,
        mut judged: Judged,
        names: &FileNames,
        attempts: &mut Attempts,
    ) -> Result<Option<Judged>> {
        self.observer.phase(Phase::Commit);
        let progress = self.reset_progress(options, table, &judged);
        let attempt = u32::try_from(attempts.tried.len()).expect("attempts fit");
        let snapshot_id = snapshot_id(self.run.id, "reset", table.metadata.last_sequence_number(), attempt);
        let (summary, branch) = (progress.encode(), &self.config.table.branch);
        let property = StateProperty {
            table_uuid: table.metadata.uuid().to_string(),
            snapshot_id,
            summary: summary.clone().into_iter().collect(),
        };
        let live = LiveFiles::listed(&table.metadata, table.metadata.snapshot_for_ref(branch), self.store).await?;
        let prepared = prepare(Draft {
            base: table,
            live: &live,
            branch,
            files: &FileSet::default(),
            summary,
            snapshot_id,
            now_ms: (self.run.now_ms)(),
            names,
            updates: vec![set_property(StateProperty::key(&self.config.name, branch), property.encode())],
        })
        .await?;
        judged.snapshot_id = Some(snapshot_id);
        match self.catalog.swap(&prepared.change).await {
            CommitOutcome::Committed => return Ok(Some(judged)),
            CommitOutcome::Refused(cause) => {
                tracing::info!(attempt, %cause, "the reset was refused");
                // After an unclear answer nothing is deleted any more.
                if !attempts.unclear {
                    self.delete(&prepared.written).await;
                }
                attempts.refused = Some((table.metadata_location.clone(), cause));
            }
            CommitOutcome::Unclear(cause) => {
                tracing::warn!(attempt, %cause, "no answer to the reset; looking at the table");
                attempts.unclear = true;
            }
        }
        attempts.tried.push(judged);
        Ok(None)
    }

    /// The state that the reset leaves.
    fn reset_progress(&self, options: &ResetOptions, table: &LoadedTable, judged: &Judged) -> Progress {
        let at: Offsets = judged.moves.iter().map(|(&partition, one)| (partition, one.to)).collect();
        let before = judged.standing.state.progress().filter(|_| judged.why_unknown.is_none());
        // An epoch says what stood before an offset; where the user chose the offset, nothing does.
        let stays = |partition: &Partition| match &options.to {
            To::Offsets(named) => !named.contains_key(partition),
            To::Earliest | To::Latest | To::Time(_) => false,
        };
        let epochs = before.map(|p| p.leader_epochs.clone()).unwrap_or_default();
        let batch_id = BatchName {
            table_uuid: &table.metadata.uuid().to_string(),
            branch: &self.config.table.branch,
            job: &self.config.name,
            started_from: judged.standing.state.snapshot_id(),
            epoch: judged.epoch,
            batch: judged.batch,
            topic: &judged.topic,
            topic_id: judged.bounds.topic_id.as_deref(),
            start: &at,
            end: &at,
        }
        .id();
        Progress {
            job: self.config.name.clone(),
            kind: Kind::Reset,
            epoch: judged.epoch,
            batch: judged.batch,
            batch_id,
            topic: judged.topic.clone(),
            topic_id: judged.bounds.topic_id.clone(),
            cluster_id: judged.bounds.cluster_id.clone(),
            start: at.clone(),
            end: at,
            skipped: BTreeMap::new(),
            leader_epochs: epochs.into_iter().filter(|(partition, _)| stays(partition)).collect(),
            id: id_fields(self.config, table.metadata.current_schema()),
            watermark: options.watermark,
            event_time_id: state::event_time_id(self.config, table),
            max_event_time: BTreeMap::new(),
            planned_at: self.run.started_at,
            run_id: self.run.id.to_string(),
            counts: Counts::default(),
            rejects: None,
        }
    }

    fn after_reset(&self, mut done: Judged, mut warnings: Vec<String>) -> Judged {
        if self.config.kafka.mirror_group {
            let group = group(&self.config.name);
            let offsets = done.moves.iter().map(|(&partition, one)| (partition, one.to)).collect();
            if let Err(error) = tokio::task::block_in_place(|| self.source.mirror(&group, &offsets)) {
                warnings.push(format!("offsets were not mirrored to group `{group}`: {}", error.cause()));
            }
        }
        self.observer.phase(Phase::Done);
        done.warnings.extend(warnings);
        done
    }
}

impl Attempts {
    /// The attempt that is in the table after all; or why another one makes no sense.
    fn settled(&mut self, table: &LoadedTable, first: &LoadedTable, branch: &str) -> Result<Option<Judged>> {
        if table.metadata.uuid() != first.metadata.uuid() {
            return Err(replaced(table));
        }
        let ids: Vec<i64> = self.tried.iter().filter_map(|judged| judged.snapshot_id).collect();
        let found = state::ancestor_among(&table.metadata, table.metadata.snapshot_for_ref(branch), &ids);
        if let Some(at) = self.tried.iter().position(|judged| judged.snapshot_id == found && found.is_some()) {
            return Ok(Some(self.tried.swap_remove(at)));
        }
        match self.refused.take() {
            Some((location, cause)) if location == table.metadata_location && !self.unclear => {
                Err(Error::of_refusal(&table.ident, cause))
            }
            _ => Ok(None),
        }
    }
}
