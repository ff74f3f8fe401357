"""The measurements, in the order of a call. Each makes rows, and compares every table with the truth."""

import sys
from pathlib import Path

from measure import account, content
from measure.connect import Connect
from measure.rig import produce
from measure.spark import Spark
from measure.tidegate import Tidegate

TOPIC = "articles"
W1, W2, NOTHING_NEW, APPEND = "W1", "W2", "nothing new", "append"
INCREMENTS = 3
NOTHING_NEW_REPEATS = {"tidegate": 5, "spark": 3, "spark-cow": 1}
QUICK_NOTHING_NEW_REPEATS = {"tidegate": 5, "spark": 1, "spark-cow": 1}
COMMIT_INTERVAL_S = 15
QUICK_COMMIT_INTERVAL_S = 5


class Works:
    def __init__(self, rig, options):
        self.rig, self.options = rig, options
        self.rows = []
        self.workload = rig.workload(TOPIC, options.records)
        self.tables = {}

    def checked(self, table, work, truth):
        content.check(f"{table.tool}, {work}", table.metadata(), truth)

    def add(self, rows):
        self.rows.append(account.medians(rows))

    def from_empty(self):
        """W1: the bare read, and each tool into a table of its own; the last of each is kept."""
        produce("W1", self.workload.w1, self.options.records)
        truth = self.workload.truth()

        def fill(tool):
            table = self.tables[tool] = self.make(tool)
            row = table.fill(W1, self.options.records)
            self.checked(table, W1, truth)
            return row | content.files(table.metadata())

        own = {"bare read": lambda _: self.bare_read(), "tidegate": fill}
        self.in_turn(own, dict.fromkeys(self.options.merging_peers, fill))

    def in_turn(self, own, peers):
        """Rounds of all tools, each as often as was asked for: a machine is not the same all the time."""
        options = self.options
        tools = [(tool, measure, options.repeats) for tool, measure in own.items()]
        tools += [(tool, measure, options.peer_repeats) for tool, measure in peers.items()]
        rows = {tool: [] for tool, _, _ in tools}
        for turn in range(max(repeats for _, _, repeats in tools)):
            for tool, measure, repeats in tools:
                if turn < repeats:
                    rows[tool].append(measure(tool))
        for of_tool in rows.values():
            self.add(of_tool)

    def make(self, tool):
        return Tidegate(self.rig, TOPIC) if tool == "tidegate" else Spark(self.rig, TOPIC, tool)

    def bare_read(self):
        script = Path(__file__).resolve().parent / "bare_read.py"
        command = [sys.executable, "-P", script, self.rig.bootstrap, TOPIC]
        row, printed = self.rig.run("bare read", W1, command, self.options.records)
        if int(printed) != self.options.records:
            sys.exit(f"bare read: {printed.strip()} records instead of {self.options.records}")
        return row

    def append(self):
        """All records into a table without ids, beside Kafka Connect's sink."""
        options, truth = self.options, self.workload.truth_of_append()
        interval_s = QUICK_COMMIT_INTERVAL_S if options.quick else COMMIT_INTERVAL_S

        def appended(table):
            row = table.fill(APPEND, options.records)
            self.checked(table, APPEND, truth)
            return row | content.files(table.metadata())

        own = {"tidegate": lambda _: appended(Tidegate(self.rig, TOPIC, "append"))}
        self.in_turn(own, {"connect": lambda _: appended(Connect(self.rig, TOPIC, interval_s))})

    def under_limit(self, mib):
        """W1 again, with less memory."""
        table = Tidegate(self.rig, TOPIC, memory_mib=mib)
        work = f"{W1} under {mib} MiB"
        row = table.fill(work, self.options.records)
        self.checked(table, work, self.workload.truth())
        self.add([row | content.files(table.metadata()) | {"memory_limit_mib": mib}])

    def increments(self):
        """W2: the same increments for each tool, one after the other, so that all meet the same machine."""
        rows = {tool: [] for tool in self.tables}
        for _ in range(INCREMENTS):
            produce("W2", self.workload.w2, self.options.increment)
            truth = self.workload.truth()
            for tool, table in self.tables.items():
                rows[tool].append(table.run(W2, self.options.increment))
                self.checked(table, W2, truth)
        for of_tool in rows.values():
            self.add(of_tool)

    def nothing_new(self):
        truth = self.workload.truth()
        repeats = QUICK_NOTHING_NEW_REPEATS if self.options.quick else NOTHING_NEW_REPEATS
        for tool, table in self.tables.items():
            self.add([table.run(NOTHING_NEW) for _ in range(repeats[tool])])
            self.checked(table, NOTHING_NEW, truth)
