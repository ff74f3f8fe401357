//! The rows of the rejects table: its schema, and the Arrow batches that rejected records become.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, LargeBinaryBuilder, MapArray, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef as ArrowSchemaRef};
use iceberg::spec::{MapType, NestedField, PrimitiveType, Schema, Type};

use crate::error::{Doing, Error, Result};
use crate::offsets::{Offset, Partition};
use crate::source::{Chunk, Span};
use crate::table::fit::{describe, same_type};

/// Schema of a new rejects table.
pub(crate) fn schema() -> Result<Schema> {
    let required = |id, name: &str, kind| NestedField::required(id, name, Type::Primitive(kind)).into();
    let optional = |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    let headers = Type::Map(MapType::new(
        NestedField::map_key_element(13, Type::Primitive(PrimitiveType::String)).into(),
        NestedField::map_value_element(14, Type::Primitive(PrimitiveType::Binary), false).into(),
    ));
    Schema::builder()
        .with_fields([
            required(1, "topic", PrimitiveType::String),
            required(2, "partition", PrimitiveType::Int),
            required(3, "offset", PrimitiveType::Long),
            optional(4, "timestamp", PrimitiveType::Timestamptz),
            optional(5, "key", PrimitiveType::Binary),
            optional(6, "value", PrimitiveType::Binary),
            NestedField::optional(7, "headers", headers).into(),
            required(8, "reason", PrimitiveType::String),
            optional(9, "detail", PrimitiveType::String),
            required(10, "job", PrimitiveType::String),
            required(11, "epoch", PrimitiveType::Long),
            required(12, "batch", PrimitiveType::Long),
        ])
        .build()
        .doing(|| "build the schema of the rejects table")
}

/// What keeps rejects out of a table of this schema: a column that is missing would lose its part of each record.
pub(crate) fn misfit(found: &Schema) -> Result<Option<String>> {
    let wanted = schema()?;
    for field in wanted.as_struct().fields() {
        let name = &field.name;
        let misfit = match found.as_struct().fields().iter().find(|there| there.name == *name) {
            None => format!("it has no column `{name}`"),
            Some(there) if !same_type(&there.field_type, &field.field_type) => {
                format!("its column `{name}` is {}, not {}", describe(&there.field_type), describe(&field.field_type))
            }
            Some(there) if there.required && !field.required => {
                format!("its column `{name}` is required, and not every reject has one")
            }
            Some(_) => continue,
        };
        return Ok(Some(misfit));
    }
    let extra = found.as_struct().fields().iter().find(|there| there.required && wanted.field_by_name(&there.name).is_none());
    Ok(extra.map(|there| format!("its column `{}` is required, and no reject has one", there.name)))
}

/// Whose rejects they are: the columns that are equal in all rows of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Topic name.
    pub(crate) topic: String,
    /// Job, as it stands in the rejects table.
    pub(crate) job: String,
    /// Epoch of the batch.
    pub(crate) epoch: u64,
    /// Number of the batch.
    pub(crate) batch: u64,
}

/// Collects rejected records.
#[derive(Debug, Default)]
pub(crate) struct RejectRows {
    partitions: Vec<Partition>,
    offsets: Vec<Offset>,
    timestamps: Vec<Option<i64>>,
    keys: LargeBinaryBuilder,
    values: LargeBinaryBuilder,
    header_count: i32,
    header_ends: Vec<i32>,
    header_names: StringBuilder,
    header_values: LargeBinaryBuilder,
    reasons: Vec<&'static str>,
    details: StringBuilder,
    bytes: usize,
}

