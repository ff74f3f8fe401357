//! How a run ends when something goes wrong at one call of it, and what it leaves behind then.

use std::sync::Arc;

use iceberg::spec::FormatVersion;
use tidegate::job::{Ended, RunOptions};
use tidegate::report::Outcome;
use tidegate::source::Stop;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::sweep::{RULES, produce, raw, record};
use crate::world::catalog::{Broken, Compare};
use crate::world::foreign::{MAIN, REJECTS};
use crate::world::run::{EPOCH_MS, Rules, Start, Task, config, run};
use crate::world::topic::Log;
use crate::world::{Actor, Call, Fault, Faults, Hook, Op, World};

/// A table, and a topic with four records; the last one is a reject.
struct Place {
    runtime: Runtime,
    world: Arc<World>,
}

impl Place {
    fn new(compare: Compare) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let world = World::new(compare, None);
        world.create_table(FormatVersion::V2, 1, "merge-on-read");
        let rows = vec![record("id1", 0, 1), record("id2", 1, 1), record("id3", 2, 1), raw(None, Some("no json"), 0)];
        produce(&world, [rows, vec![]]);
        Self { runtime, world }
    }

    /// A run in a copy of the world.
    fn run(&self, drain: bool, faults: Faults, stop: &Stop, hook: Option<Hook>) -> (Arc<Actor>, Ended) {
        let actor = Actor::new(&self.world.fork(None), None, "run", faults, hook);
        let start = Start {
            config: config("a", Rules { max_offsets: if drain { 2 } else { 1_000 }, ..RULES }),
            id: Uuid::from_u128(1),
            started_at: EPOCH_MS * 1_000,
            task: Task::Run(RunOptions { drain, first_run: false }),
            cut_after: None,
            stop: stop.clone(),
        };
        let ended = run(&self.runtime, &actor, &start).unwrap();
        (actor, ended)
    }

    /// The calls of a run that nothing happens to.
    fn calls(&self, drain: bool) -> Vec<Call> {
        let (actor, ended) = self.run(drain, Faults::None, &Stop::default(), None);
        assert_eq!(ended.outcome.unwrap(), Outcome::Committed);
        actor.calls()
    }

    /// A run that gets a signal at one call, and meets these faults.
    fn signalled(&self, drain: bool, at: &Call, faults: Faults) -> Ended {
        let stop = Stop::default();
        let hook: Hook = Box::new({
            let (stop, at) = (stop.clone(), at.clone());
            move |_, call| {
                if *call == at {
                    stop.request(15);
                }
            }
        });
        self.run(drain, faults, &stop, Some(hook)).1
    }
}

fn last(calls: &[Call], op: Op, path: &str) -> Call {
    calls.iter().rfind(|call| call.op == op && call.path == path).unwrap().clone()
}

#[test]
fn a_signal_does_not_hide_what_a_drain_committed() {
    let place = Place::new(Compare::Location);
    let second = Call { op: Op::Load, path: MAIN.to_owned(), nth: 1 };
    let ended = place.signalled(true, &second, Faults::At(second.clone(), Fault::Fails));
    assert_eq!(ended.batches.len(), 1);
    assert_eq!(ended.outcome.unwrap(), Outcome::Committed);
}

#[test]
fn a_signal_does_not_hide_that_rejects_are_open() {
    let place = Place::new(Compare::Location);
    let append = last(&place.calls(false), Op::Load, REJECTS);
    let ended = place.signalled(false, &append, Faults::At(append.clone(), Fault::Fails));
    assert_eq!(ended.batches.len(), 1);
    assert_eq!(ended.outcome.unwrap_err().exit_code(), 75);
}

#[test]
fn a_signal_does_not_hide_that_a_commit_may_have_gone_in() {
    let place = Place::new(Compare::Location);
    let calls = place.calls(false);
    let swap = last(&calls, Op::Swap, MAIN);
    let turns = calls.iter().filter(|call| !matches!(call.op, Op::Get | Op::Head));
    let turn = u32::try_from(turns.take_while(|call| **call != swap).count()).unwrap();
    let faults = Faults::Turns((turn..turn + 100).map(|turn| (turn, Fault::Vanishes)).collect());
    let ended = place.signalled(false, &swap, faults);
    assert!(ended.batches.is_empty());
    assert_eq!(ended.outcome.unwrap_err().exit_code(), 75);
}

