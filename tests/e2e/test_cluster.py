"""Corners of several brokers: elections, truncated logs, brokers that come and go, damaged disks."""

import re
import threading

import pytest
from articles import Feed, article
from cluster import READERS, SLOWLY, Cluster, Pulling, change, go, refused
from readers import Warehouse

from jobs import Job


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def make_job(cluster, tmp_path):
    cluster.start()

    def make(topic, **options):
        directory = tmp_path / topic.name
        directory.mkdir()
        job = Job(Warehouse(directory, None), topic, **options)
        job.init()
        return job

    return make


# --- elections


def test_leaders_that_move_while_a_topic_is_drained(cluster, make_job):
    topic = cluster.topic_on([1, 2, 3], [2, 3, 1], [3, 1, 2], min_insync_replicas=2)
    job = make_job(topic, sections={"limits": {"max_offsets_per_trigger": 400}})
    # Whether a partition had been read to its end when a batch was planned is known to the run alone.
    job.model.ends_known = False
    feed, problems = Feed(topic), []
    feed.send(500)
    job.run("--drain", outcome="committed")

    def restart_all():
        try:
            for number, stop in ((1, cluster.stop_node), (2, cluster.kill_node), (3, cluster.stop_node)):
                stop(number)
                cluster.start_node(number)
                cluster.await_in_sync(topic, {1, 2, 3})
        except BaseException as problem:
            problems.append(problem)

    restarts = threading.Thread(target=restart_all)
    restarts.start()
    runs = 0
    while restarts.is_alive() or runs == 0:
        feed.send(500)
        # Nobody loses a record, and nobody has to try again: elections are over long before `stall_timeout`.
        assert job.run("--drain")["outcome"] == "committed"
        runs += 1
    restarts.join()
    assert not problems, problems
    assert runs > 1
    feed.send(100)
    go(job, "--drain")
    job.nothing_new()


def test_a_leader_that_dies_in_mid_pull(cluster, make_job):
    topic = cluster.topic_on([1, 2], [2, 3])
    job = make_job(topic, sections={"kafka": SLOWLY})
    for partition in (0, 1):
        topic.send([article(f"{partition}/{i}", i / 100) for i in range(40_000)], partition)
    pulling = Pulling(job)
    cluster.kill_node(1)
    assert pulling.is_running(), "too late to see an election"
    assert pulling.end()["records"]["read"] == 80_000
    job.verify(READERS)
    cluster.start_node(1)
    job.nothing_new()


# --- logs that were cut


def test_a_truncated_log_is_refused_where_it_matters_and_only_there(cluster, make_job):
    """The replica that was behind leads: what the old leader alone had is gone, as Kafka says it may be."""
    unclean = {"unclean_leader_election_enable": "true", "min_insync_replicas": 1}
    topics = [cluster.topic_on([1, 2], **unclean) for _ in range(3)]
    below, refilled, past = jobs = [make_job(topic) for topic in topics]
    # An idempotent producer would notice the loss itself, and give up for good.
    producer = cluster.new_producer(enable_idempotence=False)

    def send(topic, values):
        for value in values:
            topic.produce(value, producer=producer)
        topic.flush(producer)

    for job in jobs:
        send(job.topic, [article(f"a{i}", i) for i in range(10)])
        cluster.await_in_sync(job.topic, {1, 2})
    go(past)
    cluster.stop_node(2)
    for job in jobs:
        cluster.await_in_sync(job.topic, {1})
        send(job.topic, [article(f"only on 1: {i}", 20 + i) for i in range(5)])
    for job in (below, refilled):
        assert go(job)["records"]["read"] == 15
    cluster.kill_node(1)
    cluster.start_node(2)
    for job in jobs:
        cluster.await_leaders(job.topic, {2})
        job.topic.forget({(0, offset) for offset in range(10, 15)})
        assert job.topic.ends() == {0: 10}

    # The log ends below what the table has read.
    error = refused(below)
    for part in ("partition 0", below.topic.name, "ends at offset 10", "read up to 15"):
        assert part in error["message"]
    # It has been written again past what the table has read: only the leader epoch tells.
    send(refilled.topic, [article(f"b{i}", 30 + i) for i in range(10)])
    error = refused(refilled)
    for part in (
        "partition 0",
        refilled.topic.name,
        "was truncated below offset 15",
        "broker end offset is 10",
    ):
        assert part in error["message"]
    # It was cut behind what the table has read, so the table lacks nothing.
    send(past.topic, [article(f"b{i}", 30 + i) for i in range(10)])
    assert go(past)["records"]["read"] == 10
    past.nothing_new()
    # Nothing becomes right by waiting, and the old leader bows to the new one.
    cluster.start_node(1)
    for job in jobs:
        cluster.await_in_sync(job.topic, {1, 2})
    for job, what in ((below, "the end of the log"), (refilled, "what was written again")):
        # The way out that the message names; what the table holds of the lost records stays.
        command = re.search(r"`tidegate reset JOB ([^`]+)`", refused(job)["hint"])
        job.call("reset", *command[1].split())
        if job is below:
            send(job.topic, [article(f"b{i}", 30 + i) for i in range(3)])
        assert go(job)["records"]["read"] > 0, what
        job.nothing_new()
    past.nothing_new()


