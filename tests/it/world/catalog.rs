//! A catalog in memory behind a door. It passes the suite that every catalog passes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use iceberg::spec::{SnapshotRef, TableMetadata, TableMetadataRef};
use iceberg::{TableIdent, TableRequirement, TableUpdate};
use tidegate::catalog::{Catalog, Change, CommitOutcome, LoadedTable};
use tidegate::error::{Error, Result};
use tidegate::storage::Store;

use super::objects::Objects;
use super::{Actor, Lost, Op, Sabotage, World};

/// What a swap is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The metadata file that the change was made from, as SQL catalogs do.
    Location,
    /// The change's requirements, as REST catalogs do: what they do not name may have changed.
    Requirements,
}

/// How a server breaks its word, once, that it changes several tables or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It changes none and says yes.
    Yes,
    /// It changes the first and says no.
    No,
    /// It changes none and does not answer: a gateway that does not know the address.
    Gateway,
}

/// The heads of all tables, and every snapshot that ever was.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    compare: Compare,
    pub(crate) broken: Option<Broken>,
    tables: BTreeMap<String, Head>,
    snapshots: BTreeMap<i64, SnapshotRef>,
}

#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) location: String,
    pub(crate) metadata: TableMetadataRef,
    version: u32,
}

impl Heads {
    pub(crate) fn new(compare: Compare) -> Self {
        Self { compare, broken: None, tables: BTreeMap::new(), snapshots: BTreeMap::new() }
    }

    pub(crate) fn head(&self, table: &str) -> Option<&Head> {
        self.tables.get(table)
    }

    /// A snapshot of any table, expired or not.
    pub(crate) fn snapshot(&self, id: i64) -> Option<&SnapshotRef> {
        self.snapshots.get(&id)
    }

    fn set(&mut self, world: &World, table: &str, metadata: TableMetadata) {
        let version = self.tables.get(table).map_or(0, |head| head.version + 1);
        let location = format!("{}/metadata/{version:05}-head.metadata.json", metadata.location());
        world.put(&location, serde_json::to_vec(&metadata).unwrap());
        self.snapshots.extend(metadata.snapshots().map(|snapshot| (snapshot.snapshot_id(), Arc::clone(snapshot))));
        self.tables.insert(table.to_owned(), Head { location, metadata: Arc::new(metadata), version });
    }

    fn create(&mut self, world: &World, table: &str, metadata: TableMetadata) -> bool {
        let new = !self.tables.contains_key(table);
        if new {
            self.set(world, table, metadata);
        }
        new
    }

    /// Whether the change can be applied to the head as it is now.
    fn check(&self, table: &str, change: &Change) -> std::result::Result<&Head, String> {
        let head = self.tables.get(table).ok_or("there is no such table")?;
        if self.compare == Compare::Location && head.location != change.base.metadata_location {
            return Err(format!("the head is {}", head.location));
        }
        for requirement in &change.requirements {
            requirement.check(Some(&head.metadata)).map_err(|e| e.to_string())?;
        }
        Ok(head)
    }

    /// Applies the change to the head as it is now, or says why not.
    pub(crate) fn swap(&mut self, world: &World, table: &str, change: &Change) -> std::result::Result<(), String> {
        let head = self.check(table, change)?;
        let mut builder = TableMetadata::clone(&head.metadata).into_builder(Some(head.location.clone()));
        for update in &change.updates {
            builder = update.clone().apply(builder).map_err(|e| e.to_string())?;
        }
        let metadata = builder.build().map_err(|e| e.to_string())?.metadata;
        self.set(world, table, metadata);
        Ok(())
    }
}

impl World {
    /// Sets a property of a table.
    pub(crate) fn set_property(&self, table: &str, key: &str, value: &str) {
        let mut heads = self.heads.lock().unwrap();
        let head = heads.head(table).unwrap();
        let builder = TableMetadata::clone(&head.metadata).into_builder(Some(head.location.clone()));
        let builder = builder.set_properties([(key.to_owned(), value.to_owned())].into()).unwrap();
        heads.set(self, table, builder.build().unwrap().metadata);
    }
}

/// The world's catalog as one run sees it.
#[derive(Debug)]
pub(crate) struct Door {
    actor: Arc<Actor>,
    /// Reads the table's files through the same run's door.
    pub(crate) store: Store,
    /// Snapshots that the run saw when it began, and those that it made.
    known: Mutex<Option<Vec<i64>>>,
}

impl Door {
    pub(crate) fn new(actor: &Arc<Actor>) -> Self {
        let store = Store::over(Arc::new(Objects(Arc::clone(actor))));
        Self { actor: Arc::clone(actor), store, known: Mutex::default() }
    }

    fn blinded(&self, table: LoadedTable) -> LoadedTable {
        let mut known = self.known.lock().unwrap();
        let now = || table.metadata.snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
        let known = known.get_or_insert_with(now);
        let metadata = Arc::new(without_states(&table.metadata, known));
        LoadedTable { metadata, ..table }
    }
}

impl Catalog for Door {
    async fn load(&self, table: &TableIdent) -> Result<Option<LoadedTable>> {
        let name = table.to_string();
        let loaded = self.actor.call(Op::Load, &name.clone(), move |world| world.heads.lock().unwrap().head(&name).cloned());
        let loaded = loaded.map_err(|lost| Error::unavailable(format!("load `{table}`"), format!("{lost:?}")))?;
        let Some(Head { location, metadata, .. }) = loaded else { return Ok(None) };
        let loaded = LoadedTable { ident: table.clone(), metadata_location: location, metadata, file_io: self.store.file_io() };
        let blind = self.actor.world.sabotage == Some(Sabotage::BlindToRivals);
        Ok(Some(if blind { self.blinded(loaded) } else { loaded }))
    }

