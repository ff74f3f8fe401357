//! Makes the job's table from `[table]`, by Iceberg's rules and with Spark's names.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{
    FormatVersion, ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, SortField, SortOrder, StructType,
    TableMetadata, TableMetadataBuilder, Transform, Type, UnboundPartitionSpec,
};

use super::fit::{describe, fit, same_type};
use crate::catalog::Catalog;
use crate::config::{ColumnConfig, Config, Mode, is_secret};
use crate::error::{Error, Result};
use crate::job::table_ident;

/// Properties that a new table gets unless the job file says otherwise.
const DEFAULTS: [(&str, &str); 5] = [
    // A run reads every manifest, and adds up to two: at Iceberg's 100 they were most of its requests.
    ("commit.manifest.min-count-to-merge", "5"),
    ("write.delete.mode", "merge-on-read"),
    ("write.merge.mode", "merge-on-read"),
    ("write.parquet.compression-codec", "zstd"),
    ("write.update.mode", "merge-on-read"),
];

/// What `init` found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Created {
    /// Namespace and name.
    pub(crate) table: TableIdent,
    /// The table's root.
    pub(crate) location: String,
    /// Whether it existed before and was left as it is.
    pub(crate) already_there: bool,
    /// Where an existing table differs from what the job file would have made, as phrases. The job can run on it all the same.
    pub(crate) differences: Vec<String>,
}

/// Creates the job's table, or says how the one that is there differs. One that does not fit the job is an error.
pub(crate) async fn init(config: &Config, catalog: &impl Catalog) -> Result<Created> {
    let table = table_ident(config);
    let mut created = false;
    let wanted = if config.table.columns.is_empty() {
        None
    } else {
        let wanted = new_table(config, catalog.default_location(&table))?;
        // A table that the job could not run on is not made either.
        fit(config, &wanted)?;
        created = catalog.create(&table, wanted.clone()).await?;
        Some(wanted)
    };
    // A server may have made something else of it.
    let Some(found) = catalog.load(&table).await? else {
        return Err(Error::setup(
            format!("table `{table}` does not exist, and the job file has no columns to make it from"),
            "list them in `[table] columns`, or create the table with another tool",
        ));
    };
    fit(config, &found.metadata)?;
    Ok(Created {
        table,
        location: found.metadata.location().to_owned(),
        already_there: !created,
        differences: wanted.map(|wanted| differences(config, &wanted, &found.metadata)).unwrap_or_default(),
    })
}

/// Metadata of a new table without snapshots.
pub(crate) fn new_table(config: &Config, location: String) -> Result<TableMetadata> {
    let schema = schema(config)?;
    let spec = partition_spec(config, &schema)?;
    let order = sort_order(config, &schema)?;
    let version = match config.table.format_version {
        2 => FormatVersion::V2,
        3 => FormatVersion::V3,
        other => return Err(Error::broken(format!("the job file asks for format version {other}"))),
    };
    let mut properties: HashMap<String, String> = DEFAULTS.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    properties.extend(config.table.properties.iter().map(|(key, value)| (key.clone(), value.clone())));
    // The builder gives fresh ids to all fields, top level first, and binds spec, order and identifier to them.
    let built = TableMetadataBuilder::new(schema, spec, order, location, version, properties).and_then(TableMetadataBuilder::build);
    Ok(built.map_err(|e| unfit("table", &e))?.metadata)
}

fn schema(config: &Config) -> Result<Schema> {
    let mut ids = 0;
    let fields: Vec<NestedFieldRef> = config.table.columns.iter().map(|column| field(column, &mut ids)).collect();
    let identifier = identifier(config, &fields);
    Schema::builder().with_fields(fields).with_identifier_field_ids(identifier).build().map_err(|e| unfit("columns", &e))
}

