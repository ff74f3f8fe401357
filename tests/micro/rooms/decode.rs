//! JSON to columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::articles::{SCHEMA, arrow_schema};
use crate::config::{EpochUnit, FormatConfig, Tombstones, UnknownFields};
use crate::decode::{DecodeSpec, Decoder};
use crate::source::Chunk;

/// Decodes chunks of articles.
#[derive(Debug)]
pub struct Decoding(Decoder);

impl Decoding {
    /// As a run does before its first chunk.
    pub fn prepare() -> Self {
        let spec = DecodeSpec {
            schema: Arc::clone(&SCHEMA),
            supplied: SCHEMA.as_struct().fields().iter().map(|field| field.name.clone()).collect::<BTreeSet<_>>(),
            metadata: BTreeMap::new(),
            format: FormatConfig { epoch_unit: EpochUnit::Millis, unknown_fields: UnknownFields::Ignore },
            topic: "articles".to_owned(),
            tombstones: Tombstones::Reject,
            flag: None,
        };
        Self(Decoder::new(spec).unwrap())
    }

    /// The rows of a chunk.
    pub fn run(&mut self, chunk: &Chunk) -> RecordBatch {
        let decoded = self.0.decode(chunk);
        assert_eq!(decoded.rejects, []);
        decoded.rows
    }

    /// Schema of the rows, for other decoders.
    pub fn schema() -> SchemaRef {
        arrow_schema()
    }
}
