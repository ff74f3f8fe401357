//! The names of the job file: a contract with everyone who has written one.

use super::{EpochUnit, Late, MatchScope, MetadataKind, OnDataLoss, Ties, Tombstones, UnknownFields, Unmapped};

/// Every table and its keys; the first is the top of the file.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    ("", &["name", "mode", "kafka", "format", "metadata", "catalog", "table", "merge", "watermark", "limits", "rejects", "verify"]),
    ("kafka", &["topic", "start", "on_data_loss", "mirror_group"]),
    ("format", &["type", "epoch_unit", "unknown_fields"]),
    ("metadata", &["columns"]),
    ("catalog", &["use", "type", "name", "uri", "warehouse"]),
    ("table", &["name", "branch", "columns", "partition_by", "sort_by", "format_version", "properties"]),
    ("table.columns", &["name", "type", "required", "doc"]),
    ("merge", &["id", "event_time", "order_by", "ties", "match", "tombstones", "deletes", "deleted_column", "unmapped"]),
    ("watermark", &["delay", "late", "max_future"]),
    (
        "limits",
        &[
            "max_offsets_per_trigger",
            "max_bytes_per_trigger",
            "max_duration",
            "min_offsets_per_trigger",
            "max_trigger_delay",
            "memory_limit",
            "stall_timeout",
            "shutdown_grace",
        ],
    ),
    ("rejects", &["table", "max_ratio"]),
    ("verify", &["unique"]),
];

/// Keys whose value may be a list or a table.
pub(super) const STRUCTURED: &[(&str, &str)] = &[
    ("kafka", "start"),
    ("metadata", "columns"),
    ("table", "columns"),
    ("table", "partition_by"),
    ("table", "sort_by"),
    ("table", "properties"),
    ("merge", "id"),
    ("merge", "order_by"),
    ("verify", "unique"),
];

/// Of these, tables whose own keys are the user's.
pub(super) const OPEN: &[(&str, &str)] = &[("metadata", "columns"), ("table", "properties")];

pub(super) const ON_DATA_LOSS: &[(&str, OnDataLoss)] = &[("fail", OnDataLoss::Fail), ("skip", OnDataLoss::Skip)];

pub(super) const EPOCH_UNITS: &[(&str, EpochUnit)] =
    &[("s", EpochUnit::Seconds), ("ms", EpochUnit::Millis), ("us", EpochUnit::Micros), ("ns", EpochUnit::Nanos)];

pub(super) const UNKNOWN_FIELDS: &[(&str, UnknownFields)] = &[("ignore", UnknownFields::Ignore), ("reject", UnknownFields::Reject)];

pub(super) const METADATA: &[(&str, MetadataKind)] = &[
    ("topic", MetadataKind::Topic),
    ("partition", MetadataKind::Partition),
    ("offset", MetadataKind::Offset),
    ("timestamp", MetadataKind::Timestamp),
    ("key", MetadataKind::Key),
    ("headers", MetadataKind::Headers),
    ("sha256", MetadataKind::Sha256),
];

pub(super) const TIES: &[(&str, Ties)] = &[("replace", Ties::Replace), ("keep", Ties::Keep)];

pub(super) const MATCH: &[(&str, MatchScope)] = &[("table", MatchScope::Table), ("watermark", MatchScope::Watermark)];

pub(super) const TOMBSTONES: &[(&str, Tombstones)] =
    &[("reject", Tombstones::Reject), ("ignore", Tombstones::Ignore), ("delete", Tombstones::Delete)];

pub(super) const UNMAPPED: &[(&str, Unmapped)] =
    &[("refuse", Unmapped::Refuse), ("null", Unmapped::Null), ("keep", Unmapped::Keep)];

pub(super) const LATE: &[(&str, Late)] = &[("reject", Late::Reject), ("drop", Late::Drop), ("merge", Late::Merge)];

/// The word for a value.
///
/// # Panics
/// When a value has no word: every list above names all values of its type.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, other)| other == value).map(|(word, _)| *word).expect("every value has a word")
}

/// Whether the job file has a table of this name at its top.
pub(super) fn is_table(name: &str) -> bool {
    !name.is_empty() && !name.contains('.') && KEYS.iter().any(|(table, _)| *table == name)
}

/// The keys of a table.
///
/// # Panics
/// When there is no such table: the name is always a literal of ours.
pub(super) fn keys(table: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == table).map(|(_, keys)| *keys).expect("tables are named by literals")
}

/// Where a key would be right that is wrong in `table`, if it is right in exactly one other place.
pub(super) fn elsewhere(table: &str, key: &str) -> Option<String> {
    // The keys of a column are common words, and a column is no place of its own.
    if table == "table.columns" {
        return None;
    }
    let mut places = KEYS.iter().filter(|(name, keys)| *name != table && *name != "table.columns" && keys.contains(&key));
    match (places.next(), places.next()) {
        (Some(("", _)), None) => Some(String::from("at the top of the file, before the first table")),
        (Some((place, _)), None) => Some(format!("in [{place}]")),
        _ => None,
    }
}
