"""Corners of one broker: transactions, retention, deleted topics, odd records, many partitions."""

import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from articles import article
from cluster import READERS, SLOWLY, Pulling, await_, change, delete_records, go, refused
from confluent_kafka import Producer
from kafka import ROOT
from readers import Warehouse

from jobs import BIN, RUN_TIMEOUT_S

MINUTE_MS = 60_000


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(tmp_path, None)


def summary(job):
    return job.warehouse.table(job.table).current_snapshot().summary.additional_properties


def held(report):
    return [warning for warning in report["warnings"] if "transaction" in warning]


# --- transactions


def test_a_batch_may_begin_and_end_anywhere_in_transactions(make_job, broker):
    job = make_job(partitions=1, sections={"limits": {"max_offsets_per_trigger": 3}})
    topic, producer = job.topic, broker.transactional_producer("cuts")
    for n in range(12):
        before = topic.positions()
        producer.begin_transaction()
        for i in range(1 + n % 4):
            topic.produce(article(f"a{i}", n, n), producer=producer)
        topic.flush(producer)
        if n % 2:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
            topic.forget(topic.positions() - before)
    # The topic begins within an aborted transaction, and ends in an open one with a record behind it.
    delete_records(topic, {0: 3})
    topic.forget({place for place in topic.positions() if place[1] < 3})
    producer.begin_transaction()
    topic.produce(article("open", 20), producer=producer)
    topic.flush(producer)
    topic.send([article("behind", 21)])
    job.init()
    report = go(job, "--drain", start={0: 3})
    assert len(report["batches"]) > 10, "every cut is tried"
    assert report["remaining"] == 0 and "open" not in {row[0] for row in job.model.rows()}
    assert held(report) == [], "a transaction that has just begun holds nobody up"
    producer.abort_transaction()
    topic.forget({place for place in topic.positions() if b'"open"' in topic.log[0][place[1]].value})
    go(job, "--drain")
    assert "behind" in {row[0] for row in job.model.rows()}
    job.nothing_new()


def test_a_transaction_that_holds_for_long_is_warned_of(make_job, broker):
    job = make_job(partitions=2)
    topic, producer = job.topic, broker.transactional_producer("long")
    job.init()
    # What tells the age of a transaction is the time of its first record.
    long_ago = int(time.time() * 1000) - 5 * MINUTE_MS
    topic.produce(article("before", 1), timestamp_ms=long_ago)
    topic.flush()
    producer.begin_transaction()
    topic.produce(article("held", 2), producer=producer, timestamp_ms=long_ago)
    topic.flush(producer)
    topic.send([article("behind", 3)])
    topic.send([article("other", 3)], partition=1)
    for outcome in ("committed", "nothing_new"):
        report = job.run(outcome=outcome)
        (warning,) = held(report)
        assert (
            "partition 0 is held at offset 1 by a transaction that has been open for more than 60 s"
            in warning
        )
    job.verify(READERS)
    assert {row[0] for row in job.model.rows()} == {"before", "other"}
    producer.commit_transaction()
    assert held(go(job)) == []
    job.nothing_new()


# --- what Kafka no longer has


def test_what_retention_took_is_refused_by_name_or_written_down(make_job):
    job = make_job(partitions=4)
    topic = job.topic
    job.init()
    for partition in range(3):
        topic.send([article(f"p{partition} {i}", i) for i in range(5)], partition)
    go(job)
    for partition in range(3):
        topic.send([article(f"p{partition} {i}", i) for i in range(5, 20)], partition)
    topic.send([article("added", 30)], partition=3)
    delete_records(topic, {0: 12, 2: 6})

    error = refused(job)
    assert topic.name in error["message"] and "partition 1" not in error["message"]
    assert "partition 0: 5 to 12 (7 offsets), partition 2: 5 to 6 (1 offset)" in error["message"]
    assert "on_data_loss" in error["hint"]
    assert job.call("plan", "--output", "json", code=65).report["error"]["message"] == error["message"]
    (failed,) = [t for t in job.call("check", "--output", "json", code=65).report["tests"] if t["error"]]
    assert (failed["name"], failed["error"]["message"]) == ("topic", error["message"])

    change(job, "kafka", on_data_loss="skip")
    topic.forget({(0, o) for o in range(5, 12)} | {(2, 5)})
    report = go(job)
    assert report["warnings"] == [
        "gone from Kafka and skipped: partition 0: 5 to 12 (7 offsets)",
        "gone from Kafka and skipped: partition 2: 5 to 6 (1 offset)",
    ]
    assert json.loads(summary(job)["tidegate.offsets.skipped"]) == {topic.name: {"0": [5, 12], "2": [5, 6]}}
    assert len(job.model.rows()) == 15 + 45 - 8 + 1
    job.nothing_new()


