//! HTTP to a store, request by request: counts what really goes out, retries of the client's own included, and tells of trouble.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector};
use object_store::{BackoffConfig, ClientOptions, Result, RetryConfig};

use super::meter::{Counts, Kind};

/// How long and how often the client tries a request again that a store did not answer, or answered with 408, 429 or 5xx. Shorter
/// than what credentials last at least, since a request is signed once.
pub(super) const RETRY_MAX: usize = 8;
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(15), base: 2. };
    RetryConfig { backoff, max_retries: RETRY_MAX, retry_timeout: RETRY_TIMEOUT }
}

/// Attempts made for one write. Travels with the request through the client's retries.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    pub(super) fn made(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes clients whose requests are counted.
#[derive(Clone)]
pub(super) struct Connector {
    counts: Arc<Counts>,
}

impl Connector {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self { counts }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Counted { client, counts: Arc::clone(&self.counts) }))
    }
}

struct Counted {
    client: HttpClient,
    counts: Arc<Counts>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

#[async_trait]
impl HttpService for Counted {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if let Some(attempts) = request.extensions().get::<Attempts>() {
            attempts.0.fetch_add(1, Ordering::Relaxed);
        }
        let (kind, method) = (kind(&request), request.method().clone());
        // Never the query: it can hold a signature.
        let at = format!("{}{}", request.uri().authority().map_or("", |at| at.as_str()), request.uri().path());
        self.counts.sent(kind, u64::try_from(request.body().content_length()).unwrap_or(u64::MAX));
        let mut answer = self.client.execute(request).await;
        match &mut answer {
            // What a store does not know it will not know in a second either, but the client tries every 5xx again.
            Ok(answer) if answer.status().as_u16() == 501 => {
                *answer.status_mut() = reqwest::StatusCode::METHOD_NOT_ALLOWED;
            }
            Ok(answer) if matches!(answer.status().as_u16(), 408 | 429 | 500..) => {
                self.counts.failed();
                tracing::info!(status = answer.status().as_u16(), %method, at, "a store asks to try again");
            }
            Ok(answer) if answer.status().is_success() && kind == Kind::Get => {
                let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
                self.counts.received(length.unwrap_or(0));
            }
            Ok(_) => {}
            Err(error) => {
                self.counts.failed();
                tracing::info!(%error, %method, at, "a store did not answer");
            }
        }
        answer
    }
}

fn kind(request: &HttpRequest) -> Kind {
    let query = request.uri().query().unwrap_or_default();
    let asks = |name: &str| query.split('&').any(|pair| pair == name || pair.split_once('=').is_some_and(|(key, _)| key == name));
    match request.method().as_str() {
        "HEAD" => Kind::Head,
        "GET" if asks("list-type") || query.contains("comp=list") => Kind::List,
        "GET" => Kind::Get,
        "DELETE" => Kind::Delete,
        // Both delete many at once.
        "POST" if asks("delete") || query.contains("comp=batch") => Kind::Delete,
        _ => Kind::Put,
    }
}
