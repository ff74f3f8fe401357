//! `tidegate check`: tests the job file and everything it names, and changes nothing.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::batch::{MergeColumns, deleted_rows};
use crate::catalog::{Catalog, LoadedTable};
use crate::commands::{Tables, open_source, open_tables};
use crate::config::{Config, Mode, Tombstones};
use crate::decode::KeyDecoder;
use crate::error::{Error, Result};
use crate::job::{Supplied, decoder, first_starts, load_table, next_plan, rejects_ident, table_ident};
use crate::names::{FileNames, data_root, metadata_root};
use crate::rejects;
use crate::report::{ErrorReport, Head};
use crate::source::Source;
use crate::state::{self, State};
use crate::table::fit::{MERGE_MODE, MergeMode};
use crate::write::{DataWriter, WriteTarget};

/// What `check` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// 0, or the code of the first test that failed.
    pub exit_code: u8,
    /// Every test, in order.
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Debug, Serialize)]
pub struct Test {
    /// What was tested.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What is wrong; none where nothing is.
    pub error: Option<ErrorReport>,
}

impl Checked {
    fn add(&mut self, name: &'static str, result: Result<String>) {
        let test = match result {
            Ok(found) => Test { name, found, error: None },
            Err(error) => {
                if self.exit_code == 0 {
                    self.exit_code = error.exit_code();
                }
                Test { name, found: String::new(), error: Some(ErrorReport::from_error(&error)) }
            }
        };
        self.tests.push(test);
    }

    /// Answers the job's state, where a run could begin from it.
    async fn add_tables(&mut self, config: &Config, tables: &Tables, id: Uuid) -> Option<State> {
        let names = FileNames::new(&config.name, id);
        let mut state = None;
        match tables.catalog.describe().await {
            Ok(None) => {}
            Ok(Some(server)) => self.add("catalog", Ok(server)),
            Err(error) => {
                // Whatever else is asked of it says the same.
                self.add("catalog", Err(error));
                return None;
            }
        }
        let mut main = None;
        match load_table(&tables.catalog, config).await {
            Ok(table) => {
                main = Some(table.metadata.uuid());
                self.add("table", describe(config, tables, &table, &names).await);
                match job_state(config, &table).await {
                    Ok(found) => {
                        self.add("state", Ok(stands(&found)));
                        state = Some(found);
                    }
                    Err(error) => self.add("state", Err(error)),
                }
            }
            Err(error) => self.add("table", Err(error)),
        }
        self.add("rejects", rejects_table(config, tables, main, &names).await);
        state
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for test in &self.tests {
            match &test.error {
                None => text.push_str(&format!("ok    {:<10} {}\n", test.name, test.found)),
                Some(error) => {
                    text.push_str(&format!("FAIL  {:<10} {}\n", test.name, error.message));
                    for cause in &error.causes {
                        text.push_str(&format!("      {:<10} cause: {cause}\n", ""));
                    }
                    if let Some(hint) = &error.hint {
                        text.push_str(&format!("      {:<10} hint: {hint}\n", ""));
                    }
                }
            }
        }
        text
    }
}

/// Tests everything, however much fails. `id` names what is tried to be written; `now` is µs since the epoch.
pub async fn check(config: &Config, id: Uuid, now: i64) -> Checked {
    let mut checked = Checked { head: Head::of("check", &config.name), exit_code: 0, tests: Vec::new() };
    checked.add("job file", Ok(job_file(config)));
    let state = match open_tables(config) {
        Ok(tables) => checked.add_tables(config, &tables, id).await,
        Err(error) => {
            checked.add("table", Err(error));
            None
        }
    };
    checked.add("topic", tokio::task::block_in_place(|| topic(config, state.as_ref(), now)));
    checked
}

/// A secret in the job file works; where it belongs is said.
fn job_file(config: &Config) -> String {
    let mut found = format!("job `{}`", config.name);
    for name in &config.kafka.plain_secrets {
        found.push_str(&format!("; the secret of `{name}` stands in it: `env:NAME` or `file:PATH` keeps it elsewhere"));
    }
    for name in &config.catalog.plain_secrets {
        found.push_str(&format!(
            "; the secret of `catalog.\"{name}\"` stands in it, or in its catalogs file: `env:NAME` or `file:PATH` keeps it elsewhere"
        ));
    }
    found
}

