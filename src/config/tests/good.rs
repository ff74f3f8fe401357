use super::*;

/// Every key that exists, each with a value that is not its default where it has one.
pub(super) const EVERY_KEY: &str = r#"
name = "a.b_c-1"
mode = "merge"
[kafka]
topic = "t"
start = 2026-01-31T12:00:00.0001Z
on_data_loss = "skip"
mirror_group = false
bootstrap.servers = "a:1,b:2"          # bare, which TOML reads as a table in a table
fetch.max.bytes = 1_000
"socket.keepalive.enable" = true
debug = "consumer"
[format]
type = "json"
epoch_unit = "us"
unknown_fields = "reject"
[metadata]
columns = { o = "offset", h = "headers", s = "sha256" }
[catalog]
type = "sql"
name = "lake"
uri = "sqlite://catalog.db"
warehouse = "/srv/lake/"
[table]
name = "a.b.c"
branch = "audit"
format_version = 3
sort_by = ["day(t) desc nulls first", "id"]
partition_by = "bucket(16, id)"
[table.properties]
write.metadata.delete-after-commit.enabled = true
"commit.retry.num-retries" = 3
[[table.columns]]
name = "id"
type = "uuid"
required = true
doc = "who"
[[table.columns]]
name = "t"
type = "timestamptz_ns"
[[table.columns]]
name = "o"
type = "long"
[[table.columns]]
name = "h"
type = "map<string, binary>"
[[table.columns]]
name = "s"
type = "fixed(32)"
[[table.columns]]
name = "gone"
type = "boolean"
[merge]
id = "id"
event_time = "t"
order_by = ["o"]
ties = "keep"
match = "watermark"
tombstones = "delete"
deletes = "soft"
deleted_column = "gone"
unmapped = "keep"
[watermark]
delay = "1 h 30 min"
late = "merge"
max_future = "5 min"
[limits]
max_offsets_per_trigger = "${MANY:-5}"
max_bytes_per_trigger = 1024
max_duration = "1 min"
min_offsets_per_trigger = 2
max_trigger_delay = "1 d"
memory_limit = "64 MiB"
stall_timeout = "500 ms"
shutdown_grace = "1 s"
[rejects]
table = "a.b.bad"
max_ratio = 0.25
[verify]
unique = ["id"]
"#;

#[test]
fn reads_the_articles_job() {
    let config = parse(ARTICLES);
    assert_eq!(config.name, "articles");
    assert_eq!(config.kafka.topic, "articles.raw.v1");
    assert_eq!(config.kafka.start, Start::Earliest);
    assert_eq!(config.kafka.properties["bootstrap.servers"], "localhost:9092");
    let Mode::Merge(merge) = &config.mode else { panic!("not a merge") };
    assert_eq!((merge.id.as_slice(), merge.event_time.as_str()), (["id".to_owned()].as_slice(), "published_at"));
    assert_eq!(merge.order_by, ["version"]);
    assert_eq!(config.watermark.delay, Duration::from_secs(7_200));
    assert_eq!(config.table.namespace, ["demo", "news"]);
    assert_eq!(config.table.name, "articles_raw");
    let columns: Vec<String> = config.table.columns.iter().map(|c| format!("{} {} {}", c.name, c.field_type, c.required)).collect();
    let expected = [
        "id string true",
        "title string false",
        "source string false",
        "url string false",
        "content string false",
        "published_at timestamptz true",
        "version long false",
    ];
    assert_eq!(columns, expected);
    let day = PartitionBy { column: "published_at".into(), transform: iceberg::spec::Transform::Day };
    assert_eq!(config.table.partition_by, [day]);
    let CatalogConfig { uri, warehouse, .. } = &config.catalog;
    assert_eq!((uri.as_str(), warehouse.as_str()), ("sqlite:///home/me/warehouse/catalog.db", "file:///home/me/warehouse"));
}

#[test]
fn reads_the_health_job() {
    let config = parse(HEALTH);
    assert_eq!(config.kafka.topic, "health-data-raw");
    assert!(matches!(config.mode, Mode::Append { .. }));
    assert_eq!(config.verify.unique, ["sample_id"]);
    assert_eq!(config.table.properties["write.target-file-size-bytes"], "268435456");
    assert_eq!(config.table.properties["commit.retry.num-retries"], "3");
    let kinds: Vec<MetadataKind> = config.metadata.values().copied().collect();
    assert!(kinds.contains(&MetadataKind::Partition) && kinds.contains(&MetadataKind::Offset), "{kinds:?}");
    assert_eq!(config.limits.max_offsets_per_trigger, 1_000_000);
}

