//! From the names of files to a job that takes effect: the job file, its catalogs file, and what overrides them.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::{CatalogsFile, Config, Effective, Layers};
use crate::error::{Error, Mistake, Mistakes, Result};

/// A job file of a thousand columns has a tenth of it; a device that never ends must not fill the memory.
const BYTES_MAX: u64 = 1 << 20;

/// The catalogs file of a job that names none: beside the job file.
const CATALOGS: &str = "catalogs.toml";

/// What a job is read from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The job file.
    pub file: PathBuf,
    /// The catalogs file that `--catalogs` or `TIDEGATE_CATALOGS` names.
    pub catalogs: Option<PathBuf>,
    /// `KEY=VALUE` of each `--set`.
    pub sets: Vec<String>,
    /// Environment variables; those that set no key are left alone. A value that is not UTF-8 is none.
    pub variables: Vec<(String, Option<String>)>,
}

/// Without a value: variables hold secrets, whether they are meant for this program or not.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).field("catalogs", &self.catalogs).finish_non_exhaustive()
    }
}

/// Reads and checks a job file on its own. `env` looks up a variable.
pub fn read_job(path: &Path, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Config> {
    let sources = Sources { file: path.to_owned(), ..Sources::default() };
    read_effective(&sources, env).map(|effective| effective.config)
}

/// Reads and checks a job with all that overrides its file. `env` looks up a variable.
pub fn read_effective(sources: &Sources, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Effective> {
    let file = sources.file.display().to_string();
    let unusable = |message: String| Error::Job { file: file.clone(), mistakes: Mistakes(vec![Mistake { at: None, message }]) };
    let job = match read(&sources.file) {
        Ok(Ok(text)) => text,
        Ok(Err(reason)) => return Err(unusable(format!("{reason}: is it a job file?"))),
        Err(error) => return Err(unusable(format!("cannot read it: {error}"))),
    };
    let layers = Layers { job, catalogs: catalogs(sources), variables: sources.variables.clone(), sets: sources.sets.clone() };
    Effective::of(&layers, env).map_err(|mistakes| Error::Job { file, mistakes })
}

/// The catalogs file, where one is named or stands beside the job file.
fn catalogs(sources: &Sources) -> Option<CatalogsFile> {
    let (path, named) = match &sources.catalogs {
        Some(path) => (path.clone(), true),
        None => (sources.file.with_file_name(CATALOGS), false),
    };
    let text = match read(&path) {
        Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(text) => text,
    };
    Some(CatalogsFile { file: path.display().to_string(), text })
}

/// The file's text; the inner error says that it is too large.
fn read(path: &Path) -> std::io::Result<Result<String, String>> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    let fits = text.len() as u64 <= BYTES_MAX;
    Ok(if fits { Ok(text) } else { Err(format!("it is larger than {} MiB", BYTES_MAX >> 20)) })
}
