//! Columns of primitive types: one JSON scalar in, one value out, or a reason why not.
//!
//! A push either appends exactly one value or appends nothing.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder,
    Int32Builder, Int64Builder, LargeBinaryBuilder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    TimestampNanosecondBuilder,
};
use arrow::datatypes::{ArrowNativeType, DataType};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use iceberg::spec::PrimitiveType;

use super::json::{Number, Scalar};
use super::number::{Below, Inexact, scaled};
use super::time;
use crate::config::EpochUnit;
use crate::error::{Error, Result};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Why a scalar is no value of a column's type, where its kind alone is not the reason; else empty.
pub(super) type Mismatch = &'static str;

/// The kind of scalar is wrong: nothing more to say.
const KIND: Mismatch = "";
const RANGE: Mismatch = "out of range";
const BASE64_ONLY: Mismatch = "not base64";

/// A growing column of a primitive type.
#[derive(Debug)]
pub(super) enum Leaf {
    Bool(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal { values: Decimal128Builder, precision: u32, scale: u32 },
    Date { values: Date32Builder, unit: EpochUnit },
    Time { values: Time64MicrosecondBuilder, unit: EpochUnit },
    Micros { values: TimestampMicrosecondBuilder, unit: EpochUnit, zoned: bool },
    Nanos { values: TimestampNanosecondBuilder, unit: EpochUnit, zoned: bool },
    Str(Strings),
    Uuid(FixedSizeBinaryBuilder),
    Fixed { values: FixedSizeBinaryBuilder, width: usize, scratch: Vec<u8> },
    Binary { values: LargeBinaryBuilder, scratch: Vec<u8> },
}

/// One value of a leaf, comparable with others of the same leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Value<'a> {
    Number(i128),
    Bytes(&'a [u8]),
}

/// Texts, and how long one was on average in the chunk before.
#[derive(Debug, Default)]
pub(super) struct Strings {
    values: StringBuilder,
    mean: usize,
}

/// Does the same with whatever builder a leaf holds.
macro_rules! with_builder {
    ($leaf:expr, $builder:ident => $action:expr) => {
        match $leaf {
            Leaf::Bool($builder) => $action,
            Leaf::Int($builder) => $action,
            Leaf::Long($builder) => $action,
            Leaf::Float($builder) => $action,
            Leaf::Double($builder) => $action,
            Leaf::Decimal { values: $builder, .. } => $action,
            Leaf::Date { values: $builder, .. } => $action,
            Leaf::Time { values: $builder, .. } => $action,
            Leaf::Micros { values: $builder, .. } => $action,
            Leaf::Nanos { values: $builder, .. } => $action,
            Leaf::Str(Strings { values: $builder, .. }) => $action,
            Leaf::Uuid($builder) => $action,
            Leaf::Fixed { values: $builder, .. } => $action,
            Leaf::Binary { values: $builder, .. } => $action,
        }
    };
}

impl Leaf {
    /// For a column of type `of`, which Arrow holds as `data_type`.
    pub(super) fn new(of: &PrimitiveType, data_type: &DataType, unit: EpochUnit) -> Result<Self> {
        let data_type = data_type.clone();
        let fixed_width = |width: u64| {
            i32::try_from(width).map_err(|_| {
                Error::setup(format!("a column of type fixed[{width}] cannot be filled"), "use binary for values of 2 GiB and more")
            })
        };
        Ok(match *of {
            PrimitiveType::Boolean => Self::Bool(BooleanBuilder::new()),
            PrimitiveType::Int => Self::Int(Int32Builder::new()),
            PrimitiveType::Long => Self::Long(Int64Builder::new()),
            PrimitiveType::Float => Self::Float(Float32Builder::new()),
            PrimitiveType::Double => Self::Double(Float64Builder::new()),
            PrimitiveType::Decimal { precision, scale } => {
                Self::Decimal { values: Decimal128Builder::new().with_data_type(data_type), precision, scale }
            }
            PrimitiveType::Date => Self::Date { values: Date32Builder::new(), unit },
            PrimitiveType::Time => Self::Time { values: Time64MicrosecondBuilder::new(), unit },
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz => Self::Micros {
                values: TimestampMicrosecondBuilder::new().with_data_type(data_type),
                unit,
                zoned: *of == PrimitiveType::Timestamptz,
            },
            PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => Self::Nanos {
                values: TimestampNanosecondBuilder::new().with_data_type(data_type),
                unit,
                zoned: *of == PrimitiveType::TimestamptzNs,
            },
            PrimitiveType::String => Self::Str(Strings::default()),
            PrimitiveType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(16)),
            PrimitiveType::Fixed(width) => Self::Fixed {
                values: FixedSizeBinaryBuilder::new(fixed_width(width)?),
                width: usize::try_from(fixed_width(width)?).expect("not negative"),
                scratch: Vec::new(),
            },
            PrimitiveType::Binary => Self::Binary { values: LargeBinaryBuilder::new(), scratch: Vec::new() },
        })
    }

