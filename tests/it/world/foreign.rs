//! Other writers of the table: each acts at once, between two calls of the runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, MAIN_BRANCH, ManifestContentType,
    ManifestFile, ManifestList, ManifestListWriter, ManifestWriterBuilder, NestedField, Operation, PartitionSpec, PrimitiveType,
    Schema, Snapshot, SnapshotReference, SnapshotRetention, Struct, Summary, TableMetadata, Transform, Type, UnboundPartitionSpec,
};
use iceberg::transform::create_transform_function;
use iceberg::{NamespaceIdent, TableIdent, TableUpdate};
use parquet::arrow::ArrowWriter;
use tidegate::catalog::{Change, LoadedTable};
use tidegate::offsets::{Partition, PartitionBounds};
use tidegate::storage::Store;

use super::objects::at_once;
use super::reader::{Files, Reader, Row};
use super::{Actor, World};

pub(crate) const MAIN: &str = "db.t";
pub(crate) const REJECTS: &str = "db.t_rejects";
/// A branch that jobs write beside the main one.
pub(crate) const WORK: &str = "work";

/// What another writer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Rows of these ids, at this minute; an id may be there already.
    Append(Vec<u8>, i64),
    /// All rows in new files.
    Compact,
    /// Equality deletes of an id.
    Delete(u8),
    /// All rows but an id's in new files.
    Rewrite(u8),
    /// Only so many of the newest snapshots stay.
    Expire(u8),
    /// So many snapshots back.
    Rollback(u8),
    AddColumn,
    ChangeSpec(u8),
    Upgrade,
    SetProperty(u8),
    /// A commit on a branch that no job writes.
    Branch,
    /// All rows of the rejects table in new files.
    CompactRejects,
    /// Only the newest snapshot of the rejects table stays.
    ExpireRejects,
}

/// What the world knows of commits beside what stands in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    /// What snapshots of other writers did to the rows.
    pub(crate) effects: BTreeMap<i64, Effect>,
    /// What each run was last told of its topic.
    told: BTreeMap<String, Bounds>,
    /// What a snapshot's run was told before it made it.
    pub(crate) planned_on: BTreeMap<i64, Bounds>,
    drawn: i64,
}

pub(crate) type Bounds = BTreeMap<Partition, Option<PartitionBounds>>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Effect {
    pub(crate) added: Vec<Row>,
    pub(crate) removed: BTreeSet<String>,
}

impl Ledger {
    /// A run was told its topic's bounds.
    pub(crate) fn asked(&mut self, run: &str, bounds: &Bounds) {
        self.told.insert(run.to_owned(), bounds.clone());
    }

    /// A run tries to commit; answers the snapshots that it would make.
    pub(crate) fn tried(&mut self, run: &Actor, change: &Change) -> Vec<i64> {
        let made: Vec<i64> = change.updates.iter().filter_map(added_snapshot).collect();
        for snapshot in &made {
            if let Some(told) = self.told.get(&run.name) {
                self.planned_on.insert(*snapshot, told.clone());
            }
        }
        made
    }

    /// A number that no other has.
    fn draw(&mut self) -> i64 {
        self.drawn += 1;
        self.drawn
    }
}

fn added_snapshot(update: &TableUpdate) -> Option<i64> {
    match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot.snapshot_id()),
        _ => None,
    }
}

pub(crate) fn id_of(number: u8) -> String {
    format!("id{number}")
}

pub(crate) fn micros_of(minute: i64) -> i64 {
    super::run::EPOCH_MS * 1_000 + minute * 60_000_000
}

/// The table as another writer holds it in its hands.
struct Hands<'a> {
    world: &'a World,
    reader: &'a Reader,
    table: &'static str,
    location: String,
    metadata: Arc<TableMetadata>,
    store: Store,
    /// Branch that it writes.
    branch: &'static str,
}

impl World {
    /// Gives the table a snapshot of another writer's, and the branch `work` at it.
    pub(crate) fn branch_off(&self, reader: &Reader) {
        let hands = || Hands::take(self, reader, MAIN, MAIN_BRANCH).unwrap();
        hands().append(&[0], 0, MAIN_BRANCH);
        hands().point(WORK, hands().metadata.current_snapshot_id().unwrap());
    }

