"""Another writer commits between our match and our swap; and what only many commits bring about."""

import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from articles import Feed, article
from confluent_kafka import Consumer, TopicPartition
from test_spark import as_stored, call

from jobs import RUN_TIMEOUT_S, delete_files, finish, phase_of

VERSIONS = pytest.mark.parametrize("version", [2, 3])
MODES = pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])


def run_beside(job, change):
    """Runs the job and lets `change` commit after the run has matched and written, just before its swap.

    A lock on the catalog holds the swap back until the run's log says that it is about to; then the run
    is stopped while the change commits.
    """
    return beside(job, change, "run").report


def beside(job, change, *command):
    """The same for any command that commits."""
    with closing(sqlite3.connect(job.warehouse.database, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        process = job.start(*command, "--output", "json", "--log-format", "json")
        for line in process.stderr:
            if phase_of(line) == "commit":
                break
        else:
            raise AssertionError(f"the run never came to its commit: {process.stdout.read()}")
        stop(process)
        lock.execute("ROLLBACK")
    change()
    process.send_signal(signal.SIGCONT)
    run = finish(process)
    assert run.code == 0, run
    return run


def stop(process):
    """Returns when each of its threads stands still: until one has taken the signal, the others go on."""
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while not all(
        (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
        for task in Path(f"/proc/{process.pid}/task").iterdir()
    ):
        assert process.poll() is None and time.monotonic() < deadline, "it does not stop"
        time.sleep(0.001)


@VERSIONS
@MODES
def test_a_merge_between_match_and_swap(make_job, mode, version):
    properties = {"write.merge.mode": mode}
    job = make_job(sections={"table": {"format_version": version, "properties": properties}})
    job.topic.send([article(f"a{i}", i) for i in range(20)])
    job.init()
    job.go()
    job.topic.send(
        [
            article("a1", 40, 2),
            article("a2", 40, 2),
            article("a3", 40, 2),
            article("n1", 41),
            article("n2", 41),
        ]
    )

    def merge():
        table = f"{job.warehouse.catalog}.{job.table}"
        job.warehouse.spark.sql(f"""
            MERGE INTO {table} t
            USING (SELECT explode(array('a2', 'a3', 'n1')) AS id) s ON t.id = s.id
            WHEN MATCHED AND s.id = 'a3' THEN DELETE
            WHEN MATCHED THEN UPDATE SET published_at = TIMESTAMP '2025-03-01 02:00:00', version = 9
            WHEN NOT MATCHED THEN INSERT (id, title, published_at, version)
                VALUES (s.id, 'by spark', TIMESTAMP '2025-03-01 00:10:00', 1)
        """)

        def change(rows):
            del rows[("a3",)]
            newer = as_stored(job, article("a2", 120, 9))
            rows[("a2",)] = replace(
                newer, row=rows[("a2",)].row | {k: newer.row[k] for k in ("published_at", "version")}
            )
            rows[("n1",)] = as_stored(job, article("n1", 10, 1, "by spark"))

        job.model.foreign(job.warehouse.table(job.table).metadata, change)

    report = run_beside(job, merge)
    assert report["outcome"] == "committed" and report["batches"][0]["attempts"] == 2, report
    # a2 is newer by Spark's hand, a3 is gone and comes back, n1 is there already and is updated.
    assert (
        report["records"]["stale"] == 1
        and report["records"]["updated"] == 2
        and report["records"]["inserted"] == 2
    )
    job.verify()
    if mode == "copy-on-write":
        assert delete_files(job) == []
    no_orphans(job)


@VERSIONS
@MODES
def test_a_compaction_between_match_and_swap(make_job, mode, version):
    properties = {"write.merge.mode": mode}
    layout = {"format_version": version, "partition_by": ["bucket(2, id)"], "properties": properties}
    job = make_job(sections={"table": layout})
    for step in range(3):
        job.topic.send([article(f"a{i}", step, step + 1) for i in range(step * 5, 20)])
        job.init()
        job.go(readers=["pyiceberg"])
    job.topic.send([article(f"a{i}", 30, 9) for i in range(0, 20, 3)])
    options = "options => map('rewrite-all', 'true')"
    report = run_beside(job, lambda: call(job, f"rewrite_data_files(table => '{job.table}', {options})"))
    assert report["batches"][0]["attempts"] == 2, report
    job.verify()
    if mode == "merge-on-read":
        # `tidegate-<job>-<run>-<attempt>-<ordinal>`: rows stay, deletes are made anew.
        assert attempts_of(job, report, "data_files") == {"0"}
        assert attempts_of(job, report, "delete_files") == {"1"}
    job.nothing_new()
    no_orphans(job)


def attempts_of(job, report, files):
    """Which attempts of a run named its files that are live."""
    name = f"{job.warehouse.catalog}.{job.table}.{files}"
    paths = [row["file_path"] for row in job.warehouse.sql(f"SELECT file_path FROM {name}")]
    run = report["run_id"].replace("-", "")
    return {path.split(run)[1].split("-")[1] for path in paths if run in path}


def no_orphans(job):
    """What a refused attempt wrote is gone: every file of the run's data is in some snapshot."""
    known = job.warehouse.sql(f"SELECT file_path FROM {job.warehouse.catalog}.{job.table}.all_files")
    known = {Path(row["file_path"].removeprefix("file:")).name for row in known}
    data = Path(job.warehouse.table(job.table).metadata.location.removeprefix("file:")) / "data"
    orphans = {path.name for path in data.rglob("tidegate-*")} - known
    assert not orphans, orphans


def test_a_new_column_between_match_and_swap(make_job):
    job = make_job(sections={"merge": {"unmapped": "null"}})
    job.topic.send([article(f"a{i}", i) for i in range(5)])
    job.init()
    job.go()
    job.topic.send([article("a1", 40, 2), article("n1", 41)])
    table = f"{job.warehouse.catalog}.{job.table}"
    run_beside(job, lambda: job.warehouse.spark.sql(f"ALTER TABLE {table} ADD COLUMN note string"))
    rows = job.warehouse.table(job.table).scan().to_arrow().to_pylist()
    assert sorted(row["id"] for row in rows) == ["a0", "a1", "a2", "a3", "a4", "n1"]
    assert {row["id"]: row["version"] for row in rows}["a1"] == 2
    assert {row["note"] for row in rows} == {None}
    job.nothing_new()


@VERSIONS
def test_a_column_that_the_job_does_not_fill_is_kept_on_update(make_job, version):
    job = make_job(sections={"merge": {"unmapped": "keep"}, "table": {"format_version": version}})
    job.topic.send([article(f"a{i}", i) for i in range(5)])
    job.init()
    job.go()
    table = f"{job.warehouse.catalog}.{job.table}"
    job.warehouse.spark.sql(f"ALTER TABLE {table} ADD COLUMN note string")
    job.warehouse.spark.sql(f"UPDATE {table} SET note = concat('kept ', id) WHERE id IN ('a1', 'a2')")
    job.topic.send([article("a1", 40, 2), article("a3", 41, 2), article("n1", 41)])
    report = job.run(outcome="committed")
    assert report["records"]["updated"] == 2 and report["records"]["inserted"] == 1
    rows = job.warehouse.sql(f"SELECT id, version, note FROM {table} ORDER BY id")
    assert [(row["id"], row["version"], row["note"]) for row in rows] == [
        ("a0", 1, None),
        ("a1", 2, "kept a1"),
        ("a2", 1, "kept a2"),
        ("a3", 2, None),
        ("a4", 1, None),
        ("n1", 1, None),
    ]


@VERSIONS
@MODES
def test_small_manifests_are_merged(make_job, mode, version):
    properties = {"commit.manifest.min-count-to-merge": "4", "write.merge.mode": mode}
    job = make_job(sections={"table": {"format_version": version, "properties": properties}})
    job.init()
    feed = Feed(job.topic, minutes_per_record=0.05)
    for step in range(12):
        feed.send(20)
        job.go(readers=["pyiceberg"] if step % 4 else ["pyiceberg", "spark"], rejects=False)
    job.verify()
    manifests = job.warehouse.sql(f"SELECT content FROM {job.warehouse.catalog}.{job.table}.manifests")
    assert sum(1 for manifest in manifests if manifest["content"] == 0) < 6, manifests
    if version == 3:
        table = f"{job.warehouse.catalog}.{job.table}"
        ids = [row["_row_id"] for row in job.warehouse.sql(f"SELECT _row_id FROM {table}")]
        assert None not in ids and len(set(ids)) == len(ids), "each row has an id of its own"


def test_offsets_are_mirrored_to_the_group(make_job):
    job = make_job(partitions=2)
    job.topic.send([article(f"a{i}", i) for i in range(30)])
    job.init()
    end = job.go()["batches"][0]["offsets"]["end"][job.topic.name]
    settings = {"bootstrap.servers": job.topic.broker.bootstrap, "group.id": f"tidegate-{job.name}"}
    with closing(Consumer(settings)) as consumer:
        mirrored = consumer.committed([TopicPartition(job.topic.name, int(p)) for p in end], timeout=10)
    assert {str(p.partition): p.offset for p in mirrored} == end
