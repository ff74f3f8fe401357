//! Every external call of a run times every fault.
//!
//! A run is bounded, so its calls can be counted: one run is recorded, then each of its calls meets each fault in a world of its
//! own. After that the next runs go without faults, and the tables must be what they are where nothing ever failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iceberg::spec::FormatVersion;
use tidegate::job::RunOptions;
use tidegate::report::Outcome;
use tidegate::source::Stop;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::world::catalog::{Broken, Compare};
use crate::world::foreign::{Foreign, MAIN, REJECTS};
use crate::world::laws::Laws;
use crate::world::model::Model;
use crate::world::reader::{Reader, Reject, Row};
use crate::world::run::{EPOCH_MS, End, Rules, Start, Style, Task, config, run};
use crate::world::topic::{Log, Message};
use crate::world::{Actor, Call, Fault, Faults, Hook, Op, Sabotage, World, say};

pub(crate) const RULES: Rules = Rules { style: Style::Merge, branch: "main", ties_keep: false, late: "reject", max_offsets: 1_000 };

/// Who is in the way of the swept run's first commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InTheWay {
    /// Another writer appends rows, one of an id that the batch holds.
    Writer,
    /// Another run of the same job commits the same batch. The run before left its rejects open.
    Rival,
}

/// What every point starts from, and what all of them must come to.
struct Sweep {
    runtime: Runtime,
    world: Arc<World>,
    in_the_way: InTheWay,
}

/// What the tables hold in the end.
#[derive(Debug, PartialEq, Eq)]
struct Tables {
    rows: Vec<Row>,
    rejects: BTreeSet<Reject>,
}

