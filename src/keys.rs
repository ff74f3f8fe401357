//! Ids and versions as bytes that can be hashed and compared: the common language of dedupe and match.
//!
//! Pure. Two ids are equal exactly when their bytes are; two versions compare as their bytes do. The bytes live only within one
//! run and are never stored.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float32Array, Float64Array, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType};
use arrow::row::{RowConverter, Rows, SortField};
use arrow::util::display::array_value_to_string;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Doing, Error, Result};

/// Encodes the id columns of a batch.
#[derive(Debug)]
pub(crate) struct KeyCodec {
    types: Vec<DataType>,
    /// None for a single string column, whose own bytes are its key.
    rows: Option<RowConverter>,
}

/// The encoded ids of one batch of rows.
#[derive(Debug)]
pub(crate) enum Keys {
    /// The bytes of one string column.
    Strings(StringArray),
    /// Arrow's row encoding of several columns, or of one that is not a string.
    Rows {
        /// Encoded rows.
        rows: Rows,
        /// Rows in which every id column has a value; none: all.
        valid: Option<NullBuffer>,
    },
}

impl KeyCodec {
    /// For id columns of these types, in this order.
    pub(crate) fn new(types: Vec<DataType>) -> Result<Self> {
        let rows = match types.as_slice() {
            [DataType::Utf8] => None,
            _ => Some(converter(&types)?),
        };
        Ok(Self { types, rows })
    }

    /// Types that `encode` expects.
    pub(crate) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Encodes columns of exactly the codec's types and one length.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Keys> {
        let Some(converter) = &self.rows else {
            return Ok(Keys::Strings(columns[0].as_string::<i32>().clone()));
        };
        let rows = converter.convert_columns(columns).map_err(|e| Error::broken(format!("id columns: {e}")))?;
        let valid = columns.iter().fold(None, |valid, column| NullBuffer::union(valid.as_ref(), present(column).as_ref()));
        Ok(Keys::Rows { rows, valid })
    }
}

impl KeyCodec {
    /// The values of an encoded id's columns, for a person.
    pub(crate) fn text(&self, key: &[u8]) -> Result<Vec<String>> {
        let Some(converter) = &self.rows else { return Ok(vec![String::from_utf8_lossy(key).into_owned()]) };
        let broken = |e: arrow::error::ArrowError| Error::broken(format!("an encoded id: {e}"));
        let columns = converter.convert_rows([converter.parser().parse(key)]).map_err(broken)?;
        columns.iter().map(|column| array_value_to_string(column, 0).map_err(broken)).collect()
    }
}

impl Keys {
    /// Id of a row; none where a part of it is null or NaN: such a row has no id.
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Strings(strings) => strings.is_valid(row).then(|| strings.value(row).as_bytes()),
            Self::Rows { rows, valid } => valid.as_ref().is_none_or(|valid| valid.is_valid(row)).then(|| rows.row(row).data()),
        }
    }
}

fn converter(types: &[DataType]) -> Result<RowConverter> {
    RowConverter::new(types.iter().cloned().map(SortField::new).collect()).map_err(|e| {
        Error::setup(
            format!("columns cannot be compared: {e}"),
            "use columns of primitive types for `merge.id` and `merge.order_by`",
        )
    })
}

/// Neither null nor NaN.
fn present(column: &ArrayRef) -> Option<NullBuffer> {
    let not_nan = |nan: &dyn Fn(usize) -> bool| {
        (0..column.len()).any(nan).then(|| NullBuffer::new(BooleanBuffer::collect_bool(column.len(), |i| !nan(i))))
    };
    let numbers = if let Some(floats) = column.as_any().downcast_ref::<Float64Array>() {
        not_nan(&|i| floats.value(i).is_nan())
    } else if let Some(floats) = column.as_any().downcast_ref::<Float32Array>() {
        not_nan(&|i| floats.value(i).is_nan())
    } else {
        None
    };
    NullBuffer::union(column.nulls(), numbers.as_ref())
}

/// A version of an id, by its declared columns: event time, then the `order_by` columns, null lowest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Event time in the column's own unit (days, µs or ns).
    pub(crate) event_time: i64,
    /// Row encoding of the `order_by` columns; empty where there are none.
    pub(crate) order: Box<[u8]>,
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.event_time.cmp(&other.event_time).then_with(|| self.order.cmp(&other.order))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Encodes the version columns of a batch.
#[derive(Debug)]
pub(crate) struct VersionCodec {
    event_time: DataType,
    order_types: Vec<DataType>,
    order: Option<RowConverter>,
}

/// The encoded versions of one batch of rows.
#[derive(Debug)]
pub(crate) struct Versions {
    event_times: Vec<i64>,
    nulls: Option<NullBuffer>,
    order: Option<Rows>,
}

