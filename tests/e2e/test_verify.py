"""`tidegate verify` passes on tables that had a life, and fails at the right line if one thing is wrong."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from articles import Feed, article
from corrupt import edit_metadata, edit_summary, local, ours, pass_off_as_the_last_batch

from jobs import ARTICLES

NAMES = ["ranges", "accounts", "watermark", "files", "unique", "rejects", "last_batch"]
BUCKETS = {"partition_by": ["bucket(2, id)"]}


def verify(job, code=0):
    """The answer's guarantees by name."""
    run = job.call("verify", "--output", "json", code=code)
    assert run.report["exit_code"] == code
    guarantees = {guarantee["name"]: guarantee for guarantee in run.report["guarantees"]}
    assert all((g["findings_total"] > 0) == (g["result"] in ("fail", "warn")) for g in guarantees.values()), (
        run
    )
    return guarantees


def results(guarantees, result):
    return {name for name, guarantee in guarantees.items() if guarantee["result"] == result}


def passes(job, skipped=()):
    guarantees = verify(job)
    assert list(guarantees) == NAMES
    assert results(guarantees, "skip") == set(skipped), guarantees
    assert results(guarantees, "pass") == set(NAMES) - set(skipped), guarantees
    return guarantees


def call(job, procedure):
    return job.warehouse.sql(f"CALL {job.warehouse.catalog}.system.{procedure}")


def spark_sql(job, statement, table=None):
    name = f"{job.warehouse.catalog}.{table or job.table}"
    return job.warehouse.spark.sql(statement.format(table=name))


def grown(make_job, version=2, batches=3, **sections):
    """A job after some batches with inserts, updates, duplicates, stale versions and rejects."""
    job = make_job(sections={"table": {"format_version": version} | BUCKETS} | sections)
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    for _ in range(batches):
        feed.send(60)
        job.topic.send([b"broken", article("late", -600)])
        job.run(outcome="committed")
    return job, feed


@pytest.mark.parametrize("version", [2, 3])
def test_a_table_that_had_a_life_passes(make_job, version):
    job = make_job(sections={"table": {"format_version": version} | BUCKETS}, rules={"tombstones": "delete"})
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    assert results(verify(job), "skip") == {"ranges", "accounts", "watermark", "last_batch"}

    def batch():
        feed.send(60)
        job.topic.send([b"broken", article("late", -600)])
        now = int(datetime(2025, 3, 1, 1, tzinfo=UTC).timestamp() * 1000)
        for id in ("a1", "none"):
            job.topic.produce(None, id, feed.partition(id), timestamp_ms=now)
        job.topic.flush()
        job.run(outcome="committed")

    for _ in range(3):
        batch()
        passes(job)
    rewrite = f"rewrite_data_files(table => '{job.table}', options => map('rewrite-all', 'true'))"
    call(job, rewrite)
    passes(job)
    batch()
    passes(job)
    spark_sql(
        job,
        "MERGE INTO {table} t USING (SELECT explode(array('a3', 'a4', 'spark')) AS id) s ON t.id = s.id "
        "WHEN MATCHED AND s.id = 'a3' THEN DELETE WHEN MATCHED THEN UPDATE SET title = 'by spark' "
        "WHEN NOT MATCHED THEN INSERT (id, title, published_at, version) "
        "VALUES (s.id, 'by spark', TIMESTAMP '2025-03-01 00:10:00', 1)",
    )
    passes(job)
    batch()
    passes(job)
    call(job, f"rollback_to_snapshot('{job.table}', {job.warehouse.history(job.table)[-3].snapshot_id})")
    assert "wait for the next run" in passes(job)["rejects"]["found"]
    batch()
    passes(job)
    spark_sql(job, "ALTER TABLE {table} ADD COLUMN more BIGINT")
    passes(job)
    spark_sql(job, "ALTER TABLE {table} DROP COLUMN more")
    # Expiry by another engine: first with our head kept, then with nothing of ours left.
    expire = (
        f"expire_snapshots(table => '{job.table}', retain_last => 1, older_than => TIMESTAMP '2999-01-01')"
    )
    call(job, expire)
    guarantees = passes(job)
    assert "expired" in guarantees["accounts"]["found"] and "expired" in guarantees["last_batch"]["found"]
    call(job, rewrite)
    call(job, expire)
    passes(job, skipped=["ranges", "accounts", "watermark", "last_batch"])
    batch()
    passes(job)


