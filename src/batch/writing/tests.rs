//! Files are read back with the parquet crate; what must be in them is a fold over the input.

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use iceberg::metadata_columns::RESERVED_COL_NAME_ROW_ID;
use iceberg::spec::{FormatVersion, NestedField, NullOrder, PrimitiveType, SortDirection, SortField, SortOrder, Transform};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::live::testing::{TestTable, batch_of, column, schema_of};
use crate::names::FileNames;

/// Rows of one batch: each says whether it is wanted.
type Rows = Vec<bool>;

/// A row as it is read back: number, text, row id.
type Row = (i64, String, Option<i64>);

fn text(number: i64) -> String {
    format!("{number}{}", "x".repeat(usize::try_from(number % 7).unwrap()))
}

fn table(version: FormatVersion, sorted: bool) -> TestTable {
    let fields: Vec<NestedField> =
        vec![column(1, "number", PrimitiveType::Long, true), column(2, "text", PrimitiveType::String, false)];
    let mut table = TestTable::unpartitioned(version, schema_of(fields));
    if sorted {
        let field = SortField {
            source_id: 1,
            transform: Transform::Identity,
            direction: SortDirection::Descending,
            null_order: NullOrder::First,
        };
        let order = SortOrder::builder().with_order_id(1).with_sort_field(field).build_unbound().unwrap();
        table.alter(|builder| builder.add_sort_order(order)?.set_default_sort_order(-1));
    }
    table
}

fn target(table: &TestTable) -> WriteTarget {
    WriteTarget {
        metadata: Arc::clone(&table.metadata),
        store: table.store.clone(),
        names: FileNames::new("job", Uuid::nil()),
        memory_max: 1 << 30,
        index: None,
    }
}

fn buffered(table: &TestTable, first: i64, rows: &Rows) -> Buffered {
    let numbers: Vec<i64> = (first..).take(rows.len()).collect();
    let texts: StringArray = numbers.iter().map(|&number| Some(text(number))).collect();
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(numbers.clone())), Arc::new(texts)];
    let mut batch = Buffered::all(batch_of(table.metadata.current_schema(), columns));
    // The entry of a row is its number, so that a place can be told from any other.
    batch.entries = numbers.iter().map(|&number| u32::try_from(number).unwrap()).collect();
    for (row, &wanted) in rows.iter().enumerate() {
        if !wanted {
            batch.drop_row(row);
        }
    }
    batch
}

fn read(path: &str) -> Vec<Row> {
    let file = File::open(path.strip_prefix("file://").unwrap()).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let (numbers, texts) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        let ids = batch.column_by_name(RESERVED_COL_NAME_ROW_ID).map(|ids| ids.as_primitive::<Int64Type>());
        rows.extend((0..batch.num_rows()).map(|row| {
            let id = ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
            (numbers.value(row), texts.value(row).to_owned(), id)
        }));
    }
    rows
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Row id that a row keeps, in tables that have them.
fn row_id(number: i64) -> Option<i64> {
    (number % 3 == 0).then_some(number + 1_000_000)
}

