//! Requests to one REST catalog: who asks, how often, and what a silence means.
//!
//! A request is sent again where the server cannot have acted on it (no connection, 429, 503, a token that ended), where it changes
//! nothing, or where it carries an `Idempotency-Key`, always the same bytes with the same key. All of it is bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use uuid::Uuid;

use super::wire::{ErrorAnswer, ErrorModel};
use crate::aws;
use crate::error::{BoxError, Error, Result};
use crate::http::{Answer, Http, Patience, Request, Silence};
use crate::oauth::{Tokens, shown};

/// Characters of a server's words that go into a message.
const WORDS_MAX: usize = 500;

/// Who asks.
pub(super) enum Auth {
    /// Nobody in particular.
    None,
    /// The bearer of a token that does not change.
    Token(String),
    /// The bearer of tokens that are fetched.
    Tokens(Box<Tokens>),
    /// Whoever has these keys of AWS.
    Aws(Box<Signer>),
}

/// Signs each request as AWS wants it.
pub(super) struct Signer {
    pub(super) keys: aws::Chain,
    pub(super) region: String,
    pub(super) service: String,
}

/// A server and who asks it.
pub(super) struct Client {
    pub(super) http: Http,
    pub(super) auth: Auth,
    /// Ends with `/`.
    pub(super) base: Url,
    /// Sent with every request; names in lowercase.
    pub(super) headers: BTreeMap<String, String>,
}

/// One request, before it is addressed and signed.
#[derive(Clone)]
pub(super) struct Ask {
    method: Method,
    path: String,
    body: Option<Bytes>,
    key: Option<Uuid>,
    delegation: bool,
    bearer: Option<String>,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Fate {
    /// Answered. `unsure`: an earlier sending of it may have been acted on, so that a refusal may be due to its own success.
    Answered { answer: Answer, unsure: bool },
    /// Not answered. `unsure`: it may have been acted on, or still be.
    Unanswered { error: Error, unsure: bool },
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, key: None, delegation: false, bearer: None }
    }

    /// A request that changes something; with a `key` the server tells its repetitions.
    pub(super) fn post(path: impl Into<String>, body: &impl Serialize, key: Option<Uuid>) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|e| Error::broken(format!("a request to the catalog is no JSON: {e}")))?;
        Ok(Self { method: Method::POST, path: path.into(), body: Some(body.into()), key, delegation: false, bearer: None })
    }

    /// The same with the wish for credentials to the table's store.
    pub(super) fn delegated(self) -> Self {
        Self { delegation: true, ..self }
    }

    /// The same by the bearer of a token for this table alone.
    pub(super) fn bearing(self, bearer: Option<String>) -> Self {
        Self { bearer, ..self }
    }

    fn may_be_repeated(&self) -> bool {
        self.method == Method::GET || self.key.is_some()
    }
}

impl Client {
    /// Sends a request until it is answered for good, or patience ends.
    pub(super) async fn send(&self, ask: &Ask) -> Fate {
        let (mut patience, mut unsure, mut renewed) = (Patience::default(), false, false);
        loop {
            let (request, token) = match self.request(ask).await {
                Ok(made) => made,
                Err(error) => return Fate::Unanswered { error, unsure },
            };
            match self.http.send(&request).await {
                Ok(answer) if matches!(answer.status, 401 | 419) && !renewed && self.renew(token.as_deref()).await => {
                    renewed = true
                }
                Ok(answer) if patience.later(&answer).await => {
                    // A gateway's own 503 says nothing of what the catalog behind it did.
                    unsure |= answer.status == 503 && model(&answer).is_none();
                }
                Ok(answer) if is_unclear(answer.status) && ask.may_be_repeated() && patience.again().await => unsure = true,
                Ok(answer) => return Fate::Answered { answer, unsure },
                Err(silence) if patience.unreached(&silence).await => {}
                Err(silence) if silence.sent && silence.may_pass() && ask.may_be_repeated() && patience.again().await => {
                    unsure = true
                }
                Err(silence) => {
                    unsure |= silence.sent;
                    return Fate::Unanswered { error: self.unanswered(silence), unsure };
                }
            }
        }
    }

    /// The answer to a question, as `doing` asks it. 404 in the catalog's own words is none.
    pub(super) async fn ask(&self, ask: &Ask, doing: impl Fn() -> String) -> Result<Option<Bytes>> {
        match self.send(ask).await {
            Fate::Answered { answer, .. } if answer.is_success() => Ok(Some(answer.body)),
            Fate::Answered { answer, .. } if answer.status == 404 && model(&answer).is_some() => Ok(None),
            Fate::Answered { answer, .. } => Err(self.refusal(doing(), &answer)),
            Fate::Unanswered { error, .. } => Err(error),
        }
    }

    /// The server's name in messages.
    pub(super) fn server(&self) -> String {
        shown(&self.base)
    }

