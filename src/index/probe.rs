//! Finds a batch's ids in the index of a file.

use std::ops::Range;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::BLOCK_ENTRIES;
use super::build::{halves, split};
use super::hash::each_hash;
use super::header::{Header, to_u64, to_usize};
use crate::error::{Error, Result};

/// The hashes of a batch's ids, sorted once for all files.
#[derive(Debug)]
pub(crate) struct Probes(Vec<Probe>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Probe {
    head: u64,
    check: u64,
    key: u32,
}

/// An entry whose first bits are those of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Ordinal among the entries.
    slot: u32,
    check: u64,
    key: u32,
}

impl Candidate {
    /// Ordinal of the block with its entry.
    fn block(&self) -> usize {
        to_usize(self.slot) / BLOCK_ENTRIES
    }
}

/// A row of the file that has one of the ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Position in the file.
    pub(crate) position: u32,
    /// Ordinal of the id in the batch.
    pub(crate) key: u32,
    /// Codes of the version columns, in the header's order.
    codes: Vec<u64>,
}

impl Probes {
    /// Of ids as columns; ordinals count from `first`.
    pub(crate) fn new(columns: &[ArrayRef], first: u32) -> Result<Self> {
        let mut probes = Vec::with_capacity(columns.first().map_or(0, |column| column.len()));
        each_hash(columns, |row, hash| {
            let [head, check] = halves(hash);
            probes.push(Probe { head, check, key: first + u32::try_from(row).expect("a batch has fewer than 2^32 ids") });
        })?;
        probes.sort_unstable();
        Ok(Self(probes))
    }
}

/// The entries worth a look, by slot; none where the directory is not what its header says.
pub(crate) fn candidates(header: &Header, directory: &[u8], probes: &Probes) -> Option<Vec<Candidate>> {
    if to_u64(directory.len()) != header.directory.length || crc32fast::hash(directory) != header.directory_crc32 {
        return None;
    }
    let entries = usize::try_from(header.entries).ok()?;
    let (unary, tails) = directory.split_at(directory.len() - entries * 2);
    let mut buckets = Buckets { unary, reached: Place::default() };
    let mut found = Vec::new();
    for probe in &probes.0 {
        let (bucket, tail) = split(probe.head, header.bucket_bits);
        let slots = buckets.slots(bucket)?;
        for slot in slots {
            let held = tails.get(slot * 2..slot * 2 + 2)?;
            if held == tail.to_le_bytes() {
                found.push(Candidate { slot: u32::try_from(slot).ok()?, check: probe.check, key: probe.key });
            }
        }
    }
    found.sort_unstable_by_key(|candidate| (candidate.slot, candidate.key));
    Some(found)
}

/// Walks the unary part forward: buckets are asked for in ascending order, each perhaps several times.
struct Buckets<'a> {
    unary: &'a [u8],
    /// Never past the zero that ends the predecessor of the bucket asked for last.
    reached: Place,
}

/// A word of the unary part, and the zeros and ones before it.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    word: usize,
    zeros: u64,
    ones: u64,
}

impl Buckets<'_> {
    /// Slots of a bucket: its ones lie between its predecessor's zero and its own. None where the bits end before it.
    fn slots(&mut self, bucket: u64) -> Option<Range<usize>> {
        let mut start = 0;
        if let Some(predecessor) = bucket.checked_sub(1) {
            (self.reached, start) = self.seek(predecessor)?;
        }
        let (_, end) = self.seek(bucket)?;
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// The word of the zero with this ordinal, and the ones before that zero.
    fn seek(&self, zero: u64) -> Option<(Place, u64)> {
        let mut at = self.reached;
        loop {
            let bits = u64::from_le_bytes(self.unary.get(at.word * 8..at.word * 8 + 8)?.try_into().ok()?);
            let here = u64::from(bits.count_zeros());
            if at.zeros + here > zero {
                return Some((at, at.ones + u64::from(ones_before(bits, zero - at.zeros))));
            }
            at = Place { word: at.word + 1, zeros: at.zeros + here, ones: at.ones + u64::from(bits.count_ones()) };
        }
    }
}

