//! Kafka through librdkafka: one client per run, told partition by partition what to read.
//!
//! Owns the client's settings and says what its answers mean to the operator. Belongs to no group, never commits what it read
//! (the table holds the offsets; [`Source::mirror`] writes them to a group for lag tools only), and never lets librdkafka choose an
//! offset: what is not there is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::error::{Error, Result};
use crate::offsets::{Offset, Offsets, Partition, PartitionBounds, TopicBounds};
use crate::source::ffi::ask::{Answer, Isolation, Pending};
use crate::source::ffi::{Consumer, Failure, Leaders};
use crate::source::health::Health;
use crate::source::pull::{self, Feed};
use crate::source::security::refusal::{Refusal, is_denial};
use crate::source::security::{self, Security};
use crate::source::start::{refused, started};
use crate::source::{PullLimits, Reached, Sink, Source, StartAt, Stop, now};

/// Without these the guarantee does not hold, whatever the job file says.
const OURS: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),       // the table holds the offsets, not Kafka
    ("enable.auto.offset.store", "false"), // nothing to store: offsets are committed with the rows
    ("auto.offset.reset", "error"),        // a gap is a decision of the operator
    ("isolation.level", "read_committed"), // an aborted record must never reach the table
    ("enable.partition.eof", "true"),      // the only sign that a range ends in control markers or aborted records
    ("check.crcs", "true"),                // a flipped bit on the wire or on disk would be committed for good
    ("allow.auto.create.topics", "false"), // a mistyped topic name is a mistake, not a new topic
];

/// What suits a run that starts, reads a bounded range and ends; the job file may say otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "tidegate"),
    ("fetch.queue.backoff.ms", "10"),  // 1 s by default: longer than it takes us to empty that queue
    ("fetch.wait.max.ms", "10"),       // an end-of-partition event comes no sooner than this after the last record
    ("fetch.error.backoff.ms", "100"), // a leader election is over sooner than the default of 500 ms
    ("reconnect.backoff.ms", "20"),    // librdkafka opens one connection per half of this (11 ms at least): a start needs two
    ("topic.metadata.propagation.max.ms", "5000"), // the plan comes from fresh metadata: a topic unknown now is gone
    ("statistics.interval.ms", "5000"), // tells a long aborted transaction from a stall; a short run sees none
    ("enable.metrics.push", "false"),  // would send requests at start, and wait at the end, for nothing
];

