//! What happens in a history, as data: drawn from a seed, printed when it fails, and still a history with any step left out.

use std::fmt;

use iceberg::spec::{FormatVersion, MAIN_BRANCH};

use crate::world::Fault;
use crate::world::catalog::Compare;
use crate::world::foreign::{Foreign, WORK};
use crate::world::random::Random;
use crate::world::run::{Rules, Style};

/// Ids that records and other writers use: few, so that they meet.
const IDS: u64 = 7;

/// Calls of a run that may meet a fault; what it makes later goes well.
const FAULTY_TURNS: u64 = 40;

/// A whole history.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) version: FormatVersion,
    pub(super) spec: u8,
    /// `write.merge.mode`.
    pub(super) mode: &'static str,
    pub(super) compare: Compare,
    /// Each reads the topic of its name.
    pub(super) jobs: Vec<(String, Rules)>,
    pub(super) steps: Vec<Step>,
}

/// One thing that happens. Numbers of runs, jobs and partitions mean one of those that there are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Produce { job: u8, partition: u8, entries: Vec<Entry> },
    OpenTransaction { job: u8, partition: u8 },
    EndTransaction { job: u8, partition: u8 },
    AddPartition { job: u8 },
    Retain { job: u8, partition: u8, entries: u8 },
    Start { job: u8, drain: bool, cut_after: Option<u8>, faults: Vec<(u8, Fault)> },
    Reset { job: u8, to: Goal, faults: Vec<(u8, Fault)> },
    Go { run: u8, calls: u8 },
    Signal { run: u8 },
    Foreign { what: Foreign, branch: &'static str },
    Wait { minutes: u8 },
}

/// Where a reset puts a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Earliest,
    Latest,
    /// One partition, so many offsets before its end; the others stay.
    Before {
        partition: u8,
        offsets: u8,
    },
}

/// One entry of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Entry {
    Row { id: u8, minute: i64, version: Option<u8> },
    Tombstone { id: u8, minute: i64 },
    NoKey,
    NoJson,
    NoId,
    NoTime,
    Hidden,
}

impl Entry {
    /// The same with an id that no other of two partitions has.
    pub(super) fn in_partition(self, partition: u8) -> Self {
        let only = |id: u8| id - id % 2 + partition;
        match self {
            Self::Row { id, minute, version } => Self::Row { id: only(id), minute, version },
            Self::Tombstone { id, minute } => Self::Tombstone { id: only(id), minute },
            other => other,
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table of format {}, spec {}, {}, swaps compare {:?}", self.version, self.spec, self.mode, self.compare)?;
        for (job, rules) in &self.jobs {
            writeln!(f, "job {job}: {rules:?}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{number:3} {step:?}")?;
        }
        Ok(())
    }
}

impl Script {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let jobs = 1 + random.below(3);
        // A soft delete keeps the values of the highest row: no job may add rows that are equal to others.
        let styles = *random.pick(&[
            [Style::Merge; 3],
            [Style::Merge, Style::Merge, Style::Append],
            [Style::Merge, Style::Soft, Style::Soft],
        ]);
        let branches = *random.pick(&[[MAIN_BRANCH, MAIN_BRANCH], [MAIN_BRANCH, MAIN_BRANCH], [MAIN_BRANCH, WORK]]);
        let rules = |random: &mut Random| Rules {
            style: *random.pick(&styles),
            branch: random.pick::<&str>(&branches),
            ties_keep: random.one_in(3),
            late: random.pick::<&str>(&["reject", "reject", "drop", "merge"]),
            max_offsets: *random.pick(&[3, 6, 1_000]),
        };
        let jobs = ["a", "b", "c"][..usize::try_from(jobs).unwrap()].iter().map(|job| ((*job).to_owned(), rules(&mut random)));
        let jobs: Vec<_> = jobs.collect();
        let mut drawing = Drawing { random, minute: 0, jobs: jobs.len().try_into().unwrap() };
        let random = &mut drawing.random;
        let mut script = Self {
            version: *random.pick(&[FormatVersion::V2, FormatVersion::V3]),
            spec: small(random, 3),
            mode: random.pick::<&str>(&["merge-on-read", "merge-on-read", "copy-on-write"]),
            compare: *random.pick(&[Compare::Location, Compare::Requirements]),
            jobs,
            steps: Vec::new(),
        };
        let count = 15 + random.below(35);
        for job in 0..drawing.jobs {
            script.steps.push(drawing.produce(job));
        }
        for _ in 0..count {
            let step = drawing.step();
            script.steps.push(step);
        }
        script
    }
}

