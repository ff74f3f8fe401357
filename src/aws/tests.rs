mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{Chain, Credentials, Request, Scope, presign, sign};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// 2015-08-30T12:36:00Z, the time of AWS's published vectors.
fn at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials::new("AKIDEXAMPLE", SECRET, token.map(str::to_owned), None, "test")
}

const SCOPE: Scope<'static> = Scope { region: "us-east-1", service: "service" };

const TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";

/// AWS's signing test suite (v4): name, method, URL, headers, session token, signed headers, signature in the headers, signature in the query.
type Vector = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<&'static str>,
    &'static str,
    &'static str,
    &'static str,
);

const VECTORS: &[Vector] = &[
    (
        "post-vanilla",
        "POST",
        "/",
        &[],
        None,
        "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b",
    ),
    (
        "get-vanilla-query-order-key-case",
        "GET",
        "/?Param2=value2&Param1=value1",
        &[],
        None,
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
    ),
    (
        "get-vanilla-query-order-encoded",
        "GET",
        "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        &[],
        None,
        "host;x-amz-date",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787",
    ),
    (
        "get-header-value-trim",
        "GET",
        "/",
        &[("My-Header1", "value1"), ("My-Header2", "\"a   b   c\"")],
        None,
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4",
    ),
    (
        "get-unreserved",
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        None,
        "host;x-amz-date",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        "95968482db1b9e0fadef6efc1bd24689f77c77d9ef56919c96a28cc92e0d6005",
    ),
    (
        "get-vanilla-with-session-token",
        "GET",
        "/",
        &[],
        Some(TOKEN),
        "host;x-amz-date;x-amz-security-token",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c",
    ),
];

#[test]
fn signatures_are_those_that_aws_published() {
    for (name, method, path, headers, token, signed_headers, in_headers, in_query) in VECTORS {
        let url = format!("https://example.amazonaws.com{path}");
        let request = Request { method, url: &url, headers, body: b"" };
        let added: BTreeMap<_, _> = sign(&request, SCOPE, &credentials(*token), at()).unwrap().into_iter().collect();
        assert_eq!(
            added["authorization"],
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={signed_headers}, Signature={in_headers}"
            ),
            "{name}"
        );
        assert_eq!(added["x-amz-date"], "20150830T123600Z", "{name}");
        assert_eq!(added.get("x-amz-security-token").map(String::as_str), *token, "{name}");

        let url = presign(&request, SCOPE, &credentials(*token), at(), Duration::from_secs(3600)).unwrap();
        let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["X-Amz-Signature"], *in_query, "{name}");
        assert_eq!(query["X-Amz-Expires"], "3600", "{name}");
        assert!(url.as_str().contains("X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request"), "{url}");
        assert!(url.as_str().starts_with(&format!("https://example.amazonaws.com{path}")), "{url}");
    }
}

/// The vector of the older published suite: a signature that covers a body.
#[test]
fn a_signature_covers_the_body() {
    let request = |body| Request {
        method: "POST",
        url: "https://example.amazonaws.com/",
        headers: &[("Content-Type", "application/x-www-form-urlencoded")],
        body,
    };
    let signature = |body| sign(&request(body), SCOPE, &credentials(None), at()).unwrap();
    let added = signature(b"Param1=value1");
    let authorization = &added.iter().find(|(name, _)| name == "authorization").unwrap().1;
    assert!(
        authorization.ends_with("Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        "{authorization}"
    );
    assert_ne!(signature(b"Param1=value2"), added);
}

/// A home folder with AWS's two files, and an environment.
struct Home {
    folder: TempDir,
    env: BTreeMap<String, String>,
}

impl Home {
    fn new(credentials: &str, config: &str, env: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join(".aws")).unwrap();
        fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
        fs::write(folder.path().join(".aws/config"), config).unwrap();
        let mut env: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        env.insert("HOME".into(), folder.path().display().to_string());
        env.entry("AWS_EC2_METADATA_DISABLED".into()).or_insert_with(|| "true".into());
        Self { folder, env }
    }

    fn open(&self, properties: &[(&str, &str)]) -> crate::error::Result<Chain> {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Chain::open(&properties, &["s3.", "client."], &|name| self.env.get(name).cloned())
    }

    async fn keys(&self, properties: &[(&str, &str)]) -> (String, Option<String>, Option<String>) {
        let chain = self.open(properties).unwrap();
        let found = chain.credentials().await.unwrap();
        assert!(!format!("{chain:?}{found:?}").contains("secret-of"), "{chain:?} {found:?}");
        assert_eq!(found.secret_access_key(), format!("secret-of-{}", found.access_key_id()));
        (found.access_key_id().to_owned(), found.session_token().map(str::to_owned), chain.region().map(str::to_owned))
    }
}

const CREDENTIALS: &str = "
# comment
[default]
aws_access_key_id = default
aws_secret_access_key=secret-of-default

