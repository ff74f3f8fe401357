//! What a catalog says about the store of a table: its address, credentials that end, and ways that tidegate does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use iceberg::TableIdent;
use reqwest::Method;

use super::client::Ask;
use super::session::Session;
use super::wire::{Credentials, CredentialsAnswer, LoadAnswer, Properties};
use crate::error::{Error, Result};
use crate::storage::{Refresh, Store, Vended};

/// Beginnings of the names of properties that are a store's.
const STORES: [&str; 4] = ["adls.", "client.", "gcs.", "s3."];

/// The endpoint that brings new credentials without the table's metadata.
const CREDENTIALS: &str = "/v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";

/// What a load says about a table's store.
#[derive(Clone)]
pub(super) struct Grant {
    /// Of the server and of the table, the table's above.
    properties: BTreeMap<String, String>,
    credentials: Vec<Credentials>,
    /// Whether the server says how requests get signed by itself.
    signing: bool,
}

impl Grant {
    pub(super) fn of(session: &Session, answer: &LoadAnswer<'_>) -> Self {
        let mut properties = session.properties.clone();
        for (name, value) in answer.config.iter().flatten() {
            match value {
                Some(value) => properties.insert(name.clone(), value.clone()),
                None => properties.remove(name),
            };
        }
        Self {
            properties,
            credentials: answer.storage_credentials.clone().unwrap_or_default(),
            signing: answer.remote_signing_config.is_some(),
        }
    }

    /// Refuses a table that the server wants to be read in ways that tidegate does not know.
    pub(super) fn admit(&self, table: &TableIdent, location: &str) -> Result<()> {
        let is = |name: &str, word: &str| self.properties.get(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        if is("scan-planning-mode", "server") {
            return Err(Error::setup(
                format!("the catalog wants to plan the scans of table `{table}` itself (`scan-planning-mode` is `server`)"),
                "tidegate reads tables by their metadata; let the catalog allow `client` for this table",
            ));
        }
        let own = ["s3.access-key-id", "s3.profile-name", "client.access-key-id", "client.profile-name"];
        let has_keys = own.iter().any(|name| self.properties.contains_key(*name))
            || self.credentials.iter().any(|vended| vended.config.contains_key("s3.access-key-id"));
        let s3 = ["s3:", "s3a:", "s3n:"].iter().any(|scheme| location.starts_with(scheme));
        if s3 && !has_keys && (self.signing || is("s3.remote-signing-enabled", "true")) {
            return Err(Error::setup(
                format!(
                    "the catalog wants to sign each request to the files of table `{table}` itself (remote signing), \
                     which tidegate does not do"
                ),
                "let the catalog vend credentials, or give the job its own (`s3.access-key-id` and `s3.secret-access-key` in [catalog])",
            ));
        }
        Ok(())
    }

    /// Hands the store what it must know. `own`: the job's properties, which it knows.
    pub(super) fn hand(
        self,
        store: &Store,
        session: &Arc<Session>,
        own: &BTreeMap<String, String>,
        table: &TableIdent,
        location: &str,
    ) {
        let nothing_new = self.store_properties().all(|(name, value)| own.get(name) == Some(value));
        if nothing_new && self.credentials.is_empty() {
            return;
        }
        let (session, table, granted) = (Arc::clone(session), table.clone(), self.vended());
        let refresh: Refresh = Arc::new(move || {
            let (session, table, grant) = (Arc::clone(&session), table.clone(), self.clone());
            async move { grant.again(&session, &table).await }.boxed()
        });
        store.vend(location, granted, refresh);
    }

    fn store_properties(&self) -> impl Iterator<Item = (&String, &String)> {
        // A server that would sign can vend keys as well; they were looked for before this.
        let signing = |name: &str| name == "s3.remote-signing-enabled" || name.starts_with("s3.signer");
        self.properties.iter().filter(move |(name, _)| STORES.iter().any(|store| name.starts_with(store)) && !signing(name))
    }

    /// What is said of single locations goes before what is said of all.
    fn vended(&self) -> Vec<Vended> {
        let all: BTreeMap<_, _> = self.store_properties().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut vended: Vec<_> = self
            .credentials
            .iter()
            .map(|Credentials { prefix, config }| {
                let mut properties = all.clone();
                properties.extend(set(config));
                Vended { prefix: prefix.clone(), properties }
            })
            .collect();
        vended.push(Vended { prefix: String::new(), properties: all });
        vended
    }

    /// New credentials, by the endpoint for them, or by another load where the server has none.
    async fn again(self, session: &Session, table: &TableIdent) -> Result<Vec<Vended>> {
        let doing = || format!("get new credentials for the files of table `{table}`");
        let by_endpoint = session.has(&Method::GET, CREDENTIALS, false);
        let path = match by_endpoint {
            true => session.paths.credentials(table),
            false => format!("{}?snapshots=refs", session.paths.table(table)),
        };
        let ask = Ask::get(path).delegated().bearing(session.bearer(table).filter(|_| by_endpoint));
        let body = session.client.ask(&ask, doing).await?;
        let body =
            body.ok_or_else(|| Error::setup(format!("could not {}: it is gone", doing()), "was the table dropped or renamed?"))?;
        let grant = match by_endpoint {
            true => {
                let answer: CredentialsAnswer = session.client.parse(&doing(), &body)?;
                Self { credentials: answer.storage_credentials, ..self }
            }
            false => {
                let answer: LoadAnswer<'_> = serde_json::from_slice(&body).map_err(|e| session.client.odd(&doing(), e))?;
                Self::of(session, &answer)
            }
        };
        Ok(grant.vended())
    }
}

fn set(properties: &Properties) -> impl Iterator<Item = (String, String)> {
    properties.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
}
