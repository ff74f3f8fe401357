"""One broker and one Spark for the whole session; a fresh warehouse and topic for each test."""

import os
import time

# Before Spark's JVM starts: every reader and the model speak UTC.
os.environ["TZ"] = "UTC"
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
time.tzset()

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from kafka import Broker  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402
from readers import Warehouse  # noqa: E402

from jobs import BIN, Job  # noqa: E402

CACHE = Path(os.environ.get("TIDEGATE_CACHE") or Path.home() / ".cache" / "tidegate")


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def spark():
    jars = sorted((CACHE / "jars" / "spark").glob("*.jar"))
    assert jars, "no Spark jars: run scripts/setup"
    session = (
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
    yield session
    session.stop()


@pytest.fixture
def warehouse(tmp_path, spark):
    return Warehouse(tmp_path, spark)


@pytest.fixture
def make_job(warehouse, broker):
    """Makes jobs, after checking once that there is a binary to run them."""
    assert BIN.is_file(), f"no binary at {BIN}: build it, or set TIDEGATE_BIN"

    def make(topic=None, partitions=2, **options):
        return Job(warehouse, topic or broker.topic(partitions), **options)

    return make
