//! What each type takes and refuses, and as which value.

use super::*;

/// Each value in a column `v` of the type, as text, or why not.
fn check(of: &str, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        let found = row(spec(schema(&[("v", of)])), &format!("{{\"v\":{value}}}"));
        let found = found.trim_start_matches("wrong-type: `v` should be ");
        assert_eq!(found, *expected, "{value} as {of}");
    }
}

#[test]
fn booleans_and_strings() {
    check(
        "boolean",
        &[
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
            ("1", "boolean but is 1"),
            ("\"true\"", "boolean but is \"true\""),
        ],
    );
    check(
        "string",
        &[
            ("\"\"", ""),
            ("\"a\\u0000b\"", "a\0b"),
            ("1", "string but is 1"),
            ("{}", "string but is {}"),
            ("[\"a\"]", "string but is [\"a\"]"),
        ],
    );
}

#[test]
fn whole_numbers() {
    check(
        "int",
        &[
            ("0", "0"),
            ("-0", "0"),
            ("-2147483648", "-2147483648"),
            ("2147483647", "2147483647"),
            ("2147483648", "int but is 2147483648 (out of range)"),
            ("1.0", "1"),
            ("1e3", "1000"),
            ("1.5", "int but is 1.5 (not a whole number)"),
            ("\"1\"", "int but is \"1\""),
            ("true", "int but is true"),
        ],
    );
    check(
        "long",
        &[
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "long but is 9223372036854775808 (out of range)"),
            ("9007199254740993", "9007199254740993"),
            ("9.223372036854775807e18", "9223372036854775807"),
            ("1e400", "long but is 1e400 (out of range)"),
            ("-999999999999999999", "-999999999999999999"),
        ],
    );
}

#[test]
fn floating_point_numbers() {
    check(
        "double",
        &[
            ("1", "1.0"),
            ("-0.0", "-0.0"),
            ("1e400", "double but is 1e400 (out of range)"),
            ("0.1", "0.1"),
            ("5e-324", "5e-324"),
            ("\"NaN\"", "NaN"),
            ("\"Infinity\"", "inf"),
            ("\"-Infinity\"", "-inf"),
            ("\"1\"", "double but is \"1\""),
        ],
    );
    check(
        "float",
        &[
            ("16777217", "16777216.0"),
            ("1e39", "float but is 1e39 (out of range)"),
            ("\"NaN\"", "NaN"),
            ("false", "float but is false"),
        ],
    );
}

#[test]
fn decimals() {
    check(
        "decimal(9,2)",
        &[
            ("1", "1.00"),
            ("0.1", "0.10"),
            ("\"-12.34\"", "-12.34"),
            ("12.3400", "12.34"),
            ("1.234", "decimal(9, 2) but is 1.234 (too many fractional digits)"),
            ("9999999.99", "9999999.99"),
            ("10000000", "decimal(9, 2) but is 10000000 (too many digits)"),
            ("1e6", "1000000.00"),
            ("\"1,5\"", "decimal(9, 2) but is \"1,5\""),
            ("\"\"", "decimal(9, 2) but is \"\""),
            ("\" 1\"", "decimal(9, 2) but is \" 1\""),
            ("true", "decimal(9, 2) but is true"),
        ],
    );
    let large = "99999999999999999999999999999999999999";
    check("decimal(38,0)", &[(large, large), ("1e38", "decimal(38, 0) but is 1e38 (too many digits)")]);
    check(
        "decimal(38,38)",
        &[
            ("-0.00000000000000000000000000000000000001", "-0.00000000000000000000000000000000000001"),
            ("1", "decimal(38, 38) but is 1 (too many digits)"),
        ],
    );
}

