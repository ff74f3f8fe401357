//! What a store may answer that real ones seldom do, from a server that follows a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;

use super::super::{Store, Vended};
use crate::error::Error;
use crate::http::scripted::{Reply, Seen, Server};

fn reply(status: u16, body: &str) -> Reply {
    Reply::Answer(status, Vec::new(), body.to_owned()).with("etag", "\"1\"").with("last-modified", "Fri, 20 Nov 2026 10:00:00 GMT")
}

fn code(status: u16, code: &str) -> Reply {
    reply(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>because</Message></Error>"))
}

/// Answers one after the other; says so where more is asked.
fn server(replies: impl IntoIterator<Item = Reply>) -> Server {
    let mut replies: VecDeque<_> = replies.into_iter().collect();
    Server::start(move |_| replies.pop_front().unwrap_or_else(|| code(418, "NotInTheScript")))
}

fn properties(server: &Server, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = [
        ("s3.endpoint", server.url().to_string()),
        ("s3.access-key-id", "key".to_owned()),
        ("s3.secret-access-key", "secret".to_owned()),
        ("s3.region", "eu-west-1".to_owned()),
    ];
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    own.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn store(server: &Server) -> Store {
    Store::with(properties(server, &[]))
}

fn asked(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.line.clone()).collect()
}

const AT: &str = "s3://b/t/x";

async fn create(server: &Server) -> Result<(), Error> {
    store(server).create(AT, Bytes::from_static(b"hello")).await
}

#[tokio::test]
async fn a_file_that_an_unanswered_try_made_is_known_as_its_own() {
    // The first try is done, and its answer lost.
    for lost in [code(500, "InternalError"), code(503, "SlowDown"), Reply::Hangup] {
        let own = server([lost.clone(), code(412, "PreconditionFailed"), reply(200, "hello")]);
        create(&own).await.unwrap();
        assert_eq!(asked(&own), ["PUT /b/t/x", "PUT /b/t/x", "GET /b/t/x"], "{lost:?}");
        let seen = own.seen();
        assert_eq!(seen[1].headers["if-none-match"], "*");

        let other = server([lost.clone(), code(412, "PreconditionFailed"), reply(200, "world")]);
        assert_eq!(create(&other).await.unwrap_err().exit_code(), 101, "{lost:?}: another's file");
        let longer = server([lost, code(412, "PreconditionFailed"), reply(200, "hello!")]);
        assert_eq!(create(&longer).await.unwrap_err().exit_code(), 101);
    }
    let first = server([code(412, "PreconditionFailed")]);
    assert_eq!(create(&first).await.unwrap_err().exit_code(), 101, "a first try meets no file of its own");
    assert_eq!(asked(&first).len(), 1);
    // Two tries at once, and neither went through.
    let neither = server([
        code(500, "InternalError"),
        code(409, "ConditionalRequestConflict"),
        code(404, "NoSuchKey"),
        reply(404, ""),
        reply(200, ""),
    ]);
    create(&neither).await.unwrap();
    assert_eq!(asked(&neither)[3..], ["HEAD /b/t/x", "PUT /b/t/x"]);
}

#[tokio::test]
async fn a_put_that_times_out_is_tried_again() {
    let server = server([
        Reply::Late(Duration::from_secs(8), Box::new(reply(200, ""))),
        code(412, "PreconditionFailed"),
        reply(200, "hello"),
    ]);
    let store = Store::with(properties(&server, &[("s3.request-timeout", "3")]));
    store.create(AT, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!((store.requests().put, store.requests().get, store.requests().failed), (2, 1, 1));
}

#[tokio::test]
async fn a_store_without_conditional_puts_is_asked_whether_a_name_is_free() {
    let old = server([code(501, "NotImplemented"), reply(404, ""), reply(200, ""), reply(200, "").with("content-length", "5")]);
    let store = store(&old);
    store.create(AT, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(store.create(AT, Bytes::from_static(b"hello")).await.unwrap_err().exit_code(), 101);
    assert_eq!(asked(&old), ["PUT /b/t/x", "HEAD /b/t/x", "PUT /b/t/x", "HEAD /b/t/x"]);
    assert!(!old.seen()[2].headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn a_new_name_in_gcs_is_one_of_generation_zero() {
    let gcs = |server: &Server| {
        Store::with(BTreeMap::from([
            ("gcs.service.host".to_owned(), server.url().to_string()),
            ("gcs.oauth2.token".to_owned(), "token".to_owned()),
        ]))
    };
    let taken = server([reply(200, ""), code(503, "Unavailable"), code(412, "PreconditionFailed"), reply(200, "other")]);
    let store = gcs(&taken);
    store.create("gs://b/t/x", Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(store.create("gs://b/t/x", Bytes::from_static(b"hello")).await.unwrap_err().exit_code(), 101);
    let seen = taken.seen();
    assert_eq!(
        (seen[0].headers["x-goog-if-generation-match"].as_str(), seen[0].headers["authorization"].as_str()),
        ("0", "Bearer token")
    );
    assert_eq!((seen[0].line.as_str(), seen[3].line.as_str()), ("PUT /b/t%2Fx", "GET /b/t%2Fx"));
}

/// A server that takes an upload of three parts and then loses the answer to its end.
fn forgetful(size_in_the_end: &'static str) -> Server {
    let heads = AtomicUsize::new(0);
    Server::start(move |seen: &Seen| match seen.line.as_str() {
        "HEAD /b/t/x" if heads.fetch_add(1, Ordering::SeqCst) == 0 => reply(404, ""),
        "HEAD /b/t/x" => reply(200, "").with("content-length", size_in_the_end),
        "POST /b/t/x?uploads=" => {
            reply(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        }
        line if line.starts_with("PUT /b/t/x?partNumber=") => reply(200, ""),
        "POST /b/t/x?uploadId=u" => code(404, "NoSuchUpload"),
        "DELETE /b/t/x?uploadId=u" => reply(204, ""),
        _ => code(418, "NotInTheScript"),
    })
}

async fn upload(store: &Store) -> Result<u64, Error> {
    let mut upload = store.writer(AT)?;
    upload.write(Bytes::from(vec![0; 20 << 20])).await?;
    upload.finish().await
}

#[tokio::test]
async fn the_end_of_an_upload_whose_answer_was_lost_is_settled_by_looking() {
    let done = forgetful("20971520");
    assert_eq!(upload(&store(&done)).await.unwrap(), 20 << 20);
    assert!(!asked(&done).iter().any(|line| line.starts_with("DELETE")), "a file that is there is not taken back");

    let undone = forgetful("7");
    let store = store(&undone);
    assert!(upload(&store).await.is_err());
    store.wind_down().await;
    assert_eq!(asked(&undone).last().unwrap(), "DELETE /b/t/x?uploadId=u");
}

#[tokio::test]
async fn answers_say_who_acts() {
    for (status, name, exit, words) in [
        (403, "AccessDenied", 77, ""),
        (403, "SignatureDoesNotMatch", 77, ""),
        (403, "RequestTimeTooSkewed", 77, "clock"),
        (400, "ExpiredToken", 77, "expired"),
        (400, "InvalidToken", 77, ""),
        (401, "Unauthorized", 77, ""),
        (404, "NoSuchBucket", 78, "bucket does not exist"),
        (404, "NoSuchKey", 78, "does not exist"),
        (301, "PermanentRedirect", 78, "region"),
        (400, "AuthorizationHeaderMalformed", 78, "region"),
        (400, "InvalidRequest", 78, "400 InvalidRequest: because"),
        (405, "MethodNotAllowed", 78, "405"),
        (416, "InvalidRange", 78, "ends before"),
    ] {
        let server = server([code(status, name)]);
        let error = store(&server).read(AT).await.unwrap_err();
        assert_eq!(error.exit_code(), exit, "{status} {name}: {error:?}");
        assert!(error.to_string().contains(words), "{status} {name}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_busy_is_asked_again_for_so_long_and_counted() {
    let server = server([code(503, "SlowDown"), code(500, "InternalError"), code(429, "TooManyRequests"), reply(200, "hello")]);
    let store = store(&server);
    assert_eq!(store.read(AT).await.unwrap(), "hello");
    let requests = store.requests();
    assert_eq!((requests.get, requests.failed, requests.bytes_read), (4, 3, 5));
}

/// Credentials vended for a prefix; the time when they expire is in so many seconds.
#[expect(clippy::disallowed_methods, reason = "what is vended expires by the clock")]
fn vended(server: &Server, prefix: &str, key: &str, seconds: i64) -> Vec<Vended> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let expires = (i64::try_from(now).unwrap() + seconds) * 1_000;
    let own = [("s3.access-key-id", key), ("s3.session-token", "token"), ("s3.session-token-expires-at-ms", &expires.to_string())];
    vec![Vended { prefix: prefix.to_owned(), properties: properties(server, &own) }]
}

fn keys(server: &Server) -> Vec<String> {
    let key =
        |seen: &Seen| seen.headers["authorization"].split_once("Credential=").unwrap().1.split('/').next().unwrap().to_owned();
    server.seen().iter().map(key).collect()
}

#[tokio::test]
async fn vended_credentials_are_used_below_their_prefix_and_refreshed_before_they_expire() {
    let server = Arc::new(Server::start(|_| reply(200, "hello")));
    let store = Store::with(properties(&server, &[]));
    let asked = Arc::new(Mutex::new(0));
    let refresh = {
        let (server, asked) = (Arc::clone(&server), Arc::clone(&asked));
        Arc::new(move || {
            *asked.lock().unwrap() += 1;
            let fresh = vended(&server, "s3://b/t", "fresh", 3_600);
            async move { Ok(fresh) }.boxed()
        })
    };
    store.vend("s3://b/t", vended(&server, "s3://b/t", "first", 3_600), Arc::clone(&refresh) as _);
    for location in ["s3://b/t/x", "s3a://b/t/y", "s3://b/other"] {
        store.read(location).await.unwrap();
    }
    assert_eq!(keys(&server), ["first", "first", "key"]);
    assert_eq!(server.seen()[0].headers["x-amz-security-token"], "token");
    // A later load of the table, whose credentials last for a minute.
    store.vend("s3://b/t/", vended(&server, "s3://b/t", "second", 60), refresh as _);
    for _ in 0..2 {
        store.read(AT).await.unwrap();
    }
    assert_eq!(keys(&server)[3..], ["fresh", "fresh"]);
    assert_eq!(*asked.lock().unwrap(), 1);
    assert!(!format!("{store:?} {:?}", vended(&server, "p", "k", 1)).contains("secret\""));
}

#[tokio::test]
async fn credentials_that_a_store_calls_expired_are_refreshed_once_and_the_request_sent_again() {
    let server = Arc::new(Server::start(|seen| {
        let fresh = seen.headers["authorization"].contains("Credential=fresh/");
        if fresh { reply(200, "hello") } else { code(400, "ExpiredToken") }
    }));
    let store = Store::with(BTreeMap::new());
    let refresh = |key: &'static str| {
        let server = Arc::clone(&server);
        Arc::new(move || {
            let fresh = vended(&server, "s3://b", key, 3_600);
            async move { Ok(fresh) }.boxed()
        })
    };
    store.vend("s3://b/t", vended(&server, "s3://b", "stale", 3_600), refresh("fresh"));
    assert_eq!(store.read(AT).await.unwrap(), "hello");
    store.create(AT, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(keys(&server), ["stale", "fresh", "fresh"]);

    store.vend("s3://b/t", vended(&server, "s3://b", "stale", 3_600), refresh("stale"));
    let error = store.read(AT).await.unwrap_err();
    assert!(error.exit_code() == 77 && error.to_string().contains("expired"), "{error:?}");
    assert_eq!(keys(&server).len(), 5);
}

#[tokio::test]
async fn of_several_tables_that_in_which_a_file_lies_lends_its_credentials() {
    let server = Arc::new(Server::start(|_| reply(200, "hello")));
    let store = Store::with(BTreeMap::new());
    let never = Arc::new(|| async { Err(Error::broken("nobody asks")) }.boxed());
    for table in ["one", "two"] {
        store.vend(&format!("s3://b/{table}"), vended(&server, "s3", table, 3_600), Arc::clone(&never) as _);
    }
    let mut both = vended(&server, "s3://b/three", "wide", 3_600);
    both.extend(vended(&server, "s3://b/three/data", "narrow", 3_600));
    store.vend("s3://b/three", both, never as _);
    for location in ["s3://b/one/x", "s3://b/two/x", "s3://b/three/x", "s3://b/three/data/x"] {
        store.read(location).await.unwrap();
    }
    assert_eq!(keys(&server), ["one", "two", "wide", "narrow"]);
}
