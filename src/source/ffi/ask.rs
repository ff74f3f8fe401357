//! Questions that are answered later, on a queue of their own: librdkafka's admin requests.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_admin_op_t as Op;

use super::raw::{self, List, millis, read_error, slice, text};
use super::{Consumer, Failure};
use crate::offsets::{Offset, Partition};

impl Consumer {
    /// Asks a broker for the topic's id. It must be one that is asked something else as well: librdkafka waits for its connection
    /// here, but does not open one. (By default it waits for the controller's.)
    pub(in crate::source) fn topic_id(&self, broker: i32, timeout: Duration) -> Pending<'_> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, |client, options, queue| {
            let mut names = [self.topic_name.as_ptr()];
            // SAFETY: options are live; the names live through the call, which copies them; the collection is freed once.
            unsafe {
                sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
                let names = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(client, names, options, queue);
                sys::rd_kafka_TopicCollection_destroy(names);
            }
        })
    }

    /// Asks for one offset of each partition: `-2` is the earliest, `-1` the end under `isolation`, others are timestamps.
    pub(in crate::source) fn list_offsets(
        &self,
        asked: &[(Partition, i64)],
        isolation: Isolation,
        timeout: Duration,
    ) -> Pending<'_> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout, |client, options, queue| {
            let list = List::new(&self.topic_name, asked.iter().map(|&(partition, offset)| (partition, offset, None)));
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
    pub(in crate::source) fn alter_group(&self, group: &CStr, offsets: &[(Partition, Offset)], timeout: Duration) -> Pending<'_> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout, |client, options, queue| {
            let list = List::new(&self.topic_name, offsets.iter().map(|&(partition, offset)| (partition, offset, None)));
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
}

/// Which end of a partition is meant.
#[derive(Debug, Clone, Copy)]
pub(in crate::source) enum Isolation {
    /// The last stable offset.
    ReadCommitted,
    /// The high watermark.
    ReadUncommitted,
}

/// A request on its way. Dropping it forgets the answer.
pub(in crate::source) struct Pending<'c> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    client: PhantomData<&'c Consumer>,
}

impl<'c> Pending<'c> {
    /// The answer, if it comes within `wait`.
    pub(in crate::source) fn poll(&self, wait: Duration) -> Option<Result<Answer<'c>, Failure>> {
        // SAFETY: the queue is live, and the event is ours to free, which `Answer` does.
        let event = NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) })?;
        let answer = Answer { event, client: PhantomData };
        // SAFETY: the event is live, and so is its text.
        unsafe {
            match sys::rd_kafka_event_error(event.as_ptr()) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Some(Ok(answer)),
                code => Some(Err(Failure { code: code.into(), reason: text(sys::rd_kafka_event_error_string(event.as_ptr())) })),
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
pub(in crate::source) struct Answer<'c> {
    event: NonNull<sys::rd_kafka_event_t>,
    client: PhantomData<&'c Consumer>,
}

/// A partition's offset, and the leader epoch of it where the broker keeps them.
pub(in crate::source) type Listed = (Partition, Result<(Offset, Option<i32>), Failure>);

impl Answer<'_> {
    /// What [`Consumer::topic_id`] asked for: the two halves of the UUID, the more significant one first; zero where the broker
    /// keeps none.
    pub(in crate::source) fn topic_id(&self) -> Option<Result<[i64; 2], Failure>> {
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
            if let Err(failure) = read_error(sys::rd_kafka_TopicDescription_error(topic)) {
                return Some(Err(failure));
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            Some(Ok([sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)]))
        }
    }

    /// What [`Consumer::list_offsets`] asked for; offset `-1` where no record is at or after the time.
    pub(in crate::source) fn offsets(&self) -> Vec<Listed> {
        // SAFETY: as in `topic_id`.
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
    pub(in crate::source) fn altered(&self) -> Result<(), Failure> {
        // SAFETY: as in `topic_id`.
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
                let elements = slice((*partitions).elems, raw::count((*partitions).cnt));
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

/// # Safety
/// A live element.
unsafe fn outcome(element: *const sys::rd_kafka_topic_partition_t) -> Listed {
    // SAFETY: said by the caller.
    let (element, epoch) = unsafe { (&*element, sys::rd_kafka_topic_partition_get_leader_epoch(element)) };
    match element.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => (element.partition, Ok((element.offset, (epoch >= 0).then_some(epoch)))),
        code => (element.partition, Err(Failure::of(code))),
    }
}
