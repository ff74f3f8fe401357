"""The binary as an ordinary user, on a system where nothing but the warehouse can be written."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from articles import Feed
from readers import Warehouse

from jobs import BIN, Job

# Whom the image runs as.
USER = 65532

# Every mount is made read-only, for the process alone; the folder, where one is given, is a mount of its own.
CONFINE = """
set -eu
mount --make-rprivate /
if [ "$1" != - ]; then mount --bind "$1" "$1"; fi
cut -d ' ' -f 2 /proc/self/mounts | sort -u | while read -r at; do
  case "$at" in "$1" | /proc/* | /sys/*) ;; *) mount -o remount,bind,ro "$at" || [ "$at" != / ] ;; esac
done
shift
cd /
exec "$@"
"""


@pytest.fixture
def place():
    """A folder that any user can reach, which those of the test runner may not be."""
    place = Path(tempfile.mkdtemp(prefix="confined-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def confine(job, writable):
    """The job's commands run confined from now on."""
    folder = job.warehouse.directory
    privileged = os.geteuid() == 0
    binary = shutil.copy(BIN, folder.parent / "tidegate")
    os.chmod(binary, 0o755)
    alone = ["unshare", "--mount"] if privileged else ["unshare", "--user", "--map-root-user", "--mount"]
    ordinary = []
    if privileged:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
        ordinary = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]

    def start(command, *arguments):
        confined = [*alone, "sh", "-c", CONFINE, "confine", folder if writable else "-"]
        return subprocess.Popen(
            [*confined, *ordinary, binary, command, job.path, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        )

    job.start = start


def entries(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_ordinary_user_needs_nothing_but_the_warehouse(place, broker):
    folder = place / "data"
    folder.mkdir()
    job = Job(Warehouse(folder, None), broker.topic(2))
    feed = Feed(job.topic)
    confine(job, writable=True)
    job.init()
    for _ in range(2):
        feed.send(300)
        job.topic.send([b"broken"])
        job.run("--drain", outcome="committed")
        job.verify(readers=["pyiceberg"])
    before = entries(folder)
    for command in ("check", "plan", "status", "verify", "clean"):
        job.call(command)
    job.call("reset", "--to", "earliest")
    assert entries(folder) == before, "these commands leave no trace"
    job.call("reset", "--to", "earliest", "--execute")
    job.run("--drain", outcome="committed")
    job.verify(readers=["pyiceberg"])

    # Now not even that can be written: `check` says so before a run has to.
    confine(job, writable=False)
    feed.send(10)
    before = entries(folder)
    checked = job.call("check", "--output", "json", code=77).report
    wrong = {test["name"]: test["error"]["message"] for test in checked["tests"] if test["error"]}
    assert set(wrong) == {"table", "rejects"}, wrong
    assert "not allowed to write" in wrong["table"], wrong
    assert job.run(code=77)["batches"] == []
    assert entries(folder) == before
