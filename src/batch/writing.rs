//! Rows on their way into data files, while the pull goes on.
//!
//! One load at a time, in the order in which they came. Where a row went is known when its load has ended; until then it counts as
//! buffered, and who beats it is told later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use tokio::task::{JoinError, JoinSet, block_in_place};

use crate::batch::buffer::Buffered;
use crate::error::{Error, Result};
use crate::write::{DataWriter, RowPlace, WriteTarget, WrittenFile};

/// Rows that are picked out and written together: few enough that they stay in cache between the two.
const SLICE_ROWS: usize = 8_192;

/// So many rows of one batch, every one of them wanted, are written as they are: a copy costs more than a further write.
const WHOLE_ROWS: usize = 1_024;

/// The same in bytes, for wide rows: a slice is a copy.
const SLICE_BYTES: usize = 8 << 20;

/// What writes a batch's rows.
#[derive(Debug, Default)]
pub(super) struct Writing {
    state: State,
    /// Bytes of the rows that are still to be written and of the open files.
    held: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing was ever written.
    #[default]
    Empty,
    Idle(Box<DataWriter>),
    /// With the one load.
    Busy(JoinSet<Result<Written>>),
    /// The load has ended, and nobody has asked yet where its rows went.
    Ended(Written),
}

/// What a load came to.
#[derive(Debug)]
struct Written {
    writer: Box<DataWriter>,
    landed: Vec<Landed>,
}

/// A row of a load that has an entry, and its place in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landed {
    /// Ordinal of the id.
    pub(super) entry: u32,
    /// Batch and row in the buffer.
    pub(super) from: (u32, u32),
    /// File and row.
    pub(super) to: RowPlace,
}

/// Rows to be written together.
#[derive(Debug)]
pub(super) struct Load {
    /// Ordinal of the first batch.
    pub(super) first: u32,
    /// What was buffered.
    pub(super) batches: Vec<Buffered>,
    /// v3: for each row of each batch the row id that it keeps.
    pub(super) row_ids: Option<Vec<Int64Array>>,
    /// Whether all rows must be given to the writer at once, since it sorts them.
    pub(super) whole: bool,
}

impl Writing {
    /// Bytes held: of rows and of open files.
    pub(super) fn memory(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether the load on its way has failed: the pull need not go on to its end for that.
    pub(super) fn check(&mut self) -> Result<()> {
        if let State::Busy(task) = &mut self.state
            && let Some(ended) = task.try_join_next()
        {
            self.end(ended)?;
        }
        Ok(())
    }

    /// Waits for the load on its way; says where its rows went.
    pub(super) async fn settle(&mut self) -> Result<Vec<Landed>> {
        if let State::Busy(task) = &mut self.state {
            let ended = task.join_next().await.ok_or_else(|| Error::broken("no load is on its way"))?;
            self.end(ended)?;
        }
        match std::mem::take(&mut self.state) {
            State::Ended(Written { writer, landed }) => {
                self.state = State::Idle(writer);
                Ok(landed)
            }
            state => {
                self.state = state;
                Ok(Vec::new())
            }
        }
    }

    fn end(&mut self, ended: std::result::Result<Result<Written>, JoinError>) -> Result<()> {
        self.state = State::Empty;
        let ended = ended.map_err(|failure| match failure.try_into_panic() {
            Ok(panic) => Error::of_panic(&*panic),
            Err(failure) => Error::broken(format!("writing rows ended early: {failure}")),
        });
        self.state = State::Ended(ended??);
        Ok(())
    }

    /// Begins to write a load. The one before it must have been settled.
    pub(super) fn begin(&mut self, load: Load, target: WriteTarget) -> Result<()> {
        let mut writer = match std::mem::take(&mut self.state) {
            State::Empty => Box::new(DataWriter::new(target)?),
            State::Idle(writer) => writer,
            State::Busy(_) | State::Ended(_) => return Err(Error::broken("rows are written before those ahead of them")),
        };
        let held = Arc::clone(&self.held);
        held.store(load.bytes() + writer.memory(), Ordering::Relaxed);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let landed = load.write(&mut writer, &held).await?;
            Ok(Written { writer, landed })
        });
        self.state = State::Busy(task);
        Ok(())
    }

    /// Closes the files. The last load must have been settled.
    pub(super) async fn finish(&mut self) -> Result<Vec<WrittenFile>> {
        match std::mem::take(&mut self.state) {
            State::Empty => Ok(Vec::new()),
            State::Idle(writer) => writer.finish().await,
            State::Busy(_) | State::Ended(_) => Err(Error::broken("files are closed before their rows are written")),
        }
    }

    /// Ends what is on its way, since the batch has failed: nothing of it may go on behind the run's back.
    pub(super) async fn give_up(&mut self) {
        if let State::Busy(mut task) = std::mem::take(&mut self.state) {
            task.shutdown().await;
        }
    }
}

