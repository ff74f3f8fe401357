use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::scripted::{Reply, Server};
use super::{Http, HttpOptions, Patience, Pem, Request};

fn post(url: Url) -> Request {
    let headers = vec![("authorization".to_owned(), "Bearer s3cr3t".to_owned())];
    Request { method: Method::POST, url, headers, body: Bytes::from_static(b"{}") }
}

fn open() -> Http {
    Http::open(&HttpOptions::default()).unwrap()
}

fn unused_port() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap()
}

#[tokio::test]
async fn a_request_is_sent_whole_and_its_answer_read_whole() {
    let server = Server::start(|_| Reply::json(200, &json!({"a": "b"})).with("x-more", "yes"));
    let answer = open().send(&post(server.url().join("/v1/t?q=1").unwrap())).await.unwrap();
    assert!(answer.is_success());
    assert_eq!((&answer.body[..], answer.header("x-more")), (&br#"{"a":"b"}"#[..], Some("yes")));
    let seen = &server.seen()[0];
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("POST /v1/t?q=1", "{}"));
    assert_eq!(seen.headers["authorization"], "Bearer s3cr3t");
    assert!(seen.headers["user-agent"].starts_with("tidegate/"), "{seen:?}");
    assert!(seen.headers["accept-encoding"].contains("gzip"), "{seen:?}");
}

/// A commit's `POST` that turned into a `GET` of the table would be answered with 200.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(|_| Reply::Answer(302, vec![("location".into(), "/elsewhere".into())], String::new()));
    let answer = open().send(&post(server.url())).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (302, Some("/elsewhere")));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_was_sent_and_not_answered_may_have_been_done() {
    let server = Server::start(|_| Reply::Hangup);
    assert!(open().send(&post(server.url())).await.unwrap_err().sent, "the server closed the connection");
    let server = Server::start(|_| Reply::Late(Duration::from_secs(2), Box::new(Reply::Hangup)));
    let impatient = Http::open(&HttpOptions { silence_max: Duration::from_millis(200), ..HttpOptions::default() }).unwrap();
    assert!(impatient.send(&post(server.url())).await.unwrap_err().sent, "the server took too long");
    let server = Server::start(|_| Reply::Answer(200, vec![("content-encoding".into(), "gzip".into())], "cut".into()));
    assert!(open().send(&post(server.url())).await.unwrap_err().sent, "the answer cannot be read");
}

#[tokio::test]
async fn what_found_no_server_was_not_sent() {
    let silence = open().send(&post(unused_port())).await.unwrap_err();
    assert!(!silence.sent);
    let error = silence.into_error("ask the catalog");
    assert_eq!(error.exit_code(), 75);
    let named = open().send(&post(Url::parse("http://no-such-host.invalid/").unwrap())).await.unwrap_err();
    assert!(!named.sent);
    let mut header = post(unused_port());
    header.headers.push(("x-odd".into(), "line\nbreak".into()));
    let silence = open().send(&header).await.unwrap_err();
    assert!(!silence.sent);
    assert!(format!("{silence:?}").contains("`x-odd`"), "{silence:?}");
    assert!(!Patience::default().unreached(&silence).await, "it would be the same again");
    assert_eq!(silence.into_error("ask the catalog").exit_code(), 78);
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let server = Server::start(|seen| Reply::Answer(if seen.line.contains("no") { 500 } else { 200 }, vec![], "x".repeat(3 << 20)));
    let http = Http::open(&HttpOptions { answer_max: 2 << 20, ..HttpOptions::default() }).unwrap();
    let silence = http.send(&post(server.url())).await.unwrap_err();
    assert!(silence.sent && !silence.may_pass(), "what was asked may have been done, and would be as long again");
    let error = silence.into_error("ask the catalog");
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("longer than 2 MiB"), "{error}");
    let refused = http.send(&post(server.url().join("/no").unwrap())).await.unwrap();
    assert!(refused.status == 500 && refused.body.len() < 3 << 20, "of a refusal the beginning counts");
}

