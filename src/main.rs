//! The edge of the program: parses arguments, reads the clock and the environment once, prints the answer, sets the exit code.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use tidegate::cli::{self, Cli, Command, Form, Global};
use tidegate::commands::{self, Failed};
use tidegate::config::Config;
use tidegate::error::{Error, Result};
use tidegate::job::reset::ResetOptions;
use tidegate::job::{Run, RunOptions};
use tidegate::report::{self, Outcome, Report};
use tidegate::source::Stop;
use tidegate::terminal;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let bars = terminal::init(cli.global.progress, cli.global.log_format, cli.global.level());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::unavailable("start the runtime", error)),
    };
    let code = runtime.block_on(dispatch(&cli, bars));
    // A thread of librdkafka or of the pool may still wait for something that no longer matters.
    runtime.shutdown_background();
    code
}

async fn dispatch(cli: &Cli, observer: terminal::Watcher) -> ExitCode {
    match &cli.command {
        Command::Run(args) => run(args, &cli.global, &observer).await,
        Command::Plan(args) => answer(
            &cli.global,
            "plan",
            async { commands::plan::planned(&read(&args.job)?, now_ms() * 1_000).await }.await,
            |planned| planned.text(),
        ),
        Command::Init(args) => {
            answer(&cli.global, "init", async { commands::init::init(&read(&args.job)?).await }.await, |made| made.text())
        }
        Command::Status(args) => answer(
            &cli.global,
            "status",
            async { commands::status::status(&read(&args.job)?, now_ms() * 1_000).await }.await,
            |status| status.text(),
        ),
        Command::Reset(args) => {
            let reset = async { commands::reset::reset(&read(&args.job)?, &new_run(), &options(args), &observer).await }.await;
            observer.finish();
            answer(&cli.global, "reset", reset, |reset| reset.text())
        }
        Command::Check(args) => {
            let checked = async { Ok(commands::check::check(&read(&args.job)?, now_ms() * 1_000).await) }.await;
            let code = checked.as_ref().map_or_else(Error::exit_code, |checked| checked.exit_code);
            answer(&cli.global, "check", checked, |checked| checked.text());
            ExitCode::from(code)
        }
        Command::Verify(args) => {
            let verified = async { commands::verify::verified(&read(&args.job)?).await }.await;
            let code = verified.as_ref().map_or_else(Error::exit_code, |verified| verified.exit_code);
            answer(&cli.global, "verify", verified, |verified| verified.text());
            ExitCode::from(code)
        }
        Command::Clean(args) => {
            let clean = async { commands::clean::clean(&read(&args.job)?, args.older_than, args.delete, now_ms() * 1_000).await };
            answer(&cli.global, "clean", clean.await, |cleaned| cleaned.text())
        }
        Command::Demo(args) => {
            // Its runs are other processes; a progress line of this one would only stand in the story's way.
            observer.finish();
            let colour = std::io::stdout().is_terminal() && environment("NO_COLOR").is_none_or(|value| value.is_empty());
            match tidegate::demo::demo(args.dir.as_deref(), &mut std::io::stdout(), colour, &new_run()).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error),
            }
        }
        Command::Completions { shell } => print(&cli::completions(*shell)),
        Command::Man => match cli::manual() {
            Ok(page) => print(&page),
            Err(error) => failed(&Error::unavailable("make the manual page", error)),
        },
    }
}

fn options(args: &cli::Reset) -> ResetOptions {
    ResetOptions { to: args.to.clone(), watermark: args.watermark, allow_duplicates: args.allow_duplicates, execute: args.execute }
}

async fn run(args: &cli::Run, global: &Global, observer: &terminal::Watcher) -> ExitCode {
    let run = new_run();
    let stop = Stop::default();
    let (mut report, error) = match read(&args.job) {
        Err(error) => (Report::unusable(&args.job.display().to_string(), &run, &error), Some(error)),
        Ok(config) => {
            #[expect(clippy::disallowed_methods, reason = "it ends the process, and ends with it")]
            tokio::spawn(end_on_signal(stop.clone(), config.limits.shutdown_grace));
            let options = RunOptions { drain: args.drain, first_run: args.first_run };
            commands::run::run(&config, &run, options, &stop, observer).await
        }
    };
    if report.outcome == Outcome::NothingNew {
        report.exit_code = args.empty_exit_code;
    }
    observer.finish();
    for (path, write) in [
        (&args.result_file, report::result::write_result_file as fn(&Path, &Report) -> std::io::Result<()>),
        (&args.metrics_file, report::metrics::write_metrics_file),
    ] {
        let Some(path) = path else { continue };
        // The commit stands: a report that cannot be written is a warning, never a failed run.
        if let Err(error) = write(path, &report) {
            report.warnings.push(format!("could not write `{}`: {error}", path.display()));
        }
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    match global.output {
        Form::Json => print((report::json::line(&report) + "\n").as_bytes()),
        Form::Text if error.is_none() || !report.batches.is_empty() => {
            print(report::text::summary(&report, std::io::stdout().is_terminal()).as_bytes())
        }
        Form::Text => ExitCode::SUCCESS,
    };
    if let Some(error) = &error {
        failed(error);
    }
    ExitCode::from(report.exit_code)
}

/// Prints a command's answer in the form asked for. An error stands on stderr, and in JSON on stdout too: one document, always.
fn answer<T: Serialize>(global: &Global, command: &'static str, result: Result<T>, text: impl Fn(&T) -> String) -> ExitCode {
    match (result, global.output) {
        (Ok(value), Form::Text) => print(text(&value).as_bytes()),
        (Ok(value), Form::Json) => print_json(&value),
        (Err(error), Form::Text) => failed(&error),
        (Err(error), Form::Json) => {
            print_json(&Failed::of(command, &error));
            failed(&error)
        }
    }
}

fn print_json(value: &impl Serialize) -> ExitCode {
    let json = serde_json::to_string(value).expect("answers are maps of strings and numbers");
    print((json + "\n").as_bytes())
}

fn failed(error: &Error) -> ExitCode {
    let text = report::text::error(error, std::io::stderr().is_terminal());
    // Nowhere is left to tell that stderr is closed.
    let _closed = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(error.exit_code())
}

fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()) {
        // The reader has seen enough, as in `| head`.
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn read(path: &Path) -> Result<Config> {
    commands::read_job(path, &environment)
}

#[expect(clippy::disallowed_methods, reason = "the edge reads the environment")]
fn environment(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) => Some(value),
        // Not every starter sets it, and job files name the warehouse by it.
        Err(_) if name == "PWD" => std::env::current_dir().ok()?.to_str().map(str::to_owned),
        Err(_) => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge reads the clock and draws the run's name")]
fn new_run() -> Run {
    Run { id: uuid::Uuid::new_v4(), started_at: chrono::Utc::now().timestamp_micros(), now_ms }
}

#[expect(clippy::disallowed_methods, reason = "the edge reads the clock")]
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The first SIGINT or SIGTERM asks the run to end; a second one, or `grace` without an end, ends the process.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "a second signal ends at once")]
async fn end_on_signal(stop: Stop, grace: Duration) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        tracing::warn!("cannot listen for signals: one will end the run at once");
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => 2_u8,
            _ = terminate.recv() => 15_u8,
        }
    };
    let first = next().await;
    tracing::info!(signal = first, "ending: what was read is committed; a second signal ends at once");
    stop.request(first);
    let number = tokio::select! {
        second = next() => second,
        () = tokio::time::sleep(grace) => first,
    };
    std::process::exit(128 + i32::from(number));
}
