//! An independent reader, simple and slow: the rows of a snapshot out of its manifests, data files minus position deletes, deletion
//! vectors and equality deletes. It shares nothing with the program but the library that decodes Avro.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use iceberg::spec::{DataContentType, DataFile, DataFileFormat, ManifestList, ManifestStatus, Snapshot, TableMetadata};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringTreemap;

use super::World;
use super::objects::at_once;
use tidegate::storage::Store;

/// A row of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) id: String,
    /// µs since the epoch.
    pub(crate) at: i64,
    pub(crate) version: Option<i64>,
    pub(crate) title: Option<String>,
    /// The flag of soft deletes; null where no job with such wrote the row.
    pub(crate) gone: Option<bool>,
}

/// A live file of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) file: DataFile,
    pub(crate) spec: i32,
    pub(crate) sequence: i64,
    /// Snapshot that added it.
    pub(crate) added_by: i64,
}

/// The live files of a snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) data: Vec<Live>,
    pub(crate) deletes: Vec<Live>,
    /// Manifest list and manifests.
    pub(crate) metadata: Vec<String>,
}

impl Files {
    /// Every file that the snapshot needs.
    pub(crate) fn paths(&self) -> Vec<String> {
        let files = self.data.iter().chain(&self.deletes).map(|live| live.file.file_path().to_owned());
        files.chain(self.metadata.iter().cloned()).collect()
    }
}

/// Reads a world's tables. What it has read of a file it keeps: files never change.
pub(crate) struct Reader {
    store: Store,
    files: Mutex<HashMap<String, Arc<Files>>>,
    tables: Mutex<HashMap<String, Arc<Vec<RecordBatch>>>>,
}

impl Reader {
    pub(crate) fn new(world: &World) -> Self {
        let store = Store::over(Arc::<object_store::memory::InMemory>::clone(&world.objects));
        Self { store, files: Mutex::default(), tables: Mutex::default() }
    }

    /// What is live in a snapshot.
    pub(crate) fn files(&self, world: &World, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<Arc<Files>, String> {
        if let Some(known) = self.files.lock().unwrap().get(snapshot.manifest_list()) {
            return Ok(Arc::clone(known));
        }
        let file_io = self.store.file_io();
        let list = world.get(snapshot.manifest_list()).ok_or_else(|| format!("{} does not exist", snapshot.manifest_list()))?;
        let list = ManifestList::parse_with_version(&list, metadata.format_version()).map_err(|e| format!("manifest list: {e}"))?;
        let mut files = Files { metadata: vec![snapshot.manifest_list().to_owned()], ..Files::default() };
        for manifest in list.entries() {
            let path = &manifest.manifest_path;
            let loaded = at_once(manifest.load_manifest(&file_io)).map_err(|e| format!("manifest {path}: {e}"))?;
            files.metadata.push(path.clone());
            for entry in loaded.entries().iter().filter(|entry| entry.status() != ManifestStatus::Deleted) {
                let live = Live {
                    file: entry.data_file().clone(),
                    spec: manifest.partition_spec_id,
                    sequence: entry.sequence_number().unwrap_or(manifest.sequence_number),
                    added_by: entry.snapshot_id().unwrap_or(manifest.added_snapshot_id),
                };
                match live.file.content_type() {
                    DataContentType::Data => files.data.push(live),
                    _ => files.deletes.push(live),
                }
            }
        }
        let files = Arc::new(files);
        self.files.lock().unwrap().insert(snapshot.manifest_list().to_owned(), Arc::clone(&files));
        Ok(files)
    }

    /// Batches of a Parquet file.
    fn table(&self, world: &World, path: &str) -> Result<Arc<Vec<RecordBatch>>, String> {
        if let Some(known) = self.tables.lock().unwrap().get(path) {
            return Ok(Arc::clone(known));
        }
        let bytes = world.get(path).ok_or_else(|| format!("{path} does not exist"))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| format!("{path}: {e}"))?;
        let batches: Result<Vec<_>, _> = reader.build().map_err(|e| format!("{path}: {e}"))?.collect();
        let batches = Arc::new(batches.map_err(|e| format!("{path}: {e}"))?);
        self.tables.lock().unwrap().insert(path.to_owned(), Arc::clone(&batches));
        Ok(batches)
    }

    /// Every live row of a data file of a snapshot, as batch and row in it.
    fn alive(&self, world: &World, files: &Files, data: &Live) -> Result<Vec<(RecordBatch, usize)>, String> {
        let mut positions = RoaringTreemap::new();
        let mut ids = BTreeSet::new();
        for delete in &files.deletes {
            let of_this = delete.file.referenced_data_file().is_none_or(|path| path == data.file.file_path());
            let same_place = delete.spec == data.spec && delete.file.partition() == data.file.partition();
            match (delete.file.content_type(), delete.file.file_format()) {
                (DataContentType::PositionDeletes, DataFileFormat::Puffin) if of_this && delete.sequence >= data.sequence => {
                    positions |= vector(world, &delete.file)?;
                }
                (DataContentType::PositionDeletes, DataFileFormat::Parquet) if of_this && delete.sequence >= data.sequence => {
                    for batch in self.table(world, delete.file.file_path())?.iter() {
                        let (paths, at) = (column(batch, "file_path"), column(batch, "pos"));
                        let (paths, at) = (paths.as_string::<i32>(), at.as_primitive::<Int64Type>());
                        let mine = (0..batch.num_rows()).filter(|&row| paths.value(row) == data.file.file_path());
                        positions.extend(mine.map(|row| u64::try_from(at.value(row)).unwrap()));
                    }
                }
                (DataContentType::EqualityDeletes, _) if same_place && delete.sequence > data.sequence => {
                    for batch in self.table(world, delete.file.file_path())?.iter() {
                        ids.extend(column(batch, "id").as_string::<i32>().iter().flatten().map(str::to_owned));
                    }
                }
                _ => {}
            }
        }
        let mut alive = Vec::new();
        let mut position = 0;
        for batch in self.table(world, data.file.file_path())?.iter() {
            for row in 0..batch.num_rows() {
                let named = || ids.contains(column(batch, "id").as_string::<i32>().value(row));
                if !positions.contains(position) && (ids.is_empty() || !named()) {
                    alive.push((batch.clone(), row));
                }
                position += 1;
            }
        }
        if position != data.file.record_count() {
            return Err(format!("{} has {position} rows, its entry says {}", data.file.file_path(), data.file.record_count()));
        }
        Ok(alive)
    }

