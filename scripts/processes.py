"""Processes that outlive the script that started them, known by a file, and stopped by their pid alone."""

import os
import signal
import socket
import time
from pathlib import Path

STOP_TIMEOUT_S = 60

CACHE = Path(
    os.environ.get("TIDEGATE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
)


def start_time(pid):
    """Field 22 of /proc/PID/stat; None for a process that is gone or only waits to be reaped."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] == "Z" else after_name[19]


def remember(pid_file, pid):
    pid_file.write_text(f"{pid} {start_time(pid)}")


def running(pid_file):
    """The running process, if it is still the one that we started: pids are used again."""
    try:
        pid, started = pid_file.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == started else None


def send(pid_file, how):
    if pid := running(pid_file):
        os.kill(pid, how)


def wait_until_gone(pid_file):
    """Kills what takes too long to end."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while running(pid_file):
        if time.monotonic() > deadline:
            send(pid_file, signal.SIGKILL)
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def stop(pid_file, how=signal.SIGTERM):
    send(pid_file, how)
    wait_until_gone(pid_file)


def free_ports(count):
    # All are held open until the last one is known, or the kernel may hand out one twice.
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
