"""Whole jobs on REST catalogs whose files are in S3, read by Spark and PyIceberg through the same catalog."""

import uuid
from urllib.parse import urlsplit

import pytest
from articles import Feed
from faults.proxy import Proxy
from pyiceberg.catalog.rest import RestCatalog
from readers import Warehouse
from servers import Server
from stores import BucketWarehouse

from jobs import Job

# A job must get along with tokens that end sooner than its runs.
TOKEN_LIFETIME_S = 30


class RestWarehouse(Warehouse):
    """A namespace of its own in a catalog that a server keeps, and that other tests use too."""

    def __init__(self, directory, spark, server, store, login=None, keys=True):
        self.server, self.store, self.login = server, store, login or {}
        files = {name: value for name, value in store.facts.items() if name.startswith("s3.")}
        secret = ("s3.access-key-id", "s3.secret-access-key")
        self.files = files if keys else {n: v for n, v in files.items() if n not in secret}
        super().__init__(directory, spark)

    def section(self):
        return {"type": "rest", **self.address(), **self.login, **self.files}

    def address(self):
        return {"uri": self.server.facts["uri"], "warehouse": self.server.facts["warehouse"]}

    def spark_settings(self):
        java = {
            "type": "rest",
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "s3.path-style-access": "true",
            "client.region": self.files["s3.region"],
            # The token server knows clients, and no tokens that are turned in for others.
            "token-exchange-enabled": "false",
        }
        return self.address() | self.login | self.files | java

    def pyiceberg(self):
        return RestCatalog(self.catalog, **self.address(), **self.login, **self.files)

    def table(self, name):
        return self.pyiceberg().load_table(name)

    def exists(self, name):
        return self.pyiceberg().table_exists(name)

    def metadata_location(self, name):
        return self.table(name).metadata_location

    open_in_duckdb = BucketWarehouse.open_in_duckdb


def server(tmp_path_factory, name, **settings):
    return Server(name, tmp_path_factory.mktemp(name), **settings)


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    store = server(tmp_path_factory, "versitygw")
    yield store
    store.stop()


@pytest.fixture(scope="module", params=["rest", "rest with vended credentials", "nessie with tokens"])
def place(request, tmp_path_factory, s3):
    """How to make a warehouse on this kind of server."""
    files = {name: value for name, value in s3.facts.items() if name.startswith("s3.")}
    running = []
    if request.param == "nessie with tokens":
        tokens = server(tmp_path_factory, "tokens", lifetime=TOKEN_LIFETIME_S)
        running.append(tokens)
        catalog = server(tmp_path_factory, "nessie", oauth2=tokens.facts["issuer"], **files)
        login = {name: tokens.facts[name] for name in ("credential", "oauth2-server-uri")} | {
            "scope": "catalog"
        }
        options = {"login": login}
    else:
        vended = {"include-credentials": "true"} if "vended" in request.param else {}
        java = {
            "warehouse": "s3://warehouse/rest",
            "s3.path-style-access": "true",
            "client.region": "us-east-1",
        }
        catalog = server(tmp_path_factory, "rest", **files, **java, **vended)
        options = {"keys": not vended}
    running.append(catalog)
    yield lambda directory, spark: RestWarehouse(directory, spark, catalog, s3, **options)
    for each in reversed(running):
        each.stop()


@pytest.fixture
def job(tmp_path, spark, broker, place):
    # Of three levels, none of which exists yet.
    table = f"n{uuid.uuid4().hex[:8]}.of.news.events"
    return Job(place(tmp_path, spark), broker.topic(2), table=table)


def test_a_whole_life_in_a_rest_catalog_over_s3(job):
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    job.call("check")
    job.topic.send([b"{broken"])
    for _ in range(3):
        feed.send(60)
        job.go()
    job.nothing_new()
    if job.warehouse.server.name != "nessie":
        rewrite(job)
        job.nothing_new()
        feed.send(60)
        job.go()
    with job.warehouse.table(job.table).transaction() as transaction:
        transaction.set_properties({"set-by": "pyiceberg"})
    feed.send(60)
    job.go()
    assert job.warehouse.table(job.table).properties["set-by"] == "pyiceberg"
    if job.warehouse.server.name != "nessie":
        # Which looks at the batches before the last.
        job.call("verify")
    job.call("status")
    assert job.call("clean", "--output", "json").report["files"] == 0


def rewrite(job):
    system, options = f"{job.warehouse.catalog}.system", "options => map('rewrite-all', 'true')"
    job.warehouse.sql(f"CALL {system}.rewrite_data_files(table => '{job.table}', {options})")


@pytest.mark.parametrize("place", ["nessie with tokens"], indirect=True)
def test_another_engines_commit_where_no_history_is_shown_is_a_question(job):
    """Nessie shows the newest snapshot alone, so nothing tells compaction from a rollback."""
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    feed.send(60)
    job.go()
    rewrite(job)
    (snapshot,) = job.warehouse.table(job.table).metadata.snapshots
    before = job.warehouse.metadata_location(job.table)
    feed.send(60)
    job.run(code=65)
    assert job.warehouse.metadata_location(job.table) == before
    assert "tidegate.job" not in snapshot.summary.additional_properties


def test_runs_that_are_killed_in_a_rest_catalog_lose_and_double_nothing(job):
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    for delay_s in (0.0, 0.02, 0.05, 0.1):
        feed.send(60)
        job.run_until_killed("commit", delay_s)
        job.run()
        job.verify(readers=["pyiceberg"])
    job.verify()


def test_an_answer_that_is_lost_after_the_commit_costs_nothing(job):
    feed = Feed(job.topic, minutes_per_record=0.05)
    job.init()
    feed.send(60)
    job.go(readers=["pyiceberg"])
    address = urlsplit(job.warehouse.server.facts["uri"]).netloc
    proxy = Proxy()
    proxy.lead_to(address)
    job.path.write_text(job.path.read_text().replace(address, proxy.address))
    feed.send(60)
    proxy.lose(request=b'"requirements"', answer=b"HTTP/1.1 200")
    job.go()
    assert proxy.lost == 1
    job.nothing_new()
