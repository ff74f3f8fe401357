"""Records for the tests: a small news feed."""

import random
from datetime import UTC, datetime, timedelta

BASE = datetime(2025, 3, 1, tzinfo=UTC)


def article(id, minute=0, version=1, title=None, **more):
    """A version of an article; `minute` is its event time after BASE."""
    moment = BASE + timedelta(minutes=minute)
    text = moment.isoformat().replace("+00:00", "Z")
    return {
        "id": id,
        "title": title if title is not None else f"{id} v{version}",
        "published_at": text,
        "version": version,
    } | more


def in_the_future():
    """An event time beyond every `max_future`."""
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


def broken():
    """Records that no decoder can make a row of."""
    return [
        b"{not json",
        b"",
        b"[1, 2]",
        b'"text"',
        b"\xff\xfe\x00",
        {"title": "no id", "published_at": "2025-03-01T00:00:00Z", "version": 1},
        article("null id") | {"id": None},
        article("no time") | {"published_at": None},
        article("bad time") | {"published_at": "yesterday"},
        article("bad version") | {"version": "many"},
        article("too large") | {"version": 2**63},
        article("bad title") | {"title": {"a": 1}},
    ]


class Feed:
    """An endless mix of new articles, updates, duplicates and stale versions; seeded, so repeatable."""

    def __init__(self, topic, seed=1, minutes_per_record=0.1):
        self.topic = topic
        self.random = random.Random(seed)
        self.step = minutes_per_record
        self.minute = 0.0
        self.count = 0
        self.versions = {}

    def partition(self, id):
        # Fixed for an id, as with a key; spelled out because Python's hash of a string is salted.
        return sum(id.encode()) % self.topic.partitions

    def emit(self, value):
        self.topic.produce(value, value["id"], self.partition(value["id"]))
        return value

    def new(self):
        self.count += 1
        id = f"a{self.count}"
        self.versions[id] = 1
        return self.emit(article(id, self.minute))

    def update(self):
        id = self.random.choice(sorted(self.versions))
        self.versions[id] += 1
        return self.emit(article(id, self.minute, self.versions[id]))

    def stale(self):
        # Older by version and a little by time: below what is stored, but not late.
        id = self.random.choice(sorted(self.versions))
        return self.emit(article(id, max(self.minute - 30, 0), 0, "stale"))

    def send(self, count):
        kinds = [self.new] * 6 + [self.update] * 3 + [self.stale]
        for _ in range(count):
            self.minute = round(self.minute + self.step, 3)
            made = (self.random.choice(kinds) if self.versions else self.new)()
            if self.random.random() < 0.1:
                self.emit(made)
        self.topic.flush()
