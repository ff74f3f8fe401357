//! The part of librdkafka that its Rust wrapper does not reach: batch consume, offsets of end-of-partition events, leader
//! epochs, `ListOffsets`, topic ids, and a client that ends without leaving a group it never joined.
//!
//! Owns every pointer of librdkafka and all of the crate's unsafe code. Decides nothing: what an answer means is said in the
//! rooms above. Invariant: whatever came from a client (queues, events, messages) borrows from it, so it is gone before it.

#![expect(unsafe_code, reason = "the only room that calls C; every block says why it is sound")]

pub(super) mod ask;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod clock;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::NativeClientConfig;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;

use crate::offsets::{Offset, Partition};
use crate::source::health::{self, Health};

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

/// A consumer of one topic that is told what to read and never joins a group.
pub(super) struct Consumer {
    client: NonNull<sys::rd_kafka_t>,
    records: NonNull<sys::rd_kafka_queue_t>,
    /// Held while the client lives, so that librdkafka keeps knowing the topic's leaders.
    topic: NonNull<sys::rd_kafka_topic_t>,
    topic_name: CString,
    /// The opaque of every callback; librdkafka calls none after `rd_kafka_destroy_flags` has returned.
    _health: Arc<Health>,
}

// SAFETY: librdkafka is documented as completely thread-safe, and `Health` is `Send + Sync`.
unsafe impl Send for Consumer {}
// SAFETY: as above.
unsafe impl Sync for Consumer {}

