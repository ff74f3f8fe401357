//! A world in memory around real runs: object store, catalog, topics and clock, each behind a door that can fail.
//!
//! Wrappers stand at the process border only: what runs inside is the program as it is. Every external call of a run passes
//! [`Actor::call`], where it waits for its turn, may meet a fault, and is written into the trace. Calls are known by operation
//! and path, not by number, so that reads which a run makes in parallel stay the same call in every run of a seed.

pub(crate) mod catalog;
pub(crate) mod foreign;
pub(crate) mod gate;
pub(crate) mod laws;
pub(crate) mod model;
pub(crate) mod objects;
pub(crate) mod random;
pub(crate) mod reader;
pub(crate) mod run;
pub(crate) mod topic;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use object_store::memory::InMemory;

use self::catalog::{Compare, Heads};
use self::foreign::Ledger;
use self::gate::Gate;
use self::topic::Topic;

/// Printed whether or not the test fails: the tests' runner keeps back what `eprintln` prints.
#[expect(clippy::explicit_write, reason = "how much was tried is said in any case")]
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// What a run may ask of the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Op {
    Load,
    Create,
    Swap,
    Get,
    Head,
    Put,
    Delete,
    Bounds,
    Held,
    Pull,
    Chunk,
    Mirror,
}

impl Op {
    /// Whether it changes the world: only then can its effect come late.
    fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Swap | Self::Put | Self::Delete)
    }

    /// Whether runs may be interleaved here. Reads of objects are left out: objects never change, and runs read them in parallel.
    fn waits(self) -> bool {
        !matches!(self, Self::Get | Self::Head)
    }
}

/// One external call: the nth of its operation on its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Call {
    pub(crate) op: Op,
    pub(crate) path: String,
    pub(crate) nth: u32,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} #{}", self.op, self.path, self.nth)
    }
}

/// What can happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// It is refused before it has an effect.
    Fails,
    /// It never arrives, and the caller cannot know.
    Vanishes,
    /// Its effect is there, its answer is lost.
    AnswerLost,
    /// No answer; the effect comes just before the next call of its kind.
    LandsBeforeRetry,
    /// No answer; the effect comes just after the next call of its kind.
    LandsAfterRetry,
    /// The process ends before the effect.
    Stops,
    /// The process ends after the effect.
    StopsAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 7] = [
        Self::Fails,
        Self::Vanishes,
        Self::AnswerLost,
        Self::LandsBeforeRetry,
        Self::LandsAfterRetry,
        Self::Stops,
        Self::StopsAfter,
    ];
}

/// The answer did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// And the caller knows that there was no effect.
    Refused,
    /// And the caller knows nothing.
    Silent,
}

/// A way in which a build could be broken, emulated at its border. The sweep and the histories must notice each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Swaps assert nothing about the head they were made for.
    NoRequirements,
    /// After a refusal the run does not see what other runs of its job committed.
    BlindToRivals,
    /// An unclear answer is taken for a refusal.
    UnclearIsRefusal,
    /// The rejects table does not learn which batch it holds.
    RejectsUnmarked,
}

type Effect = Box<dyn FnOnce(&World) + Send>;

struct Late {
    op: Op,
    before: bool,
    effect: Effect,
}

/// Everything outside the runs.
pub(crate) struct World {
    pub(crate) objects: Arc<InMemory>,
    pub(crate) heads: Mutex<Heads>,
    pub(crate) topics: Mutex<BTreeMap<String, Topic>>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) gate: Gate,
    pub(crate) sabotage: Option<Sabotage>,
    /// Objects deleted so far.
    pub(crate) deleted: AtomicU64,
    late: Mutex<Vec<Late>>,
    trace: Mutex<Trace>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

#[derive(Default)]
struct Trace {
    /// Calls that waited for a turn, so far.
    turn: u64,
    lines: Vec<(u64, String)>,
}

impl World {
    pub(crate) fn new(compare: Compare, sabotage: Option<Sabotage>) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::default(),
            heads: Mutex::new(Heads::new(compare)),
            topics: Mutex::default(),
            ledger: Mutex::default(),
            gate: Gate::default(),
            sabotage,
            deleted: AtomicU64::default(),
            late: Mutex::default(),
            trace: Mutex::default(),
        })
    }

    /// A copy in which other things may happen.
    pub(crate) fn fork(&self, sabotage: Option<Sabotage>) -> Arc<Self> {
        assert!(self.late.lock().unwrap().is_empty(), "effects that still hang in the air cannot be copied");
        Arc::new(Self {
            objects: Arc::new(self.objects.fork()),
            heads: Mutex::new(self.heads.lock().unwrap().clone()),
            topics: Mutex::new(self.topics.lock().unwrap().clone()),
            ledger: Mutex::new(self.ledger.lock().unwrap().clone()),
            gate: Gate::default(),
            sabotage,
            deleted: AtomicU64::default(),
            late: Mutex::default(),
            trace: Mutex::default(),
        })
    }

    /// Lets every effect that still hangs in the air come.
    pub(crate) fn land_all(&self) {
        let late: Vec<_> = std::mem::take(&mut *self.late.lock().unwrap());
        for late in late {
            (late.effect)(self);
        }
    }

    /// What happened, in order; what one run did in parallel, sorted.
    pub(crate) fn trace(&self) -> Vec<String> {
        let mut lines = self.trace.lock().unwrap().lines.clone();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Writes a line into the trace that is no call.
    pub(crate) fn note(&self, line: &str) {
        let mut trace = self.trace.lock().unwrap();
        let turn = trace.turn;
        trace.lines.push((turn, line.to_owned()));
    }

    fn due(&self, op: Op, before: bool) -> Vec<Effect> {
        let mut late = self.late.lock().unwrap();
        let (due, rest) = std::mem::take(&mut *late).into_iter().partition(|late| late.op == op && late.before == before);
        *late = rest;
        due.into_iter().map(|late: Late| late.effect).collect()
    }
}

