//! Orphans: files that runs of a job wrote and that no snapshot names, left by a run that was killed or never got an answer.
//!
//! Finds them, and deletes nothing itself. A file is an orphan only if its name says that this job wrote it, if it is older than
//! any run can last, and if nothing that the tables keep names it: no snapshot of any branch or tag, no metadata file that was
//! ever the table's, no rejects that wait to be appended. Whatever cannot be read ends the search: it could name any file.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{TableMetadata, TableMetadataRef};

use crate::catalog::LoadedTable;
use crate::config::Limits;
use crate::error::{Doing, Error, Result};
use crate::job::REDOS_MAX;
use crate::live::files::manifest_list;
use crate::names::{OwnName, data_root, metadata_root, own_name};
use crate::progress::{PendingRejects, StateProperty};
use crate::storage::{Listed, Store};

/// Manifests read at the same time.
const MANIFESTS_AT_ONCE: usize = 16;

/// What a run does besides pulling, which has bounds of its own: match, write, commit. No limit of a job file bounds it, and an hour
/// is far more than the largest batch takes.
const COMMIT_MAX: Duration = Duration::from_secs(3_600);

/// How long a commit is tried again at most, whatever `commit.retry.total-timeout-ms` of the table says (by default as long): the
/// other half of [`COMMIT_MAX`] is for the work before it and for the last attempt.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1_800);

/// No run of a job is at work longer than this: every time that it may pull a batch anew and try to commit it.
pub(crate) fn longest_run(limits: &Limits) -> Duration {
    let once = limits.max_duration.saturating_add(limits.stall_timeout).saturating_add(COMMIT_MAX);
    once.saturating_mul(REDOS_MAX).saturating_add(limits.shutdown_grace)
}

/// What a search found. All counts are numbers of files.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Orphans, by location.
    pub(crate) orphans: Vec<Listed>,
    /// Files of the job that are named by no snapshot but may belong to a run that is at work.
    pub(crate) young: u64,
    /// Files of the job that are in use.
    pub(crate) used: u64,
    /// Files that no run of the job wrote.
    pub(crate) foreign: u64,
}

/// What is in the folders of some tables: to be listed before the tables are loaded, so that a file that is committed in between is
/// seen as used.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    by_location: BTreeMap<String, Listed>,
}

impl Listing {
    /// Adds the data and metadata folders of a table.
    pub(crate) async fn add(&mut self, metadata: &TableMetadata, store: &Store) -> Result<()> {
        for folder in [data_root(metadata), metadata_root(metadata)] {
            // Folders may lie within one another, and two tables may share one.
            self.by_location.extend(store.list(&folder).await?.into_iter().map(|file| (file.location.clone(), file)));
        }
        Ok(())
    }
}

/// Names of all files that some tables use. A name of ours is given once and never again, so that a file's name stands for the
/// file whatever path and scheme it is named by: `file:/x/a`, `file:///x/a` and a link to it are one.
#[derive(Debug, Default)]
pub(crate) struct Used {
    names: HashSet<String>,
    /// Version of the oldest metadata file that is known to have been a table's. Older ones may have been, too.
    oldest_version: u64,
}

impl Used {
    /// Adds everything that a table uses.
    pub(crate) async fn add(&mut self, table: &LoadedTable, job: &str, store: &Store) -> Result<()> {
        let metadata = &table.metadata;
        self.add_metadata_files(table, job).await?;
        self.add_pending_rejects(metadata, job)?;
        for file in metadata.statistics_iter() {
            self.add_name(&file.statistics_path, job);
        }
        for file in metadata.partition_statistics_iter() {
            self.add_name(&file.statistics_path, job);
        }
        self.add_snapshots(metadata, job, store).await
    }

    fn add_name(&mut self, location: &str, job: &str) {
        let name = file_name(location);
        // Only names of ours are ever asked for: a table of another engine's files costs no memory here.
        if own_name(name, job).is_some() {
            self.names.insert(name.to_owned());
        }
    }

    /// The current metadata file, those of its log, and those of the logs before: a log names only the newest hundred.
    async fn add_metadata_files(&mut self, table: &LoadedTable, job: &str) -> Result<()> {
        self.add_name(&table.metadata_location, job);
        let mut oldest = table.metadata_location.clone();
        let mut log = table.metadata.metadata_log().to_vec();
        while let Some(first) = log.first().map(|entry| entry.metadata_file.clone()) {
            for entry in &log {
                self.add_name(&entry.metadata_file, job);
            }
            let known = std::mem::replace(&mut oldest, first);
            let doing = || format!("look for metadata file `{oldest}`");
            if known == oldest || !table.file_io.exists(&oldest).await.doing(doing)? {
                break;
            }
            let older = TableMetadata::read_from(&table.file_io, &oldest).await;
            log = older.doing(|| format!("read metadata file `{oldest}`"))?.metadata_log().to_vec();
        }
        let version = file_name(&oldest).split_once('-').and_then(|(version, _)| version.parse().ok()).unwrap_or(u64::MAX);
        self.oldest_version = self.oldest_version.max(version);
        Ok(())
    }

