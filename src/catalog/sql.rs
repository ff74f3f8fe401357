//! Iceberg's SQL catalog on SQLite: the same two tables as Java's `JdbcCatalog` and PyIceberg's `SqlCatalog`, read and written by all.
//!
//! A table's head is one row; a swap is one `UPDATE` of that row on condition that it still names the metadata file the change was
//! made from. Never creates a database but for [`Catalog::create`], never changes the schema or the journal mode of one it finds.
//! The SQL is portable; connecting and the meaning of error codes are SQLite's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use iceberg::io::FileIO;
use iceberg::spec::{MetadataLog, TableMetadata};
use iceberg::{TableIdent, TableUpdate};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::{Catalog, Change, CommitOutcome, LoadedTable, metadata_file};
use crate::error::{Error, Result};
use crate::storage::{Store, failed, make_directory};

/// How long a statement waits for another process's write. A commit of this catalog takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const CREATE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (\
    catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
    metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5), \
    PRIMARY KEY (catalog_name, table_namespace, table_name))";

const CREATE_NAMESPACES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\
    catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, \
    property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000) NOT NULL, \
    PRIMARY KEY (catalog_name, namespace, property_key))";

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
    database: PathBuf,
    warehouse: String,
    writer: String,
    store: Store,
    file_io: FileIO,
    connection: Mutex<Option<SqliteConnection>>,
}

impl SqlCatalog {
    /// `name` is the catalog's name in the database. `uri`: `sqlite:///absolute/path` or `sqlite://relative/path`. `warehouse`:
    /// where new tables get their location. Touches nothing yet.
    pub(crate) fn open(name: &str, uri: &str, warehouse: &str, store: Store) -> Result<Self> {
        let Some(path) = uri.strip_prefix("sqlite://").filter(|path| !path.is_empty()) else {
            return Err(Error::setup(
                format!("catalog uri `{uri}` names no SQLite database"),
                "write it as `sqlite:///absolute/path.db` or `sqlite://relative/path.db`",
            ));
        };
        Ok(Self {
            name: name.to_owned(),
            database: PathBuf::from(path),
            warehouse: warehouse.trim_end_matches('/').to_owned(),
            writer: String::new(),
            file_io: store.file_io(),
            store,
            connection: Mutex::new(None),
        })
    }

    /// The same with a writer's name that its metadata files tell.
    pub(crate) fn written_by(self, writer: &str) -> Self {
        Self { writer: writer.to_owned(), ..self }
    }

    /// The one connection, which must lead to an existing database.
    async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>> {
        let mut slot = self.connection.lock().await;
        if slot.is_none() {
            *slot = Some(self.connect(false).await?);
        }
        Ok(MutexGuard::map(slot, |slot| slot.as_mut().expect("connected above")))
    }

    async fn connect(&self, create: bool) -> Result<SqliteConnection> {
        // Else it would look as if the database could not be opened for now.
        if self.database.is_dir() {
            return Err(Error::setup(
                format!("catalog database `{}` is a directory", self.database.display()),
                "`catalog.uri` names the database's file, as in `sqlite://warehouse/catalog.db`",
            ));
        }
        // SQLite's own message for a missing file names neither the file nor what to do.
        if !create && !self.database.exists() {
            return Err(self.no_database());
        }
        let options = SqliteConnectOptions::new()
            .filename(&self.database)
            .create_if_missing(create)
            .busy_timeout(BUSY_TIMEOUT)
            // Without it a power cut can bring back the rollback journal of a commit that was answered.
            .synchronous(SqliteSynchronous::Extra)
            .disable_statement_logging();
        options.connect().await.map_err(|e| self.failed("open", e))
    }

    /// Makes what is missing of file, folder and tables, and connects.
    async fn prepare(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>> {
        let mut slot = self.connection.lock().await;
        if slot.is_none() {
            if let Some(folder) = self.database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                make_directory(folder).map_err(|e| failed(|| format!("make the folder `{}`", folder.display()), e))?;
            }
            *slot = Some(self.connect(true).await?);
        }
        let mut connection = MutexGuard::map(slot, |slot| slot.as_mut().expect("connected above"));
        for statement in [CREATE_TABLES, CREATE_NAMESPACES] {
            sqlx::query(statement).execute(&mut *connection).await.map_err(|e| self.failed("make the catalog's tables in", e))?;
        }
        Ok(connection)
    }

    /// Location of the table's metadata file.
    async fn find(&self, connection: &mut SqliteConnection, table: &TableIdent) -> Result<Option<String>> {
        let found = sqlx::query(FIND).bind(&self.name).bind(namespace(table)).bind(table.name()).fetch_optional(connection).await;
        let row = match found {
            Ok(None) => return Ok(None),
            Ok(Some(row)) => row,
            // A database in which no catalog was made yet has no tables in it.
            Err(sqlx::Error::Database(e)) if e.message().starts_with("no such table") => return Ok(None),
            Err(e) => return Err(self.failed("look into", e)),
        };
        // A missing column is a database made before views.
        if let Ok(Some(kind)) = row.try_get::<Option<&str>, _>("iceberg_type")
            && kind != "TABLE"
        {
            return Err(Error::setup(
                format!("`{table}` is a {} in catalog `{}`", kind.to_lowercase(), self.name),
                "name a table, or another catalog",
            ));
        }
        let location: Option<String> = row.try_get("metadata_location").map_err(|e| self.failed("read the table's row in", e))?;
        match location {
            Some(location) if !location.is_empty() => Ok(Some(location)),
            _ => Err(Error::setup(
                format!("table `{table}` has no metadata location in `{}`", self.database.display()),
                "the catalog's row is damaged; register the table's newest metadata file again",
            )),
        }
    }

