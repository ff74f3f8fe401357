//! What the summaries of a job's snapshots must say, one after another.
//!
//! Pure. Contiguity and monotonicity hold within an epoch; a reset begins a new one. Says nothing about what the files hold.

use crate::offsets::{Offset, Offsets};
use crate::progress::{Kind, Progress, rfc3339};
use crate::verify::findings::{Check, Findings, Place};
use crate::verify::history::{History, Link};

/// Ranges of consecutive batches meet without gap or overlap. `refused`: what a run would refuse to start from.
pub(crate) fn ranges(history: &History, refused: Option<String>) -> Check {
    let mut findings = Findings::default();
    // A reset is the way out of a damaged state: what cannot be read before it is no longer built upon.
    let reset = history.links.iter().rposition(|link| link.progress.kind == Kind::Reset);
    let reset = reset.and_then(|at| history.snapshots.iter().position(|snapshot| snapshot.snapshot_id() == history.links[at].id()));
    let settled = |damaged: i64| {
        let at = history.snapshots.iter().position(|snapshot| snapshot.snapshot_id() == damaged);
        reset.is_some_and(|reset| at.is_some_and(|at| at < reset))
    };
    let damaged: Vec<_> = history.damaged.iter().filter(|(snapshot, _)| !settled(*snapshot)).collect();
    for (snapshot, why) in &damaged {
        findings.add(why.clone(), Place::snapshot(*snapshot));
    }
    // A damaged summary is told once, by its snapshot.
    if let Some(refused) = refused.filter(|_| damaged.is_empty()) {
        findings.add(refused, Place::default());
    }
    for link in &history.links {
        within(link, &mut findings);
    }
    for pair in history.links.windows(2) {
        meet(&pair[0], &pair[1], &mut findings);
    }
    let Some((first, last)) = history.links.first().zip(history.links.last()) else {
        if findings.total() > 0 {
            return Check::of("no batch of the job can be read", findings);
        }
        return Check::skip(match history.complete {
            true => "the job has no batch in the table yet",
            false => "every snapshot of the job is expired; only the table property keeps its state",
        });
    };
    if history.complete && history.damaged.is_empty() && first.progress.kind == Kind::Batch && first.progress.batch != 1 {
        let what = format!("batch {} is the first in the table's whole history", first.progress.batch);
        findings.add(what, Place::snapshot(first.id()));
    }
    let skipped: u64 = history.links.iter().map(|link| given_up(&link.progress)).fold(0, u64::saturating_add);
    let resets = history.links.iter().filter(|link| link.progress.kind == Kind::Reset).count();
    let mut found = format!("batches {} to {}", first.progress.batch, last.progress.batch);
    if !history.complete {
        found.push_str("; what came before is expired");
    }
    if resets > 0 {
        found.push_str(&format!("; resets: {resets}"));
    }
    if skipped > 0 {
        found.push_str(&format!("; {skipped} offsets were given up by `on_data_loss = \"skip\"`"));
    }
    Check::of(found, findings)
}

fn given_up(progress: &Progress) -> u64 {
    progress.skipped.values().map(|&(from, to)| distance(from, to)).fold(0, u64::saturating_add)
}

/// Offsets from one to another; 0 where it goes back.
fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// What one summary says must agree with itself.
fn within(link: &Link, findings: &mut Findings) {
    let (progress, place) = (&link.progress, Place::snapshot(link.id()));
    for (&partition, &end) in &progress.end {
        match progress.start.get(&partition) {
            None => findings.add("the partition has an end but no start", place.clone().partition(partition)),
            Some(&start) if start > end && progress.kind == Kind::Batch => {
                findings.add(format!("the range goes back from {start} to {end}"), place.clone().record(partition, start));
            }
            Some(_) => {}
        }
    }
    for &partition in progress.start.keys().filter(|partition| !progress.end.contains_key(partition)) {
        findings.add("the partition has a start but no end", place.clone().partition(partition));
    }
    for (&partition, &(from, to)) in &progress.skipped {
        let range = progress.start.get(&partition).zip(progress.end.get(&partition));
        if !range.is_some_and(|(&start, &end)| start == from && from <= to && to <= end) {
            findings
                .add(format!("{from} to {to} was given up, and is no part of the batch"), place.clone().record(partition, from));
        }
    }
}

