//! Seeded histories: one to three jobs, several runs at a time, other writers, growing and shrinking topics, faults; interleaved
//! call by call, and after every call all laws are checked against a model.
//!
//! A history is drawn from one number and plays the same each time. `TIDEGATE_SEED` and `TIDEGATE_HISTORIES` choose where to begin
//! and how many to play (`scripts/histories`). One that fails is cut down to the steps that it takes, and printed.

mod play;
mod script;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use iceberg::spec::{FormatVersion, MAIN_BRANCH};
use tokio::runtime::Runtime;

use self::play::play;
use self::script::{Entry, Script, Step};
use crate::world::catalog::Compare;
use crate::world::foreign::{Foreign, MAIN};
use crate::world::run::{Rules, Style};
use crate::world::{Sabotage, say};

/// Where the test command begins.
const SEED: u64 = 20_261_121;

/// How many histories the test command plays; a build without optimisation would take too long for all.
const HISTORIES: u64 = if cfg!(debug_assertions) { 200 } else { 3_000 };

/// Histories at the same time.
const THREADS: usize = 2;

/// Within so many histories every sabotage is noticed.
const SABOTAGED_MAX: u64 = 400;

/// Tries to make a failing history shorter.
const SHRINKS_MAX: u32 = 600;

fn runtime() -> Arc<Runtime> {
    Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

fn number(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how many histories a test plays is said by who runs it")]
    let value = std::env::var(name);
    value.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}=`{text}` is no number")))
}

