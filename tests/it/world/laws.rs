//! What must hold of a world at every moment, and what must hold when every job has read its topic to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use iceberg::spec::{DataFileFormat, FormatVersion, MAIN_BRANCH, TableMetadata};

use super::World;
use super::foreign::{MAIN, REJECTS};
use super::model::Model;
use super::reader::{Files, Reader, Reject};
use super::run::Rules;

/// Checks a world again and again as it changes.
pub(crate) struct Laws {
    pub(crate) reader: Reader,
    rules: BTreeMap<String, Rules>,
    /// Heads that were looked at last, and how many objects had been deleted then.
    seen: Option<(Vec<Option<String>>, u64)>,
    /// The newest snapshot whose delete files were looked at: a table may be upgraded after they were written.
    newest: BTreeMap<&'static str, i64>,
}

impl Laws {
    pub(crate) fn new(world: &World, rules: BTreeMap<String, Rules>) -> Self {
        Self { reader: Reader::new(world), rules, seen: None, newest: BTreeMap::new() }
    }

    /// What holds after every commit and every delete: chain, accounts and watermark of every batch, rows, files, and no reject twice.
    pub(crate) fn hold(&mut self, world: &World) -> Result<(), String> {
        let heads = [MAIN, REJECTS].map(|table| world.heads.lock().unwrap().head(table).cloned());
        let locations: Vec<_> = heads.iter().map(|head| head.as_ref().map(|head| head.location.clone())).collect();
        let seen = Some((locations, world.deleted.load(Ordering::SeqCst)));
        if self.seen == seen {
            return Ok(());
        }
        self.seen = seen;
        let [main, rejects] = heads.map(|head| head.map(|head| head.metadata));
        if let Some(main) = &main {
            for branch in self.branches() {
                self.main(world, main, branch)
                    .map_err(|why| if branch == MAIN_BRANCH { why } else { format!("{branch}: {why}") })?;
            }
        }
        if let Some(rejects) = &rejects {
            self.no_reject_twice(world, rejects)?;
        }
        Ok(())
    }

