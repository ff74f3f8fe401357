//! OAuth 2 client credentials: a token that is fetched when first needed and again before it ends.
//!
//! Never writes a secret or a token into a message or a debug form.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::error::{BoxError, Error, Result};
use crate::http::{Answer, Http, Patience, Request};

/// A token is fetched anew this long before it ends, or at three quarters of a short life.
const EARLY_MAX: Duration = Duration::from_secs(60);

/// No clock can tell the end of some lives that servers name.
const LIFE_MAX: Duration = Duration::from_hours(87_600);

/// Characters of a server's words that go into a message.
const WORDS_MAX: usize = 300;

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// Id and secret are fields of the form, as Iceberg's specification has it.
    Form,
    /// HTTP Basic, as RFC 6749 prefers.
    Basic,
}

/// What is asked of a token server.
#[derive(Clone)]
pub(crate) struct ClientCredentials {
    /// The token server.
    pub(crate) url: Url,
    /// Some servers know a client by its secret alone.
    pub(crate) id: Option<String>,
    /// The secret.
    pub(crate) secret: String,
    /// Scopes, separated by spaces.
    pub(crate) scope: Option<String>,
    /// Further fields of the form, as `audience` and `resource`.
    pub(crate) fields: Vec<(String, String)>,
    /// Where id and secret go.
    pub(crate) auth: ClientAuth,
}

/// A token.
#[derive(Clone)]
pub(crate) struct Token {
    /// What goes behind `Bearer`.
    pub(crate) value: String,
    /// How long it lasts from the moment it was asked for; none where neither server nor token says.
    pub(crate) lasts: Option<Duration>,
    /// The claims of a token that is a JWT.
    pub(crate) claims: Option<Claims>,
}

/// What a JWT says about itself. Its signature is for the server to check.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    /// Whom it is about.
    pub(crate) sub: Option<String>,
    /// When it was made, seconds since the epoch.
    pub(crate) iat: Option<f64>,
    /// When it ends, seconds since the epoch.
    pub(crate) exp: Option<f64>,
}

/// One client's token, kept for as long as it lasts.
pub(crate) struct Tokens {
    http: Http,
    grant: ClientCredentials,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    value: String,
    until: Option<Instant>,
}

impl Tokens {
    /// With no token yet.
    pub(crate) fn new(http: Http, grant: ClientCredentials) -> Self {
        Self { http, grant, kept: Mutex::new(None) }
    }

    /// The token, fetched where there is none or it is about to end.
    pub(crate) async fn token(&self) -> Result<String> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until.is_none_or(|until| Instant::now() < until)) {
            return Ok(kept.value.clone());
        }
        let asked = Instant::now();
        let token = fetch(&self.http, &self.grant).await?;
        let until = token.lasts.map(|lasts| asked + lasts - EARLY_MAX.min(lasts / 4));
        *kept = Some(Kept { value: token.value.clone(), until });
        Ok(token.value)
    }

    /// Forgets a token that a server refused, unless another one was fetched since.
    pub(crate) async fn forget(&self, refused: &str) {
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.value == refused) {
            *kept = None;
        }
    }
}

/// Asks the token server once, waiting where it says "later".
pub(crate) async fn fetch(http: &Http, grant: &ClientCredentials) -> Result<Token> {
    let doing = || format!("get a token from `{}`", shown(&grant.url));
    let request = grant.request();
    let mut patience = Patience::default();
    let answer = loop {
        match http.send(&request).await {
            Ok(answer) if patience.later(&answer).await => {}
            Ok(answer) => break answer,
            Err(silence) if patience.unreached(&silence).await => {}
            Err(silence) => return Err(silence.into_error(doing())),
        }
    };
    if answer.is_success() {
        return read(&answer).ok_or_else(|| {
            Error::setup(
                format!("`{}` answered without a token", shown(&grant.url)),
                "is it a token server? `oauth2-server-uri` names it whole, with its path",
            )
        });
    }
    let said = BoxError::from(said(&answer, &grant.secret));
    match answer.status {
        // RFC 6749: a wrong client or scope is 400 or 401.
        400 | 401 | 403 => Err(Error::Denied { doing: doing(), source: said }),
        300..500 if !matches!(answer.status, 408 | 425 | 429) => Err(Error::setup(
            format!("could not {}: {said}", doing()),
            "is `oauth2-server-uri` right? it names the token server whole, with its path",
        )),
        _ => Err(Error::Unavailable { doing: doing(), source: said }),
    }
}

