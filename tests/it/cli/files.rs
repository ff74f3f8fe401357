//! The result file and the metrics file: written whenever a run ends, and always readable.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::broker::Broker;
use crate::program::Place;

/// What the kubelet reads of a termination log.
const RESULT_BYTES_MAX: usize = 4096;

const FILES: &str = "--result-file result.json --metrics-file tidegate.prom";

#[track_caller]
fn result(place: &Place) -> Value {
    let text = place.read("result.json");
    assert!(text.len() <= RESULT_BYTES_MAX, "{} bytes", text.len());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Reads Prometheus' text format, strictly: every sample follows its `# HELP` and `# TYPE`, and none is there twice.
#[track_caller]
fn metrics(place: &Place) -> BTreeMap<String, f64> {
    let text = place.read("tidegate.prom");
    assert!(text.ends_with('\n'), "{text}");
    let (mut helped, mut family, mut samples) = (BTreeSet::new(), String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help has a text");
            assert!(helped.insert(name.to_owned()) && !words.is_empty(), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type has a kind");
            assert!(helped.contains(name) && ["counter", "gauge"].contains(&kind), "{line}");
            family = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(name, family, "{line}");
            assert!(labels.ends_with('}') && labels.matches('"').count() % 2 == 0, "{line}");
            let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(samples.insert(series.to_owned(), value), None, "{line}");
        }
    }
    assert!(!samples.is_empty());
    samples
}

/// The sum of a metric over its labels that hold all of `having`.
#[track_caller]
fn metric(samples: &BTreeMap<String, f64>, name: &str, having: &[&str]) -> f64 {
    let of = |series: &str| series.split('{').next() == Some(name) && having.iter().all(|label| series.contains(label));
    let found: Vec<_> = samples.iter().filter(|(series, _)| of(series)).map(|(_, value)| *value).collect();
    assert!(!found.is_empty(), "no {name} with {having:?} in {samples:#?}");
    found.iter().sum()
}

#[test]
fn both_are_written_when_a_batch_was_committed() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    let answer = place.tidegate(&format!("run job.toml --output json {FILES}")).expect(0);
    assert_eq!(result(&place), answer.json());
    let samples = metrics(&place);
    assert_eq!(metric(&samples, "tidegate_last_run_records", &["outcome=\"inserted\""]), 3.0);
}

#[test]
fn both_are_written_when_nothing_is_new() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate(&format!("run job.toml {FILES}")).expect(0);
    place.tidegate(&format!("run job.toml --empty-exit-code 99 {FILES}")).expect(99);
    let result = result(&place);
    assert_eq!((&result["outcome"], &result["exit_code"]), (&"nothing_new".into(), &99.into()));
    assert_eq!(metric(&metrics(&place), "tidegate_lag_records", &[]), 0.0);
}

#[test]
fn both_are_written_when_the_run_fails() {
    let place = Place::without_broker();
    place.tidegate("init job.toml").expect(0);
    place.tidegate(&format!("run job.toml {FILES}")).expect(75);
    let found = result(&place);
    assert_eq!((&found["outcome"], &found["exit_code"]), (&"failed".into(), &75.into()));
    assert!(found["error"]["message"].as_str().is_some_and(|message| message.contains("127.0.0.1:1")), "{found}");
    assert_eq!(metric(&metrics(&place), "tidegate_last_run_exit_code", &[]), 75.0);
}

#[test]
fn both_are_written_when_the_job_file_is_bad() {
    let place = Place::without_broker();
    place.change("job.toml", "topic =", "topc =");
    place.tidegate(&format!("run job.toml {FILES}")).expect(78);
    assert_eq!(result(&place)["exit_code"], 78);
    assert_eq!(metric(&metrics(&place), "tidegate_last_run_exit_code", &[]), 78.0);
}

#[test]
fn the_last_success_is_remembered_when_a_run_fails() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate(&format!("run job.toml {FILES}")).expect(0);
    let before = metric(&metrics(&place), "tidegate_last_success_timestamp_seconds", &[]);
    drop(broker);
    place.tidegate(&format!("run job.toml {FILES}")).expect(75);
    let samples = metrics(&place);
    assert_eq!(metric(&samples, "tidegate_last_success_timestamp_seconds", &["job=\"articles\""]), before);
    assert!(metric(&samples, "tidegate_last_run_timestamp_seconds", &[]) > before);
}

#[test]
fn a_long_result_is_cut_to_what_its_reader_takes() {
    let place = Place::without_broker();
    let unknown: String = (0..500).map(|key| format!("a_key_that_nobody_knows_{key} = {key}\n")).collect();
    place.write("job.toml", unknown);
    place.tidegate(&format!("run job.toml {FILES}")).expect(78);
    assert_eq!((&result(&place)["exit_code"], &result(&place)["truncated"]), (&78.into(), &true.into()));
}

#[test]
fn a_file_that_cannot_be_written_is_a_warning() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    let answer = place.tidegate("run job.toml --output json --result-file gone/result.json --metrics-file gone/m.prom").expect(0);
    let report = answer.json();
    assert_eq!(report["outcome"], "committed");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.len() == 2 && warnings.iter().all(|warning| warning.as_str().unwrap().contains("gone/")), "{report}");
    assert_eq!(answer.log().iter().filter(|line| line.contains("WARN") && line.contains("gone/")).count(), 2, "{}", answer.stderr);
}
