//! Tokens for SASL OAUTHBEARER: from a token server by client credentials, or from wherever the job file says.
//!
//! Asked on a thread of librdkafka's: at the start, and when four fifths of a token's life are over. Keeps no token: each is
//! fetched anew, with the certificates of that moment, and what stands behind `sasl.oauthbearer.token` is read anew too. The secret
//! of a client is read once for a run, as all others of the job file are; what is rotated there counts from the next run on.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::{METHOD, TOKEN};
use crate::aws::{self, Chain};
use crate::error::{Error, Result};
use crate::http::{Http, HttpOptions, Pem};
use crate::oauth::{self, ClientAuth, ClientCredentials};
use crate::secrets::Secret;

/// The longest wait for a token. Shorter than the wait for an answer that needs one, so that what is told is why there is none.
const TOKEN_MAX: Duration = Duration::from_secs(9);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a token counts that does not say how long it lasts: it is fetched again after four minutes.
const LIFE_UNKNOWN: Duration = Duration::from_secs(300);

/// The longest that MSK allows.
const MSK_LIFE: Duration = Duration::from_secs(900);

const CLIENT_CREDENTIALS: &str = "client_credentials";

/// What a client shows its brokers.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::source) struct Token {
    pub(in crate::source) value: String,
    /// When it ends, in ms since the epoch.
    pub(in crate::source) ends_ms: i64,
    /// Whom it is about, for librdkafka's log.
    pub(in crate::source) principal: String,
    /// Sent beside the token, as brokers of Confluent's cloud want.
    pub(in crate::source) extensions: Vec<(String, String)>,
}

/// Where tokens come from.
#[derive(Debug)]
pub(in crate::source) struct Login {
    from: From,
    extensions: Vec<(String, String)>,
}

enum From {
    Server { http: HttpOptions, grant: Box<ClientCredentials> },
    Given(Secret),
    Aws { chain: Chain, region: String },
}

impl Login {
    /// By a token server, under librdkafka's own names for it, or by `sasl.oauthbearer.token`.
    ///
    /// Fails (78) where nothing says where tokens come from.
    pub(super) fn by_token(properties: &BTreeMap<String, String>) -> Result<Self> {
        let get = |name: &str| properties.get(&format!("sasl.oauthbearer.{name}")).filter(|value| !value.is_empty());
        refuse_others(properties)?;
        let extensions = get("extensions").map_or(Ok(Vec::new()), |text| extensions(text))?;
        if let Some(token) = properties.get(TOKEN) {
            return Ok(Self { from: From::Given(Secret::new(format!("kafka.\"{TOKEN}\""), token)), extensions });
        }
        let Some(url) = get("token.endpoint.url") else {
            return Err(Error::setup(
                "`sasl.mechanism` is OAUTHBEARER, and nothing says where tokens come from",
                format!(
                    "`{METHOD} = \"oidc\"` with `sasl.oauthbearer.token.endpoint.url`, `.client.id` and `.client.secret` asks a token \
                     server; `{TOKEN} = \"command:PROGRAM ARGUMENTS\"` or `\"file:PATH\"` takes tokens that something else fetched"
                ),
            ));
        };
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        let url = url.ok_or_else(|| {
            Error::setup("`sasl.oauthbearer.token.endpoint.url` is not an address", "write `https://HOST/PATH`, without a user")
        })?;
        let either = |name: &str| get(name).or_else(|| get(&format!("client.credentials.{name}"))).cloned();
        let needed = |name: &str| {
            either(name).ok_or_else(|| {
                Error::setup(format!("`sasl.oauthbearer.{name}` is not set"), "a token server wants to know who asks")
            })
        };
        let grant = ClientCredentials {
            url,
            id: Some(needed("client.id")?),
            secret: needed("client.secret")?,
            scope: get("scope").cloned(),
            fields: Vec::new(),
            auth: ClientAuth::Basic,
        };
        let ca = properties.get("https.ca.location").filter(|place| *place != "probe");
        let ca_property = "https.ca.location";
        let ca = ca.map(|path| Pem { property: ca_property, path: path.into() });
        let (connect_timeout, silence_max) = (CONNECT_MAX, TOKEN_MAX);
        let http = HttpOptions { ca, ca_property, connect_timeout, silence_max, ..HttpOptions::default() };
        Ok(Self { from: From::Server { http, grant: Box::new(grant) }, extensions })
    }

