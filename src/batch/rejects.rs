//! Writes a batch's rejects as they fill, into data files of the rejects table that the main commit will name.

use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::arrow::schema_to_arrow_schema;

use crate::catalog::Catalog;
use crate::decode::RejectReason;
use crate::error::{Error, Result};
use crate::progress::{PendingRejects, RejectsFile};
use crate::rejects::Rejects;
use crate::rejects::rows::{Origin, RejectRows};
use crate::source::Chunk;
use crate::write::{DataWriter, WriteTarget};

/// Collects rejects in memory and writes them on flush. The rejects table is made when the first one is written.
#[derive(Debug)]
pub(crate) struct RejectSink<'a, C> {
    door: &'a Rejects<'a, C>,
    origin: Origin,
    rows: RejectRows,
    open: Option<(ArrowSchemaRef, DataWriter)>,
}

impl<'a, C: Catalog> RejectSink<'a, C> {
    /// An empty sink for the rejects of one batch.
    pub(crate) fn new(door: &'a Rejects<'a, C>, origin: Origin) -> Self {
        Self { door, origin, rows: RejectRows::default(), open: None }
    }

    /// Keeps one record.
    pub(super) fn push(&mut self, chunk: &Chunk, record: u32, reason: RejectReason, detail: &str) {
        self.rows.push(chunk, record, reason.as_str(), detail);
    }

    /// Bytes of records that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.rows.memory()
    }

    /// Bytes held, those of open files included.
    pub(super) fn memory(&self) -> usize {
        self.rows.memory() + self.open.as_ref().map_or(0, |(_, writer)| writer.memory())
    }

    /// Writes what is held.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if self.rows.memory() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            let table = self.door.open_or_create().await?;
            let schema = schema_to_arrow_schema(table.metadata.current_schema()).map_err(|e| {
                Error::setup(format!("rejects table `{}`: {e}", self.door.ident), "name another table in `[rejects] table`")
            })?;
            let target = WriteTarget {
                metadata: table.metadata,
                store: self.door.store.clone(),
                names: self.door.names.clone(),
                memory_max: 32 << 20,
                index: None,
            };
            self.open = Some((Arc::new(schema), DataWriter::new(target)?));
        }
        let (schema, writer) = self.open.as_mut().expect("opened above");
        if let Some(rows) = self.rows.take(schema, &self.origin)? {
            writer.write(&rows, None).await?;
        }
        Ok(())
    }

    /// Closes the files and names them.
    pub(super) async fn finish(mut self, judged_by: Option<i64>) -> Result<Option<PendingRejects>> {
        self.flush().await?;
        let Some((_, writer)) = self.open else { return Ok(None) };
        let files = writer.finish().await?;
        let files = files
            .iter()
            .map(|file| RejectsFile {
                path: file.data_file.file_path().to_owned(),
                records: file.data_file.record_count(),
                size: file.data_file.file_size_in_bytes(),
            })
            .collect();
        Ok(Some(PendingRejects { table: self.door.ident.to_string(), job: self.door.job.clone(), files, judged_by }))
    }
}
