//! HTTP to catalogs and token servers: one client per set of trust, with bounded waits and nothing done twice unasked.
//!
//! Says of each request whether it can have reached the server, as a commit's fate hangs on that. Never follows a redirect (a `POST`
//! would become a `GET`, and its answer be taken for the commit's), never sends anything again by itself, never puts a header or a
//! query into a message. Proxies come from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as everywhere.

mod trust;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::tls::{Certificate, Identity};
use reqwest::{Client, Method};
use tokio::time::Instant;
use url::Url;

use crate::error::{BoxError, Error, Result};

/// Servers and what lies between close connections that are idle for longer; a request on such a one ends without an answer.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// All waits that one request may add up to. A scheduler comes again after that.
const WAITS_MAX: Duration = Duration::from_secs(60);

/// How often a server may say "later" to one request.
const TRIES_MAX: u32 = 6;

/// An answer longer than this is given up. Tables with tens of thousands of snapshots have tens of MiB of metadata.
const ANSWER_MAX: usize = 256 << 20;

/// Of an answer that is no success so much is read: what counts stands at its beginning.
const REFUSAL_MAX: usize = 1 << 20;

/// Headers shorter than this are words that an answer may hold by itself.
const SECRET_MIN: usize = 6;

/// First wait where the server names none; each one doubles.
const WAIT_FIRST: Duration = Duration::from_millis(250);

/// Whom a client trusts, who it says it is, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpOptions {
    /// Authorities to trust besides the system's.
    pub(crate) ca: Option<Pem>,
    /// The property that names `ca`, for who has not set it.
    pub(crate) ca_property: &'static str,
    /// The client's certificate chain, with its key where `client_key` names none.
    pub(crate) client_cert: Option<Pem>,
    /// The key of `client_cert`.
    pub(crate) client_key: Option<Pem>,
    /// Past all proxies.
    pub(crate) direct: bool,
    /// For the connection, TLS included.
    pub(crate) connect_timeout: Duration,
    /// Without a byte from the server.
    pub(crate) silence_max: Duration,
    /// Bytes of the longest answer that is read, unpacked.
    pub(crate) answer_max: usize,
}

/// A file of certificates or keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pem {
    /// The property that names it, as the job file spells it.
    pub(crate) property: &'static str,
    pub(crate) path: PathBuf,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            ca: None,
            ca_property: "ssl.cabundle",
            client_cert: None,
            client_key: None,
            direct: false,
            connect_timeout: Duration::from_secs(10),
            silence_max: Duration::from_secs(60),
            answer_max: ANSWER_MAX,
        }
    }
}

/// A client. Clones share connections.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    answer_max: usize,
    ca_property: &'static str,
}

/// One request, whole, so that it can be signed.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Names in lowercase.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// One answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Whether the server can have got the request, and may do what it says, now or later.
    pub(crate) sent: bool,
    kind: Kind,
    cause: BoxError,
}

/// Who can do something about a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Time, or whoever runs the server.
    Passing,
    /// Whoever says whom to trust: one of the two did not trust the other.
    Distrust,
    /// Whoever wrote the job file: it would be the same again.
    Unfit,
}

impl Http {
    /// Reads the certificates; connects to nothing yet.
    pub(crate) fn open(options: &HttpOptions) -> Result<Self> {
        let mut builder = Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.silence_max)
            // A server that sends a byte now and then holds nobody for ever.
            .timeout(options.silence_max.saturating_mul(10))
            .pool_idle_timeout(IDLE_MAX);
        if options.direct {
            builder = builder.no_proxy();
        }
        if let Some(ca) = &options.ca {
            let found = Certificate::from_pem_bundle(&ca.read()?).ok().filter(|found| !found.is_empty());
            for certificate in found.ok_or_else(|| ca.unusable())? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        if let Some(cert) = &options.client_cert {
            let (mut pem, key) = (cert.read()?, options.client_key.as_ref().unwrap_or(cert));
            if key != cert {
                pem.push(b'\n');
                pem.extend(key.read()?);
            }
            if String::from_utf8_lossy(&pem).contains("ENCRYPTED") {
                return Err(key.locked());
            }
            builder = builder.identity(Identity::from_pem(&pem).map_err(|_| key.unusable())?);
        }
        let client = builder.build().map_err(|e| {
            Error::setup(
                format!("cannot prepare TLS: {}", chain(&e)),
                "do the certificates and the key belong together, and are the system's certificates installed?",
            )
        })?;
        Ok(Self { client, answer_max: options.answer_max, ca_property: options.ca_property })
    }

    /// Sends a request once.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Silence> {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| Silence::unsendable(name))?;
            // Keeps it out of the client's own logs.
            value.set_sensitive(true);
            headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| Silence::unsendable(name))?, value);
        }
        let sent = self.client.request(request.method.clone(), request.url.clone()).headers(headers).body(request.body.clone());
        let mut answer = sent.send().await.map_err(|e| self.silence(e))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let success = answer.status().is_success();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.silence(e))? {
            body.extend_from_slice(&chunk);
            match success {
                true if body.len() > self.answer_max => return Err(Silence::endless(self.answer_max)),
                false if body.len() > REFUSAL_MAX => break,
                _ => {}
            }
        }
        let body = if success { body } else { request.masked(body) };
        Ok(Answer { status, headers, body: body.into() })
    }

    fn silence(&self, error: reqwest::Error) -> Silence {
        // The address stands in our own message, without what may be secret in it.
        let error = error.without_url();
        let text = chain(&error);
        let (kind, cause) = if let Some(cause) = trust::distrust(&text, self.ca_property) {
            (Kind::Distrust, cause)
        } else if text.contains("InvalidContentType") {
            (Kind::Unfit, format!("what is there does not speak TLS, as `https://` asks for ({text})").into())
        } else {
            (Kind::Passing, text.into())
        };
        Silence { sent: !(error.is_connect() || error.is_builder()), kind, cause }
    }
}

