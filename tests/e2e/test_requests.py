"""Requests to the store, which are the bill on S3, and to Kafka: each waits for an answer."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from articles import article
from cluster import go
from pyarrow import parquet

FILES = 4


def requests(report):
    return sum(report["requests"][kind] for kind in ("get", "put", "delete", "list", "head"))


@pytest.mark.parametrize(("version", "each"), [(2, 4), (3, 3)])
def test_an_increment_asks_ten_times_and_a_few_times_for_each_file_it_touches(make_job, version, each):
    """Each file: its manifest, its index, the deletes that it has and those that it gets."""
    job = make_job(partitions=1, sections={"table": {"format_version": version}})
    job.init()
    for file in range(FILES):
        job.topic.send([article(f"{file}/{n}", 1000 * file + n) for n in range(1000)])
        go(job)
    # Two increments, since the second meets the deletes of the first, and rows that it wrote.
    for increment in (1, 2):
        minute = 5000 * increment
        job.topic.send(
            [article(f"{file}/{n}", minute + n) for file in range(FILES) for n in (increment, 500)]
        )
        report = go(job)
    (batch,) = report["batches"]
    touched = batch["files"]["files_searched"]
    # Four vectors share a file.
    assert batch["files"]["delete_files"] == FILES + 1 and batch["records"]["updated"] == 2 * FILES
    print("requests:", report["requests"], "files touched:", touched)
    assert touched == FILES + 1 and requests(report) <= 10 + each * touched
    # Of these the search: each file, and the deletes of those that the first increment touched; vectors
    # share a file.
    deletes = FILES if version == 2 else 1
    assert batch["files"]["search_requests"] == touched + deletes


def test_a_large_index_is_read_at_once_where_the_last_batch_met_many_stored_ids(make_job):
    """Else its directory is read first, and then the blocks that are wanted."""
    job = make_job(partitions=1)
    job.init()
    rows = 60_000
    job.topic.send([article(str(n), n) for n in range(rows)])
    go(job)
    asked = {}
    for increment in (1, 2):
        job.topic.send([article(str(n), rows * increment + n) for n in range(0, rows, 100)])
        report = go(job)
        (batch,) = report["batches"]
        assert batch["records"]["updated"] == rows // 100
        asked[increment] = batch["files"]["search_bytes"], report["requests"]["get"]
        # Nothing but the index is read where it answers.
        assert batch["files"]["files_indexed"] == batch["files"]["files_searched"] == increment
    print("bytes of the search, GETs:", asked)
    # The second meets one file more (its manifest, its index) and deletes (their manifest, their file).
    assert asked[2][1] == asked[1][1] + 4 - 1


@pytest.mark.parametrize("part", ["directory", "blocks"])
def test_a_key_index_that_was_damaged_on_disk_is_not_believed(make_job, part):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article(str(n), n) for n in range(300)])
    go(job)
    (file,) = [task.file.file_path for task in job.warehouse.table(job.table).scan().plan_files()]
    file = Path(file.removeprefix("file://"))
    header = json.loads(parquet.read_metadata(file).metadata[b"tidegate.key-index"][8:])
    content = bytearray(file.read_bytes())
    content[header[part]["offset"] + header[part]["length"] // 2] ^= 1
    file.write_bytes(content)
    job.topic.send([article(str(n), 1000, 2) for n in range(0, 300, 2)])
    report = go(job)
    assert report["records"]["updated"] == 150
    files = report["batches"][0]["files"]
    assert (files["files_searched"], files["files_indexed"]) == (1, 0)


def test_an_append_does_not_ask_for_the_manifests_of_the_table(make_job):
    job = make_job(partitions=1, rules={"append": True})
    job.init()
    counts = set()
    for batch in range(4):
        job.topic.send([article(f"{batch}/{n}", n) for n in range(10)])
        report = go(job)
        assert report["batches"][0]["files"]["table_files"] == batch
        counts.add(report["requests"]["get"])
    # The metadata, and the manifest list where there is one.
    assert counts <= {1, 2}, counts


def test_a_run_with_nothing_new_asks_kafka_only_what_it_must(make_job, monkeypatch):
    job = make_job(sections={"kafka": {"debug": "protocol"}})
    job.init()
    job.topic.send([article("a", 1), article("b", 1)])
    go(job)
    # librdkafka tells of each request.
    monkeypatch.setenv("TIDEGATE_LOG", "librdkafka=debug")
    run = job.call("run", "--output", "json")
    assert run.report["outcome"] == "nothing_new"
    sent = Counter(re.findall(r"Sent (\w+)Request", run.stderr))
    # Two connections, to the bootstrap address and to the leader, each with what librdkafka asks itself; the
    # topic's leaders and id; its first offsets, last stable ones and high watermarks. No coordinator: there
    # is no group.
    assert set(sent) == {"ApiVersion", "Metadata", "ListOffsets"}, sent
    assert sent["ListOffsets"] == 3 and sent["ApiVersion"] <= 3 and sent["Metadata"] <= 5, sent


def test_requests_do_not_grow_with_the_number_of_runs(make_job):
    """Each run adds a manifest, and each run reads all of them: they are merged before they are many."""
    job = make_job(partitions=1)
    job.init()
    asked = []
    for minute in range(40):
        # Ids in order: bounds leave out all files but the last.
        job.topic.send([article(f"{minute - back:04}", minute) for back in (0, 1)])
        report = job.run(outcome="committed")
        asked.append(requests(report))
    print("requests of each run:", asked)
    assert max(asked[20:]) <= max(asked[:20]) and min(asked[20:30]) == min(asked[30:])
    job.verify(readers=["pyiceberg", "duckdb"])
