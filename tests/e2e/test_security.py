"""Kafka where a client has to say who it is: TLS, passwords, certificates, tokens, and what can be wrong."""

import time

import pytest
from articles import Feed, article
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka import Broker
from readers import Warehouse
from tokens import SECRET, TokenServer, signed

from jobs import Job, job_file

READERS = ("pyiceberg", "duckdb")
PASSWORD = "scram-sesame"
# Kafka's names of those who may read, by how they log in.
USERS = ("scram", "plain", "CN=tide", "tide")
# Else the first answer would hold all there is, whatever the broker allows a second.
SMALL_FETCHES = {"fetch.message.max.bytes": "20000"}
# "In seconds": far below `stall_timeout`, with room for a machine that does much else.
SOON_S = 45
# librdkafka looks each second whether a token has a fifth of its life left, and logs in again with the one it
# has at a tenth. Of a short life the old one is shown again, and again within a second, which Kafka refuses.
TOKEN_LIFE_S = 12


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("secure-kafka"), secure=True)
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        for user in ("scram", "nobody"):
            credential = UserScramCredentialUpsertion(
                user, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
            )
            for future in broker.admin.alter_user_scram_credentials([credential]).values():
                future.result()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def token_server(broker):
    server = TokenServer(broker.directory / "tokens" / "key.pem")
    yield server
    server.stop()


@pytest.fixture
def tokens(token_server):
    token_server.lasts_s, token_server.claims, token_server.answer = 3600, {}, None
    token_server.requests.clear()
    return token_server


@pytest.fixture
def slow_reader(broker):
    """The user `tide` gets so much a second and no more, so that a run of it takes its time."""
    limit = ["--entity-type", "users", "--entity-name", "tide", "--alter"]
    broker.tool("kafka.admin.ConfigCommand", *limit, "--add-config", "consumer_byte_rate=20000")
    yield
    broker.tool("kafka.admin.ConfigCommand", *limit, "--delete-config", "consumer_byte_rate")


