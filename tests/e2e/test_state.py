"""What other engines and people do to the job's state in the table; and `tidegate reset`, the way out."""

import json
import re
from pathlib import Path

import pytest
from articles import article
from confluent_kafka import TopicPartition
from test_conflict import beside, run_beside
from test_kafka import remake
from test_spark import as_stored, call

from jobs import job_file

EVERYTHING = "retain_last => 1, older_than => TIMESTAMP '2999-01-01 00:00:00'"


def expire(job, table=None):
    """All snapshots but the head go, as a nightly maintenance job of Spark does it."""
    call(job, f"expire_snapshots(table => '{table or job.table}', {EVERYTHING})")


def spark_name(job):
    return f"{job.warehouse.catalog}.{job.table}"


def insert(job, id):
    """A row and a commit of another engine, of which the model is told."""
    job.follow()
    job.warehouse.spark.sql(
        f"INSERT INTO {spark_name(job)} (id, title, published_at, version) "
        f"VALUES ('{id}', 'by spark', TIMESTAMP '2025-03-01 00:00:00', 1)"
    )
    stored = as_stored(job, article(id, 0, 1, "by spark"))
    job.model.foreign(
        job.warehouse.table(job.table).metadata, lambda rows: rows.__setitem__(stored.id, stored)
    )


def properties(job):
    return job.warehouse.table(job.table).metadata.properties


def state_key(job, branch="main"):
    return f"tidegate.state.{job.name}.{branch}"


def set_property(job, key, value):
    table = job.warehouse.table(job.table)
    with table.transaction() as transaction:
        if value is None:
            transaction.remove_properties(key)
        else:
            transaction.set_properties({key: value})


def three_batches(make_job, **options):
    job = make_job(**options)
    job.init()
    for step in range(3):
        job.topic.send([article(f"a{i}", step, step + 1) for i in range(step * 2, 10)])
        job.topic.send([article(f"b{step}", step)], partition=1)
        job.go(readers=["pyiceberg"], rejects=False)
    return job


def refused(job, *message, command="run", code=65, arguments=()):
    """The command ends with this code and says so, twice in the same words, and leaves the table as it is."""
    before = job.warehouse.metadata_location(job.table)
    for _ in range(2):
        report = job.call(command, "--output", "json", *arguments, code=code).report
        assert report["exit_code"] == code
        error = report["error"]
        for part in message:
            assert part in error["message"], error
    assert job.warehouse.metadata_location(job.table) == before
    return error


def reset(job, *arguments, code=0):
    report = job.call("reset", *arguments, "--output", "json", code=code).report
    if code == 0:
        assert report["outcome"] == ("committed" if "--execute" in arguments else "dry_run"), report
    return report


def commands_of(error):
    """The arguments of each reset that an error's hint names."""
    found = re.findall(r"`tidegate reset JOB ([^`]+)`", error["hint"])
    assert found, error
    return [command.split() for command in found]


def take_the_way_out(job, error, which=0, forged=False):
    """What the hint says, word for word, works; and the job then goes on to what the model says.

    A snapshot that a test forged stays in the history, and `verify` finds it there.
    """
    report = reset(job, *commands_of(error)[which])
    job.verify(readers=["pyiceberg"])
    job.topic.send([article("after the reset", 500)])
    job.go("--drain")
    assert ("after the reset",) in {row[:1] for row in job.model.rows()}
    job.nothing_new()
    job.call("verify", code=65 if forged else 0)
    return report


# --- expiry, rollback, replacement


@pytest.mark.parametrize("foreign", [1, 4])
def test_our_last_snapshot_expired_after_foreign_commits(make_job, foreign):
    job = three_batches(make_job)
    for step in range(foreign):
        insert(job, f"spark {step}")
    expire(job)
    (snapshot,) = job.warehouse.table(job.table).metadata.snapshots
    assert "tidegate.job" not in snapshot.summary.additional_properties
    job.nothing_new()
    job.topic.send([article("new", 10), article("a1", 10, 9)])
    report = job.go()
    assert report["records"]["read"] == 2 and report["batches"][0]["batch"] == 4
    job.nothing_new()


