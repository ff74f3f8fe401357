//! Tombstones: each is a version of the id in its key, at the record's timestamp.

use std::iter::Peekable;
use std::vec::IntoIter;

use crate::batch::buffer::Buffered;
use crate::batch::{Assembly, Sorted};
use crate::catalog::{Catalog, LoadedTable};
use crate::config::{Config, Mode};
use crate::decode::{DeletedRows, KeyDecoder, Reject, RejectReason};
use crate::dedupe::Place;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::source::Chunk;

/// Deletes of a chunk, to be offered in their order.
pub(super) struct Tombstones {
    keys: Keys,
    /// Index into `Chunk::records` per delete, ascending.
    origins: Vec<u32>,
    /// The next one.
    next: usize,
    /// Where their rows are in the buffer; none for hard deletes, which have no row.
    batch: Option<u32>,
    /// Those whose row must not be used.
    unfit: Peekable<IntoIter<Reject>>,
}

impl<C: Catalog> Assembly<'_, C> {
    /// Decodes the deletes of a chunk; the rows of soft ones wait in the buffer like any other.
    pub(super) fn tombstones(&mut self, chunk: &Chunk, records: &[u32]) -> Result<Option<Tombstones>> {
        if records.is_empty() {
            return Ok(None);
        }
        let Some(columns) = &mut self.columns else {
            return Err(Error::broken("a tombstone was taken as a delete in append mode"));
        };
        if columns.tombstones.is_none() {
            let schema = self.spec.table.metadata.current_schema();
            columns.tombstones = Some(KeyDecoder::new(schema, &columns.config.id, &self.spec.config.format)?);
        }
        let decoded = columns.tombstones.as_mut().expect("made above").decode(chunk, records);
        let keys = columns.keys.encode(&decoded.columns)?;
        let (mut batch, mut unfit) = (None, Vec::new());
        if let Some(deleted) = &mut self.deleted {
            // Where there is no time the record is a reject, and its row is not kept.
            let time = |&at| columns.versions.at_micros(micros(chunk, at).unwrap_or(0));
            let event_times = columns.versions.column(decoded.origins.iter().map(time).collect())?;
            let (rows, rejects) = deleted.rows(chunk, &decoded.origins, &decoded.columns, &event_times)?;
            batch = Some(self.buffer.push(Buffered::deleted(rows)));
            unfit = rejects;
        }
        for reject in &decoded.rejects {
            self.reject(chunk, reject.record, reject.reason, &reject.detail);
        }
        Ok(Some(Tombstones { keys, origins: decoded.origins, next: 0, batch, unfit: unfit.into_iter().peekable() }))
    }

    /// Judges and offers the deletes that stand before a record of the chunk.
    pub(super) fn offer_deletes_before(&mut self, record: u32, chunk: &Chunk, tombstones: &mut Option<Tombstones>) -> Result<()> {
        let Some(tombstones) = tombstones else { return Ok(()) };
        while tombstones.origins.get(tombstones.next).is_some_and(|&at| at < record) {
            self.offer_delete(chunk, tombstones)?;
        }
        Ok(())
    }

    /// Judges the next delete and offers it.
    fn offer_delete(&mut self, chunk: &Chunk, tombstones: &mut Tombstones) -> Result<()> {
        let row = tombstones.next;
        let at = tombstones.origins[row];
        tombstones.next += 1;
        let unfit = tombstones.unfit.next_if(|reject| reject.record == at);
        let entry = match (tombstones.keys.get(row), micros(chunk, at), unfit) {
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
                    let versions = &self.columns.as_ref().expect("only merge mode has deletes").versions;
                    let version = versions.lowest_at(versions.at_micros(micros))?;
                    let dedupe = self.dedupe.as_mut().expect("only merge mode has versions");
                    let record = &chunk.records[at as usize];
                    let arrival = (record.partition, record.offset);
                    let offered = match tombstones.batch {
                        Some(batch) => {
                            let row = u32::try_from(row).expect("rows of a chunk fit");
                            dedupe.offer_deleted(key, version, arrival, Place::Buffered { batch, row })
                        }
                        None => dedupe.offer(key, version, arrival, Place::Delete),
                    };
                    self.drop_beaten(offered)
                }
                Sorted::Take | Sorted::Leave => None,
            },
        };
        if let Some(batch) = tombstones.batch {
            self.buffer.push_entry(batch, row, entry);
        }
        Ok(())
    }
}

/// A record's timestamp in µs.
fn micros(chunk: &Chunk, record: u32) -> Option<i64> {
    chunk.records[record as usize].timestamp_ms.map(|ms| ms.saturating_mul(1_000))
}

/// What makes the rows of deletes, where they stay.
pub(crate) fn deleted_rows(config: &Config, table: &LoadedTable) -> Result<Option<DeletedRows>> {
    let Mode::Merge(merge) = &config.mode else { return Ok(None) };
    let Some(flag) = merge.deleted_column() else { return Ok(None) };
    let schema = table.metadata.current_schema();
    DeletedRows::new(schema, merge, flag, &config.metadata, &config.format, &config.kafka.topic).map(Some)
}
