//! Turns a job file, and what overrides it, into a `Config` that cannot be wrong.
//!
//! Pure: the texts come in as texts, the environment as a list and a lookup function. Never reads a file, never asks a broker or a
//! catalog; whether the things it names exist is for the rooms that open them. All mistakes are reported at once, each with its line,
//! or with the variable or the option that it came by.

mod catalog;
mod catalog_properties;
mod columns;
mod database;
mod interpolate;
mod kafka;
mod layers;
mod masked;
mod nearest;
mod origin;
mod overrides;
mod properties;
mod reader;
mod refused;
mod rest;
mod sections;
mod show;
mod stores;
mod table;
mod transforms;
mod types;
mod units;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

pub use self::layers::{CatalogsFile, Layers};
pub use self::origin::Origin;
pub use self::show::Setting;
/// The value of a setting.
pub use toml::Value as SettingValue;

pub(crate) use self::catalog_properties::{known as known_catalog_properties, may_be_elsewhere as may_be_elsewhere_in_catalog};
pub(crate) use self::kafka::millis_at_or_after;
pub(crate) use self::nearest::nearest as nearest_name;
pub(crate) use self::overrides::PREFIX as VARIABLE_PREFIX;
pub(crate) use self::properties::{COMMAND, ENV, FILE, PLAIN, is_secret, may_be_elsewhere};
use self::reader::Section;
use crate::error::Mistakes;

/// A length of time as job files write it, as in `3 d`; the error says what is wrong.
pub(crate) fn length_of_time(text: &str) -> Result<Duration, String> {
    units::duration(text)
}

/// One job, checked. Made by [`Effective::of`] and [`Config::parse`] only.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the job: the identity under which offsets are kept in the table.
    pub name: String,
    /// Merge by id, or append.
    pub mode: Mode,
    /// `[kafka]`.
    pub kafka: KafkaConfig,
    /// `[format]`.
    pub format: FormatConfig,
    /// `[metadata] columns`: table column to what of the record fills it.
    pub metadata: BTreeMap<String, MetadataKind>,
    /// `[catalog]`.
    pub catalog: CatalogConfig,
    /// `[table]`.
    pub table: TableConfig,
    /// `[watermark]`.
    pub watermark: WatermarkConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `[rejects]`.
    pub rejects: RejectsConfig,
    /// `[verify]`.
    pub verify: VerifyConfig,
}

/// A job as it takes effect, and where each of its settings comes from.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The job.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

impl Effective {
    /// Reads a job out of all its layers. `env` looks up the variables that the strings of its files name.
    ///
    /// # Errors
    /// Every mistake, in the order of the layers and their lines. A job file that is not TOML has one mistake: the first.
    pub fn of(layers: &Layers, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Mistakes> {
        let (reader, root) = layers::merged(layers, env)?;
        let config = Config::read(&Section::root(&reader, &root));
        let origins = layers::origins(&reader, &root);
        reader.finish(Self { config, origins })
    }

    /// Every setting, those that nobody gave included, in the order of the job file's reference.
    pub fn settings(&self) -> Vec<Setting> {
        show::settings(&self.config, &self.origins)
    }
}

impl Config {
    /// Reads a job file on its own. `env` looks up the variables that its strings name.
    ///
    /// # Errors
    /// As of [`Effective::of`].
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Mistakes> {
        let layers = Layers { job: text.to_owned(), ..Layers::default() };
        Effective::of(&layers, env).map(|effective| effective.config)
    }

    /// Where something could not be read the config holds a stand-in, and the reader holds the mistake.
    fn read(root: &Section<'_>) -> Self {
        root.refuse_unknown();
        let open = |name| {
            let section = Section::open(root, name);
            // Other keys of these are properties: of librdkafka, and of catalogs and stores.
            if !matches!(name, "kafka" | "catalog") {
                section.refuse_unknown();
            }
            section
        };
        let mut uses = Vec::new();
        let (table, columns) = table::read_table(&open("table"), &mut uses);
        let mode = sections::read_mode(root, &open("merge"), &mut uses);
        let config = Self {
            name: sections::job_name(root),
            kafka: kafka::read(&open("kafka")),
            format: sections::read_format(&open("format")),
            metadata: sections::read_metadata(&open("metadata"), &mut uses),
            catalog: catalog::read(&open("catalog")),
            watermark: sections::read_watermark(&open("watermark"), &mode),
            limits: sections::read_limits(&open("limits")),
            rejects: sections::read_rejects(&open("rejects"), &table),
            verify: sections::read_verify(&open("verify"), &mut uses),
            mode,
            table,
        };
        columns::check(root.reader(), &columns, &uses);
        config
    }
}

/// What happens to the rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Latest version per id.
    Merge(MergeConfig),
    /// Every record becomes a row; the table is never searched.
    Append {
        /// Column by which late and future records are judged; none: neither is judged.
        event_time: Option<String>,
    },
}

