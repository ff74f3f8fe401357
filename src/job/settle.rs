//! What a run does for the rejects table: before it plans, it finishes what an earlier run left open; after its commit, its own.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::pipeline::{PullPlan, collect};
use crate::batch::{BatchSpec, RejectSink};
use crate::catalog::{Catalog, LoadedTable};
use crate::error::{Error, Result};
use crate::job::{Job, Supplied, decoder, rejects_ident};
use crate::live::files::LiveFiles;
use crate::live::lookup::Likely;
use crate::memory::Budget;
use crate::names::FileNames;
use crate::observe::Phase;
use crate::plan::{other_topic, ranges_read};
use crate::progress::{PendingRejects, Progress};
use crate::rejects::{Rejects, open};
use crate::source::{PullLimits, Source, Stop};
use crate::state::State;

/// What to do about pending rejects whose files are gone, when their records are gone from Kafka too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// The run ends, but where the job gives up what retention took: a later one may find them.
    Refuse,
    /// They are given up, with a warning.
    GiveUp,
}

impl<S: Source, C: Catalog> Job<'_, S, C> {
    /// Appends rejects that a dead run left pending, and takes out those of batches that a rollback undid.
    pub(super) async fn settle_rejects(
        &self,
        names: &FileNames,
        table: &LoadedTable,
        state: &State,
        gone: Gone,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        self.undo_rejects(names, table, state, warnings).await?;
        let Some(progress) = state.progress() else { return Ok(()) };
        let Some((ident, pending)) = open(self.catalog, table, &self.config.table.branch, progress).await? else { return Ok(()) };
        let door = self.rejects(table, ident, names);
        self.observer.phase(Phase::Rejects);
        if door.files_exist(pending).await? {
            return door.append(progress, pending).await;
        }
        let starts = || ranges_read(progress).iter().map(|(&partition, at)| (partition, at.range.start())).collect();
        match self.pull_rejects_again(table, progress, pending, &door, names).await {
            Ok(again) => door.append(progress, &again).await,
            // Where the job gives up what retention took, its rejects are no reason to stand still for ever.
            Err(error @ Error::Refused { .. }) if gone == Gone::GiveUp || self.may_skip(&starts())? => {
                warnings.push(format!(
                    "the rejects of batch {} never reached `{}`: their files are gone, and {error}",
                    progress.batch, door.ident
                ));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes out the rejects of batches that a rollback undid. A commit to the table is no trace of the rollback any more, so this
    /// comes before each.
    pub(super) async fn undo_rejects(
        &self,
        names: &FileNames,
        table: &LoadedTable,
        state: &State,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        if state.property_agrees && state.found.is_some() {
            return Ok(());
        }
        let door = self.rejects(table, rejects_ident(self.config), names);
        let undone = door.undo().await?;
        if undone > 0 {
            warnings.push(format!(
                "the table was rolled back or made again: {undone} rejects of batches that it does not hold were taken out of `{}`",
                door.ident
            ));
        }
        Ok(())
    }

    /// The rejects' files are gone: the batch's range is pulled again, and judged as it was then.
    async fn pull_rejects_again(
        &self,
        table: &LoadedTable,
        progress: &Progress,
        pending: &PendingRejects,
        door: &Rejects<'_, C>,
        names: &FileNames,
    ) -> Result<PendingRejects> {
        let bounds = tokio::task::block_in_place(|| self.source.bounds())?;
        if let Some(other) = other_topic(progress, &bounds) {
            return Err(other);
        }
        let live = Arc::new(LiveFiles::load(&table.metadata, None, self.store).await?);
        let supplied = Supplied::of(self.config, table)?;
        let spec = BatchSpec {
            config: self.config,
            table,
            live: &live,
            store: self.store,
            judge: self.judge(pending.judged_by, progress.planned_at),
            likely: Likely::default(),
            names: names.clone(),
            rejects_only: true,
        };
        let pull = PullPlan {
            ranges: &ranges_read(progress),
            limits: PullLimits {
                bytes_max: u64::MAX,
                // A batch cut by its time would need as long again; standing still ends it all the same.
                duration_max: Duration::MAX,
                stall_timeout: self.config.limits.stall_timeout,
            },
            // The range must come whole: a cut one would lose the rest of its rejects.
            stop: &Stop::default(),
            budget: Budget::of(self.config.limits.memory_limit).uncut(),
        };
        let sink = RejectSink::new(door, self.origin(progress.epoch, progress.batch));
        let decoder = decoder(self.config, table, &supplied)?;
        let (collected, reached) = collect(self.source, &pull, decoder, &spec, sink, supplied.unmapped, self.observer)?;
        if reached.cut.is_some() {
            return Err(Error::broken("the pull of the last batch's rejects was cut without a bound"));
        }
        Ok(collected.rejects.unwrap_or(PendingRejects { files: Vec::new(), ..pending.clone() }))
    }

    /// What follows a commit: only a rejects append left open makes a run fail now. Those that the commit itself brought are found.
    pub(super) async fn after_commit(&self, door: &Rejects<'_, C>, progress: &Progress, warnings: &mut Vec<String>) -> Result<()> {
        if self.config.kafka.mirror_group {
            let group = group(&self.config.name);
            if let Err(error) = tokio::task::block_in_place(|| self.source.mirror(&group, &progress.end)) {
                warnings.push(format!("offsets were not mirrored to group `{group}`: {}", error.cause()));
            }
        }
        if let Some(pending) = &progress.rejects {
            self.observer.phase(Phase::Rejects);
            door.append(progress, pending).await.map_err(|error| match error {
                error @ (Error::Unavailable { .. } | Error::Contended { .. } | Error::Broken { .. }) => error,
                // The batch is in: whatever keeps its rejects out, running again goes on with them.
                error => Error::unavailable(format!("append the rejects of batch {}", progress.batch), error),
            })?;
        }
        Ok(())
    }
}

/// Consumer group to which a job's offsets are mirrored.
pub(crate) fn group(job: &str) -> String {
    format!("tidegate-{job}")
}
