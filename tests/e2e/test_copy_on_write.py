"""`write.merge.mode = copy-on-write`: data files are written again without their dead rows."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from articles import Feed, article
from test_conflict import no_orphans
from test_spark import call

from jobs import ARTICLES, delete_files

VERSIONS = pytest.mark.parametrize("version", [2, 3])


def copying_job(make_job, version=2, properties=(), **sections):
    table = {
        "format_version": version,
        "properties": {"write.merge.mode": "copy-on-write"} | dict(properties),
    }
    table |= sections.pop("table", {})
    return make_job(sections={"table": table} | sections)


def full_name(job):
    return f"{job.warehouse.catalog}.{job.table}"


def data_files(job):
    return {row["file_path"] for row in job.warehouse.sql(f"SELECT file_path FROM {full_name(job)}.files")}


def check_summary(job):
    """The head's summary, counted again from Spark's view of the manifests."""
    head = job.warehouse.table(job.table).metadata.current_snapshot()
    summary = head.summary.additional_properties
    found = job.warehouse.sql(
        f"SELECT status, snapshot_id, data_file.content, data_file.record_count, "
        f"data_file.file_size_in_bytes, data_file.content_size_in_bytes FROM {full_name(job)}.entries"
    )
    ours = [e for e in found if e["snapshot_id"] == head.snapshot_id]
    added = [e for e in ours if e["status"] == 1]
    gone = [e for e in ours if e["status"] == 2]
    live = [e for e in found if e["status"] < 2]
    expected = {
        "added-data-files": len(data(added)),
        "added-records": records(data(added)),
        "added-files-size": size(added),
        "deleted-data-files": len(data(gone)),
        "deleted-records": records(data(gone)),
        "removed-delete-files": len(deletes(gone)),
        "removed-position-deletes": records(deletes(gone)),
        "removed-files-size": size(gone),
        "total-data-files": len(data(live)),
        "total-records": records(data(live)),
        "total-delete-files": len(deletes(live)),
        "total-position-deletes": records(deletes(live)),
        "total-files-size": size(live),
    }
    assert {key: int(summary.get(key, 0)) for key in expected} == expected


def data(entries):
    return [e for e in entries if e["content"] == 0]


def deletes(entries):
    return [e for e in entries if e["content"] != 0]


def records(entries):
    return sum(e["record_count"] for e in entries)


def size(entries):
    # Several vectors share one file; each counts with its own part of it.
    return sum(e["content_size_in_bytes"] or e["file_size_in_bytes"] for e in entries)


@VERSIONS
def test_untouched_files_stay_and_empty_ones_go(make_job, version):
    job = copying_job(make_job, version)
    job.init()
    files = []
    for prefix in "abc":
        job.topic.send([article(f"{prefix}{i}", i) for i in range(3)])
        job.go(readers=["pyiceberg"])
        files.append(data_files(job) - set().union(*files))
    # All rows of the first file, one of the second, none of the third.
    job.topic.send([article(f"a{i}", 9, 2) for i in range(3)] + [article("b1", 9, 2)])
    report = job.go()
    files_report = report["batches"][0]["files"]
    assert (files_report["rewritten_files"], files_report["carried_rows"]) == (2, 2), report
    assert (files_report["data_files"], files_report["delete_files"]) == (2, 0), report
    now = data_files(job)
    assert files[2] <= now and not (files[0] | files[1]) & now
    assert delete_files(job) == []
    check_summary(job)
    job.topic.send([article("c1", 9, 2)])
    assert "1 file rewritten (2 rows carried over)" in job.call("run").stdout
    job.verify()


def test_rows_carried_over_keep_their_lineage(make_job):
    job = copying_job(make_job, 3, table={"partition_by": ["bucket(2, id)"]})

    def lineage():
        rows = job.warehouse.sql(
            f"SELECT id, version, _row_id, _last_updated_sequence_number AS updated FROM {full_name(job)}"
        )
        ids = [row["_row_id"] for row in rows]
        assert None not in ids and len(set(ids)) == len(ids), "each row has an id of its own"
        return {row["id"]: (row["version"], row["_row_id"], row["updated"]) for row in rows}

    job.topic.send([article(f"a{i}", 0) for i in range(20)])
    job.init()
    job.go(readers=["pyiceberg"])
    before = lineage()
    generator = random.Random(5)
    for step in range(1, 6):
        changed = {f"a{i}" for i in generator.sample(range(20), 3)}
        job.topic.send([article(id, step, step + 1) for id in sorted(changed)] + [article(f"n{step}", step)])
        if step == 3:
            # Compaction writes the lineage into its files; carrying over must take it from there.
            options = "options => map('rewrite-all', 'true')"
            call(job, f"rewrite_data_files(table => '{job.table}', {options})")
            assert lineage() == before
        job.go(readers=["pyiceberg"])
        after = lineage()
        sequence_number = job.warehouse.table(job.table).metadata.last_sequence_number
        for id, (version, row_id, updated) in before.items():
            assert after[id][1] == row_id, id
            assert after[id] == (version, row_id, updated) or id in changed, id
            assert after[id][2] == (sequence_number if id in changed else updated), id
        assert after[f"n{step}"][2] == sequence_number
        before = after
    job.verify()
    assert delete_files(job) == []


@VERSIONS
@pytest.mark.parametrize("granularity", ["file", "partition"])
def test_a_table_with_deletes_of_others_is_switched(make_job, version, granularity):
    properties = {"write.merge.mode": "merge-on-read", "write.delete.granularity": granularity}
    job = copying_job(make_job, version, properties)
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    for _ in range(3):
        feed.send(60)
        job.go(readers=["pyiceberg"], rejects=False)
    gone = [row[0] for row in job.model.rows()][::7]
    listed = ", ".join(f"'{id}'" for id in gone[:-1])
    job.warehouse.spark.sql(f"DELETE FROM {full_name(job)} WHERE id IN ({listed})")
    assert delete_files(job)
    equality_delete(job, gone[-1])

    def change(rows):
        for id in gone:
            del rows[(id,)]

    job.model.foreign(job.warehouse.table(job.table).metadata, change)
    # PyIceberg does not read equality deletes.
    job.verify(readers=["spark", "duckdb"], rejects=False)

    job.warehouse.spark.sql(
        f"ALTER TABLE {full_name(job)} SET TBLPROPERTIES ('write.merge.mode' = 'copy-on-write')"
    )
    feed.send(5)
    job.go(readers=["spark", "duckdb"], rejects=False)
    # One version of every row that was ever there, the deleted ones too: nothing old is left.
    job.topic.send([article(id, 500, 99) for id in sorted(feed.versions)])
    report = job.go(readers=["spark", "duckdb"], rejects=False)
    assert report["records"]["inserted"] >= len(gone) - 5
    content = {row["content"] for row in delete_files(job)}
    # Delete files about many data files are not ours to judge: they stay, and reach no row any more.
    assert content <= ({1, 2} if granularity == "partition" and version == 2 else {2}), content
    feed.send(60)
    job.go(readers=["spark", "duckdb"], rejects=False)


def equality_delete(job, id):
    """Commits an equality delete by Iceberg's Java API: Spark itself writes none."""
    location = job.warehouse.table(job.table).metadata.location.removeprefix("file://")
    path = f"{location}/data/equality-{id}.parquet"
    field = pa.field("id", pa.string(), nullable=False, metadata={"PARQUET:field_id": "1"})
    pq.write_table(pa.table([[id]], schema=pa.schema([field])), path)
    jvm = job.warehouse.spark._jvm
    iceberg = jvm.org.apache.iceberg
    table = iceberg.spark.Spark3Util.loadIcebergTable(job.warehouse.spark._jsparkSession, full_name(job))
    ids = job.warehouse.spark.sparkContext._gateway.new_array(jvm.int, 1)
    ids[0] = 1
    delete = iceberg.FileMetadata.deleteFileBuilder(table.spec()).ofEqualityDeletes(ids)
    delete = delete.withPath(f"file://{path}").withFormat("PARQUET").withRecordCount(1)
    delete = delete.withFileSizeInBytes(Path(path).stat().st_size).build()
    table.newRowDelta().addDeletes(delete).commit()


