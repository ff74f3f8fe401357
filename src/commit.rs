//! Writes the manifests of a draft and makes of it one change of the table.
//!
//! Never swaps and never retries: `job` does both, with every decision in sight. A prepared change is only good for the base it
//! was made for; another head needs another one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::future::try_join_all;
use iceberg::TableUpdate;
use iceberg::spec::{
    DataFile, FormatVersion, Manifest, ManifestContentType, ManifestFile, ManifestListWriter, ManifestStatus, ManifestWriter,
    ManifestWriterBuilder, PartitionSpec, SchemaRef, Snapshot, SnapshotReference, SnapshotRetention,
    deserialize_data_file_from_json, serialize_data_file_to_json,
};

use crate::catalog::{Change, LoadedTable};
use crate::error::{Doing, Error, Result};
use crate::live::files::LiveFiles;
use crate::names::{FileNames, metadata_root};
use crate::snapshot::{FileSet, reference, requirements, summary};

/// Everything that one new snapshot is made from.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    /// The table as loaded for this attempt.
    pub(crate) base: &'a LoadedTable,
    /// What is alive at its head.
    pub(crate) live: &'a LiveFiles,
    /// Branch that gets the snapshot.
    pub(crate) branch: &'a str,
    /// Files added and taken out.
    pub(crate) files: &'a FileSet,
    /// Our entries of the summary.
    pub(crate) summary: BTreeMap<String, String>,
    /// Id of the snapshot.
    pub(crate) snapshot_id: i64,
    /// Now, ms since the epoch.
    pub(crate) now_ms: i64,
    /// Names of the attempt.
    pub(crate) names: &'a FileNames,
    /// Further updates of the same commit.
    pub(crate) updates: Vec<TableUpdate>,
}

/// A change that is ready to be swapped in.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// For the catalog.
    pub(crate) change: Change,
    /// Manifests and manifest list written for it: deleted again after a known refusal.
    pub(crate) written: Vec<String>,
}

/// Writes manifests and manifest list, and says what the catalog has to do.
pub(crate) async fn prepare(draft: Draft<'_>) -> Result<Prepared> {
    let metadata = &draft.base.metadata;
    draft.files.check(metadata.format_version())?;
    let mut manifests = Manifests { draft: &draft, written: Vec::new(), list: Vec::new() };
    manifests.keep_and_rewrite().await?;
    manifests.add_new().await?;
    manifests.merge(ManifestContentType::Data).await?;
    manifests.merge(ManifestContentType::Deletes).await?;
    let (list, mut written) = (manifests.list, manifests.written);

    let parent = metadata.snapshot_for_ref(draft.branch);
    let sequence_number = metadata.next_sequence_number();
    let location = format!("{}/snap-{}-{}", metadata_root(metadata), draft.snapshot_id, draft.names.next(".avro"));
    let rows_before = metadata.next_row_id();
    let rows_after = write_list(&draft, &location, list, sequence_number).await?;
    written.push(location.clone());

    let data = draft.files.removed.iter().map(|&i| draft.live.data[i].file());
    let gone: Vec<&DataFile> = data.chain(draft.files.superseded.iter().map(|&i| draft.live.deletes[i].file())).collect();
    let summary = summary(draft.files, &gone, parent.map(|p| p.summary()), draft.summary.clone());
    let builder = Snapshot::builder()
        .with_snapshot_id(draft.snapshot_id)
        .with_parent_snapshot_id(parent.map(|p| p.snapshot_id()))
        .with_sequence_number(sequence_number)
        // Clocks of two writers differ; a snapshot must not be older than what it stands on.
        .with_timestamp_ms(draft.now_ms.max(metadata.last_updated_ms()))
        .with_manifest_list(location)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id());
    let snapshot = match rows_after {
        None => builder.build(),
        Some(after) => builder.with_row_range(rows_before, after - rows_before).build(),
    };
    let mut updates = vec![
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef {
            ref_name: draft.branch.to_owned(),
            reference: SnapshotReference::new(draft.snapshot_id, retention(&draft)?),
        },
    ];
    updates.extend(draft.updates.iter().cloned());
    let change = Change { base: draft.base.clone(), requirements: requirements(metadata, draft.branch), updates };
    Ok(Prepared { change, written })
}

