//! Copy-on-write: new data files in the place of those with newly dead rows, and no delete files.
//!
//! Rows that stay alive go on unchanged, under the current schema and partition spec, and in a v3 table with their row ids. All
//! deletes of a file are applied as it is read, for none of them applies to the new one. Rows stream, one file at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::Int64Type;
use iceberg::metadata_columns::{
    RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_COL_NAME_ROW_ID, RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER,
    RESERVED_FIELD_ID_ROW_ID,
};
use iceberg::spec::{DataFile, FormatVersion, NestedField, PrimitiveType, Struct, Type};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::live::adapt::Columns;
use crate::live::dead::dead_positions;
use crate::live::files::LiveFiles;
use crate::live::rows::{FileReader, Rows};
use crate::write::{DataWriter, Lineage, WriteTarget, WrittenFile, sort_order_id};

/// What takes the place of the data files that a merge touches.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// The batch's own files, without dead rows.
    pub(crate) own: Vec<DataFile>,
    /// New files with the rows of the removed ones that stay alive.
    pub(crate) added: Vec<DataFile>,
    /// Live data files that go, by index; those without a row left have nothing in their place.
    pub(crate) removed: Vec<usize>,
    /// Live delete files that are void without them, by index into the live deletes.
    pub(crate) void: Vec<usize>,
    /// Rows in `added`.
    pub(crate) carried_rows: u64,
}

/// Takes `dead` (by live data file) and `own_dead` (by ordinal among `own`) out of their files.
pub(crate) async fn rewrite(
    target: &WriteTarget,
    live: &LiveFiles,
    dead: &BTreeMap<usize, RoaringTreemap>,
    own: &[WrittenFile],
    own_dead: &BTreeMap<u32, RoaringTreemap>,
) -> Result<Rewritten> {
    let copier = Copier::new(target, live)?;
    let mut rewritten = Rewritten::default();
    for group in groups(live, dead, sort_order_id(&target.metadata)) {
        let mut writer = DataWriter::in_order(target.clone(), group.order)?;
        for data in group.files {
            let source = Source::live(live, data, &dead[&data], target).await?;
            rewritten.carried_rows += copier.copy(&source, &mut writer).await?;
            rewritten.void.extend(live.deletes_only_of(data));
            rewritten.removed.push(data);
        }
        rewritten.added.extend(writer.finish().await?.into_iter().map(|file| file.data_file));
    }
    for file in own {
        let Some(dead) = own_dead.get(&file.ordinal) else {
            rewritten.own.push(file.data_file.clone());
            continue;
        };
        let source = Source::own(&file.data_file, target.metadata.default_partition_spec_id(), dead);
        let mut writer = DataWriter::in_order(target.clone(), file.data_file.sort_order_id())?;
        copier.copy(&source, &mut writer).await?;
        rewritten.own.extend(writer.finish().await?.into_iter().map(|file| file.data_file));
    }
    Ok(rewritten)
}

/// Files whose rows go on together.
struct Group {
    /// Sort order of their rows, where it is the table's.
    order: Option<i32>,
    files: Vec<usize>,
}

/// Small files of one partition become one. Those in the table's order stay alone: two of them in a row are in no order.
fn groups(live: &LiveFiles, dead: &BTreeMap<usize, RoaringTreemap>, table_order: Option<i32>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_partition: HashMap<(i32, &Struct), usize> = HashMap::new();
    for &data in dead.keys() {
        let file = &live.data[data];
        let order = file.file().sort_order_id().filter(|order| Some(*order) == table_order);
        let place = (file.spec_id, file.file().partition());
        match by_partition.get(&place).filter(|_| order.is_none()) {
            Some(&group) => groups[group].files.push(data),
            None => {
                if order.is_none() {
                    by_partition.insert(place, groups.len());
                }
                groups.push(Group { order, files: vec![data] });
            }
        }
    }
    groups
}

/// A data file, and which of its rows go on.
struct Source<'a> {
    file: &'a DataFile,
    spec_id: i32,
    /// For rows without an id of their own; none where the commit gives them one.
    first_row_id: Option<i64>,
    /// For rows without a sequence number of their own, where they have an id.
    sequence_number: i64,
    /// All dead rows, new and old.
    dead: RoaringTreemap,
    /// Rows that go on.
    alive: u64,
}

impl<'a> Source<'a> {
    async fn live(live: &'a LiveFiles, data: usize, newly: &RoaringTreemap, target: &WriteTarget) -> Result<Self> {
        let file = &live.data[data];
        let rows = file.file().record_count();
        let mut dead = dead_positions(live, data, &target.store).await?;
        // Delete files of others may name positions past the end of their data file.
        dead.remove_range(rows..);
        let alive = rows.checked_sub(dead.len() + newly.len());
        dead |= newly;
        let (file, spec_id) = (file.file(), file.spec_id);
        let alive = alive
            .filter(|alive| alive + dead.len() == rows)
            .ok_or_else(|| Error::broken(format!("the rows to take out of `{}` are not alive in it", file.file_path())))?;
        let (first_row_id, sequence_number) = (live.data[data].first_row_id, live.data[data].sequence_number);
        Ok(Self { file, spec_id, first_row_id, sequence_number, dead, alive })
    }

