//! The live files of one snapshot, and which deletes apply to which data file.
//!
//! Paths are compared exactly as manifests hold them. Everything here comes from manifests: no data or delete file is opened.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::metadata_columns::RESERVED_FIELD_ID_DELETE_FILE_PATH;
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataContentType, DataFile, DataFileFormat, ManifestContentType, ManifestEntryRef, ManifestFile,
    ManifestList, NameMapping, PrimitiveLiteral, SnapshotRef, Struct, TableMetadata, TableMetadataRef,
};

use crate::error::{Doing, Error, Result};
use crate::storage::Store;

/// Manifests read at the same time: enough to hide the latency of an object store.
const MANIFESTS_AT_ONCE: usize = 16;

/// Every live file of a snapshot, with the manifest it stands in.
#[derive(Debug)]
pub(crate) struct LiveFiles {
    /// The table as it was loaded.
    pub(crate) metadata: TableMetadataRef,
    /// Manifests with live entries, in the order of the manifest list.
    pub(crate) manifests: Vec<LoadedManifest>,
    /// Live data files, in the order of their manifests.
    pub(crate) data: Vec<LiveData>,
    /// Live delete files and vectors, in the order of their manifests.
    pub(crate) deletes: Vec<LiveDelete>,
    /// Names to field ids for files without ids (`schema.name-mapping.default`).
    pub(crate) names: Option<NameMapping>,
    index: DeleteIndex,
}

/// A manifest, kept so that it can be rewritten.
#[derive(Debug)]
pub(crate) struct LoadedManifest {
    /// As the manifest list has it.
    pub(crate) file: ManifestFile,
    /// Live entries in order, with sequence numbers and snapshot ids inherited.
    pub(crate) entries: Vec<ManifestEntryRef>,
}

/// A live data file.
#[derive(Debug)]
pub(crate) struct LiveData {
    /// Its manifest entry, shared with [`LoadedManifest::entries`].
    pub(crate) entry: ManifestEntryRef,
    /// Partition spec under which it was written.
    pub(crate) spec_id: i32,
    /// Data sequence number.
    pub(crate) sequence_number: i64,
    /// Sequence number of the commit that added the file.
    pub(crate) file_sequence_number: i64,
    /// Snapshot that added the file.
    pub(crate) snapshot_id: i64,
    /// Row id of its first row, inherited from the manifest list where the entry has none; none in tables without row lineage.
    pub(crate) first_row_id: Option<i64>,
    /// Index into [`LiveFiles::manifests`].
    pub(crate) manifest: usize,
}

/// A live delete file or deletion vector.
#[derive(Debug)]
pub(crate) struct LiveDelete {
    /// Its manifest entry, shared with [`LoadedManifest::entries`].
    pub(crate) entry: ManifestEntryRef,
    /// Partition spec under which it was written.
    pub(crate) spec_id: i32,
    /// Data sequence number.
    pub(crate) sequence_number: i64,
    /// Sequence number of the commit that added the file.
    pub(crate) file_sequence_number: i64,
    /// Snapshot that added the file.
    pub(crate) snapshot_id: i64,
    /// Index into [`LiveFiles::manifests`].
    pub(crate) manifest: usize,
    /// What it deletes, and how.
    pub(crate) kind: DeleteKind,
}

/// How a delete takes rows out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeleteKind {
    /// Deletion vector of one data file.
    Vector,
    /// Positions in one data file.
    FileScoped,
    /// Positions in any data file of its partition.
    PartitionScoped,
    /// Values of columns.
    Equality,
}

/// The deletes that apply to one data file: indexes into [`LiveFiles::deletes`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DeletesOf {
    /// Its deletion vector. Where there is one, no position-delete file applies: the vector holds their positions.
    pub(crate) vector: Option<usize>,
    /// Position-delete files of this data file alone.
    pub(crate) file_scoped: Vec<usize>,
    /// Position-delete files that may name this data file among others.
    pub(crate) partition_scoped: Vec<usize>,
    /// Equality-delete files, ascending.
    pub(crate) equality: Vec<usize>,
}

impl DeletesOf {
    /// No delete applies.
    pub(crate) fn is_empty(&self) -> bool {
        self.vector.is_none() && self.file_scoped.is_empty() && self.partition_scoped.is_empty() && self.equality.is_empty()
    }
}

/// Deletes by what selects their data files.
#[derive(Debug, Default)]
struct DeleteIndex {
    vectors: HashMap<String, usize>,
    by_path: HashMap<String, Vec<usize>>,
    by_partition: HashMap<(i32, Struct), Vec<usize>>,
    equality: HashMap<(i32, Struct), Vec<usize>>,
    equality_everywhere: Vec<usize>,
}

