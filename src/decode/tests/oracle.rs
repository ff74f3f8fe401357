//! The decoder against `serde_json` and a slow path of its own: any schema, any value, any damage.

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::concat_batches;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use iceberg::spec::{ListType, MapType, NestedFieldRef, PrimitiveType, StructType};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::decode::json::check;

/// A value as both paths see it.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Whole(i128),
    /// Bits, so that NaN equals itself.
    Real(u64),
    Bytes(Vec<u8>),
    Many(Vec<Self>),
}

/// A type without field ids.
#[derive(Debug, Clone)]
enum Shape {
    Primitive(PrimitiveType),
    Struct(Vec<(bool, Self)>),
    List(bool, Box<Self>),
    Map(bool, Box<Self>),
}

fn shape() -> impl Strategy<Value = Shape> {
    use PrimitiveType as P;
    let leaf = prop_oneof![
        Just(P::Boolean),
        Just(P::Int),
        Just(P::Long),
        Just(P::Double),
        Just(P::Decimal { precision: 9, scale: 3 }),
        Just(P::Date),
        Just(P::Timestamptz),
        Just(P::Timestamp),
        Just(P::String),
        Just(P::Fixed(3)),
        Just(P::Binary),
    ];
    leaf.prop_map(Shape::Primitive).prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec((any::<bool>(), inner.clone()), 1..4).prop_map(Shape::Struct),
            (any::<bool>(), inner.clone()).prop_map(|(required, of)| Shape::List(required, Box::new(of))),
            (any::<bool>(), inner).prop_map(|(required, of)| Shape::Map(required, Box::new(of))),
        ]
    })
}

fn field(name: &str, required: bool, shape: &Shape, id: &mut i32) -> NestedFieldRef {
    *id += 1;
    let own = *id;
    let of = match shape {
        Shape::Primitive(of) => Type::Primitive(of.clone()),
        Shape::Struct(fields) => Type::Struct(StructType::new(
            fields.iter().enumerate().map(|(at, (required, of))| field(&format!("f{at}"), *required, of, id)).collect(),
        )),
        Shape::List(required, of) => Type::List(ListType::new(field("element", *required, of, id))),
        Shape::Map(required, of) => Type::Map(MapType::new(
            field("key", true, &Shape::Primitive(PrimitiveType::String), id),
            field("value", *required, of, id),
        )),
    };
    Arc::new(NestedField::new(own, name, of, required))
}

/// JSON that mostly fits the shape. `slips` says how often, in percent, something else stands in its place.
fn value(shape: &Shape, slips: u32) -> BoxedStrategy<Value> {
    use PrimitiveType as P;
    let text = |values: &'static [&'static str]| prop::sample::select(values).prop_map(Value::from).boxed();
    let fits = match shape {
        Shape::Primitive(P::Boolean) => any::<bool>().prop_map(Value::from).boxed(),
        Shape::Primitive(P::Int) => {
            prop_oneof![any::<i32>().prop_map(i64::from), 2_147_483_640..2_147_483_650i64].prop_map(Value::from).boxed()
        }
        Shape::Primitive(P::Long) => prop_oneof![any::<i64>().prop_map(Value::from), Just(json!(12.0)), Just(json!(1e300))].boxed(),
        Shape::Primitive(P::Double) => {
            prop_oneof![any::<f64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), Just(json!("NaN"))].boxed()
        }
        Shape::Primitive(P::Decimal { .. }) => {
            let parts = (any::<bool>(), 0u32..2_000_000_000, 0usize..6);
            parts
                .prop_map(|(negative, digits, places)| {
                    let digits = format!("{digits:07}");
                    let (whole, fraction) = digits.split_at(digits.len() - places);
                    let (sign, dot) = (if negative { "-" } else { "" }, if places == 0 { "" } else { "." });
                    Value::from(format!("{sign}{whole}{dot}{fraction}"))
                })
                .boxed()
        }
        Shape::Primitive(P::Date) => text(&["2024-02-29", "2023-02-29", "0001-01-01", "9999-12-31"]),
        Shape::Primitive(P::Timestamptz | P::Timestamp) => {
            let instant = prop_oneof![(-60_000_000_000i64..250_000_000_000, 0u32..1_000_000_000).prop_map(|(seconds, nanos)| {
                let instant = DateTime::from_timestamp(seconds, nanos).expect("in range");
                Value::from(instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            })];
            prop_oneof![instant, text(&["2024-02-29T01:02:03+01:00", "2024-02-29T01:02:03"])].boxed()
        }
        Shape::Primitive(P::String) => any::<String>().prop_map(Value::from).boxed(),
        Shape::Primitive(P::Fixed(_) | P::Binary) => text(&["AAAA", "+/8=", "////", "", "?"]),
        Shape::Primitive(_) => unreachable!("not made above"),
        Shape::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().enumerate().map(|(at, (_, of))| (Just(format!("f{at}")), value(of, slips))).collect();
            (fields, 0..100u32)
                .prop_map(move |(fields, slip)| {
                    let mut object: Map<_, _> = fields.into_iter().collect();
                    if slip < slips {
                        object.remove("f0");
                        object.insert("e".into(), json!({"f0": [null]}));
                    }
                    Value::Object(object)
                })
                .boxed()
        }
        Shape::List(_, of) => vec(value(of, slips), 0..4).prop_map(Value::from).boxed(),
        Shape::Map(_, of) => {
            vec((".{0,3}", value(of, slips)), 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())).boxed()
        }
    };
    let slip = prop_oneof![Just(Value::Null), Just(json!(1)), Just(json!("x")), Just(json!([[]])), Just(json!({"f0": {}}))];
    prop_oneof![100 - slips => fits, slips => slip].boxed()
}

