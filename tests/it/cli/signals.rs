//! SIGTERM and SIGINT while a run waits: it ends soon, says so, and the table is as it was.

use std::net::TcpListener;
use std::time::Duration;

use insta::assert_snapshot;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::broker::Broker;
use crate::program::{Place, stopwatch};

/// Long enough for the program to start, and far below what it waits for.
const SOON: Duration = Duration::from_secs(2);
/// Long enough for the program to notice one signal, so that the next is another.
const BETWEEN: Duration = Duration::from_secs(1);

/// A job whose broker answers every question, and delivers no record.
fn mute() -> (Broker, Place) {
    let broker = Broker::with_articles();
    broker.cluster.request_errors(RDKafkaApiKey::Fetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 5_000]);
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    (broker, place)
}

#[test]
fn sigterm_before_a_record_came_ends_with_143() {
    let (_broker, place) = mute();
    let running = place.start("run job.toml --result-file result.json");
    std::thread::sleep(SOON);
    running.signal("TERM");
    let took = stopwatch();
    let answer = running.answer();
    assert!(took() < 3 * SOON, "{:?}", took());
    assert_snapshot!(answer, @r"
    exit code: 143
    ----- stdout -----
    ----- stderr -----
    error: ended by signal 15 before anything was read; nothing was committed
    ");
    let result: serde_json::Value = serde_json::from_str(&place.read("result.json")).unwrap();
    assert_eq!(result["exit_code"], 143);
}

#[test]
fn sigint_ends_with_130() {
    let (_broker, place) = mute();
    let running = place.start("run job.toml --output json");
    std::thread::sleep(SOON);
    running.signal("INT");
    let answer = running.answer().expect(130);
    assert_eq!(answer.json()["exit_code"], 130);
}

#[test]
fn the_run_after_a_signal_reads_everything() {
    let (broker, place) = mute();
    let running = place.start("run job.toml");
    std::thread::sleep(SOON);
    running.signal("TERM");
    running.answer().expect(143);
    broker.cluster.clear_request_errors(RDKafkaApiKey::Fetch);
    assert_eq!(place.tidegate("run job.toml --output json").expect(0).json()["records"]["read"], 4);
}

#[test]
fn sigterm_after_records_came_commits_them_and_ends_with_0() {
    let broker = Broker::start();
    for i in 0..300 {
        broker.produce(0, &[&format!(r#"{{"id": "{i}", "at": "2025-01-01T00:00:00Z", "title": "{}"}}"#, "t".repeat(1_000))]);
    }
    // One record in each answer, and a while between them.
    broker.cluster.broker_round_trip_time(1, Duration::from_millis(200)).unwrap();
    let place = Place::new(&broker.address());
    place.change("job.toml", "topic =", "\"fetch.message.max.bytes\" = 1000\n\"max.partition.fetch.bytes\" = 1000\ntopic =");
    place.tidegate("init job.toml").expect(0);
    let running = place.start("run job.toml --output json");
    std::thread::sleep(5 * SOON);
    running.signal("TERM");
    let report = running.answer().expect(0).json();
    let read = report["records"]["read"].as_u64().unwrap();
    assert!(report["outcome"] == "interrupted" && (1..300).contains(&read), "{report}");

    broker.cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let report = place.tidegate("run job.toml --output json").expect(0).json();
    assert_eq!(report["records"]["inserted"], 300 - read, "{report}");
}

#[test]
fn sigterm_while_a_broker_does_not_answer_ends_with_143() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(&silent.local_addr().unwrap().to_string());
    place.tidegate("init job.toml").expect(0);
    let running = place.start("run job.toml");
    std::thread::sleep(SOON);
    running.signal("TERM");
    running.answer().expect(143);
}

#[test]
fn a_second_signal_ends_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(&silent.local_addr().unwrap().to_string());
    place.tidegate("init job.toml").expect(0);
    let running = place.start("run job.toml");
    std::thread::sleep(SOON);
    running.signal("TERM");
    std::thread::sleep(BETWEEN);
    running.signal("TERM");
    let took = stopwatch();
    let answer = running.answer();
    assert!(took() < 3 * SOON, "{:?}", took());
    answer.expect(143);
}
