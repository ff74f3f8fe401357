//! Every file that the table needs is there with the size that was recorded: manifest lists, manifests, data files and deletes of
//! the head and of its ancestors, statistics, the head of the rejects table, and rejects that wait to be appended.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::TableIdent;
use iceberg::spec::{DataContentType, ManifestContentType, ManifestFile, SnapshotRef, TableMetadataRef};
use xxhash_rust::xxh3::xxh3_128;

use crate::catalog::Catalog;
use crate::error::{Doing, Error, Result};
use crate::job::rejects_ident;
use crate::live::files::manifest_list;
use crate::source::Source;
use crate::storage::{Store, is_damage};
use crate::verify::Subject;
use crate::verify::findings::{Check, Findings, Place};

/// Files looked for at the same time.
const LOOKS_AT_ONCE: usize = 32;

/// Files that wait to be looked for.
const WAITING_MAX: usize = 4_096;

/// Looks for every file.
pub(crate) async fn all<S: Source, C: Catalog>(subject: &Subject<'_, S, C>) -> Result<Check> {
    let mut look = Look { store: subject.doors.store, seen: HashSet::new(), waiting: Vec::new(), findings: Findings::default() };
    let metadata = &subject.table.metadata;
    for snapshot in subject.history.snapshots.iter().rev() {
        look.snapshot(metadata, snapshot).await?;
        if let Some(file) = metadata.statistics_for_snapshot(snapshot.snapshot_id()) {
            look.file(&file.statistics_path, u64::try_from(file.file_size_in_bytes).ok(), "statistics file", snapshot).await?;
        }
    }
    if let Some(rejects) = subject.doors.catalog.load(&rejects_ident(subject.doors.config)).await?
        && let Some(head) = rejects.metadata.current_snapshot()
    {
        look.snapshot(&rejects.metadata, head).await?;
    }
    if let Some(link) = subject.history.links.last()
        && let Some(pending) = &link.progress.rejects
    {
        let ident = TableIdent::from_strs(pending.table.split('.')).ok();
        let table = match &ident {
            Some(ident) => subject.doors.catalog.load(ident).await?,
            None => None,
        };
        let appended = match &table {
            Some(table) => crate::rejects::appended(table, &pending.job, &metadata.uuid().to_string())?,
            None => None,
        };
        if appended.is_none_or(|done| done < (link.progress.epoch, link.progress.batch)) {
            for file in &pending.files {
                look.file(&file.path, Some(file.size), "rejects file, which waits to be appended,", &link.snapshot).await?;
            }
        }
    }
    look.flush().await?;
    let found = match subject.history.snapshots.len() {
        0 => "no snapshot, so no files".into(),
        1 => format!("{} files of 1 snapshot, and its rejects", look.seen.len()),
        snapshots => format!("{} files of {snapshots} snapshots, and their rejects", look.seen.len()),
    };
    Ok(Check::of(found, look.findings))
}

struct Wanted {
    path: String,
    size: Option<u64>,
    what: &'static str,
    snapshot: i64,
}

struct Look<'a> {
    store: &'a Store,
    /// Hashes of the paths looked for: 16 bytes each, where a table may have millions.
    seen: HashSet<u128>,
    waiting: Vec<Wanted>,
    findings: Findings,
}

impl Look<'_> {
    /// Everything that a snapshot names.
    async fn snapshot(&mut self, metadata: &TableMetadataRef, snapshot: &SnapshotRef) -> Result<()> {
        self.file(snapshot.manifest_list(), None, "manifest list", snapshot).await?;
        self.flush().await?;
        let manifests = match manifest_list(metadata, snapshot, self.store).await {
            Ok(manifests) => manifests,
            Err(error) => return self.unreadable(error, snapshot.manifest_list(), snapshot),
        };
        for manifest in manifests {
            if !self.is_new(&manifest.manifest_path) {
                continue;
            }
            let size = u64::try_from(manifest.manifest_length).ok();
            if !self.find(&manifest.manifest_path, size, "manifest", snapshot).await? {
                continue;
            }
            if let Err(error) = self.manifest(&manifest, snapshot).await {
                self.unreadable(error, &manifest.manifest_path, snapshot)?;
            }
        }
        Ok(())
    }

    async fn manifest(&mut self, manifest: &ManifestFile, snapshot: &SnapshotRef) -> Result<()> {
        let path = &manifest.manifest_path;
        let loaded = manifest.load_manifest(&self.store.file_io()).await.doing(|| format!("read the manifest `{path}`"))?;
        for entry in loaded.entries().iter().filter(|entry| entry.is_alive()) {
            let file = &entry.data_file;
            let what = match (manifest.content, file.content_type()) {
                (ManifestContentType::Data, _) | (_, DataContentType::Data) => "data file",
                _ => "delete file",
            };
            self.file(file.file_path(), Some(file.file_size_in_bytes()), what, snapshot).await?;
        }
        Ok(())
    }

    /// A file that is there but cannot be true is a finding; so is one that is gone, which was told before.
    fn unreadable(&mut self, error: Error, path: &str, snapshot: &SnapshotRef) -> Result<()> {
        match error {
            Error::Setup { .. } => Ok(()),
            error if is_damage(&error) => {
                self.findings.add(format!("it cannot be read: {error}"), Place::snapshot(snapshot.snapshot_id()).file(path));
                Ok(())
            }
            error => Err(error),
        }
    }

    fn is_new(&mut self, path: &str) -> bool {
        self.seen.insert(xxh3_128(path.as_bytes()))
    }

    /// Notes a file to look for.
    async fn file(&mut self, path: &str, size: Option<u64>, what: &'static str, snapshot: &SnapshotRef) -> Result<()> {
        if self.is_new(path) {
            self.waiting.push(Wanted { path: path.to_owned(), size, what, snapshot: snapshot.snapshot_id() });
        }
        if self.waiting.len() >= WAITING_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Looks for one file now; whether it is as it should be.
    async fn find(&mut self, path: &str, size: Option<u64>, what: &'static str, snapshot: &SnapshotRef) -> Result<bool> {
        let before = self.findings.total();
        self.waiting.push(Wanted { path: path.to_owned(), size, what, snapshot: snapshot.snapshot_id() });
        self.flush().await?;
        Ok(self.findings.total() == before)
    }

    async fn flush(&mut self) -> Result<()> {
        let store = self.store;
        let looks = std::mem::take(&mut self.waiting).into_iter().map(|wanted| async move {
            let size = store.size(&wanted.path).await?;
            Ok::<_, Error>((wanted, size))
        });
        let mut looks = stream::iter(looks).buffered(LOOKS_AT_ONCE);
        while let Some((wanted, found)) = looks.try_next().await? {
            let place = Place::snapshot(wanted.snapshot).file(&wanted.path);
            match (found, wanted.size) {
                (None, _) => self.findings.add(format!("the {} is gone", wanted.what), place),
                (Some(found), Some(size)) if found != size => {
                    self.findings.add(format!("the {} has {found} bytes, and {size} were recorded", wanted.what), place);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