    /// Lets another writer act on a branch; nothing happens where it cannot.
    pub(crate) fn foreign(&self, what: &Foreign, branch: &'static str, reader: &Reader) {
        let (table, branch) = match what {
            Foreign::CompactRejects | Foreign::ExpireRejects => (REJECTS, MAIN_BRANCH),
            _ => (MAIN, branch),
        };
        let Some(hands) = Hands::take(self, reader, table, branch) else { return };
        match what {
            Foreign::Append(ids, minute) => hands.append(ids, *minute, branch),
            Foreign::Compact | Foreign::CompactRejects => hands.rewrite(None),
            Foreign::Delete(id) => hands.delete(&id_of(*id)),
            Foreign::Rewrite(id) => hands.rewrite(Some(&id_of(*id))),
            Foreign::Expire(keep) => hands.expire(usize::from(*keep).max(1)),
            Foreign::ExpireRejects => hands.expire(1),
            Foreign::Rollback(back) => hands.rollback(usize::from(*back)),
            Foreign::AddColumn => hands.add_column(),
            Foreign::ChangeSpec(which) => hands.change_spec(*which),
            Foreign::Upgrade => hands.alter(vec![TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V3 }]),
            Foreign::SetProperty(value) => hands.alter(vec![set("foreign", &value.to_string())]),
            Foreign::Branch => hands.append(&[99], 0, "audit"),
        }
    }
}

fn set(key: &str, value: &str) -> TableUpdate {
    TableUpdate::SetProperties { updates: HashMap::from([(key.to_owned(), value.to_owned())]) }
}

/// The snapshots from a head to its first ancestor that is still there.
pub(crate) fn ancestry(metadata: &TableMetadata, branch: &str) -> Vec<Arc<Snapshot>> {
    let mut at = metadata.snapshot_for_ref(branch);
    let mut ancestors = Vec::new();
    while let Some(snapshot) = at {
        ancestors.push(Arc::clone(snapshot));
        at = snapshot.parent_snapshot_id().and_then(|parent| metadata.snapshot_by_id(parent));
    }
    ancestors
}

fn job_of(snapshot: &Snapshot) -> Option<&String> {
    snapshot.summary().additional_properties.get("tidegate.job")
}

impl<'a> Hands<'a> {
    fn take(world: &'a World, reader: &'a Reader, table: &'static str, branch: &'static str) -> Option<Self> {
        let head = world.heads.lock().unwrap().head(table).cloned()?;
        let store = Store::over(Arc::<object_store::memory::InMemory>::clone(&world.objects));
        Some(Self { world, reader, table, location: head.location, metadata: head.metadata, store, branch })
    }

    /// Swaps: nobody can be in the way.
    fn alter(&self, updates: Vec<TableUpdate>) {
        let (namespace, name) = self.table.split_once('.').unwrap();
        let base = LoadedTable {
            ident: TableIdent::new(NamespaceIdent::new(namespace.to_owned()), name.to_owned()),
            metadata_location: self.location.clone(),
            metadata: Arc::clone(&self.metadata),
            file_io: self.store.file_io(),
        };
        let change = Change { base, requirements: vec![], updates };
        self.world.heads.lock().unwrap().swap(self.world, self.table, &change).unwrap();
    }

    fn append(&self, ids: &[u8], minute: i64, branch: &str) {
        let number = self.world.ledger.lock().unwrap().draw();
        let row = |id: &u8| Row {
            id: id_of(*id),
            at: micros_of(minute),
            // No version of a job's: which of two equal rows a soft delete keeps is nobody's promise.
            version: Some(100 + number),
            title: Some(format!("foreign {number}")),
            gone: None,
        };
        let rows: Vec<Row> = ids.iter().map(row).collect();
        let data = self.write_rows(&rows);
        self.commit(branch, true, data, vec![], Effect { added: rows, ..Effect::default() });
    }

    fn files(&self) -> Option<Arc<Files>> {
        let head = self.metadata.snapshot_for_ref(self.branch)?;
        Some(self.reader.files(self.world, &self.metadata, head).unwrap())
    }

