use iceberg::TableIdent;
use serde_json::{Value, json};

use super::{TABLE, config, configured, error, gateway, header, ident, lines, open, replies, server, table, table_with, words};
use crate::catalog::Catalog;
use crate::catalog::rest::RestCatalog;
use crate::http::scripted::{Reply, Server};
use crate::storage::Store;

#[tokio::test]
async fn loads_ask_for_all_snapshots_and_for_credentials() {
    let server = server(|_| Reply::json(200, &table()));
    let catalog = open(&server, &[("header.X-Team", "news")]);
    let loaded = catalog.load(&ident()).await.unwrap().unwrap();
    assert_eq!(loaded.metadata_location, "s3://lake/a/b/t/metadata/1.json");
    assert_eq!((&loaded.ident, loaded.metadata.location()), (&ident(), "s3://lake/a/b/t"));
    catalog.load(&ident()).await.unwrap().unwrap();
    let load = format!("GET {TABLE}?snapshots=all");
    assert_eq!(lines(&server), ["GET /v1/config?warehouse=lake%20house", &load, &load], "and for nothing more");
    let seen = server.seen();
    assert_eq!(header(&seen[1], "x-iceberg-access-delegation"), Some("vended-credentials"));
    for seen in &seen {
        assert_eq!(header(seen, "x-team"), Some("news"), "{}", seen.line);
        assert_eq!(header(seen, "authorization"), None, "{}", seen.line);
    }
    let catalog = open(&server, &[("header.X-Iceberg-Access-Delegation", "")]);
    catalog.load(&ident()).await.unwrap().unwrap();
    assert_eq!(header(server.seen().last().unwrap(), "x-iceberg-access-delegation"), None, "unless the job wants none");
}

#[tokio::test]
async fn the_servers_word_is_below_or_above_the_jobs() {
    let later = Server::start(|_| Reply::json(200, &table()));
    let own = later.url().to_string();
    let server = configured(
        json!({
            "defaults": {"header.x-a": "default", "header.x-b": "default", "prefix": "default", "warehouse": "default"},
            "overrides": {"header.x-c": "override", "header.x-d": null, "prefix": "catalogs/main%7Cwh", "namespace-separator": ".", "uri": own},
        }),
        replies([]),
    );
    let job = [("header.X-B", "job"), ("header.x-c", "job"), ("header.x-d", "job")];
    let properties = job.map(|(name, value)| (name.to_lowercase(), value));
    let properties = properties.each_ref().map(|(name, value)| (name.as_str(), *value));
    open(&server, &properties).load(&ident()).await.unwrap().unwrap();
    let seen = &later.seen()[0];
    assert_eq!(seen.line, "GET /v1/catalogs/main%7Cwh/namespaces/a.b/tables/t?snapshots=all");
    assert_eq!(header(seen, "x-a"), Some("default"));
    assert_eq!(header(seen, "x-b"), Some("job"));
    assert_eq!(header(seen, "x-c"), Some("override"));
    assert_eq!(header(seen, "x-d"), None, "null takes away");
}

/// Where to go stands in the job file; only an override of the server's goes before it.
#[tokio::test]
async fn a_servers_default_address_does_not_go_before_the_jobs() {
    let more = json!({"defaults": {"uri": "http://127.0.0.1:1", "warehouse": "theirs"}});
    let server = configured(more, |_| Reply::json(200, &table()));
    let catalog = open(&server, &[]);
    catalog.load(&ident()).await.unwrap().unwrap();
    assert!(catalog.describe().await.unwrap().contains("warehouse `lake house`"));
}

#[tokio::test]
async fn a_prefix_stays_within_the_catalogs_paths() {
    let server = configured(json!({"overrides": {"prefix": "a?b#c d"}}), |_| Reply::json(200, &table()));
    open(&server, &[]).load(&ident()).await.unwrap().unwrap();
    assert_eq!(lines(&server)[1], "GET /v1/a%3Fb%23c%20d/namespaces/a%1Fb/tables/t?snapshots=all");
    for prefix in ["..", "a/../../../other", "./x"] {
        let server = configured(json!({"overrides": {"prefix": prefix}}), replies([]));
        let error = open(&server, &[]).load(&ident()).await.unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("its `prefix` leads out"), "{error}");
    }
}

#[tokio::test]
async fn names_of_any_kind_reach_the_server_whole() {
    let server = server(|_| Reply::json(200, &table()));
    let odd = TableIdent::from_strs(["n&m", "50 %", "a+b/c?ü"]).unwrap();
    open(&server, &[]).load(&odd).await.unwrap();
    assert_eq!(lines(&server)[1], "GET /v1/namespaces/n%26m%1F50%20%25/tables/a%2Bb%2Fc%3F%C3%BC?snapshots=all");
}

#[tokio::test]
async fn a_missing_table_is_none_and_a_missing_catalog_an_error() {
    for kind in ["NoSuchTableException", "NoSuchNamespaceException"] {
        let server = server(replies([error(404, kind, "no")]));
        assert!(open(&server, &[]).load(&ident()).await.unwrap().is_none(), "{kind}");
    }
    let server = server(replies([Reply::Answer(404, vec![], "404 page not found".into())]));
    let error = open(&server, &[]).load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("no Iceberg REST catalog at"), "{error}");
}