impl ClientCredentials {
    fn request(&self) -> Request {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let mut headers = vec![
            ("accept".to_owned(), "application/json".to_owned()),
            ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
        ];
        match self.auth {
            ClientAuth::Form => {
                form.extend_pairs(self.id.iter().map(|id| ("client_id", id)));
                form.append_pair("client_secret", &self.secret);
            }
            ClientAuth::Basic => {
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(self.id.as_deref().unwrap_or_default()), encoded(&self.secret));
                headers.push(("authorization".to_owned(), format!("Basic {}", STANDARD.encode(pair))));
            }
        }
        form.extend_pairs(self.scope.iter().map(|scope| ("scope", scope)));
        form.extend_pairs(&self.fields);
        Request { method: Method::POST, url: self.url.clone(), headers, body: Bytes::from(form.finish()) }
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").field("url", &shown(&self.url)).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// The claims of a JWT; none where the token is something else.
pub(crate) fn claims(token: &str) -> Option<Claims> {
    let claims = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()
}

/// An address as it may stand in a message: without user, password and query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // They fail on addresses that have no host, and so none of these.
    let _no_user = url.set_username("");
    let _no_password = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What a token server answers: a token, how long it is said to last, its claims where it is a JWT.
pub(crate) fn answered(body: &[u8]) -> Option<(String, Option<Duration>, Option<Claims>)> {
    #[derive(Deserialize)]
    struct Body {
        access_token: String,
        expires_in: Option<serde_json::Value>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    // Some servers, as Azure's first version, write the number as text.
    let seconds = body.expires_in.and_then(|life| life.as_f64().or_else(|| life.as_str()?.trim().parse().ok()));
    let lasts = seconds.and_then(lasting);
    let claims = claims(&body.access_token);
    Some((body.access_token, lasts, claims))
}

fn lasting(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok().map(|lasts| lasts.min(LIFE_MAX))
}

fn read(answer: &Answer) -> Option<Token> {
    let (value, lasts, claims) = answered(&answer.body)?;
    let life = || claims.as_ref().and_then(|claims| lasting(claims.exp? - claims.iat?));
    let lasts = lasts.or_else(life);
    Some(Token { value, lasts, claims })
}

/// What a token server says about a refusal: RFC 6749's fields, or Iceberg's, or the beginning of whatever it sent.
fn said(answer: &Answer, secret: &str) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: serde_json::Value,
        error_description: Option<String>,
    }
    let words = match serde_json::from_slice::<Body>(&answer.body) {
        Ok(Body { error: serde_json::Value::String(error), error_description: Some(description) }) => {
            format!("{error}: {description}")
        }
        Ok(Body { error: serde_json::Value::String(error), .. }) => error,
        Ok(Body { error, .. }) => error.get("message").and_then(|message| message.as_str()).unwrap_or_default().to_owned(),
        Err(_) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
    };
    // Some servers repeat what they were sent; a secret that was cut in two would not be found any more.
    let forms = [secret.to_owned(), byte_serialize(secret.as_bytes()).collect()];
    let masked = forms.iter().filter(|form| !form.is_empty()).fold(words, |words, form| words.replace(form, "***"));
    let words: String = masked.chars().take(WORDS_MAX).collect();
    match words.is_empty() {
        true => format!("the server answered {}", answer.status),
        false => format!("the server answered {}: {words}", answer.status),
    }
}

#[cfg(test)]
mod tests;
