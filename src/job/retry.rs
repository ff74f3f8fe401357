//! How often, after which waits and for how long a commit is tried again.

use std::pin::Pin;
use std::time::Duration;

use iceberg::spec::TableMetadata;
use sha2::{Digest, Sha256};
use tokio::time::{Sleep, sleep, timeout};

use crate::clean::RETRY_MAX;
use crate::job::ATTEMPTS_PER_REDO;

/// `commit.retry.*` of the table, as Java; counts what is left of it.
pub(super) struct Retry {
    left: u32,
    tried: u32,
    min_wait: Duration,
    max_wait: Duration,
    /// Ends when all attempts together took too long.
    patience: Pin<Box<Sleep>>,
}

impl Retry {
    /// The time for all attempts begins now.
    pub(super) fn of(metadata: &TableMetadata) -> Self {
        let number =
            |key: &str, default: u64| metadata.properties().get(key).and_then(|value| value.parse().ok()).unwrap_or(default);
        let total = Duration::from_millis(number("commit.retry.total-timeout-ms", 1_800_000));
        Self {
            // The first attempt and one that is not counted have numbers, too.
            left: u32::try_from(number("commit.retry.num-retries", 4)).unwrap_or(4).min(ATTEMPTS_PER_REDO - 2),
            tried: 0,
            min_wait: Duration::from_millis(number("commit.retry.min-wait-ms", 100)),
            max_wait: Duration::from_millis(number("commit.retry.max-wait-ms", 60_000)),
            patience: Box::pin(sleep(total.min(RETRY_MAX))),
        }
    }

    /// Waits until it is time for another attempt; `false` where none is left, or no time for one.
    pub(super) async fn again(&mut self, run: &[u8]) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.tried += 1;
        let wait = self.wait(run, self.tried);
        timeout(wait, self.patience.as_mut()).await.is_err()
    }

    /// Doubles on each attempt; the jitter comes from the run's UUID, so that two runs do not keep step.
    fn wait(&self, run: &[u8], attempt: u32) -> Duration {
        let full = self.min_wait.saturating_mul(1 << attempt.min(16).saturating_sub(1)).min(self.max_wait);
        let digest = Sha256::new().chain_update(run).chain_update(attempt.to_be_bytes()).finalize();
        full.mul_f64(0.5 + f64::from(digest[0]) / 512.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::live::testing::{TestTable, column, schema_of};

    fn retry(properties: [(&str, &str); 4]) -> Retry {
        let schema = schema_of(vec![column(1, "id", iceberg::spec::PrimitiveType::String, true)]);
        let mut table = TestTable::unpartitioned(iceberg::spec::FormatVersion::V2, schema);
        let properties: HashMap<_, _> = properties.map(|(key, value)| (format!("commit.retry.{key}"), value.to_owned())).into();
        table.alter(|builder| builder.set_properties(properties));
        Retry::of(&table.metadata)
    }

    async fn attempts(mut retry: Retry) -> u32 {
        let mut attempts = 1;
        while retry.again(b"run").await {
            attempts += 1;
        }
        attempts
    }

    #[tokio::test]
    async fn attempts_end_with_their_number() {
        let waits = [("min-wait-ms", "0"), ("max-wait-ms", "0")];
        assert_eq!(attempts(retry([("num-retries", "6"), ("total-timeout-ms", "60000"), waits[0], waits[1]])).await, 7);
        assert_eq!(attempts(retry([("num-retries", "0"), ("total-timeout-ms", "60000"), waits[0], waits[1]])).await, 1);
    }

    #[tokio::test]
    async fn attempts_end_with_their_time() {
        let made =
            attempts(retry([("num-retries", "90000"), ("total-timeout-ms", "200"), ("min-wait-ms", "20"), ("max-wait-ms", "20")]));
        let made = made.await;
        assert!((2..20).contains(&made), "{made}");
    }
}
