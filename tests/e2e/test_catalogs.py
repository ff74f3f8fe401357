"""Whole jobs on REST catalogs whose files are in S3, read by Spark and PyIceberg through the same catalog."""

import json
import threading
import uuid
from urllib.parse import urlsplit

import pytest
from articles import Feed, article
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from faults.proxy import Proxy
from front import Front, error
from pyiceberg.catalog.rest import RestCatalog
from readers import Warehouse
from servers import Server
from stores import BucketWarehouse

from jobs import Job

# A job must get along with tokens that end sooner than its runs.
TOKEN_LIFETIME_S = 30
# Of a client that gives a held request up, in milliseconds.
PATIENCE_MS = 4000
HELD_MAX_S = 240


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


# --- what a server says of a commit, and when


@pytest.fixture
def front(job):
    """What the job's requests to its catalog go through; those of its readers do not."""
    job.init()
    server = job.warehouse.server.facts["uri"]
    with Front(server) as front:
        job.path.write_text(job.path.read_text().replace(server, front.uri))
        yield front


@pytest.mark.parametrize("place", ["rest", "nessie with tokens"], indirect=True)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("when", ["before its repetition", "after its repetition", "after the run"])
def test_a_commit_that_lands_late_is_found_or_refused(job, front, batch, when):
    """Nobody waits for its answer any more. Nothing is there yet to compare a table's first snapshot with."""
    feed = Feed(job.topic, minutes_per_record=0.05)
    for _ in range(batch - 1):
        feed.send(60)
        job.go(readers=["pyiceberg"])
    feed.send(60)
    patience = f'[catalog]\n"rest.client.socket-timeout-ms" = "{PATIENCE_MS}"'
    job.path.write_text(job.path.read_text().replace("[catalog]", patience))
    front.seen.clear()
    released = threading.Event()

    def before(seen):
        first = front.commits[:1]
        if seen.is_commit and (seen in first or when == "after the run"):
            assert released.wait(HELD_MAX_S)
        elif seen.is_commit and when == "before its repetition":
            released.set()
            assert first[0].answered.wait(HELD_MAX_S)

    front.before = before
    run = job.call("run", code=75 if when == "after the run" else 0)
    assert "no answer to the commit" in run.stderr
    released.set()
    assert all(seen.answered.wait(HELD_MAX_S) for seen in front.commits)
    statuses = [seen.status for seen in front.commits]
    assert len(statuses) > 1 and sorted(statuses)[:2] == [200, 409], statuses
    if when != "after the run":
        assert statuses[0] == (409 if when == "after its repetition" else 200)
    job.verify(readers=["pyiceberg"])
    job.nothing_new()
    feed.send(60)
    job.go(readers=["pyiceberg"])


@pytest.mark.parametrize("rejects", [0, 1])
def test_a_run_with_nothing_new_asks_its_catalog_only_what_it_must(job, front, rejects):
    """Its configuration, the table, the rejects' table where the last batch had some, a token if need be."""
    job.topic.send([article("a", 1)] + [b"{broken"] * rejects)
    job.run(outcome="committed")
    login = job.warehouse.login.get("oauth2-server-uri")
    with Front(login or job.warehouse.server.facts["uri"]) as tokens:
        if login:
            job.path.write_text(job.path.read_text().replace(login, tokens.uri))
        front.seen.clear()
        report = job.run(outcome="nothing_new")
    asked = [(seen.method, urlsplit(seen.path).path.rsplit("/", 1)[1]) for seen in front.seen]
    tables = [("GET", "events"), ("GET", "events_rejects")]
    assert asked == [("GET", "config"), *tables[: 1 + rejects]], asked
    assert [seen.method for seen in tokens.seen] == ["POST"] * bool(login)
    # The answer to a load holds the metadata.
    assert sum(report["requests"][kind] for kind in ("get", "put", "head", "list", "delete")) == 0, report


