//! Rewritten files, read back by the parquet crate, against lists of rows.

use std::collections::BTreeSet;
use std::fs::File;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::concat_batches;
use iceberg::spec::{
    Literal, NullOrder, Schema, SortDirection, SortField, SortOrder, Transform, UnboundPartitionField, UnboundPartitionSpec,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::live::testing::{TestTable, batch_of, column, schema_of, vector_bytes};
use crate::names::FileNames;

fn schema() -> Schema {
    schema_of(vec![column(1, "id", PrimitiveType::Long, true), column(2, "name", PrimitiveType::String, false)])
}

fn batch(ids: &[i64]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("n{id}")))),
    ];
    batch_of(&schema(), columns)
}

fn target(table: &TestTable) -> WriteTarget {
    WriteTarget {
        metadata: Arc::clone(&table.metadata),
        store: table.store.clone(),
        names: FileNames::new("job", Uuid::nil()),
        memory_max: 64 << 20,
        index: None,
    }
}

async fn rewritten(table: &TestTable, dead: &[(usize, &[u64])]) -> Result<Rewritten> {
    let dead = dead.iter().map(|&(data, positions)| (data, positions.iter().copied().collect())).collect();
    rewrite(&target(table), &*table.live().await, &dead, &[], &BTreeMap::new()).await
}

fn read(file: &DataFile) -> RecordBatch {
    let path = file.file_path().strip_prefix("file://").unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    concat_batches(&schema, &reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

fn longs(batch: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

fn ids(files: &[DataFile]) -> Vec<i64> {
    files.iter().flat_map(|file| longs(&read(file), "id").into_iter().flatten()).collect()
}

/// A file's rows: taken out earlier by position, by value, or now.
#[derive(Debug, Clone)]
struct Made {
    rows: u64,
    by_position: BTreeSet<u64>,
    by_value: BTreeSet<u64>,
    now: BTreeSet<u64>,
}

fn made() -> impl Strategy<Value = Made> {
    let some = || prop::collection::btree_set(0..12_u64, 0..6);
    (1..12_u64, some(), some(), some()).prop_map(|(rows, by_position, by_value, now)| {
        let within = |set: BTreeSet<u64>| set.into_iter().filter(|&at| at < rows).collect::<BTreeSet<_>>();
        let (by_position, by_value) = (within(by_position), within(by_value));
        let now = within(now).into_iter().filter(|at| !by_position.contains(at) && !by_value.contains(at)).collect();
        Made { rows, by_position, by_value, now }
    })
}

/// How position-delete files tell their data files.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scope {
    Named,
    ProvedByBounds,
    Shared,
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Named), Just(Scope::ProvedByBounds), Just(Scope::Shared)]
}

fn id(file: usize, at: u64) -> i64 {
    i64::try_from(file * 100).unwrap() + i64::try_from(at).unwrap()
}

