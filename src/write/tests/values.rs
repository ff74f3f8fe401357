//! Metrics against a fold over the values that went in.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryBuilder, Float32Array, Float64Array, Int32Array,
    Int64Array, LargeBinaryArray, ListArray, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Schema as ArrowSchema};
use iceberg::spec::{
    DataFile, Datum, FormatVersion, ListType, MapType, NestedField, PrimitiveLiteral, PrimitiveType, StructType, Type,
};
use parquet::basic::LogicalType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use super::{Layout, Table, field, path};
use crate::write::DataWriter;

/// Writes the columns, as batches of `size` rows, into one file of several row groups.
async fn write(table: &Table, columns: Vec<ArrayRef>, size: usize) -> DataFile {
    let schema = iceberg::arrow::schema_to_arrow_schema(table.metadata.current_schema()).unwrap();
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let mut writer = DataWriter::new(table.target(1 << 30)).unwrap();
    for start in (0..batch.num_rows()).step_by(size) {
        writer.write(&batch.slice(start, size.min(batch.num_rows() - start)), None).await.unwrap();
    }
    let mut files = writer.finish().await.unwrap();
    assert_eq!(files.len(), 1);
    files.pop().unwrap().data_file
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(future)
}

const GROUPS: (&str, &str) = ("write.parquet.row-group-size-bytes", "1");

/// A column of the test: its type, its array, and its values as Iceberg literals (NaN included).
struct Column {
    kind: PrimitiveType,
    array: ArrayRef,
    values: Vec<Option<PrimitiveLiteral>>,
}

