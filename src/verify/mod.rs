//! Proves on a live table what tidegate guarantees, guarantee by guarantee; changes nothing.
//!
//! Trusts no account of a run where it can count for itself: rows are counted from data files and deletes, files are looked for in
//! the store, and the last batch is pulled from Kafka and judged again. Memory is bounded by `limits.memory_limit`, besides the
//! manifests of one snapshot, which every run holds too. A guarantee that cannot be judged is skipped and says why; only one that
//! was judged and does not hold fails.

pub(crate) mod chain;
mod compare;
mod files;
mod findings;
mod history;
mod last_batch;
mod rejects;
mod replay;
mod rowhash;
mod rows;
mod scan;
mod unique;

use std::sync::Arc;

use iceberg::spec::SnapshotRef;

pub(crate) use findings::{Guarantee, Judgement};

use crate::catalog::{Catalog, LoadedTable};
use crate::config::{Config, MatchScope, MetadataKind, Mode};
use crate::error::{Error, Result};
use crate::live::files::LiveFiles;
use crate::progress::StateProperty;
use crate::source::Source;
use crate::state;
use crate::storage::Store;
use findings::Check;
use history::History;
use unique::Allowed;

/// Bytes that verification needs besides what it holds on purpose: code, librdkafka, one decoded batch of rows in each hand.
const MEMORY_BASE: u64 = 64 << 20;

/// The doors that a verification goes through.
#[derive(Debug)]
pub(crate) struct Doors<'a, S, C> {
    /// The job.
    pub(crate) config: &'a Config,
    /// Kafka.
    pub(crate) source: &'a S,
    /// Catalog of the job's tables.
    pub(crate) catalog: &'a C,
    /// Store of the job's tables.
    pub(crate) store: &'a Store,
}

/// What every check is about.
#[derive(Debug)]
pub(crate) struct Subject<'a, S, C> {
    doors: &'a Doors<'a, S, C>,
    table: LoadedTable,
    /// The rejects table as it was before: what is in it, the main table must know.
    rejects: Option<LoadedTable>,
    head: Option<SnapshotRef>,
    /// Whether the table was rolled back to before batches of the job.
    rolled_back: bool,
    /// Whether the job was ever reset, and may have read records again.
    was_reset: bool,
    history: History,
    /// Bytes that a check may hold.
    memory_max: u64,
}

/// Every guarantee in turn. `rejects` must have been loaded before `table`.
pub(crate) async fn verify<S: Source, C: Catalog>(
    doors: &Doors<'_, S, C>,
    table: LoadedTable,
    rejects: Option<LoadedTable>,
) -> Result<Vec<Guarantee>> {
    let config = doors.config;
    let memory_max = config.limits.memory_limit.saturating_sub(MEMORY_BASE).max(16 << 20) / 4 * 3;
    let (rolled_back, was_reset, refused) = match state::find(&table, &config.table.branch, &config.name).await {
        Ok(state) => (state.rolled_back_from.is_some(), state.progress().is_some_and(|progress| progress.epoch > 0), None),
        // A state that contradicts itself is what `ranges` is about; the other guarantees can still be judged.
        Err(Error::Refused { what, .. }) => (false, false, Some(what)),
        Err(error) => return Err(error),
    };
    let head = table.metadata.snapshot_for_ref(&config.table.branch).cloned();
    let history = History::of(&table.metadata, head.as_ref(), &config.name);
    let subject = Subject { doors, table, rejects, head, rolled_back, was_reset, history, memory_max };
    // Looked for first: what cannot be read because its file is gone is told once, by the file.
    let files = Guarantee::settle("files", FILES_HINT, true, files::all(&subject).await);
    let whole = files.result != Judgement::Fail;
    let settle = |name, hint, check| Guarantee::settle(name, hint, whole, check);
    let mut guarantees = vec![
        settle("ranges", RANGES_HINT, Ok(chain::ranges(&subject.history, refused))),
        settle("accounts", ACCOUNTS_HINT, rows::accounts(&subject).await),
        settle("watermark", WATERMARK_HINT, Ok(chain::watermark(&subject.history))),
        files,
    ];
    for (name, columns, allowed) in subject.unique_columns() {
        let hint = if allowed == Allowed::Never { UNIQUE_HINT } else { REPEATED_HINT };
        guarantees.push(settle(name, hint, subject.unique(&columns, allowed).await));
    }
    guarantees.push(settle("rejects", REJECTS_HINT, rejects::rejects(&subject).await));
    guarantees.push(settle("last_batch", LAST_BATCH_HINT, last_batch::last_batch(&subject).await));
    Ok(guarantees)
}

