//! What must be in the tables, by a model that knows the topics and nothing of the program: batch after batch of the head's
//! ancestry, one dictionary from id to rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iceberg::spec::{Snapshot, SnapshotRef};
use serde_json::Value;
use tidegate::offsets::{Offset, Partition};

use super::World;
use super::foreign::Bounds;
use super::reader::{Reject, Row};
use super::run::{DELAY_MINUTES, Rules, Style};
use super::topic::Message;

const HOUR_MICROS: i64 = 3_600_000_000;

const COUNTS: [&str; 12] = [
    "read",
    "rejected",
    "late",
    "filtered",
    "duplicate",
    "stale",
    "inserted",
    "updated",
    "deleted",
    "noop",
    "collapsed",
    "soft-deleted",
];

/// Rows, rejects and the jobs' states after a chain of snapshots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<String, Vec<Row>>,
    pub(crate) rejects: BTreeSet<Reject>,
    pub(crate) jobs: BTreeMap<String, JobState>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct JobState {
    epoch: u64,
    pub(crate) batch: u64,
    pub(crate) end: BTreeMap<Partition, Offset>,
    pub(crate) watermark: Option<i64>,
    newest: BTreeMap<Partition, i64>,
}

/// A version of an id in a batch.
#[derive(Clone)]
struct Version {
    at: i64,
    version: Option<i64>,
    arrival: (Partition, Offset),
    /// None: a delete.
    title: Option<Option<String>>,
}

/// What a snapshot says of a batch.
struct Said<'a>(&'a Snapshot);

