//! The smaller tables of the job file, and what they mean for one another.

use std::collections::BTreeMap;
use std::time::Duration;

use super::columns::{ColumnUse, Wants};
use super::reader::{Section, Value};
use super::table::{column_use, table_name};
use super::{
    Deletes, EpochUnit, FormatConfig, Late, Limits, MatchScope, MergeConfig, MetadataKind, Mode, RejectsConfig, TableConfig, Ties,
    Tombstones, UnknownFields, Unmapped, VerifyConfig, WatermarkConfig, vocabulary,
};

const MAX_OFFSETS_DEFAULT: u64 = 1_000_000; // about 1 GiB at 1 KiB a record
const MAX_BYTES_DEFAULT: u64 = 1 << 30;
const MEMORY_LIMIT_DEFAULT: u64 = 1 << 30;
const MEMORY_LIMIT_MIN: u64 = 64 << 20; // below this the fetch buffers alone leave no room for a batch
const MAX_DURATION_DEFAULT: Duration = Duration::from_mins(10);
const MAX_TRIGGER_DELAY_DEFAULT: Duration = Duration::from_mins(15);
const STALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(25); // Kubernetes kills after 30 s
const MAX_FUTURE_DEFAULT: Duration = Duration::from_hours(1);

/// Metadata columns of Iceberg that a flag might be called after.
const ICEBERG_NAMES: &[&str] = &["_deleted", "_file", "_pos", "_partition", "_spec_id", "_row_id", "_last_updated_sequence_number"];

pub(super) fn job_name(root: &Section<'_>) -> String {
    let parse = |name: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&name.len()) && name.chars().all(legal) {
            Ok(name.to_owned())
        } else {
            Err(format!("`{name}` is not a job name: 1 to 64 letters, digits, `.`, `_` and `-`"))
        }
    };
    root.require("name").and_then(|value| value.parsed(parse)).unwrap_or_default()
}

/// `mode` and `[merge]`, which belong together.
pub(super) fn read_mode(root: &Section<'_>, merge: &Section<'_>, uses: &mut Vec<ColumnUse>) -> Mode {
    #[derive(Clone, Copy)]
    enum Word {
        Merge,
        Append,
    }
    let word = root.get("mode").and_then(|value| value.choice(&[("merge", Word::Merge), ("append", Word::Append)]));
    match word.unwrap_or(Word::Merge) {
        Word::Merge => Mode::Merge(read_merge(merge, uses)),
        Word::Append => {
            for (key, at) in merge.keys() {
                if key != "event_time" {
                    let message = format!("`merge.{key}` has no meaning in mode \"append\", which never looks at the table");
                    merge.reader().mistake(Some(at), message);
                }
            }
            Mode::Append { event_time: merge.get("event_time").and_then(|value| event_time(&value, uses)) }
        }
    }
}

fn read_merge(merge: &Section<'_>, uses: &mut Vec<ColumnUse>) -> MergeConfig {
    let id = merge.require("id");
    let names = id.as_ref().map(|value| column_names(value, uses)).unwrap_or_default();
    if let Some(value) = id.filter(|value| value.list().is_empty()) {
        value.mistake("`merge.id` names no column; rows are found by at least one");
    }
    let mut config = MergeConfig {
        id: names,
        event_time: merge.require("event_time").and_then(|value| event_time(&value, uses)).unwrap_or_default(),
        order_by: merge.get("order_by").map(|value| column_names(&value, uses)).unwrap_or_default(),
        ties: merge.get("ties").and_then(|value| value.choice(vocabulary::TIES)).unwrap_or(Ties::Replace),
        match_scope: merge.get("match").and_then(|value| value.choice(vocabulary::MATCH)).unwrap_or(MatchScope::Table),
        tombstones: merge.get("tombstones").and_then(|value| value.choice(vocabulary::TOMBSTONES)).unwrap_or(Tombstones::Reject),
        deletes: Deletes::Hard,
        unmapped: merge.get("unmapped").and_then(|value| value.choice(vocabulary::UNMAPPED)).unwrap_or(Unmapped::Refuse),
    };
    config.deletes = read_deletes(merge, &config, uses);
    config
}

