//! Turns the columns of a file into those of the table as it is now, by field id.
//!
//! Pure. A file may have been written by any engine under any earlier schema: columns renamed, reordered, added, promoted to a
//! wider type, or without field ids. Nothing is ever matched by name where the file has ids.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    LargeBinaryArray, StringArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use arrow::error::ArrowError;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{Literal, MappedField, NameMapping, NestedFieldRef, PrimitiveLiteral, Schema, StructType, Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::error::{Error, Result};

/// Columns to read from files, in the table's current form.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    fields: Vec<NestedFieldRef>,
    arrow: ArrowSchemaRef,
}

impl Columns {
    /// These fields, in this order.
    pub(crate) fn of(fields: Vec<NestedFieldRef>) -> Result<Self> {
        let arrow = fields.iter().map(arrow_field).collect::<Result<Vec<_>>>()?;
        Ok(Self { fields, arrow: Arc::new(ArrowSchema::new(arrow)) })
    }

    /// Top-level columns of a schema by name.
    pub(crate) fn named(schema: &Schema, names: &[String]) -> Result<Self> {
        let field = |name: &String| {
            let field = schema.as_struct().fields().iter().find(|field| field.name == *name);
            field.cloned().ok_or_else(|| {
                Error::setup(
                    format!("the table has no column `{name}`"),
                    "correct the column's name in the job file, or add the column to the table",
                )
            })
        };
        Self::of(names.iter().map(field).collect::<Result<_>>()?)
    }

    /// Fields in order.
    pub(crate) fn fields(&self) -> &[NestedFieldRef] {
        &self.fields
    }

    /// Arrow schema of the batches that come out.
    pub(crate) fn schema(&self) -> &ArrowSchemaRef {
        &self.arrow
    }
}

/// Arrow's form of a field. Each is converted alone, so that one column may be wanted twice.
fn arrow_field(field: &NestedFieldRef) -> Result<FieldRef> {
    let schema = Schema::builder().with_fields([Arc::clone(field)]).build();
    let arrow = schema.and_then(|schema| schema_to_arrow_schema(&schema));
    let arrow = arrow.map_err(|e| Error::setup(format!("column `{}` cannot be read: {e}", field.name), ""))?;
    Ok(Arc::clone(&arrow.fields()[0]))
}

/// A file's columns with a field id on each that has one, in the file's own shape.
pub(crate) fn with_field_ids(file: &Fields, names: Option<&NameMapping>, table: &StructType) -> Fields {
    if file.iter().any(has_id) {
        return file.clone();
    }
    match names {
        Some(names) => by_mapping(file, &names.fields().iter().collect::<Vec<_>>()),
        None => by_name(file, table),
    }
}

fn has_id(field: &FieldRef) -> bool {
    id_of(field).is_some() || children(field.data_type()).iter().any(has_id)
}

/// The field id of a file's column.
pub(super) fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Struct fields, list element, or map key and value.
fn children(of: &DataType) -> Vec<FieldRef> {
    match of {
        DataType::Struct(fields) => fields.iter().cloned().collect(),
        DataType::List(element) | DataType::LargeList(element) => vec![Arc::clone(element)],
        DataType::Map(entries, _) => children(entries.data_type()),
        _ => Vec::new(),
    }
}

fn by_mapping(fields: &Fields, names: &[&MappedField]) -> Fields {
    let mapped = |field: &FieldRef, names: &[&MappedField]| {
        let found = names.iter().find(|mapped| mapped.names().contains(field.name()));
        let below = found.map(|found| found.fields().iter().map(Arc::as_ref).collect::<Vec<_>>()).unwrap_or_default();
        let inner = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(by_mapping(fields, &below)),
            // The mapping calls these `element`, `key` and `value` whatever the file calls them.
            DataType::List(element) => DataType::List(by_role(element, "element", &below)),
            DataType::Map(entries, sorted) => {
                let [key, value] = &children(entries.data_type())[..] else { return Arc::clone(field) };
                let pair = vec![by_role(key, "key", &below), by_role(value, "value", &below)];
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair.into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            other => other.clone(),
        };
        tagged(field, inner, found.and_then(|found| found.field_id()))
    };
    fields.iter().map(|field| mapped(field, names)).collect()
}