def test_expired_after_each_foreign_commit(make_job):
    job = three_batches(make_job)
    for step in range(3):
        insert(job, f"spark {step}")
        expire(job)
    job.nothing_new()
    job.topic.send([article("new", 10)])
    assert job.go()["records"]["read"] == 1


@pytest.mark.parametrize("procedure", ["rollback_to_snapshot", "set_current_snapshot"])
def test_a_table_taken_back_is_read_again_from_there(make_job, procedure):
    job = three_batches(make_job)
    before = job.warehouse.history(job.table)[0].snapshot_id
    call(job, f"{procedure}('{job.table}', {before})")
    report = job.go()
    assert report["batches"][0]["batch"] == 2 and report["batches"][0]["epoch"] == 0
    job.nothing_new()


def rolled_back_then_expired(make_job, **options):
    job = three_batches(make_job, **options)
    first = job.warehouse.history(job.table)[0].snapshot_id
    call(job, f"rollback_to_snapshot('{job.table}', {first})")
    insert(job, "spark")
    expire(job)
    return job


@pytest.mark.parametrize("way_out", [0, 1])
def test_a_property_is_not_trusted_after_rollback_foreign_commit_and_expiry(make_job, way_out):
    job = rolled_back_then_expired(make_job)
    assert state_key(job) in properties(job), "it is there, and it would skip two batches"
    error = refused(
        job, "last snapshot of job `articles`", "nothing proves that today's rows descend from it"
    )
    refused(job, "nothing proves", command="plan")
    refused(job, "nothing proves", arguments=("--first-run",))
    report = take_the_way_out(job, error, way_out)
    assert report["epoch"] == 1 and report["batch"] == 3 and report["unknown_because"], report
    # The first of the two ways reads all again, the second goes on where the property stood.
    ids = {row[0] for row in job.model.rows()}
    assert ("b2" in ids) == (way_out == 0)


def test_rolled_back_to_before_the_first_batch(make_job):
    job = make_job()
    job.init()
    insert(job, "spark")
    before = job.warehouse.history(job.table)[0].snapshot_id
    job.topic.send([article("a", 1), b"broken"])
    job.go("--first-run")
    call(job, f"rollback_to_snapshot('{job.table}', {before})")
    error = refused(job, "was rolled back or replaced to before the first batch of job `articles`")
    # The reject of the batch that is no more goes with it, and comes again with the records.
    report = reset(job, *commands_of(error)[0])
    said = "1 rejects of batches that it does not hold"
    assert any(said in warning for warning in report["warnings"]), report
    job.verify()
    assert job.go()["records"]["rejected"] == 1
    job.nothing_new()


def test_a_table_replaced_in_place(make_job):
    job = three_batches(make_job)
    spark, table = job.warehouse.spark, spark_name(job)
    columns = "id STRING NOT NULL, title STRING, published_at TIMESTAMP NOT NULL, version BIGINT"
    spark.sql(f"CREATE OR REPLACE TABLE {table} ({columns}) USING iceberg")
    job.model.state.rows.clear()
    error = refused(job, "was rolled back or replaced to before the first batch")
    take_the_way_out(job, error)
    assert len(job.model.rows()) == 14


def test_a_table_dropped_and_made_again_is_another_table(make_job):
    job = three_batches(make_job)
    job.topic.send([b"broken"])
    job.go(readers=["pyiceberg"])
    job.warehouse.spark.sql(f"DROP TABLE {spark_name(job)}")
    job.init()
    job.model = type(job.model)(job.rules, job.topic)
    # The rejects of the table that is gone make room for those of the new one.
    report = job.go()
    assert report["batches"][0]["batch"] == 1 and report["records"]["rejected"] == 1
    job.call("verify")
    job.nothing_new()