/// Writes the loads one after the other, and holds files and places against the input.
async fn check(loads: &[Vec<Rows>], version: FormatVersion, sorted: bool) {
    let table = table(version, sorted);
    let (mut writing, mut landed, mut expected) = (Writing::default(), Vec::new(), Vec::new());
    let (mut number, mut first) = (0, 0);
    for load in loads {
        let (mut batches, mut row_ids, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for rows in load {
            let batch = buffered(&table, number, rows);
            row_ids.push((number..).take(rows.len()).map(row_id).collect());
            wanted.extend((number..).zip(rows).filter(|(_, wanted)| **wanted).map(|(number, _)| number));
            number += i64::try_from(rows.len()).unwrap();
            batches.push(batch);
        }
        if sorted {
            wanted.reverse();
        }
        expected.push(wanted);
        let count = u32::try_from(batches.len()).unwrap();
        let row_ids = (version == FormatVersion::V3).then_some(row_ids);
        landed.extend(writing.settle().await.unwrap());
        writing.begin(Load { first, batches, row_ids, whole: sorted }, target(&table)).unwrap();
        first += count;
    }
    landed.extend(writing.settle().await.unwrap());
    assert!(writing.settle().await.unwrap().is_empty(), "a load is settled once");
    let files: Vec<Vec<Row>> = writing.finish().await.unwrap().iter().map(|file| read(file.data_file.file_path())).collect();

    let id = |number| if version == FormatVersion::V3 { row_id(number) } else { None };
    let rows: Vec<Row> = expected.concat().into_iter().map(|number| (number, text(number), id(number))).collect();
    assert_eq!(files.concat(), rows);
    // Each wanted row is told of once, with the place at which it is read.
    let places: BTreeMap<u32, RowPlace> = landed.iter().map(|row| (row.entry, row.to)).collect();
    assert_eq!((places.len(), landed.len()), (rows.len(), rows.len()));
    for (entry, place) in places {
        let read = &files[place.file as usize][place.position as usize];
        assert_eq!(read.0, i64::from(entry));
    }
    let mut starts = BTreeMap::new();
    let mut number = 0;
    for (ordinal, rows) in (0_u32..).zip(loads.iter().flatten()) {
        starts.insert(ordinal, number);
        number += u32::try_from(rows.len()).unwrap();
    }
    for Landed { entry, from: (batch, row), .. } in landed {
        assert_eq!(starts[&batch] + row, entry);
    }
}

/// Loads of batches around the sizes at which rows are copied together, taken as they are, or sliced.
fn loads() -> impl Strategy<Value = Vec<Vec<Rows>>> {
    let size = prop_oneof![0..20_usize, Just(WHOLE_ROWS - 1), Just(WHOLE_ROWS), WHOLE_ROWS..3 * WHOLE_ROWS, Just(SLICE_ROWS + 1)];
    let rows = (size, 0..4_u8, any::<u64>()).prop_map(|(size, kind, seed)| match kind {
        0 => vec![false; size],
        1 => vec![true; size],
        _ => (0..size).map(|row| (seed.rotate_left(u32::try_from(row % 64).unwrap()) & 3) != 0).collect(),
    });
    prop::collection::vec(prop::collection::vec(rows, 0..8), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_in_the_files_in_their_order_and_where_it_says(loads in loads()) {
        run(check(&loads, FormatVersion::V2, false));
    }

    #[test]
    fn rows_keep_their_row_ids(loads in loads()) {
        run(check(&loads, FormatVersion::V3, false));
    }

    #[test]
    fn rows_of_a_sorted_table_are_in_order_within_a_load(loads in loads()) {
        run(check(&loads, FormatVersion::V2, true));
    }
}

/// A table whose files are full after some hundred rows.
fn of_small_files() -> TestTable {
    let mut table = table(FormatVersion::V2, false);
    let small =
        ["write.target-file-size-bytes", "write.parquet.row-group-size-bytes"].map(|key| (key.to_owned(), "2048".to_owned()));
    table.alter(|builder| builder.set_properties(small.into()));
    table
}

fn data_folder(table: &TestTable) -> std::path::PathBuf {
    std::path::Path::new(table.metadata.location().strip_prefix("file://").unwrap()).join("data")
}

fn large_load(table: &TestTable) -> Load {
    let batches = (0..200).map(|at| buffered(table, at * 10_000, &vec![true; 10_000])).collect();
    Load { first: 0, batches, row_ids: None, whole: false }
}

#[test]
fn nothing_goes_on_after_a_load_is_given_up() {
    run(async {
        let table = of_small_files();
        let files = || std::fs::read_dir(data_folder(&table)).map_or(0, Iterator::count);
        let mut writing = Writing::default();
        writing.begin(large_load(&table), target(&table)).unwrap();
        while files() == 0 {
            assert!(writing.memory() > 0);
            writing.check().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        writing.give_up().await;
        let left = files();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(files(), left);
        assert!(writing.finish().await.unwrap().is_empty());
    });
}

#[test]
fn a_load_that_fails_is_told_before_anybody_waits_for_it() {
    run(async {
        let table = of_small_files();
        // A file where the folder of the data files should be.
        std::fs::write(data_folder(&table), "").unwrap();
        let mut writing = Writing::default();
        writing.begin(large_load(&table), target(&table)).unwrap();
        let failed = loop {
            if let Err(error) = writing.check() {
                break error;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        };
        assert!(failed.to_string().contains("/data/"), "{failed}");

        writing.begin(large_load(&table), target(&table)).unwrap();
        assert!(writing.settle().await.unwrap_err().to_string().contains("/data/"));
    });
}

#[test]
fn a_load_that_was_looked_at_is_settled_all_the_same() {
    run(async {
        let table = table(FormatVersion::V2, false);
        let mut writing = Writing::default();
        let batches = vec![buffered(&table, 0, &vec![true; 100])];
        writing.begin(Load { first: 0, batches, row_ids: None, whole: false }, target(&table)).unwrap();
        while !matches!(writing.state, State::Ended(_)) {
            writing.check().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(writing.settle().await.unwrap().len(), 100);
        assert_eq!(writing.finish().await.unwrap().len(), 1);
    });
}
