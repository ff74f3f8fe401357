//! The part of librdkafka that its Rust wrapper does not reach: batch consume, offsets of end-of-partition events, leader
//! epochs, `ListOffsets`, topic ids, and a client that ends without leaving a group it never joined.
//!
//! Owns every pointer of librdkafka and all of the crate's unsafe code. Decides nothing: what an answer means is said in the
//! rooms above. Invariant: whatever came from a client (queues, events, messages) borrows from it, so it is gone before it.

#![expect(unsafe_code, reason = "the only room that calls C; every block says why it is sound")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::NativeClientConfig;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_admin_op_t as Op;

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

/// A consumer that is told what to read and never joins a group.
pub(super) struct Consumer {
    client: NonNull<sys::rd_kafka_t>,
    records: NonNull<sys::rd_kafka_queue_t>,
    /// The opaque of every callback; librdkafka calls none after `rd_kafka_destroy_flags` has returned.
    _health: Arc<Health>,
}

// SAFETY: librdkafka is documented as completely thread-safe, and `Health` is `Send + Sync`.
unsafe impl Send for Consumer {}
// SAFETY: as above.
unsafe impl Sync for Consumer {}

impl Consumer {
    /// Starts the client's threads; connects to nothing by itself.
    pub(super) fn new(config: NativeClientConfig, health: Arc<Health>) -> Result<Self, String> {
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
        // SAFETY: the client is live; a consumer with a group id has this queue, and without one the answer is null.
        let Some(records) = NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(client.as_ptr()) }) else {
            // SAFETY: the client is live and not used after this.
            unsafe { sys::rd_kafka_destroy(client.as_ptr()) };
            return Err("a consumer needs a `group.id`".into());
        };
        Ok(Self { client, records, _health: health })
    }

    /// Runs the callbacks that wait: errors and statistics reach [`Health`] here, on the caller's thread.
    pub(super) fn serve(&self) {
        // SAFETY: the client is live.
        unsafe { sys::rd_kafka_poll(self.client.as_ptr(), 0) };
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

    /// Asks for a topic's id and partitions.
    pub(super) fn describe(&self, topic: &CStr, timeout: Duration) -> Pending<'_> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, |client, options, queue| {
            let mut names = [topic.as_ptr()];
            // SAFETY: the names live through the call, which copies them; the collection is freed once.
            unsafe {
                let names = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(client, names, options, queue);
                sys::rd_kafka_TopicCollection_destroy(names);
            }
        })
    }

    /// Asks for one offset of each partition: `-2` is the earliest, `-1` the end under `isolation`, others are timestamps.
    pub(super) fn list_offsets(&self, topic: &CStr, asked: &[(Partition, i64)], isolation: Isolation, timeout: Duration) -> Pending<'_> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout, |client, options, queue| {
            let list = List::new(topic, asked.iter().map(|&(partition, offset)| (partition, offset, None)));
            let level = match isolation {
                Isolation::ReadCommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                Isolation::ReadUncommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            };
            // SAFETY: options and list are live; the call copies the list.
            unsafe {
                let error = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
                assert!(error.is_null(), "ListOffsets takes an isolation level");
                sys::rd_kafka_ListOffsets(client, list.0.as_ptr(), options, queue);
            }
        })
    }

    /// Asks the coordinator of `group` to remember offsets.
    pub(super) fn alter_group(&self, group: &CStr, topic: &CStr, offsets: &[(Partition, Offset)], timeout: Duration) -> Pending<'_> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout, |client, options, queue| {
            let list = List::new(topic, offsets.iter().map(|&(partition, offset)| (partition, offset, None)));
            // SAFETY: group and list are copied by the first call; what it makes is freed once, after the request copied it.
            unsafe {
                let mut change = sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), list.0.as_ptr());
                sys::rd_kafka_AlterConsumerGroupOffsets(client, &raw mut change, 1, options, queue);
                sys::rd_kafka_AlterConsumerGroupOffsets_destroy(change);
            }
        })
    }

    fn ask(
        &self,
        op: Op,
        timeout: Duration,
        send: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Pending<'_> {
        let client = self.client.as_ptr();
        // SAFETY: the client is live; both constructors only fail where memory does, which librdkafka ends the process for.
        let (queue, options) = unsafe {
            let queue = NonNull::new(sys::rd_kafka_queue_new(client)).expect("a queue is made");
            let options = NonNull::new(sys::rd_kafka_AdminOptions_new(client, op)).expect("options are made");
            let (reason, room) = (ptr::null_mut(), 0);
            sys::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), millis(timeout), reason, room);
            (queue, options)
        };
        let pending = Pending { queue, client: PhantomData };
        send(client, options.as_ptr(), queue.as_ptr());
        // SAFETY: every request copies its options.
        unsafe { sys::rd_kafka_AdminOptions_destroy(options.as_ptr()) };
        pending
    }

    /// Reads from exactly these positions from now on; an empty list reads nothing.
    pub(super) fn assign(&self, topic: &CStr, starts: impl IntoIterator<Item = (Partition, Offset, Option<i32>)>) -> Result<(), Failure> {
        let list = List::new(topic, starts);
        // SAFETY: client and list are live; the call copies the list.
        match unsafe { sys::rd_kafka_assign(self.client.as_ptr(), list.0.as_ptr()) } {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(Failure::of(code)),
        }
    }

    /// Stops reading these partitions, and drops what of them is queued.
    pub(super) fn unassign(&self, topic: &CStr, partitions: &[Partition]) -> Result<(), Failure> {
        let list = List::new(topic, partitions.iter().map(|&partition| (partition, NO_OFFSET, None)));
        // SAFETY: client and list are live; the call copies the list and gives us the error, which `take_error` frees.
        unsafe { take_error(sys::rd_kafka_incremental_unassign(self.client.as_ptr(), list.0.as_ptr())) }
    }

    /// The next offset after all that was taken from the queue, control markers included, and the epoch of the last of it.
    pub(super) fn position(&self, topic: &CStr, partition: Partition) -> Option<(Offset, Option<i32>)> {
        let list = List::new(topic, [(partition, NO_OFFSET, None)]);
        // SAFETY: client and list are live; the call writes into the list's one element.
        unsafe {
            if sys::rd_kafka_position(self.client.as_ptr(), list.0.as_ptr()) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            let element = (*list.0.as_ptr()).elems;
            let epoch = sys::rd_kafka_topic_partition_get_leader_epoch(element);
            ((*element).offset >= 0).then_some(((*element).offset, (epoch >= 0).then_some(epoch)))
        }
    }

    /// Room for records, to be filled again and again.
    pub(super) fn batch(&self, records_max: usize) -> Batch<'_> {
        Batch { slots: vec![ptr::null_mut(); records_max], filled: 0, client: self }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: both are live and not used after this; the queue goes first, as the manual asks. Nothing is left to close:
        // no group was joined, and waiting for a coordinator would only make the end of a run slow.
        unsafe {
            sys::rd_kafka_queue_destroy(self.records.as_ptr());
            sys::rd_kafka_destroy_flags(self.client.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

/// Which end of a partition is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Isolation {
    /// The last stable offset.
    ReadCommitted,
    /// The high watermark.
    ReadUncommitted,
}

/// A request on its way. Dropping it forgets the answer.
pub(super) struct Pending<'c> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    client: PhantomData<&'c Consumer>,
}

