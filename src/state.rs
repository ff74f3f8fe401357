//! Finds a job's state in a table: the newest snapshot of the job among the ancestors of the branch head.
//!
//! Never takes the absence of a state for a first run, and never trusts the table property unless descent from its snapshot is
//! proved: both would read offsets twice or not at all.

use std::collections::HashMap;

use iceberg::spec::{SnapshotRef, TableMetadata};

use crate::catalog::LoadedTable;
use crate::config::Config;
use crate::error::{Doing, Error, Result};
use crate::offsets::{Offsets, as_argument};
use crate::progress::{Progress, StateProperty, is_of_this_version};
use crate::snapshot::reference;
use crate::table::fit::id_fields;

/// Where a job stands in a table.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Head of the branch; none where the branch has no snapshot.
    pub(crate) head: Option<SnapshotRef>,
    /// The job's state and the snapshot that carries it; none on a first run.
    pub(crate) found: Option<(Progress, i64)>,
    /// Whether the table property names another snapshot of the job than the one found: the table was rolled back.
    pub(crate) rolled_back: bool,
    /// The snapshot that it names then: the one that was rolled back from. None where that is in doubt.
    pub(crate) rolled_back_from: Option<i64>,
    /// Whether the table property names the snapshot found. Where it was removed or edited, a rollback leaves no other trace.
    pub(crate) property_agrees: bool,
    /// Whether no ancestor was missing, so that what was not found was never there.
    pub(crate) whole: bool,
}

/// What a table says about a job.
#[derive(Debug)]
pub(crate) enum Look {
    /// Where the job stands, beyond doubt.
    Known(State),
    /// The job wrote this table, but nothing proves where it stands in today's rows, if it has a place there at all.
    Doubtful {
        /// What is sure: without a state, and whole where no ancestor of the head is a batch of the job.
        state: State,
        /// What is wrong, and what to do about it.
        why: Error,
    },
}

impl Look {
    /// What is sure, whether or not there is a doubt.
    pub(crate) fn sure(self) -> State {
        match self {
            Self::Known(state) | Self::Doubtful { state, .. } => state,
        }
    }
}

impl State {
    /// The job's state, if it has one.
    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.found.as_ref().map(|(progress, _)| progress)
    }

    /// Snapshot that carries the state, if there is one.
    pub(crate) fn snapshot_id(&self) -> Option<i64> {
        self.found.as_ref().map(|(_, snapshot)| *snapshot)
    }
}

/// Finds the state of `job` on `branch`; a doubt is an error.
pub(crate) async fn find(table: &LoadedTable, branch: &str, job: &str) -> Result<State> {
    match look(table, branch, job).await? {
        Look::Known(state) => Ok(state),
        Look::Doubtful { why, .. } => Err(why),
    }
}

/// Looks for the state of `job` on `branch`. A state of a newer contract is an error: nobody may write over it unread.
pub(crate) async fn look(table: &LoadedTable, branch: &str, job: &str) -> Result<Look> {
    let metadata = &table.metadata;
    let head = head(table, branch)?;
    let key = StateProperty::key(job, branch);
    let property = metadata.properties().get(&key).map(|value| StateProperty::decode(&key, value)).transpose();
    let walked = match &head {
        Some(head) => walk(metadata, head, job)?,
        None => Walk::Root,
    };
    let whole = matches!(walked, Walk::Root);
    let known = |found, rolled_back_from: Option<i64>, property_agrees, whole| {
        let rolled_back = rolled_back_from.is_some();
        Ok(Look::Known(State { head: head.clone(), found, rolled_back, rolled_back_from, property_agrees, whole }))
    };
    let why = match (walked, property) {
        // A damaged property does no harm while the snapshot itself is there; the next commit writes it anew.
        (Walk::Found(progress, snapshot), property) => {
            let named = property.ok().flatten().map(|property| property.snapshot_id);
            let rolled_back_from = named.filter(|&named| named != snapshot);
            return known(Some((*progress, snapshot)), rolled_back_from, named == Some(snapshot), true);
        }
        (Walk::Damaged(why), _) | (_, Err(why)) => why,
        (Walk::Root, Ok(None)) => return known(None, None, true, true),
        (Walk::Missing(_), Ok(None)) => return known(None, None, true, false),
        (Walk::Root, Ok(Some(property))) => undone(table, job, &property),
        (Walk::Missing(parent), Ok(Some(property))) => match trusted(table, job, &property, parent).await? {
            Ok(progress) => return known(Some((progress, property.snapshot_id)), None, true, false),
            Err(doubt) => doubt,
        },
    };
    let state = State { head, found: None, rolled_back: true, rolled_back_from: None, property_agrees: false, whole };
    Ok(Look::Doubtful { state, why })
}

