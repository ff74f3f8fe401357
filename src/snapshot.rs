//! Says what a new snapshot is: its files, its summary, and what must still hold for it to go in.
//!
//! Pure. Checks that files, rows and accounts agree before anything is written: a draft that cannot be right is a bug of ours.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, Operation, SnapshotReference, Summary, TableMetadata,
};
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The files that one snapshot adds and removes.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileSet {
    /// New data files.
    pub(crate) data: Vec<DataFile>,
    /// New delete files or vectors, each with the partition spec id of the data file that it points into.
    pub(crate) deletes: Vec<(i32, DataFile)>,
    /// Live data files that are taken out, by index into the head's live data files.
    pub(crate) removed: Vec<usize>,
    /// Live delete files that the new ones supersede or that are void without their data file, by index into the head's live
    /// deletes.
    pub(crate) superseded: Vec<usize>,
    /// Rows of the removed data files that the new ones hold.
    pub(crate) carried_rows: u64,
}

impl FileSet {
    /// Snapshot operation: append (rows only come), delete (rows only go), overwrite (both).
    pub(crate) fn operation(&self) -> Operation {
        match (self.data.is_empty(), self.deletes.is_empty() && self.removed.is_empty()) {
            (_, true) => Operation::Append,
            (true, false) => Operation::Delete,
            (false, false) => Operation::Overwrite,
        }
    }

    /// Refuses what no catalog refuses: vectors before v3, new position-delete files from v3 on, equality deletes ever.
    pub(crate) fn check(&self, version: FormatVersion) -> Result<()> {
        for (_, file) in &self.deletes {
            let vector = file.file_format() == DataFileFormat::Puffin;
            if file.content_type() != DataContentType::PositionDeletes || vector != (version == FormatVersion::V3) {
                return Err(Error::broken(format!("delete file `{}` does not fit a table of format {version}", file.file_path())));
            }
        }
        Ok(())
    }
}

/// The id of a snapshot: drawn from the run's UUID, so that every attempt's id is known after an unclear answer. A table that was
/// rolled back keeps the snapshots that it undid, and a run may make the same batch on it again: the last sequence number of the
/// table, which never falls, tells the two apart. Below 2^53, since many readers of JSON keep numbers as doubles, and an id that was
/// rounded names another snapshot in the next `rollback`.
pub(crate) fn snapshot_id(run: Uuid, purpose: &str, after: i64, attempt: u32) -> i64 {
    let mut hash = Sha256::new();
    hash.update(run.as_bytes());
    hash.update(purpose);
    hash.update(after.to_be_bytes());
    hash.update(attempt.to_be_bytes());
    let digest = hash.finalize();
    let bytes: [u8; 8] = digest[..8].try_into().expect("SHA-256 has 32 bytes");
    i64::from_be_bytes(bytes) & ((1 << f64::MANTISSA_DIGITS) - 1)
}

/// What of a table's metadata names snapshots; the rest is not taken apart.
#[derive(Deserialize)]
struct References {
    #[serde(default)]
    refs: HashMap<String, SnapshotReference>,
}

/// A branch or tag of the table. The crate shows them only through their serialized form.
pub(crate) fn reference(metadata: &TableMetadata, name: &str) -> Result<Option<SnapshotReference>> {
    let broken = |error: serde_json::Error| Error::broken(format!("read the branches of loaded metadata: {error}"));
    let json = serde_json::to_vec(metadata).map_err(broken)?;
    let mut known: References = serde_json::from_slice(&json).map_err(broken)?;
    Ok(known.refs.remove(name))
}

/// What must still hold: the table, the branch head, the schema and the spec are those that the draft was made for.
/// A head that a rollback brought back holds them too: then the sequence number of the new snapshot is no new one, and is refused.
pub(crate) fn requirements(metadata: &TableMetadata, branch: &str) -> Vec<TableRequirement> {
    vec![
        TableRequirement::UuidMatch { uuid: metadata.uuid() },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: branch.to_owned(),
            snapshot_id: metadata.snapshot_for_ref(branch).map(|head| head.snapshot_id()),
        },
        TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
        TableRequirement::DefaultSpecIdMatch { default_spec_id: metadata.default_partition_spec_id() },
    ]
}

/// An update that sets table properties.
pub(crate) fn set_property(key: String, value: String) -> TableUpdate {
    TableUpdate::SetProperties { updates: HashMap::from([(key, value)]) }
}

