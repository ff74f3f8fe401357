//! The run as one straight line, and every decision to retry, stop or go on.
//!
//! The exactly-once argument, in the order of the code:
//! 1. A batch starts where the table's state ends, and its id is a hash of what it is.
//! 2. Rows, offsets, watermark and batch id enter the table in one swap, guarded by "the head is still the one I read".
//! 3. After a refusal or an unclear answer nothing is assumed: the ancestry is read again and says done, next or moved.
//! 4. Trying again on the same base is safe, since at most one swap from one base can win; deleting files after an unclear answer
//!    is not, and is never done.
//! 5. File names carry the run's UUID: no run can overwrite or delete another's files.

mod bounds;
mod commit;
mod losses;
pub mod reset;
mod retry;
pub(crate) mod settle;
mod supplied;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iceberg::spec::{SnapshotRef, TableMetadataRef};
use iceberg::{NamespaceIdent, TableIdent};
use uuid::Uuid;

use crate::batch::pipeline::{PullPlan, collect};
use crate::batch::{BatchSpec, RejectSink};
use crate::catalog::{Catalog, LoadedTable};
use crate::config::{Config, Mode, Start};
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::job::losses::warn_of_skips;
use crate::job::settle::Gone;
use crate::live::files::LiveFiles;
use crate::live::lookup::Likely;
use crate::memory::Budget;
use crate::names::FileNames;
use crate::observe::{Observer, Phase};
use crate::offsets::{Offsets, TopicBounds};
use crate::plan::{Plan, PlanInput, plan};
use crate::rejects::rows::Origin;
use crate::rejects::{self, MainTable, Rejects};
use crate::report::{BatchReport, Outcome};
use crate::source::{Cut, PullLimits, Reached, Source, Stop};
use crate::state::{self, State};
use crate::storage::Store;
use crate::watermark::Judge;

pub(crate) use supplied::{Supplied, decoder};

/// How often a batch is pulled anew after the table changed under it.
pub(crate) const REDOS_MAX: u32 = 3;

/// Attempts are numbered through all redos; `commit.retry.num-retries` stays below.
const ATTEMPTS_PER_REDO: u32 = 100_000;

/// One invocation: everything that is drawn once at the edge.
#[derive(Debug, Clone)]
pub struct Run {
    /// Names the run and its files.
    pub id: Uuid,
    /// Start, µs since the epoch: "future" is judged against it.
    pub started_at: i64,
    /// The wall clock, ms since the epoch.
    pub now_ms: fn() -> i64,
}

/// How the user wants it run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Batch after batch, up to the end offsets seen at the start.
    pub drain: bool,
    /// The user's word that the job never wrote this table.
    pub first_run: bool,
}

/// One job with the doors to its broker and its tables.
pub struct Job<'a, S, C> {
    /// The job file.
    pub config: &'a Config,
    /// Kafka.
    pub source: &'a S,
    /// Catalog of the table and of the rejects table.
    pub catalog: &'a C,
    /// Store of both.
    pub store: &'a Store,
    /// This invocation.
    pub run: &'a Run,
    /// The wish to end.
    pub stop: &'a Stop,
    /// Who watches.
    pub observer: &'a dyn Observer,
}

impl<S, C> std::fmt::Debug for Job<'_, S, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("name", &self.config.name).field("run", &self.run).finish_non_exhaustive()
    }
}

/// What a run did, whether or not it ended well.
#[derive(Debug)]
pub struct Ended {
    /// How it ended; an error leaves the batches committed before it.
    pub outcome: Result<Outcome>,
    /// Batches committed.
    pub batches: Vec<BatchReport>,
    /// Offsets left unread, as far as known.
    pub remaining: Option<u64>,
    /// Watermark after the run, µs.
    pub watermark: Option<i64>,
    /// Newest event time known, µs.
    pub newest_event_time: Option<i64>,
    /// What went wrong without failing the run.
    pub warnings: Vec<String>,
}

/// How one batch ended.
pub(crate) enum BatchEnd {
    Committed,
    NothingNew,
    Skipped,
    Overtaken,
}

/// The table's full name as an identifier.
pub fn table_ident(config: &Config) -> TableIdent {
    ident(&config.table.namespace, &config.table.name)
}

/// The rejects table's identifier.
pub fn rejects_ident(config: &Config) -> TableIdent {
    match &config.rejects.table {
        Some((namespace, name)) => ident(namespace, name),
        None => ident(&config.table.namespace, &format!("{}_rejects", config.table.name)),
    }
}

