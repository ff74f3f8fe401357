//! Plays a script: several runs and other writers, one external call at a time, with the laws checked after every call.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::MAIN_BRANCH;
use tidegate::error::Error;
use tidegate::job::{Ended, RunOptions};
use tidegate::offsets::Offset;
use tidegate::reset::To;
use tidegate::source::Stop;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::script::{Entry, Goal, Script, Step};
use crate::world::foreign::{Foreign, MAIN, WORK, id_of};
use crate::world::laws::Laws;
use crate::world::run::{EPOCH_MS, End, Rules, Running, Start, Style, Task, config, run};
use crate::world::topic::{Log, Message};
use crate::world::{Actor, Fault, Faults, Sabotage, World};

/// Runs under way at the same time.
const RUNS_MAX: usize = 3;

/// Runs without faults that a job needs at most to read what is left: one, and one more where a late effect was first.
const LAST_RUNS: u32 = 2;

/// A history under way.
struct Play<'a> {
    runtime: &'a Arc<Runtime>,
    script: &'a Script,
    world: Arc<World>,
    laws: Laws,
    minute: i64,
    runs: Vec<Underway>,
    started: u32,
    /// Times that files were taken away from running runs.
    taken: Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Taken {
    expired: u32,
    retained: u32,
}

struct Underway {
    running: Running,
    /// What had been taken when it began.
    taken: Taken,
    /// Whether some of its calls fail.
    faulty: bool,
}

/// Plays a script to its end; answers the trace, or which law was broken where.
pub(super) fn play(runtime: &Arc<Runtime>, script: &Script, sabotage: Option<Sabotage>) -> Result<Vec<String>, String> {
    let world = World::new(script.compare, sabotage);
    world.create_table(script.version, script.spec, script.mode);
    for (job, rules) in &script.jobs {
        // What a soft delete keeps depends on the order of arrival, so that an id has one partition then, from the beginning.
        let partitions = if rules.style == Style::Soft { 2 } else { 1 };
        world.with_topic(job, |topic| topic.partitions.resize_with(partitions, Log::default));
    }
    let rules: BTreeMap<_, _> = script.jobs.iter().cloned().collect();
    let laws = Laws::new(&world, rules);
    if script.jobs.iter().any(|(_, rules)| rules.branch == WORK) {
        world.branch_off(&laws.reader);
    }
    let taken = Taken::default();
    let mut play = Play { runtime, script, world, laws, minute: 0, runs: Vec::new(), started: 0, taken };
    let mut broken = Ok(());
    for (number, step) in script.steps.iter().enumerate() {
        broken = play.step(step).map_err(|why| format!("at step {number}: {why}"));
        if broken.is_err() {
            break;
        }
    }
    // Whatever was found, no run may be left at its gate.
    let ended = play.end_runs().map_err(|why| format!("after the last step: {why}"));
    broken.and(ended)?;
    play.last_runs().map_err(|why| format!("in the runs that read what was left: {why}"))?;
    Ok(play.world.trace())
}

