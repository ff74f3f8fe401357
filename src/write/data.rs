//! Writes rows into data files: split by partition, sorted where the table is, rolled at the target size.
//!
//! Memory stays bounded however many partitions a batch touches: beyond the bound the file that holds most ends its row group
//! or, where that would free little, is finished. Files come in the same order in every run of the same batches.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use iceberg::metadata_columns::{
    RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER,
    RESERVED_FIELD_ID_ROW_ID,
};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, PrimitiveType, Struct, TableMetadata, Type,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::ParquetMetaData;

use crate::error::{Error, Result};
use crate::index::Builder;
use crate::storage::Upload;
use crate::write::WriteTarget;
use crate::write::encode::{Columns, Encoder, encode, joined};
use crate::write::metrics::{Metrics, NanCounts, metrics};
use crate::write::partitions::{Group, Partitioner, folder};
use crate::write::properties::Settings;
use crate::write::sort::Sorter;

/// Rows encoded between two looks at sizes and memory.
const SLICE_ROWS: usize = 8_192;
/// Small partitions that one thread encodes between two looks.
const FILES_PER_LANE: usize = 16;
/// A file up to this is written by one request where memory allows: most increments are.
const WHOLE_FILE_BYTES: usize = 32 << 20;
/// Page buffers and dictionaries of a column before its first value.
const COLUMN_BYTES: usize = 8 << 10;
/// Below this a row group is not worth ending: a finished file frees more.
const GROUP_BYTES_MIN: usize = 16 << 20;

/// Writes the data files of one batch.
#[derive(Debug)]
pub(crate) struct DataWriter {
    target: WriteTarget,
    settings: Settings,
    layout: Arc<Layout>,
    plain: Columns,
    lineage: Columns,
    /// Sort order that the files claim to have.
    sort_order_id: Option<i32>,
    /// Files being written, by encoded partition.
    open: BTreeMap<Box<[u8]>, OpenFile>,
    finished: Vec<WrittenFile>,
    started: u32,
    /// Threads that encode at once.
    lanes: usize,
}

/// Where a row went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowPlace {
    /// Ordinal of the file among those of this writer.
    pub(crate) file: u32,
    /// Row in that file, from 0.
    pub(crate) position: u32,
}

/// Row lineage of a v3 table's rows: ids, and the sequence numbers of their last updates. A null is given by the commit.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// One per row.
    pub(crate) row_ids: Int64Array,
    /// One per row.
    pub(crate) updated: Int64Array,
}

/// A finished file.
#[derive(Debug, Clone)]
pub(crate) struct WrittenFile {
    /// Ordinal among the files of its writer.
    pub(crate) ordinal: u32,
    /// What a manifest holds about it.
    pub(crate) data_file: DataFile,
}

/// A file being written.
#[derive(Debug)]
struct OpenFile {
    ordinal: u32,
    location: String,
    partition: Struct,
    lineage: bool,
    rows: u32,
    encoder: Encoder,
    nans: NanCounts,
    upload: Upload,
    /// Memory held when it was last looked at: after every write.
    held: usize,
}

/// How rows are arranged: pure, and shared with the thread that does it.
#[derive(Debug)]
struct Layout {
    partitioner: Option<Partitioner>,
    sorter: Option<Sorter>,
    /// Partition of an unpartitioned table: a null per void field.
    unpartitioned: Struct,
}

/// The rows of one partition, in the order in which they are written.
#[derive(Debug)]
struct Piece {
    key: Box<[u8]>,
    partition: Struct,
    batch: RecordBatch,
    /// Row in the input of each row; none where they are the same.
    rows: Option<Vec<u32>>,
    written: usize,
}

impl DataWriter {
    /// Sorts rows as the table's sort order says. Writes nothing yet.
    pub(crate) fn new(target: WriteTarget) -> Result<Self> {
        let order = target.metadata.default_sort_order();
        let sorter = if order.is_unsorted() { None } else { Some(Sorter::new(target.metadata.current_schema(), order)?) };
        let sort_order_id = sort_order_id(&target.metadata);
        Self::with(target, sorter, sort_order_id)
    }

    /// Leaves rows in the order in which they come, which is that of `sort_order_id`.
    pub(crate) fn in_order(target: WriteTarget, sort_order_id: Option<i32>) -> Result<Self> {
        Self::with(target, None, sort_order_id)
    }

