//! Ids and versions as bytes: equal exactly when the values are, ordered as the values are.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;

use super::input::Input;
use crate::keys::{KeyCodec, KeyMap, Keys, VersionCodec};

/// One row: an id of up to four columns, an event time, two `order_by` columns.
#[derive(Debug, Clone)]
struct Row {
    text: Option<String>,
    long: Option<i64>,
    real: Option<f64>,
    decimal: Option<i128>,
    at: Option<i64>,
    day: Option<i32>,
}

const ROWS_MAX: usize = 12;

pub(super) fn law(data: &[u8]) {
    let mut input = Input(data);
    let shape = input.byte();
    let mut rows = Vec::new();
    while !input.is_empty() && rows.len() < ROWS_MAX {
        let some = input.byte();
        rows.push(Row {
            text: (some & 1 == 0).then(|| input.text()),
            long: (some & 2 == 0).then(|| input.number()),
            real: (some & 4 == 0).then(|| real(&mut input)),
            decimal: (some & 8 == 0).then(|| i128::from(input.number())),
            at: (some & 16 == 0).then(|| input.number()),
            day: (some & 32 == 0).then(|| i32::from(input.byte()) - 128),
        });
    }
    ids(&rows, shape);
    versions(&rows, shape);
}

/// Floats that are easily confused, or any.
fn real(input: &mut Input<'_>) -> f64 {
    match input.byte() % 8 {
        0 => 0.0,
        1 => -0.0,
        2 => f64::NAN,
        3 => f64::INFINITY,
        4 => f64::NEG_INFINITY,
        5 => 1.5,
        6 => f64::from_bits(input.number().cast_unsigned()),
        _ => f64::from(input.byte()),
    }
}

fn texts(rows: &[Row]) -> ArrayRef {
    Arc::new(rows.iter().map(|row| row.text.as_deref()).collect::<StringArray>())
}

fn longs(rows: &[Row]) -> ArrayRef {
    Arc::new(rows.iter().map(|row| row.long).collect::<Int64Array>())
}

fn ids(rows: &[Row], shape: u8) {
    let all: [ArrayRef; 4] = [
        texts(rows),
        longs(rows),
        Arc::new(rows.iter().map(|row| row.real).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.decimal).collect::<Decimal128Array>()),
    ];
    let chosen: Vec<usize> = (0..4).filter(|column| shape >> column & 1 == 1).collect();
    let chosen = if chosen.is_empty() { vec![0] } else { chosen };
    let columns: Vec<ArrayRef> = chosen.iter().map(|&column| Arc::clone(&all[column])).collect();
    let codec = KeyCodec::new(columns.iter().map(|column| column.data_type().clone()).collect()).unwrap();
    let keys = codec.encode(&columns).unwrap();
    let mut map = KeyMap::default();
    let mut model: HashMap<Vec<String>, u32> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        let expected = value(row, &chosen);
        assert_eq!(keys.get(at).is_some(), expected.is_some(), "{row:?}");
        let (Some(key), Some(expected)) = (keys.get(at), expected) else { continue };
        assert_eq!(codec.text(key).unwrap().len(), chosen.len());
        let next = u32::try_from(model.len()).unwrap();
        let ordinal = *model.entry(expected).or_insert(next);
        assert_eq!(map.insert(key), (ordinal, ordinal == next), "{rows:?}");
        assert_eq!((map.get(key), map.key(ordinal)), (Some(ordinal), key));
    }
    assert_eq!(map.len(), model.len());
    each_row_stands_alone(&codec, &columns, &keys, rows.len());
}

/// The id of a row as the values of its columns; none where one is null or NaN.
fn value(row: &Row, columns: &[usize]) -> Option<Vec<String>> {
    let part = |column: &usize| match column {
        0 => row.text.clone(),
        1 => row.long.map(|long| long.to_string()),
        2 => row.real.filter(|real| !real.is_nan()).map(|real| real.to_bits().to_string()),
        _ => row.decimal.map(|decimal| decimal.to_string()),
    };
    columns.iter().map(part).collect()
}

/// The bytes of an id do not depend on the rows around it.
fn each_row_stands_alone(codec: &KeyCodec, columns: &[ArrayRef], keys: &Keys, rows: usize) {
    for row in 0..rows {
        let alone: Vec<ArrayRef> = columns.iter().map(|column| column.slice(row, 1)).collect();
        assert_eq!(codec.encode(&alone).unwrap().get(0), keys.get(row));
    }
}

fn versions(rows: &[Row], shape: u8) {
    let days = shape & 16 != 0;
    let event_time: ArrayRef = match days {
        true => Arc::new(rows.iter().map(|row| row.day).collect::<Date32Array>()),
        false => Arc::new(rows.iter().map(|row| row.at).collect::<TimestampMicrosecondArray>()),
    };
    let time = |row: &Row| if days { row.day.map(i64::from) } else { row.at };
    let codec = VersionCodec::new(event_time.data_type().clone(), &[DataType::Int64, DataType::Utf8]).unwrap();
    let versions = codec.encode(&event_time, &[longs(rows), texts(rows)]).unwrap();
    for (a, one) in rows.iter().enumerate() {
        assert_eq!(versions.event_time(a), time(one));
        for (b, other) in rows.iter().enumerate() {
            // Null is lowest: of `order_by` as a value of its own, of event times as the lowest time.
            let place = |row: &Row| (time(row).unwrap_or(i64::MIN), row.long, row.text.clone());
            assert_eq!(versions.get(a).cmp(&versions.get(b)), place(one).cmp(&place(other)), "{one:?} and {other:?}");
        }
        let lowest = codec.lowest_at(time(one).unwrap_or(i64::MIN)).unwrap();
        assert_ne!(lowest.cmp(&versions.get(a)), Ordering::Greater);
        assert_eq!(lowest == versions.get(a), one.long.is_none() && one.text.is_none());
    }
}