impl Request {
    /// What a server says of a refusal goes into messages, and some repeat what they were sent.
    fn masked(&self, body: Vec<u8>) -> Vec<u8> {
        let known = |name: &str| {
            matches!(name, "accept" | "content-type" | "idempotency-key" | "x-amz-date" | "x-iceberg-access-delegation")
        };
        let values = self.headers.iter().filter(|(name, _)| !known(name)).flat_map(|(_, value)| value.split_whitespace());
        let secrets: Vec<_> = values.filter(|value| value.len() >= SECRET_MIN && *value != "Bearer").collect();
        let text = String::from_utf8_lossy(&body);
        match secrets.iter().any(|secret| text.contains(secret)) {
            true => secrets.iter().fold(text.into_owned(), |text, secret| text.replace(secret, "***")).into_bytes(),
            false => body,
        }
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>> {
        std::fs::read(&self.path).map_err(|e| {
            Error::setup(
                format!("cannot read `{}`, which `{}` names: {e}", self.path.display(), self.property),
                "is the path right, and the file mounted?",
            )
        })
    }

    fn locked(&self) -> Error {
        Error::setup(
            format!("the key in `{}`, which `{}` names, is under a password", self.path.display(), self.property),
            "tidegate asks nobody for passwords: `openssl pkey -in KEY -out PLAIN` writes it without one, for a file that only the job can read",
        )
    }

    fn unusable(&self) -> Error {
        Error::setup(
            format!("`{}`, which `{}` names, is no PEM file that can be used", self.path.display(), self.property),
            "certificates stand between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`, keys between the like",
        )
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("path", &self.url.path()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Answer {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the server did as it was asked.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What `Retry-After` says, as seconds or as a time; a time is judged by the server's own clock.
    fn retry_after(&self) -> Option<Duration> {
        let after = self.header("retry-after")?.trim();
        if let Ok(seconds) = after.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = DateTime::parse_from_rfc2822(after).ok()?;
        let now = DateTime::parse_from_rfc2822(self.header("date")?).ok()?;
        Some((at - now).to_std().unwrap_or_default())
    }
}

impl Silence {
    fn unsendable(header: &str) -> Self {
        let cause = format!("the value of header `{header}` cannot be sent over HTTP: it holds a line break, or no ASCII");
        Self { sent: false, kind: Kind::Unfit, cause: cause.into() }
    }

    fn endless(most: usize) -> Self {
        let cause = format!("the answer is longer than {} MiB", most >> 20);
        Self { sent: true, kind: Kind::Unfit, cause: cause.into() }
    }

    /// Whether the same request may be answered in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        self.kind == Kind::Passing
    }

    /// The error that ends a run. `doing`: present-tense verb and object, with the server's address.
    pub(crate) fn into_error(self, doing: impl Into<String>) -> Error {
        match self.kind {
            Kind::Distrust => Error::Denied { doing: doing.into(), source: self.cause },
            Kind::Passing => Error::Unavailable { doing: doing.into(), source: self.cause },
            Kind::Unfit => Error::setup(
                format!("could not {}: {}", doing.into(), self.cause),
                "are the address, its port and the values of the properties (`token`, `header.*`) right?",
            ),
        }
    }
}

/// How long one request goes on being asked of a server that says "later" or is not there yet.
#[derive(Debug)]
pub(crate) struct Patience {
    tries: u32,
    waited: Duration,
    began: Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 0, waited: Duration::ZERO, began: Instant::now() }
    }
}

impl Patience {
    /// Waits as a 429 or 503 asks for. `false`: it was no such answer, or patience is at its end.
    pub(crate) async fn later(&mut self, answer: &Answer) -> bool {
        matches!(answer.status, 429 | 503) && self.wait(answer.retry_after()).await
    }

    /// Waits for a server that could not be reached. `false`: the request was sent, waiting cannot help, or patience is at its end.
    pub(crate) async fn unreached(&mut self, silence: &Silence) -> bool {
        // A server that restarts is back in seconds; one that is gone should be told soon.
        !silence.sent && silence.may_pass() && self.again().await
    }

    /// Waits before a request that may have been acted on is sent once more. `false`: patience is at its end.
    pub(crate) async fn again(&mut self) -> bool {
        // A server that took the request and stays silent takes its time each time.
        self.tries < TRIES_MAX / 2 && self.began.elapsed() < WAITS_MAX && self.wait(None).await
    }

    async fn wait(&mut self, asked: Option<Duration>) -> bool {
        let wait = asked.unwrap_or(WAIT_FIRST * 2_u32.pow(self.tries));
        self.tries += 1;
        self.waited = self.waited.saturating_add(wait);
        if self.tries >= TRIES_MAX || self.waited > WAITS_MAX {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }
}

/// An error with its causes; those that only repeat what stands before are left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
