//! What a check found: passed, failed with every place, or skipped with a reason.
//!
//! Pure.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::report::ErrorReport;
use crate::storage::is_damage;

/// Findings kept of one guarantee: enough to see what is wrong; the number of all is told.
const SHOWN_MAX: usize = 20;

/// What was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It was found, and the job file allows it.
    Warn,
    /// It could not be judged.
    Skip,
}

/// One guarantee, judged. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Guarantee {
    /// Which guarantee.
    pub name: &'static str,
    /// Whether it holds.
    pub result: Judgement,
    /// What was looked at, or why nothing was.
    pub found: String,
    /// Number of places where it does not hold.
    pub findings_total: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// What to do; none where nothing is wrong.
    pub hint: Option<String>,
    /// What kept it from being judged; none where it was judged, or where nothing went wrong.
    pub error: Option<ErrorReport>,
    /// Exit code of that error.
    #[serde(skip)]
    pub error_code: u8,
}

/// One place where a guarantee does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong there.
    pub what: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
}

/// A place in a table or topic, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<i64>,
    /// Partition of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Offset in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Id of a row, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// File.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Place {
    /// A snapshot.
    pub(crate) fn snapshot(id: i64) -> Self {
        Self { snapshot_id: Some(id), ..Self::default() }
    }

    /// A partition, as seen by a snapshot.
    pub(crate) fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// A record of a partition.
    pub(crate) fn record(self, partition: i32, offset: i64) -> Self {
        Self { partition: Some(partition), offset: Some(offset), ..self }
    }

    /// A row's id.
    pub(crate) fn id(self, id: String) -> Self {
        Self { id: Some(id), ..self }
    }

    /// A file.
    pub(crate) fn file(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// For a person: `snapshot 12, partition 3, offset 7`.
    pub(crate) fn text(&self) -> String {
        let parts = [
            self.snapshot_id.map(|id| format!("snapshot {id}")),
            self.partition.map(|partition| format!("partition {partition}")),
            self.offset.map(|offset| format!("offset {offset}")),
            self.id.as_ref().map(|id| format!("id `{id}`")),
            self.file.as_ref().map(|file| format!("file {file}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Findings as they are gathered: the first ones, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    shown: Vec<Finding>,
    total: u64,
}

impl Findings {
    /// Adds one.
    pub(crate) fn add(&mut self, what: impl Into<String>, place: Place) {
        self.total += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(Finding { what: what.into(), place });
        }
    }

    /// Number of findings.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    #[cfg(test)]
    pub(crate) fn shown(&self) -> &[Finding] {
        &self.shown
    }
}

/// What one check says.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) result: Judgement,
    pub(crate) found: String,
    pub(crate) findings: Findings,
}

impl Check {
    /// Fails if there is a finding.
    pub(crate) fn of(found: impl Into<String>, findings: Findings) -> Self {
        let result = if findings.total == 0 { Judgement::Pass } else { Judgement::Fail };
        Self { result, found: found.into(), findings }
    }

    /// What was found is allowed.
    pub(crate) fn warn(found: impl Into<String>, findings: Findings) -> Self {
        let result = if findings.total == 0 { Judgement::Pass } else { Judgement::Warn };
        Self { result, found: found.into(), findings }
    }

    /// Could not be judged.
    pub(crate) fn skip(why: impl Into<String>) -> Self {
        Self { result: Judgement::Skip, found: why.into(), findings: Findings::default() }
    }
}

impl Guarantee {
    /// The guarantee as its check left it. A file whose content cannot be true fails it, if every file is there (`whole`); what could
    /// not be reached skips it.
    pub(crate) fn settle(name: &'static str, hint: &str, whole: bool, check: Result<Check>) -> Self {
        let (check, error) = match check {
            Ok(check) => (check, None),
            Err(error) if whole && is_damage(&error) => {
                let mut findings = Findings::default();
                findings.add(sentence(&error), Place::default());
                (Check::of("what the table names cannot be read", findings), None)
            }
            Err(error) => (Check::skip(format!("not judged: {}", sentence(&error))), Some(error)),
        };
        let wrong = matches!(check.result, Judgement::Fail | Judgement::Warn);
        Self {
            name,
            result: check.result,
            found: check.found,
            findings_total: check.findings.total,
            findings: check.findings.shown,
            hint: wrong.then(|| hint.to_owned()),
            error_code: error.as_ref().map_or(0, Error::exit_code),
            error: error.as_ref().map(ErrorReport::from_error),
        }
    }
}

/// An error with its causes.
fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