impl Play<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Produce { job, partition, entries } => {
                for &entry in entries {
                    self.produce(*job, *partition, entry);
                }
            }
            Step::OpenTransaction { job, partition } => self.with_log(*job, *partition, |log| {
                log.open_from.get_or_insert(log.entries.len().try_into().unwrap());
            }),
            Step::EndTransaction { job, partition } => self.with_log(*job, *partition, |log| {
                if log.open_from.take().is_some() {
                    log.entries.push(None);
                }
            }),
            Step::AddPartition { job } => self.world.with_topic(self.job(*job), |topic| topic.partitions.push(Log::default())),
            Step::Retain { job, partition, entries } => {
                self.taken.retained += 1;
                let entries = Offset::from(*entries);
                self.with_log(*job, *partition, |log| log.earliest = (log.earliest + entries).min(log.last_stable()));
            }
            Step::Start { job, drain, cut_after, faults } => {
                if self.runs.len() < RUNS_MAX {
                    let name = self.job(*job).to_owned();
                    let start = self.start(&name, *drain, cut_after.map(usize::from));
                    self.begin(&name, start, faults);
                }
            }
            Step::Reset { job, to, faults } => {
                if self.runs.len() < RUNS_MAX {
                    let name = self.job(*job).to_owned();
                    let task = Task::Reset(self.goal(*job, *to));
                    let start = Start { task, ..self.start(&name, false, None) };
                    self.begin(&name, start, faults);
                }
            }
            Step::Go { run, calls } => {
                if let Some(at) = usize::from(*run).checked_rem(self.runs.len()) {
                    self.go(at, *calls)?;
                }
            }
            Step::Signal { run } => {
                if let Some(at) = usize::from(*run).checked_rem(self.runs.len()) {
                    self.runs[at].running.start.stop.request(15);
                }
            }
            Step::Foreign { what, branch } => {
                self.taken.expired += u32::from(matches!(what, Foreign::Expire(_) | Foreign::ExpireRejects));
                let written = self.script.jobs.iter().any(|(_, rules)| rules.branch == *branch);
                self.world.foreign(what, if written { branch } else { MAIN_BRANCH }, &self.laws.reader);
                self.laws.hold(&self.world)?;
            }
            Step::Wait { minutes } => self.minute += i64::from(*minutes),
        }
        Ok(())
    }

    fn job(&self, job: u8) -> &str {
        &self.script.jobs[usize::from(job) % self.script.jobs.len()].0
    }

    fn rules(&self, job: &str) -> Rules {
        self.script.jobs.iter().find(|(name, _)| name == job).unwrap().1
    }

    fn begin(&mut self, name: &str, start: Start, faults: &[(u8, Fault)]) {
        let faulty = !faults.is_empty();
        let faults = faults.iter().map(|&(turn, fault)| (turn.into(), fault)).collect();
        let number = self.world.gate.admit();
        let actor = Actor::new(&self.world, Some(number), &format!("{name}/{}", self.started), Faults::Turns(faults), None);
        let running = Running::begin(self.runtime, actor, start);
        self.runs.push(Underway { running, taken: self.taken, faulty });
    }

    /// Where a reset puts a job, as its user says it now.
    fn goal(&self, job: u8, to: Goal) -> To {
        let Goal::Before { partition, offsets } = to else {
            return if to == Goal::Earliest { To::Earliest } else { To::Latest };
        };
        self.world.with_topic(self.job(job), |topic| {
            let partition = usize::from(partition) % topic.partitions.len();
            let log = &topic.partitions[partition];
            let at = (log.last_stable() - Offset::from(offsets)).max(log.earliest);
            To::Offsets(BTreeMap::from([(partition.try_into().unwrap(), at)]))
        })
    }

    fn with_log(&self, job: u8, partition: u8, change: impl FnOnce(&mut Log)) {
        self.world.with_topic(self.job(job), |topic| {
            let partition = usize::from(partition) % topic.partitions.len();
            change(&mut topic.partitions[partition]);
        });
    }

    fn produce(&self, job: u8, partition: u8, entry: Entry) {
        let (name, minute) = (self.job(job).to_owned(), self.minute);
        let entry = if self.rules(&name).style == Style::Soft { entry.in_partition(partition) } else { entry };
        self.with_log(job, partition, |log| {
            let place = format!("{name}/{partition}/{}", log.entries.len());
            log.entries.push(message(entry, minute, &place));
        });
    }

    /// What a run of a job is started with; a job that has no state in the table says so, as its user would.
    fn start(&mut self, job: &str, drain: bool, cut_after: Option<usize>) -> Start {
        self.started += 1;
        let rules = self.rules(job);
        let key = format!("tidegate.state.{job}.{}", rules.branch);
        let known = self.world.heads.lock().unwrap().head(MAIN).unwrap().metadata.properties().contains_key(&key);
        Start {
            config: config(job, rules),
            id: Uuid::from_u128(self.started.into()),
            started_at: (EPOCH_MS + self.minute * 60_000) * 1_000,
            task: Task::Run(RunOptions { drain, first_run: !known }),
            cut_after,
            stop: Stop::default(),
        }
    }

    fn go(&mut self, at: usize, calls: u8) -> Result<(), String> {
        for _ in 0..calls {
            let goes_on = self.runs[at].running.go();
            self.laws.hold(&self.world).map_err(|why| format!("{}: {why}", self.runs[at].running.actor.name))?;
            if !goes_on {
                return self.ended(at);
            }
        }
        Ok(())
    }

    fn ended(&mut self, at: usize) -> Result<(), String> {
        let Underway { mut running, taken, faulty } = self.runs.remove(at);
        let end = running.ended().expect("it made its last call");
        let mut allowed = vec![0];
        // Where every call is answered, only rivals that were always first can keep a run from its end.
        if faulty || matches!(&end, Ok(Ended { outcome: Err(Error::Contended { .. }), .. })) {
            allowed.push(75);
        }
        // It says that nothing was committed.
        if running.start.stop.requested().is_some() && matches!(&end, Ok(Ended { batches, .. }) if batches.is_empty()) {
            allowed.push(143);
        }
        let first_run = matches!(running.start.task, Task::Run(RunOptions { first_run: true, .. }));
        // A partition that is not named has no place to stay at before the job has read it.
        let names_offsets = matches!(running.start.task, Task::Reset(To::Offsets(_)));
        if first_run || names_offsets || taken.retained != self.taken.retained {
            allowed.push(65);
        }
        if taken.expired != self.taken.expired {
            allowed.push(78);
        }
        let code = code(&end);
        self.world.note(&format!("{} ended with {code}: {}", running.actor.name, told(&end)));
        if allowed.contains(&code) {
            return Ok(());
        }
        Err(format!("run {} ended with {code}: {}", running.actor.name, told(&end)))
    }

    /// Lets every run go on to its end, in turns.
    fn end_runs(&mut self) -> Result<(), String> {
        let mut broken = Ok(());
        while !self.runs.is_empty() {
            for at in (0..self.runs.len()).rev() {
                broken = broken.and(self.go(at, 1));
            }
        }
        broken
    }

    /// Every job reads what is left, without faults; nothing that comes late after that may matter.
    fn last_runs(&mut self) -> Result<(), String> {
        self.world.land_all();
        self.laws.hold(&self.world)?;
        for (job, _) in &self.script.jobs {
            for _ in 0..LAST_RUNS {
                let start = self.start(job, true, None);
                let actor = Actor::new(&self.world, None, &format!("{job}/last/{}", self.started), Faults::None, None);
                let end = run(self.runtime, &actor, &start);
                if code(&end) != 0 {
                    return Err(format!("run {} ended with {}: {}", actor.name, code(&end), told(&end)));
                }
                self.laws.hold(&self.world)?;
            }
        }
        self.laws.complete(&self.world)?;
        self.world.land_all();
        self.laws.complete(&self.world)?;
        Ok(())
    }
}

