"""Corners of several brokers: elections, truncated logs, brokers that come and go, damaged disks."""

import json
import threading

import pytest
from articles import Feed, article
from cluster import Cluster, await_
from readers import Warehouse

from jobs import RUN_TIMEOUT_S, Job, phase_of

READERS = ["pyiceberg", "duckdb"]
# Small fetches make a pull of a few thousand records last for seconds.
SLOWLY = {"fetch.message.max.bytes": "1000", "fetch.max.bytes": "1000", "message.max.bytes": "1000", "queued.min.messages": "10"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def make_job(tmp_path):
    def make(topic, **options):
        directory = tmp_path / topic.name
        directory.mkdir()
        job = Job(Warehouse(directory, None), topic, **options)
        job.init()
        return job

    return make


def go(job, *arguments, **options):
    return job.go(*arguments, readers=READERS, **options)


def refused(job, code=65):
    """A run that fails and leaves the table as it was; answers its error."""
    before = job.warehouse.metadata_location(job.table)
    report = job.run(code=code, outcome="failed")
    assert job.warehouse.metadata_location(job.table) == before, "nothing may be committed"
    return report["error"]


class Pulling:
    """A run that is under way, and reads."""

    def __init__(self, job, *arguments):
        self.process = job.start("run", "--output", "json", "--log-format", "json", *arguments)
        self.lines, reads = [], threading.Event()

        def watch():
            for line in self.process.stderr:
                self.lines.append(line)
                if phase_of(line) == "pull":
                    reads.set()

        self.watcher = threading.Thread(target=watch)
        self.watcher.start()
        assert reads.wait(RUN_TIMEOUT_S), self.lines

    def is_running(self):
        return self.process.poll() is None

    def end(self, code=0):
        stdout = self.process.stdout.read()
        assert self.process.wait(RUN_TIMEOUT_S) == code, (stdout, "".join(self.lines[-20:]))
        self.watcher.join()
        return json.loads(stdout)


# --- elections


def test_leaders_that_move_while_a_topic_is_drained(cluster, make_job):
    topic = cluster.topic_on([1, 2, 3], [2, 3, 1], [3, 1, 2], min_insync_replicas=2)
    job = make_job(topic, sections={"limits": {"max_offsets_per_trigger": 400}})
    feed, problems = Feed(topic), []
    feed.send(500)

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
    assert not problems, problems
    assert runs > 1
    feed.send(100)
    go(job, "--drain")
    job.nothing_new()


def test_a_leader_that_dies_in_mid_pull(cluster, make_job):
    topic = cluster.topic_on([1, 2], [2, 3])
    job = make_job(topic, sections={"kafka": SLOWLY})
    for partition in (0, 1):
        topic.send([article(f"{partition}/{i}", i / 10) for i in range(8000)], partition)
    pulling = Pulling(job)
    cluster.kill_node(1)
    assert pulling.is_running(), "too late to see an election"
    assert pulling.end()["records"]["read"] == 16_000
    job.verify(READERS)
    cluster.start_node(1)
    job.nothing_new()


# --- brokers that come and go


def test_a_broker_that_comes_back_in_time_and_one_that_does_not(cluster, make_job):
    topic = cluster.topic_on([1], [3])
    job = make_job(topic, sections={"kafka": SLOWLY, "limits": {"stall_timeout": "60 s"}})
    topic.send([article(f"a{i}", i / 10) for i in range(8000)], partition=1)
    topic.send([article("b", 1)], partition=0)
    pulling = Pulling(job)
    cluster.kill_node(3)
    assert pulling.is_running()
    cluster.start_node(3)
    assert pulling.end()["records"]["read"] == 8001
    job.verify(READERS)
    job.nothing_new()

    topic.send([article(f"c{i}", 900 + i / 10) for i in range(8000)], partition=1)
    job.sections["limits"]["stall_timeout"] = "3 s"
    job.__post_init_path__() if hasattr(job, "__post_init_path__") else None
