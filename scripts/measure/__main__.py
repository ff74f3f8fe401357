"""Called by scripts/bench with the Python environment; see there."""

import json
import os
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
# Before DuckDB and the others ask: every reader and the truth speak UTC.
os.environ["TZ"] = "UTC"
time.tzset()
sys.path[0] = str(SCRIPTS)

from measure import account, goals, plot, rig, table  # noqa: E402
from measure.options import parse  # noqa: E402
from measure.reads import reads  # noqa: E402
from measure.recent import recent  # noqa: E402
from measure.scale import scale  # noqa: E402
from measure.works import Works  # noqa: E402


def main():
    options = parse()
    binary = Path(os.environ["TIDEGATE_BIN"])
    if not binary.is_file():
        sys.exit(f"no binary at {binary}: build it, or set TIDEGATE_BIN")
    began = time.monotonic()
    report = {
        "made": rig.today(),
        "commit": rig.commit(),
        "machine": rig.machine(),
        "versions": rig.versions(options),
        "workload": {name: getattr(options, name) for name in ("records", "increment", "codec", "quick")},
    }
    bench = rig.Rig(options.codec)
    try:
        with bench:
            bench.start()
            report["results"] = measure(bench, options)
    finally:
        if options.keep:
            account.say(f"kept: {bench.directory}")
        else:
            bench.delete()
    table.compare(report["results"])
    report["ratios"] = table.ratios(report["results"])
    report["goals"] = goals.goals(report)
    report["took_s"] = round(time.monotonic() - began)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    options.out.with_suffix(".svg").write_text(plot.svg(report))
    print(table.markdown(report), *goals.lines(report["goals"]), sep="\n")


def measure(bench, options):
    works = Works(bench, options)
    works.from_empty()
    if options.append:
        works.append()
    if options.memory:
        works.under_limit(options.memory)
    works.increments()
    works.nothing_new()
    if options.reads:
        works.rows += reads(works)
    if options.recent:
        works.rows += recent(bench, options)
    if options.scale:
        works.rows += scale(bench, options)
    return works.rows


if __name__ == "__main__":
    main()