def test_a_watermark_judges_only_the_column_that_it_was_made_from(make_job):
    columns = {"id": "string", "published_at": "timestamptz", "crawled_at": "timestamptz", "version": "long"}
    job = make_job(columns=columns)
    job.init()
    early = {"crawled_at": "2024-01-01T00:00:00Z"}
    job.topic.send([article(f"a{i}", i) | early for i in range(5)])
    job.go(readers=["pyiceberg"])
    # A column keeps its watermark under another name.
    job.warehouse.spark.sql(f"ALTER TABLE {spark_name(job)} RENAME COLUMN published_at TO written_at")
    job.columns = {"written_at" if name == "published_at" else name: kind for name, kind in columns.items()}
    job.rules.columns, job.rules.event_time = job.columns, "written_at"
    job.path.write_text(job_file(job.tree()))
    job.run(outcome="nothing_new")
    job.rules.event_time = "crawled_at"
    job.path.write_text(job_file(job.tree()))
    job.topic.send([{"id": "n", "written_at": "2025-03-01T00:00:00Z", "version": 1} | early])
    message = "made from `written_at`, and `merge.event_time` is `crawled_at` now"
    for command in ("plan", "run"):
        error = refused(job, message, command=command)
    (command,) = commands_of(error)
    reset(job, *command)
    report = job.run(outcome="committed")
    assert (report["records"]["read"], report["records"]["late"]) == (1, 0)
    job.nothing_new()


# --- branches and tags


def test_a_branch_has_its_own_state_and_a_tag_takes_none(make_job):
    job = three_batches(make_job)
    spark, table = job.warehouse.spark, spark_name(job)
    on_branch = job.path.with_name("branch.toml")
    job.path, main = on_branch, job.path
    for name, code, message in [
        ("nowhere", 78, "branch `nowhere` of table `demo.events` does not exist"),
        ("kept", 78, "`kept` is a tag of table `demo.events`, and `table.branch` must name a branch"),
    ]:
        if name == "kept":
            spark.sql(f"ALTER TABLE {table} CREATE TAG kept")
        job.sections = {"table": {"branch": name}}
        on_branch.write_text(job_file(job.tree()))
        refused(job, message, code=code)
        refused(job, message, code=code, command="plan")
        refused(job, message, code=code, command="reset", arguments=("--to", "latest", "--execute"))
    spark.sql(f"ALTER TABLE {table} CREATE BRANCH audit")
    job.sections = {"table": {"branch": "audit"}}
    on_branch.write_text(job_file(job.tree()))
    # It goes on where the branch left main.
    job.run(outcome="nothing_new")
    job.topic.send([article("on the branch", 20)])
    assert job.run(outcome="committed")["records"]["read"] == 1
    metadata = job.warehouse.table(job.table).metadata
    assert {state_key(job), state_key(job, "audit")} <= set(metadata.properties)
    reset(job, "--to", "0:0", "--execute")
    assert job.run(outcome="committed")["records"]["read"] == len(job.topic.log[0])
    # Main knows nothing of it, and goes its own way.
    job.path, job.sections = main, {}
    assert job.go()["records"]["read"] == 1
    job.nothing_new()
    found = job.warehouse.sql(f"SELECT id FROM {table}.branch_audit")
    assert {row["id"] for row in found} == {row[0] for row in job.model.rows()}


# --- states that are missing, foreign or damaged


def test_a_state_that_is_nowhere(make_job):
    job = three_batches(make_job)
    insert(job, "spark")
    expire(job)
    set_property(job, state_key(job), None)
    error = refused(job, "table `demo.events` has snapshots, but no state of job `articles`")
    report = take_the_way_out(job, error)
    assert "lost its oldest snapshots" in report["unknown_because"]


def test_rejects_are_not_lost_where_the_state_was(make_job):
    job = make_job()
    job.init()
    for step in range(3):
        job.topic.send([article(f"a{step}", step), b"broken"])
        job.go(readers=["pyiceberg"])
        reset(job, "--to", "latest", "--execute")
    job.topic.send([b"broken in epoch 3"])
    job.go(readers=["pyiceberg"])
    insert(job, "spark")
    expire(job)
    set_property(job, state_key(job), None)
    # Only the rejects table remembers the epochs. In one that is not above, new rejects would seem done.
    report = reset(job, "--to", "latest", "--execute")
    job.topic.send([b"broken again"], partition=1)
    assert report["epoch"] == 4 and job.go()["records"]["rejected"] == 1


