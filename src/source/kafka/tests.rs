//! Against librdkafka's mock cluster: real sockets and Kafka's protocol, in this process.

#![expect(clippy::disallowed_methods, reason = "that a wait ends soon is tested with a clock")]

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
    Kafka::connect(TOPIC, &properties(&broker.bootstrap_servers()), "tidegate-test").unwrap()
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
    let times = (0..5).map(|_| {
        let started = Instant::now();
        let kafka = connect(&broker);
        kafka.bounds().unwrap();
        drop(kafka);
        started.elapsed()
    });
    let best = times.min().unwrap();
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[test]
fn reads_each_range_exactly() {
    let broker = broker(&[10, 5000, 0, 300]);
    let plan = [(0, 2, 8), (1, 0, 5000), (2, 0, 0), (3, 100, 300)];
    let (reached, seen) = pull_all(&connect(&broker), &plan, &GENEROUS);
    let reached = reached.unwrap();
    seen.assert_is(&plan);
    assert_eq!(reached.ends, Offsets::from([(0, 8), (1, 5000), (2, 0), (3, 300)]));
    assert_eq!(reached.cut, None);
}

#[test]
fn a_plan_of_nothing_asks_nobody() {
    let kafka = Kafka::connect(TOPIC, &properties("127.0.0.1:1"), "tidegate-test").unwrap();
    let (reached, seen) = pull_all(&kafka, &[(0, 4, 4), (1, 0, 0)], &GENEROUS);
    seen.assert_is(&[]);
    assert_eq!(reached.unwrap(), Reached { ends: Offsets::from([(0, 4), (1, 0)]), leader_epochs: BTreeMap::new(), cut: None });
}

#[test]
fn one_client_pulls_batch_after_batch() {
    let broker = broker(&[100]);
    let kafka = connect(&broker);
    for start in (0..100).step_by(10) {
        let (reached, seen) = pull_all(&kafka, &[(0, start, start + 10)], &GENEROUS);
        seen.assert_is(&[(0, start, start + 10)]);
        assert_eq!(reached.unwrap().ends[&0], start + 10);
    }
}

#[test]
fn a_byte_cut_ends_where_the_next_pull_starts() {
    let broker = broker(&[500, 400]);
    let kafka = connect(&broker);
    let limits = PullLimits { bytes_max: 700, ..GENEROUS };
    let (mut next, mut cuts) = (Offsets::from([(0, 0), (1, 0)]), 0);
    let mut seen = Seen::default();
    loop {
        let plan = ranges(&[(0, next[&0], 500), (1, next[&1], 400)]);
        let mut bytes = 0;
        let reached = kafka.pull(&plan, &limits, &Stop::default(), &mut |chunk| {
            seen.take(&chunk);
            bytes += chunk.arena.len();
            Ok(Flow::More)
        });
        let reached = reached.unwrap();
        next = reached.ends;
        if reached.cut.is_none() {
            break;
        }
        assert_eq!(reached.cut, Some(Cut::Bytes));
        assert!((700..720).contains(&bytes), "cut at the first record that passes the bound, not at {bytes}");
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts}");
    seen.assert_is(&[(0, 0, 500), (1, 0, 400)]);
}

#[test]
fn a_record_larger_than_the_byte_bound_gets_through() {
    let broker = broker(&[0]);
    let large = vec![b'x'; 600_000];
    broker.produce(&[(0, b"k", Some(&large), 1), (0, b"k", Some(b"small"), 2)]).unwrap();
    let kafka = connect(&broker);
    let limits = PullLimits { bytes_max: 10, ..GENEROUS };
    let mut sizes = Vec::new();
    let mut pull = |start| {
        let sink = &mut |chunk: Chunk| {
            sizes.extend(chunk.records.iter().map(|record| record.value.unwrap().range().len()));
            Ok(Flow::More)
        };
        kafka.pull(&ranges(&[(0, start, 2)]), &limits, &Stop::default(), sink).unwrap()
    };
    let first = pull(0);
    assert_eq!((first.ends[&0], first.cut), (1, Some(Cut::Bytes)));
    let second = pull(1);
    assert_eq!((second.ends[&0], second.cut), (2, None));
    assert_eq!(sizes, [600_000, 5]);
}

#[test]
fn a_full_sink_cuts_the_batch() {
    let broker = broker(&[20_000]);
    let kafka = connect(&broker);
    let mut seen = Seen::default();
    let reached = kafka.pull(&ranges(&[(0, 0, 20_000)]), &GENEROUS, &Stop::default(), &mut |chunk| {
        seen.take(&chunk);
        Ok(Flow::Enough)
    });
    let reached = reached.unwrap();
    assert_eq!(reached.cut, Some(Cut::Memory));
    let end = reached.ends[&0];
    assert!(0 < end && end < 20_000, "{end}");
    seen.assert_is(&[(0, 0, end)]);
}

