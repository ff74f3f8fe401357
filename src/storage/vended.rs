//! Credentials that a catalog vends for the files of a table, and asks anew for before they expire.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::gcp::GcpCredential;
use object_store::{CredentialProvider, Error};
use tokio::time::Instant;

use super::place::canonical;
use crate::error::Result;

/// Credentials are fetched anew when they last no longer than this: a request and its retries must not outlive them.
const LEFT_MIN: TimeDelta = TimeDelta::minutes(5);

/// How long a catalog that is away is left alone while what it vended is still good: each request to a store would wait for it.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Properties for all locations that begin with a prefix: those of a store (`s3.access-key-id`, `s3.session-token`,
/// `gcs.oauth2.token`, `adls.sas-token.ACCOUNT`, `s3.endpoint`, ...) and when they expire (`s3.session-token-expires-at-ms`,
/// `gcs.oauth2.token-expires-at`, `adls.sas-token-expires-at-ms.ACCOUNT`: ms since the epoch). They go before the job's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Vended {
    /// A location, or its beginning; empty for every location.
    pub prefix: String,
    /// By name.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for Vended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("Vended").field("prefix", &self.prefix).field("properties", &names).finish()
    }
}

/// Asks the catalog again.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Vended>>> + Send + Sync>;

/// What a catalog vended for one table.
pub(super) struct Lease {
    /// The table's location, in one spelling.
    table: String,
    granted: Mutex<Vec<Vended>>,
    /// Counts how often credentials came.
    age: AtomicU64,
    /// The age at which a store called them expired.
    expired_at: AtomicU64,
    refresh: Mutex<Refresh>,
    /// When a catalog that is away was last asked in vain; one request asks at a time.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(table: &str, granted: Vec<Vended>, refresh: Refresh) -> Self {
        Self {
            table: canonical(table).trim_end_matches('/').to_owned(),
            granted: Mutex::new(granted),
            age: AtomicU64::new(1),
            expired_at: AtomicU64::new(0),
            refresh: Mutex::new(refresh),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// Whether it is for the table at this location.
    pub(super) fn is_of(&self, table: &str) -> bool {
        self.table == canonical(table).trim_end_matches('/')
    }

    /// Takes what a later load of the table brought.
    pub(super) fn renew(&self, granted: Vec<Vended>, refresh: Refresh) {
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = refresh;
        self.replace(granted);
    }

    fn replace(&self, granted: Vec<Vended>) {
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = granted;
        self.age.fetch_add(1, Ordering::AcqRel);
    }

    /// How well it fits a location: whether the location lies in the table, then the length of the longest prefix; and that prefix.
    pub(super) fn fit(&self, location: &str) -> Option<(bool, usize, String)> {
        let location = canonical(location);
        let inside = location.strip_prefix(&self.table).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = granted.iter().filter(|vended| location.starts_with(&canonical(&vended.prefix)));
        let best = fitting.max_by_key(|vended| vended.prefix.len())?;
        Some((inside, best.prefix.len(), best.prefix.clone()))
    }

    /// How many times credentials have come: what a caller remembers before a request.
    pub(super) fn age(&self) -> u64 {
        self.age.load(Ordering::Acquire)
    }

    /// A store called the credentials of this age expired: the next request fetches others.
    pub(super) fn expire(&self, age: u64) {
        self.expired_at.fetch_max(age, Ordering::AcqRel);
    }

    /// What is granted for a prefix now, without asking.
    pub(super) fn held(&self, prefix: &str) -> Option<BTreeMap<String, String>> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.iter().find(|vended| vended.prefix == prefix).map(|vended| vended.properties.clone())
    }

    /// What is granted for a prefix, fetched anew where it has expired or is about to.
    async fn current(&self, prefix: &str) -> Result<BTreeMap<String, String>, Error> {
        let gone = || failed(format!("the catalog vends no credentials for `{prefix}` any more"));
        if self.is_good(prefix) {
            return self.held(prefix).ok_or_else(gone);
        }
        let mut failed_at = self.refreshing.lock().await;
        let waits = failed_at.is_some_and(|at| at.elapsed() < ASK_AGAIN) && self.is_alive(prefix);
        if !waits && !self.is_good(prefix) {
            let refresh = Arc::clone(&self.refresh.lock().unwrap_or_else(PoisonError::into_inner));
            match refresh().await {
                Ok(granted) => {
                    *failed_at = None;
                    self.replace(granted);
                }
                // Five minutes are left: a catalog that is away for a moment need not stop the run.
                Err(error) if self.is_alive(prefix) => {
                    *failed_at = Some(Instant::now());
                    tracing::warn!(%error, "could not refresh vended credentials, which are about to expire");
                }
                Err(error) => return Err(Error::Generic { store: "vended credentials", source: error.into() }),
            }
        }
        self.held(prefix).ok_or_else(gone)
    }

