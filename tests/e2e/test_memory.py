"""`limits.memory_limit` as a promise: whole runs under a hard limit of the operating system."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from articles import article
from cluster import READERS
from readers import Warehouse, duckdb_connection
from workload import Workload

from jobs import BIN, job_file

TOPIC = "memory"
RECORDS = 1_000_000
RUN_TIMEOUT_S = 480
MIB = 1 << 20
COLUMNS = {
    "id": "string",
    "title": "string",
    "source": "string",
    "url": "string",
    "content": "string",
    "published_at": "timestamptz",
    "version": "long",
}
# Workers and threads for files of the runtime, pull and decode, and librdkafka's.
THREADS_MAX = 2 * os.cpu_count() + 24
CONTROL_GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="module")
def truth(broker):
    """Some five times the smaller limit, on the broker's topic; what the table must hold then."""
    workload = Workload(broker.bootstrap, TOPIC, RECORDS)
    workload.w1(RECORDS)
    return workload.truth()


@contextmanager
def control_group(limit):
    """A control group of this many bytes, by either version of cgroups(7); None where none can be made."""
    first, second = CONTROL_GROUPS / "memory", CONTROL_GROUPS
    if (first / "memory.limit_in_bytes").exists():
        parent, name = first, "memory.limit_in_bytes"
    else:
        parent, name = second, "memory.max"
    group = parent / f"tidegate-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(limit))
    except OSError:
        if group.exists():
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


def own_bytes(pid):
    """Memory that no file backs: what the kernel could not take back."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)


def kill_above(process, limit):
    """What a control group does, from outside: for machines on which none can be made."""
    while process.poll() is None:
        if own_bytes(process.pid) > limit:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)


def watch_threads(process, counts):
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            counts.append(len(os.listdir(f"/proc/{process.pid}/task")))
        time.sleep(0.01)


def run_within(limit, *command, threads=None):
    """`threads` takes counts of the process's threads, over time."""
    with control_group(limit) as group:
        enter = (lambda: (group / "cgroup.procs").write_text(str(os.getpid()))) if group else None
        process = subprocess.Popen(
            command, preexec_fn=enter, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if not group:
            threading.Thread(target=kill_above, args=(process, limit), daemon=True).start()
        if threads is not None:
            threading.Thread(target=watch_threads, args=(process, threads), daemon=True).start()
        stdout, stderr = process.communicate(timeout=RUN_TIMEOUT_S)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("limit", [128, 256])
def test_a_run_stays_within_its_memory_limit(tmp_path, broker, truth, limit):
    warehouse = Warehouse(tmp_path, None)
    path = tmp_path / "job.toml"
    columns = [{"name": n, "type": t} | ({"required": True} if n == "id" else {}) for n, t in COLUMNS.items()]
    tree = {
        "name": "memory",
        "kafka": {"topic": TOPIC, "bootstrap.servers": broker.bootstrap},
        "format": {"type": "json"},
        "catalog": warehouse.section(),
        "table": {"name": "demo.events", "columns": columns},
        "merge": {"id": ["id"], "event_time": "published_at", "order_by": ["version"]},
        "watermark": {"late": "merge"},
        "limits": {"memory_limit": f"{limit} MiB"},
    }
    path.write_text(job_file(tree))
    subprocess.run([BIN, "init", path], check=True, stdout=subprocess.DEVNULL)
    threads = []
    code, _, stderr = run_within(
        limit * MIB, BIN, "run", path, "--drain", "--output", "json", threads=threads
    )
    assert code == 0, f"exit {code}\n{stderr[-4000:]}"
    # Each keeps a stack and a share of the allocator; however many files there are.
    assert 1 < max(threads) <= THREADS_MAX, max(threads)
    scan = f"iceberg_scan('{warehouse.metadata_location('demo.events')}')"
    query = f"SELECT count(*), sum(version)::BIGINT, count(DISTINCT id) FROM {scan}"
    assert duckdb_connection().sql(query).fetchone() == (truth["rows"], truth["versions"], truth["ids"])


def test_the_limit_is_a_hard_one():
    program = "held = b'x' * (64 << 20); import time; time.sleep(5)"
    code, _, _ = run_within(32 * MIB, sys.executable, "-c", program)
    assert code == -signal.SIGKILL, "or the test above shows nothing"


def test_a_run_that_is_refused_threads_ends_and_says_so(make_job):
    """Thread stacks are address space; librdkafka and tokio wait for ever where they are refused one."""
    job = make_job()
    job.topic.send([article("a", 1)])
    job.init()
    told, allowed = set(), 40
    while allowed < 140:
        limits = partial(resource.setrlimit, resource.RLIMIT_AS, (allowed * MIB, allowed * MIB))
        run = subprocess.run(
            [BIN, "run", job.path], preexec_fn=limits, capture_output=True, text=True, timeout=240
        )
        # What ends otherwise was refused memory itself, and says what memory it asked for.
        assert run.returncode in (0, 75, -signal.SIGABRT, -signal.SIGSEGV, 127), run.stderr
        told |= set(re.findall("could not start the threads of .*", run.stderr))
        if run.returncode == 75:
            assert "hint" in run.stderr, run.stderr
        # Few MiB lie between what is enough to begin and what is enough for the program's own threads.
        allowed += 4 if "could not start the threads of the program" in told else 1
    assert "could not start the threads of the program" in told
    subprocess.run([BIN, "run", job.path], check=True, stdout=subprocess.DEVNULL)
    job.verify(READERS)
