//! librdkafka's properties: which names exist, and which would break the guarantee.
//!
//! Pure. A name that librdkafka does not know and that is near none it knows is passed on: librdkafka has the last word.

use super::nearest::nearest_within;

/// What the job file may do with a property.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is handed to librdkafka.
    Pass,
    /// It is refused, for this reason.
    Refused(&'static str),
    /// It is most likely a misspelling of this one.
    Meant(&'static str),
}

const OFFSETS: &str = "offsets are kept in the table and nowhere else";
const GROUP: &str = "partitions are assigned by the plan; tidegate never joins a consumer group";
const CODE: &str = "it is set by code, not by text";
const EVENTS: &str = "tidegate chooses itself what librdkafka tells it";

/// Properties that would break the guarantee, whatever their value.
const REFUSED: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "a misspelt topic must be an error, not a new topic"),
    ("auto.commit.enable", OFFSETS),
    ("auto.commit.interval.ms", OFFSETS),
    ("auto.offset.reset", "an offset that is gone must stop the run, not move it; where a first run begins is `start`"),
    ("builtin.features", "it can only be read"),
    ("consume.callback.max.messages", EVENTS),
    ("enable.auto.commit", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("enable.partition.eof", "the end of a range is known by it, so it is always on"),
    ("enabled_events", EVENTS),
    ("group.id", "tidegate never joins a consumer group; `mirror_group` shows the offsets in the group `tidegate-<name>`"),
    ("group.instance.id", GROUP),
    ("group.protocol", GROUP),
    ("group.protocol.type", GROUP),
    ("group.remote.assignor", GROUP),
    ("interceptors", CODE),
    ("internal.termination.signal", "signals end a run in order: what was read is committed first"),
    ("isolation.level", "it is always `read_committed`: aborted records must not reach the table"),
    ("log.queue", EVENTS),
    ("metadata.broker.list", "it is written `bootstrap.servers`"),
    ("offset.store.method", OFFSETS),
    ("offset.store.path", OFFSETS),
    ("offset.store.sync.interval.ms", OFFSETS),
    ("partition.assignment.strategy", GROUP),
    ("plugin.library.paths", "foreign code in the process could change what is read"),
    ("topic.blacklist", "it could hide the job's own topic"),
];

/// Properties of which one value would break the guarantee.
const REFUSED_VALUES: &[(&str, &str, &str)] = &[
    ("api.version.request", "false", "without it librdkafka cannot tell committed records from aborted ones"),
    ("check.crcs", "false", "a record damaged on its way must not reach the table"),
];

/// What becomes of `name = value`.
pub(super) fn judge(name: &str, value: &str) -> Verdict {
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Verdict::Refused(reason);
    }
    let bad_value = |(refused, bad, _): &&(&str, &str, &str)| *refused == name && value.trim().eq_ignore_ascii_case(bad);
    if let Some((_, _, reason)) = REFUSED_VALUES.iter().find(bad_value) {
        return Verdict::Refused(reason);
    }
    if name.ends_with("_cb") {
        return Verdict::Refused(CODE);
    }
    if is_known(name) || OURS.contains(&name) {
        return Verdict::Pass;
    }
    // Near enough to be a misspelling; further away it may be a property that is younger than this list.
    let names = KNOWN.iter().chain(OURS).chain(REFUSED.iter().map(|(name, _)| name)).copied();
    match nearest_within(name, names, 0.8) {
        Some(meant) => Verdict::Meant(meant),
        None => Verdict::Pass,
    }
}

/// Every name that a job file may be expected to hold, those that are refused with their reason included.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let refused = REFUSED.iter().map(|(name, _)| *name).filter(|name| !is_known(name));
    KNOWN.iter().chain(OURS).copied().chain(refused)
}