impl RejectRows {
    /// Adds one record of a chunk.
    pub(crate) fn push(&mut self, chunk: &Chunk, record: u32, reason: &'static str, detail: &str) {
        let record = &chunk.records[record as usize];
        self.partitions.push(record.partition);
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp_ms.map(|ms| ms.saturating_mul(1_000)));
        let bytes = |span: Option<Span>| span.map(|span| chunk.bytes(span));
        self.keys.append_option(bytes(record.key));
        self.values.append_option(bytes(record.value));
        for header in &chunk.headers[record.headers.range()] {
            self.header_count += 1;
            self.header_names.append_value(String::from_utf8_lossy(chunk.bytes(header.name)));
            self.header_values.append_option(bytes(header.value));
            self.bytes += chunk.bytes(header.name).len() + bytes(header.value).map_or(0, <[u8]>::len);
        }
        self.header_ends.push(self.header_count);
        self.reasons.push(reason);
        self.details.append_value(detail);
        self.bytes += bytes(record.key).map_or(0, <[u8]>::len) + bytes(record.value).map_or(0, <[u8]>::len) + detail.len() + 64;
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.bytes
    }

    /// The rows collected, in the columns of the rejects table; none where there are none.
    pub(crate) fn take(&mut self, schema: &ArrowSchemaRef, origin: &Origin) -> Result<Option<RecordBatch>> {
        let mut rows = std::mem::take(self);
        let count = rows.offsets.len();
        if count == 0 {
            return Ok(None);
        }
        let headers = rows.headers(schema)?;
        let same = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) as ArrayRef;
        let number = |n: u64| {
            let n = i64::try_from(n).expect("epochs and batches are counted from 0");
            Arc::new(Int64Array::from_value(n, count)) as ArrayRef
        };
        let columns = schema
            .fields()
            .iter()
            .map(|field| -> Result<ArrayRef> {
                Ok(match field.name().as_str() {
                    "topic" => same(&origin.topic),
                    "partition" => Arc::new(Int32Array::from(std::mem::take(&mut rows.partitions))),
                    "offset" => Arc::new(Int64Array::from(std::mem::take(&mut rows.offsets))),
                    "timestamp" => Arc::new(
                        TimestampMicrosecondArray::from(std::mem::take(&mut rows.timestamps))
                            .with_data_type(field.data_type().clone()),
                    ),
                    "key" => Arc::new(rows.keys.finish()),
                    "value" => Arc::new(rows.values.finish()),
                    "headers" => Arc::clone(&headers),
                    "reason" => Arc::new(StringArray::from(std::mem::take(&mut rows.reasons))),
                    "detail" => Arc::new(rows.details.finish()),
                    "job" => same(&origin.job),
                    "epoch" => number(origin.epoch),
                    "batch" => number(origin.batch),
                    _ => arrow::array::new_null_array(field.data_type(), count),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| {
            Error::setup(
                format!("the rejects table does not have tidegate's columns: {e}"),
                "rename it, or name another in `[rejects] table`",
            )
        })?;
        Ok(Some(batch))
    }

    fn headers(&mut self, schema: &ArrowSchemaRef) -> Result<ArrayRef> {
        let unfit = || {
            Error::setup(
                "column `headers` of the rejects table is not a map<string, binary>",
                "name another table in `[rejects] table`",
            )
        };
        let field = schema.field_with_name("headers").map_err(|_| unfit())?;
        let DataType::Map(entries, sorted) = field.data_type() else { return Err(unfit()) };
        let DataType::Struct(pair) = entries.data_type() else { return Err(unfit()) };
        let columns: Vec<ArrayRef> = vec![Arc::new(self.header_names.finish()), Arc::new(self.header_values.finish())];
        let pairs = StructArray::try_new(pair.clone(), columns, None).map_err(|_| unfit())?;
        let ends = std::mem::take(&mut self.header_ends);
        let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect::<Vec<_>>().into());
        let nulls: Option<NullBuffer> = None;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted).map_err(|_| unfit())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: impl Fn(&mut Vec<NestedField>), expected: Option<&str>) {
        let mut fields: Vec<NestedField> =
            schema().unwrap().as_struct().fields().iter().map(|field| field.as_ref().clone()).collect();
        edit(&mut fields);
        let found = Schema::builder().with_fields(fields.into_iter().map(Into::into)).build().unwrap();
        assert_eq!(misfit(&found).unwrap().as_deref(), expected);
    }

    #[test]
    fn a_table_that_would_lose_a_part_of_a_reject_is_refused() {
        let text = |id, name: &str, required| NestedField::new(id, name, Type::Primitive(PrimitiveType::String), required);
        check(|_| (), None);
        check(|fields| fields.push(text(20, "note", false)), None);
        check(|fields| fields.retain(|field| field.name != "value"), Some("it has no column `value`"));
        check(|fields| fields[3] = text(4, "timestamp", false), Some("its column `timestamp` is string, not timestamptz"));
        check(|fields| fields[4].required = true, Some("its column `key` is required, and not every reject has one"));
        check(|fields| fields.push(text(20, "note", true)), Some("its column `note` is required, and no reject has one"));
    }
}
