//! Files of earlier schemas, of other engines, and of which only some rows are wanted.

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, Schema as ArrowSchema};
use iceberg::arrow::type_to_arrow_type;
use iceberg::spec::{
    DataContentType, DataFileBuilder, FormatVersion, ListType, MapType, NestedField, PrimitiveType, Schema, Struct, StructType,
    Type, UnboundPartitionField, UnboundPartitionSpec,
};
use proptest::prelude::*;

use super::*;
use crate::live::testing::{TestTable, batch_of, column, schema_of};

async fn read(table: &TestTable, names: &[&str], rows: Rows<'_>) -> RecordBatch {
    let live = table.live().await;
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let columns = Columns::named(live.metadata.current_schema(), &names).unwrap();
    let data = &live.data[0];
    FileReader::open(&live, data.file(), data.spec_id, &table.store).await.unwrap().take(&columns, rows).await.unwrap()
}

#[tokio::test]
async fn columns_are_found_by_id_through_renames_promotions_drops_and_additions() {
    let decimal = |precision| PrimitiveType::Decimal { precision, scale: 2 };
    let then = schema_of(vec![
        column(1, "id", PrimitiveType::Int, true),
        column(2, "name", PrimitiveType::String, false),
        column(3, "amount", PrimitiveType::Float, false),
        column(4, "price", decimal(9), false),
        column(5, "gone", PrimitiveType::String, false),
        column(6, "at", PrimitiveType::Timestamptz, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, 2])),
        Arc::new(StringArray::from(vec![Some("a"), None])),
        Arc::new(Float32Array::from(vec![1.5, 2.5])),
        Arc::new(Decimal128Array::from(vec![123, 456]).with_precision_and_scale(9, 2).unwrap()),
        Arc::new(StringArray::from(vec!["x", "y"])),
        Arc::new(TimestampMicrosecondArray::from(vec![7, 8]).with_timezone("+00:00")),
    ];
    let mut table = TestTable::unpartitioned(FormatVersion::V3, then.clone());
    let file = table.data(&batch_of(&then, columns));
    table.commit(vec![file], vec![]).await;
    let added = column(8, "added", PrimitiveType::Long, true).with_initial_default(Literal::long(42));
    let now = schema_of(vec![
        column(3, "amount", PrimitiveType::Double, false),
        // A new column that took a dropped one's name is not the old column.
        column(7, "gone", PrimitiveType::String, false),
        column(2, "title", PrimitiveType::String, false),
        column(1, "key", PrimitiveType::Long, true),
        column(4, "price", decimal(12), false),
        added,
        column(6, "at", PrimitiveType::Timestamptz, false),
    ]);
    table.alter(|builder| builder.add_current_schema(now.clone()));

    let names = ["amount", "gone", "title", "key", "price", "added", "at"];
    let expected: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![1.5, 2.5])),
        Arc::new(StringArray::from(vec![None::<&str>, None])),
        Arc::new(StringArray::from(vec![Some("a"), None])),
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(Decimal128Array::from(vec![123, 456]).with_precision_and_scale(12, 2).unwrap()),
        Arc::new(Int64Array::from(vec![42, 42])),
        Arc::new(TimestampMicrosecondArray::from(vec![7, 8]).with_timezone("+00:00")),
    ];
    assert_eq!(read(&table, &names, Rows::All).await, batch_of(&now, expected));
    // Only columns that the file does not have.
    let none = read(&table, &["gone", "added"], Rows::At(&[1])).await;
    assert_eq!((none.num_rows(), none.column(1).as_primitive::<Int64Type>().value(0)), (1, 42));
}

