//! The match: live rows whose id is one of the batch's.
//!
//! A file with a key index is asked there; of another the id columns are read, of every page that can hold an id, then the version
//! columns of the rows that hit. Deletes are read only for files with hits. Says what is stored, never what to do about it.

use std::ops::AddAssign;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use iceberg::metadata_columns::{RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_ROW_ID};
use iceberg::spec::{NestedField, NestedFieldRef, PrimitiveType, SchemaRef, Type};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::counts::Counts;
use crate::error::{Doing, Error, Result};
use crate::index::{IndexSpec, Probes};
use crate::keys::{KeyCodec, KeyMap, Version, VersionCodec};
use crate::live::adapt::Columns;
use crate::live::dead::{Suspects, dead_among};
use crate::live::files::{LiveData, LiveFiles};
use crate::live::indexed::{self, Reach, first_bytes, index_bytes};
use crate::live::prune::{IdColumns, decode, reaches};
use crate::live::rows::{FileReader, Rows};
use crate::storage::Store;

/// Files searched at the same time per thread: one decodes while the other waits for its bytes.
const FILES_PER_THREAD: usize = 2;

/// Room is handed out in these: a semaphore counts to 2^32 at once.
const ROOM_BYTES: usize = 1 << 10;

/// A batch of fewer ids says nothing about the next.
const KNOWN_FROM: u64 = 100;

/// What to match, and what to bring back.
#[derive(Debug, Clone)]
pub(crate) struct LookupSpec {
    /// The table's current schema.
    pub(crate) schema: SchemaRef,
    /// Id columns, in the order of `keys`.
    pub(crate) id: Vec<String>,
    /// Event-time column.
    pub(crate) event_time: String,
    /// Further version columns, in the order of `versions`.
    pub(crate) order_by: Vec<String>,
    /// Encodes ids as the batch's were.
    pub(crate) keys: Arc<KeyCodec>,
    /// Encodes versions as the batch's were.
    pub(crate) versions: Arc<VersionCodec>,
    /// Further columns whose stored values are wanted.
    pub(crate) kept: Vec<String>,
    /// Search only files that can hold an event time at or above this, in the column's unit.
    pub(crate) min_event_time: Option<i64>,
    /// How many hits to be ready for.
    pub(crate) likely: Likely,
    /// Bytes that what is read of all files searched at the same time may take, besides the directory of an index (18 bits a row):
    /// a larger index is read in parts.
    pub(crate) memory_max: usize,
}

/// How many of a batch's ids the head is likely to hold, going by the batch before it. A wrong guess costs a request for each file,
/// or the bytes of its index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Likely {
    held: u64,
    of: u64,
}

impl Likely {
    /// As many as of these.
    pub(crate) fn after(counts: &Counts) -> Self {
        let held = counts.updated + counts.deleted + counts.stale;
        let of = held + counts.inserted + counts.noop;
        if of < KNOWN_FROM { Self::default() } else { Self { held, of } }
    }

    /// Hits of so many ids in a file that has `rows` of `all` rows.
    fn hits(self, ids: usize, rows: u64, all: u64) -> u64 {
        let part = |whole: u128, part: u64, of: u64| whole * u128::from(part) / u128::from(of.max(1));
        let ids = u128::try_from(ids).expect("ids fit");
        u64::try_from(part(part(ids, self.held, self.of), rows, all)).unwrap_or(u64::MAX)
    }
}

/// A live row whose id is one of the batch's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Ordinal of the id in the batch's `KeyMap`.
    pub(crate) key: u32,
    /// Index into [`LiveFiles::data`].
    pub(crate) data: usize,
    /// Position in the file.
    pub(crate) position: u64,
    /// Its declared version.
    pub(crate) version: Version,
    /// Its row id; none in tables without row lineage.
    pub(crate) row_id: Option<i64>,
}

