//! Reads columns of one Parquet file, data or deletes, whoever wrote it and whenever.
//!
//! Columns come out in the table's current form (see [`super::adapt`]). Reads only the ranges it needs, and reads the footer
//! once. Knows nothing of which rows are alive.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Fields, Schema};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use iceberg::spec::{DataFile, DataFileFormat, Literal, Transform};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::error::{Doing, Error, Result};
use crate::live::adapt::{Columns, Projection, id_of, with_field_ids};
use crate::live::files::{LiveDelete, LiveFiles};
use crate::live::pages;
use crate::storage::{Store, failed, is_down};

/// Fetched from a file's end at first: most footers fit, which saves a request.
const FOOTER_BYTES: usize = 64 << 10;

/// What is small is fetched with the footer whole: on an object store a request costs more than a megabyte.
pub(super) const WHOLE_BYTES: usize = 1 << 20;

/// Rows decoded at a time: small enough that the columns of an id stay in the second-level cache.
const BATCH_ROWS: usize = 8_192;

/// A page seldom has more rows than this; where hits are rarer, whole pages can be left out.
const PAGE_ROWS: usize = 20_000;

/// One Parquet file, opened by its footer.
#[derive(Debug, Clone)]
pub(crate) struct FileReader {
    location: Arc<str>,
    source: Source,
    footer: ArrowReaderMetadata,
    fields: Fields,
    partition: HashMap<i32, Literal>,
    /// Whether the page index was asked for.
    pages: bool,
}

/// Which rows of a file to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// All of them.
    All,
    /// Those at these positions, ascending and without repetition.
    At(&'a [u64]),
    /// Those in these ranges, ascending and apart.
    In(&'a [Range<u64>]),
}

/// Batches of a file, in the order of its rows.
pub(crate) struct RowStream {
    location: Arc<str>,
    stream: ParquetRecordBatchStream<Source>,
    projection: Projection,
}

impl std::fmt::Debug for RowStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStream").field("location", &self.location).finish_non_exhaustive()
    }
}

impl FileReader {
    /// Reads the footer of a live file that was written under partition spec `spec_id`.
    pub(crate) async fn open(live: &LiveFiles, file: &DataFile, spec_id: i32, store: &Store) -> Result<Self> {
        Self::open_with(live, file, spec_id, store, 0).await
    }

    /// The same, and fetches `more` bytes before the footer in the same request.
    pub(crate) async fn open_with(live: &LiveFiles, file: &DataFile, spec_id: i32, store: &Store, more: usize) -> Result<Self> {
        check_readable(file)?;
        let (client, path) = store.object(file.file_path())?;
        let mut source = Source { client, path, size: file.file_size_in_bytes(), end: None };
        let footer = match load_footer(&mut source, FOOTER_BYTES.saturating_add(more)).await {
            Ok(footer) => footer,
            Err(error) => return Err(no_footer(file, store, error).await),
        };
        let fields = with_field_ids(footer.schema().fields(), live.names.as_ref(), live.metadata.current_schema().as_struct());
        let partition = identity_values(live, file, spec_id);
        Ok(Self { location: file.file_path().into(), source, footer, fields, partition, pages: false })
    }

    /// The same of a delete file, which is read to its end: a small one in one request.
    pub(crate) async fn open_deletes(live: &LiveFiles, delete: &LiveDelete, store: &Store) -> Result<Self> {
        let file = delete.file();
        let size = usize::try_from(file.file_size_in_bytes()).unwrap_or(usize::MAX);
        let more = if size <= WHOLE_BYTES { size } else { 0 };
        Self::open_with(live, file, delete.spec_id, store, more).await
    }

    /// Path of the file, as its manifest has it.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// What the footer says.
    pub(crate) fn footer(&self) -> &ParquetMetaData {
        self.footer.metadata()
    }