@pytest.mark.parametrize("place", ["rest"], indirect=True)
def test_rows_and_rejects_are_one_request(job, front):
    feed = Feed(job.topic, minutes_per_record=0.05)
    for _ in range(2):
        job.topic.send([b"{broken"])
        feed.send(60)
        front.seen.clear()
        job.go(readers=["pyiceberg"])
        (commit,) = front.commits
        assert commit.path.endswith("/v1/transactions/commit")
        changes = json.loads(commit.body)["table-changes"]
        assert [change["identifier"]["name"] for change in changes] == ["events", "events_rejects"]
    for name in (job.table, f"{job.table}_rejects"):
        assert len(job.warehouse.history(name)) == 2, name


@pytest.mark.parametrize("place", ["rest"], indirect=True)
@pytest.mark.parametrize("rejects", [0, 1])
def test_a_refusal_as_malformed_is_a_conflict_where_the_table_has_changed(job, front, rejects):
    """400 is what some servers say to a commit that comes too late."""
    feed = Feed(job.topic, minutes_per_record=0.05)
    feed.send(60)
    job.topic.send([b"{broken"] * rejects)

    def before(seen):
        if seen.is_commit and len(front.commits) == 1:
            with job.warehouse.table(job.table).transaction() as transaction:
                transaction.set_properties({"set-by": "pyiceberg"})
            return error(400, "BadRequestException", "base metadata location is stale")

    front.before = before
    job.go(readers=["pyiceberg"])
    assert [seen.status for seen in front.commits] == [400, 204 if rejects else 200]
    assert job.warehouse.table(job.table).properties["set-by"] == "pyiceberg"
    job.nothing_new()


@pytest.mark.parametrize("place", ["rest"], indirect=True)
def test_a_refusal_as_malformed_is_one_where_the_table_is_the_same(job, front):
    Feed(job.topic).send(10)
    front.before = lambda seen: (
        error(400, "BadRequestException", "no such update") if seen.is_commit else None
    )
    run = job.call("run", code=78)
    assert "400: BadRequestException: no such update" in run.stderr, run
    assert len(front.commits) == 1 and not job.warehouse.history(job.table)
    front.before = lambda seen: None
    job.go(readers=["pyiceberg"])


def sign_for(s3, seen):
    """The store knows no sessions: what one asks for goes on in its owner's name."""
    kept = {n: v for n, v in seen.headers.items() if n != "authorization" and not n.startswith("x-amz-")}
    owner = Credentials(s3.facts["s3.access-key-id"], s3.facts["s3.secret-access-key"])
    request = AWSRequest(seen.method, s3.facts["s3.endpoint"] + seen.path, headers=kept, data=seen.body)
    S3SigV4Auth(owner, "s3", s3.facts["s3.region"]).add_auth(request)
    seen.headers = {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("place", ["rest with vended credentials"], indirect=True)
def test_vended_credentials_that_end_in_mid_run(job, front, s3):
    """Each load brings a session of its own; the first one ends when it has written one file."""
    feed = Feed(job.topic, minutes_per_record=0.05)
    feed.send(60)
    vended, ended, used = [], set(), set()

    def session(seen, body):
        answer = json.loads(body or b"{}")
        if seen.method != "GET" or not {"storage-credentials", "config"} & answer.keys():
            return body
        vended.append(f"session-{len(vended)}")
        answer["config"] |= {"s3.endpoint": store.uri, "s3.session-token": vended[-1]}
        return json.dumps(answer).encode()

    def judged(seen):
        token = seen.headers["x-amz-security-token"]
        if token in ended:
            return (
                400,
                b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
            )
        if seen.method == "PUT":
            used.add(token)
            ended.update(() if ended else {token})
        sign_for(s3, seen)

    with Front(s3.facts["s3.endpoint"]) as store:
        front.after, store.before = session, judged
        job.go(readers=["pyiceberg"])
    assert 400 in [seen.status for seen in store.seen], "the session ended while there was more to do"
    assert len(used) == 2 and used <= set(vended), (used, vended)
    job.nothing_new()
