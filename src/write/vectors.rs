//! Deletion vectors in a Puffin file, for tables of format version 3.
//!
//! All vectors of one commit share one file. Never written for a table of an older version, where no server would refuse them
//! and no reader could read them.

use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, Struct};
use roaring::RoaringTreemap;
use serde_json::json;

use crate::error::{Error, Result};
use crate::write::encode::joined;
use crate::write::{FileDeletes, WriteTarget};

const PUFFIN_MAGIC: [u8; 4] = *b"PFA1";
const VECTOR_MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];
/// Field id of a row's position (`_pos`), for which a vector is computed.
const POSITION_FIELD_ID: i32 = 2_147_483_645;

/// A vector's place in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    offset: i64,
    length: i64,
}

/// Writes the vectors of data files, which may be of any specs of the table; one data file each, in the given order.
pub(crate) async fn write_vectors(target: &WriteTarget, deletes: &[FileDeletes<'_>]) -> Result<Vec<DataFile>> {
    let version = target.metadata.format_version();
    if version < FormatVersion::V3 {
        return Err(Error::broken(format!("a deletion vector for a table of format version {version}")));
    }
    if deletes.is_empty() {
        return Ok(Vec::new());
    }
    let mut vectors = Vec::with_capacity(deletes.len());
    for deletes in deletes {
        deletes.check()?;
        target.spec(deletes.spec_id)?;
        vectors.push((deletes.data_file.file_path().to_owned(), deletes.positions.clone()));
    }
    let (file, spans) = joined(tokio::task::spawn_blocking(move || puffin(vectors)).await)??;
    let size = u64::try_from(file.len()).expect("a length fits u64");
    let location = target.location("", "-deletes.puffin")?;
    target.store.create(&location, file).await?;
    deletes.iter().zip(spans).map(|(deletes, span)| describe(&location, size, deletes, target.partition(deletes)?, span)).collect()
}

fn describe(location: &str, size: u64, deletes: &FileDeletes<'_>, partition: Struct, span: Span) -> Result<DataFile> {
    DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(location.to_owned())
        .file_format(DataFileFormat::Puffin)
        .partition(partition)
        .partition_spec_id(deletes.spec_id)
        .record_count(deletes.positions.len())
        .file_size_in_bytes(size)
        .referenced_data_file(Some(deletes.data_file.file_path().to_owned()))
        .content_offset(Some(span.offset))
        .content_size_in_bytes(Some(span.length))
        .build()
        .map_err(|e| Error::broken(format!("describe a deletion vector: {e}")))
}

/// A Puffin file of vectors: magic, blobs, and a footer of magic, JSON, length of the JSON, flags and magic.
fn puffin(vectors: Vec<(String, RoaringTreemap)>) -> Result<(Bytes, Vec<Span>)> {
    let mut file = Vec::from(PUFFIN_MAGIC);
    let (mut blobs, mut spans) = (Vec::with_capacity(vectors.len()), Vec::with_capacity(vectors.len()));
    for (path, positions) in vectors {
        let cardinality = positions.len();
        let offset = file.len();
        push_vector(&mut file, positions)?;
        let span = Span { offset: signed(offset), length: signed(file.len() - offset) };
        blobs.push(json!({
            "type": "deletion-vector-v1",
            "fields": [POSITION_FIELD_ID],
            // Both are unknown until the commit, and inherited from it.
            "snapshot-id": -1,
            "sequence-number": -1,
            "offset": span.offset,
            "length": span.length,
            "properties": { "referenced-data-file": path, "cardinality": cardinality.to_string() },
        }));
        spans.push(span);
    }
    let created_by = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
    let payload = json!({ "blobs": blobs, "properties": { "created-by": created_by } }).to_string();
    let length = u32::try_from(payload.len()).map_err(|_| Error::broken("a Puffin footer of 4 GiB or more"))?;
    file.extend_from_slice(&PUFFIN_MAGIC);
    file.extend_from_slice(payload.as_bytes());
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(&PUFFIN_MAGIC);
    Ok((Bytes::from(file), spans))
}

/// Blob `deletion-vector-v1`: length of what the checksum covers, magic and bitmap, checksum; both numbers big-endian.
fn push_vector(file: &mut Vec<u8>, mut positions: RoaringTreemap) -> Result<()> {
    // Runs are what bulk deletes make; Java stores them so as well.
    positions.optimize();
    let covered = VECTOR_MAGIC.len() + positions.serialized_size();
    let length = u32::try_from(covered).map_err(|_| Error::broken("a deletion vector of 4 GiB or more"))?;
    file.extend_from_slice(&length.to_be_bytes());
    let start = file.len();
    file.extend_from_slice(&VECTOR_MAGIC);
    positions.serialize_into(&mut *file).map_err(|e| Error::broken(format!("serialize a deletion vector: {e}")))?;
    assert_eq!(file.len() - start, covered, "a bitmap is as long as it says");
    let checksum = crc32fast::hash(&file[start..]);
    file.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).expect("a length in memory fits i64")
}