#[test]
fn the_kubernetes_job_holds_the_same_job_file() {
    let yaml = include_str!("../../../jobs/articles.cronjob.yaml");
    let (_, after) = yaml.split_once("articles.toml: |\n").unwrap();
    let (block, _) = after.split_once("\n---").unwrap();
    fn said(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }
    assert_eq!(said(block), said(ARTICLES));
    assert_eq!(format!("{:?}", parse(block)), format!("{:?}", parse(ARTICLES)));
}

#[test]
fn a_variable_replaces_the_topic_and_the_table() {
    let config =
        Config::parse(ARTICLES, &|name| (name != "PWD").then(|| format!("x.{name}").into()).or_else(|| env(name))).unwrap();
    assert_eq!(config.kafka.topic, "x.KAFKA_TOPIC");
    assert_eq!((config.table.namespace, config.table.name), (vec!["x".to_owned()], "ICEBERG_TABLE".to_owned()));
}

#[test]
fn what_is_not_said_is_the_documented_default() {
    let config = parse(SMALL);
    let merge = MergeConfig {
        id: vec!["id".into()],
        event_time: "published_at".into(),
        order_by: vec![],
        ties: Ties::Replace,
        match_scope: MatchScope::Table,
        tombstones: Tombstones::Reject,
        deletes: Deletes::Hard,
        unmapped: Unmapped::Refuse,
    };
    assert_eq!(config.mode, Mode::Merge(merge));
    assert_eq!(
        (config.kafka.start, config.kafka.on_data_loss, config.kafka.mirror_group),
        (Start::Earliest, OnDataLoss::Fail, true)
    );
    assert_eq!(config.kafka.properties.len(), 1);
    assert_eq!(config.format, FormatConfig { epoch_unit: EpochUnit::Millis, unknown_fields: UnknownFields::Ignore });
    let CatalogConfig { name, uri, warehouse, .. } = config.catalog;
    assert_eq!([name.as_str(), &uri, &warehouse], ["tidegate", "sqlite:///w/catalog.db", "file:///w"]);
    assert_eq!((config.table.branch.as_str(), config.table.format_version), ("main", 2));
    let hour = Duration::from_secs(3_600);
    assert_eq!(config.watermark, WatermarkConfig { delay: Duration::ZERO, late: Late::Reject, max_future: hour });
    let limits = Limits {
        max_offsets_per_trigger: 1_000_000,
        max_bytes_per_trigger: 1_073_741_824,
        max_duration: Duration::from_secs(600),
        min_offsets_per_trigger: 0,
        max_trigger_delay: Duration::from_secs(900),
        memory_limit: 1_073_741_824,
        stall_timeout: Duration::from_secs(60),
        shutdown_grace: Duration::from_secs(25),
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.rejects, RejectsConfig { table: None, max_ratio: 1.0 });
    assert_eq!(config.verify, VerifyConfig { unique: vec![] });
    assert!(config.metadata.is_empty());
}