def test_first_batch_after_spark_and_nothing_to_read(make_job):
    job = make_job()
    job.init()
    job.run(outcome="committed")
    passes(job)
    job.topic.send([article("a", 0)])
    job.run(outcome="committed")
    passes(job)


def drop_file(job, delete=False, column="file_path"):
    table = "delete_files" if delete else "data_files"
    (first, *_) = job.warehouse.sql(f"SELECT {column} FROM {job.warehouse.catalog}.{job.table}.{table}")
    path = local(first[column])
    path.unlink()
    return {"file": first[column]}


def truncate_file(job):
    (first, *_) = job.warehouse.sql(f"SELECT file_path FROM {job.warehouse.catalog}.{job.table}.data_files")
    path = local(first["file_path"])
    path.write_bytes(path.read_bytes()[:-10])
    return {"file": first["file_path"]}


def drop_manifest(job):
    snapshot = job.warehouse.history(job.table)[0]
    table = job.warehouse.table(job.table)
    manifest = snapshot.manifests(table.io)[0].manifest_path
    local(manifest).unlink()
    return {"file": manifest}


def drop_manifest_list(job):
    snapshot = job.warehouse.history(job.table)[0]
    local(snapshot.manifest_list).unlink()
    return {"file": snapshot.manifest_list, "snapshot_id": snapshot.snapshot_id}


def garble_data(job):
    """The same size, another content."""
    (first, *_) = job.warehouse.sql(f"SELECT file_path FROM {job.warehouse.catalog}.{job.table}.data_files")
    path = local(first["file_path"])
    content = bytearray(path.read_bytes())
    content[4:-8] = bytes(len(content) - 12)
    path.write_bytes(content)


def move_offsets(side, by):
    def change(job):
        def edit(summary):
            key = f"tidegate.offsets.{side}"
            offsets = json.loads(summary[key])
            offsets[job.topic.name]["0"] += by
            summary[key] = json.dumps(offsets)

        edit_summary(job.warehouse, job.table, 1, edit)
        return {"partition": 0}

    return change


def edit_offsets(edit, at=1):
    """Changes the partitions' starts and ends of one batch."""

    def change(job):
        def edited(summary):
            sides = [f"tidegate.offsets.{side}" for side in ("start", "end")]
            start, end = (json.loads(summary[side]) for side in sides)
            edit(start[job.topic.name], end[job.topic.name])
            summary |= {side: json.dumps(offsets) for side, offsets in zip(sides, (start, end), strict=True)}

        edit_summary(job.warehouse, job.table, at, edited)
        return {"partition": 1}

    return change


def go_back(start, end):
    start["1"], end["1"] = end["1"], start["1"]


def forget(start, end):
    del start["1"], end["1"]


def set_summary(at=1, **entries):
    def change(job):
        def edit(summary):
            summary |= {
                "tidegate." + key.replace("_", "."): value.replace("TOPIC", job.topic.name)
                for key, value in entries.items()
            }

        edit_summary(job.warehouse, job.table, at, edit)

    return change


def rename_topic(job):
    def edit(summary):
        for key in [key for key in summary if key.startswith("tidegate.")]:
            summary[key] = summary[key].replace(f'"{job.topic.name}"', '"another"')

    edit_summary(job.warehouse, job.table, 1, edit)


