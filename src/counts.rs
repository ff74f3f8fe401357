//! The accounts of one batch: where each record read went.
//!
//! Pure. The law (design: accounting): each record read falls into exactly one outcome, so `read` is their sum.

use std::collections::HashMap;
use std::ops::AddAssign;

use serde::Serialize;

/// Records of one batch by outcome. All are numbers of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records pulled and handed over; the sum of the outcomes below up to `noop`.
    pub read: u64,
    /// Could not be decoded, had no id or event time, or lay in the future.
    pub rejected: u64,
    /// Older than the watermark, and kept in the rejects table or dropped.
    pub late: u64,
    /// Left out on purpose (ignored tombstones).
    pub filtered: u64,
    /// Beaten by another version of the same id in the same batch.
    pub duplicate: u64,
    /// Beaten by the stored version.
    pub stale: u64,
    /// New rows; also those of soft deletes of ids that the table did not hold.
    pub inserted: u64,
    /// Rows that replace a stored one; also those of soft deletes.
    pub updated: u64,
    /// Stored rows taken out by a delete.
    pub deleted: u64,
    /// Deletes of ids that the table does not hold.
    pub noop: u64,
    /// Extra live rows of an id that were taken out with an update or delete. Not an outcome of a record.
    pub collapsed: u64,
    /// Soft deletes among `inserted` and `updated`: rows that stay with their flag set. Not an outcome of their own.
    pub soft_deleted: u64,
}

impl Counts {
    /// Sum of the outcomes.
    pub fn sum(&self) -> u64 {
        self.rejected
            + self.late
            + self.filtered
            + self.duplicate
            + self.stale
            + self.inserted
            + self.updated
            + self.deleted
            + self.noop
    }

    /// By how much the table's row count moves.
    pub fn rows_moved(&self) -> i64 {
        i64::try_from(self.inserted).expect("rows fit") - i64::try_from(self.deleted + self.collapsed).expect("rows fit")
    }

    /// Each count with its name, as in the snapshot summary after `tidegate.records.`.
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("read", self.read),
            ("rejected", self.rejected),
            ("late", self.late),
            ("filtered", self.filtered),
            ("duplicate", self.duplicate),
            ("stale", self.stale),
            ("inserted", self.inserted),
            ("updated", self.updated),
            ("deleted", self.deleted),
            ("noop", self.noop),
            ("collapsed", self.collapsed),
            ("soft-deleted", self.soft_deleted),
        ]
    }

    /// Reads the counts back from a snapshot summary; a missing or broken one is 0.
    pub(crate) fn from_summary(summary: &HashMap<String, String>) -> Self {
        let count = |name: &str| summary.get(&format!("tidegate.records.{name}")).and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            read: count("read"),
            rejected: count("rejected"),
            late: count("late"),
            filtered: count("filtered"),
            duplicate: count("duplicate"),
            stale: count("stale"),
            inserted: count("inserted"),
            updated: count("updated"),
            deleted: count("deleted"),
            noop: count("noop"),
            collapsed: count("collapsed"),
            soft_deleted: count("soft-deleted"),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.rejected += other.rejected;
        self.late += other.late;
        self.filtered += other.filtered;
        self.duplicate += other.duplicate;
        self.stale += other.stale;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.noop += other.noop;
        self.collapsed += other.collapsed;
        self.soft_deleted += other.soft_deleted;
    }
}
