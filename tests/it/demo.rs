//! The demo proves itself: it compares the table with what the producer meant.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::Value;

use crate::program::{Place, stopwatch};

#[test]
fn the_demo_ends_with_the_truth_in_any_directory() {
    for directory in ["first", "second"] {
        let place = Place::without_broker();
        let took = stopwatch();
        let answer = place.tidegate(&format!("demo --dir {directory}")).expect(0);
        // On a machine that does nothing else it takes a few seconds.
        let patience = Duration::from_secs(60);
        assert!(took() < patience, "nobody watches a demo for {:?}", took());
        let killed = answer.stdout.find("killed in its phase `commit`").unwrap_or_else(|| panic!("{answer}"));
        assert!(answer.stdout[killed..].contains("tidegate run   batch 4: 10,000 read"), "the killed run is run again: {answer}");
        let proof = answer.stdout.lines().find(|line| line.trim_start().starts_with("table equals the truth"));
        assert!(proof.is_some(), "{answer}");
        assert!(place.path().join(directory).is_dir(), "{answer}");
    }
}

#[test]
fn what_the_demo_keeps_is_a_job_like_any_other() {
    let place = Place::without_broker();
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    let temporary = place.path().join("tmp").display().to_string();
    let place = place.with("TMPDIR", &temporary);
    let answer = place.tidegate("demo").expect(0);
    let (_, command) = answer.stdout.split_once("tidegate status \"").unwrap_or_else(|| panic!("{answer}"));
    let (job, _) = command.split_once('"').unwrap();
    assert!(job.starts_with(&temporary), "{job}");
    let status = place.tidegate(&format!("status {job} --output json")).expect(0).json();
    assert!(status["last_batch"]["batch"].as_u64() > Some(1) && status["lag_records"] == Value::Null, "{status}");
}

#[test]
fn the_demo_touches_no_directory_with_something_in_it() {
    let place = Place::without_broker();
    assert_snapshot!(place.tidegate("demo --dir ."), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: directory `.` is not empty

    hint: a demo starts from nothing: name a directory that is empty or does not exist yet
    ");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["job.toml"]);
}
