//! The conformance suite against Iceberg's own server, which `scripts/servers` starts.

use std::collections::BTreeMap;
use std::process::Command;

use tempfile::TempDir;

use super::RestCatalog;
use crate::catalog::contract::contract;
use crate::config::{CatalogConfig, CatalogKind};
use crate::storage::Store;

/// A server that ends with the test.
struct Running {
    directory: TempDir,
    facts: BTreeMap<String, String>,
}

fn script(arguments: &[&str]) -> String {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");
    let done = Command::new(program).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?} failed (does scripts/setup have to run first?): {told}");
    String::from_utf8(done.stdout).unwrap()
}

impl Running {
    fn up(name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let told = script(&["up", name, directory.path().to_str().unwrap()]);
        let facts = told.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { facts: facts.collect(), directory }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        script(&["down", "--kill", self.directory.path().to_str().unwrap()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_icebergs_own_server() {
    let server = Running::up("rest");
    let config = CatalogConfig {
        kind: CatalogKind::Rest,
        name: "tidegate".into(),
        uri: server.facts["uri"].clone(),
        warehouse: server.facts["warehouse"].clone(),
        properties: BTreeMap::new(),
    };
    contract("top.inner", || RestCatalog::open(&config, &Store::new()).unwrap()).await;
}
