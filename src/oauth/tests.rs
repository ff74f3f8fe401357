use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ClientAuth, ClientCredentials, Tokens, claims, fetch};
use crate::http::scripted::{Reply, Server};
use crate::http::{Http, HttpOptions};

fn grant(server: &Server) -> ClientCredentials {
    ClientCredentials {
        url: server.url().join("/v1/oauth/tokens?realm=s3cr3t").unwrap(),
        id: Some("tide gate".into()),
        secret: "s3cr3t&=".into(),
        scope: Some("PRINCIPAL_ROLE:ALL".into()),
        fields: vec![("audience".into(), "lake".into())],
        auth: ClientAuth::Form,
    }
}

fn http() -> Http {
    Http::open(&HttpOptions::default()).unwrap()
}

/// Tokens `t1`, `t2` and so on, each with these seconds to live.
fn counting(lasts: Option<f64>) -> Server {
    let mut number = 0;
    Server::start(move |_| {
        number += 1;
        Reply::json(200, &json!({"access_token": format!("t{number}"), "token_type": "bearer", "expires_in": lasts}))
    })
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn id_and_secret_go_into_the_form() {
    let server = counting(Some(3600.0));
    let token = fetch(&http(), &grant(&server)).await.unwrap();
    assert_eq!((token.value.as_str(), token.lasts), ("t1", Some(Duration::from_secs(3600))));
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/oauth/tokens?realm=s3cr3t");
    assert_eq!(
        seen.body,
        "grant_type=client_credentials&client_id=tide+gate&client_secret=s3cr3t%26%3D&scope=PRINCIPAL_ROLE%3AALL&audience=lake"
    );
    assert_eq!(seen.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(!seen.headers.contains_key("authorization"));
}

/// RFC 6749, 2.3.1: both are form-encoded before they are joined.
#[tokio::test]
async fn or_into_the_header() {
    let server = counting(None);
    let basic = ClientCredentials { auth: ClientAuth::Basic, ..grant(&server) };
    assert_eq!(fetch(&http(), &basic).await.unwrap().lasts, None);
    let seen = &server.seen()[0];
    assert_eq!(seen.headers["authorization"], "Basic dGlkZStnYXRlOnMzY3IzdCUyNiUzRA==");
    assert_eq!(seen.body, "grant_type=client_credentials&scope=PRINCIPAL_ROLE%3AALL&audience=lake");
}

#[tokio::test]
async fn a_token_is_kept_for_as_long_as_it_lasts() {
    let server = counting(Some(3600.0));
    let tokens = Tokens::new(http(), grant(&server));
    assert_eq!([tokens.token().await.unwrap(), tokens.token().await.unwrap()], ["t1", "t1"]);
    let server = counting(None);
    let tokens = Tokens::new(http(), grant(&server));
    assert_eq!([tokens.token().await.unwrap(), tokens.token().await.unwrap()], ["t1", "t1"], "nothing says that it ends");
}

#[tokio::test]
async fn a_token_is_fetched_anew_before_it_ends() {
    let server = counting(Some(4.0));
    let tokens = Tokens::new(http(), grant(&server));
    assert_eq!([tokens.token().await.unwrap(), tokens.token().await.unwrap()], ["t1", "t1"]);
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    assert_eq!(tokens.token().await.unwrap(), "t2", "a quarter of its life before its end");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_forgotten_once() {
    let server = counting(Some(3600.0));
    let tokens = Tokens::new(http(), grant(&server));
    let first = tokens.token().await.unwrap();
    tokens.forget(&first).await;
    assert_eq!(tokens.token().await.unwrap(), "t2");
    tokens.forget(&first).await;
    assert_eq!(tokens.token().await.unwrap(), "t2", "the new one was not refused");
}

#[tokio::test]
async fn a_token_that_says_itself_how_long_it_lasts_is_believed() {
    let token = jwt(&json!({"sub": "me", "iat": 1000, "exp": 1900.5}));
    let body = json!({"access_token": token});
    let server = Server::start(move |_| Reply::json(200, &body));
    let token = fetch(&http(), &grant(&server)).await.unwrap();
    assert_eq!(token.lasts, Some(Duration::from_millis(900_500)));
    assert_eq!(token.claims.unwrap().sub.as_deref(), Some("me"));
    assert!(claims("opaque").is_none() && claims("a.b.c").is_none());
}

#[tokio::test]
async fn a_token_server_that_says_later_is_asked_again() {
    let mut replies = vec![
        Reply::Answer(503, vec![("retry-after".into(), "0".into())], String::new()),
        Reply::json(200, &json!({"access_token": "t"})),
    ]
    .into_iter();
    let server = Server::start(move |_| replies.next().unwrap());
    assert_eq!(fetch(&http(), &grant(&server)).await.unwrap().value, "t");
    assert_eq!(server.seen().len(), 2);
}

/// Azure's first version writes a number as text; some servers mean "for ever".
#[tokio::test]
async fn a_life_may_be_text_and_longer_than_any_clock() {
    let of = async |life: Value| {
        let server = Server::start(move |_| Reply::json(200, &json!({"access_token": "t", "expires_in": life})));
        let tokens = Tokens::new(http(), grant(&server));
        assert_eq!(tokens.token().await.unwrap(), tokens.token().await.unwrap());
        (fetch(&http(), &grant(&server)).await.unwrap().lasts, server.seen().len())
    };
    assert_eq!(of(json!("3599")).await, (Some(Duration::from_secs(3599)), 2));
    assert_eq!(of(json!(1e18)).await, (Some(super::LIFE_MAX), 2));
    assert_eq!(of(json!("soon")).await, (None, 2), "it counts until a server refuses it");
}

#[tokio::test]
async fn refusals_say_who_acts() {
    let cases = [
        (401, json!({"error": "invalid_client", "error_description": "no client s3cr3t&="}), 77, "invalid_client: no client ***"),
        (400, json!({"error": "invalid_scope"}), 77, "answered 400: invalid_scope"),
        (403, json!({"error": {"message": "not you", "type": "X", "code": 403}}), 77, "answered 403: not you"),
        (404, json!("no such page"), 78, "answered 404: \"no such page\""),
        (400, json!(format!("{}s3cr3t&=", "x".repeat(super::WORDS_MAX - 4))), 77, "xxx"),
        (400, json!("you sent client_secret=s3cr3t%26%3D"), 77, "client_secret=***"),
        (302, json!(""), 78, "answered 302"),
        (500, json!({"error": "server_error"}), 75, "answered 500: server_error"),
        (200, json!({"no": "token"}), 78, "answered without a token"),
    ];
    for (status, body, code, says) in cases {
        let server = Server::start(move |_| Reply::json(status, &body));
        let error = fetch(&http(), &grant(&server)).await.unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error} {cause}");
        assert_eq!(error.exit_code(), code, "{status}: {text}");
        assert!(text.contains(says) && text.contains("/v1/oauth/tokens`"), "{status}: {text}");
        assert!(!format!("{text}{error:?}{:?}", grant(&server)).contains("s3cr3t"), "{status}: {text}");
    }
}