async fn describe(config: &Config, tables: &Tables, table: &LoadedTable, names: &FileNames) -> Result<String> {
    readable(config, table)?;
    writable(tables, table, names).await?;
    let merge_mode = MergeMode::of(&table.metadata);
    let merge_mode_absent = !table.metadata.properties().contains_key(MERGE_MODE);
    let merging = match &config.mode {
        // Java merges by copying then.
        Mode::Merge(_) if merge_mode_absent => "; it sets no `write.merge.mode`, and tidegate merges on read",
        Mode::Merge(_) if merge_mode == Ok(MergeMode::CopyOnWrite) => "; merges by copying (`write.merge.mode`)",
        Mode::Merge(_) | Mode::Append { .. } => "",
    };
    Ok(format!(
        "`{}`, format {}, {} columns, at {}{merging}",
        table.ident,
        table.metadata.format_version(),
        table.metadata.current_schema().as_struct().fields().len(),
        table.metadata.location()
    ))
}

/// Makes what a run decodes and compares records with.
fn readable(config: &Config, table: &LoadedTable) -> Result<()> {
    let supplied = Supplied::of(config, table)?;
    decoder(config, table, &supplied)?;
    if let Mode::Merge(merge) = &config.mode {
        MergeColumns::of_table(merge, table, supplied.unmapped, config.limits.memory_limit)?;
        if merge.tombstones == Tombstones::Delete {
            KeyDecoder::new(table.metadata.current_schema(), &merge.id, &config.format)?;
            deleted_rows(config, table)?;
        }
    }
    Ok(())
}

/// Makes what a run writes a table's files with, and tries the doors that they and the commit go through.
async fn writable(tables: &Tables, table: &LoadedTable, names: &FileNames) -> Result<()> {
    let (metadata, store) = (&table.metadata, &tables.store);
    DataWriter::new(WriteTarget {
        metadata: Arc::clone(metadata),
        store: store.clone(),
        // No file is opened: names and memory go unused.
        names: names.clone(),
        memory_max: 0,
        index: None,
    })?;
    // Should a process end in between, what it leaves has the name of an orphan.
    let name = names.next(".parquet");
    store.may_write(&format!("{}/{name}", metadata_root(metadata))).await?;
    if metadata.current_snapshot().is_some() {
        // Before the first snapshot there may be no such folder, and none should be left behind.
        store.may_write(&format!("{}/{name}", data_root(metadata))).await?;
    }
    tables.catalog.may_swap(table).await
}

async fn job_state(config: &Config, table: &LoadedTable) -> Result<State> {
    let state = state::find(table, &config.table.branch, &config.name).await?;
    state::may_begin(&state, table, config, false)?;
    Ok(state)
}

fn stands(state: &State) -> String {
    match state.progress() {
        Some(progress) => format!("batch {} of epoch {}", progress.batch, progress.epoch),
        None => "no batch yet".into(),
    }
}

/// `main`: the UUID of the job's table, where there is one.
async fn rejects_table(config: &Config, tables: &Tables, main: Option<Uuid>, names: &FileNames) -> Result<String> {
    let ident = rejects_ident(config);
    let Some(table) = tables.catalog.load(&ident).await? else {
        return Ok(format!("`{ident}` will be made for the first reject"));
    };
    rejects::fit(&table)?;
    let job = rejects::job_in_rows(&config.name, &config.table.branch);
    rejects::not_anothers(&tables.catalog, &table, &job, &table_ident(config), main.unwrap_or_default()).await?;
    writable(tables, &table, names).await?;
    Ok(format!("`{ident}`"))
}

/// Plans a batch where the state is known: what a run would refuse, this refuses.
fn topic(config: &Config, state: Option<&State>, now: i64) -> Result<String> {
    let source = open_source(config)?;
    let bounds = source.bounds()?;
    let known: Vec<_> = bounds.partitions.values().flatten().collect();
    if let Some((partition, _)) = bounds.partitions.iter().find(|(_, bounds)| bounds.is_none()) {
        return Err(Error::unavailable(format!("reach partition {partition} of `{}`", bounds.topic), "it has no leader now"));
    }
    let offsets: i64 = known.iter().map(|b| b.last_stable - b.earliest).sum();
    let mut found = format!("`{}`, {} partitions, {offsets} offsets", bounds.topic, known.len());
    let Some(state) = state else {
        first_starts(config, &source, &bounds)?;
        return Ok(found);
    };
    let plan = next_plan(config, &source, state, &bounds, None)?;
    if !plan.is_empty() && plan.is_too_little(state.progress(), &config.limits, now) {
        let verb = if plan.lag == 1 { "is" } else { "are" };
        found.push_str(&format!("; {} new {verb} below `limits.min_offsets_per_trigger`: a run would wait", plan.lag));
    }
    Ok(found)
}
