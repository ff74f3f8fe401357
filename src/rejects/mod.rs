//! The rejects table: exactly the rejects of committed batches, each once.
//!
//! The main snapshot names the data files of its rejects; appending them here is a commit of its own, which in the same swap sets
//! a property to the batch's epoch and number. A batch not above the property is done, whatever happened to this table's
//! snapshots. After a rollback of the main table the rows of undone batches are deleted in the commit that lowers the property.
//!
//! Runs overlap, so what a run knows of the main table may be old. Every attempt loads this table first and the main table after
//! it: a batch that this table holds and the main table does not was undone, and a batch that is not the main table's newest has
//! no rejects to append. Whoever finds a rollback commits here even with no row to delete: that refuses an append which looked
//! at the main table before the rollback. A commit to the main table hides that it was rolled back, so a run looks for a rollback
//! on every head that it is about to commit to.

pub(crate) mod rows;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, PartitionSpec, SortOrder, Struct,
    TableMetadataBuilder,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use roaring::RoaringTreemap;

use crate::catalog::{Catalog, CommitOutcome, LoadedTable};
use crate::commit::{Draft, Prepared, prepare};
use crate::deletes::write_deletes;
use crate::error::{Doing, Error, Result};
use crate::job::Run;
use crate::live::files::LiveFiles;
use crate::live::lookup::find_rows;
use crate::names::FileNames;
use crate::progress::{PendingRejects, Progress};
use crate::snapshot::{FileSet, set_property, snapshot_id};
use crate::state;
use crate::storage::Store;
use crate::write::WriteTarget;

/// Attempts to commit here; the table has few writers.
const ATTEMPTS_MAX: u32 = 10;

/// The door to one job's part of the rejects table.
#[derive(Debug)]
pub(crate) struct Rejects<'a, C> {
    /// Catalog of both tables.
    pub(crate) catalog: &'a C,
    /// Store of both tables.
    pub(crate) store: &'a Store,
    /// Name of the rejects table.
    pub(crate) ident: TableIdent,
    /// The table whose batches they are rejects of.
    pub(crate) of: MainTable<'a>,
    /// Job as it stands in the rows: `<job>`, or `<job>@<branch>` off the main branch.
    pub(crate) job: String,
    /// The run.
    pub(crate) run: &'a Run,
    /// Names of the run's files.
    pub(crate) names: FileNames,
}

/// Where a job's batches are.
#[derive(Debug)]
pub(crate) struct MainTable<'a> {
    /// Name of the table.
    pub(crate) ident: TableIdent,
    /// Its UUID: batch numbers mean nothing across a table that was made again.
    pub(crate) uuid: Uuid,
    /// Branch.
    pub(crate) branch: &'a str,
    /// Job.
    pub(crate) job: &'a str,
}

/// The highest batch of one main table whose rejects are in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    epoch: u64,
    batch: u64,
    #[serde(rename = "table-uuid")]
    table_uuid: String,
    /// Full name of the main table then.
    #[serde(default)]
    table: String,
    /// The main table's snapshot that was rolled back from when the property was lowered.
    #[serde(rename = "rolled-back-from", default, skip_serializing_if = "Option::is_none")]
    rolled_back_from: Option<i64>,
}

impl Done {
    /// The property's value.
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings always serialize")
    }

    /// Reads the property's value; `key` and `table` are named where that is not possible.
    pub(crate) fn decode(key: &str, table: impl Display, value: &str) -> Result<Self> {
        serde_json::from_str(value).map_err(|e| {
            Error::refused(
                format!("property `{key}` of table `{table}` cannot be read: {e}"),
                "it was edited by hand; restore it, as in `{\"epoch\":0,\"batch\":12,\"table-uuid\":\"...\"}`",
            )
        })
    }

    /// Whether the rejects of that batch are in the table once those of this one are.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.table_uuid == other.table_uuid && (self.epoch, self.batch) >= (other.epoch, other.batch)
    }
}