def pad_manifest(job):
    """Its content is the same, and somebody wrote behind it."""
    table = job.warehouse.table(job.table)
    manifest = job.warehouse.history(job.table)[0].manifests(table.io)[0].manifest_path
    with local(manifest).open("ab") as file:
        file.write(b"x")
    return {"file": manifest}


def claim_rejects(job):
    """A batch says that it made one more than it counted."""

    def edit(summary):
        pending = json.loads(summary["tidegate.rejects"])
        pending["files"][0]["records"] += 1
        summary["tidegate.rejects"] = json.dumps(pending)

    edit_summary(job.warehouse, job.table, 1, edit)


def drop_rejects(job):
    job.warehouse.sql(f"DROP TABLE {job.warehouse.catalog}.{job.table}_rejects")


def add_to(at=1, **counts):
    def change(job):
        def edit(summary):
            for name, by in counts.items():
                key = f"tidegate.records.{name}"
                assert int(summary[key]) + by >= 0
                summary[key] = str(int(summary[key]) + by)

        edit_summary(job.warehouse, job.table, at, edit)

    return change


def move_watermark_back(job):
    def edit(summary):
        moved = datetime.fromisoformat(summary["tidegate.watermark"]) - timedelta(hours=1)
        summary["tidegate.watermark"] = moved.isoformat().replace("+00:00", "Z")

    edit_summary(job.warehouse, job.table, 1, edit)


def move_watermark_on(job):
    def edit(summary):
        moved = datetime.fromisoformat(summary["tidegate.watermark"]) + timedelta(seconds=1)
        summary["tidegate.watermark"] = moved.isoformat().replace("+00:00", "Z")

    edit_summary(job.warehouse, job.table, -1, edit)


def damage_summary(job):
    edit_summary(job.warehouse, job.table, 1, lambda summary: summary.pop("tidegate.offsets.end"))


def lose_a_batch(job):
    """Takes one snapshot of ours out of the chain."""

    def change(metadata):
        first, second, third = ours(metadata)
        third["parent-snapshot-id"] = first["snapshot-id"]
        metadata["snapshots"].remove(second)
        metadata["snapshot-log"] = [
            e for e in metadata["snapshot-log"] if e["snapshot-id"] != second["snapshot-id"]
        ]

    edit_metadata(job.warehouse, job.table, change)


def insert_twice(job):
    spark_sql(job, "INSERT INTO {table} SELECT * FROM {table} WHERE id = 'a1'")
    return {"id": "a1"}


def forge(statement):
    def change(job):
        spark_sql(job, statement)
        pass_off_as_the_last_batch(job.warehouse, job.table)
        return {"id": "z"}

    return change


def rejects_sql(statement):
    def change(job):
        spark_sql(job, statement, table=f"{job.table}_rejects")

    return change


