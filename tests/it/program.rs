//! The built program, started as a user starts it: arguments in, exit code and two texts out.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A command that takes longer hangs, and its test fails.
const PATIENCE: Duration = Duration::from_secs(240);

/// A job whose table and topic are small; each test changes a line of it.
pub(crate) const JOB: &str = r#"name = "articles"
mode = "merge"
[kafka]
topic = "tide"
"bootstrap.servers" = "${BROKER}"
[catalog]
type = "sql"
uri = "sqlite://${PWD}/catalog.db"
warehouse = "file://${PWD}/warehouse"
[table]
name = "news.articles"
columns = [
    { name = "id", type = "string", required = true },
    { name = "at", type = "timestamptz", required = true },
    { name = "title", type = "string" },
]
[merge]
id = ["id"]
event_time = "at"
"#;

/// A working directory of its own, with `job.toml` in it, and the broker that the job finds there.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    broker: String,
    environment: Vec<(String, String)>,
}

impl Place {
    /// With [`JOB`] as `job.toml`.
    pub(crate) fn new(broker: &str) -> Self {
        let place =
            Self { directory: tempfile::tempdir().unwrap(), broker: broker.to_owned(), environment: vec![] }.with("BROKER", broker);
        place.write("job.toml", JOB);
        place
    }

    /// Whose broker is a port on which nobody listens.
    pub(crate) fn without_broker() -> Self {
        Self::new("127.0.0.1:1")
    }

    /// Sets a variable for every command; they get nothing else but `PATH` and `PWD`.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        // On some systems the directory for temporary files is a link.
        self.directory.path().canonicalize().unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Writes `name` with [`JOB`], one line or part of it replaced.
    pub(crate) fn change(&self, name: &str, from: &str, to: &str) {
        assert!(JOB.contains(from), "the job file has no `{from}`");
        self.write(name, JOB.replacen(from, to, 1));
    }

    /// `tidegate` with these arguments, which hold no space of their own.
    pub(crate) fn tidegate(&self, arguments: &str) -> Answer {
        self.start(arguments).answer()
    }

    /// The same, without waiting for its end.
    pub(crate) fn start(&self, arguments: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments.split_whitespace());
        self.start_command(command)
    }

    /// Any command, in this place.
    pub(crate) fn start_command(&self, mut command: Command) -> Running {
        let program = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap().display().to_string();
        command.env_clear().current_dir(self.path());
        command.env("PATH", format!("{program}:/usr/local/bin:/usr/bin:/bin")).env("PWD", self.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running {
            child,
            stdout: read_stdout(stdout),
            stderr: read_stderr(stderr),
            names: vec![(self.path().display().to_string(), "[DIR]"), (self.broker.clone(), "[BROKER]")],
        }
    }
}

fn read_stdout(mut pipe: ChildStdout) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("stdout is text");
        text
    })
}

fn read_stderr(mut pipe: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("stderr is text");
        text
    })
}

/// A command that has not ended yet.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    names: Vec<(String, &'static str)>,
}

impl Running {
    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill: {status}");
    }

    /// Waits for the end.
    pub(crate) fn answer(mut self) -> Answer {
        let took = stopwatch();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if took() > PATIENCE => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if status.is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
        let Some(status) = status else { panic!("it did not end\n{stdout}\n{stderr}") };
        Answer { status, stdout, stderr, names: self.names }
    }
}

/// How a command ended. Shows as a whole, with what differs from run to run replaced by a name.
#[derive(Debug)]
pub(crate) struct Answer {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    names: Vec<(String, &'static str)>,
}

impl Answer {
    /// The exit code; a signal that ended the process has none.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal itself: {}\n{self}", self.status))
    }

    /// The answer, which must have this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }

    /// Stdout, which must be exactly one JSON document on one line.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.strip_suffix('\n').unwrap_or_else(|| panic!("no line on stdout\n{self}"));
        assert!(!line.contains('\n'), "more than one line on stdout\n{self}");
        serde_json::from_str(line).unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{self}"))
    }

    /// The same, indented and with names in place of what differs from run to run.
    #[track_caller]
    pub(crate) fn pretty(&self) -> String {
        let mut document = self.json();
        blur(&mut document);
        self.named(&serde_json::to_string_pretty(&document).unwrap())
    }

    /// Lines of the log: those that begin with a time.
    pub(crate) fn log(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| is_log(line)).collect()
    }

    /// Stderr without the log: what the command itself says.
    pub(crate) fn said(&self) -> String {
        self.named(&self.stderr.lines().filter(|line| !is_log(line)).flat_map(|line| [line, "\n"]).collect::<String>())
    }

    fn named(&self, text: &str) -> String {
        self.names.iter().fold(filtered(text), |text, (from, to)| text.replace(from, to))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit code: {}", self.status.code().map_or_else(|| self.status.to_string(), |code| code.to_string()))?;
        write!(f, "----- stdout -----\n{}----- stderr -----\n{}", self.named(&self.stdout), self.said())
    }
}

fn is_log(line: &str) -> bool {
    line.starts_with('{') || matched(line.as_bytes(), TIME).is_some()
}