    /// By AWS credentials, as MSK takes them: the job's (`aws.access-key-id`, ..), or those of AWS's usual chain.
    ///
    /// Fails (78) where no region is known.
    pub(super) fn by_aws(properties: &BTreeMap<String, String>) -> Result<Self> {
        let chain = Chain::open(properties, &["aws."], &aws::process_env)?;
        let named = properties.get("aws.region").cloned();
        let brokers = properties.get("bootstrap.servers").map(String::as_str).unwrap_or_default();
        let region = named.or_else(|| region_of(brokers)).or_else(|| chain.region().map(str::to_owned));
        let region = region.ok_or_else(|| {
            Error::setup("no AWS region is known for `sasl.mechanism = \"AWS_MSK_IAM\"`", "set `aws.region`, or AWS_REGION")
        })?;
        Ok(Self { from: From::Aws { chain, region }, extensions: Vec::new() })
    }

    /// A token that is good now.
    ///
    /// Fails as the token server answered (77, 75, 78), or as the place of the token could be read.
    pub(in crate::source) fn token(&self) -> Result<Token> {
        let now = now();
        let token = match &self.from {
            From::Server { http, grant } => self.of_server(http, grant, now)?,
            From::Given(secret) => self.of_text(&secret.read_within(TOKEN_MAX)?, now)?,
            From::Aws { chain, region } => {
                let credentials = in_time("get AWS credentials", TOKEN_MAX, chain.credentials())?;
                msk_token(&credentials, region, now)?
            }
        };
        let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
        if token.value.is_empty() || !token.value.chars().all(is_plain) {
            return Err(self.unusable("it holds characters that no token has"));
        }
        if token.ends_ms <= millis(now) {
            let over = Duration::from_millis((millis(now) - token.ends_ms).unsigned_abs());
            return Err(self.unusable(&format!("it ended {} s ago", over.as_secs())));
        }
        Ok(token)
    }

    /// The error for a token that nothing can be done with.
    pub(in crate::source) fn unusable(&self, reason: &str) -> Error {
        let place = match &self.from {
            From::Server { grant, .. } => oauth::shown(&grant.url),
            From::Given(secret) => secret.to_string(),
            From::Aws { .. } => "AWS".into(),
        };
        Error::denied(
            "log in to Kafka by token",
            format!("the token of `{place}` is not usable: {reason}"),
            "it has to be one token, still good, and nothing else; is this machine's clock right?",
        )
    }

    fn of_server(&self, http: &HttpOptions, grant: &ClientCredentials, now: SystemTime) -> Result<Token> {
        let doing = format!("get a token from `{}`", oauth::shown(&grant.url));
        let fetched = in_time(&doing, TOKEN_MAX, async { oauth::fetch(&Http::open(http)?, grant).await });
        let token = fetched.map_err(in_kafkas_words)?;
        let claims = token.claims.unwrap_or_default();
        Ok(Token {
            value: token.value,
            ends_ms: millis(now + token.lasts.unwrap_or(LIFE_UNKNOWN)),
            principal: claims.sub.or_else(|| grant.id.clone()).unwrap_or_default(),
            extensions: self.extensions.clone(),
        })
    }

    /// A token by itself, or as a token server answers: programs print the one or the other.
    fn of_text(&self, text: &str, now: SystemTime) -> Result<Token> {
        let text = text.trim();
        let (value, lasts, claims) = match text.starts_with('{') {
            true => oauth::answered(text.as_bytes()).ok_or_else(|| self.unusable("it is JSON without an `access_token`"))?,
            false => (text.to_owned(), None, oauth::claims(text)),
        };
        let claims = claims.unwrap_or_default();
        let at = |seconds: f64| SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
        // What was printed may have been kept for a while: then the token itself knows better.
        let ends = [lasts.and_then(|lasts| now.checked_add(lasts)), claims.exp.and_then(at)].into_iter().flatten().min();
        Ok(Token {
            value,
            ends_ms: millis(ends.unwrap_or(now + LIFE_UNKNOWN)),
            principal: claims.sub.unwrap_or_else(|| "tidegate".into()),
            extensions: self.extensions.clone(),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("ends_ms", &self.ends_ms).field("principal", &self.principal).finish_non_exhaustive()
    }
}

impl fmt::Debug for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { grant, .. } => grant.fmt(f),
            Self::Given(secret) => secret.fmt(f),
            Self::Aws { chain, region } => f.debug_struct("Aws").field("chain", chain).field("region", region).finish(),
        }
    }
}