/// The table that `files` describes, each file in a snapshot of its own, then all deletes of others.
async fn table_of(files: &[Made], version: FormatVersion, scope: Scope) -> TestTable {
    let mut table = TestTable::unpartitioned(version, schema());
    let mut data = Vec::new();
    for (file, made) in files.iter().enumerate() {
        let written = table.data(&batch(&(0..made.rows).map(|at| id(file, at)).collect::<Vec<_>>()));
        data.push(written.clone());
        table.commit(vec![written], vec![]).await;
    }
    let mut deletes = Vec::new();
    let mut shared = Vec::new();
    for (written, made) in data.iter().zip(files).filter(|(_, made)| !made.by_position.is_empty()) {
        let rows: Vec<_> = made.by_position.iter().map(|&at| (written.file_path(), i64::try_from(at).unwrap())).collect();
        if version == FormatVersion::V3 {
            let bitmap: RoaringTreemap = made.by_position.iter().copied().collect();
            deletes.push(table.vector(written, &vector_bytes(&bitmap), bitmap.len()));
        } else if scope == Scope::Shared {
            shared.extend(rows);
        } else {
            deletes.push(table.position_delete(written, &rows, scope == Scope::Named));
        }
    }
    if !shared.is_empty() {
        deletes.push(table.position_delete(&data[0], &shared, false));
    }
    let gone: Vec<i64> =
        files.iter().enumerate().flat_map(|(file, made)| made.by_value.iter().map(move |&at| id(file, at))).collect();
    if !gone.is_empty() {
        let only = schema_of(vec![column(1, "id", PrimitiveType::Long, true)]);
        let values = batch_of(&only, vec![Arc::new(Int64Array::from(gone))]);
        deletes.push(table.equality_delete(&data[0], vec![1], &values));
    }
    table.commit(vec![], deletes).await;
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Of each touched file exactly the rows that are alive go on, and nothing else is touched.
    #[test]
    fn what_goes_on_is_what_a_list_keeps(files in prop::collection::vec(made(), 1..4), v3 in any::<bool>(), scope in scope()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let version = if v3 { FormatVersion::V3 } else { FormatVersion::V2 };
            let table = table_of(&files, version, scope).await;
            let shared = scope == Scope::Shared && !v3 && files.iter().filter(|made| !made.by_position.is_empty()).count() > 1;
            let live = table.live().await;
            let touched = || files.iter().enumerate().filter(|(_, made)| !made.now.is_empty());
            let dead: BTreeMap<usize, RoaringTreemap> =
                touched().map(|(file, made)| (file, made.now.iter().copied().collect())).collect();
            let new = rewrite(&target(&table), &live, &dead, &[], &BTreeMap::new()).await.unwrap();

            let alive = |made: &Made, at: &u64| !made.by_position.contains(at) && !made.by_value.contains(at) && !made.now.contains(at);
            let mut expected = Vec::new();
            for (file, made) in touched() {
                for at in (0..made.rows).filter(|at| alive(made, at)) {
                    let row_id = live.data[file].first_row_id.map(|first| first + i64::try_from(at).unwrap());
                    expected.push((id(file, at), row_id, row_id.map(|_| live.data[file].sequence_number)));
                }
            }
            let mut found = Vec::new();
            for file in &new.added {
                let rows = read(file);
                let ids = longs(&rows, "id").into_iter().flatten();
                if v3 {
                    let lineage = longs(&rows, "_row_id").into_iter().zip(longs(&rows, "_last_updated_sequence_number"));
                    found.extend(ids.zip(lineage).map(|(id, (row_id, updated))| (id, row_id, updated)));
                } else {
                    found.extend(ids.map(|id| (id, None, None)));
                }
            }
            assert_eq!(found, expected);
            assert_eq!(new.carried_rows, u64::try_from(expected.len()).unwrap());
            assert_eq!(new.removed, dead.keys().copied().collect::<Vec<_>>());
            // Small files of one partition become one; without a row left there is none.
            assert_eq!(new.added.len(), usize::from(!expected.is_empty()));
            // Delete files of one data file go with it; one about several stays, and so do values.
            let alone = (0..).zip(files.iter().enumerate().filter(|(_, made)| !shared && !made.by_position.is_empty()));
            let void: Vec<usize> = alone.filter(|(_, (file, _))| dead.contains_key(file)).map(|(delete, _)| delete).collect();
            assert_eq!(new.void, void);
        });
    }
}

#[tokio::test]
async fn rows_go_on_under_the_schema_and_the_spec_of_today() {
    let then = schema_of(vec![
        column(1, "id", PrimitiveType::Int, true),
        column(2, "name", PrimitiveType::String, false),
        column(3, "gone", PrimitiveType::String, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(arrow::array::Int32Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("a"), None, Some("b")])),
        Arc::new(StringArray::from(vec!["x", "y", "z"])),
    ];
    let mut table = TestTable::unpartitioned(FormatVersion::V3, then.clone());
    let file = table.data(&batch_of(&then, columns));
    table.commit(vec![file], vec![]).await;
    let added = column(5, "added", PrimitiveType::Long, true).with_initial_default(Literal::long(42));
    let now = schema_of(vec![
        column(2, "title", PrimitiveType::String, false),
        column(1, "id", PrimitiveType::Long, true),
        column(4, "gone", PrimitiveType::String, false),
        added,
    ]);
    let field = UnboundPartitionField { source_id: 2, field_id: None, name: "title".into(), transform: Transform::Identity };
    let spec = UnboundPartitionSpec::builder().with_spec_id(1).add_partition_fields([field]).unwrap().build();
    table.alter(|builder| builder.add_current_schema(now)?.add_default_partition_spec(spec));

    let new = rewritten(&table, &[(0, &[2])]).await.unwrap();
    let partition = |file: &DataFile| file.partition()[0].clone();
    let [a, none] = &new.added[..] else { panic!("{new:?}") };
    assert_eq!((partition(a), partition(none)), (Some(Literal::string("a")), None));
    let rows = read(none);
    let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["title", "id", "gone", "added", "_row_id", "_last_updated_sequence_number"]);
    assert_eq!(
        (longs(&rows, "id"), longs(&rows, "added"), longs(&rows, "_row_id")),
        (vec![Some(2)], vec![Some(42)], vec![Some(1)])
    );
    assert!(rows.column_by_name("gone").unwrap().is_null(0), "a new column under an old name is not the old one");
}

#[tokio::test]
async fn rows_in_the_tables_order_stay_in_it_and_others_claim_none() {
    let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
    let field = SortField {
        source_id: 1,
        transform: Transform::Identity,
        direction: SortDirection::Ascending,
        null_order: NullOrder::First,
    };
    let order = SortOrder::builder().with_order_id(1).with_fields(vec![field]).build_unbound().unwrap();
    table.alter(|builder| builder.add_sort_order(order)?.set_default_sort_order(-1));
    let mut files = Vec::new();
    for (rows, sorted) in [(vec![1, 5, 9], true), (vec![2, 3, 4], true), (vec![8, 7], false), (vec![6, 0], false)] {
        let mut file = table.parquet(&batch(&rows));
        if sorted {
            file.sort_order_id(1);
        }
        files.push(file.build().unwrap());
    }
    table.commit(files, vec![]).await;
    let new = rewritten(&table, &[(0, &[0]), (1, &[1]), (2, &[0]), (3, &[0])]).await.unwrap();
    let found: Vec<_> = new.added.iter().map(|file| (ids(std::slice::from_ref(file)), file.sort_order_id())).collect();
    assert_eq!(found, [(vec![5, 9], Some(1)), (vec![2, 4], Some(1)), (vec![7, 0], None)]);
}

