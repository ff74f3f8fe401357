//! Bytes of records to Arrow columns of the table.
//!
//! Owns the mapping from JSON and from what stands around a value (key, position, headers) to the table's types. Pure: no clock,
//! no I/O, no async. Knows nothing of versions, watermarks or stored rows. Every record ends in exactly one of: a row, a reject,
//! a tombstone, filtered; a bad record never stops the others, never shifts them, and no input makes it panic.
//!
//! How JSON becomes a column:
//!
//! | column | JSON |
//! | --- | --- |
//! | boolean | `true`, `false` |
//! | int, long | a number that is whole, however written (`7`, `7.0`, `7e0`), and in range |
//! | float, double | a number in range; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | decimal(p, s) | a number, or a string that is one, with at most s fractional and p digits in all; exact |
//! | string | a string |
//! | date | `"YYYY-MM-DD"`; a number is an instant in `[format] epoch_unit`, whose day in UTC it is |
//! | time | `"HH:MM:SS[.fraction]"`; a number counts `epoch_unit` since midnight |
//! | timestamptz | ISO 8601 with `T` or a space, up to 9 fractional digits, finer ones than the column's dropped; in UTC where it has no offset; a number counts `epoch_unit` since the epoch |
//! | timestamp | the same, but with no offset other than UTC |
//! | uuid | 32 hexadecimal digits, with hyphens or without |
//! | binary, fixed(n) | base64, standard or URL-safe, padded or not |
//! | struct | an object; field names match exactly |
//! | list | an array |
//! | map | an object, whose keys are texts of the key type; the order is kept |
//!
//! The flag column of `deletes = "soft"` is false where a record has no such field, or null in it.
//!
//! `null` and an absent field are null, and a reject where the column is required. A column's field that stands twice in one
//! object is a reject, as is a key that stands twice in a map, and any text that is not JSON, even inside a field without a column.

mod deleted;
mod fault;
mod json;
mod key;
mod leaf;
mod metadata;
mod nested;
mod number;
mod time;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{FieldRef, Fields, SchemaRef as ArrowSchemaRef};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{NestedField, SchemaRef};

pub(crate) use deleted::DeletedRows;
pub(crate) use fault::{Reject, RejectReason};
pub(crate) use key::KeyDecoder;

use crate::config::{FormatConfig, MetadataKind, Tombstones};
use crate::error::{Error, Result};
use crate::source::{Chunk, Record};
use fault::Fault;
use metadata::MetadataColumn;
use nested::StructColumn;

/// What the decoder makes of records. Built once per run.
#[derive(Debug, Clone)]
pub(crate) struct DecodeSpec {
    /// The table's current schema.
    pub(crate) schema: SchemaRef,
    /// Top-level columns filled from JSON.
    pub(crate) supplied: BTreeSet<String>,
    /// Top-level columns filled from around the value.
    pub(crate) metadata: BTreeMap<String, MetadataKind>,
    /// `[format]`.
    pub(crate) format: FormatConfig,
    /// Topic name.
    pub(crate) topic: String,
    /// What a record without a value means.
    pub(crate) tombstones: Tombstones,
    /// Column of flags that is false where a record does not say otherwise.
    pub(crate) flag: Option<String>,
}

/// Decodes chunk after chunk; keeps nothing of one for the next but what makes it faster.
#[derive(Debug)]
pub(crate) struct Decoder {
    schema: ArrowSchemaRef,
    /// Where each column of the table comes from.
    layout: Vec<Filling<Value>>,
    supplied: StructColumn,
    metadata: Vec<MetadataColumn>,
    topic: String,
    tombstones: Tombstones,
    scratch: String,
}

/// Where a column of the table comes from.
#[derive(Debug, Clone, Copy)]
enum Filling<T> {
    /// From what the rows are made of.
    Own(T),
    /// From what stands around the record.
    Metadata,
    Null,
}

/// What a record's value gives a column.
#[derive(Debug, Clone, Copy)]
enum Value {
    Json,
    /// As `Json`, and false where that gives nothing.
    Flag,
}

