//! Reads the ranges of a plan through a [`Consumer`], and says how far it came.
//!
//! Never hands over a record at or past a planned end, never one twice, and never jumps over one: a partition's next offset
//! moves by records handed over, or to its planned end once librdkafka has shown that nothing is left before it.
//!
//! What shows that (read in librdkafka 2.12, `rdkafka_fetcher.c`): a record at or past the end; the record just before the end;
//! or an end-of-partition event *at or past the end*. The event is queued behind the records that came before it, carries the
//! fetch position, and under `read_committed` is raised when that position equals the last stable offset of the fetch response:
//! aborted records and control markers are behind it. One below the planned end proves nothing (a follower that lags, for
//! example), so it is ignored. Positions of the consumer prove nothing either: markers and aborted records do not move them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::offsets::{Offset, Partition};
use crate::source::ffi::{Batch, Consumer, Failure, Leaders, Message};
use crate::source::health::Health;
use crate::source::security::refusal::Refusal;
use crate::source::{Chunk, Cut, Flow, Header, PullLimits, Reached, Record, Sink, Span, StartAt, Stop, now};

/// A chunk is handed over when it holds this much: large enough that handing over costs nothing, small enough to stay in cache.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_RECORDS: usize = 4096;
/// Records taken from librdkafka at once. More saves nothing, and they are held twice until copied.
const BATCH_RECORDS: usize = 1024;
/// A started chunk does not wait longer for more records: small batches are to be quick.
const LINGER: Duration = Duration::from_millis(5);
/// How long a signal can go unnoticed while nothing arrives.
const IDLE: Duration = Duration::from_millis(20);

/// How long a partition may stand still after credentials were refused somewhere. A broker that comes back is asked again within
/// that, and statistics come sooner.
const REFUSED_MAX: Duration = Duration::from_secs(6);
/// How long to wait before a seek that came too early is tried again.
const SEEK_AGAIN: Duration = Duration::from_millis(1);
/// How long to ask, after a stall, whether the partition is still there.
const EXPLAIN_MAX: Duration = Duration::from_secs(2);

/// Where to read from.
pub(super) struct Feed<'a> {
    pub(super) consumer: &'a Consumer,
    pub(super) health: &'a Health,
    pub(super) topic: &'a str,
}

/// See [`crate::source::Source::pull`]. The leader epoch of an end that only an end-of-partition event showed is not known here.
pub(super) fn pull(
    feed: &Feed<'_>,
    ranges: &BTreeMap<Partition, StartAt>,
    limits: &PullLimits,
    stop: &Stop,
    sink: &mut Sink<'_>,
) -> Result<Reached> {
    let mut pull = Pull::new(feed, ranges, limits, sink);
    if pull.open > 0 {
        let cut = start(feed, ranges, limits).and_then(|()| pull.run(stop));
        // On errors too: what is still read would go on filling the queue.
        if let Err(failure) = feed.consumer.stop_all() {
            warn!(%failure, "could not stop reading");
        }
        pull.cut = cut?;
    }
    Ok(pull.reached())
}

/// Begins to read the ranges that are not empty, and has each known leader epoch confirmed, so that a log that was truncated and
/// written again is noticed even where the offset exists.
fn start(feed: &Feed<'_>, ranges: &BTreeMap<Partition, StartAt>, limits: &PullLimits) -> Result<()> {
    let doing = || format!("start reading `{}`", feed.topic);
    let ranges = || ranges.iter().filter(|(_, at)| !at.range.is_empty());
    let starts: Vec<_> = ranges().map(|(&partition, at)| (partition, at.range.start())).collect();
    // What a pull that failed may have left running is not read on.
    let begun = feed.consumer.stop_all().and_then(|()| feed.consumer.start(&starts));
    begun.map_err(|failure| Error::unavailable(doing(), failure))?;
    // At offset 0 there is nothing before the start that could have been truncated.
    let known = ranges().map(|(&partition, at)| (partition, at.range.start(), at.leader_epoch));
    let known: Vec<_> = known.filter(|&(_, offset, epoch)| offset > 0 && epoch.is_some()).collect();
    if known.is_empty() {
        return Ok(());
    }
    // What was queued before a seek is thrown away by librdkafka, so nothing unconfirmed is read. A partition that still ends
    // what the last pull wanted of it starts a little later.
    let asked = now();
    while !feed.consumer.seek(&known, limits.stall_timeout).map_err(|failure| Error::unavailable(doing(), failure))? {
        if asked.elapsed() >= limits.stall_timeout {
            return Err(Error::unavailable(doing(), "the client did not get ready"));
        }
        std::thread::sleep(SEEK_AGAIN);
    }
    Ok(())
}

