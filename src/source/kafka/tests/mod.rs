//! Against librdkafka's mock cluster: real sockets and Kafka's protocol, in this process.

#![expect(clippy::disallowed_methods, reason = "that a wait ends soon is tested with a clock")]

mod failures;
mod pulls;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Resp};
use rdkafka::{ClientConfig, Offset as At, TopicPartitionList};

use super::*;
use crate::demo::broker::DemoBroker;
use crate::offsets::OffsetRange;
use crate::source::{Chunk, Cut, Flow};

const TOPIC: &str = "tide";
const GENEROUS: PullLimits =
    PullLimits { bytes_max: u64::MAX, duration_max: Duration::from_secs(60), stall_timeout: Duration::from_secs(30) };

/// A broker whose partition `p` holds `counts[p]` records, each of whose values says where it stands.
fn broker(counts: &[i64]) -> DemoBroker {
    let broker = DemoBroker::start(TOPIC, i32::try_from(counts.len()).unwrap()).unwrap();
    for (partition, &count) in (0..).zip(counts) {
        fill(&broker, partition, 0..count);
    }
    broker
}

fn fill(broker: &DemoBroker, partition: Partition, offsets: std::ops::Range<i64>) {
    let values: Vec<_> = offsets.map(|offset| value(partition, offset)).collect();
    let record = |value: &'_ String| (partition, b"key".as_slice(), Some(value.clone().into_bytes()), 1_000);
    let records: Vec<_> = values.iter().map(record).collect();
    let records: Vec<_> = records.iter().map(|(partition, key, value, at)| (*partition, *key, value.as_deref(), *at)).collect();
    broker.produce(&records).unwrap();
}

fn value(partition: Partition, offset: Offset) -> String {
    format!("{partition}/{offset}")
}

fn properties(servers: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("bootstrap.servers".into(), servers.into())])
}

fn connect(broker: &DemoBroker) -> Kafka {
    Kafka::connect(TOPIC, &properties(&broker.bootstrap_servers())).unwrap()
}

fn ranges(ranges: &[(Partition, Offset, Offset)]) -> BTreeMap<Partition, StartAt> {
    let at = |start, end| StartAt { range: OffsetRange::new(start, end), leader_epoch: None };
    ranges.iter().map(|&(partition, start, end)| (partition, at(start, end))).collect()
}

/// Offsets that were handed over, per partition, in the order of arrival; checks each value against its place.
#[derive(Default)]
struct Seen(BTreeMap<Partition, Vec<Offset>>);

impl Seen {
    fn take(&mut self, chunk: &Chunk) {
        assert!(!chunk.records.is_empty(), "no empty chunk is handed over");
        for record in &chunk.records {
            let text = std::str::from_utf8(chunk.bytes(record.value.unwrap())).unwrap();
            assert_eq!(text, value(record.partition, record.offset));
            self.0.entry(record.partition).or_default().push(record.offset);
        }
    }

    fn assert_is(&self, expected: &[(Partition, Offset, Offset)]) {
        let expected: BTreeMap<_, Vec<_>> = expected
            .iter()
            .filter(|(_, start, end)| start < end)
            .map(|&(partition, start, end)| (partition, (start..end).collect()))
            .collect();
        assert_eq!(self.0, expected);
    }
}

fn pull_all(kafka: &Kafka, plan: &[(Partition, Offset, Offset)], limits: &PullLimits) -> (Result<Reached>, Seen) {
    let mut seen = Seen::default();
    let reached = kafka.pull(&ranges(plan), limits, &Stop::default(), &mut |chunk| {
        seen.take(&chunk);
        Ok(Flow::More)
    });
    (reached, seen)
}

#[test]
fn bounds_name_every_partition() {
    let broker = broker(&[7, 0, 3]);
    let bounds = connect(&broker).bounds().unwrap();
    let held = |high| Some(PartitionBounds { earliest: 0, last_stable: high, high_watermark: high });
    assert_eq!(bounds.partitions, BTreeMap::from([(0, held(7)), (1, held(0)), (2, held(3))]));
    assert_eq!(bounds.topic, TOPIC);
    assert!(bounds.cluster_id.is_some_and(|id| !id.is_empty()));
}

#[test]
fn a_partition_without_a_leader_has_no_bounds() {
    let broker = broker(&[7, 5]);
    broker.cluster().partition_leader(TOPIC, 1, None).unwrap();
    let bounds = connect(&broker).bounds().unwrap();
    assert!(bounds.partitions[&0].is_some());
    assert_eq!(bounds.partitions[&1], None);
}

