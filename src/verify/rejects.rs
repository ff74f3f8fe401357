//! The rejects table holds exactly the rejects of committed batches, each once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::job::rejects_ident;
use crate::live::adapt::Columns;
use crate::live::files::LiveFiles;
use crate::offsets::{Offset, Partition};
use crate::progress::PendingRejects;
use crate::rejects::{appended, job_in_rows};
use crate::report::human::counted;
use crate::source::Source;
use crate::verify::Subject;
use crate::verify::findings::{Check, Findings, Place};
use crate::verify::history::Link;
use crate::verify::scan::{Part, Scan};
use crate::verify::unique::repeated;

/// What names a reject: a reset may read a record again, in an epoch of its own.
const PLACE: [&str; 5] = ["job", "epoch", "topic", "partition", "offset"];

/// Judges the rejects table's head.
pub(crate) async fn rejects<S: Source, C: Catalog>(subject: &Subject<'_, S, C>) -> Result<Check> {
    let config = subject.doors.config;
    let job = job_in_rows(&config.name, &config.table.branch);
    let mut findings = Findings::default();
    let links = &subject.history.links;
    let ident = rejects_ident(config);
    // A state inherited from another branch left its rejects under that branch's name; one of an earlier job file in another table.
    let own = |link: &&Link| {
        link.progress.rejects.as_ref().is_none_or(|pending| pending.job == job && pending.table == ident.to_string())
    };
    for link in links.iter().filter(own) {
        accounts_of(link, &mut findings);
    }
    let expected: BTreeMap<(u64, u64), &Link> =
        links.iter().filter(own).map(|link| ((link.progress.epoch, link.progress.batch), link)).collect();
    let Some(table) = &subject.rejects else {
        for link in expected.values().filter(|link| said(link) > 0) {
            findings
                .add(format!("there is no rejects table, and the batch has {} rejects", said(link)), Place::snapshot(link.id()));
        }
        return Ok(Check::of("no rejects table, and none needed", findings));
    };
    let live = Arc::new(LiveFiles::load(&table.metadata, table.metadata.current_snapshot(), subject.doors.store).await?);
    let scan = Scan::open(live, subject.doors.store).await?;
    let schema = table.metadata.current_schema();
    let rows = rows_by_batch(&scan, schema, &job).await?;
    let columns = PLACE.map(str::to_owned);
    let twice = repeated(&scan, schema, &columns, subject.memory_max).await?;
    for id in twice.ids.iter().filter(|id| id.values[0] == job) {
        let (partition, offset) = (id.values[3].parse().unwrap_or(-1), id.values[4].parse().unwrap_or(-1));
        findings.add(format!("{} rows hold this record", id.rows), Place::default().record(partition, offset).file(&id.first[0].0));
    }
    let done = appended(table, &job, &subject.table.metadata.uuid().to_string())?;
    let mut notes = Vec::new();
    compare(subject, &expected, &rows, done, &mut findings, &mut notes);
    let count: u64 = rows.values().sum();
    let mut found = format!("{} of the job in `{}`", counted(count, "row"), table.ident);
    notes.iter().for_each(|note| found.push_str(&format!("; {note}")));
    Ok(Check::of(found, findings))
}

/// Rejects that a batch says it made.
fn said(link: &Link) -> u64 {
    link.progress.rejects.as_ref().map_or(0, PendingRejects::records)
}

/// The rejects named must be those counted, with or without the late ones.
fn accounts_of(link: &Link, findings: &mut Findings) {
    let (counts, said) = (&link.progress.counts, said(link));
    if said != counts.rejected && said != counts.rejected.saturating_add(counts.late) {
        let what = format!("{said} rejects are named, of {} records rejected and {} late", counts.rejected, counts.late);
        findings.add(what, Place::snapshot(link.id()));
    }
}