#[test]
fn reads_every_key() {
    let config = parse(EVERY_KEY);
    let Config { mode, kafka, format, metadata, catalog, table, watermark, limits, rejects, verify, .. } = &config;
    let read = format!(
        "{mode:?}\n{kafka:?}\n{format:?}\n{metadata:?}\n{catalog:?}\n{:?} {} {} {} {:?}\n{:?}\n{:?}\n{:?}\n{watermark:?}\n{limits:?}\n{rejects:?}\n{verify:?}",
        table.namespace,
        table.name,
        table.branch,
        table.format_version,
        table.properties,
        table.columns,
        table.partition_by,
        table.sort_by
    );
    assert_eq!(config.name, "a.b_c-1");
    insta::assert_snapshot!(read, @r#"
    Merge(MergeConfig { id: ["id"], event_time: "t", order_by: ["o"], ties: Keep, match_scope: Watermark, tombstones: Delete, deletes: Soft { column: "gone" }, unmapped: Keep })
    KafkaConfig { topic: "t", start: Timestamp(1769860800001), on_data_loss: Skip, mirror_group: false, properties: {"bootstrap.servers": "a:1,b:2", "debug": "consumer", "fetch.max.bytes": "1000", "socket.keepalive.enable": "true"}, plain_secrets: [] }
    FormatConfig { epoch_unit: Micros, unknown_fields: Reject }
    {"h": Headers, "o": Offset, "s": Sha256}
    CatalogConfig { kind: Sql, name: "lake", uri: "sqlite://catalog.db", warehouse: "file:///srv/lake", properties: {}, plain_secrets: [] }
    ["a", "b"] c audit 3 {"commit.retry.num-retries": "3", "write.metadata.delete-after-commit.enabled": "true"}
    [ColumnConfig { name: "id", field_type: Primitive(Uuid), required: true, doc: Some("who") }, ColumnConfig { name: "t", field_type: Primitive(TimestamptzNs), required: false, doc: None }, ColumnConfig { name: "o", field_type: Primitive(Long), required: false, doc: None }, ColumnConfig { name: "h", field_type: Map(MapType { key_field: NestedField { id: 1, name: "key", required: true, field_type: Primitive(String), doc: None, initial_default: None, write_default: None }, value_field: NestedField { id: 2, name: "value", required: false, field_type: Primitive(Binary), doc: None, initial_default: None, write_default: None } }), required: false, doc: None }, ColumnConfig { name: "s", field_type: Primitive(Fixed(32)), required: false, doc: None }, ColumnConfig { name: "gone", field_type: Primitive(Boolean), required: false, doc: None }]
    [PartitionBy { column: "id", transform: Bucket(16) }]
    [SortBy { column: "t", transform: Day, direction: Descending, nulls: First }, SortBy { column: "id", transform: Identity, direction: Ascending, nulls: First }]
    WatermarkConfig { delay: 5400s, late: Merge, max_future: 300s }
    Limits { max_offsets_per_trigger: 5, max_bytes_per_trigger: 1024, max_duration: 60s, min_offsets_per_trigger: 2, max_trigger_delay: 86400s, memory_limit: 67108864, stall_timeout: 500ms, shutdown_grace: 1s }
    RejectsConfig { table: Some((["a", "b"], "bad")), max_ratio: 0.25 }
    VerifyConfig { unique: ["id"] }
    "#);
}

#[test]
fn start_can_be_a_word_a_time_or_offsets() {
    let start = |value: &str| parse(&small("topic =", &format!("start = {value}\ntopic ="))).kafka.start;
    assert_eq!(start("\"earliest\""), Start::Earliest);
    assert_eq!(start("\"latest\""), Start::Latest);
    assert_eq!(start("\"1970-01-01T00:00:01+00:00\""), Start::Timestamp(1_000));
    assert_eq!(start("1970-01-01T01:00:01+01:00"), Start::Timestamp(1_000));
    // The first whole millisecond at or after the time.
    assert_eq!(start("1970-01-01T00:00:00.001Z"), Start::Timestamp(1));
    assert_eq!(start("1970-01-01T00:00:00.001000001Z"), Start::Timestamp(2));
    assert_eq!(start("{ \"0\" = 12, \"7\" = 0 }"), Start::Offsets(BTreeMap::from([(0, 12), (7, 0)])));
    assert_eq!(start("{}"), Start::Offsets(BTreeMap::new()));
}

#[test]
fn a_warehouse_is_a_place_that_can_be_opened() {
    for (given, expected) in [
        ("file:///w", "file:///w"),
        ("file:///w/x/", "file:///w/x"),
        ("file:/w", "file:/w"),
        ("/w", "file:///w"),
        ("file://${PWD}/w", "file:///home/me/w"),
        ("${PWD}/w", "file:///home/me/w"),
        ("s3://bucket", "s3://bucket"),
        ("s3a://bucket/w/", "s3a://bucket/w"),
        ("gs://bucket/w", "gs://bucket/w"),
        ("abfss://container@account.dfs.core.windows.net/w", "abfss://container@account.dfs.core.windows.net/w"),
    ] {
        let warehouse = parse(&small("file:///w", given)).catalog.warehouse;
        assert_eq!(warehouse, expected, "{given}");
    }
}

#[test]
fn a_rest_catalog_has_a_server_and_properties() {
    let lines = r#"type = "rest"
uri = "https://host/catalog/"
warehouse = "123456789012:s3tablescatalog/lake"
credential = "id:secret"
oauth2-server-uri = "https://login/token"
header.X-Team = "news"
rest.sigv4-enabled = false
token = "${NONE:-}"
"rest.client.socket-timeout-ms" = 5000"#;
    let from = "type = \"sql\"\nuri = \"sqlite:///w/catalog.db\"\nwarehouse = \"file:///w\"";
    let CatalogConfig { kind, uri, warehouse, properties, .. } = parse(&small(from, lines)).catalog;
    assert_eq!((kind, uri.as_str()), (CatalogKind::Rest, "https://host/catalog/"));
    assert_eq!(warehouse, "123456789012:s3tablescatalog/lake", "a name that the server knows need be no place");
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    let expected = ["credential", "header.X-Team", "oauth2-server-uri", "rest.client.socket-timeout-ms", "rest.sigv4-enabled"];
    assert_eq!(names, expected);
    assert_eq!(
        (properties["rest.sigv4-enabled"].as_str(), properties["rest.client.socket-timeout-ms"].as_str()),
        ("false", "5000")
    );
    let shown = format!("{:?}", parse(&small(from, lines)));
    assert!(shown.contains("\"credential\": \"***\"") && !shown.contains("id:secret"), "{shown}");
    let alone = parse(&small(from, "type = \"rest\"\nuri = \"http://host\"")).catalog;
    assert_eq!(alone.warehouse, "", "a server may have one warehouse only");
}

#[test]
fn append_needs_no_merge_table() {
    let text = small("name = \"articles\"", "name = \"a\"\nmode = \"append\"").replace("id = [\"id\"]\n", "");
    assert_eq!(parse(&text).mode, Mode::Append { event_time: Some("published_at".into()) });
    let text = text.replace("[merge]\nevent_time = \"published_at\"\n", "");
    assert_eq!(parse(&text).mode, Mode::Append { event_time: None });
}

#[test]
fn secrets_are_not_shown() {
    let config = parse(&small("topic =", "\"sasl.password\" = \"hunter2\"\n\"sasl.username\" = \"me\"\ntopic ="));
    assert_eq!(config.kafka.properties["sasl.password"], "hunter2");
    let shown = format!("{config:?}");
    assert!(shown.contains("\"sasl.password\": \"***\"") && !shown.contains("hunter2") && shown.contains("\"me\""), "{shown}");
}

/// PyIceberg's addresses name SQLAlchemy's driver.
#[test]
fn databases() {
    let uri = |uri: &str| parse(&small("sqlite:///w/catalog.db", uri)).catalog.uri;
    assert_eq!(
        uri("postgresql://me@db.example:5433/lake?sslmode=verify-full"),
        "postgresql://me@db.example:5433/lake?sslmode=verify-full"
    );
    assert_eq!(uri("postgresql+psycopg2://me@db/lake"), "postgresql://me@db/lake");
    assert_eq!(uri("postgres://db/lake"), "postgresql://db/lake");
    assert_eq!(uri("sqlite://catalog.db"), "sqlite://catalog.db");
}

#[test]
fn what_a_variable_holds_is_the_secret_and_never_the_name_of_a_place() {
    let kafka = |line: &str| {
        let env = |name: &str| (name == "SECRET").then(|| OsString::from("env:hunter2"));
        Config::parse(&small("topic =", &format!("{line}\ntopic =")), &env).unwrap().kafka
    };
    let password = |value: &str| kafka(&format!("\"sasl.password\" = \"{value}\""));
    for (written, read, plain) in [
        ("${SECRET}", "plain:env:hunter2", false),
        ("env:PASSWORD", "env:PASSWORD", false),
        ("file:/run/${SECRET}", "file:/run/env:hunter2", false),
        ("open-sesame", "open-sesame", true),
        ("plain:file:sesame", "plain:file:sesame", true),
    ] {
        let kafka = password(written);
        assert_eq!(kafka.properties["sasl.password"], read);
        assert_eq!(!kafka.plain_secrets.is_empty(), plain, "{written}");
        assert!(!format!("{kafka:?}").contains("sesame"));
    }
    let other = kafka("\"client.rack\" = \"${SECRET}\"\n\"ssl.ca.pem\" = \"-----BEGIN\"");
    assert_eq!(other.properties["client.rack"], "env:hunter2", "no secret stands there");
    assert_eq!(other.plain_secrets, [""; 0]);
}

#[test]
fn a_catalogs_secret_that_stands_in_the_file_is_noted() {
    let noted = |lines: &str| parse(&small("type = \"sql\"", &format!("type = \"sql\"\n{lines}"))).catalog.plain_secrets;
    assert_eq!(noted("\"s3.secret-access-key\" = \"sesame\"\n\"s3.access-key-id\" = \"me\""), ["s3.secret-access-key"]);
    assert_eq!(noted("\"s3.secret-access-key\" = \"file:/run/key\"\n\"s3.access-key-id\" = \"env:ID\""), [""; 0]);
}
