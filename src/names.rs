//! Names of the files that a run writes: no two runs share one.
//!
//! Pure: the run's UUID is drawn once at the edge and comes in as a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use iceberg::spec::TableMetadata;
use uuid::Uuid;

/// Makes names `tidegate-<job>-<run uuid>-<attempt>-<ordinal>`. Clones share the ordinal.
#[derive(Debug, Clone)]
pub(crate) struct FileNames {
    job: String,
    run: Uuid,
    attempt: u32,
    ordinal: Arc<AtomicU32>,
}

impl FileNames {
    /// For one run of one job.
    pub(crate) fn new(job: &str, run: Uuid) -> Self {
        Self { job: job.to_owned(), run, attempt: 0, ordinal: Arc::new(AtomicU32::new(0)) }
    }

    /// The same run's names in a later attempt.
    pub(crate) fn attempt(&self, attempt: u32) -> Self {
        Self { attempt, ..self.clone() }
    }

    /// The next name, with `suffix` at its end (as in `.parquet`).
    pub(crate) fn next(&self, suffix: &str) -> String {
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed);
        format!("tidegate-{}-{}-{}-{ordinal:05}{suffix}", self.job, self.run.simple(), self.attempt)
    }
}

/// Root of a table's data files: `write.data.path`, or `<location>/data`.
pub(crate) fn data_root(metadata: &TableMetadata) -> String {
    root(metadata, "write.data.path", "data")
}

/// Root of a table's metadata files: `write.metadata.path`, or `<location>/metadata`.
pub(crate) fn metadata_root(metadata: &TableMetadata) -> String {
    root(metadata, "write.metadata.path", "metadata")
}

fn root(metadata: &TableMetadata, property: &str, folder: &str) -> String {
    match metadata.properties().get(property) {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => format!("{}/{folder}", metadata.location().trim_end_matches('/')),
    }
}
