"""Warehouses in servers that hold files."""

import uuid
from urllib.parse import urlsplit

from pyiceberg.catalog.sql import SqlCatalog
from readers import Warehouse


def properties(store):
    """What a job file says of a store beside its warehouse."""
    return {name: value for name, value in store.facts.items() if name != "warehouse"}


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
            **properties(self.store),
        )

    def open_in_duckdb(self, connection):
        facts = self.store.facts
        connection.execute(
            "CREATE OR REPLACE SECRET (TYPE s3, URL_STYLE 'path', USE_SSL false, REGION 'us-east-1', "
            f"KEY_ID '{facts['s3.access-key-id']}', SECRET '{facts['s3.secret-access-key']}', "
            f"ENDPOINT '{urlsplit(facts['s3.endpoint']).netloc}')"
        )
