//! What is told of a broker that says no, or nothing.

use super::*;

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
    let limits = PullLimits { stall_timeout: Duration::from_secs(4), ..GENEROUS };
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
    let kafka = Kafka::connect("ebb", &properties(&servers)).unwrap();
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
    let kafka = Kafka::connect(TOPIC, &properties(&format!("127.0.0.1:{port}"))).unwrap();
    let asked = Instant::now();
    let error = kafka.bounds().unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    assert_eq!(error.exit_code(), 75, "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("Connection refused"), "{cause}");
}

#[test]
fn a_property_that_cannot_be_used_is_named() {
    let mut properties = properties("127.0.0.1:1");
    properties.insert("fetch.wait.max.mss".into(), "1".into());
    let error = Kafka::connect(TOPIC, &properties).unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("fetch.wait.max.mss"), "{error}");
    properties.remove("fetch.wait.max.mss");
    properties.insert("fetch.wait.max.ms".into(), "soon".into());
    let error = Kafka::connect(TOPIC, &properties).unwrap_err();
    assert!(error.to_string().contains("fetch.wait.max.ms"), "{error}");
    let error = Kafka::connect(TOPIC, &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("bootstrap.servers"), "{error}");
}

#[test]
fn what_the_guarantee_needs_wins_over_the_job_file() {
    let broker = broker(&[5]);
    let mut properties = properties(&broker.bootstrap_servers());
    properties.insert("auto.offset.reset".into(), "earliest".into());
    properties.insert("enable.partition.eof".into(), "false".into());
    let kafka = Kafka::connect(TOPIC, &properties).unwrap();
    let (reached, seen) = pull_all(&kafka, &[(0, 17, 20)], &GENEROUS);
    assert_eq!(reached.unwrap_err().exit_code(), 65);
    seen.assert_is(&[]);
}