def allow(broker, kind, name, operation=AclOperation.READ):
    bindings = [
        AclBinding(
            kind,
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for user in USERS
    ]
    for future in broker.admin.create_acls(bindings).values():
        future.result()


@pytest.fixture
def make_job(broker, tmp_path):
    """Makes jobs on a topic of one record, which the users above may read."""

    def make(kafka, listener="sasl", allowed=True, records=1, **options):
        topic = broker.topic(2)
        topic.send([article(f"a{n}", n) for n in range(records)])
        if allowed:
            allow(broker, ResourceType.TOPIC, topic.name)
            allow(broker, ResourceType.GROUP, "tidegate-articles")
        kafka = {"bootstrap.servers": broker.listeners[listener]} | kafka
        sections = {"kafka": kafka} | options.pop("sections", {})
        job = Job(Warehouse(tmp_path, None), topic, sections=sections, **options)
        job.init()
        return job

    return make


def tls(broker, protocol="SASL_SSL", ca="ca"):
    place = broker.directory / "certificates" / f"{ca}.pem"
    return {"security.protocol": protocol, "ssl.ca.location": str(place)}


def scram(broker, password=PASSWORD, user="scram", mechanism="SCRAM-SHA-512", **options):
    login = {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}
    return tls(broker, **options) | login


def oidc(broker, tokens, secret=SECRET):
    return tls(broker) | {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": tokens.url,
        "sasl.oauthbearer.client.id": "tide",
        "sasl.oauthbearer.client.secret": secret,
        "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.extensions": "logicalCluster=lkc-1",
    }


def changed(job, kafka):
    """The same job with other properties of Kafka."""
    servers = job.sections["kafka"]["bootstrap.servers"]
    job.sections["kafka"] = {"bootstrap.servers": servers} | kafka
    job.path.write_text(job_file(job.tree()))
    return job


def goes(job):
    report = job.go(readers=READERS)
    # The group's coordinator may need longer for its first group than a run waits.
    assert not [warning for warning in report["warnings"] if "allow" in warning], report["warnings"]


def refused(job, *told, code=77, command="run"):
    """The run says so soon, with this code and these words, and commits nothing."""
    started = time.monotonic()
    run = job.call(command, code=code)
    assert time.monotonic() - started < SOON_S, run
    for words in told:
        assert words in run.stdout + run.stderr, f"{words!r} is not in {run}"
    assert not job.warehouse.history(job.table)
    return run


# --- what works


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_scram(broker, make_job, mechanism):
    job = make_job(scram(broker, mechanism=mechanism), records=500)
    goes(job)
    job.nothing_new()
    assert job.call("check").code == 0


def test_plain(broker, make_job):
    goes(make_job(scram(broker, "plain-sesame", "plain", "PLAIN")))


@pytest.mark.parametrize("form", ["files", "pem", "locked"])
def test_a_certificate_of_the_client(broker, make_job, form):
    folder = broker.directory / "certificates"
    of = {
        "files": {
            "ssl.certificate.location": f"{folder}/client.pem",
            "ssl.key.location": f"{folder}/client.key",
        },
        "pem": {
            "ssl.certificate.pem": f"file:{folder}/client.pem",
            "ssl.key.pem": f"file:{folder}/client.key",
        },
        "locked": {
            "ssl.certificate.location": f"{folder}/client.pem",
            "ssl.key.location": f"{folder}/client-locked.key",
            "ssl.key.password": "command:printf key-sesame",
        },
    }
    goes(make_job(tls(broker, "SSL") | of[form], "mtls"))


def test_secrets_that_are_kept_elsewhere(broker, make_job, tmp_path, monkeypatch):
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("TIDE_USER", "scram")
    job = make_job(scram(broker, f"file:{tmp_path}/password", "env:TIDE_USER"))
    goes(job)


def test_an_authority_in_the_job_and_one_of_the_system(broker, make_job, monkeypatch):
    ca = broker.directory / "certificates" / "ca.pem"
    kafka = scram(broker)
    del kafka["ssl.ca.location"]
    job = make_job(kafka | {"ssl.ca.pem": f"file:{ca}"})
    goes(job)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    job.topic.send([article("more", 9)])
    goes(changed(job, kafka))


def test_tokens_of_a_token_server(broker, make_job, tokens):
    job = make_job(oidc(broker, tokens), records=500)
    goes(job)
    job.nothing_new()
    assert tokens.requests[0] == {"grant_type": "client_credentials", "scope": "kafka"}
    assert len(tokens.requests) == 2, "one token for each run"


def test_tokens_that_a_program_prints(broker, make_job, tmp_path):
    (tmp_path / "token").write_text(signed(broker.directory / "tokens" / "key.pem"))
    token = {"sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.token": f"command:cat {tmp_path}/token"}
    goes(make_job(tls(broker) | token))


def test_a_token_that_ends_while_a_topic_is_read(broker, make_job, tokens, slow_reader):
    tokens.lasts_s = TOKEN_LIFE_S
    job = make_job(oidc(broker, tokens) | SMALL_FETCHES)
    Feed(job.topic).send(5000)
    started = time.monotonic()
    goes(job)
    assert time.monotonic() - started > 2 * tokens.lasts_s, "long enough for a second token"
    assert len(tokens.requests) > 2, tokens.requests


# --- what is refused


def test_a_wrong_password(broker, make_job):
    job = make_job(scram(broker, "wrong"))
    refused(job, "invalid credentials", "`sasl.username` and `sasl.password`")
    refused(job, "invalid credentials", command="check")


def test_a_wrong_password_for_plain(broker, make_job):
    refused(make_job(scram(broker, "wrong", "plain", "PLAIN")), "Invalid username or password")


def test_a_mechanism_that_the_listener_does_not_offer(broker, make_job):
    job = make_job(scram(broker) | {"security.protocol": "SASL_PLAINTEXT"}, "plain")
    refused(job, "`sasl.mechanism` has to be one that this listener offers")


def test_kerberos(broker, make_job):
    job = make_job(tls(broker) | {"sasl.mechanism": "GSSAPI"})
    refused(job, "GSSAPI (Kerberos), which is not built into tidegate", code=78)


@pytest.mark.parametrize(
    ("listener", "cause", "advice"),
    [
        ("expired", "has expired", "its owner has to renew it"),
        ("elsewhere", "is for another host", "`advertised.listeners`"),
    ],
)
def test_a_bad_certificate(broker, make_job, listener, cause, advice):
    at = broker.listeners[listener]
    refused(make_job(scram(broker), listener), f"the certificate of {at} {cause}", advice)


@pytest.mark.parametrize("ca", [None, "other-ca"])
def test_an_unknown_authority(broker, make_job, ca):
    kafka = scram(broker, ca=ca)
    if ca is None:
        del kafka["ssl.ca.location"]
    refused(make_job(kafka), "is signed by an authority that is not trusted here", "`ssl.ca.location`")


@pytest.mark.parametrize("name", [None, "stranger"])
def test_no_certificate_of_the_client_or_one_that_nobody_knows(broker, make_job, name):
    kafka = tls(broker, "SSL")
    if name:
        folder = broker.directory / "certificates"
        kafka["ssl.certificate.location"] = f"{folder}/{name}.pem"
        kafka["ssl.key.location"] = f"{folder}/{name}.key"
    refused(make_job(kafka, "mtls"), "refused the client's certificate", "`ssl.certificate.location`")


def test_a_token_server_that_refuses(broker, make_job, tokens):
    job = make_job(oidc(broker, tokens, "wrong"))
    run = refused(job, "invalid_client: who is that?", "`sasl.oauthbearer.client.id`")
    assert tokens.url in run.stderr


def test_a_token_server_that_is_out_of_reach_or_out_of_order(broker, make_job, tokens):
    job = make_job(oidc(broker, tokens) | {"sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1:1/token"})
    refused(job, "Connection refused", "http://127.0.0.1:1/token", code=75)
    tokens.answer = (500, {"error": "server_error"})
    refused(changed(job, oidc(broker, tokens)), "the server answered 500", code=75)


def test_a_token_for_somebody_else(broker, make_job, tokens):
    tokens.claims = {"aud": "another"}
    refused(make_job(oidc(broker, tokens)), "invalid_token", "audience")


def test_a_topic_that_may_not_be_read(broker, make_job):
    job = make_job(scram(broker, user="nobody"), allowed=False)
    refused(job, f"does not let this client read topic `{job.topic.name}`", "READ and DESCRIBE")


def test_a_group_that_may_not_be_written_is_a_warning(broker, make_job):
    job = make_job(scram(broker), allowed=False, name="closed")
    allow(broker, ResourceType.TOPIC, job.topic.name)
    report = job.go(readers=READERS)
    assert [warning for warning in report["warnings"] if "READ on the group" in warning], report["warnings"]


def test_a_listener_that_speaks_otherwise_is_no_refusal(broker, make_job):
    job = make_job({}, "sasl")
    refused(job, "`security.protocol`", code=75)


def test_a_client_that_is_removed_in_mid_run(broker, make_job, tokens, slow_reader):
    """Its token ends, there is no other, the broker closes the connection: no stall."""
    tokens.lasts_s = TOKEN_LIFE_S
    job = make_job(oidc(broker, tokens) | SMALL_FETCHES)
    Feed(job.topic).send(5000)
    process = job.start("run")
    while not tokens.requests and process.poll() is None:
        time.sleep(0.1)
    tokens.answer = (401, {"error": "invalid_client", "error_description": "gone for good"})
    # A stall would end it with 75.
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 77, stderr
    assert "gone for good" in stderr
