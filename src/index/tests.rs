//! The index against a dictionary, and everything that must make it not believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};
use proptest::prelude::*;

use super::*;

/// Two blocks or three.
const PART_BYTES: usize = 15_000;

/// A row: id, event time, version.
type Row = (Option<String>, i64, Option<i64>);

fn schema() -> Schema {
    let field = |id, name: &str, kind, required| Arc::new(NestedField::new(id, name, Type::Primitive(kind), required));
    let fields = [
        field(1, "id", PrimitiveType::String, false),
        field(2, "at", PrimitiveType::Timestamptz, true),
        field(3, "version", PrimitiveType::Long, false),
        field(4, "region", PrimitiveType::Int, false),
        field(5, "score", PrimitiveType::Double, false),
        field(6, "day", PrimitiveType::Date, false),
    ];
    Schema::builder().with_fields(fields).build().unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let texts: StringArray = rows.iter().map(|row| row.0.as_deref()).collect();
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1)).with_timezone("+00:00");
    let versions: Int64Array = rows.iter().map(|row| row.2).collect();
    let none = |kind| arrow::array::new_null_array(kind, rows.len());
    let schema = schema_to_arrow_schema(&schema()).unwrap();
    let rest: Vec<ArrayRef> = (3..6).map(|at| none(schema.field(at).data_type())).collect();
    let columns = [vec![Arc::new(texts) as ArrayRef, Arc::new(times), Arc::new(versions)], rest].concat();
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// A Parquet file with an index, made by the arrow crate's own writer.
struct File {
    bytes: Vec<u8>,
    footer: ParquetMetaData,
}

fn file_of(spec: &IndexSpec, batches: &[RecordBatch]) -> File {
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).unwrap();
    let mut builder = Builder::new(spec, "file:///t/data/one.parquet", &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        writer.flush().unwrap();
        builder.add(batch).unwrap();
    }
    let offset = u64::try_from(writer.bytes_written()).unwrap();
    let (index, header) = builder.finish(offset, writer.flushed_row_groups());
    writer.write_all(&index).unwrap();
    writer.append_key_value_metadata(KeyValue::new(HEADER_KEY.to_owned(), header));
    let bytes = writer.into_inner().unwrap();
    let footer = footer(&bytes);
    File { bytes, footer }
}

fn footer(bytes: &[u8]) -> ParquetMetaData {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
    reader.metadata().as_ref().clone()
}

impl File {
    fn header(&self, spec: &IndexSpec) -> Option<Header> {
        Header::of_file("s3://elsewhere/one.parquet", &self.footer, u64::try_from(self.bytes.len()).unwrap(), &spec.id)
    }

    fn slice(&self, range: std::ops::Range<u64>) -> &[u8] {
        &self.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }

    /// Positions and keys of the ids, with their values in version column `column`.
    fn find(&self, spec: &IndexSpec, ids: &[ArrayRef], column: usize) -> Option<Vec<(u32, u32, Option<i64>)>> {
        let header = self.header(spec)?;
        let probes = Probes::new(ids, 0).unwrap();
        let candidates = candidates(&header, self.slice(header.directory.range()), &probes)?;
        let mut found = Vec::new();
        for part in parts(&header, &candidates, PART_BYTES) {
            let blocks = blocks(&header, part);
            let bytes = blocks.last().unwrap().1.end - blocks[0].1.start;
            assert!(bytes <= PART_BYTES.try_into().unwrap(), "{bytes}");
            let blocks: Vec<_> = blocks.into_iter().map(|(block, range)| (block, self.slice(range))).collect();
            found.extend(find(&header, part, &blocks)?);
        }
        found.sort_unstable_by_key(|row| (row.position, row.key));
        let values = values(&header, column, &found, &arrow::datatypes::DataType::Int64).unwrap();
        let values = values.as_primitive::<Int64Type>();
        Some(found.iter().zip(values).map(|(row, value)| (row.position, row.key, value)).collect())
    }
}

fn texts(ids: &[String]) -> Vec<ArrayRef> {
    vec![Arc::new(StringArray::from_iter_values(ids))]
}

fn spec() -> IndexSpec {
    IndexSpec::new(&schema(), &names(&["id"]), &names(&["at", "version"])).unwrap()
}

