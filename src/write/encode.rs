//! Arrow batches to Parquet bytes, columns side by side on several threads.
//!
//! Knows nothing of tables. What was encoded goes to its upload in blocks while more is made; the bytes of a file never depend on
//! how many threads made them.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::{Bytes, BytesMut};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, encode_arrow_schema};
use parquet::basic::LogicalType;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::index::{Builder, HEADER_KEY};
use crate::storage::Upload;

const BLOCK_BYTES: usize = 4 << 20;
/// Blocks of an ending row group that wait for the upload, which holds as much itself: one is made while another goes out.
const BLOCKS_WAITING: usize = 1;
/// The crate looks at a page's size only between writes, or every 1,024 values: wide values must come in smaller steps, or a page
/// grows to a thousand of them.
const STEP_BYTES: usize = 1 << 20;

/// The columns of a file, in Arrow's and in Parquet's words.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    /// Arrow schema with a field id on every field.
    pub(super) arrow: SchemaRef,
    /// Parquet schema with the same ids.
    pub(super) parquet: Arc<SchemaDescriptor>,
}

impl Columns {
    /// Parquet columns named and typed as Java Iceberg names and types them. `uuids` are the ids of uuid columns, which Arrow
    /// cannot tell from other fixed-size binaries.
    pub(super) fn new(arrow: SchemaRef, uuids: &[i32]) -> Result<Self> {
        let refused = |e| Error::setup(format!("the table's schema cannot be written as Parquet: {e}"), "");
        let converted = ArrowSchemaConverter::new().schema_root("table").convert(&arrow).map_err(refused)?;
        let root = with_uuids(&converted.root_schema_ptr(), uuids).map_err(refused)?;
        Ok(Self { arrow, parquet: Arc::new(SchemaDescriptor::new(root)) })
    }
}

fn with_uuids(node: &TypePtr, uuids: &[i32]) -> parquet::errors::Result<TypePtr> {
    let info = node.get_basic_info();
    let id = info.has_id().then(|| info.id());
    if node.is_group() {
        let children = node.get_fields().iter().map(|child| with_uuids(child, uuids)).collect::<Result<_, _>>()?;
        let mut group = Type::group_type_builder(node.name())
            .with_fields(children)
            .with_id(id)
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned());
        if info.has_repetition() {
            group = group.with_repetition(info.repetition());
        }
        return Ok(Arc::new(group.build()?));
    }
    if !id.is_some_and(|id| uuids.contains(&id)) {
        return Ok(Arc::clone(node));
    }
    let uuid = Type::primitive_type_builder(node.name(), node.get_physical_type())
        .with_repetition(info.repetition())
        .with_id(id)
        .with_length(16)
        .with_logical_type(Some(LogicalType::Uuid));
    Ok(Arc::new(uuid.build()?))
}

const WHOLE: &str = "an encoder is whole between two calls";

/// One Parquet file being encoded.
pub(super) struct Encoder {
    /// None only while a row group ends, or after that failed.
    file: Option<SerializedFileWriter<Blocks>>,
    groups: ArrowRowGroupWriterFactory,
    arrow: SchemaRef,
    /// Those of the row group in progress; empty between row groups.
    columns: Vec<Column>,
    /// The key index in progress, where the file gets one.
    index: Option<Builder>,
}

/// The writers of one top-level column: one per leaf.
struct Column {
    field: FieldRef,
    leaves: Vec<ArrowColumnWriter>,
}

