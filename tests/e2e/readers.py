"""The whole table, as independent implementations of Iceberg see it."""

import importlib
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

import duckdb
from pyiceberg.catalog.sql import SqlCatalog
from values import canonical

CATALOG = "tidegate"


class Warehouse:
    """A catalog database and a data directory, both fresh for one test, open to every reader."""

    def __init__(self, directory, spark, catalog=CATALOG):
        self.directory = directory
        self.catalog = catalog
        self.database = directory / "catalog.db"
        self.uri = f"file://{directory}/warehouse"
        (directory / "warehouse").mkdir(parents=True)
        self.spark = self.session(spark) if spark else None

    def session(self, spark):
        """A session of its own has its own catalogs: each test gets one under the same name, on one JVM."""
        session = spark.newSession()
        settings = {
            "": "org.apache.iceberg.spark.SparkCatalog",
            ".type": "jdbc",
            ".uri": f"jdbc:sqlite:{self.database}",
            ".warehouse": self.uri,
            ".jdbc.schema-version": "V1",
            ".cache-enabled": "false",
        }
        for key, value in settings.items():
            session.conf.set(f"spark.sql.catalog.{self.catalog}{key}", value)
        return session

    def pyiceberg(self):
        # No tables of its own: the catalog must be what tidegate or Spark made of it.
        database = f"sqlite:///{self.database}"
        return SqlCatalog(self.catalog, uri=database, warehouse=self.uri, init_catalog_tables="false")

    def table(self, name):
        """The table as PyIceberg loads it now; for metadata as well as for rows."""
        with closing(self.pyiceberg()) as catalog:
            return catalog.load_table(name)

    def history(self, name):
        """Snapshots from oldest to newest: in the metadata file they stand in any order."""
        return sorted(self.table(name).metadata.snapshots, key=lambda s: s.sequence_number)

    def exists(self, name):
        with closing(self.pyiceberg()) as catalog:
            return catalog.table_exists(name)

    def metadata_location(self, name):
        """The path of the current metadata, read past all catalog clients."""
        namespace, _, table = name.rpartition(".")
        query = (
            "SELECT metadata_location FROM iceberg_tables "
            "WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?"
        )
        with closing(sqlite3.connect(self.database)) as connection:
            (location,) = connection.execute(query, (self.catalog, namespace, table)).fetchone()
        return location.removeprefix("file:").replace("///", "/", 1)

    def open_in_duckdb(self, connection):
        """Local files need nothing."""

    def sql(self, statement):
        return self.spark.sql(statement).toArrow().to_pylist()


def pyiceberg(warehouse, name, columns):
    return warehouse.table(name).scan(selected_fields=tuple(columns)).to_arrow()


def duck(warehouse, name, columns):
    listed = ", ".join(f'"{c}"' for c in columns)
    scan = f"iceberg_scan('{warehouse.metadata_location(name)}')"
    connection = duckdb_connection()
    warehouse.open_in_duckdb(connection)
    return connection.sql(f"SELECT {listed} FROM {scan}").to_arrow_table()


@cache
def duckdb_connection():
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for extension in ("avro", "httpfs", "iceberg"):
        load_shipped(connection, extension)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def load_shipped(connection, extension):
    """LOAD from the file in the Python package: a test run must not fetch code from the network."""
    package = Path(importlib.import_module(f"duckdb_extension_{extension}").__path__[0])
    connection.execute(f"LOAD '{next(package.rglob('*.duckdb_extension'))}'")


def spark(warehouse, name, columns):
    listed = ", ".join(f"`{c}`" for c in columns)
    return warehouse.spark.sql(f"SELECT {listed} FROM {warehouse.catalog}.{name}").toArrow()


READERS = {"pyiceberg": pyiceberg, "duckdb": duck, "spark": spark}


def read(reader, warehouse, name, columns):
    """Sorted rows, as tuples in the order of `columns` (name to type)."""
    found = READERS[reader](warehouse, name, columns).to_pylist()
    rows = [tuple(canonical(row[c], kind) for c, kind in columns.items()) for row in found]
    return sorted(rows, key=repr)