    /// Size of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.source.size
    }

    /// The file's name of the top-level column with this field id.
    pub(super) fn column_name(&self, field_id: i32) -> Option<&str> {
        self.fields.iter().find(|field| id_of(field) == Some(field_id)).map(|field| field.name().as_str())
    }

    /// Its columns as the file has them.
    pub(super) fn schema(&self) -> &Schema {
        self.footer.schema()
    }

    /// Bytes of the file, each range whole.
    pub(crate) async fn ranges(&mut self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        self.source.get_byte_ranges(ranges).await.doing(|| format!("read `{}`", self.location))
    }

    /// Rows in the file.
    pub(crate) fn rows(&self) -> usize {
        self.footer.metadata().row_groups().iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    /// Streams columns of some rows.
    pub(crate) async fn read(&mut self, columns: &Columns, rows: Rows<'_>) -> Result<RowStream> {
        let projection = Projection::new(&self.fields, columns, &self.partition)?;
        if let Rows::At(positions) = rows
            && positions.len() < self.rows() / PAGE_ROWS
        {
            self.load_pages(PageIndexPolicy::Skip).await.doing(|| format!("read the page index of `{}`", self.location))?;
        }
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.footer.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), projection.roots.iter().copied());
        builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        builder = match rows {
            Rows::All => builder,
            Rows::At(positions) => builder.with_row_selection(self.selection(positions.iter().map(|&at| at..at + 1))?),
            Rows::In(ranges) => builder.with_row_selection(self.selection(ranges.iter().cloned())?),
        };
        let stream = builder.build().doing(|| format!("read `{}`", self.location))?;
        Ok(RowStream { location: Arc::clone(&self.location), stream, projection })
    }

    /// Columns of some rows as one batch.
    pub(crate) async fn take(&mut self, columns: &Columns, rows: Rows<'_>) -> Result<RecordBatch> {
        let mut stream = self.read(columns, rows).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await? {
            batches.push(batch);
        }
        concat_batches(columns.schema(), &batches).map_err(|e| Error::broken(format!("rows of `{}`: {e}", self.location)))
    }

    fn selection(&self, wanted: impl Iterator<Item = Range<u64>>) -> Result<RowSelection> {
        let rows = self.rows();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for range in wanted {
            let end = usize::try_from(range.end).ok().filter(|&end| end <= rows);
            let (Some(end), Ok(start)) = (end, usize::try_from(range.start)) else {
                return Err(Error::broken(format!("rows {range:?} of `{}`, which has {rows} rows", self.location)));
            };
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        Ok(RowSelection::from_consecutive_ranges(ranges.into_iter(), rows))
    }

    /// The same file with the places of its pages and their bounds; none where they cannot be read.
    pub(super) async fn with_page_index(&self) -> Result<Option<Self>> {
        let mut indexed = self.clone();
        match indexed.load_pages(PageIndexPolicy::Optional).await {
            Err(error) if !is_down(&error) => Ok(None),
            loaded => loaded.map(|()| Some(indexed)).doing(|| format!("read the page index of `{}`", self.location)),
        }
    }

    /// Loads the offset index, where the file has a sound one, so that pages without a wanted row are neither fetched nor decoded;
    /// and the column index by `bounds`.
    async fn load_pages(&mut self, bounds: PageIndexPolicy) -> ParquetResult<()> {
        if std::mem::replace(&mut self.pages, true) {
            return Ok(());
        }
        let metadata = ParquetMetaData::clone(self.footer.metadata());
        let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_column_index_policy(bounds);
        reader.load_page_index(&mut self.source).await?;
        let indexed = reader.finish()?;
        if pages::are_sound(&indexed) {
            self.footer = ArrowReaderMetadata::try_new(Arc::new(indexed), options())?;
        } else {
            tracing::debug!(path = &*self.location, "the page index is wrong, and is not used");
        }
        Ok(())
    }
}

impl RowStream {
    /// The next rows; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.stream.try_next().await.doing(|| format!("read `{}`", self.location))? else { return Ok(None) };
        let batch = self.projection.apply(&batch).map_err(|e| {
            Error::setup(
                format!("file `{}` does not fit the table's schema: {e}", self.location),
                "rewrite the file with the engine that wrote it (Spark: `rewrite_data_files`)",
            )
        })?;
        Ok(Some(batch))
    }
}

