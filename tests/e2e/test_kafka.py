"""Corners of Kafka: transactions, compaction, late starters, partitions of different speed."""

import json
import time
from datetime import timedelta

from articles import Feed, article
from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec


def test_a_snapshot_names_topic_cluster_and_epochs_as_the_broker_does(make_job, broker):
    job = make_job(partitions=2)
    job.topic.send([article("a", 1), article("b", 1)])
    job.init()
    job.go(readers=["pyiceberg"])
    name, admin = job.topic.name, AdminClient({"bootstrap.servers": broker.bootstrap})
    described = admin.describe_topics(TopicCollection([name]))[name].result()
    ends = admin.list_offsets({TopicPartition(name, p): OffsetSpec.latest() for p in range(2)})
    ends = {str(at.partition): end.result() for at, end in ends.items()}
    summary = job.warehouse.history(job.table)[-1].summary.additional_properties
    assert summary["tidegate.cluster-id"] == admin.describe_cluster().result().cluster_id
    # As Kafka itself writes it: in the alphabet for URLs, which the Python client does not use.
    topic_id = str(described.topic_id).translate(str.maketrans("+/", "-_"))
    assert json.loads(summary["tidegate.topics"]) == {name: topic_id}
    assert json.loads(summary["tidegate.offsets.end"]) == {name: {p: end.offset for p, end in ends.items()}}
    # Only of partitions that a record was read from.
    epochs = {p: end.leader_epoch for p, end in ends.items() if end.offset > 0}
    assert json.loads(summary["tidegate.leader-epochs"]) == {name: epochs}


def test_aborted_records_at_the_end_are_passed_once(make_job, broker):
    job = make_job(partitions=1)
    topic, producer = job.topic, broker.transactional_producer("aborts")
    job.init()

    def transaction(values, commit):
        before = topic.positions()
        producer.begin_transaction()
        for value in values:
            topic.produce(value, producer=producer)
        topic.flush(producer)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
            topic.forget(topic.positions() - before)

    transaction([article("a", 1), article("b", 1)], commit=True)
    transaction([article("never", 1)], commit=False)
    # The range ends in records that nobody may see, and in control markers.
    job.go()
    job.nothing_new()
    transaction([article("never", 2), article("a", 2, 2)], commit=False)
    # Nothing to see, but the offsets must pass it: else every run would read it again.
    assert job.go()["records"]["read"] == 0
    job.nothing_new()
    transaction([article("a", 3, 3)], commit=True)
    job.go()
    job.nothing_new()


def test_an_open_transaction_is_read_after_its_commit(make_job, broker):
    job = make_job(partitions=2)
    topic, producer = job.topic, broker.transactional_producer("open")
    job.init()
    topic.send([article("before", 1)])
    producer.begin_transaction()
    topic.produce(article("inside", 2), producer=producer)
    topic.flush(producer)
    topic.send([article("behind", 3)])
    topic.send([article("other", 3)], partition=1)
    job.go()
    ids = {row[0] for row in job.model.rows()}
    assert ids == {"before", "other"}, "nothing past the last stable offset"
    job.nothing_new()
    producer.commit_transaction()
    job.go()
    assert len(job.model.rows()) == 4
    job.nothing_new()


def test_a_compacted_topic(make_job, broker):
    topic = broker.topic(
        1, cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.01, max_compaction_lag_ms=500
    )
    job = make_job(topic)
    job.init()
    for version in range(1, 5):
        # The pause makes each round a segment of its own.
        topic.send([article(f"a{i}", version, version) for i in range(50)], key=lambda v: v["id"])
        time.sleep(0.2)
    topic.send([article("roll", 9)], key=lambda v: v["id"])
    # All but the newest of each: nothing is left that could vanish between our look and the run's.
    topic.await_compaction(at_most=51)
    job.go()
    job.nothing_new()
    topic.send([article(f"a{i}", 10, 10) for i in range(0, 50, 2)], key=lambda v: v["id"])
    job.go()
    job.nothing_new()


def test_start_latest_on_a_growing_topic(make_job):
    job = make_job(sections={"kafka": {"start": "latest"}})
    job.topic.send([article("old", 1)])
    start = job.topic.ends()
    job.init()
    # Commits with nothing to read: else each run would start at what is then the latest.
    first = job.run(outcome="committed")
    assert first["records"]["read"] == 0
    job.verify(start=start)
    job.topic.send([article("new", 2)])
    job.topic.send([article("new too", 2)], partition=1)
    job.go()
    assert {row[0] for row in job.model.rows()} == {"new", "new too"}
    job.nothing_new()


def test_start_at_offsets(make_job):
    job = make_job(sections={"kafka": {"start": {"0": 3, "1": 0}}})
    job.topic.send([article(f"a{i}", i) for i in range(5)])
    job.topic.send([article(f"b{i}", i) for i in range(2)], partition=1)
    job.init()
    assert job.go(start={0: 3, 1: 0})["records"]["inserted"] == 4


def test_a_partition_that_lags_makes_no_record_late(make_job):
    job = make_job(
        partitions=3,
        rules={"delay": timedelta(minutes=5)},
        sections={"limits": {"max_offsets_per_trigger": 60}},
    )
    # One partition is days ahead and soon read; one is empty; one has all the old records.
    job.topic.send([article(f"ahead{i}", 10_000 + i) for i in range(20)], partition=0)
    job.topic.send([article(f"behind{i}", i * 30) for i in range(400)], partition=1)
    job.init()
    for _ in range(3):
        assert job.go(readers=["pyiceberg"])["records"]["late"] == 0
    report = job.run("--drain")
    assert report["records"]["late"] == 0
    job.verify()
    assert len(job.model.rows()) == 420
    # Once all have caught up, what is older than the lead is late.
    job.topic.send([article("late", 5_000)], partition=2)
    assert job.go()["records"]["late"] == 1


def test_partitions_added_later_start_at_their_beginning(make_job):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article("a", 1)])
    job.go()
    job.topic.grow(3)
    job.topic.send([article("b", 2)], partition=2)
    job.go()
    assert set(job.model.state.offsets) == {0, 1, 2}
    job.nothing_new()


def test_a_topic_made_again_is_refused(make_job, broker):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article("a", 1)])
    job.go()
    for future in broker.admin.delete_topics([job.topic.name]).values():
        future.result()
    remake(broker, job.topic.name)
    before = job.warehouse.metadata_location(job.table)
    job.topic.produce(article("b", 1))
    job.topic.produce(article("c", 1))
    job.topic.flush()
    report = job.run(code=65, outcome="failed")
    assert job.topic.name in json.dumps(report["error"])
    assert job.warehouse.metadata_location(job.table) == before


def test_drain_ends_at_the_end_seen_at_the_start(make_job):
    job = make_job(sections={"limits": {"max_offsets_per_trigger": 200}})
    feed = Feed(job.topic)
    feed.send(1000)
    job.init()
    report = job.run("--drain", outcome="committed")
    assert report["remaining"] == 0
    job.verify()
    feed.send(100)
    job.go("--drain")
    job.nothing_new()


def remake(broker, name):
    """Deleting is done behind the broker's answer, so making it again may have to wait."""
    for _ in range(50):
        try:
            new = NewTopic(name, num_partitions=1, replication_factor=1)
            broker.admin.create_topics([new])[name].result()
            return
        except KafkaException:
            time.sleep(0.2)
    raise AssertionError(f"{name} cannot be made again")
