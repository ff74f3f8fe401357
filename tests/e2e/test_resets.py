"""A reset whose commit is struck: it is done once, or not at all, and is told which."""

import json

import pytest
from articles import article
from faults.process import Process, build_shim

from jobs import BIN

# SQLite commits by deleting its journal. Fault, exit code, phase, whether the reset is in the table:
ANSWERS = {
    "answer lost": ("commit unlink -journal 1 lost", 0, "answer awaited", True),
    "killed before the effect": ("commit unlink -journal 1 kill-before", -9, "commit sent", False),
    "killed after the effect": ("commit unlink -journal 1 kill-after", -9, "answer awaited", True),
    "refused by the disk": ("commit write catalog.db 1 eio", 75, "commit sent", False),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_reset_whose_commit_is_struck_is_done_once_or_not_at_all(make_job, tmp_path, what):
    rule, code, phase, done = ANSWERS[what]
    job = make_job()
    job.init()
    job.topic.send([article(f"a{i}", i) for i in range(5)] + [b"broken"])
    job.go(readers=["pyiceberg"])
    place = tmp_path / "reset"
    place.mkdir()
    command = ("reset", "--to", "earliest", "--execute")
    reset = Process(BIN, job, place, build_shim(tmp_path), rule, command=command)
    assert reset.wait() == code, reset.tail()
    assert reset.hit() == phase, reset.marks()
    made = [s for s in job.warehouse.history(job.table) if s.summary["tidegate.kind"] == "reset"]
    assert len(made) == done, made
    if code == 0:
        assert json.loads(reset.report())["snapshot_id"] == made[0].snapshot_id
    # Whatever became of it, the next run goes on from what is in the table.
    job.verify(readers=["pyiceberg"])
    if done:
        assert job.run(outcome="committed")["records"]["read"] == 6
    else:
        job.nothing_new()
    job.verify(readers=["pyiceberg"])
    job.call("verify")