/// A branch keeps the retention that it has.
fn retention(draft: &Draft<'_>) -> Result<SnapshotRetention> {
    let none = || SnapshotRetention::branch(None, None, None);
    Ok(reference(&draft.base.metadata, draft.branch)?.map_or_else(none, |reference| reference.retention))
}

async fn write_list(draft: &Draft<'_>, location: &str, list: Vec<ManifestFile>, sequence_number: i64) -> Result<Option<u64>> {
    let doing = || format!("write manifest list `{location}`");
    let metadata = &draft.base.metadata;
    let parent = metadata.snapshot_for_ref(draft.branch).map(|p| p.snapshot_id());
    let output = draft.base.file_io.new_output(location).doing(doing)?;
    let writer = output.writer().await.doing(doing)?;
    let mut writer = match metadata.format_version() {
        FormatVersion::V1 => ManifestListWriter::v1(writer, draft.snapshot_id, parent),
        FormatVersion::V2 => ManifestListWriter::v2(writer, draft.snapshot_id, parent, sequence_number),
        FormatVersion::V3 => {
            ManifestListWriter::v3(writer, draft.snapshot_id, parent, sequence_number, Some(metadata.next_row_id()))
        }
    };
    writer.add_manifests(list.into_iter()).doing(doing)?;
    let next_row_id = writer.next_row_id();
    writer.close().await.doing(doing)?;
    Ok(next_row_id)
}

/// The manifests of the new snapshot as they come together.
struct Manifests<'a> {
    draft: &'a Draft<'a>,
    written: Vec<String>,
    list: Vec<ManifestFile>,
}

