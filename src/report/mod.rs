//! What one invocation did, as a value: printed as one JSON document or as text, written as a result file and as metrics.
//!
//! Pure but for the two files it writes. The report is the metric: nothing is counted anywhere else. A value that is not known is
//! left out of every form, never shown as a zero.

mod file;
pub(crate) mod human;
pub mod json;
pub mod metrics;
pub mod result;
#[cfg(test)]
mod sample;
pub mod text;

use std::collections::BTreeMap;
use std::error::Error as _;

use serde::Serialize;

use crate::counts::Counts;
use crate::error::{Error, Mistakes};
use crate::job::Run;
use crate::offsets::Offsets;
use crate::progress;
use crate::storage::Requests;

/// What the answer of every command begins with.
#[derive(Debug, Clone, Serialize)]
pub struct Head {
    /// Version of the program.
    pub tidegate: &'static str,
    /// The command.
    pub command: &'static str,
    /// Job name.
    pub job: String,
}

impl Head {
    /// Of a command's answer about this job.
    pub fn of(command: &'static str, job: &str) -> Self {
        Self { tidegate: env!("CARGO_PKG_VERSION"), command, job: job.to_owned() }
    }
}

/// What one `run` did. Its JSON form is a contract.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Full name of the table.
    pub table: String,
    /// Branch written.
    pub branch: String,
    /// Topic read.
    pub topic: String,
    /// UUID of the run.
    pub run_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Exit code of the process.
    pub exit_code: u8,
    /// Batches committed, oldest first.
    pub batches: Vec<BatchReport>,
    /// Sum of the batches' accounts.
    pub records: Counts,
    /// Offsets left unread up to the last stable offsets seen last; none where the broker was not asked.
    pub remaining: Option<u64>,
    /// The same, as lag tools call it.
    pub lag_records: Option<u64>,
    /// Run start minus the newest event time read, in seconds; none where no event time is known.
    pub lag_seconds: Option<f64>,
    /// Watermark after the run, RFC 3339.
    pub watermark: Option<String>,
    /// Start of the run, RFC 3339.
    pub started_at: String,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Requests made to storage; zero where the run ended before it opened any.
    pub requests: Requests,
    /// What went wrong without failing the run.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<ErrorReport>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At least one snapshot was committed.
    Committed,
    /// The plan was empty.
    NothingNew,
    /// Fewer new offsets than `min_offsets_per_trigger`.
    Skipped,
    /// Another run of the job was first; this one had no effect.
    Overtaken,
    /// A signal ended it after what was read was committed.
    Interrupted,
    /// It failed; see `error`.
    Failed,
}

/// One committed batch.
#[derive(Debug, Clone, Serialize)]
pub struct BatchReport {
    /// Batch number within the job.
    pub batch: u64,
    /// Epoch.
    pub epoch: u64,
    /// Batch id (SHA-256, hex).
    pub batch_id: String,
    /// Snapshot that carries it.
    pub snapshot_id: i64,
    /// Snapshot operation.
    pub operation: String,
    /// Offsets read.
    pub offsets: OffsetsReport,
    /// Accounts.
    pub records: Counts,
    /// Watermark after the batch, RFC 3339.
    pub watermark: Option<String>,
    /// Commit attempts made.
    pub attempts: u32,
    /// Files written and matched.
    pub files: FilesReport,
    /// Why the batch ended before its plan; none when it did not.
    pub cut: Option<String>,
    /// How long it took, in ms.
    pub duration_ms: u64,
}

/// Offsets of one batch, by topic.
#[derive(Debug, Clone, Serialize)]
pub struct OffsetsReport {
    /// Next offset to read before the batch.
    pub start: BTreeMap<String, Offsets>,
    /// Next offset to read after it.
    pub end: BTreeMap<String, Offsets>,
}

