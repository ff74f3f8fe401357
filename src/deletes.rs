//! Turns positions to delete into delete files: one live file-scoped delete file, or vector, per data file.
//!
//! A new one holds the union with all earlier position deletes of its data file; the file-scoped ones that it takes the place of are named
//! as superseded, to be removed by the same commit.

use std::collections::BTreeMap;

use iceberg::spec::{DataFile, FormatVersion};
use roaring::RoaringTreemap;

use crate::error::Result;
use crate::live::dead::deleted_positions;
use crate::live::files::LiveFiles;
use crate::write::{FileDeletes, WriteTarget, WrittenFile, write_position_deletes, write_vectors};

/// Delete files of one commit.
#[derive(Debug, Default)]
pub(crate) struct DeleteFiles {
    /// New ones, each with its data file's partition spec id.
    pub(crate) added: Vec<(i32, DataFile)>,
    /// Live ones they supersede, by index into the live deletes.
    pub(crate) superseded: Vec<usize>,
}

/// Writes the deletes of `dead` (by live data file) and `own_dead` (by ordinal among `own`).
pub(crate) async fn write_deletes(
    target: &WriteTarget,
    live: &LiveFiles,
    dead: &BTreeMap<usize, RoaringTreemap>,
    own: &[WrittenFile],
    own_dead: &BTreeMap<u32, RoaringTreemap>,
) -> Result<DeleteFiles> {
    let mut superseded = Vec::new();
    let mut all: Vec<FileDeletes<'_>> = Vec::with_capacity(dead.len() + own_dead.len());
    let touched: Vec<usize> = dead.keys().copied().collect();
    let earlier: Vec<_> = touched.iter().map(|&data| live.deletes_of(data)).collect();
    let before = deleted_positions(live, &touched, &earlier, &target.store).await?;
    for (((&data, positions), earlier), before) in dead.iter().zip(&earlier).zip(before) {
        superseded.extend(earlier.file_scoped.iter().chain(&earlier.vector).copied());
        let file = &live.data[data];
        all.push(FileDeletes { data_file: file.file(), spec_id: file.spec_id, positions: positions | before });
    }
    let default_spec = target.metadata.default_partition_spec_id();
    for (ordinal, positions) in own_dead {
        let file = own.iter().find(|file| file.ordinal == *ordinal).expect("a row was placed in a file that was written");
        all.push(FileDeletes { data_file: &file.data_file, spec_id: default_spec, positions: positions.clone() });
    }
    let mut added = Vec::with_capacity(all.len());
    if target.metadata.format_version() == FormatVersion::V3 {
        let vectors = write_vectors(target, &all).await?;
        added.extend(all.iter().map(|deletes| deletes.spec_id).zip(vectors));
    } else {
        for deletes in &all {
            added.push((deletes.spec_id, write_position_deletes(target, deletes).await?));
        }
    }
    Ok(DeleteFiles { added, superseded })
}
