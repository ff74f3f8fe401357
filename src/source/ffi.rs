//! The part of librdkafka that its Rust wrapper does not reach: batch consume, offsets of end-of-partition events, leader
//! epochs, `ListOffsets`, topic ids, and a client without a group: one with a group looks for its coordinator at each start.
//!
//! Owns every pointer of librdkafka and all of the crate's unsafe code. Decides nothing: what an answer means is said in the
//! rooms above. Invariant: whatever came from a client (queues, events, messages) borrows from it, so it is gone before it.

#![expect(unsafe_code, reason = "the only room that calls C; every block says why it is sound")]

pub(super) mod ask;
mod callbacks;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod clock;
mod raw;
mod records;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::NativeClientConfig;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;

use self::callbacks::Listener;
use self::raw::{List, count, millis, slice, take_error};
pub(super) use self::records::{Batch, Message};
use crate::offsets::{Offset, Partition};
use crate::source::health::Health;
use crate::source::security::login::Login;

/// A refusal as librdkafka words it.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
}

impl Failure {
    fn of(code: RDKafkaRespErr) -> Self {
        let code = RDKafkaErrorCode::from(code);
        Self { code, reason: code.to_string() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

/// A consumer of one topic that is told what to read and belongs to no group: what librdkafka calls a simple consumer.
pub(super) struct Consumer {
    client: NonNull<sys::rd_kafka_t>,
    records: NonNull<sys::rd_kafka_queue_t>,
    /// Held while the client lives, so that librdkafka keeps knowing the topic's leaders.
    topic: NonNull<sys::rd_kafka_topic_t>,
    topic_name: CString,
    /// Partitions that are read.
    reading: Mutex<BTreeSet<Partition>>,
    /// The opaque of every callback; librdkafka calls none after `rd_kafka_destroy_flags` has returned.
    listener: Arc<Listener>,
}

// SAFETY: librdkafka is documented as completely thread-safe, and `Listener` is `Send + Sync`.
unsafe impl Send for Consumer {}
// SAFETY: as above.
unsafe impl Sync for Consumer {}

impl Consumer {
    /// Starts the client's threads; connects to nothing by itself. Where there is a login, a thread of the client asks it for a
    /// token now, and again before that ends.
    pub(super) fn new(
        config: NativeClientConfig,
        topic_name: CString,
        health: Arc<Health>,
        login: Option<Login>,
    ) -> Result<Self, Failure> {
        #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
        clock::wait_by_the_monotonic_clock();
        let listener = Arc::new(Listener { health, login });
        listener.listen(&config);
        let mut reason = [0_u8; 512];
        // SAFETY: `config` is a live configuration. `rd_kafka_new` writes at most `reason.len()` bytes, ended by NUL.
        let client = unsafe {
            let kind = sys::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            sys::rd_kafka_new(kind, config.ptr(), reason.as_mut_ptr().cast(), reason.len())
        };
        let Some(client) = NonNull::new(client) else {
            let reason = CStr::from_bytes_until_nul(&reason).map(CStr::to_string_lossy);
            // SAFETY: reads what the call before left for its thread.
            let code = unsafe { sys::rd_kafka_last_error() }.into();
            return Err(Failure { code, reason: reason.map_or_else(|_| "no reason given".into(), Into::into) });
        };
        mem::forget(config); // `rd_kafka_new` took it over
        // SAFETY: the client is live; a name of legal length makes a topic. What is not handed out is freed, the client last.
        unsafe {
            let records = NonNull::new(sys::rd_kafka_queue_new(client.as_ptr()));
            let topic = NonNull::new(sys::rd_kafka_topic_new(client.as_ptr(), topic_name.as_ptr(), ptr::null_mut()));
            if let (Some(records), Some(topic)) = (records, topic) {
                let consumer = Self { client, records, topic, topic_name, reading: Mutex::default(), listener };
                return consumer.log_in().map(|()| consumer);
            }
            let failure = Failure::of(sys::rd_kafka_last_error());
            records.into_iter().for_each(|queue| sys::rd_kafka_queue_destroy(queue.as_ptr()));
            topic.into_iter().for_each(|topic| sys::rd_kafka_topic_destroy(topic.as_ptr()));
            sys::rd_kafka_destroy(client.as_ptr());
            Err(failure)
        }
    }

    /// Runs the callbacks that wait: errors and statistics reach [`Health`] here, on the caller's thread.
    pub(super) fn serve(&self) {
        // SAFETY: the client is live.
        unsafe { sys::rd_kafka_poll(self.client.as_ptr(), 0) };
    }

    /// Asks any broker for the topic's partitions, and waits for the answer.
    pub(super) fn leaders(&self, timeout: Duration) -> Result<Leaders, Failure> {
        let mut metadata = ptr::null();
        // SAFETY: client and topic are live; on success the answer is ours to free, which happens once, after it was read. The
        // counts are those of the arrays.
        unsafe {
            let code = sys::rd_kafka_metadata(self.client.as_ptr(), 0, self.topic.as_ptr(), &raw mut metadata, millis(timeout));
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Failure::of(code));
            }
            let topic = slice((*metadata).topics, count((*metadata).topic_cnt)).first();
            let read = match topic {
                None => Err(Failure::of(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)),
                Some(topic) if topic.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Err(Failure::of(topic.err)),
                Some(topic) => {
                    let partitions = slice(topic.partitions, count(topic.partition_cnt)).iter();
                    Ok(partitions.map(|partition| (partition.id, (partition.leader >= 0).then_some(partition.leader))).collect())
                }
            };
            sys::rd_kafka_metadata_destroy(metadata);
            read
        }
    }

    /// Kafka's cluster id, when an answer has carried it within `wait`.
    pub(super) fn cluster_id(&self, wait: Duration) -> Option<String> {
        // SAFETY: the client is live; the answer is null or a string that is ours to free.
        unsafe {
            let id = NonNull::new(sys::rd_kafka_clusterid(self.client.as_ptr(), millis(wait)))?;
            let text = CStr::from_ptr(id.as_ptr()).to_string_lossy().into_owned();
            sys::rd_kafka_mem_free(self.client.as_ptr(), id.as_ptr().cast());
            Some(text)
        }
    }

    /// Begins to read partitions that are not read yet, each from its position on.
    pub(super) fn start(&self, starts: &[(Partition, Offset)]) -> Result<(), Failure> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        for &(partition, offset) in starts {
            // SAFETY: topic and queue are live, and the queue outlives the reading: it goes with the client.
            let code = unsafe { sys::rd_kafka_consume_start_queue(self.topic.as_ptr(), partition, offset, self.records.as_ptr()) };
            last_error(code)?;
            reading.insert(partition);
        }
        Ok(())
    }