fn head(table: &LoadedTable, branch: &str) -> Result<Option<SnapshotRef>> {
    let head = table.metadata.snapshot_for_ref(branch).cloned();
    if branch == "main" {
        return Ok(head);
    }
    if head.is_none() && table.metadata.snapshots().len() > 0 {
        return Err(Error::setup(
            format!("branch `{branch}` of table `{}` does not exist", table.ident),
            format!("create it first, as in Spark's `ALTER TABLE ... CREATE BRANCH {branch}`"),
        ));
    }
    // A commit to a tag would turn it into a branch, and what it was kept for would be gone.
    if head.is_some() && reference(&table.metadata, branch)?.is_some_and(|reference| !reference.is_branch()) {
        return Err(Error::setup(
            format!("`{branch}` is a tag of table `{}`, and `table.branch` must name a branch", table.ident),
            "a tag stays at its snapshot; name a branch, as made by Spark's `ALTER TABLE ... CREATE BRANCH`",
        ));
    }
    Ok(head)
}

/// Field id of the job's event-time column.
pub(crate) fn event_time_id(config: &Config, table: &LoadedTable) -> Option<i32> {
    Some(table.metadata.current_schema().field_by_name(config.mode.event_time()?)?.id)
}

/// Whether a run may begin from this state: a first run is proved by a table that never had a snapshot, or said by the user; and
/// what the job file names by `merge.id` and `merge.event_time` is what the state was made by.
pub(crate) fn may_begin(state: &State, table: &LoadedTable, config: &Config, first_run: bool) -> Result<()> {
    let job = &config.name;
    let fresh = table.metadata.last_sequence_number() == 0 && table.metadata.snapshots().len() == 0;
    match &state.found {
        None if !fresh && !first_run => Err(Error::refused(
            format!("table `{}` has snapshots, but no state of job `{job}`", table.ident),
            "if this job never wrote the table, say so with `--first-run`; if it did under another `name`, use that name; if its \
             state was lost, `tidegate reset JOB --to earliest --execute` gives it a new start",
        )),
        Some(_) if first_run => Err(Error::refused(
            format!("`--first-run` was given, but job `{job}` has a state in table `{}`", table.ident),
            "leave the flag out: the run goes on where the last one ended",
        )),
        Some((progress, _)) => {
            same_id(progress, table, config)?;
            same_event_time(progress, table, config)
        }
        None => Ok(()),
    }
}

fn same_event_time(progress: &Progress, table: &LoadedTable, config: &Config) -> Result<()> {
    // A job that names none judges nothing; a state that names none judged nothing yet.
    let (Some(then), Some(now)) = (progress.event_time_id, event_time_id(config, table)) else { return Ok(()) };
    if then == now || (progress.watermark.is_none() && progress.max_event_time.is_empty()) {
        return Ok(());
    }
    let schema = table.metadata.current_schema();
    let before = schema.name_by_field_id(then).map_or_else(|| "a column that was dropped".to_owned(), |name| format!("`{name}`"));
    Err(Error::refused(
        format!(
            "the watermark of job `{job}` was made from {before}, and `merge.event_time` is `{name}` now",
            job = config.name,
            name = config.mode.event_time().unwrap_or_default()
        ),
        format!(
            "records would be judged late by times of another column; `tidegate reset JOB --to {} --execute` goes on from the stored \
             offsets without a watermark",
            as_argument(&progress.end)
        ),
    ))
}

