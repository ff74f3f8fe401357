//! Says whether a job can run on a table, and if not, everything that is in the way.
//!
//! Pure. What a column must hold for its metadata kind is for decode; what files it can read is for the rooms that read them.

use std::collections::BTreeSet;

use iceberg::spec::{FormatVersion, PrimitiveType, Schema, TableMetadata, Transform, Type};

use crate::config::{Config, MergeConfig, MetadataKind, Mode, Unmapped};
use crate::error::{Error, Result};

/// Table property that says how a MERGE takes rows out. Those of UPDATE and DELETE are for other engines.
pub(crate) const MERGE_MODE: &str = "write.merge.mode";

/// How a MERGE takes rows out of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeMode {
    /// By delete files or vectors, which readers apply.
    MergeOnRead,
    /// By new data files without them.
    CopyOnWrite,
}

impl MergeMode {
    /// As the table says, in any case as Java reads it; merge-on-read where it says nothing. An unknown mode is the error.
    pub(crate) fn of(metadata: &TableMetadata) -> Result<Self, &str> {
        let Some(mode) = metadata.properties().get(MERGE_MODE) else { return Ok(Self::MergeOnRead) };
        let is = |name: &str| mode.eq_ignore_ascii_case(name);
        if is("merge-on-read") {
            Ok(Self::MergeOnRead)
        } else if is("copy-on-write") {
            Ok(Self::CopyOnWrite)
        } else {
            Err(mode)
        }
    }
}

const UUID: Type = Type::Primitive(PrimitiveType::Uuid);

/// One thing that keeps the job from running on the table.
struct Misfit {
    what: String,
    hint: String,
}

/// Refuses a table that the job cannot run on (78), naming every reason.
pub(crate) fn fit(config: &Config, metadata: &TableMetadata) -> Result<()> {
    let mut misfits = Misfits(Vec::new());
    misfits.format(config, metadata);
    misfits.columns(config, metadata.current_schema());
    match &config.mode {
        Mode::Merge(merge) => misfits.merge(config, merge, metadata.current_schema()),
        Mode::Append { event_time } => {
            if let Some(column) = event_time {
                misfits.event_time(config, metadata.current_schema(), column);
            }
        }
    }
    for column in &config.verify.unique {
        misfits.key(config, metadata.current_schema(), column, "verify.unique");
    }
    misfits.unmapped(config, metadata.current_schema());
    misfits.into_result(config)
}

/// Columns that the job fills, of this table or missing from it.
pub(crate) fn supplied(config: &Config, schema: &Schema) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = if config.table.columns.is_empty() {
        schema.as_struct().fields().iter().map(|field| field.name.clone()).collect()
    } else {
        config.table.columns.iter().map(|column| column.name.clone()).collect()
    };
    names.extend(config.metadata.keys().cloned());
    names
}

/// Whether two types hold the same values, whatever ids their nested fields have.
pub(crate) fn same_type(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Primitive(one), Type::Primitive(other)) => one == other,
        (Type::List(one), Type::List(other)) => same_type(&one.element_field.field_type, &other.element_field.field_type),
        (Type::Map(one), Type::Map(other)) => {
            same_type(&one.key_field.field_type, &other.key_field.field_type)
                && same_type(&one.value_field.field_type, &other.value_field.field_type)
        }
        (Type::Struct(one), Type::Struct(other)) => {
            one.fields().len() == other.fields().len()
                && one
                    .fields()
                    .iter()
                    .zip(other.fields())
                    .all(|(one, other)| one.name == other.name && same_type(&one.field_type, &other.field_type))
        }
        _ => false,
    }
}