/// What a lookup cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Searched {
    /// Data files that were opened.
    pub(crate) files: u64,
    /// Those of them whose key index answered.
    pub(crate) indexed: u64,
    /// Reads of them and of their deletes, as the store was asked.
    pub(crate) requests: u64,
    /// Bytes that those reads asked for.
    pub(crate) bytes: u64,
}

impl AddAssign for Searched {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.indexed += other.indexed;
        self.requests += other.requests;
        self.bytes += other.bytes;
    }
}

/// The answer of a lookup.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// By data file and position. An id may have several.
    pub(crate) rows: Vec<Stored>,
    /// The wanted further columns of each of `rows`, in the same order; none where none were wanted.
    pub(crate) kept: Option<RecordBatch>,
    /// What it cost to find them.
    pub(crate) searched: Searched,
}

/// Finds every live row of the batch's ids from ordinal `first` on.
pub(crate) async fn lookup(
    live: &Arc<LiveFiles>,
    spec: &LookupSpec,
    ids: &Arc<KeyMap>,
    first: u32,
    store: &Store,
) -> Result<Matches> {
    let wanted = Arc::new(Wanted::new(spec)?);
    let mut matches = Matches::default();
    let mut found = Vec::new();
    let before = store.requests();
    let columns = decode(&wanted.spec.keys, ids, first)?;
    if !columns[0].is_empty() && !live.data.is_empty() {
        let bounds = IdColumns::new(wanted.id.fields(), &columns);
        let candidates = wanted.candidates(live, &bounds);
        let rows = candidates.iter().map(|&at| live.data[at].file().record_count()).sum();
        let at_once = Handle::current().metrics().num_workers() * FILES_PER_THREAD;
        let ids = Ids {
            map: Arc::clone(ids),
            first,
            probes: wanted.probes(&columns, first)?,
            bounds,
            rows,
            room: Semaphore::new(spec.memory_max.div_ceil(ROOM_BYTES)),
        };
        found = search_all(live, &wanted, &Arc::new(ids), store, candidates, at_once).await?;
    }
    for hits in &found {
        matches.searched += Searched { files: 1, indexed: u64::from(hits.indexed), ..Searched::default() };
    }
    found.retain(|hits| !hits.rows.is_empty());
    // Tasks end in any order; the answer must not depend on it.
    found.sort_unstable_by_key(|hits| hits.data);
    let suspects: Vec<_> = found.iter().map(Hits::suspects).collect();
    let dead = dead_among(live, &suspects, store).await?;
    // Nothing else of a batch reads meanwhile, but for a write that has to find out whether it arrived.
    let asked = store.requests();
    matches.searched.requests = asked.get - before.get;
    matches.searched.bytes = asked.bytes_read - before.bytes_read;
    let mut kept = Vec::new();
    for (hits, dead) in found.into_iter().zip(dead) {
        let alive = |row: &Stored| !dead.contains(row.position);
        if let Some(batch) = &hits.kept {
            let mask: BooleanArray = hits.rows.iter().map(|row| Some(alive(row))).collect();
            kept.push(filter_record_batch(batch, &mask).map_err(|e| Error::broken(format!("kept columns: {e}")))?);
        }
        matches.rows.extend(hits.rows.into_iter().filter(alive));
    }
    if !spec.kept.is_empty() {
        let all = concat_batches(wanted.kept.schema(), &kept).map_err(|e| Error::broken(format!("kept columns: {e}")))?;
        matches.kept = Some(all);
    }
    Ok(matches)
}