impl Consumer {
    /// Starts the client's threads; connects to nothing by itself.
    pub(super) fn new(config: NativeClientConfig, topic_name: CString, health: Arc<Health>) -> Result<Self, String> {
        #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
        clock::wait_by_the_monotonic_clock();
        let mut reason = [0_u8; 512];
        // SAFETY: `config` is a live configuration, and the opaque lives as long as the client, which keeps the `Arc`.
        // `rd_kafka_new` writes at most `reason.len()` bytes, ended by NUL.
        let client = unsafe {
            sys::rd_kafka_conf_set_opaque(config.ptr(), Arc::as_ptr(&health).cast_mut().cast());
            sys::rd_kafka_conf_set_error_cb(config.ptr(), Some(on_error));
            sys::rd_kafka_conf_set_stats_cb(config.ptr(), Some(on_statistics));
            sys::rd_kafka_conf_set_log_cb(config.ptr(), Some(on_log));
            let kind = sys::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            sys::rd_kafka_new(kind, config.ptr(), reason.as_mut_ptr().cast(), reason.len())
        };
        let Some(client) = NonNull::new(client) else {
            let reason = CStr::from_bytes_until_nul(&reason).map(CStr::to_string_lossy);
            return Err(reason.map_or_else(|_| "no reason given".into(), Into::into));
        };
        mem::forget(config); // `rd_kafka_new` took it over
        // SAFETY: the client is live; a consumer with a group id has this queue, and a name of legal length makes a topic. What
        // is not handed out is freed, the client last.
        unsafe {
            let records = NonNull::new(sys::rd_kafka_queue_get_consumer(client.as_ptr()));
            let topic = NonNull::new(sys::rd_kafka_topic_new(client.as_ptr(), topic_name.as_ptr(), ptr::null_mut()));
            if let (Some(records), Some(topic)) = (records, topic) {
                return Ok(Self { client, records, topic, topic_name, _health: health });
            }
            let reason = text(sys::rd_kafka_err2str(sys::rd_kafka_last_error()));
            records.into_iter().for_each(|queue| sys::rd_kafka_queue_destroy(queue.as_ptr()));
            topic.into_iter().for_each(|topic| sys::rd_kafka_topic_destroy(topic.as_ptr()));
            sys::rd_kafka_destroy(client.as_ptr());
            Err(reason)
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

    /// Reads from exactly these positions from now on; an empty list reads nothing.
    pub(super) fn assign(&self, starts: impl IntoIterator<Item = (Partition, Offset, Option<i32>)>) -> Result<(), Failure> {
        let list = List::new(&self.topic_name, starts);
        // SAFETY: client and list are live; the call copies the list.
        match unsafe { sys::rd_kafka_assign(self.client.as_ptr(), list.0.as_ptr()) } {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(Failure::of(code)),
        }
    }

    /// Goes to positions that [`Self::assign`] has named before, and has the leader confirm each epoch before anything is read:
    /// an assignment alone is not validated. Answers false when librdkafka is not yet ready to go there.
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
    pub(super) fn unassign(&self, partitions: &[Partition]) -> Result<(), Failure> {
        let list = List::new(&self.topic_name, partitions.iter().map(|&partition| (partition, NO_OFFSET, None)));
        // SAFETY: client and list are live; the call copies the list and gives us the error, which `take_error` frees.
        unsafe { take_error(sys::rd_kafka_incremental_unassign(self.client.as_ptr(), list.0.as_ptr())) }
    }

    /// Room for records, to be filled again and again.
    pub(super) fn batch(&self, records_max: usize) -> Batch<'_> {
        Batch { slots: vec![ptr::null_mut(); records_max], filled: 0, client: self }
    }
}

/// Each partition of the topic, with the broker that leads it.
pub(super) type Leaders = Vec<(Partition, Option<i32>)>;

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: all are live and not used after this; the client goes last, as the manual asks. Nothing is left to close: no
        // group was joined, and waiting for a coordinator would only make the end of a run slow.
        unsafe {
            sys::rd_kafka_queue_destroy(self.records.as_ptr());
            sys::rd_kafka_topic_destroy(self.topic.as_ptr());
            sys::rd_kafka_destroy_flags(self.client.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

/// Records that were taken from the queue together. They are freed by the next fill and at the end.
pub(super) struct Batch<'c> {
    slots: Vec<*mut sys::rd_kafka_message_t>,
    filled: usize,
    client: &'c Consumer,
}

impl Batch<'_> {
    /// Takes what is queued; waits up to `wait` for the first record if there is none.
    pub(super) fn fill(&mut self, wait: Duration) {
        self.take(Duration::ZERO, self.slots.len());
        if self.filled == 0 && !wait.is_zero() {
            // A call for many waits until there are so many; a call for one ends with the first.
            self.take(wait, 1);
        }
    }

    /// Whether the last fill found nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The records, in the order of the queue.
    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: the first `filled` slots are live messages of ours until `clear`, which needs `&mut self`.
        self.slots[..self.filled].iter().map(|&slot| Message(unsafe { &*slot }))
    }

    fn take(&mut self, wait: Duration, records_max: usize) {
        self.clear();
        let queue = self.client.records.as_ptr();
        // SAFETY: the queue is live, and there are at least `records_max` slots.
        let taken = unsafe { sys::rd_kafka_consume_batch_queue(queue, millis(wait), self.slots.as_mut_ptr(), records_max) };
        // A negative answer is an error of the call itself, and leaves the slots as they were.
        self.filled = usize::try_from(taken).unwrap_or(0);
    }

