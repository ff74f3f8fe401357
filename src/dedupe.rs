//! Keeps one version per id within a batch, and knows where its row is.
//!
//! Pure. The order in which records are offered does not matter: versions of one id are in a total order (event time, `order_by`
//! columns, then partition and offset), so the survivor is the same however the batch was read.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::config::Ties;
use crate::keys::{KeyMap, Version};
use crate::offsets::{Offset, Partition};
use crate::write::RowPlace;

/// The survivors of a batch so far.
#[derive(Debug)]
pub(crate) struct Dedupe {
    keys: KeyMap,
    entries: Vec<Entry>,
    ties: Ties,
    order_bytes: usize,
    /// Survivors that are deletes whose row stays, and whose values within the batch it keeps, if any.
    deleted: BTreeMap<u32, Option<Values>>,
}

/// A row of the batch whose values a deleted row keeps, unless the table holds a higher version than this.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    /// Its declared columns.
    pub(crate) version: Version,
    /// Batch of the buffer and row in it.
    pub(crate) at: (u32, u32),
}

/// The surviving version of one id.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its declared columns.
    pub(crate) version: Version,
    /// Where it stood in the topic.
    pub(crate) arrival: (Partition, Offset),
    /// Where its row is now.
    pub(crate) place: Place,
}

/// Where the row of a surviving version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory: in the buffer, or on its way from there to a file.
    Buffered {
        /// Ordinal of the buffered batch.
        batch: u32,
        /// Row in it.
        row: u32,
    },
    /// In a data file of this run.
    Written(RowPlace),
    /// Dropped when it was about to be written: the table held a higher version.
    Stale,
    /// A delete: it has no row.
    Delete,
}

/// What became of an offered version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// The first of its id; the ordinal of its entry.
    First(u32),
    /// It beat the version whose row is at this place.
    Beats(u32, Place),
    /// Another version survives.
    Beaten,
}

/// What became of a version, with the one that it beat.
enum Contest {
    First(u32),
    Beats(u32, Entry),
    Beaten,
}

impl Dedupe {
    /// An empty batch.
    pub(crate) fn new(ties: Ties) -> Self {
        Self { keys: KeyMap::default(), entries: Vec::new(), ties, order_bytes: 0, deleted: BTreeMap::new() }
    }

    /// Offers one version of an id.
    pub(crate) fn offer(&mut self, key: &[u8], version: Version, arrival: (Partition, Offset), place: Place) -> Offered {
        match self.contest(key, version, arrival, place) {
            Contest::First(at) => Offered::First(at),
            Contest::Beaten => Offered::Beaten,
            Contest::Beats(at, beaten) => {
                self.deleted.remove(&at);
                Offered::Beats(at, beaten.place)
            }
        }
    }

    /// Offers a delete whose row stays. It keeps the values of the version that it beats, or those that one kept in its turn: the
    /// same as if every record had been a batch of its own.
    pub(crate) fn offer_deleted(&mut self, key: &[u8], version: Version, arrival: (Partition, Offset), place: Place) -> Offered {
        match self.contest(key, version, arrival, place) {
            Contest::First(at) => {
                self.deleted.insert(at, None);
                Offered::First(at)
            }
            Contest::Beaten => Offered::Beaten,
            Contest::Beats(at, beaten) => {
                let values = self.deleted.remove(&at).unwrap_or(match beaten.place {
                    Place::Buffered { batch, row } => Some(Values { version: beaten.version, at: (batch, row) }),
                    Place::Written(_) | Place::Stale | Place::Delete => None,
                });
                self.deleted.insert(at, values);
                Offered::Beats(at, beaten.place)
            }
        }
    }

