//! Tables for the tests of this room: hand-written Parquet, manifests and snapshots in a temporary folder.
//!
//! Uses iceberg's public writers only, so that a table here is what another engine would leave behind.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::metadata_columns::{RESERVED_FIELD_ID_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_POS};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, ManifestContentType, ManifestFile,
    ManifestListWriter, ManifestWriterBuilder, NestedField, Operation, PrimitiveType, Schema, Snapshot, SnapshotReference,
    SnapshotRetention, SortOrder, Struct, Summary, TableMetadataBuilder, TableMetadataRef, Type, UnboundPartitionSpec,
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use roaring::RoaringTreemap;

use crate::commit::manifest_writer;
use crate::index::{Builder, HEADER_KEY, IndexSpec};
use crate::live::files::LiveFiles;
use crate::storage::Store;

/// A table in a temporary folder.
pub(crate) struct TestTable {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) metadata: TableMetadataRef,
    manifests: Vec<ManifestFile>,
    names: usize,
    /// Rows per row group and per page of new files.
    pub(crate) group_rows: usize,
    pub(crate) page_rows: usize,
    /// Whether new files tell the bounds of their pages.
    pub(crate) page_bounds: bool,
    /// Key index of the files that are written next; none: as other engines write them.
    pub(crate) index: Option<IndexSpec>,
}

/// A required or optional column.
pub(crate) fn column(id: i32, name: &str, kind: PrimitiveType, required: bool) -> NestedField {
    NestedField::new(id, name, Type::Primitive(kind), required)
}

pub(crate) fn schema_of(fields: Vec<NestedField>) -> Schema {
    Schema::builder().with_fields(fields.into_iter().map(Arc::new)).build().unwrap()
}

/// A batch in the Arrow form of an iceberg schema, field ids included.
pub(crate) fn batch_of(schema: &Schema, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::new(schema_to_arrow_schema(schema).unwrap()), columns).unwrap()
}

/// The crate's framing of a deletion vector, written out by hand.
pub(crate) fn vector_bytes(positions: &RoaringTreemap) -> Vec<u8> {
    let mut body = vec![0xD1, 0xD3, 0x39, 0x64];
    positions.serialize_into(&mut body).unwrap();
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(&body);
    bytes.extend(crc32fast::hash(&body).to_be_bytes());
    bytes
}