/// Columns of every primitive type over the same numbers.
fn columns(numbers: &[Option<i64>]) -> Vec<Column> {
    use PrimitiveLiteral as L;
    use PrimitiveType as P;
    let small = |n: i64| i32::try_from(n % 100_000).unwrap();
    let float = |n: i64| if n % 5 == 0 { f64::NAN } else { small(n) as f64 / 8.0 };
    let single = |n: i64| if n % 5 == 0 { f32::NAN } else { small(n) as f32 / 8.0 };
    let bytes = |n: i64| n.to_be_bytes();
    let wide = |n: i64| i128::from(n) * 1_000_000_007;
    let map = |f: &dyn Fn(i64) -> L| numbers.iter().map(|n| n.map(f)).collect::<Vec<_>>();
    let each = || numbers.iter().copied();
    let fixed = |width: usize| {
        let mut builder = FixedSizeBinaryBuilder::new(i32::try_from(width).unwrap());
        for n in each() {
            match n {
                Some(n) => builder.append_value(bytes(n).repeat(width / 8)).unwrap(),
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    };
    let longs = || each().collect::<Int64Array>();
    let micros = || each().collect::<TimestampMicrosecondArray>();
    let nanos = || each().collect::<TimestampNanosecondArray>();
    let decimal = |precision: u8, f: &dyn Fn(i64) -> i128| -> ArrayRef {
        let array = each().map(|n| n.map(f)).collect::<Decimal128Array>();
        Arc::new(array.with_precision_and_scale(precision, 2).unwrap())
    };
    let p = |precision| P::Decimal { precision, scale: 2 };
    let column = |kind, array: ArrayRef, values| Column { kind, array, values };
    let doubles: ArrayRef = Arc::new(each().map(|n| n.map(float)).collect::<Float64Array>());
    let floats: ArrayRef = Arc::new(each().map(|n| n.map(single)).collect::<Float32Array>());
    let dates: ArrayRef = Arc::new(each().map(|n| n.map(small)).collect::<Date32Array>());
    let times: ArrayRef = Arc::new(each().map(|n| n.map(|n| n.rem_euclid(86_400_000_000))).collect::<Time64MicrosecondArray>());
    vec![
        column(P::Boolean, Arc::new(each().map(|n| n.map(|n| n > 0)).collect::<BooleanArray>()), map(&|n| L::Boolean(n > 0))),
        column(P::Int, Arc::new(each().map(|n| n.map(small)).collect::<Int32Array>()), map(&|n| L::Int(small(n)))),
        column(P::Long, Arc::new(longs()), map(&L::Long)),
        column(P::Float, floats, map(&|n| L::Float(single(n).into()))),
        column(P::Double, doubles, map(&|n| L::Double(float(n).into()))),
        column(P::Date, dates, map(&|n| L::Int(small(n)))),
        column(P::Time, times, map(&|n| L::Long(n.rem_euclid(86_400_000_000)))),
        column(P::Timestamp, Arc::new(micros()), map(&L::Long)),
        column(P::Timestamptz, Arc::new(micros().with_timezone("+00:00")), map(&L::Long)),
        column(P::TimestampNs, Arc::new(nanos()), map(&L::Long)),
        column(P::TimestamptzNs, Arc::new(nanos().with_timezone("+00:00")), map(&L::Long)),
        column(p(9), decimal(9, &|n| small(n).into()), map(&|n| L::Int128(small(n).into()))),
        column(p(18), decimal(18, &|n| (n % 1_000_000_000_000).into()), map(&|n| L::Int128((n % 1_000_000_000_000).into()))),
        column(p(38), decimal(38, &wide), map(&|n| L::Int128(wide(n)))),
        column(P::Uuid, fixed(16), map(&|n| L::UInt128(u128::from_be_bytes(bytes(n).repeat(2).try_into().unwrap())))),
        column(P::Fixed(40), fixed(40), map(&|n| L::Binary(bytes(n).repeat(5)))),
    ]
}

/// Independent of `Datum`'s own order: floats by their total order, decimals as integers, bytes unsigned.
fn less(a: &PrimitiveLiteral, b: &PrimitiveLiteral) -> bool {
    use PrimitiveLiteral as L;
    match (a, b) {
        (L::Boolean(a), L::Boolean(b)) => a < b,
        (L::Int(a), L::Int(b)) => a < b,
        (L::Long(a), L::Long(b)) => a < b,
        (L::Float(a), L::Float(b)) => a.0 < b.0,
        (L::Double(a), L::Double(b)) => a.0 < b.0,
        (L::Int128(a), L::Int128(b)) => a < b,
        (L::UInt128(a), L::UInt128(b)) => a < b,
        (L::Binary(a), L::Binary(b)) => a < b,
        (L::String(a), L::String(b)) => a.as_bytes() < b.as_bytes(),
        _ => panic!("{a:?} and {b:?} are of different types"),
    }
}

fn equal(a: Option<&PrimitiveLiteral>, b: Option<&PrimitiveLiteral>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => !less(a, b) && !less(b, a),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_type_has_its_counts_and_exact_bounds(
        numbers in prop::collection::vec(prop::option::weighted(0.8, prop::num::i64::ANY), 1..40),
        size in 1_usize..40,
    ) {
        let numbers: Vec<_> = numbers.into_iter().map(|n| n.map(|n| n >> (n & 31))).collect();
        let columns = columns(&numbers);
        let fields = columns.iter().zip(1..).map(|(column, id)| field(id, &format!("c{id}"), column.kind.clone(), false));
        let layout = Layout { properties: &[GROUPS], version: Some(FormatVersion::V3), ..Layout::default() };
        let table = Table::new(fields.collect(), &layout);
        let file = block_on(write(&table, columns.iter().map(|column| Arc::clone(&column.array)).collect(), size));
        // A slice of nulls only has no bytes yet, so its row group goes on.
        prop_assert!(file.split_offsets().unwrap().len() <= numbers.len().div_ceil(size));
        for (column, id) in columns.iter().zip(1..) {
            let is_nan = |value: &&PrimitiveLiteral| value.is_nan();
            let values: Vec<_> = column.values.iter().flatten().filter(|value| !is_nan(value)).collect();
            let nans = column.values.iter().flatten().filter(is_nan).count() as u64;
            let (mut lowest, mut highest) = (None, None);
            for value in values {
                if lowest.is_none_or(|lowest| less(value, lowest)) {
                    lowest = Some(value);
                }
                if highest.is_none_or(|highest| less(highest, value)) {
                    highest = Some(value);
                }
            }
            let kind = &column.kind;
            prop_assert!(file.value_counts()[&id] == numbers.len() as u64, "{kind}");
            prop_assert!(file.null_value_counts()[&id] == numbers.iter().filter(|n| n.is_none()).count() as u64, "{kind}");
            let is_float = matches!(kind, PrimitiveType::Float | PrimitiveType::Double);
            prop_assert!(file.nan_value_counts().get(&id) == is_float.then_some(&nans), "{kind}");
            prop_assert!(file.column_sizes()[&id] > 0);
            let (lower, upper) = (file.lower_bounds().get(&id), file.upper_bounds().get(&id));
            prop_assert!(equal(lower.map(Datum::literal), lowest), "{kind}: {lower:?} is not {lowest:?}");
            prop_assert!(equal(upper.map(Datum::literal), highest), "{kind}: {upper:?} is not {highest:?}");
            for bound in lower.into_iter().chain(upper) {
                prop_assert!(bound.data_type() == kind);
                let bytes = bound.to_bytes().unwrap();
                prop_assert!(Datum::try_from_bytes(&bytes, kind.clone()).unwrap().literal() == bound.literal());
            }
        }
    }
}

/// Strings in which truncation has something to go wrong on: wide characters, the edges of code planes, long runs.
fn strings() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::strategy::Strategy;
    let edges = prop::sample::select(vec!['a', 'z', 'ÿ', '\u{7F}', '\u{7FF}', '\u{D7FF}', '\u{E000}', '\u{FFFF}', '\u{10FFFF}']);
    let character = proptest::prop_oneof![edges, any::<char>()];
    let run = (character, 1_usize..40).prop_map(|(character, times)| character.to_string().repeat(times));
    prop::collection::vec(run, 0..6).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn truncated_bounds_enclose_every_value(
        texts in prop::collection::vec(strings(), 1..8),
        binaries in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![0_u8, 1, 127, 254, 255]), 0..100), 1..8),
        length in 1_usize..40,
        size in 1_usize..9,
    ) {
        let rows = texts.len().min(binaries.len());
        let (texts, binaries) = (&texts[..rows], &binaries[..rows]);
        let mode = format!("truncate({length})");
        let properties = &[GROUPS, ("write.metadata.metrics.default", mode.as_str())];
        let fields = vec![field(1, "text", PrimitiveType::String, true), field(2, "bytes", PrimitiveType::Binary, true)];
        let table = Table::new(fields, &Layout { properties, ..Layout::default() });
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from_iter_values(texts)), Arc::new(LargeBinaryArray::from_iter_values(binaries))];
        let file = block_on(write(&table, columns, size));
        let bound = |bounds: &HashMap<i32, Datum>, id: i32| bounds.get(&id).map(|bound| bound.to_bytes().unwrap().into_vec());
        let inputs = [
            (1, texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>()),
            (2, binaries.iter().map(Vec::as_slice).collect()),
        ];
        for (id, values) in inputs {
            let length_of = |value: &[u8]| if id == 1 { str::from_utf8(value).unwrap().chars().count() } else { value.len() };
            let lower = bound(file.lower_bounds(), id).expect("a lower bound always exists");
            prop_assert!(values.iter().all(|value| lower.as_slice() <= *value));
            prop_assert!(length_of(&lower) <= length);
            prop_assert!(values.iter().any(|value| value.starts_with(&lower)), "as tight as its length allows");
            let highest = values.iter().max().unwrap();
            let Some(upper) = bound(file.upper_bounds(), id) else {
                let last = |unit: &[u8]| if id == 1 { unit == "\u{10FFFF}".as_bytes() } else { unit == [255] };
                let width = if id == 1 { 4 } else { 1 };
                prop_assert!(highest.chunks(width).take(length).all(last), "nothing shorter lies above {highest:?}");
                continue;
            };
            prop_assert!(values.iter().all(|value| *value <= upper.as_slice()));
            prop_assert!(length_of(&upper) <= length);
            if length_of(highest) <= length {
                prop_assert!(upper == *highest, "a value that fits is its own bound");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_decide_what_is_kept() {
    let properties = &[
        ("write.metadata.metrics.default", "counts"),
        ("write.metadata.metrics.column.none", "none"),
        ("write.metadata.metrics.column.full", "FULL"),
        ("write.metadata.metrics.column.cut", "truncate(3)"),
        ("write.metadata.metrics.column.gone", "full"),
    ];
    let names = ["counts", "none", "full", "cut"];
    let fields = names.iter().zip(1..).map(|(name, id)| field(id, name, PrimitiveType::String, true)).collect();
    let table = Table::new(fields, &Layout { properties, ..Layout::default() });
    let long = "x".repeat(1000);
    let column: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
    let file = write(&table, vec![column; 4], 1).await;
    let sorted = |mut ids: Vec<i32>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(file.column_sizes().keys().copied().collect()), [1, 3, 4]);
    assert_eq!(sorted(file.value_counts().keys().copied().collect()), [1, 3, 4]);
    assert_eq!(file.lower_bounds(), &HashMap::from([(3, Datum::string(&long)), (4, Datum::string("xxx"))]));
    assert_eq!(file.upper_bounds(), &HashMap::from([(3, Datum::string(&long)), (4, Datum::string("xxy"))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_columns_of_a_wide_table_have_bounds_but_for_sorted_ones() {
    use iceberg::spec::{NullOrder, SortDirection, Transform};
    let fields = (1..=5).map(|id| field(id, &format!("c{id}"), PrimitiveType::Long, true)).collect();
    let sort = &[("c4", Transform::Identity, SortDirection::Ascending, NullOrder::First)];
    let properties = &[("write.metadata.metrics.max-inferred-column-defaults", "2")];
    let table = Table::new(fields, &Layout { sort, properties, ..Layout::default() });
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let file = write(&table, vec![column; 5], 1).await;
    let mut bounded: Vec<_> = file.lower_bounds().keys().copied().collect();
    bounded.sort_unstable();
    assert_eq!(bounded, [1, 2, 4]);
}

/// `s: struct<f: float, t: string>, l: list<string>, m: map<string, int>`.
fn nested_fields() -> Vec<NestedField> {
    let struct_type = StructType::new(vec![
        Arc::new(field(4, "f", PrimitiveType::Float, false)),
        Arc::new(field(5, "t", PrimitiveType::String, false)),
    ]);
    let list = ListType::new(Arc::new(NestedField::list_element(6, Type::Primitive(PrimitiveType::String), false)));
    let map = MapType::new(
        Arc::new(NestedField::map_key_element(7, Type::Primitive(PrimitiveType::String))),
        Arc::new(NestedField::map_value_element(8, Type::Primitive(PrimitiveType::Int), false)),
    );
    vec![
        NestedField::optional(1, "s", Type::Struct(struct_type)),
        NestedField::optional(2, "l", Type::List(list)),
        NestedField::optional(3, "m", Type::Map(map)),
    ]
}

fn nested_columns(schema: &ArrowSchema) -> Vec<ArrayRef> {
    let DataType::Struct(children) = schema.field(0).data_type() else { panic!("a struct") };
    // The second row's struct is null; what lies below it counts for nothing.
    let floats = Float32Array::from(vec![Some(1.5), Some(f32::NAN), Some(f32::NAN), None]);
    let texts = StringArray::from(vec![Some("b"), Some("a"), Some("c"), None]);
    let valid = NullBuffer::from(vec![true, false, true, true]);
    let structs = StructArray::new(children.clone(), vec![Arc::new(floats), Arc::new(texts)], Some(valid));
    let DataType::List(element) = schema.field(1).data_type() else { panic!("a list") };
    let offsets = OffsetBuffer::from_lengths([2, 0, 1, 0]);
    let lists = ListArray::new(Arc::clone(element), offsets, Arc::new(StringArray::from(vec!["x", "y", "z"])), None);
    let DataType::Map(entries, _) = schema.field(2).data_type() else { panic!("a map") };
    let DataType::Struct(pair) = entries.data_type() else { panic!("a map of pairs") };
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), Int32Array::builder(0))
        .with_keys_field(Arc::clone(&pair[0]))
        .with_values_field(Arc::clone(&pair[1]));
    for row in 0..4 {
        if row > 0 {
            maps.keys().append_value("k");
            maps.values().append_value(row);
        }
        maps.append(true).unwrap();
    }
    vec![Arc::new(structs), Arc::new(lists), Arc::new(maps.finish())]
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_of_structs_have_metrics_and_those_of_lists_and_maps_only_sizes() {
    let table = Table::new(nested_fields(), &Layout::default());
    let schema = iceberg::arrow::schema_to_arrow_schema(table.metadata.current_schema()).unwrap();
    let file = write(&table, nested_columns(&schema), 4).await;
    let mut sizes: Vec<_> = file.column_sizes().keys().copied().collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 5, 6, 7, 8]);
    assert_eq!(file.value_counts(), &HashMap::from([(4, 4), (5, 4)]));
    assert_eq!(file.null_value_counts(), &HashMap::from([(4, 2), (5, 2)]));
    assert_eq!(file.nan_value_counts(), &HashMap::from([(4, 1)]));
    assert_eq!(file.lower_bounds(), &HashMap::from([(4, Datum::float(1.5)), (5, Datum::string("b"))]));
    assert_eq!(file.upper_bounds(), &HashMap::from([(4, Datum::float(1.5)), (5, Datum::string("c"))]));
    let footer = SerializedFileReader::new(std::fs::File::open(path(file.file_path())).unwrap()).unwrap();
    let leaves = footer.metadata().file_metadata().schema_descr().columns();
    let named: Vec<_> = leaves.iter().map(|leaf| (leaf.path().string(), leaf.self_type().get_basic_info().id())).collect();
    let expected = [("s.f", 4), ("s.t", 5), ("l.list.element", 6), ("m.key_value.key", 7), ("m.key_value.value", 8)];
    assert!(named.iter().map(|(path, id)| (path.as_str(), *id)).eq(expected), "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uuids_are_uuids_in_parquet_and_blooms_are_written_where_asked_for() {
    let properties = &[("write.parquet.bloom-filter-enabled.column.u", "true"), ("write.parquet.compression-codec", "snappy")];
    let fields = vec![field(1, "u", PrimitiveType::Uuid, true), field(2, "f", PrimitiveType::Fixed(16), true)];
    let table = Table::new(fields, &Layout { properties, ..Layout::default() });
    let mut builder = FixedSizeBinaryBuilder::new(16);
    builder.append_value([7; 16]).unwrap();
    let column: ArrayRef = Arc::new(builder.finish());
    let file = write(&table, vec![column; 2], 1).await;
    let footer = SerializedFileReader::new(std::fs::File::open(path(file.file_path())).unwrap()).unwrap();
    let group = footer.metadata().row_group(0);
    assert_eq!(group.column(0).column_descr().logical_type_ref(), Some(&LogicalType::Uuid));
    assert_eq!(group.column(1).column_descr().logical_type_ref(), None);
    assert!(group.column(0).bloom_filter_offset().is_some());
    assert!(group.column(1).bloom_filter_offset().is_none());
    assert_eq!(group.column(0).compression(), parquet::basic::Compression::SNAPPY);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_wide_values_stay_near_their_size() {
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    let properties = &[("write.parquet.compression-codec", "uncompressed"), ("write.parquet.page-size-bytes", "1048576")];
    let table = Table::new(vec![field(1, "t", PrimitiveType::String, true)], &Layout { properties, ..Layout::default() });
    let texts = (0..400).map(|n| format!("{n:0>1000}").repeat(100));
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let file = write(&table, vec![column], 200).await;
    let disk = std::fs::File::open(path(file.file_path())).unwrap();
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.try_parse(&disk).unwrap();
    let footer = reader.finish().unwrap();
    let pages = footer.offset_index().unwrap()[0][0].page_locations();
    let largest = pages.iter().map(|page| page.compressed_page_size).max().unwrap();
    assert!(largest < 3 << 20, "a page of {largest} bytes");
    let chunk = footer.row_group(0).column(0);
    let dictionary = chunk.data_page_offset() - chunk.dictionary_page_offset().unwrap();
    assert!(dictionary < 4 << 20, "a dictionary of {dictionary} bytes");
}
