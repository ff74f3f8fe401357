//! The hash of an id: the same on every machine and in every version of this program, since it is stored.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use iceberg::spec::{PrimitiveType, Type};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};

/// Whether columns of this type can be part of an indexed id. Floats cannot: their equality is not that of their bytes.
pub(super) fn is_hashed(kind: &Type) -> bool {
    matches!(kind, Type::Primitive(kind) if !matches!(kind, PrimitiveType::Float | PrimitiveType::Double))
}

/// Calls `each` with the row and the hash of every row whose id has no null.
///
/// The hash is XXH3-128 (unseeded) over the columns' canonical bytes: integers, dates and times as 64 bits, decimals as 128 bits,
/// little-endian; booleans as one byte; text and binary as they are, with their length (64 bits) before them where the id has
/// several columns. So a column promoted from int to long keeps its hashes.
pub(super) fn each_hash(columns: &[ArrayRef], mut each: impl FnMut(usize, u128)) -> Result<()> {
    if let [column] = columns
        && let Some(texts) = column.as_string_opt::<i32>()
    {
        for row in 0..texts.len() {
            if texts.is_valid(row) {
                each(row, xxh3_128(texts.value(row).as_bytes()));
            }
        }
        return Ok(());
    }
    let parts = columns.iter().map(canonical).collect::<Result<Vec<_>>>()?;
    let mut bytes = Vec::new();
    for row in 0..columns.first().map_or(0, Array::len) {
        if parts.iter().any(|part| part.is_null(row)) {
            continue;
        }
        bytes.clear();
        for part in &parts {
            push(part, row, parts.len() > 1, &mut bytes);
        }
        each(row, xxh3_128(&bytes));
    }
    Ok(())
}

/// A column in one of the few types that `push` knows.
fn canonical(column: &ArrayRef) -> Result<ArrayRef> {
    let failed = |e| Error::broken(format!("id column: {e}"));
    match column.data_type() {
        // Dates do not cast to 64 bits directly.
        DataType::Date32 => cast(&cast(column, &DataType::Int32).map_err(failed)?, &DataType::Int64).map_err(failed),
        DataType::Time64(_) | DataType::Timestamp(..) | DataType::Int32 => cast(column, &DataType::Int64).map_err(failed),
        DataType::Int64
        | DataType::Boolean
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::LargeBinary
        | DataType::Binary
        | DataType::FixedSizeBinary(_) => Ok(Arc::clone(column)),
        other => Err(Error::broken(format!("id column of type {other} in a key index"))),
    }
}

fn push(part: &ArrayRef, row: usize, framed: bool, bytes: &mut Vec<u8>) {
    let text = match part.data_type() {
        DataType::Int64 => return bytes.extend(part.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::Decimal128(..) => return bytes.extend(part.as_primitive::<Decimal128Type>().value(row).to_le_bytes()),
        DataType::Boolean => return bytes.push(u8::from(part.as_boolean().value(row))),
        DataType::Utf8 => part.as_string::<i32>().value(row).as_bytes(),
        DataType::LargeBinary => part.as_binary::<i64>().value(row),
        DataType::Binary => part.as_binary::<i32>().value(row),
        _ => part.as_fixed_size_binary().value(row),
    };
    if framed {
        bytes.extend(u64::try_from(text.len()).expect("a length fits 64 bits").to_le_bytes());
    }
    bytes.extend(text);
}