#[test]
fn dates_times_and_timestamps() {
    check(
        "date",
        &[
            ("\"2024-02-29\"", "2024-02-29"),
            ("86400000", "1970-01-02"),
            ("-1", "1969-12-31"),
            ("\"2023-02-29\"", "date but is \"2023-02-29\" (not YYYY-MM-DD)"),
            ("1e30", "date but is 1e30 (out of range)"),
            ("true", "date but is true"),
        ],
    );
    check(
        "time",
        &[
            ("\"12:34:56.789\"", "12:34:56.789"),
            ("1500.5", "00:00:01.500500"),
            ("\"24:00:00\"", "time but is \"24:00:00\" (not HH:MM:SS)"),
            ("86400000", "time but is 86400000 (out of range)"),
        ],
    );
    check(
        "timestamptz",
        &[
            ("\"2024-02-29T12:00:00.123456789+01:00\"", "2024-02-29T11:00:00.123456Z"),
            ("\"2024-02-29 12:00:00\"", "2024-02-29T12:00:00Z"),
            ("1700000000123", "2023-11-14T22:13:20.123Z"),
            ("-0.0001", "1969-12-31T23:59:59.999999Z"),
            ("1700000000123.4567", "2023-11-14T22:13:20.123456Z"),
            ("253402300800000", "timestamptz but is 253402300800000 (out of range)"),
            ("\"soon\"", "timestamptz but is \"soon\" (not an ISO 8601 date and time)"),
            ("\"0001-01-01T00:00:00+01:00\"", "timestamptz but is \"0001-01-01T00:00:00+01:00\" (out of range)"),
        ],
    );
    check(
        "timestamp",
        &[
            ("\"2024-02-29T12:00:00\"", "2024-02-29T12:00:00"),
            ("\"2024-02-29T12:00:00Z\"", "2024-02-29T12:00:00"),
            ("\"2024-02-29T12:00:00+00:00\"", "2024-02-29T12:00:00"),
            ("\"2024-02-29T12:00:00+01:00\"", "timestamp but is \"2024-02-29T12:00:00+01:00\" (with an offset other than UTC)"),
            ("0", "1970-01-01T00:00:00"),
        ],
    );
    check(
        "timestamptz_ns",
        &[
            ("\"2024-02-29T12:00:00.123456789Z\"", "2024-02-29T12:00:00.123456789Z"),
            ("\"1600-01-01T00:00:00Z\"", "timestamptz_ns but is \"1600-01-01T00:00:00Z\" (out of range)"),
            ("0.000001", "1970-01-01T00:00:00.000000001Z"),
        ],
    );
    check("timestamp_ns", &[("\"2024-02-29T12:00:00.5\"", "2024-02-29T12:00:00.500"), ("true", "timestamp_ns but is true")]);
}

#[test]
fn bytes_and_uuids() {
    let id = "550e8400e29b41d4a716446655440000";
    check(
        "uuid",
        &[
            ("\"550e8400-e29b-41d4-a716-446655440000\"", id),
            ("\"550E8400E29B41D4A716446655440000\"", id),
            ("\"550e8400-e29b-41d4-a716-44665544000\"", "uuid but is \"550e8400-e29b-41d4-a716-44665544000\" (not a UUID)"),
            ("\"550e8400+e29b-41d4-a716-446655440000\"", "uuid but is \"550e8400+e29b-41d4-a716-446655440000\" (not a UUID)"),
            ("\"550e8400e29b41d4a71644665544000g\"", "uuid but is \"550e8400e29b41d4a71644665544000g\" (not a UUID)"),
            ("1", "uuid but is 1"),
        ],
    );
    check(
        "binary",
        &[
            ("\"\"", ""),
            ("\"+/8=\"", "fbff"),
            ("\"+/8\"", "fbff"),
            ("\"-_8\"", "fbff"),
            ("\"-/8\"", "binary but is \"-/8\" (not base64)"),
            ("\"a\"", "binary but is \"a\" (not base64)"),
            ("\"é\"", "binary but is \"é\" (not base64)"),
            ("[1,2]", "binary but is [1,2]"),
        ],
    );
    check(
        "fixed[2]",
        &[
            ("\"+/8=\"", "fbff"),
            ("\"+/8A\"", "fixed(2) but is \"+/8A\" (of another length)"),
            ("\"\"", "fixed(2) but is \"\" (of another length)"),
        ],
    );
}

