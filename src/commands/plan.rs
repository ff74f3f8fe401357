//! `tidegate plan`: which offsets the next run would read. Reads none, and changes nothing.

use serde::Serialize;

use crate::commands::{columns, open_source, open_tables};
use crate::config::Config;
use crate::error::Result;
use crate::job::{Supplied, load_table, next_plan};
use crate::report::Head;
use crate::source::Source;
use crate::state;

/// What `plan` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Planned {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Full name of the table.
    pub table: String,
    /// Topic.
    pub topic: String,
    /// Number of the batch that the run would commit.
    pub batch: u64,
    /// Whether a run would commit anything.
    pub empty: bool,
    /// Whether a run without `--drain` would wait for more, by `limits.min_offsets_per_trigger`.
    pub too_little: bool,
    /// Offsets that the run would read.
    pub planned: u64,
    /// Offsets between the table's state and the last stable offsets.
    pub lag: u64,
    /// Partitions whose new offsets lie behind an open transaction.
    pub held: Vec<i32>,
    /// One entry per partition.
    pub partitions: Vec<PartitionPlan>,
}

/// What a run would read of one partition.
#[derive(Debug, Serialize)]
pub struct PartitionPlan {
    /// Partition.
    pub partition: i32,
    /// First offset to read.
    pub start: i64,
    /// Next offset to read afterwards.
    pub end: i64,
    /// Earliest offset that the broker holds; none where it could not be asked.
    pub earliest: Option<i64>,
    /// Last stable offset.
    pub last_stable: Option<i64>,
    /// High watermark.
    pub high_watermark: Option<i64>,
    /// Range given up, where `on_data_loss = "skip"`: start and end.
    pub skipped: Option<(i64, i64)>,
}

/// Makes the plan that a run would make, and refuses what a run would refuse. `now` is µs since the epoch.
pub async fn planned(config: &Config, now: i64) -> Result<Planned> {
    let table = load_table(&open_tables(config)?.catalog, config).await?;
    Supplied::of(config, &table)?;
    let state = state::find(&table, &config.table.branch, &config.name).await?;
    state::may_begin(&state, &table, config, false)?;
    let source = open_source(config)?;
    let bounds = tokio::task::block_in_place(|| source.bounds())?;
    let plan = next_plan(config, &source, &state, &bounds, None)?;
    let partitions = plan
        .starts
        .iter()
        .map(|(&partition, &start)| {
            let bounds = bounds.partitions.get(&partition).copied().flatten();
            PartitionPlan {
                partition,
                start,
                end: plan.ranges.get(&partition).map_or(start, |at| at.range.end()),
                earliest: bounds.map(|b| b.earliest),
                last_stable: bounds.map(|b| b.last_stable),
                high_watermark: bounds.map(|b| b.high_watermark),
                skipped: plan.skipped.get(&partition).copied(),
            }
        })
        .collect();
    Ok(Planned {
        head: Head::of("plan", &config.name),
        table: table.ident.to_string(),
        topic: bounds.topic.clone(),
        batch: state.progress().map_or(1, |p| p.batch + 1),
        empty: plan.is_empty(),
        too_little: !plan.is_empty() && plan.is_too_little(state.progress(), &config.limits, now),
        planned: plan.planned(),
        lag: plan.lag,
        held: plan.held,
        partitions,
    })
}

impl Planned {
    /// For a person.
    pub fn text(&self) -> String {
        let head = match (self.empty, self.planned) {
            (true, _) => format!("{}: nothing new in {}; a run would commit nothing\n", self.head.job, self.topic),
            (false, 0) => {
                format!("{}: a run would commit batch {} to pin its offsets, without reading any\n", self.head.job, self.batch)
            }
            (false, planned) => {
                format!("{}: a run would read {planned} of {} offsets as batch {}\n", self.head.job, self.lag, self.batch)
            }
        };
        let known = |offset: Option<i64>| offset.map_or_else(|| "unreachable".to_owned(), |offset| offset.to_string());
        let mut rows =
            vec![["partition", "start", "end", "offsets", "earliest", "last stable", "high watermark"].map(str::to_owned).to_vec()];
        for p in &self.partitions {
            rows.push(vec![
                p.partition.to_string(),
                p.start.to_string(),
                p.end.to_string(),
                (p.end - p.start).to_string(),
                known(p.earliest),
                known(p.last_stable),
                known(p.high_watermark),
            ]);
        }
        let mut text = head;
        if self.too_little {
            let new = if self.lag == 1 { "1 new offset is".to_owned() } else { format!("{} new offsets are", self.lag) };
            text.push_str(&format!(
                "it would wait for more: {new} below `limits.min_offsets_per_trigger`; with `--drain` it would not\n"
            ));
        }
        text.push_str(&columns(&rows));
        for p in &self.partitions {
            if let Some((start, end)) = p.skipped {
                text.push_str(&format!(
                    "partition {}: offsets {start} to {end} are gone from Kafka and would be skipped\n",
                    p.partition
                ));
            }
        }
        for partition in &self.held {
            text.push_str(&format!("partition {partition}: held at an open transaction; what is behind it cannot be read yet\n"));
        }
        text
    }
}
