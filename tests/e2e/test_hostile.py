"""Records that a stranger sends: each is a row exactly as it was sent or a reject, in bounded memory."""

import json
import subprocess
import sys
from datetime import datetime
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path

from articles import article, broken
from cluster import READERS
from confluent_kafka import Producer
from readers import read

from jobs import BIN

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# Rows: whatever stands in their texts.
TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x7f\u0080\u2028",
    "/",
    "..",
    "../../../../tmp/evil",
    "a/b=c%2Fd?e#f&g",
    "__HIVE_DEFAULT_PARTITION__",
    "null",
    "'; DROP TABLE articles; --",
    '"\\',
    "\u00e9",
    "e\u0301",
    "\U0001f30a\u200d",
    "\ufeffbom",
    "x" * 100_000,
    "\u00e9" * 300,
]


def as_sent(id, **more):
    return json.dumps(article(id) | more).encode()


def deep(depth, opening=b"[", closing=b"]"):
    return as_sent("deep")[:-1] + b',"unknown":' + opening * depth + b"1" + closing * depth + b"}"


REJECTED = [
    *[value if isinstance(value, bytes) else json.dumps(value).encode() for value in broken()],
    deep(10_000),
    deep(10_000, b'{"a":', b"}"),
    b"[" * 900_000,
    b'{"a":' * 100_000,
    b"\xef\xbb\xbf" + as_sent("a byte order mark"),
    as_sent("utf-16").decode().encode("utf-16"),
    as_sent("two")[:-1] + b',"id":"other"}',
    as_sent("two escaped")[:-1] + b',"\\u0069d":"other"}',
    json.dumps(article("a number") | {"id": 5}).encode(),
    as_sent("half a pair").replace(b"half", b"\\ud800"),
    as_sent("overlong").replace(b"overlong", b"\xc0\x80"),
    as_sent("a line break").replace(b"a line", b"a\nline"),
    as_sent("not a number", version=float("nan")),
    as_sent("too large a number").replace(b'"version": 1', b'"version": 1e400'),
    as_sent("two documents") * 2,
    as_sent("a zero byte at the end") + b"\0",
    as_sent("year 0", published_at="0000-12-31T00:00:00Z"),
    as_sent("year -1", published_at="-0001-01-01T00:00:00Z"),
    as_sent("year 10000", published_at="10000-01-01T00:00:00Z"),
    as_sent("an epoch beyond all time", published_at=2**63 - 1),
    as_sent("the end of time", published_at="9999-12-31T23:59:59.999999Z"),
    b" \n\t ",
    b"null",
    b"\xff" * 500_000,
]


def test_a_record_is_rejected_or_taken_exactly(make_job):
    # What is a row and what a reject is written down here: the model's JSON is Python's, which forgives much.
    job = make_job(
        partitions=1, sections={"table": {"partition_by": ["title"]}}, rules={"late": "merge", "order_by": ()}
    )
    job.init()
    rows = [article(text, title=text) for text in TEXTS]
    rows += [article("the first year", published_at="0001-01-01T00:00:00Z")]
    rows += [article("before 1970", published_at="1969-12-31T23:59:59.999999Z")]
    rows += [article("a thousand fields") | {f"field {i}": i for i in range(1_000)}]
    rows += [article("negative zero", version=-0.0), article("a whole number", version=1e18)]
    for record in zip_longest(map(json.dumps, rows), REJECTED):
        for value in record:
            if value is not None:
                job.topic.produce(value if isinstance(value, bytes) else value.encode())
    job.topic.produce(None, "a tombstone")
    job.topic.flush()

    def expected(**changed):
        whole = [row | changed for row in rows]
        found = [
            (r["id"], r["title"], datetime.fromisoformat(r["published_at"]), int(r["version"])) for r in whole
        ]
        return sorted(found, key=repr)

    records = job.run(outcome="committed")["records"]
    assert (records["inserted"], records["rejected"]) == (len(rows), len(REJECTED) + 1)
    readers = ("pyiceberg", "duckdb", "spark")
    for reader in readers:
        assert read(reader, job.warehouse, job.table, job.columns) == expected(), reader
    rejects = read("pyiceberg", job.warehouse, f"{job.table}_rejects", {"value": "binary", "offset": "long"})
    assert [value for value, _ in sorted(rejects, key=itemgetter(1))] == [*REJECTED, None]
    # Every id is found again, whatever it holds.
    job.topic.send([row | {"title": "again"} for row in rows])
    assert job.run(outcome="committed")["records"]["updated"] == len(rows)
    for reader in readers:
        assert read(reader, job.warehouse, job.table, job.columns) == expected(title="again"), reader
    job.nothing_new()


