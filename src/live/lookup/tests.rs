//! The match against a model that is a list of rows, and what each way of leaving files out may and may not do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use iceberg::spec::{
    DataFile, Datum, FormatVersion, Literal, Schema, Struct, Transform, UnboundPartitionField, UnboundPartitionSpec,
};
use iceberg::transform::create_transform_function;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::writer::TrackedWrite;
use proptest::prelude::*;
use roaring::RoaringTreemap;

use super::*;
use crate::live::testing::{TestTable, batch_of, column, schema_of, vector_bytes};

/// Id, number (part of the wide id), event time, order, note.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: u8,
    time: Option<i64>,
    order: Option<i64>,
}

fn schema() -> Schema {
    schema_of(vec![
        column(1, "id", PrimitiveType::String, false),
        column(2, "number", PrimitiveType::Long, false),
        column(3, "at", PrimitiveType::Timestamptz, false),
        column(4, "order", PrimitiveType::Long, false),
        column(5, "note", PrimitiveType::String, false),
    ])
}

fn text(id: u8) -> String {
    format!("id-{id:03}")
}

/// Note of the row at this position of the file written as the `file`-th.
fn note(file: usize, position: usize) -> String {
    format!("{file}/{position}")
}

fn batch(file: usize, rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        // Id 0 stands for a row without one.
        Arc::new(StringArray::from_iter(rows.iter().map(|row| (row.id > 0).then(|| text(row.id))))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| Some(i64::from(row.id))))),
        Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.time)).with_timezone("+00:00")),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.order))),
        Arc::new(StringArray::from_iter_values((0..rows.len()).map(|at| note(file, at)))),
    ];
    batch_of(&schema(), columns)
}

fn spec(wide: bool) -> LookupSpec {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let (id, types) = match wide {
        false => (vec!["id".to_owned()], vec![DataType::Utf8]),
        true => (vec!["number".to_owned(), "id".to_owned()], vec![DataType::Int64, DataType::Utf8]),
    };
    LookupSpec {
        schema: Arc::new(schema()),
        id,
        event_time: "at".into(),
        order_by: vec!["order".into()],
        keys: Arc::new(KeyCodec::new(types).unwrap()),
        versions: Arc::new(VersionCodec::new(time, &[DataType::Int64]).unwrap()),
        kept: vec!["note".into(), "number".into()],
        min_event_time: None,
        likely: Likely::default(),
        memory_max: 1 << 20,
    }
}

#[test]
fn hits_are_shared_out_by_rows_as_the_batch_before_met_them() {
    let counts = Counts { inserted: 60, noop: 20, updated: 10, deleted: 6, stale: 4, duplicate: 900, ..Counts::default() };
    let likely = Likely::after(&counts);
    assert_eq!(likely.hits(1_000, 50, 200), 50);
    assert_eq!(likely.hits(1_000, 200, 200), 200);
    assert_eq!(Likely::after(&Counts { updated: 99, ..Counts::default() }).hits(1_000, 50, 200), 0, "too few to tell");
    assert_eq!(Likely::default().hits(usize::MAX, u64::MAX, 0), 0);
}

fn keys(spec: &LookupSpec, ids: &[u8]) -> Arc<KeyMap> {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|&id| text(id))));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.iter().map(|&id| i64::from(id))));
    let columns = if spec.id.len() == 1 { vec![texts] } else { vec![numbers, texts] };
    let keys = spec.keys.encode(&columns).unwrap();
    let mut map = KeyMap::default();
    for row in 0..ids.len() {
        map.insert(keys.get(row).unwrap());
    }
    Arc::new(map)
}

/// Everything of a match that can be told from outside: id, note, version, path and position.
type Told = (u8, String, i64, Option<i64>, String, u64);

fn told(live: &LiveFiles, spec: &LookupSpec, ids: &[u8], matches: &Matches) -> Vec<Told> {
    let kept = matches.kept.as_ref().unwrap();
    assert_eq!(kept.num_rows(), matches.rows.len());
    let (notes, numbers) = (kept.column(0).as_string::<i32>(), kept.column(1).as_primitive::<Int64Type>());
    let tell = |(at, row): (usize, &Stored)| {
        let id = ids[usize::try_from(row.key).unwrap()];
        assert_eq!(numbers.value(at), i64::from(id));
        let path = live.data[row.data].file().file_path().to_owned();
        let order = decoded_order(spec, &row.version);
        (id, notes.value(at).to_owned(), row.version.event_time, order, path, row.position)
    };
    matches.rows.iter().enumerate().map(tell).collect()
}

