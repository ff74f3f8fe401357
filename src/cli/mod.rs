//! The command line: what a user can ask for, as data.
//!
//! Only types, their help texts and the texts made of them (completions, manual page). Runs nothing, reads no job file, prints
//! nothing; a command that does not exist yet does not stand here.

mod texts;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

pub use self::texts::{completions, manual};
use crate::reset::{To, watermark};

/// Codes with a meaning of their own, which `--empty-exit-code` must not hide.
const EXIT_CODES_TAKEN: &[u8] = &[2, 65, 75, 77, 78, 101, 130, 143];

const EXAMPLES: &str = "\
Examples:
  tidegate demo                      see it work, with nothing to set up
  tidegate check jobs/articles.toml  test the job file and every connection
  tidegate init jobs/articles.toml   create the table
  tidegate run jobs/articles.toml    move one batch
";

const EXIT_CODES: &str = "\
Exit codes (after any of them running again is safe; the code says whether it can help):
    0  committed, nothing new, already done, or ended by a signal after a commit
    2  wrong command line
   65  data refused: its owner has to decide
   75  temporary failure: run again
   77  credentials or permission refused
   78  job file, schema, or something that does not exist
  101  a bug in tidegate; the table is as it was
  130, 143  ended by a signal, nothing committed
";

const RUN_EXAMPLES: &str = "\
Examples:
  tidegate run jobs/articles.toml            one bounded batch, then exit
  tidegate run jobs/articles.toml --drain    batch after batch, up to the end seen at the start
  tidegate run jobs/articles.toml --empty-exit-code 99 --result-file result.json

Two runs of one job may overlap: one commits, the other has no effect and exits 0.
";

const CHECK_EXAMPLES: &str = "\
Examples:
  tidegate check jobs/articles.toml
  tidegate check jobs/articles.toml --show    every setting, and where it comes from";

const VERIFY_HELP: &str = "\
Each guarantee is PASS, FAIL, WARN (found, but the job allows it) or SKIP (with the reason):
  ranges       consecutive batches meet without gap or overlap
  accounts     each record read has one outcome, and the rows move by them, counted
  watermark    it never moves back
  files        every file that the table names is there with its recorded size
  unique       no id twice
  loaded_once  append mode with metadata columns: no record was loaded twice
  rejects      the rejects table holds exactly the rejects of the batches, each once
  last_batch   the last batch, pulled again, yields the rows that the table holds

Exit code 65 if one fails.

Example:
  tidegate verify jobs/articles.toml --output json";

const CLEAN_HELP: &str = "\
Only files whose name says that this job wrote them are taken, if they are older than any run can last and nothing names them: no
snapshot of any branch or tag, no metadata file of the table, no rejects that wait.

Examples:
  tidegate clean jobs/articles.toml             list them
  tidegate clean jobs/articles.toml --delete    delete them";

const RESET_EXAMPLES: &str = "\
Examples:
  tidegate reset jobs/articles.toml --to earliest                what it would do
  tidegate reset jobs/articles.toml --to earliest --execute      read the topic again from its start
  tidegate reset jobs/articles.toml --to 2026-01-31T12:00:00Z --execute
  tidegate reset jobs/articles.toml --to 0:123,1:456 --execute   other partitions stay where they are

In merge mode records that are read again double nothing. Records that are skipped never reach the table.
";

/// Moves a bounded range of a Kafka topic into an Apache Iceberg table, exactly once, and exits.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "tidegate",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = format!("{EXAMPLES}\n{EXIT_CODES}")
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// One command.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Move one batch from the topic into the table
    #[command(after_help = format!("{RUN_EXAMPLES}\n{EXIT_CODES}"))]
    Run(Run),
    /// Show which offsets the next run would read, and read none
    #[command(after_help = "Example:\n  tidegate plan jobs/articles.toml --output json")]
    Plan(Job),
    /// Test the job file, Kafka, the catalog and the table, and change nothing
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Create the table that the job file describes; a table that exists is left alone
    #[command(after_help = "Example:\n  tidegate init jobs/articles.toml")]
    Init(Job),
    /// Show the job's last batch, its offsets, its watermark and how far it is behind
    #[command(after_help = "Example:\n  tidegate status jobs/articles.toml")]
    Status(Job),
    /// Prove on the live table what tidegate guarantees, and change nothing
    #[command(after_help = VERIFY_HELP)]
    Verify(Job),
    /// List the files that killed runs left behind, and delete them when told to
    #[command(after_help = CLEAN_HELP)]
    Clean(Clean),
    /// Choose where the job goes on reading: only told, until `--execute` is given
    #[command(after_help = RESET_EXAMPLES)]
    Reset(Reset),
    /// See a job at work on a Kafka and a table of its own, with nothing to set up
    #[command(after_help = "Examples:\n  tidegate demo\n  tidegate demo --dir /tmp/tidegate-demo")]
    Demo(Demo),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate")]
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
    /// Print the manual page of all commands
    #[command(after_help = "Example:\n  tidegate man | man -l -")]
    Man,
}

