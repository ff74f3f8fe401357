//! Records as librdkafka hands them over, many at a time, and the events that stand among them.

use std::ffi::CStr;
use std::mem;
use std::ptr;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;

use super::raw::{bytes, millis, text};
use super::{Consumer, Failure};
use crate::offsets::{Offset, Partition};

impl Consumer {
    /// Room for records, to be filled again and again. Many at a time take 1.2 to 1.3 µs of the client's CPU each; one call for each
    /// took 1.5 to 2.1 (600 bytes, four partitions, rdkafka's `BaseConsumer`).
    pub(in crate::source) fn batch(&self, records_max: usize) -> Batch<'_> {
        Batch { slots: vec![ptr::null_mut(); records_max], filled: 0, client: self }
    }
}

/// Records that were taken from the queue together. They are freed by the next fill and at the end.
pub(in crate::source) struct Batch<'c> {
    slots: Vec<*mut sys::rd_kafka_message_t>,
    filled: usize,
    client: &'c Consumer,
}

impl Batch<'_> {
    /// Takes what is queued; waits up to `wait` for the first record if there is none.
    pub(in crate::source) fn fill(&mut self, wait: Duration) {
        self.take(Duration::ZERO, self.slots.len());
        if self.filled == 0 && !wait.is_zero() {
            // A call for many waits until there are so many; a call for one ends with the first.
            self.take(wait, 1);
        }
    }

    /// Whether the last fill found nothing.
    pub(in crate::source) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The records, in the order of the queue.
    pub(in crate::source) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
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
pub(in crate::source) struct Message<'b>(&'b sys::rd_kafka_message_t);

impl Message<'_> {
    /// None for a record.
    pub(in crate::source) fn failure(&self) -> Option<Failure> {
        if self.0.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is live, and so is its text.
        let reason = unsafe { text(sys::rd_kafka_message_errstr(self.0)) };
        Some(Failure { code: self.0.err.into(), reason })
    }

    /// Partition; negative for an event of no partition.
    pub(in crate::source) fn partition(&self) -> Partition {
        self.0.partition
    }

    /// Offset of the record, or the position at which the event happened; negative where there is none.
    pub(in crate::source) fn offset(&self) -> Offset {
        self.0.offset
    }

    /// Key; none where null.
    pub(in crate::source) fn key(&self) -> Option<&[u8]> {
        // SAFETY: key and length describe memory of the message, which outlives `&self`.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Value; none where null.
    pub(in crate::source) fn value(&self) -> Option<&[u8]> {
        // SAFETY: as in `key`.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Timestamp in ms, and whether the broker set it; none where absent.
    pub(in crate::source) fn timestamp(&self) -> Option<(i64, bool)> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        (time != -1).then_some((time, kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME))
    }

    /// Epoch of the leader that wrote the record; none on a broker that keeps none. Of an event it means nothing.
    pub(in crate::source) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is live.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.0) };
        (epoch >= 0).then_some(epoch)
    }

    /// Hands every header to `visit`, in order.
    pub(in crate::source) fn headers(&self, mut visit: impl FnMut(&[u8], Option<&[u8]>)) {
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
