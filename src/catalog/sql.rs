//! Iceberg's SQL catalog on SQLite and PostgreSQL: the same two tables as Java's `JdbcCatalog` and PyIceberg's `SqlCatalog`, read and
//! written by all.
//!
//! A table's head is one row; a swap is one `UPDATE` of that row on condition that it still names the metadata file the change was
//! made from. Never creates a database but for [`Catalog::create`] (and then only a file), never changes the schema of one it finds.
//! The SQL is portable; connecting and the meaning of errors are each database's own.

mod postgres;
mod session;
mod sqlite;

use std::time::Duration;

use iceberg::io::FileIO;
use iceberg::spec::{MetadataLog, TableMetadata};
use iceberg::{TableIdent, TableUpdate};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use self::session::{ANSWER_TIMEOUT, Connected, Session, Statement, Updated};
use super::{Catalog, Change, CommitOutcome, LoadedTable, metadata_file};
use crate::error::{Error, Result};
use crate::storage::Store;

const CREATE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (\
    catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
    metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5), \
    PRIMARY KEY (catalog_name, table_namespace, table_name))";

const CREATE_NAMESPACES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\
    catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, \
    property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000) NOT NULL, \
    PRIMARY KEY (catalog_name, namespace, property_key))";

/// Fails where no catalog was made yet.
const HAS_TABLES: &str = "SELECT 1 FROM iceberg_tables, iceberg_namespace_properties WHERE 1 = 0";

const FIND: &str = "SELECT * FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3";

/// Fails where the tables were made by a version of Java or PyIceberg that knew no views.
const HAS_TYPE: &str = "SELECT iceberg_type FROM iceberg_tables WHERE 1 = 0";

const INSERT: &str =
    "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) VALUES ($1, $2, $3, $4)";

const INSERT_TYPED: &str = "INSERT INTO iceberg_tables \
    (catalog_name, table_namespace, table_name, metadata_location, iceberg_type) VALUES ($1, $2, $3, $4, 'TABLE')";

/// A namespace exists, for Java and PyIceberg alike, once it has a property.
const INSERT_NAMESPACE: &str = "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) \
    SELECT $1, $2, 'exists', 'true' WHERE NOT EXISTS \
    (SELECT 1 FROM iceberg_namespace_properties WHERE catalog_name = $1 AND namespace = $2) ON CONFLICT DO NOTHING";

/// Needs no look at `iceberg_type`: a row that names the metadata file of a table is that table's.
const SWAP: &str = "UPDATE iceberg_tables SET metadata_location = $1, previous_metadata_location = $2 \
    WHERE catalog_name = $3 AND table_namespace = $4 AND table_name = $5 AND metadata_location = $2";

/// A swap to what is there already, to be rolled back.
const TOUCH: &str = "UPDATE iceberg_tables SET metadata_location = metadata_location \
    WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3";

/// One catalog of a database; connects when first asked.
#[derive(Debug)]
pub struct SqlCatalog {
    name: String,
    database: Database,
    warehouse: String,
    writer: String,
    store: Store,
    file_io: FileIO,
    answer_timeout: Duration,
    session: Mutex<Option<Session>>,
}

#[derive(Debug)]
enum Database {
    Sqlite(sqlite::File),
    Postgres(Box<postgres::Server>),
}

impl Database {
    async fn connect(&self) -> Result<Connected> {
        match self {
            Self::Sqlite(file) => file.connect().await.map(|connection| Connected::Sqlite(Box::new(connection))),
            Self::Postgres(server) => server.connect().await.map(|connection| Connected::Postgres(Box::new(connection))),
        }
    }

    /// Connects to a database that need not exist yet. A server's databases are its administrator's to make.
    async fn create(&self) -> Result<Connected> {
        match self {
            Self::Sqlite(file) => file.create().await.map(|connection| Connected::Sqlite(Box::new(connection))),
            Self::Postgres(_) => self.connect().await,
        }
    }

    fn lacks_tables(&self, error: &sqlx::Error) -> bool {
        match self {
            Self::Sqlite(_) => sqlite::lacks_tables(error),
            Self::Postgres(_) => postgres::lacks_tables(error),
        }
    }

    fn failed(&self, doing: &str, source: sqlx::Error) -> Error {
        match self {
            Self::Sqlite(file) => file.failed(doing, source),
            Self::Postgres(server) => server.failed(doing, source),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Sqlite(file) => file.shown(),
            Self::Postgres(server) => server.shown(),
        }
    }
}

