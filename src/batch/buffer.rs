//! Rows that wait in memory to be written, and which of them still matter.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};

use crate::error::{Error, Result};

/// Marks a row without an entry.
const NONE: u32 = u32::MAX;

/// Decoded rows in memory.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    batches: Vec<Buffered>,
    bytes: usize,
}

impl Buffer {
    /// Takes a batch; answers its index.
    pub(super) fn push(&mut self, batch: Buffered) -> u32 {
        self.bytes += batch.rows.get_array_memory_size() + batch.keep.len() * (size_of::<u32>() + 1);
        self.batches.push(batch);
        u32::try_from(self.batches.len() - 1).expect("buffered batches fit")
    }

    /// Says which entry a row belongs to; the rows of a batch are told in order. None: the row is not kept.
    pub(super) fn push_entry(&mut self, batch: u32, row: usize, entry: Option<u32>) {
        let batch = &mut self.batches[batch as usize];
        batch.entries.push(entry.unwrap_or(NONE));
        if entry.is_none() {
            batch.keep[row] = false;
        }
    }

    /// Says that a row lost to another version.
    pub(super) fn drop_row(&mut self, batch: u32, row: u32) {
        self.batches[batch as usize].drop_row(row as usize);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives up all batches.
    pub(super) fn into_batches(self) -> Vec<Buffered> {
        self.batches
    }
}

/// The rows of one chunk.
#[derive(Debug)]
pub(super) struct Buffered {
    /// All decoded rows.
    pub(super) rows: RecordBatch,
    /// Entry of each row in merge mode; empty in append mode.
    pub(super) entries: Vec<u32>,
    keep: Vec<bool>,
    deleted: bool,
}

impl Buffered {
    /// With every row alive.
    pub(super) fn all(rows: RecordBatch) -> Self {
        let keep = vec![true; rows.num_rows()];
        Self { rows, entries: Vec::new(), keep, deleted: false }
    }

    /// Deletes that stay, every one alive.
    pub(super) fn deleted(rows: RecordBatch) -> Self {
        Self { deleted: true, ..Self::all(rows) }
    }

    /// Says that a row is not wanted any more.
    pub(super) fn drop_row(&mut self, row: usize) {
        self.keep[row] = false;
    }

    /// Rows still wanted.
    pub(super) fn alive(&self) -> u64 {
        u64::try_from(self.keep.iter().filter(|&&keep| keep).count()).expect("rows fit")
    }

    /// Entry of a row that is still wanted.
    pub(super) fn entry(&self, row: usize) -> Option<u32> {
        (self.keep[row] && !self.entries.is_empty()).then(|| self.entries[row])
    }

    /// Entry that a row had when it came, even if another version beat it since.
    pub(super) fn first_entry(&self, row: usize) -> Option<u32> {
        self.entries.get(row).copied().filter(|&entry| entry != NONE)
    }

    /// Whether the rows are deletes that stay.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// The rows still wanted, with their entries. None where no row is left.
    pub(super) fn survivors(self) -> Result<Option<(RecordBatch, Vec<u32>)>> {
        let rows = self.rows;
        let alive = self.keep.iter().filter(|&&keep| keep).count();
        if alive == 0 {
            return Ok(None);
        }
        let entries = self.entries.iter().zip(&self.keep).filter(|(_, keep)| **keep).map(|(entry, _)| *entry).collect();
        if alive == self.keep.len() {
            return Ok(Some((rows, entries)));
        }
        let rows =
            filter_record_batch(&rows, &BooleanArray::from(self.keep)).map_err(|e| Error::broken(format!("filter rows: {e}")))?;
        Ok(Some((rows, entries)))
    }
}

/// All rows and their entries as one batch.
pub(super) fn joined(parts: Vec<(RecordBatch, Vec<u32>)>) -> Result<Vec<(RecordBatch, Vec<u32>)>> {
    let Some((first, _)) = parts.first() else { return Ok(parts) };
    let rows = concat_batches(&first.schema(), parts.iter().map(|(rows, _)| rows))
        .map_err(|e| Error::broken(format!("join rows: {e}")))?;
    Ok(vec![(rows, parts.into_iter().flat_map(|(_, entries)| entries).collect())])
}