impl TestTable {
    pub(crate) fn new(version: FormatVersion, schema: Schema, spec: UnboundPartitionSpec) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = format!("file://{}", dir.path().display());
        let built = TableMetadataBuilder::new(schema, spec, SortOrder::unsorted_order(), location, version, HashMap::new());
        Self {
            dir,
            store: Store::new(),
            metadata: Arc::new(built.unwrap().build().unwrap().metadata),
            manifests: Vec::new(),
            names: 0,
            group_rows: 1_000_000,
            page_rows: 20_000,
            page_bounds: true,
            index: None,
        }
    }

    pub(crate) fn unpartitioned(version: FormatVersion, schema: Schema) -> Self {
        Self::new(version, schema, UnboundPartitionSpec::builder().build())
    }

    /// Changes the metadata as `change` says.
    pub(crate) fn alter(&mut self, change: impl FnOnce(TableMetadataBuilder) -> iceberg::Result<TableMetadataBuilder>) {
        let builder = self.metadata.as_ref().clone().into_builder(None);
        self.metadata = Arc::new(change(builder).unwrap().build().unwrap().metadata);
    }

    fn fresh(&mut self, suffix: &str) -> (std::path::PathBuf, String) {
        self.names += 1;
        let path = self.dir.path().join(format!("f{:05}{suffix}", self.names));
        let location = format!("file://{}", path.display());
        (path, location)
    }

    /// Writes a Parquet file; what is not set on the builder is the caller's to set.
    pub(crate) fn parquet(&mut self, batch: &RecordBatch) -> DataFileBuilder {
        let (path, location) = self.fresh(".parquet");
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(self.page_rows.min(1024))
            .set_statistics_enabled(if self.page_bounds { EnabledStatistics::Page } else { EnabledStatistics::Chunk })
            .build();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        if let Some(spec) = &self.index {
            writer.flush().unwrap();
            let mut index = Builder::new(spec, &location, &batch.schema()).unwrap();
            index.add(batch).unwrap();
            let (bytes, header) = index.finish(u64::try_from(writer.bytes_written()).unwrap(), writer.flushed_row_groups());
            writer.write_all(&bytes).unwrap();
            writer.append_key_value_metadata(KeyValue::new(HEADER_KEY.to_owned(), header));
        }
        writer.close().unwrap();
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(location)
            .file_format(DataFileFormat::Parquet)
            .partition_spec_id(self.metadata.default_partition_spec_id())
            .record_count(u64::try_from(batch.num_rows()).unwrap())
            .file_size_in_bytes(std::fs::metadata(&path).unwrap().len());
        builder
    }

    /// A data file of the unpartitioned table.
    pub(crate) fn data(&mut self, batch: &RecordBatch) -> DataFile {
        self.parquet(batch).build().unwrap()
    }

    /// A data file of one partition.
    pub(crate) fn data_in(&mut self, batch: &RecordBatch, partition: Vec<Option<Literal>>) -> DataFile {
        self.parquet(batch).partition(Struct::from_iter(partition)).build().unwrap()
    }

    /// A position-delete file of these (path, position); `of` gives its partition, and with `scoped` its referenced data file.
    pub(crate) fn position_delete(&mut self, of: &DataFile, rows: &[(&str, i64)], scoped: bool) -> DataFile {
        let tagged = |name, kind, id: i32| {
            Field::new(name, kind, false).with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
        };
        let schema = ArrowSchema::new(vec![
            tagged("file_path", arrow::datatypes::DataType::Utf8, RESERVED_FIELD_ID_DELETE_FILE_PATH),
            tagged("pos", arrow::datatypes::DataType::Int64, RESERVED_FIELD_ID_DELETE_FILE_POS),
        ]);
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(path, _)| *path))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, position)| *position))),
        ];
        let mut builder = self.parquet(&RecordBatch::try_new(Arc::new(schema), columns).unwrap());
        builder.content(DataContentType::PositionDeletes).partition(of.partition().clone());
        if scoped {
            builder.referenced_data_file(Some(of.file_path().to_owned()));
        }
        let bounds = rows.first().zip(rows.last());
        if let Some(((first, _), (last, _))) = bounds {
            builder
                .lower_bounds(HashMap::from([(RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(first))]))
                .upper_bounds(HashMap::from([(RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(last))]));
        }
        builder.build().unwrap()
    }

    /// An equality-delete file of the columns of `batch`, in the partition of `of`.
    pub(crate) fn equality_delete(&mut self, of: &DataFile, ids: Vec<i32>, batch: &RecordBatch) -> DataFile {
        let mut builder = self.parquet(batch);
        builder.content(DataContentType::EqualityDeletes).equality_ids(Some(ids)).partition(of.partition().clone());
        builder.build().unwrap()
    }

    /// A deletion vector: `bytes` behind a few others in a file.
    pub(crate) fn vector(&mut self, of: &DataFile, bytes: &[u8], cardinality: u64) -> DataFile {
        let (path, location) = self.fresh(".puffin");
        let mut content = b"PFA1".to_vec();
        content.extend(bytes);
        std::fs::write(&path, &content).unwrap();
        DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(location)
            .file_format(DataFileFormat::Puffin)
            .partition(of.partition().clone())
            .partition_spec_id(self.metadata.default_partition_spec_id())
            .record_count(cardinality)
            .file_size_in_bytes(u64::try_from(content.len()).unwrap())
            .referenced_data_file(Some(of.file_path().to_owned()))
            .content_offset(Some(4))
            .content_size_in_bytes(Some(i64::try_from(bytes.len()).unwrap()))
            .build()
            .unwrap()
    }

    /// One snapshot that adds these files under the default spec.
    pub(crate) async fn commit(&mut self, data: Vec<DataFile>, deletes: Vec<DataFile>) {
        let id = i64::try_from(self.metadata.snapshots().len()).unwrap() + 1;
        for (content, files) in [(ManifestContentType::Data, data), (ManifestContentType::Deletes, deletes)] {
            if !files.is_empty() {
                let manifest = self.manifest(id, content, files).await;
                self.manifests.push(manifest);
            }
        }
        let sequence = self.metadata.next_sequence_number();
        let (path, location) = self.fresh("-list.avro");
        let writer = self.store.file_io().new_output(path.to_str().unwrap()).unwrap().writer().await.unwrap();
        let parent = self.metadata.current_snapshot_id();
        let first_row_id = self.metadata.next_row_id();
        let mut list = match self.metadata.format_version() {
            FormatVersion::V3 => ManifestListWriter::v3(writer, id, parent, sequence, Some(first_row_id)),
            _ => ManifestListWriter::v2(writer, id, parent, sequence),
        };
        list.add_manifests(self.manifests.clone().into_iter()).unwrap();
        let added_rows = list.next_row_id().unwrap_or(first_row_id) - first_row_id;
        list.close().await.unwrap();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_timestamp_ms(self.metadata.last_updated_ms() + 1)
            .with_manifest_list(location)
            .with_summary(Summary { operation: Operation::Overwrite, additional_properties: HashMap::new() })
            .with_schema_id(self.metadata.current_schema_id());
        let snapshot = match self.metadata.format_version() {
            FormatVersion::V3 => snapshot.with_row_range(first_row_id, added_rows).build(),
            _ => snapshot.build(),
        };
        let reference = SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
        self.alter(|builder| builder.add_snapshot(snapshot)?.set_ref("main", reference));
        // As the list assigned them.
        self.manifests = self.live().await.manifests.clone();
    }

    async fn manifest(&mut self, snapshot: i64, content: ManifestContentType, files: Vec<DataFile>) -> ManifestFile {
        let (path, location) = self.fresh("-m.avro");
        let output = self.store.file_io().new_output(path.to_str().unwrap()).unwrap();
        let (schema, spec) = (Arc::clone(self.metadata.current_schema()), self.metadata.default_partition_spec().as_ref().clone());
        let builder = ManifestWriterBuilder::new(output, Some(snapshot), schema, spec);
        let mut writer = manifest_writer(builder, self.metadata.format_version(), content);
        for file in files {
            writer.add_file(file, -1).unwrap();
        }
        ManifestFile { manifest_path: location, ..writer.write_manifest_file().await.unwrap() }
    }

    /// What is live in the current snapshot.
    pub(crate) async fn live(&self) -> Arc<LiveFiles> {
        Arc::new(self.try_live().await.unwrap())
    }

    pub(crate) async fn try_live(&self) -> crate::error::Result<LiveFiles> {
        LiveFiles::load(&self.metadata, self.metadata.current_snapshot(), &self.store).await
    }
}
