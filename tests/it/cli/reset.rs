//! `tidegate reset`: what it would do, what it does, and what it refuses.

use insta::assert_snapshot;
use serde_json::Value;

use crate::broker::Broker;
use crate::program::Place;

/// A job that has read its topic, but for one record.
fn place(broker: &Broker) -> Place {
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    broker.produce(1, &[r#"{"id": "d", "at": "2025-01-01T02:30:00Z", "title": "unread"}"#]);
    place
}

#[test]
fn it_says_what_it_would_do_before_it_does_it() {
    let broker = Broker::with_articles();
    let place = place(&broker);
    let dry = place.tidegate("reset job.toml --to earliest");
    assert_snapshot!(dry, @r"
    exit code: 0
    ----- stdout -----
    articles: a reset would do this; nothing was changed
    partition  from  to  read again  skipped  earliest  last stable
    0             3   0           3        0         0            3
    1             1   0           1        0         0            2
    epoch       1, after batch 1
    watermark   none: no record is late until a batch has made one
    4 offsets will be read again: ids keep their newest version, so no row comes twice; rejects come again
    `--execute` does it
    ----- stderr -----
    ");
    assert_eq!(dry.stdout, place.tidegate("reset job.toml --to earliest --dry-run").stdout);
    let latest = place.tidegate("reset job.toml --to latest").expect(0).stdout;
    assert!(latest.contains("\n1             1   2           0        1         0            2\n"), "{latest}");
    assert!(latest.contains("\n1 offset will be skipped: what stands there never reaches the table\n"), "{latest}");
    assert_snapshot!(place.tidegate("reset job.toml --to 0:1 --watermark 2025-01-01T01:00:00Z --execute"), @r"
    exit code: 0
    ----- stdout -----
    articles: reset by snapshot [SNAPSHOT] of news.articles
    partition  from  to  read again  skipped  earliest  last stable
    0             3   1           2        0         0            3
    1             1   1           0        0         0            2
    epoch       1, after batch 1
    watermark   2025-01-01T01:00:00.000000Z
    2 offsets will be read again: ids keep their newest version, so no row comes twice; rejects come again
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("status job.toml"), @r"
    exit code: 0
    ----- stdout -----
    job articles · topic tide · table news.articles
    last reset  after batch 1, begins epoch 1, snapshot [SNAPSHOT], at [TIME]
    records     none
    watermark   2025-01-01T01:00:00.000000Z
    lag         3 offsets
    partition  next offset  lag
    0                    1    2
    1                    1    1
    ----- stderr -----
    ");
    let report = place.tidegate("run job.toml --output json").expect(0).json();
    let records = ["read", "late", "inserted", "updated"].map(|name| report["records"][name].as_u64().unwrap());
    assert_eq!(records, [3, 1, 1, 1], "{report}");
    let status = place.tidegate("status job.toml").expect(0).stdout;
    assert!(status.contains("\nlast batch  2 (epoch 1), "), "{status}");
    let rows = place.tidegate("run job.toml --output json").expect(0).json();
    assert_eq!(rows["outcome"], "nothing_new");
}

#[test]
fn its_json_is_one_document() {
    let broker = Broker::with_articles();
    let place = place(&broker);
    assert_snapshot!(place.tidegate("reset job.toml --to earliest --execute --output json").expect(0).pretty(), @r#"
    {
      "batch": 1,
      "branch": "main",
      "command": "reset",
      "dropped": [],
      "epoch": 1,
      "job": "articles",
      "outcome": "committed",
      "partitions": [
        {
          "earliest": 0,
          "from": 3,
          "last_stable": 3,
          "partition": 0,
          "read_again": 3,
          "skipped": 0,
          "to": 0
        },
        {
          "earliest": 0,
          "from": 1,
          "last_stable": 2,
          "partition": 1,
          "read_again": 1,
          "skipped": 0,
          "to": 0
        }
      ],
      "read_again": 4,
      "run_id": "[UUID]",
      "skipped": 0,
      "snapshot_id": "[SNAPSHOT_ID]",
      "table": "news.articles",
      "tidegate": "[VERSION]",
      "topic": "tide",
      "unknown_because": null,
      "warnings": [],
      "watermark": null
    }
    "#);
    let status = place.tidegate("status job.toml --output json").expect(0).json();
    assert_eq!((&status["last_batch"]["kind"], &status["last_batch"]["epoch"]), (&"reset".into(), &1.into()), "{status}");
    let refused = place.tidegate("reset job.toml --to 5:1 --output json").expect(78).json();
    assert_eq!((&refused["command"], &refused["exit_code"]), (&"reset".into(), &78.into()), "{refused}");
}

#[test]
fn it_refuses_by_name_what_the_topic_does_not_hold() {
    let broker = Broker::with_articles();
    let place = place(&broker);
    assert_snapshot!(place.tidegate("reset job.toml --to 2:0"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: `--to` names partition 2, which topic `tide` does not have

    hint: its partitions are 0 to 1
    ");
    assert_snapshot!(place.tidegate("reset job.toml --to 0:4 --execute"), @r"
    exit code: 65
    ----- stdout -----
    ----- stderr -----
    error: `--to` asks for offset 4 of partition 0; topic `tide` holds 0 to 3

    hint: choose an offset in that range, or `earliest` or `latest`
    ");
    assert_snapshot!(place.tidegate("reset job.toml --to 0:-1"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value '0:-1' for '--to <WHERE>': partition 0 has no offset: expected a whole number such as `0:123`

    For more information, try '--help'.
    ");
    assert_snapshot!(place.tidegate("reset job.toml --to tomorrow"), @r#"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value 'tomorrow' for '--to <WHERE>': expected `earliest`, `latest`, a time such as `2026-01-31T12:00:00Z`, a day such as `2026-01-31` (from 00:00 UTC), or offsets such as `0:123,1:456` or `{"0": 123, "1": 456}`

    For more information, try '--help'.
    "#);
    let answer = Place::new(&broker.address()).tidegate("reset job.toml --to latest").expect(78);
    assert!(answer.stderr.contains("catalog.db` does not exist"), "{answer}");
}

#[test]
fn a_job_that_never_ran_can_be_given_its_start() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    assert_snapshot!(place.tidegate("reset job.toml --to 0:2,1:1 --execute"), @r"
    exit code: 0
    ----- stdout -----
    articles: reset by snapshot [SNAPSHOT] of news.articles
    partition  from  to  read again  skipped  earliest  last stable
    0          none   2           0        2         0            3
    1          none   1           0        1         0            1
    epoch       1, after batch 0
    watermark   none: no record is late until a batch has made one
    3 offsets will be skipped: what stands there never reaches the table
    ----- stderr -----
    ");
    let report = place.tidegate("run job.toml --output json").expect(0).json();
    assert_eq!((&report["records"]["inserted"], &report["batches"][0]["batch"]), (&1.into(), &1.into()), "{report}");
}

#[test]
fn append_mode_repeats_nothing_unasked() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    let job = place.read("job.toml").replace("\"merge\"", "\"append\"");
    place.write("job.toml", job.split_once("[merge]").unwrap().0);
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    assert_snapshot!(place.tidegate("reset job.toml --to 0:2 --execute"), @r"
    exit code: 65
    ----- stdout -----
    ----- stderr -----
    error: 1 offset would be read again, and in append mode each record that is read again is one row more

    hint: `--allow-duplicates` says that this is wanted; deleting those rows first, or rolling the table back, keeps them single
    ");
    place.tidegate("reset job.toml --to latest --execute").expect(0);
    assert_eq!(place.tidegate("run job.toml --output json").expect(0).json()["outcome"], "nothing_new");
    assert_snapshot!(place.tidegate("reset job.toml --to 0:2 --execute --allow-duplicates"), @r"
    exit code: 0
    ----- stdout -----
    articles: reset by snapshot [SNAPSHOT] of news.articles
    partition  from  to  read again  skipped  earliest  last stable
    0             3   2           1        0         0            3
    1             1   1           0        0         0            1
    epoch       2, after batch 1
    watermark   none: no record is late until a batch has made one
    1 offset will be read again: each record there will be one row more
    ----- stderr -----
    ");
    let report: Value = place.tidegate("run job.toml --output json").expect(0).json();
    assert_eq!(report["records"]["inserted"], 1, "{report}");
}