    fn clear(&mut self) {
        for slot in &self.slots[..mem::take(&mut self.filled)] {
            // SAFETY: filled slots are live messages of ours; `filled` is zero already, so each is freed once.
            unsafe { sys::rd_kafka_message_destroy(*slot) };
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A record, or an event that stands among the records of its partition.
pub(super) struct Message<'b>(&'b sys::rd_kafka_message_t);

impl Message<'_> {
    /// None for a record.
    pub(super) fn failure(&self) -> Option<Failure> {
        if self.0.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is live, and so is its text.
        let reason = unsafe { text(sys::rd_kafka_message_errstr(self.0)) };
        Some(Failure { code: self.0.err.into(), reason })
    }

    /// Partition; negative for an event of no partition.
    pub(super) fn partition(&self) -> Partition {
        self.0.partition
    }

    /// Offset of the record, or the position at which the event happened; negative where there is none.
    pub(super) fn offset(&self) -> Offset {
        self.0.offset
    }

    /// Key; none where null.
    pub(super) fn key(&self) -> Option<&[u8]> {
        // SAFETY: key and length describe memory of the message, which outlives `&self`.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Value; none where null.
    pub(super) fn value(&self) -> Option<&[u8]> {
        // SAFETY: as in `key`.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Timestamp in ms, and whether the broker set it; none where absent.
    pub(super) fn timestamp(&self) -> Option<(i64, bool)> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        (time != -1).then_some((time, kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME))
    }

    /// Epoch of the leader that wrote the record; none on a broker that keeps none. Of an event it means nothing.
    pub(super) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is live.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.0) };
        (epoch >= 0).then_some(epoch)
    }

    /// Hands every header to `visit`, in order.
    pub(super) fn headers(&self, mut visit: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live; headers, names and values belong to it. The first call caches the parsed headers inside
        // the message's private part, which no other reference of ours covers.
        unsafe {
            if sys::rd_kafka_message_headers(self.0, &raw mut headers) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            for index in 0.. {
                let code = sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size);
                if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    break;
                }
                visit(CStr::from_ptr(name).to_bytes(), bytes(value, size));
            }
        }
    }
}

const NO_OFFSET: Offset = -1001; // RD_KAFKA_OFFSET_INVALID

/// A list of positions in one topic.
struct List(NonNull<sys::rd_kafka_topic_partition_list_t>);

impl List {
    fn new(topic: &CStr, positions: impl IntoIterator<Item = (Partition, Offset, Option<i32>)>) -> Self {
        // SAFETY: fails only where memory does, which librdkafka ends the process for. Every element is written before the
        // next one is added, which may move it.
        unsafe {
            let list = Self(NonNull::new(sys::rd_kafka_topic_partition_list_new(1)).expect("a list is made"));
            for (partition, offset, leader_epoch) in positions {
                let element = sys::rd_kafka_topic_partition_list_add(list.0.as_ptr(), topic.as_ptr(), partition);
                (*element).offset = offset;
                if let Some(epoch) = leader_epoch {
                    sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
                }
            }
            list
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is ours and not used after this.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) };
    }
}

unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    let code = RDKafkaRespErr::try_from(code).map_or(RDKafkaErrorCode::Unknown, Into::into);
    // SAFETY: the opaque is the `Health` that the client keeps; the reason is a string or null for the length of the call.
    unsafe { (*opaque.cast::<Health>()).heard(code, &text(reason)) };
}

unsafe extern "C" fn on_statistics(_: *mut sys::rd_kafka_t, json: *mut c_char, size: usize, opaque: *mut c_void) -> c_int {
    // SAFETY: as in `on_error`; `json` has `size` bytes and stays librdkafka's own, as the answer 0 says.
    unsafe { (*opaque.cast::<Health>()).measured(bytes(json.cast(), size).unwrap_or_default()) };
    0
}

unsafe extern "C" fn on_log(_: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: both are strings for the length of the call.
    unsafe { health::log(level, &text(facility), &text(line)) };
}

/// # Safety
/// A string that ends with NUL, or null.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: said by the caller.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// # Safety
/// Null, or `size` bytes that live as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: said by the caller.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), size) })
}

/// # Safety
/// Null, or an array of `count` elements that live as long as `'a`.
unsafe fn slice<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: said by the caller.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// # Safety
/// A live error, or null.
unsafe fn read_error(error: *const sys::rd_kafka_error_t) -> Result<(), Failure> {
    // SAFETY: said by the caller; librdkafka answers "no error" for null.
    unsafe {
        match sys::rd_kafka_error_code(error) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(Failure { code: code.into(), reason: text(sys::rd_kafka_error_string(error)) }),
        }
    }
}