impl Encoder {
    /// An empty file, with a key index where one is asked for.
    pub(super) fn new(columns: &Columns, mut properties: WriterProperties, index: Option<Builder>) -> Result<Self> {
        // Arrow's own schema rides along, as iceberg's writer has it: readers built on Arrow get the very types back.
        let hint = KeyValue::new(parquet::arrow::ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&columns.arrow));
        properties = properties.into_builder().set_key_value_metadata(Some(vec![hint])).build();
        let root = columns.parquet.root_schema_ptr();
        let file = SerializedFileWriter::new(Blocks::default(), root, Arc::new(properties)).map_err(broken)?;
        let groups = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&columns.arrow));
        Ok(Self { file: Some(file), groups, arrow: Arc::clone(&columns.arrow), columns: Vec::new(), index })
    }

    fn file(&self) -> &SerializedFileWriter<Blocks> {
        self.file.as_ref().expect(WHOLE)
    }

    fn file_mut(&mut self) -> &mut SerializedFileWriter<Blocks> {
        self.file.as_mut().expect(WHOLE)
    }

    /// Bytes of the file so far, with an estimate of the row group in progress.
    pub(super) fn bytes(&self) -> u64 {
        let index = self.index.as_ref().map_or(0, Builder::bytes);
        u64::try_from(self.file().bytes_written() + self.group_bytes() + index).expect("bytes fit u64")
    }

    /// Estimated size of the row group in progress.
    pub(super) fn group_bytes(&self) -> usize {
        self.leaves().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Number of leaf columns.
    pub(super) fn columns(&self) -> usize {
        self.file().schema_descr().num_columns()
    }

    /// Memory held.
    pub(super) fn memory(&self) -> usize {
        self.leaves().map(ArrowColumnWriter::memory_size).sum::<usize>() + self.file().inner().memory()
    }

    /// Memory held by the key index until the file is finished.
    pub(super) fn index_memory(&self) -> usize {
        self.index.as_ref().map_or(0, Builder::memory)
    }

    /// Lists rows in the key index: those that are encoded next.
    pub(super) fn list(&mut self, rows: &RecordBatch) -> Result<()> {
        self.index.as_mut().map_or(Ok(()), |index| index.add(rows))
    }

    /// Ends the row group in progress. Its bytes go out while they are put together, so that they are never all there twice.
    pub(super) async fn end_group(&mut self, upload: &mut Upload) -> Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let leaves: Vec<_> = self.columns.drain(..).flat_map(|column| column.leaves).collect();
        let mut file = self.file.take().expect(WHOLE);
        let (out, mut blocks) = mpsc::channel(BLOCKS_WAITING);
        file.inner_mut().out = Some(out);
        let ending = tokio::task::spawn_blocking(move || {
            let mut group = file.next_row_group()?;
            for leaf in leaves {
                leaf.close()?.append_to_row_group(&mut group)?;
            }
            group.close()?;
            file.inner_mut().out = None;
            Ok(file)
        });
        // Where this fails, the thread ends at its next block.
        while let Some(block) = blocks.recv().await {
            upload.write(block).await?;
        }
        self.file = Some(joined(ending.await)?.map_err(broken)?);
        self.drain(upload).await
    }

    /// Ends the file: the blocks left, the key index and the footer.
    pub(super) async fn finish(&mut self, upload: &mut Upload) -> Result<ParquetMetaData> {
        self.end_group(upload).await?;
        if let Some(index) = self.index.take() {
            let offset = u64::try_from(self.file().bytes_written()).expect("bytes fit u64");
            let groups = self.file().flushed_row_groups().to_vec();
            let (bytes, header) = joined(tokio::task::spawn_blocking(move || index.finish(offset, &groups)).await)?;
            self.file_mut().write_all(&bytes).map_err(|e| Error::broken(format!("write a key index: {e}")))?;
            self.file_mut().append_key_value_metadata(KeyValue::new(HEADER_KEY.to_owned(), header));
        }
        let footer = self.file_mut().finish().map_err(broken)?;
        self.drain(upload).await?;
        Ok(footer)
    }

    /// Hands over what was put together since the last call.
    async fn drain(&mut self, upload: &mut Upload) -> Result<()> {
        for block in self.file_mut().inner_mut().take() {
            upload.write(block).await?;
        }
        Ok(())
    }

    fn leaves(&self) -> impl Iterator<Item = &ArrowColumnWriter> {
        self.columns.iter().flat_map(|column| &column.leaves)
    }

    fn begin_group(&mut self) -> Result<()> {
        if !self.columns.is_empty() {
            return Ok(());
        }
        let file = self.file();
        let index = file.flushed_row_groups().len();
        let mut writers = self.groups.create_column_writers(index).map_err(broken)?.into_iter();
        let schema = file.schema_descr();
        let mut counts = vec![0_usize; self.arrow.fields().len()];
        for leaf in 0..schema.num_columns() {
            counts[schema.get_column_root_idx(leaf)] += 1;
        }
        for (field, count) in self.arrow.fields().iter().zip(counts) {
            self.columns.push(Column { field: Arc::clone(field), leaves: writers.by_ref().take(count).collect() });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// One column of one job.
struct Work {
    job: usize,
    position: usize,
    column: Column,
    array: ArrayRef,
    cost: usize,
}

/// Encodes one batch into each encoder, on at most `lanes` threads. The batches have the encoders' columns.
pub(super) async fn encode(jobs: Vec<(&mut Encoder, RecordBatch)>, lanes: usize) -> Result<()> {
    let mut encoders = Vec::with_capacity(jobs.len());
    let mut work = Vec::new();
    for (job, (encoder, batch)) in jobs.into_iter().enumerate() {
        encoder.begin_group()?;
        for (position, column) in encoder.columns.drain(..).enumerate() {
            let array = Arc::clone(batch.column(position));
            let cost = array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
            work.push(Work { job, position, column, array, cost });
        }
        encoders.push(encoder);
    }
    let tasks: Vec<_> = share(work, lanes).into_iter().map(|lane| tokio::task::spawn_blocking(move || run(lane))).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.extend(joined(task.await)??);
    }
    done.sort_unstable_by_key(|work: &Work| (work.job, work.position));
    for work in done {
        encoders[work.job].columns.push(work.column);
    }
    Ok(())
}

/// Dearest first, each to the lane with the least to do.
fn share(mut work: Vec<Work>, lanes: usize) -> Vec<Vec<Work>> {
    let lanes = lanes.clamp(1, work.len().max(1));
    let mut shared: Vec<(usize, Vec<Work>)> = (0..lanes).map(|_| (0, Vec::new())).collect();
    work.sort_by_key(|work| std::cmp::Reverse(work.cost));
    for work in work {
        let lane = shared.iter_mut().min_by_key(|(cost, _)| *cost).expect("there is at least one lane");
        lane.0 += work.cost.max(1);
        lane.1.push(work);
    }
    shared.into_iter().map(|(_, work)| work).filter(|work| !work.is_empty()).collect()
}

fn run(mut lane: Vec<Work>) -> Result<Vec<Work>> {
    for Work { column, array, cost, .. } in &mut lane {
        let rows = array.len();
        let step = (rows.saturating_mul(STEP_BYTES) / (*cost).max(1)).max(1);
        for start in (0..rows).step_by(step) {
            let array = array.slice(start, step.min(rows - start));
            let leaves = compute_leaves(&column.field, &array).map_err(broken)?;
            for (writer, leaf) in column.leaves.iter_mut().zip(&leaves) {
                writer.write(leaf).map_err(broken)?;
            }
        }
    }
    Ok(lane)
}

/// The outcome of a thread of ours; it panics only where an invariant is broken.
pub(super) fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Result<T> {
    outcome.map_err(|e| Error::broken(format!("a thread that writes files ended: {e}")))
}

fn broken(error: parquet::errors::ParquetError) -> Error {
    Error::broken(format!("encode Parquet: {error}"))
}

/// Bytes in blocks of a few MiB.
#[derive(Debug, Default)]
struct Blocks {
    full: Vec<Bytes>,
    last: BytesMut,
    /// Takes each block that is full, while a row group ends.
    out: Option<mpsc::Sender<Bytes>>,
}

impl Blocks {
    /// Bytes held, room for more included.
    fn memory(&self) -> usize {
        self.full.iter().map(Bytes::len).sum::<usize>() + self.last.capacity()
    }

    fn take(&mut self) -> Vec<Bytes> {
        let mut blocks = std::mem::take(&mut self.full);
        if !self.last.is_empty() {
            blocks.push(self.last.split().freeze());
        }
        blocks
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() + bytes.len() > BLOCK_BYTES && !self.last.is_empty() {
            // After a full block more are likely: made at its size, the next one is not copied as it grows.
            let full = std::mem::replace(&mut self.last, BytesMut::with_capacity(BLOCK_BYTES)).freeze();
            match &self.out {
                Some(out) => out.blocking_send(full).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?,
                None => self.full.push(full),
            }
        }
        self.last.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