/// The first failing history of a range, with what it broke.
fn first_failure(seeds: std::ops::Range<u64>, sabotage: Option<Sabotage>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                let runtime = runtime();
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(why) = play(&runtime, &Script::draw(seed), sabotage) {
                        let mut failed = failed.lock().unwrap();
                        if failed.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *failed = Some((seed, why));
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// What a failure is about: its words without the numbers, and without where it was noticed.
fn law(why: &str) -> String {
    let what = why.split_once(": ").map_or(why, |(_, what)| what);
    what.chars().filter(|letter| !letter.is_ascii_digit()).take(40).collect()
}

/// Leaves out steps, many at first and then one by one, as long as the history still breaks the same law.
fn shrink(mut script: Script, mut why: String, sabotage: Option<Sabotage>) -> (Script, String) {
    let runtime = runtime();
    let mut tries = 0;
    let mut size = script.steps.len() / 2;
    while size > 0 && tries < SHRINKS_MAX {
        let (mut at, mut shorter_found) = (0, false);
        while at < script.steps.len() && tries < SHRINKS_MAX {
            let mut shorter = script.clone();
            shorter.steps.drain(at..(at + size).min(script.steps.len()));
            tries += 1;
            match play(&runtime, &shorter, sabotage) {
                Err(still) if law(&still) == law(&why) => {
                    (script, why) = (shorter, still);
                    shorter_found = true;
                }
                _ => at += size,
            }
        }
        if !shorter_found || size > 1 {
            size /= 2;
        }
    }
    (script, why)
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let runtime = runtime();
    for seed in SEED..SEED + 10 {
        let traces = [0, 1].map(|_| play(&runtime, &Script::draw(seed), None));
        assert_eq!(traces[0], traces[1], "seed {seed} does not repeat");
    }
}

#[test]
fn interleaved_runs_and_writers_keep_every_law() {
    let (seed, histories) = (number("TIDEGATE_SEED", SEED), number("TIDEGATE_HISTORIES", HISTORIES));
    let failed = first_failure(seed..seed + histories, None);
    say(&format!("histories: {histories} from seed {seed}"));
    if let Some((seed, why)) = failed {
        let (script, shrunk) = shrink(Script::draw(seed), why.clone(), None);
        panic!("seed {seed}: {why}\nThe same, cut down: {shrunk}\n{script}");
    }
}

/// One job that keeps everything, on a plain table.
fn simple(max_offsets: u32, steps: Vec<Step>) -> Script {
    let rules = Rules { style: Style::Merge, branch: MAIN_BRANCH, ties_keep: false, late: "merge", max_offsets };
    let (version, compare) = (FormatVersion::V2, Compare::Requirements);
    Script { version, spec: 0, mode: "merge-on-read", compare, jobs: vec![("a".to_owned(), rules)], steps }
}

fn produce(entries: &[Entry]) -> Step {
    Step::Produce { job: 0, partition: 0, entries: entries.to_vec() }
}

const START: Step = Step::Start { job: 0, drain: false, cut_after: None, faults: Vec::new() };
const ROW: Entry = Entry::Row { id: 1, minute: 0, version: Some(1) };
/// In the future for a run that begins with the history, and not for one after [`WAIT`].
const AHEAD: Entry = Entry::Row { id: 2, minute: 70, version: Some(1) };
const WAIT: Step = Step::Wait { minutes: 20 };
const ROLLBACK: Step = Step::Foreign { what: Foreign::Rollback(1), branch: MAIN_BRANCH };

/// Calls that no run of these tests reaches.
const TO_THE_END: u8 = 200;

/// Calls of the run that is interrupted in these tests: it has come to its end before.
const CALLS_MAX: u8 = 50;

/// The rival's second batch has no rejects, so nobody would append those of the first again.
#[test]
fn a_run_that_loaded_the_table_early_leaves_its_rivals_rejects_alone() {
    let runtime = runtime();
    for calls in 1..CALLS_MAX {
        let steps = vec![
            produce(&[ROW, Entry::NoJson, ROW]),
            START,
            Step::Go { run: 0, calls },
            Step::Start { job: 0, drain: true, cut_after: None, faults: Vec::new() },
            Step::Go { run: 1, calls: TO_THE_END },
        ];
        play(&runtime, &simple(2, steps), None).unwrap_or_else(|why| panic!("after {calls} calls: {why}"));
    }
}

/// Plays `steps` on a table with one batch.
fn play_after_a_batch(runtime: &Arc<Runtime>, compare: Compare, steps: &[Step]) -> Result<Vec<String>, String> {
    let before = [produce(&[ROW]), START, Step::Go { run: 0, calls: TO_THE_END }];
    let script = simple(1_000, before.iter().chain(steps).cloned().collect());
    play(runtime, &Script { compare, ..script }, None)
}

/// The batch that is undone and the one that takes its place have the same number and other rejects: of other records, or of the
/// same ones judged by another clock. The undone one's run appends its rejects late: at any call of the run that takes its place.
#[test]
fn rejects_of_an_undone_batch_never_take_the_place_of_others() {
    let runtime = runtime();
    let cases =
        [(Compare::Requirements, [ROW, Entry::NoJson], produce(&[ROW, Entry::NoId])), (Compare::Location, [ROW, AHEAD], WAIT)];
    for (compare, entries, more) in cases {
        let undone = [produce(&entries), START];
        let alone = play_after_a_batch(&runtime, compare, &undone).unwrap();
        let waits = |line: &&String| line.starts_with("a/2 ") && !line.starts_with("a/2 Get") && !line.starts_with("a/2 Head");
        let swap = alone.iter().filter(waits).position(|line| *line == format!("a/2 Swap {MAIN} #0")).unwrap();
        for calls in 1..CALLS_MAX {
            let rest = [
                Step::Go { run: 0, calls: u8::try_from(swap + 1).unwrap() },
                ROLLBACK,
                more.clone(),
                START,
                Step::Go { run: 1, calls },
                Step::Go { run: 0, calls: TO_THE_END },
            ];
            let steps: Vec<Step> = undone.iter().chain(&rest).cloned().collect();
            play_after_a_batch(&runtime, compare, &steps).unwrap_or_else(|why| panic!("after {calls} calls: {why}"));
        }
    }
}

/// A batch is committed and rolled back while a run is under way, and the run's own commit then hides the rollback.
#[test]
fn rejects_of_a_batch_that_came_and_went_during_a_run_do_not_stand_for_its_own() {
    let runtime = runtime();
    for (compare, more) in [(Compare::Requirements, produce(&[ROW, Entry::NoId])), (Compare::Location, WAIT)] {
        for calls in 1..CALLS_MAX {
            let began = [produce(&[ROW, AHEAD]), START, Step::Go { run: 0, calls }];
            let rest =
                [more.clone(), START, Step::Go { run: 1, calls: TO_THE_END }, ROLLBACK, Step::Go { run: 0, calls: TO_THE_END }];
            let steps: Vec<Step> = began.into_iter().chain(rest).collect();
            play_after_a_batch(&runtime, compare, &steps).unwrap_or_else(|why| panic!("after {calls} calls: {why}"));
        }
    }
}

/// The same run makes the same batch a second time; its snapshot must not have the id of the one that was rolled back.
#[test]
fn a_drain_that_is_rolled_back_commits_the_batch_again() {
    let runtime = runtime();
    let entries = produce(&[ROW, ROW, ROW, AHEAD, AHEAD, Entry::NoJson, ROW, ROW, ROW, ROW]);
    let drain = Step::Start { job: 0, drain: true, cut_after: None, faults: Vec::new() };
    for calls in 1..CALLS_MAX {
        let steps = vec![entries.clone(), drain.clone(), Step::Go { run: 0, calls }, ROLLBACK];
        let trace = play(&runtime, &simple(3, steps), None).unwrap_or_else(|why| panic!("after {calls} calls: {why}"));
        let failed = trace.iter().find(|line| line.contains(" ended with ") && !line.contains(" ended with 0: "));
        assert_eq!(failed, None, "after {calls} calls");
    }
}

/// Answers how many steps the shortest history has that notices it.
fn notices(sabotage: Sabotage) -> usize {
    let failed = first_failure(SEED..SEED + SABOTAGED_MAX, Some(sabotage));
    let (seed, why) = failed.unwrap_or_else(|| panic!("{sabotage:?} went unnoticed in {SABOTAGED_MAX} histories"));
    let (script, why) = shrink(Script::draw(seed), why, Some(sabotage));
    say(&format!("{sabotage:?} noticed by seed {seed}: {why}\n{script}"));
    script.steps.len()
}

#[test]
fn a_build_that_asserts_nothing_about_the_head_is_noticed() {
    assert!(notices(Sabotage::NoRequirements) < 15);
}

#[test]
fn a_build_that_does_not_look_for_rivals_is_noticed() {
    assert!(notices(Sabotage::BlindToRivals) < 15);
}

#[test]
fn a_build_that_takes_silence_for_a_refusal_is_noticed() {
    assert!(notices(Sabotage::UnclearIsRefusal) < 15);
}

#[test]
fn a_build_that_does_not_mark_its_rejects_is_noticed() {
    assert!(notices(Sabotage::RejectsUnmarked) < 15);
}
