//! What librdkafka says by itself, between the answers: refused credentials, brokers that cannot be reached, how far its
//! fetches came.
//!
//! librdkafka answers a request that no broker took with "timed out"; the cause is only in its error callback. This room
//! remembers the cause until it is asked for. It never ends anything by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use tracing::{debug, error, info, warn};

use crate::error::{Error, Result};
use crate::offsets::{Offset, Partition};
use crate::source::now;
use crate::source::security::refusal::Refusal;

/// Heard through the callbacks of one client, kept for the room that asked something of it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// The last refusal, and when it was heard of.
    refused: Option<(Instant, Refusal)>,
    refusals: u64,
    /// OpenSSL's last verdict of a broker's certificate, by the broker's address.
    verdicts: HashMap<String, i32>,
    /// Whether there ever was a token.
    has_token: bool,
    /// Why there is no new one, where the last attempt failed.
    no_token: Option<Error>,
    broken: Option<String>,
    unreachable: Option<String>,
    all_down: bool,
    fetched: Option<HashMap<Partition, Offset>>,
}

impl Health {
    /// Takes an error of no request in particular.
    pub(super) fn heard(&self, code: Code, reason: &str) {
        let mut heard = self.lock();
        let refusal = Refusal::read(code, reason, |broker| heard.verdicts.get(broker).copied());
        match code {
            // Said by us, to librdkafka; we know more of it.
            _ if reason.starts_with(TOKEN_FAILED) => {}
            _ if refusal.is_some() => {
                heard.refused = refusal.map(|refusal| (now(), refusal));
                heard.refusals += 1;
            }
            Code::Fatal => heard.broken = Some(reason.to_owned()),
            Code::AllBrokersDown => heard.all_down = true,
            _ => {
                debug!(target: "librdkafka", ?code, reason, "error without a request");
                heard.unreachable = Some(reason.to_owned());
            }
        }
    }

    /// Takes OpenSSL's verdict of a broker's certificate: a number of its `x509_vfy.h`.
    pub(super) fn distrusted(&self, broker: &str, verdict: i32) {
        self.lock().verdicts.insert(broker.to_owned(), verdict);
    }

    /// Takes what an attempt to get a token ended with.
    pub(super) fn logged_in(&self, outcome: Result<()>) {
        let mut heard = self.lock();
        heard.has_token |= outcome.is_ok();
        heard.no_token = outcome.err();
        if let Some(error) = &heard.no_token {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            warn!(%error, cause, "no new token; what is left of the last one is used up first");
        }
    }

    /// Takes librdkafka's statistics: they alone tell how far a fetch came that yields no record.
    pub(super) fn measured(&self, json: &[u8]) {
        match serde_json::from_slice::<Statistics>(json) {
            Ok(statistics) => self.lock().fetched = Some(statistics.positions()),
            Err(error) => debug!(%error, "statistics that cannot be read"),
        }
    }

    /// The next offset to fetch per partition, once for each measurement.
    pub(super) fn take_fetched(&self) -> Option<HashMap<Partition, Offset>> {
        self.lock().fetched.take()
    }

    /// How many refusals were heard of. librdkafka tells the same one of the same broker again after half a minute.
    pub(super) fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    /// The error for credentials that were refused, if they were of late: why there is no token, where that is why.
    pub(super) fn denied(&self, doing: impl FnOnce() -> String) -> Option<Error> {
        self.denied_at(now(), doing)
    }

    fn denied_at(&self, now: Instant, doing: impl FnOnce() -> String) -> Option<Error> {
        let mut heard = self.lock();
        let (at, refusal) = heard.refused.clone()?;
        if now.saturating_duration_since(at) > REFUSED_MAX {
            return None;
        }
        Some(heard.no_token.take().unwrap_or_else(|| refusal.into_error(doing())))
    }

    /// Why no connection can be opened, where that takes a token and there never was one.
    pub(super) fn without_token(&self) -> Option<Error> {
        let mut heard = self.lock();
        if heard.has_token { None } else { heard.no_token.take() }
    }

    /// Why the client cannot go on at all, if so.
    pub(super) fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// Why a broker could not be reached, if one could not.
    pub(super) fn unreachable(&self) -> Option<String> {
        self.lock().unreachable.clone()
    }

    /// Whether every known broker is down.
    pub(super) fn all_down(&self) -> bool {
        self.lock().all_down
    }

