"""Files in S3, GCS and Azure: what every store keeps, and whole runs whose warehouse is a bucket."""

import os
import re
import ssl
import subprocess
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import boto3
import pyarrow
import pytest
from articles import Feed, article
from front import Front
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table.locations import load_location_provider
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType
from servers import SCRIPT, Server
from stores import BucketWarehouse, properties

from jobs import BIN, Job, job_file

ROOT = Path(__file__).parents[2]
SUITE_TIMEOUT_S = 1_800
# Of a request that waits for others to be on their way.
HELD_S = 10
READERS = ("pyiceberg", "duckdb")


@pytest.fixture(scope="module", params=["versitygw", "moto", "moto as GCS", "azurite"])
def store(request, tmp_path_factory):
    name = request.param.split()[0]
    store = Server(name, tmp_path_factory.mktemp(name))
    if request.param == "moto":
        store.facts["lacks"] = "signatures"
    elif request.param == "moto as GCS":
        # GCS speaks S3's XML, but for signatures and preconditions; its own emulator knows no such writes.
        store.facts = {
            "warehouse": store.facts["warehouse"].replace("s3:", "gs:"),
            "gcs.service.host": store.facts["s3.endpoint"],
            # moto looks for a signature where the token stands.
            "gcs.oauth2.token": "Credential=x/20260101/us-east-1/s3/aws4_request",
            "lacks": "preconditions",
        }
    yield store
    store.stop()


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    store = Server("versitygw", tmp_path_factory.mktemp("s3"))
    yield store
    store.stop()


