//! Jobs, and runs of them in a world.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use iceberg::spec::{FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, TableMetadataBuilder, Type};
use iceberg::{NamespaceIdent, TableIdent};
use tidegate::catalog::Catalog;
use tidegate::config::Config;
use tidegate::error::Error;
use tidegate::job::reset::{Judged, ResetOptions};
use tidegate::job::{Ended, Job, Run, RunOptions};
use tidegate::observe::Silent;
use tidegate::report::Outcome;
use tidegate::reset::To;
use tidegate::source::Stop;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::catalog::Door;
use super::foreign::unbound_spec;
use super::objects::at_once;
use super::topic::Tap;
use super::{Actor, World};

/// When these worlds begin: 2025-01-01 00:00 UTC, before the clock of the machine, by which the library stamps metadata files.
pub(crate) const EPOCH_MS: i64 = 1_735_689_600_000;

/// What a job makes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Merges, and deletes the rows of tombstones.
    Merge,
    /// Merges, and flags the rows of tombstones.
    Soft,
    /// Appends.
    Append,
}

/// What differs between the jobs of these tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) style: Style,
    /// Branch that the job writes: `main` or `work`.
    pub(crate) branch: &'static str,
    pub(crate) ties_keep: bool,
    /// `reject`, `drop` or `merge`.
    pub(crate) late: &'static str,
    pub(crate) max_offsets: u32,
}

/// Minutes by which the watermark stays behind.
pub(crate) const DELAY_MINUTES: i64 = 10;

/// The job's file; its topic is called as it is.
pub(crate) fn config(job: &str, rules: Rules) -> Config {
    let ties = if rules.ties_keep { "keep" } else { "replace" };
    let merge = format!(
        r#"
        id = ["id"]
        order_by = ["version"]
        ties = "{ties}"
        tombstones = "delete"
        unmapped = "null""#
    );
    let (mode, flag, merge) = match rules.style {
        Style::Merge => ("merge", "", merge),
        Style::Soft => {
            let soft = "\n        deletes = \"soft\"\n        deleted_column = \"gone\"";
            ("merge", r#"{ name = "gone", type = "boolean" },"#, merge + soft)
        }
        Style::Append => ("append", "", String::new()),
    };
    let text = format!(
        r#"
        name = "{job}"
        mode = "{mode}"
        [kafka]
        topic = "{job}"
        on_data_loss = "skip"
        "bootstrap.servers" = "localhost:9092"
        [catalog]
        type = "sql"
        uri = "sqlite:///nowhere"
        warehouse = "file:///warehouse"
        [table]
        name = "db.t"
        branch = "{}"
        columns = [
            {{ name = "id", type = "string", required = true }},
            {{ name = "at", type = "timestamptz" }},
            {{ name = "version", type = "long" }},
            {{ name = "title", type = "string" }},{flag}
        ]
        [merge]
        event_time = "at"{merge}
        [watermark]
        delay = "{DELAY_MINUTES} min"
        late = "{}"
        max_future = "1 h"
        [limits]
        max_offsets_per_trigger = {}
        [rejects]
        max_ratio = 1.0
        "#,
        rules.branch, rules.late, rules.max_offsets,
    );
    Config::parse(&text, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

impl World {
    /// Makes the main table. `mode`: `merge-on-read` or `copy-on-write`.
    pub(crate) fn create_table(self: &Arc<Self>, version: FormatVersion, spec: u8, mode: &str) {
        let field = |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
        let schema = Schema::builder()
            .with_fields([
                NestedField::required(1, "id", Type::Primitive(PrimitiveType::String)).into(),
                field(2, "at", PrimitiveType::Timestamptz),
                field(3, "version", PrimitiveType::Long),
                field(4, "title", PrimitiveType::String),
                field(5, "gone", PrimitiveType::Boolean),
            ])
            .with_identifier_field_ids([1])
            .build()
            .unwrap();
        let properties = [
            ("write.merge.mode", mode),
            ("write.delete.mode", "merge-on-read"),
            ("commit.retry.min-wait-ms", "0"),
            ("commit.retry.max-wait-ms", "0"),
            ("commit.manifest.min-count-to-merge", "4"),
        ];
        let properties: HashMap<_, _> = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let ident = TableIdent::new(NamespaceIdent::new("db".into()), "t".into());
        let door = Door::new(&Actor::aside(self));
        let location = door.default_location(&ident);
        let builder =
            TableMetadataBuilder::new(schema, unbound_spec(spec), SortOrder::unsorted_order(), location, version, properties);
        let metadata = builder.unwrap().assign_uuid(Uuid::from_u128(7)).build().unwrap().metadata;
        assert!(at_once(door.create(&ident, metadata)).unwrap());
    }
}

/// What a process is started for.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    Run(RunOptions),
    Reset(To),
}

/// What a run is started with.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) config: Config,
    pub(crate) id: Uuid,
    /// µs since the epoch.
    pub(crate) started_at: i64,
    pub(crate) task: Task,
    pub(crate) cut_after: Option<usize>,
    pub(crate) stop: Stop,
}

/// How a run ended: its result, or the panic that ended it.
pub(crate) type End = Result<Ended, String>;

/// Runs to the end on this thread.
pub(crate) fn run(runtime: &Runtime, actor: &Arc<Actor>, start: &Start) -> End {
    let source = Tap { actor: Arc::clone(actor), topic: start.config.kafka.topic.clone(), cut_after: start.cut_after };
    let catalog = Door::new(actor);
    let run = Run { id: start.id, started_at: start.started_at, now_ms: || EPOCH_MS };
    let job = Job {
        config: &start.config,
        source: &source,
        catalog: &catalog,
        store: &catalog.store,
        run: &run,
        stop: &start.stop,
        observer: &Silent,
    };
    let ended = catch_unwind(AssertUnwindSafe(|| match &start.task {
        Task::Run(options) => runtime.block_on(Box::pin(job.run(*options))),
        Task::Reset(to) => {
            let options = ResetOptions { to: to.clone(), watermark: None, allow_duplicates: true, execute: true };
            ended(runtime.block_on(Box::pin(job.reset(&options))))
        }
    }));
    ended.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(|| "a panic without words".to_owned(), |text| (*text).to_owned()),
    })
}

