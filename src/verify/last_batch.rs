//! The last batch, pulled again from Kafka and judged again, yields what the table holds as of its snapshot.
//!
//! The records are judged by the watermark that the batch before left and by the recorded start of the run. What other writers did
//! since plays no part: the table is read as of the batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iceberg::spec::{SnapshotRef, TableMetadata};

use crate::batch::{arrow_schema, deleted_rows};
use crate::catalog::{Catalog, LoadedTable};
use crate::config::{Late, MatchScope, Mode, Tombstones};
use crate::decode::KeyDecoder;
use crate::error::{Doing, Error, Result};
use crate::job::{Supplied, decoder, micros};
use crate::offsets::{Partition, TopicBounds};
use crate::plan::ranges_read;
use crate::progress::{Kind, Progress, StateProperty, rfc3339};
use crate::source::{Flow, PullLimits, Source, StartAt, Stop};
use crate::verify::Subject;
use crate::verify::compare::{AsOf, Before};
use crate::verify::findings::{Check, Findings, Place};
use crate::verify::history::Link;
use crate::verify::rejects::rejects_of_batch;
use crate::verify::replay::Replay;
use crate::watermark::Judge;

/// Judges the newest batch.
pub(crate) async fn last_batch<S: Source, C: Catalog>(subject: &Subject<'_, S, C>) -> Result<Check> {
    let config = subject.doors.config;
    let Some(link) = subject.history.links.last() else {
        return Ok(Check::skip(match subject.history.complete {
            true => "the job has no batch in the table yet",
            false => "the snapshot of the last batch is expired",
        }));
    };
    let progress = &link.progress;
    if progress.kind == Kind::Reset {
        return Ok(Check::skip("the job was reset, and no batch followed yet"));
    }
    let before = match earlier_state(subject, link).await? {
        Some(before) => Earlier::Known(before.watermark, before.max_event_time),
        None if (progress.epoch, progress.batch) == (0, 1) => Earlier::Known(None, BTreeMap::new()),
        None => Earlier::of_rejects(progress),
    };
    let Some(judged_by) = before.judged_by(config) else {
        return Ok(Check::skip(
            "the state before the last batch is expired, and with it the watermark that late records were judged by",
        ));
    };
    let table = as_written(&subject.table, &link.snapshot)?;
    let supplied = match Supplied::of(config, &table) {
        Ok(supplied) => supplied,
        Err(Error::Setup { what, .. }) => {
            return Ok(Check::skip(format!("the job file does not fit the table as the last batch found it: {what}")));
        }
        Err(error) => return Err(error),
    };
    let ranges = ranges_read(progress);
    let bounds = tokio::task::block_in_place(|| subject.doors.source.bounds())?;
    if let Some(why) = out_of_reach(progress, &ranges, &bounds)? {
        return Ok(Check::skip(why));
    }
    let judge = Judge { watermark: judged_by, now: progress.planned_at, max_future: micros(config.watermark.max_future) };
    let Some(replay) = pull(subject, &table, &supplied, &ranges, judge)? else {
        return Ok(Check::skip("the batch does not fit into `limits.memory_limit`"));
    };
    judge_batch(subject, link, &before, judged_by, &table, replay).await
}

/// What is known of the state before the last batch.
enum Earlier {
    /// Its watermark and its highest event times.
    Known(Option<i64>, BTreeMap<Partition, i64>),
    /// The watermark alone.
    Watermark(Option<i64>),
    /// Nothing.
    Unknown,
}

impl Earlier {
    /// A batch with rejects says what it was judged by.
    fn of_rejects(progress: &Progress) -> Self {
        progress.rejects.as_ref().map_or(Self::Unknown, |pending| Self::Watermark(pending.judged_by))
    }

    /// The watermark to judge by; none where it is unknown and would matter.
    fn judged_by(&self, config: &crate::config::Config) -> Option<Option<i64>> {
        let searched_by_it = matches!(&config.mode, Mode::Merge(merge) if merge.match_scope == MatchScope::Watermark);
        match self {
            Self::Known(watermark, _) | Self::Watermark(watermark) => Some(*watermark),
            Self::Unknown if config.watermark.late == Late::Merge && !searched_by_it => Some(None),
            Self::Unknown => None,
        }
    }
}

