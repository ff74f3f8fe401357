//! Values of Arrow's arrays, and what a JSON value should become by a slow path: `serde_json` for texts, `chrono` for times.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Type};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::decimals::Decimal;

/// A value, comparable with one of the other path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Whole(i128),
    /// Bits, so that NaN equals itself.
    Real(u64),
    Bytes(Vec<u8>),
    Many(Vec<Self>),
    /// Some value: the slow path does not know this form, so either answer is right.
    Unknown,
}

impl Cell {
    /// Whether this is what the slow path says.
    pub(super) fn agrees(&self, slow: &Self) -> bool {
        match (self, slow) {
            (_, Self::Unknown) => true,
            (Self::Many(one), Self::Many(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.agrees(other))
            }
            _ => self == slow,
        }
    }
}

/// What the slow path makes of a value: a cell; none for a reject; either where it does not know.
pub(super) enum Slow {
    Taken(Cell),
    Refused,
    Either,
}

/// A value of an Arrow array.
pub(super) fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    let whole = |array: &ArrayRef| {
        Cell::Whole(cast(&array.slice(row, 1), &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(0).into())
    };
    match array.data_type() {
        DataType::Boolean => Cell::Whole(array.as_boolean().value(row).into()),
        DataType::Date32 => Cell::Whole(cast(array, &DataType::Int32).unwrap().as_primitive::<Int32Type>().value(row).into()),
        DataType::Float32 => Cell::Real(array.as_primitive::<Float32Type>().value(row).to_bits().into()),
        DataType::Float64 => Cell::Real(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => Cell::Whole(array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Utf8 => Cell::Bytes(array.as_string::<i32>().value(row).into()),
        DataType::LargeBinary => Cell::Bytes(array.as_binary::<i64>().value(row).into()),
        DataType::FixedSizeBinary(_) => Cell::Bytes(array.as_fixed_size_binary().value(row).into()),
        DataType::Struct(_) => Cell::Many(array.as_struct().columns().iter().map(|column| cell(column, row)).collect()),
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            Cell::Many((0..elements.len()).map(|at| cell(&elements, at)).collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let part = |column: usize, at: usize| cell(entries.column(column), at);
            Cell::Many((0..entries.len()).map(|at| Cell::Many(vec![part(0, at), part(1, at)])).collect())
        }
        _ => whole(array),
    }
}

/// The members of an object in their order, doubles included.
pub(super) struct Members(pub(super) Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// How the slow path reads numbers in columns of times, and fields without a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Decimal places of a second that one unit is.
    pub(super) unit_places: i64,
    pub(super) refuse_unknown: bool,
}

impl Reading {
    /// An object as the row of these fields.
    pub(super) fn object(self, fields: &[NestedFieldRef], text: &str) -> Slow {
        let Ok(Members(members)) = serde_json::from_str(text) else { return Slow::Refused };
        let mut found: BTreeMap<&str, Cell> = BTreeMap::new();
        let mut either = false;
        for (name, value) in &members {
            let Some(field) = fields.iter().find(|field| field.name == *name) else {
                if self.refuse_unknown {
                    return Slow::Refused;
                }
                continue;
            };
            if found.contains_key(name.as_str()) {
                return Slow::Refused;
            }
            match self.value(field, Some(value.get())) {
                Slow::Refused => return Slow::Refused,
                Slow::Taken(cell) => drop(found.insert(name, cell)),
                Slow::Either => {
                    either = true;
                    found.insert(name, Cell::Unknown);
                }
            }
        }
        let mut cells = Vec::new();
        for field in fields {
            match found.remove(field.name.as_str()) {
                Some(cell) => cells.push(cell),
                None if field.required => return Slow::Refused,
                None => cells.push(Cell::Null),
            }
        }
        if either { Slow::Either } else { Slow::Taken(Cell::Many(cells)) }
    }

    /// A value of a field; none where it is absent.
    pub(super) fn value(self, field: &NestedFieldRef, text: Option<&str>) -> Slow {
        let text = match text {
            None | Some("null") if field.required => return Slow::Refused,
            None | Some("null") => return Slow::Taken(Cell::Null),
            Some(text) => text,
        };
        match (field.field_type.as_ref(), text.as_bytes()[0]) {
            (Type::Struct(of), b'{') => self.object(of.fields(), text),
            (Type::List(of), b'[') => {
                let elements: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
                many(elements.iter().map(|element| self.value(&of.element_field, Some(element.get()))))
            }
            (Type::Map(of), b'{') => {
                let Ok(Members(members)) = serde_json::from_str(text) else { return Slow::Refused };
                let mut seen = HashSet::new();
                if !members.iter().all(|(key, _)| seen.insert(key)) {
                    return Slow::Refused;
                }
                many(members.iter().map(|(key, value)| match self.value(&of.value_field, Some(value.get())) {
                    Slow::Taken(cell) => Slow::Taken(Cell::Many(vec![Cell::Bytes(key.clone().into()), cell])),
                    other => other,
                }))
            }
            (Type::Primitive(of), b'"') => match serde_json::from_str::<String>(text) {
                Ok(text) => self.text(of, &text),
                Err(_) => Slow::Refused,
            },
            (Type::Primitive(PrimitiveType::Boolean), b't') => Slow::Taken(Cell::Whole(1)),
            (Type::Primitive(PrimitiveType::Boolean), b'f') => Slow::Taken(Cell::Whole(0)),
            (Type::Primitive(of), b'-' | b'0'..=b'9') => self.number(of, text).map_or(Slow::Refused, Slow::Taken),
            _ => Slow::Refused,
        }
    }

    fn number(self, of: &PrimitiveType, text: &str) -> Option<Cell> {
        use PrimitiveType as P;
        let number = Decimal::of(text);
        let micros = || number.floor(6 - self.unit_places).and_then(in_years);
        Some(match of {
            P::Int => Cell::Whole(i32::try_from(number.whole(0)?).ok()?.into()),
            P::Long => Cell::Whole(i64::try_from(number.whole(0)?).ok()?.into()),
            P::Float => Cell::Real(text.parse::<f32>().ok().filter(|value| value.is_finite())?.to_bits().into()),
            P::Double => Cell::Real(text.parse::<f64>().ok().filter(|value| value.is_finite())?.to_bits()),
            P::Decimal { precision, scale } => Cell::Whole(decimal(&number, *precision, *scale)?),
            P::Date => Cell::Whole(micros()?.div_euclid(86_400_000_000)),
            P::Timestamp | P::Timestamptz => Cell::Whole(micros()?),
            P::TimestampNs | P::TimestamptzNs => Cell::Whole(i64::try_from(number.floor(9 - self.unit_places)?).ok()?.into()),
            P::Time => Cell::Whole(number.floor(6 - self.unit_places).filter(|time| (0..86_400_000_000).contains(time))?),
            _ => return None,
        })
    }

    fn text(self, of: &PrimitiveType, text: &str) -> Slow {
        use PrimitiveType as P;
        let taken = |cell: Option<Cell>| cell.map_or(Slow::Refused, Slow::Taken);
        match of {
            P::String => Slow::Taken(Cell::Bytes(text.into())),
            P::Float | P::Double => {
                let special = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => return Slow::Refused,
                };
                #[expect(clippy::cast_possible_truncation, reason = "three values that both widths have")]
                let single = special as f32;
                Slow::Taken(Cell::Real(if *of == P::Float { single.to_bits().into() } else { special.to_bits() }))
            }
            P::Decimal { precision, scale } => {
                let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
                    && !text.ends_with([' ', '\t', '\n', '\r'])
                    && serde_json::from_str::<&RawValue>(text).is_ok();
                taken(is_number.then(|| decimal(&Decimal::of(text), *precision, *scale)).flatten().map(Cell::Whole))
            }
            P::Date => taken(day(text).map(|day| Cell::Whole(day.into()))),
            P::Time => time(text),
            P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs => instant(of, text),
            P::Uuid => {
                let uuid = Uuid::try_parse(text).ok().filter(|_| matches!(text.len(), 32 | 36));
                taken(uuid.map(|uuid| Cell::Bytes(uuid.as_bytes().to_vec())))
            }
            P::Binary => taken(base64(text).map(Cell::Bytes)),
            P::Fixed(width) => {
                let right = |bytes: &Vec<u8>| u64::try_from(bytes.len()).unwrap() == *width;
                taken(base64(text).filter(right).map(Cell::Bytes))
            }
            _ => Slow::Refused,
        }
    }
}

/// One cell out of several values, the first refusal first.
fn many(values: impl Iterator<Item = Slow>) -> Slow {
    let (mut cells, mut either) = (Vec::new(), false);
    for value in values {
        match value {
            Slow::Refused => return Slow::Refused,
            Slow::Taken(cell) => cells.push(cell),
            Slow::Either => either = true,
        }
    }
    if either { Slow::Either } else { Slow::Taken(Cell::Many(cells)) }
}

fn decimal(number: &Decimal, precision: u32, scale: u32) -> Option<i128> {
    number.whole(scale.into()).filter(|value| value.unsigned_abs() < 10_u128.pow(precision))
}

fn in_years(micros: i128) -> Option<i128> {
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&micros).then_some(micros)
}

