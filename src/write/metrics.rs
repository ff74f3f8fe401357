//! Column metrics of a data file: counts and bounds, as Java Iceberg keeps them.
//!
//! Pure. Bounds come from the statistics in the Parquet footer, which cost nothing more; only NaNs are counted in the data. A
//! lower bound is never above, an upper bound never below any value that is neither null nor NaN; where that cannot be said
//! there is no bound. Columns inside lists and maps have sizes only, as in Java.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float32Type, Float64Type};
use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType, Schema, StructType, TableMetadata, Transform, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::error::{Error, Result};

const DEFAULT_LENGTH: usize = 16;
const INFERRED_COLUMNS_MAX: i64 = 100;

/// How much is kept about a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    None,
    /// Counts only.
    Counts,
    /// Counts, and bounds of at most this many characters (strings) or bytes (binary).
    Truncate(usize),
    /// Counts and whole bounds.
    Full,
}

/// The mode of every column of a table.
#[derive(Debug, Clone)]
pub(super) struct Modes {
    default: Mode,
    columns: HashMap<i32, Mode>,
}

impl Modes {
    /// As `write.metadata.metrics.*` says for the current schema and default sort order.
    pub(super) fn of(metadata: &TableMetadata) -> Self {
        let (properties, schema) = (metadata.properties(), metadata.current_schema());
        let mut columns = HashMap::new();
        let default = match properties.get("write.metadata.metrics.default") {
            Some(text) => mode(text).unwrap_or(Mode::Truncate(DEFAULT_LENGTH)),
            None => {
                let limit = properties.get("write.metadata.metrics.max-inferred-column-defaults");
                let limit = limit.and_then(|text| text.parse().ok()).unwrap_or(INFERRED_COLUMNS_MAX);
                inferred(schema, limit, &mut columns)
            }
        };
        // A sorted file is only worth its sorting where readers see the bounds.
        for field in &metadata.default_sort_order().fields {
            if field.transform.preserves_order() && field.transform != Transform::Void {
                let mode = columns.get(&field.source_id).copied().unwrap_or(default);
                let mode = if matches!(mode, Mode::None | Mode::Counts) { Mode::Truncate(DEFAULT_LENGTH) } else { mode };
                columns.insert(field.source_id, mode);
            }
        }
        for (key, text) in properties {
            let Some(column) = key.strip_prefix("write.metadata.metrics.column.") else { continue };
            if let Some(field_id) = schema.field_id_by_name(column) {
                columns.insert(field_id, mode(text).unwrap_or(default));
            }
        }
        Self { default, columns }
    }

    /// The mode of one column.
    pub(super) fn get(&self, field_id: i32) -> Mode {
        self.columns.get(&field_id).copied().unwrap_or(self.default)
    }

    /// Length of the longest bound that any column wants; none: without limit.
    pub(super) fn length_max(&self) -> Option<usize> {
        let mut longest = 0;
        for mode in self.columns.values().chain([&self.default]) {
            match mode {
                Mode::Full => return None,
                Mode::Truncate(length) => longest = longest.max(*length),
                Mode::None | Mode::Counts => (),
            }
        }
        Some(longest)
    }
}

/// Java takes what it cannot read as the default, so a typing error in a property never stops a writer.
fn mode(text: &str) -> Option<Mode> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "none" => Some(Mode::None),
        "counts" => Some(Mode::Counts),
        "full" => Some(Mode::Full),
        _ => {
            let length = text.strip_prefix("truncate(")?.strip_suffix(')')?.trim().parse().ok()?;
            (length > 0).then_some(Mode::Truncate(length))
        }
    }
}

/// Without a property every column of a narrow table has bounds, and the first ones of a wide table.
fn inferred(schema: &Schema, limit: i64, columns: &mut HashMap<i32, Mode>) -> Mode {
    let truncate = Mode::Truncate(DEFAULT_LENGTH);
    let Ok(limit) = usize::try_from(limit) else { return truncate };
    let mut primitives = Vec::new();
    primitive_ids(schema.as_struct(), &mut primitives);
    if primitives.len() <= limit {
        return truncate;
    }
    columns.extend(primitives.into_iter().take(limit).map(|id| (id, truncate)));
    Mode::None
}

/// Ids of primitive columns, those of each level before those nested in it.
fn primitive_ids(parent: &StructType, ids: &mut Vec<i32>) {
    ids.extend(parent.fields().iter().filter(|field| field.field_type.is_primitive()).map(|field| field.id));
    for field in parent.fields() {
        match field.field_type.as_ref() {
            Type::Struct(child) => primitive_ids(child, ids),
            Type::List(list) => nested_ids(list.element_field.id, &list.element_field.field_type, ids),
            Type::Map(map) => {
                nested_ids(map.key_field.id, &map.key_field.field_type, ids);
                nested_ids(map.value_field.id, &map.value_field.field_type, ids);
            }
            Type::Primitive(_) => (),
        }
    }
}

