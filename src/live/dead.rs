//! Which rows of live data files are dead: position deletes, deletion vectors and equality deletes together.
//!
//! Each delete file is read once per question, however many data files it touches; a small one of a single data file, once. Never guesses: a delete that cannot be read
//! is an error, because its rows would come back to life.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::metadata_columns::{
    RESERVED_COL_NAME_DELETE_FILE_PATH, RESERVED_COL_NAME_DELETE_FILE_POS, RESERVED_FIELD_ID_DELETE_FILE_PATH,
    RESERVED_FIELD_ID_DELETE_FILE_POS,
};
use iceberg::spec::{NestedField, PrimitiveType, Type};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::live::adapt::Columns;
use crate::live::equality;
use crate::live::files::{DeleteKind, DeletesOf, LiveDelete, LiveFiles};
use crate::live::rows::{FileReader, Rows, check_readable};
use crate::storage::Store;

/// Delete files read at the same time.
pub(crate) const DELETES_AT_ONCE: usize = 8;

/// Enough for the deletes of some hundred data files.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// First bytes of a deletion vector's bitmap.
const VECTOR_MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

/// Rows of one data file that may be dead.
#[derive(Debug)]
pub(crate) struct Suspects {
    /// Index into [`LiveFiles::data`].
    pub(crate) data: usize,
    /// Positions, ascending and without repetition; none: every row.
    pub(crate) positions: Option<Vec<u64>>,
}

/// What delete files of a single data file hold, kept where it is little: who searches the table asks for it, and who writes deletes
/// asks again.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<(usize, HashMap<usize, RoaringTreemap>)>);

impl Kept {
    fn get(&self, delete: usize) -> Option<RoaringTreemap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(&delete).cloned()
    }

    fn keep(&self, delete: usize, positions: &RoaringTreemap) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = kept.0 + positions.serialized_size();
        if held <= KEPT_BYTES_MAX && kept.1.insert(delete, positions.clone()).is_none() {
            kept.0 = held;
        }
    }
}

/// Positions of all dead rows of a data file.
pub(crate) async fn dead_positions(live: &LiveFiles, data: usize, store: &Store) -> Result<RoaringTreemap> {
    let dead = dead_among(live, &[Suspects { data, positions: None }], store).await?;
    Ok(dead.into_iter().next().unwrap_or_default())
}

/// Positions of dead rows, one set per element of `suspects`. A set holds every suspect that is dead, and may hold other dead
/// rows of the file.
pub(crate) async fn dead_among(live: &LiveFiles, suspects: &[Suspects], store: &Store) -> Result<Vec<RoaringTreemap>> {
    let data: Vec<usize> = suspects.iter().map(|suspects| suspects.data).collect();
    let deletes: Vec<DeletesOf> = data.iter().map(|&data| live.deletes_of(data)).collect();
    let mut dead = deleted_positions(live, &data, &deletes, store).await?;
    equality::mark(live, suspects, &deletes, store, &mut dead).await?;
    Ok(dead)
}

/// Positions that vectors and position-delete files take out, one set per element of `data`, to which the same of `deletes` apply.
pub(crate) async fn deleted_positions(
    live: &LiveFiles,
    data: &[usize],
    deletes: &[DeletesOf],
    store: &Store,
) -> Result<Vec<RoaringTreemap>> {
    let mut dead = vec![RoaringTreemap::new(); data.len()];
    let mut touched: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, of) in deletes.iter().enumerate() {
        for &delete in of.vector.iter().chain(&of.file_scoped).chain(&of.partition_scoped) {
            touched.entry(delete).or_default().push(at);
        }
    }
    let mut files: BTreeMap<&str, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
    for (delete, touches) in touched {
        if let Some(positions) = live.kept.get(delete) {
            touches.into_iter().for_each(|at| dead[at] |= &positions);
        } else {
            // All vectors of a commit are in one file.
            files.entry(live.deletes[delete].file().file_path()).or_default().push((delete, touches));
        }
    }
    let reads = files.into_values().map(|deletes| async move {
        if live.deletes[deletes[0].0].kind == DeleteKind::Vector {
            return read_vectors(live, deletes, store).await;
        }
        let mut found = Vec::new();
        for (delete, touches) in deletes {
            found.extend(read_positions(live, delete, data, &touches, store).await?);
        }
        Ok::<_, Error>(found)
    });
    let mut reads = stream::iter(reads).buffer_unordered(DELETES_AT_ONCE);
    while let Some(found) = reads.try_next().await? {
        for (at, positions) in found {
            dead[at] |= positions;
        }
    }
    drop(reads);
    Ok(dead)
}

