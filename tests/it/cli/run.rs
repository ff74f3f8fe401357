//! How a run ends: nothing new, bounded, drained, refused or failed, and what it tells of it.

use insta::assert_snapshot;
use serde_json::Value;

use crate::broker::Broker;
use crate::program::Place;

#[test]
fn nothing_new_has_an_exit_code_of_its_own_and_nothing_else_does() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml --empty-exit-code 99").expect(0);
    assert_snapshot!(place.tidegate("run job.toml --empty-exit-code 99"), @r"
    exit code: 99
    ----- stdout -----
    articles: nothing new in tide ([DURATION], exit code 99)
    ----- stderr -----
    ");
    let answer = place.tidegate("run job.toml --empty-exit-code 99 --output json").expect(99).json();
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&"nothing_new".into(), &99.into()));
    drop(broker);
    place.tidegate("run job.toml --empty-exit-code 99").expect(75);
}

#[test]
fn a_first_run_with_nothing_to_read_pins_its_start() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.change("job.toml", "topic =", "start = \"latest\"\ntopic =");
    place.tidegate("init job.toml").expect(0);
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: a run would commit batch 1 to pin its offsets, without reading any
    partition  start  end  offsets  earliest  last stable  high watermark
    0              3    3        0         0            3               3
    1              1    1        0         0            1               1
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: committed batch 1 to news.articles ([DURATION])

      records    0 read
      lag        0 offsets
    ----- stderr -----
    ");
    broker.produce(1, &[r#"{"id": "d", "at": "2025-01-01T03:00:00Z"}"#]);
    let answer = place.tidegate("run job.toml --output json").expect(0).json();
    assert_eq!((&answer["records"]["read"], &answer["records"]["inserted"]), (&1.into(), &1.into()));
}

#[test]
fn a_bounded_run_says_what_it_left_and_drain_leaves_nothing() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.change("job.toml", "event_time = \"at\"", "event_time = \"at\"\n[limits]\nmax_offsets_per_trigger = 2");
    place.tidegate("init job.toml").expect(0);
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: a run would read 2 of 4 offsets as batch 1
    partition  start  end  offsets  earliest  last stable  high watermark
    0              0    1        1         0            3               3
    1              0    1        1         0            1               1
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: committed batch 1 to news.articles ([DURATION])

      records    2 read
                 2 inserted
      offsets    partition 0: 0 to 1
                 partition 1: 0 to 1
      watermark  2025-01-01T00:00:00Z
      lag        2 offsets, newest event time .. before the run
      files      1 data file ([SIZE])

    2 offsets left; run with --drain to go on
    ----- stderr -----
    ");
    broker.produce(1, &[r#"{"id": "d", "at": "2025-01-01T03:00:00Z"}"#, r#"{"id": "e", "at": "2025-01-01T03:00:00Z"}"#]);
    assert_snapshot!(place.tidegate("run job.toml --drain"), @r"
    exit code: 0
    ----- stdout -----
    articles: committed 2 batches (2 to 3) to news.articles ([DURATION])

      records    4 read
                 1 late
                 2 inserted
                 1 updated
      offsets    partition 0: 1 to 3
                 partition 1: 1 to 3
      watermark  2025-01-01T03:00:00Z
      lag        0 offsets, newest event time .. before the run
      files      2 data files ([SIZE]), 1 delete file, ids searched in 1 file (1 request, [SIZE])
    ----- stderr -----
    ");
    assert_eq!(place.tidegate("run job.toml --drain --output json").expect(0).json()["outcome"], "nothing_new");
}

#[test]
fn too_many_rejects_commit_nothing() {
    let broker = Broker::with_articles();
    broker.produce(1, &["{", "}", "[]", "7"]);
    let place = Place::new(&broker.address());
    place.change("job.toml", "event_time = \"at\"", "event_time = \"at\"\n[rejects]\nmax_ratio = 0.4");
    place.tidegate("init job.toml").expect(0);
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 65
    ----- stdout -----
    ----- stderr -----
    error: 4 of 8 records cannot be used, more than `rejects.max_ratio` = 0.4 allows; nothing was committed

    hint: is the producer or the job's schema wrong? a higher `rejects.max_ratio` keeps them in the rejects table and goes on
    ");
    assert_eq!(place.tidegate("status job.toml --output json").expect(0).json()["last_batch"], Value::Null);
    place.change("job.toml", "event_time = \"at\"", "event_time = \"at\"\n[rejects]\nmax_ratio = 0.5");
    let answer = place.tidegate("run job.toml --output json").expect(0).json();
    assert_eq!((&answer["records"]["rejected"], &answer["records"]["inserted"]), (&4.into(), &3.into()));
}

#[test]
fn two_jobs_of_one_name_cannot_share_a_rejects_table() {
    let broker = Broker::with_articles();
    broker.produce(1, &["no json"]);
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    let other = place.read("job.toml").replace("\"news.articles\"", "\"news.others\"");
    place.write("other.toml", other + "[rejects]\ntable = \"news.articles_rejects\"\n");
    place.tidegate("init other.toml").expect(0);
    let checked = place.tidegate("check other.toml").expect(78);
    let why = "rejects table `news.articles_rejects` holds the rejects of a job `articles` whose table is `news.articles`";
    assert!(checked.stdout.contains(why), "{checked}");
    let refused = place.tidegate("run other.toml").expect(78);
    assert!(refused.stderr.contains(why), "{refused}");
    assert!(place.tidegate("status other.toml --output json").expect(0).json()["last_batch"].is_null());
    place.tidegate("run job.toml").expect(0);
    place.tidegate("verify job.toml").expect(0);
    // A name of its own is enough.
    place.write("other.toml", place.read("other.toml").replace("name = \"articles\"", "name = \"others\""));
    place.tidegate("run other.toml").expect(0);
    place.tidegate("verify other.toml").expect(0);
    place.tidegate("verify job.toml").expect(0);
}

#[test]
fn too_little_to_be_worth_a_batch() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.change("job.toml", "event_time = \"at\"", "event_time = \"at\"\n[limits]\nmin_offsets_per_trigger = 2");
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    broker.produce(1, &[r#"{"id": "d", "at": "2025-01-01T03:00:00Z"}"#]);
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: skipped: only 1 offset new in tide, below min_offsets_per_trigger ([DURATION])
    ----- stderr -----
    ");
    let plan = place.tidegate("plan job.toml").expect(0);
    assert!(plan.to_string().contains("it would wait for more: 1 new offset is below `limits.min_offsets_per_trigger`"), "{plan}");
    let check = place.tidegate("check job.toml").expect(0);
    assert!(check.to_string().contains("5 offsets; 1 new is below `limits.min_offsets_per_trigger`: a run would wait"), "{check}");
}

#[test]
fn append_writes_every_record() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    let job = place.read("job.toml").replace("\"merge\"", "\"append\"");
    place.write("job.toml", job.split_once("[merge]").unwrap().0);
    place.tidegate("init job.toml").expect(0);
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: committed batch 1 to news.articles ([DURATION])

      records    4 read
                 4 inserted
      offsets    partition 0: 0 to 3
                 partition 1: 0 to 1
      lag        0 offsets
      files      1 data file ([SIZE])
    ----- stderr -----
    ");
}

#[test]
fn a_topic_made_again_is_refused() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    let another = Broker::start();
    let place = place.with("BROKER", &another.address());
    let answer = place.tidegate("run job.toml").expect(65);
    assert!(answer.stderr.contains("`tide` was deleted and made again") && answer.stderr.contains("hint:"), "{answer}");
}

#[test]
fn failures_for_machines_say_the_same_as_for_people() {
    let place = Place::without_broker();
    let answer = place.tidegate("run job.toml --output json").expect(78);
    assert_snapshot!(answer.pretty(), @r#"
    {
      "batches": [],
      "branch": "main",
      "command": "run",
      "duration_ms": "[DURATION_MS]",
      "error": {
        "causes": [],
        "hint": "`tidegate init` creates it and the table; is the path right, and the volume mounted?",
        "message": "catalog database `[DIR]/catalog.db` does not exist"
      },
      "exit_code": 78,
      "job": "articles",
      "lag_records": null,
      "lag_seconds": null,
      "outcome": "failed",
      "records": {
        "collapsed": 0,
        "deleted": 0,
        "duplicate": 0,
        "filtered": 0,
        "inserted": 0,
        "late": 0,
        "noop": 0,
        "read": 0,
        "rejected": 0,
        "soft_deleted": 0,
        "stale": 0,
        "updated": 0
      },
      "remaining": null,
      "requests": {
        "bytes_read": "[BYTES_READ]",
        "bytes_written": "[BYTES_WRITTEN]",
        "delete": 0,
        "failed": 0,
        "get": 0,
        "head": 0,
        "list": 0,
        "put": 0
      },
      "run_id": "[UUID]",
      "started_at": "[TIME]",
      "table": "news.articles",
      "tidegate": "[VERSION]",
      "topic": "tide",
      "warnings": [],
      "watermark": null
    }
    "#);
    assert_eq!(answer.said(), place.tidegate("run job.toml").said());
}

#[test]
fn every_failure_is_one_document_with_its_exit_code() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    place.change("unreachable.toml", "${BROKER}", "127.0.0.1:1");
    place.change("other.toml", "\"articles\"", "\"others\"");
    place.change("bad.toml", "topic =", "topc =");
    for (job, code) in [("unreachable.toml", 75), ("other.toml", 65), ("bad.toml", 78), ("gone.toml", 78)] {
        let answer = place.tidegate(&format!("run {job} --output json -vv --log-format json --empty-exit-code 99")).expect(code);
        let report = answer.json();
        assert_eq!((&report["outcome"], &report["exit_code"]), (&"failed".into(), &code.into()), "{answer}");
        assert!(answer.said().contains(report["error"]["message"].as_str().unwrap()), "{answer}");
    }
}

#[test]
fn the_log_is_on_stderr_in_the_form_asked_for() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    let answer = place.tidegate("run job.toml --log-format json -v --output json").expect(0);
    assert_eq!(answer.json()["outcome"], "committed");
    assert!(answer.log().len() > 3, "{}", answer.stderr);
    for line in answer.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    broker.produce(0, &[r#"{"id": "d", "at": "2025-01-01T03:00:00Z"}"#]);
    let answer = place.tidegate("run job.toml").expect(0);
    assert!(!answer.log().is_empty() && answer.said().is_empty(), "{}", answer.stderr);
    let answer = place.tidegate("run job.toml --log-level error").expect(0);
    assert_eq!(answer.stderr, "");
}
