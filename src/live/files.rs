//! The live files of one snapshot, and which deletes apply to which data file.
//!
//! Paths are compared exactly as manifests hold them. Everything here comes from manifests: no data or delete file is opened.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::metadata_columns::RESERVED_FIELD_ID_DELETE_FILE_PATH;
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataContentType, DataFile, DataFileFormat, Literal, Manifest, ManifestContentType,
    ManifestEntryRef, ManifestFile, ManifestList, NameMapping, PrimitiveLiteral, SnapshotRef, Struct, TableMetadata,
    TableMetadataRef,
};

use crate::error::{Doing, Error, Result};
use crate::live::dead::Kept;
use crate::storage::Store;

/// Manifests read at the same time: enough to hide the latency of an object store.
const MANIFESTS_AT_ONCE: usize = 16;

/// Every live file of a snapshot, with the manifest it stands in.
#[derive(Debug)]
pub(crate) struct LiveFiles {
    /// The table as it was loaded.
    pub(crate) metadata: TableMetadataRef,
    /// Manifests with live entries, as the manifest list has them and in its order.
    pub(crate) manifests: Vec<ManifestFile>,
    /// What they hold, in the same order.
    pub(crate) contents: Vec<Manifest>,
    /// Live data files, in the order of their manifests.
    pub(crate) data: Vec<LiveData>,
    /// Live delete files and vectors, in the order of their manifests.
    pub(crate) deletes: Vec<LiveDelete>,
    /// What delete files held that were read before.
    pub(crate) kept: Kept,
    /// Names to field ids for files without ids (`schema.name-mapping.default`).
    pub(crate) names: Option<NameMapping>,
    index: DeleteIndex,
}

/// A live data file.
#[derive(Debug)]
pub(crate) struct LiveData {
    /// Its manifest entry.
    pub(crate) entry: ManifestEntryRef,
    /// Partition spec under which it was written.
    pub(crate) spec_id: i32,
    /// Data sequence number.
    pub(crate) sequence_number: i64,
    /// Index into [`LiveFiles::manifests`].
    pub(crate) manifest: usize,
    /// Row id of its first row, inherited from the manifest list where the entry has none; none in tables without row lineage.
    pub(crate) first_row_id: Option<i64>,
}