#[test]
fn a_failing_sink_ends_the_pull_and_leaves_the_client_usable() {
    let broker = broker(&[50]);
    let kafka = connect(&broker);
    let error =
        kafka.pull(&ranges(&[(0, 0, 50)]), &GENEROUS, &Stop::default(), &mut |_| Err(Error::broken("as told"))).unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    let (reached, seen) = pull_all(&kafka, &[(0, 10, 20)], &GENEROUS);
    seen.assert_is(&[(0, 10, 20)]);
    assert_eq!(reached.unwrap().cut, None);
}

#[test]
fn a_signal_cuts_after_progress() {
    let broker = broker(&[20_000]);
    let kafka = connect(&broker);
    let (stop, mut seen) = (Stop::default(), Seen::default());
    let reached = kafka.pull(&ranges(&[(0, 0, 20_000)]), &GENEROUS, &stop, &mut |chunk| {
        stop.request(15);
        seen.take(&chunk);
        Ok(Flow::More)
    });
    let reached = reached.unwrap();
    assert_eq!(reached.cut, Some(Cut::Signal));
    assert!(reached.ends[&0] < 20_000);
    seen.assert_is(&[(0, 0, reached.ends[&0])]);
}

#[test]
fn a_signal_ends_a_pull_to_which_nothing_comes() {
    let broker = broker(&[5]);
    let kafka = connect(&broker);
    broker.cluster().broker_down(-1).unwrap();
    let stop = Stop::default();
    stop.request(2);
    let reached = kafka.pull(&ranges(&[(0, 0, 5)]), &GENEROUS, &stop, &mut |_| panic!("nothing comes")).unwrap();
    assert_eq!(reached, Reached { ends: Offsets::from([(0, 0)]), leader_epochs: BTreeMap::new(), cut: Some(Cut::Signal) });
}

#[test]
fn time_cuts_only_after_progress() {
    let broker = broker(&[20_000]);
    let limits = PullLimits { duration_max: Duration::ZERO, ..GENEROUS };
    let (reached, seen) = pull_all(&connect(&broker), &[(0, 0, 20_000)], &limits);
    let reached = reached.unwrap();
    assert_eq!(reached.cut, Some(Cut::Duration));
    assert!(0 < reached.ends[&0]);
    seen.assert_is(&[(0, 0, reached.ends[&0])]);
}

#[test]
fn a_partition_to_which_nothing_comes_stalls_by_name() {
    let broker = broker(&[5, 5]);
    let kafka = connect(&broker);
    kafka.bounds().unwrap();
    broker.cluster().partition_leader(TOPIC, 1, None).unwrap();
    let limits = PullLimits { stall_timeout: Duration::from_secs(1), ..GENEROUS };
    let (reached, seen) = pull_all(&connect(&broker), &[(0, 0, 5), (1, 2, 5)], &limits);
    seen.assert_is(&[(0, 0, 5)]);
    let error = reached.unwrap_err();
    assert!(matches!(error, Error::Stalled { partition: 1, offset: 2, seconds: 1, .. }), "{error}");
}

#[test]
fn a_broker_that_goes_down_stalls_and_one_that_comes_back_does_not() {
    let broker = broker(&[5]);
    let kafka = connect(&broker);
    kafka.bounds().unwrap();
    broker.cluster().broker_down(-1).unwrap();
    let limits = PullLimits { stall_timeout: Duration::from_millis(1500), ..GENEROUS };
    let (reached, _) = pull_all(&kafka, &[(0, 0, 5)], &limits);
    assert!(matches!(reached, Err(Error::Stalled { partition: 0, offset: 0, .. })), "{reached:?}");

    broker.cluster().broker_up(-1).unwrap();
    let (reached, seen) = pull_all(&kafka, &[(0, 0, 5)], &GENEROUS);
    seen.assert_is(&[(0, 0, 5)]);
    assert_eq!(reached.unwrap().cut, None);
}

