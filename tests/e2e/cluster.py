"""A cluster whose nodes are stopped, killed, frozen and started one by one, and runs on it."""

import itertools
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import ROOT, Broker, Topic, await_known
from processes import stop

from jobs import RUN_TIMEOUT_S, job_file, phase_of

WAIT_S = 180
# Spark judges such tables elsewhere; here it is Kafka that differs.
READERS = ["pyiceberg", "duckdb"]
# Small fetches make a pull of some thousand records last for seconds.
SLOWLY = dict.fromkeys(("fetch.message.max.bytes", "fetch.max.bytes", "message.max.bytes"), "1000")
SLOWLY |= {"queued.min.messages": "10", "fetch.queue.backoff.ms": "50"}
# A killed broker is missed after 4 s, not after 9; a restarted one does not take back what it led.
SETTINGS = {
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
    "auto.leader.rebalance.enable": "false",
    "controlled.shutdown.max.retries": 1,
}


class Cluster(Broker):
    """Three nodes, numbered from 1, each of them broker and controller."""

    def __init__(self, directory):
        self.directory = directory
        settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
        said = self.kafka("up", "--brokers", "3", *settings)
        self.bootstrap = said.strip().removeprefix("bootstrap.servers=")
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})
        self.producer = self.new_producer()
        self.numbers = itertools.count(1)

    def new_producer(self, **settings):
        # A batch that a dying leader may have taken is sent again, and must not be there twice.
        base = {
            "bootstrap.servers": self.bootstrap,
            "linger.ms": 2,
            "log_level": 2,
            "enable.idempotence": True,
        }
        return Producer(base | {key.replace("_", "."): value for key, value in settings.items()})

    def kafka(self, command, *options):
        script = [ROOT / "scripts" / "kafka", command, *options, self.directory]
        return subprocess.run(script, check=True, capture_output=True, text=True).stdout

    def topic_on(self, *replicas, **config):
        """A topic whose partition p has these replicas of partition p, the first of them its leader."""
        name = f"{self.directory.name}-{next(self.numbers)}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(
            name, len(replicas), replica_assignment=[list(nodes) for nodes in replicas], config=settings
        )
        for future in self.admin.create_topics([new]).values():
            future.result()
        await_known(self.producer, name, len(replicas))
        return Topic(self, name, len(replicas))

    # --- nodes

    def start(self):
        """Starts what a test before left down."""
        self.kafka("up")
        await_(lambda: len(self.admin.list_topics(timeout=10).brokers) == 3, "three brokers")

    def stop_node(self, number):
        self.kafka("down", "--node", str(number))

    def kill_node(self, number):
        # By no program that has yet to start: within seconds the others miss the node.
        stop(self.directory / f"node-{number}.pid", signal.SIGKILL)

    def start_node(self, number):
        self.kafka("up", "--node", str(number))

    @contextmanager
    def frozen(self, number):
        """The node holds its connections, and answers nobody."""
        pid = int((self.directory / f"node-{number}.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def data(self, number):
        return self.directory / f"data-{number}"

    # --- what the cluster says of a topic

    def leaders(self, topic):
        found = self.admin.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        return {partition: known.leader for partition, known in found.items()}

    def in_sync(self, topic, partition=0):
        found = self.admin.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        return set(found[partition].isrs)

    def await_leaders(self, topic, nodes):
        """Waits until every partition is led by one of the nodes."""
        await_(lambda: set(self.leaders(topic).values()) <= set(nodes), f"{topic.name} led by {nodes}")

    def await_in_sync(self, topic, nodes):
        for partition in range(topic.partitions):
            await_(
                lambda p=partition: self.in_sync(topic, p) == set(nodes), f"{topic.name} in sync on {nodes}"
            )


def delete_records(topic, before):
    """Takes away what lies before these offsets, as retention does, and expects it of nobody any more."""
    asked = [TopicPartition(topic.name, partition, offset) for partition, offset in before.items()]
    for future in topic.broker.admin.delete_records(asked).values():
        future.result()


def await_(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.1)


# --- runs


def go(job, *arguments, **options):
    return job.go(*arguments, readers=READERS, **options)


def change(job, section, **values):
    """The same job with another job file."""
    job.sections.setdefault(section, {}).update(values)
    job.path.write_text(job_file(job.tree()))


def refused(job, code=65):
    """A run that fails and leaves the table as it was; answers its message."""
    before = job.warehouse.metadata_location(job.table)
    report = job.run(code=code, outcome="failed")
    assert job.warehouse.metadata_location(job.table) == before, "nothing may be committed"
    assert report["batches"] == []
    return report["error"]


class Pulling:
    """A run that is under way, and reads."""

    def __init__(self, job):
        self.process = job.start("run", "--output", "json", "--log-format", "json")
        self.lines, reads = [], threading.Event()

        def watch():
            for line in self.process.stderr:
                self.lines.append(line)
                if phase_of(line) == "pull":
                    reads.set()
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