/// A schema, whether unknown fields are refused, and records of it, each as a value and as its text: `serde_json` would read some
/// doubles back with another last bit.
fn table(slips: u32, records: std::ops::Range<usize>) -> impl Strategy<Value = (DecodeSpec, Vec<(Value, String)>)> {
    (vec((any::<bool>(), shape()), 1..5), any::<bool>()).prop_flat_map(move |(columns, refuse)| {
        let mut id = 0;
        let fields = columns.iter().enumerate().map(|(at, (required, of))| field(&format!("f{at}"), *required, of, &mut id));
        let schema = Schema::builder().with_fields(fields).build().expect("a schema");
        let mut spec = spec(Arc::new(schema));
        if refuse {
            spec.format.unknown_fields = UnknownFields::Reject;
        }
        let text = (value(&Shape::Struct(columns), slips), any::<bool>()).prop_map(|(value, pretty)| {
            let text = if pretty { serde_json::to_string_pretty(&value).expect("JSON") } else { value.to_string() };
            (value, text)
        });
        (Just(spec), vec(text, records.clone()))
    })
}

/// The slow path: what a value of a field should become, or the reason why there is no row.
fn slow(field: &NestedField, value: Option<&Value>, refuse: bool) -> Result<Cell, RejectReason> {
    let value = match value {
        None | Some(Value::Null) if field.required => return Err(RejectReason::MissingField),
        None | Some(Value::Null) => return Ok(Cell::Null),
        Some(value) => value,
    };
    match (&*field.field_type, value) {
        (Type::Struct(of), Value::Object(object)) => slow_struct(of, object, refuse),
        (Type::List(of), Value::Array(elements)) => {
            elements.iter().map(|element| slow(&of.element_field, Some(element), refuse)).collect::<Result<_, _>>().map(Cell::Many)
        }
        (Type::Map(of), Value::Object(object)) => {
            let entries = object.iter().map(|(key, value)| {
                Ok(Cell::Many(vec![Cell::Bytes(key.clone().into()), slow(&of.value_field, Some(value), refuse)?]))
            });
            entries.collect::<Result<_, _>>().map(Cell::Many)
        }
        (Type::Primitive(of), value) => slow_primitive(of, value).ok_or(RejectReason::WrongType),
        _ => Err(RejectReason::WrongType),
    }
}

fn slow_struct(of: &StructType, object: &Map<String, Value>, refuse: bool) -> Result<Cell, RejectReason> {
    let mut cells = BTreeMap::new();
    for (name, value) in object {
        match of.field_by_name(name) {
            Some(field) => drop(cells.insert(name.as_str(), slow(field, Some(value), refuse)?)),
            None if refuse => return Err(RejectReason::UnknownField),
            None => (),
        }
    }
    let cells = of.fields().iter().map(|field| match cells.remove(field.name.as_str()) {
        Some(cell) => Ok(cell),
        None => slow(field, None, refuse),
    });
    cells.collect::<Result<_, _>>().map(Cell::Many)
}

