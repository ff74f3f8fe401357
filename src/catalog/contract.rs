//! What every catalog must do, as one suite that each implementation runs.
//!
//! The suite opens clients of its own, so that writers meet at the server and not in one client's lock. It expects a server that
//! answers: outcomes that are unclear are for tests that break the server.

use std::collections::HashMap;

use iceberg::spec::{
    FormatVersion, NestedField, Operation, PrimitiveType, Schema, Snapshot, SnapshotReference, SnapshotRetention, SortOrder,
    Summary, TableMetadata, TableMetadataBuilder, Type, UnboundPartitionSpec,
};
use iceberg::{NamespaceIdent, TableIdent, TableRequirement, TableUpdate};
use uuid::Uuid;

use super::{Catalog, Change, CommitOutcome, LoadedTable};

/// Runs the whole suite. Every call of `open` gives another client of one and the same catalog; tables are made in `namespace`.
pub(crate) async fn contract<C: Catalog + 'static>(namespace: &str, open: impl Fn() -> C) {
    history_is_kept(&open(), &table(namespace, "history")).await;
    let rounds = one_winner_a_round(&open, &table(namespace, "race")).await;
    let head = load(&open(), &table(namespace, "race")).await;
    assert_eq!(head.metadata.snapshots().count(), rounds, "one snapshot a round");
    a_branch_that_is_there_is_not_missing(&open(), &table(namespace, "there")).await;
    a_base_that_came_back_is_refused(&open(), &table(namespace, "back")).await;
    contract_of_nessie(namespace, open).await;
}

/// The suite for Nessie 0.99. Of a table's history it shows the newest snapshot only: without its parent, and no log of metadata
/// files. It does not look at the requirement that a branch is missing; what is changed in between it knows otherwise.
pub(crate) async fn contract_of_nessie<C: Catalog + 'static>(namespace: &str, open: impl Fn() -> C) {
    created_once(&open(), &table(namespace, "created_once")).await;
    swapped(&open(), &table(namespace, "swapped")).await;
    keeps_what_it_does_not_change(&open(), &table(namespace, "kept")).await;
    one_of_two_from_one_base(&open(), &open(), &table(namespace, "two")).await;
    unheld_requirements_are_refused(&open(), &table(namespace, "requirements")).await;
    a_dropped_base_is_refused(&open(), &table(namespace, "gone")).await;
    one_winner_a_round(&open, &table(namespace, "second_race")).await;
}

async fn created_once(catalog: &impl Catalog, table: &TableIdent) {
    let other = TableIdent::new(NamespaceIdent::new("no_such_namespace".into()), table.name().to_owned());
    assert!(catalog.create(table, metadata(catalog, table)).await.unwrap(), "the first creation makes the table");
    // A server that makes the metadata draws the UUID, too.
    let uuid = load(catalog, table).await.metadata.uuid();
    assert!(!catalog.create(table, metadata(catalog, table)).await.unwrap(), "the second leaves it as it is");
    let loaded = load(catalog, table).await;
    assert_eq!(loaded.metadata.uuid(), uuid);
    assert_eq!(&loaded.ident, table);
    let location = catalog.default_location(table);
    assert!(location.is_empty() || loaded.metadata.location() == location, "{}", loaded.metadata.location());
    assert!(loaded.metadata.current_snapshot().is_none());
    assert!(catalog.load(&other).await.unwrap().is_none(), "a missing namespace is a missing table");
    let sibling = TableIdent::new(table.namespace().clone(), "no_such_table".into());
    assert!(catalog.load(&sibling).await.unwrap().is_none());
}

async fn swapped(catalog: &impl Catalog, table: &TableIdent) {
    let base = create(catalog, table).await;
    let change = Change { requirements: on_base(&base), updates: append(&base, 101), base };
    committed(catalog.swap(&change).await);
    let head = load(catalog, table).await;
    assert_ne!(head.metadata_location, change.base.metadata_location);
    assert_eq!(head.metadata.current_snapshot_id(), Some(101));

    let change = Change { requirements: on_base(&head), updates: append(&head, 102), base: head };
    committed(catalog.swap(&change).await);
    let head = load(catalog, table).await;
    assert_eq!(head.metadata.current_snapshot_id(), Some(102));
}