/// Positions that a position-delete file holds, by element of `data`; `touches` are those that it may name.
async fn read_positions(
    live: &LiveFiles,
    index: usize,
    data: &[usize],
    touches: &[usize],
    store: &Store,
) -> Result<Vec<(usize, RoaringTreemap)>> {
    let delete = &live.deletes[index];
    let file = delete.file();
    let paths: HashMap<&str, usize> = touches.iter().map(|&at| (live.data[data[at]].file().file_path(), at)).collect();
    let path = NestedField::required(
        RESERVED_FIELD_ID_DELETE_FILE_PATH,
        RESERVED_COL_NAME_DELETE_FILE_PATH,
        Type::Primitive(PrimitiveType::String),
    );
    let position = NestedField::required(
        RESERVED_FIELD_ID_DELETE_FILE_POS,
        RESERVED_COL_NAME_DELETE_FILE_POS,
        Type::Primitive(PrimitiveType::Long),
    );
    // Where the manifest names the one data file, the column of paths need not be read.
    let only = file.referenced_data_file().and_then(|path| paths.get(path.as_str()).copied());
    let columns = match only {
        Some(_) => Columns::of(vec![Arc::new(position)])?,
        None => Columns::of(vec![Arc::new(position), Arc::new(path)])?,
    };
    let mut found: HashMap<usize, RoaringTreemap> = HashMap::new();
    let mut reader = FileReader::open_deletes(live, delete, store).await?;
    let mut rows = reader.read(&columns, Rows::All).await?;
    while let Some(batch) = rows.next().await? {
        let positions = batch.column(0).as_primitive::<Int64Type>().values();
        let mut add = |at: usize, positions: &[i64]| -> Result<()> {
            let set = found.entry(at).or_default();
            for &position in positions {
                set.insert(u64::try_from(position).map_err(|_| negative(delete, position))?);
            }
            Ok(())
        };
        if let Some(at) = only {
            add(at, positions)?;
            continue;
        }
        // Rows are sorted by path: one look-up serves a whole run of equal ones.
        let names = batch.column(1).as_string::<i32>();
        let mut start = 0;
        while start < batch.num_rows() {
            let name = names.value(start);
            let run = (start..batch.num_rows()).take_while(|&row| names.value(row) == name).count();
            if let Some(&at) = paths.get(name) {
                add(at, &positions[start..start + run])?;
            }
            start += run;
        }
    }
    if delete.kind == DeleteKind::FileScoped {
        let none = RoaringTreemap::new();
        live.kept.keep(index, found.values().next().unwrap_or(&none));
    }
    Ok(found.into_iter().collect())
}

fn negative(delete: &LiveDelete, position: i64) -> Error {
    invalid(delete, &format!("it holds the position {position}"))
}

fn invalid(delete: &LiveDelete, why: &str) -> Error {
    Error::refused(
        format!("delete file `{}` is not valid: {why}", delete.file().file_path()),
        "the engine that wrote it left the table invalid, or the file is damaged: restore the file, or roll the table back",
    )
}

