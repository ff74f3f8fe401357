//! What librdkafka says by itself, between the answers: refused credentials, brokers that cannot be reached, how far its
//! fetches came.
//!
//! librdkafka answers a request that no broker took with "timed out"; the cause is only in its error callback. This room
//! remembers the cause until it is asked for. It never ends anything by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::types::RDKafkaErrorCode as Code;
use tracing::{debug, error, info, warn};

use crate::offsets::{Offset, Partition};

/// Heard through the callbacks of one client, kept for the room that asked something of it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    refused: Option<String>,
    broken: Option<String>,
    unreachable: Option<String>,
    all_down: bool,
    fetched: Option<HashMap<Partition, Offset>>,
}

impl Health {
    /// Takes an error of no request in particular.
    pub(super) fn heard(&self, code: Code, reason: &str) {
        let mut heard = self.lock();
        match code {
            // Only `mirror` needs the group, and its own answer says so.
            Code::GroupAuthorizationFailed => {}
            _ if is_denial(code) => heard.refused = Some(reason.to_owned()),
            Code::Fatal => heard.broken = Some(reason.to_owned()),
            Code::AllBrokersDown => heard.all_down = true,
            _ => {
                debug!(target: "librdkafka", ?code, reason, "error without a request");
                heard.unreachable = Some(reason.to_owned());
            }
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

    /// Why credentials or permissions were refused, if they were.
    pub(super) fn refused(&self) -> Option<String> {
        self.lock().refused.clone()
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

/// Whether the broker knows who asks and says no, or does not believe who asks (or we do not believe the broker: TLS).
pub(super) fn is_denial(code: Code) -> bool {
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

/// One line of librdkafka's log. What it calls an error is about one connection; whether that is an error of the run is decided
/// elsewhere, so none is more than a warning here.
pub(super) fn log(level: i32, facility: &str, line: &str) {
    match level {
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
        assert_eq!((health.refused(), health.broken()), (None, None));
        health.answered();
        assert_eq!((health.unreachable(), health.all_down()), (None, false));

        health.heard(Code::GroupAuthorizationFailed, "a group that is never joined");
        assert_eq!(health.refused(), None);
        health.heard(Code::Authentication, "wrong password");
        health.heard(Code::Fatal, "fenced");
        health.answered();
        assert_eq!((health.refused().as_deref(), health.broken().as_deref()), (Some("wrong password"), Some("fenced")));
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