    /// An answer came: what was wrong with the connections before is over.
    pub(super) fn answered(&self) {
        let mut heard = self.lock();
        heard.all_down = false;
        heard.unreachable = None;
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a refusal may be why something goes wrong. One that lasts is heard of again sooner: librdkafka tells the same one of the
/// same broker again after half a minute.
const REFUSED_MAX: Duration = Duration::from_secs(45);

/// How librdkafka begins when it passes on that there is no token.
const TOKEN_FAILED: &str = "Failed to acquire SASL OAUTHBEARER token";

/// One line of librdkafka's log. What it calls an error is about one connection; whether that is an error of the run is decided
/// elsewhere, so none is more than a warning here.
pub(super) fn log(level: i32, facility: &str, line: &str) {
    match level {
        // Each attempt says so again; the verdict is told once, with its meaning.
        _ if facility == "SSLCERTVRFY" => debug!(target: "librdkafka", facility, "{line}"),
        ..=2 => error!(target: "librdkafka", facility, "{line}"),
        3 | 4 => warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => info!(target: "librdkafka", facility, "{line}"),
        _ => debug!(target: "librdkafka", facility, "{line}"),
    }
}

#[derive(serde::Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(serde::Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(serde::Deserialize)]
struct PartitionStatistics {
    partition: Partition,
    next_offset: Offset,
}

impl Statistics {
    /// A client reads one topic, so partition numbers are unique.
    fn positions(self) -> HashMap<Partition, Offset> {
        let partitions = self.topics.into_values().flat_map(|topic| topic.partitions.into_values());
        partitions.map(|partition| (partition.partition, partition.next_offset)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_is_kept_by_whose_turn_it_is() {
        let health = Health::default();
        health.heard(Code::BrokerTransportFailure, "connection refused");
        health.heard(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!((health.unreachable().as_deref(), health.all_down()), (Some("connection refused"), true));
        assert_eq!((health.refusals(), health.broken()), (0, None));
        health.answered();
        assert_eq!((health.unreachable(), health.all_down()), (None, false));

        health.heard(Code::Authentication, "wrong password");
        health.heard(Code::Fatal, "fenced");
        health.answered();
        assert_eq!((health.refusals(), health.broken().as_deref()), (1, Some("fenced")));
        let error = health.denied(|| "read".into()).unwrap();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (77, "not allowed to read"));
    }

    #[test]
    fn a_refusal_that_is_over_does_not_explain_a_later_silence() {
        let health = Health::default();
        health.heard(Code::Authentication, "wrong password");
        let later = |seconds| health.denied_at(now() + Duration::from_secs(seconds), String::new);
        assert_eq!(later(40).unwrap().exit_code(), 77, "librdkafka may not have told it again yet");
        assert!(later(50).is_none());
        health.heard(Code::Authentication, "wrong password");
        assert_eq!(health.denied(String::new).unwrap().exit_code(), 77);
    }

    #[test]
    fn what_is_known_of_a_certificate_and_of_a_token_goes_before_what_librdkafka_says() {
        let health = Health::default();
        health.distrusted("b1:9093", 62);
        health.heard(Code::SSL, "ssl://b1:9093/1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed");
        let error = health.denied(|| "read".into()).unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.starts_with("the certificate of b1:9093 is for another host"), "{cause}");
        assert!(error.hint().unwrap().contains("advertised.listeners"));

        health.heard(Code::Authentication, "Failed to acquire SASL OAUTHBEARER token: no token");
        assert_eq!(health.refusals(), 1, "that is told by whom we asked");
        health.logged_in(Err(Error::unavailable("get a token", "gone")));
        assert_eq!(health.denied(|| "read".into()).unwrap().exit_code(), 75, "the broker refuses a token that ended");
    }

    #[test]
    fn without_a_first_token_nobody_waits_for_an_answer() {
        let health = Health::default();
        assert!(health.without_token().is_none(), "it is still on its way");
        health.logged_in(Err(Error::denied("get a token", "wrong secret", "")));
        assert_eq!(health.without_token().unwrap().exit_code(), 77);
        health.logged_in(Ok(()));
        health.logged_in(Err(Error::unavailable("get a token", "gone")));
        assert!(health.without_token().is_none(), "the first one is still good");
    }

    #[test]
    fn statistics_tell_how_far_fetches_came() {
        let health = Health::default();
        health.measured(b"not json");
        assert_eq!(health.take_fetched(), None);
        health.measured(
            br#"{"name":"c","topics":{"tide":{"topic":"tide","partitions":{
                "0":{"partition":0,"next_offset":17,"rxmsgs":3},"-1":{"partition":-1,"next_offset":-1001}}}}}"#,
        );
        assert_eq!(health.take_fetched(), Some(HashMap::from([(0, 17), (-1, -1001)])));
        assert_eq!(health.take_fetched(), None, "a measurement counts once");
    }
}
