//! `tidegate clean`: lists the files that killed runs left behind, and deletes them when told to.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::catalog::Catalog;
use crate::clean::{Listing, Used, longest_run, orphans};
use crate::commands::{columns, open_tables};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::{load_table, rejects_ident, table_ident};
use crate::progress::rfc3339;
use crate::report::{Head, human};

/// What `clean` did. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Cleaned {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Tables whose folders were searched: the job's, and its rejects table where there is one.
    pub tables: Vec<String>,
    /// Whether the orphans were deleted, or only listed.
    pub deleted: bool,
    /// Only files older than this were taken, in seconds.
    pub older_than_seconds: u64,
    /// Number of orphans.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files of this job that nothing names, but younger: a run that is at work may name them yet.
    pub too_young: u64,
    /// Files of this job that are in use.
    pub in_use: u64,
    /// Files that no run of this job wrote; never touched.
    pub foreign: u64,
    /// The orphans.
    pub orphans: Vec<Orphan>,
}

/// One orphan.
#[derive(Debug, Serialize)]
pub struct Orphan {
    /// Location.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was written.
    pub modified: String,
}

/// Finds the orphans, and with `delete` deletes them. `now` is µs since the epoch.
///
/// # Errors
/// 78 where `older_than` is shorter than a run may last; 65 or 78 where a file that could name others cannot be read.
pub async fn clean(config: &Config, older_than: Duration, delete: bool, now: i64) -> Result<Cleaned> {
    let least = longest_run(&config.limits);
    if older_than < least {
        return Err(Error::setup(
            format!(
                "`--older-than` is {} s, and a run of job `{}` may last {} s",
                older_than.as_secs(),
                config.name,
                least.as_secs()
            ),
            format!("a younger file may belong to a run that is at work: give at least `--older-than \"{} s\"`", least.as_secs()),
        ));
    }
    let tables = open_tables(config)?;
    let (catalog, store, job) = (&tables.catalog, &tables.store, &config.name);
    let tables = [Some(load_table(catalog, config).await?), catalog.load(&rejects_ident(config)).await?];
    let mut listing = Listing::default();
    for table in tables.iter().flatten() {
        listing.add(&table.metadata, store).await?;
    }
    let mut used = Used::default();
    let mut searched = Vec::new();
    // Loaded anew: what a run committed since the files were listed names files that are in the list.
    for ident in [table_ident(config), rejects_ident(config)] {
        if let Some(table) = catalog.load(&ident).await? {
            used.add(&table, job, store).await?;
            searched.push(ident.to_string());
        }
    }
    let age = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
    let before = DateTime::<Utc>::from_timestamp_micros(now.saturating_sub(age)).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let found = orphans(listing, &used, job, before);
    if delete {
        for file in &found.orphans {
            store.delete(&file.location).await?;
        }
    }
    let orphan = |file: &crate::storage::Listed| Orphan {
        path: file.location.clone(),
        bytes: file.size,
        modified: rfc3339(file.modified.timestamp_micros()),
    };
    Ok(Cleaned {
        head: Head::of("clean", &config.name),
        tables: searched,
        deleted: delete,
        older_than_seconds: older_than.as_secs(),
        files: u64::try_from(found.orphans.len()).expect("files fit"),
        bytes: found.orphans.iter().map(|file| file.size).sum(),
        too_young: found.young,
        in_use: found.used,
        foreign: found.foreign,
        orphans: found.orphans.iter().map(orphan).collect(),
    })
}

impl Cleaned {
    /// For a person.
    pub fn text(&self) -> String {
        let rows: Vec<_> = self.orphans.iter().map(|file| vec![file.path.clone(), human::bytes(file.bytes)]).collect();
        let mut text = columns(&rows);
        let many = if self.files == 1 { "orphan" } else { "orphans" };
        let done = match (self.files, self.deleted) {
            (0, _) => "nothing to delete",
            (_, true) => "deleted",
            (_, false) => "nothing was deleted; `--delete` deletes them",
        };
        text.push_str(&format!("{}: {} {many}, {}; {done}\n", self.head.job, self.files, human::bytes(self.bytes)));
        match self.too_young {
            0 => {}
            1 => text.push_str("1 younger than `--older-than` stays: a run that is at work may name it yet\n"),
            many => text.push_str(&format!("{many} younger than `--older-than` stay: a run that is at work may name them yet\n")),
        }
        text
    }
}
