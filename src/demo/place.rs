//! Where a demo lives: its directory, its job file, and the commands that open its table afterwards.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};

/// Topic, job and table of every demo.
pub(super) const TOPIC: &str = "articles";
pub(super) const JOB: &str = "articles";
const TABLE: &str = "news.articles";

/// A directory of one demo.
#[derive(Debug)]
pub(super) struct Place {
    root: String,
}

impl Place {
    /// Makes the directory: a new one, or an empty one. `run` names the one that is made where the user names none.
    pub(super) fn make(dir: Option<&Path>, run: &str) -> Result<Self> {
        let dir: PathBuf = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("tidegate-demo-{run}")),
        };
        let shown = dir.display().to_string();
        let doing = || format!("make the directory `{shown}`");
        std::fs::create_dir_all(&dir).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                Error::setup(format!("`{shown}` is not a directory"), "name a directory that is empty or does not exist yet")
            }
            _ => Error::unavailable(doing(), error),
        })?;
        if std::fs::read_dir(&dir).doing(doing)?.next().is_some() {
            return Err(Error::setup(
                format!("directory `{shown}` is not empty"),
                "a demo starts from nothing: name a directory that is empty or does not exist yet",
            ));
        }
        let root = std::fs::canonicalize(&dir).doing(doing)?;
        match root.to_str().filter(|root| is_plain(root)) {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => Err(Error::setup(
                format!("`{}` cannot stand in a job file and in a shell's commands as it is", root.display()),
                "name a directory of letters, digits, blanks and `/ . _ - + @ , = ~`",
            )),
        }
    }

    /// The directory.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The job file.
    pub(super) fn job_file(&self) -> PathBuf {
        Path::new(&self.root).join("articles.toml")
    }

    /// The catalog's database.
    pub(super) fn database(&self) -> PathBuf {
        Path::new(&self.root).join("warehouse/catalog.db")
    }

    /// The folder of the tables' files.
    pub(super) fn warehouse(&self) -> PathBuf {
        Path::new(&self.root).join("warehouse")
    }

    /// Writes the job file for the demo's broker.
    pub(super) fn write_job(&self, bootstrap_servers: &str) -> Result<()> {
        let path = self.job_file();
        std::fs::write(&path, self.job(bootstrap_servers)).doing(|| format!("write the job file `{}`", path.display()))
    }

    fn job(&self, bootstrap_servers: &str) -> String {
        let root = &self.root;
        format!(
            r#"# The job of `tidegate demo`. Its broker ended with the demo; its table is still here.

name = "{JOB}"
mode = "merge"

[kafka]
topic = "{TOPIC}"
start = "earliest"
"bootstrap.servers" = "{bootstrap_servers}"

[format]
type = "json"

[catalog]
type = "sql"
uri = "sqlite://{root}/warehouse/catalog.db"
warehouse = "file://{root}/warehouse"

[table]
name = "{TABLE}"
columns = [
    {{ name = "id", type = "string", required = true }},
    {{ name = "title", type = "string" }},
    {{ name = "source", type = "string" }},
    {{ name = "url", type = "string" }},
    {{ name = "content", type = "string" }},
    {{ name = "published_at", type = "timestamptz", required = true }},
    {{ name = "version", type = "long" }},
]
partition_by = ["day(published_at)"]

[merge]
id = ["id"]
event_time = "published_at"
order_by = ["version"]
ties = "keep"       # a record that is sent again changes nothing

[watermark]
delay = "2 h"       # what comes more than two hours after newer articles is late
late = "reject"
max_future = "1 h"
"#
        )
    }

    /// Opens a table by its metadata file.
    pub(super) fn duckdb(&self, metadata_location: &str) -> String {
        let file = metadata_location.strip_prefix("file://").unwrap_or(metadata_location);
        format!(r#"duckdb -c "INSTALL iceberg; LOAD iceberg; SELECT * FROM iceberg_scan('{file}')""#)
    }

    /// Opens the table through the catalog.
    pub(super) fn pyiceberg(&self) -> String {
        let root = &self.root;
        format!(
            r#"python -c "from pyiceberg.catalog.sql import SqlCatalog; print(*SqlCatalog('tidegate', uri='sqlite:///{root}/warehouse/catalog.db').load_table('{TABLE}').scan(limit=10, selected_fields=('id', 'title', 'version')).to_arrow().to_pylist(), sep='\n')""#
        )
    }
}

/// Whether a path means itself in TOML, in a URI, in SQL, in Python and between a shell's double quotes.
fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_alphanumeric() || " /._-+@,=~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_job_file_is_a_good_one() {
        let place = Place { root: "/tmp/a b/demo".into() };
        let config = Config::parse(&place.job("127.0.0.1:1"), &|_| None).unwrap();
        assert_eq!((config.name.as_str(), config.kafka.topic.as_str(), config.table.name.as_str()), (JOB, TOPIC, "articles"));
    }

    #[test]
    fn a_directory_is_made_or_taken_where_it_is_empty() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let place = Place::make(Some(&dir), "run").unwrap();
        assert_eq!(Path::new(place.root()), dir.canonicalize().unwrap());
        place.write_job("127.0.0.1:1").unwrap();
        let error = Place::make(Some(&dir), "run").unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("is not empty")), (78, true), "{error}");
        let error = Place::make(Some(&place.job_file()), "run").unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("is not a directory")), (78, true), "{error}");
    }

    #[test]
    fn a_directory_that_would_mean_something_else_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["it's", "a${HOME}", "50%", "a\"b", "a\\b", "a#b"] {
            assert_eq!(Place::make(Some(&temp.path().join(name)), "run").unwrap_err().exit_code(), 78, "{name}");
        }
        assert!(is_plain("/tmp/ä b/tidegate-demo_1.2"));
    }

    #[test]
    fn the_commands_name_what_they_open() {
        let place = Place { root: "/d".into() };
        assert!(place.duckdb("file:///d/m.json").ends_with("iceberg_scan('/d/m.json')\""));
        // SQLAlchemy takes what follows three slashes as the path.
        assert!(place.pyiceberg().contains("uri='sqlite:////d/warehouse/catalog.db'"));
    }
}
