//! Makes the index of a file while its rows are written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema};
use parquet::file::metadata::RowGroupMetaData;

use super::hash::each_hash;
use super::header::{Span, VersionColumn, directory_length, entry_bytes, to_u64, to_usize};
use super::{BLOCK_ENTRIES, Header, IndexSpec, TAIL_BITS};
use crate::error::{Error, Result};

/// Gathers what the index of one file holds: 20 bytes a row, and 8 for each version column.
#[derive(Debug)]
pub(crate) struct Builder {
    spec: IndexSpec,
    location: String,
    /// Columns of the file's batches: id, then versions.
    id: Vec<usize>,
    versions: Vec<usize>,
    /// The hash's first 64 bits and the row, of rows with an id.
    heads: Vec<(u64, u32)>,
    /// The hash's last 64 bits, of every row.
    checks: Vec<u64>,
    /// None: the column has a value that stands for null here, and is left out.
    values: Vec<Option<Vec<i64>>>,
    rows: u32,
}

/// Stands for null among the values.
const NULL: i64 = i64::MIN;

impl Builder {
    /// Of the empty file at `location`, whose batches have the columns of `schema`.
    pub(crate) fn new(spec: &IndexSpec, location: &str, schema: &Schema) -> Result<Self> {
        let at = |name: &str| schema.index_of(name).map_err(|e| Error::broken(format!("column of a key index: {e}")));
        Ok(Self {
            id: spec.id.iter().map(|field| at(&field.name)).collect::<Result<_>>()?,
            versions: spec.versions.iter().map(|field| at(&field.name)).collect::<Result<_>>()?,
            heads: Vec::new(),
            checks: Vec::new(),
            values: vec![Some(Vec::new()); spec.versions.len()],
            rows: 0,
            spec: spec.clone(),
            location: location.to_owned(),
        })
    }

    /// Bytes held, and those that it takes to finish.
    pub(crate) fn memory(&self) -> usize {
        self.bytes()
            + self.heads.capacity() * 16
            + self.checks.capacity() * 8
            + self.values.iter().flatten().map(|values| values.capacity() * 8).sum::<usize>()
    }

    /// Takes the file's next rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let pick = |at: &[usize]| at.iter().map(|&i| Arc::clone(batch.column(i))).collect::<Vec<ArrayRef>>();
        let first = self.rows;
        self.rows += u32::try_from(batch.num_rows()).map_err(|_| Error::broken("a data file has 2^32 rows or more"))?;
        self.checks.resize(to_usize(self.rows), 0);
        let (heads, checks) = (&mut self.heads, &mut self.checks);
        each_hash(&pick(&self.id), |row, hash| {
            let row = first + u32::try_from(row).expect("checked above");
            let [head, check] = halves(hash);
            heads.push((head, row));
            checks[to_usize(row)] = check;
        })?;
        for (held, column) in self.values.iter_mut().zip(pick(&self.versions)) {
            let Some(values) = held else { continue };
            let column = whole_numbers(&column)?;
            let column = column.as_primitive::<Int64Type>();
            // Under a null may stand anything.
            if column.values().contains(&NULL) && column.iter().any(|value| value == Some(NULL)) {
                *held = None;
                continue;
            }
            values.extend((0..column.len()).map(|row| if column.is_valid(row) { column.value(row) } else { NULL }));
        }
        Ok(())
    }

    /// Bytes of the index so far, about.
    pub(crate) fn bytes(&self) -> usize {
        self.heads.len() * (16 + 6 * self.values.len())
    }

    /// The index, to lie at `offset` of a file that has these row groups, and its header as the footer holds it.
    pub(crate) fn finish(mut self, offset: u64, groups: &[RowGroupMetaData]) -> (Vec<u8>, String) {
        self.heads.sort_unstable();
        let entries = self.heads.len();
        let bucket_bits = entries.max(1).ilog2();
        let row_bytes = bytes_of(u64::from(self.rows.saturating_sub(1)));
        let mut columns = Vec::new();
        let mut values = Vec::new();
        for (field, held) in self.spec.versions.iter().zip(&self.values) {
            let Some(held) = held else { continue };
            if let Some((min, step, bytes)) = coding(held) {
                columns.push(VersionColumn::new(field, min, step, bytes));
                values.push(held.as_slice());
            }
        }
        let mut bytes = Vec::with_capacity(entries * (entry_bytes(row_bytes, &columns) + 3));
        for block in self.heads.chunks(BLOCK_ENTRIES) {
            let start = bytes.len();
            for &(_, row) in block {
                let at = to_usize(row);
                bytes.extend(self.checks[at].to_le_bytes());
                bytes.extend(&row.to_le_bytes()[..to_usize(row_bytes)]);
                for (column, values) in columns.iter().zip(&values) {
                    let code = if values[at] == NULL { 0 } else { values[at].abs_diff(column.min) / column.step + 1 };
                    bytes.extend(&code.to_le_bytes()[..to_usize(column.bytes)]);
                }
            }
            let sum = crc32fast::hash(&bytes[start..]);
            bytes.extend(sum.to_le_bytes());
        }
        let blocks = Span { offset, length: to_u64(bytes.len()) };
        let directory = Span { offset: offset + blocks.length, length: directory_length(to_u64(entries), bucket_bits) };
        let start = bytes.len();
        push_directory(&self.heads, bucket_bits, &mut bytes);
        assert_eq!(to_u64(bytes.len() - start), directory.length, "a directory is as long as its header says");
        let sum = crc32fast::hash(&bytes[start..]);
        let header =
            Header::new(&self.spec, &self.location, groups, entries, bucket_bits, row_bytes, columns, (blocks, directory), sum);
        (bytes, header.to_text())
    }
}

