//! No id twice, in bounded memory: the hashes of a share of all ids are held at a time, and only equal ones are looked at again.
//!
//! Exact: two ids with one hash are told apart by their bytes.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::DataType;
use iceberg::spec::SchemaRef;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::keys::KeyCodec;
use crate::live::adapt::Columns;
use crate::verify::findings::{Check, Findings, Place};
use crate::verify::scan::{Part, Scan};

/// Equal hashes looked at again in one pass.
const SUSPECTS_MAX: usize = 10_000;

/// What an id that is there more than once means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// The guarantee does not hold.
    Never,
    /// `merge.match = "watermark"` does not search what is older.
    Beyond,
    /// Append mode writes what was sent, twice if it was sent twice.
    Sent,
    /// A reset may read again what was read.
    Reread,
    /// Rows of several jobs, whose topics no column tells apart.
    Shared,
}

/// Ids that several live rows have.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    /// Live rows.
    pub(crate) rows: u64,
    /// Live rows without an id: a part of it is null.
    pub(crate) without: u64,
    /// Passes over the id columns.
    pub(crate) passes: u64,
    /// The ids found.
    pub(crate) ids: Vec<RepeatedId>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

/// An id that several live rows have.
#[derive(Debug, Default)]
pub(crate) struct RepeatedId {
    /// Its columns' values.
    pub(crate) values: Vec<String>,
    /// Number of rows.
    pub(crate) rows: u64,
    /// File and position of the first two.
    pub(crate) first: Vec<(String, u64)>,
}

impl Repeated {
    /// What it means for the guarantee.
    pub(crate) fn check(&self, columns: &[String], allowed: Allowed) -> Check {
        let mut findings = Findings::default();
        for id in &self.ids {
            let (file, position) = &id.first[0];
            let (other, other_position) = &id.first[1];
            let what = format!("{} rows have it, as at position {position} and at position {other_position} of {other}", id.rows);
            findings.add(what, Place::default().id(id.values.join(", ")).file(file));
        }
        let many = if self.more { " or more" } else { "" };
        let mut found = match self.ids.len() {
            0 => format!("{} rows, no two with the same `{}`", self.rows - self.without, columns.join(", ")),
            count => format!("{count}{many} of `{}` are in several of {} rows", columns.join(", "), self.rows),
        };
        if self.passes > 1 {
            found.push_str(&format!("; read {} times, to stay within `limits.memory_limit`", self.passes));
        }
        if self.without > 0 {
            found.push_str(&format!("; {} rows have none", self.without));
        }
        found.push_str(match (self.ids.is_empty(), allowed) {
            (true, _) | (_, Allowed::Never) => "",
            (_, Allowed::Beyond) => "; `merge.match = \"watermark\"` does not search the whole table",
            (_, Allowed::Sent) => "; append mode writes what was sent, twice if it was sent twice",
            (_, Allowed::Shared) => "; other jobs write the table too, and no column says from which topic a row came",
            (_, Allowed::Reread) => "; the job was reset, which may read records again",
        });
        match allowed {
            Allowed::Never => Check::of(found, findings),
            Allowed::Beyond | Allowed::Sent | Allowed::Reread | Allowed::Shared => Check::warn(found, findings),
        }
    }
}

/// Finds the values of `columns` that several live rows share.
pub(crate) async fn repeated(scan: &Scan, schema: &SchemaRef, columns: &[String], memory_max: u64) -> Result<Repeated> {
    let columns = Columns::named(schema, columns)?;
    let types: Vec<DataType> = columns.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let codec = KeyCodec::new(types)?;
    let hashes_max = usize::try_from(memory_max / 8).unwrap_or(usize::MAX).max(1);
    let passes = scan.rows_max().div_ceil(u64::try_from(hashes_max).unwrap_or(u64::MAX)).max(1);
    let mut found = Repeated { passes, ..Repeated::default() };
    for pass in 0..passes {
        // Room for a share and a little more, for hashes are spread by chance: growing would take three times as much.
        let share_of_rows = usize::try_from(scan.rows_max() / passes).unwrap_or(usize::MAX);
        let mut hashes = Vec::with_capacity((share_of_rows + share_of_rows / 16).min(hashes_max));
        let (mut rows, mut without) = (0, 0);
        let mut take = |part: &Part<'_>| {
            let keys = codec.encode(part.rows.columns())?;
            for (row, _) in part.alive() {
                rows += 1;
                match keys.get(row).map(xxh3_64) {
                    None => without += 1,
                    Some(hash) if share(hash, passes) == pass => hashes.push(hash),
                    Some(_) => {}
                }
            }
            Ok(())
        };
        scan.each(scan.files(), &columns, &mut take).await?;
        (found.rows, found.without) = (rows, without);
        hashes.sort_unstable();
        let mut equal: Vec<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        drop(hashes);
        equal.dedup();
        for suspects in equal.chunks(SUSPECTS_MAX) {
            if found.ids.len() >= SUSPECTS_MAX {
                found.more = true;
                return Ok(found);
            }
            found.ids.extend(look_again(scan, &columns, &codec, suspects).await?);
        }
    }
    Ok(found)
}

