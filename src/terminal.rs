//! What a person watches while a run works: a progress line on a terminal, and log lines on stderr.
//!
//! An edge: the only room besides `main.rs` that writes to stderr. Never writes to stdout (that is the report's) and never changes
//! what a run does. Log lines go through the same door as the progress line, so that neither tears the other.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tracing::{Subscriber, debug, info, warn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::{Form, LogLevel, Progress};
use crate::observe::{Observer, Phase};
use crate::report::human;

/// Target of the run's own events, for filters.
const RUN: &str = "tidegate::run";
/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Starts logging and the progress line of a run. Call it once, before anything is logged.
pub fn init(progress: Progress, format: Form, level: LogLevel) -> Watcher {
    #[expect(clippy::disallowed_methods, reason = "the edge reads the environment")]
    let directives = std::env::var("TIDEGATE_LOG").ok();
    let is_terminal = io::stderr().is_terminal();
    let screen = Screen::new(progress, is_terminal);
    let (filter, mistake) = filter(level, directives.as_deref());
    // A second call would be a mistake of ours, but none that a run should end for.
    logs(format, is_terminal, filter, &screen).try_init().ok();
    if let Some(mistake) = mistake {
        warn!("`TIDEGATE_LOG` is not a log filter and has no effect: {mistake}");
    }
    Watcher { bars: Bars::new(&screen) }
}

/// The one way to stderr. Clones share it.
#[derive(Debug, Clone)]
struct Screen {
    line: Option<MultiProgress>,
    print: fn(&[u8]) -> io::Result<()>,
}

impl Screen {
    /// With room for a progress line where one is wanted and can be shown.
    fn new(progress: Progress, is_terminal: bool) -> Self {
        let wanted = progress == Progress::Auto && is_terminal;
        // indicatif also knows terminals that cannot move a cursor.
        Self { line: wanted.then(MultiProgress::new).filter(|line| !line.is_hidden()), print: |text| io::stderr().write_all(text) }
    }
}

impl Write for Screen {
    /// Takes whole lines, and never fails: a terminal that went away must not end a run.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let print = self.print;
        let printed = match &self.line {
            // `suspend` panics where the terminal is gone, so that is asked first.
            Some(line) if print(&[]).is_ok() => line.suspend(|| print(lines)),
            _ => print(lines),
        };
        printed.ok();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Log lines on the screen, those of librdkafka included.
///
/// The filter is one for all and not the lines' own: asked through the `log` crate whether a line is wanted, as librdkafka's
/// wrapper does, a filter of a layer forgets the answer only with the next event, which is then lost.
fn logs(format: Form, colour: bool, filter: EnvFilter, screen: &Screen) -> impl Subscriber + Send + Sync + use<> {
    let lines = tracing_subscriber::fmt::layer().with_writer(screen.clone());
    let lines = match format {
        Form::Text => lines.with_ansi(colour).boxed(),
        Form::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines)
}

/// What is logged: of tidegate itself from `level` on, of its libraries only warnings and errors; or what `directives` say. Where
/// those are no filter, what is wrong with them: a slip in a variable must not end a run.
fn filter(level: LogLevel, directives: Option<&str>) -> (EnvFilter, Option<String>) {
    let own = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let libraries = if level == LogLevel::Error { "error" } else { "warn" };
    let usual = || EnvFilter::new(format!("{libraries},tidegate={own}"));
    let Some(directives) = directives.filter(|directives| !directives.trim().is_empty()) else {
        return (usual(), None);
    };
    // librdkafka says at `info` what few want to know; who does has to name it.
    let quiet = if directives.contains("librdkafka") { "" } else { "librdkafka=warn," };
    match EnvFilter::try_new(format!("{quiet}{directives}")) {
        Ok(filter) => (filter, None),
        Err(error) => (usual(), Some(error.to_string())),
    }
}

/// Shows the phase and how far the batch is, on one line that is gone when the run ends.
#[derive(Debug)]
struct Bars {
    line: ProgressBar,
    bytes: Arc<AtomicU64>,
}

impl Bars {
    /// None where the screen has no progress line.
    fn new(screen: &Screen) -> Option<Self> {
        let line = screen.line.as_ref()?.add(ProgressBar::new(0));
        line.set_style(waiting());
        line.set_prefix(Phase::Plan.name());
        line.enable_steady_tick(TICK);
        Some(Self { line, bytes: Arc::default() })
    }