    fn with(target: WriteTarget, sorter: Option<Sorter>, sort_order_id: Option<i32>) -> Result<Self> {
        let metadata = &target.metadata;
        let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
        let arrow = iceberg::arrow::schema_to_arrow_schema(schema)
            .map_err(|e| Error::setup(format!("the table's schema cannot be written as Parquet: {e}"), ""))?;
        let uuids: Vec<i32> = schema
            .field_id_to_fields()
            .values()
            .filter(|field| *field.field_type == Type::Primitive(PrimitiveType::Uuid))
            .map(|field| field.id)
            .collect();
        let layout = Layout {
            partitioner: if spec.is_unpartitioned() { None } else { Some(Partitioner::new(schema, spec)?) },
            sorter,
            unpartitioned: Struct::from_iter(spec.fields().iter().map(|_| None)),
        };
        Ok(Self {
            settings: Settings::of(metadata)?,
            layout: Arc::new(layout),
            lineage: Columns::new(Arc::new(with_lineage(&arrow)), &uuids)?,
            plain: Columns::new(Arc::new(arrow), &uuids)?,
            sort_order_id,
            open: BTreeMap::new(),
            finished: Vec::new(),
            started: 0,
            lanes: std::thread::available_parallelism().map_or(1, usize::from),
            target,
        })
    }

    /// Writes rows of the whole current schema and answers the place of each, in the input's order.
    ///
    /// `row_ids` are the ids that rows of a v3 table keep; a row without one gets a new one when the file is committed.
    pub(crate) async fn write(&mut self, batch: &RecordBatch, row_ids: Option<&Int64Array>) -> Result<Vec<RowPlace>> {
        // Null inherits the sequence number of the commit: the row is updated by it.
        let lineage = row_ids.map(|ids| Lineage { row_ids: ids.clone(), updated: Int64Array::new_null(ids.len()) });
        self.write_rows(batch, lineage).await
    }

    /// Writes rows that another file held, unchanged: in a v3 table with the lineage that they keep.
    pub(crate) async fn carry(&mut self, batch: &RecordBatch, lineage: Option<Lineage>) -> Result<()> {
        self.write_rows(batch, lineage).await.map(drop)
    }

    async fn write_rows(&mut self, batch: &RecordBatch, lineage: Option<Lineage>) -> Result<Vec<RowPlace>> {
        let lineage = lineage.filter(|lineage| lineage.row_ids.null_count() < lineage.row_ids.len());
        let kept = lineage.is_some();
        if kept && self.target.metadata.format_version() < FormatVersion::V3 {
            return Err(Error::broken("row ids are kept in tables of format version 3 only"));
        }
        let batch = self.conform(batch, lineage)?;
        let layout = Arc::clone(&self.layout);
        let input = batch.clone();
        let mut pieces = joined(tokio::task::spawn_blocking(move || layout.arrange(&input)).await)??;
        let mut places = vec![RowPlace::default(); batch.num_rows()];
        while !pieces.is_empty() {
            let mut next = 0;
            while next < pieces.len() {
                let end = next + together(&pieces[next..], self.lanes);
                self.write_slices(&mut pieces[next..end], kept, &mut places).await?;
                next = end;
            }
            pieces.retain(|piece| piece.rows_left() > 0);
        }
        if self.layout.sorter.is_some() {
            // Only the rows of one call are in order among each other.
            self.finish_all().await?;
        }
        Ok(places)
    }