fn nested(then: bool) -> Schema {
    let long = if then { PrimitiveType::Int } else { PrimitiveType::Long };
    let point = |first: i32| {
        let mut fields = vec![
            Arc::new(column(first, if then { "a" } else { "b" }, long.clone(), true)),
            Arc::new(column(first + 1, if then { "b" } else { "a" }, PrimitiveType::String, false)),
        ];
        if !then {
            fields.reverse();
            fields.push(Arc::new(column(first + 2, "c", PrimitiveType::String, false)));
        }
        Type::Struct(StructType::new(fields))
    };
    let element = Arc::new(NestedField::list_element(20, point(21), false));
    let key = Arc::new(NestedField::map_key_element(30, Type::Primitive(PrimitiveType::String)));
    let value = Arc::new(NestedField::map_value_element(31, point(32), false));
    schema_of(vec![
        NestedField::optional(1, "one", point(10)),
        NestedField::optional(2, "many", Type::List(ListType { element_field: element })),
        NestedField::optional(3, "named", Type::Map(MapType { key_field: key, value_field: value })),
    ])
}

#[tokio::test]
async fn structs_lists_and_maps_evolve_by_id_too() {
    let then = nested(true);
    let arrow: Vec<DataType> =
        then.as_struct().fields().iter().map(|field| type_to_arrow_type(&field.field_type).unwrap()).collect();
    let point = |kind: &DataType| {
        let DataType::Struct(fields) = kind else { panic!("{kind}") };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("x"), None]))];
        StructArray::new(fields.clone(), columns, None)
    };
    let DataType::List(element) = &arrow[1] else { panic!() };
    let DataType::Map(entries, _) = &arrow[2] else { panic!() };
    let DataType::Struct(pair) = entries.data_type() else { panic!() };
    let offsets = OffsetBuffer::new(vec![0, 2, 2].into());
    let pairs = StructArray::new(
        pair.clone(),
        vec![Arc::new(StringArray::from(vec!["k", "l"])), Arc::new(point(pair[1].data_type()))],
        None,
    );
    let DataType::Struct(fields) = &arrow[0] else { panic!() };
    let one = StructArray::new(fields.clone(), point(&arrow[0]).columns().to_vec(), Some(NullBuffer::from(vec![true, false])));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(one),
        Arc::new(ListArray::new(Arc::clone(element), offsets.clone(), Arc::new(point(element.data_type())), None)),
        Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, None, false)),
    ];
    let mut table = TestTable::unpartitioned(FormatVersion::V2, nested(true));
    // The builder gives a new table's columns ids of its own; these are ours.
    table.alter(|builder| builder.add_current_schema(nested(true)));
    let file = table.data(&batch_of(&then, columns));
    table.commit(vec![file], vec![]).await;
    table.alter(|builder| builder.add_current_schema(nested(false)));

    let batch = read(&table, &["one", "many", "named"], Rows::All).await;
    let check = |array: &ArrayRef| {
        let point = array.as_struct();
        let names: Vec<_> = point.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let texts: Vec<_> = point.column(0).as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("x"), None]);
        assert_eq!(point.column(1).as_primitive::<Int64Type>().value(0), 1);
        assert_eq!(point.column(2).null_count(), 2);
    };
    check(batch.column(0));
    assert!(batch.column(0).is_null(1));
    check(batch.column(1).as_list::<i32>().values());
    assert_eq!(batch.column(1).as_list::<i32>().value_length(0), 2);
    check(batch.column(2).as_map().values());
}

