//! A job as it takes effect: every setting with its value and where it came from, as rows that make a job file again.
//!
//! Pure. Values are those of the `Config`, not the texts they were read from, so what is shown is what a run takes. A field that is
//! new must find its row here: every struct is taken apart whole.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use iceberg::spec::{NullOrder, SortDirection, Transform};
use toml::{Table, Value};

use super::masked::MASK;
use super::origin::Origin;
use super::vocabulary::{self, word};
use super::{
    CatalogConfig, ColumnConfig, Config, Deletes, FormatConfig, KafkaConfig, Limits, MergeConfig, Mode, PartitionBy, RejectsConfig,
    SortBy, Start, TableConfig, VerifyConfig, WatermarkConfig, catalog, catalog_properties, is_secret, types, units,
};

/// One setting as it takes effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its table, as in `kafka` or `table.properties`; empty for the top of the file.
    pub table: &'static str,
    /// Its name in the table.
    pub name: String,
    /// Its value as a job file would give it; `***` for a secret.
    pub value: Value,
    /// Whether the value is a secret.
    pub secret: bool,
    /// Where it comes from; none where it is the default.
    pub from: Option<Origin>,
}

impl Setting {
    /// `kafka.topic`; a name with a dot in quotes.
    pub fn key(&self) -> String {
        if self.table.is_empty() { quoted(&self.name) } else { format!("{}.{}", self.table, quoted(&self.name)) }
    }

    /// The line that a job file would give it by. A list of tables has a line for each.
    pub fn assignment(&self) -> String {
        let value = match &self.value {
            Value::Array(rows) if rows.iter().any(Value::is_table) => {
                let rows: Vec<String> = rows.iter().map(|row| format!("    {row},\n")).collect();
                format!("[\n{}]", rows.concat())
            }
            other => other.to_string(),
        };
        format!("{} = {value}", quoted(&self.name))
    }
}

/// A key as TOML writes it.
fn quoted(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { name.to_owned() } else { Value::from(name).to_string() }
}

/// Rows so far.
struct Rows<'a> {
    origins: &'a BTreeMap<String, Origin>,
    table: &'static str,
    found: Vec<Setting>,
}

impl Rows<'_> {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.push(name, value.into(), false);
    }

    fn add_text(&mut self, name: &str, text: &str, is_secret: bool) {
        let secret = is_secret || catalog::holds_password(text);
        self.push(name, Value::from(if secret { MASK } else { text }), secret);
    }

    fn push(&mut self, name: &str, value: Value, secret: bool) {
        let path = if self.table.is_empty() { name.to_owned() } else { format!("{}.{name}", self.table) };
        let from = self.origins.get(&path).cloned();
        self.found.push(Setting { table: self.table, name: name.to_owned(), value, secret, from });
    }
}

/// Every setting of a job.
pub(super) fn settings(config: &Config, origins: &BTreeMap<String, Origin>) -> Vec<Setting> {
    let Config { name, mode, kafka, format, metadata, catalog, table, watermark, limits, rejects, verify } = config;
    let mut rows = Rows { origins, table: "", found: Vec::new() };
    rows.add("name", name.as_str());
    rows.add("mode", if matches!(mode, Mode::Merge(_)) { "merge" } else { "append" });
    of_kafka(&mut rows, kafka);
    let FormatConfig { epoch_unit, unknown_fields } = format;
    rows.table = "format";
    rows.add("type", "json");
    rows.add("epoch_unit", word(vocabulary::EPOCH_UNITS, epoch_unit));
    rows.add("unknown_fields", word(vocabulary::UNKNOWN_FIELDS, unknown_fields));
    rows.table = "metadata.columns";
    for (column, kind) in metadata {
        rows.add(column, word(vocabulary::METADATA, kind));
    }
    of_catalog(&mut rows, catalog);
    of_table(&mut rows, table);
    of_mode(&mut rows, mode);
    // In append mode without an event time nothing is late, and a job file must not say what would be.
    if !matches!(mode, Mode::Append { event_time: None }) {
        let WatermarkConfig { delay, late, max_future } = watermark;
        rows.table = "watermark";
        rows.add("delay", time(*delay));
        rows.add("late", word(vocabulary::LATE, late));
        rows.add("max_future", time(*max_future));
    }
    of_limits(&mut rows, limits);
    let RejectsConfig { table: named, max_ratio } = rejects;
    rows.table = "rejects";
    let named = named.clone().unwrap_or_else(|| (table.namespace.clone(), format!("{}_rejects", table.name)));
    rows.add("table", full_name(&named.0, &named.1));
    rows.add("max_ratio", *max_ratio);
    let VerifyConfig { unique } = verify;
    rows.table = "verify";
    rows.add("unique", unique.clone());
    rows.found
}

fn of_kafka(rows: &mut Rows<'_>, kafka: &KafkaConfig) {
    let KafkaConfig { topic, start, on_data_loss, mirror_group, properties, plain_secrets: _ } = kafka;
    rows.table = "kafka";
    rows.add("topic", topic.as_str());
    rows.add("start", start_value(start));
    rows.add("on_data_loss", word(vocabulary::ON_DATA_LOSS, on_data_loss));
    rows.add("mirror_group", *mirror_group);
    for (name, value) in properties {
        rows.add_text(name, value, is_secret(name));
    }
}