/// The columns of `rows` rows, and the metadata's empty for the next.
fn columns<T>(
    schema: &ArrowSchemaRef,
    layout: &[Filling<T>],
    metadata: &mut [MetadataColumn],
    rows: usize,
    mut own: impl FnMut(&T) -> ArrayRef,
) -> Vec<ArrayRef> {
    let mut metadata = metadata.iter_mut().map(MetadataColumn::finish);
    let fill = |(filling, field): (&Filling<T>, &FieldRef)| match filling {
        Filling::Own(part) => own(part),
        Filling::Metadata => metadata.next().expect("one for each such column"),
        Filling::Null => new_null_array(field.data_type(), rows),
    };
    layout.iter().zip(schema.fields()).map(fill).collect()
}

/// What a [`Decoder`] makes of a chunk.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Every column of the table, in its order; those that the job does not fill are null.
    pub(crate) rows: RecordBatch,
    /// Index into `Chunk::records` per row.
    pub(crate) origins: Vec<u32>,
    /// Records that became no row.
    pub(crate) rejects: Vec<Reject>,
    /// Records without a value, where they delete: indexes into `Chunk::records`.
    pub(crate) tombstones: Vec<u32>,
    /// Records without a value, where they are ignored.
    pub(crate) filtered: u64,
}