/// The state that the last batch started from: of the snapshot before, or of the table property in an earlier metadata file.
async fn earlier_state<S: Source, C: Catalog>(subject: &Subject<'_, S, C>, link: &Link) -> Result<Option<Progress>> {
    let (config, table) = (subject.doors.config, &subject.table);
    let precedes = |state: &Progress| {
        let same_epoch = state.epoch == link.progress.epoch && state.batch + 1 == link.progress.batch;
        same_epoch || state.kind == Kind::Reset && state.epoch == link.progress.epoch
    };
    if let Some(before) = subject.history.before_last() {
        return Ok(Some(before.progress.clone()).filter(precedes));
    }
    let key = StateProperty::key(&config.name, &config.table.branch);
    for log in table.metadata.metadata_log().iter().rev() {
        let doing = || format!("read metadata file `{}`", log.metadata_file);
        if !table.file_io.exists(&log.metadata_file).await.doing(doing)? {
            break;
        }
        let older = TableMetadata::read_from(&table.file_io, &log.metadata_file).await.doing(doing)?;
        let Some(value) = older.properties().get(&key) else { break };
        let state = StateProperty::decode(&key, value).and_then(|state| Progress::decode(&config.name, &state.summary));
        match state {
            Ok(Some(state)) if precedes(&state) => return Ok(Some(state)),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    Ok(None)
}

/// The table with the schema under which a snapshot was written: its records are decoded as they were then.
fn as_written(table: &LoadedTable, snapshot: &SnapshotRef) -> Result<LoadedTable> {
    let schema = snapshot.schema_id().filter(|&id| id != table.metadata.current_schema_id());
    let Some(schema) = schema else { return Ok(table.clone()) };
    let doing = || format!("take the schema of snapshot {}", snapshot.snapshot_id());
    let builder = table.metadata.as_ref().clone().into_builder(None).set_current_schema(schema).doing(doing)?;
    Ok(LoadedTable { metadata: Arc::new(builder.build().doing(doing)?.metadata), ..table.clone() })
}

/// Why the batch cannot be pulled again; none where it can.
fn out_of_reach(progress: &Progress, ranges: &BTreeMap<Partition, StartAt>, bounds: &TopicBounds) -> Result<Option<String>> {
    if progress.topic != bounds.topic {
        return Ok(Some(format!("it was read from topic `{}`, and the job reads `{}` now", progress.topic, bounds.topic)));
    }
    if progress.topic_id.is_some() && bounds.topic_id.is_some() && progress.topic_id != bounds.topic_id {
        return Ok(Some(format!("topic `{}` was deleted and made again since", progress.topic)));
    }
    for (partition, StartAt { range, .. }) in ranges {
        let held = match bounds.partitions.get(partition) {
            None => return Ok(Some(format!("topic `{}` has no partition {partition} any more", progress.topic))),
            Some(None) => {
                let doing = format!("reach partition {partition} of `{}`", progress.topic);
                return Err(Error::unavailable(doing, "it has no leader now"));
            }
            Some(Some(held)) => held,
        };
        if held.earliest > range.start() {
            let gone = held.earliest.min(range.end());
            return Ok(Some(format!("retention took offsets {} to {gone} of partition {partition}", range.start())));
        }
        if held.last_stable < range.end() {
            let (end, stable) = (range.end(), held.last_stable);
            return Ok(Some(format!("partition {partition} ends at offset {stable} now, and the batch read up to {end}")));
        }
    }
    Ok(None)
}

/// Pulls and judges; none where the batch does not fit into memory.
fn pull<'a, S: Source, C: Catalog>(
    subject: &Subject<'a, S, C>,
    table: &LoadedTable,
    supplied: &Supplied,
    ranges: &BTreeMap<Partition, StartAt>,
    judge: Judge,
) -> Result<Option<Replay<'a>>> {
    let config = subject.doors.config;
    let schema = table.metadata.current_schema();
    let tombstones = match &config.mode {
        Mode::Merge(merge) if merge.tombstones == Tombstones::Delete => Some(KeyDecoder::new(schema, &merge.id, &config.format)?),
        _ => None,
    };
    let replay = Replay::new(config, &arrow_schema(table)?, supplied.unmapped.clone(), judge)?;
    let mut replay = replay.with_tombstones(tombstones, deleted_rows(config, table)?);
    let mut decoder = decoder(config, table, supplied)?;
    let limits = PullLimits { bytes_max: u64::MAX, duration_max: Duration::MAX, stall_timeout: config.limits.stall_timeout };
    let memory_max = usize::try_from(subject.memory_max).unwrap_or(usize::MAX);
    let mut full = false;
    if !ranges.is_empty() {
        tokio::task::block_in_place(|| {
            subject.doors.source.pull(ranges, &limits, &Stop::default(), &mut |chunk| {
                replay.take(&chunk, &decoder.decode(&chunk))?;
                full = replay.memory() > memory_max;
                Ok(if full { Flow::Enough } else { Flow::More })
            })
        })?;
    }
    Ok((!full).then_some(replay))
}

