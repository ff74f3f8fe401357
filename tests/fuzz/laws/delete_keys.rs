//! Ids out of record keys: what is taken is what a slow path reads, and written as JSON it names the same id.

use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use iceberg::spec::{NestedField, NestedFieldRef, PrimitiveType, Schema, SchemaRef, Type};
use serde_json::{Value, json};

use super::cells::{Cell, Slow, cell};
use super::json_values::{is_json, reading};
use crate::config::{EpochUnit, FormatConfig, UnknownFields};
use crate::decode::{KeyDecoder, RejectReason};
use crate::source::{Chunk, Record, Span};

const FORMAT: FormatConfig = FormatConfig { epoch_unit: EpochUnit::Millis, unknown_fields: UnknownFields::Reject };

/// Ids by the first byte of an input.
const IDS: &[&[&str]] =
    &[&["text"], &["long"], &["uuid"], &["day"], &["flag"], &["long", "text"], &["money"], &["at", "day", "uuid"]];

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |id, name: &str, kind| NestedFieldRef::new(NestedField::new(id, name, Type::Primitive(kind), false));
    let fields = [
        field(1, "text", PrimitiveType::String),
        field(2, "long", PrimitiveType::Long),
        field(3, "uuid", PrimitiveType::Uuid),
        field(4, "day", PrimitiveType::Date),
        field(5, "flag", PrimitiveType::Boolean),
        field(6, "money", PrimitiveType::Decimal { precision: 9, scale: 2 }),
        field(7, "at", PrimitiveType::Timestamptz),
    ];
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
});

pub(super) fn law(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let ids = IDS[usize::from(choice) % IDS.len()];
    let keys: Vec<&[u8]> = data.split(|&byte| byte == b'\n').take(4).collect();
    let together = decode(ids, &keys);
    for (key, found) in keys.iter().zip(&together) {
        assert_eq!(found, &decode(ids, &[key])[0], "a key depends on its neighbours");
        judge(ids, key, found.as_deref());
    }
}

/// The id that each key names, if it does.
fn decode(ids: &[&str], keys: &[&[u8]]) -> Vec<Option<Vec<Cell>>> {
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let mut chunk = Chunk::default();
    for key in keys {
        let key = Some(chunk.push_bytes(key));
        let headers = Span::default();
        chunk.records.push(Record { partition: 0, offset: 0, timestamp_ms: None, broker_time: false, key, value: None, headers });
    }
    let records: Vec<u32> = (0..).take(keys.len()).collect();
    let decoded = KeyDecoder::new(&SCHEMA, &names, &FORMAT).unwrap().decode(&chunk, &records);
    assert!(decoded.columns.iter().all(|column| column.len() == decoded.origins.len()));
    assert_eq!(decoded.origins.len() + decoded.rejects.len(), keys.len());
    assert!(decoded.rejects.iter().all(|reject| reject.reason == RejectReason::NoId));
    let row = |record: &u32| decoded.origins.iter().position(|origin| origin == record);
    let cells = |row: usize| decoded.columns.iter().map(|column: &ArrayRef| cell(column, row)).collect();
    records.iter().map(|record| row(record).map(cells)).collect()
}

fn judge(ids: &[&str], key: &[u8], found: Option<&[Cell]>) {
    let Ok(text) = std::str::from_utf8(key) else { return assert_eq!(found, None, "a key that is not UTF-8") };
    if let Some(found) = found {
        assert!(!found.contains(&Cell::Null), "{text} names half an id");
        let again = decode(ids, &[written(ids, found).to_string().as_bytes()]);
        if ids != ["text"] {
            assert_eq!(again[0].as_deref(), Some(found), "{text}");
        }
    }
    let fields: Vec<NestedFieldRef> = ids
        .iter()
        .map(|name| Arc::new(NestedField { required: true, ..NestedField::clone(SCHEMA.as_struct().field_by_name(name).unwrap()) }))
        .collect();
    let format = FormatConfig { unknown_fields: UnknownFields::Ignore, ..FORMAT };
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    let slow = match ids {
        ["text"] => Slow::Taken(Cell::Many(vec![Cell::Bytes(text.into())])),
        _ if trimmed.starts_with('{') && is_json(text) => reading(&format).object(&fields, trimmed),
        _ if trimmed.starts_with('{') => Slow::Refused,
        [_] if is_json(text) => match reading(&format).value(&fields[0], Some(trimmed)) {
            Slow::Taken(cell) => Slow::Taken(Cell::Many(vec![cell])),
            // Bare text is tried next.
            _ => Slow::Either,
        },
        [_] => Slow::Either,
        _ => Slow::Refused,
    };
    match slow {
        Slow::Taken(expected) => {
            let found = found.map(|found| Cell::Many(found.to_vec()));
            assert!(found.as_ref().is_some_and(|found| found.agrees(&expected)), "{text} became {found:?}, not {expected:?}");
        }
        Slow::Refused => assert_eq!(found, None, "{text} names no id"),
        Slow::Either => {}
    }
}

/// The id as a JSON object.
fn written(ids: &[&str], id: &[Cell]) -> Value {
    let values = ids.iter().zip(id).map(|(name, cell)| {
        let value = match (*name, cell) {
            ("flag", Cell::Whole(flag)) => json!(*flag == 1),
            ("day", Cell::Whole(days)) => json!(i64::try_from(days * 86_400_000).unwrap()),
            ("money", Cell::Whole(cents)) => {
                json!(format!("{}{}.{:02}", if *cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100))
            }
            ("at", Cell::Whole(micros)) => {
                json!(chrono::DateTime::from_timestamp_micros(i64::try_from(*micros).unwrap()).unwrap().to_rfc3339())
            }
            ("uuid", Cell::Bytes(bytes)) => json!(uuid::Uuid::from_slice(bytes).unwrap().to_string()),
            (_, Cell::Whole(whole)) => json!(i64::try_from(*whole).unwrap()),
            (_, Cell::Bytes(bytes)) => json!(std::str::from_utf8(bytes).unwrap()),
            (_, other) => panic!("{name} is {other:?}"),
        };
        ((*name).to_owned(), value)
    });
    Value::Object(values.collect())
}