def test_a_real_server_keeps_what_the_local_disk_keeps(store, tmp_path):
    """The tests of src/storage, against this server."""
    path = tmp_path / "store"
    path.write_text("".join(f"{name}={value}\n" for name, value in store.facts.items()))
    profile = ["--release"] if BIN.parent.name == "release" else []
    command = ["cargo", "test", "--locked", *profile, "--lib", "--", "storage::tests"]
    environment = os.environ | {"TIDEGATE_TEST_STORE": str(path)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SUITE_TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " 0 failed" in done.stdout and "test storage::tests::requests_are_counted" in done.stdout


def make_job(tmp_path, broker, s3, table=None):
    warehouse = BucketWarehouse(tmp_path, s3)
    sections = {"catalog": properties(s3)} | ({"table": table} if table else {})
    return Job(warehouse, broker.topic(2), sections=sections)


def client(s3):
    return boto3.client(
        "s3",
        endpoint_url=s3.facts["s3.endpoint"],
        aws_access_key_id=s3.facts["s3.access-key-id"],
        aws_secret_access_key=s3.facts["s3.secret-access-key"],
        region_name=s3.facts["s3.region"],
    )


def names(s3, prefix):
    """Every object below a location, as S3's own client sees it."""
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    pages = client(s3).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/")
    return {f"s3://{bucket}/{found['Key']}" for page in pages for found in page.get("Contents", [])}


@pytest.mark.parametrize("version", [2, 3])
def test_a_job_whose_warehouse_is_a_bucket(tmp_path, broker, s3, version):
    job = make_job(tmp_path, broker, s3, {"format_version": version, "partition_by": ["bucket(2, id)"]})
    # DuckDB reads no vectors.
    readers = READERS if version == 2 else READERS[:1]
    feed = Feed(job.topic, minutes_per_record=0.02)
    job.init()
    job.call("check")
    for _ in range(3):
        feed.send(200)
        report = job.go(readers=readers)
        assert report["requests"]["put"] > 0 and report["requests"]["failed"] == 0
    job.nothing_new()
    job.call("verify")
    job.call("status")
    found = job.call("clean", "--output", "json").report
    assert found["files"] == 0 and found["in_use"] + found["foreign"] > 0, found
    assert names(s3, job.warehouse.uri), "the files are in the bucket"
    assert not list((tmp_path / "warehouse").iterdir()), "and nowhere else"


@pytest.mark.parametrize(("version", "each"), [(2, 4), (3, 3)])
def test_an_increment_asks_a_bucket_a_few_times_for_each_file_that_it_touches(
    tmp_path, broker, s3, version, each
):
    """Each file: its manifest, its index, the deletes that it has and those that it gets."""
    job = make_job(tmp_path, broker, s3, {"format_version": version})
    job.init()
    files, rows = 3, 60_000
    for file in range(files):
        job.topic.send([article(f"{file}/{n}", file + n / rows) for n in range(rows)])
        job.run(outcome="committed")
    # The first says how many ids are stored, the second meets the deletes of the first.
    for increment in (1, 2, 3):
        again = range(increment, rows, 1000)
        job.topic.send([article(f"{file}/{n}", 10 * increment, 2) for file in range(files) for n in again])
        report = job.run(outcome="committed")
        assert report["records"]["updated"] == files * len(again)
    (batch,) = report["batches"]
    touched = batch["files"]["files_searched"]
    assert batch["files"]["files_indexed"] == touched and touched >= files + 2
    assert batch["files"]["search_bytes"] > files * rows * 15, "indexes, each too large for the first look"
    requests = report["requests"]
    print("requests:", requests, "files touched:", touched)
    assert sum(requests[kind] for kind in ("get", "put", "delete", "list", "head")) <= 10 + each * touched
    job.verify(readers=READERS[:1])


def test_files_are_searched_at_the_same_time(tmp_path, broker, s3):
    """Each request to a bucket takes tens of milliseconds: one after the other they would add up."""
    job = make_job(tmp_path, broker, s3)
    job.init()
    files = 3
    for file in range(files):
        job.topic.send([article(f"{file}/{n}", file) for n in range(100)])
        job.run(outcome="committed")
    asked, together = Counter(), threading.Event()

    def meet_another(seen):
        if seen.method != "GET" or "/data/" not in seen.path:
            return
        asked[seen.path] += 1
        if len(+asked) == files:
            together.set()
        together.wait(HELD_S)
        asked[seen.path] -= 1

    with Front(s3.facts["s3.endpoint"]) as front:
        front.before = meet_another
        job.path.write_text(job.path.read_text().replace(s3.facts["s3.endpoint"], front.uri))
        job.topic.send([article(f"{file}/0", 10, 2) for file in range(files)])
        report = job.run(outcome="committed")
    assert report["records"]["updated"] == files
    assert together.is_set(), f"{files} files, never asked for at the same time"
    job.verify(readers=READERS[:1])


def named(table):
    """Every file that a table names, as PyIceberg reads it."""
    metadata, io = table.metadata, table.io
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(io):
            found.add(manifest.manifest_path)
            found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io)}
    return found


def test_what_killed_runs_left_in_a_bucket_is_found_and_deleted(tmp_path, broker, s3):
    job = make_job(tmp_path, broker, s3)
    feed = Feed(job.topic, minutes_per_record=0.02)
    job.init()
    for delay_s in (0.0, 0.02, None):
        feed.send(200)
        if delay_s is None:
            # All that a commit writes is in the bucket by now.
            job.run_that_dies("commit lock catalog.db 1 kill-before")
        else:
            job.run_until_killed("commit", delay_s)
        # Before more is sent: what the model knows of a batch is where the topic ended then.
        job.run()
        job.verify(readers=READERS)
    tables = [job.table, f"{job.table}_rejects"]
    used = set().union(*(named(job.warehouse.table(name)) for name in tables if job.warehouse.exists(name)))
    orphans = names(s3, job.warehouse.uri) - used
    assert orphans, "a run that is killed at its commit leaves files"
    young = job.call("clean", "--output", "json", "--delete").report
    assert (young["files"], young["too_young"]) == (0, len(orphans)), young
    # S3 has no way to make a file older; the directory behind this server has.
    for path in (s3.directory / "data").rglob("*"):
        os.utime(path, (time.time() - 4 * 86_400,) * 2)
    cleaned = job.call("clean", "--output", "json", "--delete").report
    assert {orphan["path"] for orphan in cleaned["orphans"]} == orphans, cleaned
    assert names(s3, job.warehouse.uri) == used
    job.verify(readers=READERS)


