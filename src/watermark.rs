//! How far event time has come: which records are late, which lie in the future, and where the next batch is judged from.
//!
//! Pure. The watermark never moves back, and no record is late only because its partition was read more slowly than another.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::offsets::{Offset, Offsets, Partition};

/// The verdict on one event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Neither late nor in the future.
    InTime,
    /// Older than the watermark that the previous batch left.
    Late,
    /// Too far past the clock: must not move the watermark.
    Future,
}

/// Judges the event times of one batch. Times are µs since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Judge {
    /// Watermark that the previous batch left; before the first there is no late record.
    pub watermark: Option<i64>,
    /// Start time of the run.
    pub now: i64,
    /// How far an event time may lie ahead of the clock, µs.
    pub max_future: i64,
}

impl Judge {
    /// Judges one event time; `broker_time` is the record's timestamp where the broker set it (LogAppendTime).
    pub fn judge(&self, event_time: i64, broker_time: Option<i64>) -> Verdict {
        let clock = broker_time.unwrap_or(self.now);
        if event_time > clock.saturating_add(self.max_future) {
            Verdict::Future
        } else if self.watermark.is_some_and(|watermark| event_time < watermark) {
            Verdict::Late
        } else {
            Verdict::InTime
        }
    }
}

/// What the watermark after a batch is made from.
#[derive(Debug)]
pub struct Advance<'a> {
    /// Watermark before the batch.
    pub watermark: Option<i64>,
    /// Highest event time per partition, this batch included.
    pub max_event_time: &'a BTreeMap<Partition, i64>,
    /// Committed ends of the batch.
    pub ends: &'a Offsets,
    /// High watermarks seen at plan; none where the partition could not be asked.
    pub high_watermarks: &'a BTreeMap<Partition, Option<Offset>>,
    /// How far the watermark stays behind.
    pub delay: Duration,
}

/// The watermark that the batch leaves: the lowest of the highest event times over the partitions that are not caught up, or the
/// highest of all when every one is; minus the delay; never back.
pub fn advance(input: &Advance<'_>) -> Option<i64> {
    let behind: Vec<Partition> = input
        .high_watermarks
        .iter()
        .filter(|(partition, high)| high.is_none_or(|high| input.ends.get(partition).is_none_or(|&end| end < high)))
        .map(|(&partition, _)| partition)
        .collect();
    let reached = if behind.is_empty() {
        input.max_event_time.values().copied().max()
    } else {
        // A partition without an event time yet could bring any: `min` over `None` keeps the watermark where it is.
        behind.iter().map(|partition| input.max_event_time.get(partition).copied()).min().flatten()
    };
    let delay = i64::try_from(input.delay.as_micros()).unwrap_or(i64::MAX);
    input.watermark.max(reached.map(|time| time.saturating_sub(delay)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn advanced(watermark: Option<i64>, partitions: &[(Option<i64>, bool)]) -> Option<i64> {
        let max_event_time = (0..).zip(partitions).filter_map(|(p, (time, _))| Some((p, (*time)?))).collect();
        let ends = (0..).zip(partitions).map(|(p, (_, caught_up))| (p, if *caught_up { 10 } else { 9 })).collect();
        let high_watermarks = (0..).zip(partitions).map(|(p, _)| (p, Some(10))).collect();
        advance(&Advance {
            watermark,
            max_event_time: &max_event_time,
            ends: &ends,
            high_watermarks: &high_watermarks,
            delay: Duration::from_micros(5),
        })
    }

    #[test]
    fn it_follows_the_slowest_partition_until_all_are_caught_up() {
        for (watermark, partitions, expected) in [
            (None, &[(Some(100), true), (Some(50), true)][..], Some(95)),
            (None, &[(Some(100), true), (Some(50), false)], Some(45)),
            (None, &[(Some(100), true), (None, false)], None),
            (None, &[(Some(100), true), (None, true)], Some(95)),
            (Some(60), &[(Some(100), true), (Some(50), false)], Some(60)),
            (Some(60), &[(None, true)], Some(60)),
            (None, &[], None),
        ] {
            assert_eq!(advanced(watermark, partitions), expected, "{watermark:?} {partitions:?}");
        }
    }

    #[test]
    fn an_unreachable_partition_is_not_caught_up() {
        let input = Advance {
            watermark: None,
            max_event_time: &BTreeMap::from([(0, 100), (1, 20)]),
            ends: &Offsets::from([(0, 10), (1, 10)]),
            high_watermarks: &BTreeMap::from([(0, Some(10)), (1, None)]),
            delay: Duration::ZERO,
        };
        assert_eq!(advance(&input), Some(20));
    }

    #[test]
    fn judging_takes_the_brokers_clock_where_there_is_one() {
        let judge = Judge { watermark: Some(50), now: 100, max_future: 10 };
        for (event_time, broker_time, expected) in [
            (49, None, Verdict::Late),
            (50, None, Verdict::InTime),
            (110, None, Verdict::InTime),
            (111, None, Verdict::Future),
            (111, Some(101), Verdict::InTime),
            (100, Some(80), Verdict::Future),
        ] {
            assert_eq!(judge.judge(event_time, broker_time), expected, "{event_time} {broker_time:?}");
        }
        assert_eq!(Judge { watermark: None, ..judge }.judge(i64::MIN, None), Verdict::InTime);
    }

    proptest! {
        #[test]
        fn it_never_moves_back(watermark in prop::option::of(0..200_i64), partitions in prop::collection::vec((prop::option::of(0..200_i64), any::<bool>()), 0..5)) {
            prop_assert!(advanced(watermark, &partitions) >= watermark);
        }
    }
}