/// One partition on its way to its planned end.
#[derive(Debug)]
struct Lane {
    next: Offset,
    end: Offset,
    leader_epoch: Option<i32>,
    fetched: Offset,
    /// On the pull's own clock.
    moved_at: Duration,
}

impl Lane {
    fn is_done(&self) -> bool {
        self.next == self.end
    }

    /// `leader_epoch` is that of a record at or past `next - 1`. An older one must not stay: an election after it would look
    /// like a truncated log to the next run.
    /// Answers whether the lane is done.
    fn move_to(&mut self, next: Offset, leader_epoch: Option<i32>, now: Duration) -> bool {
        self.next = next.min(self.end);
        self.leader_epoch = leader_epoch;
        self.moved_at = now;
        self.is_done()
    }
}

struct Pull<'a, 's> {
    feed: &'a Feed<'a>,
    limits: &'a PullLimits,
    sink: &'a mut Sink<'s>,
    lanes: HashMap<Partition, Lane>,
    /// Lanes that are not done.
    open: usize,
    /// Lanes that are done but still read.
    finished: Vec<Partition>,
    chunk: Chunk,
    bytes: u64,
    progress: bool,
    refusals: Refusals,
    clock: Clock,
    cut: Option<Cut>,
}

impl<'a, 's> Pull<'a, 's> {
    fn new(feed: &'a Feed<'a>, ranges: &BTreeMap<Partition, StartAt>, limits: &'a PullLimits, sink: &'a mut Sink<'s>) -> Self {
        let lane = |at: &StartAt| Lane {
            next: at.range.start(),
            end: at.range.end(),
            leader_epoch: at.leader_epoch,
            fetched: at.range.start(),
            moved_at: Duration::ZERO,
        };
        let lanes: HashMap<_, _> = ranges.iter().map(|(&partition, at)| (partition, lane(at))).collect();
        let open = lanes.values().filter(|lane| !lane.is_done()).count();
        Self {
            feed,
            limits,
            sink,
            lanes,
            open,
            finished: Vec::new(),
            chunk: Chunk::default(),
            bytes: 0,
            progress: false,
            refusals: Refusals { count: feed.health.refusals(), first: None },
            clock: Clock::start(),
            cut: None,
        }
    }

    fn run(&mut self, stop: &Stop) -> Result<Option<Cut>> {
        let feed = self.feed;
        let mut batch = feed.consumer.batch(BATCH_RECORDS);
        loop {
            batch.fill(if self.chunk.records.is_empty() { IDLE } else { LINGER });
            let now = self.clock.now();
            let idle = batch.is_empty();
            if let Some(cut) = self.take(&batch, now)? {
                return Ok(Some(cut));
            }
            if self.open == 0 {
                self.hand_over()?;
                return Ok(None);
            }
            if idle && self.hand_over()? == Flow::Enough {
                return Ok(Some(Cut::Memory));
            }
            if let Some(cut) = self.interrupted(stop, idle) {
                self.hand_over()?;
                return Ok(Some(cut));
            }
            self.check_health()?;
            self.check_stall(now)?;
            self.stop_finished()?;
        }
    }