/// A reset's end in the form of a run's.
fn ended(reset: Result<Judged, Error>) -> Ended {
    Ended {
        outcome: reset.map(|_| Outcome::Committed),
        batches: Vec::new(),
        remaining: None,
        watermark: None,
        newest_event_time: None,
        warnings: Vec::new(),
    }
}

/// A run on a thread of its own, which waits at the gate.
pub(crate) struct Running {
    pub(crate) actor: Arc<Actor>,
    pub(crate) number: usize,
    pub(crate) start: Start,
    end: Arc<Mutex<Option<End>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it; it stands at its first call when this answers.
    pub(crate) fn begin(runtime: &Arc<Runtime>, actor: Arc<Actor>, start: Start) -> Self {
        let number = actor.number.expect("a run that is not alone has a number");
        let end = Arc::new(Mutex::new(None));
        let thread = std::thread::spawn({
            let (runtime, actor, start, end) = (Arc::clone(runtime), Arc::clone(&actor), start.clone(), Arc::clone(&end));
            move || {
                let ended = run(&runtime, &actor, &start);
                *end.lock().unwrap() = Some(ended);
                actor.world.gate.leave(number);
            }
        });
        actor.world.gate.settle(number);
        Self { actor, number, start, end, thread: Some(thread) }
    }

    /// Lets it make one call; answers whether there is more to come.
    pub(crate) fn go(&self) -> bool {
        self.actor.world.gate.go(self.number)
    }

    /// How it ended, once it did.
    pub(crate) fn ended(&mut self) -> Option<End> {
        let end = self.end.lock().unwrap().take()?;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        Some(end)
    }
}
