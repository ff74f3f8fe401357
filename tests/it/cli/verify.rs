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
    assert_snapshot!(place.tidegate("verify job.toml"), @r"
    exit code: 0
    ----- stdout -----
    PASS  ranges      batches 1 to 1
    PASS  accounts    rows counted before and after 1 batch
    PASS  watermark   now 2025-01-01T02:00:00.000000Z
    PASS  files       6 files of 1 snapshot, and its rejects
    PASS  unique      3 rows, no two with the same `id`
    PASS  rejects     1 row of the job in `news.articles_rejects`
    PASS  last_batch  batch 1, 5 records pulled again
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("verify job.toml --output json").pretty(), @r#"
    {
      "branch": "main",
      "command": "verify",
      "exit_code": 0,
      "guarantees": [
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "batches 1 to 1",
          "hint": null,
          "name": "ranges",
          "result": "pass"
        },
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "rows counted before and after 1 batch",
          "hint": null,
          "name": "accounts",
          "result": "pass"
        },
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "now 2025-01-01T02:00:00.000000Z",
          "hint": null,
          "name": "watermark",
          "result": "pass"
        },
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "6 files of 1 snapshot, and its rejects",
          "hint": null,
          "name": "files",
          "result": "pass"
        },
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "3 rows, no two with the same `id`",
          "hint": null,
          "name": "unique",
          "result": "pass"
        },
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "1 row of the job in `news.articles_rejects`",
          "hint": null,
          "name": "rejects",
          "result": "pass"
        },
        {
          "error": null,
          "findings": [],
          "findings_total": 0,
          "found": "batch 1, 5 records pulled again",
          "hint": null,
          "name": "last_batch",
          "result": "pass"
        }
      ],
      "job": "articles",
      "snapshot_id": "[SNAPSHOT_ID]",
      "table": "news.articles",
      "tidegate": "[VERSION]"
    }
    "#);
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
    assert_snapshot!(place.tidegate("verify job.toml"), @r"
    exit code: 0
    ----- stdout -----
    SKIP  ranges      the job has no batch in the table yet
    SKIP  accounts    no batch of the job is in the table
    SKIP  watermark   no batch of the job is in the table
    PASS  files       no snapshot, so no files
    PASS  unique      0 rows, no two with the same `id`
    PASS  rejects     no rejects table, and none needed
    SKIP  last_batch  the job has no batch in the table yet
    ----- stderr -----
    ");
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
    assert_snapshot!(place.tidegate("clean job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: 0 orphans, 0 B; nothing to delete
    ----- stderr -----
    ");
    let folder = data_file(&place).parent().unwrap().to_owned();
    let name = |job: &str, ordinal: u32| format!("tidegate-{job}-0123456789abcdef0123456789abcdef-0-{ordinal:05}.parquet");
    leave(&folder.join(name("articles", 1)), 4);
    leave(&folder.join(name("articles", 2)), 2);
    leave(&folder.join(name("other", 3)), 4);
    assert_snapshot!(place.tidegate("clean job.toml"), @r"
    exit code: 0
    ----- stdout -----
    file://[DIR]/warehouse/news/articles/data/tidegate-articles-0123456789abcdef0123456789abcdef-0-00001.parquet  0 B
    articles: 1 orphan, 0 B; nothing was deleted; `--delete` deletes them
    1 younger than `--older-than` stays: a run that is at work may name it yet
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("clean job.toml --output json").pretty(), @r#"
    {
      "bytes": 0,
      "command": "clean",
      "deleted": false,
      "files": 1,
      "foreign": 1,
      "in_use": 10,
      "job": "articles",
      "older_than_seconds": 259200,
      "orphans": [
        {
          "bytes": 0,
          "modified": "[TIME]",
          "path": "file://[DIR]/warehouse/news/articles/data/tidegate-articles-0123456789abcdef0123456789abcdef-0-00001.parquet"
        }
      ],
      "tables": [
        "news.articles",
        "news.articles_rejects"
      ],
      "tidegate": "[VERSION]",
      "too_young": 1
    }
    "#);
    assert_snapshot!(place.tidegate("clean job.toml --delete"), @r"
    exit code: 0
    ----- stdout -----
    file://[DIR]/warehouse/news/articles/data/tidegate-articles-0123456789abcdef0123456789abcdef-0-00001.parquet  0 B
    articles: 1 orphan, 0 B; deleted
    1 younger than `--older-than` stays: a run that is at work may name it yet
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("clean job.toml --delete --older-than 36h"), @r"
    exit code: 0
    ----- stdout -----
    file://[DIR]/warehouse/news/articles/data/tidegate-articles-0123456789abcdef0123456789abcdef-0-00002.parquet  0 B
    articles: 1 orphan, 0 B; deleted
    ----- stderr -----
    ");
    let left: Vec<_> = [("articles", 1), ("articles", 2), ("other", 3)].map(|(job, at)| folder.join(name(job, at)).exists()).into();
    assert_eq!(left, [false, false, true]);
    place.tidegate("verify job.toml").expect(0);
}

#[test]
fn clean_never_takes_what_a_run_may_be_writing() {
    let (_broker, place) = place();
    assert_snapshot!(place.tidegate("clean job.toml --older-than 1h"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: `--older-than` is 3600 s, and a run of job `articles` may last 12805 s

    hint: a younger file may belong to a run that is at work: give at least `--older-than "12805 s"`
    "#);
    assert_eq!(place.tidegate("clean job.toml --older-than soon").code(), 2);
}
