//! PostgreSQL: a server, a user, a database.

use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Executor};

use crate::error::{Error, Result};

/// How long a new connection may take, with TLS and authentication.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What the server works on for longer it gives up, and undoes. Another writer's commit holds its lock for milliseconds; without a
/// limit an abandoned session would hold up every run until a person ends it.
const LIMITS: &str = "SET lock_timeout = '5s'; SET statement_timeout = '30s'";

/// Where a server is and who asks. The password is shown nowhere.
pub(super) struct Server {
    options: PgConnectOptions,
}

impl Server {
    /// `uri`: `postgresql://user@host:port/database?sslmode=...`. Without a password, libpq's `PGPASSWORD` and `~/.pgpass` count; so
    /// do its other variables for what the address leaves out.
    pub(super) fn new(uri: &str, password: Option<&str>) -> Result<Self> {
        let options = PgConnectOptions::from_str(uri).map_err(|_| {
            // What the driver says may repeat the address.
            Error::setup(
                "`catalog.uri` is no address of a PostgreSQL database",
                "write it as `postgresql://user@host:5432/database`",
            )
        })?;
        let options = match password {
            Some(password) => options.password(password),
            None => options,
        };
        // No statement is kept: see `Session`.
        Ok(Self { options: options.statement_cache_capacity(0).application_name("tidegate").disable_statement_logging() })
    }

    pub(super) fn shown(&self) -> String {
        format!("{} on {}:{}", self.database(), self.options.get_host(), self.options.get_port())
    }

    fn database(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.options.get_username())
    }

    pub(super) async fn connect(&self) -> Result<PgConnection> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let mut connection = self.options.connect().await?;
            connection.execute(LIMITS).await?;
            Ok(connection)
        });
        match connected.await {
            Ok(connected) => connected.map_err(|e| self.failed("open", e)),
            Err(_) => {
                let waited = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                Err(Error::unavailable(format!("open the catalog database `{}`", self.shown()), waited))
            }
        }
    }

    /// Says who acts: codes are those of PostgreSQL's manual, appendix A.
    pub(super) fn failed(&self, doing: &str, source: sqlx::Error) -> Error {
        let doing = format!("{doing} the catalog database `{}`", self.shown());
        match &source {
            sqlx::Error::Tls(_) => Error::Denied { doing, source: source.into() },
            // A certificate or key that `catalog.uri` names.
            sqlx::Error::Io(e) if e.kind() == ErrorKind::NotFound => {
                Error::setup(format!("could not {doing}: {e}"), "are the paths of `sslrootcert`, `sslcert` and `sslkey` right?")
            }
            // What the TLS library says of the other end's certificate.
            sqlx::Error::Io(e) if e.kind() == ErrorKind::InvalidData => Error::Denied { doing, source: source.into() },
            sqlx::Error::Configuration(e) => Error::setup(format!("could not {doing}: {e}"), "`catalog.uri` says how to connect"),
            sqlx::Error::Database(e) => match e.code().as_deref() {
                Some(code) if code.starts_with("28") => Error::Denied { doing, source: source.into() },
                Some(INSUFFICIENT_PRIVILEGE) => Error::Denied { doing, source: source.into() },
                Some(INVALID_CATALOG_NAME) => Error::setup(
                    format!("database `{}` does not exist on {}", self.database(), self.options.get_host()),
                    "is `catalog.uri` right? `tidegate init` makes tables, but no database",
                ),
                Some(INVALID_SCHEMA_NAME | UNDEFINED_TABLE | UNDEFINED_COLUMN) => Error::setup(
                    format!("could not {doing}: {}", e.message()),
                    "its tables are not those of an Iceberg SQL catalog: is the database right, and the user's `search_path`?",
                ),
                _ => Error::unavailable(doing, source),
            },
            _ => Error::unavailable(doing, source),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.shown()).finish()
    }
}

/// Whether a statement that failed is known to have changed nothing. The server says so by an error that its session survives; one
/// that ends the session can come after a commit that waited for a standby, and a lost connection says nothing at all.
pub(super) fn is_undone(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// Whether a statement failed because no catalog was made in the database yet.
pub(super) fn lacks_tables(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().as_deref() == Some(UNDEFINED_TABLE))
}

/// Whether a statement failed because what it makes was made by another session in the meantime.
pub(super) fn is_there(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| [DUPLICATE_OBJECT, DUPLICATE_TABLE, UNIQUE_VIOLATION].contains(&code.as_ref()))
}

const DUPLICATE_OBJECT: &str = "42710";
const DUPLICATE_TABLE: &str = "42P07";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const INVALID_CATALOG_NAME: &str = "3D000";
const INVALID_SCHEMA_NAME: &str = "3F000";
const UNDEFINED_COLUMN: &str = "42703";
const UNDEFINED_TABLE: &str = "42P01";
const UNIQUE_VIOLATION: &str = "23505";

#[cfg(test)]
mod tests;
