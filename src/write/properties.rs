//! Table properties as settings of the Parquet writer, by the names and defaults of Java Iceberg.
//!
//! One default differs: where `write.parquet.compression-level` is unset zstd runs at level 1, not 3. A level is the writer's
//! choice, level 1 takes half the time, and its files are 15 % larger.

use std::collections::HashMap;
use std::str::FromStr;

use iceberg::metadata_columns::RESERVED_COL_NAME_DELETE_FILE_POS;
use iceberg::spec::{Schema, TableMetadata};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use crate::error::{Error, Result};
use crate::write::metrics::Modes;

const MIB: usize = 1 << 20;
/// A data page below this is never cut, so a statistic shorter than this costs nothing and one longer helps no reader.
const STATISTICS_BYTES_MIN: usize = 64;

/// How the files of one table are written.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// A file is closed once it is this large.
    pub(super) file_bytes: u64,
    /// A row group is closed once it is this large.
    pub(super) row_group_bytes: usize,
    /// Which columns get which metrics.
    pub(super) modes: Modes,
    page_bytes: usize,
    page_rows: usize,
    dictionary_bytes: usize,
    data_codec: Compression,
    delete_codec: Compression,
    blooms: Vec<Bloom>,
}

/// A Bloom filter asked for by column.
#[derive(Debug, Clone)]
struct Bloom {
    field_id: i32,
    fpp: f64,
    values: u64,
}

impl Settings {
    /// Those of a table, for its current schema and default sort order.
    pub(super) fn of(metadata: &TableMetadata) -> Result<Self> {
        let properties = metadata.properties();
        let (codec, level) = ("write.parquet.compression-codec", "write.parquet.compression-level");
        let (delete_codec, delete_level) = ("write.delete.parquet.compression-codec", "write.delete.parquet.compression-level");
        let data_codec = compression(properties, codec, level)?;
        Ok(Self {
            file_bytes: positive(properties, "write.target-file-size-bytes", 512 << 20)?,
            row_group_bytes: positive(properties, "write.parquet.row-group-size-bytes", 128 * MIB)?,
            modes: Modes::of(metadata),
            page_bytes: positive(properties, "write.parquet.page-size-bytes", MIB)?,
            page_rows: positive(properties, "write.parquet.page-row-limit", 20_000)?,
            dictionary_bytes: positive(properties, "write.parquet.dict-size-bytes", 2 * MIB)?,
            data_codec,
            delete_codec: match properties.contains_key(delete_codec) {
                true => compression(properties, delete_codec, delete_level)?,
                false => data_codec,
            },
            blooms: blooms(properties, metadata.current_schema())?,
        })
    }

    /// For data files with these columns.
    pub(super) fn data_writer(&self, columns: &SchemaDescriptor) -> WriterProperties {
        let mut builder = self.writer(self.data_codec).set_statistics_truncate_length(self.statistics_bytes());
        for column in columns.columns() {
            let info = column.self_type().get_basic_info();
            let Some(bloom) = self.blooms.iter().find(|bloom| info.has_id() && info.id() == bloom.field_id) else { continue };
            builder = builder
                .set_column_bloom_filter_enabled(column.path().clone(), true)
                .set_column_bloom_filter_fpp(column.path().clone(), bloom.fpp)
                .set_column_bloom_filter_ndv(column.path().clone(), bloom.values);
        }
        builder.build()
    }

    /// For position-delete files: their bounds are never cut, readers match the path exactly. No position comes twice, so that a
    /// dictionary of them would only add to their bytes.
    pub(super) fn delete_writer(&self) -> WriterProperties {
        let positions = ColumnPath::from(RESERVED_COL_NAME_DELETE_FILE_POS);
        let writer = self.writer(self.delete_codec).set_statistics_truncate_length(None);
        writer.set_column_dictionary_enabled(positions, false).build()
    }

    fn writer(&self, codec: Compression) -> WriterPropertiesBuilder {
        WriterProperties::builder()
            .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(codec)
            .set_data_page_size_limit(self.page_bytes)
            .set_data_page_row_count_limit(self.page_rows)
            .set_dictionary_page_size_limit(self.dictionary_bytes)
            .set_max_row_group_row_count(None)
    }

    /// Bounds are taken from the statistics of the footer, so these must be at least as long as the longest bound. A bound
    /// counts characters; one takes at most four bytes.
    fn statistics_bytes(&self) -> Option<usize> {
        let longest = self.modes.length_max()?;
        Some(longest.saturating_mul(4).max(STATISTICS_BYTES_MIN))
    }
}

