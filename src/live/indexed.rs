//! The match by a file's key index: two requests where memory allows, and no column decoded.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use bytes::Bytes;
use iceberg::spec::NestedFieldRef;

use crate::error::Result;
use crate::index::{self, Header, Probes};
use crate::live::rows::{FileReader, WHOLE_BYTES};

/// A row's place in an index with a version column or two.
const ROW_BYTES: u64 = 20;

/// How far one read goes, which depends on the store and on the memory that a file was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Blocks this close to each other are read as one: what lies between costs less than another read.
    pub(super) gap: u64,
    /// Most bytes in memory at once.
    pub(super) bytes_max: usize,
}

/// Bytes of the index of a file with so many rows, about.
pub(super) fn index_bytes(rows: u64) -> usize {
    usize::try_from(rows.saturating_mul(ROW_BYTES)).unwrap_or(usize::MAX)
}

/// Bytes of an index for a file's first request: the whole where it is small, or where so many hits are likely that their blocks
/// would be read as one; else the directory, 18 bits a row.
pub(super) fn first_bytes(rows: u64, hits: u64, reach: Reach) -> usize {
    let whole = index_bytes(rows);
    let wanted = hits.saturating_mul(reach.gap) >= rows.saturating_mul(ROW_BYTES) && whole <= reach.bytes_max;
    if wanted || whole <= WHOLE_BYTES { whole } else { usize::try_from(rows / 4 * 9).unwrap_or(usize::MAX) }
}

/// Rows of a file that have one of the batch's ids, dead ones included.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// Positions, ascending.
    pub(super) positions: Vec<u64>,
    /// Ordinals of their ids.
    pub(super) keys: Vec<u32>,
    /// Their version columns, where the index holds them all.
    pub(super) versions: Option<Vec<ArrayRef>>,
}

/// Looks the ids up; none where the file has no index that can be believed.
pub(super) async fn find(
    reader: &mut FileReader,
    id: &[NestedFieldRef],
    versions: &[(NestedFieldRef, DataType)],
    probes: &Probes,
    reach: Reach,
) -> Result<Option<Hits>> {
    let Some(header) = Header::of_file(reader.location(), reader.footer(), reader.file_bytes(), id) else { return Ok(None) };
    let directory = header.directory.range();
    let directory = reader.ranges(vec![directory]).await?;
    let Some(candidates) = index::candidates(&header, &directory[0], probes) else { return Ok(None) };
    let mut found = Vec::new();
    for part in index::parts(&header, &candidates, reach.bytes_max) {
        let blocks = read_blocks(reader, index::blocks(&header, part), reach.gap).await?;
        let Some(part) = index::find(&header, part, &blocks) else { return Ok(None) };
        found.extend(part);
    }
    found.sort_unstable_by_key(|row| (row.position, row.key));
    let columns: Option<Vec<_>> = versions.iter().map(|(field, kind)| Some((header.column(field)?, kind))).collect();
    let versions = columns
        .map(|columns| columns.into_iter().map(|(column, kind)| index::values(&header, column, &found, kind)).collect())
        .transpose()?;
    Ok(Some(Hits {
        positions: found.iter().map(|row| u64::from(row.position)).collect(),
        keys: found.iter().map(|row| row.key).collect(),
        versions,
    }))
}

/// Reads blocks that lie apart, near ones together.
async fn read_blocks(reader: &mut FileReader, blocks: Vec<(usize, Range<u64>)>, gap: u64) -> Result<Vec<(usize, Bytes)>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    let mut places = Vec::with_capacity(blocks.len());
    for (block, range) in blocks {
        match spans.last_mut() {
            Some(span) if range.start <= span.end + gap => span.end = range.end,
            _ => spans.push(range.clone()),
        }
        places.push((block, spans.len() - 1, range));
    }
    let starts: Vec<u64> = spans.iter().map(|span| span.start).collect();
    let read = if spans.is_empty() { Vec::new() } else { reader.ranges(spans).await? };
    let within = |at: u64, span: usize| usize::try_from(at - starts[span]).expect("a span that was read fits the address space");
    Ok(places
        .into_iter()
        .map(|(block, span, range)| (block, read[span].slice(within(range.start, span)..within(range.end, span))))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_whole_where_its_blocks_would_be_read_anyway() {
        let (small, large, most) = (50_000, 1_000_000, 20_000_000);
        let near = |bytes_max| Reach { gap: 32 << 10, bytes_max };
        assert_eq!(first_bytes(small, 0, near(most)), 1_000_000);
        assert_eq!(first_bytes(small, 0, near(0)), 1_000_000);
        assert_eq!(first_bytes(large, 0, near(most)), 2_250_000);
        // A hit every 32 KiB of the 20 MB.
        assert_eq!(first_bytes(large, 610, near(most)), 2_250_000);
        assert_eq!(first_bytes(large, 611, near(most)), 20_000_000);
        assert_eq!(first_bytes(large, 611, near(most - 1)), 2_250_000);
        // In a bucket requests cost more, bytes less.
        assert_eq!(first_bytes(large, 77, Reach { gap: 256 << 10, bytes_max: most }), 20_000_000);
    }
}
