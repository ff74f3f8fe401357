"""The arguments of scripts/bench.

As a program it checks them and prints which jars they need, before anything is built or fetched.
"""

import argparse
from pathlib import Path

PEERS = ("spark", "spark-cow", "connect")
DESCRIPTION = """\
Measures tidegate, the bare read of the topic and its peers on the reference workload (scripts/workload.py),
in turn on one broker; compares what each table holds with the truth; prints one table and writes
it as JSON, and as a plot beside it.

W1 is the topic from its beginning into an empty table, W2 an increment with 20 % updates of ids all over the
table. Figures are medians of the runs that the column n counts.
"""


def parser():
    it = argparse.ArgumentParser(
        prog="scripts/bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    it.add_argument(
        "--quick", action="store_true", help="300,000 records, increments of 20,000: some minutes"
    )
    it.add_argument("--records", type=positive, help="size of W1 (5,000,000)")
    it.add_argument("--increment", type=positive, help="size of W2 (100,000)")
    it.add_argument("--repeats", type=positive, default=3, help="runs of tidegate and the bare read (3)")
    it.add_argument("--peer-repeats", type=positive, default=1, help="runs of W1 and append by each peer (1)")
    it.add_argument(
        "--peers",
        type=peers,
        default=("spark",),
        metavar="LIST",
        help="of spark, spark-cow, connect; or none",
    )
    it.add_argument("--append", action="store_true", help="append mode beside Kafka Connect's Iceberg sink")
    it.add_argument("--reads", action="store_true", help="read the tables after 20 increments: DuckDB, Spark")
    it.add_argument(
        "--recent",
        action="store_true",
        help="increments of recent ids onto a table of a fifth of W1's size, and of W1's size",
    )
    it.add_argument(
        "--memory",
        type=positive,
        nargs="?",
        const=128,
        metavar="MIB",
        help="W1 once more, with so little as its limits.memory_limit (128)",
    )
    it.add_argument(
        "--scale",
        type=positive,
        nargs="?",
        const=50_000_000,
        metavar="ROWS",
        help="W2 on a table of so many rows, too (50,000,000): fills it through Kafka, takes long",
    )
    it.add_argument(
        "--codec", choices=("zstd", "snappy"), default="zstd", help="of all tables; zstd at level 1"
    )
    it.add_argument(
        "--out", type=Path, default=Path("bench.json"), help="figures; the plot is FILE.svg beside"
    )
    it.add_argument("--keep", action="store_true", help="leave topic, tables and logs behind")
    return it


def positive(text):
    number = int(text.replace("_", "").replace(",", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("must be positive")
    return number


def peers(text):
    names = tuple(name for name in text.split(",") if name not in ("", "none"))
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names


def parse(arguments=None):
    it = parser()
    options = it.parse_args(arguments)
    options.records = options.records or (300_000 if options.quick else 5_000_000)
    options.increment = options.increment or (20_000 if options.quick else 100_000)
    options.append = options.append or "connect" in options.peers
    options.merging_peers = [name for name in options.peers if name != "connect"]
    if options.out.suffix == ".svg":
        it.error("--out names the JSON file; the plot stands beside it")
    if options.reads and "spark" not in options.peers:
        it.error("--reads compares with Spark's table: it needs the peer spark")
    return options


def jars(options):
    return ["spark-kafka"] * bool(options.merging_peers) + ["connect"] * options.append


if __name__ == "__main__":
    print(*jars(parse()))