impl Said<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.summary().additional_properties.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> u64 {
        self.text(key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key} of {:?}", self.0))
    }

    fn micros(&self, key: &str) -> Option<i64> {
        self.text(key).map(|text| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    /// The only topic's values by partition.
    fn by_partition(&self, key: &str) -> BTreeMap<Partition, Value> {
        let Some(text) = self.text(key) else { return BTreeMap::new() };
        let topics: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(text).unwrap();
        topics.into_values().flatten().map(|(partition, value)| (partition.parse().unwrap(), value)).collect()
    }

    fn offsets(&self, key: &str) -> BTreeMap<Partition, Offset> {
        self.by_partition(key).into_iter().map(|(partition, value)| (partition, value.as_i64().unwrap())).collect()
    }
}

impl Model {
    /// What the ancestry of `head` must have made of the topics. Fails where the chain of a job's states does not hold.
    pub(crate) fn of(world: &World, rules: &BTreeMap<String, Rules>, head: Option<i64>) -> Result<Self, String> {
        let mut chain: Vec<SnapshotRef> = Vec::new();
        let heads = world.heads.lock().unwrap();
        let mut at = head;
        while let Some(id) = at {
            let snapshot = heads.snapshot(id).ok_or_else(|| format!("snapshot {id} never was"))?;
            chain.push(Arc::clone(snapshot));
            at = snapshot.parent_snapshot_id();
        }
        drop(heads);
        let mut model = Self::default();
        for snapshot in chain.iter().rev() {
            let said = Said(snapshot);
            match said.text("tidegate.job").map(str::to_owned) {
                Some(job) => {
                    let held = match said.text("tidegate.kind") {
                        Some("reset") => model.reset(world, &job, &said),
                        _ => model.batch(world, &job, rules[&job], &said),
                    };
                    held.map_err(|why| {
                        format!("batch {} of job {job}, snapshot {}: {why}", said.number("tidegate.batch"), snapshot.snapshot_id())
                    })?;
                }
                None => model.foreign(world, snapshot.snapshot_id()),
            }
        }
        Ok(model)
    }

    fn foreign(&mut self, world: &World, snapshot: i64) {
        let effect = world.ledger.lock().unwrap().effects[&snapshot].clone();
        for id in effect.removed {
            self.rows.remove(&id);
        }
        for row in effect.added {
            self.rows.entry(row.id.clone()).or_default().push(row);
        }
    }

    /// The job goes on elsewhere, where the topic has something or may have it; no row moves.
    fn reset(&mut self, world: &World, job: &str, said: &Said<'_>) -> Result<(), String> {
        let bounds = world.ledger.lock().unwrap().planned_on.get(&said.0.snapshot_id()).cloned().unwrap_or_default();
        let mut state = self.jobs.remove(job).unwrap_or_default();
        let (start, end) = (said.offsets("tidegate.offsets.start"), said.offsets("tidegate.offsets.end"));
        if (said.number("tidegate.epoch"), said.number("tidegate.batch")) != (state.epoch + 1, state.batch) {
            return Err(format!("it resets epoch {} after batch {}", state.epoch, state.batch));
        }
        if start != end || said.micros("tidegate.watermark").is_some() {
            return Err("a reset reads nothing and has no watermark".to_owned());
        }
        for (partition, bounds) in bounds {
            let (bounds, to) = (bounds.expect("every partition has a leader here"), end.get(&partition));
            let stays = to.is_some() && to == state.end.get(&partition);
            if !stays && to.is_none_or(|to| !(bounds.earliest..=bounds.last_stable).contains(to)) {
                return Err(format!("partition {partition} goes on at {to:?}, the topic has {bounds:?}"));
            }
        }
        says(said, None, &BTreeMap::new())?;
        state = JobState { epoch: state.epoch + 1, batch: state.batch, end, ..JobState::default() };
        self.jobs.insert(job.to_owned(), state);
        Ok(())
    }

    fn batch(&mut self, world: &World, job: &str, rules: Rules, said: &Said<'_>) -> Result<(), String> {
        let bounds = world.ledger.lock().unwrap().planned_on.get(&said.0.snapshot_id()).cloned().unwrap_or_default();
        let mut state = self.jobs.remove(job).unwrap_or_default();
        let (start, end) = (said.offsets("tidegate.offsets.start"), said.offsets("tidegate.offsets.end"));
        let skipped = said.by_partition("tidegate.offsets.skipped");
        follows(&state, said, &start, &end, &bounds)?;
        let (watermark, batch) = (state.watermark, said.number("tidegate.batch"));
        let clock = said.micros("tidegate.planned-at").ok_or("no start time")?;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut versions: BTreeMap<String, Version> = BTreeMap::new();
        // A row that is flagged keeps what it had, so one record after the other says what that is.
        let mut flagged = if rules.style == Style::Soft { self.clone() } else { Self::default() };
        for (&partition, &from) in &start {
            let from = skipped.get(&partition).map_or(from, |range| range[1].as_i64().unwrap());
            let log = world.with_topic(job, |topic| topic.partitions[usize::try_from(partition).unwrap()].clone());
            for offset in from..end[&partition] {
                let Some(message) = log.at(offset) else { continue };
                *counts.entry("read").or_default() += 1;
                let (id, version) = match judge(message, (partition, offset), rules, watermark, clock) {
                    Ok(taken) => taken,
                    Err(reason) => {
                        *counts.entry(if reason == "late" { "late" } else { "rejected" }).or_default() += 1;
                        if reason != "late" || rules.late == "reject" {
                            let reason = reason.to_owned();
                            self.rejects.insert(Reject { job: job.to_owned(), partition, offset, batch, reason });
                        }
                        continue;
                    }
                };
                let newest = state.newest.entry(partition).or_insert(version.at);
                *newest = version.at.max(*newest);
                if rules.style == Style::Soft {
                    flagged.merge(id.clone(), version.clone(), rules, &mut BTreeMap::new());
                }
                if rules.style == Style::Append {
                    *counts.entry("inserted").or_default() += 1;
                    let Version { at, version, title, .. } = version;
                    let row = Row { id: id.clone(), at, version, title: title.flatten(), gone: None };
                    self.rows.entry(id).or_default().push(row);
                    continue;
                }
                match versions.get(&id) {
                    Some(there) => {
                        *counts.entry("duplicate").or_default() += 1;
                        if beats(&version, there, rules.ties_keep) {
                            versions.insert(id, version);
                        }
                    }
                    None => drop(versions.insert(id, version)),
                }
            }
        }
        for (id, version) in versions {
            self.merge(id, version, rules, &mut counts);
        }
        if rules.style == Style::Soft {
            self.rows = flagged.rows;
        }
        state.end = end;
        state.batch = batch;
        state.watermark = advance(&state, &bounds);
        says(said, state.watermark, &counts)?;
        self.jobs.insert(job.to_owned(), state);
        Ok(())
    }

    fn merge(&mut self, id: String, new: Version, rules: Rules, counts: &mut BTreeMap<&str, u64>) {
        let stored = self.rows.get(&id).map_or(&[][..], Vec::as_slice);
        let kept = stored.iter().max_by_key(|row| (row.at, row.version)).cloned();
        let highest = kept.as_ref().map(|row| (row.at, row.version));
        let stale =
            highest.is_some_and(|highest| (new.at, new.version) < highest || ((new.at, new.version) == highest && rules.ties_keep));
        let soft = rules.style == Style::Soft;
        let outcome = match (stale, new.title.is_some() || soft, highest) {
            (true, _, _) => "stale",
            (_, false, None) => "noop",
            (_, false, Some(_)) => "deleted",
            (_, true, None) => "inserted",
            (_, true, Some(_)) => "updated",
        };
        *counts.entry(outcome).or_default() += 1;
        if stale {
            return;
        }
        let gone = self.rows.remove(&id).map_or(0, |rows| rows.len());
        *counts.entry("collapsed").or_default() += u64::try_from(gone.saturating_sub(1)).unwrap();
        let gone = soft.then_some(new.title.is_none());
        if soft && new.title.is_none() {
            *counts.entry("soft-deleted").or_default() += 1;
        }
        if let Some(title) = new.title.or(soft.then(|| kept.and_then(|row| row.title))) {
            self.rows.insert(id.clone(), vec![Row { id, at: new.at, version: new.version, title, gone }]);
        }
    }

    /// All rows, sorted.
    pub(crate) fn sorted(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.values().flatten().cloned().collect();
        rows.sort();
        rows
    }
}

/// The batch begins where the one before it ended.
fn follows(
    state: &JobState,
    said: &Said<'_>,
    start: &BTreeMap<Partition, Offset>,
    end: &BTreeMap<Partition, Offset>,
    bounds: &Bounds,
) -> Result<(), String> {
    if (said.number("tidegate.epoch"), said.number("tidegate.batch")) != (state.epoch, state.batch + 1) {
        return Err(format!("it follows batch {} of epoch {}", state.batch, state.epoch));
    }
    for (partition, from) in start {
        let earliest = || bounds.get(partition).copied().flatten().map_or(0, |bounds| bounds.earliest);
        let expected = state.end.get(partition).copied().unwrap_or_else(earliest);
        if *from != expected {
            return Err(format!("partition {partition} begins at {from}, not at {expected}"));
        }
        if end.get(partition).is_none_or(|end| end < from) {
            return Err(format!("partition {partition} goes from {from} to {:?}", end.get(partition)));
        }
    }
    for (partition, range) in said.by_partition("tidegate.offsets.skipped") {
        let (to, earliest) = (range[1].as_i64(), bounds.get(&partition).copied().flatten().map(|bounds| bounds.earliest));
        if to != earliest {
            return Err(format!("partition {partition} skips to {to:?}, the topic began at {earliest:?}"));
        }
    }
    match state.end.keys().find(|partition| !start.contains_key(partition)) {
        Some(lost) => Err(format!("partition {lost} is forgotten")),
        None => Ok(()),
    }
}

/// The snapshot tells of the batch what the model found.
fn says(said: &Said<'_>, watermark: Option<i64>, counts: &BTreeMap<&str, u64>) -> Result<(), String> {
    if said.micros("tidegate.watermark") != watermark {
        return Err(format!("the watermark is {:?}, not {:?}", said.micros("tidegate.watermark"), watermark));
    }
    for name in COUNTS {
        let (counted, expected) = (said.number(&format!("tidegate.records.{name}")), counts.get(name).copied().unwrap_or(0));
        if counted != expected {
            return Err(format!("{name} is {counted}, not {expected}"));
        }
    }
    Ok(())
}

fn beats(new: &Version, old: &Version, ties_keep: bool) -> bool {
    let (a, b) = ((new.at, new.version), (old.at, old.version));
    a > b || (a == b && (new.arrival > old.arrival) != ties_keep)
}

/// The id and version of a record, or why the job does not take it.
fn judge(
    message: &Message,
    arrival: (Partition, Offset),
    rules: Rules,
    watermark: Option<i64>,
    clock: i64,
) -> Result<(String, Version), &'static str> {
    let (id, version) = parse(message, arrival, rules.style)?;
    if version.at > clock + HOUR_MICROS {
        return Err("future");
    }
    if rules.late != "merge" && watermark.is_some_and(|watermark| version.at < watermark) {
        return Err("late");
    }
    Ok((id, version))
}

