//! Finds a job's state in a table: the newest snapshot of the job among the ancestors of the branch head.
//!
//! Never takes the absence of a state for a first run, and never trusts the table property unless descent from its snapshot is
//! proved: both would read offsets twice or not at all.

use std::collections::HashMap;

use iceberg::spec::{SnapshotRef, TableMetadata};

use crate::catalog::LoadedTable;
use crate::error::{Doing, Error, Result};
use crate::progress::{Progress, StateProperty};

/// Where a job stands in a table.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Head of the branch; none where the branch has no snapshot.
    pub(crate) head: Option<SnapshotRef>,
    /// The job's state and the snapshot that carries it; none on a first run.
    pub(crate) found: Option<(Progress, i64)>,
    /// Whether the table property names another snapshot of the job than the one found: the table was rolled back.
    pub(crate) rolled_back: bool,
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

/// Finds the state of `job` on `branch`.
pub(crate) async fn find(table: &LoadedTable, branch: &str, job: &str) -> Result<State> {
    let metadata = &table.metadata;
    let head = head(table, branch)?;
    let key = StateProperty::key(job, branch);
    let property = metadata.properties().get(&key).map(|value| StateProperty::decode(&key, value)).transpose();
    let walked = match &head {
        Some(head) => walk(metadata, head, job)?,
        None => Walk::Root,
    };
    let (found, rolled_back) = match walked {
        Walk::Found(progress, snapshot) => {
            // A damaged property does no harm while the snapshot itself is there; the next commit writes it anew.
            let newer = property.is_ok_and(|property| property.is_some_and(|property| property.snapshot_id != snapshot));
            (Some((*progress, snapshot)), newer)
        }
        Walk::Root => {
            if let Some(property) = property? {
                return Err(undone(table, job, &key, &property));
            }
            (None, false)
        }
        Walk::Missing(parent) => match property? {
            None => (None, false),
            Some(property) => (Some(trusted(table, job, &property, parent).await?), false),
        },
    };
    Ok(State { head, found, rolled_back })
}

fn head(table: &LoadedTable, branch: &str) -> Result<Option<SnapshotRef>> {
    let head = table.metadata.snapshot_for_ref(branch).cloned();
    if head.is_none() && branch != "main" && table.metadata.snapshots().len() > 0 {
        return Err(Error::setup(
            format!("branch `{branch}` of table `{}` does not exist", table.ident),
            format!("create it first, as in Spark's `ALTER TABLE ... CREATE BRANCH {branch}`"),
        ));
    }
    Ok(head)
}

/// Whether a run may begin from this state: a first run is proved by a table that never had a snapshot, or said by the user.
pub(crate) fn may_begin(state: &State, table: &LoadedTable, job: &str, first_run: bool) -> Result<()> {
    let fresh = table.metadata.last_sequence_number() == 0 && table.metadata.snapshots().len() == 0;
    match &state.found {
        None if !fresh && !first_run => Err(Error::refused(
            format!("table `{}` has snapshots, but no state of job `{job}`", table.ident),
            "if this job never wrote the table, say so with `--first-run`; if it did under another `name`, use that name",
        )),
        Some(_) if first_run => Err(Error::refused(
            format!("`--first-run` was given, but job `{job}` has a state in table `{}`", table.ident),
            "leave the flag out: the run goes on where the last one ended",
        )),
        _ => Ok(()),
    }
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

enum Walk {
    Found(Box<Progress>, i64),
    /// Every ancestor was seen, and none is the job's.
    Root,
    /// This parent is named by its child but is no longer there.
    Missing(i64),
}

fn walk(metadata: &TableMetadata, head: &SnapshotRef, job: &str) -> Result<Walk> {
    let mut snapshot = head;
    loop {
        if let Some(progress) = Progress::decode(job, &snapshot.summary().additional_properties)? {
            return Ok(Walk::Found(Box::new(progress), snapshot.snapshot_id()));
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

/// The property's state, if the missing ancestor `parent` is its snapshot or descends from it.
async fn trusted(table: &LoadedTable, job: &str, property: &StateProperty, parent: i64) -> Result<(Progress, i64)> {
    if property.table_uuid != table.metadata.uuid().to_string() {
        return Err(Error::refused(
            format!("the state property of job `{job}` belongs to another table (uuid {})", property.table_uuid),
            "the table was replaced or its metadata copied; the old offsets do not describe its rows",
        ));
    }
    if !descends(table, parent, property.snapshot_id).await? {
        return Err(Error::refused(
            format!(
                "the last snapshot of job `{job}` ({}) is gone from table `{}`, and nothing proves that today's rows descend from it",
                property.snapshot_id, table.ident
            ),
            "the table was rolled back and then expired, or its old metadata files were removed; reading on from the stored offsets \
             could lose or repeat rows. Restore an older metadata file, or start the job anew under another `name` on an empty table",
        ));
    }
    match Progress::decode(job, &property.summary)? {
        Some(progress) => Ok((progress, property.snapshot_id)),
        None => Err(Error::refused(
            format!("the state property of job `{job}` does not hold that job's state"),
            "it was edited by hand; restore it from an older metadata file",
        )),
    }
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

fn undone(table: &LoadedTable, job: &str, key: &str, property: &StateProperty) -> Error {
    Error::refused(
        format!(
            "table `{}` was rolled back to before the first batch of job `{job}` (its snapshot {} is no ancestor of the head)",
            table.ident, property.snapshot_id
        ),
        format!(
            "to begin anew, remove table property `{key}` and run with `--first-run`; to go on, roll forward to snapshot {}",
            property.snapshot_id
        ),
    )
}