/// `deletes` and its flag column.
fn read_deletes(merge: &Section<'_>, config: &MergeConfig, uses: &mut Vec<ColumnUse>) -> Deletes {
    let deletes = merge.get("deletes");
    let soft = deletes.as_ref().map_or(Some(false), |value| value.choice(&[("hard", false), ("soft", true)]));
    match (soft, deletes, merge.get("deleted_column")) {
        (Some(true), Some(deletes), column) => read_soft(merge, config, &deletes, column, uses),
        (Some(false), _, Some(column)) => {
            column.mistake("`merge.deleted_column` has no meaning without `deletes = \"soft\"`: a deleted row goes");
            Deletes::Hard
        }
        _ => Deletes::Hard,
    }
}

fn read_soft(
    merge: &Section<'_>,
    config: &MergeConfig,
    deletes: &Value<'_>,
    column: Option<Value<'_>>,
    uses: &mut Vec<ColumnUse>,
) -> Deletes {
    if config.tombstones != Tombstones::Delete {
        deletes.mistake("`merge.deletes`: \"soft\" has no effect without `tombstones = \"delete\"`: nothing else deletes");
    }
    let Some(value) = column else {
        if !merge.is_misspelt("deleted_column") {
            deletes.mistake("`merge.deletes`: \"soft\" needs `deleted_column`, the boolean column that is true for deleted rows");
        }
        return Deletes::Hard;
    };
    let Some(column) = value.name() else { return Deletes::Hard };
    uses.push(column_use(&value, &column, Wants::Flag));
    if ICEBERG_NAMES.contains(&column.as_str()) {
        let message = format!(
            "`merge.deleted_column`: `{column}` is a name of Iceberg's own, and Spark cannot read a table that has it; try `is_deleted`"
        );
        value.mistake(message);
    }
    let other = if config.id.contains(&column) {
        Some("merge.id")
    } else if config.event_time == column {
        Some("merge.event_time")
    } else {
        config.order_by.contains(&column).then_some("merge.order_by")
    };
    if let Some(other) = other {
        value.mistake(format!("`merge.deleted_column`: `{column}` is in `{other}` too; the flag needs a column of its own"));
    }
    Deletes::Soft { column }
}

fn event_time(value: &Value<'_>, uses: &mut Vec<ColumnUse>) -> Option<String> {
    let name = value.name()?;
    uses.push(column_use(value, &name, Wants::Time));
    Some(name)
}

/// Names of columns whose values are compared, each once.
fn column_names(list: &Value<'_>, uses: &mut Vec<ColumnUse>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for value in list.list() {
        let Some(name) = value.name() else { continue };
        if names.contains(&name) {
            value.mistake(format!("`{}` names column `{name}` twice", value.path));
            continue;
        }
        uses.push(column_use(&value, &name, Wants::Comparable));
        names.push(name);
    }
    names
}

pub(super) fn read_format(format: &Section<'_>) -> FormatConfig {
    if let Some(value) = format.get("type") {
        value.choice(&[("json", ())]);
    }
    FormatConfig {
        epoch_unit: format.get("epoch_unit").and_then(|value| value.choice(vocabulary::EPOCH_UNITS)).unwrap_or(EpochUnit::Millis),
        unknown_fields: format
            .get("unknown_fields")
            .and_then(|value| value.choice(vocabulary::UNKNOWN_FIELDS))
            .unwrap_or(UnknownFields::Ignore),
    }
}

pub(super) fn read_metadata(metadata: &Section<'_>, uses: &mut Vec<ColumnUse>) -> BTreeMap<String, MetadataKind> {
    let mut columns = BTreeMap::new();
    for (column, value) in metadata.get("columns").map(|value| value.entries()).unwrap_or_default() {
        let Some(kind) = value.choice(vocabulary::METADATA) else { continue };
        uses.push(column_use(&value, &column, Wants::Metadata(kind)));
        columns.insert(column, kind);
    }
    columns
}