/// Whether librdkafka has a property of this name that can be set by text.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Words before a value that is kept elsewhere: in a variable, in a file, in what a program prints.
pub(crate) const ENV: &str = "env:";
pub(crate) const FILE: &str = "file:";
pub(crate) const COMMAND: &str = "command:";
/// Before a value that is what follows, whatever that begins with.
pub(crate) const PLAIN: &str = "plain:";

/// Whether a value begins with one of these words.
pub(super) fn is_place(value: &str) -> bool {
    [ENV, FILE, COMMAND, PLAIN].iter().any(|word| value.starts_with(word))
}

/// Whether the value of a property may be kept elsewhere: secrets, and what is kept beside them.
pub(crate) fn may_be_elsewhere(name: &str) -> bool {
    is_secret(name) || matches!(name, "sasl.username" | "sasl.oauthbearer.client.id")
}

/// Whether it only looks like the name of a secret: certificates are for everybody.
pub(super) fn is_public(name: &str) -> bool {
    matches!(name, "https.ca.pem" | "sasl.oauthbearer.client.credentials.client.id" | "ssl.ca.pem" | "ssl.certificate.pem")
}

/// Whether a name tells that its value is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    // The address of a token server is none.
    !name.ends_with(".url")
        && ["password", "secret", "passphrase", "pem", "oauthbearer.config", "jaas", "token", "credential", "access-key"]
            .iter()
            .any(|part| name.contains(part))
}

/// For tokens; librdkafka has none of these.
const OURS: &[&str] = &[
    "aws.access-key-id",
    "aws.profile-name",
    "aws.region",
    "aws.secret-access-key",
    "aws.session-token",
    "sasl.oauthbearer.token",
];

/// Of librdkafka 2.12, without those that only code can set.
const KNOWN: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "debug",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.metrics.push",
    "enable.partition.eof",
    "enable.random.seed",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "enabled_events",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "https.ca.location",
    "https.ca.pem",
    "internal.termination.signal",
    "isolation.level",
    "linger.ms",
    "log.connection.close",
    "log.queue",
    "log.thread.name",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "partitioner",
    "plugin.library.paths",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "queuing.strategy",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.metadata.authentication.type",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.certificate.stores",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.providers",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
    "transaction.timeout.ms",
    "transactional.id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_what_is_harmless() {
        for (name, value) in [("sasl.username", "me"), ("fetch.max.bytes", "1"), ("debug", "all"), ("check.crcs", "true")] {
            assert_eq!(judge(name, value), Verdict::Pass, "{name}");
        }
        assert_eq!(judge("share.something.new", "1"), Verdict::Pass);
    }

    #[test]
    fn refuses_what_would_break_the_guarantee() {
        for (name, _) in REFUSED {
            assert!(matches!(judge(name, "true"), Verdict::Refused(_)), "{name}");
        }
        assert!(matches!(judge("check.crcs", "False"), Verdict::Refused(_)));
        assert!(matches!(judge("rebalance_cb", ""), Verdict::Refused(_)));
    }

    #[test]
    fn knows_a_misspelling() {
        assert_eq!(judge("sasl.mechansim", "PLAIN"), Verdict::Meant("sasl.mechanism"));
        assert_eq!(judge("enable.autocommit", "true"), Verdict::Meant("enable.auto.commit"));
    }

    /// librdkafka itself is the oracle: it must know every name that we call known or refuse.
    #[test]
    fn agrees_with_librdkafka() {
        for name in KNOWN.iter().chain(REFUSED.iter().map(|(name, _)| name)) {
            let answer = rdkafka::ClientConfig::new().set(*name, "").create_native_config().map(|_| ());
            let said = format!("{answer:?}");
            assert!(!said.contains("No such configuration property"), "{name}: {said}");
        }
        let answer = rdkafka::ClientConfig::new().set("no.such.property", "").create_native_config().map(|_| ());
        assert!(format!("{answer:?}").contains("No such configuration property"), "the oracle answers otherwise: {answer:?}");
    }
}