#[test]
fn nested_values_and_the_paths_of_their_faults() {
    let list = r#"{"type":"list","element-id":10,"element-required":true,"element":{"type":"struct","fields":[{"id":11,"name":"n","type":"int","required":true}]}}"#;
    for (value, expected) in [
        (r#"{"tags":[{"n":1},{"n":2}]}"#, "[{n: 1}, {n: 2}]"),
        (r#"{"tags":[]}"#, "[]"),
        (r#"{"tags":null}"#, "null"),
        (r#"{"tags":[{"n":1},null]}"#, "missing-field: `tags[1]` is null"),
        (r#"{"tags":[{"n":1},{"n":2},{"n":3},{"n":"4"}]}"#, "wrong-type: `tags[3].n` should be int but is \"4\""),
        (r#"{"tags":[{}]}"#, "missing-field: `tags[0].n` is missing"),
        (r#"{"tags":[{"n":1,"n":1}]}"#, "undecodable: `tags[0].n` stands twice in one object"),
        (r#"{"tags":{"n":1}}"#, "wrong-type: `tags` should be an array but is {\"n\":1}"),
        (r#"{"tags":[{"n":1},]}"#, "undecodable: not JSON at byte 17: expected a value"),
        (r#"{"tags":[{"n":1}}"#, "undecodable: not JSON at byte 16: expected `,` or `]`"),
    ] {
        assert_eq!(row(spec(schema(&[("tags", list)])), value), expected, "{value}");
    }
    let long = "x".repeat(100);
    let found = row(spec(schema(&[("tags", list)])), &format!("{{\"tags\":\"{long}\"}}"));
    assert_eq!(found, format!("wrong-type: `tags` should be an array but is \"{}…", "x".repeat(59)));
}

#[test]
fn maps_keep_their_order_and_refuse_twins() {
    let map =
        |key: &str| format!(r#"{{"type":"map","key-id":10,"key":"{key}","value-id":11,"value-required":true,"value":"int"}}"#);
    let check = |key: &str, value: &str, expected: &str| {
        assert_eq!(row(spec(schema(&[("m", &map(key))])), &format!("{{\"m\":{value}}}")), expected, "{value} by {key}");
    };
    check("string", r#"{"z":1,"a":2,"\u0000":3}"#, "{z: 1, a: 2, \0: 3}");
    check("string", "{}", "{}");
    check("string", r#"{"k":null}"#, "missing-field: `m[\"k\"]` is null");
    check("string", r#"{"a":1,"k":"2"}"#, "wrong-type: `m[\"k\"]` should be int but is \"2\"");
    check("string", r#"{"a":1,"\u0061":2}"#, "undecodable: `m` has the same key twice");
    check("int", r#"{"1":1,"-2":2}"#, "{1: 1, -2: 2}");
    check("int", r#"{"1":1,"1.0":2}"#, "undecodable: `m` has the same key twice");
    check("int", r#"{"one":1}"#, "wrong-type: `m[\"one\"]` should be int but is \"one\"");
    check("boolean", r#"{"true":1,"false":0}"#, "{true: 1, false: 0}");
    check("double", r#"{"0.0":1,"-0.0":0}"#, "undecodable: `m` has the same key twice");
    check("double", r#"{"NaN":1}"#, "{NaN: 1}");
    check("decimal(5,1)", r#"{"1.5":1,"1.50":1}"#, "undecodable: `m` has the same key twice");
    check("date", r#"{"2024-01-01":1}"#, "{2024-01-01: 1}");
    check("timestamptz", r#"{"2024-01-01T00:00:00Z":1,"2024-01-01T01:00:00+01:00":2}"#, "undecodable: `m` has the same key twice");
    check("uuid", r#"{"550e8400e29b41d4a716446655440000":1}"#, "{550e8400e29b41d4a716446655440000: 1}");
    let many = |last: usize| {
        let entries: Vec<_> = (0..40).chain([last]).map(|at| format!("\"{at}\":1")).collect();
        row(spec(schema(&[("m", &map("long"))])), &format!("{{\"m\":{{{}}}}}", entries.join(",")))
    };
    assert_eq!(many(7), "undecodable: `m` has the same key twice");
    assert!(many(40).ends_with("40: 1}"));
}
