//! What goes wrong around a run: pipes that nobody reads, full disks, damaged files, jobs that do not belong to their table.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::broker::Broker;
use crate::program::{Answer, JOB, Place};

fn shell(place: &Place, line: &str) -> Answer {
    let mut command = Command::new("bash");
    command.args(["-c", line]);
    place.start_command(command).answer()
}

fn ready() -> (Broker, Place) {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    (broker, place)
}

/// Files below the table that end so.
fn files(place: &Place, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![place.path().join("warehouse")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_str().unwrap().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found
}

#[test]
fn a_pipe_that_nobody_reads_does_not_hold_a_run_for_ever() {
    let (_broker, place) = ready();
    shell(&place, "mkfifo pipe").expect(0);
    let report = place.tidegate("run job.toml --output json --result-file pipe --metrics-file pipe").expect(0).json();
    assert_eq!((&report["outcome"], report["warnings"].as_array().unwrap().len()), (&"committed".into(), 2), "{report}");
    // With a reader it is written.
    let mut reader = Command::new("timeout");
    reader.args(["20", "cat", "pipe"]);
    let reader = place.start_command(reader);
    let written =
        || place.tidegate("run job.toml --output json --result-file pipe").expect(0).json()["warnings"] == serde_json::json!([]);
    assert!((0..50).any(|_| written()), "the reader opened the pipe, and nothing was written");
    assert_eq!(reader.answer().expect(0).json()["outcome"], "nothing_new");
}

#[test]
fn half_an_answer_is_not_taken_for_the_whole() {
    let (_broker, place) = ready();
    for command in ["plan", "check", "status", "init"] {
        let answer = shell(&place, &format!("tidegate {command} job.toml --output json > /dev/full")).expect(75);
        assert!(answer.stderr.contains("could not write the answer to stdout"), "{answer}");
    }
    // The commit stands: a report that cannot be printed is a warning.
    let answer = shell(&place, "tidegate run job.toml > /dev/full").expect(0);
    assert!(answer.stderr.contains("could not write the report to stdout"), "{}", answer.stderr);
    shell(&place, "tidegate plan job.toml >&- 2>&- <&-").expect(0);
}

#[test]
fn a_second_signal_leaves_one_document_all_the_same() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(&silent.local_addr().unwrap().to_string());
    place.tidegate("init job.toml").expect(0);
    let running = place.start("run job.toml --output json --result-file result.json --metrics-file tidegate.prom");
    std::thread::sleep(Duration::from_secs(2));
    running.signal("TERM");
    std::thread::sleep(Duration::from_secs(1));
    running.signal("TERM");
    let report = running.answer().expect(143).json();
    assert_eq!((&report["exit_code"], &report["outcome"], &report["job"]), (&143.into(), &"failed".into(), &"articles".into()));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&place.read("result.json")).unwrap()["exit_code"], 143);
    let exit_code = |line: &str| line.starts_with("tidegate_last_run_exit_code{") && line.ends_with(" 143");
    assert!(place.read("tidegate.prom").lines().any(exit_code), "{}", place.read("tidegate.prom"));
}

#[test]
fn a_limit_on_file_sizes_is_a_full_disk_and_no_crash() {
    let broker = Broker::start();
    let noise = |n: u32| -> String { (0..400_u32).map(|i| format!("{:08x}", (n * 400 + i).wrapping_mul(2_654_435_761))).collect() };
    for n in 0..200 {
        broker.produce(0, &[&format!(r#"{{"id": "{n}", "at": "2025-01-01T00:00:00Z", "title": "{}"}}"#, noise(n))]);
    }
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    let answer = shell(&place, "ulimit -f 100; tidegate run job.toml --output json").expect(75);
    assert!(answer.json()["error"]["causes"].to_string().contains("File too large"), "{answer}");
    assert_eq!(place.tidegate("run job.toml --output json").expect(0).json()["records"]["inserted"], 200);
}

#[test]
fn a_job_file_without_end_is_refused() {
    let place = Place::without_broker();
    let answer = place.tidegate("check /dev/zero").expect(78);
    assert!(answer.stderr.contains("larger than 1 MiB"), "{answer}");
}

#[test]
fn a_folder_in_place_of_the_catalog_is_for_the_owner_of_the_job() {
    let place = Place::without_broker();
    std::fs::create_dir(place.path().join("catalog.db")).unwrap();
    for command in ["init", "run"] {
        let answer = place.tidegate(&format!("{command} job.toml")).expect(78);
        assert!(answer.stderr.contains("is a directory"), "{answer}");
    }
}

#[test]
fn check_refuses_a_topic_that_is_not_the_one_the_table_was_filled_from() {
    let (broker, place) = ready();
    place.tidegate("run job.toml").expect(0);
    place.tidegate("check job.toml").expect(0);
    broker.cluster.create_topic("other", 1, 1).unwrap();
    place.write("job.toml", JOB.replacen("topic = \"tide\"", "topic = \"other\"", 1));
    let run = place.tidegate("run job.toml --output json").expect(65).json();
    let check = place.tidegate("check job.toml --output json").expect(65).json();
    let failed = check["tests"].as_array().unwrap().iter().find(|test| test["error"].is_object()).unwrap();
    assert_eq!(failed["error"]["message"], run["error"]["message"]);
}

#[test]
fn a_damaged_file_of_the_table_is_not_tried_again_for_ever() {
    let (broker, place) = ready();
    place.tidegate("run job.toml").expect(0);
    broker.produce(0, &[r#"{"id": "a", "at": "2025-01-01T03:00:00Z", "title": "third"}"#]);
    for (ending, folder) in [(".parquet", "data"), (".avro", "snap-")] {
        for path in files(&place, ending).iter().filter(|path| path.to_str().unwrap().contains(folder)) {
            let whole = std::fs::read(path).unwrap();
            for damaged in [&whole[..whole.len() / 2], b"junk that is no file of any kind".as_slice()] {
                std::fs::write(path, damaged).unwrap();
                let report = place.tidegate("run job.toml --output json").expect(78).json();
                let error = report["error"].to_string();
                assert!(error.contains(path.file_name().unwrap().to_str().unwrap()) && error.contains("damaged"), "{error}");
                // It is what verify is for, which goes on and says FAIL.
                let verified = place.tidegate("verify job.toml").expect(65);
                assert!(verified.stdout.contains("FAIL"), "{verified}");
            }
            std::fs::write(path, whole).unwrap();
        }
    }
    assert_eq!(place.tidegate("run job.toml --output json").expect(0).json()["records"]["updated"], 1);
}