/// Reads deletion vectors of one file by the places that their manifest entries give, and checks everything that they say about
/// themselves.
async fn read_vectors(live: &LiveFiles, vectors: Vec<(usize, Vec<usize>)>, store: &Store) -> Result<Vec<(usize, RoaringTreemap)>> {
    let places = vectors.iter().map(|(index, _)| place(&live.deletes[*index])).collect::<Result<Vec<_>>>()?;
    let path = live.deletes[vectors[0].0].file().file_path();
    let read = store.read_ranges(path, &places).await?;
    let mut found = Vec::new();
    for ((index, touches), bytes) in vectors.into_iter().zip(read) {
        let delete = &live.deletes[index];
        let positions = parse_vector(&bytes).map_err(|why| invalid(delete, &why))?;
        if positions.len() != delete.file().record_count() {
            let (holds, says) = (positions.len(), delete.file().record_count());
            return Err(invalid(delete, &format!("the vector holds {holds} positions, its manifest entry says {says}")));
        }
        live.kept.keep(index, &positions);
        found.extend(touches.into_iter().map(|at| (at, positions.clone())));
    }
    Ok(found)
}

fn place(vector: &LiveDelete) -> Result<Range<u64>> {
    let file = vector.file();
    if file.key_metadata().is_some() {
        check_readable(file)?;
    }
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    match (number(file.content_offset()), number(file.content_size_in_bytes())) {
        (Some(start), Some(size)) => Ok(start..start.saturating_add(size)),
        _ => Err(invalid(vector, "its manifest entry does not say where the vector lies")),
    }
}

