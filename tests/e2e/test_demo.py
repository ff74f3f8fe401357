"""What the demo prints at its end opens the table that it made."""

import json
import re
import subprocess
import sys

from readers import duckdb_connection

from jobs import BIN


def test_the_lines_that_the_demo_prints_open_its_table(tmp_path):
    demo = [BIN, "demo", "--dir", tmp_path / "demo"]
    told = subprocess.run(demo, check=True, capture_output=True, text=True, timeout=300).stdout
    rows = int(re.search(r"table equals the truth\D+([\d,]+) rows", told)[1].replace(",", ""))
    (scan,) = re.findall(r"duckdb -c \".*(iceberg_scan\('[^']+'\))\"", told)
    assert duckdb_connection().sql(f"SELECT count(DISTINCT id), count(*) FROM {scan}").fetchall() == [
        (rows, rows)
    ]
    (line,) = re.findall(r"python (-c \".*\")", told)
    shown = subprocess.run(
        f"{sys.executable} {line}", check=True, shell=True, capture_output=True, text=True, timeout=300
    )
    assert len(shown.stdout.splitlines()) == 10 and "'title'" in shown.stdout, shown
    status = subprocess.run(
        [BIN, "status", tmp_path / "demo" / "articles.toml", "--output", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    (offsets,) = json.loads(status.stdout)["offsets"].values()
    # The offsets of its snapshots are in the story.
    assert all(f" {offset} " in told for offset in offsets.values()), told
