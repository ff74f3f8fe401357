//! Values of partition and sort fields for a batch of rows.
//!
//! Pure. The transforms are iceberg's own; only two of `truncate` are here: of binary columns, which it lacks for its own Arrow
//! type, and of whole numbers, where it overflows at the lowest ones.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, LargeBinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use iceberg::arrow::record_batch_projector::RecordBatchProjector;
use iceberg::spec::{PrimitiveType, SchemaRef, Transform};
use iceberg::transform::{BoxedTransformFunction, create_transform_function};

use crate::error::{Error, Result};

/// Evaluates transforms of columns of one schema.
#[derive(Debug)]
pub(super) struct Transforms {
    sources: RecordBatchProjector,
    functions: Vec<Function>,
}

#[derive(Debug)]
enum Function {
    Iceberg(BoxedTransformFunction),
    TruncateBinary(usize),
    TruncateNumber(u32),
}

impl Transforms {
    /// For pairs of source column and transform. Sources may be nested in structs.
    pub(super) fn new(schema: &SchemaRef, fields: &[(i32, Transform)]) -> Result<Self> {
        let refused = |e: iceberg::Error| {
            Error::setup(
                format!("the table's partition spec or sort order cannot be computed: {e}"),
                "tidegate writes by every transform of the Iceberg specification; was the table made by a newer one?",
            )
        };
        let ids: Vec<i32> = fields.iter().map(|(id, _)| *id).collect();
        let sources = RecordBatchProjector::from_iceberg_schema(Arc::clone(schema), &ids).map_err(refused)?;
        let mut functions = Vec::with_capacity(fields.len());
        for (id, transform) in fields {
            let kind = schema.field_by_id(*id).and_then(|field| field.field_type.as_primitive_type());
            functions.push(match (transform, kind) {
                (Transform::Truncate(width), Some(PrimitiveType::Binary)) => Function::TruncateBinary(*width as usize),
                (Transform::Truncate(width), Some(PrimitiveType::Int | PrimitiveType::Long)) => Function::TruncateNumber(*width),
                _ => Function::Iceberg(create_transform_function(transform).map_err(refused)?),
            });
        }
        Ok(Self { sources, functions })
    }

    /// One array per field, of the transform's type.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let broken = |e: iceberg::Error| Error::broken(format!("partition or sort values of a batch: {e}"));
        let sources = self.sources.project_column(batch.columns()).map_err(broken)?;
        let evaluated = sources.into_iter().zip(&self.functions).map(|(source, function)| match function {
            Function::Iceberg(function) => function.transform(source).map_err(broken),
            Function::TruncateBinary(width) => Ok(truncate_binary(&source, *width)),
            Function::TruncateNumber(width) => Ok(truncate_number(&source, *width)),
        });
        evaluated.collect()
    }
}

fn truncate_binary(source: &ArrayRef, width: usize) -> ArrayRef {
    assert_eq!(source.data_type(), &DataType::LargeBinary, "Arrow type of a binary column");
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(width)].to_vec();
    Arc::new(source.as_binary::<i64>().iter().map(|value| value.map(cut)).collect::<LargeBinaryArray>())
}

/// Wraps around below the lowest number, as Java does: whoever looks for the row computes the same value.
fn truncate_number(source: &ArrayRef, width: u32) -> ArrayRef {
    let width = i64::from(width);
    match source.as_primitive_opt::<Int32Type>() {
        Some(source) => Arc::new(source.unary::<_, Int32Type>(|value| {
            let remainder = i64::from(value).rem_euclid(width);
            value.wrapping_sub(i32::try_from(remainder).expect("a width is an int, and a remainder below it"))
        })),
        None => {
            let source = source.as_primitive::<Int64Type>();
            Arc::new(source.unary::<_, Int64Type>(|value| value.wrapping_sub(value.rem_euclid(width))))
        }
    }
}
