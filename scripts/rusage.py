"""Runs a command and writes its exit code, wall time and the kernel's account of it as JSON to a file.

    python3 rusage.py FILE COMMAND...

A program of its own because Linux counts the memory of whoever forked into the peak of the child: the
parent has to be small for the figure to be the child's.
"""

import json
import os
import sys
import time

began = time.monotonic()
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
account = {
    "code": os.waitstatus_to_exitcode(status),
    "wall_s": round(time.monotonic() - began, 3),
    "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
    "peak_rss_mib": round(usage.ru_maxrss / 1024, 1),
}
with open(sys.argv[1], "w") as out:
    json.dump(account, out)