impl Mode {
    /// Column by which late and future records are judged.
    pub fn event_time(&self) -> Option<&str> {
        match self {
            Self::Merge(merge) => Some(&merge.event_time),
            Self::Append { event_time } => event_time.as_deref(),
        }
    }
}

/// `[merge]`. All columns are columns of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeConfig {
    /// Columns that together name a row. At least one.
    pub id: Vec<String>,
    /// Column that orders the versions of one id first.
    pub event_time: String,
    /// Columns that order them further; null is lowest.
    pub order_by: Vec<String>,
    /// Which version wins where the declared columns are equal.
    pub ties: Ties,
    /// Where ids are searched.
    pub match_scope: MatchScope,
    /// What a null value means.
    pub tombstones: Tombstones,
    /// What a delete leaves behind.
    pub deletes: Deletes,
    /// What becomes of table columns that the job does not supply.
    pub unmapped: Unmapped,
}

/// Which of two versions with equal declared columns survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The later arrival (topic, partition, offset).
    Replace,
    /// The first.
    Keep,
}

/// Where stored ids are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchScope {
    /// In every live file: no id is ever twice in the table.
    Table,
    /// Only in files that can hold an event time at or above the watermark.
    Watermark,
}

/// What a record with a null value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    /// It is a reject.
    Reject,
    /// It is counted as filtered.
    Ignore,
    /// It deletes the id in its key, at the record's timestamp.
    Delete,
}

/// What a delete leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletes {
    /// Nothing: the row goes, and its version with it.
    Hard,
    /// The row, with its values, the version of the delete and a flag, so that older versions lose.
    Soft {
        /// Boolean column that is true for deleted rows and false for all others.
        column: String,
    },
}

impl MergeConfig {
    /// The flag column of `deletes = "soft"`.
    pub fn deleted_column(&self) -> Option<&str> {
        match &self.deletes {
            Deletes::Hard => None,
            Deletes::Soft { column } => Some(column),
        }
    }
}

/// What becomes of table columns that the job does not supply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped {
    /// The run is refused (78).
    Refuse,
    /// They are written as null.
    Null,
    /// An update carries the stored value over; an insert writes null.
    Keep,
}

/// `[kafka]`.
#[derive(Clone)]
pub struct KafkaConfig {
    /// The one topic of the job.
    pub topic: String,
    /// Where a first run begins.
    pub start: Start,
    /// What a gap between the committed offset and the broker's earliest means.
    pub on_data_loss: OnDataLoss,
    /// Whether committed offsets are mirrored to group `tidegate-<name>`.
    pub mirror_group: bool,
    /// librdkafka properties as the user gave them; those that would break the guarantee were refused. Secrets may still be names of
    /// places where they are kept.
    pub properties: BTreeMap<String, String>,
    /// Names of properties whose secret stands in the job file itself.
    pub plain_secrets: Vec<String>,
}

/// Where a first run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At each partition's earliest offset.
    Earliest,
    /// At each partition's end: only what comes later is read.
    Latest,
    /// At the first offset at or after this time, in ms since the epoch.
    Timestamp(i64),
    /// At these offsets; a partition not named starts at its earliest.
    Offsets(BTreeMap<i32, i64>),
}

/// What a gap between the committed offset and the broker's earliest means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDataLoss {
    /// The run ends with 65 and names the ranges.
    Fail,
    /// The ranges are given up, and the snapshot says so.
    Skip,
}

/// `[format]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatConfig {
    /// Unit of numbers in date and time columns.
    pub epoch_unit: EpochUnit,
    /// What a field without a column means.
    pub unknown_fields: UnknownFields,
}

/// Unit of a JSON number in a timestamp column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds; fractions allowed.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// What a JSON field without a column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// It is skipped.
    Ignore,
    /// The record is a reject.
    Reject,
}

/// What of a record fills a metadata column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetadataKind {
    /// Topic name: string.
    Topic,
    /// Partition: int or long.
    Partition,
    /// Offset: long.
    Offset,
    /// Record timestamp: timestamptz or timestamp; null where absent.
    Timestamp,
    /// Key: binary or string (rejected where it is not UTF-8).
    Key,
    /// Headers: map<string, binary>, the last of equal names.
    Headers,
    /// SHA-256 of the value: string (lowercase hex), binary or fixed(32).
    Sha256,
}