    fn is_good(&self, prefix: &str) -> bool {
        self.outlives(prefix, LEFT_MIN)
    }

    fn is_alive(&self, prefix: &str) -> bool {
        self.outlives(prefix, TimeDelta::zero())
    }

    #[expect(clippy::disallowed_methods, reason = "whether credentials still last is a matter of the moment they are used in")]
    fn outlives(&self, prefix: &str, left: TimeDelta) -> bool {
        let refused = self.expired_at.load(Ordering::Acquire) >= self.age();
        let expires = self.held(prefix).and_then(|properties| expiry(&properties));
        !refused && expires.is_none_or(|expires| expires - Utc::now() > left)
    }
}

/// The first of the times at which properties say that they expire.
fn expiry(properties: &BTreeMap<String, String>) -> Option<DateTime<Utc>> {
    const NAMES: [&str; 3] = ["s3.session-token-expires-at-ms", "gcs.oauth2.token-expires-at", "adls.sas-token-expires-at-ms."];
    let times = properties.iter().filter(|(name, _)| NAMES.iter().any(|known| name.starts_with(known)));
    times.filter_map(|(_, ms)| DateTime::from_timestamp_millis(ms.parse().ok()?)).min()
}

fn failed(why: String) -> Error {
    Error::Unauthenticated { path: String::from("vended credentials"), source: why.into() }
}

/// The credentials of a lease for one prefix, in a cloud's own form.
#[derive(Debug)]
pub(super) struct Provider<T> {
    pub(super) lease: Arc<Lease>,
    pub(super) prefix: String,
    pub(super) convert: fn(&BTreeMap<String, String>) -> Option<T>,
}

#[async_trait]
impl<T: fmt::Debug + Send + Sync> CredentialProvider for Provider<T> {
    type Credential = T;

    async fn get_credential(&self) -> Result<Arc<T>, Error> {
        let properties = self.lease.current(&self.prefix).await?;
        let gone =
            || failed(format!("the credentials that the catalog vends for `{}` are not of this store any more", self.prefix));
        (self.convert)(&properties).map(Arc::new).ok_or_else(gone)
    }
}

pub(super) fn aws(properties: &BTreeMap<String, String>) -> Option<AwsCredential> {
    Some(AwsCredential {
        key_id: properties.get("s3.access-key-id")?.clone(),
        secret_key: properties.get("s3.secret-access-key")?.clone(),
        token: properties.get("s3.session-token").cloned(),
    })
}

pub(super) fn gcp(properties: &BTreeMap<String, String>) -> Option<GcpCredential> {
    Some(GcpCredential { bearer: properties.get("gcs.oauth2.token")?.clone() })
}

/// A shared access signature stands under the account's name, with or without its host, or under none.
pub(super) fn azure(properties: &BTreeMap<String, String>) -> Option<AzureCredential> {
    let signature = properties.iter().find(|(name, _)| *name == "adls.sas-token" || name.starts_with("adls.sas-token."));
    match signature {
        Some((_, signature)) => Some(AzureCredential::SASToken(query_pairs(signature))),
        None => Some(AzureCredential::BearerToken(properties.get("adls.token")?.clone())),
    }
}

/// The pairs of a signature, which is a query without its `?`. A `+` in it is one.
fn query_pairs(signature: &str) -> Vec<(String, String)> {
    let query = signature.trim_start_matches('?').replace('+', "%2B");
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_catalog_that_is_away_is_not_asked_for_each_request_while_what_it_vended_is_good() {
        #[expect(clippy::disallowed_methods, reason = "whether credentials still last is a matter of the moment they are used in")]
        let soon = (Utc::now() + TimeDelta::minutes(3)).timestamp_millis();
        let properties = BTreeMap::from([("s3.session-token-expires-at-ms".to_owned(), soon.to_string())]);
        let granted = vec![Vended { prefix: "s3://b".into(), properties }];
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let refresh: Refresh = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Err(crate::error::Error::unavailable("load the table", "gone")) }.boxed()
        });
        let lease = Lease::new("s3://b/t", granted.clone(), Arc::clone(&refresh));
        for _ in 0..3 {
            assert!(lease.current("s3://b").await.is_ok());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        *lease.refreshing.lock().await = Instant::now().checked_sub(ASK_AGAIN);
        assert!(lease.current("s3://b").await.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // What a store called expired is of no use, however long it was said to last.
        lease.expire(lease.age());
        assert!(lease.current("s3://b").await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