/// Ones before the zero with ordinal `zero` of a word that has it.
fn ones_before(bits: u64, zero: u64) -> u32 {
    let mut zeros = !bits;
    for _ in 0..zero {
        zeros &= zeros - 1;
    }
    let at = zeros.trailing_zeros();
    at - u32::try_from(zero).expect("a word has 64 bits")
}

/// Cuts candidates, which ascend by slot, so that the blocks between the first and the last of each part take at most so many bytes.
pub(crate) fn parts<'a>(header: &Header, candidates: &'a [Candidate], bytes_max: usize) -> impl Iterator<Item = &'a [Candidate]> {
    let blocks_max = (bytes_max / block_bytes(header)).max(1);
    candidates.chunk_by(move |a, b| a.block() / blocks_max == b.block() / blocks_max)
}

fn block_bytes(header: &Header) -> usize {
    BLOCK_ENTRIES * header.entry_bytes() + 4
}

/// The blocks that hold candidates: each as its ordinal and its bytes of the file. `candidates` ascend by slot.
pub(crate) fn blocks(header: &Header, candidates: &[Candidate]) -> Vec<(usize, Range<u64>)> {
    let mut blocks: Vec<(usize, Range<u64>)> = Vec::new();
    let block_bytes = to_u64(block_bytes(header));
    let end = header.blocks.offset + header.blocks.length;
    for candidate in candidates {
        let block = candidate.block();
        if blocks.last().is_none_or(|&(last, _)| last != block) {
            let start = header.blocks.offset + to_u64(block) * block_bytes;
            blocks.push((block, start..(start + block_bytes).min(end)));
        }
    }
    blocks
}

/// The candidates that are the ids, by position; none where a block is not as it was written.
pub(crate) fn find<B: AsRef<[u8]>>(header: &Header, candidates: &[Candidate], blocks: &[(usize, B)]) -> Option<Vec<Found>> {
    for (_, bytes) in blocks {
        let (entries, sum) = bytes.as_ref().split_last_chunk::<4>()?;
        if crc32fast::hash(entries) != u32::from_le_bytes(*sum) {
            return None;
        }
    }
    let width = header.entry_bytes();
    let mut blocks = blocks.iter().peekable();
    let mut found = Vec::new();
    for candidate in candidates {
        let (block, at) = (candidate.block(), to_usize(candidate.slot) % BLOCK_ENTRIES);
        while blocks.peek()?.0 < block {
            blocks.next();
        }
        let entry = blocks.peek()?.1.as_ref().get(at * width..(at + 1) * width)?;
        if entry[..8] != candidate.check.to_le_bytes() {
            continue;
        }
        let (row, mut rest) = entry[8..].split_at(to_usize(header.row_bytes));
        let mut codes = Vec::with_capacity(header.columns.len());
        for column in &header.columns {
            let (code, after) = rest.split_at(to_usize(column.bytes));
            codes.push(number(code));
            rest = after;
        }
        found.push(Found { position: u32::try_from(number(row)).ok()?, key: candidate.key, codes });
    }
    found.sort_unstable_by_key(|found| (found.position, found.key));
    Some(found)
}

fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The values of one version column of the rows found, in the column's present type.
pub(crate) fn values(header: &Header, column: usize, found: &[Found], to: &DataType) -> Result<ArrayRef> {
    let coding = &header.columns[column];
    let values: Int64Array = found
        .iter()
        .map(|row| match row.codes[column] {
            0 => None,
            // Wrapping undoes `abs_diff`: min + (code - 1) * step is a value of the column.
            code => Some(coding.min.wrapping_add_unsigned((code - 1).wrapping_mul(coding.step))),
        })
        .collect();
    let failed = |e| Error::broken(format!("version column of a key index: {e}"));
    let values: ArrayRef = std::sync::Arc::new(values);
    match to {
        DataType::Date32 => cast(&cast(&values, &DataType::Int32).map_err(failed)?, to).map_err(failed),
        _ => cast(&values, to).map_err(failed),
    }
}