    /// Copies the records that belong to the plan, and hands over what is full.
    fn take(&mut self, batch: &Batch<'_>, now: Duration) -> Result<Option<Cut>> {
        if batch.messages().any(|message| message.failure().is_none()) {
            // What was wrong with the connections before must not explain a later silence.
            self.feed.health.answered();
        }
        for message in batch.messages() {
            match message.failure() {
                None => self.record(&message, now),
                Some(failure) => self.event(&message, &failure, now)?,
            }
            if self.open == 0 {
                return Ok(None);
            }
            if self.bytes >= self.limits.bytes_max && self.progress {
                self.hand_over()?;
                return Ok(Some(Cut::Bytes));
            }
            if self.chunk_is_full() && self.hand_over()? == Flow::Enough {
                return Ok(Some(Cut::Memory));
            }
        }
        Ok(None)
    }

    fn record(&mut self, message: &Message<'_>, now: Duration) {
        let (partition, offset) = (message.partition(), message.offset());
        let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| !lane.is_done()) else { return };
        if offset < lane.next {
            return; // never seen; a record twice would be worse than this comparison
        }
        if offset < lane.end {
            self.bytes += append(&mut self.chunk, message);
        }
        self.progress = true;
        if lane.move_to(offset + 1, message.leader_epoch(), now) {
            self.close(partition);
        }
    }

    fn event(&mut self, message: &Message<'_>, failure: &Failure, now: Duration) -> Result<()> {
        let (partition, offset) = (message.partition(), message.offset());
        let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| !lane.is_done()) else {
            // Of a partition that is done, or of none.
            debug!(partition, %failure, "event beside the plan");
            return Ok(());
        };
        if failure.code != Code::PartitionEOF {
            return judge(self.feed.topic, partition, lane, offset, failure);
        }
        if lane.end <= offset {
            // The event knows no epoch, and librdkafka's position forgets it here: an event in a batch counts as a record.
            lane.move_to(lane.end, None, now);
            self.progress = true;
            self.close(partition);
        }
        Ok(())
    }

    fn close(&mut self, partition: Partition) {
        self.open -= 1;
        self.finished.push(partition);
    }

    fn chunk_is_full(&self) -> bool {
        self.chunk.arena.len() >= CHUNK_BYTES || self.chunk.records.len() >= CHUNK_RECORDS
    }

    fn hand_over(&mut self) -> Result<Flow> {
        if self.chunk.records.is_empty() {
            return Ok(Flow::More);
        }
        // The next chunk is likely as large as this one, unless one huge record filled it.
        let next = Chunk {
            records: Vec::with_capacity(self.chunk.records.len()),
            headers: Vec::with_capacity(self.chunk.headers.len()),
            arena: Vec::with_capacity(self.chunk.arena.len().min(2 * CHUNK_BYTES)),
        };
        let chunk = std::mem::replace(&mut self.chunk, next);
        let sink = &mut self.sink;
        self.clock.pause(|| sink(chunk))
    }

    fn interrupted(&self, stop: &Stop, idle: bool) -> Option<Cut> {
        if stop.ends_pull() && (self.progress || idle) {
            return Some(Cut::Signal);
        }
        (self.progress && self.clock.total() >= self.limits.duration_max).then_some(Cut::Duration)
    }

    fn check_health(&self) -> Result<()> {
        self.feed.consumer.serve();
        match self.feed.health.broken() {
            Some(reason) => Err(Error::unavailable(self.doing(), reason)),
            None => Ok(()),
        }
    }

    fn doing(&self) -> String {
        format!("read `{}`", self.feed.topic)
    }

    /// A partition that stands still since credentials were refused will not move again; librdkafka would try for ever.
    fn check_refused(&mut self, moved_at: Duration, now: Duration) -> Result<()> {
        self.refusals.heard(self.feed.health.refusals(), moved_at, now);
        let standing = |first: Duration| now.saturating_sub(first) >= REFUSED_MAX;
        match self.refusals.first.filter(|&first| standing(first)).and_then(|_| self.feed.health.denied(|| self.doing())) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn check_stall(&mut self, now: Duration) -> Result<()> {
        // A long aborted transaction is fetched and thrown away inside librdkafka: that is progress, if not of ours.
        for (partition, fetched) in self.feed.health.take_fetched().unwrap_or_default() {
            if let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| lane.fetched < fetched) {
                lane.fetched = fetched;
                lane.moved_at = now;
            }
        }
        let waiting = self.lanes.iter().filter(|(_, lane)| !lane.is_done());
        let Some((&partition, lane)) = waiting.min_by_key(|(_, lane)| lane.moved_at) else { return Ok(()) };
        let (moved_at, next) = (lane.moved_at, lane.next);
        self.check_refused(moved_at, now)?;
        if now.saturating_sub(moved_at) < self.limits.stall_timeout {
            return Ok(());
        }
        // librdkafka is silent about a partition that the topic no longer has.
        let gone = |leaders: Leaders| leaders.iter().all(|(known, _)| *known != partition);
        if self.feed.consumer.leaders(EXPLAIN_MAX).is_ok_and(gone) {
            return Err(no_such_partition(self.feed.topic, partition, next));
        }
        let seconds = self.limits.stall_timeout.as_secs();
        let source = self.feed.health.unreachable().map(Into::into);
        Err(Error::Stalled { topic: self.feed.topic.to_owned(), partition, offset: next, seconds, source })
    }

    /// A partition that is done would go on costing bandwidth, and room in the queue.
    fn stop_finished(&mut self) -> Result<()> {
        if self.finished.is_empty() {
            return Ok(());
        }
        let finished = std::mem::take(&mut self.finished);
        let stopped = self.feed.consumer.stop(&finished);
        stopped.map_err(|failure| Error::unavailable(format!("stop reading a part of `{}`", self.feed.topic), failure))
    }

    fn reached(self) -> Reached {
        let epoch = |(&partition, lane): (&Partition, &Lane)| Some((partition, lane.leader_epoch?));
        Reached {
            ends: self.lanes.iter().map(|(&partition, lane)| (partition, lane.next)).collect(),
            leader_epochs: self.lanes.iter().filter_map(epoch).collect(),
            cut: self.cut,
        }
    }
}

