//! The only door to the head of a table: load it, create it, swap it.
//!
//! Knows nothing of jobs, offsets or batches. `swap` is the only place where a batch becomes visible.

#[cfg(test)]
pub(crate) mod contract;
mod metadata_file;
pub mod sql;

use std::fmt;
use std::future::Future;

use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::{TableIdent, TableRequirement, TableUpdate};

use crate::error::{BoxError, Result};

/// One table as a catalog shows it at one moment.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// Namespace and name.
    pub ident: TableIdent,
    /// Location of the metadata file that was read.
    pub metadata_location: String,
    /// Its content.
    pub metadata: TableMetadataRef,
    /// Opens any path of the table.
    pub file_io: FileIO,
}

/// A change of one table: applied whole, if every requirement still holds, or not at all.
#[derive(Debug, Clone)]
pub struct Change {
    /// The table as it was loaded for this attempt.
    pub base: LoadedTable,
    /// What must still hold at the server.
    pub requirements: Vec<TableRequirement>,
    /// What changes.
    pub updates: Vec<TableUpdate>,
}

/// The answer to a swap. Uncertainty is a value.
#[derive(Debug)]
pub enum CommitOutcome {
    /// The change is in.
    Committed,
    /// The change is not in and never will be: another writer was first, or a requirement does not hold.
    Refused(BoxError),
    /// The change may be in, or may still land. Nothing that it names may be deleted.
    Unclear(BoxError),
}

/// A catalog. Every implementation passes the suite in `catalog/contract.rs`.
pub trait Catalog: Send + Sync + fmt::Debug {
    /// The table now; none where catalog or namespace has no such table.
    fn load(&self, table: &TableIdent) -> impl Future<Output = Result<Option<LoadedTable>>> + Send;

    /// Creates the table (and its namespace where missing) from metadata without snapshots. `false`: it exists already and was
    /// left as it is.
    fn create(&self, table: &TableIdent, metadata: TableMetadata) -> impl Future<Output = Result<bool>> + Send;

    /// Location that a new table gets where the job names none.
    fn default_location(&self, table: &TableIdent) -> String;

    /// Whether this process may swap the table's head, as far as that can be asked without doing it.
    fn may_swap(&self, _table: &LoadedTable) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Swaps the head: compare-and-swap against `change.base`. Never retries by itself.
    fn swap(&self, change: &Change) -> impl Future<Output = CommitOutcome> + Send;
}
