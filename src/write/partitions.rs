//! Which partition a row belongs to, and the folder of a partition.
//!
//! Pure. Folders are named as Java's `PartitionSpec.partitionToPath` names them; no reader parses them.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::row::{RowConverter, SortField};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{Days, NaiveDate};
use hashbrown::HashTable;
use iceberg::arrow::arrow_primitive_to_literal;
use iceberg::spec::{
    Literal, PartitionSpec, PartitionSpecRef, PrimitiveLiteral, PrimitiveType, SchemaRef, Struct, TableMetadata, Transform, Type,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::write::transforms::Transforms;

/// Sorts rows by partition.
#[derive(Debug)]
pub(super) struct Partitioner {
    transforms: Transforms,
    /// Types of the partition values.
    types: Vec<Type>,
    converter: RowConverter,
}

/// The rows of one partition in one batch.
#[derive(Debug)]
pub(super) struct Group {
    /// Encoded partition values: equal exactly when the partitions are.
    pub(super) key: Box<[u8]>,
    /// Partition values.
    pub(super) partition: Struct,
    /// Rows of the batch, ascending.
    pub(super) rows: Vec<u32>,
}

impl Partitioner {
    /// For a spec that is not unpartitioned.
    pub(super) fn new(schema: &SchemaRef, spec: &PartitionSpecRef) -> Result<Self> {
        let fields: Vec<_> = spec.fields().iter().map(|field| (field.source_id, field.transform)).collect();
        let transforms = Transforms::new(schema, &fields)?;
        let unfit = |e: String| Error::setup(format!("partition spec {} cannot be used: {e}", spec.spec_id()), "");
        let kind = spec.partition_type(schema).map_err(|e| unfit(e.to_string()))?;
        let types: Vec<_> = kind.fields().iter().map(|field| field.field_type.as_ref().clone()).collect();
        let mut sort = Vec::with_capacity(types.len());
        for kind in &types {
            sort.push(SortField::new(iceberg::arrow::type_to_arrow_type(kind).map_err(|e| unfit(e.to_string()))?));
        }
        let converter = RowConverter::new(sort).map_err(|e| unfit(e.to_string()))?;
        Ok(Self { transforms, types, converter })
    }

    /// Groups the rows of a batch, in order of first appearance.
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<Vec<Group>> {
        let values = self.transforms.evaluate(batch)?;
        let keys = self.converter.convert_columns(&values).map_err(|e| Error::broken(format!("partition values: {e}")))?;
        let mut firsts: Vec<u32> = Vec::new();
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut table: HashTable<usize> = HashTable::new();
        let mut last = usize::MAX;
        for row in 0..batch.num_rows() {
            let (key, at) = (keys.row(row), u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
            // Rows of one partition tend to come together.
            if firsts.get(last).is_none_or(|&first| keys.row(first as usize) != key) {
                let hash = xxh3_64(key.data());
                last = match table.find(hash, |&group| keys.row(firsts[group] as usize) == key) {
                    Some(&group) => group,
                    None => {
                        let group = firsts.len();
                        let hasher = |&group: &usize| xxh3_64(keys.row(firsts[group] as usize).data());
                        table.insert_unique(hash, group, hasher);
                        firsts.push(at);
                        rows.push(Vec::new());
                        group
                    }
                };
            }
            rows[last].push(at);
        }
        let partitions = self.partitions(&values, &firsts)?;
        let groups = firsts.into_iter().zip(rows).zip(partitions);
        Ok(groups
            .map(|((first, rows), partition)| Group { key: keys.row(first as usize).data().into(), partition, rows })
            .collect())
    }

    /// Partition values of some rows.
    fn partitions(&self, values: &[ArrayRef], rows: &[u32]) -> Result<Vec<Struct>> {
        let rows = UInt32Array::from(rows.to_vec());
        let mut partitions: Vec<Vec<Option<Literal>>> = vec![Vec::with_capacity(values.len()); rows.len()];
        for (values, kind) in values.iter().zip(&self.types) {
            let taken = take(values, &rows, None).map_err(|e| Error::broken(format!("partition values: {e}")))?;
            let literals = arrow_primitive_to_literal(&taken, kind).map_err(|e| Error::broken(format!("partition values: {e}")))?;
            for (partition, literal) in partitions.iter_mut().zip(literals) {
                partition.push(literal);
            }
        }
        Ok(partitions.into_iter().map(Struct::from_iter).collect())
    }
}

/// Folder of a partition below the data root, ending in `/`; empty for an unpartitioned spec.
pub(super) fn folder(metadata: &TableMetadata, spec: &PartitionSpec, partition: &Struct) -> String {
    if spec.is_unpartitioned() {
        return String::new();
    }
    let mut folder = String::new();
    for (field, value) in spec.fields().iter().zip(partition.iter()) {
        let text = match (value, result_type(metadata, field.source_id, &field.transform)) {
            (Some(Literal::Primitive(value)), Some(kind)) => human(&field.transform, &kind, value),
            _ => "null".to_owned(),
        };
        folder.push_str(&segment(&escaped(&field.name), &escaped(&text)));
    }
    folder
}

/// One folder. A file system takes 255 bytes for a name, and one record with a longer value must not stop a job for ever: such a
/// value is cut and told apart by its hash. The manifest holds the value itself; readers never parse a path.
fn segment(name: &str, value: &str) -> String {
    const SEGMENT_BYTES_MAX: usize = 255;
    let whole = format!("{name}={value}");
    if whole.len() <= SEGMENT_BYTES_MAX {
        return whole + "/";
    }
    // What is escaped is ASCII, so any byte is a boundary.
    let cut: String = whole.chars().take(SEGMENT_BYTES_MAX - 20).filter(char::is_ascii).collect();
    format!("{cut}-{:016x}/", xxh3_64(whole.as_bytes()))
}

/// The source column of an old spec may only be in an old schema.
fn result_type(metadata: &TableMetadata, source_id: i32, transform: &Transform) -> Option<PrimitiveType> {
    let current = std::iter::once(metadata.current_schema());
    let field = current.chain(metadata.schemas_iter()).find_map(|schema| schema.field_by_id(source_id))?;
    transform.result_type(&field.field_type).ok()?.as_primitive_type().cloned()
}

/// A partition value as Java's `Transform.toHumanString` prints it.
fn human(transform: &Transform, kind: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    use PrimitiveLiteral as Value;
    match (transform, kind, value) {
        (Transform::Void, ..) => "null".to_owned(),
        (Transform::Year, _, Value::Int(years)) => format!("{:04}", 1970 + years),
        (Transform::Month, _, Value::Int(months)) => {
            format!("{:04}-{:02}", 1970 + months.div_euclid(12), months.rem_euclid(12) + 1)
        }
        (Transform::Hour, _, Value::Int(hours)) => format!("{}-{:02}", day(i64::from(hours.div_euclid(24))), hours.rem_euclid(24)),
        (_, PrimitiveType::Date, Value::Int(days)) | (Transform::Day, _, Value::Int(days)) => day(i64::from(*days)),
        (_, PrimitiveType::Time, Value::Long(micros)) => time(micros.saturating_mul(1_000)),
        (_, PrimitiveType::Timestamp, Value::Long(micros)) => timestamp(*micros, 1_000_000),
        (_, PrimitiveType::Timestamptz, Value::Long(micros)) => timestamp(*micros, 1_000_000) + "Z",
        (_, PrimitiveType::TimestampNs, Value::Long(nanos)) => timestamp(*nanos, 1_000_000_000),
        (_, PrimitiveType::TimestamptzNs, Value::Long(nanos)) => timestamp(*nanos, 1_000_000_000) + "Z",
        (_, PrimitiveType::Decimal { scale, .. }, Value::Int128(unscaled)) => decimal(*unscaled, *scale),
        (_, PrimitiveType::Uuid, Value::UInt128(bits)) => uuid::Uuid::from_u128(*bits).to_string(),
        (_, _, Value::Boolean(value)) => value.to_string(),
        (_, _, Value::Int(value)) => value.to_string(),
        (_, _, Value::Long(value)) => value.to_string(),
        (_, _, Value::Float(value)) => format!("{:?}", value.0),
        (_, _, Value::Double(value)) => format!("{:?}", value.0),
        (_, _, Value::String(text)) => text.clone(),
        (_, _, Value::Binary(bytes)) => BASE64_STANDARD.encode(bytes),
        (_, _, Value::Int128(value)) => value.to_string(),
        (_, _, Value::UInt128(value)) => value.to_string(),
        (_, _, Value::AboveMax | Value::BelowMin) => "null".to_owned(),
    }
}

fn day(days: i64) -> String {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("the epoch is a date");
    let away = Days::new(days.unsigned_abs());
    let date = if days < 0 { epoch.checked_sub_days(away) } else { epoch.checked_add_days(away) };
    // Far outside the calendar any name that is unique will do.
    date.map_or_else(|| days.to_string(), |date| date.format("%Y-%m-%d").to_string())
}

/// As Java's `LocalTime`: without seconds where they are zero, fractions in groups of three digits.
fn time(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = format!("{hour:02}:{minute:02}");
    match fraction {
        0 if second == 0 => clock,
        0 => format!("{clock}:{second:02}"),
        _ if fraction % 1_000_000 == 0 => format!("{clock}:{second:02}.{:03}", fraction / 1_000_000),
        _ if fraction % 1_000 == 0 => format!("{clock}:{second:02}.{:06}", fraction / 1_000),
        _ => format!("{clock}:{second:02}.{fraction:09}"),
    }
}

fn timestamp(value: i64, per_second: i64) -> String {
    let per_day = per_second * 86_400;
    let nanos = value.rem_euclid(per_day) * (1_000_000_000 / per_second);
    format!("{}T{}", day(value.div_euclid(per_day)), time(nanos))
}

fn decimal(unscaled: i128, scale: u32) -> String {
    let scale = scale as usize;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// As Java's `URLEncoder`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_gets_a_folder_that_a_disk_takes() {
        assert_eq!(segment("p", "x"), "p=x/");
        let (one, other) = (segment("p", &"b".repeat(800_000)), segment("p", &"b".repeat(800_001)));
        assert!(one.len() <= 256 && one.starts_with("p=bbb") && one.ends_with('/'), "{one}");
        assert_ne!(one, other);
        assert_eq!(segment("p", &"b".repeat(253)).len(), 256);
    }

    /// Expected texts are those of Java's `java.time` classes and `URLEncoder`.
    #[test]
    fn partition_values_are_printed_as_java_prints_them() {
        let check = |transform: Transform, kind: PrimitiveType, value: Literal, expected: &str| {
            let Literal::Primitive(value) = value else { panic!("primitive") };
            assert_eq!(escaped(&human(&transform, &kind, &value)), expected);
        };
        use PrimitiveType as P;
        use Transform as T;
        check(T::Day, P::Date, Literal::date(20_777), "2026-11-20");
        check(T::Day, P::Date, Literal::date(-1), "1969-12-31");
        check(T::Year, P::Int, Literal::int(56), "2026");
        check(T::Year, P::Int, Literal::int(-1), "1969");
        check(T::Month, P::Int, Literal::int(-1), "1969-12");
        check(T::Month, P::Int, Literal::int(682), "2026-11");
        check(T::Hour, P::Int, Literal::int(-1), "1969-12-31-23");
        check(T::Hour, P::Int, Literal::int(498_655), "2026-11-20-07");
        check(T::Bucket(16), P::Int, Literal::int(7), "7");
        check(T::Truncate(4), P::String, Literal::string("a b/ü+*"), "a+b%2F%C3%BC%2B*");
        check(T::Identity, P::Boolean, Literal::bool(true), "true");
        check(T::Identity, P::Time, Literal::time(37_800_000_000), "10%3A30");
        check(T::Identity, P::Time, Literal::time(37_800_000_500), "10%3A30%3A00.000500");
        check(T::Identity, P::Timestamp, Literal::timestamp(-1_000), "1969-12-31T23%3A59%3A59.999");
        check(T::Identity, P::Timestamptz, Literal::timestamptz(1_000_000), "1970-01-01T00%3A00%3A01Z");
        check(T::Identity, P::Decimal { precision: 9, scale: 2 }, Literal::decimal(-5), "-0.05");
        check(T::Identity, P::Decimal { precision: 9, scale: 0 }, Literal::decimal(12), "12");
        check(T::Identity, P::Binary, Literal::binary([0xFB, 0xFF]), "%2B%2F8%3D");
        check(T::Void, P::String, Literal::string("x"), "null");
    }
}