async fn judge_batch<S: Source, C: Catalog>(
    subject: &Subject<'_, S, C>,
    link: &Link,
    before: &Earlier,
    judged_by: Option<i64>,
    table: &LoadedTable,
    mut replay: Replay<'_>,
) -> Result<Check> {
    let (progress, place) = (&link.progress, Place::snapshot(link.id()));
    let mut findings = Findings::default();
    let mut found = format!("batch {}, {} records pulled again", progress.batch, replay.counts.read);
    let complete = replay.counts.read >= progress.counts.read;
    if !complete {
        // Fewer records say nothing about how they were counted, but what is left must still be in the table.
        found.push_str(&format!(
            "; {} more are gone (compaction?), so its accounts are not compared",
            progress.counts.read - replay.counts.read
        ));
    } else if let Earlier::Known(_, max_event_time) = before {
        event_times(subject, progress, max_event_time, judged_by, &replay, &mut findings, &place);
    }
    let parent = match link.snapshot.parent_snapshot_id() {
        None => Before::Empty,
        Some(id) => subject.table.metadata.snapshot_by_id(id).map_or(Before::Gone, |parent| Before::There(Arc::clone(parent))),
    };
    if matches!(parent, Before::Gone) {
        found.push_str("; the snapshot before it is expired, so inserts are not told from updates");
    }
    let as_of = AsOf { table, store: subject.doors.store, snapshot: &link.snapshot, before: parent, judged_by, complete };
    let counts = as_of.compare(&mut replay, &mut findings).await?;
    if complete {
        for ((name, recorded), (_, judged)) in progress.counts.named().iter().zip(counts.counts.named()) {
            if *recorded != judged && (counts.effects_known || !EFFECTS.contains(name)) {
                findings.add(format!("`{name}` was recorded as {recorded}, and is {judged}"), place.clone());
            }
        }
    }
    match rejects_of_batch(subject, link).await? {
        Some(held) => compare_rejects(&mut replay.rejects, held, complete, &place, &mut findings),
        None => found.push_str("; its rejects are not compared: they wait to be appended, or are in another table"),
    }
    Ok(Check::of(found, findings))
}

/// Counts that depend on what the table held before.
const EFFECTS: [&str; 7] = ["stale", "inserted", "updated", "deleted", "noop", "collapsed", "soft-deleted"];

/// Highest event times are those of the records, and the watermark is one of them less the delay, or what it was before.
fn event_times<S: Source, C: Catalog>(
    subject: &Subject<'_, S, C>,
    progress: &Progress,
    before: &BTreeMap<Partition, i64>,
    judged_by: Option<i64>,
    replay: &Replay<'_>,
    findings: &mut Findings,
    place: &Place,
) {
    let mut highest = before.clone();
    for (&partition, &time) in &replay.max_event_time {
        let entry = highest.entry(partition).or_insert(time);
        *entry = time.max(*entry);
    }
    let named = |time: Option<&i64>| time.map_or_else(|| "none".into(), |&time| rfc3339(time));
    for &partition in highest.keys().chain(progress.max_event_time.keys().filter(|partition| !highest.contains_key(partition))) {
        let (recorded, seen) = (progress.max_event_time.get(&partition), highest.get(&partition));
        if recorded != seen {
            let what = format!("the highest event time was recorded as {}, and is {}", named(recorded), named(seen));
            findings.add(what, place.clone().partition(partition));
        }
    }
    let delay = micros(subject.doors.config.watermark.delay);
    let from_event_time = highest.values().any(|time| Some(time.saturating_sub(delay)) == progress.watermark);
    if progress.watermark != judged_by && !from_event_time {
        let what = format!("the watermark {} comes from no event time of the records", named(progress.watermark.as_ref()));
        findings.add(what, place.clone());
    }
}

/// The rejects of the batch are those in the table, each with its reason.
fn compare_rejects(
    judged: &mut Vec<(Partition, i64, &'static str)>,
    mut held: Vec<(Partition, i64, String)>,
    complete: bool,
    place: &Place,
    findings: &mut Findings,
) {
    judged.sort_unstable();
    held.sort_unstable();
    let here = |(partition, offset, reason): &(Partition, i64, &'static str)| (*partition, *offset, (*reason).to_owned());
    for reject in judged.iter().filter(|reject| held.binary_search(&here(reject)).is_err()) {
        let what = format!("the record is rejected (`{}`), and is not in the rejects table with that reason", reject.2);
        findings.add(what, place.clone().record(reject.0, reject.1));
    }
    if !complete {
        return;
    }
    for reject in held.iter().filter(|held| judged.binary_search(&(held.0, held.1, held.2.as_str())).is_err()) {
        let what = format!("the rejects table holds the record (`{}`), which is not rejected so", reject.2);
        findings.add(what, place.clone().record(reject.0, reject.1));
    }
}