impl Decoder {
    /// Refuses columns that do not exist or cannot be filled, and required ones that nothing fills.
    pub(crate) fn new(spec: DecodeSpec) -> Result<Self> {
        let schema = arrow_schema(&spec.schema)?;
        let mut layout = Vec::with_capacity(schema.fields().len());
        let (mut supplied, mut supplied_arrow, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
        let names = spec.supplied.iter().chain(spec.metadata.keys());
        if let Some(unknown) = names.into_iter().find(|name| schema.index_of(name).is_err()) {
            return Err(no_column(unknown));
        }
        for (field, arrow) in spec.schema.as_struct().fields().iter().zip(schema.fields()) {
            let name = &field.name;
            let is_flag = spec.flag.as_ref() == Some(name);
            layout.push(match (spec.supplied.contains(name) || is_flag, spec.metadata.get(name)) {
                (true, Some(_)) => {
                    return Err(Error::setup(
                        format!("column `{name}` would be filled from JSON and from `[metadata]`"),
                        "leave it out of one of `table.columns` and `metadata.columns`",
                    ));
                }
                (true, None) if is_flag => {
                    // A required one too: what a record leaves out is filled in.
                    supplied.push(Arc::new(NestedField { required: false, ..(**field).clone() }));
                    supplied_arrow.push(Arc::clone(arrow));
                    Filling::Own(Value::Flag)
                }
                (true, None) => {
                    supplied.push(Arc::clone(field));
                    supplied_arrow.push(Arc::clone(arrow));
                    Filling::Own(Value::Json)
                }
                (false, Some(&kind)) => {
                    metadata.push(MetadataColumn::new(kind, field, arrow, &spec.format)?);
                    Filling::Metadata
                }
                (false, None) if field.required => {
                    return Err(Error::setup(
                        format!("column `{name}` is required, and the job does not fill it"),
                        "add it to `table.columns` or `metadata.columns`, or make it optional in the table",
                    ));
                }
                (false, None) => Filling::Null,
            });
        }
        let supplied = StructColumn::new(&supplied, &Fields::from(supplied_arrow), &spec.format)?;
        let (topic, tombstones, scratch) = (spec.topic, spec.tombstones, String::new());
        Ok(Self { schema, layout, supplied, metadata, topic, tombstones, scratch })
    }

    /// Schema of the rows: the whole table, with field ids.
    #[cfg(test)]
    pub(crate) fn arrow_schema(&self) -> ArrowSchemaRef {
        Arc::clone(&self.schema)
    }

    /// Decodes every record of a chunk, in its order.
    ///
    /// # Panics
    /// When the chunk's arena is 2 GiB or more: Arrow's strings could not hold it. Chunks are cut far below.
    pub(crate) fn decode(&mut self, chunk: &Chunk) -> Decoded {
        assert_bounded(chunk);
        let count = chunk.records.len();
        self.supplied.reserve(count, chunk.arena.len());
        self.metadata.iter_mut().for_each(|column| column.reserve(count, chunk.arena.len()));
        let mut origins = Vec::with_capacity(count);
        let (mut rejects, mut tombstones, mut filtered) = (Vec::new(), Vec::new(), 0);
        let mut kept = BooleanBufferBuilder::new(count);
        for (at, record) in (0u32..).zip(&chunk.records) {
            let Some(value) = record.value else {
                match self.tombstones {
                    Tombstones::Delete => tombstones.push(at),
                    Tombstones::Ignore => filtered += 1,
                    Tombstones::Reject => {
                        rejects.push(Fault::new(RejectReason::NullValue, "the record has no value").reject(at));
                    }
                }
                continue;
            };
            let filled = self.fill(chunk, record, chunk.bytes(value));
            kept.append(filled.is_ok());
            match filled {
                Ok(()) => origins.push(at),
                Err(fault) => {
                    self.settle(kept.len());
                    rejects.push(fault.reject(at));
                }
            }
        }
        Decoded { rows: self.finish(kept, origins.len()), origins, rejects, tombstones, filtered }
    }

    /// Appends a row, or begins one and fails.
    #[inline]
    fn fill(&mut self, chunk: &Chunk, record: &Record, value: &[u8]) -> std::result::Result<(), Box<Fault>> {
        self.supplied.fill_text(json::text(value)?, &mut self.scratch)?;
        for column in &mut self.metadata {
            column.fill(&self.topic, chunk, record, value)?;
        }
        Ok(())
    }

    #[cold]
    fn settle(&mut self, rows: usize) {
        self.supplied.settle(rows);
        self.metadata.iter_mut().for_each(|column| column.settle(rows));
    }

    /// The rows, without those that a fault left.
    fn finish(&mut self, mut kept: BooleanBufferBuilder, good: usize) -> RecordBatch {
        let rows = kept.len();
        let mut supplied = self.supplied.finish_columns().into_iter();
        let columns = columns(&self.schema, &self.layout, &mut self.metadata, rows, |value| {
            let column = supplied.next().expect("counted in new");
            match value {
                Value::Json => column,
                Value::Flag => or_false(&column),
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.expect("columns were filled by their own types, one value per row");
        if good == rows {
            return batch;
        }
        filter_record_batch(&batch, &BooleanArray::new(kept.finish(), None)).expect("one bit per row")
    }
}

/// Flags, with false in place of null.
fn or_false(flags: &ArrayRef) -> ArrayRef {
    let flags = flags.as_boolean();
    match flags.nulls() {
        None => Arc::new(flags.clone()),
        Some(nulls) => Arc::new(BooleanArray::new(flags.values() & nulls.inner(), None)),
    }
}

/// The table's schema in Arrow, in the exact types that iceberg's own writers use.
fn arrow_schema(schema: &SchemaRef) -> Result<ArrowSchemaRef> {
    schema_to_arrow_schema(schema).map(Arc::new).map_err(|e| {
        Error::setup(
            format!("the table's schema cannot be held in memory: {e}"),
            "remove the column, or leave this table to another writer",
        )
    })
}

fn no_column(name: &str) -> Error {
    Error::setup(
        format!("the table has no column `{name}`"),
        "`table.columns`, `metadata.columns` and `merge.id` may only name columns of the table",
    )
}

/// Arrow's strings have offsets of 31 bits, and no column holds more bytes than the chunk.
fn assert_bounded(chunk: &Chunk) {
    assert!(i32::try_from(chunk.arena.len()).is_ok(), "a chunk of {} bytes: it must be cut below 2 GiB", chunk.arena.len());
}

fn index(record: u32) -> usize {
    usize::try_from(record).expect("32 bits fit")
}