/// What an error of an unfinished partition means. librdkafka retries by itself what can be retried; `stall_timeout` bounds it.
fn judge(topic: &str, partition: Partition, lane: &Lane, offset: Offset, failure: &Failure) -> Result<()> {
    let wanted = lane.next;
    match failure.code {
        // With `auto.offset.reset=error` both truncation and a missing offset come under this code; the cause is in the text.
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => Err(lost(topic, partition, wanted, failure)),
        Code::UnknownPartition => Err(no_such_partition(topic, partition, wanted)),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId => {
            Err(Error::setup(format!("topic `{topic}` no longer exists"), "was it deleted while it was read?"))
        }
        Code::BadMessage | Code::BadCompression if offset >= lane.end => Ok(()), // the next batch's trouble
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::InvalidMessageSize => {
            let at = if offset >= 0 { offset } else { wanted };
            let what = format!("partition {partition} of `{topic}` cannot be read at offset {at}: {}", failure.reason);
            let choices = format!(
                "the batch is damaged where the leader stores it, and nothing was committed: let a replica lead that holds it whole, or \
                 give it up with `tidegate reset JOB --to {partition}:OFFSET --execute`, OFFSET being where the next batch begins \
                 (`kafka-dump-log.sh` shows it)"
            );
            Err(Error::refused(what, choices))
        }
        code => match Refusal::of_answer(code, topic) {
            Some(refusal) => Err(refusal.into_error(format!("read partition {partition} of `{topic}`"))),
            None => {
                warn!(partition, offset = wanted, %failure, "reading goes on");
                Ok(())
            }
        },
    }
}

