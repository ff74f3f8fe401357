//! SQLite: one file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};

use crate::error::{Error, Result};
use crate::storage::{failed, make_directory};

/// How long a statement waits for another process's write. A commit of this catalog takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct File(PathBuf);

impl File {
    pub(super) fn new(path: &str) -> Self {
        Self(PathBuf::from(path))
    }

    pub(super) fn shown(&self) -> String {
        self.0.display().to_string()
    }

    /// Connects to the file, which must exist.
    pub(super) async fn connect(&self) -> Result<SqliteConnection> {
        // SQLite's own message for a missing file names neither the file nor what to do.
        if !self.0.exists() {
            return Err(self.no_database());
        }
        self.open(false).await
    }

    /// Connects to the file; makes it, and its folder, where there is none.
    pub(super) async fn create(&self) -> Result<SqliteConnection> {
        if let Some(folder) = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_directory(folder).map_err(|e| failed(|| format!("make the folder `{}`", folder.display()), e))?;
        }
        self.open(true).await
    }

    async fn open(&self, create: bool) -> Result<SqliteConnection> {
        // Else it would look as if the database could not be opened for now.
        if self.0.is_dir() {
            return Err(Error::setup(
                format!("catalog database `{}` is a directory", self.0.display()),
                "`catalog.uri` names the database's file, as in `sqlite://warehouse/catalog.db`",
            ));
        }
        let options = SqliteConnectOptions::new()
            .filename(&self.0)
            .create_if_missing(create)
            .busy_timeout(BUSY_TIMEOUT)
            // Without it a power cut can bring back the rollback journal of a commit that was answered.
            .synchronous(SqliteSynchronous::Extra)
            .disable_statement_logging();
        options.connect().await.map_err(|e| self.failed("open", e))
    }

    fn no_database(&self) -> Error {
        let relative = self.0.strip_prefix("/").ok().filter(|relative| relative.exists());
        let hint = match relative {
            Some(relative) => format!(
                "`sqlite:///` begins an absolute path here; for the file in this folder write `sqlite://{}`",
                relative.display()
            ),
            None => "`tidegate init` creates it and the table; is the path right, and the volume mounted?".to_owned(),
        };
        Error::setup(format!("catalog database `{}` does not exist", self.0.display()), hint)
    }

    pub(super) fn failed(&self, doing: &str, source: sqlx::Error) -> Error {
        let doing = format!("{doing} the catalog database `{}`", self.0.display());
        match code(&source) {
            Some(SQLITE_PERM | SQLITE_READONLY | SQLITE_AUTH) => Error::Denied { doing, source: source.into() },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Error::setup(
                format!("could not {doing}: {source}"),
                "the file is damaged or no SQLite database; restore it from a backup",
            ),
            Some(SQLITE_CANTOPEN) if denied(&self.0) => Error::Denied { doing, source: source.into() },
            _ => failed(|| doing, source),
        }
    }
}

/// Whether someone else holds the file: nothing was done.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    code(error) == Some(SQLITE_BUSY)
}

/// Whether a statement failed because no catalog was made in the database yet.
pub(super) fn lacks_tables(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.message().starts_with("no such table"))
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
    opened.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}
