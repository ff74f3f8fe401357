use serde_json::{Value, json};

use super::{configured, error, header, ident, lines, open, replies, server, table, words};
use crate::catalog::{Catalog, contract};
use crate::http::scripted::Reply;

const CREATE: &str = "POST /v1/namespaces/a%1Fb/tables";
const NAMESPACES: &str = "POST /v1/namespaces";

fn missing() -> Reply {
    error(404, "NoSuchNamespaceException", "Namespace does not exist")
}

#[tokio::test]
async fn a_creation_says_what_the_table_is_and_not_where() {
    let server = server(replies([Reply::json(200, &table())]));
    let catalog = open(&server, &[]);
    assert!(catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap());
    assert_eq!(lines(&server)[1..], [CREATE]);
    let body: Value = serde_json::from_str(&server.seen()[1].body).unwrap();
    assert_eq!(body["name"], "t");
    assert_eq!(body.get("location"), None, "the server chooses");
    assert_eq!(body["properties"], json!({"format-version": "2", "owner": "contract"}));
    assert_eq!(body["schema"]["fields"].as_array().unwrap().len(), 2);
    assert_eq!(body["partition-spec"], json!({"spec-id": 0, "fields": []}));
    assert_eq!(body["write-order"]["order-id"], 0);
    assert_eq!(body["stage-create"], false);
    assert_eq!(header(&server.seen()[1], "x-iceberg-access-delegation"), None);
}

#[tokio::test]
async fn a_table_that_is_there_is_left_alone() {
    let server = server(replies([error(409, "AlreadyExistsException", "it is there")]));
    let catalog = open(&server, &[]);
    assert!(!catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap());
}

#[tokio::test]
async fn a_missing_namespace_is_made_with_those_above_it() {
    let made = || Reply::json(200, &json!({"namespace": []}));
    let taken = || error(409, "AlreadyExistsException", "another run made it");
    for upper in [made(), taken()] {
        let server = server(replies([missing(), missing(), upper, made(), Reply::json(200, &table())]));
        let catalog = open(&server, &[]);
        assert!(catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap());
        assert_eq!(lines(&server)[1..], [CREATE, NAMESPACES, NAMESPACES, NAMESPACES, CREATE]);
        let asked: Vec<Value> = server.seen()[2..5].iter().map(|seen| serde_json::from_str(&seen.body).unwrap()).collect();
        let names: Vec<_> = asked.iter().map(|body| body["namespace"].clone()).collect();
        assert_eq!(names, [json!(["a", "b"]), json!(["a"]), json!(["a", "b"])]);
    }
}

/// Nessie's answer where more than one level is missing.
#[tokio::test]
async fn a_conflict_over_a_table_that_is_not_there_is_a_missing_namespace() {
    let conflict = || error(409, "", "namespace 'a.b' must exist, namespace 'a' must exist");
    let none = error(404, "NoSuchTableException", "none");
    let made = || Reply::json(200, &json!({"namespace": []}));
    let server = server(replies([conflict(), none, conflict(), made(), made(), Reply::json(200, &table())]));
    let catalog = open(&server, &[]);
    assert!(catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap());
}

/// Nothing is asked of a namespace that is there: a job may have no right to it.
#[tokio::test]
async fn a_namespace_that_may_not_be_made_is_named() {
    let server = server(replies([missing(), error(403, "ForbiddenException", "not you")]));
    let catalog = open(&server, &[]);
    let error = catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap_err();
    assert_eq!(error.exit_code(), 77);
    assert!(error.to_string().contains("create namespace `a.b`"), "{error}");
}

#[tokio::test]
async fn an_unclear_creation_is_judged_by_a_look() {
    let server = server(replies([Reply::Hangup, Reply::json(200, &table())]));
    let catalog = open(&server, &[]);
    assert!(!catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap(), "it is there, and gets compared");
    let server = super::server(replies([error(500, "X", "who knows"), error(404, "NoSuchTableException", "none")]));
    let catalog = open(&server, &[]);
    let error = catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap_err();
    assert_eq!(error.exit_code(), 75, "{}", words(&error));
}

#[tokio::test]
async fn a_creation_has_a_key_where_the_server_knows_keys() {
    let server = configured(
        json!({"idempotency-key-lifetime": "PT1H"}),
        replies([Reply::Hangup, missing(), Reply::json(200, &json!({})), Reply::json(200, &table())]),
    );
    let catalog = open(&server, &[]);
    assert!(catalog.create(&ident(), contract::metadata(&catalog, &ident())).await.unwrap());
    let keys: Vec<_> = server.seen()[1..].iter().map(|seen| header(seen, "idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys[0], keys[1], "a repetition");
    assert!(keys[1] != keys[2] && keys[2] != keys[3] && keys[1] != keys[3], "three requests: {keys:?}");
}