/// A live delete file or deletion vector.
#[derive(Debug)]
pub(crate) struct LiveDelete {
    /// Its manifest entry.
    pub(crate) entry: ManifestEntryRef,
    /// Partition spec under which it was written.
    pub(crate) spec_id: i32,
    /// Data sequence number.
    pub(crate) sequence_number: i64,
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
            contents: Vec::new(),
            data: Vec::new(),
            deletes: Vec::new(),
            kept: Kept::default(),
            names: names(metadata)?,
            index: DeleteIndex::default(),
        };
        let Some(snapshot) = snapshot else { return Ok(live) };
        // A manifest without live entries has nothing to say here, and is not carried into the next snapshot.
        let live_entries = |file: &ManifestFile| file.has_added_files() || file.has_existing_files();
        let manifests = manifest_list(metadata, snapshot, store).await?.into_iter().filter(live_entries);
        let io = store.file_io();
        let mut loads = stream::iter(manifests.map(|file| {
            let io = io.clone();
            async move {
                let manifest = file.load_manifest(&io).await.doing(|| format!("read the manifest `{}`", file.manifest_path))?;
                Ok::<_, Error>((file, manifest))
            }
        }))
        .buffered(MANIFESTS_AT_ONCE);
        while let Some((file, manifest)) = loads.try_next().await? {
            live.add_manifest(file, manifest)?;
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
            delete.spec_id == data.spec_id && widened(delete.file().partition()) == widened(data.file().partition())
        };
        let not_before = |&at: &usize| self.deletes[at].sequence_number >= data.sequence_number;
        let after = |&at: &usize| self.deletes[at].sequence_number > data.sequence_number;
        let partition = (data.spec_id, widened(data.file().partition()));
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

    /// Delete files and vectors that are about this data file alone: those that are void without it.
    pub(crate) fn deletes_only_of(&self, data: usize) -> Vec<usize> {
        let path = self.data[data].file().file_path();
        let file_scoped = self.index.by_path.get(path).into_iter().flatten();
        file_scoped.chain(self.index.vectors.get(path)).copied().collect()
    }

    fn add_manifest(&mut self, file: ManifestFile, content: Manifest) -> Result<()> {
        let manifest = self.manifests.len();
        let spec_id = file.partition_spec_id;
        let entries: Vec<_> = content.entries().iter().filter(|entry| entry.is_alive()).collect();
        let mut next_row_id = file.first_row_id.map(i64::try_from).transpose().doing(|| row_ids(&file))?;
        for entry in entries {
            let path = entry.file_path();
            let sequence_number =
                entry.sequence_number.ok_or_else(|| unusable(&file, &format!("`{path}` has no sequence number")))?;
            let entry = Arc::clone(entry);
            if file.content == ManifestContentType::Deletes {
                // What kind it is shows only when all data files are known.
                let kind = DeleteKind::Equality;
                let delete = LiveDelete { entry, spec_id, sequence_number, manifest, kind };
                self.deletes.push(delete);
                continue;
            }
            let mut first_row_id = entry.data_file.first_row_id();
            if first_row_id.is_none() && next_row_id.is_some() {
                first_row_id = next_row_id;
                let rows = i64::try_from(entry.record_count()).doing(|| row_ids(&file))?;
                next_row_id = next_row_id.map(|id| id.saturating_add(rows));
            }
            let data = LiveData { entry, spec_id, sequence_number, manifest, first_row_id };
            self.data.push(data);
        }
        self.manifests.push(file);
        self.contents.push(content);
        Ok(())
    }

    fn index_deletes(&mut self) -> Result<()> {
        let paths: HashSet<&str> = self.data.iter().map(|data| data.file().file_path()).collect();
        let mut index = DeleteIndex::default();
        for (at, delete) in self.deletes.iter_mut().enumerate() {
            let file = &delete.entry.data_file;
            let partition = (delete.spec_id, widened(file.partition()));
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

/// Every manifest of a snapshot, as its manifest list has them.
pub(crate) async fn manifest_list(metadata: &TableMetadata, snapshot: &SnapshotRef, store: &Store) -> Result<Vec<ManifestFile>> {
    let location = snapshot.manifest_list();
    if snapshot.encryption_key_id().is_some() {
        return Err(Error::setup(format!("the manifest list `{location}` is encrypted"), "tidegate cannot read encrypted tables"));
    }
    let bytes = store.read(location).await?;
    let list = ManifestList::parse_with_version(&bytes, metadata.format_version())
        .doing(|| format!("read the manifest list `{location}`"))?;
    Ok(list.consume_entries().into_iter().collect())
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

/// A partition as it compares: a manifest holds values of its own time's types, and a promoted column has wider ones since.
fn widened(partition: &Struct) -> Struct {
    let widen = |value: Option<&Literal>| match value {
        Some(Literal::Primitive(PrimitiveLiteral::Int(int))) => Some(Literal::long(i64::from(*int))),
        Some(Literal::Primitive(PrimitiveLiteral::Float(float))) => Some(Literal::double(float.into_inner())),
        other => other.cloned(),
    };
    Struct::from_iter(partition.iter().map(widen))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use iceberg::spec::{FormatVersion, Literal, PrimitiveType, Schema, Transform, UnboundPartitionField, UnboundPartitionSpec};
    use roaring::RoaringTreemap;

    use super::*;
    use crate::live::testing::{TestTable, batch_of, column, schema_of, vector_bytes};

    fn schema() -> Schema {
        schema_of(vec![column(1, "id", PrimitiveType::Long, true), column(2, "part", PrimitiveType::Long, true)])
    }

    fn rows(ids: std::ops::Range<i64>, part: i64) -> RecordBatch {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(ids.clone())), Arc::new(Int64Array::from_iter_values(ids.map(|_| part)))];
        batch_of(&schema(), columns)
    }

    fn by_part() -> UnboundPartitionSpec {
        let field = UnboundPartitionField { source_id: 2, field_id: None, name: "part".into(), transform: Transform::Identity };
        UnboundPartitionSpec::builder().with_spec_id(1).add_partition_fields([field]).unwrap().build()
    }

    fn part(value: i64) -> Vec<Option<Literal>> {
        vec![Some(Literal::long(value))]
    }

    #[tokio::test]
    async fn a_table_without_snapshot_has_no_files() {
        let table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let live = table.live().await;
        assert!(live.data.is_empty() && live.manifests.is_empty());
    }

    #[tokio::test]
    async fn sequence_numbers_decide_which_deletes_apply() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let [old, same, new] = [0..3, 3..6, 6..9].map(|ids| table.data(&rows(ids, 0)));
        table.commit(vec![old.clone()], vec![]).await;
        let position = table.position_delete(&old, &[(old.file_path(), 1), (same.file_path(), 1)], false);
        let equality = table.equality_delete(&old, vec![1], &rows(0..1, 0));
        table.commit(vec![same], vec![position, equality]).await;
        table.commit(vec![new], vec![]).await;

        let live = table.live().await;
        let sequences: Vec<_> = live.data.iter().map(|data| data.sequence_number).collect();
        assert_eq!(sequences, [1, 2, 3]);
        let both = DeletesOf { partition_scoped: vec![0], equality: vec![1], ..DeletesOf::default() };
        assert_eq!(live.deletes_of(0), both);
        // A position delete may be committed together with its data file, an equality delete never hits its own commit.
        assert_eq!(live.deletes_of(1), DeletesOf { partition_scoped: vec![0], ..DeletesOf::default() });
        assert_eq!(live.deletes_of(2), DeletesOf::default());
    }

    #[tokio::test]
    async fn deletes_stay_within_their_partition_and_spec_but_for_unpartitioned_equality_deletes() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let plain = table.data(&rows(0..3, 7));
        table.commit(vec![plain.clone()], vec![]).await;
        table.alter(|builder| builder.add_default_partition_spec(by_part()));
        let seven = table.data_in(&rows(3..6, 7), part(7));
        let eight = table.data_in(&rows(6..9, 8), part(8));
        table.commit(vec![seven.clone(), eight.clone()], vec![]).await;
        let position = table.position_delete(&seven, &[(seven.file_path(), 0), (eight.file_path(), 0)], false);
        let equality = table.equality_delete(&seven, vec![1], &rows(3..4, 7));
        table.commit(vec![], vec![position, equality]).await;
        table.alter(|builder| builder.set_default_partition_spec(0));
        let everywhere = table.equality_delete(&plain, vec![1], &rows(3..4, 7));
        table.commit(vec![], vec![everywhere]).await;

        let live = table.live().await;
        assert_eq!(live.deletes_of(0), DeletesOf { equality: vec![2], ..DeletesOf::default() });
        let seven = DeletesOf { partition_scoped: vec![0], equality: vec![1, 2], ..DeletesOf::default() };
        assert_eq!(live.deletes_of(1), seven);
        assert_eq!(live.deletes_of(2), DeletesOf { equality: vec![2], ..DeletesOf::default() });
    }

    #[tokio::test]
    async fn a_position_delete_is_file_scoped_by_reference_or_by_bounds_that_are_a_live_path() {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let one = table.data(&rows(0..3, 0));
        let two = table.data(&rows(3..6, 0));
        table.commit(vec![one.clone(), two.clone()], vec![]).await;
        let referenced = table.position_delete(&one, &[(one.file_path(), 0)], true);
        let bounded = table.position_delete(&one, &[(one.file_path(), 1)], false);
        // As a writer leaves it that cuts both bounds short.
        let cut = table.position_delete(&one, &[("file:///", 1)], false);
        table.commit(vec![], vec![referenced, bounded, cut]).await;

        let live = table.live().await;
        let one = DeletesOf { file_scoped: vec![0, 1], partition_scoped: vec![2], ..DeletesOf::default() };
        assert_eq!(live.deletes_of(0), one);
        assert_eq!(live.deletes_of(1), DeletesOf { partition_scoped: vec![2], ..DeletesOf::default() });
    }

    #[tokio::test]
    async fn a_vector_stands_for_all_position_deletes_of_its_file_and_is_the_only_one() {
        let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
        let one = table.data(&rows(0..3, 0));
        table.commit(vec![one.clone()], vec![]).await;
        let positions = table.position_delete(&one, &[(one.file_path(), 0)], true);
        let bitmap = RoaringTreemap::from_iter([0, 2]);
        let vector = table.vector(&one, &vector_bytes(&bitmap), 2);
        table.commit(vec![], vec![positions, vector.clone()]).await;
        assert_eq!(table.live().await.deletes_of(0), DeletesOf { vector: Some(1), ..DeletesOf::default() });

        let second = table.vector(&one, &vector_bytes(&bitmap), 2);
        let error = {
            let live = table.live().await;
            let mut twice = LiveFiles { deletes: Vec::new(), ..Arc::into_inner(live).unwrap() };
            for file in [vector, second] {
                let entry = Arc::new(
                    iceberg::spec::ManifestEntry::builder().status(iceberg::spec::ManifestStatus::Added).data_file(file).build(),
                );
                let kind = DeleteKind::Vector;
                twice.deletes.push(LiveDelete { entry, spec_id: 0, sequence_number: 2, manifest: 0, kind });
            }
            twice.index_deletes().unwrap_err()
        };
        assert_eq!(error.exit_code(), 65, "{error}");
        assert!(error.to_string().contains(one.file_path()), "{error}");
    }

    #[tokio::test]
    async fn first_row_ids_are_inherited_in_the_order_of_the_manifest() {
        let mut table = TestTable::unpartitioned(FormatVersion::V3, schema());
        let files = [0..3, 3..8, 8..9].map(|ids| table.data(&rows(ids, 0)));
        table.commit(files.to_vec(), vec![]).await;
        let explicit = table.parquet(&rows(9..11, 0)).first_row_id(Some(1_000)).build().unwrap();
        let last = table.data(&rows(11..12, 0));
        table.commit(vec![explicit, last], vec![]).await;
        let ids: Vec<_> = table.live().await.data.iter().map(|data| data.first_row_id).collect();
        assert_eq!(ids, [Some(0), Some(3), Some(8), Some(1_000), Some(9)]);

        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let file = table.data(&rows(0..3, 0));
        table.commit(vec![file], vec![]).await;
        assert_eq!(table.live().await.data[0].first_row_id, None);
    }
}