/// The standard entries of a snapshot summary, plus ours. `gone` are the data and delete files that the snapshot takes out.
pub(crate) fn summary(files: &FileSet, gone: &[&DataFile], parent: Option<&Summary>, own: BTreeMap<String, String>) -> Summary {
    let mut added = Tally::default();
    let mut removed = Tally::default();
    let new = || files.data.iter().chain(files.deletes.iter().map(|(_, file)| file));
    new().for_each(|file| added.add(file));
    gone.iter().for_each(|file| removed.add(file));
    let changed: BTreeSet<String> = new().chain(gone.iter().copied()).map(|file| format!("{:?}", file.partition())).collect();

    let mut entries: HashMap<String, String> = HashMap::new();
    let mut put = |key: &str, value: u64| {
        if value > 0 {
            entries.insert(key.to_owned(), value.to_string());
        }
    };
    put("added-data-files", added.data_files);
    put("added-records", added.records);
    put("deleted-data-files", removed.data_files);
    put("deleted-records", removed.records);
    put("added-delete-files", added.position_delete_files + added.vectors);
    put("added-position-delete-files", added.position_delete_files);
    put("added-dvs", added.vectors);
    put("added-position-deletes", added.position_deletes);
    put("added-files-size", added.bytes);
    put("removed-delete-files", removed.position_delete_files + removed.vectors);
    put("removed-position-delete-files", removed.position_delete_files);
    put("removed-dvs", removed.vectors);
    put("removed-position-deletes", removed.position_deletes);
    put("removed-files-size", removed.bytes);
    entries.insert("changed-partition-count".into(), changed.len().to_string());
    for (key, plus, minus) in [
        ("total-data-files", added.data_files, removed.data_files),
        ("total-records", added.records, removed.records),
        ("total-files-size", added.bytes, removed.bytes),
        ("total-delete-files", added.position_delete_files + added.vectors, removed.position_delete_files + removed.vectors),
        ("total-position-deletes", added.position_deletes, removed.position_deletes),
        ("total-equality-deletes", 0, 0),
    ] {
        // A parent without totals (some engines write none) leaves them unknown rather than wrong.
        let before = parent.map_or(Some(0), |parent| parent.additional_properties.get(key)?.parse::<u64>().ok());
        if let Some(total) = before.and_then(|before| (before + plus).checked_sub(minus)) {
            entries.insert(key.to_owned(), total.to_string());
        }
    }
    entries.insert("engine-name".into(), "tidegate".into());
    entries.insert("engine-version".into(), env!("CARGO_PKG_VERSION").into());
    entries.extend(own);
    Summary { operation: files.operation(), additional_properties: entries }
}

#[derive(Default)]
struct Tally {
    data_files: u64,
    records: u64,
    position_delete_files: u64,
    vectors: u64,
    position_deletes: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, file: &DataFile) {
        match (file.content_type(), file.file_format()) {
            (DataContentType::Data, _) => {
                self.data_files += 1;
                self.records += file.record_count();
            }
            (_, DataFileFormat::Puffin) => {
                self.vectors += 1;
                self.position_deletes += file.record_count();
            }
            _ => {
                self.position_delete_files += 1;
                self.position_deletes += file.record_count();
            }
        }
        // Several vectors share one Puffin file; each counts with its own part of it.
        let part = file.content_size_in_bytes().and_then(|size| u64::try_from(size).ok());
        self.bytes += part.unwrap_or_else(|| file.file_size_in_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_follows_from_the_content() {
        let file = |content| {
            iceberg::spec::DataFileBuilder::default()
                .content(content)
                .file_path("p".into())
                .file_format(DataFileFormat::Parquet)
                .record_count(3)
                .file_size_in_bytes(10)
                .build()
                .unwrap()
        };
        let (data, delete) = (file(DataContentType::Data), file(DataContentType::PositionDeletes));
        let set = |data: &[&DataFile], deletes: &[&DataFile]| FileSet {
            data: data.iter().map(|&f| f.clone()).collect(),
            deletes: deletes.iter().map(|&f| (0, f.clone())).collect(),
            ..FileSet::default()
        };
        assert_eq!(set(&[], &[]).operation(), Operation::Append);
        assert_eq!(set(&[&data], &[]).operation(), Operation::Append);
        assert_eq!(set(&[], &[&delete]).operation(), Operation::Delete);
        assert_eq!(set(&[&data], &[&delete]).operation(), Operation::Overwrite);

        let parent = Summary {
            operation: Operation::Append,
            additional_properties: [
                ("total-records", "7"),
                ("total-delete-files", "1"),
                ("total-position-deletes", "3"),
                ("total-files-size", "10"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        };
        let both = summary(&set(&[&data], &[&delete]), &[&delete], Some(&parent), BTreeMap::new()).additional_properties;
        assert_eq!(both["total-records"], "10");
        assert_eq!(both["total-delete-files"], "1");
        assert_eq!(both["total-position-deletes"], "3");
        assert_eq!(both["total-files-size"], "20");
        assert_eq!(both.get("total-data-files"), None, "the parent did not say");
        assert!(set(&[], &[&delete]).check(FormatVersion::V2).is_ok());

        let rewritten = FileSet { removed: vec![0], ..set(&[&data], &[]) };
        assert_eq!(rewritten.operation(), Operation::Overwrite);
        assert_eq!(FileSet { removed: vec![0], ..set(&[], &[]) }.operation(), Operation::Delete);
        let copied = summary(&rewritten, &[&data, &delete], Some(&parent), BTreeMap::new()).additional_properties;
        let said = |key: &str| copied.get(key).map(String::as_str);
        assert_eq!((said("deleted-data-files"), said("deleted-records")), (Some("1"), Some("3")));
        assert_eq!((said("removed-delete-files"), said("removed-files-size")), (Some("1"), Some("20")));
        assert_eq!(
            (said("total-records"), said("total-delete-files"), said("total-files-size")),
            (Some("7"), Some("0"), Some("0"))
        );
        assert_eq!(set(&[], &[&delete]).check(FormatVersion::V3).unwrap_err().exit_code(), 101);
    }

    #[test]
    fn every_attempt_has_an_id_of_its_own() {
        let run = Uuid::from_u128(7);
        assert_eq!(snapshot_id(run, "main", 1, 0), snapshot_id(run, "main", 1, 0));
        assert_ne!(snapshot_id(run, "main", 1, 0), snapshot_id(run, "main", 1, 1));
        assert_ne!(snapshot_id(run, "main", 1, 0), snapshot_id(run, "main", 2, 0));
        assert_ne!(snapshot_id(run, "main", 1, 0), snapshot_id(run, "rejects", 1, 0));
        for attempt in 0..1_000 {
            let id = snapshot_id(run, "main", 1, attempt);
            assert!((0..1 << 53).contains(&id), "{id} does not survive a reader that makes it a double");
        }
    }
}