async fn history_is_kept(catalog: &impl Catalog, table: &TableIdent) {
    let mut base = create(catalog, table).await;
    let mut bases = Vec::new();
    for round in 1..4 {
        bases.push(base.metadata_location.clone());
        committed(catalog.swap(&Change { requirements: on_base(&base), updates: append(&base, round), base }).await);
        base = load(catalog, table).await;
        let logged: Vec<_> = base.metadata.metadata_log().iter().map(|log| log.metadata_file.as_str()).collect();
        assert_eq!(logged, bases, "the log names every base");
        assert_eq!(base.metadata.snapshots().count(), bases.len());
        let parent = base.metadata.current_snapshot().unwrap().parent_snapshot_id();
        assert_eq!(parent, Some(round - 1).filter(|before| *before > 0));
    }
}

async fn keeps_what_it_does_not_change(catalog: &impl Catalog, table: &TableIdent) {
    let base = create(catalog, table).await;
    let change = Change { requirements: on_base(&base), updates: vec![set("colour", "blue")], base };
    committed(catalog.swap(&change).await);
    let head = load(catalog, table).await;
    assert_eq!(head.metadata.uuid(), change.base.metadata.uuid());
    assert_eq!(head.metadata.location(), change.base.metadata.location());
    assert_eq!(head.metadata.current_schema(), change.base.metadata.current_schema());
    assert_eq!(head.metadata.properties()["owner"], "contract");
    assert_eq!(head.metadata.properties()["colour"], "blue");
}

async fn one_of_two_from_one_base(catalog: &impl Catalog, rival: &impl Catalog, table: &TableIdent) {
    let base = create(catalog, table).await;
    let theirs = load(rival, table).await;
    assert_eq!(theirs.metadata_location, base.metadata_location);
    let change = Change { requirements: on_base(&base), updates: append(&base, 1), base };
    committed(catalog.swap(&change).await);
    let late = Change { requirements: on_base(&theirs), updates: append(&theirs, 2), base: theirs };
    refused(rival.swap(&late).await);
    refused(rival.swap(&late).await);
    let head = load(rival, table).await;
    assert_eq!(head.metadata.current_snapshot_id(), Some(1), "the late change left no trace");
    assert_eq!(head.metadata.snapshots().count(), 1);

    let again = Change { requirements: on_base(&head), updates: append(&head, 2), base: head };
    committed(rival.swap(&again).await);
    assert_eq!(load(catalog, table).await.metadata.current_snapshot_id(), Some(2));
}

/// A rollback makes the head what it was for a change on its way, and what was committed in between must not be forgotten.
async fn a_base_that_came_back_is_refused(catalog: &impl Catalog, table: &TableIdent) {
    let created = create(catalog, table).await;
    committed(catalog.swap(&Change { requirements: on_base(&created), updates: append(&created, 1), base: created }).await);
    let base = load(catalog, table).await;
    committed(catalog.swap(&Change { requirements: on_base(&base), updates: append(&base, 2), base: base.clone() }).await);
    let undone = load(catalog, table).await;
    let reference = SnapshotReference::new(1, SnapshotRetention::branch(None, None, None));
    let rollback = vec![TableUpdate::SetSnapshotRef { ref_name: "main".into(), reference }];
    committed(catalog.swap(&Change { requirements: on_base(&undone), updates: rollback, base: undone }).await);
    refused(catalog.swap(&Change { requirements: on_base(&base), updates: append(&base, 3), base }).await);
    assert_eq!(load(catalog, table).await.metadata.current_snapshot_id(), Some(1));
}

