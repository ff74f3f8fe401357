//! The MERGE itself: what each surviving version does to the table, as data.
//!
//! Pure. Made anew for every head of the table; the batch stays the same.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;

use crate::config::Ties;
use crate::counts::Counts;
use crate::dedupe::{Dedupe, Place, Values};
use crate::keys::Version;
use crate::live::lookup::Stored;

/// What one surviving version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A new row.
    Insert,
    /// Takes the place of the stored row.
    Update,
    /// Nothing: the stored version is higher.
    Stale,
    /// Takes the stored row out.
    Delete,
    /// Nothing: a delete of an id that the table does not hold.
    Noop,
}

/// Judges a version against the highest stored one.
pub(crate) fn effect(incoming: &Version, delete: bool, stored: Option<&Version>, ties: Ties) -> Effect {
    match stored {
        None if delete => Effect::Noop,
        None => Effect::Insert,
        Some(stored) if incoming < stored || (incoming == stored && ties == Ties::Keep) => Effect::Stale,
        Some(_) if delete => Effect::Delete,
        Some(_) => Effect::Update,
    }
}

/// The row of the batch whose values a deleted row keeps; none: those of the stored row, if there is one.
pub(crate) fn own_values<'a>(dedupe: &'a Dedupe, entry: u32, stored: Option<&Version>, ties: Ties) -> Option<&'a Values> {
    let own = dedupe.deleted().get(&entry)?.as_ref()?;
    (effect(&own.version, false, stored, ties) != Effect::Stale).then_some(own)
}

/// The rows of the head that share an id with the batch, found by entry.
#[derive(Debug, Default)]
pub(crate) struct StoredRows {
    by_entry: BTreeMap<u32, Vec<usize>>,
    rows: Vec<Stored>,
}

impl StoredRows {
    /// Adds rows that a lookup found; answers the index of the first.
    pub(crate) fn extend(&mut self, rows: Vec<Stored>) {
        for row in rows {
            self.by_entry.entry(row.key).or_default().push(self.rows.len());
            self.rows.push(row);
        }
    }

    /// Index of the stored row that counts as the id's version: the highest, if there is one.
    pub(crate) fn highest(&self, entry: u32) -> Option<usize> {
        self.by_entry.get(&entry)?.iter().copied().max_by(|&a, &b| self.rows[a].version.cmp(&self.rows[b].version))
    }

    /// Bytes held, roughly: a row with its boxed version, and its place in the map.
    pub(crate) fn memory(&self) -> usize {
        self.rows.capacity() * (size_of::<Stored>() + 32) + self.by_entry.len() * 64
    }

    /// Every stored row, in the order in which lookups found them.
    pub(crate) fn rows(&self) -> &[Stored] {
        &self.rows
    }

    /// The stored rows of an entry.
    pub(crate) fn of(&self, entry: u32) -> impl Iterator<Item = &Stored> {
        self.by_entry.get(&entry).into_iter().flatten().map(|&i| &self.rows[i])
    }
}

/// What a batch does to one head of the table.
#[derive(Debug, Default)]
pub(crate) struct MergeSet {
    /// Positions to delete, by index into the head's live data files.
    pub(crate) dead: BTreeMap<usize, RoaringTreemap>,
    /// Positions to delete in the batch's own data files, by ordinal.
    pub(crate) own_dead: BTreeMap<u32, RoaringTreemap>,
    /// Outcomes of the survivors (stale to collapsed).
    pub(crate) counts: Counts,
    /// Whether a row that was not written, since an earlier head held a higher version, would now be needed.
    pub(crate) row_missing: bool,
}