    /// Rejects that a snapshot, or the state kept for it, names before they are in the rejects table.
    fn add_pending_rejects(&mut self, metadata: &TableMetadata, job: &str) -> Result<()> {
        let mut add = |pending: Option<&String>| -> Result<()> {
            let Some(text) = pending else { return Ok(()) };
            let pending: PendingRejects = serde_json::from_str(text).map_err(|e| {
                Error::refused(
                    format!("`tidegate.rejects` of a snapshot cannot be read: {e}"),
                    "what it names cannot be told from an orphan; restore the metadata, or expire the snapshot",
                )
            })?;
            pending.files.iter().for_each(|file| self.add_name(&file.path, job));
            Ok(())
        };
        for snapshot in metadata.snapshots() {
            add(snapshot.summary().additional_properties.get("tidegate.rejects"))?;
        }
        for (key, value) in metadata.properties().iter().filter(|(key, _)| key.starts_with("tidegate.state.")) {
            add(StateProperty::decode(key, value)?.summary.get("tidegate.rejects"))?;
        }
        Ok(())
    }

    /// Manifest lists, manifests, data files and delete files of every snapshot, whatever branch or tag it is on.
    async fn add_snapshots(&mut self, metadata: &TableMetadataRef, job: &str, store: &Store) -> Result<()> {
        let mut manifests = BTreeMap::new();
        for snapshot in metadata.snapshots() {
            self.add_name(snapshot.manifest_list(), job);
            for manifest in manifest_list(metadata, snapshot, store).await? {
                manifests.insert(manifest.manifest_path.clone(), manifest);
            }
        }
        let io = store.file_io();
        let mut reads = stream::iter(manifests.into_values().map(|file| {
            let io = io.clone();
            async move {
                let manifest = file.load_manifest(&io).await.doing(|| format!("read the manifest `{}`", file.manifest_path))?;
                Ok::<_, Error>((file.manifest_path, manifest))
            }
        }))
        .buffer_unordered(MANIFESTS_AT_ONCE);
        while let Some((path, manifest)) = reads.try_next().await? {
            self.add_name(&path, job);
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                self.add_name(entry.file_path(), job);
            }
        }
        Ok(())
    }
}

/// The orphans among what was listed: written before `before`, by this job, and not used.
pub(crate) fn orphans(listing: Listing, used: &Used, job: &str, before: DateTime<Utc>) -> Found {
    let mut found = Found::default();
    for file in listing.by_location.into_values() {
        let name = file_name(&file.location);
        let own = own_name(name, job);
        let uncertain = matches!(own, Some(OwnName::Metadata(version)) if version < used.oldest_version);
        match own {
            None => found.foreign += 1,
            Some(_) if uncertain || used.names.contains(name) => found.used += 1,
            Some(_) if file.modified >= before => found.young += 1,
            Some(_) => found.orphans.push(file),
        }
    }
    found
}

fn file_name(location: &str) -> &str {
    location.rsplit('/').next().unwrap_or(location)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::names::{FileNames, metadata_id};

    fn listing(files: &[(&str, i64)]) -> Listing {
        let file = |&(location, second): &(&str, i64)| {
            let modified = DateTime::from_timestamp(second, 0).unwrap();
            (location.to_owned(), Listed { location: location.to_owned(), size: 7, modified })
        };
        Listing { by_location: files.iter().map(file).collect() }
    }

    fn locations(found: &Found) -> Vec<&str> {
        found.orphans.iter().map(|file| file.location.as_str()).collect()
    }

    #[test]
    fn only_old_unused_files_of_the_job_are_orphans() {
        let names = FileNames::new("j", Uuid::nil());
        let [old, young, used] = [".parquet", "-m.avro", ".parquet"].map(|suffix| names.next(suffix));
        let other = FileNames::new("k", Uuid::nil()).next(".parquet");
        let [old, young, used, other, foreign] =
            [&old, &young, &used, &other, "part-0.parquet"].map(|name| format!("file:///t/data/p=1/{name}"));
        let files = [(old.as_str(), 99), (&young, 100), (&used, 0), (&other, 0), (&foreign, 0)];
        let mut in_use = Used::default();
        // Named by another spelling of its path.
        in_use.add_name(&used.replace("file:///", "file:/"), "j");
        let found = orphans(listing(&files), &in_use, "j", DateTime::from_timestamp(100, 0).unwrap());
        assert_eq!(locations(&found), [old.as_str()]);
        assert_eq!((found.young, found.used, found.foreign), (1, 1, 2));
    }

    #[test]
    fn metadata_files_older_than_the_log_reaches_may_have_been_the_tables() {
        let name =
            |version| format!("file:///t/metadata/{version:05}-{}.metadata.json", metadata_id("j", Uuid::from_u128(version)));
        let files = [1, 2, 3].map(name);
        let files: Vec<_> = files.iter().map(|file| (file.as_str(), 0)).collect();
        let used = Used { names: HashSet::new(), oldest_version: 2 };
        let found = orphans(listing(&files), &used, "j", DateTime::from_timestamp(9, 0).unwrap());
        assert_eq!(locations(&found), [files[1].0, files[2].0]);
        assert_eq!(found.used, 1);
    }

    #[test]
    fn no_run_is_longer_than_the_least_age() {
        let limits = crate::table::sample::job("", "").limits;
        assert_eq!(longest_run(&limits), Duration::from_secs(3 * (660 + 3_600) + 25));
    }
}
