"""Reads whole tables, in turn, and prints what was in them and how long each reading took.

python -P read_tables.py SETTINGS     SETTINGS is JSON: see `reads.py`
"""

import importlib
import json
import sys
import time
from pathlib import Path

# Every column is read, and nothing large comes back.
QUERY = """
    SELECT count(*), sum(version), sum(length(id) + length(title) + length(source) + length(url)
        + length(content)), CAST(max(published_at) AS STRING) FROM {table}
"""


def duckdb_query(_):
    duckdb = importlib.import_module("duckdb")
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for name in ("avro", "iceberg"):
        package = Path(importlib.import_module(f"duckdb_extension_{name}").__path__[0])
        connection.execute(f"LOAD '{next(package.rglob('*.duckdb_extension'))}'")

    def query(table):
        return connection.sql(QUERY.format(table=f"iceberg_scan('{table['metadata']}')")).fetchone()

    return query


def spark_query(settings):
    session = importlib.import_module("pyspark.sql").SparkSession
    builder = session.builder.master("local[*]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    return lambda table: spark.sql(QUERY.format(table=table["name"])).first()


def main(text):
    settings = json.loads(text)
    query = {"duckdb": duckdb_query, "spark": spark_query}[settings["reader"]](settings["spark"])
    found = {name: {"seconds": []} for name in settings["tables"]}
    # The first rounds warm caches and code, for both alike.
    for turn in range(settings["warm_up"] + settings["repeats"]):
        for name, table in settings["tables"].items():
            began = time.monotonic()
            rows, versions, *_ = query(table)
            took = time.monotonic() - began
            found[name] |= {"rows": rows, "versions": int(versions)}
            if turn >= settings["warm_up"]:
                found[name]["seconds"].append(round(took, 3))
    print(json.dumps(found))


main(sys.argv[1])
