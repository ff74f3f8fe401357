//! Tables of what each type takes and refuses; how records that are no rows leave the others alone.

mod oracle;
mod types;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use iceberg::spec::{NestedField, Schema, Type};

use super::*;
use crate::config::{EpochUnit, MergeConfig, UnknownFields};
use crate::source::{Header, Span};

/// `name: type` or `name: type!` where required; nested types as iceberg's JSON.
fn schema(fields: &[(&str, &str)]) -> SchemaRef {
    let fields = (1..).zip(fields).map(|(id, (name, of))| {
        let required = of.ends_with('!');
        let of = of.trim_end_matches('!');
        let of = if of.starts_with('{') { of.to_owned() } else { format!("\"{of}\"") };
        let of: Type = serde_json::from_str(&of).expect("an iceberg type");
        Arc::new(NestedField::new(id, *name, of, required))
    });
    Arc::new(Schema::builder().with_fields(fields).build().expect("a schema"))
}

/// Fills every column from JSON.
fn spec(schema: SchemaRef) -> DecodeSpec {
    DecodeSpec {
        supplied: schema.as_struct().fields().iter().map(|field| field.name.clone()).collect(),
        schema,
        metadata: BTreeMap::new(),
        format: FormatConfig { epoch_unit: EpochUnit::Millis, unknown_fields: UnknownFields::Ignore },
        topic: "news".into(),
        tombstones: Tombstones::Reject,
        flag: None,
    }
}

fn push(chunk: &mut Chunk, key: Option<&[u8]>, value: Option<&[u8]>) {
    let key = key.map(|key| chunk.push_bytes(key));
    let value = value.map(|value| chunk.push_bytes(value));
    let offset = i64::try_from(chunk.records.len()).expect("few") + 100;
    let headers = Span::default();
    chunk.records.push(Record { partition: 3, offset, timestamp_ms: Some(1_000), broker_time: false, key, value, headers });
}

fn chunk<V: AsRef<[u8]>>(values: &[V]) -> Chunk {
    let mut chunk = Chunk::default();
    values.iter().for_each(|value| push(&mut chunk, None, Some(value.as_ref())));
    chunk
}

/// The only row as text, or why there is none.
fn row(spec: DecodeSpec, value: &str) -> String {
    let decoded = Decoder::new(spec).expect("a decoder").decode(&chunk(&[value]));
    match decoded.rejects.as_slice() {
        [] => {
            let cells = decoded.rows.columns().iter().map(|column| match column.is_null(0) {
                true => "null".to_owned(),
                false => array_value_to_string(column, 0).expect("printable"),
            });
            cells.collect::<Vec<_>>().join(" | ")
        }
        [reject] => {
            assert_eq!((decoded.rows.num_rows(), reject.record), (0, 0));
            format!("{}: {}", reject.reason, reject.detail)
        }
        more => panic!("{more:?}"),
    }
}