/// A file as Hive or Spark leaves it on import: no field ids.
fn without_ids() -> RecordBatch {
    let schema = ArrowSchema::new(vec![
        Field::new("Old_Name", DataType::Utf8, true),
        Field::new("id", DataType::Int64, true),
        Field::new("unknown", DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(Int64Array::from(vec![5])), Arc::new(Int64Array::from(vec![6]))];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

#[tokio::test]
async fn files_without_ids_are_read_through_the_name_mapping_or_by_name() {
    let schema = schema_of(vec![column(1, "id", PrimitiveType::Long, false), column(2, "name", PrimitiveType::String, false)]);
    let mut table = TestTable::unpartitioned(FormatVersion::V2, schema);
    let file = table.data(&without_ids());
    table.commit(vec![file], vec![]).await;
    let batch = read(&table, &["id", "name"], Rows::All).await;
    assert_eq!((batch.column(0).as_primitive::<Int64Type>().value(0), batch.column(1).null_count()), (5, 1));

    let mapping = r#"[{"field-id": 1, "names": ["id"]}, {"field-id": 2, "names": ["name", "Old_Name"]}]"#;
    let property = ("schema.name-mapping.default".to_owned(), mapping.to_owned());
    table.alter(|builder| builder.set_properties(HashMap::from([property])));
    let batch = read(&table, &["id", "name"], Rows::All).await;
    assert_eq!((batch.column(0).as_primitive::<Int64Type>().value(0), batch.column(1).as_string::<i32>().value(0)), (5, "x"));
}

#[tokio::test]
async fn an_identity_partition_column_may_be_missing_from_the_file() {
    let schema = schema_of(vec![
        column(1, "id", PrimitiveType::Long, true),
        column(2, "day", PrimitiveType::Date, true),
        column(3, "kind", PrimitiveType::String, true),
    ]);
    let identity = |source_id, name: &str| UnboundPartitionField {
        source_id,
        field_id: None,
        name: name.into(),
        transform: Transform::Identity,
    };
    let spec = UnboundPartitionSpec::builder().add_partition_fields([identity(2, "day"), identity(3, "kind")]).unwrap().build();
    let mut table = TestTable::new(FormatVersion::V2, schema, spec);
    let only_id = schema_of(vec![column(1, "id", PrimitiveType::Long, true)]);
    let batch = batch_of(&only_id, vec![Arc::new(Int64Array::from(vec![1, 2]))]);
    let partition = Struct::from_iter([Some(Literal::date(19_000)), Some(Literal::string("x"))]);
    let file = table.parquet(&batch).partition(partition).build().unwrap();
    table.commit(vec![file], vec![]).await;
    let batch = read(&table, &["day", "kind"], Rows::All).await;
    assert_eq!(batch.column(0).as_ref(), &Date32Array::from(vec![19_000, 19_000]) as &dyn Array);
    assert_eq!(batch.column(1).as_ref(), &StringArray::from(vec!["x", "x"]) as &dyn Array);
}

#[test]
fn a_file_that_cannot_be_read_ends_the_run_with_its_name() {
    let file = |format, key: Option<Vec<u8>>| {
        let mut builder = DataFileBuilder::default();
        builder.content(DataContentType::Data).file_path("s3://b/x.orc".to_owned()).file_format(format).key_metadata(key);
        builder.record_count(1).file_size_in_bytes(1).build().unwrap()
    };
    for file in [file(DataFileFormat::Orc, None), file(DataFileFormat::Avro, None), file(DataFileFormat::Parquet, Some(vec![1]))] {
        let error = check_readable(&file).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("s3://b/x.orc"), "{error}");
    }
    assert!(check_readable(&file(DataFileFormat::Parquet, None)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn wanted_rows_are_those_of_the_whole_file(
        rows in 1..60_000_i64,
        group_rows in 1..70_000_usize,
        page_rows in 50..5_000_usize,
        wanted in proptest::collection::btree_set(0..60_000_u64, 0..8),
    ) {
        let schema = schema_of(vec![column(1, "id", PrimitiveType::Long, true)]);
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema.clone());
        (table.group_rows, table.page_rows) = (group_rows.max(500), page_rows);
        let file = table.data(&batch_of(&schema, vec![Arc::new(Int64Array::from_iter_values(0..rows))]));
        let wanted: Vec<u64> = wanted.into_iter().filter(|&row| row < u64::try_from(rows).unwrap()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let batch = runtime.block_on(async {
            table.commit(vec![file], vec![]).await;
            read(&table, &["id"], Rows::At(&wanted)).await
        });
        let found: Vec<_> = batch.column(0).as_primitive::<Int64Type>().values().iter().map(|&id| u64::try_from(id).unwrap()).collect();
        prop_assert_eq!(found, wanted);
    }
}