#[tokio::test]
async fn a_server_that_repeats_what_it_was_sent_is_not_repeated() {
    let server = Server::start(|seen| Reply::json(401, &json!({"error": {"message": format!("bad {seen:?}")}})));
    let mut request = post(server.url());
    request.headers[0].1 = "Bearer open-sesame".into();
    request.headers.push(("x-api-key".into(), "swordfish".into()));
    let answer = open().send(&request).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("Bearer ***") && !text.contains("open-sesame") && !text.contains("swordfish"), "{text}");
}

/// A port without TLS behind `https://` stays one: nobody waits for it.
#[tokio::test]
async fn a_server_that_speaks_no_tls_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://{}/v1", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the client has read it and gone.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let silence = open().send(&post(url)).await.unwrap_err();
    assert!(!silence.sent && !silence.may_pass(), "{silence:?}");
    let error = silence.into_error("ask the catalog");
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn nothing_secret_is_ever_shown() {
    let request = post(Url::parse("http://user:s3cr3t@localhost:1/v1?key=s3cr3t").unwrap());
    let silence = open().send(&request).await.unwrap_err();
    let shown = format!("{request:?} {silence:?} {:?}", silence.cause);
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[tokio::test]
async fn a_server_that_says_later_is_asked_again_as_it_wishes() {
    let mut replies = vec![
        Reply::Answer(503, vec![("retry-after".into(), "0".into())], String::new()),
        Reply::Answer(
            429,
            vec![
                ("date".into(), "Wed, 21 Oct 2026 07:28:00 GMT".into()),
                ("retry-after".into(), "Wed, 21 Oct 2026 07:28:01 GMT".into()),
            ],
            String::new(),
        ),
        Reply::json(200, &json!({})),
    ]
    .into_iter();
    let server = Server::start(move |_| replies.next().unwrap());
    let (began, mut patience) = (Instant::now(), Patience::default());
    loop {
        let answer = open().send(&post(server.url())).await.unwrap();
        if !patience.later(&answer).await {
            assert_eq!(answer.status, 200);
            break;
        }
    }
    assert_eq!(server.seen().len(), 3);
    assert!(began.elapsed() >= Duration::from_secs(1), "the second answer asks for a second");
}

#[tokio::test]
async fn patience_ends() {
    let server = Server::start(|_| Reply::Answer(503, vec![("retry-after".into(), "61".into())], String::new()));
    let answer = open().send(&post(server.url())).await.unwrap();
    let began = Instant::now();
    assert!(!Patience::default().later(&answer).await, "longer than a run should wait");
    assert!(began.elapsed() < Duration::from_secs(30));

    let server = Server::start(|_| Reply::Answer(429, vec![("retry-after".into(), "0".into())], String::new()));
    let (answer, mut patience, mut asked) = (open().send(&post(server.url())).await.unwrap(), Patience::default(), 1);
    while patience.later(&answer).await {
        asked += 1;
    }
    assert_eq!(asked, 6);

    let (silence, mut patience, mut asked) = (open().send(&post(unused_port())).await.unwrap_err(), Patience::default(), 1);
    while patience.unreached(&silence).await {
        asked += 1;
    }
    assert_eq!(asked, 4, "a server that is not there is given about two seconds");
}

#[test]
fn files_of_certificates_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let options = || HttpOptions { ca: Some(Pem { property: "ssl.cabundle", path: path.clone() }), ..HttpOptions::default() };
    let missing = Http::open(&options()).unwrap_err();
    std::fs::write(&path, "no certificate").unwrap();
    let empty = Http::open(&options()).unwrap_err();
    for error in [missing, empty] {
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("ca.pem`, which `ssl.cabundle` names"), "{error}");
    }
    let cert = Some(Pem { property: "ssl.client.cert", path: path.clone() });
    let error = Http::open(&HttpOptions { client_cert: cert, ..HttpOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("which `ssl.client.cert` names, is no PEM file"), "{error}");
}