/// A batch begins where the one before it ended.
fn meet(before: &Link, after: &Link, findings: &mut Findings) {
    let (old, new, place) = (&before.progress, &after.progress, Place::snapshot(after.id()));
    if new.kind == Kind::Reset {
        // Epochs that were rolled back are not counted again, so there may be a jump.
        if new.epoch <= old.epoch {
            findings.add(format!("the reset leads from epoch {} to {}", old.epoch, new.epoch), place);
        }
        return;
    }
    if (new.epoch, new.batch) != (old.epoch, old.batch + 1) {
        let what = format!("batch {} of epoch {} follows batch {} of epoch {}", new.batch, new.epoch, old.batch, old.epoch);
        findings.add(what, place.clone());
    }
    let other_topic = old.topic != new.topic || old.topic_id.is_some() && new.topic_id.is_some() && old.topic_id != new.topic_id;
    if other_topic {
        findings.add(format!("topic `{}` is another one than that of the batch before", new.topic), place);
        return;
    }
    gaps(&old.end, &new.start, &place, findings);
}

fn gaps(ends: &Offsets, starts: &Offsets, place: &Place, findings: &mut Findings) {
    for (&partition, &end) in ends {
        let Some(&start) = starts.get(&partition) else {
            findings.add("the partition was known and is no more", place.clone().partition(partition));
            continue;
        };
        let place = place.clone().record(partition, end.min(start));
        if start > end {
            findings.add(format!("{} offsets are in no batch: {end} to {start}", distance(end, start)), place);
        } else if start < end {
            findings.add(format!("{} offsets are in two batches: {start} to {end}", distance(start, end)), place);
        }
    }
}

/// Each record read has one outcome, and no more records were read than the range has offsets.
pub(crate) fn outcomes(history: &History, findings: &mut Findings) {
    for link in &history.links {
        let (progress, counts) = (&link.progress, &link.progress.counts);
        // Summed with room to spare: what an edited summary says need not fit.
        let outcomes: u128 = counts.named()[1..10].iter().map(|(_, count)| u128::from(*count)).sum();
        if u128::from(counts.read) != outcomes {
            let what = format!("{} records were read, and {outcomes} have an outcome", counts.read);
            findings.add(what, Place::snapshot(link.id()));
        }
        let offsets: u64 = progress
            .end
            .iter()
            .map(|(partition, end)| distance(*progress.start.get(partition).unwrap_or(end), *end))
            .fold(0, u64::saturating_add);
        let offsets = offsets.saturating_sub(given_up(progress));
        if counts.read > offsets && progress.kind == Kind::Batch {
            findings.add(format!("{} records were read of {offsets} offsets", counts.read), Place::snapshot(link.id()));
        }
    }
}

