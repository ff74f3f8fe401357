//! The two commands that look after a table: `verify` and `clean`.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use insta::assert_snapshot;

use crate::broker::Broker;
use crate::program::Place;

/// A table with one batch, of which one record was a reject.
fn place() -> (Broker, Place) {
    let broker = Broker::with_articles();
    broker.produce(1, &["broken"]);
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    (broker, place)
}

/// The only data file of a table.
fn data_file(place: &Place) -> PathBuf {
    let files = std::fs::read_dir(place.path().join("warehouse/news/articles/data")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn verify_says_what_holds() {
    let (_broker, place) = place();
    assert_snapshot!(place.tidegate("verify job.toml"), @"");
    assert_snapshot!(place.tidegate("verify job.toml --output json").pretty(), @"");
}

#[test]
fn verify_says_what_does_not_hold_and_where() {
    let (_broker, place) = place();
    std::fs::remove_file(data_file(&place)).unwrap();
    let answer = place.tidegate("verify job.toml").expect(65);
    let name = answer.stdout.lines().find_map(|line| line.split("/data/tidegate-").nth(1)).unwrap().to_owned();
    assert!(answer.stdout.contains("the data file is gone"), "{answer}");
    let document = place.tidegate("verify job.toml --output json").expect(65).json();
    let files = &document["guarantees"][3];
    assert_eq!((&files["name"], &files["result"], &files["findings_total"]), (&"files".into(), &"fail".into(), &1.into()));
    let finding = &files["findings"][0];
    assert_eq!(finding["snapshot_id"], document["snapshot_id"]);
    let file = finding["file"].as_str().unwrap();
    assert!(name.starts_with(file.split("/data/tidegate-").nth(1).unwrap()), "{file} {name}");
}

#[test]
fn verify_of_a_table_without_a_batch_or_without_a_table() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    assert_eq!(place.tidegate("verify job.toml --output json").expect(78).json()["command"], "verify");
    place.tidegate("init job.toml").expect(0);
    assert_snapshot!(place.tidegate("verify job.toml"), @"");
}

fn leave(path: &Path, days: u64) {
    let file = File::create_new(path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file has to look as old as the command may take it for")]
    let written = SystemTime::now() - Duration::from_secs(days * 86_400);
    file.set_times(FileTimes::new().set_modified(written)).unwrap();
}

#[test]
fn clean_lists_and_then_deletes() {
    let (_broker, place) = place();
    assert_snapshot!(place.tidegate("clean job.toml"), @"");
    let folder = data_file(&place).parent().unwrap().to_owned();
    let name = |job: &str, ordinal: u32| format!("tidegate-{job}-0123456789abcdef0123456789abcdef-0-{ordinal:05}.parquet");
    leave(&folder.join(name("articles", 1)), 4);
    leave(&folder.join(name("articles", 2)), 2);
    leave(&folder.join(name("other", 3)), 4);
    assert_snapshot!(place.tidegate("clean job.toml"), @"");
    assert_snapshot!(place.tidegate("clean job.toml --output json").pretty(), @"");
    assert_snapshot!(place.tidegate("clean job.toml --delete"), @"");
    assert_snapshot!(place.tidegate("clean job.toml --delete --older-than 36h"), @"");
    let left: Vec<_> = [("articles", 1), ("articles", 2), ("other", 3)].map(|(job, at)| folder.join(name(job, at)).exists()).into();
    assert_eq!(left, [false, false, true]);
    place.tidegate("verify job.toml").expect(0);
}

#[test]
fn clean_never_takes_what_a_run_may_be_writing() {
    let (_broker, place) = place();
    assert_snapshot!(place.tidegate("clean job.toml --older-than 1h"), @"");
    assert_eq!(place.tidegate("clean job.toml --older-than soon").code(), 2);
}
