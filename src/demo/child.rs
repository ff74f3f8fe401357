//! The demo's runs: each is this same program, started as a scheduler would start it; one of them is killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::config::VARIABLE_PREFIX;
use crate::error::{Doing, Error, Result};
use crate::observe::Phase;

/// This program.
#[derive(Debug)]
pub(super) struct Program(PathBuf);

impl Program {
    /// The file that is running now.
    pub(super) fn this() -> Result<Self> {
        std::env::current_exe().map(Self).doing(|| "find the program's own file")
    }

    fn command(&self, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.0);
        // The demo reads the answer and the log, so neither may be shaped from outside.
        command.args(arguments).args(["--output", "json", "--log-format", "json", "--log-level", "info"]);
        command.env_remove("TIDEGATE_LOG").stdin(Stdio::null());
        // Nor the job: it is the demo's own.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_uppercase().starts_with(VARIABLE_PREFIX) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a command on a job to its end, which must be a good one, and returns its answer.
    pub(super) fn answer(&self, name: &str, job: &Path) -> Result<Value> {
        let doing = || format!("run `tidegate {name} {}`", job.display());
        let output = tokio::task::block_in_place(|| self.command(&[name.as_ref(), job.as_ref()]).output()).doing(doing)?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::unavailable(doing(), format!("it ended with {}:\n{log}", output.status)));
        }
        serde_json::from_slice(&output.stdout).doing(|| format!("read the answer of `tidegate {name}`"))
    }

    /// Starts a run that is going to be killed.
    pub(super) fn start_run(&self, job: &Path) -> Result<Doomed> {
        let mut command = self.command(&["run".as_ref(), job.as_ref()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(|| "start a run")?;
        let stderr = child.stderr.take().expect("stderr is piped");
        Ok(Doomed { child, log: BufReader::new(stderr) })
    }
}

/// A run in its last moments. It does not outlive the value.
#[derive(Debug)]
pub(super) struct Doomed {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Doomed {
    /// Waits until the run's log says that a phase began.
    pub(super) fn reach(&mut self, phase: Phase) -> Result<()> {
        let mut heard = String::new();
        loop {
            let start = heard.len();
            if self.log.read_line(&mut heard).doing(|| "listen to a run")? == 0 {
                return Err(Error::unavailable(
                    format!("see a run reach its phase `{}`", phase.name()),
                    format!("it ended:\n{heard}"),
                ));
            }
            let line: Value = serde_json::from_str(&heard[start..]).unwrap_or_default();
            if line["message"] == "phase" && line["phase"] == phase.name() {
                return Ok(());
            }
        }
    }

    /// SIGKILL: the run learns nothing of it.
    pub(super) fn kill(mut self) -> Result<ExitStatus> {
        let doing = || "kill a run";
        self.child.kill().doing(doing)?;
        self.child.wait().doing(doing)
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // After `kill` there is nothing left to do, and the answers say just that.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The catalog with its door held shut: everyone can read it, nobody can swap a head. A kill in the middle of a commit then comes
/// in the middle, however fast the commit is.
#[derive(Debug)]
pub(super) struct Held(SqliteConnection);

impl Held {
    /// Takes SQLite's lock for writing.
    pub(super) async fn hold(database: &Path) -> Result<Self> {
        let doing = || "hold the demo's catalog";
        let mut connection = SqliteConnectOptions::new().filename(database).connect().await.doing(doing)?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.doing(doing)?;
        Ok(Self(connection))
    }

    /// Gives it back; nothing was written.
    pub(super) async fn release(mut self) -> Result<()> {
        let doing = || "let go of the demo's catalog";
        sqlx::query("ROLLBACK").execute(&mut self.0).await.doing(doing)?;
        self.0.close().await.doing(doing)
    }
}