def test_append_mode_doubles_nothing_unasked(make_job):
    job = make_job(rules={"append": True})
    job.topic.send([article(f"a{i}", i) for i in range(5)])
    job.init()
    job.go()
    insert_append(job)
    expire(job)
    set_property(job, state_key(job), None)
    refused(job, "has snapshots, but no state")
    to = ("--to", "earliest", "--execute")
    error = refused(job, "it is not known what the table holds", command="reset", arguments=to)
    assert "--allow-duplicates" in error["hint"]
    reset(job, "--to", "latest", "--execute")
    job.nothing_new()
    error = refused(job, "5 offsets would be read again", command="reset", arguments=to)
    reset(job, *to, "--allow-duplicates")
    assert job.go()["records"]["inserted"] == 5


def insert_append(job):
    job.warehouse.spark.sql(
        f"INSERT INTO {spark_name(job)} VALUES ('spark', 'by spark', TIMESTAMP '2025-03-01 00:00:00', 1)"
    )
    stored = as_stored(job, article("spark", 0, 1, "by spark"))
    job.follow()
    job.model.foreign(job.warehouse.table(job.table).metadata, lambda rows: rows.__setitem__("spark", stored))


def summary_of(job):
    snapshot = job.warehouse.table(job.table).metadata.current_snapshot()
    found = snapshot.summary.additional_properties
    return {key: value for key, value in found.items() if key.startswith("tidegate.")}


def commit_summary(job, **changes):
    """A commit without rows whose summary says what it likes; the model does not hear of it."""
    summary = summary_of(job) | {f"tidegate.{k.replace('_', '.', 1)}": v for k, v in changes.items()}
    table = job.warehouse.table(job.table)
    table.append(table.schema().as_arrow().empty_table(), snapshot_properties=summary)
    job.model.known[job.warehouse.table(job.table).metadata.current_snapshot_id] = job.model.state.copy()


def test_a_state_of_a_newer_version(make_job):
    job = three_batches(make_job)
    before = job.warehouse.table(job.table).metadata.current_snapshot_id
    commit_summary(job, version="2")
    message = "the state of job `articles` in the table has version `2`; this program reads version `1`"
    for command, arguments in [
        ("run", ()),
        ("plan", ()),
        ("status", ()),
        ("reset", ("--to", "latest", "--execute")),
    ]:
        refused(job, message, command=command, arguments=arguments)
    call(job, f"rollback_to_snapshot('{job.table}', {before})")
    job.topic.send([article("new", 10)])
    job.go()


def test_a_state_that_cannot_be_read(make_job):
    job = three_batches(make_job)
    commit_summary(job, **{"offsets_end": "{}"})
    error = refused(job, "the job's state in the table is damaged: `tidegate.offsets.end` is `{}`")
    take_the_way_out(job, error)


def test_a_property_edited_by_hand_does_no_harm_beside_its_snapshot(make_job):
    job = three_batches(make_job)
    for value in ["nonsense", None, properties(job)[state_key(job)].replace('"0":', '"7":')]:
        set_property(job, state_key(job), value)
        job.nothing_new()
        job.topic.send([article("next", 20)])
        assert job.go()["records"]["read"] == 1
        assert state_key(job) in properties(job), "and it is written anew"


def test_rejects_of_undone_batches_go_even_where_the_property_is_gone(make_job):
    job = make_job()
    job.init()
    for step in range(3):
        job.topic.send([article(f"a{step}", step), b"broken"])
        job.go(readers=["pyiceberg"])
    first = job.warehouse.history(job.table)[0].snapshot_id
    set_property(job, state_key(job), None)
    call(job, f"rollback_to_snapshot('{job.table}', {first})")
    # Nothing but the rejects table says that there were batches 2 and 3; their records come again.
    assert job.go()["records"]["rejected"] == 2
    job.nothing_new()


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda value: "nonsense", "table property `tidegate.state.articles.main` cannot be read"),
        (
            lambda value: json.dumps(json.loads(value) | {"summary": {}}),
            "the state property of job `articles` does not hold that job's state",
        ),
        (
            lambda value: json.dumps(json.loads(value) | {"table-uuid": "0"}),
            "the state property of job `articles` belongs to another table (uuid 0)",
        ),
    ],
)
def test_a_property_edited_by_hand_is_refused_where_it_is_all_there_is(make_job, edit, message):
    job = three_batches(make_job)
    insert(job, "spark")
    expire(job)
    set_property(job, state_key(job), edit(properties(job)[state_key(job)]))
    error = refused(job, message)
    take_the_way_out(job, error)