    /// Finishes every file and answers them in ordinal order.
    pub(crate) async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        self.finish_all().await?;
        self.finished.sort_unstable_by_key(|file| file.ordinal);
        Ok(self.finished)
    }

    /// Bytes held by open files.
    pub(crate) fn memory(&self) -> usize {
        self.open.values().map(|file| file.held).sum()
    }

    /// The batch in the exact schema of a file, with lineage columns where ids are kept.
    fn conform(&self, batch: &RecordBatch, lineage: Option<Lineage>) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        let mut schema = &self.plain.arrow;
        if let Some(Lineage { row_ids, updated }) = lineage {
            columns.extend([Arc::new(row_ids) as ArrayRef, Arc::new(updated)]);
            schema = &self.lineage.arrow;
        }
        RecordBatch::try_new(Arc::clone(schema), columns)
            .map_err(|e| Error::broken(format!("a batch does not have the table's schema: {e}")))
    }

    /// Writes the next slice of some pieces. They are encoded side by side, everything else is done in their order.
    async fn write_slices(&mut self, pieces: &mut [Piece], lineage: bool, places: &mut [RowPlace]) -> Result<()> {
        let mut files = Vec::with_capacity(pieces.len());
        for piece in pieces.iter() {
            files.push(self.take_file(piece, lineage).await?);
        }
        let mut jobs = Vec::with_capacity(pieces.len());
        for (piece, file) in pieces.iter_mut().zip(&mut files) {
            let rows = piece.rows_left().min(SLICE_ROWS);
            let slice = file.fit(piece.batch.slice(piece.written, rows))?;
            piece.place(rows, file, places);
            file.nans.add(&slice);
            file.encoder.list(&slice)?;
            jobs.push((&mut file.encoder, slice));
        }
        encode(jobs, self.lanes).await?;
        for (piece, mut file) in pieces.iter().zip(files) {
            if file.encoder.group_bytes() >= self.settings.row_group_bytes {
                file.encoder.end_group(&mut file.upload).await?;
            }
            file.look();
            if file.encoder.bytes() >= self.settings.file_bytes {
                self.finish_file(file).await?;
            } else {
                self.open.insert(piece.key.clone(), file);
            }
        }
        self.shrink().await
    }

    /// The open file of a piece's partition, or a new one.
    async fn take_file(&mut self, piece: &Piece, lineage: bool) -> Result<OpenFile> {
        match self.open.remove(&piece.key) {
            // A file has one schema; rows without ids fit where ids are kept.
            Some(file) if file.lineage || !lineage => return Ok(file),
            Some(file) => self.finish_file(file).await?,
            None => (),
        }
        let metadata = &self.target.metadata;
        let folder = folder(metadata, metadata.default_partition_spec(), &piece.partition);
        let location = self.target.location(&folder, ".parquet")?;
        let columns = if lineage { &self.lineage } else { &self.plain };
        let index = self.target.index.as_ref().map(|spec| Builder::new(spec, &location, &columns.arrow)).transpose()?;
        let encoder = Encoder::new(columns, self.settings.data_writer(&columns.parquet), index)?;
        // Many files at once would hold too much back.
        let whole = if self.open.is_empty() { WHOLE_FILE_BYTES.min(self.target.memory_max / 4) } else { 0 };
        let upload = self.target.store.writer(&location)?.whole_up_to(whole);
        let ordinal = self.started;
        self.started += 1;
        Ok(OpenFile {
            ordinal,
            location,
            partition: piece.partition.clone(),
            lineage,
            rows: 0,
            encoder,
            nans: NanCounts::new(metadata.current_schema(), &self.settings.modes),
            upload,
            held: 0,
        })
    }

    /// Brings memory below its bound.
    async fn shrink(&mut self) -> Result<()> {
        while self.memory() > self.target.memory_max {
            if self.settle_one().await? {
                continue;
            }
            let largest = self.open.iter().max_by_key(|(_, file)| file.held).map(|(key, _)| key.clone());
            let Some(key) = largest else { return Ok(()) };
            let mut file = self.open.remove(&key).expect("it was just found");
            if file.encoder.memory() >= GROUP_BYTES_MIN {
                file.encoder.end_group(&mut file.upload).await?;
                file.look();
                self.open.insert(key, file);
            } else {
                self.finish_file(file).await?;
            }
        }
        Ok(())
    }

    /// Waits for parts of one file that are on their way to storage: sooner than to end a file that could grow.
    async fn settle_one(&mut self) -> Result<bool> {
        for file in self.open.values_mut() {
            if file.upload.settle().await? {
                file.look();
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn finish_all(&mut self) -> Result<()> {
        let mut files: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        files.sort_unstable_by_key(|file| file.ordinal);
        for file in files {
            self.finish_file(file).await?;
        }
        Ok(())
    }

    async fn finish_file(&mut self, mut file: OpenFile) -> Result<()> {
        let footer = file.encoder.finish(&mut file.upload).await?;
        let ordinal = file.ordinal;
        let bytes = file.encoder.bytes();
        file.upload.finish().await?;
        let metadata = &self.target.metadata;
        let metrics = metrics(metadata.current_schema(), &self.settings.modes, &footer)?;
        let nans = file.nans.into_map();
        let mut data_file = data_file(metadata, file.location, file.partition, bytes, &footer, metrics, nans);
        if let Some(order) = self.sort_order_id {
            data_file.sort_order_id(order);
        }
        let data_file = data_file.build().map_err(|e| Error::broken(format!("describe a data file: {e}")))?;
        assert_eq!(data_file.record_count(), u64::from(file.rows), "every row of `{}` has a place", data_file.file_path());
        self.finished.push(WrittenFile { ordinal, data_file });
        Ok(())
    }
}

impl OpenFile {
    /// A slice in this file's schema: a file with lineage takes rows without ids.
    fn fit(&self, slice: RecordBatch) -> Result<RecordBatch> {
        if !self.lineage || slice.schema().column_with_name(RESERVED_COL_NAME_ROW_ID).is_some() {
            return Ok(slice);
        }
        let mut columns = slice.columns().to_vec();
        let nulls: ArrayRef = Arc::new(Int64Array::new_null(slice.num_rows()));
        columns.extend([Arc::clone(&nulls), nulls]);
        RecordBatch::try_new(Arc::new(with_lineage(&slice.schema())), columns)
            .map_err(|e| Error::broken(format!("lineage columns: {e}")))
    }

    /// Takes account of the memory it holds.
    fn look(&mut self) {
        let columns = self.encoder.columns() * COLUMN_BYTES;
        self.held = self.encoder.memory() + self.encoder.index_memory() + self.upload.held() + columns;
    }
}

/// How many pieces are encoded side by side: enough rows to keep every lane busy, and no more files at once than that takes.
fn together(pieces: &[Piece], lanes: usize) -> usize {
    let mut rows = 0;
    let slices = pieces.iter().map(|piece| piece.rows_left().min(SLICE_ROWS));
    let enough = slices.take(lanes * FILES_PER_LANE).take_while(|slice| {
        let more = rows < SLICE_ROWS * lanes;
        rows += slice;
        more
    });
    enough.count()
}

impl Piece {
    fn rows_left(&self) -> usize {
        self.batch.num_rows() - self.written
    }

    /// Gives the next `rows` rows their places at the end of a file.
    fn place(&mut self, rows: usize, file: &mut OpenFile, places: &mut [RowPlace]) {
        for row in self.written..self.written + rows {
            let input = self.rows.as_ref().map_or(row, |rows| rows[row] as usize);
            places[input] = RowPlace { file: file.ordinal, position: file.rows };
            file.rows += 1;
        }
        self.written += rows;
    }
}

impl Layout {
    /// Splits a batch by partition and sorts each part.
    fn arrange(&self, batch: &RecordBatch) -> Result<Vec<Piece>> {
        let rows = u32::try_from(batch.num_rows()).map_err(|_| Error::broken("a batch has 2^32 rows or more"))?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let mut groups = match &self.partitioner {
            Some(partitioner) => partitioner.split(batch)?,
            None => Vec::from([Group { key: Box::default(), partition: self.unpartitioned.clone(), rows: Vec::new() }]),
        };
        let whole = groups.len() == 1 && self.sorter.is_none();
        if let Some(sorter) = &self.sorter {
            if self.partitioner.is_none() {
                groups[0].rows = (0..rows).collect();
            }
            sorter.sort(batch, groups.iter_mut().map(|group| &mut group.rows))?;
        }
        let pieces = groups.into_iter().map(|Group { key, partition, rows }| {
            if whole {
                return Ok(Piece { key, partition, batch: batch.clone(), rows: None, written: 0 });
            }
            let indices = UInt32Array::from(rows);
            let batch = take_record_batch(batch, &indices).map_err(|e| Error::broken(format!("rows of a partition: {e}")))?;
            Ok(Piece { key, partition, batch, rows: Some(indices.values().to_vec()), written: 0 })
        });
        pieces.collect()
    }
}

/// The columns of row lineage after those of the table.
fn with_lineage(schema: &ArrowSchema) -> ArrowSchema {
    let column = |name: &str, id: i32| {
        let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata(metadata))
    };
    let mut fields = schema.fields().to_vec();
    fields.push(column(RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_ROW_ID));
    fields.push(column(RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER));
    ArrowSchema::new(fields)
}

fn data_file(
    metadata: &TableMetadata,
    location: String,
    partition: Struct,
    bytes: u64,
    footer: &ParquetMetaData,
    metrics: Metrics,
    nans: HashMap<i32, u64>,
) -> DataFileBuilder {
    let rows = u64::try_from(footer.file_metadata().num_rows()).expect("a footer of ours counts from zero");
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::Data)
        .file_path(location)
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(metadata.default_partition_spec_id())
        .record_count(rows)
        .file_size_in_bytes(bytes)
        .column_sizes(metrics.column_sizes)
        .value_counts(metrics.value_counts)
        .null_value_counts(metrics.null_value_counts)
        .nan_value_counts(nans)
        .lower_bounds(metrics.lower_bounds)
        .upper_bounds(metrics.upper_bounds)
        .split_offsets(Some(footer.row_groups().iter().filter_map(|group| group.file_offset()).collect()));
    builder
}

/// Sort order of the table as data files name it; none where it has none.
pub(crate) fn sort_order_id(metadata: &TableMetadata) -> Option<i32> {
    let id = i32::try_from(metadata.default_sort_order_id()).expect("sort order ids are ints in manifests");
    (!metadata.default_sort_order().is_unsorted()).then_some(id)
}
