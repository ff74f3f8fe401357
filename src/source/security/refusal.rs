//! What a broker's refusal means, in terms of who can do something about it.
//!
//! librdkafka words it for those who know its log; all that it knows of a bad certificate is "verify failed".

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::error::Error;

/// Why one of the two did not believe the other, or the broker said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Refusal {
    /// What happened, at which broker.
    pub(in crate::source) what: String,
    /// Who can do what about it.
    pub(in crate::source) hint: String,
}

/// Whether the broker knows who asks and says no, or does not believe who asks (or we do not believe the broker: TLS).
pub(in crate::source) fn is_denial(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SSL
    )
}

impl Refusal {
    /// The error that ends a run. `doing`: present-tense verb and object.
    pub(in crate::source) fn into_error(self, doing: String) -> Error {
        Error::denied(doing, self.what, self.hint)
    }

    /// Of an error that librdkafka met on a connection; none where the connection broke, which may be over soon. `verdict` is
    /// OpenSSL's of the certificate of a broker.
    pub(in crate::source) fn read(code: Code, reason: &str, verdict: impl FnOnce(&str) -> Option<i32>) -> Option<Self> {
        // Nothing that a run needs goes to the coordinator, whose log-ins collide with those at the same broker's own connection
        // while tokens are renewed. A broker that refuses the client does so there, too.
        if reason.starts_with("GroupCoordinator: ") {
            return None;
        }
        let (broker, reason) = parts(reason);
        if reason.contains("certificate verify failed") || reason.contains("Failed to verify broker certificate") {
            return Some(Self::of_certificate(broker, verdict(broker)));
        }
        if let Some(alert) = alert(reason) {
            return Some(Self::of_alert(broker, alert));
        }
        // Every failure while a client logs in has this code, a connection that broke among them.
        let broke = ["Local: ", "isconnected", "hung up"].iter().any(|mark| reason.contains(mark));
        if !is_denial(code) || code == Code::Authentication && broke {
            return None;
        }
        let hint = if reason.contains("supported mechanisms") {
            "`sasl.mechanism` has to be one that this listener offers; where it names none, it is not one for SASL, and \
             `security.protocol` does not fit it"
        } else if reason.contains("OAUTHBEARER") || reason.contains("invalid_token") {
            "the broker does not take the token: do its audience, issuer, scope and lifetime fit what the broker wants, and are the \
             clocks right?"
        } else if code == Code::SSL {
            "do the versions of TLS and the ciphers that client and broker offer fit?"
        } else {
            "`sasl.username` and `sasl.password` have to be known to the broker under this `sasl.mechanism`"
        };
        Some(Self { what: format!("{broker}: {reason}"), hint: hint.into() })
    }

    /// What the broker answered to a question.
    pub(in crate::source) fn of_answer(code: Code, topic: &str) -> Option<Self> {
        let (what, hint) = match code {
            Code::TopicAuthorizationFailed => (
                format!("the broker does not let this client read topic `{topic}`"),
                format!("an administrator of Kafka can allow it: READ and DESCRIBE on topic `{topic}`"),
            ),
            Code::GroupAuthorizationFailed => (
                "the broker does not let this client write the group's offsets".into(),
                "an administrator of Kafka can allow it: READ on the group; `kafka.mirror_group = false` does without".into(),
            ),
            Code::ClusterAuthorizationFailed => (
                "the broker does not let this client ask it anything".into(),
                "an administrator of Kafka can allow it: DESCRIBE on the cluster".into(),
            ),
            _ => return None,
        };
        Some(Self { what, hint })
    }

    fn of_certificate(broker: &str, verdict: Option<i32>) -> Self {
        // Numbers of OpenSSL's `x509_vfy.h`.
        let (what, hint) = match verdict {
            Some(10) => ("has expired", "its owner has to renew it; is this machine's clock right?"),
            Some(9) => ("is not valid yet", "is this machine's clock right?"),
            Some(62 | 64) => (
                "is for another host",
                "`bootstrap.servers`, and the broker's own `advertised.listeners`, have to use a name that the certificate holds",
            ),
            Some(2 | 18..=21) => (
                "is signed by an authority that is not trusted here",
                "`ssl.ca.location` (a file or a folder) or `ssl.ca.pem` names the authority; without them it is one of the system's",
            ),
            Some(23) => ("is revoked", "its owner has to renew it"),
            Some(66..=69) => ("is too weak for this machine's security level", "its owner has to renew it with a larger key"),
            _ => ("cannot be verified", "does `ssl.ca.location` name the authority that signed it?"),
        };
        let number = verdict.map(|number| format!(" (OpenSSL's X.509 error {number})")).unwrap_or_default();
        Self { what: format!("the certificate of {broker} {what}{number}"), hint: hint.into() }
    }

