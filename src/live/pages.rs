//! Which pages of a file can hold one of a batch's ids, by the bounds in its page index (Parquet, `PageIndex.md`): of a file whose ids
//! are in some order the others are neither fetched nor decoded.
//!
//! A page is left out only where the index is sound as far as it can be told; of what says nothing, or is wrong, all rows are read.

use std::ops::Range;

use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::PageLocation;

use crate::error::Result;
use crate::live::prune::IdColumns;
use crate::live::rows::FileReader;

impl FileReader {
    /// The file with its page index, and the rows of the pages that can hold an id: ranges, ascending and apart. None where no page
    /// can be left out.
    pub(super) async fn pruned(&self, ids: &IdColumns) -> Result<Option<(Self, Vec<Range<u64>>)>> {
        let Some(indexed) = self.with_page_index().await? else { return Ok(None) };
        let mut kept = RowSelection::from(vec![RowSelector::select(self.rows())]);
        for field in ids.fields() {
            if let Some(pages) = indexed.pages_within(field.id, ids) {
                kept = kept.intersection(&pages);
            }
        }
        Ok((kept.row_count() < self.rows()).then(|| (indexed, ranges(&kept))))
    }

    /// The same by one column; none where its bounds say nothing.
    fn pages_within(&self, field_id: i32, ids: &IdColumns) -> Option<RowSelection> {
        let (footer, name) = (self.footer(), self.column_name(field_id)?);
        let mut same_name = self.schema().fields().iter().filter(|field| field.name() == name);
        // In an empty bound of a decimal the crate panics.
        let is_compared = |kind: &DataType| !matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..));
        if !is_compared(same_name.next()?.data_type()) || same_name.next().is_some() {
            return None;
        }
        // Without it the order of bounds is unknown (`parquet.thrift`).
        footer.file_metadata().column_orders()?;
        let (bounds, places) = (footer.column_index()?, footer.offset_index()?);
        let column = StatisticsConverter::try_new(name, self.schema(), footer.file_metadata().schema_descr()).ok()?;
        let pages = pages(footer, column.parquet_column_index()?)?;
        let groups: Vec<usize> = (0..footer.num_row_groups()).collect();
        let lower = column.data_page_mins(bounds, places, &groups).ok()?;
        let upper = column.data_page_maxes(bounds, places, &groups).ok()?;
        let within = ids.within(field_id, &lower, &upper).filter(|within| within.len() == pages.len())?;
        let kept = pages.into_iter().zip(within).filter_map(|(rows, within)| within.then_some(rows));
        Some(RowSelection::from_consecutive_ranges(kept, self.rows()))
    }
}

/// Whether the pages of each column can be where the index says: one behind the other up to the end of their chunk, with every row
/// once. Writers were seen that count from elsewhere.
pub(super) fn are_sound(footer: &ParquetMetaData) -> bool {
    let Some(places) = footer.offset_index() else { return true };
    footer.row_groups().iter().zip(places).all(|(group, columns)| {
        group.num_rows() == 0
            || columns.iter().zip(group.columns()).all(|(column, chunk)| {
                let pages = column.page_locations();
                let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
                let end = start.checked_add(chunk.compressed_size());
                pages_of_group(pages, group.num_rows()).is_some() && end.is_some_and(|end| fill(pages, start..end))
            })
    })
}

/// Whether pages lie one behind the other up to the end of these bytes; before them may be a dictionary.
fn fill(pages: &[PageLocation], chunk: Range<i64>) -> bool {
    let first = pages.first().map(|page| page.offset);
    let end = pages.iter().try_fold(first, |at, page| {
        let is_next = at == Some(page.offset) && page.compressed_page_size > 0;
        is_next.then(|| page.offset.checked_add(page.compressed_page_size.into()))
    });
    first.is_some_and(|first| first >= chunk.start && chunk.start >= 0) && end == Some(Some(chunk.end))
}

/// Rows of each page of a column, counted through the file; none where the two parts of the index do not agree.
fn pages(footer: &ParquetMetaData, column: usize) -> Option<Vec<Range<usize>>> {
    let (mut pages, mut start) = (Vec::new(), 0);
    for ((group, bounds), places) in footer.row_groups().iter().zip(footer.column_index()?).zip(footer.offset_index()?) {
        let (bounds, places) = (bounds.get(column)?, places.get(column)?.page_locations());
        let rows = pages_of_group(places, group.num_rows())?;
        if matches!(bounds, ColumnIndexMetaData::NONE) || usize::try_from(bounds.num_pages()).ok()? != rows.len() {
            return None;
        }
        pages.extend(rows.into_iter().map(|page| start + page.start..start + page.end));
        start += usize::try_from(group.num_rows()).ok()?;
    }
    Some(pages)
}

/// Rows of each page of a group that has `rows`; none where they are not those, each once and in order.
fn pages_of_group(places: &[PageLocation], rows: i64) -> Option<Vec<Range<usize>>> {
    let firsts = places.iter().map(|place| place.first_row_index);
    let ends = firsts.clone().skip(1).chain([rows]);
    let row = |at: i64| usize::try_from(at).ok();
    let pages: Vec<_> = firsts.zip(ends).map(|(first, end)| Some(row(first)?..row(end)?)).collect::<Option<_>>()?;
    (pages.first()?.start == 0 && pages.iter().all(|page| page.start < page.end)).then_some(pages)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_fill_their_chunk_behind_its_dictionary() {
        let fills = |places: &[(i64, i32)], chunk| {
            let place = |&(offset, compressed_page_size)| PageLocation { offset, compressed_page_size, first_row_index: 0 };
            fill(&places.iter().map(place).collect::<Vec<_>>(), chunk)
        };
        for right in [&[(100, 50), (150, 50)][..], &[(120, 80)], &[(199, 1)]] {
            assert!(fills(right, 100..200), "{right:?}");
        }
        let wrong: [&[(i64, i32)]; 9] = [
            &[],
            &[(0, 50), (50, 50)],
            &[(96, 50), (146, 50)],
            &[(99, 101)],
            &[(150, 50), (100, 50)],
            &[(100, 46), (150, 46)],
            &[(100, 50), (150, 51)],
            &[(100, 100), (200, 0)],
            &[(300, -100)],
        ];
        for wrong in wrong {
            assert!(!fills(wrong, 100..200), "{wrong:?}");
        }
        assert!(!fills(&[(i64::MAX, i32::MAX)], 100..200) && !fills(&[(-10, 10)], -10..0));
    }

    #[test]
    fn pages_are_believed_only_where_they_are_the_groups_rows() {
        let places = |firsts: &[i64]| -> Vec<_> {
            let place = |&first_row_index: &i64| PageLocation { offset: 4, compressed_page_size: 1, first_row_index };
            firsts.iter().map(place).collect()
        };
        assert_eq!(pages_of_group(&places(&[0, 50, 100]), 200), Some(vec![0..50, 50..100, 100..200]));
        for wrong in [&[][..], &[1, 50], &[0, 100, 50], &[0, 50, 50], &[0, 200], &[0, 300], &[-1, 50]] {
            assert_eq!(pages_of_group(&places(wrong), 200), None, "{wrong:?}");
        }
    }
}
