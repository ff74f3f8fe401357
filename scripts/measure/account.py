"""Runs of processes, each with the kernel's account of it."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

RUSAGE = Path(__file__).resolve().parents[1] / "rusage.py"
LOG_TAIL = 4000
# Of /proc/stat: user, nice, system, irq, softirq, steal; not idle, not iowait, nor guest, which is in user.
BUSY = (1, 2, 3, 6, 7, 8)


class Process:
    """A command under measurement; its stdout is the result, its stderr a log."""

    def __init__(self, directory, tool, work, command, records=0, environment=None):
        self.tool, self.work, self.records = tool, work, records
        logs = directory / "logs"
        logs.mkdir(exist_ok=True)
        stem = f"{len(list(logs.glob('*.log'))) + 1:03d}-{tool}-{work}".replace(" ", "-").replace("'", "")
        self.account = logs / f"{stem}.json"
        self.log = logs / f"{stem}.log"
        self.load = os.getloadavg()[0]
        self.busy = busy_s()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-S", RUSAGE, self.account, *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=directory,
                text=True,
            )

    def result(self, ended_by=(0,)):
        """The row of figures, and what was printed; ends the call where the command failed."""
        printed, _ = self.process.communicate()
        busy = busy_s() - self.busy
        account = json.loads(self.account.read_text()) if self.account.exists() else {"code": "unknown"}
        if (code := account.pop("code")) not in ended_by:
            log = self.log.read_text(errors="replace")[-LOG_TAIL:]
            sys.exit(f"{self.tool}, {self.work}: exit {code}\n{printed}{log}")
        row = self.row(account, busy)
        rate = f", {row['records_per_s']:,} records/s" if self.records else ""
        say(f"{self.tool}, {self.work}: {row['wall_s']:.2f} s, {row['cpu_s']:.2f} CPU s{rate}")
        return row, printed

    def row(self, account, busy):
        row = {"tool": self.tool, "work": self.work, "records": self.records} | account
        row["cpu_s_per_million"] = row["records_per_s"] = None
        if self.records:
            row["cpu_s_per_million"] = round(account["cpu_s"] * 1e6 / self.records, 2)
            row["records_per_s"] = round(self.records / account["wall_s"])
        row["others_cpu_s"] = round(max(busy - account["cpu_s"], 0), 2)
        row["load_before"] = round(self.load, 2)
        return row

    def running(self):
        return self.process.poll() is None

    def stop(self):
        """SIGTERM, which rusage.py passes on."""
        self.process.terminate()


def busy_s():
    """Seconds that all CPUs together have worked for anyone since boot."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return sum(int(fields[n]) for n in BUSY) / os.sysconf("SC_CLK_TCK")


def medians(rows):
    """The row of medians, each taken by itself, with the rows that it was made of."""
    first = rows[0]
    numbers = [name for name, value in first.items() if isinstance(value, (int, float))]
    row = first | {name: statistics.median(row[name] for row in rows) for name in numbers}
    return row | {"n": len(rows), "each": rows}


def say(text):
    print(text, file=sys.stderr, flush=True)
