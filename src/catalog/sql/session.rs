//! One connection to a database of either kind, for statements whose parameters and results are all text.

use std::future::Future;
use std::io;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use super::{postgres, sqlite};

/// How long an answer is waited for. Longer than a database is told to work on one statement, so that a statement without an answer
/// has ended by then, if it ever arrived.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);

#[derive(Debug)]
pub(super) struct Session {
    connection: Connected,
    answer_timeout: Duration,
}

#[derive(Debug)]
pub(super) enum Connected {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

/// A statement and its parameters, `$1` first.
pub(super) struct Statement<'a>(pub(super) &'a str, pub(super) &'a [&'a str]);

/// What a table's row tells.
pub(super) struct TableRow {
    /// None in rows, and in whole databases, from before views.
    pub(super) kind: Option<String>,
    pub(super) metadata_location: Option<String>,
}

/// The answer to one update.
pub(super) enum Updated {
    /// So many rows, for good.
    Rows(u64),
    /// None, and it never will.
    Not(sqlx::Error),
    /// It may have been done, or may still be.
    Perhaps(sqlx::Error),
}

/// The same code on either connection: the drivers share names, but no trait that would let one function take both.
macro_rules! on {
    ($session:expr, $connection:ident => $body:expr) => {
        match &mut $session.connection {
            Connected::Sqlite($connection) => answered($session.answer_timeout, async { $body }).await,
            Connected::Postgres($connection) => answered($session.answer_timeout, async { $body }).await,
        }
    };
}

macro_rules! query {
    ($statement:expr) => {{
        let Statement(text, values) = $statement;
        // Statements that the server keeps by name do not survive a pooler between it and us.
        values.iter().fold(sqlx::query(text).persistent(false), |query, value| query.bind(*value))
    }};
}

impl Session {
    pub(super) fn new(connection: Connected, answer_timeout: Duration) -> Self {
        Self { connection, answer_timeout }
    }

    /// Whether the other end still answers.
    pub(super) async fn ping(&mut self) -> sqlx::Result<()> {
        on!(self, connection => connection.ping().await)
    }

    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> sqlx::Result<()> {
        on!(self, connection => query!(statement).execute(&mut **connection).await.map(|_| ()))
    }

    /// Runs all statements, or none.
    pub(super) async fn execute_all(&mut self, statements: &[Statement<'_>]) -> sqlx::Result<()> {
        on!(self, connection => {
            let mut transaction = connection.begin().await?;
            for statement in statements {
                query!(statement).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        })
    }

    /// Runs a statement and takes it back.
    pub(super) async fn try_out(&mut self, statement: Statement<'_>) -> sqlx::Result<()> {
        on!(self, connection => {
            let mut transaction = connection.begin().await?;
            query!(statement).execute(&mut *transaction).await?;
            transaction.rollback().await
        })
    }

    /// Runs one update, and says what is known of it.
    pub(super) async fn update(&mut self, statement: Statement<'_>) -> Updated {
        match &mut self.connection {
            Connected::Sqlite(connection) => update_in_a_file(connection, statement).await,
            // The statement is its own transaction: there is no commit whose answer could be lost apart from it.
            Connected::Postgres(connection) => {
                let update = query!(statement).execute(&mut **connection);
                match answered(self.answer_timeout, update).await {
                    Ok(done) => Updated::Rows(done.rows_affected()),
                    Err(e) if postgres::is_undone(&e) => Updated::Not(e),
                    Err(e) => Updated::Perhaps(e),
                }
            }
        }
    }

    pub(super) async fn table_row(&mut self, statement: Statement<'_>) -> sqlx::Result<Option<TableRow>> {
        on!(self, connection => {
            let Some(row) = query!(statement).fetch_optional(&mut **connection).await? else {
                return Ok(None);
            };
            // A missing column is a database made before views.
            let kind = row.try_get("iceberg_type").unwrap_or_default();
            Ok(Some(TableRow { kind, metadata_location: row.try_get("metadata_location")? }))
        })
    }
}

/// In a transaction of its own: only so does SQLite tell a write that failed from a commit that failed.
async fn update_in_a_file(connection: &mut SqliteConnection, statement: Statement<'_>) -> Updated {
    let before_commit: sqlx::Result<_> = async {
        let mut transaction = connection.begin().await?;
        let done = query!(statement).execute(&mut *transaction).await?;
        Ok((transaction, done.rows_affected()))
    }
    .await;
    let (transaction, rows) = match before_commit {
        Ok(done) => done,
        // Nothing that was not committed outlives the transaction.
        Err(e) => return Updated::Not(e),
    };
    match transaction.commit().await {
        Ok(()) => Updated::Rows(rows),
        // SQLite keeps the transaction open when readers are in the way of a commit; leaving it rolls it back.
        Err(e) if sqlite::is_busy(&e) => Updated::Not(e),
        Err(e) => Updated::Perhaps(e),
    }
}

/// Ends the wait for an answer that does not come.
async fn answered<T>(timeout: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        let waited = format!("no answer within {} s", timeout.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, waited)))
    })
}