fn nested_ids(id: i32, kind: &Type, ids: &mut Vec<i32>) {
    match kind {
        Type::Primitive(_) => ids.push(id),
        Type::Struct(child) => primitive_ids(child, ids),
        Type::List(list) => nested_ids(list.element_field.id, &list.element_field.field_type, ids),
        Type::Map(map) => {
            nested_ids(map.key_field.id, &map.key_field.field_type, ids);
            nested_ids(map.value_field.id, &map.value_field.field_type, ids);
        }
    }
}

/// Metrics by field id, as a manifest holds them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Metrics {
    pub(super) column_sizes: HashMap<i32, u64>,
    pub(super) value_counts: HashMap<i32, u64>,
    pub(super) null_value_counts: HashMap<i32, u64>,
    pub(super) lower_bounds: HashMap<i32, Datum>,
    pub(super) upper_bounds: HashMap<i32, Datum>,
}

/// Those of a written file.
pub(super) fn metrics(schema: &Schema, modes: &Modes, footer: &ParquetMetaData) -> Result<Metrics> {
    let mut metrics = Metrics::default();
    for (index, column) in footer.file_metadata().schema_descr().columns().iter().enumerate() {
        let info = column.self_type().get_basic_info();
        // Columns that are not the table's own (row lineage) have no metrics.
        let Some(field) = info.has_id().then(|| schema.field_by_id(info.id())).flatten() else { continue };
        let Type::Primitive(kind) = field.field_type.as_ref() else { continue };
        let chunks: Vec<_> = footer.row_groups().iter().map(|group| group.column(index)).collect();
        add(&mut metrics, field.id, kind, modes.get(field.id), column, &chunks)?;
    }
    Ok(metrics)
}

fn add(
    metrics: &mut Metrics,
    id: i32,
    kind: &PrimitiveType,
    mode: Mode,
    column: &ColumnDescriptor,
    chunks: &[&ColumnChunkMetaData],
) -> Result<()> {
    if mode == Mode::None {
        return Ok(());
    }
    metrics.column_sizes.insert(id, chunks.iter().map(|chunk| count(chunk.compressed_size())).sum());
    if column.max_rep_level() > 0 {
        return Ok(());
    }
    metrics.value_counts.insert(id, chunks.iter().map(|chunk| count(chunk.num_values())).sum());
    let nulls: Option<u64> = chunks.iter().map(|chunk| chunk.statistics()?.null_count_opt()).sum();
    metrics.null_value_counts.extend(nulls.map(|nulls| (id, nulls)));
    let length = match mode {
        Mode::None | Mode::Counts => return Ok(()),
        Mode::Truncate(length) => length,
        Mode::Full => usize::MAX,
    };
    if let Some(lower) = bound(kind, chunks, Side::Lower)? {
        metrics.lower_bounds.insert(id, truncate_lower(lower, length));
    }
    if let Some(upper) = bound(kind, chunks, Side::Upper)?
        && let Some(upper) = truncate_upper(upper, length)
    {
        metrics.upper_bounds.insert(id, upper);
    }
    Ok(())
}

fn count(number: i64) -> u64 {
    u64::try_from(number).expect("a footer of ours counts from zero")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Lower,
    Upper,
}

/// The outermost bound of all chunks; none where there is no value, or where a chunk with values says nothing of them.
fn bound(kind: &PrimitiveType, chunks: &[&ColumnChunkMetaData], side: Side) -> Result<Option<Datum>> {
    let mut outermost: Option<Datum> = None;
    for chunk in chunks {
        let Some(statistics) = chunk.statistics() else { return Ok(None) };
        let (bytes, exact) = match side {
            Side::Lower => (statistics.min_bytes_opt(), statistics.min_is_exact()),
            Side::Upper => (statistics.max_bytes_opt(), statistics.max_is_exact()),
        };
        let Some(bytes) = bytes else {
            // Without a value, or with NaNs only, there is nothing to bound.
            let empty = statistics.null_count_opt().is_some_and(|nulls| nulls == count(chunk.num_values()));
            if empty || matches!(kind, PrimitiveType::Float | PrimitiveType::Double) {
                continue;
            }
            return Ok(None);
        };
        // Only strings and binaries may be bounded by something that is not a value of their type.
        if !exact && !matches!(kind, PrimitiveType::String | PrimitiveType::Binary) {
            return Ok(None);
        }
        let datum = datum(kind, statistics, bytes)?;
        let further = outermost.as_ref().is_none_or(|held| match side {
            Side::Lower => datum < *held,
            Side::Upper => datum > *held,
        });
        if further {
            outermost = Some(datum);
        }
    }
    Ok(outermost)
}

