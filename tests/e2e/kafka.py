"""Topics for the tests, and what was really written to them."""

import itertools
import json
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

ROOT = Path(__file__).resolve().parents[2]
DELIVERY_TIMEOUT_S = 180
METADATA_TIMEOUT_S = 120


@dataclass(frozen=True)
class Record:
    """One record as the broker holds it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple = ()


class Broker:
    """The cluster of `scripts/kafka`, and the names of the topics made on it.

    `proxied` is the port at which a proxy stands before the listener `self.proxied`. With `secure` there are
    further `listeners`, where a client has to say who it is.
    """

    def __init__(self, directory, brokers=1, proxied=None, secure=False):
        self.directory = directory
        self.options = ["--brokers", str(brokers)] + (["--proxied", str(proxied)] if proxied else [])
        self.options += ["--secure"] if secure else []
        said = self.start()
        self.bootstrap = said["bootstrap.servers"]
        self.proxied = said.get("proxied.listener")
        servers = {
            name.removesuffix(".servers"): at for name, at in said.items() if name.endswith(".servers")
        }
        self.listeners = servers | {"plain": servers.pop("bootstrap")}
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})
        # One request in flight: a batch sent again after an error would else land behind a later one.
        settings = {"bootstrap.servers": self.bootstrap, "linger.ms": 2, "log_level": 2}
        self.producer = Producer(settings | {"max.in.flight.requests.per.connection": 1})
        self.numbers = itertools.count(1)

    def start(self):
        """Also after `stop`: on the same ports, with the same data."""
        up = [ROOT / "scripts" / "kafka", "up", *self.options, str(self.directory)]
        done = subprocess.run(up, check=True, capture_output=True, text=True)
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def stop(self):
        subprocess.run([ROOT / "scripts" / "kafka", "down", str(self.directory)], check=True)

    def kill(self):
        subprocess.run([ROOT / "scripts" / "kafka", "down", "--kill", str(self.directory)], check=True)

    def tool(self, name, *arguments):
        """One of Kafka's own tools, as a class of its jars."""
        tool = [ROOT / "scripts" / "kafka", "tool", str(self.directory), name, *arguments]
        subprocess.run(tool, check=True, capture_output=True, text=True)

    def topic(self, partitions=1, **config):
        name = self.new_topic(f"e2e-{next(self.numbers)}", partitions, **config)
        return Topic(self, name, partitions)

    def new_topic(self, name, partitions, **config):
        settings = {k.replace("_", "."): str(v) for k, v in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
        for future in self.admin.create_topics([new]).values():
            future.result()
        await_known(self.producer, name, partitions)
        return name

    def configure(self, topic, **config):
        """Changes settings of a topic."""
        entries = [
            ConfigEntry(name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        asked = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([asked]).values():
            future.result()

    def delete_records(self, topic, before):
        """What retention does: everything before an offset (partition to offset) is gone."""
        offsets = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        for future in self.admin.delete_records(offsets).values():
            future.result()

    def transactional_producer(self, name):
        settings = {"bootstrap.servers": self.bootstrap, "transactional.id": name}
        producer = Producer(settings | {"transaction.timeout.ms": 600_000})
        producer.init_transactions()
        return producer


def await_known(producer, topic, partitions):
    """Waits until the producer knows the topic, with a leader of each of its partitions."""
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    while True:
        with suppress(KafkaException):
            found = producer.list_topics(topic, 10).topics[topic]
            leaders = [partition.leader for partition in found.partitions.values()]
            if not found.error and len(leaders) >= partitions and min(leaders) >= 0:
                return
        assert time.monotonic() < deadline, f"{topic} is not known with its {partitions} partitions"
        time.sleep(0.1)


@dataclass
class Topic:
    """A topic and its log: partition -> offset -> record, as the broker acknowledged them."""

    broker: Broker
    name: str
    partitions: int
    log: dict = field(default_factory=dict)
    failed: list = field(default_factory=list)
    # Producers that know the topic: what is queued before one does may be overtaken by what comes after.
    known: set = field(default_factory=set)

    def __post_init__(self):
        self.log = {p: {} for p in range(self.partitions)}

    def produce(self, value, key=None, partition=0, timestamp_ms=None, headers=(), producer=None):
        """Queues a record. A value that is not bytes is written as JSON."""
        if value is not None and not isinstance(value, bytes):
            value = json.dumps(value).encode()
        key = key.encode() if isinstance(key, str) else key
        timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms

        def delivered(error, message):
            if error:
                self.failed.append(error)
                return
            # A broker-side clock (LogAppendTime) overrules ours, so the answer's timestamp counts.
            answer = message.timestamp()[1]
            self.log[partition][message.offset()] = Record(
                self.name, partition, message.offset(), answer, key, value, tuple(headers)
            )

        producer = producer or self.broker.producer
        if producer not in self.known:
            await_known(producer, self.name, self.partitions)
            self.known.add(producer)
        while True:
            try:
                producer.produce(
                    self.name,
                    value,
                    key,
                    partition,
                    on_delivery=delivered,
                    timestamp=timestamp_ms,
                    headers=list(headers),
                )
                return
            except BufferError:
                producer.poll(0.1)

    def flush(self, producer=None):
        left = (producer or self.broker.producer).flush(DELIVERY_TIMEOUT_S)
        assert left == 0 and not self.failed, f"{left} not delivered, failed: {self.failed}"

    def send(self, values, partition=0, key=lambda value: None):
        """Writes the values one after another and waits for the broker."""
        for value in values:
            self.produce(value, key(value), partition)
        self.flush()

    def grow(self, partitions):
        """Adds empty partitions, and waits until the producer knows of them."""
        for future in self.broker.admin.create_partitions([NewPartitions(self.name, partitions)]).values():
            future.result()
        self.log |= {p: {} for p in range(self.partitions, partitions)}
        self.partitions = partitions
        await_known(self.broker.producer, self.name, partitions)
        self.known = {self.broker.producer}

    def forget(self, records):
        """Takes records out of the expected log: their transaction was aborted."""
        for partition, offset in records:
            del self.log[partition][offset]

    def positions(self):
        return {(p, o) for p, records in self.log.items() for o in records}

    def consumer(self, isolation):
        return Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": f"{self.name}-oracle",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
            }
        )

    def ends(self, isolation=IsolationLevel.READ_UNCOMMITTED):
        """Partition to high watermark, or to the last stable offset under READ_COMMITTED."""
        asked = {TopicPartition(self.name, p): OffsetSpec.latest() for p in range(self.partitions)}
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        ends = {}
        # A leader that was lost while it was asked is answered for with an offset that is none. The client is
        # new each time: an old one may not know for minutes of partitions that were added.
        while not ends or min(ends.values()) < 0:
            assert time.monotonic() < deadline, f"{self.name} has no ends: {ends}"
            admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 2})
            found = admin.list_offsets(asked, isolation_level=isolation, request_timeout=10)
            with suppress(KafkaException):
                ends = {place.partition: future.result().offset for place, future in found.items()}
        return ends

    def survivors(self):
        """The offsets that a reader of committed data can still see (compaction removes some)."""
        consumer = self.consumer("read_committed")
        consumer.assign([TopicPartition(self.name, p, 0) for p in range(self.partitions)])
        found, at_end = set(), set()
        try:
            while len(at_end) < self.partitions:
                message = consumer.poll(METADATA_TIMEOUT_S)
                assert message is not None, "the oracle's consumer stalled"
                if message.error():
                    at_end.add(message.partition())
                else:
                    found.add((message.partition(), message.offset()))
            return found
        finally:
            consumer.close()

    def await_compaction(self, at_most, timeout_s=180):
        """Waits until no more than so many records survive, and forgets the others."""
        deadline = time.monotonic() + timeout_s
        while len(found := self.survivors()) > at_most:
            assert time.monotonic() < deadline, f"not compacted: {len(found)} records left"
            time.sleep(0.3)
        self.forget(self.positions() - found)