    /// Live rows of the main table, each with its data file's place in the snapshot.
    pub(crate) fn rows(&self, world: &World, files: &Files) -> Result<Vec<(usize, Row)>, String> {
        let mut rows = Vec::new();
        for (at, data) in files.data.iter().enumerate() {
            for (batch, row) in self.alive(world, files, data)? {
                let [versions, titles, flags] = ["version", "title", "gone"].map(|name| column(&batch, name));
                let (versions, titles, flags) =
                    (versions.as_primitive::<Int64Type>(), titles.as_string::<i32>(), flags.as_boolean());
                let row = Row {
                    id: column(&batch, "id").as_string::<i32>().value(row).to_owned(),
                    at: column(&batch, "at").as_primitive::<TimestampMicrosecondType>().value(row),
                    version: versions.is_valid(row).then(|| versions.value(row)),
                    title: titles.is_valid(row).then(|| titles.value(row).to_owned()),
                    gone: flags.is_valid(row).then(|| flags.value(row)),
                };
                rows.push((at, row));
            }
        }
        Ok(rows)
    }

    /// Live rows of any table.
    pub(crate) fn alive_batches(&self, world: &World, files: &Files) -> Result<Vec<RecordBatch>, String> {
        let mut batches = Vec::new();
        for data in &files.data {
            batches.extend(self.alive(world, files, data)?.into_iter().map(|(batch, row)| batch.slice(row, 1)));
        }
        Ok(batches)
    }

    /// Live rows of the rejects table: job, partition, offset, batch and reason, as often as they are there.
    pub(crate) fn rejects(&self, world: &World, files: &Files) -> Result<BTreeMap<Reject, u32>, String> {
        let mut rejects = BTreeMap::new();
        for data in &files.data {
            for (batch, row) in self.alive(world, files, data)? {
                let text = |name: &str| column(&batch, name).as_string::<i32>().value(row).to_owned();
                let number = |name: &str| column(&batch, name).as_primitive::<Int64Type>().value(row);
                let partition = column(&batch, "partition").as_primitive::<arrow::datatypes::Int32Type>().value(row);
                let reject = Reject {
                    job: text("job"),
                    partition,
                    offset: number("offset"),
                    batch: number("batch").try_into().unwrap(),
                    reason: text("reason"),
                };
                *rejects.entry(reject).or_default() += 1;
            }
        }
        Ok(rejects)
    }
}

/// A row of the rejects table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reject {
    pub(crate) job: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) batch: u64,
    pub(crate) reason: String,
}

fn column(batch: &RecordBatch, name: &str) -> ArrayRef {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name} in {:?}", batch.schema()));
    match column.data_type() {
        // Files of other schemas or writers may hold text in other shapes.
        arrow::datatypes::DataType::Utf8View | arrow::datatypes::DataType::LargeUtf8 => {
            arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap()
        }
        _ => Arc::clone(column),
    }
}

/// A deletion vector: length, magic, roaring bitmap, CRC.
fn vector(world: &World, file: &DataFile) -> Result<RoaringTreemap, String> {
    let bytes = world.get(file.file_path()).ok_or_else(|| format!("{} does not exist", file.file_path()))?;
    let start = usize::try_from(file.content_offset().ok_or("a vector without an offset")?).unwrap();
    let length = usize::try_from(file.content_size_in_bytes().ok_or("a vector without a size")?).unwrap();
    let blob = bytes.get(start..start + length).ok_or("a vector past the end of its file")?;
    let (size, rest) = blob.split_at(4);
    let (body, crc) = rest.split_at(rest.len() - 4);
    if usize::try_from(u32::from_be_bytes(size.try_into().unwrap())).unwrap() != body.len() || body[..4] != [0xD1, 0xD3, 0x39, 0x64]
    {
        return Err(format!("{}: the vector is framed wrongly", file.file_path()));
    }
    if u32::from_be_bytes(crc.try_into().unwrap()) != crc32fast::hash(body) {
        return Err(format!("{}: the vector's checksum is wrong", file.file_path()));
    }
    let positions = RoaringTreemap::deserialize_from(&body[4..]).map_err(|e| e.to_string())?;
    if positions.len() != file.record_count() {
        return Err(format!("{} holds {} positions, its entry says {}", file.file_path(), positions.len(), file.record_count()));
    }
    Ok(positions)
}
