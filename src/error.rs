//! Why a run did not finish, in terms of what the operator does next, and the exit code of each.
//!
//! What a caller branches on is a value (`Plan::Idle`, `CommitOutcome`, `Place`), never an error: an `Error` only travels to a
//! person. Messages are lowercase phrases without a final period; what to do stands in the hint.

use std::any::Any;
use std::fmt;

use crate::config::Origin;

/// Any error of a library, kept as the cause of one of ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of every room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run did not finish. A variant says who acts next (design: exit codes).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job's settings have mistakes; each is listed with where it comes from.
    #[error("job file `{file}` is not usable")]
    Job {
        /// The file as it was named on the command line.
        file: String,
        /// Every mistake found, in the order of the file.
        #[source]
        mistakes: Mistakes,
    },
    /// A topic, table, warehouse or file that the job names does not exist, or does not fit the job.
    #[error("{what}")]
    Setup {
        /// What is missing or does not fit, with its name.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The data or the state of the table forbids going on.
    #[error("{what}")]
    Refused {
        /// What was found, with partitions and offsets.
        what: String,
        /// The choices of the data's owner.
        hint: String,
    },
    /// Something outside did not answer, or failed for now.
    #[error("could not {doing}")]
    Unavailable {
        /// Present-tense verb and object, as in "load the table `a.b`".
        doing: String,
        /// What the library said.
        #[source]
        source: BoxError,
    },
    /// A file was read, and is not what it should be: reading it again cannot help.
    #[error("could not {doing}")]
    Damaged {
        /// Present-tense verb and object, with the file's name.
        doing: String,
        /// What the library said.
        #[source]
        source: BoxError,
    },
    /// Other writers won every attempt to commit.
    #[error("gave up after {attempts} attempts to commit to `{table}`: other writers were first each time")]
    Contended {
        /// The table's full name.
        table: String,
        /// Attempts made.
        attempts: u32,
    },
    /// A partition made no progress for `stall_timeout`.
    #[error("partition {partition} of `{topic}` made no progress for {seconds} s at offset {offset}")]
    Stalled {
        /// Topic name.
        topic: String,
        /// Partition that stands still.
        partition: i32,
        /// Next offset to read there.
        offset: i64,
        /// How long nothing came.
        seconds: u64,
        /// The last trouble that the client met, where it met any.
        #[source]
        source: Option<BoxError>,
    },
    /// Credentials or permissions were refused.
    #[error("not allowed to {doing}")]
    Denied {
        /// Present-tense verb and object.
        doing: String,
        /// What the library said; an [`Advice`] where we know what to do about it.
        #[source]
        source: BoxError,
    },
    /// A signal ended the run with nothing committed.
    #[error("ended by signal {signal} before anything was read; nothing was committed")]
    Interrupted {
        /// Signal number: 2 or 15.
        signal: i32,
    },
    /// A second signal, or one that a run had no time left to obey, ended it where it stood.
    #[error("ended at once by signal {signal}")]
    CutShort {
        /// Signal number: 2 or 15.
        signal: i32,
    },
    /// An invariant of ours does not hold.
    #[error("internal error: {what}")]
    Broken {
        /// Which invariant, with the values.
        what: String,
    },
}