fn compare<S: Source, C: Catalog>(
    subject: &Subject<'_, S, C>,
    expected: &BTreeMap<(u64, u64), &Link>,
    rows: &BTreeMap<(u64, u64), u64>,
    done: Option<(u64, u64)>,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) {
    for (&at, link) in expected {
        let (found, said) = (rows.get(&at).copied().unwrap_or(0), said(link));
        let pending = said > 0 && done.is_none_or(|done| done < at);
        if pending && found == 0 {
            notes.push(format!("{said} of batch {} wait for the next run to append them", at.1));
        } else if found != said {
            let what = format!("the table holds {found} rejects of batch {} of epoch {}, and the batch has {said}", at.1, at.0);
            findings.add(what, Place::snapshot(link.id()));
        }
    }
    let oldest = expected.keys().next();
    let newest = expected.keys().next_back();
    let mut unknown = 0;
    for (at, count) in rows.iter().filter(|(at, _)| !expected.contains_key(at)) {
        if oldest.is_some_and(|oldest| at < oldest) && !subject.history.complete {
            unknown += count;
        } else if subject.rolled_back && newest.is_none_or(|newest| at > newest) {
            notes.push(format!("{count} of batch {}, which was rolled back, wait for the next run to take them out", at.1));
        } else if newest.is_none() && !subject.history.complete || !subject.history.damaged.is_empty() {
            unknown += count;
        } else {
            let what = format!("{count} rows say they are of batch {} of epoch {}, which is not in the table", at.1, at.0);
            findings.add(what, Place::default());
        }
    }
    if unknown > 0 {
        notes.push(format!("{unknown} of batches whose snapshots are expired or cannot be read"));
    }
}

/// Rows of the job by epoch and batch.
async fn rows_by_batch(scan: &Scan, schema: &iceberg::spec::SchemaRef, job: &str) -> Result<BTreeMap<(u64, u64), u64>> {
    let columns = Columns::named(schema, &["job", "epoch", "batch"].map(str::to_owned))?;
    let mut rows = BTreeMap::new();
    let mut take = |part: &Part<'_>| {
        let jobs = part.rows.column(0).as_string::<i32>();
        let number =
            |column: usize, row| u64::try_from(part.rows.column(column).as_primitive::<Int64Type>().value(row)).unwrap_or(u64::MAX);
        for (row, _) in part.alive().filter(|(row, _)| jobs.value(*row) == job) {
            *rows.entry((number(1, row), number(2, row))).or_insert(0) += 1;
        }
        Ok(())
    };
    scan.each(scan.files(), &columns, &mut take).await?;
    Ok(rows)
}

/// Partition, offset and reason of a batch's rejects in the table; none where they wait to be appended, or are not in this table.
pub(crate) async fn rejects_of_batch<S: Source, C: Catalog>(
    subject: &Subject<'_, S, C>,
    link: &Link,
) -> Result<Option<Vec<(Partition, Offset, String)>>> {
    let (config, store) = (subject.doors.config, subject.doors.store);
    let job = job_in_rows(&config.name, &config.table.branch);
    let (epoch, batch) = (link.progress.epoch, link.progress.batch);
    let Some(table) = &subject.rejects else { return Ok(Some(Vec::new())) };
    if let Some(pending) = &link.progress.rejects {
        let done = appended(table, &job, &subject.table.metadata.uuid().to_string())?;
        if pending.job != job || pending.table != table.ident.to_string() || done.is_none_or(|done| done < (epoch, batch)) {
            return Ok(None);
        }
    }
    let live = Arc::new(LiveFiles::load(&table.metadata, table.metadata.current_snapshot(), store).await?);
    let scan = Scan::open(live, store).await?;
    let names = ["job", "epoch", "batch", "partition", "offset", "reason"].map(str::to_owned);
    let columns = Columns::named(table.metadata.current_schema(), &names)?;
    let mut rejects = Vec::new();
    let mut take = |part: &Part<'_>| {
        let text = |column: usize, row| part.rows.column(column).as_string::<i32>().value(row);
        let number = |column: usize, row| part.rows.column(column).as_primitive::<Int64Type>().value(row);
        let partitions = part.rows.column(3).as_primitive::<Int32Type>();
        for (row, _) in part.alive() {
            let of_batch = u64::try_from(number(1, row)) == Ok(epoch) && u64::try_from(number(2, row)) == Ok(batch);
            if of_batch && text(0, row) == job {
                rejects.push((partitions.value(row), number(4, row), text(5, row).to_owned()));
            }
        }
        Ok(())
    };
    scan.each(scan.files(), &columns, &mut take).await?;
    Ok(Some(rejects))
}
