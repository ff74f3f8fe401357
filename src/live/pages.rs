//! Which pages of a file can hold one of a batch's ids, by the bounds in its page index (Parquet, `PageIndex.md`): of a file whose ids
//! are in some order the others are neither fetched nor decoded.

use std::ops::Range;

use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::errors::Result;
use parquet::file::metadata::PageIndexPolicy;

use crate::error::{self, Doing};
use crate::live::prune::IdColumns;
use crate::live::rows::FileReader;

impl FileReader {
    /// Rows of the pages that can hold an id: ranges, ascending and apart. All rows where the file says nothing about its pages.
    pub(super) async fn pages_within(&mut self, ids: &IdColumns) -> error::Result<Vec<Range<u64>>> {
        let doing = format!("read the page index of `{}`", self.location());
        self.load_pages(PageIndexPolicy::Optional).await.doing(|| doing.clone())?;
        let mut kept = RowSelection::from(vec![RowSelector::select(self.rows())]);
        for field in ids.fields() {
            let Some(name) = self.column_name(field.id) else { continue };
            if let Some(pages) = self.pages_of(name, field.id, ids).doing(|| doing.clone())? {
                kept = kept.intersection(&pages);
            }
        }
        Ok(ranges(&kept))
    }

    /// The same by one column of the file; none where its bounds say nothing.
    fn pages_of(&self, name: &str, field_id: i32, ids: &IdColumns) -> Result<Option<RowSelection>> {
        let footer = self.footer();
        let (Some(bounds), Some(pages)) = (footer.column_index(), footer.offset_index()) else { return Ok(None) };
        let column = StatisticsConverter::try_new(name, self.schema(), footer.file_metadata().schema_descr())?;
        let groups: Vec<usize> = (0..footer.num_row_groups()).collect();
        let lower = column.data_page_mins(bounds, pages, &groups)?;
        let upper = column.data_page_maxes(bounds, pages, &groups)?;
        let Some(rows) = column.data_page_row_counts(pages, footer.row_groups(), &groups)? else { return Ok(None) };
        let Some(within) = ids.within(field_id, &lower, &upper) else { return Ok(None) };
        let (mut kept, mut start) = (Vec::new(), 0);
        for (within, rows) in within.into_iter().zip(rows.values()) {
            let end = start + usize::try_from(*rows).unwrap_or(usize::MAX - start);
            kept.extend(within.then_some(start..end));
            start = end;
        }
        Ok((start == self.rows()).then(|| RowSelection::from_consecutive_ranges(kept.into_iter(), start)))
    }
}

fn ranges(kept: &RowSelection) -> Vec<Range<u64>> {
    let (mut ranges, mut start) = (Vec::new(), 0);
    for part in kept.iter() {
        let end = start + u64::try_from(part.row_count).expect("a number of rows fits 64 bits");
        ranges.extend((!part.skip).then_some(start..end));
        start = end;
    }
    ranges
}