fn day(text: &str) -> Option<i32> {
    let right = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| right && day.year() > 0)?;
    Some(day.num_days_from_ce() - 719_163)
}

/// Where chrono and the documented form agree on the grammar, they agree on the value.
fn time(text: &str) -> Slow {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let right = clock.len() == 8 && (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match NaiveTime::parse_from_str(clock, "%H:%M:%S") {
        Ok(time) if right && time.nanosecond() == 0 && clock.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') => {
            let micros: i128 = format!("{fraction:0<6}")[..6].parse().unwrap();
            Slow::Taken(Cell::Whole(i128::from(time.num_seconds_from_midnight()) * 1_000_000 + micros))
        }
        _ => Slow::Refused,
    }
}

/// RFC 3339 as chrono reads it; other forms are taken too.
fn instant(of: &PrimitiveType, text: &str) -> Slow {
    use PrimitiveType as P;
    let fraction = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    let known = DateTime::parse_from_rfc3339(text).ok().filter(|_| text.is_ascii() && fraction <= 9);
    let Some(time) = known.filter(|time| time.timestamp_subsec_nanos() < 1_000_000_000) else { return Slow::Either };
    let local_year = time.year();
    let nanos = i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos());
    let zoned = matches!(of, P::Timestamptz | P::TimestamptzNs);
    let value = match of {
        P::TimestampNs | P::TimestamptzNs => i64::try_from(nanos).ok().map(i128::from),
        _ => in_years(nanos.div_euclid(1_000)),
    };
    let fits = (zoned || time.offset().local_minus_utc() == 0) && local_year > 0 && in_years(nanos.div_euclid(1_000)).is_some();
    value.filter(|_| fits).map_or(Slow::Refused, |value| Slow::Taken(Cell::Whole(value)))
}

/// Either alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| engine.decode(text).ok())
}