/// The watermark never moves back within an epoch.
pub(crate) fn watermark(history: &History) -> Check {
    let mut findings = Findings::default();
    let named = |watermark: Option<i64>| watermark.map_or_else(|| "none".into(), rfc3339);
    for pair in history.links.windows(2) {
        let (old, new) = (&pair[0].progress, &pair[1].progress);
        if new.kind == Kind::Batch && new.epoch == old.epoch && new.watermark < old.watermark {
            let what = format!("it moves back from {} to {}", named(old.watermark), named(new.watermark));
            findings.add(what, Place::snapshot(pair[1].id()));
        }
    }
    match history.links.last() {
        None => Check::skip("no batch of the job is in the table"),
        Some(last) => Check::of(format!("now {}", named(last.progress.watermark)), findings),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    use iceberg::spec::{Operation, Snapshot, Summary};

    use super::*;
    use crate::counts::Counts;
    use crate::verify::findings::Judgement;

    fn link(batch: u64, start: &[(i32, i64)], end: &[(i32, i64)], watermark: Option<i64>) -> Link {
        let summary = Summary { operation: Operation::Append, additional_properties: HashMap::new() };
        let snapshot = Snapshot::builder()
            .with_snapshot_id(i64::try_from(batch).unwrap() + 100)
            .with_sequence_number(1)
            .with_timestamp_ms(0)
            .with_manifest_list("file:///l")
            .with_summary(summary)
            .build();
        let progress = Progress {
            job: "j".into(),
            kind: Kind::Batch,
            epoch: 0,
            batch,
            batch_id: String::new(),
            topic: "t".into(),
            topic_id: None,
            cluster_id: None,
            start: start.iter().copied().collect(),
            end: end.iter().copied().collect(),
            skipped: BTreeMap::new(),
            leader_epochs: BTreeMap::new(),
            id: None,
            watermark,
            event_time_id: None,
            max_event_time: BTreeMap::new(),
            planned_at: 0,
            run_id: String::new(),
            counts: Counts::default(),
            rejects: None,
        };
        Link { snapshot: Arc::new(snapshot), progress }
    }

    fn history(links: Vec<Link>) -> History {
        History { links, complete: true, ..History::default() }
    }

    fn three() -> Vec<Link> {
        vec![
            link(1, &[(0, 0), (1, 0)], &[(0, 5), (1, 7)], None),
            link(2, &[(0, 5), (1, 7)], &[(0, 5), (1, 9)], Some(10)),
            link(3, &[(0, 5), (1, 9), (2, 0)], &[(0, 8), (1, 9), (2, 4)], Some(10)),
        ]
    }

    type Change = fn(&mut Vec<Link>);

    fn said(check: &Check) -> String {
        let lines = check.findings.shown().iter().map(|finding| format!("{}: {}\n", finding.place.text(), finding.what));
        lines.collect()
    }

    #[test]
    fn ranges_that_meet_pass() {
        let check = ranges(&history(three()), None);
        assert_eq!((check.result, check.found.as_str()), (Judgement::Pass, "batches 1 to 3"), "{}", said(&check));
        assert_eq!(watermark(&history(three())).result, Judgement::Pass);
    }

    #[test]
    fn every_way_not_to_meet_is_found_at_its_place() {
        let mut text = String::new();
        let changes: [(&str, Change); 10] = [
            ("gap", |links| links[1].progress.start = Offsets::from([(0, 6), (1, 7)])),
            ("overlap", |links| links[2].progress.start.extend([(1, 8)])),
            ("lost partition", |links| links[2].progress.start = Offsets::from([(0, 5), (2, 0)])),
            ("back", |links| links[2].progress.end.extend([(2, -1)])),
            ("batch missing", |links| drop(links.remove(1))),
            ("first missing", |links| drop(links.remove(0))),
            ("epoch", |links| links[1].progress.epoch = 1),
            ("topic", |links| links[1].progress.topic = "u".into()),
            ("skipped elsewhere", |links| links[2].progress.skipped = BTreeMap::from([(0, (9, 11))])),
            ("reset to the same epoch", |links| links[2].progress.kind = Kind::Reset),
        ];
        for (name, change) in changes {
            let mut links = three();
            change(&mut links);
            let check = ranges(&history(links), None);
            assert_eq!(check.result, Judgement::Fail, "{name}");
            text.push_str(&format!("{name}\n{}", said(&check)));
        }
        insta::assert_snapshot!(text, @r"
    gap
    snapshot 102, partition 0, offset 6: the range goes back from 6 to 5
    snapshot 102, partition 0, offset 5: 1 offsets are in no batch: 5 to 6
    overlap
    snapshot 103, partition 1, offset 8: 1 offsets are in two batches: 8 to 9
    lost partition
    snapshot 103, partition 1: the partition has an end but no start
    snapshot 103, partition 1: the partition was known and is no more
    back
    snapshot 103, partition 2, offset 0: the range goes back from 0 to -1
    batch missing
    snapshot 103: batch 3 of epoch 0 follows batch 1 of epoch 0
    snapshot 103, partition 1, offset 7: 2 offsets are in no batch: 7 to 9
    first missing
    snapshot 102: batch 2 is the first in the table's whole history
    epoch
    snapshot 102: batch 2 of epoch 1 follows batch 1 of epoch 0
    snapshot 103: batch 3 of epoch 0 follows batch 2 of epoch 1
    topic
    snapshot 102: topic `u` is another one than that of the batch before
    snapshot 103: topic `t` is another one than that of the batch before
    skipped elsewhere
    snapshot 103, partition 0, offset 9: 9 to 11 was given up, and is no part of the batch
    reset to the same epoch
    snapshot 103: the reset leads from epoch 0 to 0
    ");
    }

    #[test]
    fn a_reset_begins_anew_and_given_up_ranges_are_no_gaps() {
        let mut links = three();
        links[1].progress.skipped = BTreeMap::from([(1, (7, 8))]);
        let mut reset = link(3, &[(0, 2), (1, 0)], &[(0, 2), (1, 0)], None);
        (reset.progress.kind, reset.progress.epoch) = (Kind::Reset, 1);
        let mut after = link(4, &[(0, 2), (1, 0)], &[(0, 3), (1, 5)], Some(1));
        after.progress.epoch = 1;
        links.truncate(2);
        links.extend([reset, after]);
        let history = history(links);
        let check = ranges(&history, None);
        assert_eq!(check.result, Judgement::Pass, "{}", said(&check));
        assert_eq!(check.found, "batches 1 to 4; resets: 1; 1 offsets were given up by `on_data_loss = \"skip\"`");
        assert_eq!(watermark(&history).result, Judgement::Pass);
    }

    #[test]
    fn what_is_damaged_before_a_reset_is_no_longer_built_upon() {
        let mut links = three();
        (links[2].progress.kind, links[2].progress.epoch) = (Kind::Reset, 1);
        let snapshots = links.iter().map(|link| Arc::clone(&link.snapshot)).collect();
        let mut history = History { snapshots, ..history(links) };
        history.links.remove(1);
        history.damaged = vec![(102, "it cannot be read".into())];
        assert_eq!(ranges(&history, None).result, Judgement::Pass);
        history.links[1].progress.kind = Kind::Batch;
        assert_eq!(ranges(&history, None).result, Judgement::Fail);
    }

    #[test]
    fn a_watermark_that_moves_back_fails_even_to_none() {
        for back in [Some(9), None] {
            let mut links = three();
            links[2].progress.watermark = back;
            let check = watermark(&history(links));
            assert_eq!(check.result, Judgement::Fail, "{back:?}");
            assert_eq!(check.findings.shown()[0].place.snapshot_id, Some(103));
        }
    }

    #[test]
    fn outcomes_must_add_up_and_fit_their_range() {
        let mut links = three();
        links[0].progress.counts = Counts { read: 12, inserted: 11, ..Counts::default() };
        links[1].progress.counts = Counts { read: 3, inserted: 3, ..Counts::default() };
        let mut findings = Findings::default();
        outcomes(&history(links), &mut findings);
        let said: Vec<_> = findings.shown().iter().map(|finding| (finding.place.snapshot_id, finding.what.as_str())).collect();
        assert_eq!(
            said,
            [(Some(101), "12 records were read, and 11 have an outcome"), (Some(102), "3 records were read of 2 offsets")]
        );
    }

    #[test]
    fn what_is_expired_is_said_and_what_is_missing_fails() {
        let mut expired = history(three()[1..].to_vec());
        expired.complete = false;
        assert_eq!(ranges(&expired, None).found, "batches 2 to 3; what came before is expired");
        assert_eq!(ranges(&History { complete: true, ..History::default() }, None).result, Judgement::Skip);
        assert_eq!(ranges(&history(three()), Some("rolled back".into())).result, Judgement::Fail);
    }
}
