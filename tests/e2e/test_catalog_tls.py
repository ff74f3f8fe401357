"""A REST catalog behind TLS: whom the job trusts, who it says it is, and what can be wrong with either."""

import json
import ssl
import subprocess

import pytest
from articles import article
from front import Front
from pyiceberg.catalog.rest import RestCatalog
from readers import Warehouse
from servers import SCRIPT, Server

from jobs import Job

READERS = ("pyiceberg", "duckdb")


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    server = Server("rest", tmp_path_factory.mktemp("rest"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    subprocess.run([SCRIPT.with_name("certificates"), directory], check=True)
    return directory


@pytest.fixture
def front(rest, certificates):
    """Makes fronts of the catalog that have one of the certificates and, for `clients`, ask for one."""
    made = []

    def make(name="server", clients=False, version=ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = version
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(certificates / "ca.pem")
        made.append(Front(rest.facts["uri"], context))
        return made[-1]

    yield make
    for each in made:
        each.stop()


class SecureWarehouse(Warehouse):
    """The catalog as a job reaches it through TLS; its readers go past that."""

    def __init__(self, directory, server, front, properties):
        self.server, self.front, self.properties = server, front, properties
        super().__init__(directory, None)

    def section(self):
        there = {"uri": self.front.uri, "warehouse": self.server.facts["warehouse"]}
        return {"type": "rest", **there, **{name: str(value) for name, value in self.properties.items()}}

    def pyiceberg(self):
        return RestCatalog(self.catalog, **self.server.facts)

    def exists(self, name):
        return self.pyiceberg().table_exists(name)

    def table(self, name):
        return self.pyiceberg().load_table(name)

    def metadata_location(self, name):
        return self.table(name).metadata_location


@pytest.fixture
def make_job(rest, broker, tmp_path):
    def make(front, **properties):
        topic = broker.topic(1)
        topic.send([article("a")])
        named = {name.replace("_", "."): value for name, value in properties.items()}
        return Job(SecureWarehouse(tmp_path, rest, front, named), topic, table=f"tls.{topic.name}")

    return make


def goes(job, front):
    job.init()
    job.call("check")
    job.go(readers=READERS)
    job.nothing_new()
    assert len(front.commits) == 1, "it went through TLS"


def refused(job, *told, code=77):
    """Each command says so, with this code and these words."""
    for command in ("init", "check", "run"):
        run = job.call(command, code=code)
        for words in told:
            assert words in run.stdout + run.stderr, f"{words!r} is not in {run}"
    assert not job.warehouse.exists(job.table)


# --- what works


def test_an_authority_of_ones_own(make_job, front, certificates):
    there = front()
    goes(make_job(there, ssl_cabundle=certificates / "ca.pem"), there)


def test_an_authority_of_the_system(make_job, front, certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    there = front()
    goes(make_job(there), there)


@pytest.mark.parametrize("form", ["two files", "one file"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_of_the_client(make_job, front, certificates, form, version):
    there = front(clients=True, version=version)
    one = {"ssl_client_cert": certificates / "client.both"}
    two = {"ssl_client_cert": certificates / "client.pem", "ssl_client_key": certificates / "client.key"}
    client = one if form == "one file" else two
    goes(make_job(there, ssl_cabundle=certificates / "ca.pem", **client), there)


# --- what is refused


@pytest.mark.parametrize("ca", [None, "other-ca"])
def test_an_unknown_authority(make_job, front, certificates, ca):
    there = front()
    trusted = {"ssl_cabundle": certificates / f"{ca}.pem"} if ca else {}
    refused(make_job(there, **trusted), "signed by an authority that is not trusted here", "`ssl.cabundle`")
    assert not there.seen, "nothing is said to a server that is not trusted"


@pytest.mark.parametrize(
    ("name", "cause", "advice"),
    [
        ("expired", "the server's certificate has expired", "its owner has to renew it"),
        ("elsewhere", "the server's certificate is for another host", "a name that the certificate holds"),
    ],
)
def test_a_bad_certificate(make_job, front, certificates, name, cause, advice):
    there = front(name)
    refused(make_job(there, ssl_cabundle=certificates / "ca.pem"), there.uri, cause, advice)
    assert not there.seen, "nothing is said to a server that is not trusted"


@pytest.mark.parametrize("name", [None, "stranger"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_certificate_of_the_client_or_one_that_nobody_knows(make_job, front, certificates, name, version):
    there = front(clients=True, version=version)
    client = {"ssl_cabundle": certificates / "ca.pem"}
    if name:
        client["ssl_client_cert"] = certificates / f"{name}.pem"
        client["ssl_client_key"] = certificates / f"{name}.key"
    refused(make_job(there, **client), there.uri, "refused the client's certificate", "`ssl.client.cert`")


def test_a_key_under_a_password(make_job, front, certificates):
    there = front(clients=True)
    client = {
        "ssl_client_cert": certificates / "client.pem",
        "ssl_client_key": certificates / "client-locked.key",
    }
    job = make_job(there, ssl_cabundle=certificates / "ca.pem", **client)
    refused(job, "client-locked.key", "`ssl.client.key`", "under a password", code=78)


def test_a_key_of_another_certificate(make_job, front, certificates):
    there = front(clients=True)
    client = {"ssl_client_cert": certificates / "client.pem", "ssl_client_key": certificates / "server.key"}
    job = make_job(there, ssl_cabundle=certificates / "ca.pem", **client)
    refused(job, "do the certificates and the key belong together", code=78)


def test_a_server_that_leads_away_from_tls(make_job, front, rest, certificates):
    """Tokens and vended keys would go over the wire as they are."""
    there = front()

    def leads_away(seen, body):
        if not seen.path.startswith("/v1/config"):
            return body
        return json.dumps(json.loads(body) | {"overrides": {"uri": rest.facts["uri"]}}).encode()

    there.after = leads_away
    job = make_job(there, ssl_cabundle=certificates / "ca.pem")
    refused(job, "its `uri` leads from https:// to http://", code=78)
    assert all(seen.path.startswith("/v1/config") for seen in there.seen)