fn decoded_order(spec: &LookupSpec, version: &Version) -> Option<i64> {
    let candidates = (0..4).map(Some).chain([None]);
    let encoded = |order: Option<i64>| {
        let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("+00:00"));
        let order: ArrayRef = Arc::new(Int64Array::from(vec![order]));
        spec.versions.encode(&time, &[order]).unwrap().get(0).order
    };
    candidates.into_iter().find(|&order| encoded(order) == version.order).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<Row>),
    /// Positions (file, position), wrapped to what exists; one file-scoped delete per file, or one for all.
    Delete(Vec<(usize, usize)>, bool),
    DeleteIds(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..30_u8, proptest::option::of(0..5_i64), proptest::option::of(0..4_i64));
    let rows = proptest::collection::vec(row.prop_map(|(id, time, order)| Row { id, time, order }), 1..40);
    let positions = proptest::collection::vec((0..8_usize, 0..40_usize), 1..20);
    let step = prop_oneof![
        3 => rows.prop_map(Step::Add),
        2 => (positions, any::<bool>()).prop_map(|(positions, scoped)| Step::Delete(positions, scoped)),
        1 => proptest::collection::vec(1..30_u8, 1..6).prop_map(Step::DeleteIds),
    ];
    proptest::collection::vec(step, 1..8)
}

/// The model: every file ever written, with each row and whether it is alive.
#[derive(Default)]
struct Model {
    files: Vec<(DataFile, Vec<(Row, bool)>)>,
}

async fn play(table: &mut TestTable, steps: &[Step], indexed: &dyn Fn(usize) -> Option<IndexSpec>) -> Model {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Add(rows) => {
                table.index = indexed(model.files.len());
                let file = table.data(&batch(model.files.len(), rows));
                table.index = None;
                table.commit(vec![file.clone()], vec![]).await;
                model.files.push((file, rows.iter().map(|row| (row.clone(), true)).collect()));
            }
            Step::Delete(..) | Step::DeleteIds(_) if model.files.is_empty() => {}
            Step::Delete(positions, scoped) => {
                let mut by_file: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
                for (file, position) in positions {
                    let file = file % model.files.len();
                    let position = position % model.files[file].1.len();
                    by_file.entry(file).or_default().insert(position);
                    model.files[file].1[position].1 = false;
                }
                let all: Vec<_> = by_file
                    .iter()
                    .flat_map(|(&file, rows)| rows.iter().map(move |&row| (file, i64::try_from(row).unwrap())))
                    .map(|(file, row)| (file, (model.files[file].0.file_path().to_owned(), row)))
                    .collect();
                let named = |file: Option<usize>| -> Vec<(&str, i64)> {
                    let wanted = all.iter().filter(|(of, _)| file.is_none_or(|file| *of == file));
                    wanted.map(|(_, (path, row))| (path.as_str(), *row)).collect()
                };
                let mut deletes = Vec::new();
                match scoped {
                    true => by_file.keys().for_each(|&file| {
                        deletes.push(table.position_delete(&model.files[file].0, &named(Some(file)), true));
                    }),
                    false => deletes.push(table.position_delete(&model.files[0].0, &named(None), false)),
                }
                table.commit(vec![], deletes).await;
            }
            Step::DeleteIds(ids) => {
                let only_id = schema_of(vec![column(1, "id", PrimitiveType::String, false)]);
                let values: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|&id| text(id))));
                let delete = table.equality_delete(&model.files[0].0, vec![1], &batch_of(&only_id, vec![values]));
                table.commit(vec![], vec![delete]).await;
                let rows = model.files.iter_mut().flat_map(|(_, rows)| rows);
                rows.filter(|(row, _)| ids.contains(&row.id)).for_each(|(_, alive)| *alive = false);
            }
        }
    }
    model
}

