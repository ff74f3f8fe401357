"""Real servers that hold files, and warehouses in them."""

import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from pyiceberg.catalog.sql import SqlCatalog
from readers import Warehouse

SERVERS = Path(__file__).parents[2] / "scripts" / "servers"
START_TIMEOUT_S = 200


class Store:
    """One server of scripts/servers. `facts`: the warehouse, and the catalog properties that open it."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory
        command = [sys.executable, SERVERS, "up", name, directory]
        started = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        assert started.returncode == 0, started.stderr
        facts = dict(line.split("=", 1) for line in started.stdout.splitlines() if "=" in line)
        if name == "azurite":
            facts["adls.endpoint"] = facts.pop("endpoint")
        self.facts = facts

    @property
    def properties(self):
        return {name: value for name, value in self.facts.items() if name != "warehouse"}

    def stop(self):
        subprocess.run([sys.executable, SERVERS, "down", self.directory], check=True, timeout=START_TIMEOUT_S)


class BucketWarehouse(Warehouse):
    """A catalog database in a directory, and its files under a fresh prefix of a store."""

    def __init__(self, directory, store):
        super().__init__(directory, None)
        self.store = store
        self.uri = f"{store.facts['warehouse']}/{uuid.uuid4()}"

    def pyiceberg(self):
        return SqlCatalog(
            self.catalog,
            uri=f"sqlite:///{self.database}",
            warehouse=self.uri,
            init_catalog_tables="false",
            **self.store.properties,
        )

    def open_in_duckdb(self, connection):
        facts = self.store.facts
        connection.execute(
            "CREATE OR REPLACE SECRET (TYPE s3, URL_STYLE 'path', USE_SSL false, REGION 'us-east-1', "
            f"KEY_ID '{facts['s3.access-key-id']}', SECRET '{facts['s3.secret-access-key']}', "
            f"ENDPOINT '{urlsplit(facts['s3.endpoint']).netloc}')"
        )