#[tokio::test]
async fn what_a_server_answers_says_who_acts() {
    let cases = [
        (error(404, "NoSuchWarehouseException", "Warehouse not found"), 78, "has no warehouse `lake house`"),
        (Reply::Answer(404, vec![], "404 page not found".into()), 78, "is `catalog.uri` right? what follows it begins with `/v1/`"),
        (
            error(400, "BadRequestException", "Please specify a warehouse"),
            78,
            "400: BadRequestException: Please specify a warehouse",
        ),
        (error(401, "NotAuthorizedException", "who are you?"), 77, "401: NotAuthorizedException: who are you?"),
        (error(403, "ForbiddenException", "not you"), 77, "not allowed to ask for the catalog's configuration"),
        (Reply::Answer(200, vec![], "<html>Console</html>".into()), 78, "cannot read"),
        (
            Reply::Answer(301, vec![("location".into(), "https://new/".into())], String::new()),
            78,
            "sends elsewhere, to `https://new/`",
        ),
        (error(500, "X", "out of memory"), 75, "500: X: out of memory"),
    ];
    for (reply, code, says) in cases {
        let server = Server::start(move |_| reply.clone());
        let error = open(&server, &[]).load(&ident()).await.unwrap_err();
        let text = words(&error);
        assert_eq!(error.exit_code(), code, "{text}");
        assert!(text.contains(says) && text.contains("http://127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn questions_are_repeated_where_an_answer_may_come() {
    let later = error(503, "Busy", "later").with("retry-after", "0");
    let server = server(replies([later, gateway(502), Reply::Hangup, Reply::json(200, &table())]));
    assert!(open(&server, &[]).load(&ident()).await.unwrap().is_some());
    let server = super::server(|_| Reply::Hangup);
    let error = open(&server, &[]).load(&ident()).await.unwrap_err();
    assert_eq!((error.exit_code(), lines(&server).len()), (75, 5), "{}", words(&error));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named() {
    let server = server(replies([]));
    let catalog = open(&server, &[]);
    drop(server);
    let error = catalog.load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 75);
    let text = words(&error);
    assert!(text.contains("connect to the catalog at `http://127.0.0.1:") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn metadata_of_another_kind_is_named() {
    let mut odd = table();
    odd["metadata"]["format-version"] = json!(4);
    let server = server(move |_| Reply::json(200, &odd));
    let error = open(&server, &[]).load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(words(&error).contains("the metadata of `a.b.t`"), "{error}");
    let mut staged = table();
    staged["metadata-location"] = Value::Null;
    let server = super::server(move |_| Reply::json(200, &staged));
    let error = open(&server, &[]).load(&ident()).await.unwrap_err();
    assert!(error.to_string().contains("names no metadata file"), "{error}");
}

#[tokio::test]
async fn remote_signing_is_refused_unless_there_are_keys() {
    let signing = || json!({"s3.remote-signing-enabled": "true", "signer.endpoint": "sign"});
    let server = server(move |_| Reply::json(200, &table_with(signing())));
    let error = open(&server, &[]).load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    let text = words(&error);
    assert!(text.contains("remote signing") && text.contains("let the catalog vend credentials"), "{text}");
    open(&server, &[("s3.access-key-id", "mine"), ("s3.secret-access-key", "s3cr3t")]).load(&ident()).await.unwrap().unwrap();
    let mut vended = signing();
    vended["s3.access-key-id"] = json!("theirs");
    let server = super::server(move |_| Reply::json(200, &table_with(vended.clone())));
    open(&server, &[]).load(&ident()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_table_that_only_the_server_may_plan_is_refused() {
    let server = server(|_| Reply::json(200, &table_with(json!({"scan-planning-mode": "server"}))));
    let error = open(&server, &[]).load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(words(&error).contains("let the catalog allow `client`"), "{error}");
}

#[tokio::test]
async fn the_catalog_describes_itself() {
    let server = configured(json!({"idempotency-key-lifetime": "PT1H", "overrides": {"prefix": "main"}}), replies([]));
    let text = open(&server, &[]).describe().await.unwrap();
    assert!(text.starts_with("REST at `http://127.0.0.1:"), "{text}");
    assert!(text.ends_with("/`, warehouse `lake house`, prefix `main`, takes idempotency keys"), "{text}");
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let page = |names: &[&str], next: Value| {
        let tables: Vec<_> = names.iter().map(|name| json!({"namespace": ["a", "b"], "name": name})).collect();
        Reply::json(200, &json!({"identifiers": tables, "next-page-token": next}))
    };
    let pages = || [page(&["articles"], json!("p=2&x")), page(&["tags", "t_raw"], json!("last")), page(&[], Value::Null)];
    let server = server(replies(pages()));
    let namespace = ident().namespace().clone();
    assert_eq!(open(&server, &[]).names(&namespace).await.unwrap(), ["articles", "tags", "t_raw"]);
    let list = "GET /v1/namespaces/a%1Fb/tables?pageToken=";
    assert_eq!(lines(&server)[1..], [list.to_owned(), format!("{list}p%3D2%26x"), format!("{list}last")]);

    let server = super::server(replies(pages()));
    let meant = TableIdent::new(namespace.clone(), "article".into());
    assert_eq!(open(&server, &[]).nearest(&meant).await.unwrap().unwrap().name(), "articles");

    let server = super::server(move |_| page(&["same"], json!("same")));
    assert_eq!(open(&server, &[]).names(&namespace).await.unwrap().len(), 2, "a token that leads to itself is an end");
    let server = super::server(replies([error(404, "NoSuchNamespaceException", "none")]));
    assert!(open(&server, &[]).names(&namespace).await.unwrap().is_empty());
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let server = Server::start(replies([]));
    for (name, value) in
        [("rest.client.socket-timeout-ms", "0"), ("rest.client.socket-timeout-ms", "soon"), ("ssl.cabundle", "/no/such.pem")]
    {
        let error = RestCatalog::open(&config(&server, &[(name, value)]), &Store::new()).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains(name), "{error}");
    }
}
