"""Another engine works on the table between the runs."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from articles import Feed, article
from kafka import Record

VERSIONS = pytest.mark.parametrize("version", [2, 3])


def merged_job(make_job, version, **sections):
    """A job whose table has had updates, so that there are deletes to maintain."""
    job = make_job(
        sections={"table": {"format_version": version, "partition_by": ["bucket(2, id)"]} | sections}
    )
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    for _ in range(3):
        feed.send(60)
        job.go(readers=["pyiceberg"], rejects=False)
    return job, feed


def call(job, procedure):
    return job.warehouse.sql(f"CALL {job.warehouse.catalog}.system.{procedure}")


@VERSIONS
def test_compaction_and_expiry(make_job, version):
    job, feed = merged_job(make_job, version)
    feed.send(60)
    files = job.go()["batches"][0]["files"]
    assert files["files_indexed"] == files["files_searched"] > 0
    call(job, f"rewrite_data_files(table => '{job.table}', options => map('rewrite-all', 'true'))")
    job.verify()
    feed.send(60)
    # Spark's files have no key index: their ids are read.
    files = job.go()["batches"][0]["files"]
    assert files["files_indexed"] == 0 < files["files_searched"]
    call(job, f"rewrite_data_files(table => '{job.table}', options => map('rewrite-all', 'true'))")
    # The head is now Spark's, and every snapshot with our keys goes.
    call(
        job,
        f"expire_snapshots(table => '{job.table}', retain_last => 1, "
        "older_than => TIMESTAMP '2999-01-01 00:00:00')",
    )
    (snapshot,) = job.warehouse.table(job.table).metadata.snapshots
    assert "tidegate.job" not in snapshot.summary.additional_properties
    job.nothing_new()
    feed.send(60)
    job.go()
    job.nothing_new()


@VERSIONS
def test_manifests_and_position_deletes_rewritten(make_job, version):
    job, feed = merged_job(make_job, version)
    call(job, f"rewrite_manifests(table => '{job.table}')")
    call(job, f"rewrite_position_delete_files(table => '{job.table}', options => map('rewrite-all', 'true'))")
    job.verify()
    feed.send(60)
    job.go()


@VERSIONS
def test_rollback_takes_the_offsets_back(make_job, version):
    job, feed = merged_job(make_job, version)
    job.topic.send([b"broken"])
    feed.send(30)
    job.go(readers=["pyiceberg"])
    snapshots = job.warehouse.history(job.table)
    call(job, f"rollback_to_snapshot('{job.table}', {snapshots[-3].snapshot_id})")
    # All that was undone is read and merged again, and the reject is there once.
    redone = job.go()
    assert redone["records"]["read"] > 90 and redone["records"]["rejected"] == 1
    job.nothing_new()
    feed.send(30)
    job.go()


@VERSIONS
def test_a_merge_by_spark(make_job, version):
    job, feed = merged_job(make_job, version)
    ids = [row[0] for row in job.model.rows()]
    changed, gone = ids[0], ids[1]
    spark, table = job.warehouse.spark, f"{job.warehouse.catalog}.{job.table}"
    spark.sql(f"""
        MERGE INTO {table} t
        USING (SELECT explode(array('{changed}', '{gone}', 'spark')) AS id) s ON t.id = s.id
        WHEN MATCHED AND s.id = '{gone}' THEN DELETE
        WHEN MATCHED THEN UPDATE SET title = 'by spark'
        WHEN NOT MATCHED THEN INSERT (id, title, published_at, version)
            VALUES (s.id, 'by spark', TIMESTAMP '2025-03-01 00:10:00', 1)
    """)

    def change(rows):
        del rows[(gone,)]
        old = rows[(changed,)]
        rows[(changed,)] = replace(old, row=old.row | {"title": "by spark"})
        rows[("spark",)] = as_stored(job, article("spark", 10, 1, "by spark"))

    job.model.foreign(job.warehouse.table(job.table).metadata, change)
    job.verify()
    # Versions of rows that Spark wrote, deleted and inserted.
    job.topic.send([article("spark", 11, 2), article(changed, 200, 99), article(gone, 200, 99)])
    feed.send(60)
    job.go()


def as_stored(job, value):
    """What another engine stored, as the version that the model compares with."""
    return job.model.decode(Record(job.topic.name, -1, -1, 0, None, json.dumps(value).encode()))


@VERSIONS
def test_fifty_updates_leave_one_delete_file_for_a_data_file(make_job, version):
    job = make_job(sections={"table": {"format_version": version}})
    job.topic.send([article(f"a{i}", 0) for i in range(200)])
    job.init()
    job.go()
    for step in range(1, 51):
        job.topic.send([article(f"a{(step * 7 + i) % 200}", step, step + 1) for i in range(5)])
        job.run(outcome="committed")
        if step % 10 == 0:
            job.verify(readers=["pyiceberg"], rejects=False)
    job.verify()

    deletes = job.warehouse.sql(
        f"SELECT content, file_format, file_path, referenced_data_file, lower_bounds, upper_bounds "
        f"FROM {job.warehouse.catalog}.{job.table}.delete_files"
    )
    assert deletes
    assert {d["content"] for d in deletes} == {1}, "no equality deletes"
    assert {d["file_format"] for d in deletes} == {"PUFFIN" if version == 3 else "PARQUET"}
    targets = Counter(map(target, deletes))
    assert max(targets.values()) == 1, targets
    files = job.warehouse.sql(f"SELECT file_path FROM {job.warehouse.catalog}.{job.table}.data_files")
    assert set(targets) <= {f["file_path"] for f in files}, "no delete may outlive its data file"


FILE_PATH_COLUMN = 2147483546


def target(delete):
    """The one data file that a delete file points into: named, or proved by the bounds of its paths."""
    if delete["referenced_data_file"]:
        return delete["referenced_data_file"]
    lower, upper = (dict(delete[side])[FILE_PATH_COLUMN] for side in ("lower_bounds", "upper_bounds"))
    assert lower == upper, f"not file-scoped: {delete}"
    return bytes(lower).decode()


@VERSIONS
@pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])
def test_a_table_made_and_evolved_by_spark(make_job, mode, version):
    job = make_job(
        columns={"id": "string", "headline": "string", "published_at": "timestamptz", "version": "long"}
    )
    spark, table = job.warehouse.spark, f"{job.warehouse.catalog}.{job.table}"
    spark.sql(f"CREATE NAMESPACE {job.warehouse.catalog}.demo")
    spark.sql(f"""
        CREATE TABLE {table} (id STRING NOT NULL, gone STRING, title STRING, published_at TIMESTAMP)
        USING iceberg PARTITIONED BY (days(published_at))
        TBLPROPERTIES ('format-version' = '{version}', 'write.merge.mode' = '{mode}')
    """)
    spark.sql(f"INSERT INTO {table} VALUES ('old', 'x', 'by spark', TIMESTAMP '2025-03-01 00:00:00')")
    spark.sql(f"ALTER TABLE {table} ADD COLUMN version BIGINT")
    spark.sql(f"ALTER TABLE {table} RENAME COLUMN title TO headline")
    spark.sql(f"ALTER TABLE {table} DROP COLUMN gone")
    spark.sql(f"ALTER TABLE {table} ADD PARTITION FIELD bucket(2, id)")
    spark.sql(f"INSERT INTO {table} VALUES ('both', 'by spark', TIMESTAMP '2025-03-01 00:00:00', 1)")
    spark.sql(f"ALTER TABLE {table} DROP PARTITION FIELD days(published_at)")

    def rows(found):
        old = article("old", 0) | {"headline": "by spark", "version": None}
        both = article("both", 0) | {"headline": "by spark"}
        for stored in (as_stored(job, old), as_stored(job, both)):
            found[stored.id] = stored

    job.model.foreign(job.warehouse.table(job.table).metadata, rows)
    job.verify()
    job.topic.send([article("old", 5, 2, headline="mine"), article("new", 5, headline="new")])
    # Others have written to the table, so that this is the first run must be said.
    job.run(code=65)
    job.go("--first-run")
    job.topic.send([article("both", 6, 2, headline="mine"), article("new", 1, headline="stale")])
    job.go()
    job.run("--first-run", code=65)
    spark.sql(f"ALTER TABLE {table} ADD PARTITION FIELD truncate(1, id)")
    job.topic.send([article("both", 7, 3, headline="again"), article("newer", 7, headline="new")])
    job.go()
    job.nothing_new()
