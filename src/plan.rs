//! Decides which offsets one batch reads.
//!
//! Pure: no clock, no I/O, no async. Never reads past a partition's last stable offset and never leaves a gap after the state:
//! a gap is an error or, where the job says so, a range written down as skipped.

use std::collections::BTreeMap;

use crate::config::{Limits, OnDataLoss};
use crate::error::{Error, Result};
use crate::offsets::{Offset, OffsetRange, Offsets, Partition, PartitionBounds, TopicBounds, as_argument};
use crate::progress::Progress;
use crate::source::StartAt;

/// What a plan is made from.
#[derive(Debug)]
pub struct PlanInput<'a> {
    /// State of the job; none on the first run.
    pub state: Option<&'a Progress>,
    /// What the broker holds.
    pub bounds: &'a TopicBounds,
    /// Where partitions begin on the first run; one not named begins at its earliest.
    pub first_starts: &'a Offsets,
    /// Offsets of one batch over all partitions.
    pub max_offsets: u64,
    /// What a gap before the broker's earliest offset means.
    pub on_data_loss: OnDataLoss,
    /// Ends not to go past: those seen when `--drain` began.
    pub up_to: Option<&'a Offsets>,
}

/// What one batch reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For every partition ever known the offset at which the batch starts.
    pub starts: Offsets,
    /// What to read; only partitions with something to read.
    pub ranges: BTreeMap<Partition, StartAt>,
    /// Ranges given up: `[start, end)`.
    pub skipped: BTreeMap<Partition, (Offset, Offset)>,
    /// High watermarks seen now; none where the partition could not be asked.
    pub high_watermarks: BTreeMap<Partition, Option<Offset>>,
    /// Offsets between the starts and the last stable offsets.
    pub lag: u64,
    /// Whether this is the job's first batch, which commits even when there is nothing to read.
    pub first: bool,
    /// Partitions whose new offsets lie behind an open transaction.
    pub held: Vec<Partition>,
}

impl Plan {
    /// Whether there is nothing to commit: no range, no skip, and the starts are pinned already.
    pub fn is_empty(&self) -> bool {
        !self.first && self.ranges.is_empty() && self.skipped.is_empty()
    }

    /// Offsets that the batch reads.
    pub fn planned(&self) -> u64 {
        self.ranges.values().map(|at| at.range.len()).sum()
    }

    /// Where the partitions to read begin: the ends of a pull that came nowhere.
    pub fn starts_of_ranges(&self) -> Offsets {
        self.ranges.iter().map(|(&partition, at)| (partition, at.range.start())).collect()
    }

    /// Whether the batch is too small to be worth a snapshot (`min_offsets_per_trigger`), and the last one not long ago. `now` is µs
    /// since the epoch.
    pub fn is_too_little(&self, state: Option<&Progress>, limits: &Limits, now: i64) -> bool {
        let Some(state) = state else { return false };
        let delay = i64::try_from(limits.max_trigger_delay.as_micros()).unwrap_or(i64::MAX);
        self.lag < limits.min_offsets_per_trigger && now < state.planned_at.saturating_add(delay)
    }

    /// Offsets that a batch with these ends leaves behind.
    pub fn remaining(&self, ends: &Offsets) -> u64 {
        let read: i64 = self.starts.iter().map(|(p, start)| ends.get(p).map_or(0, |end| end - start)).sum();
        self.lag.saturating_sub(u64::try_from(read).unwrap_or(0))
    }
}

/// What a committed batch read, to be pulled a second time.
pub(crate) fn ranges_read(progress: &Progress) -> BTreeMap<Partition, StartAt> {
    let mut ranges = BTreeMap::new();
    for (&partition, &end) in &progress.end {
        let start = progress.start.get(&partition).copied().unwrap_or(end);
        let start = progress.skipped.get(&partition).map_or(start, |&(_, resumed)| resumed);
        // A summary may have been edited by hand.
        if 0 <= start && start < end {
            ranges.insert(partition, StartAt { range: OffsetRange::new(start, end), leader_epoch: None });
        }
    }
    ranges
}

