//! Names of the files that a run writes: no two runs share one, and each says which job wrote it.
//!
//! Pure: the run's UUID is drawn once at the edge and comes in as a value. What is recognised here may be deleted by `clean`, so
//! a name counts as ours only if every part of it is right.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use iceberg::spec::{Datum, PrimitiveLiteral, TableMetadata, Transform};
use iceberg::transform::create_transform_function;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::error::{Error, Result};

/// Makes names `tidegate-<job>-<run uuid>-<attempt>-<ordinal>`. Clones share the ordinal.
#[derive(Debug, Clone)]
pub(crate) struct FileNames {
    job: String,
    run: Uuid,
    attempt: u32,
    ordinal: Arc<AtomicU32>,
}

impl FileNames {
    /// For one run of one job.
    pub(crate) fn new(job: &str, run: Uuid) -> Self {
        Self { job: job.to_owned(), run, attempt: 0, ordinal: Arc::new(AtomicU32::new(0)) }
    }

    /// The same run's names in a later attempt.
    pub(crate) fn attempt(&self, attempt: u32) -> Self {
        Self { attempt, ..self.clone() }
    }

    /// The next name, with `suffix` at its end (as in `.parquet`).
    pub(crate) fn next(&self, suffix: &str) -> String {
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed);
        format!("tidegate-{}-{}-{}-{ordinal:05}{suffix}", self.job, self.run.simple(), self.attempt)
    }
}