proptest! {
    #[test]
    fn every_row_of_an_id_is_found_and_no_other(
        rows in proptest::collection::vec((proptest::option::weighted(0.95, 0..400_u32), any::<i32>(), proptest::option::of(any::<i64>())), 1..900),
        extreme in proptest::option::of(prop_oneof![Just(i64::MIN), Just(i64::MAX)]),
        asked in proptest::collection::btree_set(0..500_u32, 0..200),
        step in prop_oneof![Just(1_i64), Just(1_000), Just(7)],
        cut in 0..900_usize,
    ) {
        let rows: Vec<Row> =
            rows.iter().map(|(id, at, version)| (id.map(|id| format!("article-{id}")), i64::from(*at) * step, *version)).collect();
        let mut rows = rows;
        if extreme.is_some() {
            rows[0].2 = extreme;
        }
        let (head, tail) = rows.split_at(cut.min(rows.len()));
        let file = file_of(&spec(), &[batch(head), batch(tail)]);
        let asked: Vec<String> = asked.iter().map(|id| format!("article-{id}")).collect();
        for (column, value) in [(0, (|row: &Row| Some(row.1)) as fn(&Row) -> Option<i64>), (1, |row| row.2)] {
            let mut expected = Vec::new();
            for (position, row) in (0..).zip(&rows) {
                if let Some(key) = row.0.as_ref().and_then(|id| asked.iter().position(|other| other == id)) {
                    expected.push((position, u32::try_from(key).unwrap(), value(row)));
                }
            }
            // A column with the value that stands for null is left out, and so is one whose values do not fit: then it is read instead.
            let spread = rows.iter().filter_map(value);
            let (least, most) = (spread.clone().min().unwrap_or(0), spread.max().unwrap_or(0));
            let fits = least != i64::MIN && most.abs_diff(least) < u64::MAX;
            prop_assert_eq!(file.header(&spec()).unwrap().column(&spec().versions[column]).is_some(), fits);
            if fits {
                prop_assert_eq!(file.find(&spec(), &texts(&asked), column), Some(expected));
            }
        }
    }

    #[test]
    fn a_damaged_byte_is_never_believed(rows in 1..2_000_u32, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let rows: Vec<Row> = (0..rows).map(|row| (Some(format!("{row}")), i64::from(row), None)).collect();
        let mut file = file_of(&spec(), &[batch(&rows)]);
        let ids: Vec<String> = rows.iter().map(|row| row.0.clone().unwrap()).collect();
        prop_assert_eq!(file.find(&spec(), &texts(&ids), 0).map(|found| found.len()), Some(rows.len()));
        let header = file.header(&spec()).unwrap();
        let start = usize::try_from(header.blocks.offset).unwrap();
        let length = usize::try_from(header.blocks.length + header.directory.length).unwrap();
        file.bytes[start + at.index(length)] ^= 1 << bit;
        prop_assert_eq!(file.find(&spec(), &texts(&ids), 0), None);
    }
}

/// As the README says.
#[test]
fn a_row_takes_17_to_25_bytes() {
    const ROWS: u32 = 100_000;
    let bytes_a_row = |step: i64, versions: i64| {
        let rows: Vec<Row> =
            (0..ROWS).map(|row| (Some(row.to_string()), i64::from(row) * 300 * step, Some(i64::from(row) % versions))).collect();
        let header = file_of(&spec(), &[batch(&rows)]).header(&spec()).unwrap();
        (header.blocks.length + header.directory.length) as f64 / f64::from(ROWS)
    };
    // Event times of a year by the second or by the microsecond; few versions of an id, or a wide number.
    let found = [bytes_a_row(1_000_000, 200), bytes_a_row(1_000_001, 200), bytes_a_row(1_000_001, 1 << 40)];
    assert!(found.iter().all(|bytes| (17.0..=25.0).contains(bytes)) && found.is_sorted(), "{found:?}");
}

#[test]
fn a_table_without_a_row_has_an_index_that_finds_nothing() {
    let file = file_of(&spec(), &[batch(&[])]);
    assert_eq!(file.find(&spec(), &texts(&names(&["a"])), 0), Some(vec![]));
}

#[test]
fn a_header_in_which_a_digit_flipped_is_not_believed() {
    let rows = [(Some("a".to_owned()), 1_000, Some(2)), (Some("b".to_owned()), 3_000, None)];
    let file = file_of(&spec(), &[batch(&rows)]);
    let metadata = file.footer.file_metadata();
    let held = metadata.key_value_metadata().unwrap().iter().find(|entry| entry.key == HEADER_KEY).unwrap();
    let text = held.value.clone().unwrap();
    let with = |text: String| {
        let keys = Some(vec![KeyValue::new(HEADER_KEY.to_owned(), text)]);
        let metadata = FileMetaData::new(metadata.version(), metadata.num_rows(), None, keys, metadata.schema_descr_ptr(), None);
        let footer = ParquetMetaDataBuilder::new(metadata).set_row_groups(file.footer.row_groups().to_vec()).build();
        Header::of_file("one.parquet", &footer, u64::MAX, &spec().id)
    };
    assert!(with(text.clone()).is_some());
    assert!(text.contains("\"min\":1000"), "{text}");
    assert_eq!(with(text.replacen("\"min\":1000", "\"min\":1001", 1)), None);
    assert_eq!(with(text[8..].to_owned()), None, "without its checksum");
}

