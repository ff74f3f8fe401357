//! One version of each id.

use arrow::array::Array;

use super::articles::{editions, versions};
use crate::config::Ties;
use crate::dedupe::{Dedupe, Place};
use crate::keys::{KeyCodec, Keys, VersionCodec, Versions};

/// Offers versions to an empty batch.
#[derive(Debug)]
pub struct Deduping {
    count: u32,
    keys: Keys,
    versions: Versions,
}

/// What is left of a batch. It is handed out, so that what it takes to free it is not measured.
#[derive(Debug)]
pub struct Survivors(Dedupe);

impl Deduping {
    /// For so many versions, with their ids and versions encoded.
    pub fn prepare(count: u32) -> Self {
        let columns = versions(&editions(usize::try_from(count).unwrap()));
        let (id, rest) = columns.columns().split_first().unwrap();
        let (event_time, order) = rest.split_first().unwrap();
        let keys = KeyCodec::new(vec![id.data_type().clone()]).unwrap();
        let versions = VersionCodec::new(event_time.data_type().clone(), &[order[0].data_type().clone()]).unwrap();
        Self { count, keys: keys.encode(std::slice::from_ref(id)).unwrap(), versions: versions.encode(event_time, order).unwrap() }
    }

    /// Offers them all.
    pub fn run(&self) -> Survivors {
        let mut dedupe = Dedupe::new(Ties::Replace);
        for row in 0..self.count {
            let at = usize::try_from(row).unwrap();
            let place = Place::Buffered { batch: 0, row };
            dedupe.offer(self.keys.get(at).unwrap(), self.versions.get(at), (0, row.into()), place);
        }
        Survivors(dedupe)
    }
}

impl Survivors {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.entries().len()
    }
}
