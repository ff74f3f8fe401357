//! The names of the job file: a contract with everyone who has written one.

/// Every table and its keys; the first is the top of the file.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    ("", &["name", "mode", "kafka", "format", "metadata", "catalog", "table", "merge", "watermark", "limits", "rejects", "verify"]),
    ("kafka", &["topic", "start", "on_data_loss", "mirror_group"]),
    ("format", &["type", "epoch_unit", "unknown_fields"]),
    ("metadata", &["columns"]),
    ("catalog", &["type", "name", "uri", "warehouse"]),
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
