//! The conformance suite against real servers.

use std::collections::BTreeMap;

use iceberg::TableIdent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::RestCatalog;
use crate::catalog::contract::{a_replaced_base_is_refused, contract, contract_of_nessie};
use crate::catalog::servers::server;
use crate::config::{CatalogConfig, CatalogKind};
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
    let config = config("rest", &[]);
    a_replaced_base_is_refused(&open(&config), "again", async |table: &TableIdent| {
        // Our client drops no tables.
        let address = config.uri.strip_prefix("http://").unwrap();
        let mut server = TcpStream::connect(address).await.unwrap();
        let path = format!("/v1/namespaces/again/tables/{}", table.name());
        let request = format!("DELETE {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        server.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        server.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    })
    .await;
}
