//! Credentials of a container: what ECS, EKS Pod Identity, Greengrass and CloudShell hand out at an address of their own.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Result as StoreResult};
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::{Host, Url};

use super::Env;
use super::provider::{Lent, denied, kept, unavailable};
use crate::error::{Error, Result};
use crate::http::{Http, HttpOptions, Patience, Request};

/// Where ECS answers, by IPv4 alone.
const ECS: &str = "http://169.254.170.2";

/// Link-local addresses that AWS's own libraries ask without TLS: those of ECS and of EKS.
const LINK_LOCAL: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// It is on the same machine.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Asks the container's own address.
pub(super) struct Container {
    http: Http,
    url: Url,
    token: Option<Token>,
    last: Mutex<Option<Lent>>,
}

/// What the container says who it is by.
enum Token {
    Text(String),
    /// Read for each request, as it is written anew while the container runs.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<DateTime<Utc>>,
}

impl Container {
    /// As the environment says; none where it names no address.
    ///
    /// Fails (78) for an address that is none, or that a secret must not be asked of in the clear.
    pub(super) fn of(env: Env<'_>) -> Result<Option<Self>> {
        let relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{ECS}{path}"));
        let Some(address) = relative.or_else(|| env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
        let url = Url::parse(&address).ok().filter(|url| url.scheme() == "https" || url.scheme() == "http" && is_near(url));
        let url = url.ok_or_else(|| {
            Error::setup(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI names no address that credentials may be asked of",
                "write it as `https://..`, or as `http://` on this machine or at the container's own link-local address",
            )
        })?;
        let file = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| Token::File(path.into()));
        let token = file.or_else(|| env("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Token::Text));
        // A proxy would be asked for what is behind this machine's own address.
        let options = HttpOptions { direct: true, connect_timeout: ANSWER_MAX, silence_max: ANSWER_MAX, ..HttpOptions::default() };
        Ok(Some(Self { http: Http::open(&options)?, url, token, last: Mutex::new(None) }))
    }

    async fn ask(&self) -> StoreResult<Lent> {
        let token = match &self.token {
            None => None,
            Some(Token::Text(token)) => Some(token.clone()),
            Some(Token::File(path)) => Some(std::fs::read_to_string(path).map_err(|e| {
                denied(format!("cannot read `{}`, which AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names: {e}", path.display()))
            })?),
        };
        let headers = token.map(|token| ("authorization".to_owned(), token.trim().to_owned())).into_iter().collect();
        let request = Request { method: Method::GET, url: self.url.clone(), headers, body: Bytes::new() };
        let mut patience = Patience::default();
        let answer = loop {
            match self.http.send(&request).await {
                Ok(answer) if is_passing(answer.status) && patience.again().await => {}
                Ok(answer) => break answer,
                Err(silence) if silence.may_pass() && patience.again().await => {}
                Err(silence) => return Err(unavailable(silence.into_error("ask the container for AWS credentials").into())),
            }
        };
        match answer.status {
            200 => {}
            status if is_passing(status) => {
                return Err(unavailable(format!("the container's endpoint answered {status}").into()));
            }
            status @ 400..=499 => {
                let said: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(200).collect();
                return Err(denied(format!("the container's endpoint answered {status}: {said}")));
            }
            status => return Err(unavailable(format!("the container's endpoint answered {status}").into())),
        }
        // What serde says can repeat what was sent, which is secret.
        let given: Given = serde_json::from_slice(&answer.body).map_err(|e| {
            denied(format!("the container's endpoint answered no credentials (line {}, column {})", e.line(), e.column()))
        })?;
        let Given { access_key_id: key_id, secret_access_key: secret_key, token, expiration: expires } = given;
        Ok(Lent { credential: Arc::new(AwsCredential { key_id, secret_key, token }), expires })
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for Container {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> StoreResult<Arc<AwsCredential>> {
        kept(&self.last, self.ask()).await
    }
}

/// Whether an answer may be another one in a moment: the endpoint counts how often it is asked.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// Whether a request cannot be overheard on its way.
fn is_near(url: &Url) -> bool {
    let ip: IpAddr = match url.host() {
        Some(Host::Domain(name)) => return name == "localhost",
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => ip.into(),
        None => return false,
    };
    ip.is_loopback() || LINK_LOCAL.iter().any(|near| near.parse() == Ok(ip))
}
