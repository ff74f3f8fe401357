//! What a server said about itself when it was first asked, joined with what the job file says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use iceberg::spec::MAIN_BRANCH;
use iceberg::{TableIdent, TableRequirement};
use reqwest::Method;
use uuid::Uuid;

use super::client::{Ask, Client, Fate, model, said};
use super::settings::{Settings, address, headers};
use super::wire::{ConfigAnswer, Paths, encoded};
use crate::catalog::{Change, LoadedTable};
use crate::error::{Error, Result};

const CONFIGURING: &str = "configure the catalog";

/// A configured catalog.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) paths: Paths,
    /// The server's defaults, what the job file says, and the server's overrides, each over the one before.
    pub(super) properties: BTreeMap<String, String>,
    warehouse: String,
    idempotent: bool,
    endpoints: Option<Vec<String>>,
    /// Tokens for one table each.
    bearers: Mutex<BTreeMap<TableIdent, String>>,
}

impl Session {
    /// Asks for the configuration.
    pub(super) async fn begin(settings: &Settings) -> Result<Self> {
        let client = settings.client()?;
        let config = ask(&client, &settings.warehouse).await?;
        let properties = merged(&config, &settings.properties);
        let base = match properties.get("uri") {
            Some(uri) => address(uri).map_err(|why| client.odd(CONFIGURING, format!("its `uri` {why}")))?,
            None => client.base.clone(),
        };
        if client.base.scheme() == "https" && base.scheme() != "https" {
            // Tokens and vended keys would go over the wire as they are.
            return Err(client.odd(CONFIGURING, "its `uri` leads from https:// to http://"));
        }
        let value = |name: &str| properties.get(name).map(String::as_str);
        let prefix = value("prefix").unwrap_or_default();
        if prefix.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(client.odd(CONFIGURING, "its `prefix` leads out of the catalog's paths"));
        }
        let paths = Paths::new(prefix, value("namespace-separator"));
        let client = Client { base, headers: headers(&properties), ..client };
        Ok(Self {
            client,
            paths,
            warehouse: value("warehouse").unwrap_or_default().to_owned(),
            properties,
            idempotent: config.idempotency_key_lifetime.is_some(),
            endpoints: config.endpoints,
            bearers: Mutex::default(),
        })
    }

    /// A new `Idempotency-Key`, where the server knows what that is.
    pub(super) fn key(&self) -> Option<Uuid> {
        // Tells one request from all others, and is told apart by time in the server's index.
        self.idempotent.then(Uuid::now_v7)
    }

    /// Whether the server has an endpoint, written as in the specification. Servers that do not say have those of its first version.
    pub(super) fn has(&self, method: &Method, path: &str, in_first_version: bool) -> bool {
        let endpoint = format!("{method} {path}");
        self.endpoints.as_ref().filter(|all| !all.is_empty()).map_or(in_first_version, |all| all.contains(&endpoint))
    }

    /// Paths for a commit onto `base`. Nessie takes from its prefix which of its own commits a change was made from, and refuses it
    /// where the table has changed since. Its 0.99 does not check the requirement that there is no snapshot yet, and would let one
    /// first snapshot replace another.
    pub(super) fn paths_onto(&self, base: &LoadedTable) -> Cow<'_, Paths> {
        match base.metadata.properties().get("nessie.commit.id").filter(|_| self.is_nessie()) {
            Some(commit) => Cow::Owned(self.paths.at_commit(&encoded(commit))),
            None => Cow::Borrowed(&self.paths),
        }
    }

    /// Refuses what the server would take without looking at it: Nessie knows no branch of a table but `main`.
    pub(super) fn admit(&self, change: &Change) -> Result<()> {
        let other = change.requirements.iter().find_map(|requirement| match requirement {
            TableRequirement::RefSnapshotIdMatch { r#ref, .. } if r#ref != MAIN_BRANCH => Some(r#ref),
            _ => None,
        });
        match other.filter(|_| self.is_nessie()) {
            None => Ok(()),
            Some(branch) => Err(Error::setup(
                format!(
                    "Nessie keeps no branches within a table, and the job writes to branch `{branch}` of `{}`",
                    change.base.ident
                ),
                "leave `table.branch` out; one of Nessie's own branches is chosen by `catalog.uri`, as in `https://host/iceberg/BRANCH`",
            )),
        }
    }

    pub(super) fn is_nessie(&self) -> bool {
        self.properties.get("nessie.is-nessie-catalog").is_some_and(|is| is == "true")
    }

    pub(super) fn describe(&self) -> String {
        let mut text = format!("REST at `{}`", self.client.server());
        if !self.warehouse.is_empty() {
            text.push_str(&format!(", warehouse `{}`", self.warehouse));
        }
        if let Some(prefix) = self.properties.get("prefix").filter(|prefix| !prefix.is_empty()) {
            text.push_str(&format!(", prefix `{prefix}`"));
        }
        if self.idempotent {
            text.push_str(", takes idempotency keys");
        }
        text
    }

    /// The token for one table, where its last load brought one.
    pub(super) fn bearer(&self, table: &TableIdent) -> Option<String> {
        self.bearers.lock().unwrap_or_else(PoisonError::into_inner).get(table).cloned()
    }

    pub(super) fn bears(&self, table: &TableIdent, token: Option<String>) {
        let mut bearers = self.bearers.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => bearers.insert(table.clone(), token),
            None => bearers.remove(table),
        };
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("client", &self.client).field("paths", &self.paths).finish_non_exhaustive()
    }
}

async fn ask(client: &Client, warehouse: &str) -> Result<ConfigAnswer> {
    let doing = "ask for the catalog's configuration";
    let path = match warehouse {
        "" => "v1/config".to_owned(),
        warehouse => format!("v1/config?warehouse={}", encoded(warehouse)),
    };
    match client.send(&Ask::get(path)).await {
        Fate::Answered { answer, .. } if answer.is_success() => client.parse(doing, &answer.body),
        Fate::Answered { answer, .. } if answer.status == 404 && model(&answer).is_some() => Err(Error::setup(
            format!("the catalog at `{}` has no warehouse `{warehouse}`: {}", client.server(), said(&answer)),
            "`catalog.warehouse` is its name, or its location, as the server knows it",
        )),
        Fate::Answered { answer, .. } => Err(client.refusal(doing.to_owned(), &answer)),
        Fate::Unanswered { error, .. } => Err(error),
    }
}

/// The server's defaults below, its overrides above what the job file says. A null takes away.
fn merged(config: &ConfigAnswer, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut merged = config.defaults.clone();
    merged.extend(own.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    merged.extend(config.overrides.clone());
    merged.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
