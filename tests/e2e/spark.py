"""One Spark in this process, with the Iceberg runtime of scripts/setup."""

import os
from pathlib import Path

from pyspark.sql import SparkSession

CACHE = Path(os.environ.get("TIDEGATE_CACHE") or Path.home() / ".cache" / "tidegate")


def start_spark():
    """Call it with TZ and SPARK_LOCAL_IP set: the JVM reads them once."""
    jars = sorted((CACHE / "jars" / "spark").glob("*.jar"))
    assert jars, "no Spark jars: run scripts/setup"
    return (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(map(str, jars)))
        .config("spark.driver.memory", "1g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.sql.session.timeZone", "UTC")
        # Tables of a few rows: one task each is quicker than any parallelism.
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.default.parallelism", "1")
        .config(
            "spark.sql.extensions",
            "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        )
        .getOrCreate()
    )