#[test]
fn an_index_is_believed_only_for_its_own_id_columns() {
    let rows = [(Some("a".to_owned()), 1, Some(2)), (Some("b".to_owned()), 3, None)];
    let file = file_of(&spec(), &[batch(&rows)]);
    assert!(file.header(&spec()).is_some());
    for other in [&["version"][..], &["id", "version"], &["region"]] {
        let other = IndexSpec::new(&schema(), &names(other), &[]).unwrap();
        assert_eq!(file.header(&other), None);
    }
}

#[test]
fn an_index_copied_into_another_file_is_not_believed() {
    let rows = [(Some("a".to_owned()), 1, Some(2)), (Some("b".to_owned()), 3, None)];
    let file = file_of(&spec(), &[batch(&rows)]);
    let bytes = u64::try_from(file.bytes.len()).unwrap();
    assert!(Header::of_file("/t/one.parquet", &file.footer, bytes, &spec().id).is_some());
    assert_eq!(Header::of_file("/t/two.parquet", &file.footer, bytes, &spec().id), None);
    // One that keeps the name, but has other row groups.
    let other = file_of(&spec(), &[batch(&rows[..1]), batch(&rows[1..])]);
    let held = file.footer.file_metadata().key_value_metadata().unwrap().iter().find(|entry| entry.key == HEADER_KEY).unwrap();
    let metadata = other.footer.file_metadata();
    let keys = Some(vec![held.clone()]);
    let metadata = FileMetaData::new(metadata.version(), metadata.num_rows(), None, keys, metadata.schema_descr_ptr(), None);
    let copied = ParquetMetaDataBuilder::new(metadata).set_row_groups(other.footer.row_groups().to_vec()).build();
    assert_eq!(Header::of_file("/t/one.parquet", &copied, u64::MAX, &spec().id), None);
}

#[test]
fn a_file_that_was_cut_short_has_no_index() {
    let rows = [(Some("a".to_owned()), 1, Some(2))];
    let file = file_of(&spec(), &[batch(&rows)]);
    let header = file.header(&spec()).unwrap();
    let end = header.directory.offset + header.directory.length;
    assert_eq!(Header::of_file("one.parquet", &file.footer, end - 1, &spec().id), None);
    assert_eq!(Header::of_file("one.parquet", &file.footer, end, &spec().id), Some(header));
}

#[test]
fn a_column_promoted_from_int_to_long_keeps_its_index() {
    let rows = batch(&[(Some("a".to_owned()), 1, Some(2)), (Some("b".to_owned()), 3, None)]);
    let mut columns = rows.columns().to_vec();
    columns[3] = Arc::new(Int32Array::from(vec![7, -8]));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let int = IndexSpec::new(&schema(), &names(&["region"]), &names(&["version"])).unwrap();
    let file = file_of(&int, &[rows]);
    let mut long = int.clone();
    long.id = vec![Arc::new(NestedField::new(4, "renamed", Type::Primitive(PrimitiveType::Long), false))];
    let ids: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![-8, 9]))];
    assert_eq!(file.find(&long, &ids, 0), Some(vec![(1, 0, None)]));
}

#[test]
fn parts_of_an_id_do_not_run_into_each_other() {
    let pairs = |rows: &[(&str, &str)]| -> Vec<ArrayRef> {
        let column = |pick: fn(&(&str, &str)) -> String| Arc::new(StringArray::from_iter_values(rows.iter().map(pick))) as ArrayRef;
        vec![column(|row| row.0.to_owned()), column(|row| row.1.to_owned())]
    };
    let mut hashes = BTreeMap::new();
    hash::each_hash(&pairs(&[("ab", "c"), ("a", "bc"), ("", "abc")]), |row, hash| {
        hashes.insert(hash, row);
    })
    .unwrap();
    assert_eq!(hashes.len(), 3);
}

/// The hash is stored: a change of it needs another version of the format. The values are those of Python's `xxhash` over bytes
/// packed by hand.
#[test]
fn the_hash_is_stable() {
    let hash_of = |columns: &[ArrayRef]| {
        let mut hashes = Vec::new();
        hash::each_hash(columns, |_, hash| hashes.push(format!("{hash:032x}"))).unwrap();
        hashes.join(" ")
    };
    insta::assert_snapshot!(hash_of(&texts(&names(&["", "a", "\u{e9}"]))), @"99aa06d3014798d86001c324468d497f a96faf705af16834e6c632b61e964e1f 90326970ab18793af7940a006cf10cb3");
    let numbers: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, -1])),
        Arc::new(Date32Array::from(vec![0, 19_000])),
        Arc::new(StringArray::from(vec!["x", ""])),
    ];
    insta::assert_snapshot!(hash_of(&numbers), @"a49ca08afdb20fd2b8e8a90792c37652 9eb6de823a68c4a758f6bc3b5a4c37d0");
}

#[test]
fn floats_are_no_indexed_ids() {
    assert!(IndexSpec::new(&schema(), &names(&["score"]), &[]).is_none());
    assert!(IndexSpec::new(&schema(), &names(&["id", "score"]), &[]).is_none());
}