/// Files of one batch.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct FilesReport {
    /// Data files added.
    pub data_files: u64,
    /// Their bytes.
    pub data_bytes: u64,
    /// Delete files or vectors added.
    pub delete_files: u64,
    /// Live data files taken out, by copy-on-write: written again without their dead rows, or left with none.
    pub rewritten_files: u64,
    /// Rows that went from them into new data files.
    pub carried_rows: u64,
    /// Live data files of the table before the batch.
    pub table_files: u64,
    /// Data files in which ids were searched.
    pub files_searched: u64,
    /// Those of them whose key index answered; of the others the id columns were read.
    pub files_indexed: u64,
    /// Requests to the store for the search, deletes of the files found included.
    pub search_requests: u64,
    /// Bytes that those requests asked for.
    pub search_bytes: u64,
}

/// Why a run failed.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorReport {
    /// What went wrong.
    pub message: String,
    /// Its causes, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Report {
    /// Of a run that ended before its job was known: `file` stands for the job, and what only the job file says is empty.
    pub fn unusable(file: &str, run: &Run, error: &Error) -> Self {
        let took = (run.now_ms)() - run.started_at.div_euclid(1_000);
        Self {
            head: Head::of("run", file),
            table: String::new(),
            branch: String::new(),
            topic: String::new(),
            run_id: run.id.to_string(),
            outcome: Outcome::Failed,
            exit_code: error.exit_code(),
            batches: Vec::new(),
            records: Counts::default(),
            remaining: None,
            lag_records: None,
            lag_seconds: None,
            watermark: None,
            started_at: progress::rfc3339(run.started_at),
            duration_ms: u64::try_from(took).unwrap_or(0),
            requests: Requests::default(),
            warnings: Vec::new(),
            error: Some(ErrorReport::from_error(error)),
        }
    }
}

impl ErrorReport {
    /// The message, its causes and the hint of an error. The mistakes of a job file are one cause each, and a cause that its
    /// predecessor already spells out (many libraries print their source with themselves) is not repeated.
    pub fn from_error(error: &Error) -> Self {
        let message = error.to_string();
        let causes = match error {
            Error::Job { mistakes, .. } => mistakes.0.iter().map(|mistake| Mistakes(vec![mistake.clone()]).to_string()).collect(),
            _ => causes(&message, error),
        };
        Self { message, causes, hint: error.hint() }
    }
}

fn causes(message: &str, error: &Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !causes.last().map_or(message, String::as_str).contains(&text) {
            causes.push(text);
        }
        source = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use crate::error::Mistake;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Self>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn causes_are_listed_outermost_first_and_not_twice() {
        let error = Error::unavailable("load the table `a.b`", layers(&["request failed: timeout", "timeout", "os error 110"]));
        let report = ErrorReport::from_error(&error);
        assert_eq!(report.message, "could not load the table `a.b`");
        assert_eq!(report.causes, ["request failed: timeout", "os error 110"]);
        assert!(report.hint.unwrap().contains("running again is safe"));
    }

    #[test]
    fn a_run_without_a_job_has_a_report() {
        let run = Run { id: uuid::Uuid::nil(), started_at: 1_795_168_800_000_000, now_ms: || 1_795_168_800_250 };
        let report = Report::unusable("job.toml", &run, &Error::setup("job file `job.toml` does not exist", "h"));
        assert_eq!((report.exit_code, report.outcome, report.duration_ms), (78, Outcome::Failed, 250));
        assert_eq!(report.started_at, "2026-11-20T10:00:00.000000Z");
        assert_eq!(text::summary(&report, false), "job.toml: failed with exit code 78 (250 ms)\n");
        assert_eq!(report.error.map(|error| error.message).as_deref(), Some("job file `job.toml` does not exist"));
    }

    #[test]
    fn each_mistake_of_a_job_file_is_a_cause() {
        let mistake = |line: Option<usize>, message: &str| Mistake { at: line.map(Origin::Line), message: message.into() };
        let mistakes = Mistakes(vec![mistake(Some(3), "unknown key `tpoic`"), mistake(None, "`name` is missing")]);
        let report = ErrorReport::from_error(&Error::Job { file: "job.toml".into(), mistakes });
        assert_eq!(report.causes, ["line 3: unknown key `tpoic`", "`name` is missing"]);
        assert_eq!(report.hint, None);
    }
}