[work]
aws_access_key_id = work
aws_secret_access_key = secret-of-work
aws_session_token = token==
";

const CONFIG: &str = "
[default]
region = eu-central-1
s3 =
  region = nested-is-not-meant
[profile  work]
region = eu-west-1
[profile printed]
credential_process = printf '{\"Version\":1,\"AccessKeyId\":\"printed\",\"SecretAccessKey\":\"secret-of-printed\",\"SessionToken\":\"t\",\"Expiration\":\"2999-01-01T00:00:00Z\"}'; echo x >> $HOME/never; echo x >> RUNS
[profile broken]
credential_process = echo leaked-secret; exit 0
[profile failing]
credential_process = echo no such vault >&2; exit 3
[profile sso]
sso_session = corp
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = work
";

#[tokio::test]
async fn the_first_source_that_has_credentials_counts() {
    let own = [("s3.access-key-id", "own"), ("s3.secret-access-key", "secret-of-own"), ("s3.region", "r1")];
    let client =
        [("client.access-key-id", "client"), ("client.secret-access-key", "secret-of-client"), ("client.session-token", "t1")];
    let env = [
        ("AWS_ACCESS_KEY_ID", "env"),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-env"),
        ("AWS_SESSION_TOKEN", "t2"),
        ("AWS_DEFAULT_REGION", "r2"),
    ];
    let full = Home::new(CREDENTIALS, CONFIG, &env);
    assert_eq!(full.keys(&own).await, ("own".into(), None, Some("r1".into())));
    assert_eq!(full.keys(&client).await, ("client".into(), Some("t1".into()), Some("r2".into())));
    assert_eq!(full.keys(&[]).await, ("env".into(), Some("t2".into()), Some("r2".into())));
    assert_eq!(full.keys(&[("s3.profile-name", "work")]).await.0, "work", "a profile named in the job goes before the environment");

    let files = Home::new(CREDENTIALS, CONFIG, &[]);
    assert_eq!(files.keys(&[]).await, ("default".into(), None, Some("eu-central-1".into())));
    let named = Home::new(CREDENTIALS, CONFIG, &[("AWS_PROFILE", "work")]);
    assert_eq!(named.keys(&[]).await, ("work".into(), Some("token==".into()), Some("eu-west-1".into())));
}

#[tokio::test]
async fn a_command_gives_credentials_and_is_asked_once_while_they_last() {
    let home = Home::new(CREDENTIALS, "", &[("AWS_PROFILE", "printed")]);
    let runs = home.folder.path().join("runs");
    let config = CONFIG.replace("RUNS", &runs.display().to_string()).replace("echo x >> $HOME/never; ", "");
    fs::write(home.folder.path().join(".aws/config"), &config).unwrap();
    let chain = home.open(&[]).unwrap();
    for _ in 0..3 {
        assert_eq!(chain.credentials().await.unwrap().access_key_id(), "printed");
    }
    assert_eq!(fs::read_to_string(&runs).unwrap(), "x\n");
    fs::write(home.folder.path().join(".aws/config"), config.replace("2999", "1999")).unwrap();
    let chain = home.open(&[]).unwrap();
    for _ in 0..2 {
        chain.credentials().await.unwrap();
    }
    assert_eq!(fs::read_to_string(&runs).unwrap(), "x\nx\nx\n", "expired credentials are fetched again");
}

#[tokio::test]
async fn what_cannot_give_credentials_says_why() {
    let at = |profile| Home::new(CREDENTIALS, CONFIG, &[("AWS_PROFILE", profile)]);
    for (profile, code, words) in [
        ("broken", 77, "not the JSON of a credential process"),
        ("failing", 77, "no such vault"),
        ("sso", 78, "sso_session"),
        ("role", 78, "credential_process = aws configure export-credentials --profile role"),
        ("absent", 78, "AWS profile `absent` does not exist"),
    ] {
        let home = at(profile);
        let error = match home.open(&[]) {
            Ok(chain) => chain.credentials().await.unwrap_err(),
            Err(error) => error,
        };
        let said = format!("{error} {:?} {error:?}", error.hint());
        assert_eq!(error.exit_code(), code, "{profile}: {said}");
        assert!(said.contains(words), "{profile}: {said}");
        assert!(!said.contains("leaked-secret"), "{said}");
    }
    let none = Home::new("", "", &[]).open(&[]).unwrap().credentials().await.unwrap_err();
    assert_eq!(none.exit_code(), 77);
    assert!(format!("{none:?}").contains("no AWS credentials"), "{none:?}");
    for half in [("s3.access-key-id", "x"), ("s3.secret-access-key", "x"), ("s3.role-arn", "arn:aws:iam::1:role/x")] {
        assert_eq!(Home::new("", "", &[]).open(&[half]).unwrap_err().exit_code(), 78, "{half:?}");
    }
}
