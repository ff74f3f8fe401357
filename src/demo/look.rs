//! What the demo's tables hold: live rows, rejects, snapshots, and the files beside them.
//!
//! Only reads. Opens everything anew each time, so that it sees what another program would.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};

use crate::catalog::{Catalog, LoadedTable};
use crate::commands::{Tables, open_tables};
use crate::config::Config;
use crate::demo::articles::Article;
use crate::error::{Error, Result};
use crate::job::{rejects_ident, table_ident};
use crate::live::adapt::Columns;
use crate::live::dead::dead_positions;
use crate::live::files::LiveFiles;
use crate::live::rows::{FileReader, Rows};
use crate::offsets::{Offset, Partition};
use crate::progress::Progress;
use crate::storage::Store;

/// The tables at one moment.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) table: LoadedTable,
    /// Live rows, by id.
    pub(super) rows: Vec<Article>,
    /// Where each reject stands in the topic, and its reason.
    pub(super) rejects: Vec<((Partition, Offset), String)>,
    /// Name of the rejects table.
    pub(super) rejects_table: String,
}

/// Reads everything.
pub(super) async fn look(config: &Config) -> Result<Seen> {
    let Tables { store, catalog } = open_tables(config)?;
    let ident = table_ident(config);
    let table = catalog.load(&ident).await?;
    let table = table.ok_or_else(|| Error::broken(format!("the demo's table `{ident}` is gone")))?;
    let mut rows = read(&store, &table, &["id", "title", "source", "published_at", "version"], article).await?;
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    let ident = rejects_ident(config);
    let rejects = match catalog.load(&ident).await? {
        Some(rejects) => read(&store, &rejects, &["partition", "offset", "reason"], reject).await?,
        None => Vec::new(),
    };
    Ok(Seen { table, rows, rejects, rejects_table: ident.to_string() })
}

fn article(batch: &RecordBatch, row: usize) -> Article {
    let text = |column| batch.column(column).as_string::<i32>().value(row).to_owned();
    Article {
        id: text(0),
        title: text(1),
        source: text(2),
        published_at: batch.column(3).as_primitive::<TimestampMicrosecondType>().value(row),
        version: batch.column(4).as_primitive::<Int64Type>().value(row),
    }
}

fn reject(batch: &RecordBatch, row: usize) -> ((Partition, Offset), String) {
    let partition = batch.column(0).as_primitive::<Int32Type>().value(row);
    let offset = batch.column(1).as_primitive::<Int64Type>().value(row);
    ((partition, offset), batch.column(2).as_string::<i32>().value(row).to_owned())
}

/// Live rows of a table.
async fn read<T>(store: &Store, table: &LoadedTable, columns: &[&str], take: fn(&RecordBatch, usize) -> T) -> Result<Vec<T>> {
    let metadata = &table.metadata;
    let live = LiveFiles::load(metadata, metadata.current_snapshot(), store).await?;
    let names: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
    let columns = Columns::named(metadata.current_schema(), &names)?;
    let mut rows = Vec::new();
    for (data, file) in live.data.iter().enumerate() {
        let dead = dead_positions(&live, data, store).await?;
        let mut reader = FileReader::open(&live, file.file(), file.spec_id, store).await?;
        let mut stream = reader.read(&columns, Rows::All).await?;
        let mut position = 0;
        while let Some(batch) = stream.next().await? {
            for row in 0..batch.num_rows() {
                if !dead.contains(position) {
                    rows.push(take(&batch, row));
                }
                position += 1;
            }
        }
    }
    Ok(rows)
}

impl Seen {
    /// The job's snapshots, oldest first, as lines of a table: snapshot, operation, batch, next offset of each partition, rows.
    pub(super) fn snapshots(&self, job: &str) -> Result<Vec<Vec<String>>> {
        let mut snapshots: Vec<_> = self.table.metadata.snapshots().collect();
        snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
        let mut lines = Vec::new();
        let mut rows = 0;
        for snapshot in snapshots {
            let summary = snapshot.summary();
            let Some(progress) = Progress::decode(job, &summary.additional_properties)? else { continue };
            rows += progress.counts.rows_moved();
            let mut line =
                vec![snapshot.snapshot_id().to_string(), summary.operation.as_str().to_owned(), progress.batch.to_string()];
            line.extend(progress.end.values().map(ToString::to_string));
            line.push(rows.to_string());
            lines.push(line);
        }
        Ok(lines)
    }

    /// How many rejects there are of each reason, most frequent first.
    pub(super) fn reasons(&self) -> Vec<Vec<String>> {
        let mut counted = std::collections::BTreeMap::<&str, usize>::new();
        for (_, reason) in &self.rejects {
            *counted.entry(reason).or_default() += 1;
        }
        let mut reasons: Vec<_> = counted.into_iter().collect();
        reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        reasons.into_iter().map(|(reason, count)| vec![reason.to_owned(), count.to_string()]).collect()
    }

    /// Some rows from all over the table, as lines.
    pub(super) fn sample(&self, count: usize) -> Vec<Vec<String>> {
        // No multiple of a small number: corrections go by such steps, and would be all that is seen.
        let step = (self.rows.len() / count).saturating_sub(3).max(1);
        let line = |row: &Article| {
            let time = crate::progress::rfc3339(row.published_at).replace(".000000Z", "Z");
            vec![row.id.clone(), row.title.clone(), row.source.clone(), time, row.version.to_string()]
        };
        self.rows.iter().step_by(step).take(count).map(line).collect()
    }
}

/// Number of files under a folder.
pub(super) fn files_under(folder: &Path) -> std::io::Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { files_under(&entry.path())? } else { 1 };
    }
    Ok(files)
}
