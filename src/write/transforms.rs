//! Values of partition and sort fields for a batch of rows.
//!
//! Pure. The transforms are iceberg's own; only `truncate` of binary columns, which it lacks for its own Arrow type, is here.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, LargeBinaryArray, RecordBatch};
use arrow::datatypes::DataType;
use iceberg::arrow::record_batch_projector::RecordBatchProjector;
use iceberg::spec::{SchemaRef, Transform};
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
            let binary = schema.field_by_id(*id).is_some_and(|field| field.field_type.to_string() == "binary");
            functions.push(match transform {
                Transform::Truncate(width) if binary => Function::TruncateBinary(*width as usize),
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
        });
        evaluated.collect()
    }
}

fn truncate_binary(source: &ArrayRef, width: usize) -> ArrayRef {
    assert_eq!(source.data_type(), &DataType::LargeBinary, "Arrow type of a binary column");
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(width)].to_vec();
    Arc::new(source.as_binary::<i64>().iter().map(|value| value.map(cut)).collect::<LargeBinaryArray>())
}
