use std::time::Duration;

use serde_json::json;

use super::{COMMIT, TABLE, change, committed, error, header, ident, lines, open, replies, table, told, words};
use crate::catalog::{Catalog, CommitOutcome};
use crate::http::scripted::{Reply, Seen, Server};

const TOKENS: &str = "POST /v1/oauth/tokens";

/// Tokens `t1`, `t2` and so on that last so many seconds, and a configuration; the script does the rest.
fn server(lasts: u64, mut script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Server {
    let mut number = 0;
    Server::start(move |seen| match seen.line.as_str() {
        TOKENS => {
            number += 1;
            Reply::json(200, &json!({"access_token": format!("t{number}"), "expires_in": lasts}))
        }
        line if line.starts_with("GET /v1/config") => Reply::json(200, &json!({"defaults": {}, "overrides": {}})),
        _ => script(seen),
    })
}

fn bearers(server: &Server) -> Vec<String> {
    let asked = server.seen().into_iter().filter(|seen| seen.line != TOKENS);
    asked.map(|seen| header(&seen, "authorization").unwrap_or("nobody").to_owned()).collect()
}

#[tokio::test]
async fn one_token_serves_all_requests() {
    let server = server(3600, |_| Reply::json(200, &table()));
    let catalog = open(&server, &[("credential", "me:s3cr3t"), ("scope", "PRINCIPAL_ROLE:ALL"), ("audience", "lake")]);
    catalog.load(&ident()).await.unwrap().unwrap();
    catalog.load(&ident()).await.unwrap().unwrap();
    assert_eq!(lines(&server)[..2], [TOKENS, "GET /v1/config?warehouse=lake%20house"]);
    assert_eq!(bearers(&server), ["Bearer t1"; 3]);
    let form = &server.seen()[0];
    assert_eq!(
        form.body,
        "grant_type=client_credentials&client_id=me&client_secret=s3cr3t&scope=PRINCIPAL_ROLE%3AALL&audience=lake"
    );
    assert_eq!(header(form, "authorization"), None);
    assert!(!format!("{catalog:?}").contains("s3cr3t"), "{catalog:?}");
}

#[tokio::test]
async fn the_token_server_may_be_another_one() {
    let tokens = server(3600, replies([]));
    let server = super::server(|_| Reply::json(200, &table()));
    let uri = tokens.url().join("/v1/oauth/tokens").unwrap();
    let catalog = open(&server, &[("credential", "s3cr3t"), ("oauth2-server-uri", uri.as_str())]);
    catalog.load(&ident()).await.unwrap().unwrap();
    assert_eq!(lines(&tokens), [TOKENS]);
    assert_eq!(tokens.seen()[0].body, "grant_type=client_credentials&client_secret=s3cr3t&scope=catalog");
    assert_eq!(bearers(&server), ["Bearer t1"; 2]);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let server = server(4, |_| Reply::json(200, &table()));
    let catalog = open(&server, &[("credential", "me:s3cr3t")]);
    catalog.load(&ident()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    catalog.load(&ident()).await.unwrap().unwrap();
    assert_eq!(bearers(&server), ["Bearer t1", "Bearer t1", "Bearer t2"]);
}

/// Another clock, a restarted server, a revoked token: its word counts, not our count of seconds.
#[tokio::test]
async fn a_token_that_the_server_finds_ended_is_renewed() {
    for status in [401, 419] {
        let ended = move || error(status, "AuthenticationTimeoutException", "ended");
        let server = server(3600, replies([ended(), committed(), ended(), Reply::json(200, &table())]));
        let catalog = open(&server, &[("credential", "me:s3cr3t")]);
        assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed), "{status}");
        catalog.load(&ident()).await.unwrap().unwrap();
        let load = format!("GET {TABLE}?snapshots=all");
        assert_eq!(lines(&server)[2..], [COMMIT, TOKENS, COMMIT, &load, TOKENS, &load], "{status}");
        assert_eq!(bearers(&server), ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2", "Bearer t3"]);
    }
}

#[tokio::test]
async fn a_new_token_that_is_refused_too_is_the_owners_to_fix() {
    let server = server(3600, |_| error(401, "NotAuthorizedException", "not you"));
    let catalog = open(&server, &[("credential", "me:s3cr3t")]);
    let error = catalog.load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 77);
    assert_eq!(bearers(&server), ["Bearer t1", "Bearer t1", "Bearer t2"], "no third try");
    assert!(words(&error).contains("401: NotAuthorizedException: not you"), "{error}");
    assert_eq!(told(catalog.swap(&change()).await).0, "refused");
}