/// `#` is a digit, `~` a hexadecimal digit, `*` any number of digits, with commas and points between them; the rest is itself.
const TIME: &str = "####-##-##T##:##:##.######Z";

/// Times of this day are the tests' own.
const EVENT_TIMES: &str = "2025-01-01T0";

/// What differs from run to run, and the name that stands for it; the last is looked for first.
const SHAPES: &[(&str, &str)] = &[
    (TIME, "[TIME]"),
    ("############*", "[SNAPSHOT]"),
    // Some end in twelve digits.
    ("~~~~~~~~-~~~~-~~~~-~~~~-~~~~~~~~~~~~", "[UUID]"),
    ("(#* ms", "([DURATION]"),
    ("(#* s", "([DURATION]"),
    (" (#* per s)", ""),
    ("(#* KiB)", "([SIZE])"),
    ("request, #* KiB)", "request, [SIZE])"),
    ("requests, #* KiB)", "requests, [SIZE])"),
];

/// Texts of which only the ends are the same in every run; an end of nothing is the end of the line.
const BETWEEN: &[(&str, &str)] = &[
    // How long librdkafka tried to connect, and how often.
    (": Connection refused (after ", ""),
    ("newest event time ", " before"),
    ("event time ", " ago"),
];

fn filtered(text: &str) -> String {
    let sha256 = "~".repeat(64);
    let shapes = SHAPES.iter().copied().chain([(sha256.as_str(), "[SHA256]")]).rev();
    let text = shapes.fold(text.to_owned(), |text, (shape, name)| replaced(&text, shape, name));
    let text = BETWEEN.iter().fold(text, |text, (start, end)| between(&text, start, end));
    text.replace(concat!("tidegate ", env!("CARGO_PKG_VERSION")), "tidegate [VERSION]")
}

fn replaced(text: &str, shape: &str, name: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let own = rest.starts_with(EVENT_TIMES);
        let length = match matched(rest.as_bytes(), shape).filter(|_| !own) {
            Some(length) => {
                result.push_str(name);
                length
            }
            None => {
                result.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    result
}

/// Length of the text that the shape matches at the start.
fn matched(text: &[u8], shape: &str) -> Option<usize> {
    let mut at = 0;
    for wanted in shape.bytes() {
        if wanted == b'*' {
            let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
            while digit(at) || matches!(text.get(at), Some(b',' | b'.')) && digit(at + 1) {
                at += 1;
            }
            continue;
        }
        let byte = text.get(at)?;
        let fits = match wanted {
            b'#' => byte.is_ascii_digit(),
            b'~' => byte.is_ascii_hexdigit(),
            _ => *byte == wanted,
        };
        if !fits {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// Replaces what stands between the two on one line by `..`.
fn between(text: &str, start: &str, end: &str) -> String {
    let line = |line: &str| {
        let found = line.split_once(start).and_then(|(before, after)| match end {
            "" => Some((before, "")),
            _ => Some((before, after.split_once(end)?.1)),
        });
        found.map_or_else(|| line.to_owned(), |(before, after)| format!("{before}{start}..{end}{after}")) + "\n"
    };
    text.lines().map(line).collect()
}

/// Names the fields of a JSON answer whose numbers differ from run to run.
fn blur(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(blur),
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "duration_ms" | "lag_seconds" | "data_bytes" | "bytes_read" | "bytes_written" | "snapshot_id"
                        if value.is_number() =>
                    {
                        *value = Value::from(format!("[{}]", name.to_uppercase()));
                    }
                    "tidegate" if *value == env!("CARGO_PKG_VERSION") => *value = Value::from("[VERSION]"),
                    _ => blur(value),
                }
            }
        }
        _ => (),
    }
}

/// A function that says how much time passed since this call.
#[expect(clippy::disallowed_methods, reason = "a test has to know whether something took too long")]
pub(crate) fn stopwatch() -> impl Fn() -> Duration {
    let started = Instant::now();
    move || started.elapsed()
}

#[test]
fn filters_leave_the_rest_as_it_is() {
    assert_eq!(replaced("a 12 b 7", "#* b", "x"), "a x 7");
    assert_eq!(filtered("0a1b2c3d-0000-4000-8000-123456789012 123456789012\n"), "[UUID] [SNAPSHOT]\n");
    assert_eq!(replaced("año 1.2 KiB)", "(#* KiB)", "x"), "año 1.2 KiB)");
    assert_eq!(replaced("12,345, b", "#*", "x"), "x, b");
    assert_eq!(replaced("at 2025-01-01T01:00:00.000000Z", TIME, "x"), "at 2025-01-01T01:00:00.000000Z");
    assert_eq!(replaced("at 2026-01-01T01:00:00.000000Z", TIME, "x"), "at x");
    assert_eq!(between("a (b 1 ms) b\nc\n", " (b ", ")"), "a (b ..) b\nc\n");
    assert_eq!(between("a (b 1 ms) b\nc\n", " (b ", ""), "a (b ..\nc\n");
    assert!(is_log("2026-11-21T02:58:29.213896Z  INFO x"));
    assert!(!is_log("error: 2026-11-21T02:58:29.213896Z"));
}