impl Error {
    /// Process exit code: a contract on which `podFailurePolicy` and Airflow rely.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Job { .. } | Self::Setup { .. } | Self::Damaged { .. } => 78,
            Self::Refused { .. } => 65,
            Self::Unavailable { .. } | Self::Contended { .. } | Self::Stalled { .. } => 75,
            Self::Denied { .. } => 77,
            Self::Interrupted { signal } | Self::CutShort { signal } => u8::try_from(128 + signal).unwrap_or(143),
            Self::Broken { .. } => 101,
        }
    }

    /// What the reader of the message can do, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setup { hint, .. } | Self::Refused { hint, .. } if !hint.is_empty() => Some(hint.clone()),
            Self::Unavailable { source, .. } if source.downcast_ref().and_then(Self::hint).is_some() => {
                source.downcast_ref().and_then(Self::hint)
            }
            Self::Unavailable { .. } => {
                Some("running again is safe; if it keeps failing, `tidegate check` tests each connection".into())
            }
            Self::Damaged { .. } => Some(
                "the file is damaged, or of a kind that tidegate does not know: restore it, or roll the table back to a snapshot without it".into(),
            ),
            Self::Contended { .. } => {
                Some("running again is safe; `commit.retry.num-retries` of the table allows more attempts".into())
            }
            Self::Stalled { .. } => {
                Some("is the partition's leader up? running again is safe; `limits.stall_timeout` says how long to wait".into())
            }
            Self::CutShort { .. } => Some(
                "what was committed stands, and the next run goes on from there; `tidegate status` shows how far that is".into(),
            ),
            Self::Denied { source, .. } => source.downcast_ref().map(|Advice { hint, .. }| hint.clone()),
            Self::Broken { .. } => {
                Some("this is a bug in tidegate; the table was left as it was; please report it with the log".into())
            }
            _ => None,
        }
    }

    /// The cause and, where someone can do something, what: for a warning that says itself what did not happen.
    pub fn cause(&self) -> String {
        let cause = std::error::Error::source(self).map_or_else(|| self.to_string(), ToString::to_string);
        match self {
            Self::Denied { .. } => self.hint().map_or_else(|| cause.clone(), |hint| format!("{cause}; {hint}")),
            _ => cause,
        }
    }

    /// A missing or unfit thing (78).
    pub fn setup(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Setup { what: what.into(), hint: hint.into() }
    }

    /// Data or state that forbids going on (65).
    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }

    /// A temporary failure with a message of ours as its cause (75).
    pub fn unavailable(doing: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { doing: doing.into(), source: source.into() }
    }

    /// Refused credentials or permissions (77), with what to do about it.
    pub fn denied(doing: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Denied { doing: doing.into(), source: Advice { what: what.into(), hint: hint.into() }.into() }
    }

    /// A commit that was refused although the table did not change: what stands behind it says who acts next.
    pub fn of_refusal(table: impl fmt::Display, cause: BoxError) -> Self {
        match cause.downcast::<Self>() {
            Ok(error) => *error,
            Err(cause) => Self::unavailable(format!("commit to table `{table}`"), cause),
        }
    }

    /// Whether what was refused for this cause may succeed in a moment.
    pub fn is_temporary(cause: &BoxError) -> bool {
        matches!(cause.downcast_ref(), Some(Self::Unavailable { .. }))
    }

    /// The system starts no more threads (75).
    pub fn without_thread(doing: &str, what: impl Into<String>) -> Self {
        Self::unavailable(doing, Advice { what: what.into(), hint: THREADS_HINT.into() })
    }

    /// What a thread panicked with (101; 75 where it was for want of a thread).
    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let said = said.unwrap_or("it says nothing");
        if REFUSED_THREAD.iter().any(|refused| said.starts_with(refused)) {
            return Self::without_thread("start a thread", said);
        }
        Self::broken(format!("a panic: {said}"))
    }

    /// A broken invariant of ours (101).
    pub fn broken(what: impl Into<String>) -> Self {
        Self::Broken { what: what.into() }
    }
}

/// How tokio and the standard library panic where the system refuses them a thread: that is no bug.
const REFUSED_THREAD: [&str; 2] = ["OS can't spawn worker thread", "failed to spawn thread"];

/// What to do where the system starts no more threads.
pub(crate) const THREADS_HINT: &str =
    "the system refuses more threads: look at `ulimit -u`, the container's pids limit, `ulimit -v` and free memory";

/// A cause of which we know what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Advice {
    /// What happened.
    pub what: String,
    /// What the reader of the message can do.
    pub hint: String,
}

/// `?` always carries a verb: `.doing("load the table")` turns a library's error into one that says what was being done.
pub trait Doing<T> {
    /// Wraps the error by what its causes say: denied, missing, or unavailable for now. The closure runs only on failure.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<BoxError>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| crate::storage::failed(|| doing().into(), source))
    }
}

/// One mistake in a job's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where the setting comes from; none where the mistake is an absence, or is about a file as a whole.
    pub at: Option<Origin>,
    /// What is wrong and, where one is near, the right name.
    pub message: String,
}

/// All mistakes in the settings of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match &mistake.at {
                Some(origin) => write!(f, "{origin}: {}", mistake.message)?,
                None => write!(f, "{}", mistake.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