/// Positions of live rows that `pick` chooses, as (index into [`LiveFiles::data`], position). For small tables: reads the columns
/// of every row.
pub(crate) async fn find_rows(
    live: &LiveFiles,
    store: &Store,
    schema: &SchemaRef,
    columns: &[String],
    pick: &(dyn Fn(&RecordBatch, usize) -> bool + Sync),
) -> Result<Vec<(usize, u64)>> {
    let columns = Columns::named(schema, columns)?;
    let mut suspects = Vec::new();
    for (data, file) in live.data.iter().enumerate() {
        let mut reader = FileReader::open(live, file.file(), file.spec_id, store).await?;
        let mut stream = reader.read(&columns, Rows::All).await?;
        let mut positions = Vec::new();
        let mut first = 0;
        while let Some(batch) = stream.next().await? {
            positions.extend((0..batch.num_rows()).filter(|&row| pick(&batch, row)).map(|row| position(first + row)));
            first += batch.num_rows();
        }
        if !positions.is_empty() {
            suspects.push(Suspects { data, positions: Some(positions) });
        }
    }
    let dead = dead_among(live, &suspects, store).await?;
    let mut rows = Vec::new();
    for (suspects, dead) in suspects.into_iter().zip(dead) {
        let positions = suspects.positions.unwrap_or_default();
        rows.extend(positions.into_iter().filter(|&at| !dead.contains(at)).map(|at| (suspects.data, at)));
    }
    Ok(rows)
}

/// The columns of both passes.
struct Wanted {
    spec: LookupSpec,
    id: Columns,
    /// Event time, then the `order_by` columns.
    version: Columns,
    kept: Columns,
    row_id: Columns,
    /// Version columns with their Arrow types.
    versions: Vec<(NestedFieldRef, DataType)>,
    /// Whether ids of these columns are found in key indexes.
    indexed: bool,
    /// Every column of the second pass once: versions, kept, row id.
    second: Columns,
    /// The same without the versions, which the index knew.
    second_indexed: Columns,
}

/// The ids of a batch in both forms.
struct Ids {
    map: Arc<KeyMap>,
    /// Those before this ordinal are not asked for.
    first: u32,
    /// None where their columns are never indexed.
    probes: Option<Probes>,
    /// What bounds are compared with.
    bounds: IdColumns,
    /// Rows of all files in which they are searched.
    rows: u64,
    /// For what is read of the files, in units of [`ROOM_BYTES`].
    room: Semaphore,
}

impl Wanted {
    fn new(spec: &LookupSpec) -> Result<Self> {
        let id = Columns::named(&spec.schema, &spec.id)?;
        let types: Vec<_> = id.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        if types != spec.keys.types() {
            let expected = spec.keys.types();
            return Err(Error::broken(format!("id columns are {types:?}, the batch's ids were encoded as {expected:?}")));
        }
        let mut version = vec![spec.event_time.clone()];
        version.extend(spec.order_by.iter().cloned());
        let version = Columns::named(&spec.schema, &version)?;
        let kept = Columns::named(&spec.schema, &spec.kept)?;
        let row_id =
            NestedField::optional(RESERVED_FIELD_ID_ROW_ID, RESERVED_COL_NAME_ROW_ID, Type::Primitive(PrimitiveType::Long));
        let row_id = Columns::of(vec![Arc::new(row_id)])?;
        let all = |parts: &[&Columns]| Columns::of(parts.iter().flat_map(|part| part.fields().iter().cloned()).collect());
        let types = version.schema().fields().iter().map(|field| field.data_type().clone());
        Ok(Self {
            versions: version.fields().iter().cloned().zip(types).collect(),
            indexed: IndexSpec::new(&spec.schema, &spec.id, &[]).is_some(),
            second: all(&[&version, &kept, &row_id])?,
            second_indexed: all(&[&kept, &row_id])?,
            spec: spec.clone(),
            id,
            version,
            kept,
            row_id,
        })
    }

    fn probes(&self, ids: &[ArrayRef], first: u32) -> Result<Option<Probes>> {
        if self.indexed { Probes::new(ids, first).map(Some) } else { Ok(None) }
    }

    fn candidates(&self, live: &LiveFiles, bounds: &IdColumns) -> Vec<usize> {
        let mut candidates = bounds.candidates(live);
        if let Some(least) = self.spec.min_event_time {
            let event_time: &NestedFieldRef = &self.version.fields()[0];
            candidates.retain(|&at| reaches(live.data[at].file(), event_time, least));
        }
        candidates
    }
}