    /// Inserts the row of a new table and its namespace's. `false`: the table exists.
    async fn insert(&self, connection: &mut SqliteConnection, table: &TableIdent, location: &str) -> Result<bool> {
        let typed = sqlx::query(HAS_TYPE).execute(&mut *connection).await.is_ok();
        let statement = if typed { INSERT_TYPED } else { INSERT };
        let inserted: sqlx::Result<()> = async {
            let mut transaction = connection.begin().await?;
            let namespace = namespace(table);
            sqlx::query(INSERT_NAMESPACE).bind(&self.name).bind(&namespace).execute(&mut *transaction).await?;
            let row = sqlx::query(statement).bind(&self.name).bind(&namespace).bind(table.name()).bind(location);
            row.execute(&mut *transaction).await?;
            transaction.commit().await
        }
        .await;
        match inserted {
            Ok(()) => Ok(true),
            Err(sqlx::Error::Database(e)) if e.is_unique_violation() => Ok(false),
            Err(e) => Err(self.failed("add the table to", e)),
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
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return Pointed::Not(error),
        };
        let before_commit: sqlx::Result<_> = async {
            let mut transaction = connection.begin().await?;
            let update = sqlx::query(SWAP).bind(staged).bind(&base.metadata_location).bind(&self.name);
            let done = update.bind(namespace(&base.ident)).bind(base.ident.name()).execute(&mut *transaction).await?;
            Ok((transaction, done.rows_affected()))
        }
        .await;
        let (transaction, rows) = match before_commit {
            Ok(done) => done,
            // Nothing that was not committed outlives the transaction.
            Err(e) => return Pointed::Not(self.failed("commit to", e)),
        };
        if rows == 0 {
            let first = format!("its head is not `{}` any more", base.metadata_location);
            return Pointed::Not(Error::unavailable(format!("commit to `{}`: another writer was first", base.ident), first));
        }
        match transaction.commit().await {
            Ok(()) => Pointed::Yes,
            // SQLite keeps the transaction open when readers are in the way of a commit; leaving it rolls it back.
            Err(e) if code(&e) == Some(SQLITE_BUSY) => Pointed::Not(self.failed("commit to", e)),
            Err(e) => Pointed::Perhaps(self.failed("commit to", e)),
        }
    }

    /// Deletes files that nothing names (any more). Failing to is no failure of the commit.
    async fn discard(&self, location: &str) {
        if let Err(error) = self.store.delete(location).await {
            tracing::warn!(location, %error, "a metadata file that nothing needs stays behind");
        }
    }

    fn no_database(&self) -> Error {
        let path = self.database.display();
        let relative = self.database.strip_prefix("/").ok().filter(|relative| relative.exists());
        let hint = match relative {
            Some(relative) => format!(
                "`sqlite:///` begins an absolute path here; for the file in this folder write `sqlite://{}`",
                relative.display()
            ),
            None => "`tidegate init` creates it and the table; is the path right, and the volume mounted?".to_owned(),
        };
        Error::setup(format!("catalog database `{path}` does not exist"), hint)
    }

    fn failed(&self, doing: &str, source: sqlx::Error) -> Error {
        let path = self.database.display();
        let doing = format!("{doing} the catalog database `{path}`");
        match code(&source) {
            Some(SQLITE_PERM | SQLITE_READONLY | SQLITE_AUTH) => Error::Denied { doing, source: source.into() },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Error::setup(
                format!("could not {doing}: {source}"),
                "the file is damaged or no SQLite database; restore it from a backup",
            ),
            Some(SQLITE_CANTOPEN) if denied(&self.database) => Error::Denied { doing, source: source.into() },
            _ => failed(|| doing, source),
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
        let found = self.find(&mut *self.connection().await?, table).await?;
        let Some(metadata_location) = found else {
            return Ok(None);
        };
        let metadata = metadata_file::read(&self.store, &metadata_location).await?.into();
        Ok(Some(LoadedTable { ident: table.clone(), metadata_location, metadata, file_io: self.file_io.clone() }))
    }

    async fn create(&self, table: &TableIdent, metadata: TableMetadata) -> Result<bool> {
        let mut connection = self.prepare().await?;
        if self.find(&mut connection, table).await?.is_some() {
            return Ok(false);
        }
        let location = metadata_file::write(&self.store, &metadata, None, &self.writer).await?;
        let inserted = self.insert(&mut connection, table, &location).await;
        if let Ok(false) = inserted {
            self.discard(&location).await;
        }
        inserted
    }

    fn default_location(&self, table: &TableIdent) -> String {
        format!("{}/{}/{}", self.warehouse, table.namespace().as_ref().join("/"), table.name())
    }

    async fn may_swap(&self, table: &LoadedTable) -> Result<()> {
        let mut connection = self.connection().await?;
        let tried: sqlx::Result<()> = async {
            let mut transaction = connection.begin().await?;
            let update = sqlx::query(TOUCH).bind(&self.name).bind(namespace(&table.ident)).bind(table.ident.name());
            update.execute(&mut *transaction).await?;
            transaction.rollback().await
        }
        .await;
        tried.map_err(|e| self.failed("write to", e))
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

// Primary result codes of SQLite.
const SQLITE_PERM: i32 = 3;
const SQLITE_BUSY: i32 = 5;
const SQLITE_READONLY: i32 = 8;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_AUTH: i32 = 23;
const SQLITE_NOTADB: i32 = 26;

/// SQLite's primary result code; the driver reports extended ones.
fn code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Whether a file is closed to us: SQLite does not say why it could not open one.
fn denied(path: &Path) -> bool {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(path);
    opened.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests;