    /// Goes to positions of partitions that are read, and has the leader confirm each epoch before anything more is read. What was
    /// read before is thrown away. Answers false when librdkafka is not yet ready to go there.
    pub(super) fn seek(&self, starts: &[(Partition, Offset, Option<i32>)], timeout: Duration) -> Result<bool, Failure> {
        let list = List::new(&self.topic_name, starts.iter().copied());
        // SAFETY: client and list are live; the call writes each element's outcome, and gives us the error, which `take_error`
        // frees.
        unsafe {
            take_error(sys::rd_kafka_seek_partitions(self.client.as_ptr(), list.0.as_ptr(), millis(timeout)))?;
            let elements = slice((*list.0.as_ptr()).elems, count((*list.0.as_ptr()).cnt));
            let not_yet = [RDKafkaRespErr::RD_KAFKA_RESP_ERR__STATE, RDKafkaRespErr::RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS];
            Ok(!elements.iter().any(|element| not_yet.contains(&element.err)))
        }
    }

    /// Stops reading these partitions, and drops what of them is queued.
    pub(super) fn stop(&self, partitions: &[Partition]) -> Result<(), Failure> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions.iter().filter(|&partition| reading.remove(partition)) {
            // SAFETY: the topic is live. The call waits for a thread of the client, never for a broker.
            last_error(unsafe { sys::rd_kafka_consume_stop(self.topic.as_ptr(), *partition) })?;
        }
        Ok(())
    }

    /// Stops reading altogether.
    pub(super) fn stop_all(&self) -> Result<(), Failure> {
        let all: Vec<_> = self.reading.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        self.stop(&all)
    }
}

/// The refusal behind the answer of a call that only says whether there was one.
fn last_error(answer: i32) -> Result<(), Failure> {
    if answer == 0 {
        return Ok(());
    }
    // SAFETY: reads what the call before left for its thread.
    Err(Failure::of(unsafe { sys::rd_kafka_last_error() }))
}

/// Each partition of the topic, with the broker that leads it.
pub(super) type Leaders = Vec<(Partition, Option<i32>)>;

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: all are live and not used after this; the client goes last, as the manual asks. There is nothing to close: it has
        // no group.
        unsafe {
            sys::rd_kafka_queue_destroy(self.records.as_ptr());
            sys::rd_kafka_topic_destroy(self.topic.as_ptr());
            sys::rd_kafka_destroy_flags(self.client.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

#[cfg(test)]
mod tests;
