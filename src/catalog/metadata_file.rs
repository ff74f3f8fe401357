//! Metadata files as Iceberg names and encodes them: for catalogs that keep only a file's location.

use std::io::Read;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use crate::error::{Doing, Error, Result};
use crate::names::{metadata_id, metadata_root};
use crate::storage::Store;

/// Loads the metadata file that a catalog names, plain or gzipped.
pub(super) async fn read(store: &Store, location: &str) -> Result<TableMetadata> {
    let content = store.read(location).await?;
    let unusable = |e: &dyn std::fmt::Display| {
        Error::setup(
            format!("`{location}` is not table metadata that tidegate can read: {e}"),
            "is the file whole, and the table's format version at most 3?",
        )
    };
    if !content.starts_with(&[0x1f, 0x8b]) {
        return serde_json::from_slice(&content).map_err(|e| unusable(&e));
    }
    let mut plain = Vec::new();
    GzDecoder::new(content.as_ref()).read_to_end(&mut plain).map_err(|e| unusable(&e))?;
    serde_json::from_slice(&plain).map_err(|e| unusable(&e))
}

/// Writes metadata to a new file of its table and answers the file's location. `base`: the file that it follows. `writer`: who the
/// file's name tells that wrote it.
pub(super) async fn write(store: &Store, metadata: &TableMetadata, base: Option<&str>, writer: &str) -> Result<String> {
    let gzip = gzipped(metadata)?;
    let version = base.map_or(0, |base| version(base) + 1);
    let suffix = if gzip { ".gz.metadata.json" } else { ".metadata.json" };
    #[expect(clippy::disallowed_methods, reason = "two writers of one version must not share a name, as in Java's catalogs")]
    let unique = metadata_id(writer, Uuid::new_v4());
    let location = format!("{}/{version:05}-{unique}{suffix}", metadata_root(metadata));
    let plain = serde_json::to_vec(metadata).doing(|| format!("encode `{location}`"))?;
    let content = if gzip {
        let mut packed = Vec::new();
        GzEncoder::new(plain.as_slice(), Compression::default())
            .read_to_end(&mut packed)
            .doing(|| format!("compress `{location}`"))?;
        packed
    } else {
        plain
    };
    store.create(&location, Bytes::from(content)).await?;
    Ok(location)
}

fn gzipped(metadata: &TableMetadata) -> Result<bool> {
    const CODEC: &str = "write.metadata.compression-codec";
    match metadata.properties().get(CODEC).map(|codec| codec.to_lowercase()).as_deref() {
        None | Some("" | "none") => Ok(false),
        Some("gzip") => Ok(true),
        Some(other) => Err(Error::setup(
            format!("table property `{CODEC}` is `{other}`"),
            "metadata files can be written with `none` or `gzip`",
        )),
    }
}

/// Version in a metadata file's name, `<version>-<uuid>.metadata.json`; -1 where it has none, as Java counts.
fn version(location: &str) -> i64 {
    let name = location.rsplit('/').next().unwrap_or(location);
    name.split_once('-').and_then(|(version, _)| version.parse().ok()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_is_the_number_before_the_first_dash() {
        assert_eq!(version("file:///t/metadata/00012-2cd22b57-5127-4198-92ba-e4e67c79821b.metadata.json"), 12);
        assert_eq!(version("file:///a-b/metadata/00003-x.gz.metadata.json"), 3);
        assert_eq!(version("file:///t/metadata/v7.metadata.json"), -1);
        assert_eq!(version("file:///t/5-6/metadata"), -1);
    }
}