impl LiveData {
    /// The data file.
    pub(crate) fn file(&self) -> &DataFile {
        &self.entry.data_file
    }
}

impl LiveDelete {
    /// The delete file.
    pub(crate) fn file(&self) -> &DataFile {
        &self.entry.data_file
    }
}

impl LiveFiles {
    /// Reads every manifest of the snapshot; without a snapshot the table is empty.
    pub(crate) async fn load(metadata: &TableMetadataRef, snapshot: Option<&SnapshotRef>, store: &Store) -> Result<Self> {
        let mut live = Self {
            metadata: Arc::clone(metadata),
            manifests: Vec::new(),
            data: Vec::new(),
            deletes: Vec::new(),
            names: names(metadata)?,
            index: DeleteIndex::default(),
        };
        let Some(snapshot) = snapshot else { return Ok(live) };
        let manifests = manifest_list(metadata, snapshot, store).await?;
        let io = store.file_io();
        let mut loads = stream::iter(manifests.into_iter().map(|file| {
            let io = io.clone();
            async move {
                let manifest = file.load_manifest(&io).await.doing(|| format!("read the manifest `{}`", file.manifest_path))?;
                Ok::<_, Error>((file, manifest))
            }
        }))
        .buffered(MANIFESTS_AT_ONCE);
        while let Some((file, manifest)) = loads.try_next().await? {
            live.add_manifest(file, manifest.into_parts().0)?;
        }
        drop(loads);
        live.index_deletes()?;
        Ok(live)
    }

    /// Deletes that apply to a data file, by the spec's rules of sequence number, partition and path.
    pub(crate) fn deletes_of(&self, data: usize) -> DeletesOf {
        let data = &self.data[data];
        let path = data.file().file_path();
        let same_partition = |delete: &LiveDelete| {
            delete.spec_id == data.spec_id && delete.file().partition() == data.file().partition()
        };
        let not_before = |&at: &usize| self.deletes[at].sequence_number >= data.sequence_number;
        let after = |&at: &usize| self.deletes[at].sequence_number > data.sequence_number;
        let partition = (data.spec_id, data.file().partition().clone());
        let in_partition = |map: &HashMap<(i32, Struct), Vec<usize>>| map.get(&partition).cloned().unwrap_or_default();

        let vector = self.index.vectors.get(path).copied().filter(not_before).filter(|&at| same_partition(&self.deletes[at]));
        let mut of = DeletesOf { vector, ..DeletesOf::default() };
        if vector.is_none() {
            of.file_scoped = self.index.by_path.get(path).cloned().unwrap_or_default();
            of.file_scoped.retain(|at| not_before(at) && same_partition(&self.deletes[*at]));
            of.partition_scoped = in_partition(&self.index.by_partition);
            of.partition_scoped.retain(not_before);
        }
        of.equality = in_partition(&self.index.equality);
        of.equality.extend(&self.index.equality_everywhere);
        of.equality.retain(after);
        of.equality.sort_unstable();
        of
    }

    fn add_manifest(&mut self, file: ManifestFile, entries: Vec<ManifestEntryRef>) -> Result<()> {
        let manifest = self.manifests.len();
        let spec_id = file.partition_spec_id;
        let entries: Vec<_> = entries.into_iter().filter(|entry| entry.is_alive()).collect();
        let mut next_row_id = file.first_row_id.map(i64::try_from).transpose().doing(|| row_ids(&file))?;
        for entry in &entries {
            let of = |number: Option<i64>, what: &str| {
                let path = entry.file_path();
                number.ok_or_else(|| unusable(&file, &format!("`{path}` has no {what}")))
            };
            let sequence_number = of(entry.sequence_number, "sequence number")?;
            let file_sequence_number = of(entry.file_sequence_number, "file sequence number")?;
            let snapshot_id = of(entry.snapshot_id, "snapshot id")?;
            let entry = Arc::clone(entry);
            if file.content == ManifestContentType::Deletes {
                // What kind it is shows only when all data files are known.
                let kind = DeleteKind::Equality;
                let delete =
                    LiveDelete { entry, spec_id, sequence_number, file_sequence_number, snapshot_id, manifest, kind };
                self.deletes.push(delete);
                continue;
            }
            let mut first_row_id = entry.data_file.first_row_id();
            if first_row_id.is_none() && next_row_id.is_some() {
                first_row_id = next_row_id;
                let rows = i64::try_from(entry.record_count()).doing(|| row_ids(&file))?;
                next_row_id = next_row_id.map(|id| id.saturating_add(rows));
            }
            let data =
                LiveData { entry, spec_id, sequence_number, file_sequence_number, snapshot_id, first_row_id, manifest };
            self.data.push(data);
        }
        self.manifests.push(LoadedManifest { file, entries });
        Ok(())
    }

