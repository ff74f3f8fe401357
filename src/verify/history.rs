//! The snapshots that a branch stands on, and what the job says in them.
//!
//! Pure. Unlike a run, which needs the newest state only and refuses a damaged one, it goes on to the last ancestor that is there.

use iceberg::spec::{SnapshotRef, TableMetadata};

use crate::progress::Progress;

/// Ancestors of a head, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Every ancestor that is still there, the head included.
    pub(crate) snapshots: Vec<SnapshotRef>,
    /// Those that the job wrote.
    pub(crate) links: Vec<Link>,
    /// Snapshots of the job whose summary cannot be read, and why.
    pub(crate) damaged: Vec<(i64, String)>,
    /// Whether the oldest has no parent; otherwise its parent is expired.
    pub(crate) complete: bool,
}

/// One snapshot of the job.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Snapshot.
    pub(crate) snapshot: SnapshotRef,
    /// What it says.
    pub(crate) progress: Progress,
}

impl Link {
    /// Id of the snapshot.
    pub(crate) fn id(&self) -> i64 {
        self.snapshot.snapshot_id()
    }
}

impl History {
    /// Walks from the head to the oldest ancestor.
    pub(crate) fn of(metadata: &TableMetadata, head: Option<&SnapshotRef>, job: &str) -> Self {
        let mut history = Self { complete: true, ..Self::default() };
        let mut at = head.cloned();
        while let Some(snapshot) = at {
            at = snapshot.parent_snapshot_id().and_then(|parent| metadata.snapshot_by_id(parent)).cloned();
            history.complete = snapshot.parent_snapshot_id().is_none();
            match Progress::decode(job, &snapshot.summary().additional_properties) {
                Ok(Some(progress)) => history.links.push(Link { snapshot: SnapshotRef::clone(&snapshot), progress }),
                Ok(None) => {}
                Err(error) => history.damaged.push((snapshot.snapshot_id(), error.to_string())),
            }
            history.snapshots.push(snapshot);
        }
        history.snapshots.reverse();
        history.links.reverse();
        history.damaged.reverse();
        history
    }

    /// The link before the last one.
    pub(crate) fn before_last(&self) -> Option<&Link> {
        self.links.len().checked_sub(2).map(|at| &self.links[at])
    }
}
