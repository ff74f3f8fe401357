//! Columns filled from what stands around a record's value: position, time, key, headers, hash.

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use hashbrown::HashSet;
use iceberg::spec::{NestedField, PrimitiveType, Type};
use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::json::Scalar;
use super::nested::Slot;
use crate::config::{FormatConfig, MetadataKind};
use crate::error::{Error, Result};
use crate::source::{Chunk, Header, Record};

/// Headers of one record whose names are compared pair by pair; more of them are hashed.
const PAIRWISE_MAX: usize = 16;

/// A growing column of one kind of metadata.
#[derive(Debug)]
pub(super) struct MetadataColumn {
    kind: MetadataKind,
    slot: Slot,
}

impl MetadataColumn {
    /// For an Iceberg field that Arrow holds as `arrow`; refuses a type that cannot hold the kind.
    pub(super) fn new(kind: MetadataKind, field: &NestedField, arrow: &FieldRef, format: &FormatConfig) -> Result<Self> {
        if !fits(kind, &field.field_type) {
            return Err(Error::setup(
                format!("column `{}` of type {} cannot hold the {}", field.name, field.field_type, name(kind)),
                format!("use {} in `[metadata] columns`", types(kind)),
            ));
        }
        Ok(Self { kind, slot: Slot::new(field, arrow, format)? })
    }

    /// Appends the record's value.
    pub(super) fn fill(
        &mut self,
        topic: &str,
        chunk: &Chunk,
        record: &Record,
        value: &[u8],
    ) -> std::result::Result<(), Box<Fault>> {
        let slot = &mut self.slot;
        let filled = match self.kind {
            MetadataKind::Topic => slot.fill_leaf(|leaf| leaf.push(Scalar::Text(topic)), "the topic"),
            MetadataKind::Partition => slot.fill_leaf(|leaf| leaf.push_integer(record.partition.into()), "the partition"),
            MetadataKind::Offset => slot.fill_leaf(|leaf| leaf.push_integer(record.offset), "the offset"),
            MetadataKind::Timestamp => match record.timestamp_ms {
                Some(millis) => slot.fill_leaf(|leaf| leaf.push_millis(millis), "the record's timestamp"),
                None => slot.fill_null("is missing: the record has no timestamp"),
            },
            MetadataKind::Key => match record.key {
                Some(key) => slot.fill_leaf(|leaf| leaf.push_bytes(chunk.bytes(key)), "the record's key"),
                None => slot.fill_null("is missing: the record has no key"),
            },
            MetadataKind::Headers => headers(slot, chunk, &chunk.headers[record.headers.range()]),
            MetadataKind::Sha256 => sha256(slot, value),
        };
        filled.map_err(|fault| self.slot.inside(fault))
    }

    pub(super) fn settle(&mut self, rows: usize) {
        self.slot.settle(rows);
    }

    pub(super) fn reserve(&mut self, rows: usize, bytes_max: usize) {
        self.slot.reserve(rows, bytes_max);
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        self.slot.finish()
    }
}

/// Appends the headers in their order, without those that a later one of the same name replaces.
fn headers(slot: &mut Slot, chunk: &Chunk, headers: &[Header]) -> std::result::Result<(), Box<Fault>> {
    let name = |header: &Header| chunk.bytes(header.name);
    let entry = |header: &Header| (chunk.bytes(header.name), header.value.map(|value| chunk.bytes(value)));
    if headers.len() <= PAIRWISE_MAX {
        let is_last = |at: &usize| !headers[at + 1..].iter().any(|later| name(later) == name(&headers[*at]));
        return slot.fill_map((0..headers.len()).filter(is_last).map(|at| entry(&headers[at])));
    }
    let mut seen = HashSet::with_capacity(headers.len());
    let mut last: Vec<_> = headers.iter().rev().filter(|header| seen.insert(name(header))).collect();
    last.reverse();
    slot.fill_map(last.into_iter().map(entry))
}

fn sha256(slot: &mut Slot, value: &[u8]) -> std::result::Result<(), Box<Fault>> {
    let digest: [u8; 32] = Sha256::digest(value).into();
    slot.fill_leaf(
        |leaf| {
            if !leaf.is_text() {
                return leaf.push_bytes(&digest);
            }
            let mut hex = [0; 64];
            for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
                pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            leaf.push_bytes(&hex)
        },
        "a hash",
    )
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn fits(kind: MetadataKind, column: &Type) -> bool {
    use PrimitiveType as P;
    let text_or_binary = |of: &Type| matches!(of, Type::Primitive(P::String | P::Binary));
    match (kind, column) {
        (MetadataKind::Topic, Type::Primitive(P::String))
        | (MetadataKind::Partition, Type::Primitive(P::Int | P::Long))
        | (MetadataKind::Offset, Type::Primitive(P::Long))
        | (MetadataKind::Timestamp, Type::Primitive(P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs))
        | (MetadataKind::Sha256, Type::Primitive(P::Fixed(32))) => true,
        (MetadataKind::Key | MetadataKind::Sha256, column) => text_or_binary(column),
        (MetadataKind::Headers, Type::Map(map)) => {
            *map.key_field.field_type == Type::Primitive(P::String) && text_or_binary(&map.value_field.field_type)
        }
        _ => false,
    }
}

fn name(kind: MetadataKind) -> &'static str {
    match kind {
        MetadataKind::Topic => "topic",
        MetadataKind::Partition => "partition",
        MetadataKind::Offset => "offset",
        MetadataKind::Timestamp => "record timestamp",
        MetadataKind::Key => "record key",
        MetadataKind::Headers => "record headers",
        MetadataKind::Sha256 => "SHA-256 of the value",
    }
}

fn types(kind: MetadataKind) -> &'static str {
    match kind {
        MetadataKind::Topic => "a column of type string",
        MetadataKind::Partition => "a column of type int or long",
        MetadataKind::Offset => "a column of type long",
        MetadataKind::Timestamp => "a column of type timestamptz or timestamp",
        MetadataKind::Key => "a column of type binary or string",
        MetadataKind::Headers => "a column of type map<string, binary> or map<string, string>",
        MetadataKind::Sha256 => "a column of type string, binary or fixed(32)",
    }
}
