use std::time::Duration;

use iceberg::TableRequirement;
use serde_json::{Value, json};

use super::{COMMIT, change, code, committed, configured, error, gateway, header, lines, open, replies, server, told, words};
use crate::catalog::{Catalog, CommitOutcome};
use crate::error::Error;
use crate::http::scripted::{Reply, Seen, Server};

const KEYS: &str = "PT30M";

fn idempotent(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Server {
    configured(json!({"idempotency-key-lifetime": KEYS}), script)
}

fn keys(server: &Server) -> Vec<String> {
    let commits = server.seen().into_iter().filter(|seen| seen.line == COMMIT);
    commits.map(|seen| header(&seen, "idempotency-key").unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn a_commit_is_one_post_of_requirements_and_updates() {
    let server = server(replies([committed()]));
    let catalog = open(&server, &[]);
    assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed));
    assert_eq!(lines(&server), ["GET /v1/config?warehouse=lake%20house", COMMIT]);
    let seen = &server.seen()[1];
    assert_eq!(header(seen, "content-type"), Some("application/json"));
    assert_eq!(header(seen, "idempotency-key"), None, "the server does not know it");
    assert_eq!(header(seen, "x-iceberg-access-delegation"), None, "only loads ask for credentials");
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(body["identifier"], json!({"namespace": ["a", "b"], "name": "t"}));
    let types: Vec<_> = body["requirements"].as_array().unwrap().iter().map(|r| r["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["assert-table-uuid", "assert-ref-snapshot-id", "assert-current-schema-id", "assert-default-spec-id"]);
    assert_eq!(body["requirements"][1], json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}));
    assert_eq!(body["updates"][0]["action"], "add-snapshot");
    assert_eq!(body["updates"][1]["action"], "set-snapshot-ref");
}

#[tokio::test]
async fn answers_mean_what_the_specification_says() {
    let cases = [
        (
            error(409, "CommitFailedException", "branch main has changed"),
            "refused",
            75,
            "another writer was first; the server answered 409: CommitFailedException: branch main has changed",
        ),
        (error(400, "BadRequestException", "unknown update"), "refused", 78, "400: BadRequestException: unknown update"),
        (error(404, "NoSuchTableException", "no table"), "refused", 78, "404: NoSuchTableException: no table"),
        (error(401, "NotAuthorizedException", "who?"), "refused", 77, "not allowed to commit to table `a.b.t`"),
        (error(403, "ForbiddenException", "read only"), "refused", 77, "403: ForbiddenException: read only"),
        (error(419, "AuthenticationTimeoutException", "old"), "refused", 77, "419"),
        (error(500, "CommitStateUnknownException", "who knows"), "unclear", 75, "500: CommitStateUnknownException: who knows"),
        (gateway(502), "unclear", 75, "502: <html>upstream</html>"),
        (gateway(504), "unclear", 75, "504"),
        (gateway(520), "unclear", 75, "520"),
        (gateway(408), "unclear", 75, "408"),
        (Reply::Answer(200, vec![], "<html>Please log in</html>".into()), "unclear", 78, "cannot read"),
        (Reply::Answer(204, vec![], String::new()), "unclear", 78, "cannot read"),
        (
            Reply::Answer(302, vec![("location".into(), "/login?to=s3cr3t".into())], String::new()),
            "refused",
            78,
            "sends elsewhere, to `http",
        ),
    ];
    for (reply, fate, exit, says) in cases {
        let server = server(replies([reply.clone()]));
        let (found, why) = told(open(&server, &[]).swap(&change()).await);
        let text = words(why.downcast_ref::<Error>().unwrap());
        assert_eq!((found, code(&why)), (fate, exit), "{reply:?}: {text}");
        assert!(text.contains(says) && !text.contains("s3cr3t"), "{reply:?}: {text}");
        assert_eq!(lines(&server).len(), 2, "{reply:?}: one configuration, one commit");
    }
}

#[tokio::test]
async fn silence_is_no_refusal() {
    let late = || Reply::Late(Duration::from_secs(7), Box::new(committed()));
    for reply in [Reply::Hangup, late()] {
        let server = server(replies([reply.clone()]));
        let catalog = open(&server, &[("rest.client.socket-timeout-ms", "3000")]);
        let (fate, why) = told(catalog.swap(&change()).await);
        assert_eq!((fate, code(&why)), ("unclear", 75), "{reply:?}");
        assert_eq!(lines(&server).len(), 2, "{reply:?}: a commit without a key is sent once");
    }
}

#[tokio::test]
async fn what_never_reached_the_server_is_refused() {
    let server = server(replies([]));
    let catalog = open(&server, &[]);
    catalog.describe().await.unwrap();
    drop(server);
    // The connection that is kept ends with the server, or finds it gone.
    let (_, why) = told(catalog.swap(&change()).await);
    assert_eq!(code(&why), 75);
    let (fate, why) = told(catalog.swap(&change()).await);
    assert_eq!((fate, code(&why)), ("refused", 75), "{why:?}");
    assert!(why.to_string().contains("connect to the catalog at `http://127.0.0.1:"), "{why}");
}

#[tokio::test]
async fn later_is_asked_again_and_was_not_applied() {
    let later = |status| error(status, "Busy", "later").with("retry-after", "0");
    let server = server(replies([later(429), later(503), committed()]));
    assert!(matches!(open(&server, &[]).swap(&change()).await, CommitOutcome::Committed));
    let bodies: Vec<_> = server.seen().into_iter().skip(1).map(|seen| seen.body).collect();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "the same request each time");

    for status in [429, 503] {
        let server = super::server(move |_| later(status));
        let (fate, why) = told(open(&server, &[]).swap(&change()).await);
        assert_eq!((fate, code(&why)), ("refused", 75), "{status}");
        assert_eq!(lines(&server).len(), 1 + 6, "{status}: patience is bounded");
    }
    let server = super::server(|_| error(503, "Busy", "come back").with("retry-after", "3600"));
    let (fate, _) = told(open(&server, &[]).swap(&change()).await);
    assert_eq!((fate, lines(&server).len()), ("refused", 2), "an hour is for the scheduler to wait");
}