/// Ends the run at a live file that cannot be read.
pub(crate) fn check_readable(file: &DataFile) -> Result<()> {
    let what = match file.content_type() {
        iceberg::spec::DataContentType::Data => "data file",
        _ => "delete file",
    };
    let path = file.file_path();
    if file.key_metadata().is_some() {
        return Err(Error::setup(format!("{what} `{path}` is encrypted"), "tidegate cannot read encrypted tables"));
    }
    if file.file_format() != DataFileFormat::Parquet {
        return Err(Error::setup(
            format!("{what} `{path}` is {}, and only Parquet can be read", file.file_format().to_string().to_uppercase()),
            "rewrite the table's files as Parquet (Spark: `rewrite_data_files`), or use `mode = \"append\"`, which reads none",
        ));
    }
    Ok(())
}

/// The file's value of each column by which its spec partitions as it is: such columns may be left out of the file.
fn identity_values(live: &LiveFiles, file: &DataFile, spec_id: i32) -> HashMap<i32, Literal> {
    let Some(spec) = live.metadata.partition_spec_by_id(spec_id) else { return HashMap::new() };
    let identity = |(field, value): (&iceberg::spec::PartitionField, Option<&Literal>)| {
        (field.transform == Transform::Identity).then_some((field.source_id, value?.clone()))
    };
    spec.fields().iter().zip(file.partition().iter()).filter_map(identity).collect()
}

fn options() -> ArrowReaderOptions {
    // The Arrow schema that some writers embed is ignored: types follow from the Parquet schema alone, whoever wrote it.
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Why a footer could not be read. A file that is shorter than it was answers like a store in trouble; its size tells them apart.
async fn no_footer(file: &DataFile, store: &Store, error: ParquetError) -> Error {
    let doing = || format!("read the footer of `{}`", file.file_path());
    if is_down(&error) {
        return failed(doing, error);
    }
    let recorded = file.file_size_in_bytes();
    match store.size(file.file_path()).await {
        Ok(Some(size)) if size != recorded => {
            Error::Damaged { doing: doing(), source: format!("it has {size} bytes, and its manifest says {recorded}").into() }
        }
        _ => failed(doing, error),
    }
}

/// Fetches the file's last `hint` bytes, which hold the footer of most files, and keeps them.
async fn load_footer(source: &mut Source, hint: usize) -> ParquetResult<ArrowReaderMetadata> {
    let start = source.size.saturating_sub(u64::try_from(hint).unwrap_or(u64::MAX));
    source.end = Some((start, source.get_bytes(start..source.size).await?));
    ArrowReaderMetadata::load_async(source, options()).await
}

/// Ranges of one object.
#[derive(Debug, Clone)]
struct Source {
    client: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    /// The last bytes of the object and where they begin: asked for once, used for footer and index.
    end: Option<(u64, Bytes)>,
}

impl Source {
    /// A range that was fetched with the footer.
    fn held(&self, range: &Range<u64>) -> Option<Bytes> {
        let (start, bytes) = self.end.as_ref()?;
        let at = |offset: u64| usize::try_from(offset.checked_sub(*start)?).ok();
        let held = at(range.start)?..at(range.end)?;
        (held.end <= bytes.len()).then(|| bytes.slice(held))
    }
}

impl AsyncFileReader for Source {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        if let Some(held) = self.held(&range) {
            return async move { Ok(held) }.boxed();
        }
        async move {
            // A store may fetch one large range in pieces.
            let found = self.client.get_ranges(&self.path, &[range]).await?;
            Ok(found.into_iter().next().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        if let Some(held) = ranges.iter().map(|range| self.held(range)).collect() {
            return async move { Ok(held) }.boxed();
        }
        async move { Ok(self.client.get_ranges(&self.path, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