fn ident(namespace: &[String], name: &str) -> TableIdent {
    let namespace = NamespaceIdent::from_vec(namespace.to_vec()).expect("the job file was checked to name a namespace");
    TableIdent::new(namespace, name.to_owned())
}

/// Loads the job's table, which must exist.
pub(crate) async fn load_table(catalog: &impl Catalog, config: &Config) -> Result<LoadedTable> {
    let ident = table_ident(config);
    if let Some(table) = catalog.load(&ident).await? {
        return Ok(table);
    }
    // A catalog that lists nothing, or not to us, leaves the hint as it is.
    let hint = match catalog.nearest(&ident).await {
        Ok(Some(near)) => format!("did you mean `{near}`? if not, `tidegate init JOB` creates it"),
        _ => "`tidegate init JOB` creates it".to_owned(),
    };
    Err(Error::setup(format!("table `{ident}` does not exist"), hint))
}

impl<S: Source, C: Catalog> Job<'_, S, C> {
    /// Runs the job: one batch, or with `drain` batch after batch.
    pub async fn run(&self, options: RunOptions) -> Ended {
        let mut ended = Ended {
            outcome: Ok(Outcome::NothingNew),
            batches: Vec::new(),
            remaining: None,
            watermark: None,
            newest_event_time: None,
            warnings: Vec::new(),
        };
        let mut up_to: Option<Offsets> = None;
        // One ordinal for the whole run: no two batches of a drain share a file name.
        let names = FileNames::new(&self.config.name, self.run.id);
        loop {
            let first_run = options.first_run && ended.batches.is_empty();
            let end = self.batch(&names, first_run, options.drain, &mut up_to, &mut ended).await;
            let went_on = matches!(&end, Ok(BatchEnd::Committed));
            ended.outcome = match end {
                Ok(BatchEnd::Committed) => {
                    if self.stop.requested().is_some() {
                        Ok(Outcome::Interrupted)
                    } else {
                        Ok(Outcome::Committed)
                    }
                }
                // A drain that has committed something has done its work when nothing is left.
                Ok(_) | Err(Error::Interrupted { .. }) if !ended.batches.is_empty() => ended.outcome,
                Ok(BatchEnd::NothingNew) => Ok(Outcome::NothingNew),
                Ok(BatchEnd::Skipped) => Ok(Outcome::Skipped),
                Ok(BatchEnd::Overtaken) => Ok(Outcome::Overtaken),
                Err(error) => Err(error),
            };
            if !went_on || !options.drain || self.stop.requested().is_some() || ended.remaining == Some(0) {
                break;
            }
        }
        self.observer.phase(Phase::Done);
        ended
    }

    /// One batch from plan to commit; pulled anew where the table changed so that what was pulled no longer fits.
    async fn batch(
        &self,
        names: &FileNames,
        first_run: bool,
        drain: bool,
        up_to: &mut Option<Offsets>,
        ended: &mut Ended,
    ) -> Result<BatchEnd> {
        for redo in 0..REDOS_MAX {
            self.observer.phase(Phase::Plan);
            let given_up = |error| self.given_up(redo, error);
            let table = self.load().await.map_err(given_up)?;
            let supplied = Supplied::of(self.config, &table)?;
            let state = state::find(&table, &self.config.table.branch, &self.config.name).await.map_err(given_up)?;
            state::may_begin(&state, &table, self.config, first_run)?;
            self.settle_rejects(names, &table, &state, Gone::Refuse, &mut ended.warnings).await?;
            ended.watermark = state.progress().and_then(|p| p.watermark);
            ended.newest_event_time = state.progress().and_then(|p| p.max_event_time.values().copied().max());

            let bounds = self.bounds(state.found.is_none()).await.map_err(given_up)?;
            if drain {
                // A partition that answers for the first time only now has an end from now on.
                let ends = up_to.get_or_insert_default();
                for (&partition, bounds) in &bounds.partitions {
                    if let Some(bounds) = bounds {
                        ends.entry(partition).or_insert(bounds.last_stable);
                    }
                }
            }
            let plan = next_plan(self.config, self.source, &state, &bounds, up_to.as_ref()).map_err(given_up)?;
            ended.remaining = Some(plan.lag);
            self.warn_of_plan(state.progress(), &bounds, &mut ended.warnings);
            if plan.is_empty() {
                return Ok(BatchEnd::NothingNew);
            }
            if !drain && plan.is_too_little(state.progress(), &self.config.limits, self.run.started_at) {
                return Ok(BatchEnd::Skipped);
            }
            let pulled = Pulled { table, state, bounds, plan, supplied, redo };
            if let Some(end) = self.collect_and_commit(names, pulled, ended).await? {
                return Ok(end);
            }
        }
        Err(Error::Contended { table: table_ident(self.config).to_string(), attempts: REDOS_MAX })
    }

    /// What a wait could not bring before the signal is no failure of its own. Only of what comes before any commit: once one was
    /// tried, "nothing was committed" might be wrong.
    fn given_up(&self, redo: u32, error: Error) -> Error {
        match (error, self.stop.requested()) {
            (Error::Unavailable { .. } | Error::Stalled { .. }, Some(signal)) if redo == 0 => {
                Error::Interrupted { signal: i32::from(signal) }
            }
            (error, _) => error,
        }
    }

    async fn load(&self) -> Result<LoadedTable> {
        load_table(self.catalog, self.config).await
    }

    /// The head's files; in append mode, which searches nothing, only its manifest list.
    async fn live_files(&self, metadata: &TableMetadataRef, head: Option<&SnapshotRef>) -> Result<Arc<LiveFiles>> {
        let live = match &self.config.mode {
            Mode::Merge(_) => LiveFiles::load(metadata, head, self.store).await,
            Mode::Append { .. } => LiveFiles::listed(metadata, head, self.store).await,
        };
        live.map(Arc::new)
    }

    async fn collect_and_commit(&self, names: &FileNames, pulled: Pulled, ended: &mut Ended) -> Result<Option<BatchEnd>> {
        let began_ms = (self.run.now_ms)();
        let names = names.attempt(pulled.redo * ATTEMPTS_PER_REDO);
        let live = self.live_files(&pulled.table.metadata, pulled.state.head.as_ref()).await?;
        let door = self.rejects(&pulled.table, rejects_ident(self.config), &names);
        let redo = pulled.redo;
        let (collected, reached) = match self.collect(&pulled, &live, &names, &door) {
            Ok(collected) => collected,
            Err(error @ Error::Refused { .. }) if redo + 1 < REDOS_MAX && self.may_skip(&pulled.plan.starts_of_ranges())? => {
                tracing::warn!(redo, %error, "retention was faster than the pull; planning anew");
                return Ok(None);
            }
            Err(error) => return Err(self.given_up(redo, error)),
        };
        if collected.counts.read == 0 && reached.cut == Some(Cut::Signal) && reached.ends == pulled.plan.starts_of_ranges() {
            return Err(Error::Interrupted { signal: i32::from(self.stop.requested().unwrap_or(15)) });
        }
        if let Err(error) = self.check_ratio(&collected.counts) {
            self.delete(&collected.paths()).await;
            return Err(error);
        }
        let batch = commit::Batch::new(self, pulled, collected, reached, names, began_ms);
        match batch.commit(live, &mut ended.warnings).await? {
            commit::Ending::Committed(committed) => {
                let progress = &committed.progress;
                warn_of_skips(&progress.skipped, &mut ended.warnings);
                ended.remaining = Some(committed.remaining);
                ended.watermark = progress.watermark;
                ended.newest_event_time = progress.max_event_time.values().copied().max();
                ended.batches.push(committed.report);
                self.after_commit(&door, &committed.progress, &mut ended.warnings).await?;
                Ok(Some(BatchEnd::Committed))
            }
            commit::Ending::Moved => Ok(Some(BatchEnd::Overtaken)),
            commit::Ending::Redo => {
                tracing::info!(redo, "the table changed under the batch; pulling it anew");
                Ok(None)
            }
        }
    }

    fn collect(
        &self,
        pulled: &Pulled,
        live: &Arc<LiveFiles>,
        names: &FileNames,
        door: &Rejects<'_, C>,
    ) -> Result<(crate::batch::Collected, Reached)> {
        let progress = pulled.state.progress();
        let limits = &self.config.limits;
        let budget = Budget::of(limits.memory_limit);
        let spec = BatchSpec {
            config: self.config,
            table: &pulled.table,
            live,
            store: self.store,
            judge: self.judge(progress.and_then(|p| p.watermark), self.run.started_at),
            likely: progress.map_or_else(Likely::default, |p| Likely::after(&p.counts)),
            names: names.clone(),
            rejects_only: false,
        };
        let (epoch, batch) = next_batch(progress.map(|p| (p.epoch, p.batch)));
        let sink = RejectSink::new(door, self.origin(epoch, batch));
        self.observer.planned(pulled.plan.planned());
        let pull = PullPlan {
            ranges: &pulled.plan.ranges,
            limits: PullLimits {
                bytes_max: limits.max_bytes_per_trigger,
                duration_max: limits.max_duration,
                stall_timeout: limits.stall_timeout,
            },
            stop: self.stop,
            budget,
        };
        let decoder = decoder(self.config, &pulled.table, &pulled.supplied)?;
        collect(self.source, &pull, decoder, &spec, sink, pulled.supplied.unmapped.clone(), self.observer)
    }

    /// Deletes files that nothing names. Failing to is no failure: they are orphans, which `clean` removes.
    async fn delete(&self, paths: &[String]) {
        for path in paths {
            if let Err(error) = self.store.delete(path).await {
                tracing::debug!(path, %error, "an orphan stays");
            }
        }
    }

    fn judge(&self, watermark: Option<i64>, now: i64) -> Judge {
        Judge { watermark, now, max_future: micros(self.config.watermark.max_future) }
    }

    fn origin(&self, epoch: u64, batch: u64) -> Origin {
        Origin { topic: self.config.kafka.topic.clone(), job: self.rejects_job(), epoch, batch }
    }

    fn rejects_job(&self) -> String {
        rejects::job_in_rows(&self.config.name, &self.config.table.branch)
    }

    fn rejects(&self, table: &LoadedTable, ident: TableIdent, names: &FileNames) -> Rejects<'_, C> {
        Rejects {
            catalog: self.catalog,
            store: self.store,
            ident,
            of: MainTable {
                ident: table.ident.clone(),
                uuid: table.metadata.uuid(),
                branch: &self.config.table.branch,
                job: &self.config.name,
            },
            job: self.rejects_job(),
            run: self.run,
            names: names.clone(),
        }
    }

    /// Late records do not count: a catch-up's must not stop a job.
    fn check_ratio(&self, counts: &Counts) -> Result<()> {
        let share = counts.rejected as f64 / counts.read.max(1) as f64;
        if share > self.config.rejects.max_ratio {
            return Err(Error::refused(
                format!(
                    "{} of {} records cannot be used, more than `rejects.max_ratio` = {} allows; nothing was committed",
                    counts.rejected, counts.read, self.config.rejects.max_ratio
                ),
                "is the producer or the job's schema wrong? a higher `rejects.max_ratio` keeps them in the rejects table and goes on",
            ));
        }
        Ok(())
    }
}

