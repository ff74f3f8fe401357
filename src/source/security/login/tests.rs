//! Tokens as they come; the token server itself is tried in `oauth`, and with a broker in `tests/e2e/test_security.py`.

use super::*;

fn given(text: &str) -> Login {
    Login::by_token(&BTreeMap::from([(TOKEN.to_owned(), text.to_owned())])).unwrap()
}

fn jwt(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn in_s(seconds: i64) -> i64 {
    millis(now()) / 1000 + seconds
}

fn seconds_left(token: &Token) -> i64 {
    (token.ends_ms - millis(now()) + 500) / 1000
}

#[test]
fn a_tokens_life_is_read_off_it_or_off_what_came_with_it() {
    let by_itself = jwt(&format!("{{\"sub\":\"tide\",\"exp\":{}}}", in_s(600)));
    let token = given(&format!("command:echo {by_itself}")).token().unwrap();
    assert_eq!((token.value.as_str(), token.principal.as_str()), (by_itself.as_str(), "tide"));
    assert!((598..=601).contains(&seconds_left(&token)), "{token:?}");

    let answer = given("command:echo '{\"access_token\": \"opaque\", \"expires_in\": 60, \"token_type\": \"Bearer\"}'");
    let token = answer.token().unwrap();
    assert_eq!((token.value.as_str(), seconds_left(&token)), ("opaque", 60));

    assert_eq!(seconds_left(&given("opaque").token().unwrap()), 300, "nobody says");

    let as_text = given("command:echo '{\"access_token\": \"opaque\", \"expires_in\": \"86399\"}'");
    assert_eq!(seconds_left(&as_text.token().unwrap()), 86_399, "as Azure's metadata service writes it");
    let kept = given(&format!("command:echo '{{\"access_token\": \"{by_itself}\", \"expires_in\": 3600}}'"));
    assert!((598..=601).contains(&seconds_left(&kept.token().unwrap())), "it was printed some time after it was fetched");
}

#[test]
fn a_token_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let login = given(&format!("file:{}", file.display()));
    assert_eq!(login.token().unwrap().value, "first");
    std::fs::write(&file, "second\n").unwrap();
    assert_eq!(login.token().unwrap().value, "second");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(login.token().unwrap_err().exit_code(), 78);
}

#[test]
fn a_token_that_cannot_be_shown_is_refused_without_it() {
    let over = jwt(&format!("{{\"exp\":{}}}", in_s(-90)));
    for (text, told) in [
        (format!("command:echo {over}"), "it ended 9"),
        ("command:printf 'two\\nlines'".to_owned(), "characters that no token has"),
        ("command:echo '{\"token\": \"sesame\"}'".to_owned(), "JSON without an `access_token`"),
    ] {
        let error = given(&text).token().unwrap_err();
        let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert_eq!(error.exit_code(), 77, "{said}");
        assert!(said.contains(told) && said.contains(TOKEN), "{said}");
        assert!(!said.contains("sesame") && !said.contains(&over), "{said}");
    }
}

#[test]
fn what_does_not_end_holds_up_nobody() {
    let started = crate::source::now();
    let hung = async {
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(20))).await.unwrap();
        Ok(())
    };
    let error = in_time("get AWS credentials", Duration::from_millis(50), hung).unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn msk_gets_a_presigned_request_for_its_own_address() {
    let credentials =
        Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some("session".into()), None, "test");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160); // 20150830T123600Z, as in AWS's own examples
    let token = msk_token(&credentials, "us-east-1", at).unwrap();
    assert_eq!(token.ends_ms, (1_440_938_160 + 900) * 1000);
    let url = Url::parse(std::str::from_utf8(&URL_SAFE_NO_PAD.decode(&token.value).unwrap()).unwrap()).unwrap();
    assert_eq!((url.scheme(), url.host_str(), url.path()), ("https", Some("kafka.us-east-1.amazonaws.com"), "/"));
    let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["Action"], "kafka-cluster:Connect");
    assert_eq!(query["X-Amz-Credential"], "AKIDEXAMPLE/20150830/us-east-1/kafka-cluster/aws4_request");
    assert_eq!((query["X-Amz-Date"].as_str(), query["X-Amz-Expires"].as_str()), ("20150830T123600Z", "900"));
    assert_eq!((query["X-Amz-SignedHeaders"].as_str(), query["X-Amz-Security-Token"].as_str()), ("host", "session"));
    // Made by ten lines of Python's `hmac` from AWS's description.
    assert_eq!(query["X-Amz-Signature"], "0a417d78f1297b66daca0b9e45c0ec9d92eb8794201ce36d434bdc2d1ea2b650");
    assert!(query["User-Agent"].starts_with("tidegate/"), "{query:?}");
}

#[test]
fn the_region_stands_in_the_brokers_names() {
    for (brokers, region) in [
        ("b-1.tide.abc123.c2.kafka.eu-west-3.amazonaws.com:9098", Some("eu-west-3")),
        ("boot-x1.c1.kafka-serverless.us-east-1.amazonaws.com:9098,other:1", Some("us-east-1")),
        ("b-1.tide.abc123.c2.kafka.cn-north-1.amazonaws.com.cn:9098", Some("cn-north-1")),
        ("kafka.example:9092", None),
        ("", None),
    ] {
        assert_eq!(region_of(brokers).as_deref(), region, "{brokers}");
    }
}
