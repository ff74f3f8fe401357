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
use reqwest::Method;
use tokio::sync::OnceCell;

use self::client::{Ask, Fate, is_unclear, model, said};
use self::session::Session;
use self::settings::Settings;
use self::vended::Grant;
use self::wire::{Commit, CommitAnswer, CommitTogether, CreateNamespace, CreateTable, ListAnswer, LoadAnswer, encoded};
use super::{Catalog, Change, CommitOutcome, LoadedTable};
use crate::config::{CatalogConfig, nearest_name};
use crate::error::{BoxError, Error, Result};
use crate::http::Answer;
use crate::storage::Store;

/// Pages of a list; a server that has more, or no end, has said enough.
const PAGES_MAX: usize = 100;

/// The endpoint that changes several tables at once.
const TRANSACTION: &str = "/v1/{prefix}/transactions/commit";

/// One catalog of a server; asks it nothing before it must.
#[derive(Debug)]
pub struct RestCatalog {
    settings: Settings,
    session: OnceCell<Arc<Session>>,
    store: Store,
    file_io: FileIO,
}

/// Whether an answer that says yes comes from the catalog itself.
type Understood = fn(&Session, &Answer, &str) -> Result<()>;

impl RestCatalog {
    /// Reads certificates; connects to nothing yet.
    pub(crate) fn open(config: &CatalogConfig, store: &Store) -> Result<Self> {
        Ok(Self { settings: Settings::of(config)?, session: OnceCell::new(), store: store.clone(), file_io: store.file_io() })
    }

    /// Where the catalog is and what it can do, in words.
    pub(crate) async fn describe(&self) -> Result<String> {
        Ok(self.session().await?.describe())
    }

    /// Names of the tables in a namespace; none where it is missing.
    async fn names(&self, namespace: &NamespaceIdent) -> Result<Vec<String>> {
        let session = self.session().await?;
        let doing = || format!("list the tables of namespace `{}`", namespace.as_ref().join("."));
        let (mut names, mut token) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            // An empty token asks for pages; a server that has none ignores it.
            let ask = Ask::get(format!("{}?pageToken={}", session.paths.tables(namespace), encoded(&token)));
            let Some(body) = session.client.ask(&ask, doing).await? else { break };
            let page: ListAnswer = session.client.parse(&doing(), &body)?;
            names.extend(page.identifiers.into_iter().map(|table| table.name));
            match page.next_page_token.filter(|next| !next.is_empty() && *next != token) {
                Some(next) => token = next,
                None => break,
            }
        }
        Ok(names)
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

    /// Sends a commit and says what became of it.
    async fn commit(&self, doing: String, ask: impl FnOnce(&Session) -> Result<Ask>, understood: Understood) -> CommitOutcome {
        let session = match self.session().await {
            Ok(session) => session,
            Err(error) => return CommitOutcome::Refused(error.into()),
        };
        let ask = match ask(session) {
            Ok(ask) => ask,
            Err(error) => return CommitOutcome::Refused(error.into()),
        };
        match session.client.send(&ask).await {
            Fate::Unanswered { error, unsure: false } => CommitOutcome::Refused(error.into()),
            Fate::Unanswered { error, unsure: true } => CommitOutcome::Unclear(error.into()),
            Fate::Answered { answer, unsure } => judge(session, doing, &answer, unsure, understood),
        }
    }

    async fn swap_once(&self, change: &Change) -> CommitOutcome {
        let table = &change.base.ident;
        let body = Commit::of(change);
        let ask = |session: &Session| {
            session.admit(change)?;
            let path = session.paths_onto(&change.base).table(table);
            Ok(Ask::post(path, &body, session.key())?.bearing(session.bearer(table)))
        };
        self.commit(format!("commit to table `{table}`"), ask, |session, answer, doing| {
            session.client.parse::<CommitAnswer>(doing, &answer.body).map(|_| ())
        })
        .await
    }

    /// Whether another load brings another token for a table than the one that was refused: it may have ended during the pull.
    async fn renews(&self, table: &TableIdent, refused: &str) -> bool {
        if let Err(error) = self.load(table).await {
            tracing::info!(%error, "no other token for the table");
            return false;
        }
        self.session.get().is_some_and(|session| session.bearer(table).as_deref() != Some(refused))
    }

    /// Creates a namespace, and those above it where the server misses them.
    async fn create_namespace(&self, session: &Session, namespace: &NamespaceIdent) -> Result<()> {
        let doing = || format!("create namespace `{}`", namespace.as_ref().join("."));
        let body = CreateNamespace { namespace: namespace.as_ref(), properties: Default::default() };
        let ask = Ask::post(session.paths.namespaces(), &body, session.key())?;
        for parent_made in [false, true] {
            let answer = match session.client.send(&ask.clone()).await {
                Fate::Answered { answer, .. } if answer.is_success() => return Ok(()),
                Fate::Answered { answer, .. } => answer,
                Fate::Unanswered { error, .. } => return Err(error),
            };
            let parent = namespace.parent().filter(|_| !parent_made);
            match (answer.status, model(&answer), parent) {
                _ if is_taken(&answer) => return Ok(()),
                // Where more than one level is missing, Nessie calls it a conflict.
                (404 | 409, Some(_), Some(parent)) => Box::pin(self.create_namespace(session, &parent)).await?,
                (409, ..) => return Ok(()),
                _ => return Err(session.client.refusal(doing(), &answer)),
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

fn is_denial(cause: &BoxError) -> bool {
    matches!(cause.downcast_ref(), Some(Error::Denied { .. }))
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

    async fn nearest(&self, table: &TableIdent) -> Result<Option<TableIdent>> {
        let names = self.names(table.namespace()).await?;
        let found = nearest_name(table.name(), names.iter().map(String::as_str));
        Ok(found.map(|name| TableIdent::new(table.namespace().clone(), name.to_owned())))
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
        let bearer = self.session.get().and_then(|session| session.bearer(table));
        let outcome = self.swap_once(change).await;
        match (&outcome, bearer) {
            (CommitOutcome::Refused(cause), Some(bearer)) if is_denial(cause) && self.renews(table, &bearer).await => {
                self.swap_once(change).await
            }
            _ => outcome,
        }
    }

    async fn swaps_together(&self) -> Result<bool> {
        let session = self.session().await?;
        // Nessie has one address for all the tables, and so no place for the commit that each change was made from.
        Ok(session.has(&Method::POST, TRANSACTION, false) && !session.is_nessie())
    }

    async fn swap_together(&self, changes: &[Change]) -> CommitOutcome {
        let names: Vec<_> = changes.iter().map(|change| format!("`{}`", change.base.ident)).collect();
        let body = CommitTogether { table_changes: changes.iter().map(Commit::of).collect() };
        let ask = |session: &Session| Ask::post(session.paths.transaction(), &body, session.key());
        self.commit(format!("commit to tables {}", names.join(" and ")), ask, |session, answer, doing| {
            match answer.body.is_empty() {
                true => Ok(()),
                false => Err(session.client.odd(doing, "it should be empty")),
            }
        })
        .await
    }
}

/// What the answer to a commit says about its fate, by the specification.
fn judge(session: &Session, doing: String, answer: &Answer, unsure: bool, understood: Understood) -> CommitOutcome {
    if answer.is_success() {
        return match understood(session, answer, &doing) {
            Ok(()) => CommitOutcome::Committed,
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
