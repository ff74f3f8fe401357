//! The edge of the program: parses arguments, reads the clock and the environment once, prints the answer, sets the exit code.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use serde::Serialize;
use tidegate::cli::{self, Cli, Command, Form, Global};
use tidegate::commands::caught::caught;
use tidegate::commands::job_file::{Sources, read_effective};
use tidegate::commands::show::Shown;
use tidegate::commands::{self, Failed};
use tidegate::config::{Config, Effective};
use tidegate::error::{Error, Result};
use tidegate::job::reset::ResetOptions;
use tidegate::job::{Run, RunOptions};
use tidegate::report::{self, Outcome, Report};
use tidegate::source::Stop;
use tidegate::terminal;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Sent when a file would pass the limit of `ulimit -f`; this number on Linux, macOS and the BSDs.
const SIGXFSZ: i32 = 25;

/// Threads that wait for files at the same time.
const FILE_THREADS: usize = 8;

/// Whether a run's answer is on its way: a signal may end the process beside it, and there is one document at most.
static ANSWERED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let bars = terminal::init(cli.global.progress, cli.global.log_format, cli.global.level());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::unavailable("start the runtime", error)),
    };
    let code = runtime.block_on(async {
        // With a listener the signal does not end the process: the write that passes the limit fails instead, with a message.
        let _listener = signal(SignalKind::from_raw(SIGXFSZ));
        dispatch(&cli, bars).await
    });
    // A thread of librdkafka or of the pool may still wait for something that no longer matters.
    runtime.shutdown_background();
    code
}

/// Where a thread is refused, tokio panics, and unwinding waits for ever for the threads that it has: so the panic ends the process.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "nothing has begun")]
fn runtime() -> std::io::Result<Runtime> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        let error = Error::without_thread("start the threads of the program", panic.payload_as_str().unwrap_or_default());
        failed(&error);
        std::process::exit(error.exit_code().into());
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(blocking_threads()).build();
    std::panic::set_hook(hook);
    runtime
}

/// Threads for what blocks. Each keeps its stack and its share of the allocator, and local files gain nothing from more of them than
/// this; columns are encoded by one for each core.
fn blocking_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) + FILE_THREADS
}