impl VersionCodec {
    /// `event_time` must be a date or timestamp type; `order` may be empty.
    pub(crate) fn new(event_time: DataType, order_types: &[DataType]) -> Result<Self> {
        if !matches!(event_time, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)) {
            return Err(Error::setup(
                format!("`merge.event_time` is a column of type {event_time}"),
                "an event time must be a date or a timestamp column",
            ));
        }
        let order = if order_types.is_empty() { None } else { Some(converter(order_types)?) };
        Ok(Self { event_time, order_types: order_types.to_vec(), order })
    }

    /// Encodes one event-time column and the `order_by` columns.
    pub(crate) fn encode(&self, event_time: &ArrayRef, order: &[ArrayRef]) -> Result<Versions> {
        let order = match &self.order {
            None => None,
            Some(converter) => Some(converter.convert_columns(order).map_err(|e| Error::broken(format!("order columns: {e}")))?),
        };
        Ok(Versions { event_times: event_times(event_time)?, nulls: event_time.nulls().cloned(), order })
    }

    /// The lowest version at an event time: every `order_by` column null. Deletes have this one.
    pub(crate) fn lowest_at(&self, event_time: i64) -> Result<Version> {
        let order = match &self.order {
            None => Box::default(),
            Some(converter) => {
                let nulls: Vec<ArrayRef> = self.order_types.iter().map(|kind| new_null_array(kind, 1)).collect();
                let rows = converter.convert_columns(&nulls).map_err(|e| Error::broken(format!("order columns: {e}")))?;
                rows.row(0).data().into()
            }
        };
        Ok(Version { event_time, order })
    }

    /// An event time of this codec's unit in µs since the epoch.
    pub(crate) fn micros(&self, event_time: i64) -> i64 {
        match self.event_time {
            DataType::Date32 => event_time.saturating_mul(86_400_000_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => event_time.div_euclid(1_000),
            _ => event_time,
        }
    }

    /// Event times of this codec's unit as a column.
    pub(crate) fn column(&self, event_times: Vec<i64>) -> Result<ArrayRef> {
        Ok(match &self.event_time {
            DataType::Date32 => {
                let days = event_times.into_iter().map(i32::try_from).collect::<std::result::Result<Vec<_>, _>>();
                Arc::new(Date32Array::from(days.doing(|| "count the days of an event time")?))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                Arc::new(TimestampNanosecondArray::from(event_times).with_timezone_opt(zone.clone()))
            }
            DataType::Timestamp(_, zone) => Arc::new(TimestampMicrosecondArray::from(event_times).with_timezone_opt(zone.clone())),
            other => return Err(Error::broken(format!("event time of type {other}"))),
        })
    }

    /// A time in µs since the epoch in this codec's unit, rounded down.
    pub(crate) fn at_micros(&self, micros: i64) -> i64 {
        match self.event_time {
            DataType::Date32 => micros.div_euclid(86_400_000_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => micros.saturating_mul(1_000),
            _ => micros,
        }
    }
}

impl Versions {
    /// Event time of a row in the column's unit; none where null.
    pub(crate) fn event_time(&self, row: usize) -> Option<i64> {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| self.event_times[row])
    }

    /// Version of a row. A null event time, which only a stored row can have, is lowest.
    pub(crate) fn get(&self, row: usize) -> Version {
        Version {
            event_time: self.event_time(row).unwrap_or(i64::MIN),
            order: self.order.as_ref().map_or_else(Box::default, |rows| rows.row(row).data().into()),
        }
    }
}

fn event_times(column: &ArrayRef) -> Result<Vec<i64>> {
    Ok(match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().values().iter().map(|&days| i64::from(days)).collect(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.as_primitive::<TimestampMicrosecondType>().values().to_vec(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => column.as_primitive::<TimestampNanosecondType>().values().to_vec(),
        other => return Err(Error::broken(format!("event time of type {other}"))),
    })
}

/// A set of ids, each with an ordinal from 0 in order of first insertion.
#[derive(Debug, Default)]
pub(crate) struct KeyMap {
    table: HashTable<u32>,
    hashes: Vec<u64>,
    ends: Vec<usize>,
    arena: Vec<u8>,
}

impl KeyMap {
    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * 8 + self.hashes.capacity() * 8 + self.table.capacity() * 5
    }

    /// Ordinal of an id.
    pub(crate) fn get(&self, key: &[u8]) -> Option<u32> {
        let hash = xxh3_64(key);
        self.table.find(hash, |&at| self.holds(at, hash, key)).copied()
    }

    /// Ordinal of an id, and whether it is new.
    ///
    /// # Panics
    /// At 2^32 ids: `max_offsets_per_trigger` is checked to be below.
    pub(crate) fn insert(&mut self, key: &[u8]) -> (u32, bool) {
        let hash = xxh3_64(key);
        if let Some(&at) = self.table.find(hash, |&at| self.holds(at, hash, key)) {
            return (at, false);
        }
        let at = u32::try_from(self.ends.len()).expect("a batch has fewer than 2^32 ids");
        self.arena.extend_from_slice(key);
        self.ends.push(self.arena.len());
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.table.insert_unique(hash, at, |&at| hashes[at as usize]);
        (at, true)
    }

    /// Bytes of the id with this ordinal.
    pub(crate) fn key(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.arena[start..self.ends[at]]
    }

    fn holds(&self, at: u32, hash: u64, key: &[u8]) -> bool {
        self.hashes[at as usize] == hash && self.key(at) == key
    }
}