fn start_value(start: &Start) -> Value {
    match start {
        Start::Earliest => Value::from("earliest"),
        Start::Latest => Value::from("latest"),
        Start::Timestamp(millis) => {
            let time = DateTime::from_timestamp_millis(*millis).unwrap_or_default();
            Value::from(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        Start::Offsets(offsets) => {
            Value::Table(offsets.iter().map(|(partition, offset)| (partition.to_string(), Value::from(*offset))).collect())
        }
    }
}

fn of_catalog(rows: &mut Rows<'_>, catalog: &CatalogConfig) {
    let CatalogConfig { kind, name, uri, warehouse, properties, plain_secrets: _ } = catalog;
    rows.table = "catalog";
    rows.add("type", catalog::kind(*kind));
    rows.add("name", name.as_str());
    rows.add("uri", uri.as_str());
    // A REST server may have one only, which then needs no name.
    if !warehouse.is_empty() {
        rows.add("warehouse", warehouse.as_str());
    }
    for (name, value) in properties {
        rows.add_text(name, value, catalog_properties::is_secret(name));
    }
}

fn of_table(rows: &mut Rows<'_>, table: &TableConfig) {
    let TableConfig { namespace, name, branch, columns, partition_by, sort_by, format_version, properties } = table;
    rows.table = "table";
    rows.add("name", full_name(namespace, name));
    rows.add("branch", branch.as_str());
    rows.add("columns", columns.iter().map(column).collect::<Vec<_>>());
    rows.add("partition_by", partition_by.iter().map(partition).collect::<Vec<_>>());
    rows.add("sort_by", sort_by.iter().map(sort).collect::<Vec<_>>());
    rows.add("format_version", i64::from(*format_version));
    rows.table = "table.properties";
    for (name, value) in properties {
        rows.add_text(name, value, is_secret(name));
    }
}

fn full_name(namespace: &[String], name: &str) -> String {
    namespace.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
}

fn column(column: &ColumnConfig) -> Value {
    let ColumnConfig { name, field_type, required, doc } = column;
    let mut row = Table::new();
    row.insert("name".into(), Value::from(name.as_str()));
    row.insert("type".into(), Value::from(types::text(field_type)));
    if *required {
        row.insert("required".into(), Value::from(true));
    }
    if let Some(doc) = doc {
        row.insert("doc".into(), Value::from(doc.as_str()));
    }
    Value::Table(row)
}

fn partition(field: &PartitionBy) -> String {
    let PartitionBy { column, transform } = field;
    term(column, transform)
}

fn sort(field: &SortBy) -> String {
    let SortBy { column, transform, direction, nulls } = field;
    let direction = if *direction == SortDirection::Ascending { "asc" } else { "desc" };
    let nulls = if *nulls == NullOrder::First { "first" } else { "last" };
    format!("{} {direction} nulls {nulls}", term(column, transform))
}

fn term(column: &str, transform: &Transform) -> String {
    match transform {
        Transform::Identity if !column.contains(|c: char| c.is_whitespace() || matches!(c, '(' | ')')) => column.to_owned(),
        Transform::Bucket(number) => format!("bucket({number}, {column})"),
        Transform::Truncate(width) => format!("truncate({width}, {column})"),
        other => format!("{other}({column})"),
    }
}

fn of_mode(rows: &mut Rows<'_>, mode: &Mode) {
    rows.table = "merge";
    let merge = match mode {
        Mode::Append { event_time: None } => return,
        Mode::Append { event_time: Some(column) } => return rows.add("event_time", column.as_str()),
        Mode::Merge(merge) => merge,
    };
    let MergeConfig { id, event_time, order_by, ties, match_scope, tombstones, deletes, unmapped } = merge;
    rows.add("id", id.clone());
    rows.add("event_time", event_time.as_str());
    rows.add("order_by", order_by.clone());
    rows.add("ties", word(vocabulary::TIES, ties));
    rows.add("match", word(vocabulary::MATCH, match_scope));
    rows.add("tombstones", word(vocabulary::TOMBSTONES, tombstones));
    match deletes {
        Deletes::Hard => rows.add("deletes", "hard"),
        Deletes::Soft { column } => {
            rows.add("deletes", "soft");
            rows.add("deleted_column", column.as_str());
        }
    }
    rows.add("unmapped", word(vocabulary::UNMAPPED, unmapped));
}

fn of_limits(rows: &mut Rows<'_>, limits: &Limits) {
    let Limits {
        max_offsets_per_trigger,
        max_bytes_per_trigger,
        max_duration,
        min_offsets_per_trigger,
        max_trigger_delay,
        memory_limit,
        stall_timeout,
        shutdown_grace,
    } = limits;
    rows.table = "limits";
    rows.add("max_offsets_per_trigger", count(*max_offsets_per_trigger));
    rows.add("max_bytes_per_trigger", bytes(*max_bytes_per_trigger));
    rows.add("max_duration", time(*max_duration));
    rows.add("min_offsets_per_trigger", count(*min_offsets_per_trigger));
    rows.add("max_trigger_delay", time(*max_trigger_delay));
    rows.add("memory_limit", bytes(*memory_limit));
    rows.add("stall_timeout", time(*stall_timeout));
    rows.add("shutdown_grace", time(*shutdown_grace));
}

/// TOML knows no whole number above 2^63; as a string any is taken.
fn count(count: u64) -> Value {
    i64::try_from(count).map_or_else(|_| Value::from(count.to_string()), Value::from)
}

fn bytes(count: u64) -> Value {
    Value::from(units::bytes_text(count))
}

fn time(length: Duration) -> Value {
    Value::from(units::duration_text(length))
}
