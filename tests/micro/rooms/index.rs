//! The key index of a data file: made from its rows, and asked for a batch's ids.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use iceberg::spec::NestedFieldRef;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};

use super::articles::{Edition, SCHEMA, versions};
use crate::index::{Builder, HEADER_KEY, Header, IndexSpec, Probes, blocks, candidates, find, values};

/// Where the index begins: after row groups that nobody reads here.
const OFFSET: u64 = 1 << 30;
const LOCATION: &str = "file:///t/data/one.parquet";
/// Rows that are listed at once: as many as are encoded at once.
const SLICE_ROWS: usize = 8_192;

static SPEC: LazyLock<IndexSpec> = LazyLock::new(|| {
    let names = ["published_at".to_owned(), "version".to_owned()];
    IndexSpec::new(&SCHEMA, &["id".to_owned()], &names).unwrap()
});

/// Makes the index of a file.
#[derive(Debug)]
pub struct Building {
    slices: Vec<RecordBatch>,
    groups: Vec<RowGroupMetaData>,
}

impl Building {
    /// Of so many rows, each an article.
    pub fn prepare(rows: u32) -> Self {
        let editions: Vec<_> = (0..rows.into()).map(Edition::first).collect();
        let groups = footer(rows, String::new()).row_groups().to_vec();
        Self { slices: editions.chunks(SLICE_ROWS).map(versions).collect(), groups }
    }

    /// The index, and its header as the footer holds it.
    pub fn run(&self) -> (Vec<u8>, String) {
        let mut builder = Builder::new(&SPEC, LOCATION, &self.slices[0].schema()).unwrap();
        for slice in &self.slices {
            builder.add(slice).unwrap();
        }
        builder.finish(OFFSET, &self.groups)
    }
}

/// Makes ids ready to be looked up, which is done once for all files.
#[derive(Debug)]
pub struct Asking(ArrayRef);

/// Ids that can be looked up.
#[derive(Debug)]
pub struct Asked(Probes);

impl Asking {
    /// So many ids, a fifth of them in a file of so many rows and all over it, as in an increment of the reference workload.
    pub fn prepare(rows: u32, count: u32) -> Self {
        let number =
            |at: u32| if at.is_multiple_of(5) { u64::from(at) * u64::from(rows) / u64::from(count) } else { (rows + at).into() };
        let editions: Vec<_> = (0..count).map(|at| Edition::first(number(at))).collect();
        Self(Arc::clone(versions(&editions).column(0)))
    }

    /// Hashes and sorts them.
    pub fn run(&self) -> Asked {
        Asked(Probes::new(std::slice::from_ref(&self.0), 0).unwrap())
    }
}

/// Looks ids up in the index of a file, which is in memory as a whole.
#[derive(Debug)]
pub struct Probing {
    footer: ParquetMetaData,
    index: Vec<u8>,
}

impl Probing {
    /// In a file of so many rows.
    pub fn prepare(rows: u32) -> Self {
        let (index, header) = Building::prepare(rows).run();
        Self { footer: footer(rows, header), index }
    }

    /// The version columns of the rows that have one of the ids.
    pub fn run(&self, asked: &Asked) -> Vec<ArrayRef> {
        let file_bytes = OFFSET + u64::try_from(self.index.len()).unwrap();
        let header = Header::of_file(LOCATION, &self.footer, file_bytes, &SPEC.id).unwrap();
        let candidates = candidates(&header, self.bytes(header.directory.range()), &asked.0).unwrap();
        let blocks: Vec<_> = blocks(&header, &candidates).into_iter().map(|(block, range)| (block, self.bytes(range))).collect();
        let found = find(&header, &candidates, &blocks).unwrap();
        let version = |field: &NestedFieldRef| {
            let kind = iceberg::arrow::type_to_arrow_type(&field.field_type).unwrap();
            values(&header, header.column(field).unwrap(), &found, &kind).unwrap()
        };
        SPEC.versions.iter().map(version).collect()
    }

    fn bytes(&self, range: Range<u64>) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset - OFFSET).unwrap();
        &self.index[at(range.start)..at(range.end)]
    }
}

/// The footer of a file of so many rows. An index is bound to the row groups of its file but never reads a column, so one column
/// of flags is enough.
fn footer(rows: u32, header: String) -> ParquetMetaData {
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![false; usize::try_from(rows).unwrap()]));
    let batch = RecordBatch::try_from_iter([("flag", flags)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.append_key_value_metadata(KeyValue::new(HEADER_KEY.to_owned(), header));
    writer.finish().unwrap()
}
