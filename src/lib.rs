//! tidegate moves a bounded range of a Kafka topic into an Apache Iceberg table, exactly once, and exits.
//!
//! A scheduler starts it; it reads its offsets from the table's last snapshot, pulls a bounded range, keeps the latest version of
//! each id, merges into the table, and commits rows, offsets and watermark in one snapshot. It keeps no state but the table's.
//!
//! ```text
//! job file ─► table state ─► plan ─► pull ─► decode ─► judge, dedupe ─► match ─► write ─► merge, deletes ─► commit ─► report
//!             offsets,       end     Kafka   Arrow     late, future,    rows of  Parquet  what each row     one       stdout,
//!             watermark      offsets                   latest per id    the head          does to the head  snapshot  metrics
//! ```
//!
//! # The house
//!
//! Rooms in reading order. A *pure* room has no `async fn`, no I/O, no clock and no randomness: what it is given decides what it
//! answers.
//!
//! | room | owns | kind |
//! | --- | --- | --- |
//! | `cli` | the command line, as data | pure |
//! | `commands` | how a job file becomes a catalog, a store and a source; `plan`, `check`, `init`, `status`, `verify`, `clean`, `reset` | I/O |
//! | `job` | the run as one straight line, and every decision to retry, stop or go on | shell |
//! | `config` | a job file, with all that overrides it, that cannot be wrong, or all its mistakes | pure |
//! | `offsets` | partitions, offsets, half-open ranges, what a topic holds | pure |
//! | `counts` | the accounts of a batch | pure |
//! | `progress` | what a snapshot says about a job: its codec, and the batch id | pure |
//! | `state` | where a job stands in a table: the walk over ancestors, and when the table property may be trusted | I/O |
//! | `plan` | which offsets one batch reads | pure |
//! | `reset` | where a reset puts each partition, and what that costs | pure |
//! | `watermark` | which records are late or in the future, and where the next batch is judged from | pure |
//! | `source` | Kafka: a topic's bounds, and exactly a plan's records | I/O |
//! | `decode` | bytes to Arrow columns; a bad record becomes a reject | pure |
//! | `batch` | one batch as it comes together: three threads, bounded memory, written beside them as it fills | shell |
//! | `keys` | ids and versions as bytes that can be hashed and compared | pure |
//! | `dedupe` | one version per id within a batch, and where its row is | pure |
//! | `index` | the key index in a data file: from the hash of an id to its row and version | pure |
//! | `live` | what is alive at a snapshot, and the match of a batch's ids against it | I/O |
//! | `merge` | what each surviving version does to the head | pure |
//! | `write` | Parquet data files, position deletes and deletion vectors, with their metrics | I/O |
//! | `deletes` | at most one live delete file, or vector, per data file | I/O |
//! | `rewrite` | copy-on-write: data files without their dead rows | I/O |
//! | `names` | names of a run's files | pure |
//! | `rejects` | the rejects table: each reject of a committed batch, once | I/O |
//! | `snapshot` | what a new snapshot is: files, summary, requirements | pure |
//! | `commit` | manifests, and one change of the table out of a draft | I/O |
//! | `catalog` | the only door to the head of a table: load, create, swap | I/O |
//! | `http` | requests to catalogs and token servers: whom to trust, how long to wait, and whether one can have arrived | I/O |
//! | `oauth` | tokens by client credentials, fetched again before they end | I/O |
//! | `program` | programs that hand out secrets, run with bounds | I/O |
//! | `secrets` | what a job file's secrets stand for: variables, files, programs | I/O |
//! | `table` | a table made from a job file, and whether an existing one fits | I/O |
//! | `storage` | every byte, through one `object_store` client per bucket | I/O |
//! | `verify` | whether a live table holds what tidegate guarantees, guarantee by guarantee | I/O |
//! | `verify/chain` | what the snapshots of a job must say for their ranges to meet, their accounts to balance, their watermark to rise | pure |
//! | `clean` | files of a job that nothing names any more | I/O |
//! | `memory` | how the memory limit is shared out, and what the process holds by the system's account | edge |
//! | `memory/allocator` | jemalloc's options and its one control that is needed | edge |
//! | `observe` | what a run tells its watcher | pure |
//! | `report` | what a run did, as text, JSON, result file and metrics | pure |
//! | `terminal` | progress bars and logs on stderr | edge |
//! | `demo` | a run to look at: in-process broker, generated articles, local table | edge |
//! | `aws` | whose AWS credentials to use, and signatures with them | I/O |
//! | `laws` | what holds for any input of a decoder or codec; only in tests and in builds for fuzzing, from `tests/fuzz/laws` | edge |
//! | `micro` | the hot rooms as benchmarks drive them; only in tests and in builds for benchmarks, from `tests/micro/rooms` | edge |
//! | `error` | why a run failed, in terms of who acts next, and its exit code | pure |
//!
//! # Why nothing is lost and nothing comes twice
//!
//! The argument is in [`job`], in the order of the code. In short: a batch starts where the table's state ends; rows and offsets
//! enter the table in one compare-and-swap of its head; an answer that is unclear is settled by reading the ancestry again, never by
//! guessing; and the laws of a batch (each record has one outcome, each insert and update is one live row, no offset goes back)
//! are asserted before every swap, in release builds too.
//!
//! # A batch in memory
//!
//! Chunks of about 1 MiB flow from the pulling thread to the decoder to the assembly. Rows wait in memory until they fill their
//! share of `limits.memory_limit`, are matched against the head, and are written while the pull goes on; a row that a later version
//! beats after that is taken out in the same commit. So a batch may be larger than memory, and is cut only when its ids fill it.
//!
//! With `deletes = "soft"` no row is written before the batch is whole, since a deleted row may keep the values of any row that came
//! before it: such a batch is cut when its rows fill their share.
//!
//! Data files are kept over commit retries: on a new head only the match, the merge and the deletes are made again. What cannot be
//! kept (another schema, another partition spec, a row that was not written since an earlier head beat it) sends the batch through
//! the pull again.

pub mod cli;
pub mod commands;
pub mod job;

pub mod config;
pub mod counts;
pub mod offsets;
pub mod plan;
pub mod progress;
pub mod reset;
pub(crate) mod state;
pub mod watermark;

pub(crate) mod batch;
pub(crate) mod decode;
pub(crate) mod dedupe;
pub(crate) mod keys;
pub mod source;

pub(crate) mod deletes;
pub(crate) mod index;
pub(crate) mod live;
pub(crate) mod merge;
pub(crate) mod names;
pub(crate) mod rejects;
pub(crate) mod rewrite;
pub(crate) mod write;

pub(crate) mod aws;
pub mod catalog;
pub(crate) mod commit;
pub(crate) mod snapshot;
pub mod storage;
pub(crate) mod table;

pub(crate) mod http;
pub(crate) mod oauth;
pub(crate) mod program;
pub(crate) mod secrets;

pub(crate) mod clean;
pub(crate) mod verify;

pub mod demo;
#[cfg(any(test, fuzzing))]
#[path = "../tests/fuzz/laws/mod.rs"]
pub mod laws;
#[cfg(any(test, micro))]
#[path = "../tests/micro/rooms/mod.rs"]
pub mod micro;

pub mod error;
pub(crate) mod memory;
pub mod observe;
pub mod report;
pub mod terminal;
