//! Values of records: a row exactly where a slow path makes one, with its values; and no record touches another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use iceberg::spec::{NestedField, NestedFieldRef, Schema, SchemaRef, Type};
use serde::de::IgnoredAny;

use super::cells::{Cell, Reading, Slow, cell};
use crate::config::{EpochUnit, FormatConfig, Tombstones, UnknownFields};
use crate::decode::{DecodeSpec, Decoded, Decoder, Reject, RejectReason};
use crate::source::{Chunk, Record, Span};

/// Levels of nesting up to which `serde_json` says what JSON is; deeper texts are rejects.
const DEPTH_MAX: usize = 128;

/// Tables by the first byte of an input: columns as `name: type`, required with `!`; nested types as Iceberg's JSON.
static SCHEMAS: LazyLock<[SchemaRef; 4]> = LazyLock::new(|| {
    let struct_of = |fields: &str| format!(r#"{{"type":"struct","fields":[{fields}]}}"#);
    let field = |id: i32, name: &str, of: &str, required: bool| {
        format!(r#"{{"id":{id},"name":"{name}","type":{of},"required":{required}}}"#)
    };
    let list_of = |id: i32, of: &str, required: bool| {
        format!(r#"{{"type":"list","element-id":{id},"element":{of},"element-required":{required}}}"#)
    };
    let place = struct_of(&[field(20, "lat", "\"double\"", true), field(21, "a\\\"b", "\"int\"", false)].join(","));
    let map = format!(
        r#"{{"type":"map","key-id":30,"key":"string","value-id":31,"value":{},"value-required":true}}"#,
        struct_of(&[field(32, "v", "\"decimal(9, 3)\"", false), field(33, "w", &list_of(34, "\"long\"", true), false)].join(","))
    );
    [
        schema(&[("id", "string!"), ("n", "long"), ("i", "int"), ("b", "boolean"), ("d", "double"), ("f", "float")]),
        schema(&[
            ("amount", "decimal(9,2)"),
            ("big", "decimal(38,10)"),
            ("day", "date"),
            ("at", "timestamptz"),
            ("local", "timestamp"),
            ("ns", "timestamptz_ns"),
            ("clock", "time"),
        ]),
        schema(&[("u", "uuid"), ("bin", "binary"), ("fx", "fixed[4]"), ("", "string"), ("é", "long!")]),
        schema(&[
            ("id", "string!"),
            ("place", &place),
            ("tags", &list_of(40, "\"string\"", true)),
            ("attrs", &map),
            ("deep", &list_of(50, &list_of(51, "\"long\"", false), false)),
        ]),
    ]
});

fn schema(fields: &[(&str, &str)]) -> SchemaRef {
    let fields = (1..).zip(fields).map(|(id, (name, of))| {
        let required = of.ends_with('!');
        let of = of.trim_end_matches('!');
        let of: Type = serde_json::from_str(&if of.starts_with('{') { of.to_owned() } else { format!("\"{of}\"") }).unwrap();
        NestedFieldRef::new(NestedField::new(id, *name, of, required))
    });
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
}

/// The first byte says which table and how it is filled; the rest is one record a line.
pub(super) fn law(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let spec = spec(choice);
    let records: Vec<&[u8]> = data.split(|&byte| byte == b'\n').take(6).collect();
    let together = Decoder::new(spec.clone()).unwrap().decode(&chunk(&records));
    let mut alone = Decoder::new(spec.clone()).unwrap();
    let mut parts = Vec::new();
    for record in &records {
        let decoded = alone.decode(&chunk(&[record]));
        assert_eq!(decoded.rows.num_rows() + decoded.rejects.len(), 1);
        assert_eq!(decoded.rows.num_rows(), decoded.origins.len());
        judge(&spec, record, &decoded);
        parts.push(decoded);
    }
    assert_together(&together, &parts);
}

fn spec(choice: u8) -> DecodeSpec {
    let schema = Arc::clone(&SCHEMAS[usize::from(choice & 3)]);
    let epoch_unit = match choice >> 2 & 3 {
        0 => EpochUnit::Millis,
        1 => EpochUnit::Seconds,
        2 => EpochUnit::Micros,
        _ => EpochUnit::Nanos,
    };
    let unknown_fields = if choice & 64 == 0 { UnknownFields::Ignore } else { UnknownFields::Reject };
    DecodeSpec {
        supplied: schema.as_struct().fields().iter().map(|field| field.name.clone()).collect::<BTreeSet<_>>(),
        schema,
        metadata: BTreeMap::new(),
        format: FormatConfig { epoch_unit, unknown_fields },
        topic: "t".to_owned(),
        tombstones: Tombstones::Reject,
        flag: None,
    }
}

pub(super) fn reading(format: &FormatConfig) -> Reading {
    let unit_places = match format.epoch_unit {
        EpochUnit::Seconds => 0,
        EpochUnit::Millis => 3,
        EpochUnit::Micros => 6,
        EpochUnit::Nanos => 9,
    };
    Reading { unit_places, refuse_unknown: format.unknown_fields == UnknownFields::Reject }
}

fn chunk(values: &[&[u8]]) -> Chunk {
    let mut chunk = Chunk::default();
    for value in values {
        let value = Some(chunk.push_bytes(value));
        let headers = Span::default();
        chunk.records.push(Record { partition: 0, offset: 0, timestamp_ms: None, broker_time: false, key: None, value, headers });
    }
    chunk
}

/// One record against the slow path.
fn judge(spec: &DecodeSpec, record: &[u8], decoded: &Decoded) {
    let reason = decoded.rejects.first().map(|reject| reject.reason);
    let Some(text) = std::str::from_utf8(record).ok().filter(|text| is_json(text)) else {
        return assert_eq!(reason, Some(RejectReason::Undecodable), "{}", String::from_utf8_lossy(record));
    };
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let expected = match text.as_bytes()[0] {
        b'{' => reading(&spec.format).object(spec.schema.as_struct().fields(), text),
        _ => Slow::Refused,
    };
    match expected {
        Slow::Refused => assert!(reason.is_some(), "{text} was taken: {:?}", decoded.rows),
        Slow::Either => {}
        Slow::Taken(expected) => {
            assert_eq!(decoded.rejects, [], "{text} should be {expected:?}");
            let columns: &[ArrayRef] = decoded.rows.columns();
            let found = Cell::Many(columns.iter().map(|column| cell(column, 0)).collect());
            assert!(found.agrees(&expected), "{text} became {found:?}, not {expected:?}");
        }
    }
}

/// Whether a text is JSON to `serde_json`, and no deeper than a record may be.
pub(super) fn is_json(text: &str) -> bool {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return false;
    }
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest <= DEPTH_MAX
}

/// The rows and rejects of a chunk are those of each of its records alone, in order.
fn assert_together(together: &Decoded, parts: &[Decoded]) {
    let (mut origins, mut rejects) = (Vec::new(), Vec::new());
    for (at, part) in (0_u32..).zip(parts) {
        origins.extend(part.origins.iter().map(|_| at));
        rejects.extend(part.rejects.iter().map(|reject| Reject { record: at, ..reject.clone() }));
    }
    assert_eq!(together.origins, origins);
    assert_eq!(together.rejects, rejects);
    let rows: Vec<_> = parts.iter().map(|part| part.rows.clone()).collect();
    assert_eq!(together.rows, concat_batches(&together.rows.schema(), &rows).unwrap());
}