impl Load {
    fn bytes(&self) -> usize {
        self.batches.iter().map(bytes).sum()
    }

    /// Writes the rows still wanted, in their order, and frees each batch as soon as none of its rows is left.
    async fn write(mut self, writer: &mut DataWriter, held: &AtomicUsize) -> Result<Vec<Landed>> {
        let mut left = self.bytes();
        let mut landed = Vec::new();
        let mut next = 0;
        while next < self.batches.len() {
            let slice = if self.whole { Slice::all(&self.batches) } else { Slice::next(&self.batches, next) };
            if !slice.rows.is_empty() {
                let gather = || slice.gather(&self.batches);
                // What comes whole can take a while, in which uploads must go on.
                let rows = if self.whole { block_in_place(gather) } else { gather() }?;
                let row_ids = slice.row_ids(self.row_ids.as_deref());
                let places = writer.write(&rows, row_ids.as_ref()).await?;
                landed.extend(slice.rows.iter().zip(places).filter_map(|(&(batch, row), to)| {
                    let entry = self.batches[batch].entry(row)?;
                    let ordinal = |at: usize| u32::try_from(at).expect("buffered batches and rows fit");
                    Some(Landed { entry, from: (self.first + ordinal(batch), ordinal(row)), to })
                }));
            }
            for batch in &mut self.batches[next..slice.end] {
                left -= bytes(batch);
                batch.rows = RecordBatch::new_empty(batch.rows.schema());
            }
            next = slice.end;
            held.store(left + writer.memory(), Ordering::Relaxed);
        }
        Ok(landed)
    }
}

/// What a batch takes until it is written: its rows, and for each of them its entry, where it is, where it goes, and its row id.
fn bytes(batch: &Buffered) -> usize {
    batch.rows.get_array_memory_size() + batch.rows.num_rows() * (size_of::<(usize, usize)>() + size_of::<Landed>() + 16)
}

/// Rows of some batches, by batch and row.
struct Slice {
    rows: Vec<(usize, usize)>,
    /// The batch after them.
    end: usize,
}

impl Slice {
    fn all(batches: &[Buffered]) -> Self {
        let rows = batches.iter().enumerate().flat_map(|(at, batch)| batch.wanted().map(move |row| (at, row)));
        Self { rows: rows.collect(), end: batches.len() }
    }

    /// The rows of whole batches from `first` on, about as many as are written together.
    fn next(batches: &[Buffered], first: usize) -> Self {
        let (mut rows, mut bytes, mut end) = (Vec::new(), 0, first);
        for (at, batch) in batches.iter().enumerate().skip(first) {
            let (more, size) = (batch.rows.num_rows(), batch.rows.get_array_memory_size());
            let alone = more >= WHOLE_ROWS && batch.is_whole();
            if end > first && (alone || rows.len() + more > SLICE_ROWS || bytes + size > SLICE_BYTES) {
                break;
            }
            rows.extend(batch.wanted().map(|row| (at, row)));
            bytes += size;
            end = at + 1;
            if alone {
                break;
            }
        }
        Self { rows, end }
    }

    /// The rows as one batch: without a copy where they are all of one.
    fn gather(&self, batches: &[Buffered]) -> Result<RecordBatch> {
        let broken = |e| Error::broken(format!("join rows: {e}"));
        let first = self.rows[0].0;
        let all = |batch: &Buffered| batch.rows.num_rows();
        let of = &batches[first..self.end];
        if self.rows.len() == of.iter().map(all).sum::<usize>() {
            if let [only] = of {
                return Ok(only.rows.clone());
            }
            return concat_batches(&of[0].rows.schema(), of.iter().map(|batch| &batch.rows)).map_err(broken);
        }
        let sources: Vec<&RecordBatch> = of.iter().map(|batch| &batch.rows).collect();
        let picks: Vec<(usize, usize)> = self.rows.iter().map(|&(batch, row)| (batch - first, row)).collect();
        interleave_record_batch(&sources, &picks).map_err(broken)
    }

    fn row_ids(&self, ids: Option<&[Int64Array]>) -> Option<Int64Array> {
        let ids = ids?;
        Some(self.rows.iter().map(|&(batch, row)| ids[batch].is_valid(row).then(|| ids[batch].value(row))).collect())
    }
}

#[cfg(test)]
mod tests;