/// How long a question may take when brokers accept connections but do not answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long to go on once every broker is out of reach: enough for each address of each name to be tried.
const DOWN_MAX: Duration = Duration::from_secs(1);
/// How long to go on once some broker did not believe us, or we it: enough for another one to answer.
const REFUSED_MAX: Duration = Duration::from_secs(3);
/// How long one request may wait for a partition's leader: a dead one never answers, and by then there may be another.
const LEADER_MAX: Duration = Duration::from_secs(4);
/// Mirroring is a courtesy; a run does not wait longer for it.
const MIRROR_MAX: Duration = Duration::from_secs(5);
/// The longest time that librdkafka gives a request.
const REQUEST_MAX: Duration = Duration::from_secs(3600);
/// Epochs make the next start safer; a run does not wait longer for them.
const EPOCHS_MAX: Duration = Duration::from_secs(2);
/// How soon a refusal is noticed: while a broker is looked for, and while an answer is awaited.
const LOOK: Duration = Duration::from_millis(250);
const SLICE: Duration = Duration::from_millis(10);

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// A topic of a Kafka cluster.
pub struct Kafka {
    topic: String,
    brokers: String,
    /// `security.protocol`.
    protocol: String,
    consumer: Consumer,
    health: Arc<Health>,
    /// A client has one queue of records, so one pull at a time.
    pulling: Mutex<()>,
    /// A mirror request went unanswered; see [`Source::mirror`] of this.
    mirror_unanswered: AtomicBool,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("topic", &self.topic).field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl Kafka {
    /// The property whose value is a token, or the name of a place where there always is a good one.
    pub(crate) const TOKEN: &str = security::TOKEN;

    /// Makes a client of the job's librdkafka properties. Contacts no broker yet.
    pub(crate) fn connect(topic: &str, properties: &BTreeMap<String, String>) -> Result<Self> {
        let security = Security::of(properties)?;
        let mut config = ClientConfig::new();
        for (name, value) in DEFAULTS {
            config.set(*name, *value);
        }
        for (name, value) in &security.properties {
            config.set(name, value);
        }
        for (name, value) in OURS {
            config.set(*name, *value);
        }

        let brokers = ["bootstrap.servers", "metadata.broker.list"].iter().find_map(|name| properties.get(*name));
        let Some(brokers) = brokers else {
            return Err(Error::setup("`bootstrap.servers` is not set", "`[kafka] \"bootstrap.servers\"` names the brokers"));
        };
        let topic_c = CString::new(topic);
        let topic_c =
            topic_c.map_err(|_| Error::setup(format!("topic name {topic:?} holds a NUL"), "`kafka.topic` names the topic"))?;
        let health = Arc::new(Health::default());
        let listening = Arc::clone(&health);
        let consumer = started(move || {
            let native = config.create_native_config().map_err(unusable)?;
            Consumer::new(native, topic_c, listening, security.login).map_err(|failure| match failure.code {
                Code::CriticalSystemResource => refused(failure.reason),
                _ => Error::setup(format!("the Kafka properties are not usable: {failure}"), PROPERTIES_HINT),
            })
        })?;
        Ok(Self {
            topic: topic.to_owned(),
            brokers: brokers.clone(),
            protocol: properties.get("security.protocol").map_or("plaintext", String::as_str).to_owned(),
            consumer,
            health,
            pulling: Mutex::new(()),
            mirror_unanswered: AtomicBool::new(false),
        })
    }

    /// The topic's partitions as some broker knows them; the first question, so the one that finds out about connections.
    fn leaders(&self) -> Result<Leaders> {
        let doing = || format!("look up topic `{}` on {}", self.topic, self.brokers);
        let mut hope = Hope::new(self, ANSWER_MAX);
        // A call waits in librdkafka and notices no refusal, so the first ones are short. Nothing is lost with a call that was
        // too short: connections stay, and a late answer is kept.
        let mut patience = LOOK;
        loop {
            match self.consumer.leaders(patience) {
                Ok(leaders) => {
                    self.health.answered();
                    return Ok(leaders);
                }
                Err(failure) if matches!(failure.code, Code::OperationTimedOut | Code::BrokerTransportFailure) => {
                    hope.check(&doing)?;
                    patience = if self.health.all_down() { LOOK } else { (patience * 2).min(hope.left()) };
                }
                Err(failure) => return Err(self.explain(failure, &doing)),
            }
        }
    }

    /// None where the broker keeps no topic ids.
    fn topic_id(&self, pending: &Pending<'_>) -> Result<Option<String>> {
        let doing = || format!("ask for the id of topic `{}` on {}", self.topic, self.brokers);
        match self.wait(pending, ANSWER_MAX, &doing)?.topic_id() {
            Some(Ok(halves)) => Ok(topic_id(halves)),
            Some(Err(failure)) => Err(self.explain(failure, &doing)),
            None => Err(Error::broken(format!("a description without the topic `{}`", self.topic))),
        }
    }

    /// One answer of all partitions, in one request per leader.
    fn list(&self, asked: &[(Partition, i64)], isolation: Isolation) -> Pending<'_> {
        self.consumer.list_offsets(asked, isolation, ANSWER_MAX)
    }

    /// Offsets of the partitions that could be asked; the first refusal of the others.
    fn listed(&self, pending: &Pending<'_>) -> Result<(BTreeMap<Partition, Offset>, Option<Failure>)> {
        let doing = || format!("ask for offsets of `{}` on {}", self.topic, self.brokers);
        let mut offsets = BTreeMap::new();
        let mut refusal = None;
        for (partition, outcome) in self.wait(pending, ANSWER_MAX, &doing)?.offsets() {
            match found(outcome) {
                Ok(offset) => {
                    offsets.insert(partition, offset);
                }
                Err(failure) if is_denial(failure.code) => return Err(self.explain(failure, &doing)),
                Err(failure) => refusal = refusal.or(Some(failure)),
            }
        }
        Ok((offsets, refusal))
    }