#[test]
fn an_end_of_partition_below_the_planned_end_proves_nothing() {
    // As seen from a follower that lags: the records up to the end exist, only not here and now.
    let broker = broker(&[5]);
    let limits = PullLimits { stall_timeout: Duration::from_secs(1), ..GENEROUS };
    let (reached, seen) = pull_all(&connect(&broker), &[(0, 0, 9)], &limits);
    assert!(matches!(reached, Err(Error::Stalled { partition: 0, offset: 5, .. })), "{reached:?}");
    seen.assert_is(&[(0, 0, 5)]);

    let kafka = connect(&broker);
    let mut seen = Seen::default();
    let reached = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| {
            kafka.pull(&ranges(&[(0, 0, 9)]), &GENEROUS, &Stop::default(), &mut |chunk| {
                seen.take(&chunk);
                Ok(Flow::More)
            })
        });
        std::thread::sleep(Duration::from_millis(300));
        fill(&broker, 0, 5..9);
        pulling.join().unwrap()
    });
    assert_eq!(reached.unwrap().ends[&0], 9);
    seen.assert_is(&[(0, 0, 9)]);
}

#[test]
fn a_slow_sink_is_no_stall() {
    let broker = broker(&[9000]);
    let limits = PullLimits { stall_timeout: Duration::from_millis(300), ..GENEROUS };
    let reached = connect(&broker).pull(&ranges(&[(0, 0, 9000)]), &limits, &Stop::default(), &mut |_| {
        std::thread::sleep(Duration::from_millis(400));
        Ok(Flow::More)
    });
    assert_eq!(reached.unwrap().cut, None);
}

#[test]
fn passing_errors_of_the_broker_are_got_over() {
    let broker = broker(&[3000]);
    let kafka = connect(&broker);
    let errors =
        [Resp::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, Resp::RD_KAFKA_RESP_ERR__TRANSPORT, Resp::RD_KAFKA_RESP_ERR_UNKNOWN];
    broker.cluster().request_errors(Api::Fetch, &errors);
    broker.cluster().request_errors(Api::ListOffsets, &errors[..1]);
    assert!(kafka.bounds().is_ok() || kafka.bounds().is_ok());
    let (reached, seen) = pull_all(&kafka, &[(0, 0, 3000)], &GENEROUS);
    seen.assert_is(&[(0, 0, 3000)]);
    assert_eq!(reached.unwrap().cut, None);
}

#[test]
fn an_offset_that_is_gone_is_the_data_owners_choice() {
    let broker = broker(&[5, 5]);
    let (reached, _) = pull_all(&connect(&broker), &[(0, 0, 5), (1, 17, 20)], &GENEROUS);
    let error = reached.unwrap_err();
    assert_eq!(error.exit_code(), 65, "{error}");
    assert!(error.to_string().contains("partition 1 of `tide` no longer has offset 17"), "{error}");
    assert!(error.hint().unwrap().contains("on_data_loss"));
}

#[test]
fn a_leader_epoch_is_confirmed_before_anything_is_read() {
    let broker = broker(&[50]);
    let kafka = connect(&broker);
    let (reached, _) = pull_all(&kafka, &[(0, 0, 20)], &GENEROUS);
    let epoch = reached.unwrap().leader_epochs.get(&0).copied();
    assert!(epoch.is_some());
    let mut seen = Seen::default();
    let mut from = |leader_epoch| {
        let plan = BTreeMap::from([(0, StartAt { range: OffsetRange::new(20, 50), leader_epoch })]);
        kafka.pull(&plan, &GENEROUS, &Stop::default(), &mut |chunk| {
            seen.take(&chunk);
            Ok(Flow::More)
        })
    };
    // The mock cluster knows no epoch above its own, as a log that was truncated to before the epoch began.
    let error = from(epoch.map(|epoch| epoch + 7)).unwrap_err();
    assert_eq!(error.exit_code(), 65, "{error}");
    assert!(error.to_string().contains("was truncated below offset 20"), "{error}");
    assert_eq!(from(epoch).unwrap().ends[&0], 50);
    seen.assert_is(&[(0, 20, 50)]);
}

#[test]
fn a_partition_that_is_gone_is_the_data_owners_choice() {
    let broker = broker(&[5]);
    let kafka = connect(&broker);
    let limits = PullLimits { stall_timeout: Duration::from_secs(1), ..GENEROUS };
    let (reached, _) = pull_all(&kafka, &[(0, 0, 5), (7, 0, 3)], &limits);
    let error = reached.unwrap_err();
    assert_eq!(error.exit_code(), 65, "{error}");
    assert!(error.to_string().contains("partition 7 of `tide` no longer exists"), "{error}");
}

#[test]
fn a_missing_topic_is_named_with_its_brokers() {
    let broker = broker(&[1]);
    let servers = broker.bootstrap_servers();
    broker.cluster().request_errors(Api::Metadata, &[]);
    let kafka = Kafka::connect("ebb", &properties(&servers), "tidegate-test").unwrap();
    broker.cluster().topic_error("ebb", Resp::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let error = kafka.bounds().unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error}");
    assert_eq!(error.to_string(), format!("topic `ebb` does not exist on {servers}"));
}

