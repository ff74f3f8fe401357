"""Increments of every kind of record, on every kind of table."""

from datetime import timedelta

import pytest
from articles import Feed, article, broken, in_the_future

from jobs import delete_files

LAYOUTS = {
    "unpartitioned": [],
    "bucket": ["bucket(4, id)"],
    "day": ["day(published_at)"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])
def test_increments_equal_the_model(make_job, mode, version, layout):
    properties = {"write.merge.mode": mode}
    job = make_job(
        partitions=2,
        sections={
            "table": {
                "format_version": version,
                "partition_by": LAYOUTS[layout],
                "properties": properties,
            }
        },
    )
    topic = job.topic
    job.init()
    job.verify()

    # Two days, so that `day` has several partitions.
    topic.send([article(f"a{i}", minute=i * 60) for i in range(48)], partition=0)
    topic.send([article(f"b{i}", minute=i * 60) for i in range(48)], partition=1)
    first = job.go()
    assert first["records"]["inserted"] == 96
    assert first["batches"][0]["operation"] == "append"
    job.nothing_new()

    # Newer versions, one of them on another day; duplicates within the batch and of stored rows.
    topic.send([article("a40", 47 * 60 + 1, 2), article("a46", 48 * 60 + 30, 2), article("a47", 47 * 60, 2)])
    topic.send([article("n1", 47 * 60), article("n1", 47 * 60), article("a45", 45 * 60, 1)])
    second = job.go()
    assert second["records"]["updated"] == 4 and second["records"]["duplicate"] == 1
    assert second["batches"][0]["operation"] == "overwrite"
    files = second["batches"][0]["files"]
    assert (files["delete_files"] == 0) == (files["rewritten_files"] > 0) == (mode == "copy-on-write")

    # Stale (older than stored, younger than the watermark), late, future, broken.
    topic.send([article("a46", 47 * 60, 1), article("a47", 47 * 60, 1), article("late", 60)], partition=1)
    topic.send([article("future") | {"published_at": in_the_future()}, *broken()], key=lambda _: "k")
    topic.send([article("n2", 48 * 60, extra={"not": ["in", "the", "table"]})])
    third = job.go()
    assert third["records"]["stale"] == 2 and third["records"]["late"] == 1
    assert third["records"]["rejected"] == 1 + len(broken())
    assert third["records"]["inserted"] == 1

    # Only broken records: no row comes out, but the offsets must move.
    topic.send(broken())
    fourth = job.go()
    assert fourth["records"]["read"] == fourth["records"]["rejected"] == len(broken())
    job.nothing_new()
    job.verify()
    if mode == "copy-on-write":
        assert delete_files(job) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])
def test_many_batches_in_one_drain_equal_the_model(make_job, mode, layout):
    job = make_job(
        partitions=3,
        sections={
            "table": {"partition_by": LAYOUTS[layout], "properties": {"write.merge.mode": mode}},
            "limits": {"max_offsets_per_trigger": 100},
        },
    )
    Feed(job.topic, minutes_per_record=5).send(600)
    job.init()
    bounded = job.go(readers=["pyiceberg"])
    # Shared in proportion to lag, so rounding may leave a little of the bound unused.
    assert 90 < bounded["records"]["read"] <= 100
    assert bounded["remaining"] == bounded["lag_records"] > 400
    told = job.call("run").stdout
    assert "left; run with --drain to go on" in told
    drained = job.run("--drain", outcome="committed")
    assert drained["remaining"] == 0 and len(drained["batches"]) > 4
    job.verify()
    job.nothing_new()


@pytest.mark.parametrize("late", ["drop", "merge"])
def test_late_records_go_where_the_job_says(make_job, late):
    job = make_job(rules={"late": late, "delay": timedelta(minutes=10)})
    job.init()
    job.topic.send([article("a", 100), article("b", 200)])
    job.go()
    job.topic.send([article("late", 150), article("a", 120, 2), article("c", 195)])
    job.go()
    assert not job.warehouse.exists("demo.events_rejects")


@pytest.mark.parametrize("ties", ["replace", "keep"])
def test_equal_versions_are_settled_by_arrival(make_job, ties):
    job = make_job(rules={"ties": ties})
    job.init()
    job.topic.send([article("a", 1, 1, "first"), article("a", 1, 1, "second")])
    job.topic.send([article("b", 1, 1, "first")])
    job.go()
    job.topic.send([article("a", 1, 1, "third"), article("b", 1, 1, "second"), article("b", 0, 9, "older")])
    job.go()


def test_a_null_in_order_by_is_the_lowest(make_job):
    job = make_job()
    job.init()
    job.topic.send([article("a", 1) | {"version": None}, article("b", 1, 0), article("c", 1, 3)])
    job.topic.send(
        [article("c", 1) | {"version": None}, article("d", 1, 2), article("d", 1) | {"version": None}]
    )
    job.go()
    job.topic.send([article("a", 1, -5), article("b", 1) | {"version": None}])
    job.go()


