//! The wire, against a scripted server that shows every request; what a real server makes of it is for the conformance suite.

mod commit;
mod create;
mod servers;
mod session;
mod tokens;
mod vended;

use iceberg::{NamespaceIdent, TableIdent};
use serde_json::{Value, json};

use super::RestCatalog;
use crate::catalog::contract::{append, on_base};
use crate::catalog::{Change, CommitOutcome, LoadedTable, contract};
use crate::config::{CatalogConfig, CatalogKind};
use crate::error::{BoxError, Error};
use crate::http::scripted::{Reply, Seen, Server};
use crate::storage::Store;

const TABLE: &str = "/v1/namespaces/a%1Fb/tables/t";
const COMMIT: &str = "POST /v1/namespaces/a%1Fb/tables/t";

fn config(server: &Server, properties: &[(&str, &str)]) -> CatalogConfig {
    CatalogConfig {
        kind: CatalogKind::Rest,
        name: "tidegate".into(),
        uri: server.url().into(),
        warehouse: "lake house".into(),
        properties: properties.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        plain_secrets: Vec::new(),
    }
}

fn open(server: &Server, properties: &[(&str, &str)]) -> RestCatalog {
    RestCatalog::open(&config(server, properties), &Store::new()).unwrap()
}

fn ident() -> TableIdent {
    TableIdent::new(NamespaceIdent::from_strs(["a", "b"]).unwrap(), "t".into())
}

/// A server that configures, and does what the script says about all else.
fn server(mut script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Server {
    configured(json!({}), move |seen| script(seen))
}

/// The same with more in its configuration.
fn configured(more: Value, mut script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Server {
    Server::start(move |seen| match seen.line.starts_with("GET /v1/config") {
        true => {
            let mut config = json!({"defaults": {}, "overrides": {}});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Reply::json(200, &config)
        }
        false => script(seen),
    })
}

/// One reply after another; one request more is a failure of the test.
fn replies(replies: impl IntoIterator<Item = Reply>) -> impl FnMut(&Seen) -> Reply {
    let mut replies: Vec<_> = replies.into_iter().collect();
    replies.reverse();
    move |seen| replies.pop().unwrap_or_else(|| panic!("not expected: {}", seen.line))
}

/// A load's answer. The table has no snapshot.
fn table_with(config: Value) -> Value {
    let mut metadata = serde_json::to_value(contract::metadata_at("s3://lake/a/b/t".into())).unwrap();
    metadata["table-uuid"] = json!("00000000-0000-0000-0000-000000000007");
    json!({"metadata-location": "s3://lake/a/b/t/metadata/1.json", "metadata": metadata, "config": config})
}

fn table() -> Value {
    table_with(json!({}))
}

fn error(status: u16, kind: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": kind, "code": status}}))
}

/// A gateway's word.
fn gateway(status: u16) -> Reply {
    Reply::Answer(status, vec![("retry-after".into(), "0".into())], "<html>upstream</html>".into())
}

fn committed() -> Reply {
    Reply::json(200, &json!({"metadata-location": "s3://lake/a/b/t/metadata/2.json", "metadata": {}}))
}

fn lines(server: &Server) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.line).collect()
}

fn change() -> Change {
    let base = serde_json::from_value(table()["metadata"].clone()).unwrap();
    let base = LoadedTable {
        ident: ident(),
        metadata_location: "s3://lake/a/b/t/metadata/1.json".into(),
        metadata: std::sync::Arc::new(base),
        file_io: Store::new().file_io(),
    };
    Change { requirements: on_base(&base), updates: append(&base, 5), base }
}

fn told(outcome: CommitOutcome) -> (&'static str, BoxError) {
    match outcome {
        CommitOutcome::Committed => ("committed", BoxError::from("")),
        CommitOutcome::Refused(why) => ("refused", why),
        CommitOutcome::Unclear(why) => ("unclear", why),
    }
}

/// A message with its causes and its hint.
fn words(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}; {cause}; {}", error.hint().unwrap_or_default())
}

fn code(error: &BoxError) -> u8 {
    error.downcast_ref::<Error>().unwrap().exit_code()
}

fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.get(name).map(String::as_str)
}
