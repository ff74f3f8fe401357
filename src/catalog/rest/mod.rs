//! A catalog that speaks Iceberg's REST protocol, as Polaris, Nessie, Lakekeeper, Gravitino, Unity, Glue and S3 Tables do.
//!
//! A swap is one `POST` of requirements and updates; the server makes the metadata. Never takes silence for a refusal, nor a refusal
//! for one where an earlier sending of the same request may have been acted on. Asks for the configuration once, for a token when it
//! needs one, and for nothing else that nobody asked it for.

mod client;
mod session;
mod settings;
mod vended;
mod wire;

use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::TableMetadata;
use iceberg::{NamespaceIdent, TableIdent};
use tokio::sync::OnceCell;

use self::client::{Ask, Fate, is_unclear, model, said};
use self::session::Session;
use self::settings::Settings;
use self::vended::Grant;
use self::wire::{Commit, CommitAnswer, CreateNamespace, CreateTable, LoadAnswer};
use super::{Catalog, Change, CommitOutcome, LoadedTable};
use crate::config::CatalogConfig;
use crate::error::{BoxError, Error, Result};
use crate::http::Answer;
use crate::storage::Store;

/// One catalog of a server; asks it nothing before it must.
#[derive(Debug)]
pub struct RestCatalog {
    settings: Settings,
    session: OnceCell<Arc<Session>>,
    store: Store,
    file_io: FileIO,
}

impl RestCatalog {
    /// Reads certificates; connects to nothing yet.
    pub(crate) fn open(config: &CatalogConfig, store: &Store) -> Result<Self> {
        Ok(Self { settings: Settings::of(config)?, session: OnceCell::new(), store: store.clone(), file_io: store.file_io() })
    }

    /// Where the catalog is and what it can do, in words.
    pub(crate) async fn describe(&self) -> Result<String> {
        Ok(self.session().await?.describe())
    }

    async fn session(&self) -> Result<&Arc<Session>> {
        self.session.get_or_try_init(async || Session::begin(&self.settings).await.map(Arc::new)).await
    }

    fn loaded(&self, session: &Arc<Session>, table: &TableIdent, body: &[u8]) -> Result<LoadedTable> {
        let doing = format!("load table `{table}`");
        let answer: LoadAnswer<'_> = serde_json::from_slice(body).map_err(|e| session.client.odd(&doing, e))?;
        let metadata: TableMetadata = serde_json::from_str(answer.metadata.get()).map_err(|e| {
            Error::setup(
                format!("the metadata of `{table}` is not of a kind that tidegate can read: {e}"),
                "is the table's format version at most 3?",
            )
        })?;
        let Some(metadata_location) = answer.metadata_location.clone() else {
            return Err(session.client.odd(&doing, "it names no metadata file"));
        };
        session.bears(table, answer.config.as_ref().and_then(|config| config.get("token").cloned().flatten()));
        let grant = Grant::of(session, &answer);
        grant.admit(table, metadata.location())?;
        grant.hand(&self.store, session, &self.settings.properties, table, metadata.location());
        Ok(LoadedTable { ident: table.clone(), metadata_location, metadata: metadata.into(), file_io: self.file_io.clone() })
    }

    /// Creates a namespace, and those above it where the server misses them.
    async fn create_namespace(&self, session: &Session, namespace: &NamespaceIdent) -> Result<()> {
        let doing = || format!("create namespace `{}`", namespace.as_ref().join("."));
        let body = CreateNamespace { namespace: namespace.as_ref(), properties: Default::default() };
        let ask = Ask::post(session.paths.namespaces(), &body, session.key())?;
        for parent_made in [false, true] {
            match session.client.send(&ask.clone()).await {
                Fate::Answered { answer, .. } if answer.is_success() || is_taken(&answer) => return Ok(()),
                Fate::Answered { answer, .. } if answer.status == 409 && (parent_made || namespace.parent().is_none()) => {
                    return Ok(());
                }
                // Where more than one level is missing, Nessie answers 409.
                Fate::Answered { answer, .. } if matches!(answer.status, 404 | 409) && model(&answer).is_some() && !parent_made => {
                    let Some(parent) = namespace.parent() else { return Err(session.client.refusal(doing(), &answer)) };
                    Box::pin(self.create_namespace(session, &parent)).await?;
                }
                Fate::Answered { answer, .. } => return Err(session.client.refusal(doing(), &answer)),
                Fate::Unanswered { error, .. } => return Err(error),
            }
        }
        Err(Error::broken("a namespace was neither made nor refused"))
    }

