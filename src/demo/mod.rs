//! A job to look at, with nothing to set up: an in-process broker, a local table, runs one after the other, one of them killed.
//!
//! Each run is this program as a scheduler would start it. The demo only produces, looks and compares: after every run the table must
//! be what a dictionary makes of the same records, or the demo fails.

mod articles;
pub(crate) mod broker;
mod child;
mod look;
mod place;
mod screen;
mod truth;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use self::articles::{Newsroom, PARTITIONS, Record, amount};
use self::broker::{DemoBroker, DemoRecord};
use self::child::{Held, Program};
use self::look::{Seen, files_under, look};
use self::place::{JOB, Place, TOPIC};
use self::screen::Screen;
use self::truth::Truth;
use crate::commands;
use crate::config::Config;
use crate::counts::Counts;
use crate::error::{Doing, Error, Result};
use crate::job::Run;
use crate::observe::Phase;
use crate::report::human::{counted, duration, thousands};

/// Rows of the table that are shown.
const ROWS_SHOWN: usize = 10;
/// How long a run that is to be killed may take to write the files of its commit.
const COMMIT_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Plays the demo in `dir`, or in a new directory for temporary files, and tells it on `out`. The directory stays.
pub async fn demo(dir: Option<&Path>, out: &mut impl Write, colour: bool, run: &Run) -> Result<()> {
    let name = run.id.simple().to_string();
    let place = Place::make(dir, &name[..8])?;
    let broker = DemoBroker::start(TOPIC, PARTITIONS)?;
    place.write_job(&broker.bootstrap_servers())?;
    let config = commands::job_file::read_job(&place.job_file(), &|_| None)?;
    let mut demo = Demo {
        screen: Screen::new(out, colour),
        newsroom: Newsroom::new(run.started_at),
        truth: Truth::default(),
        program: Program::this()?,
        now_ms: run.now_ms,
        place,
        broker,
        config,
    };
    demo.open()?;
    demo.first().await?;
    demo.corrections().await?;
    demo.noise().await?;
    demo.killed().await?;
    demo.nothing_new().await?;
    demo.end(run.started_at).await
}

/// Everything that the parts of the demo share.
struct Demo<'a> {
    screen: Screen<'a>,
    newsroom: Newsroom,
    truth: Truth,
    program: Program,
    now_ms: fn() -> i64,
    place: Place,
    broker: DemoBroker,
    config: Config,
}