/// Refuses an id that is not the one by which the job's rows were merged: rows that it makes one would be in the table twice, and
/// rows that it tells apart would be missing.
fn same_id(progress: &Progress, table: &LoadedTable, config: &Config) -> Result<()> {
    let schema = table.metadata.current_schema();
    let (Some(then), Some(now)) = (&progress.id, id_fields(config, schema)) else { return Ok(()) };
    if *then == now {
        return Ok(());
    }
    let names = |ids: &[i32]| {
        let name =
            |id: &i32| schema.name_by_field_id(*id).map_or(format!("a dropped column (field {id})"), |name| format!("`{name}`"));
        ids.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    Err(Error::setup(
        format!("`merge.id` is {}, but the rows of table `{}` were merged by {}", names(&now), table.ident, names(then)),
        format!(
            "change it back; or take the new id by `tidegate reset JOB --to earliest --execute`, which merges all records again, or by \
             `tidegate reset JOB --to {} --execute`, which leaves the rows as they are",
            as_argument(&progress.end)
        ),
    ))
}

/// The newest of these snapshots among the head and its ancestors.
pub(crate) fn ancestor_among(metadata: &TableMetadata, head: Option<&SnapshotRef>, ids: &[i64]) -> Option<i64> {
    let mut at = head;
    while let Some(snapshot) = at {
        if ids.contains(&snapshot.snapshot_id()) {
            return Some(snapshot.snapshot_id());
        }
        at = snapshot.parent_snapshot_id().and_then(|parent| metadata.snapshot_by_id(parent));
    }
    None
}

/// The highest epoch, and batch in it, that anything in the table's metadata names for the job, trusted or not.
pub(crate) fn last_trace(table: &LoadedTable, branch: &str, job: &str) -> Option<(u64, u64)> {
    let key = StateProperty::key(job, branch);
    let property = table.metadata.properties().get(&key).and_then(|value| StateProperty::decode(&key, value).ok());
    let place = |summary: &HashMap<String, String>| {
        let number = |key: &str| summary.get(key)?.parse().ok();
        (summary.get("tidegate.job")? == job).then_some((number("tidegate.epoch")?, number("tidegate.batch")?))
    };
    let snapshots = table.metadata.snapshots().filter_map(|snapshot| place(&snapshot.summary().additional_properties));
    snapshots.chain(property.and_then(|property| place(&property.summary))).max()
}

enum Walk {
    Found(Box<Progress>, i64),
    /// The newest ancestor of the job holds a state that cannot be read.
    Damaged(Error),
    /// Every ancestor was seen, and none is the job's.
    Root,
    /// This parent is named by its child but is no longer there.
    Missing(i64),
}

fn walk(metadata: &TableMetadata, head: &SnapshotRef, job: &str) -> Result<Walk> {
    let mut snapshot = head;
    loop {
        let summary = &snapshot.summary().additional_properties;
        match Progress::decode(job, summary) {
            Ok(Some(progress)) => return Ok(Walk::Found(Box::new(progress), snapshot.snapshot_id())),
            Ok(None) => {}
            Err(error) if is_of_this_version(summary) => return Ok(Walk::Damaged(error)),
            Err(error) => return Err(error),
        }
        snapshot = match snapshot.parent_snapshot_id() {
            None => return Ok(Walk::Root),
            Some(parent) => match metadata.snapshot_by_id(parent) {
                Some(parent) => parent,
                None => return Ok(Walk::Missing(parent)),
            },
        };
    }
}

/// The property's state, if the missing ancestor `parent` is its snapshot or descends from it; else the doubt.
async fn trusted(
    table: &LoadedTable,
    job: &str,
    property: &StateProperty,
    parent: i64,
) -> Result<std::result::Result<Progress, Error>> {
    if property.table_uuid != table.metadata.uuid().to_string() {
        return Ok(Err(Error::refused(
            format!("the state property of job `{job}` belongs to another table (uuid {})", property.table_uuid),
            format!(
                "the table was replaced or its metadata copied; the old offsets do not describe its rows. {}",
                new_start("earliest")
            ),
        )));
    }
    let progress = match Progress::decode(job, &property.summary) {
        Ok(Some(progress)) => progress,
        Err(error) if !is_of_this_version(&property.summary) => return Err(error),
        Err(error) => return Ok(Err(error)),
        Ok(None) => {
            return Ok(Err(Error::refused(
                format!("the state property of job `{job}` does not hold that job's state"),
                format!("it was edited by hand; restore it from an older metadata file, or begin anew. {}", new_start("earliest")),
            )));
        }
    };
    if !descends(table, parent, property.snapshot_id).await? {
        return Ok(Err(unproved(table, job, property.snapshot_id, &progress.end)));
    }
    Ok(Ok(progress))
}

fn unproved(table: &LoadedTable, job: &str, snapshot: i64, stored: &Offsets) -> Error {
    Error::refused(
        format!(
            "the last snapshot of job `{job}` ({snapshot}) is gone from table `{}`, and nothing proves that today's rows descend from it",
            table.ident
        ),
        format!(
            "the table was rolled back and then expired, or its old metadata files were removed; reading on from the stored offsets \
             could lose or repeat rows. `tidegate reset JOB --to earliest --execute` reads all again; `tidegate reset JOB --to {} \
             --execute` goes on from the stored offsets",
            as_argument(stored)
        ),
    )
}

fn new_start(to: &str) -> String {
    format!("`tidegate reset JOB --to {to} --execute` gives the job a new start")
}

/// Follows parents from `from` through the snapshots of previous metadata files, newest first, until `to` is met.
async fn descends(table: &LoadedTable, from: i64, to: i64) -> Result<bool> {
    let mut parents: HashMap<i64, Option<i64>> = HashMap::new();
    let mut at = from;
    for log in table.metadata.metadata_log().iter().rev() {
        while let Some(parent) = parents.get(&at) {
            match parent {
                _ if at == to => return Ok(true),
                Some(parent) => at = *parent,
                None => return Ok(false),
            }
        }
        if at == to {
            return Ok(true);
        }
        let exists =
            table.file_io.exists(&log.metadata_file).await.doing(|| format!("look for metadata file `{}`", log.metadata_file))?;
        if !exists {
            return Ok(false);
        }
        let older = TableMetadata::read_from(&table.file_io, &log.metadata_file)
            .await
            .doing(|| format!("read metadata file `{}`", log.metadata_file))?;
        parents.extend(older.snapshots().map(|s| (s.snapshot_id(), s.parent_snapshot_id())));
    }
    while let Some(Some(parent)) = parents.get(&at).filter(|_| at != to) {
        at = *parent;
    }
    Ok(at == to)
}

fn undone(table: &LoadedTable, job: &str, property: &StateProperty) -> Error {
    Error::refused(
        format!(
            "table `{}` was rolled back or replaced to before the first batch of job `{job}` (its snapshot {} is no ancestor of the head)",
            table.ident, property.snapshot_id
        ),
        format!("{}; to go on instead, roll forward to snapshot {}", new_start("earliest"), property.snapshot_id),
    )
}