fn by_role(field: &FieldRef, role: &str, names: &[&MappedField]) -> FieldRef {
    let named = Arc::new(field.as_ref().clone().with_name(role));
    Arc::clone(&by_mapping(&Fields::from(vec![named]), names)[0])
}

fn by_name(fields: &Fields, table: &StructType) -> Fields {
    let of = |field: &FieldRef| match table.fields().iter().find(|known| known.name == *field.name()) {
        Some(known) => tag_like(field, known),
        None => Arc::clone(field),
    };
    fields.iter().map(of).collect()
}

fn tag_like(field: &FieldRef, known: &NestedFieldRef) -> FieldRef {
    let inner = match (field.data_type(), known.field_type.as_ref()) {
        (DataType::Struct(fields), Type::Struct(known)) => DataType::Struct(by_name(fields, known)),
        (DataType::List(element), Type::List(known)) => DataType::List(tag_like(element, &known.element_field)),
        (DataType::Map(entries, sorted), Type::Map(known)) => match &children(entries.data_type())[..] {
            [key, value] => {
                let pair = vec![tag_like(key, &known.key_field), tag_like(value, &known.value_field)];
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair.into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        (other, _) => other.clone(),
    };
    tagged(field, inner, Some(known.id))
}

fn tagged(field: &FieldRef, inner: DataType, id: Option<i32>) -> FieldRef {
    let metadata = id.map(|id| (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string()));
    Arc::new(field.as_ref().clone().with_data_type(inner).with_metadata(HashMap::from_iter(metadata)))
}

/// Where each wanted column of one file comes from.
#[derive(Debug)]
pub(crate) struct Projection {
    columns: Columns,
    from: Vec<From>,
    /// Root columns of the file to read, ascending.
    pub(crate) roots: Vec<usize>,
}

#[derive(Debug)]
enum From {
    /// A column of the projected batch, and its shape in the file.
    File(usize, FieldRef),
    /// One value for every row.
    Constant(ArrayRef),
}

impl Projection {
    /// Plans the wanted columns of a file of these fields; `partition` holds its identity-partition values by column.
    pub(crate) fn new(file: &Fields, columns: &Columns, partition: &HashMap<i32, Literal>) -> Result<Self> {
        let root = |id: i32| file.iter().position(|field| id_of(field) == Some(id));
        let found: Vec<_> = columns.fields.iter().map(|field| root(field.id)).collect();
        let mut roots: Vec<usize> = found.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let mut from = Vec::with_capacity(found.len());
        for ((field, arrow), root) in columns.fields.iter().zip(columns.arrow.fields()).zip(found) {
            from.push(match root.and_then(|root| Some((roots.binary_search(&root).ok()?, &file[root]))) {
                Some((at, shape)) => From::File(at, Arc::clone(shape)),
                None => {
                    let value = partition.get(&field.id).or(field.initial_default.as_ref());
                    From::Constant(constant(value, arrow.data_type())?)
                }
            });
        }
        Ok(Self { columns: columns.clone(), from, roots })
    }

    /// The wanted columns of one batch that was read with [`Projection::roots`].
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let column = |((from, field), arrow): ((&From, &NestedFieldRef), &FieldRef)| match from {
            From::File(at, shape) => adapt(batch.column(*at), shape, &field.field_type, arrow.data_type()),
            From::Constant(value) => repeat(value, rows),
        };
        let columns = self.from.iter().zip(&self.columns.fields).zip(self.columns.arrow.fields()).map(column);
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.columns.arrow), columns, &options)
    }
}

fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef, ArrowError> {
    if value.is_null(0) {
        return Ok(new_null_array(value.data_type(), rows));
    }
    take(value, &UInt32Array::from(vec![0; rows]), None)
}

