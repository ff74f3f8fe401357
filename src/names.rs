//! Names of the files that a run writes: no two runs share one, and each says which job wrote it.
//!
//! Pure: the run's UUID is drawn once at the edge and comes in as a value. What is recognised here may be deleted by `clean`, so
//! a name counts as ours only if every part of it is right.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use iceberg::spec::TableMetadata;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

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
    let rest = rest.strip_prefix("tidegate-")?.strip_prefix(job)?.strip_prefix('-')?;
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

/// Root of a table's data files: `write.data.path`, or `<location>/data`.
pub(crate) fn data_root(metadata: &TableMetadata) -> String {
    root(metadata, "write.data.path", "data")
}

/// Root of a table's metadata files: `write.metadata.path`, or `<location>/metadata`.
pub(crate) fn metadata_root(metadata: &TableMetadata) -> String {
    root(metadata, "write.metadata.path", "metadata")
}

fn root(metadata: &TableMetadata, property: &str, folder: &str) -> String {
    match metadata.properties().get(property) {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => format!("{}/{folder}", metadata.location().trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
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
