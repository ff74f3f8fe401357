//! Pull, decode and assembly, overlapping: bounded chunks flow between three threads, rows are written beside them, and no batch
//! sits in memory whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};
use tokio::runtime::Handle;

use crate::batch::flight::Flight;
use crate::batch::{Assembly, BatchSpec, Collected, RejectSink};
use crate::catalog::Catalog;
use crate::decode::{Decoded, Decoder};
use crate::error::{Error, Result};
use crate::memory::{Budget, holds, relieve};
use crate::observe::{Observer, Phase};
use crate::offsets::Partition;
use crate::source::{Chunk, Flow, PullLimits, Reached, Source, StartAt, Stop};

/// Chunks that may wait between two threads: enough to even out their speeds, few enough to bound memory (a chunk is about 1 MiB).
const CHUNKS_WAITING: usize = 8;

/// Rows of a table without live files are written once they fill this much: nothing has to be searched, so early is best.
const FLUSH_BYTES_MIN: usize = 32 << 20;

/// Rows that are joined at most, where none may be written before the last has come: a column of text ends at 2 GiB.
const HELD_ROWS_MAX: usize = 1 << 30;

/// Rejects are written once they fill this much.
const REJECTS_FLUSH_BYTES: usize = 8 << 20;

/// Bytes pulled between two looks at the system's account, which take as long as decoding a dozen records.
const LOOK_BYTES: u64 = 4 << 20;

/// What the pull is bounded by.
#[derive(Debug)]
pub(crate) struct PullPlan<'a> {
    /// What to read.
    pub(crate) ranges: &'a BTreeMap<Partition, StartAt>,
    /// Bounds besides the planned ends.
    pub(crate) limits: PullLimits,
    /// The wish to end.
    pub(crate) stop: &'a Stop,
    /// What the batch may hold.
    pub(crate) budget: Budget,
}

/// Pulls, decodes and assembles one batch. Must run on a multi-threaded runtime.
pub(crate) fn collect<S: Source, C: Catalog>(
    source: &S,
    pull: &PullPlan<'_>,
    decoder: Decoder,
    spec: &BatchSpec<'_>,
    rejects: RejectSink<'_, C>,
    unsupplied: Vec<String>,
    observer: &dyn Observer,
) -> Result<(Collected, Reached)> {
    let mut assembly = Assembly::new(spec, unsupplied, rejects, observer)?;
    observer.phase(Phase::Pull);
    let enough = AtomicBool::new(false);
    let flight = Flight::new(pull.budget.flight);
    let stop = pull.stop.of_pull();
    let runtime = Handle::current();
    tokio::task::block_in_place(|| {
        std::thread::scope(|threads| {
            let (to_decoder, chunks) = bounded::<Chunk>(CHUNKS_WAITING);
            let (to_assembly, decoded) = bounded::<(Chunk, Decoded)>(CHUNKS_WAITING);
            let (enough, flight, stop) = (&enough, &flight, &stop);
            let puller = threads.spawn(move || {
                source.pull(pull.ranges, &pull.limits, stop, &mut |chunk| {
                    // The receiver only hangs up when it failed itself; its error is the one that is told.
                    let ended = || Error::broken("the decoder ended before the pull");
                    if !flight.enter(chunk.arena.len()) {
                        return Err(ended());
                    }
                    to_decoder.send(chunk).map_err(|_| ended())?;
                    Ok(if enough.load(Ordering::Relaxed) { Flow::Enough } else { Flow::More })
                })
            });
            threads.spawn(move || {
                let mut decoder = decoder;
                for chunk in chunks {
                    let rows = decoder.decode(&chunk);
                    if to_assembly.send((chunk, rows)).is_err() {
                        break;
                    }
                }
            });
            let over = Over { flight, stop };
            let fed = feed(&runtime, &mut assembly, &decoded, flight, pull.budget, enough, observer);
            drop((over, decoded));
            let reached = puller.join().map_err(|_| Error::broken("the pulling thread panicked")).flatten();
            // When the assembly failed, the pull failed only because nobody listened any more.
            match fed.and(reached) {
                Ok(reached) => {
                    relieve(pull.budget.relief);
                    let collected = runtime.block_on(assembly.finish())?;
                    // The commit takes memory, too: most of all where it copies files.
                    relieve(pull.budget.relief);
                    Ok((collected, reached))
                }
                Err(error) => {
                    runtime.block_on(assembly.give_up());
                    Err(error)
                }
            }
        })
    })
}

/// Tells the pull, when it is dropped, that nobody listens any more: else a failure would wait for the next record.
struct Over<'a> {
    flight: &'a Flight,
    stop: &'a Stop,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.stop.give_up();
        self.flight.close();
    }
}

/// Feeds every decoded chunk to the assembly, and lets it write when it is full.
fn feed<C: Catalog>(
    runtime: &Handle,
    assembly: &mut Assembly<'_, C>,
    decoded: &Receiver<(Chunk, Decoded)>,
    flight: &Flight,
    budget: Budget,
    enough: &AtomicBool,
    observer: &dyn Observer,
) -> Result<()> {
    // A soft delete may keep the values of any row of its batch, so all of them stay in memory and the batch is cut before it is full.
    let hold_max = match (assembly.holds_rows(), assembly.joins_rows()) {
        (false, _) => budget.batch,
        (true, false) => budget.batch / 2,
        (true, true) => (budget.batch / 2).min(HELD_ROWS_MAX),
    };
    // Rows wait for the end of the batch where the table must be searched before they are written, as far as memory allows.
    let flush_at = if assembly.head_is_empty() { FLUSH_BYTES_MIN.min(budget.flush / 2) } else { budget.flush };
    let (mut records, mut bytes, mut look_at) = (0, 0, LOOK_BYTES);
    for (chunk, rows) in decoded {
        records += chunk.records.len() as u64;
        bytes += chunk.arena.len() as u64;
        assembly.take(&chunk, rows)?;
        assembly.check()?;
        let size = chunk.arena.len();
        drop(chunk);
        flight.leave(size);
        observer.read(records, bytes);
        if assembly.buffered() >= flush_at && !assembly.holds_rows() {
            observer.phase(Phase::Flush);
            // Writing takes memory of its own, on top of what was freed and not given back.
            relieve(budget.relief);
            runtime.block_on(assembly.flush())?;
            observer.phase(Phase::Pull);
        } else if assembly.rejects_buffered() >= REJECTS_FLUSH_BYTES {
            relieve(budget.relief);
            runtime.block_on(assembly.flush_rejects())?;
        }
        let held = assembly.memory();
        let mut full = held >= hold_max;
        if bytes >= look_at {
            look_at = bytes + LOOK_BYTES;
            // A batch that holds little itself would gain nothing by being cut.
            full |= held >= budget.batch / 4 && holds(budget.resident);
        }
        if full {
            enough.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}
