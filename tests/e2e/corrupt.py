"""Damage done to a table behind its catalog's back, one thing at a time."""

import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path


def local(location):
    return Path("/" + location.removeprefix("file:").lstrip("/"))


def edit_metadata(warehouse, name, change):
    """Puts a changed copy of the table's metadata in its place, as an editor would."""
    current = Path(warehouse.metadata_location(name))
    metadata = json.loads(current.read_text())
    change(metadata)
    version = int(current.name.split("-")[0]) + 1
    edited = current.with_name(f"{version:05}-{uuid.uuid4()}.metadata.json")
    edited.write_text(json.dumps(metadata))
    namespace, _, table = name.rpartition(".")
    query = (
        "UPDATE iceberg_tables SET metadata_location = ? "
        "WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?"
    )
    with closing(sqlite3.connect(warehouse.database)) as connection:
        connection.execute(query, (f"file://{edited}", warehouse.catalog, namespace, table))
        connection.commit()


def ours(metadata, job="articles"):
    """Snapshots of the job, oldest first, as they stand in the metadata."""
    snapshots = [s for s in metadata["snapshots"] if s["summary"].get("tidegate.job") == job]
    return sorted(snapshots, key=lambda s: s["sequence-number"])


def edit_summary(warehouse, name, at, change):
    """Changes the summary of one of the job's snapshots, by its place among them."""
    edit_metadata(warehouse, name, lambda metadata: change(ours(metadata)[at]["summary"]))


def pass_off_as_the_last_batch(warehouse, name):
    """Makes the head, written by another engine, look as if the job's last batch had written it."""

    def change(metadata):
        head = next(s for s in metadata["snapshots"] if s["snapshot-id"] == metadata["current-snapshot-id"])
        last = ours(metadata)[-1]
        assert head["parent-snapshot-id"] == last["snapshot-id"], "the head follows the last batch"
        head["summary"] |= {k: v for k, v in last["summary"].items() if k.startswith("tidegate.")}
        head["parent-snapshot-id"] = last["parent-snapshot-id"]
        metadata["snapshots"].remove(last)
        metadata["snapshot-log"] = [
            entry for entry in metadata["snapshot-log"] if entry["snapshot-id"] != last["snapshot-id"]
        ]

    edit_metadata(warehouse, name, change)