WRONG = {
    "gap": (move_offsets("start", 1), {"ranges", "accounts"}),
    "overlap": (move_offsets("start", -1), {"ranges"}),
    "end moved": (move_offsets("end", 1), {"ranges"}),
    "range goes back": (edit_offsets(go_back), {"ranges", "accounts"}),
    "partition forgotten": (edit_offsets(forget, at=2), {"ranges", "accounts"}),
    "start without an end": (
        edit_offsets(lambda start, end: end.pop("1"), at=2),
        {"ranges", "accounts"},
    ),
    "end without a start": (
        edit_offsets(lambda start, end: start.pop("1"), at=2),
        {"ranges", "accounts"},
    ),
    "given up beside the range": (
        set_summary(offsets_skipped='{"TOPIC": {"1": [900, 950]}}'),
        {"ranges", "accounts"},
    ),
    "batch counted twice": (set_summary(batch="1"), {"ranges", "rejects"}),
    "another topic": (rename_topic, {"ranges"}),
    "reset to an epoch before": (set_summary(kind="reset"), {"ranges"}),
    "more read than there is": (add_to(read=10_000, duplicate=10_000), {"accounts"}),
    "batch lost": (lose_a_batch, {"ranges", "accounts", "rejects", "last_batch"}),
    "summary damaged": (damage_summary, {"ranges"}),
    "outcomes do not add up": (add_to(inserted=1), {"accounts"}),
    "rows do not move so": (add_to(inserted=1, duplicate=-1), {"accounts"}),
    "outcome wrong, sum right": (add_to(duplicate=1, stale=-1, at=-1), {"last_batch"}),
    "watermark back": (move_watermark_back, {"watermark"}),
    "watermark from nowhere": (move_watermark_on, {"last_batch"}),
    "data file gone": (drop_file, {"files"}),
    "delete file gone": (lambda job: drop_file(job, delete=True), {"files"}),
    "data file cut": (truncate_file, {"files"}),
    "data file garbled": (garble_data, {"unique", "last_batch"}),
    "manifest gone": (drop_manifest, {"files"}),
    "manifest longer": (pad_manifest, {"files"}),
    "manifest list gone": (drop_manifest_list, {"files"}),
    "id twice": (insert_twice, {"unique"}),
    "reject lost": (rejects_sql("DELETE FROM {table} WHERE batch = 2 AND reason = 'late'"), {"rejects"}),
    "reject twice": (
        rejects_sql("INSERT INTO {table} SELECT * FROM {table} WHERE batch = 2 AND reason = 'late'"),
        {"rejects"},
    ),
    "more rejects named than counted": (claim_rejects, {"rejects"}),
    "rejects table gone": (drop_rejects, {"rejects", "last_batch"}),
    "reject of no batch": (
        rejects_sql(
            "INSERT INTO {table} SELECT topic, partition, 9999L AS offset, timestamp, key, value, "
            "headers, reason, detail, job, epoch, 9L AS batch FROM {table} LIMIT 1"
        ),
        {"rejects"},
    ),
    "reject with another reason": (
        rejects_sql("UPDATE {table} SET reason = 'future' WHERE batch = 3 AND reason = 'late'"),
        {"last_batch"},
    ),
    "row of the last batch lost": (forge("DELETE FROM {table} WHERE id = 'z'"), {"accounts", "last_batch"}),
    "row of the last batch changed": (forge("UPDATE {table} SET title = 'x' WHERE id = 'z'"), {"last_batch"}),
    "row of the last batch older": (forge("UPDATE {table} SET version = 0 WHERE id = 'z'"), {"last_batch"}),
}


