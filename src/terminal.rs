//! What a person watches while a run works: a progress line on a terminal, and log lines on stderr.
//!
//! An edge: the only room besides `main.rs` that writes to stderr. Never writes to stdout (that is the report's) and never changes
//! what a run does. Log lines go through the same door as the progress line, so that neither tears the other.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, debug, info};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::{Error, Result};
use crate::observe::{Observer, Phase};
use crate::report::human;

/// Target of the run's own events, for filters.
const RUN: &str = "tidegate::run";
/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// When to show the progress line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowProgress {
    /// When stderr is a terminal.
    Auto,
    /// Never.
    Never,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How to log.
#[derive(Debug, Clone, Copy)]
pub struct Logging<'a> {
    /// Form of the lines.
    pub format: LogFormat,
    /// What is logged of tidegate itself; of its libraries only warnings and errors.
    pub level: LevelFilter,
    /// Value of `TIDEGATE_LOG`: filter directives that take the place of `level`.
    pub directives: Option<&'a str>,
    /// Whether to colour text lines.
    pub colour: bool,
}

/// The one way to stderr. Clones share it.
#[derive(Debug, Clone)]
pub struct Screen {
    line: Option<MultiProgress>,
}

impl Screen {
    /// With room for a progress line where one is wanted and `stderr_is_terminal`.
    pub fn new(progress: ShowProgress, stderr_is_terminal: bool) -> Self {
        let wanted = progress == ShowProgress::Auto && stderr_is_terminal;
        // It also hides itself on a dumb terminal, and what is hidden would swallow the log lines.
        Self { line: wanted.then(MultiProgress::new).filter(|line| !line.is_hidden()) }
    }
}

impl Write for Screen {
    /// Takes whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match &self.line {
            Some(line) => line.println(String::from_utf8_lossy(lines).trim_end_matches('\n'))?,
            None => io::stderr().lock().write_all(lines)?,
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sends log lines, those of librdkafka included, to the screen from now on.
pub fn init_logging(logging: &Logging<'_>, screen: &Screen) -> Result<()> {
    let layers = layers(logging, screen)?;
    let started = tracing_subscriber::registry().with(layers).try_init();
    started.map_err(|e| Error::broken(format!("logging was started twice: {e}")))
}

fn layers<S>(logging: &Logging<'_>, screen: &Screen) -> Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = filter(logging)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(screen.clone());
    Ok(match logging.format {
        LogFormat::Text => lines.with_ansi(logging.colour).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    })
}

fn filter(logging: &Logging<'_>) -> Result<EnvFilter> {
    let directives = match logging.directives.filter(|directives| !directives.trim().is_empty()) {
        // librdkafka says at `info` what it says to nobody in particular; who wants that has to name it.
        Some(own) if !own.contains("librdkafka") => format!("librdkafka=warn,{own}"),
        Some(own) => own.to_owned(),
        None => format!("{},tidegate={}", logging.level.min(LevelFilter::WARN), logging.level),
    };
    EnvFilter::try_new(directives)
        .map_err(|e| Error::setup(format!("`TIDEGATE_LOG` is not a log filter: {e}"), "write it as in `info` or `warn,tidegate=debug`"))
}

/// Shows the phase and how far the batch is, on one line that is gone when the run ends.
#[derive(Debug)]
pub struct Bars {
    line: ProgressBar,
    bytes: Arc<AtomicU64>,
}

impl Bars {
    /// None where the screen has no progress line.
    pub fn new(screen: &Screen) -> Option<Self> {
        let line = screen.line.as_ref()?.add(ProgressBar::new(0));
        line.set_style(waiting());
        line.enable_steady_tick(TICK);
        Some(Self { line, bytes: Arc::default() })
    }

    fn pulling(&self) -> ProgressStyle {
        let bytes = Arc::clone(&self.bytes);
        let template = "{spinner:.cyan} {prefix:7} {wide_bar:.cyan/dim} {human_pos}/{human_len}, {records_rate}, {bytes_rate}, {eta} left";
        ProgressStyle::with_template(template)
            .expect("the template is a constant")
            .progress_chars("━╸─")
            // What cannot be shown is not shown: there is nobody to tell.
            .with_key("records_rate", |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                to.write_fmt(format_args!("{}/s", human::thousands(format_args!("{:.0}", state.per_sec())))).ok();
            })
            .with_key("bytes_rate", move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let rate = per_second(bytes.load(Ordering::Relaxed), state.elapsed());
                to.write_fmt(format_args!("{}/s", human::bytes(rate))).ok();
            })
    }
}

