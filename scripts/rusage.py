"""Runs a command and writes its exit code, wall time and the kernel's account of it as JSON to a file.

    python3 rusage.py FILE COMMAND...

CPU seconds are those of the command and of all that it started, a JVM that outlives its parent included;
peak memory is that of the largest of these processes. SIGTERM is passed on to the command.

A program of its own because Linux counts the memory of whoever forked into the peak of the child: the
parent has to be small for the figure to be the child's.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36

# Else what outlives its parent would become init's child, and its account init's as well.
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
    sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
# What ran before under this pid may have had children, too.
before = resource.getrusage(resource.RUSAGE_CHILDREN)
began = time.monotonic()
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
code = wall = None
while True:
    try:
        ended, status = os.waitpid(-1, 0)
    except ChildProcessError:
        break
    if ended == pid:
        code, wall = os.waitstatus_to_exitcode(status), time.monotonic() - began
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
account = {
    "code": code,
    "wall_s": round(wall, 3),
    "cpu_s": round(usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime, 3),
    "peak_rss_mib": round(usage.ru_maxrss / 1024, 1),
}
with open(sys.argv[1], "w") as out:
    json.dump(account, out)
