"""A wall clock that is stepped while a run is under way."""

import struct
import time

from articles import article
from faults.process import Process, build_shim

from jobs import BIN

DAY_S = 86_400
# Longer than any of these runs takes, much shorter than the step.
HELD_S = 120


def test_a_clock_stepped_back_does_not_hold_a_run(make_job, tmp_path):
    """librdkafka's waits end at a moment of the wall clock, which a step back puts off by a day."""
    shim = build_shim(tmp_path)
    job = make_job()
    job.init()
    clock = tmp_path / "clock"
    # A wait of librdkafka is under way in most of a plan, not in all of it.
    for number in range(16):
        job.topic.send([article(f"a{number}-{i}", number) for i in range(20)])
        clock.write_bytes(struct.pack("=q", 0))
        place = tmp_path / f"run-{number}"
        place.mkdir()
        run = Process(BIN, job, place, shim, env={"FAULT_CLOCK": str(clock)})
        assert run.await_phase("plan"), run.tail()
        time.sleep(number % 8 * 0.0015)
        with clock.open("r+b") as file:
            file.write(struct.pack("=q", -DAY_S))
        assert run.wait(HELD_S) == 0, run.tail()
    job.verify()
