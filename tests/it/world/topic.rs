//! Topics in memory: partitions with records, gaps, open transactions and retention; and a source that reads them for one run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate::error::{Error, Result};
use tidegate::offsets::{Offset, Offsets, Partition, PartitionBounds, TopicBounds};
use tidegate::source::{Chunk, Cut, Flow, PullLimits, Reached, Record, Sink, Source, Span, StartAt, Stop};

use super::{Actor, Lost, Op, World};

/// Records handed over at once: few, so that a pull has several steps.
const CHUNK_RECORDS: usize = 3;

#[derive(Debug, Clone, Default)]
pub(crate) struct Topic {
    pub(crate) partitions: Vec<Log>,
}

/// One partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// By offset, nothing ever removed; none where a consumer sees nothing (a control marker, an aborted record).
    pub(crate) entries: Vec<Option<Message>>,
    pub(crate) earliest: Offset,
    /// Where an open transaction begins.
    pub(crate) open_from: Option<Offset>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) timestamp_ms: i64,
}

impl Log {
    pub(crate) fn end(&self) -> Offset {
        self.entries.len().try_into().unwrap()
    }

    pub(crate) fn last_stable(&self) -> Offset {
        self.open_from.unwrap_or(self.end())
    }

    /// What a consumer sees at an offset.
    pub(crate) fn at(&self, offset: Offset) -> Option<&Message> {
        self.entries[usize::try_from(offset).unwrap()].as_ref()
    }
}

impl World {
    /// Changes a topic, which is made where it is missing.
    pub(crate) fn with_topic<T>(&self, name: &str, change: impl FnOnce(&mut Topic) -> T) -> T {
        change(self.topics.lock().unwrap().entry(name.to_owned()).or_default())
    }
}

/// A topic as one run sees it.
pub(crate) struct Tap {
    pub(crate) actor: Arc<Actor>,
    pub(crate) topic: String,
    /// The pull is cut once so many records were handed over.
    pub(crate) cut_after: Option<usize>,
}

/// One range on its way.
struct Lane {
    partition: Partition,
    next: Offset,
    end: Offset,
}

impl Tap {
    fn lost(&self, doing: &str, lost: Lost) -> Error {
        Error::unavailable(format!("{doing} topic `{}`", self.topic), format!("{lost:?}"))
    }

    /// The next records of a lane, which moves past them.
    fn chunk(&self, lane: &mut Lane) -> Result<Chunk> {
        let (topic, partition, from, end) = (self.topic.clone(), lane.partition, lane.next, lane.end);
        let path = format!("{topic}/{partition}@{from}");
        let read = self.actor.call(Op::Chunk, &path, move |world| {
            world.with_topic(&topic, |topic| {
                let log = &topic.partitions[usize::try_from(partition).unwrap()];
                if from < log.earliest {
                    return Err(Error::refused(format!("partition {partition}: offset {from} is gone"), "retention was faster"));
                }
                let mut chunk = Chunk::default();
                let mut at = from;
                while at < end && chunk.records.len() < CHUNK_RECORDS {
                    if let Some(message) = log.at(at) {
                        push(&mut chunk, partition, at, message);
                    }
                    at += 1;
                }
                Ok((chunk, at))
            })
        });
        let (chunk, at) = read.map_err(|lost| self.lost("read", lost))??;
        lane.next = at;
        Ok(chunk)
    }
}

fn push(chunk: &mut Chunk, partition: Partition, offset: Offset, message: &Message) {
    let key = message.key.as_ref().map(|key| chunk.push_bytes(key.as_bytes()));
    let value = message.value.as_ref().map(|value| chunk.push_bytes(value.as_bytes()));
    let timestamp_ms = Some(message.timestamp_ms);
    chunk.records.push(Record { partition, offset, timestamp_ms, broker_time: false, key, value, headers: Span::default() });
}

impl Source for Tap {
    fn bounds(&self) -> Result<TopicBounds> {
        let (name, actor) = (self.topic.clone(), self.actor.name.clone());
        let bounds = self.actor.call(Op::Bounds, &self.topic, move |world| {
            let partitions: BTreeMap<_, _> = world.with_topic(&name, |topic| {
                let bounds = |log: &Log| PartitionBounds {
                    earliest: log.earliest,
                    last_stable: log.last_stable(),
                    high_watermark: log.end(),
                };
                (0..).zip(topic.partitions.iter().map(|log| Some(bounds(log)))).collect()
            });
            world.ledger.lock().unwrap().asked(&actor, &partitions);
            TopicBounds { topic: name, topic_id: Some("one".into()), cluster_id: Some("world".into()), partitions }
        });
        bounds.map_err(|lost| self.lost("ask for the bounds of", lost))
    }

    fn offsets_at(&self, _: i64) -> Result<Offsets> {
        Err(Error::broken("no job of these tests starts at a time"))
    }

    fn held_since_before(&self, _: i64, last_stable: &Offsets) -> Result<BTreeSet<Partition>> {
        let partitions = last_stable.keys().copied().collect();
        let held = self.actor.call(Op::Held, &self.topic, |_| partitions);
        held.map_err(|lost| self.lost("ask for open transactions of", lost))
    }

    fn pull(&self, ranges: &BTreeMap<Partition, StartAt>, _: &PullLimits, stop: &Stop, sink: &mut Sink<'_>) -> Result<Reached> {
        let begun = self.actor.call(Op::Pull, &self.topic, |_| ());
        begun.map_err(|lost| self.lost("pull", lost))?;
        let lane = |(&partition, at): (&Partition, &StartAt)| Lane { partition, next: at.range.start(), end: at.range.end() };
        let mut lanes: Vec<Lane> = ranges.iter().map(lane).collect();
        let mut records = 0;
        let mut cut = None;
        'rounds: while lanes.iter().any(|lane| lane.next < lane.end) {
            for lane in lanes.iter_mut().filter(|lane| lane.next < lane.end) {
                let chunk = self.chunk(lane)?;
                records += chunk.records.len();
                let flow = if chunk.records.is_empty() { Flow::More } else { sink(chunk)? };
                cut = if flow == Flow::Enough {
                    Some(Cut::Memory)
                } else if self.cut_after.is_some_and(|most| records >= most) {
                    Some(Cut::Bytes)
                } else {
                    stop.ends_pull().then_some(Cut::Signal)
                };
                if cut.is_some() {
                    break 'rounds;
                }
            }
        }
        let done = lanes.iter().all(|lane| lane.next == lane.end);
        let ends = lanes.iter().map(|lane| (lane.partition, lane.next)).collect();
        Ok(Reached { ends, leader_epochs: BTreeMap::new(), cut: cut.filter(|_| !done) })
    }

    fn mirror(&self, group: &str, _: &Offsets) -> Result<()> {
        self.actor.call(Op::Mirror, group, |_| ()).map_err(|lost| self.lost("mirror offsets of", lost))
    }
}