    fn pulling(&self) -> ProgressStyle {
        let bytes = Arc::clone(&self.bytes);
        let template =
            "{spinner:.cyan} {prefix:7} {wide_bar:.cyan/dim} {human_pos}/{human_len}, {records_rate}, {bytes_rate}, {eta} left";
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
struct Logs;

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

/// Watches a run: logs it, and shows the progress line where there is one.
#[derive(Debug)]
pub struct Watcher {
    bars: Option<Bars>,
}

impl Watcher {
    /// Takes the progress line away, so that something else can be printed.
    pub fn finish(&self) {
        self.bars.iter().for_each(|bars| bars.line.finish_and_clear());
    }
}

impl Observer for Watcher {
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

    thread_local! {
        static PAPER: Paper = Paper::default();
    }

    impl Paper {
        fn lines(&self) -> Vec<String> {
            let (lines, _) = &*self.0.lock().unwrap();
            lines.iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
        }

        fn edit(&self, edit: impl FnOnce(&mut Vec<String>, &mut usize)) -> io::Result<()> {
            let (lines, row) = &mut *self.0.lock().unwrap();
            lines.resize(lines.len().max(*row + 1), String::new());
            edit(lines, row);
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
            self.edit(|lines, row| lines[*row].push_str(text))
        }
        fn clear_line(&self) -> io::Result<()> {
            self.edit(|lines, row| lines[*row].clear())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A screen on this test's paper.
    fn screen() -> (Screen, Paper) {
        let paper = PAPER.with(Paper::clone);
        let line = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(paper.clone())));
        let print = |text: &[u8]| {
            let text = str::from_utf8(text).unwrap();
            let on_paper = |line: &str| PAPER.with(|paper| paper.write_line(line));
            text.split_terminator('\n').try_for_each(on_paper)
        };
        (Screen { line: Some(line), print }, paper)
    }

    /// Runs `work` with its log on the screen.
    fn logging(level: LogLevel, directives: Option<&str>, screen: &Screen, work: impl FnOnce()) {
        let (filter, _) = filter(level, directives);
        with_default(logs(Form::Text, false, filter, screen), work);
    }

    #[test]
    fn a_progress_line_and_log_lines_do_not_tear_each_other() {
        let (screen, paper) = screen();
        let watch = Watcher { bars: Bars::new(&screen) };
        // From the time it begins with to the end, with nothing of the progress line before or after.
        let is_log = |line: &str| line.starts_with("20") && line.contains(" tidegate::run: ") && !line.contains(" left");
        logging(LogLevel::Debug, None, &screen, || {
            watch.planned(2_000_000);
            watch.phase(Phase::Pull);
            for n in 1..=100 {
                watch.read(n * 10_000, n * 1_000_000);
            }
            watch.bars.as_ref().unwrap().line.force_draw();
            let shown = paper.lines();
            let (line, logs) = shown.split_last().unwrap();
            assert!(line.contains("pull") && line.contains("1,000,000/2,000,000") && line.contains("B/s"), "{line}");
            assert_eq!(logs.len(), 102, "{logs:#?}");
            assert!(logs.iter().all(|log| is_log(log)), "{logs:#?}");
            watch.phase(Phase::Done);
        });
        let shown = paper.lines();
        assert_eq!(shown.len(), 103, "the progress line is gone, the logs stay: {shown:#?}");
        assert!(shown.iter().all(|line| is_log(line)) && shown[102].ends_with("phase phase=\"done\""), "{shown:#?}");
    }

    #[test]
    fn the_progress_line_is_gone_after_an_error() {
        let (screen, paper) = screen();
        let bars = Bars::new(&screen).unwrap();
        bars.planned(10);
        bars.phase(Phase::Commit);
        bars.line.force_draw();
        assert!(paper.lines()[0].contains("commit"), "{:?}", paper.lines());
        drop(bars);
        assert!(paper.lines().is_empty());
    }

    #[test]
    fn a_terminal_that_went_away_does_not_end_the_run() {
        let (mut screen, _) = screen();
        let bars = Bars::new(&screen).unwrap();
        screen.print = |_| Err(io::ErrorKind::BrokenPipe.into());
        logging(LogLevel::Info, None, &screen, || {
            Logs.phase(Phase::Plan);
            bars.phase(Phase::Plan);
        });
    }

    #[test]
    fn every_batch_starts_from_zero() {
        let bars = Bars::new(&screen().0).unwrap();
        bars.planned(10);
        bars.read(10, 5);
        bars.phase(Phase::Done);
        bars.planned(20);
        assert_eq!((bars.line.position(), bars.line.length(), bars.line.is_finished()), (0, Some(20), false));
        assert_eq!(bars.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_a_terminal_there_is_no_line() {
        assert!(Bars::new(&Screen::new(Progress::Auto, false)).is_none());
        assert!(Bars::new(&Screen::new(Progress::Never, true)).is_none());
    }

    fn chatter() {
        info!(target: RUN, "from tidegate");
        info!(target: "librdkafka", "from librdkafka");
        info!(target: "other", "from other");
        tracing::warn!(target: "librdkafka", "warning");
        debug!(target: RUN, "detail");
    }

    #[test]
    fn libraries_speak_only_in_warnings_unless_asked() {
        let heard = |level, directives| {
            let (screen, paper) = screen();
            let before = paper.lines().len();
            logging(level, directives, &screen, chatter);
            let lines = paper.lines().split_off(before);
            lines.iter().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(heard(LogLevel::Info, None), ["from tidegate", "warning"]);
        assert_eq!(heard(LogLevel::Error, None), [""; 0]);
        assert_eq!(heard(LogLevel::Info, Some(" ")), ["from tidegate", "warning"]);
        assert_eq!(heard(LogLevel::Error, Some("debug")), ["from tidegate", "from other", "warning", "detail"]);
        assert_eq!(heard(LogLevel::Error, Some("librdkafka=info")), ["from librdkafka", "warning"]);
        assert_eq!(heard(LogLevel::Info, Some("tidegate=loud")), ["from tidegate", "warning"], "a slip has no effect");
    }

    #[test]
    fn no_line_is_lost_after_a_library_asked_whether_its_own_is_wanted() {
        let (screen, paper) = screen();
        let unwanted = with_default(tracing_subscriber::registry(), || tracing::info_span!(target: "librdkafka", "x").metadata());
        logging(LogLevel::Info, None, &screen, || {
            // What `log::log_enabled!` comes down to.
            assert!(!tracing::dispatcher::get_default(|log| log.enabled(unwanted.unwrap())));
            Logs.phase(Phase::Plan);
        });
        assert_eq!(paper.lines().len(), 1, "{:?}", paper.lines());
    }

    #[test]
    fn a_slip_in_the_filter_is_told() {
        assert!(filter(LogLevel::Info, Some("tidegate=loud")).1.is_some());
        assert_eq!(filter(LogLevel::Info, Some("tidegate=debug")).1, None);
    }

    #[test]
    fn json_lines_hold_the_fields() {
        let (screen, paper) = screen();
        let (filter, _) = filter(LogLevel::Info, None);
        with_default(logs(Form::Json, false, filter, &screen), || Logs.planned(7));
        let line: serde_json::Value = serde_json::from_str(&paper.lines()[0]).unwrap();
        assert_eq!((&line["phase"], &line["offsets"], &line["level"]), (&"plan".into(), &7.into(), &"INFO".into()));
    }

    #[test]
    fn rates_do_not_overflow() {
        assert_eq!(per_second(3_000, Duration::from_millis(1_500)), 2_000);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
