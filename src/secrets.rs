//! Secrets of a job file that stand elsewhere: in a variable, in a file, or in what a program prints.
//!
//! Read at the edge, when a client is made that needs them, and kept by that client alone. Never shows one: errors name the key and
//! the place, debug forms nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::process::Command;
use std::time::Duration;

use crate::config::{COMMAND, ENV, FILE, PLAIN};
use crate::error::{Error, Result};
use crate::program::{self, BYTES_MAX, COMMAND_MAX, Failure};

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
        self.read_within(COMMAND_MAX)
    }

    /// The same from a program that may take no longer than this.
    pub(crate) fn read_within(&self, within: Duration) -> Result<String> {
        if let Some(name) = self.text.strip_prefix(ENV) {
            self.of_variable(name)
        } else if let Some(path) = self.text.strip_prefix(FILE) {
            self.of_file(path)
        } else if let Some(line) = self.text.strip_prefix(COMMAND) {
            self.of_command(line, within)
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

    fn of_command(&self, line: &str, within: Duration) -> Result<String> {
        let words = words(line).map_err(|reason| self.missing(&format!("the command {reason}")))?;
        let Some((program, arguments)) = words.split_first() else {
            return Err(self.missing("the command names no program"));
        };
        let doing = || format!("read the secret of `{}` from `{program}`", self.key);
        let said = program::run(Command::new(program).args(arguments), within).map_err(|failure| match failure {
            Failure::NotStarted(error) if error.kind() == ErrorKind::PermissionDenied => Error::denied(
                doing(),
                format!("cannot start `{program}`: {error}"),
                "the user that tidegate runs as has to be allowed to run it",
            ),
            Failure::NotStarted(error) => self.missing(&format!("cannot start `{program}`: {error}")),
            Failure::Passing(why) => Error::unavailable(doing(), why),
            Failure::Failed(why) => Error::denied(doing(), why, "the command line in the job file, run by hand, shows why"),
        })?;
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