/// What one file holds of the batch's ids, dead rows included.
struct Hits {
    data: usize,
    rows: Vec<Stored>,
    kept: Option<RecordBatch>,
    indexed: bool,
}

impl Hits {
    fn suspects(&self) -> Suspects {
        Suspects { data: self.data, positions: Some(self.rows.iter().map(|row| row.position).collect()) }
    }
}

/// Searches files on all threads of the runtime: decoding is CPU, and one task would leave the other cores idle.
async fn search_all(
    live: &Arc<LiveFiles>,
    wanted: &Arc<Wanted>,
    ids: &Arc<Ids>,
    store: &Store,
    candidates: Vec<usize>,
    at_once: usize,
) -> Result<Vec<Hits>> {
    let mut candidates = candidates.into_iter();
    let mut tasks = JoinSet::new();
    let mut found = Vec::new();
    loop {
        while tasks.len() < at_once
            && let Some(data) = candidates.next()
        {
            let (live, wanted, ids, store) = (Arc::clone(live), Arc::clone(wanted), Arc::clone(ids), store.clone());
            tasks.spawn(async move { search(&live, data, &wanted, &ids, &store).await });
        }
        let Some(done) = tasks.join_next().await else { return Ok(found) };
        found.push(done.map_err(|e| Error::broken(format!("a search of a data file ended early: {e}")))??);
    }
}

/// Searches one file: by its key index, or by reading its id columns, the way that always works.
async fn search(live: &LiveFiles, data: usize, wanted: &Wanted, ids: &Ids, store: &Store) -> Result<Hits> {
    let file = &live.data[data];
    let rows = file.file().record_count();
    let hits = wanted.spec.likely.hits(ids.map.len() - ids.first as usize, rows, ids.rows);
    let memory_max = wanted.spec.memory_max;
    let bytes_max = index_bytes(rows).min(memory_max);
    let room = u32::try_from(bytes_max.div_ceil(ROOM_BYTES));
    let room = room.map_err(|_| Error::broken("the memory of a search does not fit 32 bits"))?;
    let _room = ids.room.acquire_many(room).await.map_err(|e| Error::broken(format!("room for a search: {e}")))?;
    let reach = Reach { gap: store.gap(file.file().file_path())?, bytes_max };
    let more = ids.probes.as_ref().map_or(0, |_| first_bytes(rows, hits, reach));
    let mut reader = FileReader::open_with(live, file.file(), file.spec_id, store, more).await?;
    let by_index = match &ids.probes {
        Some(probes) => indexed::find(&mut reader, wanted.id.fields(), &wanted.versions, probes, reach).await?,
        None => None,
    };
    let indexed = by_index.is_some();
    let found = match by_index {
        Some(found) => found,
        None => scan_ids(&mut reader, wanted, ids).await?,
    };
    let mut hits = Hits { data, rows: Vec::new(), kept: None, indexed };
    if !found.positions.is_empty() {
        let second = second_pass(&mut reader, wanted, &found).await?;
        hits.rows = stored(data, file, wanted, &found, second.as_ref())?;
        hits.kept = second.as_ref().map(|batch| kept(batch, wanted)).transpose()?.flatten();
    }
    Ok(hits)
}

/// First pass without an index: the rows whose id is in the batch. Pages that can hold none are left out where the file knows them.
async fn scan_ids(reader: &mut FileReader, wanted: &Wanted, ids: &Ids) -> Result<indexed::Hits> {
    if let Some((mut pruned, pages)) = reader.pruned(&ids.bounds).await? {
        match scan_rows(&mut pruned, wanted, ids, Rows::In(&pages), pages.iter().cloned().flatten()).await {
            Ok(found) => return Ok(found),
            Err(error @ (Error::Unavailable { .. } | Error::Denied { .. })) => return Err(error),
            // Writers were seen that name wrong places; without them the file is sound.
            Err(error) => tracing::debug!(path = reader.location(), %error, "the page index is not used"),
        }
    }
    let rows = position(reader.rows());
    scan_rows(reader, wanted, ids, Rows::All, 0..rows).await
}

