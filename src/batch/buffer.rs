//! Rows that wait in memory to be written, and which of them still matter.

use arrow::array::RecordBatch;

/// Marks a row without an entry.
const NONE: u32 = u32::MAX;

/// Decoded rows in memory.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Ordinal of the first batch: those before it were taken out.
    first: u32,
    batches: Vec<Buffered>,
    bytes: usize,
}

impl Buffer {
    /// Takes a batch; answers its ordinal.
    pub(super) fn push(&mut self, batch: Buffered) -> u32 {
        self.bytes += batch.rows.get_array_memory_size() + batch.keep.len() * (size_of::<u32>() + 1);
        self.batches.push(batch);
        self.first + u32::try_from(self.batches.len() - 1).expect("buffered batches fit")
    }

    /// Says which entry a row belongs to; the rows of a batch are told in order. None: the row is not kept.
    pub(super) fn push_entry(&mut self, batch: u32, row: usize, entry: Option<u32>) {
        let batch = &mut self.batches[(batch - self.first) as usize];
        batch.entries.push(entry.unwrap_or(NONE));
        if entry.is_none() {
            batch.keep[row] = false;
        }
    }

    /// Says that a row lost to another version. Nothing to do where its batch was taken out.
    pub(super) fn drop_row(&mut self, batch: u32, row: u32) {
        if let Some(at) = batch.checked_sub(self.first) {
            self.batches[at as usize].drop_row(row as usize);
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes all batches out; answers the ordinal of the first, too.
    pub(super) fn take(&mut self) -> (u32, Vec<Buffered>) {
        let (first, batches) = (self.first, std::mem::take(&mut self.batches));
        self.first += u32::try_from(batches.len()).expect("buffered batches fit");
        self.bytes = 0;
        (first, batches)
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

    /// Whether every row is still wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.keep.iter().all(|&keep| keep)
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

    /// The rows still wanted, ascending.
    pub(super) fn wanted(&self) -> impl Iterator<Item = usize> {
        self.keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(row, _)| row)
    }
}
