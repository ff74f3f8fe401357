//! What a pull hands over, and where it ends.

use super::*;

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
    let kafka = Kafka::connect(TOPIC, &properties("127.0.0.1:1")).unwrap();
    let (reached, seen) = pull_all(&kafka, &[(0, 4, 4), (1, 0, 0)], &GENEROUS);
    seen.assert_is(&[]);
    assert_eq!(reached.unwrap(), Reached { ends: Offsets::from([(0, 4), (1, 0)]), leader_epochs: BTreeMap::new(), cut: None });
}

#[test]
fn records_show_that_an_outage_is_over() {
    let broker = broker(&[10]);
    let kafka = connect(&broker);
    kafka.health.heard(Code::AllBrokersDown, "1/1 brokers are down");
    pull_all(&kafka, &[(0, 0, 10)], &GENEROUS).0.unwrap();
    assert!(!kafka.health.all_down());
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
fn a_pull_that_nobody_listens_to_ends_though_nothing_comes() {
    let broker = broker(&[5]);
    let (all, started) = (Stop::default(), Instant::now());
    let stop = all.of_pull();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stop.give_up();
        });
        let reached = connect(&broker).pull(&ranges(&[(0, 0, 9)]), &GENEROUS, &stop, &mut |_| Ok(Flow::More));
        assert_eq!(reached.unwrap().ends[&0], 5);
    });
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(stop.ends_pull() && !all.ends_pull(), "the next pull is another one");
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
    let limits = PullLimits { stall_timeout: Duration::from_secs(4), ..GENEROUS };
    let (reached, seen) = pull_all(&connect(&broker), &[(0, 0, 5), (1, 2, 5)], &limits);
    seen.assert_is(&[(0, 0, 5)]);
    let error = reached.unwrap_err();
    assert!(matches!(error, Error::Stalled { partition: 1, offset: 2, seconds: 4, .. }), "{error}");
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
    let limits = PullLimits { stall_timeout: Duration::from_secs(4), ..GENEROUS };
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
    let limits = PullLimits { stall_timeout: Duration::from_secs(2), ..GENEROUS };
    let reached = connect(&broker).pull(&ranges(&[(0, 0, 9000)]), &limits, &Stop::default(), &mut |_| {
        std::thread::sleep(Duration::from_millis(2_500));
        Ok(Flow::More)
    });
    assert_eq!(reached.unwrap().cut, None);
}

#[test]
fn a_record_comes_whole() {
    let broker = broker(&[0]);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
    producer.client().fetch_metadata(Some(TOPIC), Duration::from_secs(10)).unwrap();
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
