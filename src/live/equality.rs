//! Equality deletes: rows whose values of some columns equal those of a delete file, if the file is older than the delete.
//!
//! The rows in question are few and the deletes may be many (Flink writes one per upsert), so the rows are held and the delete
//! files stream past them. Null equals null, as the spec wants.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, Rows as Encoded, SortField};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::NestedFieldRef;
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::keys::KeyMap;
use crate::live::adapt::Columns;
use crate::live::dead::{DELETES_AT_ONCE, Suspects};
use crate::live::files::{DeletesOf, LiveFiles};
use crate::live::rows::{FileReader, Rows};
use crate::storage::Store;

/// Adds to `dead` the suspects that equality deletes take out. All slices run parallel.
pub(crate) async fn mark(
    live: &LiveFiles,
    suspects: &[Suspects],
    deletes: &[DeletesOf],
    store: &Store,
    dead: &mut [RoaringTreemap],
) -> Result<()> {
    // One pass per set of columns: values can only be compared under the same columns.
    let mut groups: BTreeMap<Vec<i32>, BTreeSet<usize>> = BTreeMap::new();
    for &delete in deletes.iter().flat_map(|of| &of.equality) {
        let mut ids = live.deletes[delete].file().equality_ids().unwrap_or_default();
        ids.sort_unstable();
        groups.entry(ids).or_default().insert(delete);
    }
    for (ids, group) in groups {
        let values = Values::new(live, &ids)?;
        let mut held = Held::default();
        for (at, suspects) in suspects.iter().enumerate() {
            if deletes[at].equality.iter().any(|delete| group.contains(delete)) {
                held.add(live, at, suspects, &values, store).await?;
            }
        }
        let (held, values) = (&held, &values);
        let matches = group.into_iter().map(|delete| held.matched_by(live, delete, deletes, values, store));
        let mut matches = stream::iter(matches).buffer_unordered(DELETES_AT_ONCE);
        while let Some(found) = matches.try_next().await? {
            for (at, position) in found {
                dead[at].insert(position);
            }
        }
    }
    Ok(())
}

/// The columns of one set of equality ids, and how their values are encoded.
struct Values {
    columns: Columns,
    converter: RowConverter,
}

impl Values {
    fn new(live: &LiveFiles, ids: &[i32]) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::refused("an equality-delete file of the table names no columns", COMPACT));
        }
        let fields = ids.iter().map(|&id| field(live, id)).collect::<Result<Vec<_>>>()?;
        let columns = Columns::of(fields)?;
        let types = columns.schema().fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(types.collect())
            .map_err(|e| Error::setup(format!("equality deletes by field ids {ids:?} cannot be read: {e}"), COMPACT))?;
        Ok(Self { columns, converter })
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Encoded> {
        self.converter.convert_columns(batch.columns()).map_err(|e| Error::broken(format!("equality columns: {e}")))
    }
}

const COMPACT: &str =
    "compact the table with the engine that wrote them (Spark: `rewrite_data_files` with `delete-file-threshold` 1)";

/// A column by id: deletes may name one that was dropped since.
fn field(live: &LiveFiles, id: i32) -> Result<NestedFieldRef> {
    let current = live.metadata.current_schema();
    let mut earlier: Vec<_> = live.metadata.schemas_iter().collect();
    earlier.sort_unstable_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let fields = |schema: &iceberg::spec::SchemaRef| schema.as_struct().field_by_id(id).cloned();
    fields(current).or_else(|| earlier.into_iter().find_map(fields)).ok_or_else(|| {
        Error::setup(format!("equality deletes by field id {id}, which is no top-level column, cannot be read"), COMPACT)
    })
}

/// Suspects by their values.
#[derive(Default)]
struct Held {
    keys: KeyMap,
    /// Newest row of each key in `rows`, by ordinal.
    heads: Vec<usize>,
    rows: Vec<Row>,
}

struct Row {
    suspects: usize,
    position: u64,
    /// Another row of the same key.
    next: Option<usize>,
}

impl Held {
    async fn add(&mut self, live: &LiveFiles, at: usize, suspects: &Suspects, values: &Values, store: &Store) -> Result<()> {
        let data = &live.data[suspects.data];
        let mut reader = FileReader::open(live, data.file(), data.spec_id, store).await?;
        let wanted = suspects.positions.as_deref().map_or(Rows::All, Rows::At);
        let mut stream = reader.read(&values.columns, wanted).await?;
        let mut ordinal = 0;
        while let Some(batch) = stream.next().await? {
            let encoded = values.encode(&batch)?;
            for row in encoded.iter() {
                let position = match &suspects.positions {
                    Some(positions) => positions[ordinal],
                    None => u64::try_from(ordinal).expect("a position fits 64 bits"),
                };
                self.push(row.data(), at, position);
                ordinal += 1;
            }
        }
        Ok(())
    }

    fn push(&mut self, key: &[u8], suspects: usize, position: u64) {
        let (key, new) = self.keys.insert(key);
        let key = usize::try_from(key).expect("an ordinal fits the address space");
        let at = self.rows.len();
        if new {
            self.heads.push(at);
            self.rows.push(Row { suspects, position, next: None });
        } else {
            let next = Some(std::mem::replace(&mut self.heads[key], at));
            self.rows.push(Row { suspects, position, next });
        }
    }

    /// Suspects that a delete file takes out, with their positions.
    async fn matched_by(
        &self,
        live: &LiveFiles,
        delete: usize,
        deletes: &[DeletesOf],
        values: &Values,
        store: &Store,
    ) -> Result<Vec<(usize, u64)>> {
        let applies: Vec<bool> = deletes.iter().map(|of| of.equality.binary_search(&delete).is_ok()).collect();
        let delete = &live.deletes[delete];
        let mut reader = FileReader::open_deletes(live, delete, store).await?;
        let mut stream = reader.read(&values.columns, Rows::All).await?;
        let mut matched = Vec::new();
        while let Some(batch) = stream.next().await? {
            for row in values.encode(&batch)?.iter() {
                let Some(key) = self.keys.get(row.data()) else { continue };
                let mut at = self.heads.get(usize::try_from(key).expect("an ordinal fits the address space")).copied();
                while let Some(row) = at.map(|at| &self.rows[at]) {
                    if applies[row.suspects] {
                        matched.push((row.suspects, row.position));
                    }
                    at = row.next;
                }
            }
        }
        Ok(matched)
    }
}