/// A command on one job.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Job {
    /// Job file (TOML)
    #[arg(value_name = "JOB", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Set a key of the job file, as in `kafka.topic=articles`; goes before the file and before variables
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<String>,
    /// File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS, or `catalogs.toml` beside the job file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub catalogs: Option<PathBuf>,
}

/// `tidegate check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Check {
    /// The job.
    #[command(flatten)]
    pub job: Job,
    /// Print the job as it takes effect and where each value comes from, and contact nothing
    #[arg(long)]
    pub show: bool,
}

/// `tidegate run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// The job.
    #[command(flatten)]
    pub job: Job,
    /// Go on, batch after batch, up to the end seen at the start
    #[arg(long)]
    pub drain: bool,
    /// Begin at `kafka.start` although the table has snapshots; refused where it has any of this job
    #[arg(long)]
    pub first_run: bool,
    /// Exit code when there is nothing new
    #[arg(long, value_name = "N", default_value = "0", value_parser = empty_exit_code)]
    pub empty_exit_code: u8,
    /// Also write the result to this file, as one JSON document
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub result_file: Option<PathBuf>,
    /// Also write metrics to this file, in Prometheus' text format
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metrics_file: Option<PathBuf>,
}

/// `tidegate clean`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Clean {
    /// The job.
    #[command(flatten)]
    pub job: Job,
    /// Delete what was found; without it nothing is changed
    #[arg(long)]
    pub delete: bool,
    /// Take only files older than this; never less than a run may last
    #[arg(long, value_name = "AGE", default_value = "3 d", value_parser = crate::config::length_of_time)]
    pub older_than: Duration,
}

/// `tidegate reset`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Reset {
    /// The job.
    #[command(flatten)]
    pub job: Job,
    /// Where to go on: `earliest`, `latest`, a time, or offsets such as `0:123,1:456` (partitions not named stay)
    #[arg(long, value_name = "WHERE", value_parser = |text: &str| text.parse::<To>())]
    pub to: To,
    /// Watermark from then on (RFC 3339) [default: none, so that no record is late until a batch has made one]
    #[arg(long, value_name = "TIME", value_parser = watermark)]
    pub watermark: Option<i64>,
    /// In append mode: read records again although each is one row more
    #[arg(long)]
    pub allow_duplicates: bool,
    /// Do it
    #[arg(long)]
    pub execute: bool,
    /// Only say what it would do (the default)
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
}

/// `tidegate demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Demo {
    /// Directory for the demo's table and job file, empty or new [default: a new one for temporary files; it is kept]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// What every command takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Output")]
pub struct Global {
    /// Form of the answer on stdout
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Form,
    /// Form of the log on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub log_format: Form,
    /// Lowest level that is logged [default: info]
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Log more: -v is `debug`, -vv is `trace`
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "log_level")]
    pub verbose: u8,
    /// Whether progress is shown on a terminal
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub progress: Progress,
}

/// For people or for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}

/// Level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogLevel {
    /// Only what ended the run
    Error,
    /// What someone should look at
    Warn,
    /// What the run does
    #[default]
    Info,
    /// How it does it
    Debug,
    /// Everything
    Trace,
}

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Progress {
    /// When stderr is a terminal
    #[default]
    Auto,
    /// Never
    Never,
}

impl Global {
    /// The level asked for by `--log-level` or `-v`.
    pub fn level(&self) -> LogLevel {
        match (self.log_level, self.verbose) {
            (Some(level), _) => level,
            (None, 0) => LogLevel::default(),
            (None, 1) => LogLevel::Debug,
            (None, _) => LogLevel::Trace,
        }
    }
}

impl LogLevel {
    /// The level's name, as log filters take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Whether a key exists and takes the value is for the job file's reader to say.
fn key_value(text: &str) -> Result<String, String> {
    let (key, _) = text.split_once('=').ok_or("write it KEY=VALUE, as in kafka.topic=articles")?;
    if key.trim().is_empty() {
        Err(String::from("a key stands before the `=`, as in kafka.topic=articles"))
    } else {
        Ok(text.to_owned())
    }
}

fn empty_exit_code(text: &str) -> Result<u8, String> {
    let code: u8 = text.parse().map_err(|_| String::from("an exit code is a number from 0 to 255"))?;
    if EXIT_CODES_TAKEN.contains(&code) {
        return Err(format!("{code} already has a meaning; see the exit codes in `tidegate run --help`"));
    }
    Ok(code)
}