/// `[catalog]`.
#[derive(Clone, PartialEq, Eq)]
pub struct CatalogConfig {
    /// Which protocol the catalog speaks.
    pub kind: CatalogKind,
    /// Name of the catalog: in an SQL catalog the one under which tables are kept (`catalog_name`).
    pub name: String,
    /// Where it is: `postgresql://user@host:port/database`, `sqlite:///absolute/path` or `sqlite://relative/path`; a REST catalog's
    /// server.
    pub uri: String,
    /// Root under which new tables get their location, as a URI; the name or location of one of a REST server's warehouses, or empty.
    pub warehouse: String,
    /// Properties of the catalog and of its stores, by the names that PyIceberg gave them.
    pub properties: BTreeMap<String, String>,
    /// Names of properties whose secret stands in a file itself.
    pub plain_secrets: Vec<String>,
}

/// Which protocol a catalog speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogKind {
    /// Iceberg's SQL catalog (Java: JdbcCatalog, PyIceberg: SqlCatalog).
    Sql,
    /// A server that speaks Iceberg's REST protocol.
    Rest,
}

/// `[table]`.
#[derive(Clone)]
pub struct TableConfig {
    /// Namespace levels, at least one.
    pub namespace: Vec<String>,
    /// Table name.
    pub name: String,
    /// Branch written and read.
    pub branch: String,
    /// Columns for `init`; also what the job supplies, where given. Empty: every column of the table.
    pub columns: Vec<ColumnConfig>,
    /// Partition fields for `init`, as in `bucket(16, id)`.
    pub partition_by: Vec<PartitionBy>,
    /// Sort fields for `init`.
    pub sort_by: Vec<SortBy>,
    /// Format version for `init`: 2 or 3.
    pub format_version: u8,
    /// Table properties for `init`.
    pub properties: BTreeMap<String, String>,
}

/// One column for `init`.
#[derive(Debug, Clone)]
pub struct ColumnConfig {
    /// Column name.
    pub name: String,
    /// Iceberg type; nested fields carry ids that are only unique within the column.
    pub field_type: iceberg::spec::Type,
    /// Whether null is refused.
    pub required: bool,
    /// Comment of the column.
    pub doc: Option<String>,
}

/// One partition field for `init`: `transform(column)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    /// Source column.
    pub column: String,
    /// Transform.
    pub transform: iceberg::spec::Transform,
}

/// One sort field for `init`: `transform(column) [asc|desc] [nulls first|nulls last]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortBy {
    /// Source column.
    pub column: String,
    /// Transform.
    pub transform: iceberg::spec::Transform,
    /// Ascending or descending.
    pub direction: iceberg::spec::SortDirection,
    /// Where nulls stand; default first for ascending, last for descending.
    pub nulls: iceberg::spec::NullOrder,
}

/// `[watermark]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkConfig {
    /// How far the watermark stays behind the event times seen.
    pub delay: Duration,
    /// What becomes of late records.
    pub late: Late,
    /// How far an event time may lie ahead of the broker's or the run's clock.
    pub max_future: Duration,
}

/// What becomes of a record older than the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It is kept in the rejects table.
    Reject,
    /// It is counted and dropped.
    Drop,
    /// It is merged like any other.
    Merge,
}

/// `[limits]`. Every bound exists; unbounded is not expressible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Offsets of one batch over all partitions.
    pub max_offsets_per_trigger: u64,
    /// Bytes of keys, values and headers of one batch.
    pub max_bytes_per_trigger: u64,
    /// How long one batch may pull.
    pub max_duration: Duration,
    /// A run with fewer new offsets is skipped, until `max_trigger_delay` is over.
    pub min_offsets_per_trigger: u64,
    /// How long after the last batch a run is never skipped.
    pub max_trigger_delay: Duration,
    /// Bytes the process may use; the batch is cut before.
    pub memory_limit: u64,
    /// How long a partition may stand still.
    pub stall_timeout: Duration,
    /// How long a signalled run may take to commit what it read.
    pub shutdown_grace: Duration,
}

/// `[rejects]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectsConfig {
    /// Table for rejects; none: `<table>_rejects` in the same namespace. (namespace, name)
    pub table: Option<(Vec<String>, String)>,
    /// Share of undecodable and future records above which a batch fails; 1.0 never fails.
    pub max_ratio: f64,
}

/// `[verify]`: what verification checks besides the guarantees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyConfig {
    /// Columns whose values should be unique in an append table; empty: not checked.
    pub unique: Vec<String>,
}