/// The id columns, if all of them can be Iceberg identifiers: Flink and others read the primary key there.
fn identifier(config: &Config, fields: &[NestedFieldRef]) -> Vec<i32> {
    let Mode::Merge(merge) = &config.mode else {
        return Vec::new();
    };
    let usable = |field: &&NestedFieldRef| {
        let float = [PrimitiveType::Float, PrimitiveType::Double].map(Type::Primitive).contains(&field.field_type);
        field.required && field.field_type.is_primitive() && !float
    };
    let ids = merge.id.iter().map(|name| fields.iter().find(|field| field.name == *name).filter(usable).map(|field| field.id));
    ids.collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn field(column: &ColumnConfig, ids: &mut i32) -> NestedFieldRef {
    let id = next(ids);
    let mut field = NestedField::new(id, &column.name, renumbered(&column.field_type, ids), column.required);
    field.doc.clone_from(&column.doc);
    Arc::new(field)
}

/// The same type with nested ids that are unique in the whole schema: the job file's are unique in their column only.
fn renumbered(field_type: &Type, ids: &mut i32) -> Type {
    let mut nested = |field: &NestedFieldRef| {
        let id = next(ids);
        let mut new = NestedField::clone(field);
        new.id = id;
        new.field_type = Box::new(renumbered(&field.field_type, ids));
        Arc::new(new)
    };
    match field_type {
        Type::Primitive(_) => field_type.clone(),
        Type::Struct(fields) => Type::Struct(StructType::new(fields.fields().iter().map(nested).collect())),
        Type::List(list) => Type::List(ListType { element_field: nested(&list.element_field) }),
        Type::Map(map) => {
            let key_field = nested(&map.key_field);
            Type::Map(MapType { key_field, value_field: nested(&map.value_field) })
        }
    }
}

fn next(ids: &mut i32) -> i32 {
    *ids += 1;
    *ids
}

fn partition_spec(config: &Config, schema: &Schema) -> Result<UnboundPartitionSpec> {
    // REST servers insist on the spec's id.
    let mut builder = UnboundPartitionSpec::builder().with_spec_id(0);
    for by in &config.table.partition_by {
        let id = source(schema, &by.column, "table.partition_by")?;
        builder = builder
            .add_partition_field(id, partition_name(&by.column, by.transform), by.transform)
            .map_err(|e| unfit("`table.partition_by`", &e))?;
    }
    Ok(builder.build())
}

/// Name of a partition field, as Spark's `PARTITIONED BY` gives it.
pub(crate) fn partition_name(column: &str, transform: Transform) -> String {
    let suffix = match transform {
        Transform::Identity | Transform::Unknown => return column.to_owned(),
        Transform::Bucket(_) => "bucket",
        Transform::Truncate(_) => "trunc",
        Transform::Year => "year",
        Transform::Month => "month",
        Transform::Day => "day",
        Transform::Hour => "hour",
        Transform::Void => "null",
    };
    format!("{column}_{suffix}")
}

fn sort_order(config: &Config, schema: &Schema) -> Result<SortOrder> {
    let mut fields = Vec::new();
    for by in &config.table.sort_by {
        fields.push(SortField {
            source_id: source(schema, &by.column, "table.sort_by")?,
            transform: by.transform,
            direction: by.direction,
            null_order: by.nulls,
        });
    }
    let order = SortOrder::builder().with_fields(fields).build(schema);
    order.map_err(|e| unfit("`table.sort_by`", &e))
}

fn source(schema: &Schema, column: &str, setting: &str) -> Result<i32> {
    schema
        .field_id_by_name(column)
        .ok_or_else(|| Error::setup(format!("`{setting}` names `{column}`, which is no column"), "name one of `[table] columns`"))
}

fn unfit(what: &str, error: &iceberg::Error) -> Error {
    Error::setup(
        format!("the {what} of the job file make no Iceberg table: {}", error.message()),
        "change `[table]` in the job file",
    )
}

/// How the table that is there differs from the one that `init` would have made.
fn differences(config: &Config, wanted: &TableMetadata, found: &TableMetadata) -> Vec<String> {
    let mut all = Vec::new();
    if wanted.format_version() != found.format_version() {
        all.push(format!("its format version is {}, not {}", found.format_version(), wanted.format_version()));
    }
    column_differences(wanted.current_schema(), found.current_schema(), &mut all);
    let mut differ = |what: &str, wanted: String, found: String| {
        if wanted != found {
            all.push(format!("its {what} {found}, not {wanted}"));
        }
    };
    differ("partition is", partition_text(wanted), partition_text(found));
    differ("sort order is", sort_text(wanted), sort_text(found));
    for (key, value) in &config.table.properties {
        let (wanted, found) = match found.properties().get(key) {
            // Whether it differs is all that may be told of it.
            Some(found) if is_secret(key) && found != value => ("the job file's".into(), "another one".into()),
            None if is_secret(key) => ("the job file's".into(), "not set".into()),
            Some(found) => (format!("`{value}`"), format!("`{found}`")),
            None => (format!("`{value}`"), "not set".into()),
        };
        differ(&format!("property `{key}` is"), wanted, found);
    }
    all
}

fn column_differences(wanted: &Schema, found: &Schema, all: &mut Vec<String>) {
    for field in wanted.as_struct().fields() {
        match found.field_by_name(&field.name) {
            None => all.push(format!("it has no column `{}`", field.name)),
            Some(there) => {
                if !same_type(&field.field_type, &there.field_type) {
                    let (there, field_type) = (describe(&there.field_type), describe(&field.field_type));
                    all.push(format!("its column `{}` is {there}, not {field_type}", field.name));
                }
                if field.required != there.required {
                    let word = |required| if required { "required" } else { "optional" };
                    all.push(format!("its column `{}` is {}, not {}", field.name, word(there.required), word(field.required)));
                }
            }
        }
    }
    for field in found.as_struct().fields() {
        if wanted.field_by_name(&field.name).is_none() {
            all.push(format!("it has a column `{}` that the job file does not list", field.name));
        }
    }
}

fn partition_text(metadata: &TableMetadata) -> String {
    let schema = metadata.current_schema();
    let name = |id| schema.name_by_field_id(id).unwrap_or("?");
    let fields = metadata.default_partition_spec().fields().iter();
    list(fields.map(|field| format!("{}({})", field.transform, name(field.source_id))))
}

fn sort_text(metadata: &TableMetadata) -> String {
    let schema = metadata.current_schema();
    let name = |id| schema.name_by_field_id(id).unwrap_or("?");
    let fields = metadata.default_sort_order().fields.iter();
    list(
        fields
            .map(|field| format!("{}({}) {} nulls {}", field.transform, name(field.source_id), field.direction, field.null_order)),
    )
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
