//! What a snapshot says about a job: encodes and decodes its state to snapshot-summary strings and to the table property.
//!
//! Pure. A state that was written is read back equal; a state of a newer contract is refused, never guessed at.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::offsets::{Offset, Offsets, Partition};

/// Version of the summary contract that this program writes.
const VERSION: &str = "1";

/// The state that one snapshot of a job carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Job name.
    pub job: String,
    /// What kind of commit wrote it.
    pub kind: Kind,
    /// Counts resets, from 0.
    pub epoch: u64,
    /// Counts batches of the job, from 1.
    pub batch: u64,
    /// Names the work: equal only for the same ranges on the same base.
    pub batch_id: String,
    /// Topic read.
    pub topic: String,
    /// KIP-516 id of the topic; none where the broker has none.
    pub topic_id: Option<String>,
    /// Kafka's cluster id.
    pub cluster_id: Option<String>,
    /// For every partition ever known the offset at which this batch started.
    pub start: Offsets,
    /// For every partition ever known the next offset to read.
    pub end: Offsets,
    /// Ranges given up by `on_data_loss = "skip"` in this batch: `[start, end)`.
    pub skipped: BTreeMap<Partition, (Offset, Offset)>,
    /// Leader epoch of the record before each end, where known.
    pub leader_epochs: BTreeMap<Partition, i32>,
    /// Field ids of `merge.id`, ascending; none in append mode, and where an earlier release wrote it.
    pub id: Option<Vec<i32>>,
    /// Watermark in µs since the epoch; none before the first event time.
    pub watermark: Option<i64>,
    /// Field id of the column whose times these are: it stays when the column is renamed. None where the job names none.
    pub event_time_id: Option<i32>,
    /// Highest event time seen per partition, µs since the epoch.
    pub max_event_time: BTreeMap<Partition, i64>,
    /// Start time of the run, µs since the epoch: "future" was judged against it.
    pub planned_at: i64,
    /// UUID of the run.
    pub run_id: String,
    /// Accounts of the batch.
    pub counts: Counts,
    /// Rejects of the batch: data files to append to the rejects table.
    pub rejects: Option<PendingRejects>,
}

/// What kind of commit wrote a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A batch.
    Batch,
    /// `tidegate reset`.
    Reset,
}

impl Kind {
    /// As it stands in the summary.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Reset => "reset",
        }
    }
}

/// The rejects of one batch, named by the main snapshot before they are appended to the rejects table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRejects {
    /// Full name of the rejects table.
    pub table: String,
    /// Job as it stands in the rows; a branch that inherits this state has another, and leaves the rejects alone.
    pub job: String,
    /// Its files.
    pub files: Vec<RejectsFile>,
    /// Watermark that the batch was judged by, µs: needed to make the files again should they be gone.
    pub judged_by: Option<i64>,
}

impl PendingRejects {
    /// Rows in all files.
    pub fn records(&self) -> u64 {
        self.files.iter().map(|file| file.records).fold(0, u64::saturating_add)
    }
}

/// One data file of rejects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectsFile {
    /// Location.
    pub path: String,
    /// Rows.
    pub records: u64,
    /// Bytes.
    pub size: u64,
}

