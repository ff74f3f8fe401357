//! A job from its table's creation to a run with nothing left to do, as text and as JSON.

use insta::assert_snapshot;

use crate::broker::Broker;
use crate::program::Place;

#[test]
fn the_life_of_a_job() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    assert_snapshot!(place.tidegate("init job.toml"), @r"
    exit code: 0
    ----- stdout -----
    created table news.articles at file://[DIR]/warehouse/news/articles
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("init job.toml"), @r"
    exit code: 0
    ----- stdout -----
    table news.articles is there already; it was left as it is
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 0
    ----- stdout -----
    ok    job file   job `articles`
    ok    table      `news.articles`, format v2, 3 columns, at file://[DIR]/warehouse/news/articles
    ok    state      no batch yet
    ok    rejects    `news.articles_rejects` will be made for the first reject
    ok    topic      `tide`, 2 partitions, 4 offsets
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("status job.toml"), @r"
    exit code: 0
    ----- stdout -----
    job articles · topic tide · table news.articles
    no batch yet
    watermark   none yet
    lag         4 offsets
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: a run would read 4 of 4 offsets as batch 1
    partition  start  end  offsets  earliest  last stable  high watermark
    0              0    3        3         0            3               3
    1              0    1        1         0            1               1
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: committed batch 1 to news.articles ([DURATION])

      records    4 read
                 1 duplicate
                 3 inserted
      offsets    partition 0: 0 to 3
                 partition 1: 0 to 1
      watermark  2025-01-01T02:00:00Z
      lag        0 offsets, newest event time .. before the run
      files      1 data file ([SIZE])
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: nothing new in tide; a run would commit nothing
    partition  start  end  offsets  earliest  last stable  high watermark
    0              3    3        0         0            3               3
    1              1    1        0         0            1               1
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: nothing new in tide ([DURATION])
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("status job.toml"), @r"
    exit code: 0
    ----- stdout -----
    job articles · topic tide · table news.articles
    last batch  1 (epoch 0), snapshot [SNAPSHOT], run [TIME]
    records     4 read, 1 duplicate, 3 inserted
    watermark   2025-01-01T02:00:00.000000Z
    lag         0 offsets
    newest      event time .. ago
    partition  next offset  lag
    0                    3    0
    1                    1    0
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 0
    ----- stdout -----
    ok    job file   job `articles`
    ok    table      `news.articles`, format v2, 3 columns, at file://[DIR]/warehouse/news/articles
    ok    state      batch 1 of epoch 0
    ok    rejects    `news.articles_rejects` will be made for the first reject
    ok    topic      `tide`, 2 partitions, 4 offsets
    ----- stderr -----
    ");
}

