//! Rows as hashes, so that a batch can be compared row by row without being held.
//!
//! Pure. Two rows are equal exactly when their hashes are, but for a chance of about 2^-128.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};

/// Hashes rows over some columns.
#[derive(Debug)]
pub(crate) struct RowHasher {
    names: Vec<String>,
    converter: RowConverter,
}

impl RowHasher {
    /// Over these columns of a schema.
    pub(crate) fn new(schema: &Schema, names: Vec<String>) -> Result<Self> {
        let mut fields = Vec::with_capacity(names.len());
        for name in &names {
            let field = schema.field_with_name(name).map_err(|_| Error::broken(format!("no column `{name}` to compare")))?;
            fields.push(SortField::new(if encodes(field.data_type()) { field.data_type().clone() } else { DataType::Utf8 }));
        }
        let converter = RowConverter::new(fields).map_err(|e| Error::broken(format!("rows to compare: {e}")))?;
        Ok(Self { names, converter })
    }

    /// Names of the columns.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// One hash for each row of a batch that has these columns.
    pub(crate) fn hash(&self, rows: &RecordBatch) -> Result<Vec<u128>> {
        let columns = self.names.iter().map(|name| column(rows, name)).collect::<Result<Vec<_>>>()?;
        let encoded = self.converter.convert_columns(&columns).map_err(|e| Error::broken(format!("rows to compare: {e}")))?;
        Ok(encoded.iter().map(|row| xxh3_128(row.data())).collect())
    }
}

fn encodes(kind: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(kind.clone())])
}

fn column(rows: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let column = rows.column_by_name(name).ok_or_else(|| Error::broken(format!("no column `{name}` to compare")))?;
    if encodes(column.data_type()) {
        return Ok(Arc::clone(column));
    }
    // Types without a row encoding (maps) compare by their text, which shows every value in full.
    let text = |row: usize| match column.is_null(row) {
        true => Ok(None),
        false => array_value_to_string(column, row).map(Some),
    };
    let texts: Vec<Option<String>> = (0..column.len())
        .map(text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::broken(format!("column `{name}` to compare: {e}")))?;
    Ok(Arc::new(StringArray::from(texts)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, MapBuilder, StringBuilder};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn equal_rows_have_equal_hashes_and_a_difference_anywhere_shows() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for value in ["x", "x", "y", "x", "x", "x"] {
            maps.keys().append_value("k");
            maps.values().append_value(value);
            maps.append(true).unwrap();
        }
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(1), Some(2), None, Some(1)]))),
            ("f", Arc::new(Float64Array::from(vec![0.5, 0.5, 0.5, 0.5, 0.5, -0.5]))),
            ("m", Arc::new(maps.finish())),
            ("ignored", Arc::new(Int64Array::from_iter_values(0..6))),
        ];
        let fields: Vec<_> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
        let hasher = RowHasher::new(&schema, ["n", "f", "m"].map(str::to_owned).to_vec()).unwrap();
        let hashes = hasher.hash(&rows).unwrap();
        assert_eq!(hashes[0], hashes[1]);
        for other in 2..6 {
            assert_ne!(hashes[0], hashes[other], "row {other}");
        }
    }
}
