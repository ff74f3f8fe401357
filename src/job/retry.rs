//! How often and after which waits a commit is tried again.

use std::time::Duration;

use iceberg::spec::TableMetadata;
use sha2::{Digest, Sha256};

use crate::job::ATTEMPTS_PER_REDO;

/// `commit.retry.*` of the table, as Java.
pub(super) struct Retry {
    pub(super) retries: u32,
    min_wait: Duration,
    max_wait: Duration,
}

impl Retry {
    pub(super) fn of(metadata: &TableMetadata) -> Self {
        let number =
            |key: &str, default: u64| metadata.properties().get(key).and_then(|value| value.parse().ok()).unwrap_or(default);
        Self {
            retries: u32::try_from(number("commit.retry.num-retries", 4)).unwrap_or(4).min(ATTEMPTS_PER_REDO - 1),
            min_wait: Duration::from_millis(number("commit.retry.min-wait-ms", 100)),
            max_wait: Duration::from_millis(number("commit.retry.max-wait-ms", 60_000)),
        }
    }

    /// Doubles on each attempt; the jitter comes from the run's UUID, so that two runs do not keep step.
    pub(super) fn wait(&self, run: &[u8], attempt: u32) -> Duration {
        let full = self.min_wait.saturating_mul(1 << attempt.min(16).saturating_sub(1)).min(self.max_wait);
        let digest = Sha256::new().chain_update(run).chain_update(attempt.to_be_bytes()).finalize();
        full.mul_f64(0.5 + f64::from(digest[0]) / 512.0)
    }
}