fn blooms(properties: &HashMap<String, String>, schema: &Schema) -> Result<Vec<Bloom>> {
    const PREFIX: &str = "write.parquet.bloom-filter-enabled.column.";
    let bytes_max = parsed(properties, "write.parquet.bloom-filter-max-bytes", 1_048_576_u32)?;
    let mut blooms = Vec::new();
    for (key, value) in properties {
        let Some(column) = key.strip_prefix(PREFIX) else { continue };
        // As in Java, a property of a column that does not exist (any more) means nothing.
        let Some(field_id) = schema.field_id_by_name(column) else { continue };
        if !value.eq_ignore_ascii_case("true") {
            continue;
        }
        let fpp_key = format!("write.parquet.bloom-filter-fpp.column.{column}");
        let fpp = parsed(properties, &fpp_key, 0.01_f64)?;
        if !(fpp > 0.0 && fpp < 1.0) {
            return Err(unfit(&fpp_key, &fpp.to_string()));
        }
        let values_max = bloom_values(bytes_max, fpp);
        let values = parsed(properties, &format!("write.parquet.bloom-filter-ndv.column.{column}"), values_max)?;
        blooms.push(Bloom { field_id, fpp, values: values.min(values_max).max(1) });
    }
    Ok(blooms)
}

/// Distinct values that fit a split-block filter of this size: the inverse of `bits = -8 n / ln(1 - fpp^(1/8))`. The crate
/// rounds up to a power of two, so the largest power of two within the bound is what may be filled.
fn bloom_values(bytes_max: u32, fpp: f64) -> u64 {
    let bytes = if bytes_max.is_power_of_two() { bytes_max } else { bytes_max.next_power_of_two() / 2 };
    let values = -f64::from(bytes) * (1.0 - fpp.powf(1.0 / 8.0)).ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 < values < 2^32 * 40 for 0 < fpp < 1")]
    let values = values as u64;
    values
}

fn compression(properties: &HashMap<String, String>, codec_key: &str, level_key: &str) -> Result<Compression> {
    let codec = properties.get(codec_key).map_or("zstd", String::as_str);
    let level = match properties.get(level_key) {
        Some(_) => Some(parsed(properties, level_key, 0_i32)?),
        None => None,
    };
    let refused = |_| unfit(level_key, &level.unwrap_or_default().to_string());
    let unsigned = |default: u32| level.map_or(Ok(default), u32::try_from).map_err(|_| unfit(level_key, "negative"));
    Ok(match codec.to_ascii_lowercase().as_str() {
        "zstd" => Compression::ZSTD(ZstdLevel::try_new(level.unwrap_or(1)).map_err(refused)?),
        "snappy" => Compression::SNAPPY,
        "gzip" => Compression::GZIP(GzipLevel::try_new(unsigned(6)?).map_err(refused)?),
        "brotli" => Compression::BROTLI(BrotliLevel::try_new(unsigned(1)?).map_err(refused)?),
        // Parquet has deprecated the framing that `lz4` once meant; every reader takes the raw one.
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "uncompressed" | "none" => Compression::UNCOMPRESSED,
        _ => return Err(unfit(codec_key, codec)),
    })
}

fn positive<T: FromStr + PartialOrd + From<u8>>(properties: &HashMap<String, String>, key: &str, default: T) -> Result<T> {
    let value = parsed(properties, key, default)?;
    if value > T::from(0) { Ok(value) } else { Err(unfit(key, "0")) }
}

fn parsed<T: FromStr>(properties: &HashMap<String, String>, key: &str, default: T) -> Result<T> {
    match properties.get(key) {
        None => Ok(default),
        Some(value) => value.trim().parse().map_err(|_| unfit(key, value)),
    }
}

fn unfit(key: &str, value: &str) -> Error {
    Error::setup(
        format!("table property `{key}` is `{value}`, which tidegate cannot write by"),
        "set the property to a value that Iceberg documents for Parquet, or remove it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn codecs_and_levels_are_honoured() {
        let of = |codec: &str, level: Option<&str>| {
            let mut pairs = vec![("codec", codec)];
            pairs.extend(level.map(|level| ("level", level)));
            compression(&properties(&pairs), "codec", "level")
        };
        assert_eq!(compression(&properties(&[]), "codec", "level").unwrap(), Compression::ZSTD(ZstdLevel::try_new(1).unwrap()));
        assert_eq!(of("ZSTD", Some("3")).unwrap(), Compression::ZSTD(ZstdLevel::try_new(3).unwrap()));
        assert_eq!(of("snappy", Some("9")).unwrap(), Compression::SNAPPY);
        assert_eq!(of("gzip", None).unwrap(), Compression::GZIP(GzipLevel::try_new(6).unwrap()));
        assert_eq!(of("lz4", None).unwrap(), Compression::LZ4_RAW);
        assert_eq!(of("uncompressed", None).unwrap(), Compression::UNCOMPRESSED);
        for (codec, level) in [("lzo", None), ("zstd", Some("99")), ("gzip", Some("-1")), ("zstd", Some("fast"))] {
            let error = of(codec, level).unwrap_err();
            assert_eq!(error.exit_code(), 78, "{codec} {level:?}: {error}");
        }
    }

    #[test]
    fn a_bloom_filter_stays_within_its_bytes() {
        for bytes_max in [32_u32, 1000, 1 << 20, (1 << 20) + 1] {
            for fpp in [0.001, 0.01, 0.5] {
                let values = bloom_values(bytes_max, fpp);
                let filter = parquet::bloom_filter::Sbbf::new_with_ndv_fpp(values, fpp).unwrap();
                assert!(filter.num_blocks() * 32 <= bytes_max as usize, "{bytes_max} {fpp}");
            }
        }
    }
}