fn slow_primitive(of: &PrimitiveType, value: &Value) -> Option<Cell> {
    use PrimitiveType as P;
    let whole = |value: &Value| value.as_i64().or_else(|| value.as_f64()?.to_string().parse().ok());
    let text = value.as_str();
    Some(match of {
        P::Boolean => Cell::Whole(value.as_bool()?.into()),
        P::Int => Cell::Whole(i32::try_from(whole(value)?).ok()?.into()),
        P::Long => Cell::Whole(whole(value)?.into()),
        P::Double if text == Some("NaN") => Cell::Real(f64::NAN.to_bits()),
        P::Double => Cell::Real(value.as_f64()?.to_bits()),
        P::Decimal { .. } => {
            let text = text.map(str::to_owned).or_else(|| value.as_i64().map(|whole| whole.to_string()))?;
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let fraction = fraction.trim_end_matches('0');
            let digits: i128 = format!("{whole}{fraction:0<3}").parse().ok()?;
            let is_number = serde_json::from_str::<serde_json::Number>(&text).is_ok();
            (is_number && fraction.len() <= 3 && digits.abs() < 1_000_000_000).then_some(Cell::Whole(digits))?
        }
        P::Date if value.is_i64() => Cell::Whole(0),
        P::Date => Cell::Whole(
            NaiveDate::parse_from_str(text?, "%Y-%m-%d").ok()?.signed_duration_since(NaiveDate::default()).num_days().into(),
        ),
        P::Timestamptz | P::Timestamp if value.is_i64() => Cell::Whole(i128::from(value.as_i64()?) * 1_000),
        P::Timestamptz | P::Timestamp => {
            let local =
                |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").map(|local| local.and_utc().fixed_offset());
            let text = text?;
            let instant = DateTime::parse_from_rfc3339(text).or_else(|_| local(text)).ok()?;
            let elsewhere = *of == P::Timestamp && instant.offset().local_minus_utc() != 0;
            (!elsewhere).then(|| Cell::Whole(instant.timestamp_micros().into()))?
        }
        P::String => Cell::Bytes(text?.into()),
        P::Fixed(_) | P::Binary => {
            let bytes: &[u8] = match text? {
                "AAAA" => &[0, 0, 0],
                "+/8=" => &[0xfb, 0xff],
                "////" => &[0xff, 0xff, 0xff],
                "" => &[],
                _ => return None,
            };
            (*of == P::Binary || bytes.len() == 3).then(|| Cell::Bytes(bytes.to_vec()))?
        }
        _ => unreachable!("not made above"),
    })
}