/// What one attempt at a batch stands on.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) table: LoadedTable,
    pub(crate) state: State,
    pub(crate) bounds: TopicBounds,
    pub(crate) plan: Plan,
    pub(crate) supplied: Supplied,
    pub(crate) redo: u32,
}

/// Epoch and number of the batch after the given one.
pub(crate) fn next_batch(last: Option<(u64, u64)>) -> (u64, u64) {
    last.map_or((0, 1), |(epoch, batch)| (epoch, batch + 1))
}

/// What the job's next batch reads from this state on, or why the data forbids one. `up_to`: ends not to go past.
pub(crate) fn next_plan<S: Source>(
    config: &Config,
    source: &S,
    state: &State,
    bounds: &TopicBounds,
    up_to: Option<&Offsets>,
) -> Result<Plan> {
    let first_starts = if state.found.is_some() { Offsets::new() } else { first_starts(config, source, bounds)? };
    plan(&PlanInput {
        state: state.progress(),
        bounds,
        first_starts: &first_starts,
        max_offsets: config.limits.max_offsets_per_trigger,
        on_data_loss: config.kafka.on_data_loss,
        up_to,
    })
}

/// Where a first run begins, by the job's choice.
pub(crate) fn first_starts<S: Source>(config: &Config, source: &S, bounds: &TopicBounds) -> Result<Offsets> {
    let ends: BTreeMap<_, _> = bounds.partitions.iter().filter_map(|(&p, b)| Some((p, b.as_ref()?.last_stable))).collect();
    Ok(match &config.kafka.start {
        Start::Earliest => Offsets::new(),
        Start::Latest => ends,
        Start::Timestamp(ms) => tokio::task::block_in_place(|| source.offsets_at(*ms))?,
        Start::Offsets(offsets) => {
            if let Some(unknown) = offsets.keys().find(|p| !bounds.partitions.contains_key(p)) {
                return Err(Error::setup(
                    format!("`kafka.start` names partition {unknown}, which topic `{}` does not have", bounds.topic),
                    format!("its partitions are 0 to {}", bounds.partitions.len().saturating_sub(1)),
                ));
            }
            offsets.clone()
        }
    })
}

/// A length of time in µs.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
