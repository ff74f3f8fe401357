//! The command line itself: its commands, mistakes in it, completions and the manual page.

use std::process::Command;

use insta::assert_snapshot;

use crate::program::Place;

const COMMANDS: &[&str] = &["run", "plan", "check", "init", "status", "verify", "clean", "reset", "demo", "completions", "man"];

pub(super) fn tidegate(arguments: &str) -> String {
    let place = Place::without_broker().with("COLUMNS", "100");
    place.tidegate(arguments).to_string()
}

#[test]
fn no_command_shows_the_help_and_is_a_mistake() {
    assert_snapshot!(tidegate(""), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
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
fn mistakes_end_with_2_and_name_what_is_near() {
    assert_snapshot!(tidegate("chek job.toml"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unrecognized subcommand 'chek'

      tip: a similar subcommand exists: 'check'

    Usage: tidegate [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("run"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: the following required arguments were not provided:
      <JOB>

    Usage: tidegate run <JOB>

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("run job.toml --drian"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unexpected argument '--drian' found

      tip: a similar argument exists: '--drain'

    Usage: tidegate run --drain <JOB>

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("run job.toml other.toml"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unexpected argument 'other.toml' found

    Usage: tidegate run [OPTIONS] <JOB>

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("run job.toml --output yaml"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value 'yaml' for '--output <FORM>'
      [possible values: text, json]

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("run job.toml -v --log-level info"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: the argument '--verbose...' cannot be used with '--log-level <LEVEL>'

    Usage: tidegate run --verbose... <JOB>

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("plan job.toml --drain"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: unexpected argument '--drain' found

      tip: to pass '--drain' as a value, use '-- --drain'

    Usage: tidegate plan <JOB>

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("completions tcsh"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value 'tcsh' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

      tip: a similar value exists: 'zsh'

    For more information, try '--help'.
    ");
}

#[test]
fn an_exit_code_that_has_a_meaning_cannot_say_that_nothing_is_new() {
    assert_snapshot!(tidegate("run job.toml --empty-exit-code 75"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value '75' for '--empty-exit-code <N>': 75 already has a meaning; see the exit codes in `tidegate run --help`

    For more information, try '--help'.
    ");
    assert_snapshot!(tidegate("run job.toml --empty-exit-code 256"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value '256' for '--empty-exit-code <N>': an exit code is a number from 0 to 255

    For more information, try '--help'.
    ");
}

#[test]
fn a_command_that_does_not_exist_yet_is_not_in_the_help() {
    let help = tidegate("--help");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = listed.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, COMMANDS);
}

#[test]
fn bash_takes_the_completions() {
    let place = Place::without_broker();
    let script = place.tidegate("completions bash").expect(0);
    assert_eq!(script.stderr, "");
    place.write("completions", &script.stdout);
    let mut bash = Command::new("bash");
    bash.args([
        "-c",
        "source ./completions && COMP_WORDS=(tidegate ru) COMP_CWORD=1 && _tidegate tidegate ru tidegate && echo ${COMPREPLY[@]}",
    ]);
    assert_eq!(place.start_command(bash).answer().expect(0).stdout.trim(), "run");
}

#[test]
fn every_shell_has_completions() {
    let place = Place::without_broker();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.tidegate(&format!("completions {shell}")).expect(0).stdout;
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn the_manual_has_a_section_for_every_command() {
    let answer = Place::without_broker().tidegate("man").expect(0);
    assert_eq!(answer.stderr, "");
    assert!(answer.stdout.contains(".TH tidegate 1"), "{answer}");
    for command in COMMANDS {
        assert!(answer.stdout.contains(&format!(".SH \"TIDEGATE {}\"", command.to_uppercase())), "{command}");
    }
    for code in ["65", "75", "77", "78", "101", "130, 143"] {
        assert!(answer.stdout.lines().any(|line| line.trim_start_matches("\\&").trim_start().starts_with(code)), "{code}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::without_broker();
    let mut pipe = Command::new("bash");
    pipe.args(["-c", "set -o pipefail; tidegate man | head -1"]);
    let answer = place.start_command(pipe).answer().expect(0);
    assert_eq!((answer.stdout.lines().count(), answer.stderr.as_str()), (1, ""), "{answer}");
}