    /// Appends what a JSON scalar stands for.
    #[inline]
    pub(super) fn push(&mut self, scalar: Scalar<'_>) -> Result<(), Mismatch> {
        match (self, scalar) {
            (Self::Str(strings), Scalar::Text(text)) => strings.values.append_value(text),
            (Self::Long(values), Scalar::Number(number)) => values.append_value(integer(number)?),
            (Self::Micros { values, unit, zoned }, scalar) => values.append_value(micros(scalar, *unit, *zoned)?),
            (Self::Int(values), Scalar::Number(number)) => {
                values.append_value(i32::try_from(integer(number)?).map_err(|_| RANGE)?);
            }
            (Self::Bool(values), Scalar::Bool(value)) => values.append_value(value),
            (Self::Double(values), scalar) => values.append_value(double(scalar)?),
            (Self::Float(values), scalar) => values.append_value(float(scalar)?),
            (leaf, scalar) => return leaf.push_rarer(scalar),
        }
        Ok(())
    }

    /// Appends what a text stands for that is not inside JSON: the key of a map, or a record's key.
    pub(super) fn push_text(&mut self, text: &str) -> Result<(), Mismatch> {
        let scalar = match (&*self, text) {
            (Self::Bool(_), "true") => Scalar::Bool(true),
            (Self::Bool(_), "false") => Scalar::Bool(false),
            (Self::Int(_) | Self::Long(_) | Self::Float(_) | Self::Double(_), _) => {
                Number::parse(text).map_or(Scalar::Text(text), Scalar::Number)
            }
            _ => Scalar::Text(text),
        };
        self.push(scalar)
    }