def test_files_lie_where_the_tables_properties_say(tmp_path, broker, s3):
    elsewhere = f"s3://warehouse/{tmp_path.name}-elsewhere"
    properties = {
        "write.data.path": f"{elsewhere}/data/",
        "write.metadata.path": f"{elsewhere}/metadata",
        "write.object-storage.enabled": "true",
    }
    job = make_job(tmp_path, broker, s3, {"properties": properties, "partition_by": ["bucket(2, id)"]})
    feed = Feed(job.topic, minutes_per_record=0.02)
    job.init()
    for _ in range(2):
        feed.send(200)
        job.go(readers=READERS)
    table = job.warehouse.table(job.table)
    provider = load_location_provider(table.location(), table.properties)
    for file in table.inspect.all_files().to_pylist():
        path = file["file_path"]
        context = "/".join(table.location().rsplit("/", 2)[-2:])
        below = path.split(f"/{context}/", 1)[1]
        # PyIceberg leaves the table's name out, which Java puts where tables can share a folder.
        expected = provider.new_data_location(below).removesuffix(below) + f"{context}/{below}"
        assert path == expected
    assert table.metadata_location.startswith(f"{elsewhere}/metadata/")
    found = job.call("clean", "--output", "json").report
    assert found["files"] == 0 and found["in_use"] > 0, found


def test_locations_in_another_scheme_are_read(tmp_path, broker, s3):
    """Spark's Hadoop catalogs write s3a://; the same bucket in another spelling."""
    job = make_job(tmp_path, broker, s3)
    job.warehouse.uri = job.warehouse.uri.replace("s3://", "s3a://")
    job.path.write_text(job.path.read_text().replace('"s3://', '"s3a://'))
    feed = Feed(job.topic, minutes_per_record=0.02)
    job.init()
    for _ in range(2):
        feed.send(100)
        job.go(readers=("pyiceberg",))
    assert job.warehouse.metadata_location(job.table).startswith("s3a://")
    job.call("verify")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"s3.secret-access-key": "wrong-but-secret"}, 77, "SignatureDoesNotMatch"),
        ({"s3.endpoint": "http://127.0.0.1:1"}, 75, "127.0.0.1:1"),
        ({"warehouse": "s3://no-such-bucket/w"}, 78, "bucket does not exist"),
    ],
)
def test_a_store_that_cannot_be_used_is_said(tmp_path, broker, s3, change, code, words):
    job = make_job(tmp_path, broker, s3)
    text = job.path.read_text()
    for name, value in change.items():
        old = job.tree()["catalog"][name]
        assert old in text
        text = text.replace(old, value)
    job.path.write_text(text)
    run = job.call("init", code=code)
    assert words in run.stderr, run
    assert "wrong-but-secret" not in str(run)


def test_a_certificate_of_an_authority_of_ones_own(tmp_path, broker):
    store = Server("versitygw", tmp_path / "tls", tls="yes")
    authority = store.facts.pop("ssl.cabundle")
    try:
        job = make_job(tmp_path, broker, store)
        refused = job.call("init", code=77)
        assert "certificate is not trusted" in refused.stderr and "ssl.cabundle" in refused.stderr, refused
        store.facts["ssl.cabundle"] = authority
        make_job(tmp_path / "trusted", broker, store).init()
    finally:
        store.stop()


def as_a_form(seen):
    """AWS reads what is asked in either place; moto tells its services apart by the body alone."""
    seen.path, _, asked = seen.path.partition("?")
    seen.body = asked.encode()
    seen.headers["content-type"] = "application/x-www-form-urlencoded"