def test_several_id_columns(make_job):
    columns = {
        "site": "string",
        "number": "long",
        "published_at": "timestamptz",
        "version": "long",
        "title": "string",
    }
    job = make_job(columns=columns, rules={"id": ("site", "number")})
    job.init()

    def page(site, number, minute, version=1):
        return article("", minute, version, f"{site}{number}v{version}") | {"site": site, "number": number}

    job.topic.send([page("a", 1, 1), page("b", 1, 1), page("a", 2, 1), page("a", 1, 2, 2)])
    job.go()
    job.topic.send([page("b", 1, 3, 2), page("b", 2, 3), page("a", 2, 0), page(None, 2, 3)])
    job.go()


def test_append_never_looks_at_the_table(make_job):
    job = make_job(rules={"append": True})
    job.init()
    job.topic.send([article("a", 1), article("a", 1), article("b", 1)])
    assert job.go()["records"]["inserted"] == 3
    job.topic.send([article("a", 1), b"broken"])
    assert job.go()["batches"][0]["operation"] == "append"
    job.nothing_new()


@pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])
def test_tombstones_delete(make_job, mode):
    job = make_job(
        rules={"tombstones": "delete", "delay": timedelta(days=3000)},
        sections={"table": {"properties": {"write.merge.mode": mode}}},
    )
    job.init()
    job.topic.send([article("a", 1), article("b", 2), article("c", 3)], key=lambda v: v["id"])
    job.go()
    # The record's timestamp is the delete's version: now, so above every stored one.
    for id in ("a", "unknown"):
        job.topic.produce(None, id)
    job.topic.produce(None, "b", timestamp_ms=1_600_000_000_000)
    job.topic.flush()
    report = job.go()
    assert (report["records"]["deleted"], report["records"]["noop"], report["records"]["stale"]) == (1, 1, 1)
    # The rows that stay in a rewritten file are added to the table anew.
    assert report["batches"][0]["operation"] == ("delete" if mode == "merge-on-read" else "overwrite")
    for id in ("b", "c"):
        job.topic.produce(None, id)
    job.topic.flush()
    assert job.go()["batches"][0]["operation"] == "delete"
    assert job.model.rows() == []


def test_too_many_rejects_stop_the_run_before_a_commit(make_job):
    job = make_job(sections={"rejects": {"max_ratio": 0.1}})
    job.init()
    job.topic.send([article("a"), b"broken"])
    before = job.warehouse.metadata_location(job.table)
    report = job.run(code=65, outcome="failed")
    assert report["error"]["message"]
    assert job.warehouse.metadata_location(job.table) == before
    # The rejects table may have been made by now, but holds nothing of a batch that never was.
    job.verify_rejects()


@pytest.mark.parametrize(
    ("bound", "value", "records"),
    [("max_bytes_per_trigger", "64 KiB", 3_000), ("memory_limit", "64 MiB", 150_000)],
)
def test_a_batch_is_cut_by_its_bound_and_the_next_goes_on(make_job, bound, value, records):
    # One message in flight is small, so that the bound and not the size of a fetch decides.
    job = make_job(sections={"limits": {bound: value}, "kafka": {"fetch.message.max.bytes": 65536}})
    for i in range(records):
        job.topic.produce(article(f"a{i}", i * 0.0001), partition=i % 2)
    job.topic.flush()
    job.init()
    first = job.run(outcome="committed")
    assert first["batches"][0]["cut"] == bound, first
    assert 0 < first["records"]["read"] < records
    job.run("--drain", outcome="committed")
    job.verify(readers=["pyiceberg"])
    job.nothing_new()


def test_within_the_watermark_only_files_that_reach_it_are_searched(make_job):
    """`match = "watermark"`: an id that comes back after longer than that is a row of its own."""
    job = make_job(partitions=1, sections={"merge": {"match": "watermark"}})
    job.init()
    day = 24 * 60
    for at in (0, day, 2 * day):
        job.topic.send([article(f"{at}/{n}", at + n) for n in range(50)])
        job.go()
    newest = 2 * day
    job.topic.send([article(f"{newest}/{n}", newest + 60, 2) for n in (3, 4)] + [article("new", newest + 60)])
    report = job.go()
    (batch,) = report["batches"]
    assert (report["records"]["updated"], report["records"]["inserted"]) == (2, 1)
    assert (batch["files"]["table_files"], batch["files"]["files_searched"]) == (3, 1)
    # The one that `match = "table"` would update.
    job.topic.send([article("0/7", newest + 61, 2)])
    report = job.run(outcome="committed")
    assert (report["records"]["updated"], report["records"]["inserted"]) == (0, 1)
    assert report["batches"][0]["files"]["files_searched"] < report["batches"][0]["files"]["table_files"]
