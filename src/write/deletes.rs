//! Position-delete files: one per data file, for tables of format version 2.
//!
//! A file names the one data file that it belongs to in `referenced_data_file` and in its bounds, so that no reader opens it for
//! another. Never written for a table of format version 3, which takes deletion vectors only.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use bytes::Bytes;
use iceberg::metadata_columns::{
    RESERVED_COL_NAME_DELETE_FILE_PATH, RESERVED_COL_NAME_DELETE_FILE_POS, RESERVED_FIELD_ID_DELETE_FILE_PATH,
    RESERVED_FIELD_ID_DELETE_FILE_POS,
};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Struct};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::write::encode::joined;
use crate::write::partitions::folder;
use crate::write::properties::Settings;
use crate::write::{FileDeletes, WriteTarget};

/// Rows encoded at once.
const CHUNK_ROWS: usize = 64 << 10;

/// Writes a file with the deletes of one data file, which may be of any spec of the table.
pub(crate) async fn write_position_deletes(target: &WriteTarget, deletes: &FileDeletes<'_>) -> Result<DataFile> {
    let version = target.metadata.format_version();
    if version != FormatVersion::V2 {
        return Err(Error::broken(format!("a position-delete file for a table of format version {version}")));
    }
    deletes.check()?;
    let spec = target.spec(deletes.spec_id)?;
    let location = target.location(&folder(&target.metadata, spec, deletes.data_file.partition()), "-deletes.parquet")?;
    let properties = Settings::of(&target.metadata)?.delete_writer();
    let (path, rows) = (deletes.data_file.file_path().to_owned(), deletes.positions.clone());
    let (bytes, footer) = joined(tokio::task::spawn_blocking(move || encoded(&path, &rows, properties)).await)??;
    let size = u64::try_from(bytes.len()).expect("a length fits u64");
    target.store.create(&location, bytes).await?;
    describe(location, size, deletes, target.partition(deletes)?, &footer)
}

fn encoded(path: &str, positions: &RoaringTreemap, properties: WriterProperties) -> Result<(Bytes, ParquetMetaData)> {
    let broken = |e: &dyn std::fmt::Display| Error::broken(format!("encode position deletes: {e}"));
    let column = |name: &str, kind: DataType, id: i32| {
        let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(name, kind, false).with_metadata(metadata)
    };
    // The path once, and a row as a reference to it: in Parquet a column of text like any other.
    let path: ArrayRef = Arc::new(StringArray::from_iter_values([path]));
    let same = |rows: usize| DictionaryArray::try_new(Int32Array::from(vec![0; rows]), Arc::clone(&path)).map_err(|e| broken(&e));
    let schema = Arc::new(ArrowSchema::new(vec![
        column(RESERVED_COL_NAME_DELETE_FILE_PATH, same(0)?.data_type().clone(), RESERVED_FIELD_ID_DELETE_FILE_PATH),
        column(RESERVED_COL_NAME_DELETE_FILE_POS, DataType::Int64, RESERVED_FIELD_ID_DELETE_FILE_POS),
    ]));
    let mut buffer = Vec::new();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_schema_root("table".to_owned()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&mut buffer, Arc::clone(&schema), options).map_err(|e| broken(&e))?;
    // A treemap iterates in ascending order, which is the order that the file must have.
    let mut left = positions.iter();
    loop {
        let chunk: Vec<i64> = left.by_ref().take(CHUNK_ROWS).map(position).collect();
        if chunk.is_empty() {
            break;
        }
        let columns = vec![Arc::new(same(chunk.len())?) as ArrayRef, Arc::new(Int64Array::from(chunk))];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|e| broken(&e))?;
        writer.write(&batch).map_err(|e| broken(&e))?;
    }
    let footer = writer.close().map_err(|e| broken(&e))?;
    Ok((Bytes::from(buffer), footer))
}

fn position(position: u64) -> i64 {
    i64::try_from(position).expect("positions are below the rows of a file")
}

fn describe(
    location: String,
    size: u64,
    deletes: &FileDeletes<'_>,
    partition: Struct,
    footer: &ParquetMetaData,
) -> Result<DataFile> {
    let FileDeletes { data_file, spec_id, positions } = deletes;
    const IDS: [i32; 2] = [RESERVED_FIELD_ID_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_POS];
    let sizes = IDS.iter().enumerate().map(|(column, &id)| {
        let bytes: i64 = footer.row_groups().iter().map(|group| group.column(column).compressed_size()).sum();
        (id, u64::try_from(bytes).expect("a footer of ours counts from zero"))
    });
    let (first, last) = (positions.min().map(position), positions.max().map(position));
    let bounds = |pos: Option<i64>| {
        let path = (RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(data_file.file_path()));
        let pos = pos.map(|pos| (RESERVED_FIELD_ID_DELETE_FILE_POS, Datum::long(pos)));
        HashMap::from_iter([path].into_iter().chain(pos))
    };
    DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(location)
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(*spec_id)
        .record_count(positions.len())
        .file_size_in_bytes(size)
        .column_sizes(sizes.collect())
        .value_counts(IDS.iter().map(|&id| (id, positions.len())).collect())
        .null_value_counts(IDS.iter().map(|&id| (id, 0)).collect())
        .lower_bounds(bounds(first))
        .upper_bounds(bounds(last))
        .split_offsets(Some(footer.row_groups().iter().filter_map(|group| group.file_offset()).collect()))
        .referenced_data_file(Some(data_file.file_path().to_owned()))
        .build()
        .map_err(|e| Error::broken(format!("describe a position-delete file: {e}")))
}