async fn unheld_requirements_are_refused(catalog: &impl Catalog, table: &TableIdent) {
    let created = create(catalog, table).await;
    committed(catalog.swap(&Change { requirements: vec![], updates: append(&created, 7), base: created }).await);
    let base = load(catalog, table).await;
    let requirements = [
        TableRequirement::UuidMatch { uuid: Uuid::from_u128(1) },
        TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(8) },
        TableRequirement::RefSnapshotIdMatch { r#ref: "no_such_branch".into(), snapshot_id: Some(7) },
        TableRequirement::CurrentSchemaIdMatch { current_schema_id: 9 },
        TableRequirement::DefaultSpecIdMatch { default_spec_id: 9 },
    ];
    for requirement in requirements {
        let change = Change { base: base.clone(), requirements: vec![requirement.clone()], updates: vec![set("never", "set")] };
        let outcome = catalog.swap(&change).await;
        assert!(matches!(outcome, CommitOutcome::Refused(_)), "{requirement:?}: {outcome:?}");
    }
    let head = load(catalog, table).await;
    assert_eq!(head.metadata_location, base.metadata_location);
    assert!(!head.metadata.properties().contains_key("never"));
}

async fn a_branch_that_is_there_is_not_missing(catalog: &impl Catalog, table: &TableIdent) {
    let created = create(catalog, table).await;
    committed(catalog.swap(&Change { requirements: vec![], updates: append(&created, 7), base: created }).await);
    let base = load(catalog, table).await;
    let missing = TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: None };
    refused(catalog.swap(&Change { requirements: vec![missing], updates: append(&base, 8), base }).await);
    assert_eq!(load(catalog, table).await.metadata.current_snapshot_id(), Some(7));
}

async fn a_dropped_base_is_refused(catalog: &impl Catalog, table: &TableIdent) {
    let base = create(catalog, table).await;
    // The same metadata under a name that the catalog does not have: what a dropped or renamed table looks like to a swap.
    let gone = TableIdent::new(table.namespace().clone(), "dropped".into());
    let base = LoadedTable { ident: gone.clone(), ..base };
    refused(catalog.swap(&Change { requirements: on_base(&base), updates: vec![set("never", "set")], base }).await);
    assert!(catalog.load(&gone).await.unwrap().is_none());
}

/// The table is dropped, and another of its name made, between load and swap: the new one must stay as it is.
pub(crate) async fn a_replaced_base_is_refused(catalog: &impl Catalog, namespace: &str, drop: impl AsyncFnOnce(&TableIdent)) {
    let table = table(namespace, "replaced");
    let base = create(catalog, &table).await;
    drop(&table).await;
    assert!(catalog.load(&table).await.unwrap().is_none(), "it is dropped");
    let next = create(catalog, &table).await;
    assert_ne!(next.metadata.uuid(), base.metadata.uuid());
    refused(catalog.swap(&Change { requirements: on_base(&base), updates: append(&base, 1), base }).await);
    let head = load(catalog, &table).await;
    assert_eq!((&head.metadata_location, head.metadata.snapshots().count()), (&next.metadata_location, 0));
}

/// Answers the number of rounds.
async fn one_winner_a_round<C: Catalog + 'static>(open: &impl Fn() -> C, table: &TableIdent) -> usize {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 10;
    let reader = open();
    create(&reader, table).await;
    let mut writers: Vec<C> = (0..WRITERS).map(|_| open()).collect();
    for round in 0..ROUNDS {
        // All have the same base before the first one swaps.
        let mut bases = Vec::new();
        for writer in &writers {
            bases.push(load(writer, table).await);
        }
        let mut swaps = tokio::task::JoinSet::new();
        for (number, (writer, base)) in writers.drain(..).zip(bases).enumerate() {
            swaps.spawn(async move {
                let snapshot = i64::try_from(1_000 * (round + 1) + number).unwrap();
                let change = Change { requirements: on_base(&base), updates: append(&base, snapshot), base };
                (snapshot, writer.swap(&change).await, writer)
            });
        }
        let mut winners = Vec::new();
        while let Some(done) = swaps.join_next().await {
            let (snapshot, outcome, writer) = done.unwrap();
            match outcome {
                CommitOutcome::Committed => winners.push(snapshot),
                CommitOutcome::Refused(_) => {}
                CommitOutcome::Unclear(why) => panic!("round {round}: the outcome of {snapshot} is unclear: {why:?}"),
            }
            writers.push(writer);
        }
        let [winner] = winners[..] else { panic!("round {round}: {winners:?} all won") };
        let head = load(&reader, table).await;
        assert_eq!(head.metadata.current_snapshot_id(), Some(winner));
    }
    ROUNDS
}