#[test]
fn fields_are_matched_by_name_in_any_order_and_absence_is_null() {
    let spec = || spec(schema(&[("id", "string!"), ("n", "long"), ("a \"b\"", "long")]));
    for (value, expected) in [
        (r#"{"id":"x","n":1,"a \"b\"":2}"#, "x | 1 | 2"),
        (r#" { "n" : 1 , "id" : "x" } "#, "x | 1 | null"),
        (r#"{"id":"x","n":null}"#, "x | null | null"),
        (r#"{"\u0069d":"x","N":7}"#, "x | null | null"),
        (r#"{"id":"x","other":{"deep":[1,{"id":[]},"\ud800"]},"n":1}"#, "x | 1 | null"),
        (r#"{"n":1}"#, "missing-field: `id` is missing"),
        (r#"{"id":null}"#, "missing-field: `id` is null"),
        (r#"{}"#, "missing-field: `id` is missing"),
        (r#"{"id":"x","id":"x"}"#, "undecodable: `id` stands twice in one object"),
        (r#"{"id":"x","a "b"":2}"#, "undecodable: not JSON at byte 14: expected `:`"),
        (r#"{"id":5}"#, "wrong-type: `id` should be string but is 5"),
        // What is no JSON is called so, even where a field before it does not fit.
        (r#"{"id":5"#, "undecodable: not JSON at byte 7: the text ends in the middle"),
        ("", "undecodable: not JSON at byte 0: the text ends in the middle"),
        ("null", "wrong-type: should be an object but is null"),
        ("[{\"id\":\"x\"}]", "wrong-type: should be an object but is [{\"id\":\"x\"}]"),
        (r#"{"id":"x"} {}"#, "undecodable: not JSON at byte 11: expected the end after the value"),
        (r#"{"id":"x",}"#, "undecodable: not JSON at byte 10: expected a field name in quotes"),
        (r#"{"id":"x" "n":1}"#, "undecodable: not JSON at byte 10: expected `,` or `}`"),
        ("{\"id\":\"a\nb\"}", "undecodable: not JSON at byte 8: a control character must be escaped"),
        (r#"{"id":"\ud800"}"#, "undecodable: not JSON at byte 7: half of a surrogate pair"),
        (r#"{"id":"\ud83d\ude00\u00e9\n"}"#, "😀é\n | null | null"),
        (r#"{"id":"\x"}"#, "undecodable: not JSON at byte 7: no such escape"),
        (r#"{"id":"x","n":nul}"#, "undecodable: not JSON at byte 14: expected a value"),
        (r#"{"id":"x","n":01}"#, "undecodable: not JSON at byte 15: expected a digit"),
        (r#"{"id":"x","n":NaN}"#, "undecodable: not JSON at byte 14: expected a value"),
        ("\u{feff}{\"id\":\"x\"}", "undecodable: not JSON at byte 0: expected a value"),
    ] {
        assert_eq!(row(spec(), value), expected, "{value}");
    }
}

#[test]
fn fields_without_a_column_can_be_refused_by_their_path() {
    let inner = r#"{"type":"struct","fields":[{"id":10,"name":"city","type":"string","required":false}]}"#;
    let mut spec = spec(schema(&[("id", "string"), ("address", inner), ("left", "string")]));
    spec.supplied.remove("left");
    spec.format.unknown_fields = UnknownFields::Reject;
    for (value, expected) in [
        (r#"{"id":"x","address":{"city":"Y"}}"#, "x | {city: Y} | null"),
        (r#"{"id":"x","address":{"zip":1}}"#, "unknown-field: `address.zip` has no column"),
        (r#"{"id":"x","left":"in JSON, but not of the job"}"#, "unknown-field: `left` has no column"),
        (r#"{"more":1,"id":"#, "undecodable: not JSON at byte 15: the text ends in the middle"),
    ] {
        assert_eq!(row(spec.clone(), value), expected, "{value}");
    }
}

#[test]
fn bytes_that_are_not_utf8_and_deep_nesting_are_undecodable() {
    let mut decoder = Decoder::new(spec(schema(&[("id", "string")]))).unwrap();
    let nested = |depth: usize| format!("{{\"x\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1)).into_bytes();
    let values = [b"{\"id\":\"a\xff\"}".to_vec(), nested(128), nested(129), nested(1_000_000)];
    let decoded = decoder.decode(&chunk(&values));
    assert_eq!(decoded.origins, [1]);
    let details: Vec<_> = decoded.rejects.iter().map(|reject| (reject.record, reject.reason, reject.detail.as_str())).collect();
    let deep = "not JSON at byte 132: nested deeper than 128 levels";
    assert_eq!(
        details,
        [
            (0, RejectReason::Undecodable, "not JSON at byte 8: the bytes are not UTF-8"),
            (2, RejectReason::Undecodable, deep),
            (3, RejectReason::Undecodable, deep),
        ]
    );
}

#[test]
fn a_large_value_is_a_row_like_any_other() {
    let mut decoder = Decoder::new(spec(schema(&[("id", "string")]))).unwrap();
    let text = "a\\\"é ".repeat(4 << 20);
    let decoded =
        decoder.decode(&chunk(&["{\"id\":\"1\"}".to_owned(), format!("{{\"id\":\"{text}\"}}"), "{\"id\":\"2\"}".to_owned()]));
    let ids = decoded.rows.column(0).as_string::<i32>();
    assert_eq!((ids.value(0), ids.value(2), decoded.rejects.len()), ("1", "2", 0));
    assert_eq!(ids.value(1), "a\"é ".repeat(4 << 20));
    // Room is made by the mean of the chunk before, but never more than the chunk could need.
    let many = decoder.decode(&chunk(&vec!["{\"id\":\"1\"}"; 50_000]));
    assert!(many.rows.get_array_memory_size() < 4 << 20);
}

#[test]
fn records_without_a_value_are_what_the_job_says() {
    let with = |tombstones| {
        let mut chunk = Chunk::default();
        push(&mut chunk, Some(b"k"), None);
        push(&mut chunk, None, Some(b"{}"));
        let mut decoder = Decoder::new(DecodeSpec { tombstones, ..spec(schema(&[("id", "string")])) }).unwrap();
        decoder.decode(&chunk)
    };
    let rejected = with(Tombstones::Reject);
    let detail = "the record has no value".to_owned();
    assert_eq!(rejected.rejects, [Reject { record: 0, reason: RejectReason::NullValue, detail }]);
    let ignored = with(Tombstones::Ignore);
    assert_eq!((ignored.rejects.len(), ignored.filtered, ignored.tombstones.len()), (0, 1, 0));
    let deleted = with(Tombstones::Delete);
    assert_eq!((deleted.rejects.len(), deleted.filtered, deleted.tombstones), (0, 0, vec![0]));
    assert_eq!((deleted.origins, deleted.rows.num_rows()), (vec![1], 1));
}

#[test]
fn metadata_columns_hold_what_stands_around_the_value() {
    let headers = r#"{"type":"map","key-id":20,"key":"string","value-id":21,"value-required":false,"value":"binary"}"#;
    let fields = [
        ("topic", "string!", MetadataKind::Topic),
        ("partition", "int!", MetadataKind::Partition),
        ("offset", "long!", MetadataKind::Offset),
        ("at", "timestamptz", MetadataKind::Timestamp),
        ("key", "string", MetadataKind::Key),
        ("headers", headers, MetadataKind::Headers),
        ("hash", "string!", MetadataKind::Sha256),
        ("raw_hash", "fixed[32]!", MetadataKind::Sha256),
        ("any_hash", "binary!", MetadataKind::Sha256),
    ];
    let mut spec = spec(schema(&fields.map(|(name, of, _)| (name, of))));
    spec.supplied.clear();
    spec.metadata = fields.iter().map(|(name, _, kind)| ((*name).to_owned(), *kind)).collect();
    let mut chunk = Chunk::default();
    push(&mut chunk, Some("schlüssel".as_bytes()), Some(b"{}"));
    push(&mut chunk, Some(b"\xff"), Some(b"{}"));
    push(&mut chunk, None, Some(b"{}"));
    chunk.records[2].timestamp_ms = None;
    for (name, value) in [("a", Some("1")), ("b", None), ("a", Some("2"))] {
        let (name, value) = (chunk.push_bytes(name.as_bytes()), value.map(|value| chunk.push_bytes(value.as_bytes())));
        chunk.headers.push(Header { name, value });
    }
    chunk.records[0].headers = Span { start: 0, end: 3 };
    let decoded = Decoder::new(spec).unwrap().decode(&chunk);
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let cell = |column: usize, row: usize| array_value_to_string(decoded.rows.column(column), row).unwrap();
    let first: Vec<_> = (0..9).map(|column| cell(column, 0)).collect();
    let expected = ["news", "3", "100", "1970-01-01T00:00:01Z", "schlüssel", "{b: , a: 32}", hash, hash, hash];
    assert_eq!(first, expected);
    assert_eq!([cell(3, 1), cell(4, 1), cell(5, 1)], ["", "", "{}"]);
    assert_eq!(decoded.origins, [0, 2]);
    assert_eq!(decoded.rejects[0].detail, "`key` should be string but is the record's key (not UTF-8)");
}

#[test]
fn many_headers_keep_the_last_of_equal_names() {
    let headers = r#"{"type":"map","key-id":20,"key":"string","value-id":21,"value-required":false,"value":"string"}"#;
    let mut spec = spec(schema(&[("headers", headers)]));
    spec.supplied.clear();
    spec.metadata.insert("headers".into(), MetadataKind::Headers);
    for count in [3u32, 40] {
        let mut chunk = Chunk::default();
        push(&mut chunk, None, Some(b"{}"));
        for at in 0..count {
            let (name, value) = (chunk.push_bytes(format!("h{}", at % 2).as_bytes()), chunk.push_bytes(at.to_string().as_bytes()));
            chunk.headers.push(Header { name, value: Some(value) });
        }
        chunk.records[0].headers = Span { start: 0, end: count };
        let decoded = Decoder::new(spec.clone()).unwrap().decode(&chunk);
        let (before, last) = (count - 2, count - 1);
        let expected = format!("{{h{}: {before}, h{}: {last}}}", before % 2, last % 2);
        assert_eq!(array_value_to_string(decoded.rows.column(0), 0).unwrap(), expected);
    }
}

#[test]
fn a_decoder_that_could_not_fill_the_table_is_refused() {
    let refused = |change: &dyn Fn(&mut DecodeSpec)| {
        let mut spec = spec(schema(&[("id", "string!"), ("n", "long")]));
        change(&mut spec);
        let error = Decoder::new(spec).expect_err("refused");
        assert_eq!(error.exit_code(), 78);
        error.to_string()
    };
    let required = refused(&|spec| spec.supplied.clear());
    assert_eq!(required, "column `id` is required, and the job does not fill it");
    assert_eq!(refused(&|spec| spec.supplied.extend(["x".into()])), "the table has no column `x`");
    let twice = refused(&|spec| spec.metadata.extend([("n".into(), MetadataKind::Offset)]));
    assert_eq!(twice, "column `n` would be filled from JSON and from `[metadata]`");
    let unfit = refused(&|spec| {
        spec.supplied.remove("n");
        spec.metadata.insert("n".into(), MetadataKind::Topic);
    });
    assert_eq!(unfit, "column `n` of type long cannot hold the topic");
    let list = r#"{"type":"map","key-id":10,"key":{"type":"list","element-id":12,"element":"int","element-required":true},"value-id":11,"value-required":false,"value":"int"}"#;
    let error = Decoder::new(spec(schema(&[("m", list)]))).expect_err("refused");
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn rows_have_the_tables_schema_with_field_ids() {
    let decoder = Decoder::new(spec(schema(&[("id", "string!"), ("b", "binary"), ("t", "timestamptz")]))).unwrap();
    let schema = decoder.arrow_schema();
    let ids: Vec<_> = schema.fields().iter().map(|field| field.metadata()["PARQUET:field_id"].as_str()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(schema.field(1).data_type(), &DataType::LargeBinary);
}

#[test]
fn keys_of_tombstones_become_ids() {
    let ids = |fields: &[(&str, &str)], ids: &[&str], keys: &[Option<&str>]| {
        let format = FormatConfig { epoch_unit: EpochUnit::Millis, unknown_fields: UnknownFields::Reject };
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        let mut decoder = KeyDecoder::new(&schema(fields), &ids, &format).unwrap();
        let mut chunk = Chunk::default();
        keys.iter().for_each(|key| push(&mut chunk, key.map(str::as_bytes), None));
        let records: Vec<_> = (0u32..).take(keys.len()).collect();
        let decoded = decoder.decode(&chunk, &records);
        assert!(decoded.columns.iter().all(|column| column.len() == decoded.origins.len() && column.null_count() == 0));
        let mut cells = vec![String::new(); keys.len()];
        for (row, &origin) in decoded.origins.iter().enumerate() {
            let parts = decoded.columns.iter().map(|column| array_value_to_string(column, row).unwrap());
            cells[index(origin)] = parts.collect::<Vec<_>>().join(" ");
        }
        for reject in decoded.rejects {
            assert_eq!(reject.reason, RejectReason::NoId);
            cells[index(reject.record)] = reject.detail.replace("the record's key names no id: ", "! ");
        }
        cells
    };
    let text = ids(&[("id", "string")], &["id"], &[Some("{\"id\":1}"), None, Some("")]);
    assert_eq!(text, ["{\"id\":1}", "! it is null", ""]);
    let long = ids(
        &[("id", "long")],
        &["id"],
        &[Some("7"), Some("{\"id\":8,\"x\":1}"), Some("x"), Some("\"7\""), Some("null"), Some("9")],
    );
    let expected = [
        "7",
        "8",
        "! `id` should be long but is x",
        "! `id` should be long but is \"7\"",
        "! `id` should be long but is null",
        "9",
    ];
    assert_eq!(long, expected);
    let bare = "550e8400-e29b-41d4-a716-446655440000";
    let digits = "12345678123456781234567812345678";
    let uuid = ids(&[("id", "uuid")], &["id"], &[Some(bare), Some(&format!("\"{bare}\"")), Some(digits), Some("x")]);
    assert_eq!(uuid, [&bare.replace('-', ""), &bare.replace('-', ""), digits, "! `id` should be uuid but is x (not a UUID)"]);
    let date = ids(&[("d", "date")], &["d"], &[Some("2024-01-01"), Some("86400000"), Some("2024-01-32")]);
    assert_eq!(date, ["2024-01-01", "1970-01-02", "! `d` should be date but is 2024-01-32 (not YYYY-MM-DD)"]);
    let two = ids(
        &[("a", "string"), ("x", "int"), ("b", "int")],
        &["b", "a"],
        &[Some(r#"{"a":"k","b":1,"x":9}"#), Some(r#"{"a":"k"}"#), Some("k"), Some(r#"{"b":2,"a":"k"}"#)],
    );
    assert_eq!(two, ["1 k", "! `b` is missing", "! not JSON at byte 0: expected a value", "2 k"]);
}

#[test]
fn a_flag_is_false_where_a_record_does_not_say() {
    for of in ["boolean", "boolean!"] {
        let schema = schema(&[("id", "string"), ("gone", of)]);
        let spec = DecodeSpec { flag: Some("gone".into()), ..spec(schema) };
        for (value, expected) in [
            (r#"{"id":"a"}"#, "a | false"),
            (r#"{"id":"a","gone":null}"#, "a | false"),
            (r#"{"id":"a","gone":false}"#, "a | false"),
            (r#"{"id":"a","gone":true}"#, "a | true"),
        ] {
            assert_eq!(row(spec.clone(), value), expected, "{of}: {value}");
        }
        assert!(row(spec, r#"{"id":"a","gone":"yes"}"#).contains("boolean"));
    }
}

#[test]
fn a_deleted_row_has_what_stands_around_the_record() {
    let fields =
        [("a", "int"), ("gone", "boolean!"), ("at", "date!"), ("o", "long"), ("k", "string!"), ("n", "long!"), ("h", "string")];
    let schema = schema(&fields);
    let merge = MergeConfig {
        id: vec!["k".into()],
        event_time: "at".into(),
        order_by: vec!["o".into()],
        ties: crate::config::Ties::Replace,
        match_scope: crate::config::MatchScope::Table,
        tombstones: Tombstones::Delete,
        deletes: crate::config::Deletes::Soft { column: "gone".into() },
        unmapped: crate::config::Unmapped::Refuse,
    };
    let metadata = [("n", MetadataKind::Offset), ("o", MetadataKind::Offset), ("h", MetadataKind::Sha256)];
    let metadata = metadata.map(|(name, kind)| (name.to_owned(), kind)).into();
    let mut deleted = DeletedRows::new(&schema, &merge, "gone", &metadata, &spec(Arc::clone(&schema)).format, "news").unwrap();
    // What orders versions is null, as in the version itself; a hash of no value is a value that the row had.
    assert_eq!(deleted.carried(), ["a", "h"]);
    let mut chunk = Chunk::default();
    ["x", "y", "z"].iter().for_each(|key| push(&mut chunk, Some(key.as_bytes()), None));
    let ids: [ArrayRef; 1] = [Arc::new(arrow::array::StringArray::from(vec!["x", "z"]))];
    let times: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![1, 2]));
    let (rows, rejects) = deleted.rows(&chunk, &[0, 2], &ids, &times).unwrap();
    assert!(rejects.is_empty());
    let cell = |row: usize| {
        let cells = rows.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        cells.collect::<Vec<_>>().join("|")
    };
    assert_eq!([cell(0), cell(1)], ["|true|1970-01-02||x|100|", "|true|1970-01-03||z|102|"]);
}
