"""The SQL catalog on PostgreSQL, shared with Spark (Java's JDBC catalog) and PyIceberg (its SQL catalog)."""

import os
import uuid
from contextlib import closing

import psycopg2
import pyarrow
import pytest
from articles import Feed, article
from faults.proxy import Proxy
from pyiceberg.catalog.sql import SqlCatalog
from readers import Warehouse
from servers import Server

from jobs import ARTICLES, Job


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    server = Server("postgres", tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


class PostgresWarehouse(Warehouse):
    """A database of its own on the server, and a data directory."""

    def __init__(self, directory, spark, server):
        self.password = server.facts["password"]
        self.server = server.facts["uri"].removeprefix("postgresql://").split("@")[1].split("/")[0]
        self.name = f"e2e_{uuid.uuid4().hex}"
        with closing(self.connect("postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {self.name}")
        super().__init__(directory, spark)

    def connect(self, database):
        host, port = self.server.split(":")
        return psycopg2.connect(
            host=host, port=port, dbname=database, user="tidegate", password=self.password
        )

    def section(self):
        # Without its password, as it must not stand in the address.
        uri = f"postgresql+psycopg2://tidegate@{self.server}/{self.name}?sslmode=require"
        return {"type": "sql", "uri": uri, "password": self.password, "warehouse": self.uri}

    def spark_settings(self):
        return super().spark_settings() | {
            "uri": f"jdbc:postgresql://{self.server}/{self.name}",
            "jdbc.user": "tidegate",
            "jdbc.password": self.password,
        }

    def pyiceberg(self, init="false"):
        uri = f"postgresql+psycopg2://tidegate:{self.password}@{self.server}/{self.name}"
        return SqlCatalog(self.catalog, uri=uri, warehouse=self.uri, init_catalog_tables=init)

    def metadata_location(self, name):
        namespace, _, table = name.rpartition(".")
        query = "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = %s AND table_name = %s"
        with closing(self.connect(self.name)) as connection, connection.cursor() as cursor:
            cursor.execute(query, (namespace, table))
            (location,) = cursor.fetchone()
        return location.removeprefix("file:").replace("///", "/", 1)


@pytest.fixture
def job(tmp_path, spark, broker, postgres):
    return Job(PostgresWarehouse(tmp_path, spark, postgres), broker.topic(2))


def test_a_whole_life_beside_spark_and_pyiceberg(job):
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    job.call("check")
    job.topic.send([b"{broken"])
    for _ in range(3):
        feed.send(60)
        job.go()
    system = f"{job.warehouse.catalog}.system"
    options = "options => map('rewrite-all', 'true')"
    job.warehouse.sql(f"CALL {system}.rewrite_data_files(table => '{job.table}', {options})")
    job.nothing_new()
    feed.send(60)
    job.go()
    with job.warehouse.table(job.table).transaction() as transaction:
        transaction.set_properties({"set-by": "pyiceberg"})
    feed.send(60)
    job.go()
    assert job.warehouse.table(job.table).properties["set-by"] == "pyiceberg"
    job.call("verify")
    job.call("status")
    assert job.call("clean", "--output", "json").report["files"] == 0


def columns(kinds):
    return ", ".join(f"{name} {kinds[kind]}" for name, kind in ARTICLES.items())


def test_a_table_that_spark_made(job):
    kinds = {"string": "STRING", "timestamptz": "TIMESTAMP", "long": "BIGINT"}
    table = f"{job.warehouse.catalog}.{job.table}"
    job.warehouse.spark.sql(f"CREATE NAMESPACE {table.rpartition('.')[0]}")
    properties = "TBLPROPERTIES ('write.merge.mode' = 'merge-on-read')"
    job.warehouse.spark.sql(f"CREATE TABLE {table} ({columns(kinds)}) USING iceberg {properties}")
    job.topic.send([article("a"), article("b"), article("a", 1, 2)])
    job.go()
    job.warehouse.spark.sql(f"UPDATE {table} SET title = 'by Spark' WHERE id = 'b'")
    titles = {row["id"]: row["title"] for row in job.warehouse.table(job.table).scan().to_arrow().to_pylist()}
    assert titles == {"a": "a v2", "b": "by Spark"}


def test_a_table_that_pyiceberg_made(job):
    kinds = {
        "string": pyarrow.string(),
        "timestamptz": pyarrow.timestamp("us", "UTC"),
        "long": pyarrow.int64(),
    }
    with closing(job.warehouse.pyiceberg(init="true")) as client:
        client.create_namespace(job.table.rpartition(".")[0])
        schema = pyarrow.schema({name: kinds[kind] for name, kind in ARTICLES.items()})
        client.create_table(job.table, schema)
    job.topic.send([article("a"), article("b"), article("a", 1, 2)])
    job.go()
    job.topic.send([article("b", 2, 2)])
    job.go()


def test_the_servers_death_is_temporary_and_loses_nothing(job, postgres):
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    feed.send(60)
    job.go(readers=["pyiceberg"])
    feed.send(60)
    postgres.kill()
    try:
        run = job.call("run", code=75)
        assert job.warehouse.password not in str(run)
    finally:
        postgres.start()
    job.go()


def test_an_answer_that_is_lost_after_the_commit_costs_nothing(job):
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    feed.send(60)
    job.go(readers=["pyiceberg"])
    proxy = Proxy()
    proxy.lead_to(job.warehouse.server)
    text = job.path.read_text().replace(job.warehouse.server, proxy.address)
    # What is encrypted cannot be told apart.
    job.path.write_text(text.replace("sslmode=require", "sslmode=disable"))
    feed.send(60)
    proxy.lose(answer=b"UPDATE 1\0")
    job.go()
    assert proxy.lost == 1
    job.nothing_new()


def test_a_password_in_the_environment(job):
    text = job.path.read_text()
    assert f'"password" = "{job.warehouse.password}"' in text
    job.path.write_text(text.replace(f'"password" = "{job.warehouse.password}"', ""))
    run = job.call("init", code=77)
    assert "password authentication failed" in run.stderr, run
    os.environ["PGPASSWORD"] = job.warehouse.password
    try:
        job.init()
    finally:
        del os.environ["PGPASSWORD"]