/// A value of an Arrow array.
fn cell(array: &ArrayRef, row: usize) -> Cell {
    use arrow::datatypes::*;
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Whole(array.as_boolean().value(row).into()),
        DataType::Int32 => Cell::Whole(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Whole(array.as_primitive::<Int64Type>().value(row).into()),
        DataType::Float64 => Cell::Real(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => Cell::Whole(array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Date32 => Cell::Whole(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(..) => Cell::Whole(array.as_primitive::<TimestampMicrosecondType>().value(row).into()),
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
        other => unreachable!("{other}"),
    }
}

/// All rows of a chunk are the rows of each record alone, in order.
fn each_record_stands_alone(spec: DecodeSpec, records: &[Vec<u8>]) {
    let mut decoder = Decoder::new(spec.clone()).expect("a decoder");
    let together = decoder.decode(&chunk(records));
    let (mut origins, mut rejects, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (at, record) in (0u32..).zip(records) {
        let alone = Decoder::new(spec.clone()).expect("a decoder").decode(&chunk(&[record]));
        assert_eq!(alone.rows.num_rows() + alone.rejects.len(), 1);
        origins.extend(alone.origins.iter().map(|_| at));
        rejects.extend(alone.rejects.into_iter().map(|reject| Reject { record: at, ..reject }));
        rows.push(alone.rows);
    }
    assert_eq!(together.origins, origins);
    assert_eq!(together.rejects, rejects);
    assert_eq!(together.rows, concat_batches(&decoder.arrow_schema(), &rows).expect("one schema"));
    assert_eq!(decoder.decode(&chunk(records)).rows, together.rows, "a chunk leaves nothing behind");
}

/// A text with `damage` done to it: bytes overwritten, the end cut off.
fn damaged(text: &str, damage: &[(prop::sample::Index, u8)], cut: Option<prop::sample::Index>) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (at, byte) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// Bytes that matter to the grammar, more often than others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b"{}[]\",:\\untfe+-.019 \n\x00\x80\xc3".to_vec()), any::<u8>()]
}

fn damage() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>)> {
    (vec((any::<prop::sample::Index>(), byte()), 0..3), prop::option::weighted(0.2, any::<prop::sample::Index>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn rows_are_what_a_slow_path_makes_of_them((spec, records) in table(2, 1..6)) {
        let refuse = spec.format.unknown_fields == UnknownFields::Reject;
        let of = spec.schema.as_struct().clone();
        let decoded = Decoder::new(spec).expect("a decoder").decode(&chunk(&records.iter().map(|(_, text)| text).collect::<Vec<_>>()));
        let (mut rows, mut rejects) = (decoded.origins.iter().enumerate(), decoded.rejects.iter());
        for (at, (value, text)) in (0u32..).zip(&records) {
            let expected = match value {
                Value::Object(object) => slow_struct(&of, object, refuse),
                _ => Err(RejectReason::WrongType),
            };
            match expected {
                Ok(expected) => {
                    let (row, origin) = rows.next().expect("a row");
                    let found = decoded.rows.columns().iter().map(|column| cell(column, row)).collect();
                    prop_assert_eq!((*origin, Cell::Many(found)), (at, expected), "{}", text);
                }
                Err(reason) => {
                    let reject = rejects.next().expect("a reject");
                    prop_assert_eq!((reject.record, reject.reason), (at, reason), "{} {}", &reject.detail, text);
                }
            }
        }
        prop_assert!(rows.next().is_none() && rejects.next().is_none());
    }

    #[test]
    fn bad_records_do_not_touch_their_neighbours((spec, records) in table(5, 1..8), damages in vec(prop::option::of(damage()), 8)) {
        let records: Vec<_> = records.iter().zip(damages).map(|((_, text), damage)| match damage {
            Some((damage, cut)) => damaged(text, &damage, cut),
            None => text.as_bytes().to_vec(),
        }).collect();
        each_record_stands_alone(spec, &records);
    }

    #[test]
    fn arbitrary_bytes_are_rejected_and_never_panic(records in vec(vec(byte(), 0..40), 1..8)) {
        let inner = r#"{"type":"struct","fields":[{"id":10,"name":"","type":"string","required":true}]}"#;
        let records: Vec<_> = records.into_iter().map(|bytes| [b"{\"\":".to_vec(), bytes].concat()).collect();
        each_record_stands_alone(spec(schema(&[("", inner), ("n", "double!")])), &records);
    }

    #[test]
    fn the_grammar_is_serde_jsons((_, records) in table(5, 1..3), damage in damage()) {
        let mut scratch = String::new();
        for (_, text) in records {
            if let Ok(text) = String::from_utf8(damaged(&text, &damage.0, damage.1)) {
                let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                prop_assert_eq!(check(&text, &mut scratch).is_ok(), theirs, "{}", text);
            }
        }
    }

    #[test]
    fn strings_are_serde_jsons(parts in vec(prop_oneof![".{0,40}", "\\\\[\"\\\\/bfnrtux]", "\\\\u[dD][89a-fA-F][0-9]{2}", "\\\\u00[0-9a-f]{2}"], 0..6)) {
        let text = format!("\"{}\"", parts.concat());
        let decoded = Decoder::new(spec(schema(&[("s", "string!")]))).expect("a decoder").decode(&chunk(&[format!("{{\"s\":{text}}}")]));
        let found = decoded.rejects.is_empty().then(|| decoded.rows.column(0).as_string::<i32>().value(0).to_owned());
        prop_assert_eq!(found, serde_json::from_str::<String>(&text).ok(), "{}", text);
    }

    #[test]
    fn numbers_are_exact(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?") {
        let mut decoder = Decoder::new(spec(schema(&[("d", "double"), ("n", "long")]))).expect("a decoder");
        let double = decoder.decode(&chunk(&[format!("{{\"d\":{text}}}")]));
        prop_assert_eq!(cell(double.rows.column(0), 0), Cell::Real(text.parse::<f64>().expect("a number").to_bits()));
        let long = decoder.decode(&chunk(&[format!("{{\"n\":{text}}}")]));
        if let Some(values) = long.rows.column(1).as_any().downcast_ref::<Int64Array>().filter(|values| !values.is_empty()) {
            prop_assert_eq!(values.value(0) as f64, text.parse::<f64>().expect("a number"));
        } else if let Ok(whole) = text.parse::<i64>() {
            prop_assert!(false, "{} was refused", whole);
        }
    }
}