    /// A leader epoch at or after the last record before each end, for ends that no record showed: that of the last stable offset,
    /// which the end cannot be past. Without one the next pull starts unconfirmed, so a failure is no error.
    fn epochs(&self, ends: &Offsets) -> BTreeMap<Partition, i32> {
        if ends.is_empty() {
            return BTreeMap::new();
        }
        let asked: Vec<_> = ends.keys().map(|&partition| (partition, LATEST)).collect();
        let pending = self.list(&asked, Isolation::ReadCommitted);
        let doing = || format!("ask for leader epochs of `{}`", self.topic);
        match self.wait(&pending, EPOCHS_MAX, &doing) {
            Ok(answer) => {
                let usable = |(partition, outcome)| match outcome {
                    Ok((last_stable, Some(epoch))) if last_stable >= ends[&partition] => Some((partition, epoch)),
                    _ => None,
                };
                answer.offsets().into_iter().filter_map(usable).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "the next run starts without leader epochs");
                BTreeMap::new()
            }
        }
    }

    /// Waits for an answer, but no longer than there is hope for one.
    fn wait<'c>(&self, pending: &Pending<'c>, answer_max: Duration, doing: &dyn Fn() -> String) -> Result<Answer<'c>> {
        let mut hope = Hope::new(self, answer_max);
        loop {
            match pending.poll(SLICE) {
                Some(Ok(answer)) => {
                    self.health.answered();
                    return Ok(answer);
                }
                Some(Err(failure)) => {
                    self.consumer.serve();
                    return Err(self.explain(failure, doing));
                }
                None => hope.check(doing)?,
            }
        }
    }

    /// Puts the cause beside what librdkafka answered, and says whose turn it is.
    fn explain(&self, failure: Failure, doing: &dyn Fn() -> String) -> Error {
        if let Some(refusal) = Refusal::of_answer(failure.code, &self.topic) {
            return refusal.into_error(doing());
        }
        match failure.code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId => Error::setup(
                format!("topic `{}` does not exist on {}", self.topic, self.brokers),
                "`kafka.topic` names the topic; tidegate creates none",
            ),
            Code::InvalidTopic => {
                Error::setup(format!("`{}` is not a name that a topic can have", self.topic), "`kafka.topic` names the topic")
            }
            // Sent to a broker that was never reached, or timed out: what librdkafka heard meanwhile is why.
            code => match self.health.denied(doing).or_else(|| is_denial(code).then(|| not_allowed(doing(), &failure))) {
                Some(error) => error,
                None => self.unreachable(doing(), failure),
            },
        }
    }

    fn unreachable(&self, doing: String, failure: Failure) -> Error {
        match self.health.unreachable() {
            Some(reason) => Error::unavailable(doing, format!("{reason}: {failure}")),
            None => Error::unavailable(doing, failure),
        }
    }
}

/// Whether it makes sense to go on waiting for an answer.
struct Hope<'a> {
    kafka: &'a Kafka,
    asked: Instant,
    answer_max: Duration,
    all_down_since: Option<Instant>,
}

impl<'a> Hope<'a> {
    fn new(kafka: &'a Kafka, answer_max: Duration) -> Self {
        Self { kafka, asked: now(), answer_max, all_down_since: None }
    }

    fn left(&self) -> Duration {
        self.answer_max.saturating_sub(self.asked.elapsed())
    }

    fn check(&mut self, doing: &dyn Fn() -> String) -> Result<()> {
        self.kafka.consumer.serve();
        let health = &self.kafka.health;
        if let Some(error) = health.without_token() {
            return Err(error);
        }
        if !health.all_down() {
            self.all_down_since = None;
        }
        let all_down = health.all_down() && self.all_down_since.get_or_insert_with(now).elapsed() >= DOWN_MAX;
        let patient = self.asked.elapsed() < REFUSED_MAX.min(self.answer_max);
        if !all_down && patient {
            return Ok(());
        }
        if let Some(error) = health.denied(doing) {
            return Err(error);
        }
        if all_down || self.left().is_zero() {
            let silent = || match all_down {
                true => format!(
                    "no broker keeps a connection open: is `security.protocol`, now `{}`, what its listener speaks?",
                    self.kafka.protocol
                ),
                false => format!("no answer within {} s", self.answer_max.as_secs()),
            };
            return Err(Error::unavailable(doing(), health.unreachable().unwrap_or_else(silent)));
        }
        Ok(())
    }
}