/// Merges the survivors into the head that `stored` describes.
pub(crate) fn merge(dedupe: &Dedupe, stored: &StoredRows, ties: Ties) -> MergeSet {
    let mut set = MergeSet::default();
    for (at, entry) in (0..).zip(dedupe.entries()) {
        let highest = stored.highest(at).map(|i| &stored.rows()[i].version);
        let effect = effect(&entry.version, entry.place == Place::Delete, highest, ties);
        match effect {
            Effect::Insert => set.counts.inserted += 1,
            Effect::Update => set.counts.updated += 1,
            Effect::Stale => set.counts.stale += 1,
            Effect::Delete => set.counts.deleted += 1,
            Effect::Noop => set.counts.noop += 1,
        }
        if matches!(effect, Effect::Insert | Effect::Update) && dedupe.deleted().contains_key(&at) {
            set.counts.soft_deleted += 1;
        }
        match (effect, entry.place) {
            (Effect::Stale, Place::Written(place)) => {
                set.own_dead.entry(place.file).or_default().insert(u64::from(place.position));
            }
            (Effect::Insert | Effect::Update, Place::Stale) => set.row_missing = true,
            _ => {}
        }
        if matches!(effect, Effect::Update | Effect::Delete) {
            let mut rows = 0;
            for row in stored.of(at) {
                set.dead.entry(row.data).or_default().insert(row.position);
                rows += 1;
            }
            set.counts.collapsed += rows - 1;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::RowPlace;
    use proptest::prelude::*;

    fn version(event_time: i64) -> Version {
        Version { event_time, order: Box::default() }
    }

    proptest! {
        /// Against a dictionary from id to version: the rows that stay and those that come are the dictionary's after the merge.
        #[test]
        fn a_merge_is_the_models(
            table in prop::collection::btree_map(0..8_u8, prop::collection::vec(0..5_i64, 1..3), 0..8),
            batch in prop::collection::btree_map(0..8_u8, (0..5_i64, any::<bool>()), 0..8),
            keep in any::<bool>(),
        ) {
            let ties = if keep { Ties::Keep } else { Ties::Replace };
            let mut dedupe = Dedupe::new(ties);
            for (&id, &(time, delete)) in &batch {
                let place = if delete { Place::Delete } else { Place::Written(RowPlace { file: 0, position: u32::from(id) }) };
                dedupe.offer(&[id], version(time), (0, i64::from(id)), place);
            }
            let mut rows = Vec::new();
            for (&id, versions) in &table {
                for (i, &time) in versions.iter().enumerate() {
                    if let Some(key) = dedupe.keys().get(&[id]) {
                        let position = u64::from(id) * 10 + i as u64;
                        rows.push(Stored { key, data: 0, position, version: version(time), row_id: None });
                    }
                }
            }
            let mut stored = StoredRows::default();
            stored.extend(rows);
            let set = merge(&dedupe, &stored, ties);

            let mut model: BTreeMap<u8, Vec<i64>> = table.clone();
            for (&id, &(time, delete)) in &batch {
                let highest = model.get(&id).and_then(|v| v.iter().max().copied());
                let wins = highest.is_none_or(|h| time > h || (time == h && !keep));
                if wins && delete { model.remove(&id); } else if wins { model.insert(id, vec![time]); }
            }
            let dead = set.dead.get(&0).cloned().unwrap_or_default();
            let own_dead = set.own_dead.get(&0).cloned().unwrap_or_default();
            let mut merged: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
            for (&id, versions) in &table {
                for (i, &time) in versions.iter().enumerate() {
                    if !dead.contains(u64::from(id) * 10 + i as u64) { merged.entry(id).or_default().push(time); }
                }
            }
            for (&id, &(time, delete)) in &batch {
                if !delete && !own_dead.contains(u64::from(id)) { merged.entry(id).or_default().push(time); }
            }
            prop_assert_eq!(merged, model.clone());
            prop_assert_eq!(set.counts.sum(), batch.len() as u64);
            let rows = |t: &BTreeMap<u8, Vec<i64>>| t.values().map(|v| v.len() as i64).sum::<i64>();
            prop_assert_eq!(set.counts.rows_moved(), rows(&model) - rows(&table));
        }
    }

    /// A table as a list of rows, and one batch deduped, matched and merged into it. Each id stays in one partition.
    fn apply(table: &mut Vec<(u8, i64)>, batch: &[(u8, i64, u32)], ties: Ties) -> Counts {
        let mut dedupe = Dedupe::new(ties);
        for &(id, time, offset) in batch {
            let place = Place::Written(RowPlace { file: 0, position: offset });
            dedupe.offer(&[id], version(time), (i32::from(id % 3), i64::from(offset)), place);
        }
        let mut stored = StoredRows::default();
        let rows = table.iter().enumerate().filter_map(|(row, &(id, time))| {
            let key = dedupe.keys().get(&[id])?;
            Some(Stored { key, data: 0, position: row as u64, version: version(time), row_id: None })
        });
        stored.extend(rows.collect());
        let set = merge(&dedupe, &stored, ties);
        let dead = set.dead.get(&0).cloned().unwrap_or_default();
        let own_dead = set.own_dead.get(&0).cloned().unwrap_or_default();
        let mut row = 0;
        table.retain(|_| {
            row += 1;
            !dead.contains(row - 1)
        });
        for (at, entry) in (0..).zip(dedupe.entries()) {
            let Place::Written(place) = entry.place else { continue };
            if !own_dead.contains(u64::from(place.position)) {
                table.push((dedupe.keys().key(at)[0], entry.version.event_time));
            }
        }
        set.counts
    }

    proptest! {
        #[test]
        fn where_a_batch_is_cut_and_whether_it_runs_again_does_not_matter(
            records in prop::collection::vec((0..6_u8, 0..5_i64), 0..40), cuts in prop::collection::vec(0..40_usize, 0..4), keep in any::<bool>(),
        ) {
            let ties = if keep { Ties::Keep } else { Ties::Replace };
            let records: Vec<_> = (0..).zip(records).map(|(offset, (id, time))| (id, time, offset)).collect();
            let mut whole = Vec::new();
            apply(&mut whole, &records, ties);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(records.len())).chain([0, records.len()]).collect();
            cuts.sort_unstable();
            let mut parts = Vec::new();
            for cut in cuts.windows(2) {
                let before = parts.len() as i64;
                let counts = apply(&mut parts, &records[cut[0]..cut[1]], ties);
                prop_assert_eq!(parts.len() as i64, before + counts.rows_moved());
            }
            whole.sort_unstable();
            parts.sort_unstable();
            prop_assert_eq!(&parts, &whole);
            let again = apply(&mut parts, &records, ties);
            parts.sort_unstable();
            prop_assert_eq!(&parts, &whole);
            prop_assert_eq!(again.inserted, 0);
        }
    }

    /// A row of a table with soft deletes: id, version, flag, and the offset of the record that its values came with.
    type Flagged = (u8, i64, bool, Option<i64>);

    /// One batch of (id, event time, delete) merged into the table; every record is a row of the one buffered batch.
    fn apply_soft(table: &mut Vec<Flagged>, batch: &[(u8, i64, bool, u32)], ties: Ties) -> Counts {
        let mut dedupe = Dedupe::new(ties);
        for &(id, time, delete, offset) in batch {
            let place = Place::Buffered { batch: 0, row: offset };
            let arrival = (0, i64::from(offset));
            match delete {
                true => dedupe.offer_deleted(&[id], version(time), arrival, place),
                false => dedupe.offer(&[id], version(time), arrival, place),
            };
        }
        let mut stored = StoredRows::default();
        let rows = table.iter().enumerate().filter_map(|(row, &(id, time, ..))| {
            let key = dedupe.keys().get(&[id])?;
            Some(Stored { key, data: 0, position: row as u64, version: version(time), row_id: None })
        });
        stored.extend(rows.collect());
        let (mut come, mut written) = (Vec::new(), 0);
        for at in 0..u32::try_from(dedupe.entries().len()).unwrap() {
            let Place::Buffered { row: offset, .. } = dedupe.entries()[at as usize].place else { unreachable!() };
            let highest = stored.highest(at).map(|i| &stored.rows()[i]);
            let time = dedupe.entries()[at as usize].version.event_time;
            let delete = dedupe.deleted().contains_key(&at);
            let values = match own_values(&dedupe, at, highest.map(|row| &row.version), ties) {
                Some(own) => Some(i64::from(own.at.1)),
                None if delete => highest.and_then(|row| table[usize::try_from(row.position).unwrap()].3),
                None => Some(i64::from(offset)),
            };
            come.push((dedupe.keys().key(at)[0], time, delete, values));
            dedupe.place(at, Place::Written(RowPlace { file: 0, position: written }));
            written += 1;
        }
        let set = merge(&dedupe, &stored, ties);
        let dead = set.dead.get(&0).cloned().unwrap_or_default();
        let own_dead = set.own_dead.get(&0).cloned().unwrap_or_default();
        let old = table.iter().zip(0..).filter(|(_, at)| !dead.contains(*at)).map(|(row, _)| *row);
        let new = come.iter().zip(0..).filter(|(_, at)| !own_dead.contains(*at)).map(|(row, _)| *row);
        *table = old.chain(new).collect();
        table.sort_unstable();
        set.counts
    }

    proptest! {
        /// Against a dictionary that takes one record after the other: however the records are cut into batches, the rows, their
        /// flags and the values that deleted rows kept are the same, no older version comes back, and a batch run again adds nothing.
        #[test]
        fn soft_deletes_are_the_models_wherever_batches_are_cut(
            records in prop::collection::vec((0..4_u8, 0..6_i64, any::<bool>()), 0..40),
            cuts in prop::collection::vec(0..40_usize, 0..4),
            keep in any::<bool>(),
        ) {
            let ties = if keep { Ties::Keep } else { Ties::Replace };
            let mut model: BTreeMap<u8, (i64, bool, Option<i64>)> = BTreeMap::new();
            for (offset, &(id, time, delete)) in (0..).zip(&records) {
                let stored = model.get(&id).copied();
                if stored.is_none_or(|(t, ..)| time > t || (time == t && !keep)) {
                    let values = if delete { stored.and_then(|(_, _, values)| values) } else { Some(offset) };
                    model.insert(id, (time, delete, values));
                }
            }
            let model: Vec<Flagged> = model.into_iter().map(|(id, (time, flag, values))| (id, time, flag, values)).collect();

            let records: Vec<_> = (0..).zip(records).map(|(offset, (id, time, delete))| (id, time, delete, offset)).collect();
            let cuts = cuts.into_iter().map(|cut| cut.min(records.len())).chain([0, records.len()]);
            let cuts: Vec<_> = std::collections::BTreeSet::from_iter(cuts).into_iter().collect();
            let mut table = Vec::new();
            for cut in cuts.windows(2) {
                let (batch, before) = (&records[cut[0]..cut[1]], table.len() as i64);
                let counts = apply_soft(&mut table, batch, ties);
                prop_assert_eq!(table.len() as i64, before + counts.rows_moved());
                prop_assert_eq!(counts.deleted + counts.noop, 0);
                prop_assert!(counts.soft_deleted <= counts.inserted + counts.updated);
            }
            prop_assert_eq!(&table, &model);
            let again = apply_soft(&mut table, &records, ties);
            prop_assert_eq!(again.inserted, 0);
            prop_assert_eq!(&table, &model);
        }
    }

    #[test]
    fn a_row_dropped_against_an_earlier_head_is_asked_for_again() {
        let mut dedupe = Dedupe::new(Ties::Replace);
        dedupe.offer(b"a", version(1), (0, 0), Place::Stale);
        assert!(merge(&dedupe, &StoredRows::default(), Ties::Replace).row_missing);
    }
}
