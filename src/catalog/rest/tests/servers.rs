//! The conformance suite against real servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use iceberg::TableIdent;
use reqwest::Method;

use super::RestCatalog;
use crate::catalog::contract::{a_replaced_base_is_refused, contract, contract_of_nessie};
use crate::catalog::rest::client::Auth;
use crate::catalog::servers::server;
use crate::config::{CatalogConfig, CatalogKind};
use crate::http::Request;
use crate::storage::Store;

/// What a job file says of a server. Files are in versitygw, if anywhere but on the disk.
fn config(name: &str, further: &[&str]) -> CatalogConfig {
    let facts = server(name);
    let mut properties = BTreeMap::new();
    for other in further {
        properties.extend(server(other).into_iter().filter(|(key, _)| key != "warehouse" && key != "issuer"));
    }
    CatalogConfig {
        kind: CatalogKind::Rest,
        name: "tidegate".into(),
        uri: facts["uri"].clone(),
        warehouse: facts["warehouse"].clone(),
        properties,
        plain_secrets: Vec::new(),
    }
}

fn open(config: &CatalogConfig) -> RestCatalog {
    RestCatalog::open(config, &Store::with(config.properties.clone())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn icebergs_own_server_passes_the_contract() {
    let config = config("rest", &[]);
    contract("top.inner", || open(&config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn icebergs_own_server_over_s3_passes_the_contract() {
    let config = config("rest-s3", &["versitygw"]);
    contract("top", || open(&config)).await;
}

/// Nessie asks for tokens, which end while the suite runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nessie_passes_the_contract() {
    let config = config("nessie", &["versitygw", "tokens"]);
    contract_of_nessie("top.inner", || open(&config)).await;
}

#[tokio::test]
async fn nessie_refuses_who_has_no_token() {
    let table = TableIdent::from_strs(["a", "t"]).unwrap();
    let without = config("nessie", &["versitygw"]);
    let error = crate::catalog::Catalog::load(&open(&without), &table).await.unwrap_err();
    assert_eq!(error.exit_code(), 77, "{error:?}");
    let mut wrong = config("nessie", &["versitygw", "tokens"]);
    wrong.properties.insert("credential".into(), "tidegate:wrong-secret".into());
    let error = crate::catalog::Catalog::load(&open(&wrong), &table).await.unwrap_err();
    assert_eq!(error.exit_code(), 77, "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-secret"), "{error:?}");
}

#[tokio::test]
async fn a_table_made_again_is_another() {
    for config in [config("rest", &[]), config("nessie", &["versitygw", "tokens"])] {
        let catalog = open(&config);
        a_replaced_base_is_refused(&catalog, "again", async |table: &TableIdent| dropped(&catalog, table).await).await;
    }
}

/// Our client drops no tables.
async fn dropped(catalog: &RestCatalog, table: &TableIdent) {
    let session = catalog.session().await.unwrap();
    let mut headers = Vec::new();
    if let Auth::Tokens(tokens) = &session.client.auth {
        headers.push(("authorization".into(), format!("Bearer {}", tokens.token().await.unwrap())));
    }
    let url = session.client.base.join(&session.paths.table(table)).unwrap();
    let request = Request { method: Method::DELETE, url, headers, body: Bytes::new() };
    let answer = session.client.http.send(&request).await.unwrap();
    assert_eq!(answer.status, 204, "{:?}", answer.body);
}
