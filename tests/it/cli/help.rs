//! The help of the program and of every command.

use insta::assert_snapshot;

use super::command_line::tidegate;

#[test]
fn help_of_the_program() {
    assert_snapshot!(tidegate("-h"), @r"
    exit code: 0
    ----- stdout -----
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
    ----- stderr -----
    ");
    assert_snapshot!(tidegate("--help"), @r"
    exit code: 0
    ----- stdout -----
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
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Output:
          --output <FORM>
              Form of the answer on stdout

              Possible values:
              - text: For people
              - json: For machines
              
              [default: text]

          --log-format <FORM>
              Form of the log on stderr

              Possible values:
              - text: For people
              - json: For machines
              
              [default: text]

          --log-level <LEVEL>
              Lowest level that is logged [default: info]

              Possible values:
              - error: Only what ended the run
              - warn:  What someone should look at
              - info:  What the run does
              - debug: How it does it
              - trace: Everything

      -v, --verbose...
              Log more: -v is `debug`, -vv is `trace`

          --progress <WHEN>
              Whether progress is shown on a terminal

              Possible values:
              - auto:  When stderr is a terminal
              - never: Never
              
              [default: auto]

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
    ----- stderr -----
    ");
    assert_snapshot!(tidegate("--version"), @r"
    exit code: 0
    ----- stdout -----
    tidegate [VERSION]
    ----- stderr -----
    ");
}

#[test]
fn help_of_run() {
    assert_snapshot!(tidegate("run --help"), @r"
    exit code: 0
    ----- stdout -----
    Move one batch from the topic into the table

    Usage: tidegate run [OPTIONS] <JOB>

    Arguments:
      <JOB>
              Job file (TOML)

    Options:
          --set <KEY=VALUE>
              Set a key of the job file, as in `kafka.topic=articles`; goes before the file and before
              variables

          --catalogs <FILE>
              File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS, or `catalogs.toml`
              beside the job file]

          --drain
              Go on, batch after batch, up to the end seen at the start

          --first-run
              Begin at `kafka.start` although the table has snapshots; refused where it has any of this
              job

          --empty-exit-code <N>
              Exit code when there is nothing new
              
              [default: 0]

          --result-file <FILE>
              Also write the result to this file, as one JSON document

          --metrics-file <FILE>
              Also write metrics to this file, in Prometheus' text format

      -h, --help
              Print help (see a summary with '-h')

    Output:
          --output <FORM>
              Form of the answer on stdout

              Possible values:
              - text: For people
              - json: For machines
              
              [default: text]

          --log-format <FORM>
              Form of the log on stderr

              Possible values:
              - text: For people
              - json: For machines
              
              [default: text]

          --log-level <LEVEL>
              Lowest level that is logged [default: info]

              Possible values:
              - error: Only what ended the run
              - warn:  What someone should look at
              - info:  What the run does
              - debug: How it does it
              - trace: Everything

      -v, --verbose...
              Log more: -v is `debug`, -vv is `trace`

          --progress <WHEN>
              Whether progress is shown on a terminal

              Possible values:
              - auto:  When stderr is a terminal
              - never: Never
              
              [default: auto]

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
    ----- stderr -----
    ");
}

/// What every command's help has in common is in the help of `run`.
fn help(command: &str) -> String {
    let help = tidegate(&format!("{command} -h"));
    let (own, rest) = help.split_once("\nOutput:\n").unwrap_or_else(|| panic!("{help}"));
    let (_, examples) = rest.split_once("\n\n").unwrap_or_else(|| panic!("{help}"));
    format!("{own}\n..\n{examples}")
}

#[test]
fn help_of_every_other_command() {
    assert_snapshot!(help("plan"), @r"
    exit code: 0
    ----- stdout -----
    Show which offsets the next run would read, and read none

    Usage: tidegate plan [OPTIONS] <JOB>

    Arguments:
      <JOB>  Job file (TOML)

    Options:
          --set <KEY=VALUE>  Set a key of the job file, as in `kafka.topic=articles`; goes before the
                             file and before variables
          --catalogs <FILE>  File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS, or
                             `catalogs.toml` beside the job file]
      -h, --help             Print help (see more with '--help')

    ..
    Example:
      tidegate plan jobs/articles.toml --output json
    ----- stderr -----
    ");
    assert_snapshot!(help("check"), @r"
    exit code: 0
    ----- stdout -----
    Test the job file, Kafka, the catalog and the table, and change nothing

    Usage: tidegate check [OPTIONS] <JOB>

    Arguments:
      <JOB>  Job file (TOML)

    Options:
          --set <KEY=VALUE>  Set a key of the job file, as in `kafka.topic=articles`; goes before the
                             file and before variables
          --catalogs <FILE>  File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS, or
                             `catalogs.toml` beside the job file]
          --show             Print the job as it takes effect and where each value comes from, and
                             contact nothing
      -h, --help             Print help (see more with '--help')

    ..
    Examples:
      tidegate check jobs/articles.toml
      tidegate check jobs/articles.toml --show    every setting, and where it comes from
    ----- stderr -----
    ");
    assert_snapshot!(help("init"), @r"
    exit code: 0
    ----- stdout -----
    Create the table that the job file describes; a table that exists is left alone

    Usage: tidegate init [OPTIONS] <JOB>

    Arguments:
      <JOB>  Job file (TOML)

    Options:
          --set <KEY=VALUE>  Set a key of the job file, as in `kafka.topic=articles`; goes before the
                             file and before variables
          --catalogs <FILE>  File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS, or
                             `catalogs.toml` beside the job file]
      -h, --help             Print help (see more with '--help')

    ..
    Example:
      tidegate init jobs/articles.toml
    ----- stderr -----
    ");
    assert_snapshot!(help("status"), @r"
    exit code: 0
    ----- stdout -----
    Show the job's last batch, its offsets, its watermark and how far it is behind

    Usage: tidegate status [OPTIONS] <JOB>

    Arguments:
      <JOB>  Job file (TOML)

    Options:
          --set <KEY=VALUE>  Set a key of the job file, as in `kafka.topic=articles`; goes before the
                             file and before variables
          --catalogs <FILE>  File of named catalogs, for `catalog.use` [default: $TIDEGATE_CATALOGS, or
                             `catalogs.toml` beside the job file]
      -h, --help             Print help (see more with '--help')

    ..
    Example:
      tidegate status jobs/articles.toml
    ----- stderr -----
    ");
    assert_snapshot!(help("demo"), @r"
    exit code: 0
    ----- stdout -----
    See a job at work on a Kafka and a table of its own, with nothing to set up

    Usage: tidegate demo [OPTIONS]

    Options:
          --dir <DIR>  Directory for the demo's table and job file, empty or new [default: a new one for
                       temporary files; it is kept]
      -h, --help       Print help (see more with '--help')

    ..
    Examples:
      tidegate demo
      tidegate demo --dir /tmp/tidegate-demo
    ----- stderr -----
    ");
    assert_snapshot!(help("completions"), @r"
    exit code: 0
    ----- stdout -----
    Print completions for a shell

    Usage: tidegate completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  Shell to complete in [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help  Print help (see more with '--help')

    ..
    Example:
      tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate
    ----- stderr -----
    ");
    assert_snapshot!(help("man"), @r"
    exit code: 0
    ----- stdout -----
    Print the manual page of all commands

    Usage: tidegate man [OPTIONS]

    Options:
      -h, --help  Print help (see more with '--help')

    ..
    Example:
      tidegate man | man -l -
    ----- stderr -----
    ");
}