async fn dispatch(cli: &Cli, observer: terminal::Watcher) -> ExitCode {
    match &cli.command {
        Command::Run(args) => run(args, &cli.global, &observer).await,
        Command::Plan(args) => {
            let plan = async { commands::plan::planned(&read(args)?, now_ms() * 1_000).await };
            answer(&cli.global, "plan", caught(plan).await.flatten(), |planned| planned.text())
        }
        Command::Init(args) => {
            let init = async { commands::init::init(&read(args)?).await };
            answer(&cli.global, "init", caught(init).await.flatten(), |made| made.text())
        }
        Command::Status(args) => {
            let status = async { commands::status::status(&read(args)?, now_ms() * 1_000).await };
            answer(&cli.global, "status", caught(status).await.flatten(), |status| status.text())
        }
        Command::Reset(args) => {
            let reset = async { commands::reset::reset(&read(&args.job)?, &new_run(), &options(args), &observer).await };
            let reset = caught(reset).await.flatten();
            observer.finish();
            answer(&cli.global, "reset", reset, |reset| reset.text())
        }
        Command::Check(args) if args.show => {
            let show = effective(&args.job).map(|effective| Shown::of(&args.job.file.display().to_string(), &effective));
            answer(&cli.global, "check", show, Shown::text)
        }
        Command::Check(args) => {
            let check = async { Ok(commands::check::check(&read(&args.job)?, new_run().id, now_ms() * 1_000).await) };
            judge(&cli.global, "check", caught(check).await.flatten(), |checked| (checked.exit_code, checked.text()))
        }
        Command::Verify(args) => {
            let verify = async { commands::verify::verified(&read(args)?).await };
            judge(&cli.global, "verify", caught(verify).await.flatten(), |verified| (verified.exit_code, verified.text()))
        }
        Command::Clean(args) => {
            let clean = async { commands::clean::clean(&read(&args.job)?, args.older_than, args.delete, now_ms() * 1_000).await };
            answer(&cli.global, "clean", caught(clean).await.flatten(), |cleaned| cleaned.text())
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
        Command::Completions { shell } => printed(&cli::completions(*shell)),
        Command::Man => match cli::manual() {
            Ok(page) => printed(&page),
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
        Err(error) => (Report::unusable(&args.job.file.display().to_string(), &run, &error), Some(error)),
        Ok(config) => {
            #[expect(clippy::disallowed_methods, reason = "it ends the process, and ends with it")]
            tokio::spawn(end_on_signal(stop.clone(), config.clone(), run.clone(), args.clone(), global.clone()));
            let options = RunOptions { drain: args.drain, first_run: args.first_run };
            let ended = caught(commands::run::run(&config, &run, options, &stop, observer)).await;
            ended.unwrap_or_else(|panic| (commands::run::unfinished(&config, &run, &panic), Some(panic)))
        }
    };
    if ANSWERED.swap(true, Ordering::SeqCst) {
        // A signal ends the process at this moment, and has the last word.
        return std::future::pending().await;
    }
    if report.outcome == Outcome::NothingNew {
        report.exit_code = args.empty_exit_code;
    }
    observer.finish();
    // The commit stands: a report that cannot be written is a warning, never a failed run.
    report.warnings.extend(write_files(args, &report));
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    let printed = match global.output {
        Form::Json => print((report::json::line(&report) + "\n").as_bytes()),
        Form::Text if error.is_none() || !report.batches.is_empty() => {
            print(report::text::summary(&report, std::io::stdout().is_terminal()).as_bytes())
        }
        Form::Text => Ok(()),
    };
    if let Err(error) = printed {
        tracing::warn!("could not write the report to stdout: {error}");
    }
    if let Some(error) = &error {
        failed(error);
    }
    ExitCode::from(report.exit_code)
}

/// Writes the files that a run was asked for; answers what could not be written.
fn write_files(args: &cli::Run, report: &Report) -> Vec<String> {
    let files = [
        (&args.result_file, report::result::write_result_file as fn(&Path, &Report) -> std::io::Result<()>),
        (&args.metrics_file, report::metrics::write_metrics_file),
    ];
    let mut warnings = Vec::new();
    for (path, write) in files {
        let Some(path) = path else { continue };
        if let Err(error) = write(path, report) {
            warnings.push(format!("could not write `{}`: {error}", path.display()));
        }
    }
    warnings
}

/// Prints a command's answer in the form asked for. An error stands on stderr, and in JSON on stdout too: one document, always.
fn answer<T: Serialize>(global: &Global, command: &'static str, result: Result<T>, text: impl Fn(&T) -> String) -> ExitCode {
    match (result, global.output) {
        (Ok(value), Form::Text) => printed(text(&value).as_bytes()),
        (Ok(value), Form::Json) => printed_json(&value),
        (Err(error), Form::Text) => failed(&error),
        (Err(error), Form::Json) => {
            printed_json(&Failed::of(command, &error));
            failed(&error)
        }
    }
}

/// The same for a command whose answer has an exit code of its own.
fn judge<T: Serialize>(global: &Global, command: &'static str, result: Result<T>, told: impl Fn(&T) -> (u8, String)) -> ExitCode {
    let code = result.as_ref().map_or_else(Error::exit_code, |value| told(value).0);
    match answer(global, command, result, |value| told(value).1) {
        ExitCode::SUCCESS => ExitCode::from(code),
        failed => failed,
    }
}

fn printed_json(value: &impl Serialize) -> ExitCode {
    let json = serde_json::to_string(value).expect("answers are maps of strings and numbers");
    printed((json + "\n").as_bytes())
}

/// Prints what a command was asked for: a script that gets half of it must not take it for the whole.
fn printed(bytes: &[u8]) -> ExitCode {
    match print(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&Error::unavailable("write the answer to stdout", error)),
    }
}

fn failed(error: &Error) -> ExitCode {
    let text = report::text::error(error, std::io::stderr().is_terminal());
    // Nowhere is left to tell that stderr is closed.
    let _closed = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(error.exit_code())
}

fn print(bytes: &[u8]) -> std::io::Result<()> {
    match std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()) {
        // The reader has seen enough, as in `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn read(job: &cli::Job) -> Result<Config> {
    effective(job).map(|effective| effective.config)
}

/// The job as it takes effect: its file, its catalogs file, the environment and `--set`.
fn effective(job: &cli::Job) -> Result<Effective> {
    let text = |value: OsString| value.into_string().ok();
    let sources = Sources {
        file: job.file.clone(),
        catalogs: job
            .catalogs
            .clone()
            .or_else(|| environment("TIDEGATE_CATALOGS").filter(|file| !file.is_empty()).map(PathBuf::from)),
        sets: job.sets.clone(),
        variables: std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), text(value))).collect(),
    };
    read_effective(&sources, &environment)
}

/// The environment, and in `PWD` always the working directory: job files name the warehouse by it, not every starter sets it, and
/// one that only changes the directory hands on where it came from.
#[expect(clippy::disallowed_methods, reason = "the edge reads the environment")]
fn environment(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name);
    if name == "PWD" {
        // As in a shell, its own way to the directory counts, links and all.
        return value.filter(|path| is_here(Path::new(path))).or_else(|| Some(std::env::current_dir().ok()?.into()));
    }
    value
}

fn is_here(path: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    path.is_absolute() && place(path).is_some_and(|there| place(Path::new(".")) == Some(there))
}

#[expect(clippy::disallowed_methods, reason = "the edge reads the clock and draws the run's name")]
fn new_run() -> Run {
    Run { id: uuid::Uuid::new_v4(), started_at: chrono::Utc::now().timestamp_micros(), now_ms }
}

#[expect(clippy::disallowed_methods, reason = "the edge reads the clock")]
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The first SIGINT or SIGTERM asks the run to end; a second one, or `shutdown_grace` without an end, ends the process, with a
/// report of its own where one was asked for.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "a second signal ends at once")]
async fn end_on_signal(stop: Stop, config: Config, run: Run, args: cli::Run, global: Global) {
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
        () = tokio::time::sleep(config.limits.shutdown_grace) => first,
    };
    if !ANSWERED.swap(true, Ordering::SeqCst) {
        let error = Error::CutShort { signal: i32::from(number) };
        let report = commands::run::unfinished(&config, &run, &error);
        // Nowhere is left to tell that these failed.
        let _unwritten = write_files(&args, &report);
        if global.output == Form::Json {
            let _printed = print((report::json::line(&report) + "\n").as_bytes());
        }
        failed(&error);
    }
    std::process::exit(128 + i32::from(number));
}