impl<'c> Pending<'c> {
    /// The answer, if it comes within `wait`.
    pub(super) fn poll(&self, wait: Duration) -> Option<Result<Answer<'c>, Failure>> {
        // SAFETY: the queue is live, and the event is ours to free, which `Answer` does.
        let event = NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) })?;
        let answer = Answer { event, client: PhantomData };
        // SAFETY: the event is live, and so is its text.
        unsafe {
            match sys::rd_kafka_event_error(event.as_ptr()) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Some(Ok(answer)),
                code => Some(Err(Failure {
                    code: code.into(),
                    reason: text(sys::rd_kafka_event_error_string(event.as_ptr())),
                })),
            }
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // SAFETY: the queue is live and not used after this; a late answer is thrown away by librdkafka.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// What a request was answered with. Asked about another kind of request it says "nothing".
pub(super) struct Answer<'c> {
    event: NonNull<sys::rd_kafka_event_t>,
    client: PhantomData<&'c Consumer>,
}

/// Id and partitions of a topic.
#[derive(Debug)]
pub(super) struct Topic {
    /// The two halves of the topic's UUID, the more significant one first; zero where the broker has none.
    pub(super) id: [i64; 2],
    /// Each partition, and whether it has a leader.
    pub(super) partitions: Vec<(Partition, bool)>,
}

impl Answer<'_> {
    /// What [`Consumer::describe`] asked for.
    pub(super) fn topic(&self) -> Option<Result<Topic, Failure>> {
        // SAFETY: a null result means an event of another kind. All that is read belongs to the event, which outlives this
        // call; the counts are those of the arrays.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(self.event.as_ptr());
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            let topic = *slice(topics, count).first()?;
            let error = sys::rd_kafka_TopicDescription_error(topic);
            if let Err(failure) = read_error(error) {
                return Some(Err(failure));
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let id = [sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)];
            let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
            let partitions = slice(partitions, count).iter().map(|&partition| {
                let leader = sys::rd_kafka_TopicPartitionInfo_leader(partition);
                let number = sys::rd_kafka_TopicPartitionInfo_partition(partition);
                (number, !leader.is_null() && sys::rd_kafka_Node_id(leader) >= 0)
            });
            Some(Ok(Topic { id, partitions: partitions.collect() }))
        }
    }

    /// What [`Consumer::list_offsets`] asked for; `-1` where no record is at or after the time.
    pub(super) fn offsets(&self) -> Vec<(Partition, Result<Offset, Failure>)> {
        // SAFETY: as in `topic`.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(self.event.as_ptr());
            if result.is_null() {
                return Vec::new();
            }
            let mut count = 0;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let read = |&info| outcome(sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info));
            slice(infos, count).iter().map(read).collect()
        }
    }

    /// What [`Consumer::alter_group`] asked for: the first refusal.
    pub(super) fn altered(&self) -> Result<(), Failure> {
        // SAFETY: as in `topic`.
        unsafe {
            let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(self.event.as_ptr());
            if result.is_null() {
                return Err(Failure::of(RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL));
            }
            let mut count = 0;
            let groups = sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
            for &group in slice(groups, count) {
                read_error(sys::rd_kafka_group_result_error(group))?;
                let partitions = sys::rd_kafka_group_result_partitions(group);
                if partitions.is_null() {
                    continue;
                }
                let elements = slice((*partitions).elems, usize::try_from((*partitions).cnt).unwrap_or(0));
                for element in elements {
                    outcome(element).1?;
                }
            }
            Ok(())
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and nothing borrowed from it is left.
        unsafe { sys::rd_kafka_event_destroy(self.event.as_ptr()) };
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

    /// Epoch of the leader that wrote the record; none on a broker that keeps none.
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
/// A live element.
unsafe fn outcome(element: *const sys::rd_kafka_topic_partition_t) -> (Partition, Result<Offset, Failure>) {
    // SAFETY: said by the caller.
    let element = unsafe { &*element };
    match element.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => (element.partition, Ok(element.offset)),
        code => (element.partition, Err(Failure::of(code))),
    }
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

fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}
