"""One broker and one Spark for the whole session; a fresh warehouse and topic for each test."""

import os
import time

# Before Spark's JVM starts: every reader and the model speak UTC.
os.environ["TZ"] = "UTC"
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
time.tzset()

import pytest  # noqa: E402
from kafka import Broker  # noqa: E402
from readers import Warehouse  # noqa: E402
from spark import start_spark  # noqa: E402

from jobs import BIN, Job  # noqa: E402


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def spark():
    session = start_spark()
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