impl<C: Catalog> Rejects<'_, C> {
    /// The table, made where it is missing.
    pub(crate) async fn open_or_create(&self) -> Result<LoadedTable> {
        if let Some(table) = self.catalog.load(&self.ident).await? {
            fit(&table)?;
            // What is found before the main commit leaves nothing half done.
            not_anothers(self.catalog, &table, &self.job, &self.of.ident, self.of.uuid).await?;
            return Ok(table);
        }
        let location = self.catalog.default_location(&self.ident);
        let properties = HashMap::from([
            ("write.delete.mode".to_owned(), "merge-on-read".to_owned()),
            ("comment".to_owned(), "Records that tidegate could not merge, and why".to_owned()),
        ]);
        let doing = || format!("make rejects table `{}`", self.ident);
        let metadata = TableMetadataBuilder::new(
            rows::schema()?,
            PartitionSpec::unpartition_spec(),
            SortOrder::unsorted_order(),
            location,
            FormatVersion::V2,
            properties,
        )
        .doing(doing)?
        .build()
        .doing(doing)?
        .metadata;
        // `false` means that another run made it between load and create: the load below finds that one.
        self.catalog.create(&self.ident, metadata).await?;
        self.load().await
    }

    /// Appends the rejects of a committed batch, unless that is done already or the batch is undone.
    pub(crate) async fn append(&self, of: &Progress, pending: &PendingRejects) -> Result<()> {
        let files = data_files(pending)?;
        let done = self.at(of.epoch, of.batch);
        for attempt in 0..ATTEMPTS_MAX {
            let table = self.open_or_create().await?;
            if self.done(&table)?.is_some_and(|at| at.holds(&done)) {
                return Ok(());
            }
            // A later batch of the job found these rejects appended, or appended them, before it was planned. One of the same id by
            // another run took the place of this one when it was undone, and was judged by another clock.
            let now = state::find(&self.main_table().await?, self.of.branch, self.of.job).await?;
            if now.progress().is_none_or(|newest| (&newest.batch_id, &newest.run_id) != (&of.batch_id, &of.run_id)) {
                return Ok(());
            }
            let live = LiveFiles::listed(&table.metadata, table.metadata.current_snapshot(), self.store).await?;
            let files = FileSet { data: files.clone(), ..FileSet::default() };
            if self.commit(&table, &live, &files, &done, &format!("rejects-{}-{}", of.epoch, of.batch), attempt).await? {
                return Ok(());
            }
        }
        Err(Error::Contended { table: self.ident.to_string(), attempts: ATTEMPTS_MAX })
    }

    /// The append of a batch's rejects as a change, for one commit together with the batch. None: they are appended already.
    pub(crate) async fn change(&self, of: &Progress, pending: &PendingRejects, attempt: u32) -> Result<Option<Prepared>> {
        let table = self.open_or_create().await?;
        let done = self.at(of.epoch, of.batch);
        if self.done(&table)?.is_some_and(|at| at.holds(&done)) {
            return Ok(None);
        }
        let live = LiveFiles::listed(&table.metadata, table.metadata.current_snapshot(), self.store).await?;
        let files = FileSet { data: data_files(pending)?, ..FileSet::default() };
        let purpose = format!("rejects-{}-{}-together", of.epoch, of.batch);
        self.prepare(&table, &live, &files, &done, &purpose, attempt).await.map(Some)
    }

    /// After a rollback of the main table: deletes the rows of the batches that it undid; after it was dropped and made again, those
    /// of all its batches. Answers how many.
    pub(crate) async fn undo(&self) -> Result<u64> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some(table) = self.catalog.load(&self.ident).await? else { return Ok(0) };
            not_anothers(self.catalog, &table, &self.job, &self.of.ident, self.of.uuid).await?;
            let at = self.done(&table)?;
            // Of two tables of one name only one is in the catalog. Another name may be a table of another job of this name.
            let made_again = at.as_ref().is_some_and(|at| !self.is_ours(at) && at.table == self.of.ident.to_string());
            let at = at.filter(|at| self.is_ours(at)).unwrap_or(self.at(0, 0));
            let state = state::look(&self.main_table().await?, self.of.branch, self.of.job).await?.sure();
            let newest = state.progress().map_or((0, 0), |newest| (newest.epoch, newest.batch));
            let (undone, back_from) = (made_again || (at.epoch, at.batch) > newest, state.rolled_back_from);
            if !undone && (back_from.is_none() || back_from == at.rolled_back_from) {
                return Ok(0);
            }
            // Never raised: the newest batch's own rejects may still be open.
            let (epoch, batch) = newest.min((at.epoch, at.batch));
            let done = Done { rolled_back_from: back_from, ..self.at(epoch, batch) };
            let live = LiveFiles::load(&table.metadata, table.metadata.current_snapshot(), self.store).await?;
            let kept = if made_again { (0, 0) } else { newest };
            let dead = if undone { self.rows_after(&table, &live, kept).await? } else { BTreeMap::new() };
            let target = WriteTarget {
                metadata: Arc::clone(&table.metadata),
                store: self.store.clone(),
                names: self.names.attempt(attempt),
                memory_max: 16 << 20,
                index: None,
            };
            let deletes = write_deletes(&target, &live, &dead, &[], &BTreeMap::new()).await?;
            let files = FileSet { deletes: deletes.added, superseded: deletes.superseded, ..FileSet::default() };
            if self.commit(&table, &live, &files, &done, "rejects-undo", attempt).await? {
                return Ok(dead.values().map(RoaringTreemap::len).sum());
            }
        }
        Err(Error::Contended { table: self.ident.to_string(), attempts: ATTEMPTS_MAX })
    }

    /// The main table as it is now.
    async fn main_table(&self) -> Result<LoadedTable> {
        let of = &self.of;
        let table = self.catalog.load(&of.ident).await?.filter(|table| table.metadata.uuid() == of.uuid);
        table.ok_or_else(|| {
            Error::refused(
                format!("table `{}` was dropped or replaced by another one while the run was under way", of.ident),
                "the rejects of its last batch are not in the rejects table; the new table's first run begins anew",
            )
        })
    }

    /// Whether every file of `pending` is still there.
    pub(crate) async fn files_exist(&self, pending: &PendingRejects) -> Result<bool> {
        for file in &pending.files {
            if self.store.size(&file.path).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Epoch and batch up to which the rejects of this main table are appended; none where there were none.
    pub(crate) async fn last(&self) -> Result<Option<(u64, u64)>> {
        let Some(table) = self.catalog.load(&self.ident).await? else { return Ok(None) };
        appended(&table, &self.job, &self.of.uuid.to_string())
    }

    async fn load(&self) -> Result<LoadedTable> {
        self.catalog.load(&self.ident).await?.ok_or_else(|| {
            Error::unavailable(format!("find rejects table `{}`", self.ident), "it was there a moment ago; was it dropped?")
        })
    }

    fn at(&self, epoch: u64, batch: u64) -> Done {
        Done { epoch, batch, table_uuid: self.of.uuid.to_string(), table: self.of.ident.to_string(), rolled_back_from: None }
    }

    /// Whether it speaks of the main table as it is, and not of one that had its name or shares its rejects table.
    fn is_ours(&self, done: &Done) -> bool {
        done.table_uuid == self.of.uuid.to_string()
    }

    fn done(&self, table: &LoadedTable) -> Result<Option<Done>> {
        done(table, &self.job)
    }

    async fn rows_after(&self, table: &LoadedTable, live: &LiveFiles, done: (u64, u64)) -> Result<BTreeMap<usize, RoaringTreemap>> {
        let columns = ["job", "epoch", "batch"].map(str::to_owned);
        let pick = |rows: &RecordBatch, row: usize| {
            let job = rows.column(0).as_string::<i32>();
            let number = |column: usize| u64::try_from(rows.column(column).as_primitive::<Int64Type>().value(row)).unwrap_or(0);
            job.value(row) == self.job && (number(1), number(2)) > done
        };
        let mut dead: BTreeMap<usize, RoaringTreemap> = BTreeMap::new();
        for (data, position) in find_rows(live, self.store, table.metadata.current_schema(), &columns, &pick).await? {
            dead.entry(data).or_default().insert(position);
        }
        Ok(dead)
    }

    async fn prepare(
        &self,
        table: &LoadedTable,
        live: &LiveFiles,
        files: &FileSet,
        done: &Done,
        purpose: &str,
        attempt: u32,
    ) -> Result<Prepared> {
        let names = self.names.attempt(attempt);
        let value = done.encode();
        let summary = BTreeMap::from([
            ("tidegate.rejects-of".to_owned(), self.job.clone()),
            ("tidegate.epoch".to_owned(), done.epoch.to_string()),
            ("tidegate.batch".to_owned(), done.batch.to_string()),
            ("tidegate.run-id".to_owned(), self.run.id.to_string()),
        ]);
        prepare(Draft {
            base: table,
            live,
            branch: "main",
            files,
            summary,
            snapshot_id: snapshot_id(self.run.id, purpose, table.metadata.last_sequence_number(), attempt),
            now_ms: (self.run.now_ms)(),
            names: &names,
            updates: vec![set_property(key(&self.job), value)],
        })
        .await
    }

    /// One attempt; `false` asks for another one on a fresh load, which also settles an unclear answer.
    async fn commit(
        &self,
        table: &LoadedTable,
        live: &LiveFiles,
        files: &FileSet,
        done: &Done,
        purpose: &str,
        attempt: u32,
    ) -> Result<bool> {
        let prepared = self.prepare(table, live, files, done, purpose, attempt).await?;
        match self.catalog.swap(&prepared.change).await {
            CommitOutcome::Committed => Ok(true),
            CommitOutcome::Unclear(_) => Ok(false),
            CommitOutcome::Refused(source) => {
                let now = self.load().await?;
                if now.metadata_location == table.metadata_location {
                    return Err(Error::of_refusal(&self.ident, source));
                }
                Ok(false)
            }
        }
    }
}

fn key(job: &str) -> String {
    format!("tidegate.rejects.{job}")
}

fn done(table: &LoadedTable, job: &str) -> Result<Option<Done>> {
    let key = key(job);
    let value = table.metadata.properties().get(&key);
    value.map(|value| Done::decode(&key, &table.ident, value)).transpose()
}

/// Epoch and number of the newest batch of the main table with this UUID whose rejects are appended. `job` as it stands in the rows.
pub(crate) fn appended(table: &LoadedTable, job: &str, table_uuid: &str) -> Result<Option<(u64, u64)>> {
    let done = done(table, job)?.filter(|done| done.table_uuid == table_uuid);
    Ok(done.map(|done| (done.epoch, done.batch)))
}

/// The rejects of a state's batch that a run left open, and the table where they belong: the one that the batch named, whatever the
/// job file names today. A branch that inherits a state has no part in its rejects.
pub(crate) async fn open<'a>(
    catalog: &impl Catalog,
    main: &LoadedTable,
    branch: &str,
    progress: &'a Progress,
) -> Result<Option<(TableIdent, &'a PendingRejects)>> {
    let job = job_in_rows(&progress.job, branch);
    let Some(pending) = progress.rejects.as_ref().filter(|pending| pending.job == job) else { return Ok(None) };
    let ident = TableIdent::from_strs(pending.table.split('.')).doing(|| format!("read the name `{}`", pending.table))?;
    let done = match catalog.load(&ident).await? {
        Some(table) => appended(&table, &job, &main.metadata.uuid().to_string())?,
        None => None,
    };
    Ok((done < Some((progress.epoch, progress.batch))).then_some((ident, pending)))
}