const RANGES_HINT: &str = "offsets were lost or read twice, or a summary was edited: roll the table back to the last snapshot before it, and \
                           run again; the range is read again from Kafka";
const ACCOUNTS_HINT: &str =
    "the table does not hold what the run says it wrote: roll it back to the snapshot before, and run again";
const WATERMARK_HINT: &str = "records may have been judged late by a wrong watermark, or a summary was edited: roll the table back to the \
                              snapshot before it, and run again";
const FILES_HINT: &str = "restore the file from a backup, or roll the table back to a snapshot without it and run again";
const UNIQUE_HINT: &str = "another writer inserted the id, or a run did wrong: delete the extra rows; the next version of the id also \
                           collapses them into one";
const REPEATED_HINT: &str = "the job allows it; delete the extra rows if they are not wanted";
const REJECTS_HINT: &str = "delete the extra rows, or restore the rejects table by a rollback; where the main table was dropped and made \
                            again under its name, the next run takes the rejects of the old one out";
const LAST_BATCH_HINT: &str = "if the job file was changed since that batch, run again and verify then; otherwise roll the table back to the \
                               snapshot before it, and run again";

impl<S: Source, C: Catalog> Subject<'_, S, C> {
    /// Which columns must name a row, and what it means if they do not.
    fn unique_columns(&self) -> Vec<(&'static str, Vec<String>, Allowed)> {
        let config = self.doors.config;
        match &config.mode {
            Mode::Merge(merge) => {
                let allowed = match merge.match_scope {
                    MatchScope::Table => Allowed::Never,
                    MatchScope::Watermark => Allowed::Beyond,
                };
                vec![("unique", merge.id.clone(), allowed)]
            }
            Mode::Append { .. } => {
                let mut checks = vec![("unique", config.verify.unique.clone(), Allowed::Sent)];
                let column = |kind| config.metadata.iter().find(|(_, of)| **of == kind).map(|(name, _)| name.clone());
                if let (Some(partition), Some(offset)) = (column(MetadataKind::Partition), column(MetadataKind::Offset)) {
                    let topic = column(MetadataKind::Topic);
                    let allowed = match self.was_reset {
                        true => Allowed::Reread,
                        false if topic.is_none() && self.has_other_jobs() => Allowed::Shared,
                        false => Allowed::Never,
                    };
                    checks.push(("loaded_once", topic.into_iter().chain([partition, offset]).collect(), allowed));
                }
                checks
            }
        }
    }

    /// Whether other jobs write the table too, maybe from other topics.
    fn has_other_jobs(&self) -> bool {
        let config = self.doors.config;
        let own = StateProperty::key(&config.name, &config.table.branch);
        self.table.metadata.properties().keys().any(|key| key.starts_with("tidegate.state.") && *key != own)
    }

    async fn unique(&self, columns: &[String], allowed: Allowed) -> Result<Check> {
        if columns.is_empty() {
            return Ok(Check::skip("the job file names no `[verify] unique` columns; append mode promises none"));
        }
        let metadata = &self.table.metadata;
        let live = Arc::new(LiveFiles::load(metadata, self.head.as_ref(), self.doors.store).await?);
        let scan = scan::Scan::open(live, self.doors.store).await?;
        let found = unique::repeated(&scan, metadata.current_schema(), columns, self.memory_max).await?;
        Ok(found.check(columns, allowed))
    }
}
