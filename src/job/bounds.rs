//! Asks the broker for the topic's bounds, and asks again where a first run meets an election.

use std::pin::pin;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::job::Job;
use crate::offsets::TopicBounds;
use crate::source::Source;

/// How soon to ask again.
const AGAIN: Duration = Duration::from_millis(250);

impl<S: Source, C: Catalog> Job<'_, S, C> {
    /// The bounds of the topic's partitions. `all`: of every one, as far as `stall_timeout` brings them; a first run pins every
    /// start. A later run leaves partitions without a leader to the next.
    pub(super) async fn bounds(&self, all: bool) -> Result<TopicBounds> {
        let mut patience = pin!(tokio::time::sleep(self.config.limits.stall_timeout));
        loop {
            let bounds = tokio::task::block_in_place(|| self.source.bounds())?;
            let whole = bounds.partitions.values().all(Option::is_some);
            if whole || !all || self.stop.requested().is_some() {
                return Ok(bounds);
            }
            // The patience ends first, or it is time to ask again.
            if tokio::time::timeout(AGAIN, patience.as_mut()).await.is_ok() {
                return Ok(bounds);
            }
        }
    }
}