/// # Safety
/// An error that is ours to free, or null.
unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), Failure> {
    // SAFETY: said by the caller.
    unsafe {
        let result = read_error(error);
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
        result
    }
}

fn count(entries: c_int) -> usize {
    usize::try_from(entries).unwrap_or(0)
}

fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;
    use crate::demo::broker::DemoBroker;

    fn consumer(broker: &DemoBroker, settings: &[(&str, &str)]) -> Result<Consumer, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers()).set("enable.partition.eof", "true");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        Consumer::new(config.create_native_config().unwrap(), c"tide".into(), Arc::default())
    }

    fn fill_until(batch: &mut Batch<'_>, mut done: impl FnMut(&Message<'_>) -> bool) {
        for _ in 0..500 {
            batch.fill(Duration::from_millis(20));
            if batch.messages().any(|message| done(&message)) {
                return;
            }
        }
        panic!("what was waited for did not come");
    }

    #[test]
    fn a_client_that_cannot_be_made_says_why() {
        let broker = DemoBroker::start("tide", 1).unwrap();
        assert!(consumer(&broker, &[]).is_err(), "without a group there is no queue of records");
        let sasl = [("group.id", "g"), ("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", "NONSENSE")];
        let reason = consumer(&broker, &sasl).err().unwrap();
        assert!(reason.contains("NONSENSE"), "{reason}");
    }

    #[test]
    fn an_end_event_carries_its_position() {
        let broker = DemoBroker::start("tide", 1).unwrap();
        broker.produce(&[(0, b"k", Some(b"a"), 1), (0, b"k", None, 2)]).unwrap();
        let consumer = consumer(&broker, &[("group.id", "g")]).unwrap();
        consumer.assign([(0, 0, None)]).unwrap();
        let mut batch = consumer.batch(16);
        let mut offsets = Vec::new();
        fill_until(&mut batch, |message| match message.failure() {
            None => {
                offsets.push(message.offset());
                false
            }
            Some(failure) => {
                assert_eq!((failure.code, message.partition(), message.offset()), (RDKafkaErrorCode::PartitionEOF, 0, 2));
                true
            }
        });
        assert_eq!(offsets, [0, 1]);
        drop(batch);
        consumer.unassign(&[0]).unwrap();
    }

    #[test]
    fn a_seek_throws_away_what_was_queued() {
        let broker = DemoBroker::start("tide", 1).unwrap();
        let records: Vec<_> = (0..100).map(|at| (0, b"k".as_slice(), Some(b"v".as_slice()), at)).collect();
        broker.produce(&records).unwrap();
        let consumer = consumer(&broker, &[("group.id", "g")]).unwrap();
        consumer.assign([(0, 0, None)]).unwrap();
        let mut batch = consumer.batch(1);
        fill_until(&mut batch, |message| message.failure().is_none());
        assert!(consumer.seek(&[(0, 90, None)], Duration::from_secs(5)).unwrap());
        batch.fill(Duration::from_secs(5));
        assert_eq!(batch.messages().next().map(|message| message.offset()), Some(90));
    }

    #[test]
    fn an_answer_to_another_question_says_nothing() {
        let broker = DemoBroker::start("tide", 1).unwrap();
        let consumer = consumer(&broker, &[("group.id", "g")]).unwrap();
        assert_eq!(consumer.leaders(Duration::from_secs(10)).unwrap(), [(0, Some(1))]);
        let pending = consumer.list_offsets(&[(0, -2)], ask::Isolation::ReadCommitted, Duration::from_secs(10));
        let answer = pending.poll(Duration::from_secs(10)).unwrap().unwrap();
        assert!(answer.topic_id().is_none());
        assert!(answer.altered().is_err());
        assert!(matches!(answer.offsets()[..], [(0, Ok((0, _)))]));
        // A request whose answer nobody waits for.
        drop(consumer.list_offsets(&[(0, -1)], ask::Isolation::ReadUncommitted, Duration::from_secs(10)));
    }
}