def test_retention_by_time_that_leaves_nothing_is_skipped_whole(make_job, broker):
    topic = broker.topic(1, segment_ms=1000)
    job = make_job(topic, sections={"kafka": {"on_data_loss": "skip"}})
    job.init()
    topic.send([article("a", 1)])
    go(job)
    topic.send([article("lost", 2), article("lost too", 2)])

    def earliest():
        return job.call("plan", "--output", "json").report["partitions"][0]["earliest"]

    # Nothing is taken before it has been read, however long that takes.
    broker.configure(topic.name, retention_ms=1000)
    await_(lambda: earliest() == 3, "retention has taken all")
    broker.configure(topic.name, retention_ms=-1)
    topic.forget({(0, 1), (0, 2)})
    report = go(job)
    assert report["records"]["read"] == 0
    assert "partition 0: 1 to 3 (2 offsets)" in report["warnings"][0]
    # An epoch beside a later offset would make the next election look like a truncated log.
    assert json.loads(summary(job)["tidegate.leader-epochs"]).get(topic.name, {}) == {}
    topic.send([article("b", 3)])
    go(job)
    assert [row[0] for row in job.model.rows()] == ["a", "b"]


def test_retention_that_overtakes_the_pull_is_skipped_too(make_job):
    slow = SLOWLY | {"on_data_loss": "skip"}
    job = make_job(partitions=1, sections={"kafka": slow})
    topic = job.topic
    topic.send([article("first", 1)])
    job.init()
    go(job)
    topic.send([article(f"a{i}", i / 10) for i in range(20_000)])
    pulling = Pulling(job)
    delete_records(topic, {0: 19_900})
    report = pulling.end()
    assert "partition 0: 1 to 19900 (19899 offsets)" in report["warnings"][0]
    topic.forget({(0, o) for o in range(1, 19_900)})
    job.verify(READERS)
    job.nothing_new()


def test_a_topic_that_is_gone_is_named(make_job, broker):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article("a", 1)])
    go(job)
    for future in broker.admin.delete_topics([job.topic.name]).values():
        future.result()
    assert f"topic `{job.topic.name}` does not exist" in refused(job, code=78)["message"]


def test_an_unknown_topic_id_is_warned_of_and_learned_again(make_job):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article("a", 1)])
    go(job)
    # As a broker from before topic ids would have left it.
    metadata = Path(job.warehouse.metadata_location(job.table))
    known = json.dumps(json.loads(summary(job)["tidegate.topics"])[job.topic.name])
    text = metadata.read_text()
    escaped = known.replace('"', '\\"')
    assert escaped in text
    metadata.write_text(text.replace(escaped, "null"))
    job.topic.send([article("b", 2)])
    (warning,) = go(job)["warnings"]
    assert "the table's state holds no id" in warning and job.topic.name in warning
    job.topic.send([article("c", 3)])
    assert go(job)["warnings"] == []


# --- odd records