impl Manifests<'_> {
    /// Takes over the head's manifests; those that hold a removed data file or a superseded delete file are rewritten.
    async fn keep_and_rewrite(&mut self) -> Result<()> {
        let live = self.draft.live;
        let mut gone: HashMap<usize, Contents<'_>> = HashMap::new();
        for data in self.draft.files.removed.iter().map(|&i| &live.data[i]) {
            gone.entry(data.manifest).or_default().insert(named(data.file()));
        }
        for delete in self.draft.files.superseded.iter().map(|&i| &live.deletes[i]) {
            gone.entry(delete.manifest).or_default().insert(named(delete.file()));
        }
        for (at, manifest) in live.manifests.iter().enumerate() {
            if let Some(gone) = gone.get(&at) {
                let rewritten = self.rewrite(manifest, &live.contents[at], gone).await?;
                self.list.push(rewritten);
            } else {
                self.list.push(manifest.clone());
            }
        }
        Ok(())
    }

    async fn add_new(&mut self) -> Result<()> {
        let files = self.draft.files;
        let metadata = &self.draft.base.metadata;
        if !files.data.is_empty() {
            let mut writer =
                self.writer(ManifestContentType::Data, metadata.current_schema(), metadata.default_partition_spec())?;
            for file in &files.data {
                writer.add_file(file.clone(), -1).doing(|| "add a data file to a manifest")?;
            }
            let manifest = self.close(writer).await?;
            self.list.push(manifest);
        }
        let mut by_spec: BTreeMap<i32, Vec<&DataFile>> = BTreeMap::new();
        for (spec, file) in &files.deletes {
            by_spec.entry(*spec).or_default().push(file);
        }
        for (spec, files) in by_spec {
            let spec = metadata
                .partition_spec_by_id(spec)
                .ok_or_else(|| Error::broken(format!("partition spec {spec} of a live data file is not in the table")))?;
            let schema = schema_of(&self.draft.base.metadata, spec);
            let mut writer = self.writer(ManifestContentType::Deletes, &schema, spec)?;
            for file in files {
                writer.add_file(file.clone(), -1).doing(|| "add a delete file to a manifest")?;
            }
            let manifest = self.close(writer).await?;
            self.list.push(manifest);
        }
        Ok(())
    }

    /// Merges small manifests of one content and spec into one, as Java's `ManifestMergeManager`: in bins of
    /// `commit.manifest.target-size-bytes`, once there are `commit.manifest.min-count-to-merge` of them.
    async fn merge(&mut self, content: ManifestContentType) -> Result<()> {
        let properties = self.draft.base.metadata.properties();
        let number = |key: &str, default: i64| properties.get(key).and_then(|value| value.parse().ok()).unwrap_or(default);
        if properties.get("commit.manifest-merge.enabled").is_some_and(|value| value == "false") {
            return Ok(());
        }
        let target = number("commit.manifest.target-size-bytes", 8 << 20);
        let min_count = usize::try_from(number("commit.manifest.min-count-to-merge", 100)).unwrap_or(100);
        let mut groups: BTreeMap<i32, Vec<ManifestFile>> = BTreeMap::new();
        let mut rest = Vec::new();
        for manifest in std::mem::take(&mut self.list) {
            if manifest.content == content {
                groups.entry(manifest.partition_spec_id).or_default().push(manifest);
            } else {
                rest.push(manifest);
            }
        }
        for manifests in groups.into_values() {
            for bin in bins(manifests, |manifest| manifest.manifest_length, target, min_count) {
                match self.merged(&bin).await? {
                    Some(merged) => rest.push(merged),
                    None => rest.extend(bin),
                }
            }
        }
        self.list = rest;
        Ok(())
    }

    /// One manifest of several; none where they cannot be one: a promoted partition column gives them different partition types.
    async fn merged(&mut self, bin: &[ManifestFile]) -> Result<Option<ManifestFile>> {
        let metadata = &self.draft.base.metadata;
        let Some(spec) = bin.first().and_then(|first| metadata.partition_spec_by_id(first.partition_spec_id)) else {
            return Ok(None);
        };
        if bin.len() < 2 {
            return Ok(None);
        }
        let (spec, schema) = (spec.as_ref().clone(), schema_of(metadata, spec));
        let draft = self.draft;
        let loaded = try_join_all(bin.iter().map(|manifest| content(draft, manifest))).await?;
        let partition_type = spec.partition_type(&schema).doing(|| "name the partition type of a manifest")?;
        for manifest in &loaded {
            let own = manifest.metadata();
            if own.partition_spec().partition_type(own.schema()).doing(|| "name the partition type of a manifest")?
                != partition_type
            {
                return Ok(None);
            }
        }
        let manifests: Vec<_> = bin.iter().zip(loaded.iter().map(AsRef::as_ref)).collect();
        self.write(&manifests, &Contents::new(), &schema, &spec).await.map(Some)
    }

    /// The manifest without `removed`, which it lists as deleted, under its own schema and spec.
    async fn rewrite(&mut self, manifest: &ManifestFile, content: &Manifest, removed: &Contents<'_>) -> Result<ManifestFile> {
        let (schema, spec) = (Arc::clone(content.metadata().schema()), content.metadata().partition_spec());
        self.write(&[(manifest, content)], removed, &schema, spec).await
    }

    /// One manifest with the live entries of all.
    async fn write(
        &mut self,
        manifests: &[(&ManifestFile, &Manifest)],
        removed: &Contents<'_>,
        schema: &SchemaRef,
        spec: &PartitionSpec,
    ) -> Result<ManifestFile> {
        let version = self.draft.base.metadata.format_version();
        let mut writer = self.writer(manifests[0].0.content, schema, spec)?;
        for (manifest, content) in manifests {
            let own = manifest.added_snapshot_id == self.draft.snapshot_id;
            let first_row_ids = first_row_ids(manifest, content);
            for (entry, first_row_id) in content.entries().iter().zip(first_row_ids) {
                let file = with_first_row_id(&entry.data_file, first_row_id, spec, schema, version)?;
                let sequence = entry.sequence_number().unwrap_or(-1);
                let snapshot = entry.snapshot_id().unwrap_or(manifest.added_snapshot_id);
                let added = match entry.status() {
                    ManifestStatus::Deleted if own => writer.add_delete_file(file, sequence, entry.file_sequence_number),
                    ManifestStatus::Deleted => continue,
                    _ if removed.contains(&named(&file)) => writer.add_delete_file(file, sequence, entry.file_sequence_number),
                    ManifestStatus::Added if own => writer.add_file(file, -1),
                    _ => writer.add_existing_file(file, snapshot, sequence, entry.file_sequence_number),
                };
                added.doing(|| format!("rewrite manifest `{}`", manifest.manifest_path))?;
            }
        }
        self.close(writer).await
    }

    fn writer(&mut self, content: ManifestContentType, schema: &SchemaRef, spec: &PartitionSpec) -> Result<ManifestWriter> {
        let metadata = &self.draft.base.metadata;
        let location = format!("{}/{}", metadata_root(metadata), self.draft.names.next("-m.avro"));
        let output = self.draft.base.file_io.new_output(&location).doing(|| format!("open manifest `{location}`"))?;
        self.written.push(location);
        let builder = ManifestWriterBuilder::new(output, Some(self.draft.snapshot_id), Arc::clone(schema), spec.clone());
        Ok(manifest_writer(builder, metadata.format_version(), content))
    }

    async fn close(&self, writer: ManifestWriter) -> Result<ManifestFile> {
        writer.write_manifest_file().await.doing(|| "write a manifest")
    }
}

