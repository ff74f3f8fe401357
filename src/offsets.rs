//! The vocabulary of positions: partitions, offsets, half-open ranges, what a topic holds.
//!
//! Pure. An end is always exclusive: it is the next offset to read (Kafka's own convention).

use std::collections::BTreeMap;

/// Kafka partition number.
pub type Partition = i32;
/// Kafka offset.
pub type Offset = i64;
/// One offset per partition of the job's topic: the next offset to read.
pub type Offsets = BTreeMap<Partition, Offset>;

/// Offsets as `tidegate reset JOB --to` takes them: `0:12,1:99`.
pub fn as_argument(offsets: &Offsets) -> String {
    let named: Vec<String> = offsets.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    named.join(",")
}

/// Offsets `start..end` of one partition; `end` is the next offset to read after it. May be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    start: Offset,
    end: Offset,
}

impl OffsetRange {
    /// # Panics
    /// When `end` lies before `start`: a range that goes back is never right.
    pub fn new(start: Offset, end: Offset) -> Self {
        assert!(0 <= start && start <= end, "offset range {start}..{end} goes back");
        Self { start, end }
    }

    /// First offset to read.
    pub fn start(self) -> Offset {
        self.start
    }

    /// Next offset to read after the range.
    pub fn end(self) -> Offset {
        self.end
    }

    /// Number of offsets in the range: an upper bound of the number of records.
    pub fn len(self) -> u64 {
        u64::try_from(self.end - self.start).expect("checked in new")
    }

    /// Whether there is nothing to read.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// What the broker holds of one partition at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionBounds {
    /// Earliest offset that retention has left (log start offset).
    pub earliest: Offset,
    /// Last stable offset: the end under `read_committed`. Never past `high_watermark`.
    pub last_stable: Offset,
    /// High watermark: the end of what is replicated, open transactions included.
    pub high_watermark: Offset,
}

/// What the broker holds of a topic at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicBounds {
    /// Topic name.
    pub topic: String,
    /// KIP-516 topic id (base64, as Kafka prints it); none where the broker has none.
    pub topic_id: Option<String>,
    /// Kafka's cluster id.
    pub cluster_id: Option<String>,
    /// Every partition of the topic; none where its leader could not be asked.
    pub partitions: BTreeMap<Partition, Option<PartitionBounds>>,
}
