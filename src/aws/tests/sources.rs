//! Sources that are asked over HTTP, and a real server's opinion of a signature.

use std::fs;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::super::{Credentials, Request, Scope, sign};
use super::Home;
use crate::catalog::servers::server;
use crate::http::scripted::{Reply, Seen, Server};
use crate::http::{self, Http, HttpOptions};

/// Keys that last so long, as containers and instances hand them out.
fn keys(id: &str, minutes: i64) -> Value {
    #[expect(clippy::disallowed_methods, reason = "whether credentials still last is a matter of the moment they are used in")]
    let expires = Utc::now() + TimeDelta::minutes(minutes);
    let expires = expires.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({"AccessKeyId": id, "SecretAccessKey": format!("secret-of-{id}"), "Token": "t/1==", "Expiration": expires})
}

fn lines(server: &Server) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.line).collect()
}

/// A container's endpoint. Its first keys last four minutes, which is less than a request and its repetitions may take.
fn container() -> Server {
    let mut given = vec![keys("two", 60), keys("one", 4)];
    Server::start(move |_| Reply::json(200, &given.pop().unwrap_or_else(|| keys("three", 60))))
}

async fn asked_of(uri: &str, more: &[(&str, &str)]) -> crate::error::Result<String> {
    let env = [&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)], more].concat();
    let chain = Home::new("", "", &env).open(&[])?;
    chain.credentials().await.map(|keys| keys.access_key_id().to_owned())
}

#[tokio::test]
async fn a_container_is_asked_with_its_token_and_again_before_its_keys_end() {
    let server = container();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "first-token\n").unwrap();
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url().join("/creds?role=x").unwrap().to_string()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.path().display().to_string()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another-token".to_owned()),
    ];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let chain = Home::new("", "", &env).open(&[]).unwrap();
    let found = chain.credentials().await.unwrap();
    assert_eq!((found.access_key_id(), found.secret_access_key(), found.session_token()), ("one", "secret-of-one", Some("t/1==")));
    assert!(!format!("{chain:?}{found:?}").contains("secret-of"), "{chain:?} {found:?}");
    fs::write(&file, "second-token\n").unwrap();
    for _ in 0..3 {
        assert_eq!(chain.credentials().await.unwrap().access_key_id(), "two");
    }
    assert_eq!(lines(&server), ["GET /creds?role=x"; 2], "keys that last are kept");
    let tokens: Vec<_> = server.seen().into_iter().map(|seen| seen.headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["first-token", "second-token"], "the token is written anew while the container runs");
    assert_eq!(chain.provider().get_credential().await.unwrap().key_id, "two", "stores have the same keys");
}

#[tokio::test]
async fn a_container_without_a_token_file_is_asked_too() {
    let server = container();
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc");
    assert_eq!(asked_of(server.url().as_str(), &[token]).await.unwrap(), "one");
    assert_eq!(server.seen()[0].headers["authorization"], "Basic abc");
    assert_eq!(asked_of(server.url().as_str(), &[]).await.unwrap(), "two");
    assert_eq!(server.seen()[1].headers.get("authorization"), None);
}

#[tokio::test]
async fn what_a_container_does_not_give_says_who_acts() {
    let code = async |uri: &str, more: &[(&str, &str)]| {
        let error = asked_of(uri, more).await.unwrap_err();
        (error.exit_code(), format!("{error} {error:?}"))
    };
    for uri in ["http://example.com/creds", "ftp://localhost/creds", "creds", "http://169.254.170.3/"] {
        let (exit, said) = code(uri, &[]).await;
        assert_eq!(exit, 78, "{said}");
        assert!(said.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{said}");
    }
    for (reply, exit, words) in [
        (Reply::json(403, &json!({"message": "no role"})), 77, "answered 403: {"),
        (Reply::json(200, &json!({"AccessKeyId": "a", "SecretAccessKey": ["leaked-secret"]})), 77, "no credentials (line 1"),
        (Reply::json(500, &json!({})), 75, "answered 500"),
        (Reply::json(429, &json!({})), 75, "answered 429"),
        (Reply::Hangup, 75, "ask the container"),
    ] {
        let server = Server::start(move |_| reply.clone());
        let (found, said) = code(server.url().as_str(), &[]).await;
        assert_eq!(found, exit, "{said}");
        assert!(said.contains(words) && !said.contains("leaked-secret"), "{words}: {said}");
    }
    let server = container();
    let (exit, said) = code(server.url().as_str(), &[("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nowhere/token")]).await;
    assert_eq!(exit, 77, "{said}");
    assert!(said.contains("`/nowhere/token`, which AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names"), "{said}");
}

#[tokio::test]
async fn a_source_that_is_away_for_a_moment_does_not_take_keys_that_still_last() {
    let mut replies = vec![Reply::json(403, &json!({})), Reply::json(200, &keys("one", 4))];
    let server = Server::start(move |_| replies.pop().unwrap_or_else(|| Reply::json(200, &keys("two", 60))));
    let uri = server.url().to_string();
    let chain = Home::new("", "", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)]).open(&[]).unwrap();
    for id in ["one", "one", "two"] {
        assert_eq!(chain.credentials().await.unwrap().access_key_id(), id);
    }
}