impl Demo<'_> {
    fn open(&mut self) -> Result<()> {
        self.screen.heading("tidegate demo: a whole job, from a Kafka topic into an Iceberg table, with nothing installed");
        self.screen.fact("directory", self.place.root());
        self.screen.fact("job file", &self.place.job_file().display().to_string());
        let servers = self.broker.bootstrap_servers();
        self.screen.fact("broker", &format!("{servers}, in this process; topic `{TOPIC}` with {PARTITIONS} partitions"));
        let made = self.program.answer("init", &self.place.job_file())?;
        self.screen
            .fact("table", &format!("{}, made by `tidegate init` from the job file", made["table"].as_str().unwrap_or_default()));
        Ok(())
    }

    async fn first(&mut self) -> Result<()> {
        let about = format!(
            "{} are in the topic. The first run starts at the earliest offsets, makes each",
            counted(amount::FIRST, "article")
        );
        self.screen.chapter(1, "New articles", [&about, "of them a row, and commits rows and offsets together, in one snapshot."]);
        let records = self.newsroom.first();
        self.produce(&records)?;
        self.run(&records).await
    }

    async fn corrections(&mut self) -> Result<()> {
        let [again, corrected, outdated] = [amount::AGAIN, amount::CORRECTED, amount::OUTDATED].map(thousands);
        let about =
            format!("{again} articles come again, {corrected} are corrected, {outdated} come in a version older than their row.");
        let rule = "A newer version replaces the article's row; any other is dropped, also within one batch.";
        self.screen.chapter(2, "Duplicates, updates and old versions", [&about, rule]);
        let records = self.newsroom.corrections();
        self.produce(&records)?;
        self.run(&records).await
    }

    async fn noise(&mut self) -> Result<()> {
        let (more, late, future, broken) = (thousands(amount::MORE), amount::LATE, amount::FUTURE, amount::BROKEN);
        let about =
            format!("Among {more} new articles are {late} a day late, {future} from a clock 3 hours ahead, {broken} broken.");
        let rule = "None of them stops the run and none is lost: each is kept in a table of rejects, with its reason.";
        self.screen.chapter(3, "Late, future and broken records", [&about, rule]);
        let records = self.newsroom.noise();
        self.produce(&records)?;
        self.run(&records).await
    }

    /// A run that is killed in its commit, and the same run again.
    async fn killed(&mut self) -> Result<()> {
        let all = thousands(amount::RUSH + amount::RUSH_CORRECTED);
        let about = format!("{all} new and corrected articles; their run is killed in its commit. Its files are written, but the");
        let rule = "table does not name them: nobody sees half a batch, and the next run starts where the table says.";
        self.screen.chapter(4, "A run that is killed, and run again", [&about, rule]);
        let records = self.newsroom.rush();
        self.produce(&records)?;
        let before = look(&self.config).await?;
        let files_before = self.files()?;
        let status = self.kill_in_commit(&before).await?;
        let left = self.files()? - files_before;
        self.screen.killed("tidegate run", &format!("killed in its phase `commit` by {status}"));
        let after = self.compare().await?;
        if after.table.metadata_location != before.table.metadata_location {
            return Err(Error::broken("a run that was killed before its commit changed the table"));
        }
        let rows = thousands(after.rows.len());
        self.screen
            .found(&format!("the table is as before: {rows} rows, same snapshot, and {left} new files that it does not name"));
        self.run(&records).await
    }

    /// Kills a run when all files of its commit are written, and before its swap of the table's head.
    async fn kill_in_commit(&self, before: &Seen) -> Result<std::process::ExitStatus> {
        let held = Held::hold(&self.place.database()).await?;
        let folder = metadata_folder(&before.table.metadata_location);
        let metadata_files = || metadata_files(folder).doing(|| format!("list `{}`", folder.display()));
        let known = metadata_files()?;
        let mut doomed = self.program.start_run(&self.place.job_file())?;
        tokio::task::block_in_place(|| doomed.reach(Phase::Commit))?;
        let started = (self.now_ms)();
        while metadata_files()? == known && u128::try_from((self.now_ms)() - started).unwrap_or(0) < COMMIT_MAX.as_millis() {
            tokio::time::sleep(POLL).await;
        }
        let status = doomed.kill()?;
        held.release().await?;
        Ok(status)
    }

    async fn nothing_new(&mut self) -> Result<()> {
        let about = "Nothing was produced since. The run sees that from the offsets in the table, and commits nothing:";
        self.screen.chapter(5, "Nothing new", [about, "a scheduler can start the job as often as it likes."]);
        self.run(&[]).await
    }

    async fn end(&mut self, started_at: i64) -> Result<()> {
        let seen = look(&self.config).await?;
        let metadata = &seen.table.metadata_location;
        self.screen.heading(&format!("The table: {ROWS_SHOWN} of its {} rows", thousands(seen.rows.len())));
        self.screen.table(&["id", "title", "source", "published_at", "version"], &seen.sample(ROWS_SHOWN));
        self.screen.heading("Its snapshots: each holds the next offset to read of every partition");
        let partitions: Vec<String> = (0..PARTITIONS).map(|p| format!("p{p}")).collect();
        let mut head = vec!["snapshot", "operation", "batch"];
        head.extend(partitions.iter().map(String::as_str));
        head.push("rows");
        self.screen.table(&head, &seen.snapshots(JOB)?);
        self.screen.heading(&format!("The rejects, in {}", seen.rejects_table));
        self.screen.table(&["reason", "records"], &seen.reasons());

        let verdict = self.truth.check(&seen.rows, &seen.rejects)?;
        self.screen.proof(&verdict.line());
        let took = duration(Duration::from_millis(u64::try_from((self.now_ms)() - started_at / 1_000).unwrap_or(0)));
        self.screen.line(&format!("(and the rejects are the {} expected; all of it took {took})", seen.rejects.len()));
        self.screen.heading("All of it stays; open it with");
        self.screen.fact("tidegate", &format!("tidegate status \"{}\"", self.place.job_file().display()));
        self.screen.fact("DuckDB", &self.place.duckdb(metadata));
        self.screen.fact("PyIceberg", &self.place.pyiceberg());
        Ok(())
    }

    fn produce(&self, records: &[Record]) -> Result<()> {
        let now_ms = (self.now_ms)();
        let sent: Vec<DemoRecord<'_>> =
            records.iter().map(|r| (r.partition, r.key.as_bytes(), r.value.as_ref().map(String::as_bytes), now_ms)).collect();
        tokio::task::block_in_place(|| self.broker.produce(&sent))
    }

    /// Runs the job, which must do with the records what the truth says.
    async fn run(&mut self, records: &[Record]) -> Result<()> {
        let expected = self.truth.take(records);
        let report = self.program.answer("run", &self.place.job_file())?;
        let told = serde_json::to_value(expected).expect("counts are numbers");
        if report["records"] != told {
            return Err(Error::broken(format!("the demo's run reports {} where {told} is right", report["records"])));
        }
        let seen = self.compare().await?;
        let took = duration(Duration::from_millis(report["duration_ms"].as_u64().unwrap_or(0)));
        self.screen.done("tidegate run", &account(&report, expected), &format!("({took})"));
        self.screen.found(&format!("{} rows in the table, each as it should be", thousands(seen.rows.len())));
        Ok(())
    }

    /// The table, if it equals the truth.
    async fn compare(&self) -> Result<Seen> {
        let seen = look(&self.config).await?;
        self.truth.check(&seen.rows, &seen.rejects)?;
        Ok(seen)
    }

    fn files(&self) -> Result<usize> {
        let folder = self.place.warehouse();
        files_under(&folder).doing(|| format!("count the files in `{}`", folder.display()))
    }
}

/// What a run did, in one line.
fn account(report: &Value, counts: Counts) -> String {
    let Some(batch) = report["batches"][0]["batch"].as_u64() else { return "nothing new, nothing committed".into() };
    let named = counts.named();
    let named: Vec<String> = named.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{} {name}", thousands(n))).collect();
    format!("batch {batch}: {}", named.join(", "))
}

fn metadata_folder(metadata_location: &str) -> &Path {
    let file = metadata_location.strip_prefix("file://").unwrap_or(metadata_location);
    Path::new(file).parent().unwrap_or(Path::new("/"))
}

/// How many metadata files of a table there are, named by the catalog or not yet.
fn metadata_files(folder: &Path) -> std::io::Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder)? {
        files += usize::from(entry?.file_name().to_string_lossy().ends_with(".metadata.json"));
    }
    Ok(files)
}