    async fn create(&self, table: &TableIdent, metadata: TableMetadata) -> Result<bool> {
        let name = table.to_string();
        let created =
            self.actor.call(Op::Create, &name.clone(), move |world| world.heads.lock().unwrap().create(world, &name, metadata));
        created.map_err(|lost| Error::unavailable(format!("create `{table}`"), format!("{lost:?}")))
    }

    fn default_location(&self, table: &TableIdent) -> String {
        format!("file:///warehouse/{}/{}", table.namespace().as_ref().join("/"), table.name())
    }

    async fn swap(&self, change: &Change) -> CommitOutcome {
        self.swap_all(vec![change.clone()])
    }

    /// As some servers of the kind that compares requirements do.
    async fn swaps_together(&self) -> Result<bool> {
        Ok(self.actor.world.heads.lock().unwrap().compare == Compare::Requirements)
    }

    async fn swap_together(&self, changes: &[Change]) -> CommitOutcome {
        self.swap_all(changes.to_vec())
    }
}

impl Door {
    /// All of them or none, in one call.
    fn swap_all(&self, mut changes: Vec<Change>) -> CommitOutcome {
        let world = &self.actor.world;
        for change in &mut changes {
            let made = world.ledger.lock().unwrap().tried(&self.actor, change);
            self.known.lock().unwrap().get_or_insert_default().extend(made);
            match world.sabotage {
                Some(Sabotage::RejectsUnmarked) => change.updates.retain(|update| !marks_rejects(update)),
                Some(Sabotage::NoRequirements) => change.requirements.clear(),
                _ => {}
            }
        }
        let careless = world.sabotage == Some(Sabotage::NoRequirements);
        if changes.len() > 1 && world.heads.lock().unwrap().broken == Some(Broken::Gateway) {
            return CommitOutcome::Unclear("502 Bad Gateway".into());
        }
        let first = changes[0].base.ident.to_string();
        let first_of_all = first.clone();
        let swapped = self.actor.call(Op::Swap, &first, move |world| {
            let mut heads = world.heads.lock().unwrap();
            for change in &mut changes {
                if careless && let Some(head) = heads.head(&change.base.ident.to_string()) {
                    *change = onto(change.clone(), head);
                }
                heads.check(&change.base.ident.to_string(), change)?;
            }
            match heads.broken.take_if(|_| changes.len() > 1) {
                Some(Broken::Yes) => return Ok(()),
                Some(Broken::No) => {
                    heads.swap(world, &first_of_all, &changes[0])?;
                    return Err("another writer was first".to_owned());
                }
                Some(Broken::Gateway) | None => {}
            }
            changes.iter().try_for_each(|change| heads.swap(world, &change.base.ident.to_string(), change))
        });
        match swapped {
            Ok(Ok(())) => CommitOutcome::Committed,
            Ok(Err(why)) => CommitOutcome::Refused(why.into()),
            Err(Lost::Refused) => CommitOutcome::Refused("the catalog refused".into()),
            Err(Lost::Silent) if world.sabotage == Some(Sabotage::UnclearIsRefusal) => CommitOutcome::Refused("no answer".into()),
            Err(Lost::Silent) => CommitOutcome::Unclear("no answer".into()),
        }
    }
}

fn marks_rejects(update: &TableUpdate) -> bool {
    matches!(update, TableUpdate::SetProperties { updates } if updates.keys().any(|key| key.starts_with("tidegate.rejects.")))
}

/// The change as a careless writer sends it: whatever the head is, with numbers that the catalog lets pass.
fn onto(change: Change, head: &Head) -> Change {
    let mut updates = Vec::new();
    for update in change.updates {
        let TableUpdate::AddSnapshot { snapshot } = &update else {
            updates.push(update);
            continue;
        };
        let update = serde_json::to_value(&update).unwrap();
        let mut json = update;
        json["snapshot"]["sequence-number"] = head.metadata.next_sequence_number().into();
        if snapshot.row_range().is_some() {
            json["snapshot"]["first-row-id"] = head.metadata.next_row_id().into();
        }
        updates.push(serde_json::from_value(json).unwrap());
    }
    let base = LoadedTable { metadata_location: head.location.clone(), ..change.base };
    Change { base, requirements: Vec::<TableRequirement>::new(), updates }
}

/// The metadata with every job's state taken out of the snapshots that are not `known`.
fn without_states(metadata: &TableMetadata, known: &[i64]) -> TableMetadata {
    let mut json = serde_json::to_value(metadata).unwrap();
    for snapshot in json["snapshots"].as_array_mut().into_iter().flatten() {
        if !known.contains(&snapshot["snapshot-id"].as_i64().unwrap()) {
            snapshot["summary"].as_object_mut().unwrap().remove("tidegate.job");
        }
    }
    serde_json::from_value(json).unwrap()
}

#[path = "../../../src/catalog/contract.rs"]
mod contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_catalog_of_these_tests_passes_the_contract() {
    for compare in [Compare::Location, Compare::Requirements] {
        let world = World::new(compare, None);
        let open = || Door::new(&Actor::aside(&world));
        contract::contract("top.inner", open).boxed().await;
        let drop = async |table: &TableIdent| drop(world.heads.lock().unwrap().tables.remove(&table.to_string()));
        contract::a_replaced_base_is_refused(&open(), "top.inner", drop).boxed().await;
    }
}
