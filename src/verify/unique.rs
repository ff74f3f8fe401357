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
            0 => format!("{} rows, each with a `{}` of its own", self.rows - self.without, columns.join(", ")),
            count => format!("{count}{many} of `{}` are in several of {} rows", columns.join(", "), self.rows),
        };
        if self.without > 0 {
            found.push_str(&format!("; {} rows have none", self.without));
        }
        found.push_str(match (self.ids.is_empty(), allowed) {
            (true, _) | (_, Allowed::Never) => "",
            (_, Allowed::Beyond) => "; `merge.match = \"watermark\"` does not search the whole table",
            (_, Allowed::Sent) => "; append mode writes what was sent, twice if it was sent twice",
        });
        match allowed {
            Allowed::Never => Check::of(found, findings),
            Allowed::Beyond | Allowed::Sent => Check::warn(found, findings),
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
        let mut hashes = Vec::new();
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

/// Ids with one of these hashes that several rows have.
async fn look_again(scan: &Scan, columns: &Columns, codec: &KeyCodec, suspects: &[u64]) -> Result<Vec<RepeatedId>> {
    let mut rows: HashMap<u64, BTreeMap<Box<[u8]>, (u64, Vec<(usize, u64)>)>> =
        suspects.iter().map(|&hash| (hash, BTreeMap::new())).collect();
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