impl Kafka {
    /// Bounds of the partitions that could be asked; where none could, why: an election may be over soon.
    fn ask_bounds(&self) -> Result<Result<TopicBounds>> {
        let leaders = self.leaders()?;
        let doing = || format!("ask for offsets of `{}` on {}", self.topic, self.brokers);
        let Some(leader) = leaders.iter().find_map(|&(_, leader)| leader) else {
            return Ok(Err(Error::unavailable(doing(), "no partition has a leader")));
        };
        let led: Vec<_> = leaders.iter().filter_map(|&(partition, leader)| leader.and(Some(partition))).collect();
        let ask = |offset, isolation| {
            let asked: Vec<_> = led.iter().map(|&partition| (partition, offset)).collect();
            self.consumer.list_offsets(&asked, isolation, LEADER_MAX)
        };
        // All are on their way before the first is awaited.
        let earliest = ask(EARLIEST, Isolation::ReadUncommitted);
        let last_stable = ask(LATEST, Isolation::ReadCommitted);
        let high_watermark = ask(LATEST, Isolation::ReadUncommitted);
        let id = self.consumer.topic_id(leader, LEADER_MAX);
        let (earliest, refused_1) = self.listed(&earliest)?;
        let (last_stable, refused_2) = self.listed(&last_stable)?;
        let (high_watermark, refused_3) = self.listed(&high_watermark)?;

        let bounds = |partition| {
            let (earliest, last_stable) = (*earliest.get(&partition)?, *last_stable.get(&partition)?);
            Some(ordered(earliest, last_stable, *high_watermark.get(&partition)?))
        };
        let partitions: BTreeMap<_, _> = leaders.iter().map(|&(partition, _)| (partition, bounds(partition))).collect();
        let unanswered = partitions.values().filter(|bounds| bounds.is_none()).count();
        let refusal = refused_1.or(refused_2).or(refused_3);
        if unanswered == partitions.len() {
            return Ok(Err(match refusal {
                Some(failure) => self.explain(failure, &doing),
                None => Error::unavailable(doing(), "no partition was answered for"),
            }));
        }
        if unanswered > 0 {
            tracing::warn!(unanswered, ?refusal, "partitions whose leader could not be asked are left for a later run");
        }
        let topic_id = match self.topic_id(&id) {
            // Who was asked first may be gone; whoever leads a partition that was answered for is not.
            Err(Error::Unavailable { .. }) => {
                let answered = leaders.iter().find(|(partition, _)| partitions[partition].is_some());
                let leader = answered.and_then(|&(_, leader)| leader).unwrap_or(leader);
                self.topic_id(&self.consumer.topic_id(leader, ANSWER_MAX))?
            }
            asked => asked?,
        };
        Ok(Ok(TopicBounds { topic: self.topic.clone(), topic_id, cluster_id: self.consumer.cluster_id(SLICE), partitions }))
    }
}