def test_a_first_run_waits_for_an_election(cluster, make_job):
    """It pins the start of every partition, so that it needs a leader of each."""
    topic = cluster.topic_on([1, 2], [2, 3])
    job = make_job(topic)
    for partition in (0, 1):
        topic.send([article(f"{partition}/{i}", i) for i in range(5)], partition)
    cluster.kill_node(1)
    # The others miss it only after seconds.
    assert cluster.leaders(topic)[0] in (1, -1)
    assert go(job)["records"]["read"] == 10
    cluster.start_node(1)


def test_a_run_waits_for_an_election_of_the_only_partition(cluster, make_job):
    topic = cluster.topic_on([2, 3])
    job = make_job(topic)
    topic.send([article("a", 1)])
    go(job)
    topic.send([article("b", 2)])
    cluster.kill_node(2)
    assert cluster.leaders(topic)[0] in (2, -1)
    assert go(job)["records"]["read"] == 1
    cluster.start_node(2)


# --- brokers that come and go, and their disks


def test_a_broker_that_comes_back_in_time_and_one_that_does_not(cluster, make_job):
    topic = cluster.topic_on([1], [3])
    job = make_job(topic, sections={"kafka": SLOWLY})
    topic.send([article(f"a{i}", i / 10) for i in range(4000)], partition=1)
    topic.send([article("b", 1)])
    pulling = Pulling(job)
    cluster.kill_node(3)
    assert pulling.is_running(), "too late to miss a broker"
    cluster.start_node(3)
    assert pulling.end()["records"]["read"] == 4001
    job.verify(READERS)
    job.nothing_new()

    topic.send([article(f"c{i}", 900 + i / 10) for i in range(4000)], partition=1)
    change(job, "limits", stall_timeout="3 s")
    pulling = Pulling(job)
    with cluster.frozen(3):
        assert pulling.is_running()
        error = pulling.end(75)["error"]
    assert f"partition 1 of `{topic.name}` made no progress for 3 s" in error["message"]
    change(job, "limits", stall_timeout="60 s")
    cluster.await_leaders(topic, {1, 3})
    assert go(job)["records"]["read"] == 4000
    job.nothing_new()


def test_a_damaged_batch_is_refused_until_it_is_whole_again(cluster, make_job):
    topic = cluster.topic_on([3], [3], [2])
    job = make_job(topic)
    # Nothing but `flush` ends a batch, however slowly its records come.
    producer = cluster.new_producer(linger_ms=60_000)
    for n in range(3):
        for partition, kind in enumerate("ab"):
            for i in range(10):
                topic.produce(article(f"{kind}{n}{i}", n), partition=partition, producer=producer)
            topic.flush(producer)
    topic.send([article("c", 1)], partition=2)
    (segment,) = cluster.data(3).glob(f"{topic.name}-1/*.log")

    def flip(at):
        cluster.stop_node(3)
        with segment.open("r+b") as log:
            log.seek(at)
            byte = log.read(1)[0]
            log.seek(at)
            log.write(bytes([byte ^ 1]))
        cluster.start_node(3)
        cluster.await_leaders(topic, {2, 3})

    at = segment.read_bytes().index(b"b13")
    flip(at)
    error = refused(job)
    for part in ("partition 1", topic.name, "at offset 10", "CRC"):
        assert part in error["message"], error
    assert "tidegate reset" in error["hint"]
    assert refused(job)["message"] == error["message"], "it is not passed the second time either"
    flip(at)
    assert go(job)["records"]["read"] == 61
    job.nothing_new()