/// Makes the plan, or says why the data forbids one.
pub fn plan(input: &PlanInput<'_>) -> Result<Plan> {
    if let Some(other) = input.state.and_then(|state| other_topic(state, input.bounds)) {
        return Err(other);
    }
    let mut plan = Plan {
        starts: Offsets::new(),
        ranges: BTreeMap::new(),
        skipped: BTreeMap::new(),
        high_watermarks: BTreeMap::new(),
        lag: 0,
        first: input.state.is_none(),
        held: Vec::new(),
    };
    let mut lags: BTreeMap<Partition, u64> = BTreeMap::new();
    for (&partition, bounds) in &input.bounds.partitions {
        plan.high_watermarks.insert(partition, bounds.map(|b| b.high_watermark));
        let known = input.state.and_then(|state| state.end.get(&partition).copied());
        let Some(bounds) = bounds else {
            // Nothing can be pinned for a partition that never answered; a known one keeps its place.
            match known {
                Some(next) => plan.starts.insert(partition, next),
                None if plan.first => return Err(unreachable_partition(partition, &input.bounds.topic)),
                None => None,
            };
            continue;
        };
        let start = start_of(input, partition, bounds, known)?;
        if let Some(lost_from) = known.filter(|&next| next < start) {
            plan.skipped.insert(partition, (lost_from, start));
        }
        plan.starts.insert(partition, start);
        let end = input.up_to.and_then(|ends| ends.get(&partition)).map_or(bounds.last_stable, |&end| end.min(bounds.last_stable));
        if end > start {
            lags.insert(partition, OffsetRange::new(start, end).len());
        } else if bounds.high_watermark > bounds.last_stable {
            plan.held.push(partition);
        }
    }
    if input.on_data_loss == OnDataLoss::Fail && !plan.skipped.is_empty() {
        return Err(lost(&plan.skipped, &input.bounds.topic));
    }
    plan.lag = lags.values().sum();
    for (partition, share) in shares(&lags, input.max_offsets) {
        let start = plan.starts[&partition];
        let end = start + i64::try_from(share).expect("a share is at most the lag");
        let leader_epoch = input.state.and_then(|state| state.leader_epochs.get(&partition).copied());
        let leader_epoch = leader_epoch.filter(|_| !plan.skipped.contains_key(&partition));
        plan.ranges.insert(partition, StartAt { range: OffsetRange::new(start, end), leader_epoch });
    }
    Ok(plan)
}

/// Why the topic is not the one that the state's offsets were counted in, if it is not: they must not be read with.
pub(crate) fn other_topic(state: &Progress, bounds: &TopicBounds) -> Option<Error> {
    if state.topic != bounds.topic {
        return Some(Error::refused(
            format!(
                "the table's state of job `{}` belongs to topic `{}`, the job file names `{}`",
                state.job, state.topic, bounds.topic
            ),
            "offsets of one topic mean nothing in another: name the old topic, give the new job another `name`, or let this one read \
             the new topic from its start with `tidegate reset JOB --to earliest --execute`",
        ));
    }
    if let (Some(old), Some(new)) = (&state.topic_id, &bounds.topic_id)
        && old != new
    {
        return Some(Error::refused(
            format!("topic `{}` was deleted and made again: its id was {old}, now it is {new}", state.topic),
            "the stored offsets belong to the old topic: `tidegate reset JOB --to earliest --execute` reads the new one from its start",
        ));
    }
    if let Some(gone) = state.end.keys().find(|partition| !bounds.partitions.contains_key(partition)) {
        return Some(Error::refused(
            format!("partition {gone} of `{}` is in the table's state but not in the topic", state.topic),
            "partitions cannot be removed from a topic: was it deleted and made again, or is this another cluster? `tidegate reset JOB \
             --to earliest --execute` reads this topic from its start",
        ));
    }
    None
}