@pytest.fixture
def web_identity(tmp_path, broker, monkeypatch):
    """A job that has nothing but a token of its cluster; what it asks: AWS's token service, and the store."""
    folder = tmp_path / "certificates"
    subprocess.run([SCRIPT.with_name("certificates"), folder], check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    (tmp_path / "token").write_text("token.of.the-cluster")
    moto = Server("moto", tmp_path / "moto")
    endpoint = moto.facts["s3.endpoint"]
    with Front(endpoint, context) as sts, Front(endpoint) as store:
        sts.before = as_a_form
        job = make_job(tmp_path, broker, moto)
        keys = ("s3.access-key-id", "s3.secret-access-key")
        catalog = {name: value for name, value in job.tree()["catalog"].items() if name not in keys}
        job.path.write_text(job_file(job.tree() | {"catalog": catalog | {"s3.endpoint": store.uri}}))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/loader")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.uri)
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        yield job, sts, store
    moto.stop()


def test_keys_by_web_identity(web_identity):
    job, sts, store = web_identity
    given = []
    sts.after = lambda _, body: (
        given.append(re.findall("<(AccessKeyId|SessionToken)>([^<]+)<", body.decode())) or body
    )
    job.init()
    Feed(job.topic).send(10)
    job.go(readers=READERS)
    assert len(sts.seen) == 2, "one for each of the two commands"
    for seen in sts.seen:
        asked = dict(parse_qsl(seen.body.decode()))
        assert asked["Action"] == "AssumeRoleWithWebIdentity" and asked["RoleSessionName"] == "tidegate"
        assert asked["RoleArn"] == "arn:aws:iam::123456789012:role/loader"
        assert asked["WebIdentityToken"] == "token.of.the-cluster"
    lent = {(dict(keys)["AccessKeyId"], dict(keys)["SessionToken"]) for keys in given}
    used = {
        (
            seen.headers["authorization"].partition("Credential=")[2].partition("/")[0],
            seen.headers["x-amz-security-token"],
        )
        for seen in store.seen
    }
    assert used == lent and len(lent) == 2


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, "InvalidIdentityToken", "Incorrect token audience"),
        (403, "AccessDenied", "Not authorized to assume"),
    ],
)
def test_a_role_that_is_refused(web_identity, status, kind, message):
    job, sts, store = web_identity
    answer = f"<ErrorResponse><Error><Code>{kind}</Code><Message>{message}</Message></Error></ErrorResponse>"
    sts.before = lambda _: (status, answer.encode())
    run = job.call("init", code=77)
    assert message in run.stderr and "token.of.the-cluster" not in run.stderr, run
    assert not store.seen


def test_a_table_of_another_engine_in_gcs_is_read(tmp_path, broker):
    """Google's emulator knows no writes by the protocol in use; PyIceberg's go another way."""
    store = Server("fake-gcs", tmp_path / "gcs")
    try:
        warehouse = BucketWarehouse(tmp_path, store)
        job = Job(warehouse, broker.topic(2), sections={"catalog": properties(store)})
        # Without a token PyArrow looks for Google's own credentials, for a quarter of an hour.
        expires_ms = str(int(time.time() + 3_600) * 1_000)
        token = {"gcs.oauth2.token": "anyone", "gcs.oauth2.token-expires-at": expires_ms}
        catalog = SqlCatalog(
            warehouse.catalog,
            uri=f"sqlite:///{warehouse.database}",
            warehouse=warehouse.uri,
            **properties(store),
            **token,
        )
        catalog.create_namespace("demo")
        fields = {
            "id": StringType(),
            "title": StringType(),
            "published_at": TimestamptzType(),
            "version": LongType(),
        }
        schema = Schema(
            *(NestedField(i, n, t, required=n == "id") for i, (n, t) in enumerate(fields.items(), 1))
        )
        table = catalog.create_table("demo.events", schema)
        now = datetime.now(UTC)
        rows = [{"id": f"{i}", "title": "t", "published_at": now, "version": 1} for i in range(10)]
        table.append(pyarrow.Table.from_pylist(rows, schema=table.schema().as_arrow()))
        catalog.close()
        # It lists both folders, and reads the metadata and every manifest.
        found = job.call("clean", "--output", "json").report
        assert (found["files"], found["in_use"]) == (0, 0) and found["foreign"] >= 5, found
    finally:
        store.stop()
