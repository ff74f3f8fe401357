//! Tombstones: each is a version of the id in its key, at the record's timestamp.

use crate::batch::buffer::Buffered;
use crate::batch::{Assembly, Sorted};
use crate::catalog::{Catalog, LoadedTable};
use crate::config::{Config, Mode};
use crate::decode::{DeletedRows, KeyDecoder, RejectReason};
use crate::dedupe::Place;
use crate::error::{Error, Result};
use crate::keys::Version;
use crate::source::{Chunk, Record};

impl<C: Catalog> Assembly<'_, C> {
    /// Offers the deletes of a chunk. Hard ones have no row; soft ones have one that waits in the buffer like any other.
    pub(super) fn deletes(&mut self, chunk: &Chunk, records: &[u32]) -> Result<()> {
        let Some(mut columns) = self.columns.take() else {
            return Err(Error::broken("a tombstone was taken as a delete in append mode"));
        };
        if columns.tombstones.is_none() {
            let schema = self.spec.table.metadata.current_schema();
            columns.tombstones = Some(KeyDecoder::new(schema, &columns.config.id, &self.spec.config.format)?);
        }
        let decoded = columns.tombstones.as_mut().expect("made above").decode(chunk, records);
        for reject in &decoded.rejects {
            self.reject(chunk, reject.record, reject.reason, &reject.detail);
        }
        let keys = columns.keys.encode(&decoded.columns)?;
        let micros = |at: u32| chunk.records[at as usize].timestamp_ms.map(|ms| ms.saturating_mul(1_000));
        let mut rows = None;
        let mut unfit = Vec::new().into_iter().peekable();
        if let Some(deleted) = &mut self.deleted {
            // Where there is no time the record is a reject, and its row is not kept.
            let time = |&at| columns.versions.at_micros(micros(at).unwrap_or(0));
            let event_times = columns.versions.column(decoded.origins.iter().map(time).collect())?;
            let (batch, rejects) = deleted.rows(chunk, &decoded.origins, &decoded.columns, &event_times)?;
            (rows, unfit) = (Some(Buffered::deleted(batch)), rejects.into_iter().peekable());
        }
        for (row, &at) in decoded.origins.iter().enumerate() {
            let entry = match (keys.get(row), micros(at), unfit.next_if(|reject| reject.record == at)) {
                (None, ..) => {
                    self.reject(chunk, at, RejectReason::NoId, "an id in the record key is null or NaN");
                    None
                }
                (_, None, _) => {
                    self.reject(chunk, at, RejectReason::NoEventTime, "a tombstone without a timestamp has no version");
                    None
                }
                (.., Some(reject)) => {
                    self.reject(chunk, at, reject.reason, &reject.detail);
                    None
                }
                (Some(key), Some(micros), None) => match self.judge(chunk, at, micros) {
                    Sorted::Take if !self.spec.rejects_only => {
                        let version = columns.versions.lowest_at(columns.versions.at_micros(micros))?;
                        self.offer_delete(key, version, &chunk.records[at as usize], row, rows.as_mut())
                    }
                    Sorted::Take | Sorted::Leave => None,
                },
            };
            if let Some(rows) = &mut rows {
                rows.push_entry(row, entry);
            }
        }
        if let Some(rows) = rows {
            self.buffer.push(rows);
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn offer_delete(
        &mut self,
        key: &[u8],
        version: Version,
        record: &Record,
        row: usize,
        rows: Option<&mut Buffered>,
    ) -> Option<u32> {
        let Some(rows) = rows else {
            return self.offer(key, version, record, Place::Delete, &mut Buffered::none());
        };
        let place = Place::Buffered { batch: self.buffer.next_index(), row: u32::try_from(row).expect("rows of a chunk fit") };
        let dedupe = self.dedupe.as_mut().expect("only merge mode has versions");
        let offered = dedupe.offer_deleted(key, version, (record.partition, record.offset), place);
        self.settle(offered, rows)
    }
}

/// What makes the rows of deletes, where they stay.
pub(crate) fn deleted_rows(config: &Config, table: &LoadedTable) -> Result<Option<DeletedRows>> {
    let Mode::Merge(merge) = &config.mode else { return Ok(None) };
    let Some(flag) = merge.deleted_column() else { return Ok(None) };
    let schema = table.metadata.current_schema();
    DeletedRows::new(schema, merge, flag, &config.metadata, &config.format, &config.kafka.topic).map(Some)
}