/// The UUID in a metadata file's name that says which job wrote it: `random` in its first half, and in its second a hash of that
/// and the job's name. Other readers see a UUID (version 8, made for such uses), as they expect.
pub(crate) fn metadata_id(job: &str, random: Uuid) -> Uuid {
    let digest = Sha256::new().chain_update(&random.as_bytes()[..6]).chain_update(job).finalize();
    let mut bytes = *random.as_bytes();
    // Byte 6 holds the version and byte 8 the variant; what they leave free is not compared.
    bytes[7] = digest[7];
    bytes[9..].copy_from_slice(&digest[9..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// A file's name that a run of one job gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnName {
    /// A data file, delete file, manifest or manifest list.
    Content,
    /// A metadata file, and its version: the number that the name begins with.
    Metadata(u64),
}

/// Whether a run of this job gave a file this name. A name of another job, or of anybody else, is none.
pub(crate) fn own_name(name: &str, job: &str) -> Option<OwnName> {
    if let Some(stem) = name.strip_suffix(".metadata.json") {
        let (version, written) = stem.strip_suffix(".gz").unwrap_or(stem).split_once('-')?;
        let id = Uuid::try_parse(written).ok()?;
        // A UUID has other spellings too, in which no run writes it.
        let ours = is_printed::<u64>(version, 5) && written == id.to_string() && metadata_id(job, id) == id;
        return version.parse().ok().filter(|_| ours).map(OwnName::Metadata);
    }
    let rest = match name.strip_prefix("snap-") {
        Some(list) => list.split_once('-').filter(|(snapshot, _)| is_printed::<i64>(snapshot, 1))?.1,
        None => name,
    };
    let rest = without_entropy(rest).strip_prefix("tidegate-")?.strip_prefix(job)?.strip_prefix('-')?;
    let (run, rest) = rest.split_once('-')?;
    let (attempt, rest) = rest.split_once('-')?;
    let (rest, extension) = rest.rsplit_once('.')?;
    let (ordinal, purpose) = rest.split_once('-').map_or((rest, None), |(ordinal, purpose)| (ordinal, Some(purpose)));
    let right = run.len() == 32
        && run.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && is_printed::<u32>(attempt, 1)
        && is_printed::<u32>(ordinal, 5)
        && purpose.is_none_or(|purpose| !purpose.is_empty() && purpose.bytes().all(|byte| byte.is_ascii_lowercase()))
        && matches!(extension, "parquet" | "puffin" | "avro");
    right.then_some(OwnName::Content)
}

/// Whether this is a number of its type, as it is printed with at least so many digits.
fn is_printed<N: FromStr>(text: &str, digits: usize) -> bool {
    let padded = text.len() == digits || text.len() > digits && !text.starts_with('0');
    padded && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<N>().is_ok()
}

/// The name without the bits that some tables put before it.
fn without_entropy(name: &str) -> &str {
    match name.split_once('-') {
        Some((bits, rest)) if bits.len() == 8 && bits.bytes().all(|bit| matches!(bit, b'0' | b'1')) => rest,
        _ => name,
    }
}

/// Root of a table's data files, as Java's `LocationProviders` finds it: `write.data.path`, or `<location>/data`. Two properties of
/// older tables come in between.
pub(crate) fn data_root(metadata: &TableMetadata) -> String {
    let older = if spreads(metadata) { "write.object-storage.path" } else { "" };
    root(metadata, &["write.data.path", older, "write.folder-storage.path"], "data")
}

/// Root of a table's metadata files: `write.metadata.path`, or `<location>/metadata`.
pub(crate) fn metadata_root(metadata: &TableMetadata) -> String {
    root(metadata, &["write.metadata.path"], "metadata")
}

fn root(metadata: &TableMetadata, properties: &[&str], folder: &str) -> String {
    match properties.iter().find_map(|property| metadata.properties().get(*property)) {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => format!("{}/{folder}", metadata.location().trim_end_matches('/')),
    }
}

/// Whether a table's data files are spread over folders by a hash, since an object store gives each prefix only so many requests.
fn spreads(metadata: &TableMetadata) -> bool {
    metadata.properties().get("write.object-storage.enabled").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Location of a new data or delete file. `partition`: the folder of its partition, empty or ending in `/`.
///
/// Where the table spreads its files (`write.object-storage.enabled`), as Java does since 1.8: three folders of four bits and one of
/// eight before the partition; or, without partitions in the path (`write.object-storage.partitioned-paths`), before the name.
pub(crate) fn data_location(metadata: &TableMetadata, partition: &str, name: &str) -> Result<String> {
    let root = data_root(metadata);
    if !spreads(metadata) {
        return Ok(format!("{root}/{partition}{name}"));
    }
    let in_path = metadata.properties().get("write.object-storage.partitioned-paths");
    let in_path = in_path.is_none_or(|value| value.eq_ignore_ascii_case("true"));
    let below = if in_path { format!("{partition}{name}") } else { name.to_owned() };
    let bits = entropy(&below)?;
    let folders = format!("{}/{}/{}/{}", &bits[..4], &bits[4..8], &bits[8..12], &bits[12..]);
    let table = metadata.location().trim_end_matches('/');
    if root.starts_with(table) {
        let end = if in_path { '/' } else { '-' };
        return Ok(format!("{root}/{folders}{end}{below}"));
    }
    // Several tables may share the root.
    let mut parts = table.rsplit('/').filter(|part| !part.is_empty());
    let own = parts.next().unwrap_or_default();
    let context = parts.next().map_or_else(|| own.to_owned(), |parent| format!("{parent}/{own}"));
    Ok(format!("{root}/{folders}/{context}/{below}"))
}

/// The last 20 bits of a name's hash (Murmur3, 32 bits: that of Iceberg's buckets) as digits.
fn entropy(name: &str) -> Result<String> {
    let broken = || Error::broken(format!("no hash of the name `{name}`"));
    let hash = create_transform_function(&Transform::Bucket(1 << 20)).map_err(|_| broken())?;
    let hashed = hash.transform_literal(&Datum::string(name)).map_err(|_| broken())?;
    match hashed.as_ref().map(Datum::literal) {
        Some(PrimitiveLiteral::Int(bucket)) => Ok(format!("{bucket:020b}")),
        _ => Err(broken()),
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{FormatVersion, PartitionSpec, Schema, SortOrder, TableMetadataBuilder};

    use super::*;

    const RUN: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

    #[test]
    fn what_a_run_names_is_recognised_as_its_jobs() {
        for job in ["articles", "a-b.c_d", "tidegate", "x-0123456789abcdef0123456789abcdef-0"] {
            let names = FileNames::new(job, RUN).attempt(100_002);
            for suffix in [".parquet", "-deletes.parquet", "-deletes.puffin", "-m.avro", ".avro"] {
                assert_eq!(own_name(&names.next(suffix), job), Some(OwnName::Content), "{job} {suffix}");
            }
            let list = format!("snap-{}-{}", i64::MAX, names.next(".avro"));
            assert_eq!(own_name(&list, job), Some(OwnName::Content));
            for form in ["metadata.json", "gz.metadata.json"] {
                let metadata = format!("00012-{}.{form}", metadata_id(job, RUN));
                assert_eq!(own_name(&metadata, job), Some(OwnName::Metadata(12)));
            }
        }
    }

    #[test]
    fn a_name_of_another_job_or_engine_is_not() {
        let names = FileNames::new("a-b", RUN);
        let name = names.next(".parquet");
        let metadata = format!("00012-{}.metadata.json", metadata_id("a-b", RUN));
        for job in ["a", "a-", "a-b-c", "b", ""] {
            assert_eq!((own_name(&name, job), own_name(&metadata, job)), (None, None), "{job}");
        }
        for name in [
            "00000-3-2cd22b57-5127-4198-92ba-e4e67c79821b-00001.parquet",
            "00012-2cd22b57-5127-4198-92ba-e4e67c79821b.metadata.json",
            "snap-12-1-2cd22b57-5127-4198-92ba-e4e67c79821b.avro",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-0-00001.csv",
            "tidegate-a-b-0123456789ABCDEF0123456789abcdef-0-00001.parquet",
            "tidegate-a-b-0123456789abcdef0123456789abcde-0-00001.parquet",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-0-1.parquet",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-0-00001-copy of.parquet",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-x-00001.parquet",
            "snap--tidegate-a-b-0123456789abcdef0123456789abcdef-0-00001.avro",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-00-00001.parquet",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-0-000001.parquet",
            "tidegate-a-b-0123456789abcdef0123456789abcdef-4294967296-00001.parquet",
            "snap-9223372036854775808-tidegate-a-b-0123456789abcdef0123456789abcdef-0-00001.avro",
            "snap-07-tidegate-a-b-0123456789abcdef0123456789abcdef-0-00001.avro",
            "version-hint.text",
            "",
        ] {
            assert_eq!(own_name(name, "a-b"), None, "{name}");
        }
    }

    fn table(properties: &[(&str, &str)]) -> TableMetadata {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let location = String::from("s3a://lake/news/articles/");
        TableMetadataBuilder::new(
            Schema::builder().build().unwrap(),
            PartitionSpec::unpartition_spec(),
            SortOrder::unsorted_order(),
            location,
            FormatVersion::V2,
            properties,
        )
        .and_then(TableMetadataBuilder::build)
        .unwrap()
        .metadata
    }

    const SPREAD: (&str, &str) = ("write.object-storage.enabled", "True");

    /// The folders are those that PyIceberg makes of the same names.
    #[test]
    fn data_files_lie_where_the_table_says() {
        for (properties, partition, expected) in [
            (&[][..], "day=1/", "s3a://lake/news/articles/data/day=1/a"),
            (&[("write.data.path", "s3://other/x/")], "day=1/", "s3://other/x/day=1/a"),
            (&[("write.folder-storage.path", "s3://old")], "", "s3://old/a"),
            (&[("write.object-storage.path", "s3://old")], "", "s3a://lake/news/articles/data/a"),
            (&[("write.object-storage.enabled", "false")], "", "s3a://lake/news/articles/data/a"),
            (&[SPREAD], "", "s3a://lake/news/articles/data/0101/0110/1001/10110010/a"),
            (&[SPREAD, ("write.object-storage.path", "s3://old")], "", "s3://old/0101/0110/1001/10110010/news/articles/a"),
            (&[SPREAD, ("write.data.path", "s3://other/x/")], "", "s3://other/x/0101/0110/1001/10110010/news/articles/a"),
            (
                &[SPREAD, ("write.object-storage.partitioned-paths", "false")],
                "day=1/",
                "s3a://lake/news/articles/data/0101/0110/1001/10110010-a",
            ),
        ] {
            assert_eq!(data_location(&table(properties), partition, "a").unwrap(), expected, "{properties:?}");
        }
        let location = data_location(&table(&[SPREAD]), "day=2026-11-20/", "x.parquet").unwrap();
        assert_eq!(location, "s3a://lake/news/articles/data/0110/0110/1100/11101001/day=2026-11-20/x.parquet");
        assert_eq!(entropy("test.parquet").unwrap(), "01101010001111101000");
        assert_eq!(metadata_root(&table(&[("write.metadata.path", "s3://m/x/")])), "s3://m/x");
    }

    #[test]
    fn bits_before_a_name_do_not_hide_whose_it_is() {
        let name = FileNames::new("j", RUN).next(".parquet");
        assert_eq!(own_name(&format!("01101000-{name}"), "j"), Some(OwnName::Content));
        assert_eq!(own_name(&format!("0110100-{name}"), "j"), None);
        assert_eq!(own_name(&format!("01101002-{name}"), "j"), None);
    }

    #[test]
    fn another_spelling_of_a_metadata_files_name_is_nobodys() {
        let id = metadata_id("a", RUN);
        assert_eq!(own_name(&format!("00012-{id}.metadata.json"), "a"), Some(OwnName::Metadata(12)));
        let (upper, simple, braced) = (id.to_string().to_uppercase(), id.simple(), id.braced());
        for name in [format!("00012-{upper}"), format!("00012-{simple}"), format!("00012-{braced}"), format!("000012-{id}")] {
            assert_eq!(own_name(&format!("{name}.metadata.json"), "a"), None, "{name}");
        }
    }

    #[test]
    fn a_metadata_id_is_a_uuid_of_its_own_for_each_draw() {
        let other = Uuid::from_u128(RUN.as_u128() ^ (1 << 100));
        let (one, two) = (metadata_id("j", RUN), metadata_id("j", other));
        assert_ne!(one, two);
        assert_eq!(one.get_version_num(), 8);
        assert_eq!(one.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(metadata_id("j", one), one);
    }
}