impl SqlCatalog {
    /// `name` is the catalog's name in the database. `uri`: `sqlite:///absolute/path`, `sqlite://relative/path` or
    /// `postgresql://user@host:port/database`. `password`: of that user. `warehouse`: where new tables get their location. Touches
    /// nothing yet.
    pub(crate) fn open(name: &str, uri: &str, password: Option<&str>, warehouse: &str, store: Store) -> Result<Self> {
        let database = match uri.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
            Some(path) => Database::Sqlite(sqlite::File::new(path)),
            None if uri.starts_with("postgresql://") => Database::Postgres(Box::new(postgres::Server::new(uri, password)?)),
            None => {
                return Err(Error::setup(
                    "`catalog.uri` names no SQLite or PostgreSQL database",
                    "write it as `postgresql://user@host/database`, `sqlite:///absolute/path.db` or `sqlite://relative/path.db`",
                ));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            database,
            warehouse: warehouse.trim_end_matches('/').to_owned(),
            writer: String::new(),
            file_io: store.file_io(),
            store,
            answer_timeout: ANSWER_TIMEOUT,
            session: Mutex::new(None),
        })
    }

    /// The same with a writer's name that its metadata files tell.
    pub(crate) fn written_by(self, writer: &str) -> Self {
        Self { writer: writer.to_owned(), ..self }
    }

    /// Where the server is, in words; none where the database is a file.
    pub(crate) fn describe(&self) -> Option<String> {
        match self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(_) => Some(format!("`{}` in PostgreSQL database `{}`", self.name, self.database.shown())),
        }
    }

    /// The one connection, which must lead to an existing database. One that stood idle while a batch was written may be gone; that is
    /// found out here, where nothing was asked yet, and not by a commit.
    async fn session(&self) -> Result<MappedMutexGuard<'_, Session>> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_mut()
            && let Err(error) = session.ping().await
        {
            tracing::info!(%error, "the connection to the catalog's database is gone; opening another");
            *slot = None;
        }
        if slot.is_none() {
            *slot = Some(Session::new(self.database.connect().await?, self.answer_timeout));
        }
        Ok(MutexGuard::map(slot, |slot| slot.as_mut().expect("connected above")))
    }

    /// Makes what is missing of file, folder and tables, and connects.
    async fn prepare(&self) -> Result<MappedMutexGuard<'_, Session>> {
        let mut slot = self.session.lock().await;
        if slot.is_none() {
            *slot = Some(Session::new(self.database.create().await?, self.answer_timeout));
        }
        let mut session = MutexGuard::map(slot, |slot| slot.as_mut().expect("connected above"));
        // Asked first: a user who may write to the tables need not be one who may make any.
        match session.execute(Statement(HAS_TABLES, &[])).await {
            Ok(()) => return Ok(session),
            Err(e) if self.database.lacks_tables(&e) => {}
            Err(e) => return Err(self.database.failed("look into", e)),
        }
        for statement in [CREATE_TABLES, CREATE_NAMESPACES] {
            match session.execute(Statement(statement, &[])).await {
                // Two that make a table at once: PostgreSQL tells the second one by whichever of its own entries it meets first.
                Err(e) if !postgres::is_there(&e) => return Err(self.database.failed("make the catalog's tables in", e)),
                _ => {}
            }
        }
        Ok(session)
    }

    /// Location of the table's metadata file.
    async fn find(&self, session: &mut Session, table: &TableIdent) -> Result<Option<String>> {
        let row = match session.table_row(Statement(FIND, &[&self.name, &namespace(table), table.name()])).await {
            Ok(None) => return Ok(None),
            Ok(Some(row)) => row,
            // A database in which no catalog was made yet has no tables in it.
            Err(e) if self.database.lacks_tables(&e) => return Ok(None),
            Err(e) => return Err(self.database.failed("look into", e)),
        };
        if let Some(kind) = row.kind.filter(|kind| kind != "TABLE") {
            return Err(Error::setup(
                format!("`{table}` is a {} in catalog `{}`", kind.to_lowercase(), self.name),
                "name a table, or another catalog",
            ));
        }
        match row.metadata_location {
            Some(location) if !location.is_empty() => Ok(Some(location)),
            _ => Err(Error::setup(
                format!("table `{table}` has no metadata location in `{}`", self.database.shown()),
                "the catalog's row is damaged; register the table's newest metadata file again",
            )),
        }
    }

    /// Inserts the row of a new table and its namespace's. `false`: the table exists.
    async fn insert(&self, session: &mut Session, table: &TableIdent, location: &str) -> Result<bool> {
        let typed = session.execute(Statement(HAS_TYPE, &[])).await.is_ok();
        let namespace = namespace(table);
        let insert = if typed { INSERT_TYPED } else { INSERT };
        let values = [&self.name, &namespace, table.name(), location];
        let both = [Statement(INSERT_NAMESPACE, &values[..2]), Statement(insert, &values)];
        match session.execute_all(&both).await {
            Ok(()) => Ok(true),
            Err(e) if is_unique_violation(&e) => Ok(false),
            Err(e) => Err(self.database.failed("add the table to", e)),
        }
    }

    /// Applies a change to the metadata it was made from and writes the result to a new file.
    async fn stage(&self, change: &Change) -> Result<Staged> {
        let base = &change.base;
        for requirement in &change.requirements {
            let held = requirement.check(Some(&base.metadata));
            held.map_err(|e| Error::unavailable(format!("commit to `{}`", base.ident), e))?;
        }
        let (metadata, expired) = apply(base, &change.updates)
            .map_err(|e| Error::broken(format!("the change of `{}` cannot be applied to it: {e}", base.ident)))?;
        let location = metadata_file::write(&self.store, &metadata, Some(&base.metadata_location), &self.writer).await?;
        let clean = metadata.properties().get("write.metadata.delete-after-commit.enabled").is_some_and(|clean| clean == "true");
        Ok(Staged { location, expired: if clean { expired } else { Vec::new() } })
    }

    /// Points the table's row from the base's metadata file to the staged one.
    async fn point(&self, base: &LoadedTable, staged: &str) -> Pointed {
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(error) => return Pointed::Not(error),
        };
        let namespace = namespace(&base.ident);
        let values = [staged, &base.metadata_location, &self.name, &namespace, base.ident.name()];
        match session.update(Statement(SWAP, &values)).await {
            Updated::Rows(0) => {
                let first = format!("its head is not `{}` any more", base.metadata_location);
                Pointed::Not(Error::unavailable(format!("commit to `{}`: another writer was first", base.ident), first))
            }
            Updated::Rows(_) => Pointed::Yes,
            Updated::Not(e) => Pointed::Not(self.database.failed("commit to", e)),
            Updated::Perhaps(e) => Pointed::Perhaps(self.database.failed("commit to", e)),
        }
    }

    /// Deletes files that nothing names (any more). Failing to is no failure of the commit.
    async fn discard(&self, location: &str) {
        if let Err(error) = self.store.delete(location).await {
            tracing::warn!(location, %error, "a metadata file that nothing needs stays behind");
        }
    }
}