/// Where to begin: past the state's offset where what came next is gone.
fn start_of(input: &PlanInput<'_>, partition: Partition, bounds: &PartitionBounds, known: Option<Offset>) -> Result<Offset> {
    let Some(next) = known else {
        // On the first run the job's choice; a partition added later starts at its beginning.
        let first = input.state.is_none();
        let wanted = input.first_starts.get(&partition).copied().filter(|_| first).unwrap_or(bounds.earliest);
        if wanted < bounds.earliest || wanted > bounds.high_watermark {
            return Err(Error::refused(
                format!(
                    "`kafka.start` asks for offset {wanted} of partition {partition}; the topic holds {} to {}",
                    bounds.earliest, bounds.high_watermark
                ),
                "choose an offset in that range, or `earliest`",
            ));
        }
        return Ok(wanted);
    };
    if next > bounds.high_watermark {
        return Err(Error::refused(
            format!(
                "partition {partition} of `{}` ends at offset {}, but the table has read up to {next}: the log was cut, or the topic is another",
                input.bounds.topic, bounds.high_watermark
            ),
            format!(
                "an unclean leader election or a restored cluster lost records that the table holds; decide with the topic's owner what \
                 is true. `tidegate reset JOB --to {partition}:{} --execute` goes on at the log's end, `--to earliest` reads all of it again",
                bounds.high_watermark
            ),
        ));
    }
    Ok(next.max(bounds.earliest))
}

/// Names every range that is gone: what the owner of the data decides about is all of them.
fn lost(ranges: &BTreeMap<Partition, (Offset, Offset)>, topic: &str) -> Error {
    let named: Vec<_> = ranges.iter().map(|(partition, range)| lost_range(*partition, *range)).collect();
    let behind: Offsets = ranges.iter().map(|(&partition, &(_, end))| (partition, end)).collect();
    Error::refused(
        format!("offsets of `{topic}` are gone from Kafka before they were read: {}", named.join(", ")),
        format!(
            "retention was faster than the schedule; `kafka.on_data_loss = \"skip\"` gives these ranges up and writes them into the \
             snapshot; `tidegate reset JOB --to {} --execute` goes on behind them once",
            as_argument(&behind)
        ),
    )
}

/// A range that Kafka lost before it was read, in the words of messages.
pub fn lost_range(partition: Partition, (start, end): (Offset, Offset)) -> String {
    let count = end - start;
    format!("partition {partition}: {start} to {end} ({count} offset{})", if count == 1 { "" } else { "s" })
}

fn unreachable_partition(partition: Partition, topic: &str) -> Error {
    Error::unavailable(
        format!("pin the start of partition {partition} of `{topic}`"),
        "the partition has no leader now, and a first run must see every partition",
    )
}