#[test]
fn a_signal_while_the_topic_is_away_ends_a_run_with_nothing_committed() {
    let place = Place::new(Compare::Location);
    let bounds = last(&place.calls(false), Op::Bounds, "a");
    let ended = place.signalled(false, &bounds, Faults::At(bounds.clone(), Fault::Fails));
    assert_eq!(ended.outcome.unwrap_err().exit_code(), 143);
}

#[test]
fn a_gateway_before_the_address_of_several_tables_does_not_stop_a_job() {
    let place = Place::new(Compare::Requirements);
    place.world.heads.lock().unwrap().broken = Some(Broken::Gateway);
    for retries in ["4", "0"] {
        place.world.set_property(MAIN, "commit.retry.num-retries", retries);
        let (_, ended) = place.run(false, Faults::None, &Stop::default(), None);
        assert_eq!(ended.outcome.unwrap(), Outcome::Committed, "{retries} retries");
    }
}

#[test]
fn a_drain_ends_although_a_new_partition_grows() {
    let place = Place::new(Compare::Location);
    let hook: Hook = Box::new(|world, call| {
        if call.op == Op::Bounds && (1..30).contains(&call.nth) {
            world.with_topic("a", |topic| {
                topic.partitions.resize_with(3, Log::default);
                topic.partitions[2].entries.push(record("id9", 3, 1));
            });
        }
    });
    let (_, ended) = place.run(true, Faults::None, &Stop::default(), Some(hook));
    assert_eq!(ended.outcome.unwrap(), Outcome::Committed);
    assert!(ended.batches.len() < 10, "{} batches", ended.batches.len());
}

#[test]
fn rejects_that_cannot_be_appended_leave_the_run_to_the_scheduler() {
    let place = Place::new(Compare::Location);
    let append = last(&place.calls(false), Op::Load, REJECTS);
    let hook: Hook = Box::new(move |world, call| {
        if *call == append {
            world.set_property(REJECTS, "tidegate.rejects.a", "by hand");
        }
    });
    let (_, ended) = place.run(false, Faults::None, &Stop::default(), Some(hook));
    assert_eq!(ended.batches.len(), 1);
    let error = ended.outcome.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (75, "could not append the rejects of batch 1"));
    assert!(error.hint().unwrap().contains("edited by hand"), "{:?}", error.hint());
}

#[test]
fn rejects_that_retention_took_do_not_stop_a_job_that_skips() {
    let place = Place::new(Compare::Location);
    let swap = last(&place.calls(false), Op::Swap, MAIN);
    let (actor, _) = place.run(false, Faults::At(swap, Fault::StopsAfter), &Stop::default(), None);
    let rejects = actor.calls().into_iter().find(|call| call.op == Op::Put && call.path.contains("t_rejects/data")).unwrap();
    let place = Place { world: Arc::clone(&actor.world), ..place };
    place.world.delete(&rejects.path);
    place.world.with_topic("a", |topic| {
        topic.partitions[0].entries.push(record("id4", 3, 1));
        topic.partitions[0].earliest = 4;
    });
    let (_, ended) = place.run(false, Faults::None, &Stop::default(), None);
    assert_eq!(ended.outcome.unwrap(), Outcome::Committed);
    assert!(ended.warnings[0].starts_with("the rejects of batch 1 never reached `db.t_rejects`"), "{:?}", ended.warnings);
}

/// Names of the files that a run wrote and did not delete.
fn left(calls: &[Call]) -> Vec<&str> {
    let deleted = |path: &str| calls.iter().any(|call| call.op == Op::Delete && call.path == path);
    let put = calls.iter().filter(|call| call.op == Op::Put && call.path.ends_with(".parquet"));
    put.map(|call| call.path.as_str()).filter(|path| !deleted(path)).collect()
}

#[test]
fn a_commit_that_is_refused_for_good_leaves_no_data_file() {
    let place = Place::new(Compare::Location);
    place.world.set_property(MAIN, "commit.retry.num-retries", "0");
    let swap = last(&place.calls(false), Op::Swap, MAIN);
    let (actor, ended) = place.run(false, Faults::At(swap.clone(), Fault::Fails), &Stop::default(), None);
    assert_eq!(ended.outcome.unwrap_err().exit_code(), 75);
    assert_eq!(left(&actor.calls()), [""; 0]);
    let (actor, ended) = place.run(false, Faults::At(swap, Fault::Vanishes), &Stop::default(), None);
    assert_eq!(ended.outcome.unwrap_err().exit_code(), 75);
    assert_eq!(left(&actor.calls()).len(), 3, "rows of two days and rejects of a commit that may still land");
}
