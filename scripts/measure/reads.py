"""What readers pay for the increments: the tables of tidegate and of Spark's merge-on-read, read whole."""

import json
import statistics
import sys
from pathlib import Path

from measure import spark
from measure.account import say
from measure.rig import produce
from measure.works import INCREMENTS, W2

READER = Path(__file__).resolve().parent / "read_tables.py"
AFTER = 20
# Spark goes on getting faster for some rounds; single reads differ by a third.
WARM_UP, REPEATS = 3, 21


def reads(works):
    """Rows by reader and table, after as many increments of the same records went into both."""
    rig, size = works.rig, works.options.increment
    tidegate, peer = works.tables["tidegate"], works.tables["spark"]
    more = AFTER - INCREMENTS
    for _ in range(more):
        produce(W2, works.workload.w2, size)
        tidegate.run(W2, size)
    # Each of its batches is a commit, as if Spark had been started for each.
    peer.run(f"{more} increments", more * size, limit=size)
    truth = works.workload.truth()
    for table in (tidegate, peer):
        works.checked(table, f"after {AFTER} increments", truth)
    directory = rig.fresh("readers")
    settings = spark.settings(directory)
    tables = {}
    for table, catalog in ((tidegate, "tidegate"), (peer, "lake")):
        settings |= spark.catalog(catalog, table.database, table.directory)
        tables[table.tool] = {"metadata": table.metadata(), "name": f"{catalog}.bench.articles"}
    rows = []
    for reader in ("duckdb", "spark"):
        asked = {
            "reader": reader,
            "tables": tables,
            "spark": settings,
            "warm_up": WARM_UP,
            "repeats": REPEATS,
        }
        command = [sys.executable, "-P", READER, json.dumps(asked)]
        _, printed = rig.run(reader, "reads", command, 0, spark.environment())
        for name, found in json.loads(printed.splitlines()[-1]).items():
            if (found["rows"], found["versions"]) != (truth["rows"], truth["versions"]):
                sys.exit(f"{reader} reads {found} from the table of {name}; the truth is {truth}")
            rows.append(row(name, reader, found["seconds"]))
    return rows


def row(tool, reader, seconds):
    work = f"read by {reader} after {AFTER} increments"
    middle = round(statistics.median(seconds), 3)
    say(f"{tool}'s table, {work}: {middle} s")
    return {"tool": tool, "work": work, "records": 0, "n": len(seconds), "wall_s": middle, "each": seconds}
