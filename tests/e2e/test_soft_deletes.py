"""Deletes whose row stays: with its values, the version of the delete, and a flag."""

from datetime import timedelta

import pytest
from articles import BASE, article
from test_conflict import run_beside

LAYOUTS = {"unpartitioned": [], "day": ["day(published_at)"]}
COLUMNS = {
    "id": "string",
    "title": "string",
    "published_at": "timestamptz",
    "version": "long",
    "is_deleted": "boolean",
    "tags": "list<string>",
    "_offset": "long",
}


@pytest.fixture
def endless(broker):
    """Makes topics without retention: the deletes of these tests have timestamps that it would take."""
    return lambda: broker.topic(2, retention_ms=-1)


@pytest.fixture
def make_soft(make_job, endless):
    """Jobs with soft deletes, and so long a delay that nothing is late."""

    def make(version=2, layout="unpartitioned", properties=(), **options):
        rules = {
            "tombstones": "delete",
            "deleted_column": "is_deleted",
            "delay": timedelta(days=3000),
            "metadata": {"_offset": "offset"},
        }
        sections = {
            "table": {
                "format_version": version,
                "partition_by": LAYOUTS[layout],
                "properties": dict(properties),
            }
        }
        job = make_job(
            endless(),
            columns=dict(COLUMNS),
            rules=rules | options.pop("rules", {}),
            sections=sections | options.pop("sections", {}),
            **options,
        )
        job.init()
        return job

    return make


def at(minute):
    return int((BASE + timedelta(minutes=minute)).timestamp() * 1000)


def write(job, *records):
    """Articles and, as (id, minute), deletes; all of an id in one partition, in this order."""
    for record in records:
        value, id = (record, record["id"]) if isinstance(record, dict) else (None, record[0])
        stamp = {} if value else {"timestamp_ms": at(record[1])}
        job.topic.produce(value, id, sum(id.encode()) % job.topic.partitions, **stamp)
    job.topic.flush()


def go(job):
    """One run, judged by the model and by `tidegate verify`, which pulls the batch again."""
    report = job.go()
    told = job.call("verify").stdout
    assert "FAIL" not in told and "SKIP" not in told, told
    return report


def outcomes(report, *names):
    return tuple(report["records"][name] for name in names)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("version", "mode"), [(2, "merge-on-read"), (3, "merge-on-read"), (2, "copy-on-write")]
)
def test_older_versions_lose_against_a_deleted_row_and_newer_ones_bring_it_back(
    make_soft, version, mode, layout
):
    job = make_soft(version, layout, properties={"write.merge.mode": mode})
    write(job, *(article(id, 10, 1, tags=[id, "x"]) for id in "abcdef"))
    go(job)

    # Stored, unknown, older than stored, a tie (null is lowest, so the stored version wins), another day.
    write(job, ("a", 20), ("unknown", 20), ("b", 5), ("c", 10), ("d", 60 * 24 + 10))
    second = go(job)
    counted = outcomes(second, "updated", "inserted", "stale", "soft_deleted", "deleted", "noop")
    assert counted == (2, 1, 2, 3, 0, 0), second

    # Older than the delete, newer than what was stored before it: they lose. What is newer wins.
    write(job, article("a", 15, 9), article("unknown", 19, 9), article("e", 11, 2))
    third = go(job)
    assert outcomes(third, "stale", "updated", "soft_deleted") == (2, 1, 0), third
    write(job, article("a", 30, 2, "back"), ("d", 60 * 24 + 20), ("unknown", 25))
    fourth = go(job)
    assert outcomes(fourth, "updated", "soft_deleted", "inserted") == (3, 2, 0), fourth

    table = f"{job.warehouse.catalog}.{job.table}"
    gone = job.warehouse.sql(f"SELECT id, title, tags FROM {table} WHERE is_deleted ORDER BY id")
    assert [tuple(row.values()) for row in gone] == [("d", "d v1", ["d", "x"]), ("unknown", None, None)]
    if version == 3:
        ids = [row["_row_id"] for row in job.warehouse.sql(f"SELECT _row_id FROM {table}")]
        assert len(set(ids)) == len(ids) == 7 and max(ids) < 10, ids
    job.nothing_new()


@pytest.mark.parametrize("ties", ["replace", "keep"])
@pytest.mark.parametrize("bound", [1_000_000, 3])
def test_versions_within_a_batch_count_as_if_each_came_alone(make_soft, bound, ties):
    rules = {"order_by": (), "ties": ties}
    job = make_soft(rules=rules, sections={"limits": {"max_offsets_per_trigger": bound}})
    write(job, article("s", 10), article("r", 10))
    job.run("--drain", outcome="committed")
    job.verify()
    write(
        job,
        # A new row and its delete; an older version after it; a second delete.
        *(
            article("n", 1, 1, "first"),
            article("n", 2, 2, "kept", tags=["t"]),
            ("n", 5),
            article("n", 3, 3, "older"),
            ("n", 6),
        ),
        # A stored row: a version that loses before the delete, and one that wins.
        *(article("s", 9, 0, "loses"), ("s", 11), article("r", 12, 2, "wins"), ("r", 13)),
        # Ties between rows and deletes, both ways round.
        *(article("t", 1, 1, "row first"), ("t", 1), ("u", 1), article("u", 1, 1, "row second")),
        # Deleted and back.
        *(article("v", 1), ("v", 2), article("v", 3, 3, "back")),
        # A record may set the flag itself.
        article("w", 1, is_deleted=True),
    )
    job.run("--drain", outcome="committed")
    job.verify()
    assert "FAIL" not in job.call("verify").stdout
    job.nothing_new()


@pytest.mark.parametrize("version", [2, 3])
def test_a_deleted_row_keeps_what_another_writer_stored_between_match_and_swap(make_soft, version):
    job = make_soft(version)
    write(job, article("a", 10), article("b", 10), article("c", 10))
    job.go()
    write(job, ("a", 20), ("new", 20), article("b", 20, 2))
    table = f"{job.warehouse.catalog}.{job.table}"

    def change():
        job.warehouse.spark.sql(f"UPDATE {table} SET title = 'by spark' WHERE id = 'a'")

    report = run_beside(job, change)
    assert outcomes(report, "updated", "inserted", "soft_deleted") == (2, 1, 2), report
    rows = job.warehouse.sql(f"SELECT id, title, is_deleted FROM {table} ORDER BY id")
    expected = [("a", "by spark", True), ("b", "b v2", False), ("c", "c v1", False), ("new", None, True)]
    assert [tuple(row.values()) for row in rows] == expected


def test_a_required_flag_and_a_table_that_could_not_hold_a_delete(make_job, endless):
    rules = {"tombstones": "delete", "deleted_column": "is_deleted", "delay": timedelta(days=3000)}
    job = make_job(columns=dict(COLUMNS), rules=rules | {"required": ("title",)}, name="refused")
    refused = job.call("init", code=78).stderr
    assert "column `title` is required" in refused and "hint:" in refused, refused

    job = make_job(endless(), columns=dict(COLUMNS), rules=rules | {"required": ("is_deleted",)})
    job.init()
    write(job, article("a", 10), ("b", 10))
    job.go()
    write(job, ("a", 20), article("b", 20))
    job.go()