#[tokio::test]
async fn a_token_of_ones_own_goes_before_credentials() {
    let server = server(3600, |_| error(419, "AuthenticationTimeoutException", "ended"));
    let catalog = open(&server, &[("token", "s3cr3t-token"), ("credential", "me:s3cr3t")]);
    let error = catalog.load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 77);
    assert_eq!(bearers(&server), ["Bearer s3cr3t-token"; 2], "nobody can renew it");
    assert!(!format!("{}{error:?}{catalog:?}", words(&error)).contains("s3cr3t"));
}

#[tokio::test]
async fn a_refused_client_is_named_with_its_token_server() {
    let server = Server::start(|_| Reply::json(401, &json!({"error": "invalid_client", "error_description": "wrong secret"})));
    let error = open(&server, &[("credential", "me:s3cr3t")]).load(&ident()).await.unwrap_err();
    assert_eq!(error.exit_code(), 77);
    let text = words(&error);
    assert!(text.contains("/v1/oauth/tokens`") && text.contains("invalid_client: wrong secret"), "{text}");
    assert_eq!(lines(&server), [TOKENS], "the catalog is not asked without a token");
}

/// As Glue and S3 Tables want it.
#[tokio::test]
async fn requests_are_signed_for_aws() {
    let server = super::server(replies([Reply::json(200, &table()), committed()]));
    let catalog = open(
        &server,
        &[
            ("rest.sigv4-enabled", "true"),
            ("rest.signing-name", "glue"),
            ("rest.signing-region", "eu-central-1"),
            ("rest.access-key-id", "AKIDEXAMPLE"),
            ("rest.secret-access-key", "s3cr3t"),
            ("rest.session-token", "session"),
        ],
    );
    catalog.load(&ident()).await.unwrap().unwrap();
    assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed));
    for seen in server.seen() {
        let authorization = header(&seen, "authorization").unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
        assert!(authorization.contains("/eu-central-1/glue/aws4_request, SignedHeaders=accept;"), "{authorization}");
        assert_eq!(header(&seen, "x-amz-security-token"), Some("session"));
        assert!(header(&seen, "x-amz-date").is_some() && !format!("{seen:?}").contains("s3cr3t"));
    }
    assert!(!format!("{catalog:?}").contains("s3cr3t"));
}

/// The specification's `token` of a table's configuration.
#[tokio::test]
async fn a_table_may_have_a_token_of_its_own() {
    let own = super::table_with(json!({"token": "for-t"}));
    let server = server(3600, replies([Reply::json(200, &own), committed(), Reply::json(200, &table()), committed()]));
    let catalog = open(&server, &[("credential", "me:s3cr3t")]);
    catalog.load(&ident()).await.unwrap().unwrap();
    catalog.swap(&change()).await;
    catalog.load(&ident()).await.unwrap().unwrap();
    catalog.swap(&change()).await;
    assert_eq!(bearers(&server), ["Bearer t1", "Bearer t1", "Bearer for-t", "Bearer t1", "Bearer t1"]);
}

#[tokio::test]
async fn a_tables_token_that_ended_during_the_pull_is_fetched_anew() {
    let own = |token: &str| Reply::json(200, &super::table_with(json!({"token": token})));
    let ended = || error(401, "NotAuthorizedException", "the token has expired");
    let script = [own("one"), ended(), own("two"), committed(), ended(), own("two"), ended(), own("three"), ended()];
    let server = server(3600, replies(script));
    let catalog = open(&server, &[("credential", "me:s3cr3t")]);
    catalog.load(&ident()).await.unwrap().unwrap();
    assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed));
    assert_eq!(told(catalog.swap(&change()).await).0, "refused", "another load brings no other token");
    assert_eq!(told(catalog.swap(&change()).await).0, "refused", "a second token that is refused is the owner's to fix");
    let by = ["t1", "t1", "one", "t1", "two", "two", "t1", "two", "t1", "three"];
    assert_eq!(bearers(&server), by.map(|token| format!("Bearer {token}")));
}
