//! Files are judged by reading them back with the parquet crate and by folds over the input, never by the room's own code.

mod deletes;
mod places;
mod values;

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use iceberg::spec::{
    FormatVersion, NestedField, NullOrder, PartitionSpec, PrimitiveType, Schema, SortDirection, SortField, SortOrder,
    TableMetadataBuilder, TableMetadataRef, Transform, Type,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use uuid::Uuid;

use crate::names::FileNames;
use crate::storage::Store;
use crate::write::WriteTarget;

/// A table in a folder of its own.
struct Table {
    metadata: TableMetadataRef,
    dir: TempDir,
}

#[derive(Default)]
struct Layout<'a> {
    partition: &'a [(&'a str, Transform)],
    sort: &'a [(&'a str, Transform, SortDirection, NullOrder)],
    properties: &'a [(&'a str, &'a str)],
    version: Option<FormatVersion>,
}

impl Table {
    fn new(fields: Vec<NestedField>, layout: &Layout<'_>) -> Self {
        let dir = TempDir::new().unwrap();
        let schema = Schema::builder().with_fields(fields.into_iter().map(Arc::new)).build().unwrap();
        let mut spec = PartitionSpec::builder(schema.clone());
        for (column, transform) in layout.partition {
            spec = spec.add_partition_field(*column, format!("p {column}"), *transform).unwrap();
        }
        let mut order = SortOrder::builder();
        for (column, transform, direction, null_order) in layout.sort {
            let source_id = schema.field_id_by_name(column).unwrap();
            order.with_sort_field(SortField { source_id, transform: *transform, direction: *direction, null_order: *null_order });
        }
        let metadata = TableMetadataBuilder::new(
            schema,
            spec.build().unwrap(),
            order.build_unbound().unwrap(),
            format!("file://{}/t", dir.path().display()),
            layout.version.unwrap_or(FormatVersion::V2),
            layout.properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        )
        .unwrap()
        .build()
        .unwrap()
        .metadata;
        Self { metadata: Arc::new(metadata), dir }
    }

    fn target(&self, memory_max: usize) -> WriteTarget {
        WriteTarget {
            metadata: Arc::clone(&self.metadata),
            store: Store::new(),
            names: FileNames::new("job", Uuid::nil()),
            memory_max,
            index: None,
        }
    }

    fn data_root(&self) -> String {
        format!("file://{}/t/data", self.dir.path().display())
    }
}

fn field(id: i32, name: &str, kind: PrimitiveType, required: bool) -> NestedField {
    NestedField::new(id, name, Type::Primitive(kind), required)
}

fn path(location: &str) -> &str {
    location.strip_prefix("file://").unwrap()
}

/// All rows of a Parquet file in file order.
fn read(location: &str) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path(location)).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

/// A batch without the metadata of its fields, so that what was written and what was read compare.
fn bare(batch: &RecordBatch) -> RecordBatch {
    let fields: Vec<_> = batch.schema().fields().iter().map(|field| field.as_ref().clone().with_metadata(HashMap::new())).collect();
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), batch.columns().to_vec()).unwrap()
}