fn small(random: &mut Random, bound: u64) -> u8 {
    u8::try_from(random.below(bound)).unwrap()
}

struct Drawing {
    random: Random,
    minute: i64,
    jobs: u8,
}

impl Drawing {
    fn step(&mut self) -> Step {
        let job = small(&mut self.random, self.jobs.into());
        let partition = small(&mut self.random, 2);
        let run = small(&mut self.random, 3);
        match self.random.below(100) {
            0..18 => self.produce(job),
            18..36 => self.start(job),
            36..69 => Step::Go { run, calls: *self.random.pick(&[1, 2, 3, 5, 8, 13, 40]) },
            69..84 => {
                let what = self.foreign();
                Step::Foreign { what, branch: self.random.pick::<&str>(&[MAIN_BRANCH, MAIN_BRANCH, WORK]) }
            }
            84 => self.reset(job),
            85..87 => Step::OpenTransaction { job, partition },
            87..90 => Step::EndTransaction { job, partition },
            90..92 => Step::AddPartition { job },
            92..94 => Step::Retain { job, partition, entries: 1 + small(&mut self.random, 6) },
            94..96 => Step::Signal { run },
            _ => {
                let minutes = *self.random.pick(&[5, 20, 60]);
                self.minute += i64::from(minutes);
                Step::Wait { minutes }
            }
        }
    }

    fn faults(&mut self) -> Vec<(u8, Fault)> {
        let random = &mut self.random;
        let faults = if random.one_in(3) { 1 + random.below(2) } else { 0 };
        let fault = |random: &mut Random| (small(random, FAULTY_TURNS), *random.pick(&Fault::ALL));
        (0..faults).map(|_| fault(random)).collect()
    }

    fn reset(&mut self, job: u8) -> Step {
        let faults = self.faults();
        let random = &mut self.random;
        let before = Goal::Before { partition: small(random, 2), offsets: small(random, 9) };
        Step::Reset { job, to: *random.pick(&[Goal::Earliest, Goal::Latest, before]), faults }
    }

    fn start(&mut self, job: u8) -> Step {
        let faults = self.faults();
        let random = &mut self.random;
        let cut_after = random.one_in(4).then(|| 1 + small(random, 6));
        Step::Start { job, drain: random.one_in(3), cut_after, faults }
    }

    fn produce(&mut self, job: u8) -> Step {
        let count = 1 + self.random.below(8);
        let entries = (0..count).map(|_| self.entry()).collect();
        Step::Produce { job, partition: small(&mut self.random, 2), entries }
    }

    fn entry(&mut self) -> Entry {
        let random = &mut self.random;
        let id = small(random, IDS);
        // Mostly about now; some long before, some long after what a clock can be wrong by.
        let near = self.minute - i64::try_from(random.below(12)).unwrap();
        let minute = match random.below(12) {
            0 => near - 100,
            1 => near + 600,
            _ => near,
        };
        match random.below(24) {
            0 => Entry::NoKey,
            1 => Entry::NoJson,
            2 => Entry::NoId,
            3 => Entry::NoTime,
            4 | 5 => Entry::Hidden,
            6 | 7 => Entry::Tombstone { id, minute: near },
            8 => Entry::Row { id, minute, version: None },
            _ => Entry::Row { id, minute, version: Some(small(random, 3)) },
        }
    }

    fn foreign(&mut self) -> Foreign {
        let random = &mut self.random;
        let id = small(random, IDS);
        match random.below(26) {
            0..5 => {
                let count = 1 + random.below(3);
                let ids = (0..count).map(|_| small(random, IDS)).collect();
                Foreign::Append(ids, self.minute - i64::try_from(random.below(20)).unwrap())
            }
            5..8 => Foreign::Compact,
            8..11 => Foreign::Delete(id),
            11..13 => Foreign::Rewrite(id),
            13..15 => Foreign::Expire(1 + small(random, 4)),
            15..18 => Foreign::Rollback(1 + small(random, 4)),
            18 => Foreign::AddColumn,
            19 => Foreign::ChangeSpec(small(random, 3)),
            20 => Foreign::Upgrade,
            21 => Foreign::SetProperty(id),
            22 | 23 => Foreign::Branch,
            24 => Foreign::CompactRejects,
            _ => Foreign::ExpireRejects,
        }
    }
}