pub(super) fn read_watermark(watermark: &Section<'_>, mode: &Mode) -> WatermarkConfig {
    if let (Mode::Append { event_time: None }, Some(at)) = (mode, watermark.at) {
        let message =
            "[watermark] has no effect: in mode \"append\" lateness is judged only where `merge.event_time` names a column";
        watermark.reader().mistake(Some(at), message);
    }
    WatermarkConfig {
        delay: watermark.get("delay").and_then(|value| value.duration()).unwrap_or(Duration::ZERO),
        late: watermark.get("late").and_then(|value| value.choice(vocabulary::LATE)).unwrap_or(Late::Reject),
        max_future: watermark.get("max_future").and_then(|value| value.duration()).unwrap_or(MAX_FUTURE_DEFAULT),
    }
}

pub(super) fn read_limits(limits: &Section<'_>) -> Limits {
    let count = |key: &str, default| above_zero(limits.get(key), |value| value.count(), default);
    let bytes = |key: &str, default| above_zero(limits.get(key), |value| value.bytes(), default);
    let duration = |key: &str, default| above_zero(limits.get(key), |value| value.duration(), default);
    let offsets_max = count("max_offsets_per_trigger", MAX_OFFSETS_DEFAULT);
    if let Some(value) = limits.get("max_offsets_per_trigger").filter(|_| u32::try_from(offsets_max).is_err()) {
        value.mistake(format!("`limits.max_offsets_per_trigger` must be below 2^32, not {offsets_max}"));
    }
    let memory_limit = bytes("memory_limit", MEMORY_LIMIT_DEFAULT);
    if let Some(value) = limits.get("memory_limit").filter(|_| (1..MEMORY_LIMIT_MIN).contains(&memory_limit)) {
        value.mistake(format!("`limits.memory_limit` must be at least 64 MiB, not {memory_limit} bytes"));
    }
    Limits {
        max_offsets_per_trigger: offsets_max,
        max_bytes_per_trigger: bytes("max_bytes_per_trigger", MAX_BYTES_DEFAULT),
        max_duration: duration("max_duration", MAX_DURATION_DEFAULT),
        min_offsets_per_trigger: limits.get("min_offsets_per_trigger").and_then(|value| value.count()).unwrap_or(0),
        max_trigger_delay: duration("max_trigger_delay", MAX_TRIGGER_DELAY_DEFAULT),
        memory_limit,
        stall_timeout: duration("stall_timeout", STALL_TIMEOUT_DEFAULT),
        shutdown_grace: duration("shutdown_grace", SHUTDOWN_GRACE_DEFAULT),
    }
}

/// A limit of zero would let nothing through.
fn above_zero<'a, T: Default + PartialEq>(value: Option<Value<'a>>, read: impl Fn(&Value<'a>) -> Option<T>, default: T) -> T {
    let Some(value) = value else { return default };
    let limit = read(&value);
    if limit.as_ref().is_some_and(|limit| *limit == T::default()) {
        value.mistake(format!("`{}` must be above zero", value.path));
    }
    limit.unwrap_or(default)
}

pub(super) fn read_rejects(rejects: &Section<'_>, table: &TableConfig) -> RejectsConfig {
    let named = rejects.get("table").and_then(|value| {
        let (namespace, name) = value.parsed(table_name)?;
        if namespace == table.namespace && name == table.name {
            value.mistake("`rejects.table` is the job's own table; rejects have columns of their own and need another");
        }
        Some((namespace, name))
    });
    let max_ratio = rejects.get("max_ratio").and_then(|value| {
        let ratio = value.number()?;
        if !(0.0..=1.0).contains(&ratio) {
            value.mistake(format!("`rejects.max_ratio` must be a share from 0 to 1, not {ratio}"));
        }
        Some(ratio)
    });
    RejectsConfig { table: named, max_ratio: max_ratio.unwrap_or(1.0) }
}

pub(super) fn read_verify(verify: &Section<'_>, uses: &mut Vec<ColumnUse>) -> VerifyConfig {
    VerifyConfig { unique: verify.get("unique").map(|value| column_names(&value, uses)).unwrap_or_default() }
}