/// What the broker no longer has at the offset that was to be read, and what the topic's owner can choose.
fn lost(topic: &str, partition: Partition, wanted: Offset, failure: &Failure) -> Error {
    let truncated =
        failure.code == Code::LogTruncation || failure.reason.contains("truncat") || failure.reason.contains("No epoch");
    let (what, choices) = if truncated {
        (
            "was truncated below offset",
            format!(
                "records that the table holds are no longer in the log, and others may stand at their offsets: `tidegate reset JOB --to \
                 {partition}:{wanted} --execute` reads on from there all the same, `--to earliest` reads all of the log again"
            ),
        )
    } else {
        (
            "no longer has offset",
            "`kafka.on_data_loss = \"skip\"` goes on after the gap and records it; `tidegate reset JOB --to earliest --execute` begins \
             at what is left"
                .to_owned(),
        )
    };
    Error::refused(format!("partition {partition} of `{topic}` {what} {wanted}: {}", failure.reason), choices)
}

fn no_such_partition(topic: &str, partition: Partition, wanted: Offset) -> Error {
    let what = format!("partition {partition} of `{topic}` no longer exists; offset {wanted} was to be read");
    Error::refused(
        what,
        "was the topic deleted and made again? `tidegate reset JOB --to earliest --execute` reads the new one from its start",
    )
}

/// Copies a record into the chunk; answers the bytes of its key, value and headers. To keep librdkafka's own would save this copy, a
/// hundredth of a large run, but one late record would keep alive the whole batch that it came in, which no account of ours sees.
fn append(chunk: &mut Chunk, message: &Message<'_>) -> u64 {
    let before = chunk.arena.len();
    let key = message.key().map(|key| chunk.push_bytes(key));
    let value = message.value().map(|value| chunk.push_bytes(value));
    let headers_start = chunk.headers.len();
    message.headers(|name, value| {
        let name = chunk.push_bytes(name);
        let value = value.map(|value| chunk.push_bytes(value));
        chunk.headers.push(Header { name, value });
    });
    let index = |len: usize| u32::try_from(len).expect("a chunk is far below 4 G headers");
    let headers = Span { start: index(headers_start), end: index(chunk.headers.len()) };
    let timestamp = message.timestamp();
    chunk.records.push(Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: timestamp.map(|(ms, _)| ms),
        broker_time: timestamp.is_some_and(|(_, broker_time)| broker_time),
        key,
        value,
        headers,
    });
    u64::try_from(chunk.arena.len() - before).expect("a length fits 64 bits")
}

/// Refusals that were heard of, and when the first one was since a partition stands still, on the pull's own clock.
struct Refusals {
    count: u64,
    first: Option<Duration>,
}

impl Refusals {
    /// Takes how many there were by now. `moved_at`: since when the partition stands still.
    fn heard(&mut self, count: u64, moved_at: Duration, now: Duration) {
        // Further ones, of other brokers, must not put the end off.
        self.first = self.first.filter(|&first| first >= moved_at).or((count != self.count).then_some(now));
        self.count = count;
    }
}

/// Time spent on waiting for the broker. While the sink is busy nothing is taken from the queue, so nothing can stall.
struct Clock {
    started: Instant,
    paused: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { started: now(), paused: Duration::ZERO }
    }

    fn total(&self) -> Duration {
        self.started.elapsed()
    }

    fn now(&self) -> Duration {
        self.total().saturating_sub(self.paused)
    }

    fn pause<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = now();
        let result = work();
        self.paused += started.elapsed();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_further_brokers_do_not_put_the_end_off() {
        let at = Duration::from_secs;
        let mut refusals = Refusals { count: 0, first: None };
        let mut heard = |count, moved_at, now| {
            refusals.heard(count, at(moved_at), at(now));
            refusals.first
        };
        assert_eq!(heard(0, 0, 1), None);
        assert_eq!([heard(1, 0, 2), heard(2, 0, 5), heard(3, 0, 8)], [Some(at(2)); 3]);
        assert_eq!(heard(3, 9, 9), None, "it moved again");
        assert_eq!(heard(4, 9, 10), Some(at(10)));
    }
}
