//! The key index of a data file: whatever was damaged, it is refused or its answers are exact.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use parquet::basic::Type as Physical;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::schema::types::{SchemaDescriptor, Type as SchemaType};
use serde_json::{Value, json};

use super::input::Input;
use crate::index::{Builder, HEADER_KEY, Header, IndexSpec, Probes, blocks, candidates, find, values};

/// Where the index begins: after row groups that nobody reads here.
const OFFSET: u64 = 1_000;
const LOCATION: &str = "file:///t/one.parquet";

/// An id of two columns, and a version.
type Row = (Option<String>, i64, Option<i64>);
/// Position, ordinal of the id, version.
type Hit = (u32, u32, Option<i64>);

pub(super) fn law(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => damaged(&HUNDREDS, &mut input),
        1 => whole(&mut input),
        2 => hostile(&mut input),
        _ => damaged(&FEW, &mut input),
    }
}

/// The rows of a file, its index, and the header as its footer holds it.
struct File {
    rows: Vec<Row>,
    index: Vec<u8>,
    header: String,
}

/// A file, the ids that are asked of it, and the right answer.
struct Sample {
    file: File,
    asked: Vec<ArrayRef>,
    expected: Vec<Hit>,
}

static FEW: LazyLock<Sample> = LazyLock::new(|| sample((0..5).map(row).collect()));
static HUNDREDS: LazyLock<Sample> = LazyLock::new(|| sample((0..700).map(row).collect()));

fn sample(rows: Vec<Row>) -> Sample {
    let asked = asked(&rows);
    Sample { expected: expected(&rows, &asked), asked: ask(&asked), file: file(rows) }
}

/// Most rows have an id; every third id has two rows.
fn row(at: i64) -> Row {
    ((at % 7 != 6).then(|| format!("id-{}", at - i64::from(at % 3 == 2))), at / 3, (at % 5 != 4).then_some(at * 1_000 - 50))
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let field = |id, name: &str, kind| Arc::new(NestedField::new(id, name, Type::Primitive(kind), false));
    let fields =
        [field(1, "id", PrimitiveType::String), field(2, "part", PrimitiveType::Long), field(3, "version", PrimitiveType::Long)];
    Schema::builder().with_fields(fields).build().unwrap()
});

static SPEC: LazyLock<IndexSpec> =
    LazyLock::new(|| IndexSpec::new(&SCHEMA, &["id".to_owned(), "part".to_owned()], &["version".to_owned()]).unwrap());