fn waiting() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {prefix:7} {elapsed}").expect("the template is a constant")
}

fn per_second(amount: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(amount) * 1_000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
}

impl Observer for Bars {
    fn phase(&self, phase: Phase) {
        match phase {
            Phase::Done => return self.line.finish_and_clear(),
            Phase::Pull | Phase::Flush => self.line.set_style(self.pulling()),
            Phase::Plan | Phase::Match | Phase::Write | Phase::Commit | Phase::Rejects => self.line.set_style(waiting()),
        }
        self.line.set_prefix(phase.name());
    }

    fn planned(&self, offsets: u64) {
        self.bytes.store(0, Ordering::Relaxed);
        self.line.set_length(offsets);
        self.line.reset();
    }

    fn read(&self, records: u64, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.line.set_position(records);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

/// Logs each phase at `info` and each chunk at `debug`.
#[derive(Debug)]
pub struct Logs;

impl Observer for Logs {
    fn phase(&self, phase: Phase) {
        info!(target: RUN, phase = phase.name(), "phase");
    }

    fn planned(&self, offsets: u64) {
        info!(target: RUN, phase = Phase::Plan.name(), offsets, "batch planned");
    }

    fn read(&self, records: u64, bytes: u64) {
        debug!(target: RUN, phase = Phase::Pull.name(), records, bytes, "records read");
    }
}

/// Logs, and the progress line where there is one.
#[derive(Debug)]
pub struct Watch {
    bars: Option<Bars>,
}

impl Watch {
    /// Watches on this screen until it is dropped; print nothing past the screen before that.
    pub fn new(screen: &Screen) -> Self {
        Self { bars: Bars::new(screen) }
    }
}

impl Observer for Watch {
    fn phase(&self, phase: Phase) {
        Logs.phase(phase);
        self.bars.iter().for_each(|bars| bars.phase(phase));
    }

    fn planned(&self, offsets: u64) {
        Logs.planned(offsets);
        self.bars.iter().for_each(|bars| bars.planned(offsets));
    }

    fn read(&self, records: u64, bytes: u64) {
        Logs.read(records, bytes);
        self.bars.iter().for_each(|bars| bars.read(records, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::sync::Mutex;
    use tracing::subscriber::with_default;

    /// A terminal of lines: enough of one to see whether anything was torn.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<(Vec<String>, usize)>>);

    impl Paper {
        fn lines(&self) -> Vec<String> {
            let (lines, _) = &*self.0.lock().unwrap();
            lines.iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
        }

        fn edit(&self, edit: impl FnOnce(&mut Vec<String>, &mut usize)) -> io::Result<()> {
            let (lines, row) = &mut *self.0.lock().unwrap();
            edit(lines, row);
            lines.resize(lines.len().max(*row + 1), String::new());
            Ok(())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.edit(|_, row| *row -= n)
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.edit(|_, row| *row += n)
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.edit(|_, row| *row += 1)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.edit(|lines, row| {
                lines.resize(lines.len().max(*row + 1), String::new());
                lines[*row].push_str(text);
            })
        }
        fn clear_line(&self) -> io::Result<()> {
            self.edit(|lines, row| lines[*row].clear())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn screen(paper: &Paper) -> Screen {
        Screen { line: Some(MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(paper.clone())))) }
    }

    fn logging(level: LevelFilter, directives: Option<&str>) -> Logging<'_> {
        Logging { format: LogFormat::Text, level, directives, colour: false }
    }

    fn logged(logging: &Logging<'_>, work: impl FnOnce(&Screen)) -> Vec<String> {
        let paper = Paper::default();
        let screen = screen(&paper);
        with_default(tracing_subscriber::registry().with(layers(logging, &screen).unwrap()), || work(&screen));
        paper.lines()
    }

    #[test]
    fn a_progress_line_and_log_lines_do_not_tear_each_other() {
        let paper = Paper::default();
        let screen = screen(&paper);
        let watch = Watch::new(&screen);
        with_default(tracing_subscriber::registry().with(layers(&logging(LevelFilter::DEBUG, None), &screen).unwrap()), || {
            watch.planned(2_000_000);
            watch.phase(Phase::Pull);
            for n in 1..=100 {
                watch.read(n * 10_000, n * 1_000_000);
            }
            let shown = paper.lines();
            let (line, logs) = shown.split_last().unwrap();
            assert!(line.contains("pull") && line.contains("1,000,000/2,000,000") && line.contains("B/s"), "{line}");
            assert_eq!(logs.len(), 102, "{logs:#?}");
            assert!(logs.iter().all(|log| log.contains(" tidegate::run: ")), "{logs:#?}");
            watch.phase(Phase::Done);
        });
        let shown = paper.lines();
        assert_eq!(shown.len(), 103, "the progress line is gone, the logs stay: {shown:#?}");
        assert!(shown[102].ends_with("phase phase=\"done\""), "{}", shown[102]);
    }

    #[test]
    fn the_progress_line_is_gone_after_an_error() {
        let paper = Paper::default();
        let bars = Bars::new(&screen(&paper)).unwrap();
        bars.planned(10);
        bars.phase(Phase::Commit);
        bars.line.force_draw();
        assert!(paper.lines()[0].contains("commit"), "{:?}", paper.lines());
        drop(bars);
        assert!(paper.lines().is_empty());
    }

    #[test]
    fn every_batch_starts_from_zero() {
        let bars = Bars::new(&screen(&Paper::default())).unwrap();
        bars.planned(10);
        bars.read(10, 5);
        bars.phase(Phase::Done);
        bars.planned(20);
        assert_eq!((bars.line.position(), bars.line.length(), bars.line.is_finished()), (0, Some(20), false));
        assert_eq!(bars.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_a_terminal_there_is_no_line() {
        assert!(Bars::new(&Screen::new(ShowProgress::Auto, false)).is_none());
        assert!(Bars::new(&Screen::new(ShowProgress::Never, true)).is_none());
    }

    fn chatter(_: &Screen) {
        for target in ["tidegate", "librdkafka", "other"] {
            match target {
                "tidegate" => info!(target: "tidegate::run", "from {target}"),
                "librdkafka" => info!(target: "librdkafka", "from {target}"),
                _ => info!(target: "other", "from {target}"),
            }
        }
        tracing::warn!(target: "librdkafka", "warning");
        debug!(target: "tidegate::run", "detail");
    }

    #[test]
    fn libraries_speak_only_in_warnings_unless_asked() {
        let heard = |logging: &Logging<'_>| {
            let lines = logged(logging, chatter);
            lines.iter().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(heard(&logging(LevelFilter::INFO, None)), ["from tidegate", "warning"]);
        assert_eq!(heard(&logging(LevelFilter::ERROR, None)), [""; 0]);
        assert_eq!(heard(&logging(LevelFilter::INFO, Some(" "))), ["from tidegate", "warning"]);
        assert_eq!(heard(&logging(LevelFilter::ERROR, Some("debug"))), ["from tidegate", "from other", "warning", "detail"]);
        assert_eq!(heard(&logging(LevelFilter::ERROR, Some("librdkafka=info"))), ["from librdkafka", "warning"]);
    }

    #[test]
    fn a_bad_filter_is_refused() {
        let error = filter(&logging(LevelFilter::INFO, Some("tidegate=loud"))).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().starts_with("`TIDEGATE_LOG` is not a log filter"), "{error}");
    }

    #[test]
    fn json_lines_hold_the_fields() {
        let logging = Logging { format: LogFormat::Json, ..logging(LevelFilter::INFO, None) };
        let lines = logged(&logging, |_| Logs.planned(7));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&line["phase"], &line["offsets"], &line["level"]), (&"plan".into(), &7.into(), &"INFO".into()));
    }

    #[test]
    fn rates_do_not_overflow() {
        assert_eq!(per_second(3_000, Duration::from_millis(1_500)), 2_000);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
