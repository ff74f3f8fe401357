//! What the footer says about an index: where it is, and to which file and which question it belongs.

use std::ops::Range;

use iceberg::spec::{NestedFieldRef, PrimitiveType, Type};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{BLOCK_ENTRIES, IndexSpec};

/// Key of the footer's entry that holds the header: the CRC-32 of its JSON in eight hexadecimal digits, and the JSON.
pub(crate) const HEADER_KEY: &str = "tidegate.key-index";

/// Version of the format and of the hash: another one is no index.
const VERSION: u32 = 1;

/// A range of bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u64,
}

impl Span {
    /// From its first byte to the one after its last.
    pub(crate) fn range(self) -> Range<u64> {
        self.offset..self.offset + self.length
    }
}

/// The header of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u32,
    /// Name of the file, without its folder: unique, and kept where a table is copied.
    file: String,
    /// Rows of the file.
    rows: u64,
    /// Fingerprint of the file's row groups, hexadecimal.
    layout: String,
    id: Vec<Column>,
    /// Rows that have an id.
    pub(super) entries: u64,
    pub(super) bucket_bits: u32,
    /// Bytes of a row's position.
    pub(super) row_bytes: u32,
    pub(super) columns: Vec<VersionColumn>,
    /// Where the blocks of entries are.
    pub(crate) blocks: Span,
    /// Where the directory is.
    pub(crate) directory: Span,
    /// CRC-32 of the directory.
    pub(super) directory_crc32: u32,
}

/// A column by its field id, with its type when the file was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Column {
    field: i32,
    #[serde(rename = "type")]
    kind: String,
}

/// A version column in the entries: 0 for null, else `(value - min) / step + 1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionColumn {
    #[serde(flatten)]
    column: Column,
    pub(super) min: i64,
    pub(super) step: u64,
    pub(super) bytes: u32,
}

impl VersionColumn {
    pub(super) fn new(field: &NestedFieldRef, min: i64, step: u64, bytes: u32) -> Self {
        Self { column: Column::of(field), min, step, bytes }
    }
}

impl Column {
    fn of(field: &NestedFieldRef) -> Self {
        Self { field: field.id, kind: field.field_type.to_string() }
    }

    /// Whether values of the column then and now are equal exactly when their canonical bytes are.
    fn fits(&self, now: &NestedFieldRef) -> bool {
        let promoted = match now.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Long) => self.kind == PrimitiveType::Int.to_string(),
            // A decimal may have gained precision; its scale stays.
            Type::Primitive(PrimitiveType::Decimal { scale, .. }) => {
                self.kind.starts_with("decimal(")
                    && self.kind.trim_end_matches(')').rsplit(',').next().map(str::trim) == Some(&scale.to_string())
            }
            _ => false,
        };
        self.field == now.id && (promoted || self.kind == now.field_type.to_string())
    }
}

impl Header {
    #[expect(clippy::too_many_arguments, reason = "the parts of one header, named at the only call")]
    pub(super) fn new(
        spec: &IndexSpec,
        location: &str,
        groups: &[RowGroupMetaData],
        entries: usize,
        bucket_bits: u32,
        row_bytes: u32,
        columns: Vec<VersionColumn>,
        (blocks, directory): (Span, Span),
        directory_crc32: u32,
    ) -> Self {
        Self {
            version: VERSION,
            file: name(location).to_owned(),
            rows: rows(groups),
            layout: layout(groups),
            id: spec.id.iter().map(Column::of).collect(),
            entries: to_u64(entries),
            bucket_bits,
            row_bytes,
            columns,
            blocks,
            directory,
            directory_crc32,
        }
    }

    /// As the footer holds it.
    pub(super) fn to_text(&self) -> String {
        Self::sealed(&serde_json::to_string(self).expect("numbers and text have a JSON form"))
    }

    /// A header's JSON behind its own checksum: a footer has none, and a digit that flips in it would be believed.
    pub(crate) fn sealed(json: &str) -> String {
        format!("{:08x}{json}", crc32fast::hash(json.as_bytes()))
    }

    fn unsealed(text: &str) -> Option<&str> {
        let (sum, json) = text.split_at_checked(8)?;
        (u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(json.as_bytes())).then_some(json)
    }

    /// The header of a file's index, if it has one that can be believed for these id columns.
    pub(crate) fn of_file(location: &str, footer: &ParquetMetaData, file_bytes: u64, id: &[NestedFieldRef]) -> Option<Self> {
        let held = footer.file_metadata().key_value_metadata()?.iter().find(|entry| entry.key == HEADER_KEY)?;
        let header: Self = serde_json::from_str(Self::unsealed(held.value.as_deref()?)?).ok()?;
        let fits = header.version == VERSION
            && header.file == name(location)
            && header.rows == rows(footer.row_groups())
            && header.layout == layout(footer.row_groups())
            && header.id.len() == id.len()
            && header.id.iter().zip(id).all(|(held, field)| held.fits(field))
            && header.is_sound(file_bytes);
        fits.then_some(header)
    }

    /// Whether the numbers agree with each other, so that nothing read by them can be out of range.
    fn is_sound(&self, file_bytes: u64) -> bool {
        let ends = |span: Span| span.offset.checked_add(span.length).is_some_and(|end| end <= file_bytes);
        let widths = (1..=4).contains(&self.row_bytes)
            && self.columns.iter().all(|column| column.step > 0 && (1..=8).contains(&column.bytes));
        self.rows <= u64::from(u32::MAX)
            && self.entries <= self.rows
            && self.bucket_bits < 32
            && widths
            && ends(self.blocks)
            && ends(self.directory)
            && self.blocks.length == self.blocks_length()
            && self.directory.length == directory_length(self.entries, self.bucket_bits)
    }

    fn blocks_length(&self) -> u64 {
        self.entries * to_u64(self.entry_bytes()) + self.entries.div_ceil(to_u64(BLOCK_ENTRIES)) * 4
    }

    /// Bytes of one entry.
    pub(super) fn entry_bytes(&self) -> usize {
        entry_bytes(self.row_bytes, &self.columns)
    }

    /// The column of an entry that holds a field in its present type, or in one that was promoted to it.
    pub(crate) fn column(&self, field: &NestedFieldRef) -> Option<usize> {
        self.columns.iter().position(|column| column.column.fits(field))
    }
}

pub(super) fn entry_bytes(row_bytes: u32, columns: &[VersionColumn]) -> usize {
    8 + to_usize(row_bytes) + columns.iter().map(|column| to_usize(column.bytes)).sum::<usize>()
}

/// Bytes of a directory: the unary part in words of 64 bits, and 16 bits an entry.
pub(super) fn directory_length(entries: u64, bucket_bits: u32) -> u64 {
    (entries + (1 << bucket_bits)).div_ceil(64) * 8 + entries * 2
}

fn name(location: &str) -> &str {
    location.rsplit('/').next().unwrap_or(location)
}

fn rows(groups: &[RowGroupMetaData]) -> u64 {
    groups.iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum()
}

/// A fingerprint of where the row groups lie.
fn layout(groups: &[RowGroupMetaData]) -> String {
    let mut bytes = Vec::new();
    for group in groups {
        bytes.extend(group.num_rows().to_le_bytes());
        bytes.extend(group.total_byte_size().to_le_bytes());
        for column in group.columns() {
            let (start, length) = column.byte_range();
            bytes.extend(start.to_le_bytes());
            bytes.extend(length.to_le_bytes());
        }
    }
    format!("{:016x}", xxh3_64(&bytes))
}

pub(super) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).expect("a size fits 64 bits")
}

pub(super) fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit the address space")
}
