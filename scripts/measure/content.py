"""What a table holds, as DuckDB sees it, and the comparison with the truth."""

import sqlite3
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import duckdb

# Read to the last column: a table without its texts would be cheap to make.
HOLDS = """
    SELECT count(*) AS rows, count(DISTINCT id) AS ids, sum(version)::BIGINT AS versions,
        sum(epoch_ms(published_at))::HUGEINT AS published_ms,
        sum(strlen(content))::BIGINT AS content_bytes
    FROM iceberg_scan('{location}')
"""


def connection():
    it = duckdb.connect(config={"autoinstall_known_extensions": False})
    for name in ("avro", "iceberg"):
        package = Path(import_module(f"duckdb_extension_{name}").__path__[0])
        it.execute(f"LOAD '{next(package.rglob('*.duckdb_extension'))}'")
    it.execute("SET TimeZone = 'UTC'")
    return it


def local(path):
    return path.removeprefix("file:").replace("///", "/", 1)


def location(database, table):
    """The current metadata file of the table, read past all catalog clients."""
    with closing(sqlite3.connect(database)) as catalog:
        query = "SELECT metadata_location FROM iceberg_tables WHERE table_name = ?"
        (found,) = catalog.execute(query, (table,)).fetchone()
    return local(found)


def holds(metadata):
    with connection() as duck:
        found = duck.sql(HOLDS.format(location=metadata)).fetchone()
    names = ("rows", "ids", "versions", "published_ms", "content_bytes")
    return dict(zip(names, (int(value or 0) for value in found), strict=True))


def check(name, metadata, truth):
    """Ends the call where the table is not what it has to be."""
    found = holds(metadata)
    if found != truth:
        wrong = [
            f"{key} {found[key]:,} instead of {truth[key]:,}" for key in truth if found[key] != truth[key]
        ]
        sys.exit(f"{name}: the table is wrong: {'; '.join(wrong)}")


def files(metadata):
    """How many files the table's last snapshot has, and their bytes on disk."""
    with connection() as duck:
        query = (
            "SELECT DISTINCT file_path, manifest_content FROM iceberg_metadata(?) WHERE status <> 'DELETED'"
        )
        found = duck.execute(query, [metadata]).fetchall()
    sizes = [(kind, Path(local(path)).stat().st_size) for path, kind in found]
    data = [size for kind, size in sizes if kind == "DATA"]
    deletes = [size for kind, size in sizes if kind != "DATA"]
    return {
        "data_files": len(data),
        "data_bytes": sum(data),
        "delete_files": len(deletes),
        "delete_bytes": sum(deletes),
    }