#[test]
fn a_topic_that_may_not_be_read_is_denied() {
    let broker = broker(&[5]);
    let kafka = connect(&broker);
    kafka.bounds().unwrap();
    broker.cluster().request_errors(Api::Fetch, &[Resp::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3]);
    let (reached, _) = pull_all(&kafka, &[(0, 0, 5)], &GENEROUS);
    assert_eq!(reached.unwrap_err().exit_code(), 77);
    broker.cluster().clear_request_errors(Api::Fetch);
    broker.cluster().topic_error(TOPIC, Resp::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    assert_eq!(kafka.bounds().unwrap_err().exit_code(), 77);
}

#[test]
fn an_unreachable_broker_is_told_with_its_reason_and_soon() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let kafka = Kafka::connect(TOPIC, &properties(&format!("127.0.0.1:{port}")), "tidegate-test").unwrap();
    let asked = Instant::now();
    let error = kafka.bounds().unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(error.exit_code(), 75, "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("Connection refused"), "{cause}");
}

#[test]
fn a_property_that_cannot_be_used_is_named() {
    let mut properties = properties("127.0.0.1:1");
    properties.insert("fetch.wait.max.mss".into(), "1".into());
    let error = Kafka::connect(TOPIC, &properties, "tidegate-test").unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("fetch.wait.max.mss"), "{error}");
    properties.remove("fetch.wait.max.mss");
    properties.insert("fetch.wait.max.ms".into(), "soon".into());
    let error = Kafka::connect(TOPIC, &properties, "tidegate-test").unwrap_err();
    assert!(error.to_string().contains("fetch.wait.max.ms"), "{error}");
    let error = Kafka::connect(TOPIC, &BTreeMap::new(), "tidegate-test").unwrap_err();
    assert!(error.to_string().contains("bootstrap.servers"), "{error}");
}

#[test]
fn what_the_guarantee_needs_wins_over_the_job_file() {
    let broker = broker(&[5]);
    let mut properties = properties(&broker.bootstrap_servers());
    properties.insert("auto.offset.reset".into(), "earliest".into());
    properties.insert("enable.partition.eof".into(), "false".into());
    let kafka = Kafka::connect(TOPIC, &properties, "tidegate-test").unwrap();
    let (reached, seen) = pull_all(&kafka, &[(0, 17, 20)], &GENEROUS);
    assert_eq!(reached.unwrap_err().exit_code(), 65);
    seen.assert_is(&[]);
}

#[test]
fn a_record_comes_whole() {
    let broker = broker(&[0]);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(KafkaHeader { key: "trace", value: Some("ab\0c") })
        .insert(KafkaHeader { key: "none", value: None::<&str> })
        .insert(KafkaHeader { key: "trace", value: Some("") });
    let full = BaseRecord::to(TOPIC).partition(0).key("k").payload("v").timestamp(1234).headers(headers);
    producer.send(full).map_err(|(error, _)| error).unwrap();
    producer.send(BaseRecord::<(), ()>::to(TOPIC).partition(0).timestamp(5678)).map_err(|(error, _)| error).unwrap();
    producer.send(BaseRecord::to(TOPIC).partition(0).key("").payload("")).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();

    let mut chunks = Vec::new();
    let kafka = connect(&broker);
    kafka
        .pull(&ranges(&[(0, 0, 3)]), &GENEROUS, &Stop::default(), &mut |chunk| {
            chunks.push(chunk);
            Ok(Flow::More)
        })
        .unwrap();
    let mut records = Vec::new();
    for chunk in &chunks {
        for record in &chunk.records {
            let headers = chunk.headers[record.headers.range()].iter();
            let headers: Vec<_> =
                headers.map(|header| (chunk.bytes(header.name), header.value.map(|value| chunk.bytes(value)))).collect();
            let bytes = |span: Option<crate::source::Span>| span.map(|span| chunk.bytes(span));
            records.push((record.offset, record.timestamp_ms, record.broker_time, bytes(record.key), bytes(record.value), headers));
        }
    }
    let trace = vec![(b"trace".as_slice(), Some(b"ab\0c".as_slice())), (b"none", None), (b"trace", Some(b""))];
    assert_eq!(records[0], (0, Some(1234), false, Some(b"k".as_slice()), Some(b"v".as_slice()), trace));
    assert_eq!(records[1], (1, Some(5678), false, None, None, vec![]));
    assert_eq!((records[2].3, records[2].4), (Some(b"".as_slice()), Some(b"".as_slice())));
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
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
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