impl Progress {
    /// The summary entries of the snapshot.
    pub fn encode(&self) -> BTreeMap<String, String> {
        let topic = self.topic.as_str();
        let mut summary: BTreeMap<String, String> = [
            ("tidegate.job", self.job.clone()),
            ("tidegate.version", VERSION.into()),
            ("tidegate.kind", self.kind.as_str().into()),
            ("tidegate.epoch", self.epoch.to_string()),
            ("tidegate.batch", self.batch.to_string()),
            ("tidegate.batch-id", self.batch_id.clone()),
            ("tidegate.topics", json(&BTreeMap::from([(topic, &self.topic_id)]))),
            ("tidegate.offsets.start", json(&BTreeMap::from([(topic, &self.start)]))),
            ("tidegate.offsets.end", json(&BTreeMap::from([(topic, &self.end)]))),
            ("tidegate.leader-epochs", json(&BTreeMap::from([(topic, &self.leader_epochs)]))),
            ("tidegate.planned-at", rfc3339(self.planned_at)),
            ("tidegate.run-id", self.run_id.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(cluster_id) = &self.cluster_id {
            summary.insert("tidegate.cluster-id".into(), cluster_id.clone());
        }
        if let Some(id) = &self.id {
            summary.insert("tidegate.id".into(), json(id));
        }
        if !self.skipped.is_empty() {
            summary.insert("tidegate.offsets.skipped".into(), json(&BTreeMap::from([(topic, &self.skipped)])));
        }
        if let Some(watermark) = self.watermark {
            summary.insert("tidegate.watermark".into(), rfc3339(watermark));
        }
        if let Some(id) = self.event_time_id {
            summary.insert("tidegate.event-time-id".into(), id.to_string());
        }
        if !self.max_event_time.is_empty() {
            let times: BTreeMap<_, _> = self.max_event_time.iter().map(|(&p, &t)| (p, rfc3339(t))).collect();
            summary.insert("tidegate.max-event-time".into(), json(&BTreeMap::from([(topic, times)])));
        }
        for (name, count) in self.counts.named() {
            summary.insert(format!("tidegate.records.{name}"), count.to_string());
        }
        if let Some(rejects) = &self.rejects {
            summary.insert("tidegate.rejects".into(), json(rejects));
        }
        summary
    }

    /// The state in a snapshot summary; none where `job` did not write it.
    pub fn decode(job: &str, summary: &HashMap<String, String>) -> Result<Option<Self>> {
        if summary.get("tidegate.job").is_none_or(|name| name != job) {
            return Ok(None);
        }
        let reader = Reader { summary, topic: "" };
        let version = reader.text("tidegate.version")?;
        if version != VERSION {
            return Err(Error::refused(
                format!("the state of job `{job}` in the table has version `{version}`; this program reads version `{VERSION}`"),
                "run the tidegate release that wrote it, or a newer one",
            ));
        }
        let (topic, topic_id) = reader.one_topic::<Option<String>>("tidegate.topics")?;
        let reader = Reader { topic: &topic, ..reader };
        let times: BTreeMap<Partition, String> = reader.optional_of_topic("tidegate.max-event-time", |_| true)?;
        let progress = Self {
            job: job.to_owned(),
            kind: match reader.text("tidegate.kind")? {
                "batch" => Kind::Batch,
                "reset" => Kind::Reset,
                _ => return Err(reader.damaged("tidegate.kind")),
            },
            epoch: reader.number("tidegate.epoch")?,
            batch: reader.number("tidegate.batch")?,
            batch_id: reader.text("tidegate.batch-id")?.to_owned(),
            topic_id,
            cluster_id: summary.get("tidegate.cluster-id").cloned(),
            start: reader.of_topic("tidegate.offsets.start", |offset: &Offset| *offset >= 0)?,
            end: reader.of_topic("tidegate.offsets.end", |offset: &Offset| *offset >= 0)?,
            skipped: reader.optional_of_topic("tidegate.offsets.skipped", |&(from, to): &(Offset, Offset)| from >= 0 && to >= 0)?,
            leader_epochs: reader.optional_of_topic("tidegate.leader-epochs", |_| true)?,
            id: reader.optional("tidegate.id")?,
            watermark: reader.optional_time("tidegate.watermark")?,
            event_time_id: reader.optional("tidegate.event-time-id")?,
            max_event_time: times
                .into_iter()
                .map(|(p, t)| Some((p, micros(&t)?)))
                .collect::<Option<_>>()
                .ok_or_else(|| reader.damaged("tidegate.max-event-time"))?,
            planned_at: reader.optional_time("tidegate.planned-at")?.ok_or_else(|| reader.damaged("tidegate.planned-at"))?,
            run_id: reader.text("tidegate.run-id")?.to_owned(),
            counts: Counts::from_summary(summary),
            rejects: reader.optional("tidegate.rejects")?,
            topic,
        };
        Ok(Some(progress))
    }
}

/// Whether these entries follow the contract that this program reads, so that what it cannot read in them is damage.
pub(crate) fn is_of_this_version(summary: &HashMap<String, String>) -> bool {
    summary.get("tidegate.version").is_none_or(|version| version == VERSION)
}

/// The state as the table property keeps it, for the day when the snapshot is expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateProperty {
    /// UUID of the table it was written to.
    #[serde(rename = "table-uuid")]
    pub table_uuid: String,
    /// Snapshot that carried the state.
    #[serde(rename = "snapshot-id")]
    pub snapshot_id: i64,
    /// The same entries as in that snapshot's summary.
    pub summary: HashMap<String, String>,
}

impl StateProperty {
    /// Name of the table property for a job on a branch.
    pub fn key(job: &str, branch: &str) -> String {
        format!("tidegate.state.{job}.{branch}")
    }

    /// The property's value.
    pub fn encode(&self) -> String {
        json(self)
    }

