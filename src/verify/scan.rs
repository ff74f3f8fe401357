//! All live rows of a snapshot, file after file.
//!
//! Holds the dead positions of every file as bitmaps, and one batch of rows at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::live::adapt::Columns;
use crate::live::dead::{Suspects, dead_among};
use crate::live::files::LiveFiles;
use crate::live::rows::{FileReader, Rows};
use crate::storage::Store;

/// Data files whose deletes are read at once. One with equality deletes is read alone: they are matched against all its rows.
const FILES_AT_ONCE: usize = 64;

/// The live rows of one snapshot.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) live: Arc<LiveFiles>,
    dead: Vec<RoaringTreemap>,
    store: Store,
}

/// Some rows of one data file, dead ones included.
pub(crate) struct Part<'a> {
    /// Index into [`LiveFiles::data`].
    pub(crate) data: usize,
    /// Position of the first row.
    pub(crate) first: u64,
    /// The columns asked for.
    pub(crate) rows: &'a RecordBatch,
    dead: &'a RoaringTreemap,
}

impl Part<'_> {
    /// Live rows: index in the batch, and position in the file.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, u64)> {
        let rows = (0..self.rows.num_rows()).zip(self.first..);
        rows.filter(|(_, position)| !self.dead.contains(*position))
    }
}

impl Scan {
    /// Reads the deletes.
    pub(crate) async fn open(live: Arc<LiveFiles>, store: &Store) -> Result<Self> {
        let mut dead = Vec::with_capacity(live.data.len());
        let mut suspects = Vec::new();
        for data in 0..live.data.len() {
            let alone = !live.deletes_of(data).equality.is_empty();
            if alone || suspects.len() >= FILES_AT_ONCE {
                dead.extend(dead_among(&live, &std::mem::take(&mut suspects), store).await?);
            }
            suspects.push(Suspects { data, positions: None });
            if alone {
                dead.extend(dead_among(&live, &std::mem::take(&mut suspects), store).await?);
            }
        }
        dead.extend(dead_among(&live, &suspects, store).await?);
        Ok(Self { live, dead, store: store.clone() })
    }

    /// Rows of all files, dead ones included.
    pub(crate) fn rows_max(&self) -> u64 {
        self.live.data.iter().map(|data| data.file().record_count()).sum()
    }

    /// Hands over columns of every row of some data files. A file with more or fewer rows than its manifest says is damaged.
    pub(crate) async fn each(
        &self,
        files: impl Iterator<Item = usize>,
        columns: &Columns,
        take: &mut (dyn FnMut(&Part<'_>) -> Result<()> + Send),
    ) -> Result<()> {
        for data in files {
            let file = &self.live.data[data];
            let mut reader = FileReader::open(&self.live, file.file(), file.spec_id, &self.store).await?;
            let mut stream = reader.read(columns, Rows::All).await?;
            let mut first = 0;
            while let Some(rows) = stream.next().await? {
                take(&Part { data, first, rows: &rows, dead: &self.dead[data] })?;
                first += u64::try_from(rows.num_rows()).expect("rows fit");
            }
            let (path, recorded) = (file.file().file_path(), file.file().record_count());
            if first != recorded {
                return Err(Error::refused(
                    format!("data file `{path}` has {first} rows, and {recorded} were recorded"),
                    "restore the file, or roll the table back to a snapshot without it",
                ));
            }
        }
        Ok(())
    }

    /// Every data file.
    pub(crate) fn files(&self) -> std::ops::Range<usize> {
        0..self.live.data.len()
    }
}
