//! Rows to Parquet files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use iceberg::spec::{FormatVersion, PartitionSpec, SortOrder, TableMetadataBuilder, TableMetadataRef};
use object_store::memory::InMemory;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::articles::{SCHEMA, chunk};
use super::decode::Decoding;
use crate::names::FileNames;
use crate::storage::Store;
use crate::write::{DataWriter, WriteTarget};

/// Writes articles to a store in memory.
#[derive(Debug)]
pub struct Writing {
    runtime: Runtime,
    metadata: TableMetadataRef,
    rows: RecordBatch,
}

impl Writing {
    /// So many articles, into a table whose files have this codec. zstd runs at level 1, the default.
    pub fn prepare(count: u32, codec: &str) -> Self {
        let (spec, order) = (PartitionSpec::unpartition_spec(), SortOrder::unsorted_order());
        let properties = HashMap::from([("write.parquet.compression-codec".to_owned(), codec.to_owned())]);
        let schema = SCHEMA.as_ref().clone();
        let location = "file:///t".to_owned();
        let table = TableMetadataBuilder::new(schema, spec, order, location, FormatVersion::V2, properties).unwrap();
        Self {
            runtime: Builder::new_multi_thread().build().unwrap(),
            metadata: Arc::new(table.build().unwrap().metadata),
            rows: Decoding::prepare().run(&chunk(count)),
        }
    }

    /// Bytes of the files. They have no key index: that is measured by itself.
    pub fn run(&self) -> u64 {
        let target = WriteTarget {
            metadata: Arc::clone(&self.metadata),
            store: Store::over(Arc::new(InMemory::new())),
            names: FileNames::new("micro", Uuid::nil()),
            memory_max: 256 << 20,
            index: None,
        };
        let files = self.runtime.block_on(async {
            let mut writer = DataWriter::new(target).unwrap();
            writer.write(&self.rows, None).await.unwrap();
            writer.finish().await.unwrap()
        });
        files.iter().map(|file| file.data_file.file_size_in_bytes()).sum()
    }
}
