//! Values that rows take over: an update those of columns that the job does not fill, a deleted row those that it had.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;

use crate::batch::Assembly;
use crate::batch::buffer::Buffered;
use crate::error::{Error, Result};
use crate::merge::own_values;

/// Batch and row of one.
type RowAt = (usize, usize);

/// Where the values of a deleted row are.
enum Source {
    /// In what the lookup brought.
    Stored(RowAt),
    /// In a row of the same batch, which the delete has beaten.
    Own(RowAt),
}

impl<C> Assembly<'_, C> {
    /// Fills in what the rows of the buffer take over, as if every record had come in a batch of its own.
    pub(super) fn carry_values(&self, batches: &mut [Buffered]) -> Result<()> {
        let Some(columns) = &self.columns else { return Ok(()) };
        let stored: Vec<&RecordBatch> = self.kept.iter().collect();
        if !columns.kept.is_empty() && !stored.is_empty() {
            for batch in batches.iter_mut().filter(|batch| !batch.is_deleted()) {
                // Beaten rows too: a deleted row may take its values from one.
                let entries = (0..batch.rows.num_rows()).map(|row| batch.first_entry(row));
                let from: Vec<_> = entries.map(|entry| self.stored_values(entry?)).collect();
                batch.rows = carry_over(&batch.rows, &columns.kept, &stored, &from)?;
            }
        }
        for at in 0..batches.len() {
            if batches[at].is_deleted() && batches[at].alive() > 0 {
                batches[at].rows = self.with_values(batches, at, &columns.carried, stored.clone())?;
            }
        }
        Ok(())
    }

    /// The deleted rows of one batch with the values that they had.
    fn with_values<'b>(
        &self,
        batches: &'b [Buffered],
        at: usize,
        columns: &[String],
        mut values: Vec<&'b RecordBatch>,
    ) -> Result<RecordBatch> {
        let deleted = &batches[at];
        let mut own: BTreeMap<usize, usize> = BTreeMap::new();
        let mut from = Vec::with_capacity(deleted.rows.num_rows());
        for row in 0..deleted.rows.num_rows() {
            from.push(match deleted.entry(row).and_then(|entry| self.source(entry)) {
                None => None,
                Some(Source::Stored(stored)) => Some(stored),
                Some(Source::Own((batch, row))) => {
                    let batch = *own.entry(batch).or_insert_with(|| {
                        values.push(&batches[batch].rows);
                        values.len() - 1
                    });
                    Some((batch, row))
                }
            });
        }
        carry_over(&deleted.rows, columns, &values, &from)
    }

    /// The row that an id had before its delete: one of the batch, unless the table holds a higher version.
    fn source(&self, entry: u32) -> Option<Source> {
        let (columns, dedupe) = (self.columns.as_ref()?, self.dedupe.as_ref()?);
        let stored = self.stored.highest(entry).map(|at| &self.stored.rows()[at].version);
        match own_values(dedupe, entry, stored, columns.config.ties) {
            Some(own) => Some(Source::Own((own.at.0 as usize, own.at.1 as usize))),
            None => self.stored_values(entry).map(Source::Stored),
        }
    }

    /// Where the stored values of an id are.
    fn stored_values(&self, entry: u32) -> Option<RowAt> {
        self.stored.highest(entry).and_then(|at| self.kept_at.get(at).copied())
    }
}

/// Fills `columns` of `rows` with other values: row `i` takes them from batch and row `from[i]` of `values`, or stays null.
fn carry_over(rows: &RecordBatch, columns: &[String], values: &[&RecordBatch], from: &[Option<RowAt>]) -> Result<RecordBatch> {
    let broken = |e: arrow::error::ArrowError| Error::broken(format!("carry stored values over: {e}"));
    let schema = rows.schema();
    let mut arrays: Vec<ArrayRef> = rows.columns().to_vec();
    for name in columns {
        let at = schema.index_of(name).map_err(broken)?;
        let null = new_null_array(schema.field(at).data_type(), 1);
        let mut sources: Vec<&dyn Array> = vec![null.as_ref()];
        for batch in values {
            sources.push(batch.column_by_name(name).ok_or_else(|| Error::broken(format!("no values of `{name}`")))?.as_ref());
        }
        let picks: Vec<RowAt> = from.iter().map(|from| from.map_or((0, 0), |(batch, row)| (batch + 1, row))).collect();
        arrays[at] = interleave(&sources, &picks).map_err(broken)?;
    }
    RecordBatch::try_new(schema, arrays).map_err(broken)
}