/// Length of magic and bitmap (big-endian), magic, bitmap, CRC-32 of magic and bitmap (big-endian).
fn parse_vector(bytes: &[u8]) -> Result<RoaringTreemap, String> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or("it is cut short")?;
    let (body, crc) = rest.split_last_chunk::<4>().ok_or("it is cut short")?;
    let length = u32::from_be_bytes(*length);
    if usize::try_from(length) != Ok(body.len()) {
        return Err(format!("the vector's length is {length}, its place has room for {}", body.len()));
    }
    let (found, expected) = (crc32fast::hash(body), u32::from_be_bytes(*crc));
    if found != expected {
        return Err(format!("the vector's checksum is {found:08x}, it should be {expected:08x}"));
    }
    let bitmap = body.strip_prefix(&VECTOR_MAGIC).ok_or("the vector does not begin with its magic bytes")?;
    RoaringTreemap::deserialize_from(bitmap).map_err(|e| format!("the vector's bitmap: {e}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Schema};

    use super::*;
    use crate::live::testing::{TestTable, batch_of, column, schema_of, vector_bytes};

    fn schema() -> Schema {
        schema_of(vec![column(1, "id", PrimitiveType::Long, true), column(2, "name", PrimitiveType::String, false)])
    }

    fn rows(rows: &[(i64, Option<&str>)]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id))),
            Arc::new(StringArray::from_iter(rows.iter().map(|(_, name)| *name))),
        ];
        batch_of(&schema(), columns)
    }

    fn names(values: &[Option<&str>]) -> RecordBatch {
        let schema = schema_of(vec![column(2, "name", PrimitiveType::String, false)]);
        batch_of(&schema, vec![Arc::new(StringArray::from_iter(values.iter().copied()))])
    }

    const ROWS: [(i64, Option<&str>); 5] = [(1, Some("a")), (2, Some("b")), (3, None), (4, Some("a")), (5, Some("c"))];

    async fn dead(table: &TestTable, data: usize) -> Vec<u64> {
        dead_positions(&*table.live().await, data, &table.store).await.unwrap().into_iter().collect()
    }

    #[tokio::test]
    async fn position_deletes_of_both_scopes_add_up_and_touch_only_their_file() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let one = table.data(&rows(&ROWS));
        let two = table.data(&rows(&ROWS));
        table.commit(vec![one.clone(), two.clone()], vec![]).await;
        let scoped = table.position_delete(&one, &[(one.file_path(), 4)], true);
        let shared = [(one.file_path(), 0), (two.file_path(), 1), (two.file_path(), 3), (one.file_path(), 4)];
        let shared = table.position_delete(&one, &shared, false);
        table.commit(vec![], vec![scoped, shared]).await;
        assert_eq!(dead(&table, 0).await, [0, 4]);
        assert_eq!(dead(&table, 1).await, [1, 3]);
    }

    #[tokio::test]
    async fn a_path_in_another_spelling_is_another_path() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let one = table.data(&rows(&ROWS));
        table.commit(vec![one.clone()], vec![]).await;
        let other = one.file_path().replacen("file:///", "file:/", 1);
        let delete = table.position_delete(&one, &[(&other, 0), (one.file_path(), 2)], false);
        table.commit(vec![], vec![delete]).await;
        assert_eq!(dead(&table, 0).await, [2]);
    }

    #[tokio::test]
    async fn equality_deletes_take_out_equal_older_rows_and_null_equals_null() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let old = table.data(&rows(&ROWS));
        table.commit(vec![old.clone()], vec![]).await;
        let new = table.data(&rows(&ROWS));
        let delete = table.equality_delete(&old, vec![2], &names(&[Some("a"), None]));
        table.commit(vec![new], vec![delete]).await;
        assert_eq!(dead(&table, 0).await, [0, 2, 3]);
        assert!(dead(&table, 1).await.is_empty());
        // Among some rows only: the same answer for these.
        let suspects = [Suspects { data: 0, positions: Some(vec![1, 2]) }, Suspects { data: 1, positions: Some(vec![2]) }];
        let among = dead_among(&*table.live().await, &suspects, &table.store).await.unwrap();
        assert_eq!(among, [RoaringTreemap::from_iter([2]), RoaringTreemap::new()]);
    }

    #[tokio::test]
    async fn equality_deletes_of_several_column_sets_and_a_dropped_column_still_work() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let old = table.data(&rows(&ROWS));
        table.commit(vec![old.clone()], vec![]).await;
        let by_name = table.equality_delete(&old, vec![2], &names(&[Some("b")]));
        let by_both = table.equality_delete(&old, vec![2, 1], &rows(&[(1, Some("a")), (4, Some("b")), (3, None)]));
        table.commit(vec![], vec![by_name, by_both]).await;
        table.alter(|builder| builder.add_current_schema(schema_of(vec![column(1, "id", PrimitiveType::Long, true)])));
        assert_eq!(dead(&table, 0).await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_vector_is_read_and_everything_it_says_is_checked() {
        let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
        let data = table.data(&rows(&ROWS));
        table.commit(vec![data.clone()], vec![]).await;
        let bitmap = RoaringTreemap::from_iter([1, 3, 1 << 40]);
        let good = vector_bytes(&bitmap);
        let vector = table.vector(&data, &good, 3);
        table.commit(vec![], vec![vector]).await;
        assert_eq!(dead(&table, 0).await, [1, 3, 1 << 40]);

        let mut magic = good.clone();
        magic[4] ^= 1;
        let crc = crc32fast::hash(&magic[4..magic.len() - 4]).to_be_bytes();
        let end = magic.len() - 4;
        magic[end..].copy_from_slice(&crc);
        let mut body = good.clone();
        body[12] ^= 1;
        let mut length = good.clone();
        length[3] ^= 1;
        for (bytes, cardinality, why) in
            [(magic, 3, "magic"), (body, 3, "checksum"), (length, 3, "length"), (good.clone(), 4, "4"), (vec![0; 5], 0, "short")]
        {
            let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
            let data = table.data(&rows(&ROWS));
            table.commit(vec![data.clone()], vec![]).await;
            let vector = table.vector(&data, &bytes, cardinality);
            table.commit(vec![], vec![vector]).await;
            let error = dead_positions(&*table.live().await, 0, &table.store).await.unwrap_err();
            assert!(error.to_string().contains(why), "{why}: {error}");
            assert_eq!(error.exit_code(), 65);
        }
    }

    #[tokio::test]
    async fn a_delete_file_that_cannot_be_read_ends_the_run() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let data = table.data(&rows(&ROWS));
        table.commit(vec![data], vec![]).await;
        let delete = DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path("file:///nowhere/deletes.avro".to_owned())
            .file_format(DataFileFormat::Avro)
            .record_count(1)
            .file_size_in_bytes(1)
            .build()
            .unwrap();
        table.commit(vec![], vec![delete]).await;
        let error = dead_positions(&*table.live().await, 0, &table.store).await.unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("file:///nowhere/deletes.avro"), "{error}");
    }
}
