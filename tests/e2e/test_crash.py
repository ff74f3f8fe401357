"""Runs that are killed, and runs that meet each other."""

import random
import signal

import pytest
from articles import Feed, article

from jobs import ARTICLES, finish

PHASES = ["pull", "match", "write", "commit", "rejects", "done"]
RECORDS = 1500


def feed_with_rejects(job):
    """An increment that makes every phase do something: rows, deletes and rejects."""
    feed = Feed(job.topic, minutes_per_record=0.02)

    def more():
        feed.send(RECORDS)
        job.topic.send([b"broken"] * 3)

    return more


@pytest.mark.parametrize("version", [2, 3])
def test_killed_in_any_phase(make_job, version):
    job = make_job(sections={"table": {"format_version": version, "partition_by": ["bucket(2, id)"]}})
    more = feed_with_rejects(job)
    job.init()
    more()
    job.go(readers=["pyiceberg"])
    for phase in PHASES:
        for delay_s in (0.0, 0.004):
            more()
            job.run_until_killed(phase, delay_s)
            job.run()
            job.verify(readers=["pyiceberg"])
    job.verify()


@pytest.mark.parametrize("version", [2, 3])
def test_killed_while_it_writes_before_the_end_of_its_range(make_job, version):
    # The smallest memory and large records: files are written before all records have been read.
    columns = dict(ARTICLES, content="string")
    job = make_job(
        columns=columns,
        sections={"table": {"format_version": version}, "limits": {"memory_limit": "64 MiB"}},
    )
    job.init()
    job.topic.send([article(f"a{i}", 0, content="first") for i in range(100)])
    job.go(readers=["pyiceberg"])
    for delay_s in (0.0, 0.02):
        # The signal may come too late on a machine that does much else; not each time.
        for _ in range(10):
            for i in range(5000):
                job.topic.produce(article(f"a{i % 4000}", 1, i, content=f"{i:05d} " * 1300))
            job.topic.flush()
            killed = job.run_until_killed("flush", delay_s)
            if killed.code == -signal.SIGKILL:
                break
        assert killed.code == -signal.SIGKILL, killed
        job.run("--drain", outcome="committed")
    job.verify()


def test_killed_at_random_times(make_job):
    job = make_job()
    more = feed_with_rejects(job)
    job.init()
    chance = random.Random(7)
    for _ in range(12):
        more()
        # Killed again and again, the first run too, until one of them gets through.
        for _ in range(3):
            job.run_until_killed(None, chance.uniform(0.0, 0.4))
        job.run()
        job.verify(readers=["pyiceberg"])
    job.verify()


def test_two_runs_at_once_have_the_effect_of_one(make_job):
    job = make_job()
    more = feed_with_rejects(job)
    job.init()
    for _ in range(10):
        more()
        rivals = [job.start("run", "--output", "json") for _ in range(2)]
        runs = [finish(rival) for rival in rivals]
        assert [run.code for run in runs] == [0, 0], "\n".join(map(str, runs))
        outcomes = sorted(run.report["outcome"] for run in runs)
        assert "committed" in outcomes, outcomes
        assert outcomes[1] in ("nothing_new", "overtaken"), outcomes
        job.verify(readers=["pyiceberg"])
    job.nothing_new()
    job.verify()


def test_sigterm_commits_what_was_read(make_job):
    job = make_job(rules={"order_by": ()}, sections={"kafka": {"fetch.message.max.bytes": 65536}})
    for i in range(150_000):
        job.topic.produce(article(f"a{i % 60_000}", i * 0.0001), partition=i % 2)
    job.topic.flush()
    job.init()
    partial = False
    # So many that one comes in the middle, however slowly the first record comes.
    for attempt in range(60):
        run = job.run_until_killed("pull", attempt * 0.03, signal.SIGTERM)
        report = run.report
        assert run.code == report["exit_code"], run
        if report["batches"]:
            assert run.code == 0 and report["outcome"] in ("committed", "interrupted"), run
            partial = partial or report["remaining"] > 0
        elif run.code == 0:
            assert report["outcome"] == "nothing_new", run
        else:
            assert run.code == 143 and report["outcome"] == "failed", run
        job.follow()
        if (partial and attempt > 10) or (run.code == 0 and not report["remaining"]):
            break
    assert partial, "no run was interrupted in the middle of its range"
    job.run("--drain")
    job.verify()