#[test]
fn no_leader_at_all_is_temporary() {
    let broker = broker(&[7]);
    broker.cluster().partition_leader(TOPIC, 0, None).unwrap();
    let error = connect(&broker).bounds().unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error}");
}

#[test]
fn starting_with_nothing_new_is_fast() {
    let broker = broker(&[7, 0, 3]);
    let took = || {
        let started = Instant::now();
        let kafka = connect(&broker);
        kafka.bounds().unwrap();
        drop(kafka);
        started.elapsed()
    };
    // What else the machine does can only make it slower.
    assert!((0..200).any(|_| took() < Duration::from_millis(100)), "{:?}", took());
}

#[test]
fn mirrored_offsets_are_the_groups() {
    let broker = broker(&[5, 5]);
    connect(&broker).mirror("lag-tools", &Offsets::from([(0, 3), (1, 5)])).unwrap();
    let mut config = ClientConfig::new();
    let reader: BaseConsumer =
        config.set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", "lag-tools").create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(TOPIC, 0, 1);
    let committed = reader.committed_offsets(asked, Duration::from_secs(10)).unwrap();
    let committed: BTreeMap<_, _> = committed.elements().iter().map(|element| (element.partition(), element.offset())).collect();
    assert_eq!(committed, BTreeMap::from([(0, At::Offset(3)), (1, At::Offset(5))]));
}

#[test]
fn a_mirror_without_a_broker_fails_in_time() {
    let broker = broker(&[5]);
    let kafka = connect(&broker);
    kafka.bounds().unwrap();
    broker.cluster().broker_down(-1).unwrap();
    let asked = Instant::now();
    assert_eq!(kafka.mirror("lag-tools", &Offsets::from([(0, 3)])).unwrap_err().exit_code(), 75);
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(kafka.mirror("lag-tools", &Offsets::from([(0, 4)])).unwrap_err().exit_code(), 75);
}

#[test]
fn a_mirror_whose_coordinator_comes_back_late_does_not_end_the_process() {
    let broker = broker(&[5]);
    let kafka = connect(&broker);
    kafka.bounds().unwrap();
    broker.cluster().broker_down(-1).unwrap();
    kafka.mirror("lag-tools", &Offsets::from([(0, 3)])).unwrap_err();
    // Past the time that the request was given, were it the time that we wait.
    std::thread::sleep(MIRROR_MAX);
    broker.cluster().broker_up(-1).unwrap();
    let (reached, seen) = pull_all(&kafka, &[(0, 0, 5)], &GENEROUS);
    assert_eq!(reached.unwrap().cut, None);
    seen.assert_is(&[(0, 0, 5)]);
    std::thread::sleep(Duration::from_secs(1));
    kafka.bounds().unwrap();
}

#[test]
fn a_time_after_every_record_is_the_end() {
    // The mock cluster knows no times, so every time is after every record.
    let broker = broker(&[5, 0]);
    assert_eq!(connect(&broker).offsets_at(1_000).unwrap(), Offsets::from([(0, 5), (1, 0)]));
}

proptest! {
    #[test]
    fn answers_of_three_moments_are_put_in_order(earliest in 0_i64..100, last_stable in 0_i64..100, high in 0_i64..100) {
        let bounds = ordered(earliest, last_stable, high);
        prop_assert!(bounds.earliest <= bounds.last_stable && bounds.last_stable <= bounds.high_watermark);
        prop_assert_eq!(bounds.earliest, earliest);
        if earliest <= last_stable && last_stable <= high {
            prop_assert_eq!((bounds.last_stable, bounds.high_watermark), (last_stable, high));
        }
    }
}

#[test]
fn a_leader_lost_while_it_is_asked_does_not_make_the_log_look_cut() {
    // Seen when a broker was killed: no error, and RD_KAFKA_OFFSET_INVALID.
    assert_eq!(found(Ok((-1001, None))).unwrap_err().code, Code::LeaderNotAvailable);
    // "No record of that time or later", and the beginning of a log.
    assert_eq!((found(Ok((-1, None))).unwrap(), found(Ok((0, Some(3)))).unwrap()), (-1, 0));
}

#[test]
fn a_topic_id_reads_as_kafka_prints_it() {
    assert_eq!(topic_id([0, 0]), None);
    // `Uuid.METADATA_TOPIC_ID` of Kafka, and a value with both characters that plain base64 spells otherwise.
    assert_eq!(topic_id([0, 1]).as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
    assert_eq!(topic_id([-0x0400_0000_0000_0000, -5]).as_deref(), Some("_AAAAAAAAAD_________-w"));
}
