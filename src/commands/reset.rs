//! `tidegate reset`: chooses where a job goes on reading. Without `--execute` it says what it would do, and changes nothing.

use serde::Serialize;

use crate::commands::{columns, open_source, open_tables};
use crate::config::{Config, Mode};
use crate::error::Result;
use crate::job::reset::{Judged, ResetOptions};
use crate::job::{Job, Run, table_ident};
use crate::observe::Observer;
use crate::progress::rfc3339;
use crate::report::Head;
use crate::report::human::counted;
use crate::reset::total;
use crate::source::Stop;

/// What `reset` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Reset {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Full name of the table.
    pub table: String,
    /// Branch.
    pub branch: String,
    /// Topic.
    pub topic: String,
    /// UUID of the run.
    pub run_id: String,
    /// `committed`, or `dry_run` where nothing was changed.
    pub outcome: &'static str,
    /// Epoch that the reset begins.
    pub epoch: u64,
    /// Number of the job's last batch, 0 before the first.
    pub batch: u64,
    /// Snapshot that carries the reset; none where nothing was changed.
    pub snapshot_id: Option<i64>,
    /// Watermark from then on, RFC 3339.
    pub watermark: Option<String>,
    /// Offsets that will be read a second time; none where it is not known what was read.
    pub read_again: Option<u64>,
    /// Offsets that will never be read; none where it is not known what was read.
    pub skipped: Option<u64>,
    /// Why it is not known what was read.
    pub unknown_because: Option<String>,
    /// Partitions that the job's state knew and the topic does not have.
    pub dropped: Vec<i32>,
    /// One entry per partition.
    pub partitions: Vec<PartitionMove>,
    /// What went wrong without failing the reset.
    pub warnings: Vec<String>,
    /// Whether records that are read again are rows more.
    #[serde(skip)]
    append: bool,
}

/// What happens to one partition.
#[derive(Debug, Serialize)]
pub struct PartitionMove {
    /// Partition.
    pub partition: i32,
    /// Next offset to read before; none where none is known.
    pub from: Option<i64>,
    /// Next offset to read after.
    pub to: i64,
    /// Offsets that will be read a second time.
    pub read_again: Option<u64>,
    /// Offsets that will never be read.
    pub skipped: Option<u64>,
    /// Earliest offset that the broker holds; none where it could not be asked.
    pub earliest: Option<i64>,
    /// Last stable offset.
    pub last_stable: Option<i64>,
}

/// Resets the job, or says what a reset would do.
pub async fn reset(config: &Config, run: &Run, options: &ResetOptions, observer: &dyn Observer) -> Result<Reset> {
    let tables = open_tables(config)?;
    let source = open_source(config)?;
    let stop = Stop::default();
    let job = Job { config, source: &source, catalog: &tables.catalog, store: &tables.store, run, stop: &stop, observer };
    let judged = job.reset(options).await?;
    Ok(answer(config, run, options, judged))
}

fn answer(config: &Config, run: &Run, options: &ResetOptions, judged: Judged) -> Reset {
    let partition = |(&partition, one): (&i32, &crate::reset::Move)| PartitionMove {
        partition,
        from: one.from,
        to: one.to,
        read_again: one.again,
        skipped: one.skipped,
        earliest: one.bounds.map(|bounds| bounds.earliest),
        last_stable: one.bounds.map(|bounds| bounds.last_stable),
    };
    Reset {
        head: Head::of("reset", &config.name),
        table: table_ident(config).to_string(),
        branch: config.table.branch.clone(),
        run_id: run.id.to_string(),
        outcome: if judged.snapshot_id.is_some() { "committed" } else { "dry_run" },
        epoch: judged.epoch,
        batch: judged.batch,
        snapshot_id: judged.snapshot_id,
        watermark: options.watermark.map(rfc3339),
        read_again: total(&judged.moves, |one| one.again),
        skipped: total(&judged.moves, |one| one.skipped),
        partitions: judged.moves.iter().map(partition).collect(),
        topic: judged.topic,
        unknown_because: judged.why_unknown,
        dropped: judged.dropped,
        warnings: judged.warnings,
        append: matches!(config.mode, Mode::Append { .. }),
    }
}

impl Reset {
    /// For a person.
    pub fn text(&self) -> String {
        let done = self.snapshot_id.is_some();
        let mut text = match self.snapshot_id {
            Some(snapshot) => format!("{}: reset by snapshot {snapshot} of {}\n", self.head.job, self.table),
            None => format!("{}: a reset would do this; nothing was changed\n", self.head.job),
        };
        let known = |offset: Option<i64>, none: &str| offset.map_or_else(|| none.to_owned(), |offset| offset.to_string());
        let none = if self.unknown_because.is_some() { "unknown" } else { "none" };
        let count = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let head = ["partition", "from", "to", "read again", "skipped", "earliest", "last stable"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for p in &self.partitions {
            rows.push(vec![
                p.partition.to_string(),
                known(p.from, none),
                p.to.to_string(),
                count(p.read_again),
                count(p.skipped),
                known(p.earliest, "unreachable"),
                known(p.last_stable, "unreachable"),
            ]);
        }
        text.push_str(&columns(&rows));
        let watermark = self.watermark.as_deref().unwrap_or("none: no record is late until a batch has made one");
        text.push_str(&format!("epoch       {}, after batch {}\n", self.epoch, self.batch));
        text.push_str(&format!("watermark   {watermark}\n"));
        for note in self.notes() {
            text.push_str(&format!("{note}\n"));
        }
        if !done {
            text.push_str("`--execute` does it\n");
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(why) = &self.unknown_because {
            notes.push(format!("the offsets before do not count: {why}"));
        }
        for partition in &self.dropped {
            notes.push(format!("partition {partition} is no longer in {}; its offset is forgotten", self.topic));
        }
        let effect = match self.append {
            true => "each record there will be one row more",
            false => "ids keep their newest version, so no row comes twice; rejects come again",
        };
        match self.read_again {
            Some(0) => {}
            Some(again) => notes.push(format!("{} will be read again: {effect}", counted(again, "offset"))),
            None => notes.push(format!("offsets that were read before may be read again: {effect}")),
        }
        match self.skipped {
            Some(0) => {}
            Some(skipped) => {
                notes.push(format!("{} will be skipped: what stands there never reaches the table", counted(skipped, "offset")))
            }
            None => notes.push("offsets that were never read may be skipped: what stands there never reaches the table".to_owned()),
        }
        notes.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        notes
    }
}