/// Parquet's plain encoding is Iceberg's single-value encoding but for small decimals, which Iceberg keeps big-endian.
fn datum(kind: &PrimitiveType, statistics: &Statistics, bytes: &[u8]) -> Result<Datum> {
    let number = matches!(statistics, Statistics::Int32(_) | Statistics::Int64(_));
    let datum = if number && matches!(kind, PrimitiveType::Decimal { .. }) {
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        Datum::try_from_bytes(&reversed, kind.clone())
    } else {
        Datum::try_from_bytes(bytes, kind.clone())
    };
    datum.map_err(|e| Error::broken(format!("a bound of type {kind} in a footer of ours: {e}")))
}

/// A bound not above `lower`, of at most `length` characters or bytes.
fn truncate_lower(lower: Datum, length: usize) -> Datum {
    match (lower.data_type(), lower.literal()) {
        (PrimitiveType::String, PrimitiveLiteral::String(text)) => match text.char_indices().nth(length) {
            Some((end, _)) => Datum::string(&text[..end]),
            None => lower,
        },
        (PrimitiveType::Binary, PrimitiveLiteral::Binary(bytes)) if bytes.len() > length => {
            Datum::binary(bytes[..length].iter().copied())
        }
        _ => lower,
    }
}

/// A bound not below `upper`, of at most `length` characters or bytes; none where every shorter one lies below.
fn truncate_upper(upper: Datum, length: usize) -> Option<Datum> {
    match (upper.data_type(), upper.literal()) {
        (PrimitiveType::String, PrimitiveLiteral::String(text)) => match text.char_indices().nth(length) {
            Some((end, _)) => next_string(&text[..end]).map(Datum::string),
            None => Some(upper),
        },
        (PrimitiveType::Binary, PrimitiveLiteral::Binary(bytes)) if bytes.len() > length => {
            next_bytes(&bytes[..length]).map(Datum::binary)
        }
        _ => Some(upper),
    }
}

/// The least string above every string that begins with `prefix`.
fn next_string(prefix: &str) -> Option<String> {
    for (at, last) in prefix.char_indices().rev() {
        // The code points between these two are surrogates, which no string holds.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            let mut text = prefix[..at].to_owned();
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// The least bytes above all that begin with `prefix`.
fn next_bytes(prefix: &[u8]) -> Option<Vec<u8>> {
    let at = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut bytes = prefix[..=at].to_vec();
    bytes[at] += 1;
    Some(bytes)
}

/// Counts the NaNs of float columns, those nested in structs included.
#[derive(Debug, Clone)]
pub(super) struct NanCounts {
    columns: Vec<FloatColumn>,
}

#[derive(Debug, Clone)]
struct FloatColumn {
    field_id: i32,
    /// Position in each level, outermost first.
    path: Vec<usize>,
    nans: u64,
}

impl NanCounts {
    /// For the columns of a schema whose mode keeps counts.
    pub(super) fn new(schema: &Schema, modes: &Modes) -> Self {
        let mut columns = Vec::new();
        float_columns(schema.as_struct(), &mut Vec::new(), &mut columns);
        columns.retain(|column| modes.get(column.field_id) != Mode::None);
        Self { columns }
    }

    /// Counts those of a batch in the schema's order.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        for column in &mut self.columns {
            column.nans += nans(batch, &column.path);
        }
    }

    /// By field id.
    pub(super) fn into_map(self) -> HashMap<i32, u64> {
        self.columns.into_iter().map(|column| (column.field_id, column.nans)).collect()
    }
}

fn float_columns(parent: &StructType, path: &mut Vec<usize>, columns: &mut Vec<FloatColumn>) {
    for (index, field) in parent.fields().iter().enumerate() {
        path.push(index);
        match field.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => {
                columns.push(FloatColumn { field_id: field.id, path: path.clone(), nans: 0 });
            }
            Type::Struct(child) => float_columns(child, path, columns),
            _ => (),
        }
        path.pop();
    }
}

fn nans(batch: &RecordBatch, path: &[usize]) -> u64 {
    let mut array: &ArrayRef = batch.column(path[0]);
    let mut valid = array.nulls().cloned();
    for &index in &path[1..] {
        array = array.as_struct().column(index);
        valid = NullBuffer::union(valid.as_ref(), array.nulls());
    }
    let is_valid = |row: usize| valid.as_ref().is_none_or(|valid| valid.is_valid(row));
    let nans = if let Some(floats) = array.as_primitive_opt::<Float32Type>() {
        floats.values().iter().enumerate().filter(|(row, value)| value.is_nan() && is_valid(*row)).count()
    } else {
        let doubles = array.as_primitive::<Float64Type>();
        doubles.values().iter().enumerate().filter(|(row, value)| value.is_nan() && is_valid(*row)).count()
    };
    u64::try_from(nans).expect("a count fits u64")
}