fn columns(rows: &[Row]) -> [ArrayRef; 3] {
    [
        Arc::new(rows.iter().map(|row| row.0.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
    ]
}

fn file(rows: Vec<Row>) -> File {
    let arrow = Arc::new(schema_to_arrow_schema(&SCHEMA).unwrap());
    let batch = RecordBatch::try_new(Arc::clone(&arrow), columns(&rows).to_vec()).unwrap();
    let mut builder = Builder::new(&SPEC, LOCATION, &arrow).unwrap();
    builder.add(&batch).unwrap();
    let (index, header) = builder.finish(OFFSET, &[group(rows.len())]);
    File { rows, index, header }
}

/// A row group of one column, of as many rows.
fn group(rows: usize) -> RowGroupMetaData {
    static DESCRIPTOR: LazyLock<Arc<SchemaDescriptor>> = LazyLock::new(|| {
        let leaf = SchemaType::primitive_type_builder("id", Physical::BYTE_ARRAY).build().unwrap();
        let root = SchemaType::group_type_builder("t").with_fields(vec![Arc::new(leaf)]).build().unwrap();
        Arc::new(SchemaDescriptor::new(Arc::new(root)))
    });
    let column = ColumnChunkMetaData::builder(DESCRIPTOR.column(0)).set_data_page_offset(4).set_total_compressed_size(900);
    RowGroupMetaData::builder(Arc::clone(&DESCRIPTOR))
        .set_num_rows(i64::try_from(rows).unwrap())
        .set_column_metadata(vec![column.build().unwrap()])
        .build()
        .unwrap()
}

fn footer(rows: usize, header: &str) -> ParquetMetaData {
    let group = group(rows);
    let entries = Some(vec![KeyValue::new(HEADER_KEY.to_owned(), header.to_owned())]);
    let metadata = FileMetaData::new(2, i64::try_from(rows).unwrap(), None, entries, group.schema_descr_ptr(), None);
    ParquetMetaDataBuilder::new(metadata).set_row_groups(vec![group]).build()
}

/// The answer of an index: none where it is refused.
fn answer(footer: &ParquetMetaData, index: &[u8], asked: &[ArrayRef]) -> Option<Vec<Hit>> {
    let bytes = |range: Range<u64>| {
        let at = |offset: u64| usize::try_from(offset.checked_sub(OFFSET)?).ok();
        index.get(at(range.start)?..at(range.end)?)
    };
    let header = Header::of_file(LOCATION, footer, OFFSET + u64::try_from(index.len()).unwrap(), &SPEC.id)?;
    let probes = Probes::new(asked, 0).unwrap();
    let candidates = candidates(&header, bytes(header.directory.range())?, &probes)?;
    let blocks: Option<Vec<_>> =
        blocks(&header, &candidates).into_iter().map(|(block, range)| Some((block, bytes(range)?))).collect();
    let found = find(&header, &candidates, &blocks?)?;
    let version = header.column(&SPEC.versions[0])?;
    let values = values(&header, version, &found, &DataType::Int64).unwrap();
    let values = values.as_primitive::<Int64Type>();
    Some(found.iter().zip(values).map(|(row, version)| (row.position, row.key, version)).collect())
}

/// The same by looking at every row.
fn expected(rows: &[Row], asked: &[(String, i64)]) -> Vec<Hit> {
    let ordinals: BTreeMap<_, u32> = asked.iter().zip(0..).map(|(id, ordinal)| ((id.0.as_str(), id.1), ordinal)).collect();
    let hit = |(position, row): (u32, &Row)| Some((position, *ordinals.get(&(row.0.as_deref()?, row.1))?, row.2));
    (0..).zip(rows).filter_map(hit).collect()
}

fn ask(asked: &[(String, i64)]) -> Vec<ArrayRef> {
    vec![
        Arc::new(StringArray::from_iter_values(asked.iter().map(|id| &id.0))),
        Arc::new(asked.iter().map(|id| Some(id.1)).collect::<Int64Array>()),
    ]
}

/// Ids of the file, and some that are like them.
fn asked(rows: &[Row]) -> Vec<(String, i64)> {
    let held = rows.iter().filter_map(|row| Some((row.0.clone()?, row.1)));
    let near = rows.iter().filter_map(|row| Some((row.0.clone()?, row.1 + 1)));
    let mut asked: Vec<_> = held.chain(near).collect();
    asked.sort();
    asked.dedup();
    asked
}

/// Bytes of the index or of its header are written over, taken out or put in.
fn damaged(sample: &Sample, input: &mut Input<'_>) {
    let file = &sample.file;
    let (mut index, mut header) = (file.index.clone(), file.header.clone().into_bytes());
    let mut edits = 0;
    while !input.is_empty() && edits < 8 {
        let kind = input.byte();
        let bytes = if kind & 1 == 0 { &mut header } else { &mut index };
        let at = usize::from(input.word()) % (bytes.len() + 1);
        match kind >> 1 & 3 {
            0 if at < bytes.len() => bytes[at] = input.byte(),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, input.byte()),
            _ => bytes.truncate(at.max(1)),
        }
        edits += 1;
    }
    let Ok(header) = String::from_utf8(header) else { return };
    match answer(&footer(file.rows.len(), &header), &index, &sample.asked) {
        Some(found) => assert_eq!(found, sample.expected, "{header}"),
        None => assert!(header != file.header || index != file.index, "an undamaged index was refused"),
    }
}

/// Any rows: their index is believed and exact, unless a version stands for null in it.
fn whole(input: &mut Input<'_>) {
    let mut rows = Vec::new();
    while !input.is_empty() && rows.len() < 600 {
        let some = input.byte();
        let repeats = if some & 12 == 12 { 1 + usize::from(input.byte()) } else { 1 };
        let id = (some & 3 != 0).then(|| input.text());
        let (part, version) = (input.number(), (some & 16 == 0).then(|| input.number()));
        rows.extend((0_i64..).take(repeats).map(|at| (id.clone(), part.wrapping_add(at), version.map(|v| v.wrapping_sub(at)))));
    }
    let file = file(rows);
    let mut asked = asked_of_any(&file.rows);
    asked.truncate(400);
    let found = answer(&footer(file.rows.len(), &file.header), &file.index, &ask(&asked));
    let known = |row: &Row| row.2 != Some(i64::MIN);
    let spread = file.rows.iter().filter_map(|row| row.2);
    let spread = spread.clone().max().unwrap_or(0).abs_diff(spread.min().unwrap_or(0));
    if found.is_some() || file.rows.iter().all(known) && spread < u64::MAX {
        assert_eq!(found, Some(expected(&file.rows, &asked)), "{:?}", file.rows);
    }
}

fn asked_of_any(rows: &[Row]) -> Vec<(String, i64)> {
    let mut asked: Vec<_> = rows.iter().filter_map(|row| Some((row.0.clone()?, row.1))).collect();
    asked.push(("absent".to_owned(), 0));
    asked.sort();
    asked.dedup();
    asked
}

/// As if an enemy had written it: bytes and numbers of the header are changed, and every checksum is made right. Nothing panics.
fn hostile(input: &mut Input<'_>) {
    let sample: &Sample = if input.byte().is_multiple_of(2) { &FEW } else { &HUNDREDS };
    let file = &sample.file;
    let mut header: Value = serde_json::from_str(&file.header[8..]).unwrap();
    for (key, numbers) in [("entries", 1 << 10), ("bucket_bits", 34), ("row_bytes", 6)] {
        if input.byte().is_multiple_of(4) {
            header[key] = (u64::from(input.word()) % numbers).into();
        }
    }
    if input.byte().is_multiple_of(2) {
        header["columns"][0]["bytes"] = (input.byte() % 10).into();
        header["columns"][0]["step"] = input.number().unsigned_abs().into();
        header["columns"][0]["min"] = input.number().into();
    }
    if input.byte().is_multiple_of(2) {
        fit_lengths(&mut header);
    }
    let mut index = file.index.clone();
    index.resize(index.len().max(usize::from(input.word() % 4_096)), 0);
    while !input.is_empty() {
        let at = usize::from(input.word()) % index.len();
        index[at] = input.byte();
    }
    let sum = make_sums_right(&header, &mut index);
    header["directory_crc32"] = sum.into();
    let _any_answer = answer(&footer(file.rows.len(), &Header::sealed(&header.to_string())), &index, &sample.asked);
}

/// Lengths of blocks and directory as the other numbers of the header want them.
fn fit_lengths(header: &mut Value) {
    let number = |value: &Value| value.as_u64().unwrap();
    let (entries, bits) = (number(&header["entries"]), number(&header["bucket_bits"]));
    let blocks = entries * width(header) + entries.div_ceil(256) * 4;
    let directory = (entries + (1 << (bits % 12))).div_ceil(64) * 8 + entries * 2;
    header["blocks"] = json!({"offset": OFFSET, "length": blocks});
    header["directory"] = json!({"offset": OFFSET + blocks, "length": directory});
}

fn width(header: &Value) -> u64 {
    8 + header["row_bytes"].as_u64().unwrap() + header["columns"][0]["bytes"].as_u64().unwrap()
}

/// Writes the checksum of each block, and answers with that of the directory.
fn make_sums_right(header: &Value, index: &mut [u8]) -> u32 {
    let part = |of: &Value| {
        let start = usize::try_from(of["offset"].as_u64()? - OFFSET).ok()?;
        Some(start..start + usize::try_from(of["length"].as_u64()?).ok()?)
    };
    if let Some(blocks) = part(&header["blocks"]).and_then(|range| index.get_mut(range)) {
        for block in blocks.chunks_mut(usize::try_from(256 * width(header) + 4).unwrap()) {
            if let Some((entries, sum)) = block.split_last_chunk_mut::<4>() {
                *sum = crc32fast::hash(entries).to_le_bytes();
            }
        }
    }
    part(&header["directory"]).and_then(|range| index.get(range)).map_or(0, crc32fast::hash)
}
