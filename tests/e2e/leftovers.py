"""Which files of a table's folders something names, and which nothing does, found without the binary."""

import os
import re
import time
from contextlib import closing
from pathlib import Path

from corrupt import local
from pyiceberg.serializers import FromInputFile

DAY_S = 86_400

# What runs of a job write says so in its name; metadata files by the version of the UUID in it.
OWN = re.compile(r"(snap-\d+-)?tidegate-|\d{5,}-[0-9a-f]{8}-[0-9a-f]{4}-8")


def files_below(directory):
    return {path for path in directory.rglob("*") if path.is_file()}


def named(table):
    """Every file that a table names: also in logs of metadata files that its own log no longer reaches."""
    metadata, io = table.metadata, table.io
    found = {table.metadata_location}
    log = metadata.metadata_log
    while log:
        oldest = log[0].metadata_file
        found |= {entry.metadata_file for entry in log}
        log = FromInputFile.table_metadata(io.new_input(oldest)).metadata_log
    manifests = {}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(io)}
    for path, manifest in manifests.items():
        found.add(path)
        found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io)}
    return {local(location) for location in found}


def in_use(job):
    """What the job's table and its rejects table name."""
    found = set()
    with closing(job.warehouse.pyiceberg()) as catalog:
        for name in (job.table, f"{job.table}_rejects"):
            if catalog.table_exists(name):
                found |= named(catalog.load_table(name))
    return found


def stored(job):
    return files_below(Path(job.warehouse.uri.removeprefix("file://")))


def orphans(job):
    """Files of the job's tables' folders that nothing names."""
    return stored(job) - in_use(job)


def own(paths):
    """Those that a run of tidegate wrote."""
    return {path for path in paths if OWN.match(path.name)}


def age(paths, days=4):
    for path in paths:
        os.utime(path, (time.time() - days * DAY_S,) * 2)
