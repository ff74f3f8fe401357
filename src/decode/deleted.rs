//! Rows of deletes whose row stays: what a record without a value says about its id.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::spec::SchemaRef;

use super::fault::Reject;
use super::metadata::MetadataColumn;
use super::{Filling, columns};
use crate::config::{FormatConfig, MergeConfig, MetadataKind};
use crate::error::{Error, Result};
use crate::source::Chunk;

/// Makes the rows: id, event time, flag and what stands around the record. The `order_by` columns are null, since a delete has
/// the lowest version at its time, and so are all others until a stored value takes their place.
#[derive(Debug)]
pub(crate) struct DeletedRows {
    schema: ArrowSchemaRef,
    layout: Vec<Filling<Delete>>,
    metadata: Vec<MetadataColumn>,
    topic: String,
    carried: Vec<String>,
}

/// What a delete gives a column.
#[derive(Debug, Clone, Copy)]
enum Delete {
    /// The id column at this place of `merge.id`.
    Id(usize),
    EventTime,
    Flag,
}

impl DeletedRows {
    /// For a table with this flag column.
    pub(crate) fn new(
        schema: &SchemaRef,
        merge: &MergeConfig,
        flag: &str,
        metadata: &BTreeMap<String, MetadataKind>,
        format: &FormatConfig,
        topic: &str,
    ) -> Result<Self> {
        let arrow = super::arrow_schema(schema)?;
        let mut rows = Self {
            schema: Arc::clone(&arrow),
            layout: Vec::with_capacity(arrow.fields().len()),
            metadata: Vec::new(),
            topic: topic.to_owned(),
            carried: Vec::new(),
        };
        for (field, arrow) in schema.as_struct().fields().iter().zip(arrow.fields()) {
            let name = &field.name;
            // A record without a value has no hash of it.
            let kind = metadata.get(name).filter(|kind| **kind != MetadataKind::Sha256);
            rows.layout.push(if let Some(at) = merge.id.iter().position(|id| id == name) {
                Filling::Own(Delete::Id(at))
            } else if merge.event_time == *name {
                Filling::Own(Delete::EventTime)
            } else if flag == name {
                Filling::Own(Delete::Flag)
            } else if merge.order_by.contains(name) {
                Filling::Null
            } else if let Some(&kind) = kind {
                rows.metadata.push(MetadataColumn::new(kind, field, arrow, format)?);
                Filling::Metadata
            } else {
                rows.carried.push(name.clone());
                Filling::Null
            });
        }
        Ok(rows)
    }

    /// Columns in which a deleted row keeps the values that it had.
    pub(crate) fn carried(&self) -> &[String] {
        &self.carried
    }

    /// One row for each of `records` (indexes into `chunk.records`), and those whose row must not be used.
    pub(crate) fn rows(
        &mut self,
        chunk: &Chunk,
        records: &[u32],
        ids: &[ArrayRef],
        event_times: &ArrayRef,
    ) -> Result<(RecordBatch, Vec<Reject>)> {
        let mut rejects: Vec<Reject> = Vec::new();
        for (row, &at) in (1..).zip(records) {
            let record = &chunk.records[super::index(at)];
            for column in &mut self.metadata {
                if let Err(fault) = column.fill(&self.topic, chunk, record, &[]) {
                    column.settle(row);
                    if rejects.last().is_none_or(|last| last.record != at) {
                        rejects.push(fault.reject(at));
                    }
                }
            }
        }
        let columns = columns(&self.schema, &self.layout, &mut self.metadata, records.len(), |delete| match delete {
            Delete::Id(at) => Arc::clone(&ids[*at]),
            Delete::EventTime => Arc::clone(event_times),
            Delete::Flag => Arc::new(BooleanArray::from(vec![true; records.len()])),
        });
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        Ok((rows.map_err(|e| Error::broken(format!("rows of deletes: {e}")))?, rejects))
    }
}
