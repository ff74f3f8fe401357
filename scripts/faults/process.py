"""One run of the binary with a fault about to strike it, and how far it had come when it did."""

import os
import signal
import subprocess
import time
from pathlib import Path

PHASES = ("plan", "pull", "write", "commit sent", "answer awaited", "rejects append")
# What lies between the answer to the commit and the rejects append, or the end: offsets are mirrored.
AFTER = "after"
TIMEOUT_S = 300
DRAIN = ("run", "--drain")

# Phases of the log. Within `commit` the shim's marks tell manifests from swap, and swap from answer.
OF_LOG = {"flush": "write", "match": "write", "commit": "write", "rejects": "rejects append", "done": AFTER}
OF_SWAP = {"send": "commit sent", "effect": "answer awaited", "answer": AFTER}


def build_shim(directory):
    library = directory / "shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", library, source], check=True)
    return library


class Process:
    """A started run, or another command. `rule` is the shim's."""

    def __init__(self, binary, job, directory, shim, rule=None, env=None, limits=None, command=DRAIN):
        self.rule = rule or ""
        self.marks_file = directory / "marks"
        self.stderr_file = directory / "stderr"
        self.stdout_file = directory / "stdout"
        self.marks_file.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "LD_PRELOAD": str(shim),
            "FAULT_DIR": str(job.warehouse.directory),
            "FAULT_MARKS": str(self.marks_file),
            **(env or {}),
        }
        if rule:
            environment["FAULT_RULE"] = rule
        self.began = time.monotonic()
        with self.stdout_file.open("wb") as out, self.stderr_file.open("wb") as err:
            self.child = subprocess.Popen(
                [binary, command[0], job.path, *command[1:], "--output", "json", "--log-format", "json"],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=environment,
                preexec_fn=limits,
            )

    def marks(self):
        try:
            return self.marks_file.read_text().splitlines()
        except FileNotFoundError:
            return []

    def phase(self):
        """How far the run has come, or had come when it was hit."""
        return phase_of(self.marks())

    def failed_in(self):
        """How far a run had come that ended by itself, and badly: its log says `done` then, too."""
        return phase_of([mark for mark in self.marks() if mark != "phase done"])

    def hit(self):
        """The phase in which the shim struck; None if it did not come to it."""
        marks = self.marks()
        at = next((n for n, mark in enumerate(marks) if mark.startswith("hit ")), None)
        if at is None:
            return None
        # Struck behind its effect, a call belongs to what comes after it.
        behind = self.rule.endswith((" lost", " kill-after")) and marks[at + 1 : at + 2] == ["effect"]
        return phase_of(marks[: at + 2] if behind else marks[:at])

    def await_phase(self, phase):
        """Until the phase begins; False if the run ends without it."""
        while self.child.poll() is None:
            if f"phase {phase}" in self.marks():
                return True
            time.sleep(0.001)
        return f"phase {phase}" in self.marks()

    def await_stopped(self):
        """Until the shim has stopped it; False if the run ends instead."""
        while self.child.poll() is None:
            state = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "T":
                return True
            time.sleep(0.001)
        return False

    def signal(self, number):
        if self.child.poll() is None:
            self.child.send_signal(number)

    def kill_after(self, delay_s):
        """SIGKILL after so long; True if the run was still there to be killed."""
        try:
            self.child.wait(delay_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
        return self.wait() == -signal.SIGKILL

    def wait(self, timeout_s=TIMEOUT_S):
        """The exit code; a run that does not end is a failure of the campaign."""
        try:
            code = self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"still running after {timeout_s} s\n{self.tail()}") from None
        self.seconds = time.monotonic() - self.began
        return code

    def tail(self):
        return self.stderr_file.read_text(errors="replace")[-3000:]

    def report(self):
        return self.stdout_file.read_text()


def phase_of(marks):
    phase, in_swap = "plan", False
    for mark in marks:
        if mark.startswith("phase "):
            name = mark.removeprefix("phase ")
            phase, in_swap = OF_LOG.get(name, name), name == "commit"
        elif in_swap and mark in OF_SWAP:
            phase = OF_SWAP[mark]
    return phase