/// The answer of the first sending got lost behind a gateway's 503: the refusal of the second is due to its success.
#[tokio::test]
async fn a_refusal_after_a_gateways_word_is_unclear() {
    let server = server(replies([gateway(503), error(409, "CommitFailedException", "changed")]));
    assert_eq!(told(open(&server, &[]).swap(&change()).await).0, "unclear");
    let server = super::server(|_| gateway(503));
    assert_eq!(told(open(&server, &[]).swap(&change()).await).0, "unclear", "it never said anything else");
}

#[tokio::test]
async fn a_key_stays_with_its_request() {
    let later = error(503, "Busy", "later").with("retry-after", "0");
    let server = idempotent(replies([later, Reply::Hangup, gateway(504), committed(), committed()]));
    let catalog = open(&server, &[]);
    assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed), "the repetition learns what became of it");
    assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed));
    let keys = keys(&server);
    assert_eq!(keys.len(), 5);
    assert!(keys[..4].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[4], keys[0], "another commit has another");
    for key in &keys {
        let key = uuid::Uuid::parse_str(key).unwrap();
        assert_eq!(key.get_version_num(), 7, "{key}");
    }
}

#[tokio::test]
async fn a_commit_after_a_conflict_has_a_new_key() {
    let server = idempotent(replies([error(409, "CommitFailedException", "changed"), committed()]));
    let catalog = open(&server, &[]);
    assert_eq!(told(catalog.swap(&change()).await).0, "refused");
    assert!(matches!(catalog.swap(&change()).await, CommitOutcome::Committed));
    let keys = keys(&server);
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
}

