//! `tidegate status`: where a job stands: its last batch, offsets, watermark and lag.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::commands::{columns, open_source, open_tables};
use crate::config::Config;
use crate::counts::Counts;
use crate::error::Result;
use crate::job::load_table;
use crate::offsets::{Offsets, Partition, PartitionBounds, TopicBounds};
use crate::progress::{Progress, rfc3339};
use crate::rejects;
use crate::report::human::counted;
use crate::report::{ErrorReport, Head};
use crate::source::Source;
use crate::state;

/// What `status` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Full name of the table.
    pub table: String,
    /// Topic.
    pub topic: String,
    /// The job's last batch; none before the first.
    pub last_batch: Option<LastBatch>,
    /// Whether the table was rolled back: later batches of the job are undone, and will be read again.
    pub rolled_back: bool,
    /// Rejects of the last batch that a run left open: the next one appends them to the rejects table.
    pub rejects_open: u64,
    /// Next offset to read of every partition.
    pub offsets: BTreeMap<String, Offsets>,
    /// Watermark, RFC 3339.
    pub watermark: Option<String>,
    /// Offsets up to the last stable offsets; none where the broker cannot be asked.
    pub lag_records: Option<u64>,
    /// The same per partition.
    pub lag: BTreeMap<i32, u64>,
    /// Partitions that end in an open transaction, which no run reads past; none are known where the broker cannot be asked.
    pub held: Vec<i32>,
    /// Now minus the newest event time read, in seconds.
    pub lag_seconds: Option<f64>,
    /// Why the broker could not be asked.
    pub broker_error: Option<String>,
}

/// The last batch of a job.
#[derive(Debug, Serialize)]
pub struct LastBatch {
    /// Batch number.
    pub batch: u64,
    /// Epoch.
    pub epoch: u64,
    /// `batch`, or `reset` where the job's state was moved since.
    pub kind: &'static str,
    /// Snapshot that carries it.
    pub snapshot_id: i64,
    /// Start of its run, RFC 3339.
    pub planned_at: String,
    /// UUID of its run.
    pub run_id: String,
    /// Accounts.
    pub records: Counts,
}

/// Asks table and broker; a broker that does not answer leaves the lag unknown. `now` is µs since the epoch.
pub async fn status(config: &Config, now: i64) -> Result<Status> {
    let catalog = open_tables(config)?.catalog;
    let table = load_table(&catalog, config).await?;
    let state = state::find(&table, &config.table.branch, &config.name).await?;
    let progress = state.progress();
    let rejects_open = match progress {
        Some(progress) => {
            rejects::open(&catalog, &table, &config.table.branch, progress).await?.map_or(0, |(_, open)| open.records())
        }
        None => 0,
    };
    let bounds = tokio::task::block_in_place(|| open_source(config)?.bounds());
    let (lag, held, broker_error) = match &bounds {
        Ok(bounds) => (lag(progress, bounds), held(bounds), None),
        Err(error) => (BTreeMap::new(), Vec::new(), Some(ErrorReport::from_error(error).message)),
    };
    let newest = progress.and_then(|p| p.max_event_time.values().copied().max());
    Ok(Status {
        head: Head::of("status", &config.name),
        table: table.ident.to_string(),
        topic: config.kafka.topic.clone(),
        last_batch: state.found.as_ref().map(|(progress, snapshot_id)| LastBatch {
            batch: progress.batch,
            epoch: progress.epoch,
            kind: progress.kind.as_str(),
            snapshot_id: *snapshot_id,
            planned_at: rfc3339(progress.planned_at),
            run_id: progress.run_id.clone(),
            records: progress.counts,
        }),
        rolled_back: state.rolled_back,
        rejects_open,
        offsets: progress.map(|p| BTreeMap::from([(p.topic.clone(), p.end.clone())])).unwrap_or_default(),
        watermark: progress.and_then(|p| p.watermark).map(rfc3339),
        lag_records: bounds.is_ok().then(|| lag.values().sum()),
        lag,
        held,
        lag_seconds: newest.map(|newest| (now - newest).max(0) as f64 / 1e6),
        broker_error,
    })
}

/// Offsets that wait, per partition that could be asked.
fn lag(progress: Option<&Progress>, bounds: &TopicBounds) -> BTreeMap<i32, u64> {
    let waiting = |(&partition, bounds): (&Partition, &Option<PartitionBounds>)| {
        let bounds = bounds.as_ref()?;
        let next = progress.and_then(|p| p.end.get(&partition).copied()).unwrap_or(bounds.earliest);
        Some((partition, u64::try_from(bounds.last_stable - next).unwrap_or(0)))
    };
    bounds.partitions.iter().filter_map(waiting).collect()
}

/// Partitions whose high watermark lies past the last stable offset.
fn held(bounds: &TopicBounds) -> Vec<Partition> {
    let open = |bounds: &PartitionBounds| bounds.high_watermark > bounds.last_stable;
    bounds.partitions.iter().filter(|(_, bounds)| bounds.as_ref().is_some_and(open)).map(|(&partition, _)| partition).collect()
}

impl Status {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("job {} · topic {} · table {}\n", self.head.job, self.topic, self.table);
        match &self.last_batch {
            None => text.push_str("no batch yet\n"),
            Some(last) => {
                text.push_str(&match last.kind {
                    "reset" => format!(
                        "last reset  after batch {}, begins epoch {}, snapshot {}, at {}\n",
                        last.batch, last.epoch, last.snapshot_id, last.planned_at
                    ),
                    _ => format!(
                        "last batch  {} (epoch {}), snapshot {}, run {}\n",
                        last.batch, last.epoch, last.snapshot_id, last.planned_at
                    ),
                });
                let named: Vec<String> =
                    last.records.named().iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
                text.push_str(&format!("records     {}\n", if named.is_empty() { "none".into() } else { named.join(", ") }));
            }
        }
        if self.rolled_back {
            text.push_str("rolled back the batches after this one are undone; the next run reads their offsets again\n");
        }
        if self.rejects_open > 0 {
            text.push_str(&format!("open        {} to append; the next run does it\n", counted(self.rejects_open, "reject")));
        }
        text.push_str(&format!("watermark   {}\n", self.watermark.as_deref().unwrap_or("none yet")));
        match (self.lag_records, &self.broker_error) {
            (Some(lag), _) => text.push_str(&format!("lag         {lag} offsets\n")),
            (None, error) => {
                text.push_str(&format!("lag         unknown: {}\n", error.as_deref().unwrap_or("the broker did not answer")))
            }
        }
        if !self.held.is_empty() {
            let partitions: Vec<_> = self.held.iter().map(|partition| format!("partition {partition}")).collect();
            text.push_str(&format!("held        at an open transaction: {}\n", partitions.join(", ")));
        }
        if let Some(seconds) = self.lag_seconds {
            text.push_str(&format!("newest      event time {seconds:.0} s ago\n"));
        }
        let mut rows = vec![["partition", "next offset", "lag"].map(str::to_owned).to_vec()];
        for (partition, next) in self.offsets.values().flatten() {
            let lag = self.lag.get(partition).map_or_else(|| "unknown".into(), u64::to_string);
            rows.push(vec![partition.to_string(), next.to_string(), lag]);
        }
        if rows.len() > 1 {
            text.push_str(&columns(&rows));
        }
        text
    }
}
