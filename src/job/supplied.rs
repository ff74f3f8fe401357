//! Which columns of a table the job's records fill, and the decoder that fills them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::LoadedTable;
use crate::config::{Config, Mode, Tombstones};
use crate::decode::{DecodeSpec, Decoder};
use crate::error::Result;
use crate::table::fit::{fit, supplied};

/// Which columns of the table the job fills.
#[derive(Debug, Clone)]
pub(crate) struct Supplied {
    /// From JSON fields.
    pub(crate) json: BTreeSet<String>,
    /// Not at all.
    pub(crate) unmapped: Vec<String>,
}

impl Supplied {
    /// Refuses a table that the job cannot run on.
    pub(crate) fn of(config: &Config, table: &LoadedTable) -> Result<Self> {
        fit(config, &table.metadata)?;
        let schema = table.metadata.current_schema();
        let mut json = supplied(config, schema);
        let fields = schema.as_struct().fields().iter();
        let unmapped = fields.map(|field| field.name.clone()).filter(|name| !json.contains(name)).collect();
        json.retain(|name| !config.metadata.contains_key(name));
        Ok(Self { json, unmapped })
    }
}

/// Decodes the topic's records into the columns of a table.
pub(crate) fn decoder(config: &Config, table: &LoadedTable, supplied: &Supplied) -> Result<Decoder> {
    let flag = match &config.mode {
        Mode::Merge(merge) => merge.deleted_column().map(str::to_owned),
        Mode::Append { .. } => None,
    };
    Decoder::new(DecodeSpec {
        flag,
        schema: Arc::clone(table.metadata.current_schema()),
        supplied: supplied.json.clone(),
        metadata: config.metadata.clone(),
        format: config.format.clone(),
        topic: config.kafka.topic.clone(),
        tombstones: match &config.mode {
            Mode::Merge(merge) => merge.tombstones,
            Mode::Append { .. } => Tombstones::Reject,
        },
    })
}