/// Job as it stands in the rows of a rejects table: `<job>`, or `<job>@<branch>` off the main branch.
pub(crate) fn job_in_rows(job: &str, branch: &str) -> String {
    match branch {
        "main" => job.to_owned(),
        branch => format!("{job}@{branch}"),
    }
}

/// Refuses a rejects table in which the batches of another main table, which is still there, are counted under this job's name:
/// neither job could tell which rejects are appended, and a rollback of one would take out those of the other.
pub(crate) async fn not_anothers(
    catalog: &impl Catalog,
    table: &LoadedTable,
    job: &str,
    main: &TableIdent,
    main_uuid: Uuid,
) -> Result<()> {
    let Some(done) = done(table, job)? else { return Ok(()) };
    // A table that was renamed keeps its UUID; one that was made again keeps its name.
    if done.table_uuid == main_uuid.to_string() || done.table == main.to_string() || done.table.is_empty() {
        return Ok(());
    }
    let other = TableIdent::from_strs(done.table.split('.')).doing(|| format!("read the name `{}`", done.table))?;
    match catalog.load(&other).await? {
        Some(other) if other.metadata.uuid().to_string() == done.table_uuid => Err(Error::setup(
            format!("rejects table `{}` holds the rejects of a job `{job}` whose table is `{}`", table.ident, other.ident),
            "two jobs of one name cannot share a rejects table: give this one another `name` or another `[rejects] table`",
        )),
        _ => Ok(()),
    }
}

/// Refuses an existing table that rejects cannot be appended to whole.
pub(crate) fn fit(table: &LoadedTable) -> Result<()> {
    let metadata = &table.metadata;
    let unfit = if !metadata.default_partition_spec().is_unpartitioned() || metadata.format_version() == FormatVersion::V1 {
        "must be an unpartitioned table of format 2 or 3".to_owned()
    } else {
        match rows::misfit(metadata.current_schema())? {
            None => return Ok(()),
            Some(misfit) => format!("does not have tidegate's columns: {misfit}"),
        }
    };
    Err(Error::setup(
        format!("rejects table `{}` {unfit}", table.ident),
        "name another table in `[rejects] table`; tidegate makes it",
    ))
}

fn data_files(pending: &PendingRejects) -> Result<Vec<DataFile>> {
    pending.files.iter().map(|file| data_file(&file.path, file.records, file.size)).collect()
}

/// An entry for a file of rejects. It carries no column metrics: the main snapshot keeps only path, rows and size.
fn data_file(path: &str, records: u64, size: u64) -> Result<DataFile> {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(path.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(records)
        .file_size_in_bytes(size)
        .build()
        .map_err(|e| Error::broken(format!("rejects file `{path}`: {e}")))
}
