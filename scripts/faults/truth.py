"""What a table must hold, derived from the topic alone, and how far a table is from it.

It knows nothing of batches, offsets in the table, or the binary: a consumer of its own reads the whole topic
and a dictionary keeps the winner of each id. The jobs of the campaigns judge no record late, so where batches
were cut cannot matter.
"""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, TopicPartition

COLUMNS = ("id", "title", "published_at", "version")


@dataclass
class Truth:
    """Rows of the table and places of the rejects, each with how often it must be there."""

    rows: Counter
    rejects: Counter


@dataclass
class Difference:
    """Lost: what must be there and is not. Duplicate: what is there and must not be, or too often."""

    lost: int = 0
    duplicate: int = 0
    examples: tuple = ()

    def __bool__(self):
        return bool(self.lost or self.duplicate)

    def __add__(self, other):
        examples = (self.examples + other.examples)[:6]
        return Difference(self.lost + other.lost, self.duplicate + other.duplicate, examples)


def derive(bootstrap, topic, partitions, append, foreign=()):
    """The truth of a topic now; `foreign` are rows that another engine put into the table."""
    winners, rows, rejects = {}, Counter(foreign), Counter()
    for partition, offset, value in read_all(bootstrap, topic, partitions):
        try:
            row = json.loads(value)
            row = (row["id"], row["title"], datetime.fromisoformat(row["published_at"]), row["version"])
        except (ValueError, TypeError):
            rejects[topic, partition, offset] += 1
            continue
        if append:
            rows[(*row, partition, offset)] += 1
        else:
            # Event time, then version, then arrival; an id has one partition, so offsets tell arrival.
            rank = (row[2], row[3], offset)
            winners[row[0]] = max(winners.get(row[0], (rank, row)), (rank, row))
    rows.update(row for _, row in winners.values())
    return Truth(rows, rejects)


def read_all(bootstrap, topic, partitions):
    settings = {"bootstrap.servers": bootstrap, "group.id": "truth", "enable.partition.eof": True}
    consumer = Consumer(settings | {"enable.auto.commit": False, "isolation.level": "read_committed"})
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        open_partitions = set(range(partitions))
        while open_partitions:
            message = consumer.poll(60)
            if message is None:
                raise RuntimeError(f"no answer from the broker about {topic}")
            if not message.error():
                yield message.partition(), message.offset(), message.value()
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
    finally:
        consumer.close()


def compare(expected, found):
    """Both are multisets; a wrong row counts twice, once as lost and once as too many."""
    missing, extra = expected - found, found - expected
    examples = [f"lost {row}" for row in list(missing)[:3]] + [f"too many {row}" for row in list(extra)[:3]]
    return Difference(missing.total(), extra.total(), tuple(examples))
