//! `[table]`: where the rows go, and what `init` makes.

use std::collections::BTreeMap;

use iceberg::spec::{PrimitiveType, Type};

use super::columns::{ColumnUse, Columns, Wants};
use super::reader::{Section, Value};
use super::{ColumnConfig, PartitionBy, SortBy, TableConfig, transforms, types};

/// What every Iceberg reader takes.
const FORMAT_VERSION_DEFAULT: u8 = 2;

/// `[table]`, with what is known of its columns.
pub(super) fn read_table(table: &Section<'_>, uses: &mut Vec<ColumnUse>) -> (TableConfig, Columns) {
    let (namespace, name) = table.require("name").and_then(|value| value.parsed(table_name)).unwrap_or_default();
    let format_version = table.get("format_version").and_then(|value| format_version(&value)).unwrap_or(FORMAT_VERSION_DEFAULT);
    let mut known = Columns::default();
    let entries = table.get("columns").map(|value| value.list()).unwrap_or_default();
    let columns = entries.iter().filter_map(|entry| column(entry, format_version, &mut known)).collect();
    let config = TableConfig {
        namespace,
        name,
        branch: table.get("branch").and_then(|value| value.name()).unwrap_or_else(|| String::from("main")),
        columns,
        partition_by: read_partition(table, uses),
        sort_by: read_sort(table, uses),
        format_version,
        properties: table.get("properties").map(|value| properties(&value)).unwrap_or_default(),
    };
    (config, known)
}

/// `namespace.name`, with any number of namespace levels.
pub(super) fn table_name(text: &str) -> Result<(Vec<String>, String), String> {
    let mut levels: Vec<String> = text.split('.').map(str::to_owned).collect();
    let name = levels.pop().unwrap_or_default();
    let fits = |part: &String| !part.trim().is_empty() && !part.contains('/');
    if levels.is_empty() || !levels.iter().chain([&name]).all(fits) {
        return Err(format!("`{text}` is not a table name; write it with its namespace, as in `news.articles`"));
    }
    Ok((levels, name))
}

fn format_version(value: &Value<'_>) -> Option<u8> {
    match value.count()? {
        2 => Some(2),
        3 => Some(3),
        other => {
            value.mistake(format!("`table.format_version` must be 2 or 3, not {other}"));
            None
        }
    }
}

fn column(entry: &Value<'_>, format_version: u8, known: &mut Columns) -> Option<ColumnConfig> {
    let Some(section) = entry.section("table.columns") else {
        known.incomplete = true;
        return None;
    };
    section.refuse_unknown();
    let name = section.require("name").and_then(|value| value.name());
    let field_type = section.require("type").and_then(|value| {
        let field_type = value.parsed(types::parse)?;
        if format_version < 3 && holds_nanoseconds(&field_type) {
            value.mistake(format!("`table.columns.type`: {field_type} exists from format version 3; write `format_version = 3`"));
        }
        Some(field_type)
    });
    let required = section.get("required").and_then(|value| value.flag()).unwrap_or(false);
    let doc = section.get("doc").and_then(|value| value.text());
    let Some(name) = name else {
        known.incomplete = true;
        return None;
    };
    if known.found.iter().any(|(other, _)| *other == name) {
        entry.mistake(format!("column `{name}` is given twice in `table.columns`"));
    }
    known.found.push((name.clone(), field_type.clone()));
    Some(ColumnConfig { name, field_type: field_type?, required, doc })
}

fn holds_nanoseconds(field_type: &Type) -> bool {
    match field_type {
        Type::Primitive(primitive) => matches!(primitive, PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs),
        Type::Struct(fields) => fields.fields().iter().any(|field| holds_nanoseconds(&field.field_type)),
        Type::List(list) => holds_nanoseconds(&list.element_field.field_type),
        Type::Map(map) => holds_nanoseconds(&map.key_field.field_type) || holds_nanoseconds(&map.value_field.field_type),
    }
}

fn read_partition(table: &Section<'_>, uses: &mut Vec<ColumnUse>) -> Vec<PartitionBy> {
    let mut fields: Vec<PartitionBy> = Vec::new();
    for value in table.get("partition_by").map(|value| value.list()).unwrap_or_default() {
        let Some(field) = value.parsed(transforms::partition) else { continue };
        let again =
            |other: &PartitionBy| other.column == field.column && other.transform.dedup_name() == field.transform.dedup_name();
        if fields.iter().any(again) {
            value
                .mistake(format!("`{}`: column `{}` is partitioned twice by the same kind of transform", value.path, field.column));
        }
        uses.push(column_use(&value, &field.column, Wants::Transform(field.transform)));
        fields.push(field);
    }
    fields
}

fn read_sort(table: &Section<'_>, uses: &mut Vec<ColumnUse>) -> Vec<SortBy> {
    let mut fields = Vec::new();
    for value in table.get("sort_by").map(|value| value.list()).unwrap_or_default() {
        let Some(field) = value.parsed(transforms::sort) else { continue };
        uses.push(column_use(&value, &field.column, Wants::Transform(field.transform)));
        fields.push(field);
    }
    fields
}

/// One place where the job names a column.
pub(super) fn column_use(value: &Value<'_>, column: &str, wants: Wants) -> ColumnUse {
    ColumnUse { column: column.to_owned(), at: value.at, by: value.path.clone(), wants }
}

fn properties(value: &Value<'_>) -> BTreeMap<String, String> {
    let Some(section) = value.section("table.properties") else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for (name, value) in section.properties(&[]) {
        if name.starts_with("tidegate.") {
            value.mistake(format!("`{name}` cannot be set in [table.properties]: tidegate keeps its own state under such names"));
        } else if name == "format-version" {
            value.mistake("`format-version` cannot be set in [table.properties]: write `format_version` in [table]");
        }
        found.extend(value.property().map(|text| (name, text)));
    }
    found
}