    /// Branches that jobs write.
    fn branches(&self) -> BTreeSet<&'static str> {
        self.rules.values().map(|rules| rules.branch).collect()
    }

    fn main(&mut self, world: &World, metadata: &TableMetadata, branch: &'static str) -> Result<(), String> {
        let head = metadata.snapshot_for_ref(branch);
        let model = Model::of(world, &self.rules, head.map(|head| head.snapshot_id()))?;
        let Some(head) = head else { return Ok(()) };
        let files = self.reader.files(world, metadata, head)?;
        exist(world, &files)?;
        let rows = self.reader.rows(world, &files)?;
        let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        rows.sort();
        if rows != model.sorted() {
            let expected = model.sorted();
            let more: Vec<_> = rows.iter().filter(|row| !expected.contains(row)).collect();
            let less: Vec<_> = expected.iter().filter(|row| !rows.contains(row)).collect();
            let (have, want) = (rows.len(), expected.len());
            return Err(format!("the table holds {have} rows for {want}: {more:?} should not be there, {less:?} should be"));
        }
        one_delete_file_each(&files)?;
        if self.newest.insert(branch, head.snapshot_id()) != Some(head.snapshot_id()) {
            deletes_fit(metadata, head.snapshot_id(), &files)?;
        }
        Ok(())
    }

    fn no_reject_twice(&self, world: &World, metadata: &TableMetadata) -> Result<(), String> {
        let Some(head) = metadata.current_snapshot() else { return Ok(()) };
        let files = self.reader.files(world, metadata, head)?;
        exist(world, &files)?;
        match self.reader.rejects(world, &files)?.into_iter().find(|(_, times)| *times > 1) {
            Some((reject, times)) => Err(format!("{reject:?} is {times} times in the rejects table")),
            None => Ok(()),
        }
    }

    /// What holds at the end besides: everything is read, and the rejects table holds the rejects of the heads' batches. Answers
    /// what each branch holds.
    pub(crate) fn complete(&mut self, world: &World) -> Result<BTreeMap<&'static str, Model>, String> {
        self.hold(world)?;
        let heads = [MAIN, REJECTS].map(|table| world.heads.lock().unwrap().head(table).map(|head| Arc::clone(&head.metadata)));
        let [main, rejects] = heads;
        let head = |branch| Some(main.as_ref()?.snapshot_for_ref(branch)?.snapshot_id());
        let models: BTreeMap<_, _> = (self.branches().into_iter())
            .map(|branch| Ok((branch, Model::of(world, &self.rules, head(branch))?)))
            .collect::<Result<_, String>>()?;
        let mut expected = BTreeSet::new();
        for (job, rules) in &self.rules {
            let model = &models[rules.branch];
            let of_job = |reject: &&Reject| reject.job == *job;
            // A branch has the rejects of its own jobs, not of those whose batches it was made with.
            let named = |reject: &Reject| match rules.branch {
                MAIN_BRANCH => reject.clone(),
                branch => Reject { job: format!("{job}@{branch}"), ..reject.clone() },
            };
            expected.extend(model.rejects.iter().filter(of_job).map(named));
            let state = model.jobs.get(job).ok_or_else(|| format!("job {job} has no state"))?;
            let logs = world.with_topic(job, |topic| topic.partitions.clone());
            for (partition, log) in (0..).zip(logs) {
                // A partition that was added and is still empty is not pinned yet.
                let end = state.end.get(&partition).copied().unwrap_or(log.earliest);
                if end != log.last_stable() {
                    return Err(format!("job {job} has read partition {partition} to {end}, it ends at {}", log.last_stable()));
                }
            }
        }
        let mut there = BTreeMap::new();
        if let Some((rejects, head)) = rejects.as_ref().and_then(|rejects| Some((rejects, rejects.current_snapshot()?))) {
            there = self.reader.rejects(world, &*self.reader.files(world, rejects, head)?)?;
        }
        let more: Vec<_> = there.keys().filter(|reject| !expected.contains(reject)).collect();
        let less: Vec<_> = expected.iter().filter(|reject| !there.contains_key(reject)).collect();
        if !more.is_empty() || !less.is_empty() {
            return Err(format!("of the rejects {more:?} should not be there, {less:?} should be"));
        }
        Ok(models)
    }
}

/// Every file of the snapshot is there with its recorded size.
fn exist(world: &World, files: &Files) -> Result<(), String> {
    for live in files.data.iter().chain(&files.deletes) {
        let (path, size) = (live.file.file_path(), live.file.file_size_in_bytes());
        let found = world.get(path).map(|content| u64::try_from(content.len()).unwrap());
        if found != Some(size) {
            return Err(format!("{path} should have {size} bytes, has {found:?}"));
        }
    }
    match files.metadata.iter().find(|path| world.get(path).is_none()) {
        Some(lost) => Err(format!("{lost} does not exist")),
        None => Ok(()),
    }
}

/// At most one delete file or vector per data file.
fn one_delete_file_each(files: &Files) -> Result<(), String> {
    let mut of: BTreeMap<String, u32> = BTreeMap::new();
    for path in files.deletes.iter().filter_map(|live| live.file.referenced_data_file()) {
        *of.entry(path).or_default() += 1;
    }
    match of.iter().find(|(_, count)| **count > 1) {
        Some((path, count)) => Err(format!("{path} has {count} delete files")),
        None => Ok(()),
    }
}

/// What a snapshot deletes by is of the kind that the table's version asked for when it was made: only v3 numbers rows. A head
/// that was rolled back to may be older than the upgrade.
fn deletes_fit(metadata: &TableMetadata, head: i64, files: &Files) -> Result<(), String> {
    let numbered = metadata.snapshot_by_id(head).is_some_and(|snapshot| snapshot.first_row_id().is_some());
    let version = if numbered { FormatVersion::V3 } else { FormatVersion::V2 };
    for live in files.deletes.iter().filter(|live| live.added_by == head && live.file.referenced_data_file().is_some()) {
        if (live.file.file_format() == DataFileFormat::Puffin) != (version == FormatVersion::V3) {
            return Err(format!("{} does not fit format {version}", live.file.file_path()));
        }
    }
    Ok(())
}
