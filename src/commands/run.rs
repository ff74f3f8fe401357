//! `tidegate run`: opens the doors, runs the job, and makes the report, also of a run that failed before it began.

use crate::commands::{open_source, open_tables};
use crate::config::Config;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::job::{Ended, Job, Run, RunOptions, table_ident};
use crate::observe::Observer;
use crate::progress::rfc3339;
use crate::report::{ErrorReport, Head, Outcome, Report};
use crate::source::Stop;
use crate::storage::Requests;

/// Runs the job of a checked job file. The error, if there is one, is also in the report.
pub async fn run(config: &Config, run: &Run, options: RunOptions, stop: &Stop, observer: &dyn Observer) -> (Report, Option<Error>) {
    let ended = match open(config) {
        Ok((tables, source)) => {
            let job = Job { config, source: &source, catalog: &tables.catalog, store: &tables.store, run, stop, observer };
            let ended = job.run(options).await;
            tables.store.wind_down().await;
            return report(config, run, ended, tables.store.requests());
        }
        Err(error) => Ended {
            outcome: Err(error),
            batches: Vec::new(),
            remaining: None,
            watermark: None,
            newest_event_time: None,
            warnings: Vec::new(),
        },
    };
    report(config, run, ended, Requests::default())
}

/// The report of a run that never came to make its own: a panic or a signal ended it.
pub fn unfinished(config: &Config, run: &Run, error: &Error) -> Report {
    Report {
        table: table_ident(config).to_string(),
        branch: config.table.branch.clone(),
        topic: config.kafka.topic.clone(),
        ..Report::unusable(&config.name, run, error)
    }
}

fn open(config: &Config) -> Result<(crate::commands::Tables, crate::source::kafka::Kafka)> {
    Ok((open_tables(config)?, open_source(config)?))
}

fn report(config: &Config, run: &Run, ended: Ended, requests: Requests) -> (Report, Option<Error>) {
    let mut records = Counts::default();
    for batch in &ended.batches {
        records += batch.records;
    }
    let (outcome, error) = match ended.outcome {
        Ok(outcome) => (outcome, None),
        Err(error) => (Outcome::Failed, Some(error)),
    };
    let report = Report {
        head: Head::of("run", &config.name),
        table: table_ident(config).to_string(),
        branch: config.table.branch.clone(),
        topic: config.kafka.topic.clone(),
        run_id: run.id.to_string(),
        outcome,
        exit_code: error.as_ref().map_or(0, Error::exit_code),
        batches: ended.batches,
        records,
        remaining: ended.remaining,
        lag_records: ended.remaining,
        lag_seconds: ended.newest_event_time.map(|newest| (run.started_at - newest).max(0) as f64 / 1e6),
        watermark: ended.watermark.map(rfc3339),
        started_at: rfc3339(run.started_at),
        duration_ms: u64::try_from((run.now_ms)() - run.started_at / 1_000).unwrap_or(0),
        requests,
        warnings: ended.warnings,
        error: error.as_ref().map(ErrorReport::from_error),
    };
    (report, error)
}