    /// Appends bytes that are not inside JSON to a column of strings, of binary or of their own fixed width.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        match self {
            Self::Str(strings) => strings.values.append_value(std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?),
            Self::Binary { values, .. } => values.append_value(bytes),
            Self::Fixed { values, .. } => values.append_value(bytes).map_err(|_| "of another length")?,
            _ => return Err(KIND),
        }
        Ok(())
    }

    /// Appends to a column of int or long.
    pub(super) fn push_integer(&mut self, value: i64) -> Result<(), Mismatch> {
        match self {
            Self::Int(values) => values.append_value(i32::try_from(value).map_err(|_| RANGE)?),
            Self::Long(values) => values.append_value(value),
            _ => return Err(KIND),
        }
        Ok(())
    }

    /// Appends ms since the epoch to a column of timestamps.
    pub(super) fn push_millis(&mut self, value: i64) -> Result<(), Mismatch> {
        match self {
            Self::Micros { values, .. } => {
                values.append_value(time::small_epoch_micros(value, EpochUnit::Millis).ok_or(RANGE)?);
            }
            Self::Nanos { values, .. } => values.append_value(value.checked_mul(1_000_000).ok_or(RANGE)?),
            _ => return Err(KIND),
        }
        Ok(())
    }

    pub(super) fn push_null(&mut self) {
        with_builder!(self, values => values.append_null());
    }

    /// Appends some value, for a row that will be taken out again.
    pub(super) fn push_filler(&mut self) {
        match self {
            Self::Bool(values) => values.append_value(false),
            Self::Int(values) => values.append_value(0),
            Self::Long(values) => values.append_value(0),
            Self::Float(values) => values.append_value(0.0),
            Self::Double(values) => values.append_value(0.0),
            Self::Decimal { values, .. } => values.append_value(0),
            Self::Date { values, .. } => values.append_value(0),
            Self::Time { values, .. } => values.append_value(0),
            Self::Micros { values, .. } => values.append_value(0),
            Self::Nanos { values, .. } => values.append_value(0),
            Self::Str(strings) => strings.values.append_value(""),
            Self::Uuid(values) => values.append_value([0; 16]).expect("a UUID has 16 bytes"),
            Self::Fixed { values, width, .. } => values.append_value(vec![0; *width]).expect("of its own width"),
            Self::Binary { values, .. } => values.append_value([]),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Str(_))
    }

    /// Makes room for about `rows` rows like those before, but not for more than `bytes_max` bytes of text: one large value must
    /// not let the next chunk ask for that much per row.
    pub(super) fn reserve(&mut self, rows: usize, bytes_max: usize) {
        // Only texts are large enough for growing by copying to be felt.
        if let Self::Str(strings) = self {
            strings.values =
                StringBuilder::with_capacity(rows, rows.saturating_mul(strings.mean + strings.mean / 8).min(bytes_max));
        }
    }

    /// The column, which is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        if let Self::Str(strings) = self {
            let rows = strings.values.offsets_slice().len() - 1;
            strings.mean = strings.values.values_slice().len().checked_div(rows).unwrap_or(strings.mean);
        }
        with_builder!(self, values => Arc::new(values.finish()))
    }

    /// The value at `at`, which is not null.
    pub(super) fn value(&self, at: usize) -> Value<'_> {
        match self {
            Self::Bool(values) => Value::Number(i128::from(values.values_slice()[at / 8] >> (at % 8) & 1)),
            Self::Int(values) => Value::Number(i128::from(values.values_slice()[at])),
            Self::Long(values) => Value::Number(i128::from(values.values_slice()[at])),
            // Adding zero makes both zeros one.
            Self::Float(values) => Value::Number(i128::from((values.values_slice()[at] + 0.0).to_bits())),
            Self::Double(values) => Value::Number(i128::from((values.values_slice()[at] + 0.0).to_bits())),
            Self::Decimal { values, .. } => Value::Number(values.values_slice()[at]),
            Self::Date { values, .. } => Value::Number(i128::from(values.values_slice()[at])),
            Self::Time { values, .. } => Value::Number(i128::from(values.values_slice()[at])),
            Self::Micros { values, .. } => Value::Number(i128::from(values.values_slice()[at])),
            Self::Nanos { values, .. } => Value::Number(i128::from(values.values_slice()[at])),
            Self::Str(Strings { values, .. }) => {
                let ends = &values.offsets_slice()[at..at + 2];
                Value::Bytes(&values.values_slice()[ends[0].as_usize()..ends[1].as_usize()])
            }
            Self::Binary { values, .. } => {
                let ends = &values.offsets_slice()[at..at + 2];
                Value::Bytes(&values.values_slice()[ends[0].as_usize()..ends[1].as_usize()])
            }
            Self::Uuid(values) => Value::Bytes(&values.values_slice()[at * 16..(at + 1) * 16]),
            Self::Fixed { values, width, .. } => Value::Bytes(&values.values_slice()[at * width..(at + 1) * width]),
        }
    }

    fn push_rarer(&mut self, scalar: Scalar<'_>) -> Result<(), Mismatch> {
        match (self, scalar) {
            (Self::Decimal { values, precision, scale }, Scalar::Number(number)) => {
                values.append_value(decimal(number.text, *precision, *scale)?);
            }
            (Self::Decimal { values, precision, scale }, Scalar::Text(text)) => {
                let number = Number::parse(text).ok_or(KIND)?;
                values.append_value(decimal(number.text, *precision, *scale)?);
            }
            (Self::Date { values, .. }, Scalar::Text(text)) => values.append_value(time::date(text).ok_or("not YYYY-MM-DD")?),
            (Self::Date { values, unit }, Scalar::Number(number)) => {
                values.append_value(time::epoch_days(number.text, *unit).ok_or(RANGE)?);
            }
            (Self::Time { values, .. }, Scalar::Text(text)) => values.append_value(time::time(text).ok_or("not HH:MM:SS")?),
            (Self::Time { values, unit }, Scalar::Number(number)) => {
                values.append_value(time::midnight_micros(number.text, *unit).ok_or(RANGE)?);
            }
            (Self::Nanos { values, unit, zoned }, scalar) => values.append_value(nanos(scalar, *unit, *zoned)?),
            (Self::Uuid(values), Scalar::Text(text)) => {
                values.append_value(uuid(text).ok_or("not a UUID")?).expect("a UUID has 16 bytes");
            }
            (Self::Fixed { values, width, scratch }, Scalar::Text(text)) => {
                base64(text, scratch)?;
                if scratch.len() != *width {
                    return Err("of another length");
                }
                values.append_value(scratch).expect("the width was checked");
            }
            (Self::Binary { values, scratch }, Scalar::Text(text)) => {
                base64(text, scratch)?;
                values.append_value(scratch);
            }
            _ => return Err(KIND),
        }
        Ok(())
    }
}