#[tokio::test]
async fn rows_that_carry_a_lineage_keep_it() {
    let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
    let long = |id, name| column(id, name, PrimitiveType::Long, false);
    let with_lineage = schema_of(vec![
        column(1, "id", PrimitiveType::Long, true),
        long(RESERVED_FIELD_ID_ROW_ID, RESERVED_COL_NAME_ROW_ID),
        long(RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(Int64Array::from(vec![Some(700), Some(800), None, None])),
        Arc::new(Int64Array::from(vec![Some(-7), None, Some(-8), None])),
    ];
    let first = table.data(&batch(&[0, 0]));
    let file = table.data(&batch_of(&with_lineage, columns));
    table.commit(vec![first, file], vec![]).await;
    let new = rewritten(&table, &[(1, &[])]).await.unwrap();
    let rows = read(&new.added[0]);
    assert_eq!(longs(&rows, "_row_id"), [Some(700), Some(800), Some(4), Some(5)]);
    assert_eq!(longs(&rows, "_last_updated_sequence_number"), [Some(-7), Some(1), Some(-8), Some(1)]);
}

#[tokio::test]
async fn files_of_the_batch_lose_their_dead_rows_and_wait_for_the_commit_to_number_the_rest() {
    let table = TestTable::unpartitioned(FormatVersion::V3, schema());
    let live = table.live().await;
    let mut writer = DataWriter::new(target(&table)).unwrap();
    let row_ids = Int64Array::from(vec![Some(70), None, None]);
    let places = writer.write(&batch(&[1, 2, 3]), Some(&row_ids)).await.unwrap();
    let own = writer.finish().await.unwrap();
    let dead = |rows: &[usize]| {
        let positions = rows.iter().map(|&row| u64::from(places[row].position)).collect();
        BTreeMap::from([(places[0].file, positions)])
    };
    // Names of files go on where those of the batch end.
    let attempt = WriteTarget { names: FileNames::new("job", Uuid::from_u128(1)), ..target(&table) };
    let none = rewrite(&attempt, &live, &BTreeMap::new(), &own, &BTreeMap::new()).await.unwrap();
    assert_eq!(none.own, [own[0].data_file.clone()], "an untouched file stays");
    let some = rewrite(&attempt, &live, &BTreeMap::new(), &own, &dead(&[1])).await.unwrap();
    let rows = read(&some.own[0]);
    assert_eq!(longs(&rows, "id"), [Some(1), Some(3)]);
    assert_eq!(longs(&rows, "_row_id"), [Some(70), None]);
    assert_eq!(longs(&rows, "_last_updated_sequence_number"), [None, None]);
    let all = rewrite(&attempt, &live, &BTreeMap::new(), &own, &dead(&[0, 1, 2])).await.unwrap();
    assert!(all.own.is_empty() && all.added.is_empty());
}

#[tokio::test]
async fn a_file_larger_than_a_chunk_keeps_its_positions_and_ids() {
    let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
    table.group_rows = 7_000;
    let rows: Vec<i64> = (0..30_000).collect();
    let file = table.data(&batch(&rows));
    table.commit(vec![file], vec![]).await;
    let dead: Vec<u64> = [0, 8_191, 8_192, 29_999].into_iter().chain(14_000..25_000).collect();
    let new = rewritten(&table, &[(0, &dead)]).await.unwrap();
    let kept: Vec<_> = rows.into_iter().filter(|&row| !dead.contains(&u64::try_from(row).unwrap())).collect();
    assert_eq!(ids(&new.added), kept);
    let row_ids: Vec<_> = new.added.iter().flat_map(|file| longs(&read(file), "_row_id")).collect();
    assert_eq!(row_ids, kept.into_iter().map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_to_take_out_must_be_alive() {
    let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
    let file = table.data(&batch(&[1, 2, 3]));
    table.commit(vec![file.clone()], vec![]).await;
    // One of the positions is past the end of the file: others may write such.
    let delete = table.position_delete(&file, &[(file.file_path(), 1), (file.file_path(), 9)], true);
    table.commit(vec![], vec![delete]).await;
    for positions in [&[1][..], &[3], &[0, 1]] {
        assert_eq!(rewritten(&table, &[(0, positions)]).await.unwrap_err().exit_code(), 101);
    }
    assert_eq!(ids(&rewritten(&table, &[(0, &[0])]).await.unwrap().added), [3]);
}