impl Source for Kafka {
    fn bounds(&self) -> Result<TopicBounds> {
        let asked = now();
        loop {
            match self.ask_bounds()? {
                Ok(bounds) => return Ok(bounds),
                Err(Error::Unavailable { .. }) if asked.elapsed() < ANSWER_MAX => std::thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        }
    }

    fn offsets_at(&self, timestamp_ms: i64) -> Result<Offsets> {
        let leaders = self.leaders()?;
        if let Some((partition, _)) = leaders.iter().find(|(_, leader)| leader.is_none()) {
            let doing = format!("find the offset of a time in partition {partition} of `{}`", self.topic);
            return Err(Error::unavailable(doing, "the partition has no leader"));
        }
        // Below 0 are the codes of `EARLIEST` and `LATEST`; no record is older than the epoch.
        let at = |offset| leaders.iter().map(|&(partition, _)| (partition, offset)).collect::<Vec<_>>();
        let found = self.list(&at(timestamp_ms.max(0)), Isolation::ReadCommitted);
        let ends = self.list(&at(LATEST), Isolation::ReadCommitted);
        let (found, refused_1) = self.listed(&found)?;
        let (ends, refused_2) = self.listed(&ends)?;
        if let Some(failure) = refused_1.or(refused_2) {
            return Err(self.explain(failure, &|| format!("find the offset of a time in `{}`", self.topic)));
        }
        Ok(ends
            .into_iter()
            .map(|(partition, end)| (partition, found.get(&partition).map_or(end, |&at| if at < 0 { end } else { at })))
            .collect())
    }

    fn held_since_before(&self, timestamp_ms: i64, last_stable: &Offsets) -> Result<BTreeSet<Partition>> {
        let at = |offset| last_stable.keys().map(|&partition| (partition, offset)).collect::<Vec<_>>();
        let younger = self.list(&at(timestamp_ms.max(0)), Isolation::ReadUncommitted);
        let still = self.list(&at(LATEST), Isolation::ReadCommitted);
        let (younger, _) = self.listed(&younger)?;
        let (still, _) = self.listed(&still)?;
        // The first record of that time or later is behind the held one, or does not exist; and an end that moved meanwhile was
        // not held at all.
        let held = |(partition, offset): (&Partition, &Offset)| {
            let older = younger.get(partition).is_some_and(|&found| found < 0 || found > *offset);
            older && still.get(partition) == Some(offset)
        };
        Ok(last_stable.iter().filter(|&each| held(each)).map(|(&partition, _)| partition).collect())
    }

    fn pull(
        &self,
        ranges: &BTreeMap<Partition, StartAt>,
        limits: &PullLimits,
        stop: &Stop,
        sink: &mut Sink<'_>,
    ) -> Result<Reached> {
        let _one_at_a_time = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = Feed { consumer: &self.consumer, health: &self.health, topic: &self.topic };
        let mut reached = pull::pull(&feed, ranges, limits, stop, sink)?;
        let moved = |partition: &Partition, end: &Offset| *end > ranges[partition].range.start();
        let unknown = reached.ends.iter().filter(|(partition, end)| moved(partition, end));
        let unknown: BTreeMap<_, _> =
            unknown.filter(|(partition, _)| !reached.leader_epochs.contains_key(partition)).map(|(&p, &end)| (p, end)).collect();
        reached.leader_epochs.extend(self.epochs(&unknown));
        Ok(reached)
    }

    fn mirror(&self, group: &str, offsets: &Offsets) -> Result<()> {
        let doing = || format!("mirror offsets to group `{group}`");
        let group_c = CString::new(group).map_err(|error| Error::unavailable(doing(), error))?;
        let offsets: Vec<_> = offsets.iter().map(|(&partition, &offset)| (partition, offset)).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        if self.mirror_unanswered.load(Ordering::Relaxed) {
            return Err(Error::unavailable(doing(), "an earlier request of this run is still unanswered"));
        }
        // librdkafka 2.12 frees such a request twice when its coordinator comes back after the request's time was up, and ends
        // the process. So its time is longer than a run, only we wait less, and what is unanswered is not asked again.
        let pending = self.consumer.alter_group(&group_c, &offsets, REQUEST_MAX);
        self.mirror_unanswered.store(true, Ordering::Relaxed);
        let answer = self.wait(&pending, MIRROR_MAX, &doing)?;
        self.mirror_unanswered.store(false, Ordering::Relaxed);
        answer.altered().map_err(|failure| self.explain(failure, &doing))
    }
}

/// What a leader said. One that was lost while it was asked leaves an offset that is none, and librdkafka 2.12 calls that no error.
fn found(outcome: Result<(Offset, Option<i32>), Failure>) -> Result<Offset, Failure> {
    match outcome? {
        (offset, _) if offset < LATEST => {
            Err(Failure { code: Code::LeaderNotAvailable, reason: "the leader was lost while it was asked".into() })
        }
        (offset, _) => Ok(offset),
    }
}

/// Three answers of three moments as one. Each value only ever grows, and at any moment they are in this order, so one that came
/// out below its left neighbour has reached it by now.
fn ordered(earliest: Offset, last_stable: Offset, high_watermark: Offset) -> PartitionBounds {
    let last_stable = last_stable.max(earliest);
    PartitionBounds { earliest, last_stable, high_watermark: high_watermark.max(last_stable) }
}

/// A refusal that only its code tells.
fn not_allowed(doing: String, failure: &Failure) -> Error {
    Error::Denied { doing, source: failure.clone().into() }
}

fn topic_id(halves: [i64; 2]) -> Option<String> {
    let bytes = [halves[0].to_be_bytes(), halves[1].to_be_bytes()].concat();
    (halves != [0, 0]).then(|| URL_SAFE_NO_PAD.encode(bytes))
}

const PROPERTIES_HINT: &str = "keys of `[kafka]` with a dot are librdkafka's own properties (its CONFIGURATION.md lists them)";

fn unusable(error: KafkaError) -> Error {
    let what = match &error {
        // The reason names the property; the value may be a secret.
        KafkaError::ClientConfig(_, reason, name, _) => format!("Kafka property `{name}` is not usable: {reason}"),
        other => format!("the Kafka properties are not usable: {other}"),
    };
    Error::setup(what, PROPERTIES_HINT)
}

#[cfg(test)]
mod tests;
