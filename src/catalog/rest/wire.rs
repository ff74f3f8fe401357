//! What Iceberg's REST specification sends: requests and answers as JSON, and paths.

use std::collections::BTreeMap;

use iceberg::spec::{FormatVersion, Schema, SortOrder, TableMetadata, UnboundPartitionSpec};
use iceberg::{NamespaceIdent, TableIdent, TableRequirement, TableUpdate};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::form_urlencoded::byte_serialize;

/// Properties by name; some servers send null for what they leave out.
pub(super) type Properties = BTreeMap<String, Option<String>>;

/// Answer of `GET /v1/config`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ConfigAnswer {
    #[serde(default)]
    pub(super) defaults: Properties,
    #[serde(default)]
    pub(super) overrides: Properties,
    pub(super) endpoints: Option<Vec<String>>,
    pub(super) idempotency_key_lifetime: Option<String>,
}

/// Answer of a load and of a creation.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LoadAnswer<'a> {
    pub(super) metadata_location: Option<String>,
    #[serde(borrow)]
    pub(super) metadata: &'a RawValue,
    #[serde(default)]
    pub(super) config: Option<Properties>,
    #[serde(default)]
    pub(super) storage_credentials: Option<Vec<Credentials>>,
    #[serde(default)]
    pub(super) remote_signing_config: Option<IgnoredAny>,
}

/// Answer of `GET .../credentials`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CredentialsAnswer {
    pub(super) storage_credentials: Vec<Credentials>,
}

/// A page of `GET .../tables`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ListAnswer {
    #[serde(default)]
    pub(super) identifiers: Vec<TableIdent>,
    pub(super) next_page_token: Option<String>,
}

/// Properties of a store for all locations that begin with a prefix.
#[derive(Clone, Deserialize)]
pub(super) struct Credentials {
    pub(super) prefix: String,
    pub(super) config: Properties,
}

/// The beginning of a commit's answer: that it is there says that the server knows what it did.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CommitAnswer {
    #[expect(dead_code, reason = "the next load tells it")]
    metadata_location: String,
}

#[derive(Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) error: ErrorModel,
}

/// What the specification has a server say about an error.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorModel {
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(rename = "type", default)]
    pub(super) kind: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CreateTable<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<&'a str>,
    pub(super) schema: &'a Schema,
    pub(super) partition_spec: UnboundPartitionSpec,
    pub(super) write_order: &'a SortOrder,
    /// Optional by the specification; Nessie answers 500 to a request without it.
    pub(super) stage_create: bool,
    pub(super) properties: BTreeMap<String, String>,
}

impl<'a> CreateTable<'a> {
    pub(super) fn of(table: &'a TableIdent, metadata: &'a TableMetadata) -> Self {
        let properties = metadata.properties().iter().map(|(key, value)| (key.clone(), value.clone()));
        // A property of requests only: no other field of theirs tells the version.
        let version = ("format-version".to_owned(), number(metadata.format_version()).to_owned());
        Self {
            name: table.name(),
            location: Some(metadata.location()).filter(|location| !location.is_empty()),
            schema: metadata.current_schema(),
            partition_spec: metadata.default_partition_spec().as_ref().clone().into_unbound(),
            write_order: metadata.default_sort_order(),
            stage_create: false,
            properties: properties.chain([version]).collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct CreateNamespace<'a> {
    pub(super) namespace: &'a [String],
    pub(super) properties: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct Commit<'a> {
    identifier: &'a TableIdent,
    requirements: &'a [TableRequirement],
    updates: &'a [TableUpdate],
}

impl<'a> Commit<'a> {
    pub(super) fn of(change: &'a super::Change) -> Self {
        Self { identifier: &change.base.ident, requirements: &change.requirements, updates: &change.updates }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CommitTogether<'a> {
    pub(super) table_changes: Vec<Commit<'a>>,
}

fn number(version: FormatVersion) -> &'static str {
    match version {
        FormatVersion::V1 => "1",
        FormatVersion::V2 => "2",
        FormatVersion::V3 => "3",
    }
}

/// Paths of one catalog's resources, below its server's address.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// `v1`, and the prefix where the server has one.
    root: String,
    /// What stands between the levels of a namespace, ready for a path.
    separator: String,
}

impl Paths {
    /// `prefix` and `separator` are as the server tells them: ready for a path, but for what would end one.
    pub(super) fn new(prefix: &str, separator: Option<&str>) -> Self {
        let prefix = prefix.trim_matches('/').replace('?', "%3F").replace('#', "%23");
        Self {
            root: if prefix.is_empty() { "v1".to_owned() } else { format!("v1/{prefix}") },
            separator: separator.unwrap_or("%1F").to_owned(),
        }
    }

    /// The same below one of Nessie's commits: its prefix begins with a branch, and ends there or goes on behind a `|`.
    pub(super) fn at_commit(&self, commit: &str) -> Self {
        let end = ["%7C", "%7c", "|"].iter().find_map(|bar| self.root.find(bar)).unwrap_or(self.root.len());
        let (branch, rest) = self.root.split_at(end);
        Self { root: format!("{branch}@{commit}{rest}"), separator: self.separator.clone() }
    }

    pub(super) fn namespaces(&self) -> String {
        format!("{}/namespaces", self.root)
    }

    pub(super) fn tables(&self, namespace: &NamespaceIdent) -> String {
        let levels: Vec<_> = namespace.as_ref().iter().map(|level| encoded(level)).collect();
        format!("{}/namespaces/{}/tables", self.root, levels.join(&self.separator))
    }

    pub(super) fn table(&self, table: &TableIdent) -> String {
        format!("{}/{}", self.tables(table.namespace()), encoded(table.name()))
    }

    pub(super) fn transaction(&self) -> String {
        format!("{}/transactions/commit", self.root)
    }

    pub(super) fn credentials(&self, table: &TableIdent) -> String {
        format!("{}/credentials", self.table(table))
    }
}

/// Text as one piece of a path or a query. A space is `%20`, which servers read alike whether they take `+` for one or not.
pub(super) fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
