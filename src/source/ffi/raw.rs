//! C's strings, arrays, errors and lists as Rust's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;

use super::Failure;
use crate::offsets::{Offset, Partition};

/// A list of positions in one topic.
pub(super) struct List(pub(super) NonNull<sys::rd_kafka_topic_partition_list_t>);

impl List {
    pub(super) fn new(topic: &CStr, positions: impl IntoIterator<Item = (Partition, Offset, Option<i32>)>) -> Self {
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

/// # Safety
/// A string that ends with NUL, or null.
pub(super) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: said by the caller.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// # Safety
/// Null, or `size` bytes that live as long as `'a`.
pub(super) unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: said by the caller.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), size) })
}

/// # Safety
/// Null, or an array of `count` elements that live as long as `'a`.
pub(super) unsafe fn slice<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: said by the caller.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// # Safety
/// A live error, or null.
pub(super) unsafe fn read_error(error: *const sys::rd_kafka_error_t) -> Result<(), Failure> {
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
pub(super) unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), Failure> {
    // SAFETY: said by the caller.
    unsafe {
        let result = read_error(error);
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
        result
    }
}

pub(super) fn count(entries: c_int) -> usize {
    usize::try_from(entries).unwrap_or(0)
}

pub(super) fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}