MEGABYTES_100 = 100_000_000


def drained(job, directory):
    """The run's counts of records, and its peak of memory in MiB."""
    account = directory / "account.json"
    command = [BIN, "run", job.path, "--output", "json", "--drain"]
    measured = [sys.executable, "-S", SCRIPTS / "rusage.py", account, *command]
    done = subprocess.run(measured, capture_output=True, text=True, check=True)
    used = json.loads(account.read_text())
    assert used["code"] == 0, done.stderr
    return json.loads(done.stdout)["records"], used["peak_rss_mib"]


def test_records_of_100_mb_pass_in_bounded_memory(make_job, broker, tmp_path):
    topic = broker.topic(max_message_bytes=MEGABYTES_100 + 1_000)
    job = make_job(
        topic,
        columns={"id": "string", "title": "string", "published_at": "timestamptz"},
        rules={"order_by": ()},
        sections={"limits": {"memory_limit": "64 MiB"}},
    )
    job.init()
    huge = {"bootstrap.servers": broker.bootstrap, "message.max.bytes": MEGABYTES_100 + 1_000, "log_level": 2}
    producer = Producer(huge | {"queue.buffering.max.kbytes": 1_000_000})

    def send(kind, count):
        for number in range(count):
            frame = json.dumps(
                {"id": f"{kind} {number}", "title": "", "published_at": "2025-03-01T00:00:00Z"}
            ).encode()
            fill = MEGABYTES_100 - len(frame)
            value = (
                b"\xff" * MEGABYTES_100
                if kind == "broken"
                else frame.replace(b'""', b'"' + b"x" * fill + b'"')
            )
            topic.produce(value, producer=producer)
            topic.flush(producer)

    send("whole", 1)
    records, few = drained(job, tmp_path)
    assert records["inserted"] == 1
    send("broken", 3)
    records, many = drained(job, tmp_path)
    assert records["rejected"] == 3
    # A record is held in several forms at once: as it was fetched, as it is read, as it is written.
    assert max(few, many) < 1_300, f"{few} MiB for one record, {many} MiB for three"
    table = job.warehouse.table(job.table).scan(selected_fields=("id",)).to_arrow()
    assert table.num_rows == 1


def test_a_record_of_a_million_fields_passes_in_bounded_memory(make_job, broker, tmp_path):
    """Fields that no column takes, before and after those that one does; and within one."""
    topic = broker.topic(max_message_bytes=40_000_000)
    job = make_job(topic, sections={"limits": {"memory_limit": "64 MiB"}})
    job.init()
    large = Producer({"bootstrap.servers": broker.bootstrap, "message.max.bytes": 40_000_000, "log_level": 2})
    for number in range(3):
        many = {f"field {n}": n for n in range(500_000)}
        more = {f"another {n}": None for n in range(500_000)}
        topic.produce(many | article(f"flat {number}", number) | more, producer=large)
        topic.produce(article(f"nested {number}", number) | {"extra": many | more}, producer=large)
        topic.flush(large)
    records, peak = drained(job, tmp_path)
    assert records["inserted"] == 6
    # Six times a record of 25 MB, as in the test above; a tree of its fields would take a gigabyte.
    print("peak:", peak, "MiB")
    assert peak < 400, f"{peak} MiB"
    job.verify(READERS)
