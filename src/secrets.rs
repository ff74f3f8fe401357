//! Secrets of a job file that stand elsewhere: in a variable, in a file, or in what a program prints.
//!
//! Read at the edge, when a client is made that needs them, and kept by that client alone. Never shows one: errors name the key and
//! the place, debug forms nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{COMMAND, ENV, FILE, PLAIN};
use crate::error::{Error, Result};

/// A file of certificates has a quarter of it; a device that never ends must not fill the memory.
const BYTES_MAX: u64 = 1 << 20;
/// Programs of cloud providers take a few seconds.
const COMMAND_MAX: Duration = Duration::from_secs(30);
/// How long the pipes of a program that ended may stay open.
const PIPE_MAX: Duration = Duration::from_secs(1);
/// How soon the end of a program is noticed.
const LOOK: Duration = Duration::from_millis(5);
/// Of what a program says on stderr the end goes into the message: causes come last.
const WORDS_MAX: usize = 1000;

/// The value of one key, as the job file has it: what it stands for is read when it is asked for.
#[derive(Clone)]
pub(crate) struct Secret {
    key: String,
    text: String,
}

/// The properties with everything read that is kept elsewhere. `takes` says of a name whether its value may be.
///
/// Fails with 78 for a variable, a file or a program that does not exist, 77 for one that may not be read or refuses, 75 for a
/// program that takes too long.
pub(crate) fn resolved(
    section: &str,
    properties: &BTreeMap<String, String>,
    takes: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>> {
    let read = |(name, value): (&String, &String)| {
        let value = match takes(name) {
            true => Secret::new(format!("{section}.\"{name}\""), value).read()?,
            false => value.clone(),
        };
        Ok((name.clone(), value))
    };
    properties.iter().map(read).collect()
}

impl Secret {
    /// `key` is the path in the job file.
    pub(crate) fn new(key: String, text: &str) -> Self {
        Self { key, text: text.to_owned() }
    }

    /// The secret as it is now. Without a word before it the text is the secret.
    pub(crate) fn read(&self) -> Result<String> {
        if let Some(name) = self.text.strip_prefix(ENV) {
            self.of_variable(name)
        } else if let Some(path) = self.text.strip_prefix(FILE) {
            self.of_file(path)
        } else if let Some(line) = self.text.strip_prefix(COMMAND) {
            self.of_command(line)
        } else {
            Ok(self.text.strip_prefix(PLAIN).unwrap_or(&self.text).to_owned())
        }
    }

    #[expect(clippy::disallowed_methods, reason = "read where it is used, so that nothing else keeps it")]
    fn of_variable(&self, name: &str) -> Result<String> {
        match std::env::var(name) {
            Ok(value) if value.is_empty() => Err(self.missing(&format!("environment variable `{name}` is empty"))),
            Ok(value) => Ok(value),
            Err(std::env::VarError::NotPresent) => Err(self.missing(&format!("environment variable `{name}` is not set"))),
            Err(std::env::VarError::NotUnicode(_)) => Err(self.missing(&format!("environment variable `{name}` is not text"))),
        }
    }

    fn of_file(&self, path: &str) -> Result<String> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => self.text_of(bytes, &format!("file `{path}`")),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Error::denied(
                format!("read the secret of `{}`", self.key),
                format!("file `{path}`: {error}"),
                "the user that tidegate runs as has to be allowed to read it",
            )),
            Err(error) => Err(self.missing(&format!("cannot read file `{path}`: {error}"))),
        }
    }

    fn of_command(&self, line: &str) -> Result<String> {
        let words = words(line).map_err(|reason| self.missing(&format!("the command {reason}")))?;
        let Some((program, arguments)) = words.split_first() else {
            return Err(self.missing("the command names no program"));
        };
        let doing = || format!("read the secret of `{}` from `{program}`", self.key);
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.missing(&format!("cannot start `{program}`: {error}")))?;
        let (said, cried) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let ended = ended(&mut child).map_err(|error| Error::unavailable(doing(), error))?;
        // What it started may go on, and hold the pipes.
        let (Some(status), Ok(said)) = (ended, said.recv_timeout(PIPE_MAX)) else {
            return Err(Error::unavailable(doing(), format!("it did not end within {} s", COMMAND_MAX.as_secs())));
        };
        // One that was not listened to any more may end by that.
        if !status.success() && said.len() as u64 <= BYTES_MAX {
            let cried = cried.recv_timeout(PIPE_MAX).unwrap_or_default();
            return Err(Error::denied(doing(), tail(&cried, status), "the command line in the job file, run by hand, shows why"));
        }
        self.text_of(said, &format!("what `{program}` printed"))
    }

    /// Without the end of the last line: editors and programs add one.
    fn text_of(&self, mut bytes: Vec<u8>, place: &str) -> Result<String> {
        if bytes.len() as u64 > BYTES_MAX {
            return Err(self.missing(&format!("{place} is larger than {} MiB", BYTES_MAX >> 20)));
        }
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => Err(self.missing(&format!("{place} is empty"))),
            Ok(text) if text.contains('\0') => Err(self.missing(&format!("{place} is not text"))),
            Ok(text) => Ok(text),
            Err(_) => Err(self.missing(&format!("{place} is not text"))),
        }
    }

    fn missing(&self, what: &str) -> Error {
        Error::setup(
            format!("`{}`: {what}", self.key),
            "a secret is written as `env:NAME`, `file:PATH`, `command:PROGRAM ARGUMENTS`, or as it is; `plain:` before it keeps a \
             secret as it is that begins with one of these words",
        )
    }
}

/// The key, never the value.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").field(&self.key).finish()
    }
}

/// Reads beside us, so that a program that prints much does not wait for ever for a reader.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (collected, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is all there is.
        let _read = pipe.map(|pipe| pipe.take(BYTES_MAX + 1).read_to_end(&mut bytes));
        // Nobody waits any more for a program that took too long.
        let _received = collected.send(bytes);
    });
    receiver
}

/// None for a program that took too long, and was ended.
#[expect(clippy::disallowed_methods, reason = "waits are bounded here, at the edge")]
fn ended(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    while started.elapsed() < COMMAND_MAX {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The end of what a program said on stderr, and how it ended.
fn tail(bytes: &[u8], status: ExitStatus) -> String {
    let words = String::from_utf8_lossy(bytes);
    let words: Vec<char> = words.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: String = words[words.len().saturating_sub(WORDS_MAX)..].iter().collect();
    match words.is_empty() {
        true => format!("it ended with {status}"),
        false => format!("it ended with {status}: {words}"),
    }
}

/// Words as a shell parts them: by blanks, with quotes and backslashes. Nothing else of a shell is there: `sh -c '..'` asks for one.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("has a ' without its second")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("has a \" without its second")? {
                        '"' => break,
                        '\\' => match rest.next().ok_or("ends with a backslash")? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next().ok_or("ends with a backslash")?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests;
