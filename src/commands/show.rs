//! `tidegate check --show`: a job as it takes effect, and where each of its settings comes from. Contacts nothing.

use serde::Serialize;

use crate::config::{Effective, Origin, Setting, SettingValue};

/// Where the comments begin at the latest; a longer line has its own behind it.
const COLUMN_MAX: usize = 60;

/// What `check --show` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Version of the program.
    pub tidegate: &'static str,
    /// Always `check`.
    pub command: &'static str,
    /// Job name.
    pub job: String,
    /// Always 0: a job with a mistake is not shown.
    pub exit_code: u8,
    /// Every setting, in the order of the job file's reference.
    pub settings: Vec<Row>,
    #[serde(skip)]
    text: String,
}

/// One setting.
#[derive(Debug, Serialize)]
pub struct Row {
    /// As `--set` takes it.
    pub key: String,
    /// As the job file would give it; `***` for a secret.
    pub value: SettingValue,
    /// Whether the value is a secret.
    pub secret: bool,
    /// Where it comes from.
    pub from: From,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct From {
    /// `default`, `file`, `catalogs`, `variable` or `set`.
    pub kind: &'static str,
    /// The file, for `file` and `catalogs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The variable's name, for `variable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
}

impl Shown {
    /// The job that `file` makes with all that overrides it.
    pub fn of(file: &str, effective: &Effective) -> Self {
        let settings = effective.settings();
        let text = text(file, &settings);
        let row = |setting: Setting| Row {
            key: setting.key(),
            from: From::of(file, setting.from.as_ref()),
            value: setting.value,
            secret: setting.secret,
        };
        Self {
            tidegate: env!("CARGO_PKG_VERSION"),
            command: "check",
            job: effective.config.name.clone(),
            exit_code: 0,
            settings: settings.into_iter().map(row).collect(),
            text,
        }
    }

    /// For a person: a job file, with a comment behind each line.
    pub fn text(&self) -> String {
        self.text.clone()
    }
}

impl From {
    fn of(job: &str, origin: Option<&Origin>) -> Self {
        let at = |kind, file: &str, line: &usize| Self { kind, file: Some(file.to_owned()), line: Some(*line), variable: None };
        let kind = |kind| Self { kind, file: None, line: None, variable: None };
        match origin {
            None => kind("default"),
            Some(Origin::Line(line)) => at("file", job, line),
            Some(Origin::Catalogs { file, line }) => at("catalogs", file, line),
            Some(Origin::Variable(name)) => Self { variable: Some(name.clone()), ..kind("variable") },
            Some(Origin::Set(_)) => kind("set"),
        }
    }
}

fn text(file: &str, settings: &[Setting]) -> String {
    let mut text = format!("# {file} as it takes effect, and where each value comes from\n");
    for table in settings.chunk_by(|one, next| one.table == next.table) {
        let lines: Vec<String> = table.iter().map(Setting::assignment).collect();
        let width = |line: &String| line.lines().next_back().map_or(0, |last| last.chars().count());
        let column = lines.iter().map(width).filter(|&width| width <= COLUMN_MAX).max().unwrap_or(0);
        if let Some(name) = table.first().map(|setting| setting.table).filter(|name| !name.is_empty()) {
            text.push_str(&format!("\n[{name}]\n"));
        }
        for (setting, line) in table.iter().zip(&lines) {
            let space = " ".repeat(column.saturating_sub(width(line)));
            let from = setting.from.as_ref().map_or_else(|| String::from("default"), ToString::to_string);
            text.push_str(&format!("{line}{space}  # {from}\n"));
        }
    }
    text
}
