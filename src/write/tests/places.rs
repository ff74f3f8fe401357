//! Every row is where the writer says.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use iceberg::spec::{FormatVersion, Literal, NestedField, NullOrder, PrimitiveLiteral, PrimitiveType, SortDirection, Transform};
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::{Layout, Table, bare, field, path, read};
use crate::write::{DataWriter, RowPlace, WrittenFile};

const DAY_MICROS: i64 = 86_400_000_000;
const PLENTY: usize = 1 << 30;

fn fields() -> Vec<NestedField> {
    vec![
        field(1, "id", PrimitiveType::Long, true),
        field(2, "source", PrimitiveType::String, false),
        field(3, "at", PrimitiveType::Timestamptz, false),
        field(4, "text", PrimitiveType::String, true),
    ]
}

/// Ids count on from `first`; the rest is drawn from the id, nulls included.
fn rows(table: &Table, first: i64, count: i64) -> RecordBatch {
    let mixed = |id: i64| id.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(29).wrapping_mul(0x9E37_79B9).rem_euclid(1 << 40);
    let ids = first..first + count;
    let sources = ids.clone().map(|id| (mixed(id) % 7 != 0).then(|| format!("source/{}", mixed(id) % 5)));
    let times = ids.clone().map(|id| (mixed(id) % 11 != 0).then(|| (mixed(id) % 6 - 2) * DAY_MICROS + mixed(id) % 1000));
    let texts = ids.clone().map(|id| format!("{:x}", mixed(id)).repeat(5));
    let schema = iceberg::arrow::schema_to_arrow_schema(table.metadata.current_schema()).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(sources.collect::<StringArray>()),
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(texts)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

struct Outcome {
    calls: Vec<(RecordBatch, Vec<RowPlace>)>,
    files: Vec<WrittenFile>,
    contents: Vec<RecordBatch>,
}

/// Writes batches of these sizes, reads everything back and checks each row's place.
async fn write(table: &Table, counts: &[i64], memory_max: usize) -> Outcome {
    let mut writer = DataWriter::new(table.target(memory_max)).unwrap();
    let (mut calls, mut next) = (Vec::new(), 0);
    for &count in counts {
        let batch = rows(table, next, count);
        next += count;
        let places = writer.write(&batch, None).await.unwrap();
        assert_eq!(places.len(), batch.num_rows());
        assert!(writer.memory() <= memory_max, "{} bytes held", writer.memory());
        calls.push((batch, places));
    }
    let files = writer.finish().await.unwrap();
    let locations: Vec<_> = files.iter().map(|file| file.data_file.file_path().to_owned()).collect();
    let contents: Vec<_> = locations.iter().map(|location| read(location)).collect();
    let total: i64 = counts.iter().sum();
    let seen: BTreeSet<_> = calls.iter().flat_map(|(_, places)| places).map(|place| (place.file, place.position)).collect();
    assert_eq!(seen.len(), usize::try_from(total).unwrap(), "no two rows share a place");
    assert_eq!(contents.iter().map(RecordBatch::num_rows).sum::<usize>(), seen.len());
    for (batch, places) in &calls {
        for (row, place) in places.iter().enumerate() {
            let found = contents[place.file as usize].slice(place.position as usize, 1);
            assert_eq!(bare(&found), bare(&batch.slice(row, 1)), "row {row} at {place:?}");
        }
    }
    for (ordinal, (file, content)) in files.iter().zip(&contents).enumerate() {
        check_file(table, ordinal, file, content);
    }
    Outcome { calls, files, contents }
}

fn check_file(table: &Table, ordinal: usize, file: &WrittenFile, content: &RecordBatch) {
    let WrittenFile { ordinal: told, data_file } = file;
    assert_eq!(*told as usize, ordinal);
    assert_eq!(data_file.record_count(), content.num_rows() as u64);
    let disk = std::fs::File::open(path(data_file.file_path())).unwrap();
    assert_eq!(data_file.file_size_in_bytes(), disk.metadata().unwrap().len());
    let footer = SerializedFileReader::new(disk).unwrap();
    let offsets: Vec<_> = footer.metadata().row_groups().iter().map(|group| group.column(0).byte_range().0 as i64).collect();
    assert_eq!(data_file.split_offsets(), Some(offsets.as_slice()));
    assert!(data_file.file_path().starts_with(&table.data_root()));
}

/// Days of the `at` column, and buckets of nothing: an independent reading of `day`.
fn days(content: &RecordBatch) -> BTreeSet<Option<i64>> {
    let times = content.column(2).as_primitive::<TimestampMicrosecondType>();
    times.iter().map(|time| time.map(|time| time.div_euclid(DAY_MICROS))).collect()
}

fn sources(content: &RecordBatch) -> BTreeSet<Option<String>> {
    content.column(1).as_string::<i32>().iter().map(|source| source.map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpartitioned_table_gets_one_file_in_input_order() {
    let table = Table::new(fields(), &Layout::default());
    let outcome = write(&table, &[1, 10_000, 0, 20_000], PLENTY).await;
    assert_eq!(outcome.files.len(), 1);
    let ids = outcome.contents[0].column(0).as_primitive::<Int64Type>();
    assert!(ids.values().iter().copied().eq(0..30_001));
    let data_file = &outcome.files[0].data_file;
    assert!(data_file.partition().fields().is_empty());
    assert_eq!(data_file.sort_order_id(), None);
    let name = format!("{}/tidegate-job-00000000000000000000000000000000-0-00000.parquet", table.data_root());
    assert_eq!(data_file.file_path(), name);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_of_a_partitioned_table_holds_one_partition() {
    let layout = Layout { partition: &[("at", Transform::Day), ("source", Transform::Identity)], ..Layout::default() };
    let table = Table::new(fields(), &layout);
    let outcome = write(&table, &[500, 20_000, 3], PLENTY).await;
    let mut partitions = BTreeMap::new();
    for (file, content) in outcome.files.iter().zip(&outcome.contents) {
        let (days, sources) = (days(content), sources(content));
        assert_eq!((days.len(), sources.len()), (1, 1));
        let (day, source) = (days.into_iter().next().unwrap(), sources.into_iter().next().unwrap());
        let told = file.data_file.partition().fields().to_vec();
        let expected = vec![day.map(|day| Literal::date(i32::try_from(day).unwrap())), source.clone().map(Literal::string)];
        assert_eq!(told, expected);
        let day_text = match day {
            None => "null".to_owned(),
            Some(-2) => "1969-12-30".to_owned(),
            Some(-1) => "1969-12-31".to_owned(),
            Some(day) => format!("1970-01-0{}", day + 1),
        };
        let source_text = source.as_deref().unwrap_or("null").replace('/', "%2F");
        let folder = format!("{}/p+at={day_text}/p+source={source_text}/tidegate-job-", table.data_root());
        assert!(file.data_file.file_path().starts_with(&folder), "{} in {folder}", file.data_file.file_path());
        partitions.insert((day, source), ());
    }
    assert_eq!(partitions.len(), outcome.files.len(), "one file per partition");
    assert_eq!(partitions.len(), 7 * 6, "all of them, null among each");
}

#[tokio::test(flavor = "multi_thread")]
async fn fan_out_beyond_memory_stays_within_it() {
    let layout = Layout { partition: &[("id", Transform::Identity)], ..Layout::default() };
    let table = Table::new(fields(), &layout);
    let outcome = write(&table, &[300, 300], 1 << 20).await;
    assert_eq!(outcome.files.len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_closed_for_memory_gets_another_file() {
    let layout = Layout { partition: &[("at", Transform::Day)], ..Layout::default() };
    let table = Table::new(fields(), &layout);
    let outcome = write(&table, &[3_000, 3_000, 3_000], 300_000).await;
    assert!(outcome.files.len() > 7, "{} files", outcome.files.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_roll_at_the_target_size() {
    let properties = &[("write.target-file-size-bytes", "200000"), ("write.parquet.row-group-size-bytes", "90000")];
    for partition in [&[][..], &[("source", Transform::Truncate(3))][..]] {
        let table = Table::new(fields(), &Layout { partition, properties, ..Layout::default() });
        let outcome = write(&table, &[50_000, 10, 40_000], PLENTY).await;
        assert!(outcome.files.len() > 2, "{} files", outcome.files.len());
        let full = outcome.files.iter().filter(|file| file.data_file.file_size_in_bytes() > 150_000).count();
        assert!(full + 2 >= outcome.files.len(), "all but the last of each partition are full");
        let groups = outcome.files.iter().map(|file| file.data_file.split_offsets().unwrap().len()).max();
        assert!(groups > Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sorted_table_gets_sorted_files_of_one_call_each() {
    use SortDirection::{Ascending, Descending};
    let sort = &[
        ("source", Transform::Identity, Ascending, NullOrder::Last),
        ("at", Transform::Day, Descending, NullOrder::First),
        ("id", Transform::Identity, Descending, NullOrder::First),
    ];
    for partition in [&[][..], &[("at", Transform::Month)][..]] {
        for size in ["1000000", "60000"] {
            let properties = &[("write.target-file-size-bytes", size)];
            let table = Table::new(fields(), &Layout { partition, sort, properties, ..Layout::default() });
            let outcome = write(&table, &[20_000, 700], PLENTY).await;
            for (file, content) in outcome.files.iter().zip(&outcome.contents) {
                assert_eq!(file.data_file.sort_order_id(), Some(1));
                let keys: Vec<_> = (0..content.num_rows()).map(|row| sort_key(content, row)).collect();
                assert!(keys.is_sorted_by(|a, b| compare(a, b) == Ordering::Less), "{}", file.data_file.file_path());
            }
            let of_call: Vec<BTreeSet<u32>> =
                outcome.calls.iter().map(|(_, places)| places.iter().map(|place| place.file).collect()).collect();
            assert!(of_call[0].is_disjoint(&of_call[1]), "a file holds rows of one call only");
        }
    }
}

type SortKey = (Option<String>, Option<i64>, i64);

fn sort_key(content: &RecordBatch, row: usize) -> SortKey {
    let content = content.slice(row, 1);
    let id = content.column(0).as_primitive::<Int64Type>().value(0);
    (sources(&content).pop_first().unwrap(), days(&content).pop_first().unwrap(), id)
}

/// Source ascending with nulls last, day descending with nulls first, id descending.
fn compare(a: &SortKey, b: &SortKey) -> Ordering {
    let sources = match (&a.0, &b.0) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Greater,
        (_, None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    };
    let days = match (a.1, b.1) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(a), Some(b)) => b.cmp(&a),
    };
    sources.then(days).then(b.2.cmp(&a.2))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_split_of_the_input_and_any_layout_places_every_row(
        counts in prop::collection::vec(0_i64..9_000, 1..5),
        partitioned in any::<bool>(),
        sorted in any::<bool>(),
        tight in any::<bool>(),
    ) {
        let partition: &[_] = if partitioned { &[("id", Transform::Bucket(5)), ("at", Transform::Hour)] } else { &[] };
        let order = [("text", Transform::Truncate(1), SortDirection::Ascending, NullOrder::First)];
        let sort: &[_] = if sorted { &order } else { &[] };
        let properties = &[("write.target-file-size-bytes", "150000"), ("write.parquet.row-group-size-bytes", "40000")];
        let table = Table::new(fields(), &Layout { partition, sort, properties, ..Layout::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(write(&table, &counts, if tight { 400_000 } else { PLENTY }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ids_are_kept_in_the_lineage_columns() {
    let layout = Layout { version: Some(FormatVersion::V3), ..Layout::default() };
    let table = Table::new(fields(), &layout);
    let mut writer = DataWriter::new(table.target(PLENTY)).unwrap();
    let ids = Int64Array::from(vec![Some(70), None, Some(50)]);
    let unknown = Int64Array::from(vec![None, None]);
    let calls = [(3, None), (2, Some(&unknown)), (3, Some(&ids)), (4, None)];
    let (mut places, mut next) = (Vec::new(), 0);
    for (count, row_ids) in calls {
        places.push(writer.write(&rows(&table, next, count), row_ids).await.unwrap());
        next += count;
    }
    let files = writer.finish().await.unwrap();
    let contents: Vec<_> = files.iter().map(|file| read(file.data_file.file_path())).collect();
    assert_eq!(contents.iter().map(RecordBatch::num_columns).collect::<Vec<_>>(), [4, 6], "absent where no id is kept");
    let kept = &contents[1];
    let id_of = |name: &str| kept.schema().field_with_name(name).unwrap().metadata()["PARQUET:field_id"].clone();
    assert_eq!(id_of("_row_id"), "2147483540");
    assert_eq!(id_of("_last_updated_sequence_number"), "2147483539");
    assert_eq!(kept.column(5).null_count(), 7, "inherited from the commit");
    let found: Vec<_> = kept.column(4).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(found, [Some(70), None, Some(50), None, None, None, None]);
    let at = |file, positions: std::ops::Range<u32>| positions.map(|position| RowPlace { file, position }).collect::<Vec<_>>();
    assert_eq!(places, [at(0, 0..3), at(0, 3..5), at(1, 0..3), at(1, 3..7)]);
    assert!(!files[1].data_file.value_counts().contains_key(&2_147_483_540));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ids_are_refused_below_version_3() {
    let table = Table::new(fields(), &Layout::default());
    let mut writer = DataWriter::new(table.target(PLENTY)).unwrap();
    let error = writer.write(&rows(&table, 0, 1), Some(&Int64Array::from(vec![1]))).await.unwrap_err();
    assert_eq!(error.exit_code(), 101, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_of_void_fields_has_no_folder_and_a_null_per_field() {
    let layout = Layout { partition: &[("id", Transform::Void), ("source", Transform::Void)], ..Layout::default() };
    let table = Table::new(fields(), &layout);
    let outcome = write(&table, &[100], PLENTY).await;
    assert_eq!(outcome.files[0].data_file.partition().fields(), [None, None]);
    assert_eq!(path(outcome.files[0].data_file.file_path()).matches('=').count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_columns_are_truncated_into_partitions() {
    let fields = vec![field(1, "id", PrimitiveType::Long, true), field(2, "key", PrimitiveType::Binary, false)];
    let layout = Layout { partition: &[("key", Transform::Truncate(2))], ..Layout::default() };
    let table = Table::new(fields, &layout);
    let schema = iceberg::arrow::schema_to_arrow_schema(table.metadata.current_schema()).unwrap();
    let keys: [Option<&[u8]>; 4] = [Some(&[1, 2, 3]), None, Some(&[1, 2, 4]), Some(&[1])];
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4])), Arc::new(arrow::array::LargeBinaryArray::from_iter(keys))];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let mut writer = DataWriter::new(table.target(PLENTY)).unwrap();
    let places: Vec<_> = writer.write(&batch, None).await.unwrap().iter().map(|place| (place.file, place.position)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (0, 1), (2, 0)]);
    let files = writer.finish().await.unwrap();
    let partitions: Vec<_> = files.iter().map(|file| file.data_file.partition()[0].clone()).collect();
    let binary = |bytes: &[u8]| Some(Literal::Primitive(PrimitiveLiteral::Binary(bytes.to_vec())));
    assert_eq!(partitions, [binary(&[1, 2]), None, binary(&[1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lowest_numbers_are_truncated_into_partitions_as_java_does() {
    let fields = vec![field(1, "id", PrimitiveType::Long, true), field(2, "small", PrimitiveType::Int, true)];
    let layout = Layout { partition: &[("id", Transform::Truncate(10)), ("small", Transform::Truncate(7))], ..Layout::default() };
    let table = Table::new(fields, &layout);
    let schema = iceberg::arrow::schema_to_arrow_schema(table.metadata.current_schema()).unwrap();
    let (longs, ints) = ([i64::MIN, i64::MAX, -1, 0], [i32::MIN, i32::MAX, -1, 0]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(longs.to_vec())), Arc::new(Int32Array::from(ints.to_vec()))];
    let mut writer = DataWriter::new(table.target(PLENTY)).unwrap();
    writer.write(&RecordBatch::try_new(Arc::new(schema), columns).unwrap(), None).await.unwrap();
    let files = writer.finish().await.unwrap();
    let partitions: Vec<_> = files.iter().map(|file| file.data_file.partition().fields().to_vec()).collect();
    // By hand, and wrapped as Java's sums are: 2 below the lowest long is a multiple of 10, 5 below the lowest int one of 7.
    let expected = [(i64::MAX - 1, i32::MAX - 4), (i64::MAX - 7, i32::MAX - 1), (-10, -7), (0, 0)];
    let expected: Vec<_> = expected.iter().map(|&(long, int)| vec![Some(Literal::long(long)), Some(Literal::int(int))]).collect();
    assert_eq!(partitions, expected);
}