fn parse(message: &Message, arrival: (Partition, Offset), style: Style) -> Result<(String, Version), &'static str> {
    let Some(value) = &message.value else {
        if style == Style::Append {
            return Err("null-value");
        }
        let id = message.key.clone().ok_or("no-id")?;
        return Ok((id, Version { at: message.timestamp_ms * 1_000, version: None, arrival, title: None }));
    };
    let value: Value = serde_json::from_str(value).map_err(|_| "undecodable")?;
    let id = value["id"].as_str().ok_or("missing-field")?.to_owned();
    let at = value["at"].as_str().ok_or("no-event-time")?;
    let at = chrono::DateTime::parse_from_rfc3339(at).unwrap().timestamp_micros();
    let title = Some(value["title"].as_str().map(str::to_owned));
    Ok((id, Version { at, version: value["version"].as_i64(), arrival, title }))
}

/// The newest event time of the slowest partition that is behind, or of all when none is; minus the delay; never back.
fn advance(state: &JobState, bounds: &Bounds) -> Option<i64> {
    let behind = |partition: &Partition, high: Offset| state.end.get(partition).is_none_or(|end| *end < high);
    let slow: Vec<Option<i64>> = bounds
        .iter()
        .filter(|(partition, bounds)| bounds.is_none_or(|bounds| behind(partition, bounds.high_watermark)))
        .map(|(partition, _)| state.newest.get(partition).copied())
        .collect();
    let reached = if slow.is_empty() { state.newest.values().copied().max() } else { slow.into_iter().min().flatten() };
    state.watermark.max(reached.map(|reached| reached - DELAY_MINUTES * 60_000_000))
}
