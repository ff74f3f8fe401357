//! Sources of credentials that `object_store` does not have, or whose failure it does not explain.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::{BackoffConfig, CredentialProvider, Error, Result, RetryConfig};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::error::BoxError;
use crate::program::{self, COMMAND_MAX, Failure};

/// Credentials that end sooner than this are fetched again: a request and its retries must outlive them.
const LEFT_MIN: TimeDelta = TimeDelta::minutes(5);

/// How long to ask a source of credentials that fails.
pub(super) fn patience() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 3, retry_timeout: Duration::from_secs(15) }
}

/// A command that prints credentials (`credential_process`): JSON with `Version`, `AccessKeyId`, `SecretAccessKey`,
/// `SessionToken`, `Expiration`.
pub(super) struct Process {
    profile: String,
    command: String,
    last: Mutex<Option<Lent>>,
}

/// Credentials, and until when.
pub(super) struct Lent {
    pub(super) credential: Arc<AwsCredential>,
    pub(super) expires: Option<DateTime<Utc>>,
}

impl Lent {
    #[expect(clippy::disallowed_methods, reason = "whether credentials still last is a matter of the moment they are used in")]
    fn outlive(&self, left: TimeDelta) -> bool {
        self.expires.is_none_or(|expires| expires - Utc::now() > left)
    }
}

/// What is kept while it lasts, and asked for anew before it ends.
pub(super) async fn kept(last: &Mutex<Option<Lent>>, ask: impl Future<Output = Result<Lent>>) -> Result<Arc<AwsCredential>> {
    let mut last = last.lock().await;
    if let Some(lent) = last.as_ref().filter(|lent| lent.outlive(LEFT_MIN)) {
        return Ok(Arc::clone(&lent.credential));
    }
    let lent = match (ask.await, last.as_ref().filter(|lent| lent.outlive(TimeDelta::zero()))) {
        (Ok(lent), _) => lent,
        // Minutes are left: a source that is away for a moment need not stop the run.
        (Err(error), Some(lent)) => {
            tracing::warn!(%error, "could not get new AWS credentials; the last ones are about to expire");
            return Ok(Arc::clone(&lent.credential));
        }
        (Err(error), None) => return Err(error),
    };
    let credential = Arc::clone(&lent.credential);
    *last = Some(lent);
    Ok(credential)
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The command line may hold a secret.
        f.debug_struct("Process").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<DateTime<Utc>>,
}

impl Process {
    pub(super) fn new(profile: String, command: String) -> Self {
        Self { profile, command, last: Mutex::new(None) }
    }

    async fn ask(&self) -> Result<Printed> {
        let command = self.command.clone();
        let run = move || program::run(Command::new("sh").args(["-c", &command]), COMMAND_MAX);
        let printed = tokio::task::spawn_blocking(run).await.map_err(|join| self.failed(&join.to_string()))?;
        let printed = printed.map_err(|failure| match failure {
            Failure::NotStarted(error) => self.failed(&format!("it did not start: {error}")),
            Failure::Passing(why) => unavailable(self.words(&why).into()),
            Failure::Failed(why) => self.failed(&why),
        })?;
        // What serde says can repeat what was printed, which is secret.
        let printed: Printed = serde_json::from_slice(&printed).map_err(|e| {
            self.failed(&format!(
                "what it printed is not the JSON of a credential process (line {}, column {})",
                e.line(),
                e.column()
            ))
        })?;
        match printed.version {
            1 => Ok(printed),
            version => Err(self.failed(&format!("it printed version {version}; known is 1"))),
        }
    }

    fn failed(&self, why: &str) -> Error {
        denied(self.words(why))
    }

    fn words(&self, why: &str) -> String {
        format!("the `credential_process` of AWS profile `{}` failed: {why}", self.profile)
    }
}

#[async_trait]
impl CredentialProvider for Process {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let ask = async {
            let printed = self.ask().await?;
            let Printed { access_key_id: key_id, secret_access_key: secret_key, session_token: token, .. } = printed;
            Ok(Lent { credential: Arc::new(AwsCredential { key_id, secret_key, token }), expires: printed.expiration })
        };
        kept(&self.last, ask).await
    }
}

/// The instance's metadata, the last place to look. Where it never answered, the cause is most likely that nobody gave credentials.
#[derive(Debug)]
pub(super) struct Instance {
    provider: AwsCredentialProvider,
    answered: AtomicBool,
}

impl Instance {
    pub(super) fn new(provider: AwsCredentialProvider) -> Self {
        Self { provider, answered: AtomicBool::new(false) }
    }
}

#[async_trait]
impl CredentialProvider for Instance {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        match self.provider.get_credential().await {
            Ok(credential) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(credential)
            }
            Err(e) if self.answered.load(Ordering::Relaxed) => {
                // Within the error its words would be taken for a store's: no credentials at all, or a file that is not there.
                tracing::warn!(error = %e, "the instance's metadata gives no new AWS credentials");
                Err(unavailable("the instance's metadata, which gave credentials before, gives no new ones now".into()))
            }
            Err(e) => Err(denied(format!("{NOBODY}, and the instance's metadata has none: {e}"))),
        }
    }
}

/// For those who forbid to ask the instance.
#[derive(Debug)]
pub(super) struct Nowhere;

#[async_trait]
impl CredentialProvider for Nowhere {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        Err(denied(format!("{NOBODY}, and AWS_EC2_METADATA_DISABLED forbids to ask the instance")))
    }
}

const NOBODY: &str =
    "no AWS credentials: neither the job file, AWS_ACCESS_KEY_ID, web identity, a profile nor a container gives any";

pub(super) fn denied(why: String) -> Error {
    Error::Unauthenticated { path: String::from("AWS credentials"), source: why.into() }
}

/// A source that may answer another time.
pub(super) fn unavailable(source: BoxError) -> Error {
    Error::Generic { store: "AWS credentials", source }
}