/// Writes manifests as a table of this version has them.
pub(crate) fn manifest_writer(
    builder: ManifestWriterBuilder,
    version: FormatVersion,
    content: ManifestContentType,
) -> ManifestWriter {
    match (version, content) {
        (FormatVersion::V1, _) => builder.build_v1(),
        (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
        (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
        (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
        (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
    }
}

/// Entries by what they name.
type Contents<'a> = HashSet<(&'a str, Option<i64>)>;

/// What an entry names: several vectors share the path of one Puffin file.
fn named(file: &DataFile) -> (&str, Option<i64>) {
    (file.file_path(), file.content_offset())
}

/// A schema in which every source column of the spec is found: the current one, unless a source column was dropped since.
fn schema_of(metadata: &iceberg::spec::TableMetadata, spec: &PartitionSpec) -> SchemaRef {
    let holds = |schema: &&SchemaRef| spec.fields().iter().all(|field| schema.field_by_id(field.source_id).is_some());
    let current = metadata.current_schema();
    Arc::clone(Some(current).filter(holds).or_else(|| metadata.schemas_iter().find(holds)).unwrap_or(current))
}

/// `first_row_id` of each entry, in order: its own, or inherited from the manifest (spec: first row id inheritance).
fn first_row_ids(manifest: &ManifestFile, content: &Manifest) -> Vec<Option<i64>> {
    let mut next = manifest.first_row_id.and_then(|id| i64::try_from(id).ok());
    let mut ids = Vec::with_capacity(content.entries().len());
    for entry in content.entries() {
        let own = entry.data_file.first_row_id();
        ids.push(match (own, next) {
            (Some(own), _) => Some(own),
            (None, Some(inherited)) if entry.is_alive() => {
                next = Some(inherited + i64::try_from(entry.record_count()).expect("row counts fit"));
                Some(inherited)
            }
            _ => None,
        });
    }
    ids
}

/// The crate has no setter for `first_row_id`; its own JSON form of a data file has the field.
fn with_first_row_id(
    file: &DataFile,
    first_row_id: Option<i64>,
    spec: &PartitionSpec,
    schema: &SchemaRef,
    version: FormatVersion,
) -> Result<DataFile> {
    if version != FormatVersion::V3 || first_row_id == file.first_row_id() {
        return Ok(file.clone());
    }
    let doing = || format!("give data file `{}` its first row id", file.file_path());
    let partition_type = spec.partition_type(schema).doing(doing)?;
    let json = serialize_data_file_to_json(file.clone(), &partition_type, version).doing(doing)?;
    let mut json: serde_json::Value = serde_json::from_str(&json).doing(doing)?;
    json["first_row_id"] = first_row_id.into();
    let with_id = deserialize_data_file_from_json(&json.to_string(), spec.spec_id(), &partition_type, schema).doing(doing)?;
    if with_id.first_row_id() != first_row_id {
        return Err(Error::broken(format!("first row id of `{}` was not taken over", file.file_path())));
    }
    Ok(with_id)
}

/// What a manifest holds: known of those that were searched.
async fn content<'d>(draft: &'d Draft<'_>, manifest: &ManifestFile) -> Result<Cow<'d, Manifest>> {
    let path = &manifest.manifest_path;
    let mut searched = draft.live.manifests.iter().zip(&draft.live.contents);
    if let Some((_, content)) = searched.find(|(known, _)| known.manifest_path == *path) {
        return Ok(Cow::Borrowed(content));
    }
    // A manifest of this very commit has no sequence number yet; its entries inherit theirs when they are read later.
    manifest.load_manifest(&draft.base.file_io).await.map(Cow::Owned).doing(|| format!("read manifest `{path}`"))
}

/// Packs manifests, oldest first, into bins of at most `target` bytes (a larger one stands alone), in their order. The bin of the
/// newest waits until it is worth the work; the others will not grow any more.
fn bins<T>(manifests: Vec<T>, size: impl Fn(&T) -> i64, target: i64, min_count: usize) -> Vec<Vec<T>> {
    let mut bins: Vec<(i64, Vec<T>)> = Vec::new();
    for manifest in manifests {
        let size = size(&manifest);
        match bins.last_mut() {
            Some((full, bin)) if *full + size <= target => {
                *full += size;
                bin.push(manifest);
            }
            _ => bins.push((size, vec![manifest])),
        }
    }
    let newest = bins.pop_if(|(_, newest)| newest.len() < min_count);
    let alone = newest.into_iter().flat_map(|(_, newest)| newest).map(|manifest| vec![manifest]);
    bins.into_iter().map(|(_, bin)| bin).chain(alone).collect()
}

#[cfg(test)]
mod tests {
    use super::bins;

    #[test]
    fn manifests_are_merged_seldom_and_stay_few_however_many_commits_there_are() {
        let (target, min_count) = (50, 10);
        let (mut manifests, mut written): (Vec<i64>, i64) = (Vec::new(), 0);
        for commit in 1..=2_000_i64 {
            manifests.push(1);
            let bins = bins(manifests, |&size| size, target, min_count);
            assert!(bins.iter().all(|bin| bin.len() == 1 || bin.iter().sum::<i64>() <= target), "{bins:?}");
            written += bins.iter().filter(|bin| bin.len() > 1).flatten().sum::<i64>();
            manifests = bins.iter().map(|bin| bin.iter().sum()).collect();
            assert_eq!(manifests.iter().sum::<i64>(), commit, "none is lost");
            let full = usize::try_from(commit / (target / 2)).unwrap();
            assert!(manifests.len() <= full + min_count, "{commit}: {manifests:?}");
        }
        // Each is written again as often as a bin has room for merges of ten.
        assert!(written <= 2_000 * target / 9, "{written}");
    }

    #[test]
    fn what_is_larger_than_a_bin_stands_alone_and_order_is_kept() {
        let packed = |sizes: &[i64], min_count| bins(sizes.to_vec(), |&size| size, 10, min_count);
        assert_eq!(packed(&[11, 4, 5, 6, 3], 2), [vec![11], vec![4, 5], vec![6, 3]]);
        assert_eq!(packed(&[11, 4, 5, 6, 3], 3), [vec![11], vec![4, 5], vec![6], vec![3]]);
        assert_eq!(packed(&[], 2), Vec::<Vec<i64>>::new());
    }
}
