//! One scripted server is catalog and S3 at once: what the catalog vends must reach the store's requests.

use serde_json::{Value, json};

use super::{TABLE, config, configured, header, ident, lines, table_with};
use crate::catalog::Catalog;
use crate::catalog::rest::RestCatalog;
use crate::http::scripted::{Reply, Seen, Server};
use crate::storage::Store;

const FILE: &str = "s3://lake/a/b/t/data/1.parquet";
const GET_FILE: &str = "GET /lake/a/b/t/data/1.parquet";
const CREDENTIALS: &str = "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";

fn keys(name: &str, expires_ms: u64) -> Value {
    json!({
        "s3.access-key-id": name, "s3.secret-access-key": "s3cr3t", "s3.session-token": format!("session-{name}"),
        "s3.session-token-expires-at-ms": expires_ms.to_string(),
    })
}

/// Answers every file, and the rest by the script.
fn lake(more: Value, mut script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Server {
    configured(more, move |seen| match seen.line.contains(" /lake/") {
        true => Reply::Answer(200, vec![("last-modified".into(), "Wed, 21 Oct 2026 07:28:00 GMT".into())], "row".into()),
        false => script(seen),
    })
}

fn open(server: &Server, store: &Store) -> RestCatalog {
    RestCatalog::open(&config(server, &[]), store).unwrap()
}

fn address(server: &Server) -> Value {
    json!({"s3.endpoint": server.url().as_str().trim_end_matches('/'), "s3.region": "eu-central-1", "s3.path-style-access": "true"})
}

fn joined(mut one: Value, other: Value) -> Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

/// Who asked for the files, by the key's name.
fn signers(server: &Server) -> Vec<String> {
    let asked = server.seen().into_iter().filter(|seen| seen.line == GET_FILE);
    let signer = |seen: &Seen| {
        let authorization = header(seen, "authorization").unwrap_or("nobody").to_owned();
        let name = authorization.split_once("Credential=").map_or(authorization.as_str(), |(_, rest)| rest);
        format!("{} {}", name.split('/').next().unwrap(), header(seen, "x-amz-security-token").unwrap_or("no session"))
    };
    asked.map(|seen| signer(&seen)).collect()
}

#[tokio::test]
async fn the_longest_prefix_among_what_is_vended_counts() {
    let server = lake(json!({}), |_| panic!("answered below"));
    let address = address(&server);
    let answer = joined(
        table_with(joined(address, keys("config", 4_000_000_000_000))),
        json!({"storage-credentials": [
            {"prefix": "s3://lake/a/b/t/data", "config": keys("longest", 4_000_000_000_000)},
            {"prefix": "s3://lake/a", "config": keys("shorter", 4_000_000_000_000)},
            {"prefix": "s3://other", "config": keys("other", 4_000_000_000_000)},
        ]}),
    );
    // The store's address is the server's own: it is known only once the server runs.
    let catalog = configured(json!({}), move |_| Reply::json(200, &answer));
    let store = Store::new();
    open(&catalog, &store).load(&ident()).await.unwrap().unwrap();
    assert_eq!(&store.read(FILE).await.unwrap()[..], b"row");
    assert_eq!(signers(&server), ["longest session-longest"]);
    assert_eq!(lines(&catalog).len(), 2, "credentials that last are not asked for again");
}

#[tokio::test]
async fn credentials_that_end_are_asked_for_again() {
    for by_endpoint in [true, false] {
        let server = lake(json!({}), |_| panic!("only files are here"));
        let address = address(&server);
        let more = if by_endpoint { json!({"endpoints": [CREDENTIALS]}) } else { json!({}) };
        let mut asked = 0;
        let catalog = configured(more, move |seen| {
            asked += 1;
            // The first ones are at their end already; the next last.
            let vended = json!([{"prefix": "s3://lake/a/b/t", "config": keys(&format!("key{asked}"), if asked == 1 { 1 } else { 4_000_000_000_000 })}]);
            Reply::json(
                200,
                &match seen.line.contains("/credentials") {
                    true => json!({"storage-credentials": vended}),
                    false => joined(table_with(address.clone()), json!({"storage-credentials": vended})),
                },
            )
        });
        let store = Store::new();
        open(&catalog, &store).load(&ident()).await.unwrap().unwrap();
        store.read(FILE).await.unwrap();
        store.read(FILE).await.unwrap();
        assert_eq!(signers(&server), ["key2 session-key2"; 2]);
        let again = if by_endpoint { format!("GET {TABLE}/credentials") } else { format!("GET {TABLE}?snapshots=refs") };
        assert_eq!(lines(&catalog)[1..], [format!("GET {TABLE}?snapshots=all"), again]);
        assert_eq!(header(catalog.seen().last().unwrap(), "x-iceberg-access-delegation"), Some("vended-credentials"));
    }
}

/// A store's address among the server's overrides, keys of the job's own.
#[tokio::test]
async fn the_servers_properties_of_stores_count() {
    let server = lake(json!({}), |_| panic!("only files are here"));
    let address = address(&server);
    let catalog = configured(json!({"overrides": address}), |_| Reply::json(200, &table_with(json!({}))));
    let own = [("s3.access-key-id", "mine"), ("s3.secret-access-key", "s3cr3t"), ("s3.endpoint", "http://nowhere.invalid")];
    let settings = config(&catalog, &own);
    let store = Store::with(settings.properties.clone());
    RestCatalog::open(&settings, &store).unwrap().load(&ident()).await.unwrap().unwrap();
    store.read(FILE).await.unwrap();
    assert_eq!(signers(&server), ["mine no session"]);
}