fn table(namespace: &str, name: &str) -> TableIdent {
    TableIdent::new(NamespaceIdent::from_strs(namespace.split('.')).unwrap(), name.to_owned())
}

async fn create(catalog: &impl Catalog, table: &TableIdent) -> LoadedTable {
    assert!(catalog.create(table, metadata(catalog, table)).await.unwrap(), "`{table}` is new");
    load(catalog, table).await
}

pub(super) async fn load(catalog: &impl Catalog, table: &TableIdent) -> LoadedTable {
    catalog.load(table).await.unwrap().expect("the table exists")
}

pub(super) fn metadata(catalog: &impl Catalog, table: &TableIdent) -> TableMetadata {
    metadata_at(catalog.default_location(table))
}

pub(super) fn metadata_at(location: String) -> TableMetadata {
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::String));
    let at = NestedField::optional(2, "at", Type::Primitive(PrimitiveType::Timestamptz));
    let schema = Schema::builder().with_fields([id.into(), at.into()]).build().unwrap();
    let spec = UnboundPartitionSpec::builder().with_spec_id(0).build();
    let properties = HashMap::from([("owner".to_owned(), "contract".to_owned())]);
    let builder = TableMetadataBuilder::new(schema, spec, SortOrder::unsorted_order(), location, FormatVersion::V2, properties);
    builder.unwrap().build().unwrap().metadata
}

pub(super) fn on_base(base: &LoadedTable) -> Vec<TableRequirement> {
    vec![
        TableRequirement::UuidMatch { uuid: base.metadata.uuid() },
        TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: base.metadata.current_snapshot_id() },
        TableRequirement::CurrentSchemaIdMatch { current_schema_id: base.metadata.current_schema_id() },
        TableRequirement::DefaultSpecIdMatch { default_spec_id: base.metadata.default_partition_spec_id() },
    ]
}

/// An empty snapshot on top of the base: catalogs do not look into manifest lists.
pub(super) fn append(base: &LoadedTable, snapshot_id: i64) -> Vec<TableUpdate> {
    let metadata = &base.metadata;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(metadata.next_sequence_number())
        .with_timestamp_ms(metadata.last_updated_ms() + 1)
        .with_manifest_list(format!("{}/metadata/snap-{snapshot_id}.avro", metadata.location()))
        .with_schema_id(metadata.current_schema_id())
        .with_summary(Summary { operation: Operation::Append, additional_properties: HashMap::new() })
        .build();
    let retention = SnapshotRetention::branch(None, None, None);
    vec![
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef { ref_name: "main".into(), reference: SnapshotReference::new(snapshot_id, retention) },
    ]
}

pub(super) fn set(key: &str, value: &str) -> TableUpdate {
    TableUpdate::SetProperties { updates: HashMap::from([(key.to_owned(), value.to_owned())]) }
}

#[track_caller]
pub(super) fn committed(outcome: CommitOutcome) {
    assert!(matches!(outcome, CommitOutcome::Committed), "{outcome:?}");
}

#[track_caller]
pub(super) fn refused(outcome: CommitOutcome) {
    assert!(matches!(outcome, CommitOutcome::Refused(_)), "{outcome:?}");
}