# Where one thing makes a guarantee fail in more than one way: the way that is meant.
SAYS = {
    "range goes back": "the range goes back",
    "end without a start": "has an end but no start",
    "summary damaged": "`tidegate.offsets.end` is missing",
    "outcomes do not add up": "have an outcome",
    "manifest longer": "were recorded",
    "reject twice": "2 rows hold this record",
    "reject with another reason": "is not in the rejects table with that reason",
    "more rejects named than counted": "rejects are named, of",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("version", [2, 3])
def test_one_thing_wrong_fails_its_guarantee(make_job, wrong, version):
    change, expected = WRONG[wrong]
    job, feed = grown(make_job, version, batches=2)
    feed.send(60)
    job.topic.send([b"broken", article("late", -600), article("z", feed.minute)])
    job.run(outcome="committed")
    passes(job)
    place = change(job) or {}
    guarantees = verify(job, code=65)
    assert results(guarantees, "fail") == expected, guarantees
    for name in expected:
        guarantee = guarantees[name]
        assert guarantee["hint"] and guarantee["findings"], guarantee
    findings = [finding for name in expected for finding in guarantees[name]["findings"]]
    assert any(place.items() <= finding.items() for finding in findings), (place, findings)
    assert any(SAYS.get(wrong, "") in finding["what"] for finding in findings), findings
    # The text for people names every line, too.
    text = job.call("verify", code=65).stdout
    assert {line.split()[1] for line in text.splitlines() if line.startswith("FAIL")} == expected
    assert text.count("hint: ") == len(expected)


def test_what_retention_took_is_skipped_with_the_reason(make_job, broker):
    topic = broker.topic(partitions=1)
    job = make_job(topic)
    job.init()
    topic.send([article(f"a{i}", i) for i in range(5)])
    job.run(outcome="committed")
    passes(job)
    broker.delete_records(topic.name, {0: 3})
    skipped = passes(job, skipped=["last_batch"])["last_batch"]
    assert "retention took offsets 0 to 3 of partition 0" in skipped["found"]


def test_a_broker_out_of_reach_leaves_the_other_guarantees_judged(make_job):
    job, _ = grown(make_job, batches=1)
    text = job.path.read_text()
    job.path.write_text(text.replace(job.topic.broker.bootstrap, "127.0.0.1:1"))
    guarantees = verify(job, code=75)
    assert results(guarantees, "skip") == {"last_batch"} and guarantees["last_batch"]["error"]
    assert results(guarantees, "pass") == set(NAMES) - {"last_batch"}


APPEND = {
    "rules": {
        "append": True,
        "metadata": {"kafka_partition": "partition", "kafka_offset": "offset"},
    },
    "columns": ARTICLES | {"kafka_partition": "int", "kafka_offset": "long"},
    "sections": {"verify": {"unique": ["id"]}},
}


def test_append_warns_of_what_was_sent_twice_and_fails_on_what_was_loaded_twice(make_job):
    job = make_job(**APPEND)
    job.init()
    job.topic.send([article("a", 0), article("b", 1)])
    job.run(outcome="committed")
    names = [*NAMES[:5], "loaded_once", *NAMES[5:]]
    guarantees = verify(job)
    assert list(guarantees) == names and results(guarantees, "pass") == set(names), guarantees
    job.topic.send([article("a", 0)])
    job.run(outcome="committed")
    guarantees = verify(job)
    assert results(guarantees, "warn") == {"unique"}, guarantees
    assert guarantees["unique"]["findings"][0]["id"] == "a"
    spark_sql(job, "INSERT INTO {table} SELECT * FROM {table} WHERE id = 'b'")
    guarantees = verify(job, code=65)
    assert results(guarantees, "fail") == {"loaded_once"}, guarantees
    assert guarantees["loaded_once"]["findings"][0]["id"] == "0, 1"


def test_an_appended_batch_is_compared_row_by_row(make_job):
    job = make_job(**APPEND)
    job.init()
    job.topic.send([article("a", 0)])
    job.run(outcome="committed")
    job.topic.send([article("b", 1), article("c", 2)])
    job.run(outcome="committed")
    spark_sql(job, "DELETE FROM {table} WHERE id = 'c'")
    passing = verify(job)
    assert results(passing, "fail") == set(), passing
    pass_off_as_the_last_batch(job.warehouse, job.table)
    guarantees = verify(job, code=65)
    assert results(guarantees, "fail") == {"accounts", "last_batch"}, guarantees
    records = {(f.get("partition"), f.get("offset")) for f in guarantees["last_batch"]["findings"]}
    assert (0, 2) in records, guarantees


def test_memory_is_bounded_by_the_job_file(make_job):
    """Ids that do not fit at once are looked at in several passes, with the same answer."""
    job = make_job(sections={"limits": {"memory_limit": "64 MiB"}})
    job.init()
    job.topic.send([article(f"a{i}", 0) for i in range(3000)])
    job.run("--drain", outcome="committed")
    passes(job)


@pytest.mark.parametrize("version", [2, 3])
def test_a_table_that_is_merged_by_copying_passes(make_job, version):
    properties = {"write.merge.mode": "copy-on-write"}
    job = make_job(sections={"table": {"format_version": version, "properties": properties} | BUCKETS})
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    for _ in range(3):
        feed.send(60)
        job.run(outcome="committed")
        passes(job)
