//! `tidegate check`: tests the job file and everything it names, and changes nothing.

use serde::Serialize;

use crate::catalog::{Catalog, LoadedTable};
use crate::commands::{open_source, open_tables};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::{first_starts, rejects_ident, table_ident};
use crate::report::ErrorReport;
use crate::source::Source;
use crate::state;
use crate::table::fit::fit;

/// What `check` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Version of the program.
    pub tidegate: &'static str,
    /// Always `check`.
    pub command: &'static str,
    /// Job name.
    pub job: String,
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

/// Tests everything, however much fails.
pub async fn check(config: &Config) -> Checked {
    let mut checked = Checked {
        tidegate: env!("CARGO_PKG_VERSION"),
        command: "check",
        job: config.name.clone(),
        exit_code: 0,
        tests: Vec::new(),
    };
    checked.add("job file", Ok(format!("job `{}`", config.name)));
    let table = table(config).await;
    let loaded = table.as_ref().ok().cloned();
    checked.add("table", table.and_then(|table| describe(config, &table)));
    if let Some(table) = &loaded {
        checked.add("state", job_state(config, table).await);
    }
    checked.add("rejects", rejects(config).await);
    checked.add("topic", tokio::task::block_in_place(|| topic(config)));
    checked
}

async fn table(config: &Config) -> Result<LoadedTable> {
    let ident = table_ident(config);
    open_tables(config)?
        .catalog
        .load(&ident)
        .await?
        .ok_or_else(|| Error::setup(format!("table `{ident}` does not exist"), "`tidegate init JOB` creates it"))
}

fn describe(config: &Config, table: &LoadedTable) -> Result<String> {
    fit(config, &table.metadata)?;
    Ok(format!(
        "`{}`, format {}, {} columns, at {}",
        table.ident,
        table.metadata.format_version(),
        table.metadata.current_schema().as_struct().fields().len(),
        table.metadata.location()
    ))
}

async fn job_state(config: &Config, table: &LoadedTable) -> Result<String> {
    let state = state::find(table, &config.table.branch, &config.name).await?;
    state::may_begin(&state, table, &config.name, false)?;
    Ok(match state.progress() {
        Some(progress) => format!("batch {} of epoch {}", progress.batch, progress.epoch),
        None => "no batch yet".into(),
    })
}

async fn rejects(config: &Config) -> Result<String> {
    let ident = rejects_ident(config);
    Ok(match open_tables(config)?.catalog.load(&ident).await? {
        Some(_) => format!("`{ident}`"),
        None => format!("`{ident}` will be made for the first reject"),
    })
}

fn topic(config: &Config) -> Result<String> {
    let source = open_source(config)?;
    let bounds = source.bounds()?;
    let known: Vec<_> = bounds.partitions.values().flatten().collect();
    if let Some((partition, _)) = bounds.partitions.iter().find(|(_, bounds)| bounds.is_none()) {
        return Err(Error::unavailable(format!("reach partition {partition} of `{}`", bounds.topic), "it has no leader now"));
    }
    first_starts(config, &source, &bounds)?;
    let offsets: i64 = known.iter().map(|b| b.last_stable - b.earliest).sum();
    Ok(format!("`{}`, {} partitions, {offsets} offsets", bounds.topic, known.len()))
}
