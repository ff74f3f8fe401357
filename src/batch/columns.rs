//! The columns that a merge goes by, and the search for their values in the head.

use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::Schema;

use crate::catalog::LoadedTable;
use crate::config::{MatchScope, MergeConfig, Unmapped};
use crate::decode::KeyDecoder;
use crate::dedupe::Dedupe;
use crate::error::{Error, Result};
use crate::index::IndexSpec;
use crate::keys::{KeyCodec, VersionCodec};
use crate::live::files::LiveFiles;
use crate::live::lookup::{Likely, LookupSpec, Matches, lookup};
use crate::memory::Budget;
use crate::storage::Store;

/// The codecs of a merge job's columns.
#[derive(Debug)]
pub(crate) struct MergeColumns<'a> {
    pub(crate) config: &'a MergeConfig,
    pub(crate) keys: Arc<KeyCodec>,
    pub(crate) versions: Arc<VersionCodec>,
    /// Made for the first tombstone.
    pub(super) tombstones: Option<KeyDecoder>,
    pub(crate) id: Vec<usize>,
    pub(crate) event_time: usize,
    pub(crate) order_by: Vec<usize>,
    /// Columns whose stored values an update carries over.
    pub(crate) kept: Vec<String>,
    /// Columns whose values a soft delete carries over; those of `kept` are among them.
    pub(super) carried: Vec<String>,
    /// How many of the ids are likely stored.
    pub(super) likely: Likely,
    /// Bytes that a search may take.
    search_max: usize,
}

impl<'a> MergeColumns<'a> {
    /// For the current schema of a table. `memory_limit`: of the whole run.
    pub(crate) fn new(merge: &'a MergeConfig, schema: &ArrowSchemaRef, unsupplied: Vec<String>, memory_limit: u64) -> Result<Self> {
        let index = |name: &String| {
            schema
                .index_of(name)
                .map_err(|_| Error::setup(format!("the table has no column `{name}`"), "see `[merge]` in the job file"))
        };
        let indexes = |names: &[String]| names.iter().map(index).collect::<Result<Vec<_>>>();
        let types = |at: &[usize]| at.iter().map(|&i| schema.field(i).data_type().clone()).collect::<Vec<_>>();
        let (id, event_time, order_by) = (indexes(&merge.id)?, index(&merge.event_time)?, indexes(&merge.order_by)?);
        Ok(Self {
            config: merge,
            keys: Arc::new(KeyCodec::new(types(&id))?),
            versions: Arc::new(VersionCodec::new(schema.field(event_time).data_type().clone(), &types(&order_by))?),
            tombstones: None,
            id,
            event_time,
            order_by,
            carried: Vec::new(),
            likely: Likely::default(),
            search_max: Budget::of(memory_limit).search,
            kept: if merge.unmapped == Unmapped::Keep { unsupplied } else { Vec::new() },
        })
    }

    /// For a table as loaded.
    pub(crate) fn of_table(
        merge: &'a MergeConfig,
        table: &LoadedTable,
        unsupplied: Vec<String>,
        memory_limit: u64,
    ) -> Result<Self> {
        Self::new(merge, &arrow_schema(table)?, unsupplied, memory_limit)
    }

    /// Searches the ids of a batch from ordinal `first` on in the live files of a table.
    pub(crate) async fn lookup(
        &self,
        live: &Arc<LiveFiles>,
        table: &LoadedTable,
        dedupe: &mut Dedupe,
        first: u32,
        store: &Store,
        watermark: Option<i64>,
    ) -> Result<Matches> {
        let watermark = watermark.filter(|_| self.config.match_scope == MatchScope::Watermark);
        let lookup_spec = LookupSpec {
            schema: Arc::clone(table.metadata.current_schema()),
            id: self.config.id.clone(),
            event_time: self.config.event_time.clone(),
            order_by: self.config.order_by.clone(),
            keys: Arc::clone(&self.keys),
            versions: Arc::clone(&self.versions),
            kept: if dedupe.deleted().is_empty() { self.kept.clone() } else { self.carried.clone() },
            min_event_time: watermark.map(|micros| self.versions.at_micros(micros)),
            likely: self.likely,
            memory_max: self.search_max,
        };
        // The searching tasks share the ids, and give them back when they have ended.
        let ids = Arc::new(dedupe.take_keys());
        let matches = lookup(live, &lookup_spec, &ids, first, store).await?;
        dedupe.restore_keys(Arc::try_unwrap(ids).map_err(|_| Error::broken("a search goes on after the lookup"))?);
        Ok(matches)
    }
}

/// What the key index of a data file lists; none where ids of these columns are not indexed.
pub(crate) fn key_index(merge: &MergeConfig, schema: &Schema) -> Option<IndexSpec> {
    let mut versions = vec![merge.event_time.clone()];
    versions.extend(merge.order_by.iter().cloned());
    IndexSpec::new(schema, &merge.id, &versions)
}

/// Arrow form of the table's current schema: the form of every batch of rows.
pub(crate) fn arrow_schema(table: &LoadedTable) -> Result<ArrowSchemaRef> {
    schema_to_arrow_schema(table.metadata.current_schema()).map(Arc::new).map_err(|e| {
        Error::setup(format!("the schema of table `{}` has no Arrow form: {e}", table.ident), "tidegate cannot write this table")
    })
}
