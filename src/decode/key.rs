//! Ids from record keys: what a tombstone deletes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::compute::filter;
use arrow::datatypes::Fields;
use iceberg::spec::{NestedField, PrimitiveType, SchemaRef, Type};

use super::fault::{Fault, Reject, RejectReason};
use super::json::{self, Json};
use super::nested::StructColumn;
use crate::config::{FormatConfig, UnknownFields};
use crate::error::{Error, Result};
use crate::source::Chunk;

/// Reads the id columns out of record keys.
///
/// A single string column takes the key's text as it is. Everything else takes a JSON object with the id columns as its fields
/// (others are ignored); a single column also takes a JSON value, or text that is no JSON, such as a bare UUID or date.
#[derive(Debug)]
pub(crate) struct KeyDecoder {
    columns: StructColumn,
    form: Form,
    scratch: String,
}

/// What a key may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Text of the only column.
    Text,
    /// An object, or a value of the only column.
    ObjectOrValue,
    /// An object.
    Object,
}

/// What a [`KeyDecoder`] makes of records.
#[derive(Debug)]
pub(crate) struct DecodedKeys {
    /// One array per id column, in the order given to [`KeyDecoder::new`].
    pub(crate) columns: Vec<ArrayRef>,
    /// Index into `Chunk::records` per row.
    pub(crate) origins: Vec<u32>,
    /// Records whose key names no id.
    pub(crate) rejects: Vec<Reject>,
}

impl KeyDecoder {
    /// For id columns of the table, by name, in the order of their names in `ids`.
    pub(crate) fn new(schema: &SchemaRef, ids: &[String], format: &FormatConfig) -> Result<Self> {
        let arrow = super::arrow_schema(schema)?;
        let mut fields = Vec::with_capacity(ids.len());
        let mut arrow_fields = Vec::with_capacity(ids.len());
        for id in ids {
            let (Some(field), Ok(at)) = (schema.as_struct().field_by_name(id), arrow.index_of(id)) else {
                return Err(super::no_column(id));
            };
            if !field.field_type.is_primitive() {
                return Err(Error::setup(
                    format!("id column `{id}` has type {}", field.field_type),
                    "use columns of primitive types for `merge.id`",
                ));
            }
            fields.push(Arc::new(NestedField { required: true, ..(**field).clone() }));
            arrow_fields.push(Arc::clone(&arrow.fields()[at]));
        }
        let form = match fields.as_slice() {
            [field] if *field.field_type == Type::Primitive(PrimitiveType::String) => Form::Text,
            [_] => Form::ObjectOrValue,
            _ => Form::Object,
        };
        let format = FormatConfig { unknown_fields: UnknownFields::Ignore, ..format.clone() };
        let columns = StructColumn::new(&fields, &Fields::from(arrow_fields), &format)?;
        Ok(Self { columns, form, scratch: String::new() })
    }

    /// Decodes the keys of `records` (indexes into `chunk.records`), in this order.
    pub(crate) fn decode(&mut self, chunk: &Chunk, records: &[u32]) -> DecodedKeys {
        super::assert_bounded(chunk);
        let mut origins = Vec::with_capacity(records.len());
        let mut rejects = Vec::new();
        let mut kept = BooleanBufferBuilder::new(records.len());
        for &record in records {
            let key = chunk.records[super::index(record)].key.map(|key| chunk.bytes(key));
            let filled = self.fill(key);
            kept.append(filled.is_ok());
            match filled {
                Ok(()) => origins.push(record),
                Err(fault) => {
                    self.columns.settle(kept.len());
                    let detail = format!("the record's key names no id: {}", fault.detail());
                    rejects.push(Reject { record, reason: RejectReason::NoId, detail });
                }
            }
        }
        let mut columns = self.columns.finish_columns();
        if !rejects.is_empty() {
            let kept = BooleanArray::new(kept.finish(), None);
            for column in &mut columns {
                *column = filter(column, &kept).expect("one bit per row");
            }
        }
        DecodedKeys { columns, origins, rejects }
    }

    fn fill(&mut self, key: Option<&[u8]>) -> std::result::Result<(), Box<Fault>> {
        let key = key.ok_or_else(|| Fault::new(RejectReason::NoId, "it is null"))?;
        let text = json::text(key)?;
        let first = Json::new(text, &mut self.scratch).peek();
        match self.form {
            Form::Object => self.columns.fill_text(text, &mut self.scratch),
            Form::ObjectOrValue if first == b'{' => self.columns.fill_text(text, &mut self.scratch),
            Form::Text => self.columns.fill_only(|slot| slot.fill_leaf(|leaf| leaf.push_text(text), text)),
            Form::ObjectOrValue => {
                let scratch = &mut self.scratch;
                let filled = match json::check(text, scratch) {
                    Ok(()) => self.columns.fill_only(|slot| slot.fill(&mut Json::new(text, scratch))),
                    Err(fault) => Err(fault),
                };
                match filled {
                    Err(_) if first != b'"' => self.columns.fill_only(|slot| slot.fill_leaf(|leaf| leaf.push_text(text), text)),
                    filled => filled,
                }
            }
        }
    }
}