    /// A file of the batch: what is null in it is given by the commit, in the new file as in this one.
    fn own(file: &'a DataFile, spec_id: i32, dead: &RoaringTreemap) -> Self {
        let alive = file.record_count() - dead.len();
        Self { file, spec_id, first_row_id: None, sequence_number: 0, dead: dead.clone(), alive }
    }
}

/// Copies rows from file to file.
struct Copier<'a> {
    live: &'a LiveFiles,
    target: &'a WriteTarget,
    /// Every column of the table, then those of row lineage where the table has it.
    columns: Columns,
    lineage: bool,
}

impl<'a> Copier<'a> {
    fn new(target: &'a WriteTarget, live: &'a LiveFiles) -> Result<Self> {
        let mut fields = target.metadata.current_schema().as_struct().fields().to_vec();
        let lineage = target.metadata.format_version() >= FormatVersion::V3;
        if lineage {
            let long = |id, name| Arc::new(NestedField::optional(id, name, Type::Primitive(PrimitiveType::Long)));
            fields.push(long(RESERVED_FIELD_ID_ROW_ID, RESERVED_COL_NAME_ROW_ID));
            let (id, name) = (RESERVED_FIELD_ID_LAST_UPDATED_SEQUENCE_NUMBER, RESERVED_COL_NAME_LAST_UPDATED_SEQUENCE_NUMBER);
            fields.push(long(id, name));
        }
        Ok(Self { live, target, columns: Columns::of(fields)?, lineage })
    }

    /// Hands the rows that go on to the writer; answers how many.
    async fn copy(&self, source: &Source<'_>, writer: &mut DataWriter) -> Result<u64> {
        if source.alive == 0 {
            return Ok(0);
        }
        let mut reader = FileReader::open(self.live, source.file, source.spec_id, &self.target.store).await?;
        let mut stream = reader.read(&self.columns, Rows::All).await?;
        let mut dead = source.dead.iter().peekable();
        let (mut first, mut carried) = (0, 0);
        while let Some(batch) = stream.next().await? {
            let end = first + rows(&batch);
            let mut alive = vec![true; batch.num_rows()];
            while let Some(position) = dead.next_if(|&position| position < end) {
                alive[usize::try_from(position - first).expect("rows of a batch fit the address space")] = false;
            }
            let (batch, lineage) = self.survivors(source, first, batch, alive)?;
            carried += rows(&batch);
            if batch.num_rows() > 0 {
                writer.carry(&batch, lineage).await?;
            }
            first = end;
        }
        if carried != source.alive {
            let (path, alive) = (source.file.file_path(), source.alive);
            return Err(Error::broken(format!("{carried} rows of `{path}` carried over, {alive} are alive")));
        }
        Ok(carried)
    }

    /// The rows of a batch that go on, and their lineage. `first` is the position of its first row.
    fn survivors(
        &self,
        source: &Source<'_>,
        first: u64,
        batch: RecordBatch,
        alive: Vec<bool>,
    ) -> Result<(RecordBatch, Option<Lineage>)> {
        let broken = |e: arrow::error::ArrowError| Error::broken(format!("carry rows over: {e}"));
        let all = alive.iter().all(|&alive| alive);
        let mask = BooleanArray::from(alive);
        if !self.lineage {
            let batch = if all { batch } else { filter_record_batch(&batch, &mask).map_err(broken)? };
            return Ok((batch, None));
        }
        let plain = batch.num_columns() - 2;
        let Lineage { row_ids, updated } = lineage(source, first, batch.column(plain), batch.column(plain + 1))?;
        let mut batch = batch.project(&(0..plain).collect::<Vec<_>>()).map_err(broken)?;
        if all {
            return Ok((batch, Some(Lineage { row_ids, updated })));
        }
        batch = filter_record_batch(&batch, &mask).map_err(broken)?;
        let some = |array: &Int64Array| filter(array, &mask).map(|array| array.as_primitive::<Int64Type>().clone()).map_err(broken);
        Ok((batch, Some(Lineage { row_ids: some(&row_ids)?, updated: some(&updated)? })))
    }
}

/// What readers see as the lineage of some rows: their own values, or those they inherit from their file.
fn lineage(source: &Source<'_>, first: u64, row_ids: &dyn Array, updated: &dyn Array) -> Result<Lineage> {
    let (row_ids, updated) = (row_ids.as_primitive::<Int64Type>(), updated.as_primitive::<Int64Type>());
    let Some(first_row_id) = source.first_row_id else {
        return Ok(Lineage { row_ids: row_ids.clone(), updated: updated.clone() });
    };
    let first = i64::try_from(first).map_err(|_| Error::broken("a position does not fit a row id"))?;
    let inherited = (first_row_id.saturating_add(first)..).zip(row_ids.iter());
    Ok(Lineage {
        row_ids: inherited.map(|(inherited, own)| own.unwrap_or(inherited)).collect(),
        updated: updated.iter().map(|own| own.unwrap_or(source.sequence_number)).collect(),
    })
}

fn rows(batch: &RecordBatch) -> u64 {
    u64::try_from(batch.num_rows()).expect("rows fit")
}

#[cfg(test)]
mod tests;