    /// Reads the property's value.
    pub fn decode(key: &str, value: &str) -> Result<Self> {
        serde_json::from_str(value).map_err(|e| {
            Error::refused(
                format!("table property `{key}` cannot be read: {e}"),
                "it was edited or cut, and the job's last snapshot is not in the table's history; restore it from an older metadata \
                 file, or `tidegate reset JOB --to earliest --execute` gives the job a new start",
            )
        })
    }
}

/// What names the work of one batch: the same work has the same id, different work never has.
#[derive(Debug)]
pub struct BatchName<'a> {
    /// UUID of the table.
    pub table_uuid: &'a str,
    /// Branch.
    pub branch: &'a str,
    /// Job.
    pub job: &'a str,
    /// Snapshot whose state the batch started from; none on the first run.
    pub started_from: Option<i64>,
    /// Epoch.
    pub epoch: u64,
    /// Batch number.
    pub batch: u64,
    /// Topic.
    pub topic: &'a str,
    /// Topic id.
    pub topic_id: Option<&'a str>,
    /// Start offsets.
    pub start: &'a Offsets,
    /// End offsets.
    pub end: &'a Offsets,
}

impl BatchName<'_> {
    /// SHA-256 in hex over every part, each with its length so that no two names share one text.
    pub fn id(&self) -> String {
        let parts = [
            self.table_uuid.to_owned(),
            self.branch.to_owned(),
            self.job.to_owned(),
            json(&self.started_from),
            self.epoch.to_string(),
            self.batch.to_string(),
            self.topic.to_owned(),
            json(&self.topic_id),
            json(self.start),
            json(self.end),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }
}

/// RFC 3339, UTC, microseconds.
pub(crate) fn rfc3339(micros: i64) -> String {
    // RFC 3339 ends at year 9999; what lies outside keeps its number so that nothing is lost.
    match DateTime::<Utc>::from_timestamp_micros(micros).filter(|time| (0..=9999).contains(&time.year())) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => format!("{micros} us"),
    }
}

/// µs since the epoch of an RFC 3339 time.
pub(crate) fn micros(text: &str) -> Option<i64> {
    if let Some(number) = text.strip_suffix(" us") {
        return number.parse().ok();
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from_digit(u32::from(n), 16).expect("below 16")).collect()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps of strings and numbers always serialize")
}

struct Reader<'a> {
    summary: &'a HashMap<String, String>,
    /// The topic whose positions these are; empty until it is read.
    topic: &'a str,
}

impl Reader<'_> {
    fn damaged(&self, key: &str) -> Error {
        Error::refused(
            format!(
                "the job's state in the table is damaged: `{key}` is {}",
                self.summary.get(key).map_or("missing".into(), |v| format!("`{v}`"))
            ),
            "roll the table back to the snapshot before, or `tidegate reset JOB --to earliest --execute` gives the job a new start",
        )
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.summary.get(key).map(String::as_str).ok_or_else(|| self.damaged(key))
    }

    /// A count that can be counted on from.
    fn number(&self, key: &str) -> Result<u64> {
        self.text(key)?.parse().ok().filter(|number| *number < u64::MAX).ok_or_else(|| self.damaged(key))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.text(key)?).map_err(|_| self.damaged(key))
    }

    fn optional<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<Option<T>> {
        if self.summary.contains_key(key) { self.json(key).map(Some) } else { Ok(None) }
    }

    /// The only topic of an entry.
    fn one_topic<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<(String, T)> {
        let mut topics: BTreeMap<String, T> = self.json(key)?;
        topics.pop_first().filter(|_| topics.is_empty()).ok_or_else(|| self.damaged(key))
    }

    /// What an entry says of each partition. Numbers of another topic say nothing about this one, and to Kafka a negative offset
    /// means the end of the log: both are damage.
    fn of_topic<T: for<'de> Deserialize<'de>>(&self, key: &str, sound: impl Fn(&T) -> bool) -> Result<BTreeMap<Partition, T>> {
        let (topic, partitions): (_, BTreeMap<Partition, T>) = self.one_topic(key)?;
        let sound = topic == self.topic && partitions.iter().all(|(&partition, value)| partition >= 0 && sound(value));
        if sound { Ok(partitions) } else { Err(self.damaged(key)) }
    }

    fn optional_of_topic<T: for<'de> Deserialize<'de>>(
        &self,
        key: &str,
        sound: impl Fn(&T) -> bool,
    ) -> Result<BTreeMap<Partition, T>> {
        if self.summary.contains_key(key) { self.of_topic(key, sound) } else { Ok(BTreeMap::new()) }
    }

    fn optional_time(&self, key: &str) -> Result<Option<i64>> {
        self.summary.get(key).map(|text| micros(text).ok_or_else(|| self.damaged(key))).transpose()
    }
}

#[cfg(test)]
mod tests;
