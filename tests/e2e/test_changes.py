"""What changes between two runs by somebody's hand, and must be noticed before anything is committed."""

import re

import pytest
from articles import article
from cluster import change
from corrupt import local


def refused(job, *parts, code, commands=("run", "check", "plan")):
    """Each command says so, and the tables stay as they are; answers what the run says."""
    rejects = f"{job.table}_rejects"
    tables = [job.table] + ([rejects] if job.warehouse.exists(rejects) else [])
    before = [job.warehouse.metadata_location(table) for table in tables]
    for command in reversed(commands):
        report = job.call(command, "--output", "json", code=code).report
        tests = [test["error"] for test in report["tests"]] if command == "check" else [report["error"]]
        (error,) = [error for error in tests if error]
        for part in parts:
            assert part in error["message"] + " ".join(error.get("causes") or []), (command, error)
    assert [job.warehouse.metadata_location(table) for table in tables] == before
    return error


def started(make_job, **options):
    job = make_job(**options)
    job.init()
    job.topic.send([article("a", 1), article("b", 2), b"broken"])
    job.go(readers=["pyiceberg"])
    return job


# --- the id


def test_another_id_is_refused_until_a_reset_takes_it(make_job):
    job = started(make_job)
    change(job, "merge", id=["id", "version"])
    error = refused(job, "`merge.id` is `id`, `version`", "were merged by `id`", code=78)
    # Read again by the new id, both versions of an article stay.
    job.topic.send([article("a", 3, 2)])
    refused(job, "`merge.id`", code=78)
    commands = re.findall(r"`tidegate reset JOB ([^`]+)`", error["hint"])
    assert [command.split()[:2] for command in commands] == [["--to", "earliest"], ["--to", "0:3,1:0"]], error
    job.call("reset", *commands[0].split())
    assert job.run(outcome="committed")["records"]["read"] == 4
    table = job.warehouse.table(job.table).scan(selected_fields=("id", "version")).to_arrow().to_pylist()
    assert sorted((row["id"], row["version"]) for row in table) == [("a", 1), ("a", 2), ("b", 1)]
    job.nothing_new()
    change(job, "merge", id=["id"])
    refused(job, "were merged by `id`, `version`", code=78)


def test_the_same_id_in_another_order_or_under_another_name_is_the_same(make_job):
    job = started(make_job)
    change(job, "merge", id=["id", "version"])
    job.call("reset", "--to", "earliest", "--execute")
    job.run(outcome="committed")
    change(job, "merge", id=["version", "id"])
    job.nothing_new()
    table = f"{job.warehouse.catalog}.{job.table}"
    job.warehouse.sql(f"ALTER TABLE {table} RENAME COLUMN version TO edition")
    job.path.write_text(job.path.read_text().replace('"version"', '"edition"'))
    job.nothing_new()


# --- the rejects table


def set_properties(table, properties):
    with table.transaction() as transaction:
        transaction.set_properties(properties)


def test_a_rejects_property_edited_by_hand_is_found_before_the_commit(make_job):
    job = started(make_job)
    rejects, key = f"{job.table}_rejects", "tidegate.rejects.articles"
    right = job.warehouse.table(rejects).metadata.properties[key]
    set_properties(job.warehouse.table(rejects), {key: right[:-5]})
    job.topic.send([article("c", 3), b"broken"])
    refused(job, f"property `{key}` of table `{rejects}` cannot be read", code=65, commands=("run", "check"))
    set_properties(job.warehouse.table(rejects), {key: right})
    job.go(readers=["pyiceberg"])


# --- files


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("which", ["data_files", "delete_files"])
def test_a_file_without_a_byte_is_damaged_and_not_out_of_reach(make_job, version, which):
    job = started(make_job, sections={"table": {"format_version": version}})
    job.topic.send([article("a", 3, 2)])
    job.go(readers=["pyiceberg"])
    files = job.warehouse.sql(f"SELECT file_path FROM {job.warehouse.catalog}.{job.table}.{which}")
    contents = {local(file["file_path"]): local(file["file_path"]).read_bytes() for file in files}
    for path in contents:
        path.write_bytes(b"")
    job.topic.send([article("a", 4, 3)])
    error = refused(job, code=78, commands=("run",))
    assert any(path.name in error["message"] for path in contents), error
    assert "restore" in error["hint"]
    for path, content in contents.items():
        path.write_bytes(content)
    job.go(readers=["pyiceberg"])