# --- rejects


def test_rejects_compacted_and_expired_stay_as_they_are(make_job):
    job = make_job()
    job.init()
    for step in range(3):
        job.topic.send([article(f"a{step}", step), b"broken", b"too"])
        job.go(readers=["pyiceberg"])
    rejects = f"{job.table}_rejects"
    call(job, f"rewrite_data_files(table => '{rejects}', options => map('rewrite-all', 'true'))")
    expire(job, rejects)
    assert len(job.warehouse.table(rejects).metadata.snapshots) == 1
    before = job.warehouse.metadata_location(rejects)
    for _ in range(3):
        job.nothing_new()
    assert job.warehouse.metadata_location(rejects) == before, "an idle run appends nothing"
    job.verify()
    job.topic.send([b"one more"])
    job.go()


def test_rejects_of_the_batch_before_a_reset_are_settled_by_it(make_job):
    job = make_job()
    job.init()
    job.topic.send([article("a", 1), b"broken", article("b", 1)])
    job.run_that_dies("rejects * * 1 kill-before")
    job.verify(readers=["pyiceberg"], rejects=False)
    report = reset(job, "--to", "earliest", "--execute")
    assert report["warnings"] == []
    job.verify()
    assert job.go()["records"]["rejected"] == 1
    job.nothing_new()


def test_rejects_that_nobody_has_any_more_are_given_up_aloud(make_job, broker):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article("a", 1), b"broken"])
    job.run_that_dies("rejects * * 1 kill-before")
    job.verify(rejects=False)
    (pending,) = json.loads(summary_of(job)["tidegate.rejects"])["files"]
    Path(pending["path"].removeprefix("file://")).unlink()
    delete_records(broker, job.topic, {0: 2})
    job.topic.send([article("b", 2), b"another"])
    error = refused(job, "partition 0 of `" + job.topic.name)
    report = reset(job, *commands_of(error)[0])
    assert any("never reached" in warning for warning in report["warnings"]), report
    job.follow()
    del job.model.state.rejects[job.topic.name, 0, 1, 0]
    job.model.foreign(job.warehouse.table(job.table).metadata, lambda rows: None)
    assert job.go()["records"]["rejected"] == 1


# --- a mistake undone


def test_a_bad_job_file_rolled_back_fixed_and_run_again(make_job):
    job = three_batches(make_job)
    good = job.path.read_text()
    before = job.warehouse.table(job.table).metadata.current_snapshot_id
    job.topic.send([article(f"a{i}", 30, 9) for i in range(4)] + [b"broken"])
    # A mistake that runs: the title is now a checksum.
    job.path.write_text(good + '\n[metadata]\ncolumns = { title = "sha256" }\n')
    assert job.run(outcome="committed")["records"]["updated"] == 4
    titles = {row["title"] for row in job.warehouse.table(job.table).scan().to_arrow().to_pylist()}
    assert any(len(title) == 64 for title in titles)
    call(job, f"rollback_to_snapshot('{job.table}', {before})")
    job.path.write_text(good)
    report = job.go()
    assert report["records"]["updated"] == 4 and report["batches"][0]["batch"] == 4
    job.nothing_new()


# --- Kafka is not what it was


def delete_records(broker, topic, before):
    """Retention has passed: all below these offsets is gone."""
    wanted = [TopicPartition(topic.name, partition, offset) for partition, offset in before.items()]
    for future in broker.admin.delete_records(wanted).values():
        future.result()
    topic.forget({(p, o) for p, o in topic.positions() if o < before.get(p, 0)})


def test_a_topic_made_again(make_job, broker):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article(f"a{i}", 1) for i in range(5)])
    job.go()
    for future in broker.admin.delete_topics([job.topic.name]).values():
        future.result()
    remake(broker, job.topic.name)
    job.topic.log = {0: {}}
    job.topic.send([article("a0", 2, 2), article("b", 2)])
    error = refused(job, f"topic `{job.topic.name}` was deleted and made again")
    report = take_the_way_out(job, error)
    assert "deleted and made again" in report["unknown_because"] and report["read_again"] is None
    assert len(job.model.rows()) == 7