def test_a_record_larger_than_every_limit_passes(make_job, broker):
    topic = broker.topic(1, max_message_bytes=8_000_000)
    small = {"fetch.message.max.bytes": "1000", "fetch.max.bytes": "1000", "message.max.bytes": "1000"}
    job = make_job(topic, sections={"kafka": small, "limits": {"max_bytes_per_trigger": "1 KiB"}})
    large = Producer({"bootstrap.servers": broker.bootstrap, "message.max.bytes": 8_000_000})
    for n in range(3):
        topic.produce(article(f"large{n}", n, title="x" * 3_000_000), producer=large)
        topic.produce(article(f"small{n}", n), producer=large)
        topic.flush(large)
    job.init()
    report = go(job, "--drain")
    assert report["remaining"] == 0 and len(job.model.rows()) == 6
    assert [batch["cut"] for batch in report["batches"]].count("max_bytes_per_trigger") >= 2
    job.nothing_new()

    topic.produce(article("larger still", 9, title="x" * 3_000_000), producer=large)
    topic.flush(large)
    change(job, "kafka", **{"receive.message.max.bytes": "1000000"})
    change(job, "limits", stall_timeout="6 s")
    error = refused(job, code=75)
    assert "increase receive.message.max.bytes" in error["causes"][0], (
        "only the client's owner can help, so tell"
    )
    change(job, "kafka", **{"receive.message.max.bytes": "100000000"})
    go(job)


def test_a_message_max_bytes_above_what_the_memory_limit_gives_one_answer(make_job):
    """librdkafka refuses a `fetch.max.bytes` below it, and ours follows from the limit."""
    kafka = {"message.max.bytes": "500000000"}
    job = make_job(partitions=1, sections={"kafka": kafka, "limits": {"memory_limit": "64 MiB"}})
    job.init()
    job.topic.send([article("a", 1)])
    go(job)


def test_absent_timestamps_null_keys_and_tombstones(make_job):
    """The producer writes -1 as it is told; the broker takes it as "no timestamp"."""
    columns = {"id": "string", "title": "string", "published_at": "timestamptz", "version": "long"}
    columns |= {"written_at": "timestamptz", "key": "binary"}
    job = make_job(
        partitions=3,
        columns=columns,
        rules={
            "metadata": {"written_at": "timestamp", "key": "key"},
            "tombstones": "delete",
            "delay": timedelta(days=3000),
        },
    )
    topic = job.topic
    topic.produce(article("timeless", 1), key="timeless", timestamp_ms=-1)
    # What is queued before the producer knows the topic may be overtaken.
    topic.flush()
    topic.produce(article("keyless", 2))
    topic.produce(article("gone", 3), key="gone")
    topic.produce(article("empty key", 4), key="")
    # Partition 1 has nothing but rejects: a deletion without a key, and one without a time.
    topic.produce(None, partition=1)
    topic.flush()
    topic.produce(None, key="timeless", partition=1, timestamp_ms=-1)
    topic.flush()
    assert topic.log[0][0].timestamp_ms == -1 and topic.log[1][1].timestamp_ms == -1
    topic.produce(None, key="gone")
    topic.produce(None, key="never there")
    topic.flush()
    job.init()
    report = go(job)
    assert report["records"]["rejected"] == 2
    assert {row[0]: row[4] is None for row in job.model.rows()} == {
        "timeless": True,
        "keyless": False,
        "empty key": False,
    }
    job.nothing_new()
    topic.produce(None, key="timeless")
    topic.flush()
    go(job)
    assert "timeless" not in {row[0] for row in job.model.rows()}


# --- many partitions


def test_two_thousand_partitions(make_job, broker):
    topic = broker.topic(2000)
    job = make_job(topic)
    for partition in range(2000):
        for n in range(1 + partition % 3 if partition % 10 else 0):
            topic.produce(article(f"{partition}/{n}", n), partition=partition)
    topic.flush()
    job.init()
    try:
        usage = job.warehouse.directory / "usage"
        command = [
            sys.executable,
            ROOT / "scripts" / "rusage.py",
            usage,
            BIN,
            "run",
            job.path,
            "--output",
            "json",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=RUN_TIMEOUT_S)
        usage = json.loads(usage.read_text())
        print("a run over 2,000 partitions:", usage)
        assert usage["code"] == 0 and usage["peak_rss_mib"] < 512
        job.verify(READERS)
        job.nothing_new()
        topic.send([article("last", 5)], partition=1999)
        go(job)
    finally:
        broker.admin.delete_topics([topic.name])