pub(crate) fn record(id: &str, minute: i64, version: i64) -> Option<Message> {
    let at = chrono::DateTime::from_timestamp_millis(EPOCH_MS + minute * 60_000).unwrap().to_rfc3339();
    let value = format!(r#"{{"id": "{id}", "at": "{at}", "version": {version}, "title": "{id} {minute} {version}"}}"#);
    Some(Message { key: Some(id.to_owned()), value: Some(value), timestamp_ms: EPOCH_MS })
}

pub(crate) fn raw(key: Option<&str>, value: Option<&str>, minute: i64) -> Option<Message> {
    let timestamp_ms = EPOCH_MS + minute * 60_000;
    Some(Message { key: key.map(str::to_owned), value: value.map(str::to_owned), timestamp_ms })
}

pub(crate) fn produce(world: &World, records: [Vec<Option<Message>>; 2]) {
    world.with_topic("a", |topic| {
        let partitions = topic.partitions.len().max(2);
        topic.partitions.resize_with(partitions, Log::default);
        for (log, records) in topic.partitions.iter_mut().zip(records) {
            log.entries.extend(records);
        }
    });
}

impl Sweep {
    /// A table with a first batch and another writer's rows in it, and a topic with a second batch: inserts, updates, a delete,
    /// undecodable, late and future records.
    fn new(version: FormatVersion, compare: Compare, in_the_way: InTheWay) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let world = World::new(compare, None);
        world.create_table(version, 1, "merge-on-read");
        produce(&world, [vec![record("id1", 0, 1), record("id2", 1, 1), None], vec![record("id3", 30, 1), record("id4", 31, 1)]]);
        let sweep = Self { runtime, world, in_the_way };
        match in_the_way {
            InTheWay::Writer => sweep.clean(&sweep.world, 1),
            InTheWay::Rival => {
                produce(&sweep.world, [vec![raw(None, Some("nor this"), 0)], vec![]]);
                if compare == Compare::Requirements {
                    // Such a server commits the rejects with the batch, if it keeps its word.
                    sweep.world.heads.lock().unwrap().broken = Some(Broken::No);
                }
                let faults = Faults::At(Call { op: Op::Swap, path: MAIN.to_owned(), nth: 0 }, Fault::StopsAfter);
                let dies = Actor::new(&sweep.world, None, "dies", faults, None);
                assert_eq!(run(&sweep.runtime, &dies, &Self::start(1)).unwrap().outcome.unwrap_err().exit_code(), 75);
            }
        }
        sweep.world.foreign(&Foreign::Append(vec![5, 1], 32), RULES.branch, &Reader::new(&sweep.world));
        sweep.world.with_topic("a", |topic| {
            // A third partition holds nothing but an open transaction.
            topic.partitions.push(Log { entries: vec![record("id2", 90, 1)], open_from: Some(0), ..Log::default() });
        });
        produce(
            &sweep.world,
            [
                vec![record("id1", 33, 2), record("id6", 34, 1), raw(None, Some("no json"), 0), record("id7", 2, 1)],
                vec![record("id6", 35, 2), raw(Some("id3"), None, 36), record("id8", 600, 1), record("id9", 30, 1)],
            ],
        );
        sweep
    }

    fn start(number: u128) -> Start {
        Start {
            config: config("a", RULES),
            id: Uuid::from_u128(number),
            started_at: EPOCH_MS * 1_000,
            task: Task::Run(RunOptions::default()),
            cut_after: None,
            stop: Stop::default(),
        }
    }

    /// A run that nothing happens to.
    fn clean(&self, world: &Arc<World>, number: u128) {
        let ended = run(&self.runtime, &Actor::new(world, None, "clean", Faults::None, None), &Self::start(number));
        let outcome = ended.unwrap().outcome;
        assert!(matches!(outcome, Ok(Outcome::Committed | Outcome::NothingNew)), "run {number}: {outcome:?}");
    }

    /// Does what is in the way, once.
    fn get_in_the_way(in_the_way: InTheWay, done: &AtomicBool, world: &Arc<World>) {
        if done.swap(true, Ordering::SeqCst) {
            return;
        }
        match in_the_way {
            InTheWay::Writer => world.foreign(&Foreign::Append(vec![6, 7], 40), RULES.branch, &Reader::new(world)),
            InTheWay::Rival => {
                let world = Arc::clone(world);
                let rival = std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                    let actor = Actor::new(&world, None, "rival", Faults::None, None);
                    run(&runtime, &actor, &Self::start(50)).unwrap().outcome.unwrap()
                });
                assert_eq!(rival.join().unwrap(), Outcome::Committed);
            }
        }
    }

    /// The swept run in a copy of the world, and the runs after it. Answers what the swept run did and what came of it all.
    fn point(&self, faults: Faults) -> (Arc<World>, Arc<Actor>, End, Result<Tables, String>) {
        let world = self.world.fork(self.world.sabotage);
        let done = Arc::new(AtomicBool::new(false));
        let hook: Hook = Box::new({
            let (world, done, in_the_way) = (Arc::downgrade(&world), Arc::clone(&done), self.in_the_way);
            move |_, call| {
                if call.op == Op::Swap && call.path == MAIN {
                    Self::get_in_the_way(in_the_way, &done, &world.upgrade().unwrap());
                }
            }
        });
        let actor = Actor::new(&world, None, "swept", faults, Some(hook));
        let end = run(&self.runtime, &actor, &Self::start(2));
        Self::get_in_the_way(self.in_the_way, &done, &world);
        let tables = self.aftermath(&world);
        (world, actor, end, tables)
    }

    /// Two runs without faults, the second one after the topic has grown; then what hangs in the air comes.
    fn aftermath(&self, world: &Arc<World>) -> Result<Tables, String> {
        let mut laws = Laws::new(world, BTreeMap::from([("a".to_owned(), RULES)]));
        laws.hold(world)?;
        for number in [3, 4] {
            let ended = run(&self.runtime, &Actor::new(world, None, "clean", Faults::None, None), &Self::start(number))?;
            let outcome = ended.outcome.map_err(|e| format!("run {number}: {e}"))?;
            if !matches!(outcome, Outcome::Committed | Outcome::NothingNew) {
                return Err(format!("run {number}: {outcome:?}"));
            }
            laws.complete(world)?;
            if number == 3 {
                produce(world, [vec![record("id2", 50, 9)], vec![raw(None, None, 51)]]);
            }
        }
        world.land_all();
        let Model { rows, rejects, .. } = laws.complete(world)?.remove(RULES.branch).expect("the job writes it");
        Ok(Tables { rows: rows.into_values().flatten().collect(), rejects })
    }

    /// What must come of every point: what comes of a run that nothing happens to.
    fn expected(&self) -> (Vec<Call>, Tables) {
        let (_, actor, end, tables) = self.point(Faults::None);
        end.unwrap().outcome.unwrap();
        (actor.calls(), tables.unwrap())
    }

    /// Tries every fault at these calls; answers how many faults were met and what went wrong.
    fn tries(&self, calls: &[Call], expected: &Tables) -> (usize, Vec<String>) {
        let (mut tried, mut wrong) = (0, Vec::new());
        for call in calls {
            for fault in Fault::ALL {
                let (_, actor, end, tables) = self.point(Faults::At(call.clone(), fault));
                tried += usize::from(actor.met_fault());
                let code = match &end {
                    Ok(ended) => ended.outcome.as_ref().map_or_else(|error| error.exit_code(), |_| 0),
                    Err(_) => 101,
                };
                let verdict = match tables {
                    Err(why) => Some(why),
                    Ok(tables) if tables != *expected => Some(format!("{tables:?} is not {expected:?}")),
                    Ok(_) if ![0, 75].contains(&code) => Some(format!("the run ended with {code}: {end:?}")),
                    Ok(_) => None,
                };
                wrong.extend(verdict.map(|why| format!("{call}: {fault:?}: {why}")));
            }
        }
        (tried, wrong)
    }
}