    /// Judges the answer to a creation; none where the namespace is missing.
    async fn created(&self, session: &Session, table: &TableIdent, fate: Fate) -> Result<Option<bool>> {
        let doing = || format!("create table `{table}`");
        let (error, unsure) = match fate {
            Fate::Answered { answer, .. } if answer.is_success() => return Ok(Some(true)),
            Fate::Answered { answer, .. } if answer.status == 409 => {
                // Of another kind: a namespace may be missing together with the one above it.
                return Ok((is_taken(&answer) || self.load(table).await?.is_some()).then_some(false));
            }
            Fate::Answered { answer, .. } if answer.status == 404 && model(&answer).is_some() => return Ok(None),
            Fate::Answered { answer, unsure } => {
                let unsure = unsure || is_unclear(answer.status);
                (session.client.refusal(doing(), &answer), unsure)
            }
            Fate::Unanswered { error, unsure } => (error, unsure),
        };
        // Whoever made it: it is there now, and is compared with what was wanted.
        match unsure && self.load(table).await?.is_some() {
            true => Ok(Some(false)),
            false => Err(error),
        }
    }
}

/// Whether what was to be made is there already. Not every conflict says so.
fn is_taken(answer: &Answer) -> bool {
    let kind = model(answer).and_then(|error| error.kind);
    answer.status == 409 && kind.is_some_and(|kind| kind.contains("AlreadyExists"))
}

impl Catalog for RestCatalog {
    async fn load(&self, table: &TableIdent) -> Result<Option<LoadedTable>> {
        let session = self.session().await?;
        let ask = Ask::get(format!("{}?snapshots=all", session.paths.table(table))).delegated();
        let body = session.client.ask(&ask, || format!("load table `{table}`")).await?;
        body.map(|body| self.loaded(session, table, &body)).transpose()
    }

    async fn create(&self, table: &TableIdent, metadata: TableMetadata) -> Result<bool> {
        let session = self.session().await?;
        let body = CreateTable::of(table, &metadata);
        for namespace_made in [false, true] {
            let ask = Ask::post(session.paths.tables(table.namespace()), &body, session.key())?;
            let fate = session.client.send(&ask).await;
            match self.created(session, table, fate).await? {
                Some(created) => return Ok(created),
                None if !namespace_made => self.create_namespace(session, table.namespace()).await?,
                None => break,
            }
        }
        Err(Error::setup(
            format!(
                "could not create table `{table}`: `{}` says that its namespace does not exist, and that it made it",
                session.client.server()
            ),
            "create the namespace with another tool",
        ))
    }

    /// The server chooses it.
    fn default_location(&self, _: &TableIdent) -> String {
        String::new()
    }

    async fn swap(&self, change: &Change) -> CommitOutcome {
        let table = &change.base.ident;
        let session = match self.session().await {
            Ok(session) => session,
            Err(error) => return CommitOutcome::Refused(error.into()),
        };
        let ask = match Ask::post(session.paths.table(table), &Commit::of(change), session.key()) {
            Ok(ask) => ask.bearing(session.bearer(table)),
            Err(error) => return CommitOutcome::Refused(error.into()),
        };
        match session.client.send(&ask).await {
            Fate::Unanswered { error, unsure: false } => CommitOutcome::Refused(error.into()),
            Fate::Unanswered { error, unsure: true } => CommitOutcome::Unclear(error.into()),
            Fate::Answered { answer, unsure } => judge(session, table, &answer, unsure),
        }
    }
}

/// What the answer to a commit says about its fate, by the specification.
fn judge(session: &Session, table: &TableIdent, answer: &Answer, unsure: bool) -> CommitOutcome {
    let doing = format!("commit to table `{table}`");
    if answer.is_success() {
        return match session.client.parse::<CommitAnswer>(&doing, &answer.body) {
            Ok(_) => CommitOutcome::Committed,
            // Something between here and the catalog may have answered.
            Err(error) => CommitOutcome::Unclear(error.into()),
        };
    }
    let error = match answer.status {
        409 => Error::unavailable(format!("{doing}: another writer was first"), BoxError::from(said(answer))),
        _ => session.client.refusal(doing, answer),
    };
    // A gateway's own 503 says nothing of what the catalog behind it did.
    match unsure || is_unclear(answer.status) || (answer.status == 503 && model(answer).is_none()) {
        true => CommitOutcome::Unclear(error.into()),
        false => CommitOutcome::Refused(error.into()),
    }
}

#[cfg(test)]
mod tests;