    /// New files with all rows but an id's.
    fn rewrite(&self, without: Option<&str>) {
        let Some(files) = self.files() else { return };
        let mut effect = Effect::default();
        let data = if self.table == MAIN {
            let rows = self.reader.rows(self.world, &files).unwrap();
            let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).filter(|row| Some(row.id.as_str()) != without).collect();
            effect.removed.extend(without.map(str::to_owned));
            self.write_rows(&rows)
        } else {
            let batches = self.reader.alive_batches(self.world, &files).unwrap();
            batches.iter().map(|batch| self.write(batch, Struct::empty()).build().unwrap()).collect()
        };
        self.commit(self.branch, false, data, vec![], effect);
    }

    /// An equality delete in each place where the id is.
    fn delete(&self, id: &str) {
        let Some(files) = self.files() else { return };
        let rows = self.reader.rows(self.world, &files).unwrap();
        let mut deletes: Vec<(i32, DataFile)> = Vec::new();
        for (at, row) in rows {
            let data = &files.data[at];
            let there = deletes.iter().any(|(spec, delete)| *spec == data.spec && delete.partition() == data.file.partition());
            if row.id == id && !there {
                let field = Arc::clone(self.metadata.current_schema().field_by_name("id").unwrap());
                let schema = schema_to_arrow_schema(&Schema::builder().with_fields([field]).build().unwrap()).unwrap();
                let ids: ArrayRef = Arc::new(StringArray::from(vec![id]));
                let mut file =
                    self.write(&RecordBatch::try_new(Arc::new(schema), vec![ids]).unwrap(), data.file.partition().clone());
                file.content(DataContentType::EqualityDeletes).equality_ids(Some(vec![1])).partition_spec_id(data.spec);
                deletes.push((data.spec, file.build().unwrap()));
            }
        }
        if !deletes.is_empty() {
            let effect = Effect { removed: BTreeSet::from([id.to_owned()]), ..Effect::default() };
            self.commit(self.branch, true, vec![], deletes, effect);
        }
    }

    /// Removes old snapshots and what only they name, as far as an operator may: a job whose newest state was rolled back keeps
    /// the snapshot that it goes on from.
    fn expire(&self, keep: usize) {
        let mut kept: BTreeSet<i64> = ancestry(&self.metadata, "audit").iter().map(|snapshot| snapshot.snapshot_id()).collect();
        for branch in [MAIN_BRANCH, WORK] {
            let ancestors = ancestry(&self.metadata, branch);
            let mut keep = keep.min(ancestors.len());
            for (job, named) in self.states(branch) {
                let newest = ancestors.iter().position(|snapshot| job_of(snapshot).is_some_and(|name| *name == job));
                if newest.is_some_and(|at| Some(ancestors[at].snapshot_id()) != named) {
                    keep = keep.max(newest.unwrap() + 1);
                }
            }
            kept.extend(ancestors[..keep].iter().map(|snapshot| snapshot.snapshot_id()));
        }
        let (stay, go): (Vec<_>, Vec<_>) = self.metadata.snapshots().partition(|snapshot| kept.contains(&snapshot.snapshot_id()));
        let named = |snapshots: &[&Arc<Snapshot>]| -> BTreeSet<String> {
            let files = snapshots.iter().map(|snapshot| self.reader.files(self.world, &self.metadata, snapshot).unwrap());
            files.flat_map(|files| files.paths()).collect()
        };
        let lost: Vec<String> = named(&go).difference(&named(&stay)).cloned().collect();
        if go.is_empty() {
            return;
        }
        self.alter(vec![TableUpdate::RemoveSnapshots { snapshot_ids: go.iter().map(|s| s.snapshot_id()).collect() }]);
        for path in lost {
            self.world.delete(&path);
        }
    }

    /// Goes back, as far as every job of the head finds its state there.
    fn rollback(&self, back: usize) {
        let ancestors = ancestry(&self.metadata, self.branch);
        let jobs = |snapshots: &[Arc<Snapshot>]| -> BTreeSet<String> {
            snapshots.iter().filter_map(|snapshot| job_of(snapshot).cloned()).collect()
        };
        let wanted: BTreeSet<String> = self.states(self.branch).into_keys().collect();
        let to = (0..ancestors.len().min(back + 1)).rev().find(|&at| jobs(&ancestors[at..]).is_superset(&wanted));
        if let Some(to) = to.filter(|&to| to > 0) {
            self.point(self.branch, ancestors[to].snapshot_id());
        }
    }

    /// Makes a branch's head a snapshot.
    fn point(&self, branch: &str, snapshot: i64) {
        let reference = SnapshotReference::new(snapshot, SnapshotRetention::branch(None, None, None));
        self.alter(vec![TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference }]);
    }

    /// Jobs with a state on a branch, and the snapshot that each one's property names.
    fn states(&self, branch: &str) -> BTreeMap<String, Option<i64>> {
        let job = |key: &str| Some(key.strip_prefix("tidegate.state.")?.strip_suffix(branch)?.strip_suffix('.')?.to_owned());
        let named = |value: &str| serde_json::from_str::<serde_json::Value>(value).unwrap()["snapshot-id"].as_i64();
        self.metadata.properties().iter().filter_map(|(key, value)| Some((job(key)?, named(value)))).collect()
    }

    fn add_column(&self) {
        let schema = self.metadata.current_schema();
        let id = self.metadata.last_column_id() + 1;
        let field = NestedField::optional(id, format!("extra{id}"), Type::Primitive(PrimitiveType::Long)).into();
        let fields = schema.as_struct().fields().iter().cloned().chain([field]);
        let identifiers = schema.identifier_field_ids().collect::<Vec<_>>();
        let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build().unwrap();
        self.alter(vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }]);
    }

    fn change_spec(&self, which: u8) {
        let spec = unbound_spec(which);
        self.alter(vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }]);
    }

    /// Data files of these rows, one per partition of the default spec.
    fn write_rows(&self, rows: &[Row]) -> Vec<DataFile> {
        let spec = self.metadata.default_partition_spec();
        let mut partitions: Vec<(Struct, Vec<&Row>)> = Vec::new();
        for row in rows {
            let partition = partition_of(spec, row);
            match partitions.iter_mut().find(|(there, _)| *there == partition) {
                Some((_, rows)) => rows.push(row),
                None => partitions.push((partition, vec![row])),
            }
        }
        let schema = Arc::new(schema_to_arrow_schema(self.metadata.current_schema()).unwrap());
        let file = |(partition, rows): (Struct, Vec<&Row>)| {
            let column = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
                match field.name().as_str() {
                    "id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.id))),
                    "at" => {
                        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.at));
                        arrow::compute::cast(&times, field.data_type()).unwrap()
                    }
                    "version" => Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.version))),
                    "title" => Arc::new(StringArray::from_iter(rows.iter().map(|row| row.title.as_ref()))),
                    "gone" => Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.gone))),
                    _ => new_null_array(field.data_type(), rows.len()),
                }
            };
            let columns = schema.fields().iter().map(column).collect();
            self.write(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap(), partition).build().unwrap()
        };
        partitions.into_iter().map(file).collect()
    }

    fn write(&self, batch: &RecordBatch, partition: Struct) -> DataFileBuilder {
        let mut content = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut content, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let number = self.world.ledger.lock().unwrap().draw();
        let path = format!("{}/data/foreign-{number:05}.parquet", self.metadata.location());
        let mut file = DataFileBuilder::default();
        file.content(DataContentType::Data)
            .file_path(path.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(partition)
            .partition_spec_id(self.metadata.default_partition_spec_id())
            .record_count(u64::try_from(batch.num_rows()).unwrap())
            .file_size_in_bytes(u64::try_from(content.len()).unwrap());
        self.world.put(&path, content);
        file
    }

    /// One snapshot; without `keep` it holds nothing but the new files.
    fn commit(&self, branch: &str, keep: bool, data: Vec<DataFile>, deletes: Vec<(i32, DataFile)>, effect: Effect) {
        let metadata = &self.metadata;
        let id = 1_000_000 + self.world.ledger.lock().unwrap().draw();
        let parent = metadata.snapshot_for_ref(branch).or(metadata.current_snapshot());
        let mut manifests: Vec<ManifestFile> = Vec::new();
        if let (true, Some(parent)) = (keep, parent) {
            let list = self.world.get(parent.manifest_list()).unwrap();
            let list = ManifestList::parse_with_version(&list, metadata.format_version()).unwrap();
            manifests.extend(list.consume_entries());
        }
        if !data.is_empty() {
            manifests.push(self.manifest(id, ManifestContentType::Data, metadata.default_partition_spec(), data));
        }
        for (spec, delete) in deletes {
            let spec = metadata.partition_spec_by_id(spec).unwrap();
            manifests.push(self.manifest(id, ManifestContentType::Deletes, spec, vec![delete]));
        }
        let operation = if keep { Operation::Append } else { Operation::Replace };
        let (sequence, first_row_id) = (metadata.next_sequence_number(), metadata.next_row_id());
        let list = format!("{}/metadata/foreign-{id}.avro", metadata.location());
        let writer = at_once(self.store.file_io().new_output(&list).unwrap().writer()).unwrap();
        let parent = parent.map(|parent| parent.snapshot_id());
        let mut writer = match metadata.format_version() {
            FormatVersion::V3 => ManifestListWriter::v3(writer, id, parent, sequence, Some(first_row_id)),
            _ => ManifestListWriter::v2(writer, id, parent, sequence),
        };
        writer.add_manifests(manifests.into_iter()).unwrap();
        let rows = writer.next_row_id().map(|next| next - first_row_id);
        at_once(writer.close()).unwrap();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(parent)
            .with_sequence_number(sequence)
            .with_timestamp_ms(metadata.last_updated_ms())
            .with_manifest_list(list)
            .with_summary(Summary { operation, additional_properties: HashMap::new() })
            .with_schema_id(metadata.current_schema_id());
        let snapshot = match rows {
            Some(rows) => snapshot.with_row_range(first_row_id, rows).build(),
            None => snapshot.build(),
        };
        self.world.ledger.lock().unwrap().effects.insert(id, effect);
        let reference = SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
        self.alter(vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference },
        ]);
    }

    fn manifest(&self, snapshot: i64, content: ManifestContentType, spec: &PartitionSpec, files: Vec<DataFile>) -> ManifestFile {
        let number = self.world.ledger.lock().unwrap().draw();
        let path = format!("{}/metadata/foreign-{number:05}-m.avro", self.metadata.location());
        let output = self.store.file_io().new_output(&path).unwrap();
        let builder = ManifestWriterBuilder::new(output, Some(snapshot), Arc::clone(self.metadata.current_schema()), spec.clone());
        let mut writer = match (self.metadata.format_version(), content) {
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
            (_, ManifestContentType::Data) => builder.build_v2_data(),
            (_, ManifestContentType::Deletes) => builder.build_v2_deletes(),
        };
        for file in files {
            writer.add_file(file, -1).unwrap();
        }
        ManifestFile { manifest_path: path, ..at_once(writer.write_manifest_file()).unwrap() }
    }
}

/// Partition specs that tables of these tests have.
pub(crate) fn unbound_spec(which: u8) -> UnboundPartitionSpec {
    let spec = UnboundPartitionSpec::builder();
    match which % 3 {
        0 => spec.build(),
        1 => spec.add_partition_field(1, "id_bucket", Transform::Bucket(2)).unwrap().build(),
        _ => spec.add_partition_field(2, "at_day", Transform::Day).unwrap().build(),
    }
}

fn partition_of(spec: &PartitionSpec, row: &Row) -> Struct {
    let value = |field: &iceberg::spec::PartitionField| {
        let source = if field.source_id == 1 { Datum::string(&row.id) } else { Datum::timestamptz_micros(row.at) };
        let value = create_transform_function(&field.transform).unwrap().transform_literal_result(&source).unwrap();
        Some(Literal::Primitive(value.literal().clone()))
    };
    Struct::from_iter(spec.fields().iter().map(value))
}