/// Looks for the ids in some rows, which are at these positions.
async fn scan_rows(
    reader: &mut FileReader,
    wanted: &Wanted,
    ids: &Ids,
    rows: Rows<'_>,
    mut positions: impl Iterator<Item = u64> + Send,
) -> Result<indexed::Hits> {
    let mut found = indexed::Hits::default();
    let mut stream = reader.read(&wanted.id, rows).await?;
    let other = || Error::broken(format!("other rows were read of `{}` than were wanted", reader.location()));
    while let Some(batch) = stream.next().await? {
        let keys = wanted.spec.keys.encode(batch.columns())?;
        for row in 0..batch.num_rows() {
            let position = positions.next().ok_or_else(other)?;
            if let Some(key) = keys.get(row).and_then(|key| ids.map.get(key)).filter(|&key| key >= ids.first) {
                found.positions.push(position);
                found.keys.push(key);
            }
        }
    }
    if positions.next().is_some() { Err(other()) } else { Ok(found) }
}

/// What the first pass does not know of the rows that hit; none where it knows all.
async fn second_pass(reader: &mut FileReader, wanted: &Wanted, found: &indexed::Hits) -> Result<Option<RecordBatch>> {
    let columns = match &found.versions {
        None => &wanted.second,
        Some(_) if wanted.kept.fields().is_empty() && reader.column_name(RESERVED_FIELD_ID_ROW_ID).is_none() => return Ok(None),
        Some(_) => &wanted.second_indexed,
    };
    let batch = reader.take(columns, Rows::At(&found.positions)).await?;
    if batch.num_rows() != found.positions.len() {
        let (rows, path) = (batch.num_rows(), reader.location());
        return Err(Error::broken(format!("{rows} rows read of the {} wanted of `{path}`", found.positions.len())));
    }
    Ok(Some(batch))
}

fn stored(
    data: usize,
    file: &LiveData,
    wanted: &Wanted,
    found: &indexed::Hits,
    second: Option<&RecordBatch>,
) -> Result<Vec<Stored>> {
    let declared = wanted.version.fields().len();
    let versions = match (&found.versions, second) {
        (Some(columns), _) => columns.as_slice(),
        (None, Some(batch)) => &batch.columns()[..declared],
        (None, None) => return Err(Error::broken("the versions of stored rows were not read")),
    };
    let versions = wanted.spec.versions.encode(&versions[0], &versions[1..])?;
    let own_ids = second.map(|batch| batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>());
    let mut rows = Vec::with_capacity(found.positions.len());
    for (row, (&position, &key)) in found.positions.iter().zip(&found.keys).enumerate() {
        let own_id = own_ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
        let row_id = match file.first_row_id {
            _ if own_id.is_some() => own_id,
            Some(first) => Some(first.saturating_add(i64::try_from(position).doing(|| "number the rows of a file")?)),
            None => None,
        };
        rows.push(Stored { key, data, position, version: versions.get(row), row_id });
    }
    Ok(rows)
}

fn kept(batch: &RecordBatch, wanted: &Wanted) -> Result<Option<RecordBatch>> {
    if wanted.kept.fields().is_empty() {
        return Ok(None);
    }
    // Before the row id, which is last.
    let end = batch.num_columns() - wanted.row_id.fields().len();
    let columns = batch.columns()[end - wanted.kept.fields().len()..end].to_vec();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(wanted.kept.schema()), columns, &options)
        .map(Some)
        .map_err(|e| Error::broken(format!("kept columns: {e}")))
}

fn position(row: usize) -> u64 {
    u64::try_from(row).expect("a position fits 64 bits")
}

#[cfg(test)]
mod tests;
