//! Where records come from: asks for a topic's bounds and pulls exactly a plan.
//!
//! Knows nothing of tables, columns or ids. Never reads past a planned end, never skips an offset, never joins a consumer group.

mod ffi;
mod health;
pub mod kafka;
mod pull;
mod security;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::offsets::{OffsetRange, Offsets, Partition, TopicBounds};

/// How long to wait for a broker is the one thing that this room asks the clock for.
#[expect(clippy::disallowed_methods, reason = "waits are bounded here, at the edge")]
fn now() -> Instant {
    Instant::now()
}

/// Where records come from. `Kafka` is the real one; tests script one.
pub trait Source: Send + Sync {
    /// What the broker holds of the topic now.
    fn bounds(&self) -> Result<TopicBounds>;

    /// The first offset of each partition whose timestamp is at or after `timestamp_ms` (ms since the epoch);
    /// the partition's end where there is none.
    fn offsets_at(&self, timestamp_ms: i64) -> Result<Offsets>;

    /// Of partitions that end in an open transaction at these last stable offsets, those where it has been open since before
    /// `timestamp_ms` (ms since the epoch), by the timestamp of its first record.
    fn held_since_before(&self, timestamp_ms: i64, last_stable: &Offsets) -> Result<BTreeSet<Partition>>;

    /// Reads every range from its start towards its end, in bounded chunks handed to `sink` in offset order per partition.
    ///
    /// Blocks until every range is done or the batch is cut (by `limits`, by `stop`, or by the sink). A range is done when a
    /// record at or past its end, or the partition's end of file, is seen; then its planned end is its reached end. A cut
    /// happens only after progress: at least one record handed over or one non-empty range done.
    fn pull(&self, ranges: &BTreeMap<Partition, StartAt>, limits: &PullLimits, stop: &Stop, sink: &mut Sink<'_>)
    -> Result<Reached>;

    /// Mirrors committed offsets to the consumer group `group`, for lag tools. Never read back.
    fn mirror(&self, group: &str, offsets: &Offsets) -> Result<()>;
}

/// Takes each chunk; answers whether to go on. `Err` ends the pull with that error.
pub type Sink<'a> = dyn FnMut(Chunk) -> Result<Flow> + Send + 'a;

/// What the receiver of a chunk wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More chunks are welcome.
    More,
    /// Cut the batch after this chunk: memory is used up.
    Enough,
}

/// A range and the leader epoch under which its start was written, so that a truncated log is noticed (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartAt {
    /// What to read.
    pub range: OffsetRange,
    /// Leader epoch of the record before `range.start`; none where unknown.
    pub leader_epoch: Option<i32>,
}

/// Bounds of one pull besides the planned ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// Cut once this many bytes of keys, values and headers were handed over.
    pub bytes_max: u64,
    /// Cut after this long.
    pub duration_max: Duration,
    /// Fail when an unfinished partition got nothing for this long.
    pub stall_timeout: Duration,
}

/// How far a pull came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// For every partition of the plan the next offset to read.
    pub ends: Offsets,
    /// Leader epoch of the last record before each end, where known.
    pub leader_epochs: BTreeMap<Partition, i32>,
    /// Why the batch ended before its plan; none when every range was done.
    pub cut: Option<Cut>,
}

/// Why a batch ended before its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// `max_bytes_per_trigger`.
    Bytes,
    /// `max_duration`.
    Duration,
    /// `memory_limit`, said by the sink.
    Memory,
    /// SIGINT or SIGTERM.
    Signal,
}

/// Records of one topic, their bytes in one arena.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Records; the offsets of one partition ascend.
    pub records: Vec<Record>,
    /// Headers of all records, addressed by `Record::headers`.
    pub headers: Vec<Header>,
    /// Keys, values and headers of all records.
    pub arena: Vec<u8>,
}

/// One record: where it stood, and where its bytes are in the chunk's arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: i64,
    /// Timestamp in ms since the epoch; none where the broker has none (-1).
    pub timestamp_ms: Option<i64>,
    /// Whether the broker set the timestamp (`LogAppendTime`).
    pub broker_time: bool,
    /// Key bytes; none where null.
    pub key: Option<Span>,
    /// Value bytes; none where null (a tombstone).
    pub value: Option<Span>,
    /// Range in `Chunk::headers`.
    pub headers: Span,
}

/// One header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// UTF-8 name.
    pub name: Span,
    /// Value; none where null.
    pub value: Option<Span>,
}

/// A range of bytes in an arena (or of headers in `Chunk::headers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First index.
    pub start: u32,
    /// One past the last index.
    pub end: u32,
}

impl Span {
    /// As a range of indexes.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Chunk {
    /// Bytes of a span.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.range()]
    }

    /// Copies bytes into the arena.
    ///
    /// # Panics
    /// When the arena passes 4 GiB; a chunk is cut far below.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = u32::try_from(self.arena.len()).expect("a chunk is far below 4 GiB");
        self.arena.extend_from_slice(bytes);
        Span { start, end: u32::try_from(self.arena.len()).expect("a chunk is far below 4 GiB") }
    }
}

/// The wish to end, shared between the signal handler and the pull. Once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicU8>,
    over: Arc<AtomicBool>,
}

impl Stop {
    /// Asks for the end; remembers the first signal's number (2 or 15).
    pub fn request(&self, signal: u8) {
        let _first_wins = self.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The signal that asked for the end, if one did.
    pub fn requested(&self) -> Option<u8> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// The same wish for one pull, which can be given up alone.
    pub(crate) fn of_pull(&self) -> Self {
        Self { signal: Arc::clone(&self.signal), over: Arc::default() }
    }

    /// Ends the pull: nobody listens to it any more.
    pub(crate) fn give_up(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether a pull is to end, for whichever reason.
    pub fn ends_pull(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.requested().is_some()
    }
}
