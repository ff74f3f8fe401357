//! Writes data files and delete files, and says about each what a manifest must know.
//!
//! Owns Parquet encoding, partitioning, sorting, rolling, column metrics, position deletes and deletion vectors. Never reads a
//! table, never commits, and never gives a file a name that is not of this run. A row's place is told only by the room that wrote
//! it: what [`DataWriter::write`] answers is what a reader of the finished file finds.

mod data;
mod deletes;
mod encode;
mod metrics;
mod partitions;
mod properties;
mod sort;
mod transforms;
mod vectors;

pub(crate) use data::{DataWriter, Lineage, RowPlace, WrittenFile, sort_order_id};
pub(crate) use deletes::write_position_deletes;
pub(crate) use vectors::write_vectors;

use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFile, Literal, PartitionSpecRef, PrimitiveLiteral, PrimitiveType, Struct, TableMetadataRef,
};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::index::IndexSpec;
use crate::names::{self, FileNames};
use crate::storage::Store;

/// Where files go, and under which names.
#[derive(Debug, Clone)]
pub(crate) struct WriteTarget {
    /// The table as it was loaded: schema, spec, sort order and properties are taken from here.
    pub(crate) metadata: TableMetadataRef,
    /// Opens the locations.
    pub(crate) store: Store,
    /// Names of this run's files.
    pub(crate) names: FileNames,
    /// Bytes that open files may hold in memory.
    pub(crate) memory_max: usize,
    /// What to list in a key index, for files whose rows will be matched.
    pub(crate) index: Option<Arc<IndexSpec>>,
}

impl WriteTarget {
    /// Location of a new file of a partition, whose folder is empty or ends in `/`.
    fn location(&self, folder: &str, suffix: &str) -> Result<String> {
        names::data_location(&self.metadata, folder, &self.names.next(suffix))
    }

    /// Partition of the deletes' data file in the types that its spec has today: a promoted column was narrower in its time.
    fn partition(&self, deletes: &FileDeletes<'_>) -> Result<Struct> {
        let partition = deletes.data_file.partition();
        let Ok(of_today) = self.spec(deletes.spec_id)?.partition_type(self.metadata.current_schema()) else {
            return Ok(partition.clone());
        };
        let typed =
            partition.iter().zip(of_today.fields()).map(|(value, field)| match (value, field.field_type.as_primitive_type()) {
                (Some(Literal::Primitive(PrimitiveLiteral::Int(int))), Some(PrimitiveType::Long)) => {
                    Some(Literal::long(i64::from(*int)))
                }
                (Some(Literal::Primitive(PrimitiveLiteral::Float(float))), Some(PrimitiveType::Double)) => {
                    Some(Literal::double(f64::from(float.into_inner())))
                }
                (value, _) => value.cloned(),
            });
        Ok(Struct::from_iter(typed))
    }

    fn spec(&self, id: i32) -> Result<&PartitionSpecRef> {
        let spec = self.metadata.partition_spec_by_id(id);
        spec.ok_or_else(|| Error::broken(format!("partition spec {id} of a live file is not in the table's metadata")))
    }
}

/// All positions of one data file that are deleted.
#[derive(Debug, Clone)]
pub(crate) struct FileDeletes<'a> {
    /// The live data file.
    pub(crate) data_file: &'a DataFile,
    /// Its partition spec: that of the manifest that lists it. (A `DataFile` does not tell.)
    pub(crate) spec_id: i32,
    /// Positions of rows, from 0.
    pub(crate) positions: RoaringTreemap,
}

impl FileDeletes<'_> {
    /// A delete that says nothing, or that points past the end of its file, would be committed unseen.
    fn check(&self) -> Result<()> {
        let (path, rows) = (self.data_file.file_path(), self.data_file.record_count());
        if self.data_file.content_type() != DataContentType::Data {
            return Err(Error::broken(format!("deletes for `{path}`, which is not a data file")));
        }
        match self.positions.max() {
            None => Err(Error::broken(format!("no positions to delete from `{path}`"))),
            Some(last) if last >= rows => Err(Error::broken(format!("position {last} to delete from `{path}` of {rows} rows"))),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
