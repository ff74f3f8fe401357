//! The key index of a data file: from the hash of an id to its row and to the columns that judge a version, without reading either.
//!
//! Pure. Lies between the last row group and the footer of the Parquet file whose rows it lists, where other readers never look;
//! lives and dies with that file. Believed only where its header fits the file (name, rows, row groups, lengths, checksums) and the
//! question (id columns, types, hash): otherwise there is no index, and the id columns are read instead.
//!
//! ```text
//! row groups │ entries: blocks of 256, each with its CRC-32            │ directory        │ Parquet's page indexes and footer,
//!            │ check of the hash (8 bytes), row, version columns        │ unary, 16 bits a │ with the header under the key
//!            │ in the order of the hash, as few bytes as the file needs │ row, CRC-32      │ `tidegate.key-index`, with its CRC-32
//! ```
//!
//! The directory is quasi-succinct (Elias 1974; Fano 1971): ids are sorted by their XXH3-128 hash; the first
//! `bucket_bits` = ⌊log2 rows⌋ bits of a hash choose a bucket, whose size stands in unary; the next 16 bits stand as they are. So it
//! costs 18 bits a row, is fetched with the footer in one request, and names the entries worth a look. An entry's check is the
//! hash's other 64 bits: a wrong row is believed with a probability below ids × files × 2 / 2^80, which is 2e-14 for a million ids
//! against ten thousand files.

mod build;
mod hash;
mod header;
mod probe;

pub(crate) use build::Builder;
pub(crate) use header::{HEADER_KEY, Header};
pub(crate) use probe::{Probes, blocks, candidates, find, parts, values};

use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, Type};

/// Entries under one checksum: about 4 KiB, a page of most disks.
const BLOCK_ENTRIES: usize = 256;
/// Bits of the hash that the directory holds beyond the bucket.
const TAIL_BITS: u32 = 16;

/// The columns of an index.
#[derive(Debug, Clone)]
pub(crate) struct IndexSpec {
    /// Columns of the id, in the job's order.
    pub(crate) id: Vec<NestedFieldRef>,
    /// Event time and `order_by` columns that have a place in an entry.
    pub(crate) versions: Vec<NestedFieldRef>,
}

impl IndexSpec {
    /// For top-level columns of a schema; none where an id column is of a type whose equality is not that of its bytes.
    pub(crate) fn new(schema: &Schema, id: &[String], versions: &[String]) -> Option<Self> {
        let field = |name: &String| schema.as_struct().fields().iter().find(|field| field.name == *name).cloned();
        let id: Vec<_> = id.iter().map(field).collect::<Option<_>>()?;
        let versions: Vec<_> = versions.iter().filter_map(field).filter(|field| is_counted(&field.field_type)).collect();
        (!id.is_empty() && id.iter().all(|field| hash::is_hashed(&field.field_type))).then_some(Self { id, versions })
    }
}

/// Types of version columns that an entry can hold: those that are whole numbers.
fn is_counted(kind: &Type) -> bool {
    use PrimitiveType::{Date, Int, Long, Timestamp, TimestampNs, Timestamptz, TimestamptzNs};
    matches!(kind, Type::Primitive(Int | Long | Date | Timestamp | Timestamptz | TimestampNs | TimestamptzNs))
}

#[cfg(test)]
mod tests;