fn swept(version: FormatVersion, compare: Compare, in_the_way: InTheWay) {
    let sweep = Sweep::new(version, compare, in_the_way);
    let (calls, expected) = sweep.expected();
    let (tried, wrong) = sweep.tries(&calls, &expected);
    let points = calls.len() * Fault::ALL.len();
    say(&format!(
        "crash sweep, format {version}, {in_the_way:?} in the way: {} calls x {} faults, {tried} points tried",
        calls.len(),
        Fault::ALL.len()
    ));
    assert!(wrong.is_empty(), "{} of {points} points:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(tried, points, "every fault at every call must be met");
    let ops = if in_the_way == InTheWay::Writer { CONFLICTING } else { OVERTAKEN };
    let missing: Vec<_> = ops.iter().filter(|op| !calls.iter().any(|call| call.op == **op)).collect();
    assert!(missing.is_empty(), "the run never makes {missing:?}");
}

/// What the two runs must ask for, so that the sweep is about everything that a run can ask for.
const CONFLICTING: &[Op] =
    &[Op::Load, Op::Create, Op::Swap, Op::Get, Op::Put, Op::Delete, Op::Bounds, Op::Held, Op::Pull, Op::Chunk, Op::Mirror];
const OVERTAKEN: &[Op] = &[Op::Load, Op::Swap, Op::Get, Op::Head, Op::Put, Op::Delete, Op::Bounds, Op::Pull, Op::Chunk];

#[test]
fn the_same_run_makes_the_same_calls() {
    let traces = [0, 1].map(|_| {
        let sweep = Sweep::new(FormatVersion::V2, Compare::Location, InTheWay::Writer);
        let (world, actor, _, tables) = sweep.point(Faults::None);
        (world.trace(), actor.calls().len(), tables.unwrap())
    });
    assert_eq!(traces[0].0, traces[1].0, "nothing can be swept that does not repeat");
    assert_eq!(traces[0], traces[1]);
}

#[test]
fn no_fault_at_any_call_of_a_conflicting_run_harms_a_v2_table() {
    swept(FormatVersion::V2, Compare::Location, InTheWay::Writer);
}

#[test]
fn no_fault_at_any_call_of_a_conflicting_run_harms_a_v3_table() {
    swept(FormatVersion::V3, Compare::Requirements, InTheWay::Writer);
}

#[test]
fn no_fault_at_any_call_of_an_overtaken_run_harms_a_v2_table() {
    swept(FormatVersion::V2, Compare::Requirements, InTheWay::Rival);
}

#[test]
fn no_fault_at_any_call_of_an_overtaken_run_harms_a_v3_table() {
    swept(FormatVersion::V3, Compare::Location, InTheWay::Rival);
}

/// Only a rejects append left open makes a run fail after its commit.
#[test]
fn offsets_that_cannot_be_mirrored_are_a_warning() {
    let sweep = Sweep::new(FormatVersion::V2, Compare::Location, InTheWay::Writer);
    let (calls, _) = sweep.expected();
    let mirror = calls.into_iter().find(|call| call.op == Op::Mirror).unwrap();
    let (_, _, end, _) = sweep.point(Faults::At(mirror, Fault::Fails));
    let ended = end.unwrap();
    assert_eq!(ended.outcome.unwrap(), Outcome::Committed);
    assert!(ended.warnings.iter().any(|warning| warning.starts_with("offsets were not mirrored to group `tidegate-a`")));
}

/// What Iceberg's own server says of several tables is no promise: it checks them all, and then changes one after another.
#[test]
fn a_server_that_changes_some_of_several_tables_is_not_believed() {
    for broken in [Broken::Yes, Broken::No] {
        let sweep = Sweep::new(FormatVersion::V2, Compare::Requirements, InTheWay::Writer);
        let (_, expected) = sweep.expected();
        sweep.world.heads.lock().unwrap().broken = Some(broken);
        let (world, _, end, tables) = sweep.point(Faults::None);
        let ended = end.unwrap();
        assert_eq!(ended.outcome.unwrap(), Outcome::Committed, "{broken:?}");
        assert_eq!(world.heads.lock().unwrap().broken, None, "the run commits rows and rejects together");
        let said: Vec<_> = ended.batches.iter().map(|batch| batch.snapshot_id).collect();
        let found = said.iter().all(|id| world.heads.lock().unwrap().snapshot(*id).is_some());
        assert!(!said.is_empty() && found, "{broken:?}: the run says {said:?}");
        assert_eq!(tables.unwrap(), expected, "{broken:?}");
    }
}

/// Each load is a request and a metadata file of any size.
#[test]
fn a_run_with_nothing_new_loads_no_table_more_often_than_it_must() {
    let sweep = Sweep::new(FormatVersion::V2, Compare::Location, InTheWay::Writer);
    let loads = |number| {
        let actor = Actor::new(&sweep.world, None, "looks", Faults::None, None);
        let ended = run(&sweep.runtime, &actor, &Sweep::start(number)).unwrap();
        assert_eq!(ended.outcome.unwrap(), Outcome::NothingNew);
        let loads: Vec<_> = actor.calls().into_iter().filter(|call| call.op == Op::Load).map(|call| call.path).collect();
        loads
    };
    sweep.clean(&sweep.world, 2);
    assert_eq!(loads(3), [MAIN, REJECTS], "whether the rejects of the last batch arrived stands in their table");
    produce(&sweep.world, [vec![record("id2", 50, 9)], vec![]]);
    sweep.clean(&sweep.world, 4);
    assert_eq!(loads(5), [MAIN]);
}

/// A build broken on purpose: the sweep must fail.
fn notices(sabotage: Sabotage, in_the_way: InTheWay) {
    let sweep = Sweep::new(FormatVersion::V2, Compare::Requirements, in_the_way);
    let (mut calls, expected) = sweep.expected();
    calls.retain(|call| call.op == Op::Swap);
    let world = sweep.world.fork(Some(sabotage));
    let (_, wrong) = Sweep { world, ..sweep }.tries(&calls, &expected);
    let first = wrong.first().unwrap_or_else(|| panic!("{sabotage:?} went unnoticed at {} calls", calls.len()));
    say(&format!("{sabotage:?} noticed at {} points, as in {first:.160}", wrong.len()));
}

#[test]
fn a_build_that_takes_silence_for_a_refusal_is_noticed() {
    notices(Sabotage::UnclearIsRefusal, InTheWay::Writer);
}

#[test]
fn a_build_that_asserts_nothing_about_the_head_is_noticed() {
    notices(Sabotage::NoRequirements, InTheWay::Writer);
}

#[test]
fn a_build_that_does_not_look_for_rivals_is_noticed() {
    notices(Sabotage::BlindToRivals, InTheWay::Rival);
}

#[test]
fn a_build_that_does_not_mark_its_rejects_is_noticed() {
    notices(Sabotage::RejectsUnmarked, InTheWay::Writer);
}