/// One array of a file in the table's form. `shape` is the file's field with its ids; its children lie as the array's do.
fn adapt(array: &ArrayRef, shape: &Field, to: &Type, arrow: &DataType) -> Result<ArrayRef, ArrowError> {
    match (to, arrow) {
        (Type::Struct(to), DataType::Struct(fields)) => {
            let array = array.as_struct_opt().ok_or_else(|| unlike(shape, arrow))?;
            Ok(Arc::new(adapt_struct(array, shape.data_type(), to.fields(), fields)?))
        }
        (Type::List(to), DataType::List(element)) => {
            let array = array.as_list_opt::<i32>().ok_or_else(|| unlike(shape, arrow))?;
            let [from] = &children(shape.data_type())[..] else { return Err(unlike(shape, arrow)) };
            let values = adapt(array.values(), from, &to.element_field.field_type, element.data_type())?;
            let nulls = array.nulls().cloned();
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), array.offsets().clone(), values, nulls)?))
        }
        (Type::Map(to), DataType::Map(entries, sorted)) => {
            let array = array.as_map_opt().ok_or_else(|| unlike(shape, arrow))?;
            let ([from_key, from_value], DataType::Struct(fields)) = (&children(shape.data_type())[..], entries.data_type()) else {
                return Err(unlike(shape, arrow));
            };
            let key = adapt(array.keys(), from_key, &to.key_field.field_type, fields[0].data_type())?;
            let value = adapt(array.values(), from_value, &to.value_field.field_type, fields[1].data_type())?;
            let pairs = StructArray::try_new(fields.clone(), vec![key, value], None)?;
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?))
        }
        _ if array.data_type() == arrow => Ok(Arc::clone(array)),
        // A value that does not fit is an error, never a null.
        _ => cast_with_options(array, arrow, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

fn adapt_struct(array: &StructArray, shape: &DataType, to: &[NestedFieldRef], fields: &Fields) -> Result<StructArray, ArrowError> {
    let shapes = children(shape);
    let mut columns = Vec::with_capacity(to.len());
    for (to, field) in to.iter().zip(fields) {
        columns.push(match shapes.iter().position(|shape| id_of(shape) == Some(to.id)) {
            Some(at) => adapt(array.column(at), &shapes[at], &to.field_type, field.data_type())?,
            None => {
                let value =
                    constant(to.initial_default.as_ref(), field.data_type()).map_err(|e| ArrowError::SchemaError(e.to_string()))?;
                repeat(&value, array.len())?
            }
        });
    }
    StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())
}

fn unlike(shape: &Field, arrow: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("`{}` is {} in the file and {arrow} in the table", shape.name(), shape.data_type()))
}

/// One value as an array of length one; null where there is no value.
fn constant(value: Option<&Literal>, to: &DataType) -> Result<ArrayRef> {
    let Some(Literal::Primitive(value)) = value else { return Ok(new_null_array(to, 1)) };
    let failed = |e: &dyn std::fmt::Display| Error::broken(format!("value {value:?} as {to}: {e}"));
    let array: ArrayRef = match value {
        PrimitiveLiteral::Boolean(value) => Arc::new(BooleanArray::from(vec![*value])),
        PrimitiveLiteral::Int(value) if *to == DataType::Date32 => Arc::new(Date32Array::from(vec![*value])),
        PrimitiveLiteral::Int(value) => Arc::new(Int32Array::from(vec![*value])),
        PrimitiveLiteral::Long(value) => Arc::new(Int64Array::from(vec![*value])),
        PrimitiveLiteral::Float(value) => Arc::new(Float32Array::from(vec![value.into_inner()])),
        PrimitiveLiteral::Double(value) => Arc::new(Float64Array::from(vec![value.into_inner()])),
        PrimitiveLiteral::String(value) => Arc::new(StringArray::from(vec![value.as_str()])),
        PrimitiveLiteral::Binary(value) => match to {
            DataType::FixedSizeBinary(_) => fixed(value)?,
            _ => Arc::new(LargeBinaryArray::from_vec(vec![value])),
        },
        PrimitiveLiteral::UInt128(value) => fixed(&value.to_be_bytes())?,
        PrimitiveLiteral::Int128(value) => match to {
            DataType::Decimal128(precision, scale) => {
                let array = Decimal128Array::from(vec![*value]).with_precision_and_scale(*precision, *scale);
                Arc::new(array.map_err(|e| failed(&e))?)
            }
            _ => return Err(failed(&"not a decimal column")),
        },
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => return Err(failed(&"not a value")),
    };
    cast_with_options(&array, to, &CastOptions { safe: false, ..CastOptions::default() }).map_err(|e| failed(&e))
}

fn fixed(bytes: &[u8]) -> Result<ArrayRef> {
    let array = FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes));
    Ok(Arc::new(array.map_err(|e| Error::broken(format!("value of {} bytes: {e}", bytes.len())))?))
}
