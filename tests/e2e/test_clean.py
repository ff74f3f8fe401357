"""`tidegate clean`: finds exactly what killed runs left behind, and deletes nothing else."""

from pathlib import Path

import pytest
from articles import Feed
from corrupt import local
from leftovers import age, files_below, orphans, own

# Before, in mid and after the calls that write files and put them into the table.
DEATHS = (
    "* write .parquet 1 kill-half",
    "* sync .parquet 2 kill-after",
    "commit write .avro 1 kill-before",
    "commit write .avro 2 kill-half",
    "rejects * * 1 kill-before",
    "commit write .metadata.json 1 kill-half",
    "commit lock catalog.db 1 kill-before",
    "commit unlink -journal 1 kill-before",
)


def clean(job, *arguments, code=0):
    return job.call("clean", "--output", "json", *arguments, code=code).report


def listed(report):
    return {local(orphan["path"]) for orphan in report["orphans"]}


@pytest.mark.parametrize("version", [2, 3])
def test_what_killed_runs_left_is_found_and_deleted_and_nothing_else(make_job, version):
    job = make_job(sections={"table": {"format_version": version, "partition_by": ["bucket(2, id)"]}})
    feed = Feed(job.topic, minutes_per_record=0.02)
    job.init()
    for rule in DEATHS:
        feed.send(400)
        job.topic.send([b"broken"] * 2)
        job.run_that_dies(rule)
        # The model sees the topic's ends as the run saw them.
        job.follow()
    job.run()
    job.follow()
    feed.send(400)
    job.run(outcome="committed")
    job.verify(readers=["pyiceberg"])

    left = orphans(job)
    assert len(left) > 5, left
    assert {path.suffix for path in left} >= {".parquet", ".avro"}, left
    assert own(left) == left
    report = clean(job)
    assert (report["files"], report["too_young"], report["orphans"]) == (0, len(left), [])

    directory = next(iter(left)).parent
    foreign = [
        directory / name for name in ("part-0.parquet", "tidegate-other-" + "0" * 32 + "-0-00001.parquet")
    ]
    for path in foreign:
        path.write_bytes(b"x")
    young, *old = sorted(left)
    age([*old, *foreign])
    assert not own(foreign[:1])
    before = files_below(directory.parent.parent)
    report = clean(job)
    assert listed(report) == set(old)
    assert report["deleted"] is False and report["files"] == len(old)
    assert report["bytes"] == sum(path.stat().st_size for path in old)
    assert report["too_young"] == 1 and report["foreign"] == 2
    assert files_below(directory.parent.parent) == before, "a dry run deletes nothing"

    assert listed(clean(job, "--delete")) == set(old)
    assert orphans(job) == {young, *foreign}
    assert clean(job)["files"] == 0
    job.verify()
    job.nothing_new()
    assert job.call("verify").stdout.count("PASS") == 7
    feed.send(60)
    job.go()


def with_a_batch(make_job):
    job = make_job()
    feed = Feed(job.topic)
    job.init()
    feed.send(30)
    job.run(outcome="committed")
    return job, feed


def test_what_branches_tags_logs_and_pending_rejects_name_stays(make_job):
    job, feed = with_a_batch(make_job)
    job.follow()
    spark, table = job.warehouse.spark, f"{job.warehouse.catalog}.{job.table}"
    spark.sql(f"ALTER TABLE {table} CREATE TAG kept")
    feed.send(30)
    job.run(outcome="committed")
    job.follow()
    # Rolled back, the last batch is an ancestor of no head; its snapshot is still there, and keeps its files.
    first = job.warehouse.history(job.table)[0].snapshot_id
    job.warehouse.sql(f"CALL {job.warehouse.catalog}.system.rollback_to_snapshot('{job.table}', {first})")
    feed.send(10)
    job.topic.send([b"broken"])
    # Committed, but killed before its rejects were appended: nothing but the summary names their file.
    # What the append itself has begun to write may go.
    job.run_that_dies("rejects * * 1 kill-before")
    job.follow()
    pending = orphans(job)
    directory = Path(job.warehouse.uri.removeprefix("file://"))
    age(files_below(directory))
    report = clean(job, "--delete")
    assert all("/events_rejects/metadata/" in orphan["path"] for orphan in report["orphans"]), report
    files = [path for path in pending if "rejects" in str(path) and path.suffix == ".parquet"]
    assert files, "the rejects' file is named by no rejects table"
    job.run()
    job.verify()


def test_a_file_younger_than_a_run_may_last_is_never_taken(make_job):
    job = make_job()
    job.init()
    run = job.call("clean", "--older-than", "10 min", code=78)
    # Three pulls of 10 min and 60 s, the grace of 25 s, and an hour to commit.
    assert '--older-than "12805 s"' in run.stderr, run
    clean(job, "--older-than", "12805 s")


def test_nothing_is_deleted_when_a_manifest_cannot_be_read(make_job):
    job, feed = with_a_batch(make_job)
    feed.send(30)
    job.run_until_killed("commit", 0.01)
    job.run()
    directory = Path(job.warehouse.uri.removeprefix("file://"))
    age(files_below(directory))
    table = job.warehouse.table(job.table)
    manifest = table.metadata.snapshots[0].manifests(table.io)[0].manifest_path
    content = local(manifest).read_bytes()
    before = files_below(directory)
    local(manifest).write_bytes(content[:40])
    job.call("clean", "--delete", code=78)
    local(manifest).unlink()
    job.call("clean", "--delete", code=78)
    assert files_below(directory) == before - {local(manifest)}