#[tokio::test]
async fn an_instance_that_gave_keys_before_is_asked_another_time() {
    let mut given = vec![keys("one", 4)];
    let server = Server::start(move |seen: &Seen| match seen.line.as_str() {
        "PUT /latest/api/token" => Reply::Answer(200, vec![], "metadata-token".into()),
        "GET /latest/meta-data/iam/security-credentials/" => Reply::Answer(200, vec![], "loader".into()),
        _ => given.pop().map_or_else(|| Reply::json(404, &json!({"at": "http://169.254.169.254"})), |keys| Reply::json(200, &keys)),
    });
    let at = server.url();
    let env = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", at.as_str()), ("AWS_EC2_METADATA_DISABLED", "false")];
    let chain = Home::new("", "", &env).open(&[]).unwrap();
    assert_eq!(chain.credentials().await.unwrap().access_key_id(), "one");
    // For 0.1 s it takes short keys for all that there are.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(chain.credentials().await.unwrap_err().exit_code(), 75);
}

/// The second version of the metadata service: a token, the role's name, its keys.
fn instance() -> Server {
    let mut given = vec![keys("two", 60), keys("one", 4)];
    Server::start(move |seen: &Seen| match seen.line.as_str() {
        "PUT /latest/api/token" => Reply::Answer(200, vec![], "metadata-token".into()),
        "GET /latest/meta-data/iam/security-credentials/" => Reply::Answer(200, vec![], "loader".into()),
        "GET /latest/meta-data/iam/security-credentials/loader" => {
            Reply::json(200, &given.pop().unwrap_or_else(|| keys("three", 60)))
        }
        _ => Reply::json(404, &json!({})),
    })
}

#[tokio::test]
async fn an_instance_is_asked_by_its_metadata_tokens_and_again_before_its_keys_end() {
    let server = instance();
    // With a slash at its end, as AWS's own manual writes it.
    let at = server.url();
    let env = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", at.as_str()), ("AWS_EC2_METADATA_DISABLED", "false")];
    let chain = Home::new("", "", &env).open(&[]).unwrap();
    assert_eq!(chain.credentials().await.unwrap().access_key_id(), "one");
    // For 0.1 s it takes short keys for all that there are.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..3 {
        assert_eq!(chain.credentials().await.unwrap().access_key_id(), "two");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 6, "{:?}", lines(&server));
    for (number, seen) in seen.iter().enumerate() {
        match number % 3 {
            0 => assert_eq!(seen.headers["x-aws-ec2-metadata-token-ttl-seconds"], "600", "{}", seen.line),
            _ => assert_eq!(seen.headers["x-aws-ec2-metadata-token"], "metadata-token", "{}", seen.line),
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_web_identity_whose_token_is_not_there_is_named() {
    let env = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")];
    let error = Home::new("", "", &env).open(&[]).unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error:?}");
    assert!(error.to_string().contains("`/nowhere/token`"), "{error}");
}

/// Signs a request as S3 wants it, which asks for the content's hash, and answers what the server says.
async fn signed(secret: &str, method: Method, path: &str, signed_body: &str, sent_body: &str) -> (u16, String) {
    let facts = server("versitygw");
    let url = Url::parse(&facts["s3.endpoint"]).unwrap().join(path).unwrap();
    let digest: String = Sha256::digest(signed_body).iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [("x-amz-content-sha256", digest.as_str()), ("x-amz-meta-a", "two  words")];
    let request = Request { method: method.as_str(), url: url.as_str(), headers: &headers, body: signed_body.as_bytes() };
    let keys = Credentials::new(&facts["s3.access-key-id"], secret, None, None, "test");
    let scope = Scope { region: &facts["s3.region"], service: "s3" };
    #[expect(clippy::disallowed_methods, reason = "a signature is good for minutes from now")]
    let added = sign(&request, scope, &keys, SystemTime::now()).unwrap();
    let headers = headers.map(owned).into_iter().chain(added).collect();
    let request = http::Request { method, url, headers, body: Bytes::from(sent_body.to_owned()) };
    let answer = Http::open(&HttpOptions::default()).unwrap().send(&request).await.unwrap();
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn a_real_server_takes_our_signatures_and_no_others() {
    let facts = server("versitygw");
    let secret = facts["s3.secret-access-key"].as_str();
    let list = "/warehouse?prefix=signed%2F&list-type=2";
    let put = "/warehouse/signed/by-us.txt";
    assert_eq!(signed(secret, Method::PUT, put, "hello", "hello").await.0, 200);
    let (status, body) = signed(secret, Method::GET, list, "", "").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<Key>signed/by-us.txt</Key>"), "{body}");
    let (status, body) = signed("wrong", Method::GET, list, "", "").await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("SignatureDoesNotMatch"), "{body}");
    let (status, body) = signed(secret, Method::PUT, put, "hello", "hullo").await;
    assert_eq!(status, 400, "the body is covered: {body}");
}