fn code(end: &End) -> u8 {
    match end {
        Ok(ended) => ended.outcome.as_ref().map_or_else(|error| error.exit_code(), |_| 0),
        Err(_) => 101,
    }
}

/// An end in words, causes included.
fn told(end: &End) -> String {
    let error = match end {
        Ok(ended) => match &ended.outcome {
            Ok(outcome) => return format!("{outcome:?}"),
            Err(error) => error,
        },
        Err(panic) => return format!("panic: {panic}"),
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn message(entry: Entry, minute: i64, place: &str) -> Option<Message> {
    let time = |minute: i64| EPOCH_MS + minute * 60_000;
    let at = |minute| chrono::DateTime::from_timestamp_millis(time(minute)).unwrap().to_rfc3339();
    let value = |value: serde_json::Value| Some(value.to_string());
    let (key, value, minute) = match entry {
        Entry::Row { id, minute, version } => {
            (None, value(serde_json::json!({"id": id_of(id), "at": at(minute), "version": version, "title": place})), minute)
        }
        Entry::Tombstone { id, minute } => (Some(id_of(id)), None, minute),
        Entry::NoKey => (None, None, minute),
        Entry::NoJson => (None, Some(place.to_owned()), minute),
        Entry::NoId => (None, value(serde_json::json!({"at": at(minute), "title": place})), minute),
        Entry::NoTime => (None, value(serde_json::json!({"id": "id0", "title": place})), minute),
        Entry::Hidden => return None,
    };
    Some(Message { key, value, timestamp_ms: time(minute) })
}
