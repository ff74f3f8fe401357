//! What Kafka lost, hides or cannot tell: said as warnings, and planned around where the job says so.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::config::OnDataLoss;
use crate::error::Result;
use crate::job::Job;
use crate::offsets::{Offset, Offsets, Partition, PartitionBounds, TopicBounds};
use crate::plan::lost_range;
use crate::progress::Progress;
use crate::source::Source;

/// An open transaction older than this is warned of: what producers grant a transaction by default (`transaction.timeout.ms`). Its age
/// is that of its first record by the record's own timestamp, since no broker tells another to a plain consumer: a producer that
/// writes old timestamps is warned of too soon.
const HELD_LONG: Duration = Duration::from_secs(60);

impl<S: Source, C: Catalog> Job<'_, S, C> {
    /// Warns of what makes a plan less than it seems.
    pub(super) fn warn_of_plan(&self, state: Option<&Progress>, bounds: &TopicBounds, warnings: &mut Vec<String>) {
        if let Some(state) = state.filter(|state| state.topic_id.is_none() || bounds.topic_id.is_none()) {
            let side = if bounds.topic_id.is_none() { "the broker tells no id" } else { "the table's state holds no id" };
            let topic = &state.topic;
            add(
                warnings,
                format!("{side} of topic `{topic}`: only offsets and leader epochs can tell whether it was deleted and made again"),
            );
        }
        let open: Offsets = bounds.partitions.iter().filter_map(|(&p, b)| Some((p, open_at(b.as_ref()?)?))).collect();
        if open.is_empty() {
            return;
        }
        let long_ago = (self.run.now_ms)().saturating_sub(i64::try_from(HELD_LONG.as_millis()).unwrap_or(i64::MAX));
        match tokio::task::block_in_place(|| self.source.held_since_before(long_ago, &open)) {
            Ok(held) => held.iter().for_each(|partition| {
                let (seconds, offset) = (HELD_LONG.as_secs(), open[partition]);
                add(
                    warnings,
                    format!(
                        "partition {partition} is held at offset {offset} by a transaction that has been open for more than {seconds} s: \
                         what is behind it is read once it ends"
                    ),
                );
            }),
            Err(error) => tracing::debug!(%error, "how long transactions have been open is not known"),
        }
    }

    /// Whether a pull was refused because retention overtook it, and the job gives up what retention took.
    pub(super) fn may_skip(&self, starts: &Offsets) -> Result<bool> {
        if self.config.kafka.on_data_loss != OnDataLoss::Skip {
            return Ok(false);
        }
        let bounds = tokio::task::block_in_place(|| self.source.bounds())?;
        let gone = |(partition, start): (&Partition, &Offset)| matches!(bounds.partitions.get(partition), Some(Some(b)) if b.earliest > *start);
        Ok(starts.iter().any(gone))
    }
}

/// Warns of ranges that were given up: they are in the snapshot for good.
pub(super) fn warn_of_skips(skipped: &BTreeMap<Partition, (Offset, Offset)>, warnings: &mut Vec<String>) {
    for (&partition, &range) in skipped {
        add(warnings, format!("gone from Kafka and skipped: {}", lost_range(partition, range)));
    }
}

/// The offset of the first record of the oldest open transaction.
fn open_at(bounds: &PartitionBounds) -> Option<Offset> {
    (bounds.high_watermark > bounds.last_stable).then_some(bounds.last_stable)
}

/// A drain meets the same thing batch after batch.
fn add(warnings: &mut Vec<String>, warning: String) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}