/// The two halves of a hash: the one that sorts, and the one that checks.
pub(super) fn halves(hash: u128) -> [u64; 2] {
    let bytes = hash.to_be_bytes();
    let half = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    [half(0), half(8)]
}

/// The bucket and the 16 bits after it.
pub(super) fn split(head: u64, bucket_bits: u32) -> (u64, u16) {
    let bucket = head.checked_shr(64 - bucket_bits).unwrap_or(0);
    let tail = (head << bucket_bits) >> (64 - TAIL_BITS);
    (bucket, u16::try_from(tail).expect("sixteen bits"))
}

/// For each bucket as many ones as it has entries and a zero; then the 16 bits of each entry.
fn push_directory(heads: &[(u64, u32)], bucket_bits: u32, bytes: &mut Vec<u8>) {
    let mut words = vec![0_u64; (heads.len() + (1 << bucket_bits)).div_ceil(64)];
    for (at, &(head, _)) in heads.iter().enumerate() {
        let (bucket, _) = split(head, bucket_bits);
        let bit = at + usize::try_from(bucket).expect("fewer than 2^32 buckets");
        words[bit / 64] |= 1 << (bit % 64);
    }
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(heads.iter().flat_map(|&(head, _)| split(head, bucket_bits).1.to_le_bytes()));
}

/// Least value, greatest common step and width of a column's codes; none where they do not fit eight bytes.
fn coding(values: &[i64]) -> Option<(i64, u64, u32)> {
    let min = values.iter().copied().filter(|&value| value != NULL).min().unwrap_or(0);
    let (mut step, mut widest) = (0, 0);
    for &value in values.iter().filter(|&&value| value != NULL) {
        let above = value.abs_diff(min);
        widest = widest.max(above);
        // Nearly always the step is known after a few values and divides the others.
        if step != 1 && (step == 0 || above % step != 0) {
            step = gcd(step, above);
        }
    }
    let step = step.max(1);
    (widest < u64::MAX).then(|| (min, step, bytes_of(widest / step + 1)))
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn bytes_of(largest: u64) -> u32 {
    (u64::BITS - largest.leading_zeros()).div_ceil(8).max(1)
}

/// A version column as 64-bit numbers.
pub(super) fn whole_numbers(column: &ArrayRef) -> Result<ArrayRef> {
    let failed = |e| Error::broken(format!("version column of a key index: {e}"));
    match column.data_type() {
        DataType::Date32 => cast(&cast(column, &DataType::Int32).map_err(failed)?, &DataType::Int64).map_err(failed),
        _ => cast(column, &DataType::Int64).map_err(failed),
    }
}
