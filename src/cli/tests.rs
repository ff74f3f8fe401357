use clap::CommandFactory;

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
        job: Job { file: "jobs/a.toml".into(), sets: vec![], catalogs: None },
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
        "check a --show",
        "run a --set kafka.topic=b --set kafka.start=latest --catalogs c.toml",
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
        "run a --set kafka.topic",
        "run a --set =b",
        "plan a --show",
        "demo --set kafka.topic=a",
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
          --set <KEY=VALUE>      Set a key of the job file, as in `kafka.topic=articles`; goes before
                                 the file and before variables
          --catalogs <FILE>      File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS,
                                 or `catalogs.toml` beside the job file]
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
    assert!(page.contains("\\fBs3.secret\\-access\\-key\\fR\n\\&S3: the access key (a secret)\n"), "{page}");
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
    let cronjob = listed(include_str!("../../jobs/articles.cronjob.yaml"), "args: ");
    let airflow = listed(include_str!("../../jobs/articles_dag.py"), "arguments=");
    let crontab = include_str!("../../jobs/articles.crontab").lines().find(|line| line.starts_with('*')).unwrap();
    let (_, crontab) = crontab.split_once("&& tidegate ").unwrap();
    let (crontab, _) = crontab.split_once(" >>").unwrap();
    for (line, empty_exit_code) in [(cronjob.as_str(), 0), (airflow.as_str(), 99), (crontab, 0)] {
        let cli = parse(&format!("tidegate {line}")).unwrap_or_else(|e| panic!("{line}: {e}"));
        let Command::Run(run) = cli.command else { panic!("{line} is not a run") };
        assert!(run.job.file.ends_with("articles.toml"), "{line}");
        assert_eq!(run.empty_exit_code, empty_exit_code, "{line}");
    }
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in Shell::value_variants() {
        assert!(String::from_utf8(completions(*shell)).unwrap().contains("drain"), "{shell}");
    }
}