/// A type as the job file writes it.
pub(crate) fn describe(of: &Type) -> String {
    match of {
        Type::Primitive(primitive) => primitive.to_string(),
        Type::List(list) => format!("list<{}>", describe(&list.element_field.field_type)),
        Type::Map(map) => format!("map<{}, {}>", describe(&map.key_field.field_type), describe(&map.value_field.field_type)),
        Type::Struct(fields) => {
            let fields = fields.fields().iter().map(|field| format!("{}: {}", field.name, describe(&field.field_type)));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

struct Misfits(Vec<Misfit>);

impl Misfits {
    fn add(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Misfit { what: what.into(), hint: hint.into() });
    }

    fn format(&mut self, config: &Config, metadata: &TableMetadata) {
        let property = |key: &str| metadata.properties().get(key).map(String::as_str);
        if metadata.encryption_keys_iter().len() > 0 || property("encryption.key-id").is_some() {
            self.add("the table is encrypted", "tidegate can neither read nor write encrypted tables");
        }
        if matches!(config.mode, Mode::Merge(_)) {
            if metadata.format_version() == FormatVersion::V1 {
                self.add(
                    "the table has format version 1, which cannot hold deletes",
                    "upgrade it (`ALTER TABLE .. SET TBLPROPERTIES ('format-version' = '2')`), or use `mode = \"append\"`",
                );
            }
            if let Err(mode) = MergeMode::of(metadata) {
                self.add(format!("table property `{MERGE_MODE}` is `{mode}`"), "set it to `merge-on-read` or `copy-on-write`");
            }
        }
        let schema = metadata.current_schema();
        for field in metadata.default_partition_spec().fields() {
            let gone = schema.field_by_id(field.source_id).is_none() && field.transform != Transform::Void;
            if gone || field.transform == Transform::Unknown {
                self.add(
                    format!("tidegate does not know how to compute partition field `{}`", field.name),
                    "give the table a partition spec of identity, bucket, truncate, year, month, day and hour",
                );
            }
            let uuid = schema.field_by_id(field.source_id).is_some_and(|source| *source.field_type == UUID);
            if uuid && field.transform == Transform::Identity {
                self.add(
                    format!(
                        "partition field `{}` is a uuid column as it is, which tidegate cannot write into manifests",
                        field.name
                    ),
                    "every row would be a partition of its own; `bucket(16, ..)` of the column spreads rows evenly",
                );
            }
        }
    }

    /// Columns that the job lists must be in the table, with their types; metadata columns must be in it.
    fn columns(&mut self, config: &Config, schema: &Schema) {
        for column in &config.table.columns {
            if let Some(there) = self.find(schema, &column.name, "table.columns")
                && !same_type(there, &column.field_type)
            {
                let (there, wanted) = (describe(there), describe(&column.field_type));
                self.add(
                    format!("column `{}` is {there} in the table, but {wanted} in `[table] columns`", column.name),
                    "make them the same; without `columns` the job takes the table's own",
                );
            }
        }
        let listed = |name: &String| config.table.columns.iter().any(|column| column.name == *name);
        for column in config.metadata.keys().filter(|name| !listed(name)) {
            self.find(schema, column, "metadata.columns");
        }
    }

    fn merge(&mut self, config: &Config, merge: &MergeConfig, schema: &Schema) {
        for column in &merge.id {
            self.key(config, schema, column, "merge.id");
        }
        self.event_time(config, schema, &merge.event_time);
        for column in &merge.order_by {
            self.key(config, schema, column, "merge.order_by");
        }
        if let Some(flag) = merge.deleted_column() {
            self.deletes(config, merge, flag, schema);
        }
    }

    /// A soft delete of an id that is not stored is a row as well, with no more than a record without a value can give.
    fn deletes(&mut self, config: &Config, merge: &MergeConfig, flag: &str, schema: &Schema) {
        if let Some(found) = self.supplied(config, schema, flag, "merge.deleted_column")
            && *found != Type::Primitive(PrimitiveType::Boolean)
        {
            let found = describe(found);
            self.add(format!("`merge.deleted_column` names `{flag}`, a column of type {found}"), "a flag is a boolean");
        }
        for field in schema.as_struct().fields().iter().filter(|field| field.required) {
            let name = &field.name;
            let metadata = config.metadata.get(name).is_some_and(|kind| *kind != MetadataKind::Sha256);
            let given = merge.id.contains(name) || merge.event_time == *name || flag == name;
            if !given && (!metadata || merge.order_by.contains(name)) {
                self.add(
                    format!("column `{name}` is required, and a delete with `merge.deletes = \"soft\"` has no value for it"),
                    "make the column optional in the table (Spark: `ALTER TABLE .. ALTER COLUMN .. DROP NOT NULL`), \
                        or use `deletes = \"hard\"`",
                );
            }
        }
    }

    /// A column whose values are compared.
    fn key(&mut self, config: &Config, schema: &Schema, column: &str, setting: &str) {
        if let Some(found) = self.supplied(config, schema, column, setting)
            && !found.is_primitive()
        {
            let found = describe(found);
            self.add(
                format!("`{setting}` names `{column}`, a column of type {found}"),
                "only columns of primitive types can be compared",
            );
        }
    }

    fn event_time(&mut self, config: &Config, schema: &Schema, column: &str) {
        use PrimitiveType as P;
        let Some(found) = self.supplied(config, schema, column, "merge.event_time") else {
            return;
        };
        if !matches!(found, Type::Primitive(P::Date | P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs)) {
            let found = describe(found);
            self.add(
                format!("`merge.event_time` names `{column}`, a column of type {found}"),
                "an event time is a date or a timestamp",
            );
        }
    }

    /// Type of a column that a setting needs in the table and that the job must fill.
    fn supplied<'s>(&mut self, config: &Config, schema: &'s Schema, column: &str, setting: &str) -> Option<&'s Type> {
        if !supplied(config, schema).contains(column) && schema.field_id_by_name(column).is_some() {
            self.add(
                format!("`{setting}` names `{column}`, which the job does not fill"),
                "add the column to `[table] columns` or to `[metadata] columns`",
            );
            return None;
        }
        // A listed column that the table lacks was named already.
        let named = config.table.columns.iter().any(|listed| listed.name == column) || config.metadata.contains_key(column);
        if named { top_level(schema, column) } else { self.find(schema, column, setting) }
    }

    /// Type of a column, which must be in the table.
    fn find<'s>(&mut self, schema: &'s Schema, column: &str, setting: &str) -> Option<&'s Type> {
        let found = top_level(schema, column);
        if found.is_none() {
            let hint = match schema.field_by_name_case_insensitive(column) {
                Some(near) => format!("its column is called `{}`: names are compared letter by letter", near.name),
                None => {
                    let names = schema.as_struct().fields().iter().map(|field| format!("`{}`", field.name));
                    format!(
                        "its columns are {}; add the column to the table, or change the job file",
                        names.collect::<Vec<_>>().join(", ")
                    )
                }
            };
            self.add(format!("the table has no column `{column}`, which `{setting}` names"), hint);
        }
        found
    }

    /// Columns of the table that the job does not fill.
    fn unmapped(&mut self, config: &Config, schema: &Schema) {
        let supplied = supplied(config, schema);
        // Rows that are appended have nothing to keep, and listing some columns only is how one says the others are null.
        let refuse = matches!(&config.mode, Mode::Merge(merge) if merge.unmapped == Unmapped::Refuse);
        for field in schema.as_struct().fields() {
            if supplied.contains(&field.name) {
                continue;
            }
            if field.required {
                self.add(
                    format!("the job does not fill `{}`, a required column of the table", field.name),
                    "add it to `[table] columns`, or make it optional in the table",
                );
            } else if refuse {
                self.add(
                    format!("the job does not fill column `{}` of the table", field.name),
                    "add it to `[table] columns`, or say what becomes of it: `merge.unmapped = \"null\"` or `\"keep\"`",
                );
            }
        }
    }

    fn into_result(self, config: &Config) -> Result<()> {
        let table = format!("{}.{}", config.table.namespace.join("."), config.table.name);
        let job = &config.name;
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::setup(format!("job `{job}` cannot run on table `{table}`: {}", one.what), one.hint.clone())),
            many => {
                let lines = many.iter().map(|misfit| format!("\n  {} ({})", misfit.what, misfit.hint));
                let what = format!("job `{job}` cannot run on table `{table}`:{}", lines.collect::<String>());
                Err(Error::setup(what, "`tidegate init` makes a table that fits the job file, under a name that is free"))
            }
        }
    }
}

/// Field ids of the id's columns, ascending: they outlive a new name. None in append mode.
pub(crate) fn id_fields(config: &Config, schema: &Schema) -> Option<Vec<i32>> {
    let Mode::Merge(merge) = &config.mode else { return None };
    let mut ids: Vec<i32> = merge.id.iter().filter_map(|name| schema.field_id_by_name(name)).collect();
    ids.sort_unstable();
    Some(ids)
}

fn top_level<'s>(schema: &'s Schema, column: &str) -> Option<&'s Type> {
    schema.as_struct().field_by_name(column).map(|field| field.field_type.as_ref())
}

#[cfg(test)]
mod tests;