/// Which of `shares` equal shares of all hashes this one lies in.
fn share(hash: u64, shares: u64) -> u64 {
    u64::try_from((u128::from(hash) * u128::from(shares)) >> 64).expect("less than the number of shares")
}

/// How many rows an id has, and where the first two are: data file and position.
type Count = (u64, Vec<(usize, u64)>);

/// Ids with one of these hashes that several rows have.
async fn look_again(scan: &Scan, columns: &Columns, codec: &KeyCodec, suspects: &[u64]) -> Result<Vec<RepeatedId>> {
    let mut rows: HashMap<u64, BTreeMap<Box<[u8]>, Count>> = suspects.iter().map(|&hash| (hash, BTreeMap::new())).collect();
    let mut take = |part: &Part<'_>| {
        let keys = codec.encode(part.rows.columns())?;
        for (row, position) in part.alive() {
            let Some(key) = keys.get(row) else { continue };
            if let Some(ids) = rows.get_mut(&xxh3_64(key)) {
                let (count, first) = ids.entry(key.into()).or_default();
                *count += 1;
                if first.len() < 2 {
                    first.push((part.data, position));
                }
            }
        }
        Ok(())
    };
    scan.each(scan.files(), columns, &mut take).await?;
    let path = |&(data, position): &(usize, u64)| (scan.live.data[data].file().file_path().to_owned(), position);
    let mut found = Vec::new();
    for hash in suspects {
        for (key, (rows, first)) in rows.remove(hash).unwrap_or_default() {
            if rows > 1 {
                found.push(RepeatedId { values: codec.text(&key)?, rows, first: first.iter().map(path).collect() });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use iceberg::spec::{FormatVersion, PrimitiveType, Schema};

    use super::*;
    use crate::live::testing::{TestTable, batch_of, column, schema_of};
    use crate::verify::findings::Judgement;

    fn schema() -> Schema {
        schema_of(vec![column(1, "id", PrimitiveType::Long, false), column(2, "name", PrimitiveType::String, false)])
    }

    fn rows(ids: &[Option<i64>]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.to_vec())),
            Arc::new(StringArray::from_iter(ids.iter().map(|id| id.map(|id| (id % 7).to_string())))),
        ];
        batch_of(&schema(), columns)
    }

    async fn find(table: &TestTable, columns: &[&str], memory_max: u64) -> Repeated {
        let live = table.live().await;
        let schema = Arc::clone(live.metadata.current_schema());
        let columns: Vec<_> = columns.iter().map(|&name| name.to_owned()).collect();
        let scan = Scan::open(live, &table.store).await.unwrap();
        repeated(&scan, &schema, &columns, memory_max).await.unwrap()
    }

    /// Two files of ids, the second one with 3, 50 and 51 of the first again, of which a delete takes out the first file's 50.
    async fn table() -> TestTable {
        let mut table = TestTable::unpartitioned(FormatVersion::V2, schema());
        let first: Vec<_> = (0..100).map(Some).chain([None, None]).collect();
        let second: Vec<_> = (100..150).chain([3, 50, 51]).map(Some).collect();
        let [first, second] = [rows(&first), rows(&second)].map(|rows| table.data(&rows));
        table.commit(vec![first.clone(), second], vec![]).await;
        let delete = table.position_delete(&first, &[(first.file_path(), 50)], true);
        table.commit(vec![], vec![delete]).await;
        table
    }

    #[tokio::test]
    async fn the_answer_does_not_depend_on_how_much_memory_there_is() {
        let table = table().await;
        for (memory_max, passes) in [(1 << 20, 1), (800, 2), (80, 16), (0, 155)] {
            let found = find(&table, &["id"], memory_max).await;
            let mut ids: Vec<_> = found.ids.iter().map(|id| (id.values[0].clone(), id.rows)).collect();
            ids.sort();
            assert_eq!(ids, [("3".to_owned(), 2), ("51".to_owned(), 2)], "{memory_max}");
            assert_eq!((found.passes, found.rows, found.without, found.more), (passes, 154, 2, false));
        }
    }

    #[tokio::test]
    async fn what_it_means_depends_on_what_the_job_allows() {
        let table = table().await;
        let found = find(&table, &["id"], 1 << 20).await;
        let result = |allowed| found.check(&["id".into()], allowed).result;
        assert_eq!(
            [Allowed::Never, Allowed::Beyond, Allowed::Sent].map(result),
            [Judgement::Fail, Judgement::Warn, Judgement::Warn]
        );
        let both = find(&table, &["id", "name"], 1 << 20).await;
        assert_eq!(both.ids.len(), 2);
        let name = find(&table, &["name"], 1 << 20).await;
        assert_eq!((name.ids.len(), name.ids.iter().map(|id| id.rows).sum::<u64>()), (7, 152));
    }
}
