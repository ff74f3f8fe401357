"""The reference workload: JSON articles of about 635 bytes, and the table that they must make.

W1: 79.5 % new articles, 0.5 % new ones that come 2 to 26 hours late, 10 % exact duplicates and 10 % newer
versions of earlier articles; event time advances so that all of it is one day. W2: increments with 20 %
newer versions of articles all over the table and 10 % exact duplicates within the increment.
The same seed and sizes give the same bytes.
"""

import random
from array import array
from datetime import datetime

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 8
START_MS = 1_740_787_200_000  # 2025-03-01T00:00:00Z
DAY_MS = 86_400_000
JITTER_MS = 30_000
RECENT = 4096
TEXT_LENGTH = 1 << 20
CONTENT_LENGTH = 400
SOURCES = [f"source-{n:02d}.example" for n in range(40)]


def prose(chance):
    """Text that compresses about as well as news does: a vocabulary with a skewed distribution."""
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(4000)]
    text, length = [], 0
    while length < TEXT_LENGTH + 1000:
        word = words[int(len(words) * chance.random() ** 3)]
        text.append(word)
        length += len(word) + 1
    return " ".join(text)


class Workload:
    """Writes W1 and W2 to one topic, and keeps the truth: the winning version of every article."""

    def __init__(self, bootstrap, topic, records, ordered=False, seed=1):
        """`ordered`: ids ascend with time; else they are as good as random."""
        self.bootstrap, self.topic = bootstrap, topic
        # An odd factor maps numbers to ids one to one, and neighbours far from each other.
        self.spread = 1 if ordered else 0x9E3779B97F4A7C15
        self.chance = random.Random(seed)
        self.text = prose(self.chance)
        self.step_ms = DAY_MS / records
        self.clock_ms = float(START_MS)
        # By article number: the newest version made, and the one that wins by (published_at, version).
        self.made = array("H")
        self.best_ms = array("q")
        self.best_version = array("H")
        # Of all records, duplicates too.
        self.sent = self.sent_versions = self.sent_ms = 0
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
        new = NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)
        admin.create_topics([new])[topic].result()
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 2,
                "compression.type": "lz4",
                "linger.ms": 50,
                "batch.num.messages": 20_000,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 500_000,
                "queue.buffering.max.kbytes": 400_000,
            }
        )

    def w1(self, records):
        self.write(records, new=0.795, late=0.005, duplicate=0.10)

    def w2(self, records, latest=None):
        """`latest`: so many articles back updates reach; without it, over all."""
        self.write(records, new=0.70, late=0.0, duplicate=0.10, latest=latest)

    def only_new(self, records):
        self.write(records, new=1.0, late=0.0, duplicate=0.0)

    def write(self, records, new, late, duplicate, latest=None):
        chance, clock = self.chance.random, self.clock_ms
        recent = []
        for n in range(records):
            clock += self.step_ms
            kind = chance()
            if kind < duplicate and recent:
                self.send(*recent[int(chance() * len(recent))])
                continue
            kind -= duplicate
            if kind < new or not self.made:
                message = self.article(len(self.made), 1, int(clock))
            elif kind < new + late:
                message = self.article(len(self.made), 1, int(clock - (2 + 24 * chance()) * 3_600_000))
            else:
                reach = min(latest or len(self.made), len(self.made))
                number = len(self.made) - reach + int(chance() * reach)
                jitter = int((2 * chance() - 1) * JITTER_MS)
                message = self.article(number, self.made[number] + 1, int(clock) + jitter)
            if len(recent) < RECENT:
                recent.append(message)
            else:
                recent[n % RECENT] = message
            self.send(*message)
        self.clock_ms = clock
        if left := self.producer.flush(120):
            raise RuntimeError(f"{left} records not delivered")

    def article(self, number, version, published_ms):
        if version == 1:
            self.made.append(1)
            self.best_ms.append(published_ms)
            self.best_version.append(1)
        else:
            self.made[number] = version
            if (published_ms, version) > (self.best_ms[number], self.best_version[number]):
                self.best_ms[number] = published_ms
                self.best_version[number] = version
        id = f"{number * self.spread & 0xFFFFFFFFFFFFFFFF:016x}"
        at = (number * 7919 + version * 104729) % TEXT_LENGTH
        text = self.text
        published = datetime.utcfromtimestamp(published_ms / 1000).isoformat(timespec="milliseconds")
        source = SOURCES[number % 40]
        value = (
            f'{{"id":"{id}","title":"{text[at : at + 50]}","source":"{source}",'
            f'"url":"https://{source}/news/{id}","content":"{text[at : at + CONTENT_LENGTH]}",'
            f'"published_at":"{published}Z","version":{version}}}'
        )
        return number % PARTITIONS, id, value, version, published_ms

    def send(self, partition, key, value, version, published_ms):
        self.sent += 1
        self.sent_versions += version
        self.sent_ms += published_ms
        while True:
            try:
                self.producer.produce(self.topic, value, key, partition)
                return
            except BufferError:
                self.producer.poll(0.05)

    def truth(self):
        """What a table holds that keeps the latest version of each article."""
        return {
            "rows": len(self.made),
            "ids": len(self.made),
            "versions": sum(self.best_version),
            "published_ms": sum(self.best_ms),
            "content_bytes": CONTENT_LENGTH * len(self.made),
        }

    def truth_of_append(self):
        """What a table holds that keeps every record."""
        return {
            "rows": self.sent,
            "ids": len(self.made),
            "versions": self.sent_versions,
            "published_ms": self.sent_ms,
            "content_bytes": CONTENT_LENGTH * self.sent,
        }