struct Staged {
    location: String,
    expired: Vec<MetadataLog>,
}

enum Pointed {
    Yes,
    /// And it never will.
    Not(Error),
    Perhaps(Error),
}

impl Catalog for SqlCatalog {
    async fn load(&self, table: &TableIdent) -> Result<Option<LoadedTable>> {
        // The lock on the connection ends before the file is read.
        let found = self.find(&mut *self.session().await?, table).await?;
        let Some(metadata_location) = found else {
            return Ok(None);
        };
        let metadata = metadata_file::read(&self.store, &metadata_location).await?.into();
        Ok(Some(LoadedTable { ident: table.clone(), metadata_location, metadata, file_io: self.file_io.clone() }))
    }

    async fn create(&self, table: &TableIdent, metadata: TableMetadata) -> Result<bool> {
        let mut session = self.prepare().await?;
        if self.find(&mut session, table).await?.is_some() {
            return Ok(false);
        }
        let location = metadata_file::write(&self.store, &metadata, None, &self.writer).await?;
        let inserted = self.insert(&mut session, table, &location).await;
        if let Ok(false) = inserted {
            self.discard(&location).await;
        }
        inserted
    }

    fn default_location(&self, table: &TableIdent) -> String {
        format!("{}/{}/{}", self.warehouse, table.namespace().as_ref().join("/"), table.name())
    }

    async fn may_swap(&self, table: &LoadedTable) -> Result<()> {
        let mut session = self.session().await?;
        let (levels, name) = (namespace(&table.ident), table.ident.name());
        let tried = session.try_out(Statement(TOUCH, &[&self.name, &levels, name])).await;
        tried.map_err(|e| self.database.failed("write to", e))
    }

    async fn swap(&self, change: &Change) -> CommitOutcome {
        let staged = match self.stage(change).await {
            Ok(staged) => staged,
            Err(error) => return CommitOutcome::Refused(error.into()),
        };
        match self.point(&change.base, &staged.location).await {
            Pointed::Yes => {
                for log in &staged.expired {
                    self.discard(&log.metadata_file).await;
                }
                CommitOutcome::Committed
            }
            Pointed::Not(error) => {
                self.discard(&staged.location).await;
                CommitOutcome::Refused(error.into())
            }
            Pointed::Perhaps(error) => CommitOutcome::Unclear(error.into()),
        }
    }
}

/// The metadata after a change, and what its log of metadata files no longer holds.
fn apply(base: &LoadedTable, updates: &[TableUpdate]) -> iceberg::Result<(TableMetadata, Vec<MetadataLog>)> {
    let metadata = TableMetadata::clone(&base.metadata);
    let mut builder = metadata.into_builder(Some(base.metadata_location.clone()));
    for update in updates {
        builder = update.clone().apply(builder)?;
    }
    let built = builder.build()?;
    Ok((built.metadata, built.expired_metadata_logs))
}

/// A namespace as Java and PyIceberg write it.
fn namespace(table: &TableIdent) -> String {
    table.namespace().as_ref().join(".")
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.is_unique_violation())
}

#[cfg(test)]
mod tests;
