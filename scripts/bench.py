"""Measures tidegate on the reference workload; called by scripts/bench with the Python environment."""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path

import duckdb
from workload import Workload

SCRIPTS = Path(__file__).resolve().parent
CACHE = Path(os.environ["TIDEGATE_CACHE"])
BIN = os.environ["TIDEGATE_BIN"]
TOPIC = "articles"
RECORDS = 5_000_000
INCREMENT = 100_000
INCREMENTS = 3
EMPTY_RUNS = 5

# `late = "merge"`: what must be in the table then does not depend on where batches are cut, and the
# peers that this is compared with keep late rows too.
JOB = """\
name = "bench"

[kafka]
topic = "{topic}"
"bootstrap.servers" = "{bootstrap}"

[format]
type = "json"

[catalog]
type = "sql"
uri = "sqlite://{directory}/catalog.db"
warehouse = "file://{directory}/warehouse"

[table]
name = "bench.articles"
columns = [
  {{ name = "id", type = "string", required = true }},
  {{ name = "title", type = "string" }},
  {{ name = "source", type = "string" }},
  {{ name = "url", type = "string" }},
  {{ name = "content", type = "string" }},
  {{ name = "published_at", type = "timestamptz" }},
  {{ name = "version", type = "long" }},
]

[merge]
id = ["id"]
event_time = "published_at"
order_by = ["version"]

[watermark]
late = "merge"
"""


def measure(name, directory, arguments, records=0):
    """Runs the binary once. CPU and memory are the kernel's own account of the process."""
    out = directory / "rusage.json"
    command = [sys.executable, "-S", SCRIPTS / "rusage.py", out, BIN, *arguments]
    stdout = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    account = json.loads(out.read_text())
    if code := account.pop("code"):
        sys.exit(f"{name}: exit {code}\n{stdout}")
    wall = account["wall_s"]
    rate = round(records / wall) if records else None
    print(f"{name}: {wall:.2f} s", file=sys.stderr)
    return {"run": name, "records": records} | account | {"records_per_s": rate}, json.loads(stdout)


def median_of(rows):
    """The row of medians, each taken by itself."""
    names = [name for name, value in rows[0].items() if isinstance(value, (int, float))]
    return rows[0] | {name: statistics.median(row[name] for row in rows) for name in names}


def table_holds(directory):
    with closing(sqlite3.connect(directory / "catalog.db")) as catalog:
        query = "SELECT metadata_location FROM iceberg_tables WHERE table_name = 'articles'"
        (location,) = catalog.execute(query).fetchone()
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        for name in ("avro", "iceberg"):
            package = Path(import_module(f"duckdb_extension_{name}").__path__[0])
            connection.execute(f"LOAD '{next(package.rglob('*.duckdb_extension'))}'")
        location = location.removeprefix("file:").replace("///", "/", 1)
        query = f"SELECT count(*), sum(version), count(DISTINCT id) FROM iceberg_scan('{location}')"
        rows, versions, ids = connection.sql(query).fetchone()
    return {"rows": rows, "versions": int(versions), "ids": ids}


def check(name, directory, workload):
    found, truth = table_holds(directory), workload.truth()
    if found != truth:
        sys.exit(f"{name}: the table holds {found}, the truth is {truth}")


def bench(directory, records, increment):
    up = subprocess.run(
        [SCRIPTS / "kafka", "up", directory / "kafka"], check=True, stdout=subprocess.PIPE, text=True
    )
    bootstrap = up.stdout.strip().removeprefix("bootstrap.servers=")
    (directory / "warehouse").mkdir()
    job = directory / "job.toml"
    job.write_text(JOB.format(topic=TOPIC, bootstrap=bootstrap, directory=directory))

    began = time.monotonic()
    workload = Workload(bootstrap, TOPIC, records)
    workload.w1(records)
    print(f"W1 of {records} records produced in {time.monotonic() - began:.0f} s", file=sys.stderr)

    results = [measure("init", directory, ["init", job, "--output", "json"])[0]]
    run = ["run", job, "--output", "json"]
    row, report = measure("W1, from empty", directory, [*run, "--drain"], records)
    check("W1", directory, workload)
    results.append(row | {"batches": len(report["batches"])})

    rows = []
    for _ in range(INCREMENTS):
        workload.w2(increment)
        rows.append(measure("W2, one increment", directory, run, increment)[0])
        check("W2", directory, workload)
    results.append(median_of(rows) | {"each": rows})

    rows = [measure("nothing new", directory, run)[0] for _ in range(EMPTY_RUNS)]
    check("nothing new", directory, workload)
    results.append(median_of(rows) | {"each": rows})
    return {"results": results, "truth": workload.truth()}


def markdown(results):
    lines = [
        "| run | n | records | wall s | CPU s | peak RSS MiB | records/s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results:
        rate = f"{row['records_per_s']:,.0f}" if row["records_per_s"] else "-"
        lines.append(
            f"| {row['run']} | {len(row.get('each', [row]))} | {row['records'] or '-'} | {row['wall_s']:.2f} "
            f"| {row['cpu_s']:.2f} | {row['peak_rss_mib']:.0f} | {rate} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, help=f"size of W1 (default {RECORDS})")
    parser.add_argument("--quick", action="store_true", help="a small workload, to see that it works")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the figures go")
    parser.add_argument("--keep", action="store_true", help="leave topic and table behind")
    options = parser.parse_args()
    records = options.records or (200_000 if options.quick else RECORDS)
    increment = INCREMENT if not options.quick else INCREMENT // 10

    (CACHE / "bench").mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=CACHE / "bench"))
    try:
        report = bench(directory, records, increment)
    finally:
        subprocess.run([SCRIPTS / "kafka", "down", directory / "kafka"], check=False)
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    version = subprocess.run([BIN, "--version"], capture_output=True, text=True).stdout.strip()
    report |= {"version": version, "machine": platform.platform(), "cores": os.cpu_count()}
    report |= {"load_after": os.getloadavg(), "seed": 1}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(markdown(report["results"]))


main()