    fn index_deletes(&mut self) -> Result<()> {
        let paths: HashSet<&str> = self.data.iter().map(|data| data.file().file_path()).collect();
        let mut index = DeleteIndex::default();
        for (at, delete) in self.deletes.iter_mut().enumerate() {
            let file = &delete.entry.data_file;
            let partition = (delete.spec_id, file.partition().clone());
            if file.content_type() == DataContentType::EqualityDeletes {
                delete.kind = DeleteKind::Equality;
                match self.metadata.partition_spec_by_id(delete.spec_id) {
                    Some(spec) if spec.is_unpartitioned() => index.equality_everywhere.push(at),
                    _ => index.equality.entry(partition).or_default().push(at),
                }
            } else if file.file_format() == DataFileFormat::Puffin {
                delete.kind = DeleteKind::Vector;
                let path = file.referenced_data_file().ok_or_else(|| {
                    Error::refused(
                        format!("the deletion vector in `{}` names no data file", file.file_path()),
                        "the engine that wrote it left the table invalid: roll the table back, or rewrite its data files",
                    )
                })?;
                if let Some(other) = index.vectors.insert(path.clone(), at) {
                    return Err(two_vectors(&path, other, at));
                }
            } else if let Some(path) = single_data_file(file, &paths) {
                delete.kind = DeleteKind::FileScoped;
                index.by_path.entry(path).or_default().push(at);
            } else {
                delete.kind = DeleteKind::PartitionScoped;
                index.by_partition.entry(partition).or_default().push(at);
            }
        }
        self.index = index;
        Ok(())
    }
}

/// The one data file that a position-delete file is about; none where it may be about several.
fn single_data_file(file: &DataFile, live: &HashSet<&str>) -> Option<String> {
    if let Some(path) = file.referenced_data_file() {
        return Some(path);
    }
    let lower = file.lower_bounds().get(&RESERVED_FIELD_ID_DELETE_FILE_PATH)?;
    let upper = file.upper_bounds().get(&RESERVED_FIELD_ID_DELETE_FILE_PATH)?;
    match (lower.literal(), upper.literal()) {
        // Other writers cut bounds short, so equal ones are a path only if a live file has exactly that path.
        (PrimitiveLiteral::String(lower), PrimitiveLiteral::String(upper)) if lower == upper => {
            live.contains(lower.as_str()).then(|| lower.clone())
        }
        _ => None,
    }
}

async fn manifest_list(metadata: &TableMetadata, snapshot: &SnapshotRef, store: &Store) -> Result<Vec<ManifestFile>> {
    let location = snapshot.manifest_list();
    if snapshot.encryption_key_id().is_some() {
        return Err(Error::setup(
            format!("the manifest list `{location}` is encrypted"),
            "tidegate cannot read encrypted tables",
        ));
    }
    let bytes = store.read(location).await?;
    let list = ManifestList::parse_with_version(&bytes, metadata.format_version())
        .doing(|| format!("read the manifest list `{location}`"))?;
    // A manifest without live entries has nothing to say here, and is not carried into the next snapshot.
    let live = |file: &ManifestFile| file.has_added_files() || file.has_existing_files();
    Ok(list.consume_entries().into_iter().filter(live).collect())
}

fn names(metadata: &TableMetadata) -> Result<Option<NameMapping>> {
    let Some(json) = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING) else { return Ok(None) };
    serde_json::from_str(json).map(Some).map_err(|e| {
        Error::setup(
            format!("table property `{DEFAULT_SCHEMA_NAME_MAPPING}` is not a name mapping: {e}"),
            "correct the property, or remove it to read files without field ids by column name",
        )
    })
}

fn row_ids(file: &ManifestFile) -> String {
    format!("assign the row ids of `{}`", file.manifest_path)
}

fn unusable(file: &ManifestFile, why: &str) -> Error {
    Error::refused(
        format!("manifest `{}` is not valid: {why}", file.manifest_path),
        "the engine that wrote it left the table invalid: roll the table back to the snapshot before it",
    )
}

fn two_vectors(path: &str, one: usize, other: usize) -> Error {
    Error::refused(
        format!("data file `{path}` has two live deletion vectors (delete files {one} and {other} of the snapshot)"),
        "the engine that wrote the second left the table invalid: roll the table back to the snapshot before it",
    )
}
