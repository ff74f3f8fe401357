"""Real servers that hold files, and warehouses in them."""

import os
import socket
import subprocess
import sys
import time
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


class TlsStore:
    """versitygw behind a certificate of an authority that nobody knows; `ca` names it."""

    def __init__(self, directory):
        self.ca = directory / "ca.pem"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        for arguments in (
            ["-subj", "/CN=nobody", "-keyout", "ca.key", "-out", "ca.pem"],
            [
                *("-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.pem"),
                *("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"),
                *("-addext", "subjectAltName=DNS:localhost"),
            ],
        ):
            command = ["openssl", "req", "-x509", *key, *arguments]
            subprocess.run(command, cwd=directory, check=True, capture_output=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (directory / "data" / "warehouse").mkdir(parents=True)
        cache = Path(os.environ.get("TIDEGATE_CACHE") or Path.home() / ".cache" / "tidegate")
        flags = ["--access", "key", "--secret", "secret", "--port", f"127.0.0.1:{port}"]
        tls = ["--cert", directory / "server.pem", "--key", directory / "server.key"]
        command = [cache / "bin" / "versitygw", *flags, *tls, "posix", directory / "data"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.facts = {
            "warehouse": "s3://warehouse",
            "s3.endpoint": f"https://localhost:{port}",
            "s3.access-key-id": "key",
            "s3.secret-access-key": "secret",
        }

    properties = Store.properties

    def stop(self):
        self.process.terminate()
        self.process.wait()


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
