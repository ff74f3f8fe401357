//! Programs that hand out secrets, run with bounds: on time, on what they print, on what they complain of.
//!
//! Never tells what a program printed; what it says on stderr goes into messages, without control characters.

use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::THREADS_HINT;

/// Programs of cloud providers take a few seconds.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(30);
/// A file of certificates has a quarter of it; what never ends must not fill the memory.
pub(crate) const BYTES_MAX: u64 = 1 << 20;
/// How long the pipes of a program that ended may stay open.
const PIPE_MAX: Duration = Duration::from_secs(1);
/// How soon the end of a program is noticed.
const LOOK: Duration = Duration::from_millis(5);
/// Of what a program says on stderr the end goes into the message: causes come last.
const WORDS_MAX: usize = 1000;

/// Why a program handed out nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be started.
    NotStarted(std::io::Error),
    /// It may go better another time: it took too long, or the system has no room for it now.
    Passing(String),
    /// It ended with a failure; how, and what it said on stderr.
    Failed(String),
}

/// What a program prints within this time; one byte more than [`BYTES_MAX`] where it prints more than that.
pub(crate) fn run(command: &mut Command, within: Duration) -> Result<Vec<u8>, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        // What the system answers where it has no process or no memory left to give.
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Failure::Passing(format!("it did not start: {error}; {THREADS_HINT}")),
        _ => Failure::NotStarted(error),
    })?;
    let outcome = listen(&mut child, within);
    if outcome.is_err() {
        // Ended already, or of no use any more.
        let _gone = child.kill().and_then(|()| child.wait());
    }
    let (status, said, cried) = outcome?;
    let Ok(said) = said.recv_timeout(PIPE_MAX) else {
        return Err(Failure::Passing(format!("it ended with {status}, and something that it started keeps its output open")));
    };
    // One that was not listened to any more may end by that.
    if !status.success() && said.len() as u64 <= BYTES_MAX {
        return Err(Failure::Failed(tail(&cried.recv_timeout(PIPE_MAX).unwrap_or_default(), status)));
    }
    Ok(said)
}

/// All that came out of a pipe, once it is closed.
type Collected = Receiver<Vec<u8>>;

/// How the program ended, and who collects what it prints and says.
fn listen(child: &mut Child, within: Duration) -> Result<(ExitStatus, Collected, Collected), Failure> {
    let passing = |error: std::io::Error| Failure::Passing(error.to_string());
    let said = collect(child.stdout.take()).map_err(passing)?;
    let cried = collect(child.stderr.take()).map_err(passing)?;
    match ended(child, within).map_err(passing)? {
        Some(status) => Ok((status, said, cried)),
        None => Err(Failure::Passing(format!("it did not end within {} s", within.as_secs()))),
    }
}

/// Reads beside us, so that a program that prints much does not wait for ever for a reader.
fn collect(pipe: Option<impl Read + Send + 'static>) -> std::io::Result<Collected> {
    let (collected, receiver) = mpsc::sync_channel(1);
    // `thread::spawn` would panic where the system refuses a thread.
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is all there is.
        let _read = pipe.map(|pipe| pipe.take(BYTES_MAX + 1).read_to_end(&mut bytes));
        // Nobody waits any more for a program that took too long.
        let _received = collected.send(bytes);
    })?;
    Ok(receiver)
}

/// None for a program that takes too long.
#[expect(clippy::disallowed_methods, reason = "waits are bounded here, at the edge")]
fn ended(child: &mut Child, within: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    while started.elapsed() < within {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Result<Vec<u8>, Failure> {
        run(Command::new("sh").args(["-c", line]), Duration::from_secs(1))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a clock that a wait ends")]
    fn a_program_that_hangs_is_ended_and_one_that_leaves_something_running_is_told_apart() {
        let started = Instant::now();
        let hung = shell("exec sleep 60").unwrap_err();
        assert!(matches!(&hung, Failure::Passing(why) if why == "it did not end within 1 s"), "{hung:?}");
        let left = shell("echo sesame; sleep 20 &").unwrap_err();
        assert!(matches!(&left, Failure::Passing(why) if why.contains("keeps its output open")), "{left:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn what_a_program_complains_of_is_told_without_control_characters() {
        let failed = shell("echo sesame; printf 'vault\\033[31m is\\nsealed' >&2; exit 3").unwrap_err();
        let said = "it ended with exit status: 3: vault [31m is sealed";
        assert!(matches!(&failed, Failure::Failed(why) if why == said), "{failed:?}");
        assert_eq!(shell("echo sesame").unwrap(), b"sesame\n");
        assert!(matches!(run(&mut Command::new("/no/such/program"), COMMAND_MAX), Err(Failure::NotStarted(_))));
    }
}