def test_offsets_that_retention_took(make_job, broker):
    job = make_job(partitions=2)
    job.init()
    job.topic.send([article(f"a{i}", 1) for i in range(5)])
    job.go()
    job.topic.send([article(f"a{i}", 2, 2) for i in range(5)])
    job.topic.send([article("b", 2)], partition=1)
    delete_records(broker, job.topic, {0: 8})
    error = refused(
        job, f"offsets of `{job.topic.name}` are gone from Kafka before they were read: partition 0: 5 to 8"
    )
    report = take_the_way_out(job, error)
    assert [p["to"] for p in report["partitions"]] == [8, 0] and report["skipped"] == 3, report


def test_a_log_that_was_cut(make_job):
    job = make_job(partitions=1)
    job.init()
    job.topic.send([article(f"a{i}", 1) for i in range(5)])
    job.go()
    # As after an unclean election: the table has read more than the topic holds.
    commit_summary(job, **{"offsets_end": json.dumps({job.topic.name: {"0": 9}})})
    error = refused(
        job, "partition 0 of", "ends at offset 5, but the table has read up to 9: the log was cut"
    )
    report = take_the_way_out(job, error, forged=True)
    assert report["partitions"][0]["to"] == 5 and report["skipped"] == 0, report


# --- reset itself


def test_reset_to_a_time_and_with_a_watermark(make_job, broker):
    # Its records are years old, and retention must leave them.
    job = make_job(broker.topic(2, retention_ms=-1))
    hour = 3_600_000
    for i in range(10):
        job.topic.produce(article(f"a{i}", i), timestamp_ms=1_700_000_000_000 + i * hour)
    job.topic.produce(article("b", 5), partition=1, timestamp_ms=1_700_000_000_000)
    job.topic.flush()
    job.init()
    job.go()
    watermark = "2025-03-01T00:08:00Z"
    report = reset(job, "--to", "2023-11-15T02:13:20Z", "--watermark", watermark, "--execute")
    # 1,700,000,000 s is 22:13:20 of the day before; the time is that of the fourth record after it.
    assert [(p["from"], p["to"]) for p in report["partitions"]] == [(10, 4), (1, 1)], report
    assert report["read_again"] == 6 and report["skipped"] == 0
    report = job.go()
    assert report["records"] == report["records"] | {"read": 6, "late": 4, "updated": 2}
    report = reset(job, "--to", "2023-11-15")
    assert report["partitions"][0]["to"] == 2, "midnight UTC"
    job.nothing_new()


def with_two_unread(make_job):
    job = make_job()
    job.topic.send([article(f"a{i}", i) for i in range(5)])
    job.init()
    job.go()
    job.topic.send([article("a1", 10, 2), article("new", 10)])
    return job


def test_a_reset_while_a_run_is_under_way(make_job):
    job = with_two_unread(make_job)
    report = run_beside(job, lambda: reset(job, "--to", "0:3", "--execute"))
    assert report["outcome"] == "overtaken" and report["batches"] == [], report
    job.verify()
    assert job.go()["records"]["read"] == 4
    job.nothing_new()


def test_a_run_while_a_reset_is_under_way(make_job):
    job = with_two_unread(make_job)
    done = beside(job, lambda: job.run(outcome="committed"), "reset", "--to", "0:3", "--execute")
    # Judged again on what the run left: its two records are read once more.
    assert [p["from"] for p in done.report["partitions"]] == [7, 0] and done.report["batch"] == 2
    job.verify()
    assert job.go()["records"]["read"] == 4
    job.nothing_new()


def test_resets_count_epochs_and_roll_back_with_the_table(make_job):
    job = three_batches(make_job)
    for epoch in (1, 2):
        assert reset(job, "--to", "earliest", "--execute")["epoch"] == epoch
        job.verify(readers=["pyiceberg"])
    rows = job.model.rows()
    report = job.go()
    assert report["batches"][0] == report["batches"][0] | {"epoch": 2, "batch": 4}
    assert job.model.rows() == rows, "merging the same records again changes nothing"
    job.call("verify")
    snapshots = job.warehouse.history(job.table)
    call(job, f"rollback_to_snapshot('{job.table}', {snapshots[2].snapshot_id})")
    job.nothing_new()
    assert job.call("status", "--output", "json").report["last_batch"]["epoch"] == 0
