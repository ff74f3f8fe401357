//! The command line: what a user can ask for, as data.
//!
//! Only types, their help texts and the texts made of them (completions, manual page). Runs nothing, reads no job file, prints
//! nothing; a command that does not exist yet does not stand here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

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
    #[command(after_help = "Example:\n  tidegate check jobs/articles.toml")]
    Check(Job),
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
    pub job: PathBuf,
}

/// `tidegate run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// Job file (TOML)
    #[arg(value_name = "JOB", value_hint = ValueHint::FilePath)]
    pub job: PathBuf,
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
    /// Job file (TOML)
    #[arg(value_name = "JOB", value_hint = ValueHint::FilePath)]
    pub job: PathBuf,
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
    /// Job file (TOML)
    #[arg(value_name = "JOB", value_hint = ValueHint::FilePath)]
    pub job: PathBuf,
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

/// Completions for a shell, as a script.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    script
}

/// The manual page, in roff: one page with a section for every command.
///
/// # Errors
/// Never in practice: the page is written to memory.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let main = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    main.render_title(&mut page)?;
    main.render_name_section(&mut page)?;
    main.render_synopsis_section(&mut page)?;
    main.render_options_section(&mut page)?;
    for sub in command.get_subcommands() {
        page.extend_from_slice(format!(".SH \"TIDEGATE {}\"\n", sub.get_name().to_uppercase()).as_bytes());
        page.extend_from_slice(manual_of(sub)?.as_bytes());
    }
    page.extend_from_slice(b".SH \"EXAMPLES AND EXIT CODES\"\n");
    page.extend_from_slice(as_written(&command).as_bytes());
    Ok(page)
}

/// The part of one command, its sections one level down.
fn manual_of(command: &clap::Command) -> std::io::Result<String> {
    // What every command takes stands once, in the main part.
    let own = command.clone().mut_args(|arg| {
        let everywhere = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(everywhere)
    });
    let has_arguments = own.get_arguments().any(|arg| !arg.is_hide_set());
    let man = clap_mangen::Man::new(own);
    let mut part = Vec::new();
    man.render_description_section(&mut part)?;
    man.render_synopsis_section(&mut part)?;
    if has_arguments {
        man.render_options_section(&mut part)?;
    }
    let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
    Ok(format!("{part}.SS EXAMPLES\n{}", as_written(command)))
}