/// The server may have forgotten the key, or never kept it: only the table can tell.
#[tokio::test]
async fn a_refused_repetition_is_unclear() {
    let server = idempotent(replies([Reply::Hangup, error(409, "CommitFailedException", "changed")]));
    assert_eq!(told(open(&server, &[]).swap(&change()).await).0, "unclear");
    let server = idempotent(|_| Reply::Hangup);
    assert_eq!(told(open(&server, &[]).swap(&change()).await).0, "unclear");
    assert_eq!(keys(&server).len(), 4, "bounded");
}

fn together(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Server {
    configured(json!({"endpoints": ["POST /v1/{prefix}/transactions/commit"], "overrides": {"prefix": "p"}}), script)
}

#[tokio::test]
async fn two_tables_are_changed_by_one_request_where_the_server_says_so() {
    let done = Reply::Answer(204, vec![], String::new());
    let server = together(replies([done]));
    let catalog = open(&server, &[]);
    assert!(catalog.swaps_together().await.unwrap());
    let mut second = change();
    second.base.ident.name = "t_rejects".into();
    assert!(matches!(catalog.swap_together(&[change(), second]).await, CommitOutcome::Committed));
    assert_eq!(lines(&server)[1..], ["POST /v1/p/transactions/commit"]);
    let body: Value = serde_json::from_str(&server.seen()[1].body).unwrap();
    let names: Vec<_> =
        body["table-changes"].as_array().unwrap().iter().map(|change| change["identifier"]["name"].clone()).collect();
    assert_eq!(names, ["t", "t_rejects"]);
    assert_eq!(body["table-changes"][0]["requirements"][0]["type"], "assert-table-uuid");

    for (reply, fate) in [
        (error(409, "CommitFailedException", "changed"), "refused"),
        (error(501, "UnsupportedOperationException", "not here"), "refused"),
        (error(500, "CommitStateUnknownException", "who knows"), "unclear"),
        (Reply::Hangup, "unclear"),
        (Reply::Answer(200, vec![], "<html>Please log in</html>".into()), "unclear"),
    ] {
        let server = together(replies([reply.clone()]));
        let (found, why) = told(open(&server, &[]).swap_together(&[change(), change()]).await);
        assert_eq!(found, fate, "{reply:?}: {why:?}");
    }
    assert!(!open(&super::server(replies([])), &[]).swaps_together().await.unwrap(), "a server that does not say has none");
}

/// Nessie 0.99 does not check that a table has no snapshot yet: the commit that the base was read at says so.
#[tokio::test]
async fn two_first_snapshots_do_not_replace_each_other_on_nessie() {
    let nessie = json!({
        "overrides": {"nessie.is-nessie-catalog": "true", "prefix": "main%7Clake"},
        "endpoints": ["POST /v1/{prefix}/transactions/commit"],
    });
    let server = configured(nessie, replies([committed(), committed()]));
    let catalog = open(&server, &[]);
    let mut change = change();
    assert!(matches!(catalog.swap(&change).await, CommitOutcome::Committed));
    let builder = change.base.metadata.as_ref().clone().into_builder(None);
    let built = builder.set_properties([("nessie.commit.id".into(), "0a1b".into())].into()).unwrap().build().unwrap();
    change.base.metadata = built.metadata.into();
    assert!(matches!(catalog.swap(&change).await, CommitOutcome::Committed));
    let path = |prefix| format!("POST /v1/{prefix}/namespaces/a%1Fb/tables/t");
    assert_eq!(lines(&server)[1..], [path("main%7Clake"), path("main@0a1b%7Clake")]);
    change.requirements = vec![TableRequirement::RefSnapshotIdMatch { r#ref: "dev".into(), snapshot_id: None }];
    let (outcome, error) = told(catalog.swap(&change).await);
    assert_eq!((outcome, lines(&server).len()), ("refused", 3), "it would not look at the branch");
    assert!(error.to_string().contains("Nessie keeps no branches within a table"), "{error}");
    assert!(!catalog.swaps_together().await.unwrap(), "a commit of several tables would go around both");
}