    fn contest(&mut self, key: &[u8], version: Version, arrival: (Partition, Offset), place: Place) -> Contest {
        let (at, new) = self.keys.insert(key);
        self.order_bytes += version.order.len();
        let entry = Entry { version, arrival, place };
        if new {
            self.entries.push(entry);
            return Contest::First(at);
        }
        let survivor = &mut self.entries[at as usize];
        let beats = match entry.version.cmp(&survivor.version) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => match self.ties {
                Ties::Replace => entry.arrival > survivor.arrival,
                Ties::Keep => entry.arrival < survivor.arrival,
            },
        };
        if beats { Contest::Beats(at, std::mem::replace(survivor, entry)) } else { Contest::Beaten }
    }

    /// Lends the ids out; nothing may be offered until they are restored.
    pub(crate) fn take_keys(&mut self) -> KeyMap {
        std::mem::take(&mut self.keys)
    }

    /// Takes the ids back.
    pub(crate) fn restore_keys(&mut self, keys: KeyMap) {
        assert_eq!(keys.len(), self.entries.len(), "each id has an entry");
        self.keys = keys;
    }

    /// The ids, by ordinal.
    pub(crate) fn keys(&self) -> &KeyMap {
        &self.keys
    }

    /// The survivors, by ordinal.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Survivors that are deletes whose row stays, with the row of the batch whose values they keep, if any.
    pub(crate) fn deleted(&self) -> &BTreeMap<u32, Option<Values>> {
        &self.deleted
    }

    /// Says where a survivor's row has gone.
    pub(crate) fn place(&mut self, entry: u32, place: Place) {
        self.entries[entry as usize].place = place;
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        // Each boxed order costs an allocation of at least 16 bytes beside its bytes.
        let entries = self.entries.capacity() * size_of::<Entry>() + self.order_bytes + self.entries.len() * 16;
        // A node of the tree is seldom more than half empty.
        self.keys.memory() + entries + self.deleted.len() * 2 * size_of::<(u32, Option<Values>)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Record = (u8, i64, u8, Partition, Offset);

    /// Two ids of one hash: of 16 bytes XXH3 takes each half with constants of its own, and one that equals them counts as zero. The
    /// other half then goes in alone, the first one with its bytes reversed.
    fn ids_of_one_hash(half: u64) -> [[u8; 16]; 2] {
        // From `kSecret` of the specification of XXH3, bytes 24 to 55.
        let first: u64 = 0x1f67_b3b7_a4a4_4072 ^ 0x78e5_c0cc_4ee6_79cb;
        let second: u64 = 0x2172_ffcc_7dd0_5a82 ^ 0x8e24_43f7_7446_08b8;
        let id = |first: u64, second: u64| [first.to_le_bytes(), second.to_le_bytes()].concat().try_into().unwrap();
        [id(first, second ^ half), id(first ^ half.swap_bytes(), second)]
    }

    #[test]
    fn ids_of_one_hash_stay_two() {
        let mut dedupe = Dedupe::new(Ties::Replace);
        let mut offer = |id: &[u8], event_time| {
            let version = Version { event_time, order: Box::default() };
            dedupe.offer(id, version, (0, event_time), Place::Delete)
        };
        for half in 1..=100 {
            let [one, other] = ids_of_one_hash(half);
            assert_eq!(xxhash_rust::xxh3::xxh3_64(&one), xxhash_rust::xxh3::xxh3_64(&other));
            assert_ne!(one, other);
            let at = |id: u64| Offered::First(u32::try_from(id).unwrap());
            assert_eq!([offer(&one, 1), offer(&other, 1)], [at(2 * half - 2), at(2 * half - 1)]);
            assert_eq!(offer(&other, 2), Offered::Beats(u32::try_from(2 * half - 1).unwrap(), Place::Delete));
        }
        let newer = dedupe.entries().iter().filter(|entry| entry.version.event_time == 2).count();
        assert_eq!((dedupe.entries().len(), newer), (200, 100));
    }

    fn survivors(records: &[Record], ties: Ties) -> BTreeMap<Vec<u8>, (Partition, Offset)> {
        let mut dedupe = Dedupe::new(ties);
        for &(id, event_time, order, partition, offset) in records {
            let version = Version { event_time, order: vec![order].into() };
            dedupe.offer(&[id], version, (partition, offset), Place::Delete);
        }
        (0..).zip(dedupe.entries()).map(|(at, entry)| (dedupe.keys().key(at).to_vec(), entry.arrival)).collect()
    }

    /// The rule itself: the greatest by (event time, order, arrival); on ties of the declared columns `keep` takes the first arrival.
    fn model(records: &[Record], ties: Ties) -> BTreeMap<Vec<u8>, (Partition, Offset)> {
        let mut best: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
        let rank = |r: &Record| {
            let sign = if ties == Ties::Replace { 1 } else { -1 };
            (r.1, r.2, i64::from(r.3) * sign, r.4 * sign)
        };
        for record in records {
            let held = best.entry(vec![record.0]).or_insert(*record);
            if rank(record) > rank(held) {
                *held = *record;
            }
        }
        best.into_iter().map(|(id, record)| (id, (record.3, record.4))).collect()
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        prop::collection::vec((0..6_u8, 0..4_i64, 0..3_u8, 0..3_i32), 0..60).prop_map(|records| {
            (0..).zip(records).map(|(offset, (id, time, order, partition))| (id, time, order, partition, offset)).collect()
        })
    }

    proptest! {
        #[test]
        fn the_survivors_are_the_models(records in records()) {
            for ties in [Ties::Replace, Ties::Keep] {
                prop_assert_eq!(survivors(&records, ties), model(&records, ties));
            }
        }

        #[test]
        fn order_of_reading_does_not_matter(records in records().prop_shuffle()) {
            let mut sorted = records.clone();
            sorted.sort_by_key(|r| (r.3, r.4));
            prop_assert_eq!(survivors(&records, Ties::Replace), survivors(&sorted, Ties::Replace));
            prop_assert_eq!(survivors(&records, Ties::Keep), survivors(&sorted, Ties::Keep));
        }

        #[test]
        fn offering_a_batch_again_changes_nothing(records in records()) {
            let twice = [records.as_slice(), records.as_slice()].concat();
            prop_assert_eq!(survivors(&twice, Ties::Replace), survivors(&records, Ties::Replace));
        }
    }
}
