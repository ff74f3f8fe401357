//! How the memory limit is shared out, and what the process holds of the machine's memory as the system counts it.
//!
//! Accounts of what rooms hold miss what the allocator keeps, what librdkafka fetches and what libraries copy; the system's count
//! misses nothing, but comes too late for what is to be allocated next. A batch is bounded by both.

mod allocator;

use std::fs;

/// Bytes that the process needs besides what a batch holds: code, librdkafka's threads, chunks on their way.
const BASE: usize = 40 << 20;
/// Bytes of records between pull and assembly that keep all threads busy.
const FLIGHT_MAX: usize = 16 << 20;

/// Bytes that it takes to end a batch of any size: the slices in the encoders' hands, what an upload holds back, manifests.
const ENDING: usize = 64 << 20;

/// Rows that are written together at least: without a bound each chunk would become a file of its own where the limit is smallest.
const FLUSH_MIN: usize = 4 << 20;

/// A column of rows that are joined must stay below 2 GiB, and larger loads gain nothing.
const FLUSH_MAX: usize = 512 << 20;

/// Below this limit the process itself takes most of it: by the system's account every batch would be cut at once.
const RESIDENT_FROM: usize = 128 << 20;

/// How `limits.memory_limit` is shared out. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// librdkafka's fetch queue.
    pub(crate) queue: usize,
    /// One answer to a fetch, as it is on the wire: what comes beyond the queue's bound, several times as much once it is decompressed.
    pub(crate) fetch: usize,
    /// Records on their way from the pull to the assembly. Decoded they take about as much again.
    pub(crate) flight: usize,
    /// What a batch may hold by its own account before the pull is cut.
    pub(crate) batch: usize,
    /// Data files being written: part of what the batch holds. To end a row group takes up to as much again,
    /// in blocks on their way to storage.
    pub(crate) writer: usize,
    /// Rows that wait to be written, while as many are on their way to files. Where the table is sorted those take up to three times
    /// as much again: they are joined, arranged and encoded.
    pub(crate) flush: usize,
    /// What is read of the indexes of files that are searched at the same time.
    pub(crate) search: usize,
    /// What the process may hold by the system's account before the pull is cut. The rest is for ending the batch: what is in
    /// flight, the key indexes of the open files, the commit.
    pub(crate) resident: usize,
    /// What the process may hold by the system's account when it begins to write. What is above it is given back as far as it is free.
    pub(crate) relief: usize,
}

impl Budget {
    /// Of a limit in bytes.
    pub(crate) fn of(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let queue = (limit / 16).clamp(8 << 20, 64 << 20);
        let flight = (limit / 32).clamp(2 << 20, FLIGHT_MAX);
        let batch = limit.saturating_sub(BASE + queue) / 4 * 3;
        let resident = if limit < RESIDENT_FROM { usize::MAX } else { limit - (ENDING + limit / 8) };
        let writer = limit / 8;
        let flush = (limit.saturating_sub(BASE + queue + 2 * writer) / 8).clamp(FLUSH_MIN, FLUSH_MAX);
        Self { queue, fetch: queue / 4, flight, batch, writer, flush, search: limit / 8, resident, relief: limit / 4 * 3 }
    }

    /// The same for a batch that must come whole, whatever it holds.
    pub(crate) fn uncut(self) -> Self {
        Self { batch: usize::MAX, resident: usize::MAX, ..self }
    }
}

/// Whether the process holds this much by the system's account, even after freed pages were given back.
pub(crate) fn holds(bytes: usize) -> bool {
    let full = || resident().is_some_and(|resident| resident >= bytes);
    full() && {
        allocator::purge();
        full()
    }
}

/// Gives freed pages back where the process holds this much by the system's account.
pub(crate) fn relieve(bytes: usize) {
    if resident().is_some_and(|resident| resident >= bytes) {
        allocator::purge();
    }
}

/// Resident memory of this process in bytes. None where the system has no `/proc/self/status` (proc_pid_status(5)).
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    resident_in(&status)
}

fn resident_in(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_into_the_limit() {
        for limit in [64 << 20, 128 << 20, 1 << 30, 16 << 30] {
            let budget = Budget::of(limit);
            let sum = BASE + budget.queue + budget.batch;
            assert!(sum <= usize::try_from(limit).unwrap(), "{limit}: {budget:?}");
            let writing = BASE + budget.queue + 2 * budget.writer + 5 * budget.flush;
            assert!(writing <= usize::try_from(limit).unwrap() || budget.flush == FLUSH_MIN, "{limit}: {budget:?}");
            assert!(budget.batch >= budget.writer / 8 && budget.batch > 0, "{limit}: {budget:?}");
        }
    }

    #[test]
    fn under_the_smallest_limit_rows_are_written_together_too() {
        assert_eq!(Budget::of(64 << 20).flush, FLUSH_MIN);
        assert!(Budget::of(128 << 20).flush > FLUSH_MIN);
    }

    #[test]
    fn reads_the_systems_words() {
        let status = "Name:\tcat\nVmHWM:\t    1840 kB\nVmRSS:\t    1712 kB\nRssAnon:\t      92 kB\n";
        assert_eq!(resident_in(status), Some(1712 * 1024));
        for other in ["", "VmRSS:", "VmRSS: x kB", "VmRSS: 12"] {
            assert_eq!(resident_in(other), None, "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn tells_what_is_held_from_what_was_freed() {
        const HELD: usize = 256 << 20;
        let before = resident().unwrap();
        let held = vec![1_u8; HELD];
        assert!(holds(before + HELD / 2), "{before}");
        drop(std::hint::black_box(held));
        assert!(!holds(before + HELD / 2), "{before}");
    }
}