    fn of_alert(broker: &str, alert: u32) -> Self {
        let what = match alert {
            44 => "was revoked",
            45 => "has expired",
            48 => "is signed by an authority that the broker does not trust",
            116 => "is missing",
            _ => "is missing, or one that the broker does not trust",
        };
        Self {
            what: format!("{broker} refused the client's certificate: it {what} (TLS alert {alert})"),
            hint: "`ssl.certificate.location` and `ssl.key.location` (or `.pem`, or `ssl.keystore.location`) hold the client's \
                   certificate and key; the broker sends for them where its listener demands them"
                .into(),
        }
    }
}

/// The broker's address, and librdkafka's words without it and without how long it took.
fn parts(reason: &str) -> (&str, &str) {
    let words = reason.rfind(" (after ").map_or(reason, |end| &reason[..end]);
    let Some((_, rest)) = words.split_once("://") else { return ("a broker", words) };
    let Some((name, words)) = rest.split_once(": ") else { return ("a broker", words) };
    (name.split('/').next().unwrap_or(name), words)
}

/// The alert by which a broker refuses a certificate, by its number in RFC 8446.
fn alert(reason: &str) -> Option<u32> {
    let (_, number) = reason.split_once("SSL alert number ")?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).map_or(number, |end| &number[..end]);
    digits.parse().ok().filter(|number| matches!(number, 41..=46 | 48 | 49 | 116))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: Code, reason: &str) -> Option<Refusal> {
        Refusal::read(code, reason, |broker| (broker == "b1:9093").then_some(10))
    }

    #[test]
    fn a_refusal_names_the_broker_and_the_cause() {
        let refusal = read(
            Code::Authentication,
            "sasl_ssl://b1:9093/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (after \
             301ms in state AUTH_REQ, 1 identical error(s) suppressed)",
        )
        .unwrap();
        assert_eq!(refusal.what, "b1:9093: SASL authentication error: Authentication failed: Invalid username or password");
        assert!(refusal.hint.contains("sasl.password"), "{}", refusal.hint);
        let refusal = read(
            Code::Authentication,
            "sasl_ssl://b1:9093/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's \
             supported mechanisms: SCRAM-SHA-512 (after 4ms in state AUTH_HANDSHAKE)",
        );
        assert!(refusal.unwrap().hint.contains("sasl.mechanism"));
    }

    #[test]
    fn a_certificate_is_judged_by_what_openssl_found() {
        let failed =
            "sasl_ssl://b1:9093/1: error:0A000086:SSL routines::certificate verify failed (after 21ms in state SSL_HANDSHAKE)";
        let refusal = read(Code::BrokerTransportFailure, failed).unwrap();
        assert_eq!(refusal.what, "the certificate of b1:9093 has expired (OpenSSL's X.509 error 10)");
        let elsewhere = read(Code::SSL, &failed.replace("b1", "b2")).unwrap();
        assert_eq!(elsewhere.what, "the certificate of b2:9093 cannot be verified");
    }

    #[test]
    fn a_broker_that_wants_a_certificate_refuses_after_the_handshake() {
        let reason = "ssl://b1:9093/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert \
                      number 42 (after 0ms in state APIVERSION_QUERY)";
        let refusal = read(Code::BrokerTransportFailure, reason).unwrap();
        assert!(refusal.what.starts_with("b1:9093 refused the client's certificate"), "{}", refusal.what);
        assert_eq!(read(Code::BrokerTransportFailure, &reason.replace("number 42", "number 80")), None, "an internal error");
    }

    #[test]
    fn a_connection_that_breaks_or_that_is_not_needed_is_no_refusal() {
        for (code, reason) in [
            (Code::BrokerTransportFailure, "sasl_ssl://b1:9093/1: Connect to ipv4#127.0.0.1:9093 failed: Connection refused"),
            (Code::Authentication, "sasl_ssl://b1:9093/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure"),
            (
                Code::Authentication,
                "GroupCoordinator: b1:9093: SASL OAUTHBEARER mechanism handshake failed: Broker: Request not valid in current SASL \
                 state: broker's supported mechanisms:  (after 2ms in state AUTH_HANDSHAKE)",
            ),
            (Code::Authentication, "sasl_ssl://b1:9093/1: SaslAuthenticateRequest failed: Local: Timed out"),
            (Code::Authentication, "sasl_ssl://b1:9093/1: Disconnected: hung up from peer in state AUTH_LEGACY"),
        ] {
            assert_eq!(read(code, reason), None, "{reason}");
        }
    }
}