    async fn request(&self, ask: &Ask) -> Result<(Request, Option<String>)> {
        let url = self.base.join(&ask.path).map_err(|e| Error::broken(format!("path `{}`: {e}", ask.path)))?;
        let mut headers = self.headers.clone();
        if !ask.delegation {
            headers.remove(DELEGATION);
        }
        headers.retain(|_, value| !value.is_empty());
        headers.insert("accept".into(), "application/json".into());
        if ask.body.is_some() {
            headers.insert("content-type".into(), "application/json".into());
        }
        if let Some(key) = ask.key {
            headers.insert("idempotency-key".into(), key.to_string());
        }
        let (mut token, body) = (None, ask.body.clone().unwrap_or_default());
        match (&ask.bearer, &self.auth) {
            (Some(bearer), _) | (None, Auth::Token(bearer)) => {
                headers.insert("authorization".into(), format!("Bearer {bearer}"));
            }
            (None, Auth::Tokens(tokens)) => {
                let fresh = tokens.token().await?;
                headers.insert("authorization".into(), format!("Bearer {fresh}"));
                token = Some(fresh);
            }
            (None, Auth::Aws(signer)) => headers.extend(signer.sign(&ask.method, &url, &headers, &body).await?),
            (None, Auth::None) => {}
        }
        Ok((Request { method: ask.method.clone(), url, headers: headers.into_iter().collect(), body }, token))
    }

    /// Whether another token can be had than the one that was refused.
    async fn renew(&self, refused: Option<&str>) -> bool {
        let (Auth::Tokens(tokens), Some(refused)) = (&self.auth, refused) else { return false };
        tokens.forget(refused).await;
        true
    }

    fn unanswered(&self, silence: Silence) -> Error {
        let verb = if silence.sent { "get an answer from" } else { "connect to" };
        silence.into_error(format!("{verb} the catalog at `{}`", self.server()))
    }

    /// A refusal as an error that says who acts. `doing`: present-tense verb and object.
    pub(super) fn refusal(&self, doing: String, answer: &Answer) -> Error {
        let said = said(answer);
        let at = self.server();
        match answer.status {
            401 | 403 | 419 => Error::Denied { doing: format!("{doing} at `{at}`"), source: BoxError::from(said) },
            408 | 425 | 429 | 500 | 502.. => {
                Error::Unavailable { doing: format!("{doing} at `{at}`"), source: BoxError::from(said) }
            }
            300..=399 => {
                let to = answer.header("location").and_then(|to| self.base.join(to).ok()).map(|to| shown(&to));
                Error::setup(
                    format!("could not {doing}: `{at}` sends elsewhere{}", to.map(|to| format!(", to `{to}`")).unwrap_or_default()),
                    "`catalog.uri` must name the catalog itself: redirects are not followed, as a commit would be lost on the way",
                )
            }
            404 if model(answer).is_none() => Error::setup(
                format!("could not {doing}: there is no Iceberg REST catalog at `{at}`: {said}"),
                "is `catalog.uri` right? what follows it begins with `/v1/`, so it ends before that",
            ),
            _ => Error::setup(
                format!("could not {doing} at `{at}`: {said}"),
                "the server understood the request and will not do it; its words say why",
            ),
        }
    }

    /// An answer that is not what the specification says.
    pub(super) fn odd(&self, doing: &str, why: impl fmt::Display) -> Error {
        Error::setup(
            format!("could not {doing}: `{}` gave an answer that tidegate cannot read: {why}", self.server()),
            "does `catalog.uri` name an Iceberg REST catalog?",
        )
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, doing: &str, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|e| self.odd(doing, e))
    }
}

impl Signer {
    /// The headers of a signature over the request.
    async fn sign(
        &self,
        method: &Method,
        url: &Url,
        headers: &BTreeMap<String, String>,
        body: &[u8],
    ) -> Result<Vec<(String, String)>> {
        let keys = self.keys.credentials().await?;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = aws::Request { method: method.as_str(), url: url.as_str(), headers: &headers, body };
        #[expect(clippy::disallowed_methods, reason = "a signature is good for minutes from now")]
        let now = SystemTime::now();
        aws::sign(&request, aws::Scope { region: &self.region, service: &self.service }, &keys, now)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server()).finish_non_exhaustive()
    }
}

/// The header that asks for credentials to a table's store.
pub(super) const DELEGATION: &str = "x-iceberg-access-delegation";

/// Statuses that leave open whether the request was acted on. 501 says that the server does not know how.
pub(super) fn is_unclear(status: u16) -> bool {
    matches!(status, 408 | 500..) && !matches!(status, 501 | 503)
}

/// The catalog's own words, if the answer is its own.
pub(super) fn model(answer: &Answer) -> Option<ErrorModel> {
    serde_json::from_slice::<ErrorAnswer>(&answer.body).ok().map(|answer| answer.error)
}

/// What an answer that is no success says.
pub(super) fn said(answer: &Answer) -> String {
    let words = match model(answer) {
        Some(ErrorModel { message, kind }) => [kind, message].into_iter().flatten().collect::<Vec<_>>().join(": "),
        None => String::from_utf8_lossy(&answer.body).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let words: String = words.chars().take(WORDS_MAX).collect();
    match words.is_empty() {
        true => format!("the server answered {}", answer.status),
        false => format!("the server answered {}: {words}", answer.status),
    }
}