/// Where the brokers of MSK are, by their names: `b-1.NAME.ID.c2.kafka.REGION.amazonaws.com:9098`.
fn region_of(brokers: &str) -> Option<String> {
    let host = brokers.split([',', ':']).next()?;
    let (_, rest) = host.split_once(".kafka.").or_else(|| host.split_once(".kafka-serverless."))?;
    rest.contains(".amazonaws.com").then(|| rest.split('.').next().unwrap_or_default().to_owned())
}

/// What MSK takes for a token: a request to its own address, signed in the query, in base64.
fn msk_token(credentials: &Credentials, region: &str, now: SystemTime) -> Result<Token> {
    let url = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let request = aws::Request { method: "GET", url: &url, headers: &[], body: &[] };
    let scope = aws::Scope { region, service: "kafka-cluster" };
    let mut url = aws::presign(&request, scope, credentials, now, MSK_LIFE)?;
    // Not signed; AWS's own libraries add it after the signature too.
    url.query_pairs_mut().append_pair("User-Agent", concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    Ok(Token {
        value: URL_SAFE_NO_PAD.encode(url.as_str()),
        ends_ms: millis(now + MSK_LIFE),
        principal: credentials.access_key_id().to_owned(),
        extensions: Vec::new(),
    })
}

/// What librdkafka can do by itself when it has an HTTP client, and we cannot.
fn refuse_others(properties: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in properties {
        let is_other = match name.as_str() {
            METHOD => !matches!(value.as_str(), "default" | "oidc"),
            "sasl.oauthbearer.grant.type" => value != CLIENT_CREDENTIALS,
            "sasl.oauthbearer.metadata.authentication.type" => value != "none",
            "https.ca.pem" => true,
            name => name.starts_with("sasl.oauthbearer.assertion."),
        };
        if is_other {
            let hint = match name.as_str() {
                "https.ca.pem" => "put the certificates into a file, and name it by `https.ca.location`".to_owned(),
                _ => format!("tokens come by client credentials, or from `{TOKEN} = \"command:PROGRAM ARGUMENTS\"`"),
            };
            return Err(Error::setup(format!("`{name}` asks for a way to a token that is not built into tidegate"), hint));
        }
    }
    Ok(())
}

/// As librdkafka reads them: `name=value`, separated by commas.
fn extensions(text: &str) -> Result<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let fits = !name.is_empty() && name != "auth" && name.chars().all(|c| c.is_ascii_alphabetic());
        fits.then(|| (name.to_owned(), value.to_owned()))
    };
    let read: Option<_> = parts.map(pair).collect();
    read.ok_or_else(|| {
        Error::setup(
            "`sasl.oauthbearer.extensions` is not a list of extensions",
            "write `name=value`, separated by commas; names are letters, and not `auth`",
        )
    })
}

/// The token server's room speaks of a catalog's properties.
fn in_kafkas_words(error: Error) -> Error {
    match error {
        Error::Setup { what, .. } => {
            Error::setup(what, "is `sasl.oauthbearer.token.endpoint.url` right? it names the token server whole, with its path")
        }
        Error::Denied { doing, source } => Error::denied(
            doing,
            source.to_string(),
            "do `sasl.oauthbearer.client.id`, `.client.secret` and `.scope` fit what the token server knows? for an address of its \
             own authority `https.ca.location` names that",
        ),
        other => other,
    }
}

/// Waits here: librdkafka's thread has nothing else to do. But no longer than this: whoever ends the client waits for that thread.
fn in_time<T>(doing: &str, within: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::unavailable(doing, error))?;
    let outcome = runtime.block_on(async { tokio::time::timeout(within, work).await });
    // Dropped, it would wait for a program, or for a look-up of a name, that nobody waits for any more.
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::unavailable(doing, format!("no answer within {} s", within.as_secs()))),
    }
}

#[expect(clippy::disallowed_methods, reason = "a token ends at a moment of the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Since the epoch.
fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
