"""Job files, the binary that runs them, and what it must have made of the topic."""

import json
import os
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from faults.process import Process, build_shim
from model import COUNTS, Model, Rules
from readers import READERS, read

BIN = Path(
    os.environ.get("TIDEGATE_BIN")
    or Path(
        os.environ.get("CARGO_TARGET_DIR")
        or Path(os.environ.get("TIDEGATE_CACHE") or Path.home() / ".cache" / "tidegate") / "target"
    )
    / "release"
    / "tidegate"
)
RUN_TIMEOUT_S = 240

ARTICLES = {
    "id": "string",
    "title": "string",
    "published_at": "timestamptz",
    "version": "long",
}
REJECTS = {
    "topic": "string",
    "partition": "int",
    "offset": "long",
    "key": "binary",
    "value": "binary",
    "job": "string",
    "epoch": "long",
    "batch": "long",
    "reason": "string",
}


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def job_file(tree):
    """A job file: plain values first, then one table for each section."""
    lines = [f"{k} = {toml(v)}" for k, v in tree.items() if not isinstance(v, dict)]
    for section, values in tree.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"] + [f"{json.dumps(k)} = {toml(v)}" for k, v in values.items()]
    return "\n".join(lines) + "\n"


@dataclass
class Run:
    """One finished run of the binary."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self):
        # json.loads refuses a second document, and logs that strayed to stdout.
        return json.loads(self.stdout)

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr[-4000:]}"


@dataclass
class Job:
    """A job on one topic and one table, and the model of that table."""

    warehouse: object
    topic: object
    columns: dict = field(default_factory=lambda: dict(ARTICLES))
    sections: dict = field(default_factory=dict)
    name: str = "articles"
    table: str = "demo.events"
    rules: dict = field(default_factory=dict)

    def __post_init__(self):
        self.rules = Rules(self.name, self.columns, **self.rules)
        self.model = Model(self.rules, self.topic)
        self.path = self.warehouse.directory / f"{self.name}.toml"
        self.path.write_text(job_file(self.tree()))

    def tree(self):
        rules = self.rules
        columns = [
            {"name": name, "type": kind} | ({"required": True} if name in rules.required + rules.id else {})
            for name, kind in self.columns.items()
        ]
        tree = {
            "name": self.name,
            "mode": "append" if rules.append else "merge",
            "kafka": {
                "topic": self.topic.name,
                "bootstrap.servers": self.topic.broker.bootstrap,
            },
            "format": {"type": "json"},
            "catalog": self.warehouse.section(),
            "table": {"name": self.table, "columns": columns},
            "merge": {
                "id": list(rules.id),
                "event_time": rules.event_time,
                "order_by": list(rules.order_by),
                "ties": rules.ties,
            },
            "watermark": {
                "delay": duration(rules.delay),
                "late": rules.late,
                "max_future": duration(rules.max_future),
            },
            # A test with one broken record among ten is no sign of a broken topic.
            "rejects": {"max_ratio": 1.0},
        }
        if rules.append:
            del tree["merge"]["id"], tree["merge"]["order_by"], tree["merge"]["ties"]
        if rules.tombstones:
            tree["merge"]["tombstones"] = rules.tombstones
        if rules.deleted_column:
            tree["merge"] |= {"deletes": "soft", "deleted_column": rules.deleted_column}
        if rules.metadata:
            tree["metadata"] = {"columns": rules.metadata}
        for section, values in self.sections.items():
            tree.setdefault(section, {}).update(values)
        return tree

    # --- running

    def start(self, command, *arguments):
        return subprocess.Popen(
            [BIN, command, self.path, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, command, *arguments, code=0):
        run = finish(self.start(command, *arguments))
        assert run.code == code, f"tidegate {command}: expected exit {code}, got {run}"
        return run

    def init(self):
        return self.call("init")

    def run(self, *arguments, code=0, outcome=None):
        run = self.call("run", "--output", "json", *arguments, code=code)
        report = run.report
        assert report["exit_code"] == code and report["job"] == self.name, run
        if outcome:
            assert report["outcome"] == outcome, run
        for name in COUNTS:
            total = sum(batch["records"][name] for batch in report["batches"])
            assert report["records"][name] == total, f"{name}: {run}"
        return report

    def nothing_new(self):
        """A run that has nothing to do leaves no trace in the table."""
        before = self.warehouse.metadata_location(self.table)
        report = self.run(outcome="nothing_new")
        assert report["batches"] == []
        assert self.warehouse.metadata_location(self.table) == before

    def run_until_killed(self, phase, delay_s=0.0, kill=signal.SIGKILL):
        """Sends a signal once the run's log names the phase (at once if None) and so long after it."""
        arguments = ["--output", "json", "--log-format", "json"]
        process = self.start("run", *arguments)
        seen, lines = threading.Event(), []

        def watch():
            for line in process.stderr:
                lines.append(line)
                if phase_of(line) == phase:
                    seen.set()
            seen.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        if phase:
            assert seen.wait(RUN_TIMEOUT_S)
        threading.Event().wait(delay_s)
        process.send_signal(kill)
        stdout = process.stdout.read()
        code = process.wait(RUN_TIMEOUT_S)
        watcher.join()
        assert not phase or any(phase_of(line) == phase for line in lines), f"no phase {phase}: {lines}"
        return Run(code, stdout, "".join(lines))

    def run_that_dies(self, rule):
        """Kills itself at a call of the disk that the rule of scripts/faults/shim.c names; answers its marks.

        A signal from here may come too late on a machine that does much else.
        """
        place = Path(tempfile.mkdtemp(prefix="run-", dir=self.warehouse.directory))
        run = Process(BIN, self, place, build_shim(place), rule, command=("run",))
        code = run.wait()
        assert code == -signal.SIGKILL and run.hit(), f"{rule}: exit {code}, {run.marks()}\n{run.tail()}"
        return run.marks()

    # --- judging

    def follow(self, start=None):
        if self.warehouse.exists(self.table):
            self.model.follow(self.warehouse.table(self.table).metadata, start)

    def verify(self, readers=tuple(READERS), start=None, rejects=True):
        """The table and the rejects hold exactly what the model says, in every reader."""
        self.follow(start)
        expected = self.model.rows()
        for reader in readers:
            found = read(reader, self.warehouse, self.table, self.columns)
            assert found == expected, f"{reader}: {difference(found, expected)}"
        if rejects:
            self.verify_rejects(readers)

    def verify_rejects(self, readers=tuple(READERS)):
        expected = self.model.rejects()
        name = f"{self.table}_rejects"
        if not self.warehouse.exists(name):
            assert not expected, "there must be a rejects table"
            return
        for reader in readers:
            rows = read(reader, self.warehouse, name, REJECTS)
            assert sorted(row[:-1] for row in rows) == expected, reader
            for row in rows:
                reason = self.model.state.rejects[*row[:3], row[6]][1]
                assert row[-1] == reason if reason else row[-1], row

    def go(self, *arguments, **options):
        """One run that commits, judged at once."""
        report = self.run(*arguments, outcome="committed")
        self.verify(**options)
        return report


def finish(process):
    try:
        stdout, stderr = process.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {RUN_TIMEOUT_S} s\n{stderr[-4000:]}") from None
    return Run(process.returncode, stdout, stderr)


def delete_files(job):
    """Live delete files and vectors of a job's table, as Spark sees them."""
    return job.warehouse.sql(f"SELECT * FROM {job.warehouse.catalog}.{job.table}.delete_files")


def phase_of(line):
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None
    return event.get("phase") or event.get("fields", {}).get("phase")


def duration(span: timedelta):
    return f"{int(span.total_seconds())} s"


def difference(found, expected):
    missing = [row for row in expected if row not in set(found)]
    extra = [row for row in found if row not in set(expected)]
    return f"{len(found)} rows for {len(expected)}; missing {missing[:5]}, not expected {extra[:5]}"