/// The text after a command's help, in its own lines: filled text would tear its tables apart.
fn as_written(command: &clap::Command) -> String {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(|line| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-"))).collect();
    format!(".nf\n{}.fi\n", lines.concat())
}

fn empty_exit_code(text: &str) -> Result<u8, String> {
    let code: u8 = text.parse().map_err(|_| String::from("an exit code is a number from 0 to 255"))?;
    if EXIT_CODES_TAKEN.contains(&code) {
        return Err(format!("{code} already has a meaning; see the exit codes in `tidegate run --help`"));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_a_run_with_everything() {
        let line = "tidegate --output json run jobs/a.toml --drain --first-run --empty-exit-code 99 --result-file r.json \
                    --metrics-file m.prom --log-format json -vv --progress never";
        let cli = parse(line).unwrap();
        let Command::Run(run) = cli.command else { panic!("not a run") };
        let expected = Run {
            job: "jobs/a.toml".into(),
            drain: true,
            first_run: true,
            empty_exit_code: 99,
            result_file: Some("r.json".into()),
            metrics_file: Some("m.prom".into()),
        };
        assert_eq!(run, expected);
        assert_eq!((cli.global.output, cli.global.log_format, cli.global.progress), (Form::Json, Form::Json, Progress::Never));
        assert_eq!(cli.global.level(), LogLevel::Trace);
    }

    #[test]
    fn is_modest_by_default() {
        let cli = parse("tidegate run a.toml").unwrap();
        let Command::Run(run) = cli.command else { panic!("not a run") };
        assert_eq!((run.drain, run.first_run, run.empty_exit_code), (false, false, 0));
        assert_eq!((cli.global.output, cli.global.log_format, cli.global.progress), (Form::Text, Form::Text, Progress::Auto));
        assert_eq!(cli.global.level(), LogLevel::Info);
    }

    #[test]
    fn knows_every_command() {
        for line in [
            "plan a",
            "check a",
            "init a",
            "status a",
            "verify a",
            "clean a --delete",
            "reset a --to latest",
            "demo",
            "demo --dir d",
            "completions zsh",
            "man",
            "check a -v",
        ] {
            assert!(parse(&format!("tidegate {line}")).is_ok(), "{line}");
        }
    }

    #[test]
    fn refuses_with_exit_code_2() {
        for line in [
            "",
            "run",
            "ruin a",
            "run a b",
            "run a --empty-exit-code 75",
            "run a --empty-exit-code 256",
            "run a -v --log-level info",
            "reset a",
            "reset a --to nowhere",
            "reset a --to latest --dry-run --execute",
            "reset a --to latest --watermark soon",
        ] {
            assert_eq!(parse(&format!("tidegate {line}")).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_level_has_the_name_that_it_is_asked_for_by() {
        for level in LogLevel::value_variants() {
            assert_eq!(level.to_possible_value().unwrap().get_name(), level.as_str());
        }
    }

    #[test]
    fn help_names_what_exists() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_help().to_string(), @r"
    Moves a bounded range of a Kafka topic into an Apache Iceberg table, exactly once, and exits

    Usage: tidegate [OPTIONS] <COMMAND>

    Commands:
      run          Move one batch from the topic into the table
      plan         Show which offsets the next run would read, and read none
      check        Test the job file, Kafka, the catalog and the table, and change nothing
      init         Create the table that the job file describes; a table that exists is left alone
      status       Show the job's last batch, its offsets, its watermark and how far it is behind
      verify       Prove on the live table what tidegate guarantees, and change nothing
      clean        List the files that killed runs left behind, and delete them when told to
      reset        Choose where the job goes on reading: only told, until `--execute` is given
      demo         See a job at work on a Kafka and a table of its own, with nothing to set up
      completions  Print completions for a shell
      man          Print the manual page of all commands

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Output:
          --output <FORM>      Form of the answer on stdout [default: text] [possible values: text,
                               json]
          --log-format <FORM>  Form of the log on stderr [default: text] [possible values: text, json]
          --log-level <LEVEL>  Lowest level that is logged [default: info] [possible values: error,
                               warn, info, debug, trace]
      -v, --verbose...         Log more: -v is `debug`, -vv is `trace`
          --progress <WHEN>    Whether progress is shown on a terminal [default: auto] [possible values:
                               auto, never]

    Examples:
      tidegate demo                      see it work, with nothing to set up
      tidegate check jobs/articles.toml  test the job file and every connection
      tidegate init jobs/articles.toml   create the table
      tidegate run jobs/articles.toml    move one batch

    Exit codes (after any of them running again is safe; the code says whether it can help):
        0  committed, nothing new, already done, or ended by a signal after a commit
        2  wrong command line
       65  data refused: its owner has to decide
       75  temporary failure: run again
       77  credentials or permission refused
       78  job file, schema, or something that does not exist
      101  a bug in tidegate; the table is as it was
      130, 143  ended by a signal, nothing committed
    ");
    }

    #[test]
    fn help_of_a_run_names_its_options() {
        let mut command = Cli::command().term_width(100);
        command.build();
        insta::assert_snapshot!(command.find_subcommand_mut("run").unwrap().render_help().to_string(), @r"
    Move one batch from the topic into the table

    Usage: tidegate run [OPTIONS] <JOB>

    Arguments:
      <JOB>  Job file (TOML)

    Options:
          --drain                Go on, batch after batch, up to the end seen at the start
          --first-run            Begin at `kafka.start` although the table has snapshots; refused where
                                 it has any of this job
          --empty-exit-code <N>  Exit code when there is nothing new [default: 0]
          --result-file <FILE>   Also write the result to this file, as one JSON document
          --metrics-file <FILE>  Also write metrics to this file, in Prometheus' text format
      -h, --help                 Print help (see more with '--help')

    Output:
          --output <FORM>      Form of the answer on stdout [default: text] [possible values: text,
                               json]
          --log-format <FORM>  Form of the log on stderr [default: text] [possible values: text, json]
          --log-level <LEVEL>  Lowest level that is logged [default: info] [possible values: error,
                               warn, info, debug, trace]
      -v, --verbose...         Log more: -v is `debug`, -vv is `trace`
          --progress <WHEN>    Whether progress is shown on a terminal [default: auto] [possible values:
                               auto, never]

    Examples:
      tidegate run jobs/articles.toml            one bounded batch, then exit
      tidegate run jobs/articles.toml --drain    batch after batch, up to the end seen at the start
      tidegate run jobs/articles.toml --empty-exit-code 99 --result-file result.json

    Two runs of one job may overlap: one commits, the other has no effect and exits 0.

    Exit codes (after any of them running again is safe; the code says whether it can help):
        0  committed, nothing new, already done, or ended by a signal after a commit
        2  wrong command line
       65  data refused: its owner has to decide
       75  temporary failure: run again
       77  credentials or permission refused
       78  job file, schema, or something that does not exist
      101  a bug in tidegate; the table is as it was
      130, 143  ended by a signal, nothing committed
    ");
    }

    #[test]
    fn manual_covers_every_command_once() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        assert_eq!(page.matches(".TH ").count(), 1);
        for command in Cli::command().get_subcommands() {
            let heading = format!(".SH \"TIDEGATE {}\"\n", command.get_name().to_uppercase());
            assert_eq!(page.matches(&heading).count(), 1, "{heading}");
        }
        // A global option is explained once, not once for every command.
        assert_eq!(page.matches("\\fB\\-\\-progress\\fR \\fI").count(), 1, "{page}");
        assert!(page.contains("\\&   75  temporary failure: run again\n"), "{page}");
    }

    /// The words of a list such as `["run", "--drain"]` after `key`.
    fn listed(text: &str, key: &str) -> String {
        let (_, after) = text.split_once(key).unwrap();
        let (list, _) = after.split_once(']').unwrap();
        // Python allows a comma after the last word, JSON does not.
        let list = list.trim_end().trim_end_matches(',');
        let words: Vec<String> = serde_json::from_str(&format!("{list}]")).unwrap();
        words.join(" ")
    }

    #[test]
    fn every_scheduler_in_jobs_calls_a_command_that_exists() {
        let cronjob = listed(include_str!("../jobs/articles.cronjob.yaml"), "args: ");
        let airflow = listed(include_str!("../jobs/articles_dag.py"), "arguments=");
        let crontab = include_str!("../jobs/articles.crontab").lines().find(|line| line.starts_with('*')).unwrap();
        let (_, crontab) = crontab.split_once("&& tidegate ").unwrap();
        let (crontab, _) = crontab.split_once(" >>").unwrap();
        for (line, empty_exit_code) in [(cronjob.as_str(), 0), (airflow.as_str(), 99), (crontab, 0)] {
            let cli = parse(&format!("tidegate {line}")).unwrap_or_else(|e| panic!("{line}: {e}"));
            let Command::Run(run) = cli.command else { panic!("{line} is not a run") };
            assert!(run.job.ends_with("articles.toml"), "{line}");
            assert_eq!(run.empty_exit_code, empty_exit_code, "{line}");
        }
    }

    #[test]
    fn completions_exist_for_every_shell() {
        for shell in Shell::value_variants() {
            assert!(String::from_utf8(completions(*shell)).unwrap().contains("drain"), "{shell}");
        }
    }
}
