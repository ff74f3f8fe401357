//! The only door to the head of a table: load it, create it, swap it.
//!
//! Knows nothing of jobs, offsets or batches. `swap` is the only place where a batch becomes visible.

#[cfg(test)]
pub(crate) mod contract;
mod metadata_file;
pub mod rest;
#[cfg(test)]
pub(crate) mod servers;
pub mod sql;

use std::fmt;
use std::future::Future;

use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::{TableIdent, TableRequirement, TableUpdate};

use self::rest::RestCatalog;
use self::sql::SqlCatalog;
use crate::config::{CatalogConfig, CatalogKind};
use crate::error::{BoxError, Error, Result};
use crate::storage::Store;

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

    /// The table of the same namespace whose name is the nearest, where the catalog can list them.
    fn nearest(&self, _table: &TableIdent) -> impl Future<Output = Result<Option<TableIdent>>> + Send {
        async { Ok(None) }
    }

    /// Creates the table (and its namespace where missing) from metadata without snapshots. `false`: it exists already and was
    /// left as it is.
    fn create(&self, table: &TableIdent, metadata: TableMetadata) -> impl Future<Output = Result<bool>> + Send;

    /// Location that a new table gets; empty where the server chooses.
    fn default_location(&self, table: &TableIdent) -> String;

    /// Whether this process may swap the table's head, as far as that can be asked without doing it.
    fn may_swap(&self, _table: &LoadedTable) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Swaps the head: compare-and-swap against `change.base`. Never retries by itself.
    fn swap(&self, change: &Change) -> impl Future<Output = CommitOutcome> + Send;

    /// Whether several tables can be changed by one [`Self::swap_together`].
    fn swaps_together(&self) -> impl Future<Output = Result<bool>> + Send {
        async { Ok(false) }
    }

    /// The same as [`Self::swap`] for several tables: all of the changes are in, or none is.
    fn swap_together(&self, _changes: &[Change]) -> impl Future<Output = CommitOutcome> + Send {
        async { CommitOutcome::Refused(Error::broken("the catalog changes one table at a time").into()) }
    }
}

/// The catalog that a job file names.
#[derive(Debug)]
pub enum AnyCatalog {
    /// `type = "sql"`.
    Sql(Box<SqlCatalog>),
    /// `type = "rest"`.
    Rest(Box<RestCatalog>),
}

impl AnyCatalog {
    /// Asks it nothing yet. `writer`: who the metadata files tell that wrote them, where we write them.
    pub(crate) fn open(config: &CatalogConfig, writer: &str, store: &Store) -> Result<Self> {
        Ok(match config.kind {
            CatalogKind::Sql => {
                let password = config.properties.get("password").map(String::as_str);
                let catalog = SqlCatalog::open(&config.name, &config.uri, password, &config.warehouse, store.clone())?;
                Self::Sql(Box::new(catalog.written_by(writer)))
            }
            CatalogKind::Rest => Self::Rest(Box::new(RestCatalog::open(config, store)?)),
        })
    }

    /// What a server says about itself; none where the catalog is a file. Looks at no table.
    pub(crate) async fn describe(&self) -> Result<Option<String>> {
        match self {
            Self::Sql(catalog) => Ok(catalog.describe()),
            Self::Rest(catalog) => catalog.describe().await.map(Some),
        }
    }
}

impl Catalog for AnyCatalog {
    async fn load(&self, table: &TableIdent) -> Result<Option<LoadedTable>> {
        match self {
            Self::Sql(catalog) => catalog.load(table).await,
            Self::Rest(catalog) => catalog.load(table).await,
        }
    }

    async fn nearest(&self, table: &TableIdent) -> Result<Option<TableIdent>> {
        match self {
            Self::Sql(catalog) => catalog.nearest(table).await,
            Self::Rest(catalog) => catalog.nearest(table).await,
        }
    }

    async fn create(&self, table: &TableIdent, metadata: TableMetadata) -> Result<bool> {
        match self {
            Self::Sql(catalog) => catalog.create(table, metadata).await,
            Self::Rest(catalog) => catalog.create(table, metadata).await,
        }
    }

    fn default_location(&self, table: &TableIdent) -> String {
        match self {
            Self::Sql(catalog) => catalog.default_location(table),
            Self::Rest(catalog) => catalog.default_location(table),
        }
    }

    async fn may_swap(&self, table: &LoadedTable) -> Result<()> {
        match self {
            Self::Sql(catalog) => catalog.may_swap(table).await,
            Self::Rest(catalog) => catalog.may_swap(table).await,
        }
    }

    async fn swap(&self, change: &Change) -> CommitOutcome {
        match self {
            Self::Sql(catalog) => catalog.swap(change).await,
            Self::Rest(catalog) => catalog.swap(change).await,
        }
    }

    async fn swaps_together(&self) -> Result<bool> {
        match self {
            Self::Sql(catalog) => catalog.swaps_together().await,
            Self::Rest(catalog) => catalog.swaps_together().await,
        }
    }

    async fn swap_together(&self, changes: &[Change]) -> CommitOutcome {
        match self {
            Self::Sql(catalog) => catalog.swap_together(changes).await,
            Self::Rest(catalog) => catalog.swap_together(changes).await,
        }
    }
}