#[inline]
fn integer(number: Number<'_>) -> Result<i64, Mismatch> {
    if let Some(small) = number.small {
        return Ok(small);
    }
    match scaled(number.text, 0, Below::Refuse) {
        Ok(value) => i64::try_from(value).map_err(|_| RANGE),
        Err(Inexact::Large) => Err(RANGE),
        Err(Inexact::Fraction) => Err("not a whole number"),
    }
}

fn decimal(text: &str, precision: u32, scale: u32) -> Result<i128, Mismatch> {
    match scaled(text, i64::from(scale), Below::Refuse) {
        Ok(value) if value.unsigned_abs() < 10u128.pow(precision) => Ok(value),
        Ok(_) | Err(Inexact::Large) => Err("too many digits"),
        Err(Inexact::Fraction) => Err("too many fractional digits"),
    }
}

fn double(scalar: Scalar<'_>) -> Result<f64, Mismatch> {
    match scalar {
        Scalar::Number(number) => number.text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(RANGE),
        Scalar::Text("NaN") => Ok(f64::NAN),
        Scalar::Text("Infinity") => Ok(f64::INFINITY),
        Scalar::Text("-Infinity") => Ok(f64::NEG_INFINITY),
        _ => Err(KIND),
    }
}

fn float(scalar: Scalar<'_>) -> Result<f32, Mismatch> {
    match scalar {
        Scalar::Number(number) => number.text.parse().ok().filter(|value: &f32| value.is_finite()).ok_or(RANGE),
        Scalar::Text("NaN") => Ok(f32::NAN),
        Scalar::Text("Infinity") => Ok(f32::INFINITY),
        Scalar::Text("-Infinity") => Ok(f32::NEG_INFINITY),
        _ => Err(KIND),
    }
}

#[inline]
fn stamp(text: &str, zoned: bool) -> Result<time::Stamp, Mismatch> {
    let stamp = time::timestamp(text).ok_or("not an ISO 8601 date and time")?;
    // A local time has no place for an offset, and dropping it would move the instant.
    if !zoned && stamp.is_elsewhere() { Err("with an offset other than UTC") } else { Ok(stamp) }
}

#[inline]
fn micros(scalar: Scalar<'_>, unit: EpochUnit, zoned: bool) -> Result<i64, Mismatch> {
    match scalar {
        Scalar::Text(text) => stamp(text, zoned)?.micros().ok_or(RANGE),
        Scalar::Number(Number { small: Some(value), .. }) => time::small_epoch_micros(value, unit).ok_or(RANGE),
        Scalar::Number(number) => time::epoch_micros(number.text, unit).ok_or(RANGE),
        Scalar::Bool(_) => Err(KIND),
    }
}

fn nanos(scalar: Scalar<'_>, unit: EpochUnit, zoned: bool) -> Result<i64, Mismatch> {
    match scalar {
        Scalar::Text(text) => stamp(text, zoned)?.nanos().ok_or(RANGE),
        Scalar::Number(number) => time::epoch_nanos(number.text, unit).ok_or(RANGE),
        Scalar::Bool(_) => Err(KIND),
    }
}

/// The bytes that a text stands for, in `into`. Either alphabet, padded or not.
fn base64(text: &str, into: &mut Vec<u8>) -> Result<(), Mismatch> {
    into.clear();
    let engine = if text.contains(['-', '_']) { &BASE64_URL } else { &BASE64 };
    engine.decode_vec(text, into).map_err(|_| BASE64_ONLY)
}

/// 32 hexadecimal digits, or the same with hyphens in their places.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let hyphens: &[usize] = match bytes.len() {
        32 => &[],
        36 => &[8, 13, 18, 23],
        _ => return None,
    };
    let mut value = 0u128;
    for (at, &byte) in bytes.iter().enumerate() {
        if hyphens.contains(&at) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        value = value << 4 | u128::from(char::from(byte).to_digit(16)?);
    }
    Some(value.to_be_bytes())
}