/// Which faults an actor meets.
#[derive(Debug, Clone, Default)]
pub(crate) enum Faults {
    #[default]
    None,
    /// One call.
    At(Call, Fault),
    /// Calls that wait for a turn, by their number from 0.
    Turns(BTreeMap<u32, Fault>),
}

/// What a script may do at a call, before it has its effect.
pub(crate) type Hook = Box<dyn Fn(&World, &Call) + Send + Sync>;

/// One run as the world sees it.
pub(crate) struct Actor {
    pub(crate) world: Arc<World>,
    /// Number at the gate; none: it never waits.
    pub(crate) number: Option<usize>,
    pub(crate) name: String,
    faults: Faults,
    hook: Option<Hook>,
    dead: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    calls: BTreeMap<(Op, String), u32>,
    turns: u32,
    log: Vec<Call>,
    fault_met: bool,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Actor {
    pub(crate) fn new(world: &Arc<World>, number: Option<usize>, name: &str, faults: Faults, hook: Option<Hook>) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            number,
            name: name.to_owned(),
            faults,
            hook,
            dead: AtomicBool::new(false),
            seen: Mutex::default(),
        })
    }

    /// One that acts beside the script: it never waits, never fails and leaves no trace.
    pub(crate) fn aside(world: &Arc<World>) -> Arc<Self> {
        Self::new(world, None, "aside", Faults::None, None)
    }

    /// Whether its process has ended: nothing that it still asks for has an effect.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Every call it made, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.seen.lock().unwrap().log.clone()
    }

    /// Whether the fault that it was to meet was met.
    pub(crate) fn met_fault(&self) -> bool {
        self.seen.lock().unwrap().fault_met
    }

    /// Makes one external call: waits for its turn, and has the effect that the faults leave it.
    pub(crate) fn call<T>(&self, op: Op, path: &str, effect: impl FnOnce(&World) -> T + Send + 'static) -> Result<T, Lost> {
        if let (Some(number), true) = (self.number, op.waits()) {
            self.world.gate.wait(number);
        }
        let (call, fault) = self.enter(op, path);
        if self.is_dead() {
            return Err(Lost::Silent);
        }
        for late in self.world.due(op, true) {
            late(&self.world);
        }
        if let Some(hook) = &self.hook {
            hook(&self.world, &call);
        }
        let due = self.world.due(op, false);
        let answer = match fault {
            None => Ok(effect(&self.world)),
            Some(Fault::Fails) => Err(Lost::Refused),
            Some(Fault::Vanishes) => Err(Lost::Silent),
            Some(Fault::AnswerLost) => {
                effect(&self.world);
                Err(Lost::Silent)
            }
            Some(Fault::Stops) => {
                self.dead.store(true, Ordering::SeqCst);
                Err(Lost::Silent)
            }
            Some(Fault::StopsAfter) => {
                effect(&self.world);
                self.dead.store(true, Ordering::SeqCst);
                Err(Lost::Silent)
            }
            Some(late @ (Fault::LandsBeforeRetry | Fault::LandsAfterRetry)) => {
                if op.writes() {
                    let effect: Effect = Box::new(move |world| drop(effect(world)));
                    self.world.late.lock().unwrap().push(Late { op, before: late == Fault::LandsBeforeRetry, effect });
                }
                Err(Lost::Silent)
            }
        };
        for late in due {
            late(&self.world);
        }
        answer
    }

    /// Names the call and the fault it meets.
    fn enter(&self, op: Op, path: &str) -> (Call, Option<Fault>) {
        let mut seen = self.seen.lock().unwrap();
        let nth = seen.calls.entry((op, path.to_owned())).or_default();
        let call = Call { op, path: path.to_owned(), nth: *nth };
        *nth += 1;
        let turn = seen.turns;
        seen.turns += u32::from(op.waits());
        if self.is_dead() {
            return (call, None);
        }
        let fault = match &self.faults {
            Faults::None => None,
            Faults::At(at, fault) => (*at == call).then_some(*fault),
            Faults::Turns(faults) => faults.get(&turn).copied().filter(|_| op.waits()),
        };
        seen.fault_met |= fault.is_some();
        seen.log.push(call.clone());
        let mut trace = self.world.trace.lock().unwrap();
        trace.turn += u64::from(op.waits());
        let line = (trace.turn, format!("{} {call}{}", self.name, fault.map(|f| format!(": {f:?}")).unwrap_or_default()));
        trace.lines.push(line);
        (call, fault)
    }
}
