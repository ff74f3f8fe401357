use rdkafka::ClientConfig;

use super::*;
use crate::demo::broker::DemoBroker;

fn consumer(broker: &DemoBroker, settings: &[(&str, &str)]) -> Result<Consumer, Failure> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("enable.partition.eof", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    Consumer::new(config.create_native_config().unwrap(), c"tide".into(), Arc::default(), None)
}

fn fill_until(batch: &mut Batch<'_>, mut done: impl FnMut(&Message<'_>) -> bool) {
    for _ in 0..3_000 {
        batch.fill(Duration::from_millis(20));
        if batch.messages().any(|message| done(&message)) {
            return;
        }
    }
    panic!("what was waited for did not come");
}

#[test]
fn a_client_that_cannot_be_made_says_why() {
    let broker = DemoBroker::start("tide", 1).unwrap();
    let sasl = [("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", "NONSENSE")];
    let failure = consumer(&broker, &sasl).err().unwrap();
    assert!(failure.reason.contains("NONSENSE"), "{failure}");
    assert_eq!(failure.code, RDKafkaErrorCode::InvalidArgument);
}

#[test]
fn an_end_event_carries_its_position() {
    let broker = DemoBroker::start("tide", 1).unwrap();
    broker.produce(&[(0, b"k", Some(b"a"), 1), (0, b"k", None, 2)]).unwrap();
    let consumer = consumer(&broker, &[]).unwrap();
    consumer.start(&[(0, 0)]).unwrap();
    let mut batch = consumer.batch(16);
    let mut offsets = Vec::new();
    fill_until(&mut batch, |message| match message.failure() {
        None => {
            offsets.push(message.offset());
            false
        }
        Some(failure) => {
            assert_eq!((failure.code, message.partition(), message.offset()), (RDKafkaErrorCode::PartitionEOF, 0, 2));
            true
        }
    });
    assert_eq!(offsets, [0, 1]);
    drop(batch);
    consumer.stop(&[0]).unwrap();
}

#[test]
fn a_seek_throws_away_what_was_queued() {
    let broker = DemoBroker::start("tide", 1).unwrap();
    let records: Vec<_> = (0..100).map(|at| (0, b"k".as_slice(), Some(b"v".as_slice()), at)).collect();
    broker.produce(&records).unwrap();
    let consumer = consumer(&broker, &[]).unwrap();
    consumer.start(&[(0, 0)]).unwrap();
    let mut batch = consumer.batch(1);
    fill_until(&mut batch, |message| message.failure().is_none());
    assert!(consumer.seek(&[(0, 90, None)], Duration::from_secs(60)).unwrap());
    batch.fill(Duration::from_secs(60));
    assert_eq!(batch.messages().next().map(|message| message.offset()), Some(90));
}

#[test]
fn an_answer_to_another_question_says_nothing() {
    let broker = DemoBroker::start("tide", 1).unwrap();
    let consumer = consumer(&broker, &[]).unwrap();
    assert_eq!(consumer.leaders(Duration::from_secs(10)).unwrap(), [(0, Some(1))]);
    let pending = consumer.list_offsets(&[(0, -2)], ask::Isolation::ReadCommitted, Duration::from_secs(10));
    let answer = pending.poll(Duration::from_secs(10)).unwrap().unwrap();
    assert!(answer.topic_id().is_none());
    assert!(answer.altered().is_err());
    assert!(matches!(answer.offsets()[..], [(0, Ok((0, _)))]));
    // A request whose answer nobody waits for.
    drop(consumer.list_offsets(&[(0, -1)], ask::Isolation::ReadUncommitted, Duration::from_secs(10)));
}