impl Model {
    fn lookup(&self, ids: &[u8]) -> Vec<Told> {
        let mut told = Vec::new();
        for (file, (path, rows)) in self.files.iter().enumerate() {
            for (at, (row, alive)) in rows.iter().enumerate() {
                if *alive && row.id > 0 && ids.contains(&row.id) {
                    let (path, position) = (path.file_path().to_owned(), u64::try_from(at).unwrap());
                    told.push((row.id, note(file, at), row.time.unwrap_or(i64::MIN), row.order, path, position));
                }
            }
        }
        told
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn sorted(mut told: Vec<Told>) -> Vec<Told> {
    told.sort();
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn lookup_finds_what_a_list_of_rows_would(
        steps in steps(),
        ids in proptest::collection::btree_set(1..30_u8, 0..20),
        wide in any::<bool>(),
        group_rows in 1..50_usize,
        index_every in 1..4_usize,
        memory_max in prop_oneof![Just(1_usize), Just(1 << 20)],
    ) {
        let ids: Vec<u8> = ids.into_iter().collect();
        let spec = LookupSpec { memory_max, ..spec(wide) };
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        (table.group_rows, table.page_rows) = (group_rows, 7);
        let index = IndexSpec::new(&spec.schema, &spec.id, &["at".into(), "order".into()]).unwrap();
        let indexed = |file: usize| (index_every < 3 && file.is_multiple_of(index_every)).then(|| index.clone());
        let (expected, found, picked, asked) = runtime().block_on(async {
            let model = play(&mut table, &steps, &indexed).await;
            let live = table.live().await;
            let matches = lookup(&live, &spec, &keys(&spec, &ids), 0, &table.store).await.unwrap();
            let bare = LookupSpec { kept: Vec::new(), ..spec.clone() };
            let bare = lookup(&live, &bare, &keys(&spec, &ids), 0, &table.store).await.unwrap();
            assert_eq!(bare.rows, matches.rows, "what the index knows is what the columns hold");
            let asked = if ids.is_empty() { 0 } else { (0..model.files.len()).filter(|&file| indexed(file).is_some()).count() };
            let asked = u64::try_from(asked).unwrap();
            let pick = |batch: &RecordBatch, row: usize| {
                let column = batch.column(0).as_string::<i32>();
                column.is_valid(row) && ids.iter().any(|&id| text(id) == column.value(row))
            };
            let names = ["id".to_owned()];
            let picked = find_rows(&live, &table.store, &spec.schema, &names, &pick).await.unwrap();
            let picked: BTreeSet<_> =
                picked.into_iter().map(|(data, at)| (live.data[data].file().file_path().to_owned(), at)).collect();
            (model.lookup(&ids), told(&live, &spec, &ids, &matches), picked, (asked, bare.searched.indexed))
        });
        let places: BTreeSet<_> = expected.iter().map(|told| (told.4.clone(), told.5)).collect();
        prop_assert_eq!(picked, places);
        prop_assert_eq!(asked.0, asked.1);
        prop_assert_eq!(sorted(found), sorted(expected));
    }
}

fn row(id: u8, time: i64) -> Row {
    Row { id, time: Some(time), order: Some(1) }
}

#[tokio::test]
async fn without_ids_or_files_nothing_is_read() {
    let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
    let spec = spec(false);
    let matches = lookup(&table.live().await, &spec, &keys(&spec, &[1]), 0, &table.store).await.unwrap();
    assert_eq!((matches.rows.len(), matches.kept.map(|kept| kept.num_rows())), (0, Some(0)));
    let file = table.data(&batch(0, &[row(1, 1)]));
    table.commit(vec![file], vec![]).await;
    let matches = lookup(&table.live().await, &spec, &keys(&spec, &[]), 0, &table.store).await.unwrap();
    assert_eq!(matches.searched, Searched::default());
}

#[tokio::test]
async fn an_unreadable_live_file_ends_the_lookup() {
    let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
    let file = table.parquet(&batch(0, &[row(1, 1)])).file_format(iceberg::spec::DataFileFormat::Orc).build().unwrap();
    table.commit(vec![file], vec![]).await;
    let spec = spec(false);
    let error = lookup(&table.live().await, &spec, &keys(&spec, &[1]), 0, &table.store).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
}

/// Positions by file of what is found, and how many files were opened.
async fn found(table: &TestTable, spec: &LookupSpec, ids: &[u8]) -> (Vec<(usize, u64)>, u64) {
    let matches = lookup(&table.live().await, spec, &keys(spec, ids), 0, &table.store).await.unwrap();
    (matches.rows.iter().map(|row| (row.data, row.position)).collect(), matches.searched.files)
}

#[tokio::test]
async fn files_whose_bounds_exclude_every_id_or_the_watermark_are_not_opened() {
    let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
    let mut files = Vec::new();
    for (at, ids) in [[1, 5], [3, 9], [20, 29]].into_iter().enumerate() {
        let rows = ids.map(|id| row(id, i64::from(id)));
        let bounds = |id: u8| HashMap::from([(1, Datum::string(text(id))), (3, Datum::timestamptz_micros(i64::from(id)))]);
        let mut builder = table.parquet(&batch(at, &rows));
        files.push(builder.lower_bounds(bounds(ids[0])).upper_bounds(bounds(ids[1])).build().unwrap());
    }
    table.commit(files, vec![]).await;
    let spec = spec(false);
    assert_eq!(found(&table, &spec, &[5, 29]).await, (vec![(0, 1), (2, 1)], 3));
    assert_eq!(found(&table, &spec, &[2, 10]).await, (vec![], 1));
    assert_eq!(found(&table, &spec, &[1, 20]).await, (vec![(0, 0), (2, 0)], 2));
    assert_eq!(found(&table, &spec, &[10, 19]).await, (vec![], 0));
    let late = LookupSpec { min_event_time: Some(9), ..spec };
    assert_eq!(found(&table, &late, &[1, 5, 9]).await, (vec![(1, 1)], 1));
}

/// Ids in order, as after a compaction that sorts by id.
#[tokio::test]
async fn pages_whose_bounds_exclude_every_id_are_not_read() {
    for wide in [false, true] {
        let mut spec = spec(wide);
        spec.kept.clear();
        let rows: Vec<Row> = (1..=250).flat_map(|id| (0..400).map(move |_| row(id, i64::from(id)))).collect();
        let mut bytes = HashMap::new();
        for page_bounds in [true, false] {
            let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
            (table.page_rows, table.page_bounds) = (100, page_bounds);
            let file = table.data(&batch(0, &rows));
            table.commit(vec![file], vec![]).await;
            let live = table.live().await;
            for id in [0, 7] {
                let matches = lookup(&live, &spec, &keys(&spec, &[id]), 0, &table.store).await.unwrap();
                let positions: Vec<_> = matches.rows.iter().map(|row| row.position).collect();
                let first = u64::from(id.saturating_sub(1)) * 400;
                assert_eq!(positions, if id == 0 { Vec::new() } else { (first..first + 400).collect() });
                bytes.insert((page_bounds, id), matches.searched.bytes);
            }
        }
        // A page has about 30 bytes; there are a thousand.
        let columns = if wide { 2 } else { 1 };
        assert!(bytes[&(true, 0)] + 20_000 * columns < bytes[&(false, 0)], "{bytes:?}");
        assert!(bytes[&(true, 7)] + 20_000 * columns < bytes[&(false, 7)], "{bytes:?}");
    }
}

/// Moves the pages of a file's page index, as a writer with a mistake does; answers the file's new size.
fn misplace(path: &str, change: fn(&mut [PageLocation])) -> u64 {
    let path = path.strip_prefix("file://").unwrap();
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let footer = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required).parse_and_finish(&bytes).unwrap();
    let mut places = footer.offset_index().unwrap().clone();
    places.iter_mut().flatten().for_each(|column| change(&mut column.page_locations));
    let chunks = footer.row_groups().iter().flat_map(|group| group.columns());
    let end = chunks.map(|chunk| chunk.byte_range()).map(|(start, length)| start + length).max().unwrap();
    let mut content = TrackedWrite::new(std::fs::File::create(path).unwrap());
    content.write_all(&bytes[..usize::try_from(end).unwrap()]).unwrap();
    let footer = footer.into_builder().set_offset_index(Some(places)).build();
    ParquetMetaDataWriter::new_with_tracked(content, &footer).finish().unwrap();
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_page_index_that_cannot_be_right_is_not_used() {
    let mistakes: [fn(&mut [PageLocation]); 6] = [
        |_| (),
        |pages| pages.iter_mut().for_each(|page| page.offset -= 4),
        |pages| pages.iter_mut().for_each(|page| page.compressed_page_size -= 4),
        |pages| pages.iter_mut().for_each(|page| page.first_row_index += 10),
        |pages| pages[1].offset = pages[2].offset,
        |pages| {
            let last = pages.len() - 1;
            (pages[0].offset, pages[last].offset) = (pages[last].offset, pages[0].offset);
        },
    ];
    let mut rows: Vec<Row> = (1..=250).flat_map(|id| (0..400).map(move |_| row(id, i64::from(id)))).collect();
    // Rare enough to be read by page in the second pass, too.
    rows.push(row(251, 251));
    let mut bytes = Vec::new();
    for mistake in mistakes {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        (table.page_rows, table.group_rows) = (100, 60_000);
        let mut file = table.parquet(&batch(0, &rows));
        let path = file.build().unwrap().file_path().to_owned();
        let file = file.file_size_in_bytes(misplace(&path, mistake)).build().unwrap();
        table.commit(vec![file], vec![]).await;
        let (live, spec) = (table.live().await, spec(true));
        for (id, positions) in [(200, 199 * 400..200 * 400), (251, 100_000..100_001)] {
            let matches = lookup(&live, &spec, &keys(&spec, &[id]), 0, &table.store).await.unwrap();
            let found: Vec<_> = matches.rows.iter().map(|row| row.position).collect();
            assert_eq!(found, positions.collect::<Vec<u64>>());
            let at: Vec<_> = matches.rows.iter().map(|row| row.version.event_time).collect();
            assert!(at.iter().all(|&at| at == i64::from(id)), "{at:?}");
            bytes.push(matches.searched.bytes);
        }
    }
    let (sound, wrong) = bytes.split_at(2);
    assert!(wrong.chunks(2).all(|wrong| wrong.iter().zip(sound).all(|(wrong, sound)| wrong > sound)), "{bytes:?}");
}

#[tokio::test]
async fn only_partitions_that_the_ids_can_be_in_are_opened() {
    for (source, transform) in [(1, Transform::Bucket(8)), (1, Transform::Truncate(5)), (2, Transform::Identity)] {
        let field = UnboundPartitionField { source_id: source, field_id: None, name: "part".into(), transform };
        let spec = UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build();
        let mut table = TestTable::new(FormatVersion::V2, schema(), spec);
        let partition_of = |id: u8| -> Option<Literal> {
            let datum = if source == 1 { Datum::string(text(id)) } else { Datum::long(id) };
            let value = create_transform_function(&transform).unwrap().transform_literal(&datum).unwrap();
            value.map(|datum| Literal::Primitive(datum.literal().clone()))
        };
        let mut partitions: HashMap<Struct, Vec<u8>> = HashMap::new();
        for id in 1..=200 {
            partitions.entry(Struct::from_iter([partition_of(id)])).or_default().push(id);
        }
        let mut files = Vec::new();
        for (at, (partition, ids)) in partitions.iter().enumerate() {
            let rows: Vec<Row> = ids.iter().map(|&id| row(id, 1)).collect();
            files.push(table.data_in(&batch(at, &rows), partition.fields().to_vec()));
        }
        table.commit(files, vec![]).await;
        let ids = [7, 77, 177];
        let (places, read) = found(&table, &self::spec(true), &ids).await;
        let touched: BTreeSet<_> = ids.iter().map(|&id| format!("{:?}", partition_of(id))).collect();
        assert_eq!((places.len(), usize::try_from(read).unwrap()), (3, touched.len()), "{transform}");
    }
}

#[tokio::test]
async fn row_ids_come_from_the_file_or_else_from_its_first_row_id() {
    let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
    table.index = IndexSpec::new(&schema(), &["id".into()], &["at".into(), "order".into()]);
    let plain = table.data(&batch(0, &[row(1, 1), row(2, 1)]));
    table.index = None;
    let mut fields: Vec<_> = schema().as_struct().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(column(RESERVED_FIELD_ID_ROW_ID, RESERVED_COL_NAME_ROW_ID, PrimitiveType::Long, false));
    let mut columns = batch(1, &[row(3, 1), row(4, 1)]).columns().to_vec();
    columns.push(Arc::new(Int64Array::from(vec![Some(77), None])));
    let own = table.data(&batch_of(&schema_of(fields), columns));
    table.commit(vec![plain, own], vec![]).await;
    let spec = spec(false);
    let live = table.live().await;
    for kept in [spec.kept.clone(), Vec::new()] {
        let spec = LookupSpec { kept, ..spec.clone() };
        let matches = lookup(&live, &spec, &keys(&spec, &[1, 2, 3, 4]), 0, &table.store).await.unwrap();
        let ids: Vec<_> = matches.rows.iter().map(|row| row.row_id).collect();
        assert_eq!((ids, matches.searched.indexed), (vec![Some(0), Some(1), Some(77), Some(3)], 1));
    }

    let vector = table.vector(live.data[0].file(), &vector_bytes(&RoaringTreemap::from_iter([1])), 1);
    table.commit(vec![], vec![vector]).await;
    assert_eq!(found(&table, &spec, &[1, 2, 3]).await.0, [(0, 0), (1, 0)]);
}