#[test]
fn the_life_of_a_job_for_machines() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    assert_snapshot!(place.tidegate("init job.toml --output json").pretty(), @r#"
    {
      "command": "init",
      "created": true,
      "differences": [],
      "job": "articles",
      "location": "file://[DIR]/warehouse/news/articles",
      "table": "news.articles",
      "tidegate": "[VERSION]"
    }
    "#);
    assert_snapshot!(place.tidegate("check job.toml --output json").pretty(), @r#"
    {
      "command": "check",
      "exit_code": 0,
      "job": "articles",
      "tests": [
        {
          "error": null,
          "found": "job `articles`",
          "name": "job file"
        },
        {
          "error": null,
          "found": "`news.articles`, format v2, 3 columns, at file://[DIR]/warehouse/news/articles",
          "name": "table"
        },
        {
          "error": null,
          "found": "no batch yet",
          "name": "state"
        },
        {
          "error": null,
          "found": "`news.articles_rejects` will be made for the first reject",
          "name": "rejects"
        },
        {
          "error": null,
          "found": "`tide`, 2 partitions, 4 offsets",
          "name": "topic"
        }
      ],
      "tidegate": "[VERSION]"
    }
    "#);
    assert_snapshot!(place.tidegate("plan job.toml --output json").pretty(), @r#"
    {
      "batch": 1,
      "command": "plan",
      "empty": false,
      "held": [],
      "job": "articles",
      "lag": 4,
      "partitions": [
        {
          "earliest": 0,
          "end": 3,
          "high_watermark": 3,
          "last_stable": 3,
          "partition": 0,
          "skipped": null,
          "start": 0
        },
        {
          "earliest": 0,
          "end": 1,
          "high_watermark": 1,
          "last_stable": 1,
          "partition": 1,
          "skipped": null,
          "start": 0
        }
      ],
      "planned": 4,
      "table": "news.articles",
      "tidegate": "[VERSION]",
      "too_little": false,
      "topic": "tide"
    }
    "#);
    assert_snapshot!(place.tidegate("run job.toml --output json").pretty(), @r#"
    {
      "batches": [
        {
          "attempts": 1,
          "batch": 1,
          "batch_id": "[SHA256]",
          "cut": null,
          "duration_ms": "[DURATION_MS]",
          "epoch": 0,
          "files": {
            "carried_rows": 0,
            "data_bytes": "[DATA_BYTES]",
            "data_files": 1,
            "delete_files": 0,
            "files_indexed": 0,
            "files_searched": 0,
            "rewritten_files": 0,
            "search_bytes": 0,
            "search_requests": 0,
            "table_files": 0
          },
          "offsets": {
            "end": {
              "tide": {
                "0": 3,
                "1": 1
              }
            },
            "start": {
              "tide": {
                "0": 0,
                "1": 0
              }
            }
          },
          "operation": "append",
          "records": {
            "collapsed": 0,
            "deleted": 0,
            "duplicate": 1,
            "filtered": 0,
            "inserted": 3,
            "late": 0,
            "noop": 0,
            "read": 4,
            "rejected": 0,
            "soft_deleted": 0,
            "stale": 0,
            "updated": 0
          },
          "snapshot_id": "[SNAPSHOT_ID]",
          "watermark": "2025-01-01T02:00:00.000000Z"
        }
      ],
      "branch": "main",
      "command": "run",
      "duration_ms": "[DURATION_MS]",
      "error": null,
      "exit_code": 0,
      "job": "articles",
      "lag_records": 0,
      "lag_seconds": "[LAG_SECONDS]",
      "outcome": "committed",
      "records": {
        "collapsed": 0,
        "deleted": 0,
        "duplicate": 1,
        "filtered": 0,
        "inserted": 3,
        "late": 0,
        "noop": 0,
        "read": 4,
        "rejected": 0,
        "soft_deleted": 0,
        "stale": 0,
        "updated": 0
      },
      "remaining": 0,
      "requests": {
        "bytes_read": "[BYTES_READ]",
        "bytes_written": "[BYTES_WRITTEN]",
        "delete": 0,
        "failed": 0,
        "get": 1,
        "head": 0,
        "list": 0,
        "put": 4
      },
      "run_id": "[UUID]",
      "started_at": "[TIME]",
      "table": "news.articles",
      "tidegate": "[VERSION]",
      "topic": "tide",
      "warnings": [],
      "watermark": "2025-01-01T02:00:00.000000Z"
    }
    "#);
    assert_snapshot!(place.tidegate("run job.toml --output json").pretty(), @r#"
    {
      "batches": [],
      "branch": "main",
      "command": "run",
      "duration_ms": "[DURATION_MS]",
      "error": null,
      "exit_code": 0,
      "job": "articles",
      "lag_records": 0,
      "lag_seconds": "[LAG_SECONDS]",
      "outcome": "nothing_new",
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
      "remaining": 0,
      "requests": {
        "bytes_read": "[BYTES_READ]",
        "bytes_written": "[BYTES_WRITTEN]",
        "delete": 0,
        "failed": 0,
        "get": 1,
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
      "watermark": "2025-01-01T02:00:00.000000Z"
    }
    "#);
    assert_snapshot!(place.tidegate("status job.toml --output json").pretty(), @r#"
    {
      "broker_error": null,
      "command": "status",
      "held": [],
      "job": "articles",
      "lag": {
        "0": 0,
        "1": 0
      },
      "lag_records": 0,
      "lag_seconds": "[LAG_SECONDS]",
      "last_batch": {
        "batch": 1,
        "epoch": 0,
        "kind": "batch",
        "planned_at": "[TIME]",
        "records": {
          "collapsed": 0,
          "deleted": 0,
          "duplicate": 1,
          "filtered": 0,
          "inserted": 3,
          "late": 0,
          "noop": 0,
          "read": 4,
          "rejected": 0,
          "soft_deleted": 0,
          "stale": 0,
          "updated": 0
        },
        "run_id": "[UUID]",
        "snapshot_id": "[SNAPSHOT_ID]"
      },
      "offsets": {
        "tide": {
          "0": 3,
          "1": 1
        }
      },
      "rejects_open": 0,
      "rolled_back": false,
      "table": "news.articles",
      "tidegate": "[VERSION]",
      "topic": "tide",
      "watermark": "2025-01-01T02:00:00.000000Z"
    }
    "#);
}

#[test]
fn a_batch_that_changes_rows() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    broker.produce(
        0,
        &[
            r#"{"id": "a", "at": "2025-01-01T03:00:00Z", "title": "third"}"#,
            r#"{"id": "c", "at": "2025-01-01T01:59:59Z", "title": "late"}"#,
            r#"{"id": "c", "at": "2025-01-01T02:00:01Z", "title": "newer"}"#,
            r#"{"id": "d", "at": "2025-01-01T03:00:00Z", "title": "new"}"#,
            r#"{"id": null, "at": "2025-01-01T03:00:00Z"}"#,
            r#"{"id": "e", "at": "2099-01-01T03:00:00Z"}"#,
            "not JSON",
        ],
    );
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 0
    ----- stdout -----
    articles: committed batch 2 to news.articles ([DURATION])

      records    7 read
                 3 rejected
                 1 late
                 1 inserted
                 2 updated
      offsets    partition 0: 3 to 10
      watermark  2025-01-01T03:00:00Z
      lag        0 offsets, newest event time .. before the run
      files      1 data file ([SIZE]), 1 delete file, ids searched in 1 of 1 file (1 request, [SIZE])
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("status job.toml"), @r"
    exit code: 0
    ----- stdout -----
    job articles · topic tide · table news.articles
    last batch  2 (epoch 0), snapshot [SNAPSHOT], run [TIME]
    records     7 read, 3 rejected, 1 late, 1 inserted, 2 updated
    watermark   2025-01-01T03:00:00.000000Z
    lag         0 offsets
    newest      event time .. ago
    partition  next offset  lag
    0                   10    0
    1                    1    0
    ----- stderr -----
    ");
}
