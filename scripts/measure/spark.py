"""Spark with Iceberg's runtime as one of the tools that are measured; each run is a Spark of its own."""

import json
import os
import sys
from pathlib import Path

from measure import content
from measure.rig import CACHE

HERE = Path(__file__).resolve().parent
MODES = {"spark": "merge-on-read", "spark-cow": "copy-on-write"}
# Of the two cores' 24 GiB machine that the first figures are from; W1 peaks at about 3 GiB in all.
DRIVER_MEMORY = "3g"
SHUFFLE_PARTITIONS = "8"


def jars():
    """Those that are needed here, of all that scripts/setup has fetched."""
    ours = ("spark/iceberg-spark-runtime-*.jar", "spark/sqlite-jdbc-*.jar", "spark-kafka/*.jar")
    return [jar for pattern in ours for jar in sorted((CACHE / "jars").glob(pattern))]


def settings(directory):
    """Of any Spark here."""
    return {
        # Not `spark.jars`: each start would copy them.
        "spark.driver.extraClassPath": ":".join(str(jar) for jar in jars()),
        "spark.driver.memory": DRIVER_MEMORY,
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(directory / "local"),
        "spark.sql.warehouse.dir": str(directory / "local"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": SHUFFLE_PARTITIONS,
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    }


def catalog(name, database, directory):
    """A SQLite file, of which one catalog is known by this name; tidegate and Spark both keep such."""
    setting = f"spark.sql.catalog.{name}"
    return {
        setting: "org.apache.iceberg.spark.SparkCatalog",
        f"{setting}.type": "jdbc",
        f"{setting}.uri": f"jdbc:sqlite:{database}",
        f"{setting}.warehouse": f"file://{directory}/warehouse",
        f"{setting}.jdbc.schema-version": "V1",
    }


def environment():
    return os.environ | {"TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1"}


class Spark:
    def __init__(self, rig, topic, peer):
        self.rig, self.tool = rig, peer
        self.directory = rig.fresh(peer)
        for name in ("warehouse", "local"):
            (self.directory / name).mkdir()
        self.database = self.directory / "catalog.db"
        mode = MODES[peer]
        modes = {f"write.{verb}.mode": mode for verb in ("merge", "update", "delete")}
        self.settings = {
            "spark": settings(self.directory) | catalog("lake", self.database, self.directory),
            "properties": rig.codec | modes | {"format-version": "2"},
            "checkpoint": str(self.directory / "checkpoint"),
            "kafka": {
                "kafka.bootstrap.servers": rig.bootstrap,
                "subscribe": topic,
                "startingOffsets": "earliest",
            },
        }

    def run(self, work, records=0, limit=None):
        """All that is new, in one batch, which costs Spark least; or in batches of `limit` records."""
        its = self.settings
        if limit:
            its = its | {"kafka": its["kafka"] | {"maxOffsetsPerTrigger": str(limit)}}
        command = [sys.executable, "-P", HERE / "spark_job.py", json.dumps(its)]
        row, _ = self.rig.run(self.tool, work, command, records, environment())
        return row

    fill = run

    def metadata(self):
        return content.location(self.database, "articles")