@VERSIONS
@pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])
def test_rows_beaten_within_a_batch_after_they_were_written(make_job, mode, version):
    # The smallest memory and large records: files are written before all records have been read.
    job = make_job(
        columns=dict(ARTICLES, content="string"),
        partitions=1,
        sections={
            "table": {"format_version": version, "properties": {"write.merge.mode": mode}},
            "limits": {"memory_limit": "64 MiB"},
        },
    )
    job.init()
    for i in range(5000):
        job.topic.produce(article(f"a{i % 3000}", 1, i, content=f"{i:05d} " * 1300))
    job.topic.flush()
    report = job.run("--drain", outcome="committed")
    assert report["records"]["duplicate"] > 0, report
    job.verify()
    # That there are deletes where they may be shows that rows were beaten after they were written.
    deleted = sum(d["record_count"] for d in delete_files(job))
    assert (deleted > 0) == (mode == "merge-on-read")
    head = job.warehouse.table(job.table).metadata.current_snapshot().summary.additional_properties
    assert int(head["total-records"]) - deleted == 3000
    no_orphans(job)


def test_update_and_delete_modes_are_not_ours(make_job):
    properties = {"write.merge.mode": "merge-on-read", "write.update.mode": "copy-on-write"}
    job = copying_job(make_job, properties=properties | {"write.delete.mode": "copy-on-write"})
    job.topic.send([article("a", 1), article("b", 1)])
    job.init()
    job.go(readers=["pyiceberg"])
    job.topic.send([article("a", 2)])
    assert job.go()["batches"][0]["files"]["delete_files"] == 1
