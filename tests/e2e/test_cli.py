"""What schedulers rely on: exit codes, one JSON document, commands that only look."""

import json

from articles import Feed, article


def test_commands_that_look_change_nothing(make_job):
    job = make_job()
    job.call("check", code=78)
    job.init()
    before = job.warehouse.metadata_location(job.table)
    job.topic.send([article("a", 1), article("b", 2)])
    for command in ("check", "plan", "status"):
        run = job.call(command, "--output", "json")
        assert isinstance(json.loads(run.stdout), dict), run
    assert job.warehouse.metadata_location(job.table) == before
    job.go()
    job.call("status")


def test_status_tells_of_rejects_that_a_killed_run_left_open(make_job):
    job = make_job()
    job.init()
    job.topic.send([article("a", 1), b"broken", b"too"])
    job.run_that_dies("rejects * * 1 kill-before")
    assert job.call("status", "--output", "json").report["rejects_open"] == 2
    assert "open        2 rejects to append; the next run does it" in job.call("status").stdout
    job.run(outcome="nothing_new")
    assert job.call("status", "--output", "json").report["rejects_open"] == 0
    job.verify()


def test_reports_land_in_files(make_job, tmp_path):
    job = make_job()
    job.init()
    job.topic.send([article("a", 1), b"broken"])
    result, metrics = tmp_path / "out" / "result.json", tmp_path / "metrics.prom"
    result.parent.mkdir()
    report = job.run("--result-file", result, "--metrics-file", metrics)
    assert json.loads(result.read_text()) == report
    samples = [line for line in metrics.read_text().splitlines() if line and not line.startswith("#")]
    assert samples and all(line.startswith("tidegate_") for line in samples)
    # Written also when there was nothing to do, so that "last success" goes on.
    metrics.unlink()
    job.run("--metrics-file", metrics, outcome="nothing_new")
    assert metrics.read_text()
    job.verify()


def test_the_report_names_batches_as_the_table_does(make_job):
    job = make_job(sections={"limits": {"max_offsets_per_trigger": 20}})
    Feed(job.topic).send(50)
    job.init()
    report = job.run("--drain")
    snapshots = job.warehouse.history(job.table)
    assert [b["snapshot_id"] for b in report["batches"]] == [s.snapshot_id for s in snapshots]
    for batch, snapshot in zip(report["batches"], snapshots, strict=True):
        summary = snapshot.summary.additional_properties
        assert batch["batch_id"] == summary["tidegate.batch-id"]
        assert batch["operation"] == snapshot.summary.operation.value
        assert batch["offsets"]["end"] == json.loads(summary["tidegate.offsets.end"])
        assert report["run_id"] == summary["tidegate.run-id"]
    job.verify()


def test_empty_exit_code_is_for_nothing_new_only(make_job):
    job = make_job()
    job.init()
    job.topic.send([article("a", 1)])
    job.run("--empty-exit-code", "99", code=0, outcome="committed")
    job.run("--empty-exit-code", "99", code=99, outcome="nothing_new")


def test_what_does_not_exist_is_78(make_job):
    job = make_job()
    report = job.run(code=78, outcome="failed")
    assert report["error"]["message"] and report["error"]["hint"], "no table yet: the hint names init"
    job.init()
    missing = make_job(job.topic, name="missing", sections={"kafka": {"topic": "no-such-topic"}})
    missing.run(code=78, outcome="failed")
    typo = make_job(job.topic, name="typo", sections={"kafka": {"on_dataloss": "fail"}})
    assert "on_data_loss" in typo.call("run", code=78).stderr


def test_a_broker_out_of_reach_is_75(make_job):
    job = make_job()
    job.init()
    away = make_job(
        job.topic,
        name="away",
        sections={"kafka": {"bootstrap.servers": "127.0.0.1:1"}, "limits": {"stall_timeout": "3 s"}},
    )
    away.run(code=75, outcome="failed")


def test_a_wrong_command_line_is_2(make_job):
    make_job().call("run", "--no-such-option", code=2)