/// Shares `max` in proportion to lag (largest remainder first); every lagging partition gets at least one offset.
fn shares(lags: &BTreeMap<Partition, u64>, max: u64) -> BTreeMap<Partition, u64> {
    let total: u64 = lags.values().sum();
    if total <= max {
        return lags.clone();
    }
    let partitions = u64::try_from(lags.len()).expect("partitions fit");
    let spare = u128::from(max.saturating_sub(partitions));
    let rest = u128::from(total - partitions).max(1);
    let mut remainders: Vec<(u128, Partition)> = Vec::with_capacity(lags.len());
    let mut shares: BTreeMap<Partition, u64> = BTreeMap::new();
    for (&partition, &lag) in lags {
        let exact = spare * u128::from(lag - 1);
        shares.insert(partition, 1 + u64::try_from(exact / rest).expect("a share is at most the lag"));
        remainders.push((exact % rest, partition));
    }
    remainders.sort_by_key(|&(remainder, partition)| (std::cmp::Reverse(remainder), partition));
    let mut left = max.saturating_sub(shares.values().sum());
    for (remainder, partition) in remainders {
        if left == 0 || remainder == 0 {
            break;
        }
        *shares.get_mut(&partition).expect("every partition has a share") += 1;
        left -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn bounds(partitions: &[(i64, i64, i64)]) -> TopicBounds {
        let partitions = (0..)
            .zip(partitions)
            .map(|(p, &(earliest, last_stable, high_watermark))| {
                (p, Some(PartitionBounds { earliest, last_stable, high_watermark }))
            })
            .collect();
        TopicBounds { topic: "t".into(), topic_id: Some("id".into()), cluster_id: None, partitions }
    }

    fn state(end: &[i64]) -> Progress {
        Progress {
            job: "j".into(),
            kind: crate::progress::Kind::Batch,
            epoch: 0,
            batch: 1,
            batch_id: String::new(),
            topic: "t".into(),
            topic_id: Some("id".into()),
            cluster_id: None,
            start: Offsets::new(),
            end: (0..).zip(end.iter().copied()).collect(),
            skipped: BTreeMap::new(),
            leader_epochs: BTreeMap::from([(0, 7)]),
            id: None,
            watermark: None,
            event_time_id: None,
            max_event_time: BTreeMap::new(),
            planned_at: 0,
            run_id: String::new(),
            counts: crate::counts::Counts::default(),
            rejects: None,
        }
    }

    fn run(state: Option<&Progress>, bounds: &TopicBounds, max_offsets: u64, on_data_loss: OnDataLoss) -> Result<Plan> {
        plan(&PlanInput { state, bounds, first_starts: &Offsets::new(), max_offsets, on_data_loss, up_to: None })
    }

    #[test]
    fn too_little_waits_until_the_last_batch_is_long_enough_ago() {
        let limits = |min_offsets_per_trigger| Limits {
            min_offsets_per_trigger,
            max_trigger_delay: Duration::from_secs(60),
            ..crate::table::sample::job("", "").limits
        };
        let (state, minute) = (Progress { planned_at: 1_000, ..state(&[0]) }, 60_000_000);
        let plan = run(Some(&state), &bounds(&[(0, 5, 5)]), 1, OnDataLoss::Fail).unwrap();
        for (min, now, too_little) in
            [(5, 1_000, false), (6, 1_000, true), (6, minute + 999, true), (6, minute + 1_000, false), (6, i64::MAX, false)]
        {
            assert_eq!(plan.is_too_little(Some(&state), &limits(min), now), too_little, "at least {min} at {now}");
        }
        assert!(!plan.is_too_little(None, &limits(6), 0), "a first run pins its start");
    }

    proptest! {
        #[test]
        fn shares_are_bounded_fair_and_whole(lags in prop::collection::btree_map(0..40_i32, 1..1_000_000_u64, 1..20), max in 1..2_000_000_u64) {
            let shares = shares(&lags, max);
            let total: u64 = lags.values().sum();
            let n = lags.len() as u64;
            prop_assert!(shares.iter().all(|(p, &share)| 1 <= share && share <= lags[p]));
            prop_assert_eq!(shares.values().sum::<u64>(), total.min(max.max(n)));
            for (p, &share) in &shares {
                // Never further from the exact proportion than the one offset that everybody gets and the rounding.
                let exact = (lags[p] as f64) * (max.min(total) as f64) / (total as f64);
                prop_assert!((share as f64) + 2.0 + (n as f64) >= exact.floor(), "{share} of {exact}");
            }
        }

        #[test]
        fn a_plan_starts_where_the_state_ends_and_stays_below_the_stable_end(
            partitions in prop::collection::vec((0..50_i64, 0..50_i64, 0..50_i64, 0..200_i64), 1..6), max in 1..300_u64,
        ) {
            let held: Vec<_> = partitions.iter().map(|&(e, l, h, _)| (e, e + l, e + l + h)).collect();
            let ends: Vec<_> = partitions.iter().zip(&held).map(|(p, b)| b.0 + p.3.min(b.2 - b.0)).collect();
            let plan = run(Some(&state(&ends)), &bounds(&held), max, OnDataLoss::Fail).unwrap();
            for (&p, at) in &plan.ranges {
                let i = usize::try_from(p).unwrap();
                prop_assert_eq!(at.range.start(), ends[i]);
                prop_assert!(at.range.end() <= held[i].1 && !at.range.is_empty());
            }
            let lagging = ends.iter().zip(&held).filter(|(end, b)| **end < b.1).count();
            prop_assert_eq!(plan.ranges.len(), lagging);
            prop_assert_eq!(plan.lag, ends.iter().zip(&held).map(|(end, b)| (b.1 - end).max(0).unsigned_abs()).sum::<u64>());
        }
    }

    #[test]
    fn nothing_new_is_an_empty_plan_and_a_first_run_never_is() {
        let held = bounds(&[(0, 5, 5)]);
        assert!(run(Some(&state(&[5])), &held, 10, OnDataLoss::Fail).unwrap().is_empty());
        let first = plan(&PlanInput {
            state: None,
            bounds: &held,
            first_starts: &Offsets::from([(0, 5)]),
            max_offsets: 10,
            on_data_loss: OnDataLoss::Fail,
            up_to: None,
        })
        .unwrap();
        assert!(!first.is_empty() && first.ranges.is_empty());
        assert_eq!(first.starts, Offsets::from([(0, 5)]));
    }

    #[test]
    fn retention_past_the_start_is_refused_or_written_down() {
        let held = bounds(&[(10, 20, 20), (0, 5, 5)]);
        let error = run(Some(&state(&[4, 0])), &held, 100, OnDataLoss::Fail).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        assert_eq!(error.to_string(), "offsets of `t` are gone from Kafka before they were read: partition 0: 4 to 10 (6 offsets)");
        let plan = run(Some(&state(&[4, 0])), &held, 100, OnDataLoss::Skip).unwrap();
        assert_eq!(plan.skipped, BTreeMap::from([(0, (4, 10))]));
        assert_eq!(plan.ranges[&0].range, OffsetRange::new(10, 20));
        assert_eq!(plan.ranges[&0].leader_epoch, None, "the epoch belonged to the offset that is gone");
        assert_eq!(plan.ranges[&1].range, OffsetRange::new(0, 5), "the other partition goes on from its own place");
    }

    #[test]
    fn every_range_that_is_gone_is_named() {
        let held = bounds(&[(10, 20, 20), (0, 5, 5), (7, 7, 7)]);
        let error = run(Some(&state(&[4, 0, 6])), &held, 100, OnDataLoss::Fail).unwrap_err().to_string();
        assert!(error.contains("partition 0: 4 to 10 (6 offsets)"), "{error}");
        assert!(error.contains("partition 2: 6 to 7 (1 offset)") && !error.contains("partition 1"), "{error}");
    }

    #[test]
    fn what_cannot_be_the_same_log_is_refused() {
        for (state, held, what) in [
            (state(&[9]), bounds(&[(0, 5, 5)]), "the log was cut"),
            (state(&[0, 0]), bounds(&[(0, 5, 5)]), "partition 1"),
            (Progress { topic_id: Some("other".into()), ..state(&[0]) }, bounds(&[(0, 5, 5)]), "made again"),
            (Progress { topic: "u".into(), ..state(&[0]) }, bounds(&[(0, 5, 5)]), "belongs to topic `u`"),
        ] {
            let error = run(Some(&state), &held, 10, OnDataLoss::Skip).unwrap_err();
            assert_eq!(error.exit_code(), 65);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn an_added_partition_starts_at_its_earliest_and_an_unreachable_one_keeps_its_place() {
        let mut held = bounds(&[(0, 5, 5), (3, 8, 8), (0, 9, 9)]);
        held.partitions.insert(2, None);
        let state = Progress { end: Offsets::from([(0, 5), (2, 4)]), ..state(&[]) };
        let plan = run(Some(&state), &held, 100, OnDataLoss::Fail).unwrap();
        assert_eq!(plan.starts, Offsets::from([(0, 5), (1, 3), (2, 4)]));
        assert_eq!(plan.ranges.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(run(None, &held, 100, OnDataLoss::Fail).unwrap_err().exit_code(), 75);
    }

    #[test]
    fn an_open_transaction_holds_the_end_and_is_named() {
        let plan = run(Some(&state(&[5])), &bounds(&[(0, 5, 9)]), 100, OnDataLoss::Fail).unwrap();
        assert!(plan.is_empty());
        assert_eq!(plan.held, [0]);
    }
}
