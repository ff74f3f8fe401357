"""A topic, a table and the job between them: what a fault strikes at, and what must be right after it."""

import json
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, timedelta
from pathlib import Path

from articles import Feed
from faults.process import TIMEOUT_S, Process
from faults.truth import COLUMNS, compare, derive
from kafka import Topic
from leftovers import age, in_use, orphans, own, stored
from readers import Warehouse, pyiceberg, spark

from jobs import ARTICLES, Job

PARTITIONS = 2
TABLE = "demo.events"
REJECTS = ("topic", "partition", "offset")
# Appended rows carry where they came from, so that a record appended twice is seen.
PLACE = {"place_partition": "int", "place_offset": "long"}

# What is written differs by these: position deletes, deletion vectors, nothing but data files.
KINDS = {
    "merge-v2": {"table": {"format_version": 2, "partition_by": ["bucket(2, id)"]}},
    "append": {},
    "merge-v3": {"table": {"format_version": 3}},
}


class World:
    def __init__(self, context, name, kind, seed, bootstrap=None, sections=None):
        self.context = context
        self.kind = kind
        self.random = random.Random(seed)
        self.directory = context.directory / name
        self.directory.mkdir()
        broker = context.broker
        self.topic = Topic(broker, broker.new_topic(name, PARTITIONS), PARTITIONS)
        self.feed = Feed(self.topic, seed, minutes_per_record=0.01)
        append = kind == "append"
        all_sections = {
            "kafka": {"bootstrap.servers": bootstrap or broker.bootstrap},
            **KINDS[kind],
            **(sections or {}),
        }
        self.job = Job(
            Warehouse(self.directory, None),
            self.topic,
            columns=ARTICLES | (PLACE if append else {}),
            sections=all_sections,
            rules={
                # Lateness depends on where batches are cut; the truth must not.
                "late": "merge",
                "delay": timedelta(hours=2),
                "append": append,
                "metadata": {f"place_{part}": part for part in ("partition", "offset")} if append else {},
            },
        )
        self.foreign = Counter()
        self.spark = None
        self.number = 0
        self.least = self.enough = None
        # A run that nothing disturbs takes about so long: learned from each recovery.
        self.usual_s = 0.5
        self.check_call("init")

    # --- what goes in

    def send(self, most=900):
        """New records, some of them broken, so that every phase of the next run has something to do."""
        self.feed.send(self.random.randint(most // 5, most))
        for _ in range(self.random.randint(1, 4)):
            self.topic.produce(b"broken", partition=self.random.randrange(PARTITIONS))
        self.topic.flush()

    def start(self, rule=None, **options):
        self.number += 1
        place = self.directory / f"run-{self.number}"
        place.mkdir()
        return Process(self.context.binary, self.job, place, self.context.shim, rule, **options)

    def check_call(self, command, *arguments):
        done = self.job.start(command, *arguments)
        out, err = done.communicate(timeout=TIMEOUT_S)
        if done.returncode:
            raise AssertionError(f"{command}: exit {done.returncode}\n{out}{err}")
        return out

    def recover(self):
        """One undisturbed run: whatever came before, it must do. Answers what it said if it did not."""
        run = self.start()
        try:
            code = run.wait()
        except AssertionError as error:
            return f"{run.stderr_file}: {error}"
        self.usual_s = run.seconds
        return None if code == 0 else f"{run.stderr_file}: exit {code}\n{run.tail()}"

    def memory_bytes(self):
        """The least and the most address space to give a run that is to have too little.

        The most is at first what one takes that has all it wants; then what the last one could do with, since
        an allocator that is refused an arena makes do without. With less than the least, librdkafka cannot
        start its threads, and waits for them for ever.
        """
        if self.enough is None:
            self.send()
            run, self.enough = self.start(), 0
            while run.child.poll() is None:
                status = Path(f"/proc/{run.child.pid}/status").read_text()
                peaks = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmPeak")]
                self.enough = max(self.enough, *(1024 * peak for peak in peaks), 0)
                time.sleep(0.002)
            self.least = int(0.45 * self.enough)
        return self.least, max(self.least, self.enough)

    def clean(self):
        """`clean` days after the last run; answers how many files it took, and what it did wrong.

        What is named and what nothing names is told apart by PyIceberg, not by the binary.
        """
        age(stored(self.job))
        named, left = in_use(self.job), own(orphans(self.job))
        report = json.loads(self.check_call("clean", "--delete", "--output", "json"))
        problems = [f"clean left {path}" for path in own(orphans(self.job))]
        problems += [f"clean took {path}, which is in use" for path in named - stored(self.job)]
        if report["files"] != len(left):
            problems.append(f"clean says {report['files']} files, and {len(left)} are gone")
        return len(left), problems

    # --- what must come out

    def truth(self):
        return derive(
            self.context.broker.bootstrap, self.topic.name, PARTITIONS, self.kind == "append", self.foreign
        )

    def check(self, readers=(pyiceberg,)):
        """How far table and rejects, as each reader sees them, are from the truth; the worst of them."""
        truth = self.truth()
        return max((self.seen_by(reader, truth) for reader in readers), key=lambda d: d.lost + d.duplicate)

    def check_everywhere(self, session):
        if self.spark is None:
            self.spark = self.job.warehouse.spark = self.job.warehouse.session(session)
        return self.check((pyiceberg, spark))

    def seen_by(self, reader, truth):
        columns = COLUMNS + (tuple(PLACE) if self.kind == "append" else ())
        rows = self.read(reader, TABLE, columns)
        difference = compare(truth.rows, Counter(rows))
        if self.job.warehouse.exists(f"{TABLE}_rejects"):
            rejects = self.read(reader, f"{TABLE}_rejects", REJECTS)
        else:
            rejects = []
        return difference + compare(truth.rejects, Counter(rejects))

    def read(self, reader, table, columns):
        try:
            found = reader(self.job.warehouse, table, columns).to_pylist()
        except Exception as error:  # a table that cannot be read has lost all of its rows
            self.context.say(f"{self.directory.name}: {table} cannot be read by {reader.__name__}: {error}")
            return []
        return [tuple(in_utc(row[column]) for column in columns) for row in found]

    def lock(self, kind="IMMEDIATE"):
        """The catalog's database in the hands of another process: out of reach."""
        connection = sqlite3.connect(self.job.warehouse.database, isolation_level=None, timeout=30)
        connection.execute(f"BEGIN {kind}")
        # Closing it takes the lock away, and nothing was written.
        return closing(connection)


def in_utc(value):
    return value.astimezone(UTC) if hasattr(value, "astimezone") else value
